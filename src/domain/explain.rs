//! What became of each action of a run, or what holds it now. It asks [`plan::plan`] what the next look would do, so that
//! what it says is what then happens.

use std::collections::HashMap;

use super::condition::{Finding, findings};
use super::plan::{self, Pending};
use super::schedule::{instant, plus_days};
use super::{
    Action, ActionId, Decision, DeferReason, Facts, FailureReason, FailureState, RetryPolicy, Run, SendingHold,
    SkipReason, Status, Timeline, Timestamp, Verdict,
};

/// What is to be said about a run at an instant.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// When the run is looked at next: by the first tick at or after this instant. None: not before somebody thaws it, or never.
    pub next_look: Option<Timestamp>,
    /// Its actions in order; removed ones only where the run knows them.
    pub actions: Vec<ExplainedAction>,
}

/// What is to be said about an action.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainedAction {
    /// Which.
    pub id: ActionId,
    /// Where it stands.
    pub standing: Standing,
    /// When it was due at first, or will be provided that the run advances every day until then. None where it is over.
    pub due: Option<Timestamp>,
    /// What its conditions find now. Empty where it is over.
    pub findings: Vec<Finding>,
    /// The sending hold that stops it now, whether or not it is due. None where it is over.
    pub sending_hold: Option<SendingHold>,
}

/// Where an action stands in a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// It was carried out.
    Completed,
    /// It was decided that it won't be.
    Skipped(SkipReason),
    /// It failed for good, or nobody knows.
    Failed(FailureState),
    /// It is being carried out at this moment.
    InFlight {
        /// Which attempt, from 1.
        attempt: u32,
        /// When whoever carries it out is given up, if nothing is heard.
        until: Timestamp,
    },
    /// It is due, and the next look does this.
    Due(Expected),
    /// Something holds it.
    Held {
        /// What.
        by: Hold,
        /// When that is looked at again, as far as is known.
        until: Option<Timestamp>,
    },
    /// It will not come to be due in this run.
    Never(Never),
}

/// What the next look does with an action that is due.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// Sends it.
    Send,
    /// Notes that it is done: a wait whose hour has come, or a gate that is open.
    Complete,
    /// Skips it.
    Skip {
        /// Why.
        reason: SkipReason,
        /// Why, for people.
        detail: Option<String>,
    },
    /// Notes that it failed.
    Fail {
        /// Whether it is repeated.
        state: FailureState,
        /// Why, as a fixed word.
        reason: FailureReason,
        /// Why, for people.
        error: String,
    },
    /// Takes it up once the messages before it are recorded.
    InTurn,
}

/// What holds an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The run is paused.
    RunPaused,
    /// The timeline is inactive.
    TimelineInactive,
    /// Its day has not come.
    DayNotReached,
    /// Its hour has not come.
    HourNotReached,
    /// Its hour was missed by more than it may be late, and comes again tomorrow.
    Missed,
    /// It failed, and is tried again.
    Retry,
    /// It was due, and was put off.
    Deferred(DeferReason),
}

/// Why an action won't come to be due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Never {
    /// Its day was over when the run began, or when it was added or moved there.
    DayPassed,
    /// Its day was jumped over.
    DayJumped,
    /// The run ended before.
    RunEnded,
}

/// Explains a run as it is stored. `facts`: what is known now.
pub fn explain(timeline: &Timeline, run: &Run, facts: &Facts, retry: &RetryPolicy, now: Timestamp) -> Explanation {
    let is_served = run.status == Status::Active && timeline.definition.is_active;
    let run = if is_served {
        plan::thawed(timeline, run.clone())
    } else {
        run.clone()
    };
    let lease = run.lease.filter(|lease| lease.expires_at > now);
    let is_looked_at = is_served && lease.is_none();
    let (then, decisions) = if is_looked_at {
        let planned = plan::plan(timeline, &run, facts, retry, now);
        (planned.run, planned.decisions)
    } else {
        (run.clone(), Vec::new())
    };
    let pending = plan::pending_actions(timeline, &then, now);
    let explainer = Explainer {
        timeline,
        run: &run,
        decisions: decisions.iter().map(|decision| (decision.action, decision)).collect(),
        pending: pending.iter().map(|pending| (pending.id, *pending)).collect(),
        then: &then,
        is_looked_at,
        now,
    };
    let actions = timeline.definition.actions.iter();
    let actions = actions.filter_map(|action| {
        let standing = explainer.standing(action)?;
        let is_over = match standing {
            Standing::Completed | Standing::Skipped(_) | Standing::Failed(_) | Standing::Never(_) => true,
            Standing::InFlight { .. } | Standing::Due(_) | Standing::Held { .. } => false,
        };
        let (mut due, mut found, mut sending_hold) = (None, Vec::new(), None);
        if !is_over {
            due = explainer.due(action);
            found = findings(&action.definition.conditions, facts, now);
            sending_hold = facts.sending_holds.on(timeline.id, &action.definition, now).cloned();
        }
        Some(ExplainedAction {
            id: action.id,
            standing,
            due,
            findings: found,
            sending_hold,
        })
    });
    let tomorrow = instant(plus_days(run.day_date, 1), 0, run.zone.tz);
    let next_look = match lease {
        Some(lease) => lease.expires_at,
        None => run.next_action_at.map_or(tomorrow, |at| at.min(tomorrow)).max(now),
    };
    Explanation {
        next_look: is_served.then_some(next_look),
        actions: actions.collect(),
    }
}

