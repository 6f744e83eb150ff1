//! The daily job: runs whose local date is over move to their next day, all that are alike at once.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::Duration;
use chrono_tz::Tz;

use super::flight::Flight;
use super::tick::{Limits, TickEvents, TickRequest};
use super::{Engine, EngineError};
use crate::domain::schedule::{instant, local_date};
use crate::domain::{CustomerId, FirstDay, Origin, Run, Status, Timeline, TimelineId, Timestamp, Zone, plan};
use crate::failpoint::{Failpoint, reach};
use crate::store::{BrokenCohort, Buckets, Cohort, CohortMove, Cohorts, CustomerRange, ZoneDate};

/// How many runs are looked at in one go. The locks of one statement are held for well under a second.
pub(super) const CHUNK: usize = 10_000;

/// How long after a zone's midnight a sweep must begin to be believed when it finds nothing left: whoever computed
/// yesterday's date before midnight has committed by then, as no statement runs longer than a minute.
const SETTLED: Duration = Duration::minutes(15);

/// A way through all runs.
struct Sweep<'a> {
    request: &'a TickRequest,
    zones: &'a [ZoneDate],
    timelines: &'a HashMap<TimelineId, Arc<Timeline>>,
    now: Timestamp,
    /// After which customer it goes on; none: it is at its end.
    after: tokio::sync::Mutex<Option<String>>,
    /// The zones in which something is left to move, or can't be moved.
    unfinished: Mutex<HashSet<Tz>>,
}

impl Sweep<'_> {
    fn note_unfinished(&self, zones: impl Iterator<Item = Tz>) {
        let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        unfinished.extend(zones);
    }

    /// Whether runs are where this moment wants them when they are moved so.
    fn is_last(&self, to: &CohortMove) -> bool {
        let today = self.zones.iter().find(|zone| zone.tz == to.cohort.tz);
        to.run.status != Status::Active || today.is_some_and(|today| to.run.day_date >= today.date)
    }
}

impl Engine {
    /// Stops runs whose timelines were archived, plans those anew whose timelines were changed, and advances those whose day is over. True: it stopped at a limit.
    pub(super) async fn advance_days(
        &self,
        request: &TickRequest,
        limits: &Limits,
        flight: &Flight,
        events: &TickEvents,
    ) -> Result<bool, EngineError> {
        if !request.dry_run
            && (self.settle_stopped(limits, flight).await?
                || self.settle_reports(limits, flight).await?
                || self.stop_archived(request, limits).await?
                || self.wake_changed(request, limits).await?)
        {
            return Ok(true);
        }
        let (reader, now) = (self.store.reader(), self.clock.now());
        let zones: Vec<ZoneDate> = reader
            .zones()
            .await?
            .into_iter()
            .map(|(tz, swept)| {
                (
                    ZoneDate {
                        tz,
                        date: local_date(now, tz),
                    },
                    swept,
                )
            })
            .filter(|(today, swept)| swept.is_none_or(|swept| swept < today.date))
            .map(|(today, _)| today)
            .collect();
        if zones.is_empty() {
            return Ok(false);
        }
        let timelines = self.active_timelines(&request.timelines, flight).await?;
        let sweep = Sweep {
            request,
            zones: &zones,
            timelines: &timelines,
            now,
            after: tokio::sync::Mutex::new(Some(String::new())),
            unfinished: Mutex::default(),
        };
        // While the database writes one range, the next is read, where it can do both at a time.
        let sweep_on = || self.sweep(&sweep, limits, flight, events);
        if self.store.writes_at_a_time() > 1 {
            futures::try_join!(sweep_on(), sweep_on())?;
        } else {
            sweep_on().await?;
        }
        if sweep.after.into_inner().is_some() {
            return Ok(true);
        }
        let unfinished = sweep.unfinished.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Only who has looked at all runs can say that a zone has nothing left.
        if request.buckets.is_all() && request.timelines.is_empty() && !request.dry_run {
            let is_done =
                |zone: &&ZoneDate| !unfinished.contains(&zone.tz) && now >= instant(zone.date, 0, zone.tz) + SETTLED;
            let done: Vec<ZoneDate> = zones.iter().filter(is_done).copied().collect();
            let txn = self.store.begin().await?;
            txn.note_swept(&done).await?;
            txn.commit().await?;
        }
        Ok(false)
    }

