//! Waits for events: when one begins, what ends it, and what happens then.

use chrono::Duration;

use super::{Pending, Planner};
use crate::domain::{
    Action, ActionId, AfterTimeout, AwaitedEvent, DeferReason, Deferred, Facts, SkipReason, Timestamp, Verdict,
};

impl Planner<'_> {
    /// Has waits looked at whose events were seen, and all that waits for them.
    pub(super) fn hear(&mut self, facts: &Facts) {
        let is_over = |it: &Deferred| {
            let action = self.timeline.action(it.id);
            let awaited = action.and_then(|action| Some((action, action.definition.awaits.as_ref()?)));
            awaited.is_none_or(|(action, awaited)| self.seen(action, awaited, it.due, facts).is_some())
        };
        let waits = self.run.deferred.iter();
        let waits = waits.filter(|it| it.reason == DeferReason::WaitingForEvent && it.until > self.now);
        let heard: Vec<_> = waits.filter(|it| is_over(it)).map(|it| it.id).collect();
        if heard.is_empty() {
            return;
        }
        for deferred in &mut self.run.deferred {
            if heard.contains(&deferred.id) {
                deferred.until = self.now;
            }
        }
        self.run.look_again(self.now);
    }

    /// Whether an action is in the middle of a wait for an event.
    pub(super) fn awaits_event(&self, pending: &Pending) -> bool {
        let mut deferred = self.run.deferred.iter();
        deferred.any(|it| it.id == pending.id && it.reason == DeferReason::WaitingForEvent)
    }

    /// Begins or ends a wait for an event.
    pub(super) fn await_event(&mut self, action: &Action, awaited: &AwaitedEvent, pending: &Pending, facts: &Facts) {
        let (id, due, query) = (pending.id, pending.due, &awaited.query);
        if let Some(at) = self.seen(action, awaited, due, facts) {
            let detail = format!("{query} at {}", at.format("%FT%TZ"));
            return self.complete(id, due, Some(detail));
        }
        // One that was looked at too late has no more time for that.
        let until = self.gives_up(action, awaited, pending.since);
        if !self.awaits_event(pending) && until > self.now {
            return self.defer(pending, until, DeferReason::WaitingForEvent);
        }
        let detail = format!("{query} did not come in time");
        match awaited.after_timeout {
            AfterTimeout::Continue => self.complete(id, due, Some(detail)),
            AfterTimeout::SkipRestOfDay => self.skip(id, due, SkipReason::EventMissing, Some(detail)),
        }
    }

    /// Notes that an action is done without a send.
    pub(super) fn complete(&mut self, id: ActionId, due: Timestamp, detail: Option<String>) {
        self.decided(id, due, Verdict::Completed, detail);
        self.run.forget(id);
        self.run.completed.push(id);
    }

    /// When the customer did what is waited for. Of a day that is over it is not known any more when the run came to it.
    fn seen(&self, action: &Action, awaited: &AwaitedEvent, due: Timestamp, facts: &Facts) -> Option<Timestamp> {
        let last = facts.engagements.get(&awaited.query).copied()?;
        let since = if action.definition.day_number == self.run.current_day {
            self.run.day_started_at.min(due)
        } else {
            due
        };
        let counts = awaited.query.of_action.is_some() || last >= since;
        (counts && last <= self.now).then_some(last)
    }

    /// When a wait that began at an instant gives up.
    fn gives_up(&self, action: &Action, awaited: &AwaitedEvent, since: Timestamp) -> Timestamp {
        if action.definition.day_number != self.run.current_day {
            return self.now;
        }
        let end = self.tomorrow();
        let hours = awaited.timeout_hours.map(|hours| Duration::hours(i64::from(hours)));
        hours.map_or(end, |hours| end.min(since + hours))
    }
}
