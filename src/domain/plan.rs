//! What time does to a run: the one place that decides what is sent, skipped, put off or given up, and when a day is over.
//!
//! [`plan`] is a pure function of (timeline, run, facts, now). The engine carries out what it says, and whoever wants to
//! show or simulate the future calls the same function, so they can't disagree.
//!
//! An invariant that the bulk advance relies on: a run with unfinished actions on its current day has a wake-up no later
//! than its next local midnight. So whoever has no overdue wake-up after that midnight has nothing left to do.

mod awaits;
mod decide;
mod decision;
mod gate;
mod missed;
mod next;

use chrono::Duration;

use super::outcome::{Attempted, Deferred, Failed};
use super::schedule::{instant, local_date, plus_days};
use super::text::shortened;
use super::{
    Action, ActionId, DeferReason, FailureReason, FailureState, InFlight, Position, RetryPolicy, Run, SkipReason,
    Status, Timeline, Timestamp, WhenMissed,
};
pub use decision::{Decision, Destination, Facts, Moves, Plan, Verdict};
pub use next::{expected, next_action};

/// Messages that are later than this are kept [`SPACING`] apart.
const LATE: Duration = Duration::hours(1);

/// How far apart late messages of one run and channel are.
const SPACING: Duration = Duration::hours(1);

/// The most messages of one run in one claim. What is left is taken up right after.
const MAX_SENDS: usize = 10;

/// Plans an active run of an active timeline that nobody holds.
pub fn plan(timeline: &Timeline, run: &Run, facts: &Facts, retry: &RetryPolicy, now: Timestamp) -> Plan {
    let mut planner = Planner::new(timeline, run.clone(), now);
    planner.recover(retry);
    planner.hear(facts);
    loop {
        planner.drop_removed();
        planner.miss();
        planner.decide(facts, retry);
        if !planner.run.in_flight.is_empty() || !planner.advance() {
            break;
        }
    }
    planner.set_wake();
    Plan {
        run: planner.run,
        decisions: planner.decisions,
        moves: planner.moves,
    }
}

/// What became of the messages of a run that was stopped and whose sender died: nothing is repeated in it.
pub fn lost(timeline: &Timeline, run: Run, retry: &RetryPolicy, now: Timestamp) -> (Run, Vec<Decision>) {
    let mut planner = Planner {
        timeline,
        run,
        now,
        decisions: Vec::new(),
        moves: Moves::default(),
    };
    planner.recover(&RetryPolicy {
        max_attempts: 1,
        ..*retry
    });
    planner.run.updated_at = now;
    (planner.run, planner.decisions)
}

/// Moves a run on after its sends were recorded: to the next day if its day is over, and to its next wake-up.
pub fn settle(timeline: &Timeline, run: &mut Run, now: Timestamp) -> Moves {
    if run.status != Status::Active {
        return Moves::default();
    }
    let mut planner = Planner::new(timeline, run.clone(), now);
    while planner.run.in_flight.is_empty() && planner.advance() {}
    planner.set_wake();
    *run = planner.run;
    planner.moves
}

/// Moves a run of which is known only that nothing of its day is left to do, as the bulk advance does for all runs that
/// are alike in day, date and zone. None: it stays where it is.
pub fn advance_served(timeline: &Timeline, run: &Run, now: Timestamp) -> Option<(Run, Moves)> {
    let mut planner = Planner::new(timeline, run.clone(), now);
    let served = timeline.day(planner.run.current_day).iter().map(|action| action.id);
    planner.run.completed.extend(served);
    let thawed = planner.run.day_date != run.day_date;
    while planner.advance() {}
    planner.set_wake();
    (planner.moves.advanced || planner.moves.completed || thawed).then_some((planner.run, planner.moves))
}

/// When a run is to be looked at next, as it is.
pub(super) fn wake(timeline: &Timeline, run: &Run, now: Timestamp) -> Option<Timestamp> {
    let mut planner = Planner::new(timeline, run.clone(), now);
    planner.set_wake();
    planner.run.next_action_at
}

/// The run as it is now, if its timeline was switched off and on again since it last moved. One that had ended by then stays
/// as it was.
pub fn thawed(timeline: &Timeline, mut run: Run) -> Run {
    let thaws = |at: &Timestamp| *at > run.not_before && run.ended_at.is_none_or(|ended| ended >= *at);
    if let Some(activated_at) = timeline.activated_at.filter(thaws) {
        run.not_before = activated_at;
        run.day_shifted_at = None;
        run.day_date = run.day_date.max(local_date(activated_at, run.zone.tz));
    }
    run
}

