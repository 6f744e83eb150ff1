//! Circuits of channels.

use super::sending::parse_channel;
use super::time::time;
use super::timeline::channel;
use crate::domain::{Channel, Circuit, CircuitCause, CircuitState, text};
use crate::proto::campaign::v1 as pb;
use crate::rpc::violations::Violations;

/// Parses a request to close one: which, and why.
pub(in crate::rpc) fn parse_reset(
    violations: &mut Violations,
    request: &pb::ResetCircuitRequest,
) -> Option<(Channel, String)> {
    let channel = parse_channel(violations, "channel", request.channel);
    let reason = violations.check("reason", text::required_line(&request.reason, 500));
    channel.zip(reason)
}

/// A circuit as a message.
pub(in crate::rpc) fn circuit(circuit: &Circuit) -> pb::ChannelCircuit {
    let state = match circuit.state {
        CircuitState::Closed => pb::CircuitState::Closed,
        CircuitState::Open => pb::CircuitState::Open,
        CircuitState::HalfOpen => pb::CircuitState::HalfOpen,
    };
    let cause = match circuit.cause {
        None => pb::CircuitCause::Unspecified,
        Some(CircuitCause::Misconfigured) => pb::CircuitCause::Misconfigured,
        Some(CircuitCause::Failures) => pb::CircuitCause::Failures,
    };
    pb::ChannelCircuit {
        channel: channel(circuit.channel).into(),
        state: state.into(),
        reason: circuit.reason.clone(),
        open_time: circuit.opened_at.map(time),
        probe_time: circuit.probe_at.map(time),
        pauses: i32::try_from(circuit.pauses).unwrap_or(i32::MAX),
        update_time: (circuit.revision > 0).then(|| time(circuit.updated_at)),
        cause: cause.into(),
    }
}
