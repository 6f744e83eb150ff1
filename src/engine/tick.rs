//! The two scheduled jobs. A tick reads what is there, does what is due, records it, and keeps nothing in mind: called twice,
//! overlapping or not at all, the next one does the rest.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::circuits::circuits_at_either;
use super::flight::Flight;
use super::holds::at_either;
use super::lanes::LOOK_AGAIN;
use super::skew::ClockGuard;
use super::turns::{Split, Turns};
use super::{Engine, EngineError};
use crate::domain::{SendingHold, TickCounts, TickKind, TickRun, TickRunId, TickSummary, TimelineId, Timestamp};
use crate::store::{Buckets, EnteredTick, Page, StoreError, TimelineWake};
use crate::telemetry::TickResult;

/// How often a tick goes over what is due again, for runs that have something due after what it did.
pub(super) const MOST_PASSES: usize = 1000;

/// The fewest runs that are worth a claim's statements.
const WORTH_READING: usize = 50;

/// What a tick is asked to do.
#[derive(Debug, Clone)]
pub struct TickRequest {
    /// Which job.
    pub kind: TickKind,
    /// Who calls; empty where nobody is asked who he is.
    pub caller: String,
    /// The caller's name for it.
    pub tick_id: Option<String>,
    /// The most actions that it takes up, or runs that it advances.
    pub max_actions: Option<u64>,
    /// Which customers.
    pub buckets: Buckets,
    /// Which timelines; none: all.
    pub timelines: Vec<TimelineId>,
    /// Whether it changes nothing.
    pub dry_run: bool,
}

/// When a tick stops, though there may be more to do.
#[derive(Debug, Clone)]
pub struct Stop {
    /// At this instant.
    pub deadline: Option<Instant>,
    /// Or when nobody listens any more.
    pub abandoned: CancellationToken,
}

/// How far a tick is, for whoever watches it.
#[derive(Debug, Default)]
pub struct TickEvents {
    counts: Mutex<TickCounts>,
}

/// What limits a tick.
#[derive(Debug)]
pub(super) struct Limits {
    deadline: Instant,
    abandoned: CancellationToken,
    stopping: CancellationToken,
    clock_guard: Arc<ClockGuard>,
    budget: Mutex<Budget>,
}

/// How much a tick may take up.
#[derive(Debug, Clone, Copy)]
struct Budget {
    /// Actions; none: as many as there are.
    left: Option<u64>,
    /// Nothing was taken up yet.
    is_fresh: bool,
}

impl Budget {
    fn of(left: Option<u64>) -> Self {
        Self { left, is_fresh: true }
    }
}

impl TickEvents {
    /// The counts so far.
    pub fn counts(&self) -> TickCounts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note(&self, counts: TickCounts) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }
}

impl Limits {
    /// Whether to stop now.
    pub(super) fn reached(&self) -> bool {
        self.budget().left == Some(0)
            || self.abandoned.is_cancelled()
            || self.stopping.is_cancelled()
            || self.clock_guard.agrees().is_err()
            || Instant::now() >= self.deadline
    }

    /// Waits for some time. False: a limit was reached before.
    async fn rests_for(&self, time: std::time::Duration) -> bool {
        let until = Instant::now() + time;
        tokio::select! {
            () = tokio::time::sleep_until(until.min(self.deadline)) => {}
            () = self.abandoned.cancelled() => {}
            () = self.stopping.cancelled() => {}
        }
        !self.reached()
    }

    fn budget(&self) -> std::sync::MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is no limit to how much is taken up, so that claims need not know of each other.
    pub(super) fn are_of_time_alone(&self) -> bool {
        self.budget().left.is_none()
    }

    /// When the tick ends at the latest.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes from what may be done.
    pub(super) fn spend(&self, actions: u64) {
        let mut budget = self.budget();
        budget.left = budget.left.map(|left| left.saturating_sub(actions));
        budget.is_fresh &= actions == 0;
    }

    /// Whether a run with `more` actions may be taken up after `taken` others. What one run has due at once is taken up
    /// together, so the first run always may be: otherwise a low limit would hold it up for ever.
    pub(super) fn allow(&self, taken: u64, more: u64) -> bool {
        let budget = *self.budget();
        let is_first = budget.is_fresh && taken == 0;
        is_first || budget.left.is_none_or(|left| taken + more <= left)
    }

