//! What people report of tasks, in `customer_timeline_progress`.
//!
//! The one column of actions that is written by others than whoever holds the run. So nothing that is recorded meanwhile can undo
//! it, and `is_woken` has the run looked at again right after.

use serde_json::json;

use super::progress::TABLE;
use super::session::values;
use super::{StoreError, Txn};
use crate::domain::Run;

impl Txn {
    /// Stores the reports of a run, and its wake-up. The run must be locked by this transaction.
    pub async fn put_task_reports(&self, run: &Run) -> Result<(), StoreError> {
        let sql = format!(
            "update {TABLE} set task_reports = $3, next_action_at = $4, updated_at = $5, is_woken = lease_token is not null \
             where customer_id = $1 and id = $2"
        );
        let values = values![
            run.customer_id.as_str(),
            run.id.0,
            json!(run.task_reports),
            run.next_action_at,
            run.updated_at,
        ];
        let changed = self.execute(&sql, values).await?;
        if changed != 1 {
            let what = format!("{changed} rows changed in place of one");
            return Err(StoreError::corrupt(TABLE, run.id, what));
        }
        Ok(())
    }
}
