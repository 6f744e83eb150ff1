//! What becomes of an action in a run: carried out, skipped, failed, deferred, in flight, and why.

use chrono::Duration;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error, StrDeserializer};
use serde::{Deserialize, Serialize};

use super::{ActionId, Timestamp};

/// An action that won't be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Which.
    pub id: ActionId,
    /// Why.
    pub reason: SkipReason,
}

/// Why an action won't be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// A condition said so.
    Condition,
    /// A gate earlier on its day said so.
    Gated,
    /// Its hour had passed at the start, and such were not wanted.
    HourPassedAtStart,
    /// It was removed while it was pending.
    Removed,
    /// It came too late.
    Expired,
    /// The customer's zone is not known, and no hour suits all zones where he may be.
    QuietHoursUnknown,
    /// The recipient must not be written to by its channel.
    Suppressed,
    /// A task that was handed over, and nobody reported what came of it in time.
    NotCompletedInTime,
    /// A wait whose event did not come, and that holds the rest of its day then.
    EventMissing,
}

impl SkipReason {
    /// The word in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Condition => "condition",
            Self::Gated => "gated",
            Self::HourPassedAtStart => "hour_passed_at_start",
            Self::Removed => "removed",
            Self::Expired => "expired",
            Self::QuietHoursUnknown => "quiet_hours_unknown",
            Self::Suppressed => "suppressed",
            Self::NotCompletedInTime => "not_completed_in_time",
            Self::EventMissing => "event_missing",
        }
    }

    /// Whether its time is over, rather than that somebody decided against it.
    pub fn is_expiry(self) -> bool {
        match self {
            Self::Expired | Self::NotCompletedInTime => true,
            Self::Condition
            | Self::Gated
            | Self::HourPassedAtStart
            | Self::Removed
            | Self::QuietHoursUnknown
            | Self::Suppressed
            | Self::EventMissing => false,
        }
    }

    /// The reason of a word in the ledger.
    pub fn parse(word: &str) -> Option<Self> {
        parsed(word)
    }
}

/// An action that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Which.
    pub id: ActionId,
    /// How many attempts were made.
    pub attempts: u32,
    /// Whether it is repeated.
    pub state: FailureState,
    /// Why, as a fixed word.
    pub reason: FailureReason,
    /// Why, for people; at most 500 characters.
    pub error: String,
    /// When it was due at first.
    pub due: Timestamp,
    /// From when its lateness counts.
    pub since: Timestamp,
    /// When the last attempt ended.
    pub at: Timestamp,
    /// Whether an attempt may have reached the customer. Such an action ends as completed or unknown, whatever comes of it
    /// later: nobody may read that a message was skipped or refused which the customer has in hand.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_have_arrived: bool,
    /// Why it is tried again by somebody's word; empty where nobody gave one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub retry_reason: String,
}

/// Whether a failed action is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureState {
    /// At this instant.
    Retrying(Timestamp),
    /// It is not.
    Failed,
    /// It is not, because it may have been delivered.
    Unknown,
}

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// Refused for good.
    Rejected,
    /// Refused for now, or not reached.
    Temporary,
    /// Handed over perhaps.
    OutcomeUnknown,
    /// The customer has no address for the channel.
    MissingAddress,
    /// The content can't be rendered.
    Template,
    /// The channel is not set up as it must be.
    Misconfigured,
    /// The recipient must not be written to.
    Suppressed,
}

impl FailureReason {
    /// The word in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Temporary => "temporary",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::MissingAddress => "missing_address",
            Self::Template => "template",
            Self::Misconfigured => "misconfigured",
            Self::Suppressed => "suppressed",
        }
    }

    /// The reason of a word in the ledger.
    pub fn parse(word: &str) -> Option<Self> {
        parsed(word)
    }
}

/// A variant by the word that serde has for it.
fn parsed<'a, T: Deserialize<'a>>(word: &'a str) -> Option<T> {
    let word: StrDeserializer<'a, Error> = word.into_deserializer();
    T::deserialize(word).ok()
}

/// An action that was due and waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deferred {
    /// Which.
    pub id: ActionId,
    /// Until when at most.
    pub until: Timestamp,
    /// What for.
    pub reason: DeferReason,
    /// When it was due at first.
    pub due: Timestamp,
    /// How late it was when it was put off, in milliseconds. What waits does not age.
    pub late_by_ms: i64,
    /// How many attempts were made before.
    #[serde(default)]
    pub attempts: u32,
    /// As in [`Failed`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_have_arrived: bool,
}

/// What an action waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeferReason {
    /// An earlier action of the run.
    WaitingForAction,
    /// An hour since the last late message of the channel.
    Spacing,
    /// The channel to be mended: its circuit is open.
    ChannelUnavailable,
    /// A sending hold to be over.
    SendingHeld,
    /// A token of the rate of its channel, or of its recipient's domain.
    RateLimited,
    /// The quiet hours to be over where the customer is. From then on it ages again.
    QuietHours,
    /// Somebody to report what came of a task that was handed over. Then it expires.
    WaitingForCompletion,
    /// An event, at most until its day is over.
    WaitingForEvent,
}

/// An action that is claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// Which.
    pub id: ActionId,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// When it was due at first.
    pub due: Timestamp,
    /// From when its lateness counts: `due`, and later by the time for which the engine put it off or the run was frozen.
    pub since: Timestamp,
}

/// What an attempt came to, as the run sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempted {
    /// Carried out.
    Completed,
    /// Failed; perhaps worth another attempt.
    Retry {
        /// Why, as a fixed word.
        reason: FailureReason,
        /// Why, for people.
        error: String,
        /// How long the provider asked to wait.
        after: Option<Duration>,
    },
    /// Failed for good.
    Failed {
        /// Why, as a fixed word.
        reason: FailureReason,
        /// Why, for people.
        error: String,
    },
    /// Nobody knows.
    Unknown {
        /// What happened.
        error: String,
    },
    /// Not begun, because the channel is stopped until then. It costs no attempt.
    ChannelUnavailable {
        /// Until when.
        until: Timestamp,
    },
    /// Not begun in time; it is due still. It costs no attempt.
    HandedBack,
}

impl Failed {
    /// When it is repeated, if it is.
    pub fn retry_at(&self) -> Option<Timestamp> {
        match self.state {
            FailureState::Retrying(at) => Some(at),
            FailureState::Failed | FailureState::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_the_ledger_is_read_as_it_was_written() {
        for reason in [
            SkipReason::Condition,
            SkipReason::Gated,
            SkipReason::HourPassedAtStart,
            SkipReason::Removed,
            SkipReason::Expired,
            SkipReason::QuietHoursUnknown,
            SkipReason::Suppressed,
            SkipReason::NotCompletedInTime,
            SkipReason::EventMissing,
        ] {
            assert_eq!(SkipReason::parse(reason.as_str()), Some(reason));
        }
        for reason in [
            FailureReason::Rejected,
            FailureReason::Temporary,
            FailureReason::OutcomeUnknown,
            FailureReason::MissingAddress,
            FailureReason::Template,
            FailureReason::Misconfigured,
            FailureReason::Suppressed,
        ] {
            assert_eq!(FailureReason::parse(reason.as_str()), Some(reason));
        }
        assert_eq!(SkipReason::parse("rejected"), None);
        assert_eq!(FailureReason::parse(""), None);
    }
}
