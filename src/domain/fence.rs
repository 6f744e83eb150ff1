//! What becomes of runs that come from a backup, when the service went on after it was taken and may have sent since what is
//! due in them.
//!
//! A run is played forward from the backup to an instant, by the rules of [`plan`] and as if ticks had gone on. Nothing is sent:
//! what would have been is ended as unknown, because nobody can say whether it was. So the run ends up on the day on which
//! it was, or would have been, at that instant, and what comes later goes as it would have.
//!
//! Conditions of messages are not asked, because what customers did after the backup is not known: what they would skip is
//! unknown as well, and they are asked when somebody tries it again. Gates are, as what comes after the instant hangs on them;
//! but what they shut out before it is unknown. So is a task whose time to be reported ended before the instant, as somebody may have
//! reported it; one whose time goes on still waits.

use chrono::Duration;

use super::schedule::{instant, plus_days};
use super::{
    ActionId, Attempted, Decision, DeliveryPolicy, Facts, Failed, FailureReason, FailureState, InFlight, RetryPolicy,
    Run, SkipReason, Status, Timeline, Timestamp, Verdict, plan,
};

/// Nothing is repeated.
const ONCE: RetryPolicy = RetryPolicy {
    max_attempts: 0,
    base: Duration::zero(),
    cap: Duration::zero(),
};

/// What is fenced off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// Until when the service may have sent.
    pub before: Timestamp,
    /// The last tick that the backup knows of. What was due before it and is not done was late then.
    pub last_tick: Timestamp,
    /// Whether messages that may go twice by their channel's policy are sent again, after the instant.
    pub resend: bool,
}

/// A run after it was fenced.
#[derive(Debug, Clone, PartialEq)]
pub struct Fenced {
    /// What it is to be. Nobody holds it.
    pub run: Run,
    /// What was decided, and at which instant.
    pub decisions: Vec<(Timestamp, Decision)>,
}

/// A timeline by which runs are fenced.
#[derive(Debug)]
pub struct FencedTimeline {
    /// Without the conditions of messages.
    timeline: Timeline,
    fence: Fence,
}

impl FencedTimeline {
    /// Fences runs of a timeline, as it was in the backup.
    pub fn new(mut timeline: Timeline, fence: Fence) -> Self {
        for action in &mut timeline.definition.actions {
            if action.definition.action_type.sends() {
                action.definition.conditions.clear();
            }
        }
        Self { timeline, fence }
    }

    /// Fences a run. None: nothing was due in it before the instant, or it has moved since, so it stays as it is. Of a run that
    /// nobody served, as it is paused or its timeline is inactive, only what was in flight is fenced.
    pub fn fence(&self, run: &Run, facts: &Facts) -> Option<Fenced> {
        if run.updated_at >= self.fence.before {
            return None;
        }
        let mut player = Player {
            timeline: &self.timeline,
            fence: self.fence,
            run: run.clone(),
            decisions: Vec::new(),
        };
        for attempt in std::mem::take(&mut player.run.in_flight) {
            player.end(&attempt, run.updated_at);
        }
        player.run.lease = None;
        if player.run.status == Status::Active && self.timeline.definition.is_active {
            player.play(facts);
        }
        (player.run != *run).then_some(Fenced {
            run: player.run,
            decisions: player.decisions,
        })
    }
}

struct Player<'a> {
    timeline: &'a Timeline,
    fence: Fence,
    run: Run,
    decisions: Vec<(Timestamp, Decision)>,
}

