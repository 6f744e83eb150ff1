//! What a tick or a call has under way, and the recorder that writes down what came of it.
//!
//! Sends run in tasks that outlive the call which asked for them. Outcomes are recorded in groups: when 1000 are
//! there, when nothing else is under way, or after two seconds, whichever is first; after a tenth of a second where they hold
//! permits to send.

use futures::{FutureExt as _, StreamExt as _};
use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::claim::BATCH;
use super::lanes::START_WITHIN;
use super::sending::{Claimed, Served};
use super::{Engine, EngineError};
use crate::domain::{Channel, ProgressId, Run, TickCounts, TimelineId};
use crate::failpoint::{Failpoint, reach};
use crate::store::{BrokenRun, Completion, Execution, ExecutionOutcome, Landed, StoreError, Unrecorded};
use crate::telemetry::{RunStep, run_step};

/// How many runs one task sends for. A task of its own for each costs more than most sends do, and one for all would keep one core busy
/// with what a provider that answers at once leaves to do.
const ABREAST: usize = 32;

/// The most runs that are recorded in one transaction.
const GROUP: usize = BATCH;

/// How long an outcome waits for others: as long as the messages of a claim take to begin, so that a batch is recorded at once.
/// What is not recorded when the server dies is sent once more, with the same Message-ID.
const GATHER: Duration = START_WITHIN;

/// How long an outcome waits for others that holds a permit to send.
const GATHER_PERMITS: Duration = Duration::from_millis(100);

/// The most runs that are under way, so that memory stays bounded: while some batches are sent and recorded, the next are claimed.
const MOST_UNDER_WAY: usize = 4 * BATCH;

/// How long recording is tried when the database is away, in steps of a second. Leases run out meanwhile, and what is not
/// recorded then is treated as after a crash.
const RECORD_TRIES: u32 = 120;

/// The most broken runs that the log names in one tick. A version that can read none of them must not fill the disk.
const MOST_NAMED: usize = 100;

/// What is under way.
#[derive(Debug)]
pub(super) struct Flight {
    engine: Arc<Engine>,
    served: mpsc::UnboundedSender<Served>,
    recorders: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    under_way: AtomicUsize,
    /// Those of them that no recorder has taken up yet.
    to_come: AtomicUsize,
    counts: Mutex<TickCounts>,
    /// Runs that have something due again, by when they were recorded.
    due_again: AtomicUsize,
    /// Told whenever a group is recorded.
    recorded: Notify,
    /// Runs that were found broken, each counted once, however often it is met.
    broken: Mutex<HashSet<ProgressId>>,
    /// Timelines that were found broken, each counted once.
    broken_timelines: Mutex<HashSet<TimelineId>>,
    /// What was recorded, where somebody wants to know.
    reports: Option<Mutex<Vec<Recorded>>>,
}

/// A run that was recorded.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) completion: Completion,
    pub(super) executions: Vec<Execution>,
}

