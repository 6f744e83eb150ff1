//! Circuits: a channel whose provider is not set up as it must be, or fails one message after the other, is left alone.
//!
//! A closed circuit lets all through. It opens for a pause, in which nothing of the channel is tried, costs an attempt or ages.
//! After the pause one message goes as a probe. If it gets an answer the circuit closes, else it opens for twice as long.

use chrono::Duration;
use serde::{Deserialize, Serialize};

use super::hold::share_of;
use super::{Channel, ProgressId, RELEASE_WINDOW, Timestamp};

/// Where a circuit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitState {
    /// All goes.
    Closed,
    /// Nothing goes before the next probe.
    Open,
    /// One message is under way, to see whether all may go again.
    HalfOpen,
}

impl CircuitState {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }

    /// The state of a word in the database.
    pub fn parse(word: &str) -> Option<Self> {
        let mut all = [Self::Closed, Self::Open, Self::HalfOpen].into_iter();
        all.find(|state| state.as_str() == word)
    }
}

/// Why a circuit opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitCause {
    /// The channel can't be used as it is set up.
    Misconfigured,
    /// A run of failures.
    Failures,
}

impl CircuitCause {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Misconfigured => "misconfigured",
            Self::Failures => "failures",
        }
    }

    /// The cause of a word in the database.
    pub fn parse(word: &str) -> Option<Self> {
        let mut all = [Self::Misconfigured, Self::Failures].into_iter();
        all.find(|cause| cause.as_str() == word)
    }
}

/// When a circuit opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitPolicy {
    /// After so many failures in a row that one server sees; 0: only when the channel is misconfigured.
    pub failures: u32,
    /// The first pause.
    pub pause: Duration,
    /// The longest pause, unless the first is longer.
    pub cap: Duration,
}

impl CircuitPolicy {
    /// The pause after so many in a row, from 1: each is twice as long as the one before.
    pub fn pause_after(&self, pauses: u32) -> Duration {
        let doublings = pauses.saturating_sub(1).min(20);
        let pause = self.pause.checked_mul(1 << doublings).unwrap_or(self.cap);
        pause.min(self.cap.max(self.pause))
    }
}

/// What came of a message, as far as it says something about its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelHealth {
    /// The provider took the message, or refused this one.
    Answered,
    /// The provider was not reached, or failed.
    Failed,
    /// The channel can't be used as it is set up.
    Misconfigured,
}

/// The circuit of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circuit {
    /// Of which.
    pub channel: Channel,
    /// Where it stands.
    pub state: CircuitState,
    /// Why it opened last; none: it never did.
    pub cause: Option<CircuitCause>,
    /// What the provider said when it opened last, or why somebody closed it.
    pub reason: String,
    /// Since when it is not closed; none: it is.
    pub opened_at: Option<Timestamp>,
    /// When a message goes as a probe; when half open, when the one that is under way is given up. None: it is closed.
    pub probe_at: Option<Timestamp>,
    /// How many pauses it had since it opened.
    pub pauses: u32,
    /// Counts its changes, so that of two at the same time one wins.
    pub revision: i64,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// When what it put off goes, as somebody closed it by hand; none: all of that was woken.
    #[serde(skip)]
    pub release: Option<ChannelStop>,
}

impl Circuit {
    /// A circuit that never opened.
    pub fn new(channel: Channel) -> Self {
        Self {
            channel,
            state: CircuitState::Closed,
            cause: None,
            reason: String::new(),
            opened_at: None,
            probe_at: None,
            pauses: 0,
            revision: 0,
            updated_at: Timestamp::UNIX_EPOCH,
            release: None,
        }
    }

    /// Whether all goes.
    pub fn is_closed(&self) -> bool {
        self.state == CircuitState::Closed
    }

    /// Whether a message may go as a probe: the pause is over, or nothing was heard of the one that went.
    pub fn is_probe_due(&self, now: Timestamp) -> bool {
        !self.is_closed() && self.probe_at.is_none_or(|at| at <= now)
    }

