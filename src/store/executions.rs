//! `action_executions`: the ledger of attempts and decisions. It only grows.

use sea_orm::{ConnectionTrait, FromQueryResult};

use super::batch::{Batch, Cell, Col};
use super::session::Session;
use super::{StoreError, Txn};
use crate::domain::{ActionId, Channel, CustomerId, ProgressId, Timestamp};

/// An entry of the ledger: one attempt at an action of a run, or the decision not to make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// Whose run.
    pub customer_id: CustomerId,
    /// Which run.
    pub progress_id: ProgressId,
    /// Which action.
    pub action_id: ActionId,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// When the action was due.
    pub due_at: Timestamp,
    /// When the attempt began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// By which channel.
    pub channel: Channel,
    /// What came of it.
    pub outcome: ExecutionOutcome,
    /// Why, as a fixed word; for what was not carried out.
    pub reason: Option<String>,
    /// The provider's id of the message.
    pub provider_id: Option<String>,
    /// Why, for people.
    pub error: Option<String>,
    /// Which revision of the content was sent.
    pub content_revision: Option<i64>,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExecutionOutcome {
    /// Carried out.
    Completed,
    /// Decided against.
    Skipped,
    /// Failed for good.
    Failed,
    /// Failed, to be tried again.
    Retrying,
    /// Perhaps delivered, and not tried again.
    Unknown,
    /// Too late.
    Expired,
}

impl ExecutionOutcome {
    const ALL: [Self; 6] = [
        Self::Completed,
        Self::Skipped,
        Self::Failed,
        Self::Retrying,
        Self::Unknown,
        Self::Expired,
    ];

    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Retrying => "retrying",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
        }
    }
}

#[derive(FromQueryResult)]
struct Row {
    customer_id: String,
    progress_id: i64,
    action_id: i64,
    attempt: i32,
    due_at: Timestamp,
    started_at: Timestamp,
    finished_at: Timestamp,
    channel: String,
    outcome: String,
    reason: Option<String>,
    provider_id: Option<String>,
    error: Option<String>,
    content_revision: Option<i64>,
}

impl<C: ConnectionTrait> Session<C> {
    /// The last entry for each action of some runs of customers, in order of time.
    pub async fn last_executions(&self, runs: &[(CustomerId, ProgressId)]) -> Result<Vec<Execution>, StoreError> {
        let mut batch = Batch::new(&[("customer_id", Col::Text), ("progress_id", Col::BigInt)]);
        for (customer_id, progress_id) in runs {
            batch.push([customer_id.as_str().into(), progress_id.0.into()]);
        }
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let (table, values) = batch.bind(self.backend, 1);
        let sql = format!(
            "select e.customer_id, e.progress_id, e.action_id, e.attempt, e.due_at, e.started_at, e.finished_at, e.channel, \
             e.outcome, e.reason, e.provider_id, e.error, e.content_revision \
             from {table} join action_executions e on e.customer_id = u.customer_id and e.progress_id = u.progress_id \
             where not exists (select 1 from action_executions later where later.customer_id = e.customer_id \
             and later.progress_id = e.progress_id and later.action_id = e.action_id and later.attempt > e.attempt) \
             order by e.finished_at, e.action_id"
        );
        self.rows::<Row>(&sql, values)
            .await?
            .into_iter()
            .map(Row::into_execution)
            .collect()
    }
}

impl Txn {
    /// Adds entries. Those of one action have different attempts.
    pub async fn insert_executions(&self, executions: &[Execution]) -> Result<(), StoreError> {
        let mut batch = Batch::new(&[
            ("customer_id", Col::Text),
            ("progress_id", Col::BigInt),
            ("action_id", Col::BigInt),
            ("attempt", Col::Int),
            ("due_at", Col::Time),
            ("started_at", Col::Time),
            ("finished_at", Col::Time),
            ("channel", Col::Text),
            ("outcome", Col::Text),
            ("reason", Col::OptText),
            ("provider_id", Col::OptText),
            ("error", Col::OptText),
            ("content_revision", Col::OptBigInt),
        ]);
        for execution in executions {
            batch.push([
                execution.customer_id.as_str().into(),
                execution.progress_id.0.into(),
                execution.action_id.0.into(),
                i32::try_from(execution.attempt).unwrap_or(i32::MAX).into(),
                execution.due_at.into(),
                execution.started_at.into(),
                execution.finished_at.into(),
                execution.channel.as_str().into(),
                execution.outcome.as_str().into(),
                Cell::from(execution.reason.clone()),
                Cell::from(execution.provider_id.clone()),
                Cell::from(execution.error.clone()),
                execution.content_revision.into(),
            ]);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let (table, values) = batch.bind(self.backend, 1);
        let columns = "customer_id, progress_id, action_id, attempt, due_at, started_at, finished_at, channel, outcome, reason, \
                       provider_id, error, content_revision";
        self.execute(
            &format!("insert into action_executions ({columns}) select {columns} from {table}"),
            values,
        )
        .await?;
        Ok(())
    }
}

impl Row {
    fn into_execution(self) -> Result<Execution, StoreError> {
        let corrupt = |what: String| StoreError::corrupt("action_executions", self.progress_id, what);
        let channel = Channel::ALL.into_iter().find(|known| known.as_str() == self.channel);
        let outcome = ExecutionOutcome::ALL
            .into_iter()
            .find(|known| known.as_str() == self.outcome);
        Ok(Execution {
            customer_id: CustomerId::parse(&self.customer_id).map_err(|error| corrupt(error.to_string()))?,
            progress_id: ProgressId(self.progress_id),
            action_id: ActionId(self.action_id),
            attempt: self.attempt.unsigned_abs(),
            due_at: self.due_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            channel: channel.ok_or_else(|| corrupt(format!("channel {}", self.channel)))?,
            outcome: outcome.ok_or_else(|| corrupt(format!("outcome {}", self.outcome)))?,
            reason: self.reason,
            provider_id: self.provider_id,
            error: self.error,
            content_revision: self.content_revision,
        })
    }
}
