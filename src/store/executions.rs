//! `action_executions`: the ledger of attempts and decisions. It only grows; what providers report later is added to an entry in
//! `delivery`.

use sea_orm::{ConnectionTrait, Value};
use std::fmt::Write as _;

use super::batch::{Batch, Cell, Col};
use super::layout::Part;
use super::row::row;
use super::session::{Number, Session, values};
use super::{Page, StoreError, Txn};
use crate::domain::{
    ActionId, AttemptKey, Channel, CustomerId, FailureReason, ProgressId, ProviderState, ProviderStatus, SkipReason,
    TaskOutcome, TimelineId, Timestamp,
};

/// An entry of the ledger: one attempt at an action of a run, or the decision not to make one. Delivery reports change what they
/// tell of, and nothing else changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// Whose run.
    pub customer_id: CustomerId,
    /// Which run.
    pub progress_id: ProgressId,
    /// Which action.
    pub action_id: ActionId,
    /// The run's timeline.
    pub timeline_id: TimelineId,
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
    /// Why, for what was not carried out.
    pub reason: Option<ExecutionReason>,
    /// The provider's id of the message.
    pub provider_id: Option<String>,
    /// Why, for people.
    pub detail: Option<String>,
    /// Which revision of the content was sent.
    pub content_revision: Option<i64>,
    /// What the provider reported of it later.
    pub provider_state: Option<ProviderState>,
    /// When a report told what came of it, where that was unknown until then.
    pub resolved_at: Option<Timestamp>,
}

impl Execution {
    /// Which attempt it is.
    pub fn key(&self) -> AttemptKey {
        AttemptKey {
            customer_id: self.customer_id.clone(),
            progress_id: self.progress_id,
            action_id: self.action_id,
            attempt: self.attempt,
        }
    }
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
    /// A task that somebody has now. What comes of it is in an entry with a higher attempt.
    HandedOver,
}

impl ExecutionOutcome {
    const ALL: [Self; 7] = [
        Self::Completed,
        Self::Skipped,
        Self::Failed,
        Self::Retrying,
        Self::Unknown,
        Self::Expired,
        Self::HandedOver,
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
            Self::HandedOver => "handed_over",
        }
    }

    /// Whether the attempt is a dead letter: it was the last, and the customer did not get it, or perhaps did not.
    pub fn is_dead(self) -> bool {
        match self {
            Self::Failed | Self::Unknown => true,
            Self::Completed | Self::Skipped | Self::Retrying | Self::Expired | Self::HandedOver => false,
        }
    }
}

/// Why an action was not carried out, or what came of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExecutionReason {
    /// It was decided against: outcomes `Skipped` and `Expired`.
    Skip(SkipReason),
    /// The attempt failed: outcomes `Failed`, `Retrying` and `Unknown`.
    Failure(FailureReason),
    /// Somebody reported a task: outcome `Completed`.
    Task(TaskOutcome),
}

impl ExecutionReason {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skip(reason) => reason.as_str(),
            Self::Failure(reason) => reason.as_str(),
            Self::Task(outcome) => outcome.as_str(),
        }
    }

    /// The reason of a word that stands with this outcome.
    fn parse(outcome: ExecutionOutcome, word: &str) -> Option<Self> {
        match outcome {
            ExecutionOutcome::Completed => TaskOutcome::parse(word).map(Self::Task),
            ExecutionOutcome::HandedOver => None,
            ExecutionOutcome::Skipped | ExecutionOutcome::Expired => SkipReason::parse(word).map(Self::Skip),
            ExecutionOutcome::Failed | ExecutionOutcome::Retrying | ExecutionOutcome::Unknown => {
                FailureReason::parse(word).map(Self::Failure)
            }
        }
    }
}

