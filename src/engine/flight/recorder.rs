//! Writing down what came of sends.
//!
//! Outcomes are recorded in groups: when 1000 are there, when nothing else is under way, or after two seconds, whichever is first;
//! after a tenth of a second where they hold permits to send.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

use super::{Recorded, Shared, count_outcome};
use crate::domain::ProgressId;
use crate::engine::claim::BATCH;
use crate::engine::lanes::START_WITHIN;
use crate::engine::sending::Served;
use crate::engine::{Engine, EngineError};
use crate::failpoint::{Failpoint, reach};
use crate::store::{Completion, Execution, Landed, StoreError, Unrecorded};
use crate::telemetry::{RunStep, run_step};

/// The most runs that are recorded in one transaction.
const GROUP: usize = BATCH;

/// How long an outcome waits for others that holds a permit to send.
const GATHER_PERMITS: Duration = Duration::from_millis(100);

/// How long an outcome waits for others: as long as the messages of a claim take to begin, so that a batch is recorded at once.
/// What is not recorded when the server dies is sent once more, with the same Message-ID.
const GATHER: Duration = START_WITHIN;

/// How long recording is tried when the database is away, in steps of a second. Leases run out meanwhile, and what is not
/// recorded then is treated as after a crash.
const RECORD_TRIES: u32 = 120;

/// Whether the ledger may have entries of attempts that are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ledger {
    /// It has none, as always but in a database that was put together from two backups.
    HasNone,
    /// It has some, which stay as they are.
    HasSome,
}

/// One of those that write down what came of sends.
pub(super) struct Recorder {
    pub(super) engine: Arc<Engine>,
    pub(super) shared: Arc<Shared>,
    /// Shared by as many recorders as the database takes: while one writes, the next gathers.
    pub(super) queue: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Served>>>,
}

impl Recorder {
    /// Until there will be no more.
    pub(super) async fn run(self) {
        while let Some(group) = self.gather().await {
            self.record(group).await;
        }
    }

    /// The next outcomes that are recorded together; none: there will be no more.
    async fn gather(&self) -> Option<Vec<Served>> {
        let mut queue = self.queue.lock().await;
        let first = queue.recv().await?;
        let begun = tokio::time::Instant::now();
        let until = |served: &Served| {
            begun
                + if served.permits.is_empty() {
                    GATHER
                } else {
                    GATHER_PERMITS
                }
        };
        let mut gathered = until(&first);
        let mut group = vec![first];
        while group.len() < GROUP && self.shared.to_come.load(Ordering::Relaxed) > group.len() {
            match tokio::time::timeout_at(gathered, queue.recv()).await {
                Ok(Some(next)) => {
                    gathered = gathered.min(until(&next));
                    group.push(next);
                }
                Ok(None) | Err(_) => break,
            }
        }
        self.shared.to_come.fetch_sub(group.len(), Ordering::Relaxed);
        Some(group)
    }

