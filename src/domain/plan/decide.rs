//! What becomes of each action that is due: it is carried out, skipped, put off or put in flight.

use super::gate::Gate;
use super::{MAX_SENDS, Pending, Planner, SPACING, is_late};
use crate::domain::condition::skips;
use crate::domain::{
    Action, Attempted, Channel, DeferReason, DeliveryPolicy, Destination, Facts, FailureReason, InFlight, Opening,
    RetryPolicy, SkipReason,
};

impl Planner<'_> {
    /// Decides all that is due, in order, until something has to be sent first.
    pub(super) fn decide(&mut self, facts: &Facts, retry: &RetryPolicy) {
        let mut due = self.pending();
        due.retain(|pending| pending.at <= self.now);
        due.sort_by_key(|pending| pending.position);
        for pending in due {
            let Some(action) = self.timeline.action(pending.id) else {
                continue;
            };
            if !self.decide_one(action, &pending, facts, retry) {
                return;
            }
        }
    }

    /// Decides one action. False: it and what follows must wait until what is in flight is recorded.
    fn decide_one(&mut self, action: &Action, pending: &Pending, facts: &Facts, retry: &RetryPolicy) -> bool {
        let (id, due) = (pending.id, pending.due);
        if self.awaits_report(id) {
            let detail = "it was handed over, and nobody reported what came of it".to_owned();
            self.skip(id, due, SkipReason::NotCompletedInTime, Some(detail));
            return true;
        }
        match self.gate(action, due) {
            Gate::Open => {}
            Gate::Closed(gate) => {
                let gate = self.timeline.action(gate).map(|gate| gate.definition.key.as_str());
                self.skip(
                    id,
                    due,
                    SkipReason::Gated,
                    gate.map(|key| format!("gate {key} said skip")),
                );
                return true;
            }
            Gate::InFlight => return false,
            Gate::Waiting(until) => {
                self.defer(pending, until, DeferReason::WaitingForAction);
                return true;
            }
        }
        // Whether it waits at all is asked when it begins.
        let asked = if self.awaits_event(pending) {
            None
        } else {
            skips(&action.definition.conditions, facts, self.now)
        };
        if let Some(finding) = asked {
            self.skip(id, due, SkipReason::Condition, Some(finding.in_words(self.now)));
            return true;
        }
        if let Some(awaited) = &action.definition.awaits {
            self.await_event(action, awaited, pending, facts);
            return true;
        }
        if !action.definition.action_type.sends() {
            self.complete(id, due, None);
            return true;
        }
        self.send(action, pending, facts, retry)
    }

    /// Puts an action in flight, or says why not. False as in `decide_one`.
    fn send(&mut self, action: &Action, pending: &Pending, facts: &Facts, retry: &RetryPolicy) -> bool {
        let (id, channel, due) = (action.id, action.definition.channel, pending.due);
        let kind = facts.kind_of(action);
        if let Some((_, reason)) = facts.suppressed.get(&channel).filter(|(scope, _)| scope.stops(kind)) {
            let why = format!("the customer's address is suppressed: {}", reason.as_str());
            self.skip(id, due, SkipReason::Suppressed, Some(why));
            return true;
        }
        let holds = &facts.sending_holds;
        if let Some(until) = holds.until(self.timeline.id, &action.definition, &self.run, id, self.now) {
            self.defer(pending, until, DeferReason::SendingHeld);
            return true;
        }
        if let Some(until) = facts.stopped_channels.get(&channel).filter(|until| **until > self.now) {
            self.defer(pending, *until, DeferReason::ChannelUnavailable);
            return true;
        }
        let attempt = InFlight {
            id,
            attempt: self.run.attempts(id) + 1,
            due,
            since: pending.since,
        };
        if let Some((reason, error)) = unreachable(channel, facts) {
            let error = error.to_owned();
            self.fail(&attempt, Attempted::Failed { reason, error }, retry);
            return true;
        }
        match facts.hours.opening(channel, self.now) {
            Opening::Now => {}
            Opening::At(until) => {
                self.defer(pending, until, DeferReason::QuietHours);
                return true;
            }
            Opening::Never => {
                self.skip(id, due, SkipReason::QuietHoursUnknown, Some(NO_HOUR.to_owned()));
                return true;
            }
        }
        // What promises at most once goes alone: if the process dies, nothing is unknown that was not being sent.
        let at_most_once = |channel: Channel| channel.delivery_policy() == DeliveryPolicy::AtMostOnce;
        let first_is_alone = self.run.in_flight.first().is_some_and(|first| {
            self.timeline
                .action(first.id)
                .is_none_or(|first| at_most_once(first.definition.channel))
        });
        let full = self.run.in_flight.len() >= MAX_SENDS;
        if !self.run.in_flight.is_empty() && (first_is_alone || full || at_most_once(channel)) {
            return false;
        }
        let is_spaced = channel.is_message() && is_late(due, self.now);
        if is_spaced {
            let until = self.run.last_late.get(&channel).map(|last| *last + SPACING);
            if let Some(until) = until.filter(|until| *until > self.now) {
                self.defer(pending, until, DeferReason::Spacing);
                return true;
            }
        }
        // Last, as only what goes otherwise takes a place among those that wait.
        if let Some(until) = facts.rate_limited.get(&channel).filter(|until| **until > self.now) {
            self.defer(pending, *until, DeferReason::RateLimited);
            return true;
        }
        if is_spaced {
            self.run.last_late.insert(channel, self.now);
        }
        self.run.in_flight.push(attempt);
        true
    }
}

/// Why nothing goes to a customer whose zone is not known.
const NO_HOUR: &str = "the customer has no time zone, and no hour is outside the quiet hours in all zones of the number's country and the default one";

/// Why a customer can't be reached by a channel, however often it is tried.
fn unreachable(channel: Channel, facts: &Facts) -> Option<(FailureReason, &'static str)> {
    let missing = |what| Some((FailureReason::MissingAddress, what));
    match channel {
        Channel::Email if !facts.has_email => missing("the customer has no email"),
        Channel::Sms | Channel::Phone if !facts.has_phone => missing("the customer has no phone"),
        Channel::Email | Channel::Sms | Channel::Phone | Channel::Wait | Channel::Interaction => {
            match facts.destination {
                Destination::Provider | Destination::TestOutbox => None,
                Destination::NoTestOutbox => Some((
                    FailureReason::Misconfigured,
                    "it is a test customer, and the server has no test outbox: set --test-outbox-dir (CAMPAIGN_TEST_OUTBOX_DIR)",
                )),
            }
        }
    }
}
