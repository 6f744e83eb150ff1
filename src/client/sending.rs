//! `campaignctl sending` and `campaignctl circuit`: what a server goes by when it sends, and closing a circuit by hand.

use clap::Subcommand;

use super::channel::{SendingChannel, name};
use super::ctl::{failed, say};
use super::hold::told;
use super::token::Connection;
use super::words::instant;
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::sending_service_client::SendingServiceClient;

/// What to do about circuits.
#[derive(Debug, Subcommand)]
pub enum CircuitCommand {
    /// Closes the circuit of a channel, because what was wrong is mended: all goes again, on all servers.
    Reset {
        /// Of which channel.
        channel: SendingChannel,
        /// Why, for whoever looks later.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Shows the holds in force, and how each channel is.
pub(super) async fn sending(channel: Connection) -> anyhow::Result<()> {
    let status = SendingServiceClient::new(channel)
        .get_sending_status(pb::GetSendingStatusRequest {})
        .await;
    let status = status.map_err(|status| failed("the status", &status))?.into_inner();
    say(&format!("as of {}", instant(status.look_time.as_ref())));
    for hold in &status.holds {
        say(&format!("held: {}", told(hold)));
    }
    for channel in &status.channels {
        say(&channel_told(channel));
    }
    Ok(())
}

/// Closes a circuit, and says how it is now.
pub(super) async fn circuit(channel: Connection, command: CircuitCommand) -> anyhow::Result<()> {
    let CircuitCommand::Reset { channel: of, reason } = command;
    let request = pb::ResetCircuitRequest {
        channel: of.message().into(),
        reason,
        ..Default::default()
    };
    let reset = SendingServiceClient::new(channel).reset_circuit(request).await;
    let reset = reset.map_err(|status| failed("the circuit", &status))?.into_inner();
    let circuit = reset.circuit.unwrap_or_default();
    say(&format!("{}: {}", name(circuit.channel()), circuit_told(&circuit)));
    Ok(())
}

fn channel_told(status: &pb::ChannelSendingStatus) -> String {
    let held = if status.is_held { "held; " } else { "" };
    let circuit = match (&status.circuit, &status.stopped_until_time) {
        (Some(circuit), _) => circuit_told(circuit),
        (None, Some(until)) => format!("stopped until {}", instant(Some(until))),
        (None, None) => "its circuit is closed".to_owned(),
    };
    format!("{}: {held}{circuit}", name(status.channel()))
}

/// A circuit in one line.
fn circuit_told(circuit: &pb::ChannelCircuit) -> String {
    let since = || instant(circuit.open_time.as_ref());
    let probe = || instant(circuit.probe_time.as_ref());
    match circuit.state() {
        pb::CircuitState::Open => format!(
            "its circuit is open since {}, one message goes at {}: {}",
            since(),
            probe(),
            circuit.reason
        ),
        pb::CircuitState::HalfOpen => format!(
            "its circuit is half open, not closed since {}, and one message is under way until {}: {}",
            since(),
            probe(),
            circuit.reason
        ),
        pb::CircuitState::Closed | pb::CircuitState::Unspecified if circuit.reason.is_empty() => {
            "its circuit is closed".to_owned()
        }
        pb::CircuitState::Closed | pb::CircuitState::Unspecified => {
            format!("its circuit is closed: {}", circuit.reason)
        }
    }
}
