//! Noting what people report of tasks.

use super::once::Begin;
use super::{Answer, Engine, EngineError, Once, RunView};
use crate::domain::{
    Action, ActionId, CustomerId, NotReported, ProgressId, Run, TaskEntry, TaskOutcome, Timeline, Timestamp,
};
use crate::store::{Execution, ExecutionOutcome, ExecutionReason};

/// What somebody reports of a task.
#[derive(Debug, Clone)]
pub struct ReportTask {
    /// Whose.
    pub customer: CustomerId,
    /// Which run.
    pub run: ProgressId,
    /// Which action of it.
    pub action: ActionName,
    /// What came of it.
    pub outcome: TaskOutcome,
    /// What is to be remembered of it; may be empty.
    pub note: String,
}

/// Which action of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActionName {
    /// By its key.
    Key(String),
    /// By its id.
    Id(ActionId),
}

/// The run of a task that was reported.
#[derive(Debug)]
pub struct ReportedTask {
    /// The run.
    pub view: RunView,
    /// Whether the same had been reported before.
    pub was_reported: bool,
}

impl ActionName {
    /// By its id.
    pub fn id(id: i64) -> Self {
        Self::Id(ActionId(id))
    }
}

impl Engine {
    /// Notes what came of a task.
    pub async fn report_task(
        &self,
        command: ReportTask,
        once: Once<'_, ReportedTask>,
    ) -> Result<Answer<ReportedTask>, EngineError> {
        let operation = match self.begin_once(once).await? {
            Begin::Do(operation) => operation,
            Begin::Repeat(response) => return Ok(Answer::Repeated(response)),
        };
        let (txn, now) = (&operation.txn, operation.now);
        let mut run = self.locked_run(txn, &command.customer, command.run).await?;
        let timeline = txn
            .timeline(run.timeline_id)
            .await?
            .ok_or(EngineError::TimelineNotFound(run.timeline_id))?;
        let action = named(&timeline, &command)?.clone();
        let reported = run.report_task(&timeline, action.id, command.outcome, now);
        let reported = reported.map_err(|refused| match refused {
            NotReported::Otherwise(report) => EngineError::TaskReportedOtherwise {
                action: action.definition.key.clone(),
                outcome: report.outcome,
                at: report.at,
            },
            NotReported::NotWaiting(why) => EngineError::TaskNotWaiting {
                run: run.id,
                action: action.definition.key.clone(),
                status: run.status,
                why,
            },
        })?;
        if let Some(reported) = reported {
            let key = (run.customer_id.clone(), run.id);
            let ledger = txn.last_executions(&[key]).await?;
            let handed_over = ledger.iter().find(|execution| execution.action_id == action.id);
            let entry = entry(&run, &action, &command, reported, handed_over, now);
            txn.put_task_reports(&run).await?;
            txn.insert_missing_executions(&[entry]).await?;
        }
        let view = self.view_in(txn, run, timeline).await?;
        let was_reported = reported.is_none();
        operation.finish(ReportedTask { view, was_reported }).await
    }
}

/// The action that is meant, also when it was removed.
fn named<'a>(timeline: &'a Timeline, command: &ReportTask) -> Result<&'a Action, EngineError> {
    let found = match &command.action {
        ActionName::Id(id) => timeline.action(*id),
        ActionName::Key(key) => {
            let mut actions = timeline.definition.actions.iter();
            actions.find(|action| action.definition.key == *key)
        }
    };
    found.ok_or_else(|| EngineError::ActionNotFound {
        customer: command.customer.clone(),
        run: command.run,
        action: command.action.clone(),
    })
}

/// The ledger's entry for a report.
fn entry(
    run: &Run,
    action: &Action,
    command: &ReportTask,
    reported: TaskEntry,
    handed_over: Option<&Execution>,
    now: Timestamp,
) -> Execution {
    Execution {
        customer_id: run.customer_id.clone(),
        progress_id: run.id,
        action_id: action.id,
        timeline_id: run.timeline_id,
        attempt: reported.attempt,
        due_at: reported.due,
        started_at: now,
        finished_at: now,
        channel: action.definition.channel,
        outcome: ExecutionOutcome::Completed,
        reason: Some(ExecutionReason::Task(command.outcome)),
        provider_id: handed_over.and_then(|execution| execution.provider_id.clone()),
        detail: Some(command.note.clone()).filter(|note| !note.is_empty()),
        content_revision: handed_over.and_then(|execution| execution.content_revision),
        provider_state: None,
        resolved_at: None,
    }
}
