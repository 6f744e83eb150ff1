//! Runs that were stopped while messages of them were under way, and whose sender died before it could record them.

use super::claim::{count_decision, entry};
use super::flight::Flight;
use super::tick::Limits;
use super::{Engine, EngineError};
use crate::domain::{CustomerId, ProgressId, Status, plan};
use crate::store::{Before, Completion};

/// How many are looked at in one go.
const BATCH: usize = 100;

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

    async fn settle_one(&self, customer: &CustomerId, id: ProgressId, flight: &Flight) -> Result<(), EngineError> {
        let (txn, now) = (self.store.begin().await?, self.clock.now());
        let run = txn.run_for_update(customer, id).await?;
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
        let timeline = txn.timeline(run.timeline_id).await?;
        let timeline = timeline.ok_or(EngineError::TimelineNotFound(run.timeline_id))?;
        let is_test = txn.customer(customer).await?.is_some_and(|customer| customer.is_test);
        let before = Before::of(&run, timeline.revision);
        let (run, decisions) = plan::lost(&timeline, run, &self.settings.retry, now);
        let entries = decisions
            .iter()
            .filter_map(|decision| entry(&run, &timeline, decision, now));
        let entries: Vec<_> = entries.collect();
        let completion = Completion {
            before,
            token: lease.token,
            run,
        };
        txn.complete(&[completion], now).await?;
        txn.insert_executions(&entries).await?;
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
