//! Runs: one customer's way through one timeline, and the moves that people and providers make on it.
//!
//! What time does to a run is in `plan`. `day_date` is written here by start, resume and zone change, there by advance, shift and
//! reactivate, and by nothing else.

mod redrive;
mod reported;
mod standing;
mod task;

use chrono::NaiveDate;
use std::collections::BTreeMap;

pub use redrive::NotRetried;
pub use reported::Reported;
pub use task::{NotReported, TaskEntry};

use super::plan::is_late;
use super::schedule::{instant, local_date, plus_days};
use super::{
    ActionId, Attempted, Channel, CustomerId, DeferReason, Deferred, DeliveryPolicy, Failed, FailureReason,
    FailureState, InFlight, ProgressId, RetryPolicy, SkipReason, Skipped, TaskReport, Timeline, TimelineId, Timestamp,
    TraceParent, WhenMissed, Zone,
};

/// One run of one timeline for one customer.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its id; 0 until it is stored.
    pub id: ProgressId,
    /// Whose it is.
    pub customer_id: CustomerId,
    /// Which timeline it runs.
    pub timeline_id: TimelineId,
    /// Where it came from.
    pub origin: Origin,
    /// Where it stands.
    pub status: Status,
    /// The reason given with the last pause, resume or stop; may be empty.
    pub status_reason: String,
    /// The day it is on, from 1.
    pub current_day: i32,
    /// The customer's local date on which that day falls.
    pub day_date: NaiveDate,
    /// When the run came to that day. What of it is removed from then on was pending.
    pub day_started_at: Timestamp,
    /// Where the customer lives.
    pub zone: Zone,
    /// Nothing of the run is due before this instant: its start, or the last resume, reactivation or zone change. So
    /// hours that had passed by then are due then, and not late.
    pub not_before: Timestamp,
    /// When the current day was first shifted; none: it was not. What has its hour again after that is not missed on its date.
    pub day_shifted_at: Option<Timestamp>,
    /// Days by which the run was shifted because nobody ticked.
    pub shifted_days: i32,
    /// Ranges of days that were jumped over (`WhenMissed::CatchUp`), first and last.
    pub jumped_days: Vec<(i32, i32)>,
    /// Actions that were carried out.
    pub completed: Vec<ActionId>,
    /// Actions that won't be carried out.
    pub skipped: Vec<Skipped>,
    /// Actions that failed, for now or for good.
    pub failed: Vec<Failed>,
    /// Actions that were due and wait.
    pub deferred: Vec<Deferred>,
    /// What people reported of tasks, in order of time. Written by whoever notes a report, and by nobody else.
    pub task_reports: Vec<TaskReport>,
    /// Actions that are claimed, in the order in which they are sent.
    pub in_flight: Vec<InFlight>,
    /// When the last late message of a channel was taken up, unless it has to go again.
    pub last_late: BTreeMap<Channel, Timestamp>,
    /// When the run is to be looked at next; none: when its day is over.
    pub next_action_at: Option<Timestamp>,
    /// Who holds the run, if anybody does.
    pub lease: Option<Lease>,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it was completed or stopped.
    pub ended_at: Option<Timestamp>,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The trace of the call that started it, where that was sampled.
    pub trace_parent: Option<TraceParent>,
}

/// Where a run came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// By a call that named the timeline.
    Started,
    /// By the customer's stage, on this visit to it.
    Assigned {
        /// The customer's `stage_visit`.
        visit: i64,
    },
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// The ticks serve it.
    Active,
    /// It is frozen.
    Paused,
    /// It is over, as all its days are.
    Completed,
    /// It was ended.
    Stopped,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Active, Self::Paused, Self::Completed, Self::Stopped];

    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Stopped => "stopped",
        }
    }

    /// Whether it may still move.
    pub fn is_live(self) -> bool {
        match self {
            Self::Active | Self::Paused => true,
            Self::Completed | Self::Stopped => false,
        }
    }
}

/// Who holds a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// A random number that the holder must show to record anything.
    pub token: i64,
    /// When it is free again.
    pub expires_at: Timestamp,
}

/// What becomes of hours that have passed when a run starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FirstDay {
    /// They are due at the start.
    #[default]
    SendPassed,
    /// They are skipped.
    SkipPassed,
    /// The first day is tomorrow.
    NextDay,
}

/// A move that the state of a run does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the run is {}", .status.as_str())]
pub struct WrongStatus {
    /// The status that it has.
    pub status: Status,
}

