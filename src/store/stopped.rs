//! `stopped_in_flight`: runs that were stopped while messages of them were under way.
//!
//! No tick takes up a run that is over, so one whose sender dies is found here. A paused one is found when it is resumed.

use sea_orm::FromQueryResult;

use super::progress::TABLE;
use super::session::values;
use super::{CustomerRange, Reader, StoreError, Txn};
use crate::domain::{ProgressId, Run, Status, TimelineId, Timestamp};

#[derive(FromQueryResult)]
struct StoppedRow {
    customer_id: String,
    progress_id: i64,
}

impl Reader {
    /// Runs that were stopped under a lease that was to end by now, the oldest first, with their customers' ids as they are
    /// stored.
    pub async fn stopped_in_flight(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(String, ProgressId)>, StoreError> {
        let sql = format!(
            "select customer_id, progress_id from stopped_in_flight where lease_expires_at <= $1 \
             order by lease_expires_at limit {limit}"
        );
        let rows: Vec<StoppedRow> = self.rows(&sql, values![now]).await?;
        let found = rows
            .into_iter()
            .map(|row| (row.customer_id, ProgressId(row.progress_id)));
        Ok(found.collect())
    }
}

impl Txn {
    /// Notes that a run is stopped under a lease, to be looked at when that is over.
    pub(super) async fn note_stopped_run(&self, run: &Run) -> Result<(), StoreError> {
        let Some(lease) = run.lease.filter(|_| run.status == Status::Stopped) else {
            return Ok(());
        };
        self.look_again(run.customer_id.as_str(), run.id, lease.expires_at)
            .await
    }

    /// Looks at a stopped run at another time.
    pub async fn look_again(&self, customer: &str, id: ProgressId, at: Timestamp) -> Result<(), StoreError> {
        let sql = "insert into stopped_in_flight (customer_id, progress_id, lease_expires_at) values ($1, $2, $3) \
                   on conflict (customer_id, progress_id) do update set lease_expires_at = excluded.lease_expires_at";
        self.execute(sql, values![customer, id.0, at]).await?;
        Ok(())
    }

    /// Notes the same of the runs of a timeline within a range that are about to be stopped.
    pub(super) async fn note_all_stopped(&self, id: TimelineId, range: &CustomerRange) -> Result<(), StoreError> {
        let sql = format!(
            "insert into stopped_in_flight (customer_id, progress_id, lease_expires_at) \
             select customer_id, id, lease_expires_at from {TABLE} where customer_id > $1 and customer_id <= $2 \
             and campaign_timeline_id = $3 and status in ('active', 'paused') and lease_expires_at is not null \
             on conflict (customer_id, progress_id) do nothing"
        );
        let values = values![range.after.as_str(), range.until.as_str(), id.0];
        self.execute(&sql, values).await?;
        Ok(())
    }

    /// Forgets a run that was stopped.
    pub async fn forget_stopped(&self, customer: &str, id: ProgressId) -> Result<(), StoreError> {
        let sql = "delete from stopped_in_flight where customer_id = $1 and progress_id = $2";
        self.execute(sql, values![customer, id.0]).await?;
        Ok(())
    }
}
