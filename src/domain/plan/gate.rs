//! What holds an action up: the gates before it on its day, and if it is a gate itself, the messages before it.
//!
//! A gate that was never asked holds nothing: one that expired, whose hour had passed at a start with `SkipPassed`, that was
//! removed, or that came to a day that is over. To hold for good what it did not speak about would lose messages; who must
//! not miss the test has the condition on the message itself, which is asked at every attempt. Under `Shift` no gate expires:
//! one that was missed is asked tomorrow, and what comes after it waits.

use super::Planner;
use crate::domain::{Action, ActionId, ActionType, Failed, SkipReason, Skipped, Timestamp};

/// Whether an action may be decided.
pub(super) enum Gate {
    /// It may.
    Open,
    /// It may not: a gate before it said skip.
    Closed,
    /// It can't be before what is in flight is recorded.
    InFlight,
    /// It waits, until then at most.
    Waiting(Timestamp),
}

impl Planner<'_> {
    /// What holds up an action that was due at `due`.
    pub(super) fn gate(&self, action: &Action, due: Timestamp) -> Gate {
        let is_gate = action.definition.action_type == ActionType::CheckCondition;
        match self.gates_before(action) {
            Gate::Open if is_gate && self.now - due <= self.timeline.max_lateness(action) => {
                self.messages_before(action)
            }
            gate @ (Gate::Open | Gate::Closed | Gate::InFlight | Gate::Waiting(_)) => gate,
        }
    }

    /// What the gates before an action on its day say.
    fn gates_before(&self, action: &Action) -> Gate {
        let gates = self.timeline.day(action.definition.day_number).iter().filter(|gate| {
            gate.definition.action_type == ActionType::CheckCondition
                && gate.position() < action.position()
                && gate.removed_at.is_none()
        });
        for gate in gates {
            let skipped = |skipped: &&Skipped| skipped.id == gate.id;
            if let Some(skipped) = self.run.skipped.iter().find(skipped) {
                if matches!(skipped.reason, SkipReason::Condition | SkipReason::Gated) {
                    return Gate::Closed;
                }
            } else if !self.run.is_final(gate.id) {
                let waiting = self.run.deferred.iter().find(|deferred| deferred.id == gate.id);
                return match waiting {
                    Some(deferred) if deferred.until > self.now => Gate::Waiting(deferred.until),
                    None if gate.definition.day_number != self.run.current_day => continue,
                    None if self.is_missed(gate) => Gate::Waiting(self.tomorrow()),
                    None if self.due(gate) > self.now => Gate::Waiting(self.due(gate)),
                    Some(_) | None => Gate::InFlight,
                };
            }
        }
        Gate::Open
    }

    /// What the messages before a gate on its day say: it waits until they are final.
    fn messages_before(&self, gate: &Action) -> Gate {
        let is_before = |id: ActionId| {
            let action = self
                .timeline
                .action(id)
                .filter(|action| action.definition.action_type.sends());
            action.is_some_and(|action| {
                action.definition.day_number == gate.definition.day_number && action.position() < gate.position()
            })
        };
        if self.run.in_flight.iter().any(|in_flight| is_before(in_flight.id)) {
            return Gate::InFlight;
        }
        let deferred = self.run.deferred.iter().filter(|deferred| is_before(deferred.id));
        let retrying = self.run.failed.iter().filter(|failed| is_before(failed.id));
        let looked_at = deferred
            .map(|deferred| deferred.until)
            .chain(retrying.filter_map(Failed::retry_at));
        let last = looked_at.filter(|until| *until > self.now).max();
        last.map_or(Gate::Open, Gate::Waiting)
    }
}
