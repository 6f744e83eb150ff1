//! What becomes of an action in a run: carried out, skipped, failed, deferred, in flight, and why.

use chrono::Duration;
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
        }
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
}

/// What an action waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeferReason {
    /// An earlier action of the run.
    WaitingForAction,
    /// An hour since the last late message of the channel.
    Spacing,
    /// The channel to be mended.
    ChannelUnavailable,
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
