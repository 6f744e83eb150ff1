//! Whether this server's clock agrees with the database's.
//!
//! Leases, due times and days are computed by each server's own clock, and the database's is the one that they all see. A server
//! whose clock is an hour ahead would send what is due in an hour, and take over what others are sending; one that is behind
//! would claim under leases that are over already. So whoever differs by more than the bound claims nothing until the clocks
//! agree again.

use chrono::Duration;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Engine, EngineError};
use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::store::Store;

/// How often the database's clock is read, when its answers come too late to say anything.
const TRIES: u32 = 3;

/// A clock that is wrong: this server's, or the database's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSkew {
    /// What this server's clock showed when the database read its own.
    pub server_time: Timestamp,
    /// What the database's clock showed.
    pub database_time: Timestamp,
    /// By how much they may differ.
    pub allowed: Duration,
}

/// Compares this server's clock with the database's, and keeps in mind what it found.
#[derive(Debug)]
pub(super) struct ClockGuard {
    store: Store,
    clock: Arc<dyn Clock>,
    allowed: Duration,
    /// What the last comparison that said anything found.
    found: Mutex<Option<ClockSkew>>,
    /// Told when it finds that the clocks agree no more, or again.
    changed: Notify,
}

impl ClockSkew {
    /// How far this server's clock is ahead of the database's; negative: behind it.
    pub fn ahead(&self) -> Duration {
        self.server_time - self.database_time
    }
}

impl std::fmt::Display for ClockSkew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds =
            |duration: Duration| format!("{}.{:03}", duration.num_seconds(), duration.num_milliseconds() % 1000);
        let side = if self.ahead() < Duration::zero() {
            "behind"
        } else {
            "ahead of"
        };
        write!(
            f,
            "this server's clock shows {} and is {} s {side} the database's, which shows {}, where {} s are allowed: set the \
             wrong one, by NTP on both machines",
            self.server_time.format("%FT%T%.3fZ"),
            seconds(self.ahead().abs()),
            self.database_time.format("%FT%T%.3fZ"),
            seconds(self.allowed),
        )
    }
}

impl ClockGuard {
    /// Knows of nothing wrong yet. A clock that does not show the world's time is never compared.
    pub(super) fn new(store: Store, clock: Arc<dyn Clock>, allowed: Duration) -> Self {
        Self {
            store,
            clock,
            allowed,
            found: Mutex::new(None),
            changed: Notify::new(),
        }
    }

    /// What is known, without asking the database.
    pub(super) fn agrees(&self) -> Result<(), EngineError> {
        let found = *self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.map_or(Ok(()), |skew| Err(EngineError::ClockSkewed(skew)))
    }

    /// Compares the clocks, with one statement as a rule. Where the database takes so long to answer that it can't be told
    /// whether they agree, what was known before holds.
    pub(super) async fn check(&self) -> Result<(), EngineError> {
        if !self.clock.is_real() {
            return Ok(());
        }
        for _ in 0..TRIES {
            let (before, begun) = (self.clock.now(), Instant::now());
            let database_time = self.store.reader().clock().await?;
            let trip = Duration::from_std(begun.elapsed()).unwrap_or(Duration::MAX);
            // It was read at any moment of the trip, so half of the trip is in doubt.
            let doubt = trip / 2;
            let skew = ClockSkew {
                server_time: before + doubt,
                database_time,
                allowed: self.allowed,
            };
            if let Some(agrees) = agrees(skew.ahead(), doubt, self.allowed) {
                self.note((!agrees).then_some(skew));
                break;
            }
        }
        self.agrees()
    }

    fn note(&self, now: Option<ClockSkew>) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *found, now);
        drop(found);
        if before.is_some() != now.is_some() {
            self.changed.notify_one();
        }
    }
}

impl Engine {
    /// Whether the database is there and is the right one, and its clock agrees with this server's, so that work may be done.
    pub async fn check_ready(&self) -> Result<(), EngineError> {
        if self.clock.is_real() {
            self.clock_guard.check().await?;
        }
        Ok(self.store.check_schema().await?)
    }

    /// Waits until it is found that the clocks agree no more, or again.
    pub async fn clock_changed(&self) {
        self.clock_guard.changed.notified().await;
    }

    /// Refuses, when the clocks were found to differ, what would do something by the time: start, move or plan runs, or judge
    /// by its clock what was sent to it. What stops something goes on, and so does reading. Costs no statement.
    pub fn clock_agrees(&self) -> Result<(), EngineError> {
        self.clock_guard.agrees()
    }
}

/// Whether clocks agree that differ by `ahead`, give or take `doubt`; none: there is too much doubt.
fn agrees(ahead: Duration, doubt: Duration, allowed: Duration) -> Option<bool> {
    if ahead.abs() + doubt <= allowed {
        Some(true)
    } else if ahead.abs() - doubt > allowed {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubt_is_half_of_the_trip() {
        let five = Duration::seconds(5);
        for (ahead_ms, doubt_ms, expected) in [
            (0, 0, Some(true)),
            (4_999, 1, Some(true)),
            (-5_000, 0, Some(true)),
            (5_001, 0, Some(false)),
            (-5_001, 0, Some(false)),
            (5_000, 1, None),
            (-5_001, 1, None),
            (0, 5_000, Some(true)),
            (0, 5_001, None),
            (3_600_000, 30_000, Some(false)),
            (-86_400_000, 30_000, Some(false)),
        ] {
            let (ahead, doubt) = (Duration::milliseconds(ahead_ms), Duration::milliseconds(doubt_ms));
            assert_eq!(agrees(ahead, doubt, five), expected, "{ahead_ms} ± {doubt_ms}");
        }
    }

    #[test]
    fn the_words_have_both_times_and_what_to_do() {
        let at = |time: &str| time.parse::<Timestamp>().expect("an instant");
        let skew = ClockSkew {
            server_time: at("2026-01-05T11:00:00.250Z"),
            database_time: at("2026-01-05T12:00:00Z"),
            allowed: Duration::seconds(5),
        };
        assert_eq!(
            skew.to_string(),
            "this server's clock shows 2026-01-05T11:00:00.250Z and is 3599.750 s behind the database's, which shows \
             2026-01-05T12:00:00.000Z, where 5.000 s are allowed: set the wrong one, by NTP on both machines"
        );
    }
}
