//! What a simulation tells.

use chrono::NaiveDate;
use chrono_tz::Tz;

use super::{DeferReason, SkipReason};
use crate::domain::condition::Finding;
use crate::domain::{ActionId, Attempted, Run, Status, Timestamp, Verdict};

/// Something that happens.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// When.
    pub at: Timestamp,
    /// The day that the run is on then.
    pub day: i32,
    /// The date of that day.
    pub date: NaiveDate,
    /// The zone in which that day is.
    pub tz: Tz,
    /// Where the run stands after it.
    pub status: Status,
    /// What happens.
    pub what: What,
}

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// The run starts.
    Started,
    /// An entry of the script takes effect.
    Script {
        /// Where it stood in the script.
        position: usize,
        /// Why it is refused, if it is.
        refused: Option<String>,
    },
    /// The run comes to its day, or its day to its date.
    CameToDay,
    /// The day is put off by so many days.
    Shifted(i32),
    /// Days are jumped over, from the first to the last.
    Jumped(i32, i32),
    /// It is decided what becomes of an action.
    Action(ActionStep),
    /// The run is completed.
    Completed,
}

/// What becomes of an action.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionStep {
    /// Which.
    pub id: ActionId,
    /// Which attempt it is, or would be, from 1.
    pub attempt: u32,
    /// When it was due.
    pub due: Timestamp,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Of what is skipped, for people: which condition or gate said so, and what was seen.
    pub detail: Option<String>,
    /// What its conditions came to, where they were asked.
    pub findings: Vec<Finding>,
}

/// Where a run is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) day: i32,
    pub(super) date: NaiveDate,
    pub(super) tz: Tz,
    pub(super) status: Status,
}

impl Place {
    pub(super) fn of(run: &Run) -> Self {
        Self {
            day: run.current_day,
            date: run.day_date,
            tz: run.zone.tz,
            status: run.status,
        }
    }
}

/// Whether conditions were asked on the way to a decision that was made without sending.
pub(super) fn decided_by_conditions(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Completed | Verdict::Failed { .. } => true,
        Verdict::Skipped(reason) => match reason {
            SkipReason::Condition
            | SkipReason::QuietHoursUnknown
            | SkipReason::Suppressed
            | SkipReason::EventMissing => true,
            SkipReason::Gated
            | SkipReason::HourPassedAtStart
            | SkipReason::Removed
            | SkipReason::Expired
            | SkipReason::NotCompletedInTime => false,
        },
        Verdict::Deferred { reason, .. } => match reason {
            DeferReason::Spacing
            | DeferReason::ChannelUnavailable
            | DeferReason::RateLimited
            | DeferReason::SendingHeld
            | DeferReason::QuietHours
            | DeferReason::WaitingForEvent => true,
            DeferReason::WaitingForAction | DeferReason::WaitingForCompletion => false,
        },
    }
}

/// What an attempt came to, once it is recorded.
pub(super) fn verdict_of(run: &Run, id: ActionId, result: &Attempted) -> Option<Verdict> {
    match result {
        Attempted::Completed => Some(handed_over(run, id).unwrap_or(Verdict::Completed)),
        Attempted::HandedBack => None,
        Attempted::ChannelUnavailable { until } => Some(Verdict::Deferred {
            until: *until,
            reason: DeferReason::ChannelUnavailable,
        }),
        Attempted::Retry { .. } | Attempted::Failed { .. } | Attempted::Unknown { .. } => {
            let failed = run.failed.iter().find(|failed| failed.id == id)?;
            Some(Verdict::Failed {
                state: failed.state,
                reason: failed.reason,
                error: failed.error.clone(),
            })
        }
    }
}

/// What becomes of a task that waits for its report.
fn handed_over(run: &Run, id: ActionId) -> Option<Verdict> {
    let deferred = run.deferred.iter().find(|deferred| deferred.id == id)?;
    Some(Verdict::Deferred {
        until: deferred.until,
        reason: deferred.reason,
    })
}

/// The days that were jumped over between two states of a run.
pub(super) fn newly_jumped(before: &Run, after: &Run) -> Vec<(i32, i32)> {
    let new = |&(first, last): &(i32, i32)| {
        let known = before.jumped_days.iter().find(|(begin, _)| *begin == first);
        let first = known.map_or(first, |(_, until)| until + 1);
        (first <= last).then_some((first, last))
    };
    after.jumped_days.iter().filter_map(new).collect()
}

/// How many leaves of conditions a step tells of.
pub(super) fn leaves_of(what: &What) -> usize {
    match what {
        What::Action(step) => step.findings.iter().map(|finding| finding.leaves.len()).sum(),
        What::Started
        | What::Script { .. }
        | What::CameToDay
        | What::Shifted(_)
        | What::Jumped(_, _)
        | What::Completed => 0,
    }
}