impl Flight {
    /// Nothing under way yet. `report`: keep what was recorded for [`Flight::finish`].
    pub(super) fn new(engine: &Arc<Engine>, report: bool) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "no more is in it than was claimed, which the lanes bound"
        )]
        let (served, queue) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            under_way: AtomicUsize::new(0),
            to_come: AtomicUsize::new(0),
            counts: Mutex::new(TickCounts::default()),
            due_again: AtomicUsize::new(0),
            recorded: Notify::new(),
            broken: Mutex::new(HashSet::new()),
            broken_timelines: Mutex::new(HashSet::new()),
            reports: report.then(|| Mutex::new(Vec::new())),
        });
        let queue = Arc::new(tokio::sync::Mutex::new(queue));
        let recorder = |_| {
            let recorder = Recorder {
                engine: Arc::clone(engine),
                shared: Arc::clone(&shared),
                queue: Arc::clone(&queue),
            };
            engine.tracker.spawn(recorder.run().in_current_span())
        };
        let recorders = (0..engine.store.writes_at_a_time()).map(recorder).collect();
        Self {
            engine: Arc::clone(engine),
            served,
            recorders,
            shared,
        }
    }

    /// Sends what was claimed, some runs in one task. All are under way from the beginning, so that the first outcomes wait for the
    /// others, and are recorded with them, however slowly the tasks are started.
    pub(super) fn launch(&self, claimed: Vec<Claimed>) {
        self.shared.under_way.fetch_add(claimed.len(), Ordering::Relaxed);
        self.shared.to_come.fetch_add(claimed.len(), Ordering::Relaxed);
        let mut claimed = claimed.into_iter();
        while claimed.len() > 0 {
            self.send(claimed.by_ref().take(ABREAST).collect());
        }
    }

    /// Sends for some runs, all at a time: one is begun when the one before it waits, so that what waits for nobody needs no memory of
    /// its own.
    fn send(&self, claimed: Vec<Claimed>) {
        let (engine, served, shared) = (Arc::clone(&self.engine), self.served.clone(), Arc::clone(&self.shared));
        let task = async move {
            let serve = async |claimed: Claimed| {
                let id = claimed.run.id;
                if let Ok(outcome) = AssertUnwindSafe(engine.serve(claimed)).catch_unwind().await {
                    // The recorder is there as long as anybody can send to it.
                    let _ = served.send(outcome);
                } else {
                    tracing::error!(
                        progress_id = id.0,
                        "serving run {id} panicked, which is a fault of this service; when its lease is over, what it was \
                         sending is treated as after a crash"
                    );
                    shared.to_come.fetch_sub(1, Ordering::Relaxed);
                    shared.landed(1);
                }
                engine.lanes.freed.notify_waiters();
            };
            futures::stream::iter(claimed).for_each_concurrent(None, serve).await;
        };
        self.engine.tracker.spawn(task.in_current_span());
    }

    /// Whether another batch may be claimed.
    pub(super) fn has_room(&self) -> bool {
        self.shared.under_way.load(Ordering::Relaxed) < MOST_UNDER_WAY
    }

    /// Waits until nothing is under way.
    pub(super) async fn drained(&self) {
        loop {
            let recorded = self.shared.recorded.notified();
            if self.shared.under_way.load(Ordering::Relaxed) == 0 {
                return;
            }
            recorded.await;
        }
    }

    /// Whether a run was found broken, and so is not looked at again.
    pub(super) fn is_broken(&self, run: &Run) -> bool {
        let known = self.shared.broken.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(&run.id)
    }

    /// Counts and logs a timeline that can't be read, or whose campaigns can't. Its runs stay as they are.
    pub(super) fn note_broken_timeline(&self, id: TimelineId, error: &StoreError) {
        let mut known = self
            .shared
            .broken_timelines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !known.insert(id) {
            return;
        }
        drop(known);
        self.count(|counts| counts.broken_timelines += 1);
        tracing::error!(
            timeline_id = id.0,
            %error,
            "timeline {id} can't be read: {error}; its runs stay as they are, and other timelines go on"
        );
    }

    /// Adds to the counts.
    pub(super) fn count(&self, add: impl FnOnce(&mut TickCounts)) {
        add(&mut self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts runs that can't be served, and stay as they are.
    pub(super) fn count_broken(&self, runs: u64) {
        self.count(|counts| counts.broken_runs += runs);
        self.engine.metrics.found_broken(runs);
    }

    /// Counts and logs a run that can't be served, and stays as it is.
    pub(super) fn note_broken(&self, broken: &BrokenRun) {
        let mut known = self.shared.broken.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.insert(broken.id) {
            return;
        }
        let named = known.len();
        drop(known);
        self.count_broken(1);
        if named <= MOST_NAMED {
            tracing::error!(
                progress_id = broken.id.0,
                customer_id = broken.customer_id,
                "{broken}; it stays as it is, and others go on"
            );
        } else if named == MOST_NAMED + 1 {
            tracing::error!("more than {MOST_NAMED} runs can't be used, and the others are only counted");
        }
    }

    /// The counts so far.
    pub(super) fn counts(&self) -> TickCounts {
        self.shared
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many recorded runs had something due again, counted from zero at each call.
    pub(super) fn take_due_again(&self) -> usize {
        self.shared.due_again.swap(0, Ordering::Relaxed)
    }

    /// Notes that a run has something due that was left for later.
    pub(super) fn note_due_again(&self) {
        self.shared.due_again.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until all is recorded. Gives the counts, and what was recorded if that was asked for.
    pub(super) async fn finish(self) -> (TickCounts, Vec<Recorded>) {
        let Self {
            served,
            recorders,
            shared,
            ..
        } = self;
        drop(served);
        for recorder in recorders {
            if let Err(error) = recorder.await {
                tracing::error!(%error, "a recorder broke off; what it had not recorded is treated as after a crash");
            }
        }
        let counts = shared.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reports = shared
            .reports
            .as_ref()
            .map(|reports| std::mem::take(&mut *reports.lock().unwrap_or_else(PoisonError::into_inner)));
        (counts, reports.unwrap_or_default())
    }
}

impl Shared {
    /// Nothing of so many runs is under way any more.
    fn landed(&self, runs: usize) {
        self.under_way.fetch_sub(runs, Ordering::Relaxed);
        self.recorded.notify_waiters();
    }
}

/// Whether the ledger may have entries of attempts that are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ledger {
    /// It has none, as always but in a database that was put together from two backups.
    HasNone,
    /// It has some, which stay as they are.
    HasSome,
}

struct Recorder {
    engine: Arc<Engine>,
    shared: Arc<Shared>,
    /// Shared by as many recorders as the database takes: while one writes, the next gathers.
    queue: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Served>>>,
}

impl Recorder {
    async fn run(self) {
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

/// Counts an entry of the ledger.
pub(super) fn count_outcome(counts: &mut TickCounts, channel: Channel, outcome: ExecutionOutcome) {
    let channel = counts.channel(channel);
    let counter = match outcome {
        // The message is out; what comes of the task is no matter of ticks.
        ExecutionOutcome::Completed | ExecutionOutcome::HandedOver => &mut channel.completed,
        ExecutionOutcome::Skipped => &mut channel.skipped,
        ExecutionOutcome::Failed => &mut channel.failed,
        ExecutionOutcome::Retrying => &mut channel.retrying,
        ExecutionOutcome::Unknown => &mut channel.unknown,
        ExecutionOutcome::Expired => &mut channel.expired,
    };
    *counter += 1;
}