/// Which entries to list.
#[derive(Debug, Clone, Default)]
pub struct ExecutionFilter {
    /// Only of this customer.
    pub customer_id: Option<CustomerId>,
    /// Only of this run.
    pub progress_id: Option<ProgressId>,
    /// Only of runs of this timeline.
    pub timeline_id: Option<TimelineId>,
    /// Only with one of these outcomes; none means any.
    pub outcomes: Vec<ExecutionOutcome>,
    /// Only those that ended at this instant or later.
    pub finished_from: Option<Timestamp>,
    /// Only those that ended before this instant.
    pub finished_until: Option<Timestamp>,
}

/// Where an entry stands among all: by customer, run, action, attempt.
pub type ExecutionKey = (String, i64, i64, i32);

row! {
    pub(super) const COLUMNS;
    /// An entry.
    pub(super) struct Row of "e" {
        customer_id: String,
        progress_id: i64,
        action_id: i64,
        campaign_timeline_id: i64,
        attempt: i32,
        due_at: Timestamp,
        started_at: Timestamp,
        finished_at: Timestamp,
        channel: String,
        outcome: String,
        reason: Option<String>,
        provider_id: Option<String>,
        detail: Option<String>,
        content_revision: Option<i64>,
        provider_status: Option<String>,
        provider_error_code: Option<String>,
        provider_status_at: Option<Timestamp>,
        resolved_at: Option<Timestamp>,
    }
}

impl<C: ConnectionTrait> Session<C> {
    /// The last entry for each action of some runs of customers, in order of time.
    pub async fn last_executions(&self, runs: &[(CustomerId, ProgressId)]) -> Result<Vec<Execution>, StoreError> {
        let mut batch = Batch::new(&[("customer_id", Col::Text), ("progress_id", Col::BigInt)]);
        for (customer_id, progress_id) in runs {
            batch.push([customer_id.as_str().into(), progress_id.0.into()]);
        }
        let mut found = Vec::new();
        for part in self.parts(batch, &[]) {
            let sql = format!(
                "select {COLUMNS} \
                 from {} join action_executions e on e.customer_id = u.customer_id and e.progress_id = u.progress_id \
                 where not exists (select 1 from action_executions later where later.customer_id = e.customer_id \
                 and later.progress_id = e.progress_id and later.action_id = e.action_id and later.attempt > e.attempt) {} \
                 order by e.finished_at, e.action_id",
                part.table,
                part.only("e.customer_id")
            );
            found.extend(self.rows::<Row>(&sql, part.values).await?);
        }
        let mut found: Vec<Execution> = found.into_iter().map(Row::into_execution).collect::<Result<_, _>>()?;
        found.sort_by_key(|execution| (execution.finished_at, execution.action_id));
        Ok(found)
    }

    /// A page of entries, by customer, run, action and attempt.
    pub async fn executions(
        &self,
        filter: &ExecutionFilter,
        page: &Page<ExecutionKey>,
    ) -> Result<Vec<Execution>, StoreError> {
        let (condition, values) = filter.condition(page.after.clone());
        let sql = format!(
            "select {COLUMNS} from action_executions e where {condition} \
             order by e.customer_id, e.progress_id, e.action_id, e.attempt limit {}",
            page.size
        );
        self.rows::<Row>(&sql, values)
            .await?
            .into_iter()
            .map(Row::into_execution)
            .collect()
    }
}

impl ExecutionFilter {
    /// The condition on `e` for what comes after a key, and its parameters. Outcomes are literals, and what asks for the dead
    /// letters alone says so in the words of their index, or else neither database would use it.
    pub(super) fn condition(&self, after: Option<ExecutionKey>) -> (String, Vec<Value>) {
        let mut condition = String::from("(e.customer_id, e.progress_id, e.action_id, e.attempt) > ($1, $2, $3, $4)");
        let (customer, run, action, attempt) = after.unwrap_or_default();
        let mut values = values![customer, run, action, attempt];
        if self.is_dead_only() {
            condition.push_str(" and e.outcome in ('failed', 'unknown')");
        }
        if !self.outcomes.is_empty() {
            let words: Vec<String> = self
                .outcomes
                .iter()
                .map(|outcome| format!("'{}'", outcome.as_str()))
                .collect();
            let _ = write!(condition, " and e.outcome in ({})", words.join(", "));
        }
        let mut also = |test: &str, value: Value| {
            values.push(value);
            let _ = write!(condition, " and {test} ${}", values.len());
        };
        if let Some(customer) = &self.customer_id {
            also("e.customer_id =", customer.as_str().into());
        }
        if let Some(run) = self.progress_id {
            also("e.progress_id =", run.0.into());
        }
        if let Some(timeline) = self.timeline_id {
            also("e.campaign_timeline_id =", timeline.0.into());
        }
        if let Some(from) = self.finished_from {
            also("e.finished_at >=", from.into());
        }
        if let Some(until) = self.finished_until {
            also("e.finished_at <", until.into());
        }
        (condition, values)
    }

