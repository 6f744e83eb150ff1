//! Runs that were paused or stopped while messages of them were under way, and whose sender died before it could record them.

use super::claim::entry;
use super::tick::Limits;
use super::{Engine, EngineError};
use crate::domain::{CustomerId, ProgressId, plan};
use crate::store::{Before, Completion};

/// How many are looked at in one go.
const BATCH: usize = 100;

impl Engine {
    /// Finds out what became of messages of frozen runs whose senders died. True: it stopped at a limit.
    pub(super) async fn settle_frozen(&self, limits: &Limits) -> Result<bool, EngineError> {
        loop {
            let found = self.store.reader().frozen_in_flight(self.clock.now(), BATCH).await?;
            for (customer, id) in &found {
                if limits.reached() {
                    return Ok(true);
                }
                self.settle_one(customer, *id).await?;
            }
            if found.len() < BATCH {
                return Ok(false);
            }
        }
    }

    async fn settle_one(&self, customer: &CustomerId, id: ProgressId) -> Result<(), EngineError> {
        let (txn, now) = (self.store.begin().await?, self.clock.now());
        let run = txn.run_for_update(customer, id).await?;
        // Recorded meanwhile, or active again, so that the ticks find it by themselves.
        let frozen = run.filter(|run| run.status != crate::domain::Status::Active);
        let Some((run, lease)) = frozen.and_then(|run| run.lease.map(|lease| (run, lease))) else {
            txn.forget_frozen(customer, id).await?;
            return Ok(txn.commit().await?);
        };
        if lease.expires_at > now {
            txn.look_again(customer, id, lease.expires_at).await?;
            return Ok(txn.commit().await?);
        }
        let timeline = txn.timeline(run.timeline_id).await?;
        let timeline = timeline.ok_or(EngineError::TimelineNotFound(run.timeline_id))?;
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
        txn.forget_frozen(customer, id).await?;
        Ok(txn.commit().await?)
    }
}
