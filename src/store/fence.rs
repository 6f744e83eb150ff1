//! Runs that come from a backup, many at a time: read, fenced, and written back without a lease.

use sea_orm::FromQueryResult;

use super::planned::{Extent, Planned};
use super::progress::{TABLE, read_run};
use super::session::values;
use super::{Before, CustomerRange, Reader, StoreError, Txn};
use crate::domain::{Run, Timestamp};

#[derive(FromQueryResult)]
struct TickRow {
    earlier: Option<Timestamp>,
    latest: Option<Timestamp>,
}

/// The ticks around an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TicksAround {
    /// When the last one before it began.
    pub before: Option<Timestamp>,
    /// When the last one from it on began.
    pub since: Option<Timestamp>,
}

impl Reader {
    /// The last ticks before an instant and from it on.
    pub async fn ticks_around(&self, at: Timestamp) -> Result<TicksAround, StoreError> {
        let sql = "select (select max(started_at) from tick_runs where started_at < $1) as earlier, \
                   (select max(started_at) from tick_runs where started_at >= $1) as latest";
        let row: Option<TickRow> = self.row(sql, values![at]).await?;
        Ok(TicksAround {
            before: row.as_ref().and_then(|row| row.earlier),
            since: row.and_then(|row| row.latest),
        })
    }
}

impl Txn {
    /// Runs of a range of customers that are live or held by somebody and were last changed before an instant, locked.
    pub async fn runs_to_fence(&self, range: &CustomerRange, before: Timestamp) -> Result<Vec<Run>, StoreError> {
        let condition = "p.customer_id > $1 and p.customer_id <= $2 and p.updated_at < $3 \
                         and (p.status in ('active', 'paused') or p.lease_token is not null)";
        let values = values![range.after.as_str(), range.until.as_str(), before];
        let runs = self
            .lock_runs(condition, "order by p.customer_id, p.id", "", &values)
            .await?;
        runs.rows
            .iter()
            .map(read_run)
            .collect::<Result<_, _>>()
            .map_err(StoreError::BrokenRun)
    }

    /// Stores runs that were fenced. The runs must be locked by this transaction.
    pub async fn put_fenced(&self, runs: &[Run], before: Timestamp) -> Result<(), StoreError> {
        // What was listed as skipped may not be any more.
        let mut planned = Planned::new(Extent::Whole);
        for run in runs {
            planned.push(&Before::of(run, 0), run, None);
        }
        let (mut changed, set) = (0, Extent::Whole.set());
        for part in planned.parts(self, before) {
            let sql = format!(
                "update {TABLE} as p set lease_token = null, lease_expires_at = null, {set}, not_before = u.begin_at, \
                 updated_at = $1, is_woken = false \
                 from {} where p.customer_id = u.customer and p.id = u.run_id {}",
                part.table,
                part.only("p.customer_id")
            );
            changed += self.execute(&sql, part.values).await?;
        }
        if changed != runs.len() as u64 {
            let what = format!("{changed} rows changed in place of {}", runs.len());
            return Err(StoreError::corrupt(TABLE, "of fenced runs", what));
        }
        Ok(())
    }
}