/// What is pending in a run: what of its current day is not decided, and what waits or is to be repeated, in order.
pub fn pending_actions(timeline: &Timeline, run: &Run, now: Timestamp) -> Vec<Pending> {
    let mut pending = Planner::new(timeline, run.clone(), now).pending();
    pending.sort_by_key(|pending| pending.position);
    pending
}

/// An action that has no final outcome yet and whose day has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// Which.
    pub id: ActionId,
    /// Where it stands in the timeline.
    pub position: Position,
    /// When it was due at first.
    pub due: Timestamp,
    /// From when its lateness counts.
    pub since: Timestamp,
    /// When it is to be looked at.
    pub at: Timestamp,
}

struct Planner<'a> {
    timeline: &'a Timeline,
    run: Run,
    now: Timestamp,
    decisions: Vec<Decision>,
    moves: Moves,
}

impl<'a> Planner<'a> {
    fn new(timeline: &'a Timeline, run: Run, now: Timestamp) -> Self {
        let run = thawed(timeline, run);
        Self {
            timeline,
            run,
            now,
            decisions: Vec::new(),
            moves: Moves::default(),
        }
    }

    /// When an action of the current day is due.
    fn due(&self, action: &Action) -> Timestamp {
        instant(self.run.day_date, action.definition.delay_hours, self.run.zone.tz).max(self.run.not_before)
    }

    /// When the day after the current one begins.
    fn tomorrow(&self) -> Timestamp {
        instant(plus_days(self.run.day_date, 1), 0, self.run.zone.tz)
    }

