//! Warnings of what others can cause as often as they like.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The least time between two warnings of one kind.
const APART: Duration = Duration::from_secs(10);

/// Counts, and warns now and then.
#[derive(Debug, Default)]
pub(super) struct Rarely(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    times: u64,
    said: Option<Instant>,
}

impl Rarely {
    /// Counts once, and says it with the number of times by now, unless something was said a moment ago.
    pub(super) fn warn(&self, text: impl FnOnce(u64) -> String) {
        if let Some(times) = self.count(Instant::now()) {
            tracing::warn!(times, "{}", text(times));
        }
    }

    fn count(&self, now: Instant) -> Option<u64> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.times += 1;
        if counted.said.is_some_and(|said| now.duration_since(said) < APART) {
            return None;
        }
        counted.said = Some(now);
        Some(counted.times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_few_are_said() {
        let (rarely, begin) = (Rarely::default(), Instant::now());
        let said: Vec<Option<u64>> = [0, 1, 9, 10, 19, 25]
            .map(|second| rarely.count(begin + Duration::from_secs(second)))
            .into();
        assert_eq!(said, [Some(1), None, None, Some(4), None, Some(6)]);
    }
}
