//! A machine's clock that is wrong.

use campaign_automation::clock::{Clock, SystemClock};
use campaign_automation::domain::Timestamp;
use chrono::Duration;
use std::sync::{Mutex, PoisonError};

/// The machine's clock, and by how much it is ahead.
#[derive(Debug)]
pub(crate) struct SkewedClock(Mutex<Duration>);

impl SkewedClock {
    /// A clock that is ahead by so much, or behind.
    pub(crate) fn ahead(by: Duration) -> Self {
        Self(Mutex::new(by))
    }

    /// Sets it so that it is ahead by so much, or behind.
    pub(crate) fn set(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = by;
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        SystemClock.now() + *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_real(&self) -> bool {
        true
    }
}