    /// The actions of the current day, unless it is jumped over.
    fn today(&self) -> &'a [Action] {
        let run = &self.run;
        let mut jumped = run.jumped_days.iter();
        if jumped.any(|(first, last)| (*first..=*last).contains(&run.current_day)) {
            return &[];
        }
        self.timeline.day(run.current_day)
    }

    /// The actions of the current day of which nothing is known yet.
    fn undone(&self) -> impl Iterator<Item = &'a Action> {
        let today = self.today().iter();
        today.filter(|action| action.removed_at.is_none() && !self.is_known(action.id))
    }

    /// Whether an action is a task that was handed over, and waits for somebody to report it.
    fn awaits_report(&self, id: ActionId) -> bool {
        let awaits = |deferred: &Deferred| deferred.id == id && deferred.reason == DeferReason::WaitingForCompletion;
        self.run.deferred.iter().any(awaits)
    }

    fn is_known(&self, id: ActionId) -> bool {
        let run = &self.run;
        run.is_final(id)
            || run.failed.iter().any(|failed| failed.id == id)
            || run.deferred.iter().any(|deferred| deferred.id == id)
            || run.in_flight.iter().any(|in_flight| in_flight.id == id)
    }

    /// Whether an undone action of the day is later than it may be. Once a day was shifted, what has its hour again is not
    /// missed before that date is over: else ticks that are further apart than its lateness would shift the run for ever.
    fn is_missed(&self, action: &Action) -> bool {
        let due = self.due(action);
        let had_its_hour_again = self.run.day_shifted_at.is_some_and(|at| at <= due);
        let is_over = local_date(self.now, self.run.zone.tz) > self.run.day_date;
        self.now - due > self.timeline.max_lateness(action) && (is_over || !had_its_hour_again)
    }

    /// When an undone action of the current day is looked at: when it is due, or tomorrow if it was missed today and comes again.
    fn looked_at(&self, action: &Action) -> Timestamp {
        match self.timeline.definition.when_missed {
            WhenMissed::Shift if self.is_missed(action) => self.tomorrow(),
            WhenMissed::Shift | WhenMissed::CatchUp => self.due(action),
        }
    }

    /// What is pending, in no order. What was missed today and waits for tomorrow is there with tomorrow's midnight, so
    /// that the run is looked at before anybody takes its day for finished.
    fn pending(&self) -> Vec<Pending> {
        let run = &self.run;
        let pending = |id, due, since, at| {
            let position = self.timeline.action(id)?.position();
            Some(Pending {
                id,
                position,
                due,
                since,
                at,
            })
        };
        let undone = self.undone().filter_map(|action| {
            let due = self.due(action);
            pending(action.id, due, due, self.looked_at(action))
        });
        let deferred = run.deferred.iter();
        let deferred = deferred
            .filter_map(|deferred| pending(deferred.id, deferred.due, self.waited_since(deferred), deferred.until));
        let retrying = run.failed.iter();
        let retrying =
            retrying.filter_map(|failed| pending(failed.id, failed.due, self.since(failed), failed.retry_at()?));
        undone.chain(deferred).chain(retrying).collect()
    }

    /// Finds out what became of messages whose sender died: a mail goes again, what promises at most once is unknown.
    fn recover(&mut self, retry: &RetryPolicy) {
        for attempt in std::mem::take(&mut self.run.in_flight) {
            let error = "the server that sent it stopped before it could record the outcome".to_owned();
            self.fail(&attempt, Attempted::Unknown { error }, retry);
        }
        self.run.lease = None;
        self.run.take_in_reports();
    }

    /// Ends what was pending when it was removed from the timeline.
    fn drop_removed(&mut self) {
        let removed: Vec<&Action> = self.removed().collect();
        for action in removed {
            let removed_at = action
                .removed_at
                .map(|at| format!("removed at {}", at.format("%FT%TZ")));
            self.skip(action.id, self.due(action), SkipReason::Removed, removed_at);
        }
    }

    /// What was pending when it was removed from the timeline, and has not ended yet.
    fn removed(&self) -> impl Iterator<Item = &'a Action> {
        let run = &self.run;
        self.timeline.definition.actions.iter().filter(move |action| {
            let Some(removed_at) = action.removed_at else {
                return false;
            };
            let is_retrying = |failed: &Failed| failed.id == action.id && failed.retry_at().is_some();
            let waits = run.deferred.iter().any(|deferred| deferred.id == action.id);
            let of_today = removed_at >= run.day_started_at && self.today().iter().any(|today| today.id == action.id);
            waits || run.failed.iter().any(is_retrying) || of_today && !self.is_known(action.id)
        })
    }

    /// From when the lateness of a deferred action counts: what waits does not age. Once its quiet hours are over it does.
    fn waited_since(&self, deferred: &Deferred) -> Timestamp {
        let young_until = match deferred.reason {
            DeferReason::QuietHours => deferred.until.max(self.run.not_before).min(self.now),
            DeferReason::WaitingForAction
            | DeferReason::Spacing
            | DeferReason::ChannelUnavailable
            | DeferReason::RateLimited
            | DeferReason::SendingHeld
            | DeferReason::WaitingForCompletion
            | DeferReason::WaitingForEvent => self.now,
        };
        young_until - Duration::milliseconds(deferred.late_by_ms)
    }

    /// From when the lateness of a failed action counts.
    fn since(&self, failed: &Failed) -> Timestamp {
        failed.since.max(self.run.not_before)
    }

    fn shift(&mut self, days: i64) {
        let days = i32::try_from(days).unwrap_or(i32::MAX);
        self.run.shifted_days = self.run.shifted_days.saturating_add(days);
        self.moves.shifted_days = self.moves.shifted_days.saturating_add(days);
    }

    /// Notes that the day to which the run has just come is jumped over, if it is over already and nothing of it may go still.
    fn jump(&mut self) {
        let day = self.run.current_day;
        let today = local_date(self.now, self.run.zone.tz);
        let may_go = self
            .timeline
            .day(day)
            .iter()
            .any(|action| action.removed_at.is_none() && (self.is_known(action.id) || !self.is_missed(action)));
        if today <= self.run.day_date || may_go {
            return;
        }
        match self.run.jumped_days.last_mut() {
            Some((_, last)) if *last + 1 == day => *last = day,
            _ => self.run.jumped_days.push((day, day)),
        }
    }

    /// Moves to the next day when this one is over. False: the run stays on its day, or is completed.
    fn advance(&mut self) -> bool {
        let today = local_date(self.now, self.run.zone.tz);
        let is_unfinished = self.undone().next().is_some() || self.removed().next().is_some();
        if self.run.status != Status::Active || today <= self.run.day_date || is_unfinished {
            return false;
        }
        if self.run.current_day >= self.timeline.definition.duration_days {
            if self.pending().is_empty() {
                self.moves.completed = true;
                self.run.status = Status::Completed;
                self.run.day_shifted_at = None;
                self.run.ended_at = Some(self.now);
            }
            return false;
        }
        self.moves.advanced = true;
        self.run.current_day += 1;
        self.run.day_started_at = self.now;
        self.run.day_shifted_at = None;
        match self.timeline.definition.when_missed {
            WhenMissed::Shift => {
                self.shift((today - self.run.day_date).num_days() - 1);
                self.run.day_date = today;
            }
            WhenMissed::CatchUp => {
                self.run.day_date = plus_days(self.run.day_date, 1);
                self.jump();
            }
        }
        true
    }

    fn set_wake(&mut self) {
        if self.run.status != Status::Active {
            self.run.next_action_at = None;
        } else if !self.run.in_flight.is_empty() {
            // If its sender dies, it must be found.
            self.run.next_action_at = self.run.next_action_at.min(Some(self.now)).or(Some(self.now));
        } else {
            let soonest = self.pending().iter().map(|pending| pending.at).min();
            let unfinished = self.undone().next().map(|_| self.tomorrow());
            let removed = self.removed().next().map(|_| self.now);
            self.run.next_action_at = soonest.into_iter().chain(unfinished).chain(removed).min();
        }
        self.run.updated_at = self.now;
    }

    fn decided(&mut self, action: ActionId, due: Timestamp, verdict: Verdict, detail: Option<String>) {
        let attempt = self.run.attempts(action) + 1;
        self.decisions.push(Decision {
            action,
            attempt,
            due,
            verdict,
            detail,
        });
    }

    /// Skips an action. One that may have arrived is not tried again either, but unknown.
    fn skip(&mut self, id: ActionId, due: Timestamp, reason: SkipReason, detail: Option<String>) {
        if self.run.may_have_arrived(id) {
            let why = detail.unwrap_or_else(|| reason.as_str().to_owned());
            return self.give_up(id, due, &why);
        }
        self.decided(id, due, Verdict::Skipped(reason), detail);
        self.run.skip(id, reason);
    }

    /// Ends an action as unknown that may have arrived, and is not repeated.
    fn give_up(&mut self, id: ActionId, due: Timestamp, why: &str) {
        let (state, reason) = (FailureState::Unknown, FailureReason::OutcomeUnknown);
        let error = shortened(
            &format!("an attempt may have arrived, and it is not repeated: {why}"),
            500,
        );
        let failed = Failed {
            id,
            attempts: self.run.attempts(id),
            state,
            reason,
            error: error.clone(),
            due,
            since: due,
            at: self.now,
            may_have_arrived: true,
            retry_reason: String::new(),
        };
        let verdict = Verdict::Failed { state, reason, error };
        self.decided(id, due, verdict, None);
        self.run.forget(id);
        self.run.failed.push(failed);
    }

    fn defer(&mut self, pending: &Pending, until: Timestamp, reason: DeferReason) {
        let (id, due) = (pending.id, pending.due);
        self.decided(id, due, Verdict::Deferred { until, reason }, None);
        let attempts = self.run.attempts(id);
        let may_have_arrived = self.run.may_have_arrived(id);
        self.run.forget(id);
        self.run.deferred.push(Deferred {
            id,
            until,
            reason,
            due,
            late_by_ms: (self.now - pending.since).num_milliseconds(),
            attempts,
            may_have_arrived,
        });
    }

    /// Records an attempt that is not made, or was lost. There is no provider to be spread over, so no jitter.
    fn fail(&mut self, attempt: &InFlight, result: Attempted, retry: &RetryPolicy) {
        self.run.record(self.timeline, attempt, result, retry, 0.5, self.now);
        if let Some(failed) = self.run.failed.iter().find(|failed| failed.id == attempt.id) {
            let verdict = Verdict::Failed {
                state: failed.state,
                reason: failed.reason,
                error: failed.error.clone(),
            };
            self.decisions.push(Decision {
                action: attempt.id,
                attempt: attempt.attempt,
                due: attempt.due,
                verdict,
                detail: None,
            });
        }
    }
}

/// Whether a message that was due at `due` is so late that it keeps its distance from other late ones.
pub(super) fn is_late(due: Timestamp, now: Timestamp) -> bool {
    now - due > LATE
}

#[cfg(test)]
mod tests;
