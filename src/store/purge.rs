//! Taking away what is old: entries of the ledger, events, ticks. The runs stay, with all that they say about their actions.
//!
//! Nothing here has an index by age, which would cost each send; so whoever purges walks over the customers, and each statement
//! takes a bounded number of rows.

use sea_orm::FromQueryResult;

use super::advance::CustomerRange;
use super::session::values;
use super::{Reader, StoreError, Txn};
use crate::domain::Timestamp;

/// How many rows a statement takes away at most.
pub(crate) const PURGED_AT_ONCE: u64 = 2000;

#[derive(FromQueryResult)]
struct UntilRow {
    until: Option<String>,
}

impl Reader {
    /// The next customers after one that have events, `size` events of them.
    pub async fn next_range_of_events(&self, after: &str, size: usize) -> Result<Option<CustomerRange>, StoreError> {
        let sql = format!(
            "select max(e.customer_id) as until from (select customer_id from engagement_events where customer_id > $1 \
             order by customer_id limit {size}) e"
        );
        let row: Option<UntilRow> = self.row(&sql, values![after]).await?;
        Ok(row.and_then(|row| row.until).map(|until| CustomerRange {
            after: after.to_owned(),
            until,
        }))
    }
}

impl Txn {
    /// Takes away entries of the ledger of runs that ended before an instant, [`PURGED_AT_ONCE`] at most. Says how many.
    pub async fn purge_executions(&self, range: &CustomerRange, before: Timestamp) -> Result<u64, StoreError> {
        let sql = format!(
            "delete from action_executions where customer_id > $1 and customer_id <= $2 \
             and (customer_id, progress_id, action_id, attempt) in (\
             select e.customer_id, e.progress_id, e.action_id, e.attempt from action_executions e \
             join customer_timeline_progress p on p.customer_id = e.customer_id and p.id = e.progress_id \
             where e.customer_id > $1 and e.customer_id <= $2 and p.ended_at < $3 and p.lease_token is null \
             limit {PURGED_AT_ONCE})"
        );
        self.execute(&sql, values![range.after.as_str(), range.until.as_str(), before])
            .await
    }

    /// Takes away events that happened and came in before an instant, [`PURGED_AT_ONCE`] at most. Says how many.
    pub async fn purge_engagements(&self, range: &CustomerRange, before: Timestamp) -> Result<u64, StoreError> {
        let sql = format!(
            "delete from engagement_events where customer_id > $1 and customer_id <= $2 and (customer_id, event_id) in (\
             select customer_id, event_id from engagement_events \
             where customer_id > $1 and customer_id <= $2 and occurred_at < $3 and received_at < $3 limit {PURGED_AT_ONCE})"
        );
        self.execute(&sql, values![range.after.as_str(), range.until.as_str(), before])
            .await
    }

    /// Takes away ticks that began before an instant, but for the last of each kind, [`PURGED_AT_ONCE`] at most. Says how many.
    pub async fn purge_ticks(&self, before: Timestamp) -> Result<u64, StoreError> {
        let sql = format!(
            "delete from tick_runs where id in (select id from tick_runs where started_at < $1 \
             and id not in (select max(id) from tick_runs group by kind) order by id limit {PURGED_AT_ONCE})"
        );
        self.execute(&sql, values![before]).await
    }
}