impl Run {
    /// A new run, and the actions that are skipped from the start. Not planned yet: `plan::settle` says when it is to be looked at.
    pub fn start(
        timeline: &Timeline,
        customer_id: CustomerId,
        origin: Origin,
        zone: Zone,
        first_day: FirstDay,
        start_day: i32,
        now: Timestamp,
    ) -> Self {
        let today = local_date(now, zone.tz);
        let day_date = match first_day {
            FirstDay::SendPassed | FirstDay::SkipPassed => today,
            FirstDay::NextDay => plus_days(today, 1),
        };
        let has_passed = |hour| instant(day_date, hour, zone.tz) < now;
        let skipped = timeline
            .day(start_day)
            .iter()
            .filter(|action| {
                first_day == FirstDay::SkipPassed
                    && action.removed_at.is_none()
                    && has_passed(action.definition.delay_hours)
            })
            .map(|action| Skipped {
                id: action.id,
                reason: SkipReason::HourPassedAtStart,
            })
            .collect();
        Self {
            id: ProgressId(0),
            customer_id,
            timeline_id: timeline.id,
            origin,
            status: Status::Active,
            status_reason: String::new(),
            current_day: start_day,
            day_date,
            day_started_at: now,
            zone,
            not_before: now,
            day_shifted_at: None,
            shifted_days: 0,
            jumped_days: Vec::new(),
            completed: Vec::new(),
            skipped,
            failed: Vec::new(),
            deferred: Vec::new(),
            task_reports: Vec::new(),
            in_flight: Vec::new(),
            last_late: BTreeMap::new(),
            next_action_at: None,
            lease: None,
            started_at: now,
            ended_at: None,
            updated_at: now,
            trace_parent: None,
        }
    }

    /// Freezes an active run.
    pub fn pause(self, reason: String, now: Timestamp) -> Result<Self, WrongStatus> {
        match self.status {
            Status::Active => Ok(Self {
                status: Status::Paused,
                status_reason: reason,
                updated_at: now,
                ..self
            }),
            status @ (Status::Paused | Status::Completed | Status::Stopped) => Err(WrongStatus { status }),
        }
    }

    /// Thaws a paused run: its day is today, or tomorrow.
    pub fn resume(self, reason: String, next_day: bool, now: Timestamp) -> Result<Self, WrongStatus> {
        match self.status {
            Status::Paused => {
                let today = local_date(now, self.zone.tz);
                let day_date = if next_day { plus_days(today, 1) } else { today };
                let run = Self {
                    status: Status::Active,
                    status_reason: reason,
                    updated_at: now,
                    ..self
                };
                Ok(Self {
                    day_date,
                    not_before: now,
                    day_shifted_at: None,
                    next_action_at: Some(now),
                    ..run
                })
            }
            status @ (Status::Active | Status::Completed | Status::Stopped) => Err(WrongStatus { status }),
        }
    }

    /// Ends a live run.
    pub fn stop(self, reason: String, now: Timestamp) -> Result<Self, WrongStatus> {
        match self.status {
            Status::Active | Status::Paused => Ok(Self {
                status: Status::Stopped,
                status_reason: reason,
                next_action_at: None,
                ended_at: Some(now),
                updated_at: now,
                ..self
            }),
            status @ (Status::Completed | Status::Stopped) => Err(WrongStatus { status }),
        }
    }

    /// Moves a live run to another zone: its day is today there, and the rest of it is planned anew.
    #[must_use]
    pub fn move_to(self, zone: Zone, now: Timestamp) -> Self {
        if zone.tz == self.zone.tz {
            return Self { zone, ..self };
        }
        let day_date = local_date(now, zone.tz);
        Self {
            zone,
            day_date,
            not_before: now,
            day_shifted_at: None,
            next_action_at: Some(now),
            updated_at: now,
            ..self
        }
    }

    /// Days finished of the timeline's `duration_days`, 0 to 100; 100 when the run is completed.
    pub fn percent_complete(&self, duration_days: i32) -> f64 {
        if self.status == Status::Completed {
            return 100.0;
        }
        let finished = (self.current_day - 1).clamp(0, duration_days);
        f64::from(finished) * 100.0 / f64::from(duration_days.max(1))
    }

    /// Whether an action has a final outcome in this run.
    pub fn is_final(&self, id: ActionId) -> bool {
        self.completed.contains(&id)
            || self.skipped.iter().any(|skipped| skipped.id == id)
            || self
                .failed
                .iter()
                .any(|failed| failed.id == id && failed.retry_at().is_none())
    }

    /// How many attempts an action has had.
    pub fn attempts(&self, id: ActionId) -> u32 {
        let failed = self
            .failed
            .iter()
            .find(|failed| failed.id == id)
            .map(|failed| failed.attempts);
        let deferred = || {
            self.deferred
                .iter()
                .find(|deferred| deferred.id == id)
                .map(|deferred| deferred.attempts)
        };
        failed.or_else(deferred).unwrap_or(0)
    }

