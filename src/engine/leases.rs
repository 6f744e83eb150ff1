//! Leases of what is under way on this server, which are prolonged as long as it lives.
//!
//! A lease is shorter than some things take: a database that is away while an outcome is to be recorded, above all. As long as this
//! server works on a run, nobody else shall take it over and send once more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Engine, EngineError};
use crate::domain::{CustomerId, Lease, ProgressId, Run, Timestamp};
use crate::failpoint::{Failpoint, reach};
use crate::store::HeldLease;

/// What this server holds.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<HashMap<ProgressId, (CustomerId, Lease)>>);

/// A run is held as long as this is there.
#[derive(Debug)]
pub(super) struct Hold {
    engine: Arc<Engine>,
    run: ProgressId,
    token: i64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.engine.leases.with(|held| {
            if held.get(&self.run).is_some_and(|(_, lease)| lease.token == self.token) {
                held.remove(&self.run);
            }
        });
    }
}

impl Leases {
    fn with<T>(&self, f: impl FnOnce(&mut HashMap<ProgressId, (CustomerId, Lease)>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a run is held under this token still. By the clock on the wall: a machine that slept did not feel the time pass.
    pub(super) fn is_held(&self, run: ProgressId, token: i64, now: Timestamp) -> bool {
        self.with(|held| {
            held.get(&run)
                .is_some_and(|(_, lease)| lease.token == token && lease.expires_at > now)
        })
    }
}

impl Engine {
    /// Takes a claimed run among those whose leases are prolonged.
    pub(super) fn hold(self: &Arc<Self>, run: &Run, lease: Lease) -> Hold {
        self.leases
            .with(|held| held.insert(run.id, (run.customer_id.clone(), lease)));
        Hold {
            engine: Arc::clone(self),
            run: run.id,
            token: lease.token,
        }
    }

    /// Prolongs leases again and again, until whoever runs this drops it. It goes on while the server stops, as long as something is
    /// under way.
    pub async fn keep_leases(self: Arc<Self>) {
        let mut beats = tokio::time::interval(self.settings.heartbeat);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            if let Err(error) = self.prolong_leases().await {
                tracing::warn!(%error, "leases could not be prolonged");
            }
        }
    }

    /// Prolongs the leases of which a third is over.
    async fn prolong_leases(&self) -> Result<(), EngineError> {
        let now = self.clock.now();
        let soon = now + self.settings.lease * 2 / 3;
        let mut aging: Vec<HeldLease> = self.leases.with(|held| {
            let aging = held.iter().filter(|(_, (_, lease))| lease.expires_at <= soon);
            let lease = |(run, (customer, lease)): (&ProgressId, &(CustomerId, Lease))| HeldLease {
                customer: customer.clone(),
                run: *run,
                token: lease.token,
            };
            aging.map(lease).collect()
        });
        if aging.is_empty() {
            return Ok(());
        }
        // A lease by a clock that is wrong would end at any time.
        self.clock_guard.check().await?;
        // In the order in which everybody locks runs.
        aging.sort_by(|a, b| (&a.customer, a.run).cmp(&(&b.customer, b.run)));
        let expires_at = now + self.settings.lease;
        let txn = self.store.begin().await?;
        let prolonged = txn.prolong(&aging, expires_at).await?;
        reach(Failpoint::Heartbeat);
        txn.commit().await?;
        self.leases.with(|held| {
            for one in &aging {
                let is_held = |(_, lease): &&mut (CustomerId, Lease)| lease.token == one.token;
                match held.get_mut(&one.run).filter(is_held) {
                    Some((_, lease)) if prolonged.contains(&one.run) => lease.expires_at = expires_at,
                    // What of it has not begun does not begin any more.
                    Some(_) => {
                        tracing::warn!(
                            progress_id = one.run.0,
                            "run {} was taken over while it was under way",
                            one.run
                        );
                        held.remove(&one.run);
                    }
                    None => {}
                }
            }
        });
        Ok(())
    }
}
