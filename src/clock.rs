//! The only place that asks what time it is.
//!
//! Everything else is given the time: the engine holds a [`Clock`], the domain gets an instant. So tests and the demo
//! wind the clock by hand, and nothing they see depends on when they ran.

use chrono::{DateTime, Duration, DurationRound, Utc};
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

/// Tells the time.
pub trait Clock: Send + Sync + Debug {
    /// Now, in whole microseconds, because `PostgreSQL` keeps no more.
    fn now(&self) -> DateTime<Utc>;

    /// Whether it means to show the world's time, so that it must agree with the clocks of other machines. A clock that is
    /// wound by hand does not.
    fn is_real(&self) -> bool;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the one place where the machine's clock is read"
        )]
        let now = Utc::now();
        whole_microseconds(now)
    }

    fn is_real(&self) -> bool {
        true
    }
}

/// A clock that stands still until somebody moves it.
#[derive(Debug)]
pub struct ManualClock(Mutex<DateTime<Utc>>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: DateTime<Utc>) -> Self {
        Self(Mutex::new(whole_microseconds(now)))
    }

    /// Sets the clock, forwards or backwards.
    pub fn set(&self, now: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = whole_microseconds(now);
    }

    /// Moves the clock on by `step`.
    pub fn advance(&self, step: Duration) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = whole_microseconds(*now + step);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_real(&self) -> bool {
        false
    }
}

/// A clock that shows what is written in a file, so that it stands still while the process that reads it is killed and another one
/// begins.
#[cfg(feature = "test-support")]
#[derive(Debug)]
pub struct FileClock(std::path::PathBuf);

#[cfg(feature = "test-support")]
impl FileClock {
    /// A clock that shows the instant in this file, as RFC 3339 has it. Whoever winds it puts a new file in its place.
    pub fn new(path: std::path::PathBuf) -> Self {
        Self(path)
    }
}

#[cfg(feature = "test-support")]
impl Clock for FileClock {
    /// # Panics
    ///
    /// Where there is no instant in the file.
    fn now(&self) -> DateTime<Utc> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        let shown = text.trim().parse();
        whole_microseconds(shown.unwrap_or_else(|_| panic!("{}: {text:?} is no instant", self.0.display())))
    }

    fn is_real(&self) -> bool {
        false
    }
}

/// Cuts off what is finer than a microsecond.
pub fn whole_microseconds(time: DateTime<Utc>) -> DateTime<Utc> {
    time.duration_trunc(Duration::microseconds(1)).unwrap_or(time)
}