    /// Moves range after range, beside others that do the same, until there is none left or a limit is reached.
    async fn sweep(
        &self,
        sweep: &Sweep<'_>,
        limits: &Limits,
        flight: &Flight,
        events: &TickEvents,
    ) -> Result<(), EngineError> {
        let Sweep {
            request,
            zones,
            timelines,
            now,
            ..
        } = *sweep;
        loop {
            let range = {
                let mut place = sweep.after.lock().await;
                let Some(after) = place.as_ref() else {
                    return Ok(());
                };
                let Some(range) = self.store.reader().next_range(after, CHUNK).await? else {
                    *place = None;
                    return Ok(());
                };
                if limits.reached() {
                    return Ok(());
                }
                *place = Some(range.until.clone());
                range
            };
            let (moves, broken) = self
                .plan_cohorts(&range, zones, timelines, request.buckets, now)
                .await?;
            note_broken(&broken, flight);
            // Who mends one does not wait for tomorrow.
            sweep.note_unfinished(broken.iter().filter_map(|broken| broken.tz));
            if !moves.is_empty() {
                self.move_cohorts(sweep, &range, moves, limits, flight).await?;
                events.note(flight.counts());
            }
        }
    }

    /// Where the cohorts of a range go, and what of it is to be counted.
    async fn plan_cohorts(
        &self,
        range: &CustomerRange,
        zones: &[ZoneDate],
        timelines: &HashMap<TimelineId, Arc<Timeline>>,
        buckets: Buckets,
        now: Timestamp,
    ) -> Result<(Vec<(CohortMove, crate::domain::Moves)>, Vec<BrokenCohort>), EngineError> {
        let mut ids: Vec<TimelineId> = timelines.keys().copied().collect();
        // In one order, so that the statement has one text, which is prepared once.
        ids.sort_unstable();
        let cohorts = self.store.reader().cohorts(range, zones, &ids, buckets, now).await?;
        let Cohorts { cohorts, mut broken } = cohorts;
        let planned = cohorts.into_iter().filter_map(|cohort| {
            let timeline = timelines.get(&cohort.timeline_id)?;
            let run = example(timeline, &cohort)?;
            let served = catch_unwind(AssertUnwindSafe(|| plan::advance_served(timeline, &run, now)));
            let Ok(served) = served else {
                broken.push(BrokenCohort {
                    first: cohort.first,
                    tz: Some(cohort.tz),
                    runs: cohort.runs,
                });
                return None;
            };
            let (run, moves) = served?;
            // What has something pending is completed when that is recorded, and not before.
            if moves.completed && !cohort.is_idle {
                return None;
            }
            let shifted_days = moves.shifted_days;
            Some((
                CohortMove {
                    cohort,
                    revision: timeline.revision,
                    run,
                    shifted_days,
                },
                moves,
            ))
        });
        let planned = planned.collect();
        Ok((planned, broken))
    }

