//! After a backup was restored: ending what may have been sent since it was taken, before any server starts.
//!
//! In batches, each a transaction of its own. A run that was fenced is not touched again by the same fence, so that one which broke
//! off is simply run once more.

use std::collections::HashMap;

use super::EngineError;
use super::decided::{count_decision, entry};
use super::facts::BatchFacts;
use crate::domain::fence::{Fence, Fenced, FencedTimeline};
use crate::domain::{Run, TickCounts, TimelineId, Timestamp};
use crate::store::{CustomerRange, Execution, Store, StoreError, Txn};

/// How many runs are looked at in one transaction.
const CHUNK: usize = 500;

/// What to fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FenceRuns {
    /// Until when the service may have sent: when it was last known to be up.
    pub before: Timestamp,
    /// Whether messages that may go twice by their channel's policy, such as mails, are sent again.
    pub resend: bool,
    /// Whether nothing is changed.
    pub dry_run: bool,
}

/// What was fenced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FenceReport {
    /// The last tick that the backup knows of.
    pub last_tick: Option<Timestamp>,
    /// A tick at or after the instant: a server has run since the backup was restored, or the instant is before the backup.
    pub tick_since: Option<Timestamp>,
    /// How many runs were looked at.
    pub runs: u64,
    /// How many of them had something due.
    pub changed: u64,
    /// What was decided, by channel, and how many came to another day or to their end.
    pub counts: TickCounts,
}

/// Fences all runs. No server may be running on the database.
pub async fn fence_runs(store: &Store, command: FenceRuns) -> Result<FenceReport, EngineError> {
    let ticks = store.reader().ticks_around(command.before).await?;
    let fence = Fence {
        before: command.before,
        last_tick: ticks.before.unwrap_or(Timestamp::UNIX_EPOCH),
        resend: command.resend,
    };
    let mut report = FenceReport {
        last_tick: ticks.before,
        tick_since: ticks.since,
        ..FenceReport::default()
    };
    let mut after = String::new();
    while let Some(range) = store.reader().next_range(&after, CHUNK).await? {
        let txn = store.begin().await?;
        fence_range(&txn, &range, fence, &mut report).await?;
        if !command.dry_run {
            txn.commit().await?;
        }
        after = range.until;
    }
    Ok(report)
}

async fn fence_range(
    txn: &Txn,
    range: &CustomerRange,
    fence: Fence,
    report: &mut FenceReport,
) -> Result<(), EngineError> {
    let mut of_timelines: HashMap<TimelineId, Vec<Run>> = HashMap::new();
    for run in txn.runs_to_fence(range, fence.before).await? {
        report.runs += 1;
        of_timelines.entry(run.timeline_id).or_default().push(run);
    }
    let (mut changed, mut ledger): (Vec<Run>, Vec<Execution>) = (Vec::new(), Vec::new());
    for (id, runs) in of_timelines {
        let Some(timeline) = txn.timeline(id).await? else {
            continue;
        };
        let asked = timeline.asked();
        let (customers, engagements) = txn.known_of(&runs, &asked, None, fence.before).await?;
        // A suppression may have come after a message, so what may have gone stays unknown.
        let known = BatchFacts::gather(&timeline, asked, customers, engagements).with_nobody_suppressed();
        let fenced_timeline = FencedTimeline::new(timeline.clone(), fence);
        for run in &runs {
            let facts = known.of(run).map_err(StoreError::BrokenRun)?;
            let Some(Fenced { run: fenced, decisions }) = fenced_timeline.fence(run, &facts) else {
                continue;
            };
            report.counts.advanced_runs += u64::from(fenced.current_day != run.current_day);
            report.counts.completed_runs += u64::from(fenced.status != run.status);
            for (at, decision) in &decisions {
                count_decision(&mut report.counts, &timeline, decision);
                ledger.extend(entry(&fenced, &timeline, decision, *at));
            }
            changed.push(fenced);
        }
    }
    report.changed += changed.len() as u64;
    txn.put_fenced(&changed, fence.before).await?;
    Ok(txn.insert_missing_executions(&ledger).await?)
}
