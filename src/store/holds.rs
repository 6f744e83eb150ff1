//! `sending_holds`: what operators hold. There are few, and each claim reads them all.
//!
//! A hold and a claim exclude each other: a claim holds a lock that all claims share (`Txn::hold_timeline`) before it reads the
//! holds, and whoever sets or releases one takes that lock alone. So no claim commits after a hold that did not see it, and none
//! puts an action off after the hold on it was released.

use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult};

use super::advance::CustomerRange;
use super::broken::BrokenRun;
use super::progress;
use super::session::{Session, values};
use super::{Page, StoreError, Txn};
use crate::domain::{HoldScope, ProgressId, Run, SendingHold, SendingHolds, Timestamp};

const TABLE: &str = "sending_holds";

const COLUMNS: &str = "scope, reason, started_at, end_at, updated_at";

/// Any number, the same for all servers on a database.
pub(super) const HOLDS_LOCK: i64 = 7_270_010_452;

/// Runs in which a hold or a circuit has put something off, in the order of customer and id.
#[derive(Debug, Default)]
pub struct PutOffRuns {
    /// Those that can be read.
    pub runs: Vec<Run>,
    /// Those among them that can't.
    pub broken: Vec<BrokenRun>,
    /// The key of the last of all; none: none was found.
    pub last: Option<(String, ProgressId)>,
}

#[derive(FromQueryResult)]
struct Row {
    scope: String,
    reason: String,
    started_at: Timestamp,
    end_at: Option<Timestamp>,
    updated_at: Timestamp,
}

impl<C: ConnectionTrait> Session<C> {
    /// All holds: those in force, and those whose time is over while runs wait for it still.
    pub async fn sending_holds(&self) -> Result<SendingHolds, StoreError> {
        let sql = format!("select {COLUMNS} from {TABLE} order by scope");
        let rows: Vec<Row> = self.rows(&sql, vec![]).await?;
        let holds: Result<Vec<SendingHold>, StoreError> = rows.into_iter().map(Row::into_hold).collect();
        Ok(SendingHolds::new(holds?))
    }

    /// A page of the holds in force, by scope.
    pub async fn holds_in_force(&self, page: &Page<String>, now: Timestamp) -> Result<Vec<SendingHold>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from {TABLE} where scope > $1 and (end_at is null or end_at > $2) order by scope limit {}",
            page.size
        );
        let after = page.after.as_deref().unwrap_or_default();
        let rows: Vec<Row> = self.rows(&sql, values![after, now]).await?;
        rows.into_iter().map(Row::into_hold).collect()
    }
}

impl Txn {
    /// Waits for claims that are about to commit, and makes new ones wait for the end of this transaction.
    pub async fn lock_holds(&self) -> Result<(), StoreError> {
        // `SQLite` has one writer at a time anyway.
        if self.backend == DbBackend::Postgres {
            self.execute(&format!("select pg_advisory_xact_lock({HOLDS_LOCK})"), vec![])
                .await?;
        }
        Ok(())
    }

    /// Stores a hold. One in force on the same scope is replaced, but for when it began.
    pub async fn put_hold(&self, hold: &SendingHold) -> Result<SendingHold, StoreError> {
        let sql = format!(
            "insert into {TABLE} ({COLUMNS}) values ($1, $2, $3, $4, $5) on conflict (scope) do update set \
             started_at = case when {TABLE}.end_at <= excluded.updated_at then excluded.started_at else {TABLE}.started_at end, \
             reason = excluded.reason, end_at = excluded.end_at, updated_at = excluded.updated_at returning {COLUMNS}"
        );
        let (scope, reason) = (hold.scope.to_string(), hold.reason.as_str());
        let row: Option<Row> = self
            .row(
                &sql,
                values![scope.clone(), reason, hold.started_at, hold.end_at, hold.updated_at],
            )
            .await?;
        row.ok_or_else(|| StoreError::corrupt(TABLE, scope, "is not stored"))?
            .into_hold()
    }

    /// Ends a hold that is in force; none: there is no such hold.
    pub async fn end_hold(&self, scope: &HoldScope, now: Timestamp) -> Result<Option<SendingHold>, StoreError> {
        let sql = format!(
            "update {TABLE} set end_at = $2, updated_at = $2 where scope = $1 and (end_at is null or end_at > $2) \
             returning {COLUMNS}"
        );
        let row: Option<Row> = self.row(&sql, values![scope.to_string(), now]).await?;
        row.map(Row::into_hold).transpose()
    }

    /// Forgets a hold for which no run waits any more, unless it was set again.
    pub async fn forget_hold(&self, hold: &SendingHold) -> Result<(), StoreError> {
        let sql = format!("delete from {TABLE} where scope = $1 and end_at = $2 and updated_at = $3");
        self.execute(&sql, values![hold.scope.to_string(), hold.end_at, hold.updated_at])
            .await?;
        Ok(())
    }

    /// At most `limit` active runs of a range after a key in which a hold or a circuit has put something off, locked, in the order
    /// of customer and id.
    pub async fn put_off_runs_for_update(
        &self,
        range: &CustomerRange,
        after: (&str, ProgressId),
        limit: usize,
    ) -> Result<PutOffRuns, StoreError> {
        let is_put_off = self.pick(
            "(p.deferred_actions @> '[{\"reason\": \"sending_held\"}]' or p.deferred_actions @> '[{\"reason\": \"channel_unavailable\"}]')",
            "(p.deferred_actions like '%\"sending_held\"%' or p.deferred_actions like '%\"channel_unavailable\"%')",
        );
        let condition = format!(
            "p.customer_id > $1 and p.customer_id <= $2 and (p.customer_id, p.id) > ($3, $4) and p.status = 'active' and {is_put_off}"
        );
        let order = format!("order by p.customer_id, p.id limit {limit}");
        let values = values![range.after.as_str(), range.until.as_str(), after.0, after.1.0];
        let locked = self.lock_runs(&condition, &order, "", &values).await?;
        let mut found = PutOffRuns::default();
        for run in locked.rows.iter().map(progress::read_run) {
            match run {
                Ok(run) => {
                    found.last = Some((run.customer_id.to_string(), run.id));
                    found.runs.push(run);
                }
                Err(broken) => {
                    found.last = Some((broken.customer_id.clone(), broken.id));
                    found.broken.push(broken);
                }
            }
        }
        Ok(found)
    }
}

impl Row {
    fn into_hold(self) -> Result<SendingHold, StoreError> {
        let scope = HoldScope::parse(&self.scope);
        Ok(SendingHold {
            scope: scope.map_err(|error| StoreError::corrupt(TABLE, &self.scope, error))?,
            reason: self.reason,
            started_at: self.started_at,
            end_at: self.end_at,
            updated_at: self.updated_at,
        })
    }
}
