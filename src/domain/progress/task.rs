//! Tasks that people report.
//!
//! A report is kept apart from the lists of actions, which belong to whoever holds the run: so a task can be reported while
//! messages of its run are under way, and even before it is recorded that it was handed over. Whoever reads the run takes
//! the reports into the lists, and whoever claims it next stores them there.

use super::{Run, Status};
use crate::domain::{ActionId, Completion, DeferReason, SkipReason, TaskOutcome, TaskReport, Timeline, Timestamp};

/// Why a task can't be reported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReported {
    /// It was reported before, with another outcome.
    #[error("the task was reported before")]
    Otherwise(TaskReport),
    /// The run does not wait for it.
    #[error("the run does not wait for the task: {0}")]
    NotWaiting(&'static str),
}

/// Where a report goes in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskEntry {
    /// When it was due.
    pub due: Timestamp,
    /// The number of its entry in the ledger, after those of the attempts to hand it over.
    pub attempt: u32,
}

impl Run {
    /// Notes what came of a task. None: it was noted before, and is just that.
    pub fn report_task(
        &mut self,
        timeline: &Timeline,
        id: ActionId,
        outcome: TaskOutcome,
        now: Timestamp,
    ) -> Result<Option<TaskEntry>, NotReported> {
        if let Some(report) = self.task_report(id) {
            return if report.outcome == outcome {
                Ok(None)
            } else {
                Err(NotReported::Otherwise(*report))
            };
        }
        let reported = self
            .awaiting_report(timeline, id)
            .ok_or_else(|| NotReported::NotWaiting(self.why_not_waiting(timeline, id)))?;
        self.task_reports.push(TaskReport { id, outcome, at: now });
        if self.status == Status::Active {
            self.next_action_at = self.next_action_at.min(Some(now)).or(Some(now));
        }
        self.updated_at = now;
        self.take_in_reports();
        Ok(Some(reported))
    }

    /// What was reported of a task.
    pub fn task_report(&self, id: ActionId) -> Option<&TaskReport> {
        self.task_reports.iter().find(|report| report.id == id)
    }

    /// Completes tasks that were reported and are not complete yet, and has what waits for an earlier action looked at again. What
    /// is in flight is left to whoever sends it.
    pub fn take_in_reports(&mut self) {
        for TaskReport { id, at, .. } in self.task_reports.clone() {
            let is_in_flight = self.in_flight.iter().any(|in_flight| in_flight.id == id);
            let is_skipped = self.skipped.iter().any(|skipped| skipped.id == id);
            if is_in_flight || is_skipped || self.completed.contains(&id) {
                continue;
            }
            self.forget(id);
            self.completed.push(id);
            self.look_again(at);
        }
    }

    /// Has what waits for an earlier action looked at from this instant on.
    pub(in crate::domain) fn look_again(&mut self, at: Timestamp) {
        for deferred in &mut self.deferred {
            if deferred.reason == DeferReason::WaitingForAction {
                deferred.until = deferred.until.min(at);
            }
        }
    }

    /// The task as far as somebody may have it and it can be reported: it waits for that, or is under way, or may have arrived.
    fn awaiting_report(&self, timeline: &Timeline, id: ActionId) -> Option<TaskEntry> {
        if !self.status.is_live() {
            return None;
        }
        let deferred = self.deferred.iter().find(|deferred| deferred.id == id);
        if let Some(deferred) = deferred.filter(|deferred| deferred.reason == DeferReason::WaitingForCompletion) {
            return Some(TaskEntry {
                due: deferred.due,
                attempt: deferred.attempts + 1,
            });
        }
        timeline.action(id)?.definition.completion.within()?;
        if let Some(in_flight) = self.in_flight.iter().find(|in_flight| in_flight.id == id) {
            return Some(TaskEntry {
                due: in_flight.due,
                attempt: in_flight.attempt + 1,
            });
        }
        let failed = self.failed.iter().find(|failed| failed.id == id);
        let due = failed
            .map(|failed| failed.due)
            .or(deferred.map(|deferred| deferred.due));
        due.filter(|_| self.may_have_arrived(id)).map(|due| TaskEntry {
            due,
            attempt: self.attempts(id) + 1,
        })
    }

    fn why_not_waiting(&self, timeline: &Timeline, id: ActionId) -> &'static str {
        let skipped = self.skipped.iter().find(|skipped| skipped.id == id);
        let action = timeline.action(id);
        match (self.status, skipped) {
            (_, Some(skipped)) => match skipped.reason {
                SkipReason::NotCompletedInTime => "it was not reported in time, and is over",
                SkipReason::Removed => "it was removed from the timeline",
                SkipReason::Condition
                | SkipReason::Gated
                | SkipReason::HourPassedAtStart
                | SkipReason::Expired
                | SkipReason::QuietHoursUnknown
                | SkipReason::Suppressed
                | SkipReason::EventMissing => "it was never handed over, and won't be",
            },
            (Status::Completed | Status::Stopped, None) => "the run is over",
            (Status::Active | Status::Paused, None) => match action.map(|action| action.definition.completion) {
                _ if self.completed.contains(&id) => "it was complete once it was handed over",
                Some(Completion::HandedOver) => "it is no task that waits for a report",
                Some(Completion::Reported { .. }) | None => "it has not been handed over",
            },
        }
    }
}
