//! When a failed attempt is repeated.

use chrono::Duration;

/// How often, and how far apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many attempts are made in all, from 1.
    pub max_attempts: u32,
    /// The wait after the first attempt; it doubles with each.
    pub base: Duration,
    /// The longest wait.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    /// 8 attempts over about 10 hours: 5, 10, 20, 40, 80, 160 and 240 minutes apart.
    fn default() -> Self {
        Self {
            max_attempts: 8,
            base: Duration::minutes(5),
            cap: Duration::hours(4),
        }
    }
}

impl RetryPolicy {
    /// The wait after attempt number `attempt` (from 1), or none when it was the last.
    ///
    /// It is `base` · 2^(attempt − 1), at most `cap`, and ±20 % by `jitter`, which is from 0 to 1. What the provider asked for
    /// counts when it is longer, up to twice that wait: a provider must not park a message for a week.
    pub fn wait(&self, attempt: u32, asked: Option<Duration>, jitter: f64) -> Option<Duration> {
        if attempt >= self.max_attempts {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(30);
        let base = self
            .base
            .checked_mul(1 << doublings)
            .map_or(self.cap, |wait| wait.min(self.cap));
        let spread = 0.8 + 0.4 * jitter.clamp(0.0, 1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "milliseconds of hours fit"
        )]
        let own = Duration::milliseconds((base.num_milliseconds() as f64 * spread) as i64);
        let asked = asked.map_or(own, |asked| asked.clamp(base, base * 2));
        Some(own.max(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_double_up_to_the_cap_and_end() {
        let policy = RetryPolicy::default();
        let minutes: Vec<_> = (1..=8)
            .map(|attempt| policy.wait(attempt, None, 0.5).map(|wait| wait.num_minutes()))
            .collect();
        let expected = [
            Some(5),
            Some(10),
            Some(20),
            Some(40),
            Some(80),
            Some(160),
            Some(240),
            None,
        ];
        assert_eq!(minutes, expected);
    }

    #[test]
    fn what_the_provider_asks_is_honoured_within_bounds() {
        let policy = RetryPolicy::default();
        let wait = |asked| {
            policy
                .wait(1, Some(Duration::minutes(asked)), 0.5)
                .expect("a wait")
                .num_minutes()
        };
        assert_eq!([wait(0), wait(7), wait(10), wait(600)], [5, 7, 10, 10]);
    }

    proptest! {
        #[test]
        fn a_wait_stays_within_a_fifth(attempt in 1u32..10_000, jitter in 0.0f64..=1.0) {
            let policy = RetryPolicy { max_attempts: u32::MAX, ..RetryPolicy::default() };
            let middle = policy.wait(attempt, None, 0.5).expect("a wait");
            let wait = policy.wait(attempt, None, jitter).expect("a wait");
            prop_assert!(wait * 10 >= middle * 8 - Duration::seconds(1));
            prop_assert!(wait * 10 <= middle * 12 + Duration::seconds(1));
            prop_assert!(wait <= policy.cap * 2);
        }
    }
}