    /// Whether an attempt at an action that is not completed may have reached the customer.
    pub(super) fn may_have_arrived(&self, id: ActionId) -> bool {
        let failed = self.failed.iter().map(|failed| (failed.id, failed.may_have_arrived));
        let deferred = self
            .deferred
            .iter()
            .map(|deferred| (deferred.id, deferred.may_have_arrived));
        failed.chain(deferred).any(|one| one == (id, true))
    }

    /// Notes what an attempt came to. `jitter` is from 0 to 1.
    pub fn record(
        &mut self,
        timeline: &Timeline,
        attempt: &InFlight,
        result: Attempted,
        retry: &RetryPolicy,
        jitter: f64,
        now: Timestamp,
    ) {
        let id = attempt.id;
        // A run that was frozen while its sender died has had no time to repeat it since.
        let since = attempt.since.max(self.not_before);
        self.in_flight.retain(|in_flight| in_flight.id != id);
        let may_have_arrived = self.may_have_arrived(id) || matches!(result, Attempted::Unknown { .. });
        let last = if may_have_arrived {
            FailureState::Unknown
        } else {
            FailureState::Failed
        };
        let policy = timeline.action(id).map_or(DeliveryPolicy::AtMostOnce, |action| {
            action.definition.channel.delivery_policy()
        });
        let failed = |state, reason, error: &str| Failed {
            id,
            attempts: attempt.attempt,
            state,
            reason,
            error: super::text::shortened(error, 500),
            due: attempt.due,
            since,
            at: now,
            may_have_arrived,
            retry_reason: String::new(),
        };
        let again = |reason, error: &str, after| {
            let at = retry.wait(attempt.attempt, after, jitter).map(|wait| now + wait);
            let at = at.filter(|at| timeline.may_retry_at(id, since, *at));
            failed(at.map_or(last, FailureState::Retrying), reason, error)
        };
        // What goes again, as it did not reach the customer, keeps no late message waiting, least of all itself.
        let goes_again = matches!(
            result,
            Attempted::Retry { .. } | Attempted::ChannelUnavailable { .. } | Attempted::HandedBack
        );
        if let Some(action) = timeline.action(id).filter(|_| goes_again && is_late(attempt.due, now)) {
            self.last_late.remove(&action.definition.channel);
        }
        let entry = match result {
            Attempted::HandedBack => return,
            Attempted::ChannelUnavailable { until } => {
                let (reason, attempts) = (DeferReason::ChannelUnavailable, attempt.attempt.saturating_sub(1));
                self.forget(id);
                self.deferred.push(Deferred {
                    id,
                    until,
                    reason,
                    due: attempt.due,
                    late_by_ms: (now - since).num_milliseconds(),
                    attempts,
                    may_have_arrived,
                });
                return;
            }
            Attempted::Completed => {
                let action = timeline.action(id);
                self.forget(id);
                match action.and_then(|action| action.definition.completion.within()) {
                    None => self.completed.push(id),
                    Some(within) => self.deferred.push(Deferred {
                        id,
                        until: now + within,
                        reason: DeferReason::WaitingForCompletion,
                        due: attempt.due,
                        late_by_ms: (now - since).num_milliseconds(),
                        attempts: attempt.attempt,
                        may_have_arrived: false,
                    }),
                }
                self.take_in_reports();
                return;
            }
            Attempted::Retry { reason, error, after } => again(reason, &error, after),
            Attempted::Failed { reason, error } => failed(last, reason, &error),
            Attempted::Unknown { error } => match policy {
                DeliveryPolicy::AtLeastOnce => again(FailureReason::OutcomeUnknown, &error, None),
                DeliveryPolicy::AtMostOnce => failed(last, FailureReason::OutcomeUnknown, &error),
            },
        };
        self.forget(id);
        self.failed.push(entry);
    }

    /// Notes that an action won't be carried out.
    pub(super) fn skip(&mut self, id: ActionId, reason: SkipReason) {
        self.forget(id);
        self.skipped.push(Skipped { id, reason });
    }

    /// Takes an action out of what waits, before it is entered anew.
    pub(super) fn forget(&mut self, id: ActionId) {
        self.failed.retain(|failed| failed.id != id);
        self.deferred.retain(|deferred| deferred.id != id);
    }
}

impl Timeline {
    /// Whether an action whose lateness counts from `since` may be tried again at `at`: not when it was removed, and under
    /// `CatchUp` not when it would be too late.
    pub(super) fn may_retry_at(&self, id: ActionId, since: Timestamp, at: Timestamp) -> bool {
        let action = self.action(id).filter(|action| action.removed_at.is_none());
        action.is_some_and(|action| match self.definition.when_missed {
            WhenMissed::CatchUp => at <= since + self.max_lateness(action),
            WhenMissed::Shift => true,
        })
    }
}