    /// How many runs are worth reading, at most `most`. With a low limit a few more than it allows, as some may be broken.
    pub(super) fn most_runs(&self, most: usize) -> usize {
        let left = self.budget().left.and_then(|left| usize::try_from(left).ok());
        left.map_or(most, |left| left.max(WORTH_READING).min(most))
    }
}

impl Engine {
    /// Runs a tick to its end, or to a limit.
    pub async fn tick(
        self: &Arc<Self>,
        request: TickRequest,
        stop: Stop,
        events: &TickEvents,
    ) -> Result<TickSummary, EngineError> {
        if self.stopping.is_cancelled() {
            return Err(EngineError::Stopping);
        }
        self.clock_guard.check().await?;
        let started_at = self.clock.now();
        let tick_id = request
            .tick_id
            .clone()
            .unwrap_or_else(|| self.random.uuid().to_string());
        let limits = Limits {
            deadline: stop
                .deadline
                .unwrap_or_else(|| Instant::now() + self.settings.tick_limit),
            abandoned: stop.abandoned,
            stopping: self.stopping.clone(),
            clock_guard: Arc::clone(&self.clock_guard),
            budget: Mutex::new(Budget::of(request.max_actions)),
        };
        let mut summary = TickSummary {
            kind: request.kind,
            tick_id,
            started_at,
            finished_at: None,
            counts: TickCounts::default(),
            has_more: false,
            next_due_at: None,
            oldest_due_at: None,
            dry_run: request.dry_run,
            sending_holds: Vec::new(),
            circuits: Vec::new(),
        };
        if request.dry_run {
            self.work(&request, &limits, events, &mut summary).await?;
            summary.finished_at = Some(self.clock.now());
            return Ok(summary);
        }
        let _running = self.running.enter(request.kind, &request.caller, &summary.tick_id)?;
        let id = match self.enter_tick(&request, &summary.tick_id, started_at).await? {
            EnteredTick::Entered(id) => id,
            EnteredTick::Finished(summary) => return Ok(*summary),
        };
        let begun = Instant::now();
        let worked = self.work(&request, &limits, events, &mut summary).await;
        // One that stopped because of its clock says so, and the next one goes on with it.
        let worked = worked.and_then(|is_whole| self.clock_agrees().map(|()| is_whole));
        summary.finished_at = Some(self.clock.now());
        let done = matches!(worked, Ok(true)).then_some(request.buckets);
        let error = worked.as_ref().err().map(ToString::to_string);
        let finished = self.finish_tick(id, &summary, done, error.as_deref()).await;
        let result = match (&worked, &finished) {
            (Err(_), _) | (_, Err(_)) => TickResult::Failed,
            (Ok(_), Ok(())) if summary.has_more => TickResult::CutShort,
            (Ok(_), Ok(())) => TickResult::Finished,
        };
        self.metrics.ticked(request.kind, result, begun.elapsed());
        finished?;
        worked.map(|_| summary)
    }

    /// A page of the ticks that ran, the newest first; none for `caller`: those of all.
    pub async fn tick_runs(
        &self,
        kind: Option<TickKind>,
        caller: Option<&str>,
        page: &Page<TickRunId>,
    ) -> Result<Vec<TickRun>, EngineError> {
        Ok(self.store.reader().tick_runs(kind, caller, page).await?)
    }

    async fn enter_tick(
        &self,
        request: &TickRequest,
        tick_id: &str,
        now: Timestamp,
    ) -> Result<EnteredTick, EngineError> {
        let txn = self.store.begin().await?;
        let entered = txn.enter_tick(request.kind, &request.caller, tick_id, now).await?;
        txn.commit().await?;
        Ok(entered)
    }

