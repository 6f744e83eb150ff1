//! Runs that were stopped while messages of them were under way, and whose sender died before it could record them.

use chrono::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::decided::{count_decision, entry};
use super::flight::Flight;
use super::tick::Limits;
use super::{Engine, EngineError};
use crate::domain::{ProgressId, Status, plan};
use crate::store::{Before, BrokenRun, Completion, Txn};

/// How many are looked at in one go.
const BATCH: usize = 100;

/// When one that can't be read is looked at again. Until then it does not stand in the way of others.
const LATER: Duration = Duration::hours(1);

impl Engine {
    /// Finds out what became of messages of stopped runs whose senders died. True: it stopped at a limit.
    pub(super) async fn settle_stopped(&self, limits: &Limits, flight: &Flight) -> Result<bool, EngineError> {
        loop {
            let found = self.store.reader().stopped_in_flight(self.clock.now(), BATCH).await?;
            for (customer, id) in &found {
                if limits.reached() {
                    return Ok(true);
                }
                self.settle_one(customer, *id, flight).await?;
            }
            if found.len() < BATCH {
                return Ok(false);
            }
        }
    }

    async fn settle_one(&self, customer: &str, id: ProgressId, flight: &Flight) -> Result<(), EngineError> {
        let (txn, now) = (self.store.begin().await?, self.clock.now());
        let later = async |txn: Txn, broken: &BrokenRun| {
            flight.note_broken(broken);
            txn.look_again(customer, id, now + LATER).await?;
            Ok(txn.commit().await?)
        };
        let run = match txn.read_run_for_update(customer, id).await?.transpose() {
            Ok(run) => run,
            Err(broken) => return later(txn, &broken).await,
        };
        let stopped = run.filter(|run| run.status == Status::Stopped);
        let Some((run, lease)) = stopped.and_then(|run| run.lease.map(|lease| (run, lease))) else {
            // It was recorded.
            txn.forget_stopped(customer, id).await?;
            return Ok(txn.commit().await?);
        };
        if lease.expires_at > now {
            txn.look_again(customer, id, lease.expires_at).await?;
            return Ok(txn.commit().await?);
        }
        let timeline = match txn.read_timelines(&[run.timeline_id]).await?.pop() {
            Some(Ok(timeline)) => timeline,
            Some(Err((id, error))) => {
                flight.note_broken_timeline(id, &error);
                return later(txn, &BrokenRun::of(&run, "its timeline can't be read")).await;
            }
            None => return later(txn, &BrokenRun::of(&run, "its timeline is not there")).await,
        };
        let of_run = txn.customer(&run.customer_id).await?;
        let is_test = of_run.is_some_and(|customer| customer.is_test);
        let before = Before::of(&run, timeline.revision);
        let lost = || plan::lost(&timeline, run.clone(), &self.settings.retry, now);
        let Ok((lost, decisions)) = catch_unwind(AssertUnwindSafe(lost)) else {
            let what = "finding out what became of it panicked, which is a fault of this service";
            return later(txn, &BrokenRun::of(&run, what)).await;
        };
        let entries = decisions
            .iter()
            .filter_map(|decision| entry(&lost, &timeline, decision, now));
        let entries: Vec<_> = entries.collect();
        let completion = Completion::new(before, lease.token, &run, lost);
        txn.complete(&[&completion], now).await?;
        txn.insert_missing_executions(&entries).await?;
        txn.forget_stopped(customer, id).await?;
        txn.commit().await?;
        flight.count(|counts| {
            for decision in decisions.iter().filter(|_| !is_test) {
                count_decision(counts, &timeline, decision);
            }
        });
        Ok(())
    }
}