    /// Whether it asks for the dead letters alone.
    fn is_dead_only(&self) -> bool {
        !self.outcomes.is_empty() && self.outcomes.iter().all(|outcome| outcome.is_dead())
    }
}

impl Txn {
    /// Adds entries. Those of one action have different attempts. [`StoreError::Duplicate`] when one of them is there already, and
    /// then this transaction can do no more; [`Self::insert_missing_executions`] can, and takes PostgreSQL half as long again.
    pub async fn insert_executions(&self, executions: &[Execution]) -> Result<(), StoreError> {
        self.insert_entries(executions, "").await.map(drop)
    }

    /// Adds entries. One that is there already, as it is in a database that was put together from two backups, stays as it is: it must
    /// not hold up all that are recorded with it.
    pub async fn insert_missing_executions(&self, executions: &[Execution]) -> Result<(), StoreError> {
        // SQLite takes ON CONFLICT after a SELECT for a join condition unless there is a WHERE before it.
        let missing = "where true on conflict (customer_id, progress_id, action_id, attempt) do nothing";
        let added = self.insert_entries(executions, missing).await?;
        let known = (executions.len() as u64).saturating_sub(added);
        if known > 0 {
            tracing::error!(
                known,
                "{known} of {} attempts were in action_executions already, though their runs did not know of them; they stay as \
                 they are there",
                executions.len()
            );
        }
        Ok(())
    }

    /// Adds entries, and says how many.
    async fn insert_entries(&self, executions: &[Execution], condition: &str) -> Result<u64, StoreError> {
        let mut batch = Batch::new(&[
            ("customer_id", Col::Text),
            ("progress_id", Col::BigInt),
            ("action_id", Col::BigInt),
            ("campaign_timeline_id", Col::BigInt),
            ("attempt", Col::Int),
            ("due_at", Col::Time),
            ("started_at", Col::Time),
            ("finished_at", Col::Time),
            ("channel", Col::Text),
            ("outcome", Col::Text),
            ("reason", Col::Text),
            ("provider_id", Col::Text),
            ("detail", Col::Text),
            ("content_revision", Col::BigInt),
            ("provider_status", Col::Text),
            ("provider_error_code", Col::Text),
            ("provider_status_at", Col::Time),
        ]);
        for execution in executions {
            let state = execution.provider_state.as_ref();
            batch.push([
                execution.customer_id.as_str().into(),
                execution.progress_id.0.into(),
                execution.action_id.0.into(),
                execution.timeline_id.0.into(),
                i32::try_from(execution.attempt).unwrap_or(i32::MAX).into(),
                execution.due_at.into(),
                execution.started_at.into(),
                execution.finished_at.into(),
                execution.channel.as_str().into(),
                execution.outcome.as_str().into(),
                Cell::from(execution.reason.map(ExecutionReason::as_str)),
                Cell::from(execution.provider_id.as_deref()),
                Cell::from(execution.detail.as_deref()),
                execution.content_revision.into(),
                Cell::from(state.map(|state| state.status.as_str())),
                Cell::from(state.and_then(|state| state.error_code.as_deref())),
                Cell::from(state.map(|state| state.at)),
            ]);
        }
        let columns = "customer_id, progress_id, action_id, campaign_timeline_id, attempt, due_at, started_at, finished_at, channel, \
                       outcome, reason, provider_id, detail, content_revision, provider_status, provider_error_code, \
                       provider_status_at";
        let mut added = 0;
        for Part { table, values, .. } in self.parts(batch, &[]) {
            let sql = format!("insert into action_executions ({columns}) select {columns} from {table} {condition}");
            added += self.execute(&sql, values).await?;
        }
        Ok(added)
    }
}