    /// `done`: of which customers it has gone over all that was due.
    async fn finish_tick(
        &self,
        id: TickRunId,
        summary: &TickSummary,
        done: Option<Buckets>,
        error: Option<&str>,
    ) -> Result<(), EngineError> {
        let txn = self.store.begin().await?;
        txn.finish_tick(id, summary, error).await?;
        if let Some((part, at)) = done.zip(summary.finished_at) {
            txn.note_part_done(summary.kind, part, at).await?;
        }
        if summary.kind == TickKind::Advance {
            txn.purge_requests(self.clock.now()).await?;
            if !self.settings.rates.is_empty() {
                txn.purge_buckets(self.clock.now()).await?;
            }
        }
        Ok(txn.commit().await?)
    }

    /// Says whether it has gone over all that is due to its customers. If so, what is left waits for a rate alone.
    async fn work(
        self: &Arc<Self>,
        request: &TickRequest,
        limits: &Limits,
        events: &TickEvents,
        summary: &mut TickSummary,
    ) -> Result<bool, EngineError> {
        if !request.dry_run {
            self.store.refresh_statistics().await?;
        }
        let holds = self.read_holds().await?;
        let began: Vec<SendingHold> = holds.in_force(summary.started_at).cloned().collect();
        self.read_circuits().await?;
        let circuits = self.circuits.not_closed();
        let wakes = request.kind == TickKind::Process && !request.dry_run;
        let flight = Flight::new(self, false);
        let is_cut_short = wakes && self.wake_put_off(&holds, limits, &flight).await?;
        let mut worked = match request.kind {
            _ if is_cut_short => Ok(Processed::Some),
            TickKind::Advance => {
                let is_cut_short = self.advance_days(request, limits, &flight, events).await;
                is_cut_short.map(|is_cut_short| {
                    if is_cut_short {
                        Processed::Some
                    } else {
                        Processed::AllButOthers
                    }
                })
            }
            TickKind::Process => self.process(request, limits, &flight, events).await,
        };
        let is_whole = request.timelines.is_empty() && !matches!(worked, Ok(Processed::Some));
        // What was put off because of a rate goes while the tick lasts, as the next one may be an hour away.
        while wakes && matches!(worked, Ok(Processed::All(_) | Processed::AllButOthers)) {
            let rest = match self.rest_for_tokens(request).await {
                Ok(Some(rest)) => rest,
                Ok(None) => break,
                Err(error) => {
                    worked = Err(error);
                    break;
                }
            };
            if !limits.rests_for(rest).await {
                worked = Ok(Processed::Some);
                break;
            }
            worked = self.process(request, limits, &flight, events).await;
        }
        let (counts, _) = flight.finish().await;
        events.note(counts.clone());
        summary.counts = counts;
        let worked = worked?;
        summary.has_more = matches!(worked, Processed::Some);
        let now = self.clock.now();
        let wakes = match worked {
            Processed::All(wakes) => wakes,
            Processed::AllButOthers | Processed::Some => {
                let reader = self.store.reader();
                reader.timeline_wakes(&request.timelines, request.buckets).await?
            }
        };
        let holds: Vec<SendingHold> = self.sending_holds().await?.in_force(now).cloned().collect();
        summary.sending_holds = at_either(&began, &holds);
        summary.circuits = circuits_at_either(circuits, self.open_circuits().await?);
        summary.oldest_due_at = wakes.iter().map(|wake| wake.earliest).filter(|at| *at <= now).min();
        summary.next_due_at = wakes.iter().map(|wake| wake.earliest).min();
        Ok(is_whole)
    }

    /// The hourly job: advance first, then execute.
    async fn process(
        self: &Arc<Self>,
        request: &TickRequest,
        limits: &Limits,
        flight: &Flight,
        events: &TickEvents,
    ) -> Result<Processed, EngineError> {
        let unlimited = Limits {
            budget: Mutex::new(Budget::of(None)),
            abandoned: limits.abandoned.clone(),
            stopping: limits.stopping.clone(),
            clock_guard: Arc::clone(&limits.clock_guard),
            deadline: limits.deadline,
        };
        if self.advance_days(request, &unlimited, flight, events).await? {
            return Ok(Processed::Some);
        }
        let mut has_looked_again = false;
        for _ in 0..MOST_PASSES {
            let wakes = self
                .store
                .reader()
                .timeline_wakes(&request.timelines, request.buckets)
                .await?;
            let now = self.clock.now();
            if wakes.iter().all(|wake| wake.earliest > now) {
                return Ok(Processed::All(wakes));
            }
            if self.serve_in_turn(request, wakes, limits, flight, events).await? {
                return Ok(Processed::Some);
            }
            flight.drained().await;
            // Runs that somebody else had locked at that moment were passed over. Another claim serves them; a daily tick, which moves
            // them, does not.
            let is_due_again = flight.take_due_again() > 0;
            if request.dry_run || (!is_due_again && has_looked_again) {
                return Ok(Processed::AllButOthers);
            }
            has_looked_again = !is_due_again;
        }
        Ok(Processed::Some)
    }

