//! Places at the database: as many as there may be connections. Whoever wants a connection stands in line for a place first, so that it
//! can be told how many do, and for how long. The pool of the driver tells nobody; behind a place it has a connection, or opens one.

use sea_orm::{ConnAcquireErr, DbErr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::telemetry::Metrics;

/// All places of a pool.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// The name of their database.
    system: &'static str,
    free: Arc<Semaphore>,
    waiting: Arc<AtomicU32>,
    /// How long to stand in line.
    patience: Duration,
}

/// Somebody stands in line as long as this is there.
struct Waiting<'a>(&'a AtomicU32);

impl Places {
    pub(super) fn new(system: &'static str, count: u32, patience: Duration) -> Self {
        Self {
            system,
            free: Arc::new(Semaphore::new(usize::try_from(count).unwrap_or(Semaphore::MAX_PERMITS))),
            waiting: Arc::default(),
            patience,
        }
    }

    /// Takes a place, for as long as what it gives is there.
    pub(super) async fn take(&self, metrics: &Metrics) -> Result<OwnedSemaphorePermit, DbErr> {
        let begun = Instant::now();
        let waiting = Waiting::begin(&self.waiting);
        let taken = tokio::time::timeout(self.patience, Arc::clone(&self.free).acquire_owned()).await;
        drop(waiting);
        let place = taken.ok().and_then(Result::ok);
        metrics.waited_for_connection(self.system, begun.elapsed(), place.is_some());
        place.ok_or(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))
    }

    /// How many stand in line.
    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_is_counted_until_he_has_a_place_or_goes() {
        let (places, metrics) = (Places::new("sqlite", 1, Duration::from_mins(1)), Metrics::unread());
        let first = places.take(&metrics).await.expect("a place");
        let (mut second, mut third) = (Box::pin(places.take(&metrics)), Box::pin(places.take(&metrics)));
        assert!(futures::poll!(&mut second).is_pending() && futures::poll!(&mut third).is_pending());
        assert_eq!(places.waiting(), 2);
        drop(third);
        assert_eq!(places.waiting(), 1);
        drop(first);
        let second = second.await.expect("a place");
        assert_eq!(places.waiting(), 0);
        let impatient = Places {
            patience: Duration::ZERO,
            ..places.clone()
        };
        let refused = impatient.take(&metrics).await;
        assert!(matches!(
            refused,
            Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))
        ));
        drop(second);
        let third = impatient.take(&metrics).await;
        assert!(third.is_ok(), "{third:?}");
    }
}
