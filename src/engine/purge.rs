//! Taking away what is old, while servers work: in small transactions, with a rest after each as long as it took, so that at most half
//! of one connection's time goes into it.
//!
//! It keeps nothing in mind. One that breaks off has done a part, and the next one does the rest.

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::EngineError;
use crate::domain::Timestamp;
use crate::store::{PURGED_AT_ONCE, Store, StoreError, Txn};

/// How many customers, or events, a walk takes at a time.
const RANGE: usize = 500;

/// What was taken away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PurgeReport {
    /// Entries of the ledger of executions.
    pub executions: u64,
    /// Engagement events.
    pub engagements: u64,
    /// Ticks.
    pub ticks: u64,
    /// It was told to end before all was done.
    pub is_interrupted: bool,
}

/// Takes away entries of the ledger of runs that ended before an instant, and events and ticks from before it, until it is told to end.
pub async fn purge(store: &Store, before: Timestamp, told: &CancellationToken) -> Result<PurgeReport, EngineError> {
    let mut report = PurgeReport::default();
    let mut after = String::new();
    while !told.is_cancelled()
        && let Some(range) = store.reader().next_range(&after, RANGE).await?
    {
        report.executions += repeated(store, told, async |txn| txn.purge_executions(&range, before).await).await?;
        after = range.until;
    }
    let mut after = String::new();
    while !told.is_cancelled()
        && let Some(range) = store.reader().next_range_of_events(&after, RANGE).await?
    {
        report.engagements += repeated(store, told, async |txn| txn.purge_engagements(&range, before).await).await?;
        after = range.until;
    }
    report.ticks = repeated(store, told, async |txn| txn.purge_ticks(before).await).await?;
    report.is_interrupted = told.is_cancelled();
    Ok(report)
}

/// Does something until it finds no more than it does at once, or is told to end.
async fn repeated(
    store: &Store,
    told: &CancellationToken,
    purge: impl AsyncFn(&Txn) -> Result<u64, StoreError>,
) -> Result<u64, EngineError> {
    let mut all = 0;
    while !told.is_cancelled() {
        let begun = Instant::now();
        let txn = store.begin().await?;
        let purged = purge(&txn).await?;
        txn.commit().await?;
        all += purged;
        if purged < PURGED_AT_ONCE {
            break;
        }
        told.run_until_cancelled(tokio::time::sleep(begun.elapsed())).await;
    }
    Ok(all)
}
