//! The built-in schedule, for deployments without `CronJob`s: the same two ticks, at round times.
//!
//! Any number of servers may have it. One at a time runs the ticks: whoever takes the turn, which it prolongs as long as its ticks
//! run. When it dies the turn ends, and another one goes on with the ticks of the same name. That saves work and nothing
//! else depends on it, as ticks may overlap.
//!
//! Like the ticks it keeps nothing in mind: a server that comes up after the time of a tick runs it at once, and times that
//! passed while nobody was there are made good by that one.

use chrono::{Duration, DurationRound as _, SecondsFormat};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;
use uuid::Uuid;

use super::{Engine, EngineError, Stop, TickEvents, TickRequest};
use crate::domain::{TickKind, TickSummary, Timestamp};
use crate::store::{Buckets, ScheduleTurn};

/// How often the clock is looked at.
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);

/// How long to leave the database alone while another server has the turn, or after a failure.
const REST: std::time::Duration = std::time::Duration::from_secs(15);

/// How long a turn holds when its server dies.
const TURN: Duration = Duration::minutes(1);

/// How often it is prolonged.
const PROLONG: std::time::Duration = std::time::Duration::from_secs(20);

/// Whose ticks these are. No caller is called so, so nobody else's have their names.
const CALLER: &str = "/schedule";

impl Engine {
    /// Runs both ticks at each multiple of `every` since midnight UTC, until the server stops.
    pub async fn keep_schedule(self: Arc<Self>, every: std::time::Duration) {
        let every = Duration::from_std(every).unwrap_or(Duration::MAX);
        let holder = self.random.uuid();
        let mut done: Option<Timestamp> = None;
        let mut rest = LOOK;
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
            }
            rest = LOOK;
            let slot = slot(self.clock.now(), every);
            if done.is_some_and(|done| done >= slot) {
                continue;
            }
            match self.take_turn(holder, slot).await {
                Ok(true) => done = Some(slot),
                Ok(false) => rest = REST,
                Err(EngineError::Stopping) => return,
                Err(error) => {
                    tracing::warn!(%error, "the scheduled ticks broke off, and are tried again");
                    rest = REST;
                }
            }
        }
    }

    /// Runs the ticks of `slot`, if it is this server's turn. Whether they are done, by whomever.
    async fn take_turn(self: &Arc<Self>, holder: Uuid, slot: Timestamp) -> Result<bool, EngineError> {
        // By a clock that is wrong it would take the turn from whoever has it, and could not tick.
        self.clock_guard.check().await?;
        let now = self.clock.now();
        let txn = self.store.begin().await?;
        let turn = txn.take_schedule(holder, slot, now, now + TURN).await?;
        txn.commit().await?;
        match turn {
            ScheduleTurn::Held => return Ok(false),
            ScheduleTurn::Done => return Ok(true),
            ScheduleTurn::Taken => {}
        }
        let lost = CancellationToken::new();
        let keeping = AbortOnDropHandle::new(tokio::spawn(Arc::clone(self).keep_turn(holder, lost.clone())));
        let ticked = self.run_ticks(slot, &lost).await;
        drop(keeping);
        // A server that stops leaves the rest to the others, at once.
        let is_done = ticked.is_ok() && !lost.is_cancelled() && !self.stopping.is_cancelled();
        let txn = self.store.begin().await?;
        let done = is_done.then_some(slot);
        txn.leave_schedule(holder, done).await?;
        txn.commit().await?;
        ticked.map(|()| is_done)
    }

    async fn run_ticks(self: &Arc<Self>, slot: Timestamp, lost: &CancellationToken) -> Result<(), EngineError> {
        for kind in [TickKind::Advance, TickKind::Process] {
            let request = TickRequest {
                kind,
                caller: CALLER.to_owned(),
                tick_id: Some(format!("schedule-{}", slot.to_rfc3339_opts(SecondsFormat::Secs, true))),
                max_actions: None,
                buckets: Buckets::ALL,
                timelines: Vec::new(),
                dry_run: false,
            };
            let stop = Stop {
                deadline: None,
                abandoned: lost.clone(),
            };
            let tick_id = request.tick_id.as_deref().unwrap_or_default();
            let span = tracing::info_span!("tick", kind = kind.as_str(), tick_id);
            log(&self
                .tick(request, stop, &TickEvents::default())
                .instrument(span)
                .await?);
        }
        Ok(())
    }

    /// Prolongs the turn, and when it is lost all the same ends its ticks.
    async fn keep_turn(self: Arc<Self>, holder: Uuid, lost: CancellationToken) {
        loop {
            tokio::time::sleep(PROLONG).await;
            match self.prolong_turn(holder).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!("another server took the scheduled ticks over");
                    lost.cancel();
                    return;
                }
                Err(error) => tracing::warn!(%error, "the turn to run the scheduled ticks could not be prolonged"),
            }
        }
    }

    async fn prolong_turn(&self, holder: Uuid) -> Result<bool, EngineError> {
        let txn = self.store.begin().await?;
        let is_kept = txn.keep_schedule(holder, self.clock.now() + TURN).await?;
        txn.commit().await?;
        Ok(is_kept)
    }
}

/// The last multiple of `every` since midnight UTC, which divides a day.
fn slot(now: Timestamp, every: Duration) -> Timestamp {
    now.duration_trunc(every).unwrap_or(now)
}

fn log(summary: &TickSummary) {
    let of_all = |count: fn(&crate::domain::ChannelCounts) -> u64| summary.counts.channels.values().map(count).sum();
    let (completed, failed): (u64, u64) = (of_all(|counts| counts.completed), of_all(|counts| counts.failed));
    tracing::info!(
        tick_id = summary.tick_id,
        kind = summary.kind.as_str(),
        completed,
        failed,
        advanced_runs = summary.counts.advanced_runs,
        has_more = summary.has_more,
        "tick {} ({}): {completed} actions carried out, {failed} failed, {} runs moved to another day",
        summary.tick_id,
        summary.kind.as_str(),
        summary.counts.advanced_runs,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_round_times() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        for (minutes, now, expected) in [
            (15, "2026-01-05T12:00:00Z", "2026-01-05T12:00:00Z"),
            (15, "2026-01-05T12:14:59.999999Z", "2026-01-05T12:00:00Z"),
            (15, "2026-01-05T12:15:00Z", "2026-01-05T12:15:00Z"),
            (20, "2026-01-05T23:59:00Z", "2026-01-05T23:40:00Z"),
            (60, "2026-01-05T00:59:00Z", "2026-01-05T00:00:00Z"),
            (1, "2026-01-05T00:59:30Z", "2026-01-05T00:59:00Z"),
        ] {
            assert_eq!(
                slot(at(now), Duration::minutes(minutes)),
                at(expected),
                "{minutes} at {now}"
            );
        }
    }
}