    async fn move_cohorts(
        &self,
        sweep: &Sweep<'_>,
        range: &CustomerRange,
        moves: Vec<(CohortMove, crate::domain::Moves)>,
        limits: &Limits,
        flight: &Flight,
    ) -> Result<(), EngineError> {
        let Sweep { request, now, .. } = *sweep;
        let mut moved: Vec<u64> = moves.iter().map(|(one, _)| one.cohort.runs).collect();
        if !request.dry_run {
            let cohorts: Vec<CohortMove> = moves.iter().map(|(one, _)| one.clone()).collect();
            let txn = self.store.begin().await?;
            let all = txn.move_cohorts(range, &cohorts, request.buckets, now).await?;
            reach(Failpoint::DayAdvance);
            if all == moved.iter().sum::<u64>() {
                txn.commit().await?;
            } else {
                // Somebody moved some of them meanwhile. One by one it is known how many of each.
                drop(txn);
                let txn = self.store.begin().await?;
                for (cohort, moved) in cohorts.iter().zip(&mut moved) {
                    let cohort = std::slice::from_ref(cohort);
                    *moved = txn.move_cohorts(range, cohort, request.buckets, now).await?;
                }
                txn.commit().await?;
            }
        }
        // Those that stayed got or lost a wake-up, or somebody else moved them, or their timeline was changed.
        let left = moves.iter().zip(&moved);
        let left = left.filter(|((to, _), moved)| to.cohort.runs != **moved || !sweep.is_last(to));
        sweep.note_unfinished(left.map(|((to, _), _)| to.cohort.tz));
        limits.spend(moved.iter().sum());
        flight.count(|counts| {
            for ((_, moves), runs) in moves.iter().zip(moved) {
                counts.advanced_runs += if moves.advanced { runs } else { 0 };
                counts.completed_runs += if moves.completed { runs } else { 0 };
                counts.shifted_days += u64::from(moves.shifted_days.unsigned_abs()) * runs;
            }
        });
        Ok(())
    }

    /// Wakes runs on days of which the plan was changed. True: it stopped at a limit.
    async fn wake_changed(&self, request: &TickRequest, limits: &Limits) -> Result<bool, EngineError> {
        let now = self.clock.now();
        for (id, revision, days) in self.store.reader().timelines_to_replan().await? {
            if !request.timelines.is_empty() && !request.timelines.contains(&id) {
                continue;
            }
            let mut after = String::new();
            while let Some(range) = self.store.reader().next_range(&after, CHUNK).await? {
                if limits.reached() {
                    return Ok(true);
                }
                let txn = self.store.begin().await?;
                txn.wake_runs(id, &days, &range, now).await?;
                txn.commit().await?;
                after = range.until;
            }
            let txn = self.store.begin().await?;
            txn.clear_replan(id, revision).await?;
            txn.commit().await?;
        }
        Ok(false)
    }

    /// The active timelines, read anew where they changed.
    async fn active_timelines(
        &self,
        only: &[TimelineId],
        flight: &Flight,
    ) -> Result<HashMap<TimelineId, Arc<Timeline>>, EngineError> {
        let reader = self.store.reader();
        let active = reader.active_timelines(only).await?;
        let (mut known, mut changed) = (HashMap::new(), Vec::new());
        for (id, revision) in active {
            match self.definitions.timeline(id, revision) {
                Some(timeline) => drop(known.insert(id, timeline)),
                None => changed.push(id),
            }
        }
        for timeline in reader.read_timelines(&changed).await? {
            match timeline {
                Ok(timeline) if timeline.definition.is_active => {
                    known.insert(timeline.id, self.definitions.keep_timeline(timeline));
                }
                Ok(_) => {}
                Err((id, error)) => flight.note_broken_timeline(id, &error),
            }
        }
        Ok(known)
    }
}

/// Counts and logs runs that can't be moved, and stay as they are.
fn note_broken(broken: &[BrokenCohort], flight: &Flight) {
    for BrokenCohort { first, runs, .. } in broken {
        flight.count_broken(*runs);
        tracing::error!(
            progress_id = first.0,
            runs,
            "run {first} can't be moved to its next day, because its day, date or zone can't be read or is out of range, and so \
             can't {runs} in all that are like it; they stay as they are, and others go on"
        );
    }
}

/// A run such as those of a cohort, of which no more is known than that nothing of its day is left to do.
fn example(timeline: &Timeline, cohort: &Cohort) -> Option<Run> {
    let customer = CustomerId::parse("any").ok()?;
    let zone = Zone {
        tz: cohort.tz,
        is_default: false,
    };
    let run = Run::start(
        timeline,
        customer,
        Origin::Started,
        zone,
        FirstDay::SendPassed,
        cohort.current_day,
        Timestamp::UNIX_EPOCH,
    );
    Some(Run {
        day_date: cohort.day_date,
        ..run
    })
}
