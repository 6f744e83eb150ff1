//! Dead letters: actions whose last attempt failed for good or has an unknown outcome, and making them pending again.
//!
//! The ledger's index of dead letters finds them. Whether one is dead still, its run alone knows.

use sea_orm::{ConnectionTrait, FromQueryResult, QueryResult};

use super::batch::{Batch, Cell, Col};
use super::broken::{ReadRun, read, value};
use super::executions::{ExecutionFilter, ExecutionKey};
use super::progress::{COLUMNS, TABLE, parsed};
use super::session::Session;
use super::{Page, StoreError, Txn};
use crate::domain::{ActionId, CustomerId, Failed, FailureState, ProgressId, Run, Status, Timestamp};

/// An action whose last attempt failed for good, or has an unknown outcome.
#[derive(Debug, Clone)]
pub struct DeadAction {
    /// Whose run.
    pub customer_id: CustomerId,
    /// Which run.
    pub progress_id: ProgressId,
    /// Which action.
    pub action_id: ActionId,
    /// Which attempt was the last.
    pub attempt: i32,
    /// What the run says of it now; none: it is among its failed actions no more, or the run can't be read.
    pub state: Option<FailureState>,
    /// Whether the run is live, and its timeline not archived.
    pub is_live: bool,
    /// Whether somebody holds the run.
    pub is_held: bool,
    /// Whether the action was removed from its timeline.
    pub is_removed: bool,
}

#[derive(FromQueryResult)]
struct Row {
    customer_id: String,
    progress_id: i64,
    action_id: i64,
    attempt: i32,
    status: String,
    lease_token: Option<i64>,
    removed_at: Option<Timestamp>,
    archived_at: Option<Timestamp>,
}

impl<C: ConnectionTrait> Session<C> {
    /// A page of dead letters, by customer, run and action. The filter names dead outcomes alone. `keys`: only actions with
    /// one of these keys; none means any.
    pub async fn dead_actions(
        &self,
        filter: &ExecutionFilter,
        keys: &[String],
        page: &Page<ExecutionKey>,
    ) -> Result<Vec<DeadAction>, StoreError> {
        let (condition, mut values) = filter.condition(page.after.clone());
        let mut wanted = Batch::new(&[("key", Col::Text)]);
        for key in keys {
            wanted.push([key.as_str().into()]);
        }
        let mut of_keys = String::new();
        if !wanted.is_empty() {
            let (table, keys) = wanted.bind(self.backend, values.len() + 1);
            of_keys = format!("and a.key in (select u.key from {table})");
            values.extend(keys);
        }
        let sql = format!(
            "select e.customer_id, e.progress_id, e.action_id, e.attempt, p.status, p.lease_token, cast(p.failed_actions as text) as failed_actions, a.removed_at, \
             t.archived_at \
             from action_executions e join {TABLE} p on p.customer_id = e.customer_id and p.id = e.progress_id \
             join campaign_timeline_actions a on a.id = e.action_id \
             join campaign_timelines t on t.id = e.campaign_timeline_id \
             where {condition} {of_keys} and not exists (select 1 from action_executions later \
             where later.customer_id = e.customer_id and later.progress_id = e.progress_id and later.action_id = e.action_id \
             and later.attempt > e.attempt) order by e.customer_id, e.progress_id, e.action_id, e.attempt limit {}",
            page.size
        );
        let dead = |row: &QueryResult| {
            // What can't be read is not tried again, and holds up no other.
            let failed = value::<String>(row, "failed_actions")
                .and_then(|json| parsed::<Vec<Failed>>("failed_actions", &json).ok());
            let known: Row =
                read(row).map_err(|what| StoreError::corrupt("action_executions", "of dead letters", what))?;
            known.into_dead(&failed.unwrap_or_default())
        };
        self.raw_rows(&sql, values).await?.iter().map(dead).collect()
    }
}

impl Txn {
    /// Some runs of customers, as far as they can be read, locked in the order of customer and id.
    pub async fn runs_for_update(&self, runs: &[(CustomerId, ProgressId)]) -> Result<Vec<ReadRun>, StoreError> {
        let mut batch = Batch::new(&[("customer", Col::Text), ("run_id", Col::BigInt)]);
        for (customer, run) in runs {
            batch.push([customer.as_str().into(), run.0.into()]);
        }
        let mut found = Vec::new();
        for part in self.parts(batch, &[]) {
            let sql = format!(
                "select {COLUMNS} from {} join {TABLE} p on p.customer_id = u.customer and p.id = u.run_id {} \
                 order by p.customer_id, p.id {}",
                part.table,
                part.only("p.customer_id"),
                self.pick("for update of p", "")
            );
            found.extend(self.read_runs(&sql, part.values).await?);
        }
        Ok(found)
    }

    /// Stores the failed actions and the wake-ups of runs that nobody holds. The runs must be locked by this transaction.
    pub async fn put_failed(&self, runs: &[Run]) -> Result<(), StoreError> {
        let mut batch = Batch::new(&[
            ("customer", Col::Text),
            ("run_id", Col::BigInt),
            ("failed", Col::Json),
            ("wake", Col::Time),
            ("updated", Col::Time),
        ]);
        for run in runs {
            batch.push([
                run.customer_id.as_str().into(),
                run.id.0.into(),
                Cell::json(&run.failed),
                run.next_action_at.into(),
                run.updated_at.into(),
            ]);
        }
        let mut changed = 0;
        for part in self.parts(batch, &[]) {
            let sql = format!(
                "update {TABLE} as p set failed_actions = u.failed, next_action_at = u.wake, updated_at = u.updated \
                 from {} where p.customer_id = u.customer and p.id = u.run_id and p.lease_token is null {}",
                part.table,
                part.only("p.customer_id")
            );
            changed += self.execute(&sql, part.values).await?;
        }
        if changed != runs.len() as u64 {
            let what = format!("{changed} rows changed in place of {}", runs.len());
            return Err(StoreError::corrupt(TABLE, "of retried actions", what));
        }
        Ok(())
    }
}

impl Row {
    fn into_dead(self, failed: &[Failed]) -> Result<DeadAction, StoreError> {
        let corrupt = |what: String| StoreError::corrupt(TABLE, self.progress_id, what);
        let status = Status::ALL.into_iter().find(|known| known.as_str() == self.status);
        let state = failed.iter().find(|failed| failed.id.0 == self.action_id);
        Ok(DeadAction {
            customer_id: CustomerId::parse(&self.customer_id).map_err(|error| corrupt(error.to_string()))?,
            progress_id: ProgressId(self.progress_id),
            action_id: ActionId(self.action_id),
            attempt: self.attempt,
            state: state.map(|failed| failed.state),
            is_live: status.is_some_and(Status::is_live) && self.archived_at.is_none(),
            is_held: self.lease_token.is_some(),
            is_removed: self.removed_at.is_some(),
        })
    }
}
