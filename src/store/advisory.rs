//! Locks on definitions where Citus has them on all nodes: there a row is locked with its whole table, and two that hold it
//! together, as claims do, lock each other out when either goes on. So the coordinator locks their numbers instead.

use super::session::values;
use super::{StoreError, Txn};
use crate::domain::{CampaignId, TimelineId, hashtext};

/// Any numbers, the same for all servers on a database.
const TIMELINES: i32 = 727_001_045;
const CAMPAIGNS: i32 = 727_001_046;

impl Txn {
    /// Holds a timeline as it is until the end of the transaction, together with others who do.
    pub(super) async fn share_number(&self, id: TimelineId) -> Result<(), StoreError> {
        self.lock_number("pg_advisory_xact_lock_shared", TIMELINES, of_timeline(id))
            .await
    }

    /// Waits for whoever holds a timeline, and makes others wait for the end of this transaction.
    pub(super) async fn take_number(&self, id: TimelineId) -> Result<(), StoreError> {
        self.lock_number("pg_advisory_xact_lock", TIMELINES, of_timeline(id))
            .await
    }

    /// The same for a campaign.
    pub(super) async fn take_number_of(&self, id: &CampaignId) -> Result<(), StoreError> {
        self.lock_number("pg_advisory_xact_lock", CAMPAIGNS, hashtext(id.as_str()))
            .await
    }

    async fn lock_number(&self, lock: &str, kind: i32, number: i32) -> Result<(), StoreError> {
        let sql = format!("select {lock}($1, $2)::text");
        self.raw_rows(&sql, values![kind, number]).await?;
        Ok(())
    }
}

/// Ids are given out one after the other, so that these are their own.
fn of_timeline(id: TimelineId) -> i32 {
    i32::try_from(id.0 % i64::from(i32::MAX)).unwrap_or_default()
}
