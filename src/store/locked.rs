//! Runs that are found by something else than their ids, and locked.
//!
//! Citus locks rows within one shard only. So there they are found first, and then those of each shard are locked, if they are as
//! they were found: what somebody else did to them meanwhile is seen with the lock.

use sea_orm::{QueryResult, Value};

use super::batch::{Batch, Col};
use super::broken::value;
use super::progress::{COLUMNS, TABLE};
use super::{StoreError, Txn};

/// Runs that were found and locked.
#[derive(Debug)]
pub(super) struct Locked {
    /// Those that are locked, in their order.
    pub(super) rows: Vec<QueryResult>,
    /// All that were found, locked or passed over, where the database says so.
    pub(super) found: Option<Vec<QueryResult>>,
}

impl Locked {
    /// What was gone over.
    pub(super) fn seen(&self) -> &[QueryResult] {
        self.found.as_ref().unwrap_or(&self.rows)
    }
}

impl Txn {
    /// Locks the runs `p` that a condition finds, in this order, which may have a LIMIT. `or_skip` is what is said of those that
    /// are locked already: SKIP LOCKED, or nothing.
    pub(super) async fn lock_runs(
        &self,
        condition: &str,
        order: &str,
        or_skip: &str,
        values: &[Value],
    ) -> Result<Locked, StoreError> {
        if !self.layout.is_distributed() {
            let lock = self.pick("for update of p", "");
            let or_skip = self.pick(or_skip, "");
            let sql = format!("select {COLUMNS} from {TABLE} p where {condition} {order} {lock} {or_skip}");
            let rows = self.raw_rows(&sql, values.to_vec()).await?;
            return Ok(Locked { rows, found: None });
        }
        let sql = format!("select p.customer_id, p.id, p.next_action_at from {TABLE} p where {condition} {order}");
        let found = self.raw_rows(&sql, values.to_vec()).await?;
        let mut batch = Batch::new(&[("customer", Col::Text), ("run_id", Col::BigInt), ("place", Col::Int)]);
        for (place, row) in (0_i32..).zip(&found) {
            let customer: String = value(row, "customer_id").unwrap_or_default();
            let run: i64 = value(row, "id").unwrap_or_default();
            batch.push([customer.into(), run.into(), place.into()]);
        }
        let mut rows = Vec::new();
        for part in self.parts(batch, values) {
            let sql = format!(
                "select {COLUMNS}, u.place from {} join {TABLE} p on p.customer_id = u.customer and p.id = u.run_id {} \
                 where {condition} order by p.customer_id, p.id for update of p {or_skip}",
                part.table,
                part.only("p.customer_id")
            );
            rows.extend(self.raw_rows(&sql, part.values).await?);
        }
        rows.sort_by_key(|row| value::<i32>(row, "place"));
        Ok(Locked {
            rows,
            found: Some(found),
        })
    }
}