    /// Until when nothing goes, and over which time what was put off goes then.
    pub fn stop(&self, now: Timestamp) -> Option<ChannelStop> {
        let until = self.probe_at.filter(|at| !self.is_closed() && *at > now)?;
        let pause = self.opened_at.map_or(Duration::zero(), |at| until - at);
        Some(ChannelStop {
            until,
            window: pause.clamp(Duration::zero(), RELEASE_WINDOW),
        })
    }

    /// It opens, or opens again.
    #[must_use]
    pub fn opened(&self, cause: CircuitCause, reason: &str, policy: &CircuitPolicy, now: Timestamp) -> Self {
        let pauses = if self.is_closed() {
            1
        } else {
            self.pauses.saturating_add(1)
        };
        Self {
            state: CircuitState::Open,
            cause: Some(cause),
            reason: super::text::shortened(reason, 500),
            opened_at: self.opened_at.or(Some(now)),
            probe_at: Some(now + policy.pause_after(pauses)),
            pauses,
            release: None,
            ..self.changed(now)
        }
    }

    /// A probe goes, and is given up at an instant.
    #[must_use]
    pub fn probing(&self, until: Timestamp, now: Timestamp) -> Self {
        Self {
            state: CircuitState::HalfOpen,
            probe_at: Some(until),
            ..self.changed(now)
        }
    }

    /// What came of the probe: it closes, or opens again for longer. That the provider refuses for now says nothing against its set-up.
    #[must_use]
    pub fn probed(&self, health: ChannelHealth, reason: &str, policy: &CircuitPolicy, now: Timestamp) -> Self {
        match (health, self.cause) {
            (ChannelHealth::Misconfigured, _) => self.opened(CircuitCause::Misconfigured, reason, policy, now),
            (ChannelHealth::Failed, Some(CircuitCause::Failures)) => {
                self.opened(CircuitCause::Failures, reason, policy, now)
            }
            (ChannelHealth::Answered, _) | (ChannelHealth::Failed, Some(CircuitCause::Misconfigured) | None) => {
                self.closed("the provider answered", now)
            }
        }
    }

    /// The probe was not sent, so another may go at once.
    #[must_use]
    pub fn unprobed(&self, now: Timestamp) -> Self {
        Self {
            state: CircuitState::Open,
            probe_at: Some(now),
            ..self.changed(now)
        }
    }

    /// It closes.
    #[must_use]
    pub fn closed(&self, reason: &str, now: Timestamp) -> Self {
        Self {
            state: CircuitState::Closed,
            reason: reason.to_owned(),
            opened_at: None,
            probe_at: None,
            pauses: 0,
            release: None,
            ..self.changed(now)
        }
    }

    /// Somebody closes it. What it put off is not to wait for the probe, and goes over as long a time as it was open, but no longer than
    /// after a hold.
    #[must_use]
    pub fn reset(&self, reason: &str, now: Timestamp) -> Self {
        let open = self.opened_at.map_or(Duration::zero(), |at| now - at);
        let release = ChannelStop {
            until: now,
            window: open.clamp(Duration::zero(), RELEASE_WINDOW),
        };
        Self {
            release: Some(release),
            ..self.closed(reason, now)
        }
    }

    /// All that it put off is woken.
    #[must_use]
    pub fn released(&self) -> Self {
        Self {
            release: None,
            ..self.changed(self.updated_at)
        }
    }

    fn changed(&self, now: Timestamp) -> Self {
        Self {
            revision: self.revision + 1,
            updated_at: now,
            ..self.clone()
        }
    }
}

/// Until when a channel is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelStop {
    /// Until then at least.
    pub until: Timestamp,
    /// What is put off goes at some time in so long a time after it, so that no provider that has just come back gets all at once.
    pub window: Duration,
}

