//! Waking what was put off, once what stopped it is over: a sending hold, or a circuit that somebody closed by hand. A circuit whose
//! probe was answered needs none of it, as its runs wake by themselves then.

use chrono::Duration;
use std::collections::HashMap;

use super::advance::CHUNK;
use super::claim::BATCH;
use super::flight::Flight;
use super::tick::Limits;
use super::{Engine, EngineError};
use crate::domain::{Circuit, ProgressId, Releases, SendingHold, SendingHolds, Timeline, TimelineId, released};
use crate::store::{Claim, CustomerRange};

/// For so long after a reset somebody may put off what he decided before he heard of it.
const LATE_WORD: Duration = Duration::seconds(15);

impl Engine {
    /// Wakes what was put off by what is over, each run at its place in the time of release, and forgets that it was once no run
    /// waits for it. True: it stopped at a limit.
    pub(super) async fn wake_put_off(
        &self,
        holds: &SendingHolds,
        limits: &Limits,
        flight: &Flight,
    ) -> Result<bool, EngineError> {
        let ended: Vec<&SendingHold> = holds.ended(self.clock.now()).collect();
        let reset = self.circuits.reset_by_hand();
        if ended.is_empty() && reset.is_empty() {
            return Ok(false);
        }
        let stops = reset.iter().filter_map(|it| Some((it.channel, it.release?)));
        let releases = Releases {
            holds,
            channels: stops.collect(),
        };
        let mut timelines = HashMap::new();
        let (mut after, mut left) = (String::new(), 0);
        while let Some(range) = self.store.reader().next_range(&after, CHUNK).await? {
            if limits.reached() {
                return Ok(true);
            }
            left += self.wake_range(&range, &releases, &mut timelines, flight).await?;
            after = range.until;
        }
        // What is being sent at this moment writes its run as it knows it, so it is seen to by the next tick.
        if left == 0 {
            self.forget_releases(&ended, &reset).await?;
        }
        Ok(false)
    }

    async fn forget_releases(&self, holds: &[&SendingHold], circuits: &[Circuit]) -> Result<(), EngineError> {
        let txn = self.store.begin().await?;
        for hold in holds {
            txn.forget_hold(hold).await?;
        }
        let now = self.clock.now();
        let is_over = |circuit: &&Circuit| circuit.release.is_none_or(|release| release.until + LATE_WORD <= now);
        for circuit in circuits.iter().filter(is_over) {
            // One that opened again meanwhile has put off anew.
            txn.put_circuit(&circuit.released()).await?;
        }
        txn.commit().await?;
        self.read_circuits().await
    }

    /// Wakes the runs of a range, and says how many of them could not be because somebody is sending them.
    async fn wake_range(
        &self,
        range: &CustomerRange,
        releases: &Releases<'_>,
        timelines: &mut HashMap<TimelineId, Timeline>,
        flight: &Flight,
    ) -> Result<usize, EngineError> {
        let (mut after, mut left) = ((String::new(), ProgressId(0)), 0);
        loop {
            let (txn, now) = (self.store.begin().await?, self.clock.now());
            let put_off = txn.put_off_runs_for_update(range, (&after.0, after.1), BATCH).await?;
            let Some(last) = put_off.last else {
                return Ok(left);
            };
            // They are not waited for: who mends one wakes it.
            put_off.broken.iter().for_each(|broken| flight.note_broken(broken));
            let runs = put_off.runs;
            after = last;
            let mut missing: Vec<TimelineId> = runs.iter().map(|run| run.timeline_id).collect();
            missing.sort_unstable();
            missing.dedup();
            missing.retain(|id| !timelines.contains_key(id));
            for timeline in txn.read_timelines(&missing).await? {
                match timeline {
                    Ok(timeline) => drop(timelines.insert(timeline.id, timeline)),
                    Err((id, error)) => flight.note_broken_timeline(id, &error),
                }
            }
            let mut claims = Vec::new();
            for run in &runs {
                let Some(timeline) = timelines.get(&run.timeline_id) else {
                    continue;
                };
                if run.lease.is_some_and(|lease| lease.expires_at > now) {
                    left += 1;
                } else if let Some(woken) = released(timeline, run, releases, now) {
                    claims.push(Claim::new(run, woken, timeline.revision));
                }
            }
            txn.claim(&claims.iter().collect::<Vec<_>>(), now).await?;
            txn.commit().await?;
        }
    }
}