impl Txn {
    /// Whether all of these entries are there, and not others in their places; perhaps with what reports have told since.
    pub async fn has_executions(&self, executions: &[Execution]) -> Result<bool, StoreError> {
        let mut batch = Batch::new(&[
            ("customer_id", Col::Text),
            ("progress_id", Col::BigInt),
            ("action_id", Col::BigInt),
            ("attempt", Col::Int),
            ("started_at", Col::Time),
            ("finished_at", Col::Time),
            ("outcome", Col::Text),
            ("provider_id", Col::Text),
        ]);
        for execution in executions {
            batch.push([
                execution.customer_id.as_str().into(),
                execution.progress_id.0.into(),
                execution.action_id.0.into(),
                i32::try_from(execution.attempt).unwrap_or(i32::MAX).into(),
                execution.started_at.into(),
                execution.finished_at.into(),
                execution.outcome.as_str().into(),
                execution.provider_id.as_deref().unwrap_or_default().into(),
            ]);
        }
        let mut found = 0;
        for part in self.parts(batch, &[]) {
            let sql = format!(
                "select count(*) as n from {} join action_executions e on e.customer_id = u.customer_id \
                 and e.progress_id = u.progress_id and e.action_id = u.action_id and e.attempt = u.attempt \
                 and e.started_at = u.started_at and e.finished_at = u.finished_at \
                 and (e.outcome = u.outcome or e.resolved_at is not null) \
                 and (coalesce(e.provider_id, '') = u.provider_id or u.provider_id = '') {}",
                part.table,
                part.only("e.customer_id")
            );
            let in_part: Option<Number> = self.row(&sql, part.values).await?;
            found += in_part.map_or(0, |found| found.n.unsigned_abs());
        }
        Ok(found == executions.len() as u64)
    }
}

impl Row {
    pub(super) fn into_execution(self) -> Result<Execution, StoreError> {
        let corrupt = |what: String| StoreError::corrupt("action_executions", self.progress_id, what);
        let channel = Channel::ALL.into_iter().find(|known| known.as_str() == self.channel);
        let outcome = ExecutionOutcome::ALL
            .into_iter()
            .find(|known| known.as_str() == self.outcome);
        let outcome = outcome.ok_or_else(|| corrupt(format!("outcome {}", self.outcome)))?;
        let reason = match self.reason.as_deref() {
            None => None,
            Some(word) => {
                let reason = ExecutionReason::parse(outcome, word);
                Some(reason.ok_or_else(|| corrupt(format!("reason {word} of {}", self.outcome)))?)
            }
        };
        let status = self.provider_status.as_deref().and_then(ProviderStatus::parse);
        let provider_state = status.zip(self.provider_status_at).map(|(status, at)| ProviderState {
            status,
            error_code: self.provider_error_code,
            at,
        });
        Ok(Execution {
            customer_id: CustomerId::parse(&self.customer_id).map_err(|error| corrupt(error.to_string()))?,
            progress_id: ProgressId(self.progress_id),
            action_id: ActionId(self.action_id),
            timeline_id: TimelineId(self.campaign_timeline_id),
            attempt: self.attempt.unsigned_abs(),
            due_at: self.due_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            channel: channel.ok_or_else(|| corrupt(format!("channel {}", self.channel)))?,
            outcome,
            reason,
            provider_id: self.provider_id,
            detail: self.detail,
            content_revision: self.content_revision,
            provider_state,
            resolved_at: self.resolved_at,
        })
    }
}