impl Player<'_> {
    /// Plays the run up to the instant.
    fn play(&mut self, facts: &Facts) {
        let mut at = self.wake().max(self.run.updated_at).max(self.fence.last_tick);
        while at < self.fence.before && self.run.status == Status::Active {
            let was_on = self.run.current_day;
            let planned = plan::plan(self.timeline, &self.run, facts, &ONCE, at);
            self.run = planned.run;
            let mut moved = self.run.current_day != was_on || !planned.decisions.is_empty();
            for decision in planned.decisions {
                self.decide(at, decision);
            }
            for attempt in std::mem::take(&mut self.run.in_flight) {
                self.end(&attempt, at);
                moved = true;
            }
            plan::settle(self.timeline, &mut self.run, at);
            let (wake, midnight) = (self.wake(), self.midnight());
            at = match (wake > at, moved) {
                (true, _) => wake,
                (false, true) => at,
                (false, false) if midnight > at => midnight,
                (false, false) => return,
            };
        }
    }

    /// When the run is to be looked at next.
    fn wake(&self) -> Timestamp {
        let midnight = self.midnight();
        self.run.next_action_at.map_or(midnight, |at| at.min(midnight))
    }

    /// When its day is over.
    fn midnight(&self) -> Timestamp {
        let run = plan::thawed(self.timeline, self.run.clone());
        instant(plus_days(run.day_date, 1), 0, run.zone.tz)
    }

    /// Notes what was decided without sending.
    fn decide(&mut self, at: Timestamp, decision: Decision) {
        if decision.verdict == Verdict::Skipped(SkipReason::Gated) && self.is_shut_out(decision.action) {
            self.run.skipped.retain(|skipped| skipped.id != decision.action);
            let attempt = InFlight {
                id: decision.action,
                attempt: decision.attempt,
                due: decision.due,
                since: decision.due,
            };
            return self.end(&attempt, at);
        }
        if decision.verdict == Verdict::Skipped(SkipReason::NotCompletedInTime) {
            return self.lose_report(at, &decision);
        }
        self.decisions.push((at, decision));
    }

    /// Ends a task that somebody had, and may have reported after the backup. It is not handed over again.
    fn lose_report(&mut self, at: Timestamp, decision: &Decision) {
        let (state, reason) = (FailureState::Unknown, FailureReason::OutcomeUnknown);
        let error = format!(
            "fenced: the database comes from a backup, and by {} this may have been reported",
            self.fence.before.format("%FT%TZ")
        );
        self.run.skipped.retain(|skipped| skipped.id != decision.action);
        self.run.failed.push(Failed {
            id: decision.action,
            attempts: decision.attempt.saturating_sub(1),
            state,
            reason,
            error: error.clone(),
            due: decision.due,
            since: decision.due,
            at,
            may_have_arrived: true,
            retry_reason: String::new(),
        });
        let verdict = Verdict::Failed { state, reason, error };
        let detail = None;
        self.decisions.push((
            at,
            Decision {
                verdict,
                detail,
                ..decision.clone()
            },
        ));
    }

    /// Whether a message was shut out by a gate that was asked in this play, and so with what was known at the backup.
    fn is_shut_out(&self, id: ActionId) -> bool {
        let action = |id| self.timeline.action(id);
        let day = action(id).filter(|action| action.definition.action_type.sends());
        let gates = self
            .decisions
            .iter()
            .filter_map(|(_, decision)| action(decision.action));
        let mut days = gates
            .filter(|gate| gate.is_gate())
            .map(|gate| gate.definition.day_number);
        day.is_some_and(|day| days.any(|of_gate| of_gate == day.definition.day_number))
    }

    /// Ends a message that may have been sent.
    fn end(&mut self, attempt: &InFlight, at: Timestamp) {
        let error = format!(
            "fenced: the database comes from a backup, and by {} this may have been sent",
            self.fence.before.format("%FT%TZ")
        );
        let unknown = Attempted::Unknown { error };
        self.run.record(self.timeline, attempt, unknown, &ONCE, 0.5, at);
        let policy = self
            .timeline
            .action(attempt.id)
            .map(|action| action.definition.channel.delivery_policy());
        let goes_again = self.fence.resend && policy == Some(DeliveryPolicy::AtLeastOnce);
        let Some(failed) = self.run.failed.iter_mut().find(|failed| failed.id == attempt.id) else {
            return;
        };
        if goes_again {
            failed.state = FailureState::Retrying(self.fence.before);
        }
        let verdict = Verdict::Failed {
            state: failed.state,
            reason: failed.reason,
            error: failed.error.clone(),
        };
        self.decisions.push((
            at,
            Decision {
                action: attempt.id,
                attempt: attempt.attempt,
                due: attempt.due,
                verdict,
                detail: None,
            },
        ));
    }
}

#[cfg(test)]
mod tests;