impl ChannelStop {
    /// Until when an action of a run is put off.
    pub fn until_for(&self, run: ProgressId) -> Timestamp {
        self.until + share_of(run, self.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Timestamp {
        format!("2026-03-02T{time}Z").parse().expect("an instant")
    }

    const POLICY: CircuitPolicy = CircuitPolicy {
        failures: 20,
        pause: Duration::minutes(5),
        cap: Duration::hours(1),
    };

    #[test]
    fn pauses_double_up_to_the_cap() {
        let minutes = (1..8).map(|pauses| POLICY.pause_after(pauses).num_minutes());
        assert_eq!(minutes.collect::<Vec<_>>(), [5, 10, 20, 40, 60, 60, 60]);
        assert_eq!(POLICY.pause_after(u32::MAX).num_minutes(), 60);
        let long = CircuitPolicy {
            pause: Duration::hours(2),
            ..POLICY
        };
        assert_eq!(long.pause_after(3).num_hours(), 2);
    }

    #[test]
    fn it_opens_is_probed_and_closes() {
        let closed = Circuit::new(Channel::Email);
        assert!(!closed.is_probe_due(at("12:00:00")) && closed.stop(at("12:00:00")).is_none());
        let open = closed.opened(CircuitCause::Misconfigured, "bad login", &POLICY, at("12:00:00"));
        assert_eq!(open.stop(at("12:04:59")).map(|stop| stop.until), Some(at("12:05:00")));
        assert!(!open.is_probe_due(at("12:04:59")) && open.is_probe_due(at("12:05:00")));
        let probing = open.probing(at("12:06:00"), at("12:05:00"));
        assert!(!probing.is_probe_due(at("12:05:59")) && probing.is_probe_due(at("12:06:00")));
        let again = probing.probed(ChannelHealth::Misconfigured, "bad login", &POLICY, at("12:05:01"));
        assert_eq!(again.probe_at, Some(at("12:15:01")));
        assert_eq!(again.opened_at, Some(at("12:00:00")));
        let closed = again.closed("", at("12:16:00"));
        assert_eq!((closed.opened_at, closed.pauses, closed.revision), (None, 0, 4));
        let reopened = closed.opened(CircuitCause::Failures, "again", &POLICY, at("13:00:00"));
        assert_eq!(
            (reopened.opened_at, reopened.probe_at),
            (Some(at("13:00:00")), Some(at("13:05:00")))
        );
    }

    #[test]
    fn a_probe_is_judged_by_what_had_opened_it() {
        use CircuitCause::{Failures, Misconfigured};
        for (cause, health, closes) in [
            (Misconfigured, ChannelHealth::Answered, true),
            (Misconfigured, ChannelHealth::Failed, true),
            (Misconfigured, ChannelHealth::Misconfigured, false),
            (Failures, ChannelHealth::Answered, true),
            (Failures, ChannelHealth::Failed, false),
            (Failures, ChannelHealth::Misconfigured, false),
        ] {
            let open = Circuit::new(Channel::Email).opened(cause, "", &POLICY, at("12:00:00"));
            let probing = open.probing(at("12:06:00"), at("12:05:00"));
            let after = probing.probed(health, "", &POLICY, at("12:05:01"));
            assert_eq!(after.is_closed(), closes, "{cause:?} {health:?}");
        }
    }

    #[test]
    fn what_was_put_off_comes_back_spread_out() {
        let open = Circuit::new(Channel::Sms).opened(CircuitCause::Failures, "", &POLICY, at("12:00:00"));
        let stop = open.stop(at("12:01:00")).expect("it is stopped");
        let times: std::collections::BTreeSet<Timestamp> = (1..100).map(|id| stop.until_for(ProgressId(id))).collect();
        assert_eq!(times.len(), 99);
        assert!(times.iter().all(|time| (at("12:05:00")..at("12:10:00")).contains(time)));
    }

    #[test]
    fn a_word_of_the_database_is_read_as_it_was_written() {
        for state in [CircuitState::Closed, CircuitState::Open, CircuitState::HalfOpen] {
            assert_eq!(CircuitState::parse(state.as_str()), Some(state));
        }
        assert_eq!(CircuitState::parse("ajar"), None);
        for cause in [CircuitCause::Misconfigured, CircuitCause::Failures] {
            assert_eq!(CircuitCause::parse(cause.as_str()), Some(cause));
        }
        assert_eq!(CircuitCause::parse(""), None);
    }
}
