//! What a tick or a call has under way. Sends run in tasks that outlive the call which asked for them, and recorders write down what
//! came of them.

mod recorder;

use futures::{FutureExt as _, StreamExt as _};
use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use self::recorder::Recorder;
use super::Engine;
use super::claim::BATCH;
use super::sending::{Claimed, Served};
use crate::domain::{Channel, ProgressId, Run, TickCounts, TimelineId};
use crate::store::{BrokenRun, Completion, Execution, ExecutionOutcome, StoreError};

/// How many runs one task sends for. A task of its own for each costs more than most sends do, and one for all would keep one core busy
/// with what a provider that answers at once leaves to do.
const ABREAST: usize = 32;

/// The most runs that are under way, so that memory stays bounded: while some batches are sent and recorded, the next are claimed.
const MOST_UNDER_WAY: usize = 4 * BATCH;

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