    /// Serves all that is due once, timeline by timeline in turn, so that a large one doesn't starve a small one. True: it
    /// stopped at a limit.
    ///
    /// While the database writes one claim, the next is read, where it can do both at a time.
    async fn serve_in_turn(
        self: &Arc<Self>,
        request: &TickRequest,
        wakes: Vec<TimelineWake>,
        limits: &Limits,
        flight: &Flight,
        events: &TickEvents,
    ) -> Result<bool, EngineError> {
        let now = self.clock.now();
        let due = wakes.into_iter().filter(|wake| wake.earliest <= now);
        let at_a_time = !request.dry_run && limits.are_of_time_alone() && self.store.writes_at_a_time() > 1;
        let split = if self.store.has_shards() {
            Split::Shards
        } else {
            Split::Halves
        };
        let turns = Turns::new(due, request.buckets, at_a_time.then_some(split));
        let serve = async || {
            let served = self.serve_turns(request, &turns, limits, flight, events).await;
            // Whoever is done has left nothing to others, and whoever stopped or failed stops them.
            turns.close();
            served
        };
        if !at_a_time {
            return serve().await;
        }
        // Each ends by itself, also when the other fails: of a claim that is dropped while it is committed nobody would send.
        let (one, other) = futures::join!(serve(), serve());
        Ok(one? || other?)
    }

    /// Serves whoever's turn it is, until all is done. True: it stopped at a limit.
    async fn serve_turns(
        self: &Arc<Self>,
        request: &TickRequest,
        turns: &Turns,
        limits: &Limits,
        flight: &Flight,
        events: &TickEvents,
    ) -> Result<bool, EngineError> {
        let mut blocked_in_a_row = 0;
        while let Some(mut turn) = turns.next().await {
            let id = turn.wake.id;
            if limits.reached() {
                return Ok(true);
            }
            let freed = self.lanes.freed.notified();
            if !flight.has_room() || blocked_in_a_row > turns.len() {
                let _ = tokio::time::timeout(LOOK_AGAIN, freed).await;
                blocked_in_a_row = 0;
                turns.put_first(turn);
                continue;
            }
            let known = self.definitions.timeline(id, turn.wake.revision);
            if !request.dry_run && known.is_some_and(|timeline| !self.lanes.are_ready_for(&timeline)) {
                blocked_in_a_row += 1;
                turns.put_last(turn);
                continue;
            }
            let (cursor, buckets) = (&mut turn.cursor, turn.buckets);
            let claims = if request.dry_run {
                self.rehearse_due(flight, id, cursor, buckets, limits).await
            } else {
                self.claim_due(flight, id, cursor, buckets, limits).await
            };
            let claims = match claims {
                Ok(claims) => claims,
                // Its runs stay as they are, due. Others go on.
                Err(EngineError::Store(error @ StoreError::Corrupt { .. })) => {
                    flight.note_broken_timeline(id, &error);
                    turns.drop_one();
                    continue;
                }
                Err(error) => return Err(error),
            };
            limits.spend(claims.actions);
            events.note(flight.counts());
            if claims.spent {
                return Ok(true);
            }
            blocked_in_a_row = if claims.blocked && claims.actions == 0 {
                blocked_in_a_row + 1
            } else {
                0
            };
            if claims.more {
                turns.put_claimed(turn);
            } else {
                turns.drop_one();
            }
        }
        Ok(false)
    }
}

/// How much of what was due a tick has done.
enum Processed {
    /// All: these are the wake-ups that are left, all of them to come.
    All(Vec<TimelineWake>),
    /// All that nobody else has at this moment.
    AllButOthers,
    /// It stopped at a limit.
    Some,
}
