//! What holds an action up: the gates before it on its day, the actions that its conditions are about, and if it is a gate
//! itself, the messages before it. A wait for an event holds the rest of its day as a gate does. A task that was handed over holds up
//! only who asks about it.
//!
//! A gate that was never asked holds nothing: one that expired, whose hour had passed at a start with `SkipPassed`, that was
//! removed, or that came to a day that is over. To hold for good what it did not speak about would lose messages; who must
//! not miss the test has the condition on the message itself, which is asked at every attempt. Under `Shift` no gate expires:
//! one that was missed is asked tomorrow, and what comes after it waits.

use super::Planner;
use crate::domain::{
    Action, ActionId, ActionType, Condition, DeferReason, Deferred, Failed, SkipReason, Skipped, Timestamp,
};

/// Whether an action may be decided.
pub(super) enum Gate {
    /// It may.
    Open,
    /// It may not: this gate before it said skip.
    Closed(ActionId),
    /// It can't be before what is in flight is recorded.
    InFlight,
    /// It waits, until then at most.
    Waiting(Timestamp),
}

impl Planner<'_> {
    /// What holds up an action that was due at `due`.
    pub(super) fn gate(&self, action: &Action, due: Timestamp) -> Gate {
        match self.gates_before(action) {
            Gate::Open if self.now - due <= self.timeline.max_lateness(action) => self.awaited(action, due),
            gate @ (Gate::Open | Gate::Closed(_) | Gate::InFlight | Gate::Waiting(_)) => gate,
        }
    }

    /// What the gates before an action on its day say. One that said skip is enough, whatever the others have still to say.
    fn gates_before(&self, action: &Action) -> Gate {
        let gates = || {
            self.timeline
                .day(action.definition.day_number)
                .iter()
                .filter(|gate| gate.is_gate() && gate.position() < action.position() && gate.removed_at.is_none())
        };
        let says_skip = |gate: &&Action| {
            let is_wait = gate.definition.awaits.is_some();
            let closes = |skipped: &Skipped| match skipped.reason {
                // A wait that was not to begin holds nobody.
                SkipReason::Condition => !is_wait,
                SkipReason::Gated | SkipReason::EventMissing => true,
                SkipReason::HourPassedAtStart
                | SkipReason::Removed
                | SkipReason::Expired
                | SkipReason::QuietHoursUnknown
                | SkipReason::Suppressed
                | SkipReason::NotCompletedInTime => false,
            };
            self.run
                .skipped
                .iter()
                .any(|skipped| skipped.id == gate.id && closes(skipped))
        };
        if let Some(gate) = gates().find(says_skip) {
            return Gate::Closed(gate.id);
        }
        for gate in gates() {
            if !self.run.is_final(gate.id) {
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

    /// What the actions say that an action waits for, until they are final: a gate for the messages before it on its day,
    /// and any action for those that its conditions are about. An action that never came to be due in this run is not
    /// waited for.
    fn awaited(&self, action: &Action, due: Timestamp) -> Gate {
        let is_gate = action.definition.action_type == ActionType::CheckCondition;
        let conditions = action.definition.conditions.iter();
        let about: Vec<&str> = conditions.flat_map(Condition::of_actions).collect();
        if !is_gate && about.is_empty() {
            return Gate::Open;
        }
        let is_asked_about =
            |before: &Action| about.contains(&before.definition.key.as_str()) && before.position() < action.position();
        let is_gated_message = |before: &Action| {
            is_gate
                && before.definition.action_type.sends()
                && before.definition.day_number == action.definition.day_number
                && before.position() < action.position()
        };
        let is_awaited = |id: ActionId| {
            let before = self.timeline.action(id);
            before.is_some_and(|before| is_gated_message(before) || is_asked_about(before))
        };
        let until = |deferred: &Deferred| match deferred.reason {
            DeferReason::WaitingForCompletion => {
                let before = self.timeline.action(deferred.id)?;
                is_asked_about(before).then_some(deferred.until)
            }
            DeferReason::WaitingForAction
            | DeferReason::Spacing
            | DeferReason::ChannelUnavailable
            | DeferReason::SendingHeld
            | DeferReason::QuietHours
            | DeferReason::RateLimited
            | DeferReason::WaitingForEvent => is_awaited(deferred.id).then_some(deferred.until),
        };
        if self.run.in_flight.iter().any(|in_flight| is_awaited(in_flight.id)) {
            return Gate::InFlight;
        }
        let deferred = self.run.deferred.iter();
        let retrying = self.run.failed.iter().filter(|failed| is_awaited(failed.id));
        // Due later today, or too late today and so due tomorrow.
        let undone = self.undone().filter(|before| is_asked_about(before));
        let looked_at = deferred
            .filter_map(until)
            .chain(retrying.filter_map(Failed::retry_at))
            .chain(undone.map(|before| self.looked_at(before)));
        // What it waits for may take longer than it may itself be late.
        let too_late = due + self.timeline.max_lateness(action);
        let last = looked_at.max().map(|until| until.min(too_late));
        let last = last.filter(|until| *until > self.now);
        last.map_or(Gate::Open, Gate::Waiting)
    }
}