    async fn record(&self, mut group: Vec<Served>) {
        let size = group.len();
        group.sort_unstable_by(|a, b| a.run().cmp(&b.run()));
        let (mut uncertain, mut ledger) = (HashMap::new(), Ledger::HasNone);
        for attempt in 1..=RECORD_TRIES {
            match self.try_record(&group, &mut uncertain, ledger).await {
                Ok(landed) => {
                    self.account(group, &landed);
                    break;
                }
                Err(EngineError::Store(StoreError::Duplicate)) if ledger == Ledger::HasNone => {
                    ledger = Ledger::HasSome;
                }
                Err(error) if attempt < RECORD_TRIES => {
                    tracing::warn!(%error, runs = size, "recording {size} runs failed, trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(error) => {
                    tracing::error!(%error, runs = size, "{size} runs could not be recorded; they are treated as after a crash");
                }
            }
        }
        self.shared.landed(size);
        self.engine.lanes.freed.notify_waiters();
    }

    /// Records all in one transaction: the runs that are held still, and their attempts. `uncertain`: what earlier tries may
    /// have recorded, as nobody heard what came of their commit.
    async fn try_record(
        &self,
        group: &[Served],
        uncertain: &mut HashMap<ProgressId, Landed>,
        ledger: Ledger,
    ) -> Result<HashMap<ProgressId, Landed>, EngineError> {
        let now = self.engine.clock.now();
        let txn = self.engine.store.begin().await?;
        let completions: Vec<&Completion> = group.iter().map(|served| &served.completion).collect();
        let mut recorded = txn.complete(&completions, now).await?;
        let landed = || {
            let is_landed = |served: &&Served| recorded.contains_key(&served.completion.run.id);
            group.iter().filter(is_landed)
        };
        let mut executions: Vec<Execution> = landed().flat_map(|served| served.executions.iter().cloned()).collect();
        let reported: Vec<_> = landed()
            .filter(|served| served.may_be_reported())
            .map(Served::run)
            .collect();
        let kept = self.engine.reports_on(&txn, &reported, &mut executions, now).await?;
        match ledger {
            Ledger::HasNone => txn.insert_executions(&executions).await?,
            Ledger::HasSome => txn.insert_missing_executions(&executions).await?,
        }
        self.engine.hear_recorded(&txn, kept, now).await?;
        // Claims that don't know of these don't wait: what they send, the provider refuses as well.
        for suppression in group.iter().flat_map(|served| &served.suppress) {
            txn.insert_suppression(suppression, now).await?;
        }
        let mut standing = HashMap::new();
        for served in group
            .iter()
            .filter(|served| !recorded.contains_key(&served.completion.run.id))
        {
            let run = &served.completion.run;
            // The lease is over because this very outcome ended it, if its attempts are there.
            if let Some(landed) = uncertain.get(&run.id)
                && txn.has_executions(&served.executions).await?
            {
                standing.insert(run.id, *landed);
                continue;
            }
            match txn.why_unrecorded(&run.customer_id, run.id).await? {
                Unrecorded::TakenOver => {
                    tracing::warn!(
                        progress_id = run.id.0,
                        "run {}: the outcome came after its lease had ended, and somebody else had taken over",
                        run.id
                    );
                }
                Unrecorded::Gone => tracing::warn!(
                    progress_id = run.id.0,
                    "run {}: the outcome came after the run was erased",
                    run.id
                ),
            }
        }
        reach(Failpoint::BeforeRecordCommit);
        uncertain.extend(&recorded);
        txn.commit().await?;
        reach(Failpoint::AfterRecordCommit);
        recorded.extend(standing);
        let stale = group.len() - recorded.len();
        self.shared
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stale_completions += stale as u64;
        self.engine.metrics.came_late(stale as u64);
        Ok(recorded)
    }

    /// Counts and reports what landed. Of a run that somebody else had taken over nothing did, and whoever took over accounts
    /// for it.
    fn account(&self, group: Vec<Served>, landed: &HashMap<ProgressId, Landed>) {
        let mut counts = self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for served in group {
            let Some(landed) = landed.get(&served.completion.run.id) else {
                continue;
            };
            if landed.as_planned {
                counts.add_moves(&served.moves);
            }
            if !served.is_test {
                counts.handed_back += served.handed_back;
                for channel in served.put_off {
                    counts.channel(channel).deferred += 1;
                }
                for execution in &served.executions {
                    count_outcome(&mut counts, execution.channel, execution.outcome);
                    self.engine.note_attempt(execution);
                }
            }
            for execution in &served.executions {
                let run = &served.completion.run;
                let span = run_step(run.trace_parent.as_ref(), step_of("record", execution));
                span.record("outcome", execution.outcome.as_str());
            }
            if landed.is_due {
                self.shared.due_again.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(reports) = &self.shared.reports {
                let recorded = Recorded {
                    completion: served.completion,
                    executions: served.executions,
                };
                reports.lock().unwrap_or_else(PoisonError::into_inner).push(recorded);
            }
            drop((served.permits, served.hold));
        }
    }
}

impl Engine {
    /// Notes what came of an attempt, for whoever watches the server.
    fn note_attempt(&self, execution: &Execution) {
        self.metrics.acted(execution.channel, execution.outcome.as_str());
        self.metrics
            .lagged(execution.channel, execution.started_at - execution.due_at);
    }
}

/// A step of a run that is about an entry of the ledger.
fn step_of(name: &'static str, execution: &Execution) -> RunStep {
    RunStep {
        name,
        run: execution.progress_id,
        action: Some((execution.action_id, execution.attempt)),
        channel: Some(execution.channel),
    }
}