struct Explainer<'a> {
    timeline: &'a Timeline,
    /// The run as it is.
    run: &'a Run,
    /// The run as the next look would leave it; as it is, where there is no look now.
    then: &'a Run,
    /// Whether there is a look now: nobody holds the run, and nothing freezes it.
    is_looked_at: bool,
    /// What the next look would decide, the last of each action.
    decisions: HashMap<ActionId, &'a Decision>,
    /// What is pending after it.
    pending: HashMap<ActionId, Pending>,
    now: Timestamp,
}

impl Explainer<'_> {
    /// Where an action stands. None: it was removed, and the run does not know it.
    fn standing(&self, action: &Action) -> Option<Standing> {
        let id = action.id;
        self.known(id)
            .or_else(|| self.expected(id))
            .or_else(|| self.held(action))
            .or_else(|| action.removed_at.is_none().then(|| Standing::Never(self.never(action))))
    }

    /// What the run says about it already.
    fn known(&self, id: ActionId) -> Option<Standing> {
        let run = self.run;
        if run.completed.contains(&id) {
            return Some(Standing::Completed);
        }
        if let Some(skipped) = run.skipped.iter().find(|skipped| skipped.id == id) {
            return Some(Standing::Skipped(skipped.reason));
        }
        let failed = run.failed.iter().find(|failed| failed.id == id);
        if let Some(failed) = failed.filter(|failed| failed.retry_at().is_none()) {
            return Some(Standing::Failed(failed.state));
        }
        let lease = run.lease.filter(|lease| lease.expires_at > self.now)?;
        let in_flight = run.in_flight.iter().find(|in_flight| in_flight.id == id)?;
        Some(Standing::InFlight {
            attempt: in_flight.attempt,
            until: lease.expires_at,
        })
    }

    /// What the next look would do with it.
    fn expected(&self, id: ActionId) -> Option<Standing> {
        if self.is_looked_at && self.then.in_flight.iter().any(|in_flight| in_flight.id == id) {
            return Some(Standing::Due(Expected::Send));
        }
        let decision = self.decisions.get(&id)?;
        Some(match &decision.verdict {
            Verdict::Completed => Standing::Due(Expected::Complete),
            Verdict::Skipped(reason) => Standing::Due(Expected::Skip {
                reason: *reason,
                detail: decision.detail.clone(),
            }),
            Verdict::Deferred { until, reason } => Standing::Held {
                by: Hold::Deferred(*reason),
                until: Some(*until),
            },
            Verdict::Failed { state, reason, error } => Standing::Due(Expected::Fail {
                state: *state,
                reason: *reason,
                error: error.clone(),
            }),
        })
    }

    /// What holds it.
    fn held(&self, action: &Action) -> Option<Standing> {
        let then = self.then;
        let is_to_come = action.removed_at.is_none() && action.definition.day_number > then.current_day;
        let pending = self.pending.get(&action.id);
        // Its sender died, and nobody has looked since.
        let is_lost = then.in_flight.iter().any(|in_flight| in_flight.id == action.id);
        if !then.status.is_live() || pending.is_none() && !is_to_come && !is_lost {
            return None;
        }
        let frozen = match (then.status, self.timeline.definition.is_active) {
            (Status::Paused, _) => Some(Hold::RunPaused),
            (Status::Active, false) => Some(Hold::TimelineInactive),
            (Status::Active | Status::Completed | Status::Stopped, _) => None,
        };
        let (by, until) = match (frozen, pending) {
            (Some(frozen), _) => (frozen, None),
            (None, None) => match plan::expected(then, action) {
                // The run moves on to it as soon as what is in flight is recorded.
                at if at <= self.now => return Some(Standing::Due(Expected::InTurn)),
                at => (Hold::DayNotReached, Some(at)),
            },
            (None, Some(pending)) => {
                if pending.at <= self.now {
                    return Some(Standing::Due(Expected::InTurn));
                }
                let deferred = then.deferred.iter().find(|deferred| deferred.id == action.id);
                let is_retrying = then.failed.iter().any(|failed| failed.id == action.id);
                let by = match deferred {
                    Some(deferred) => Hold::Deferred(deferred.reason),
                    None if is_retrying => Hold::Retry,
                    None if pending.due < self.now => Hold::Missed,
                    None => Hold::HourNotReached,
                };
                (by, Some(pending.at))
            }
        };
        Some(Standing::Held { by, until })
    }

    fn never(&self, action: &Action) -> Never {
        let day = action.definition.day_number;
        let mut jumped = self.then.jumped_days.iter();
        if jumped.any(|(first, last)| (*first..=*last).contains(&day)) {
            Never::DayJumped
        } else if day < self.then.current_day {
            Never::DayPassed
        } else {
            Never::RunEnded
        }
    }

    fn due(&self, action: &Action) -> Option<Timestamp> {
        let decided = self.decisions.get(&action.id).map(|decision| decision.due);
        let in_flight = self.then.in_flight.iter().find(|in_flight| in_flight.id == action.id);
        let pending = self.pending.get(&action.id).map(|pending| pending.due);
        let to_come = || plan::expected(self.then, action);
        decided
            .or(in_flight.map(|in_flight| in_flight.due))
            .or(pending)
            .or_else(|| (action.definition.day_number > self.then.current_day).then(to_come))
    }
}
