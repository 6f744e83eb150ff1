//! Tasks for people: when one is complete, and what people report of it.

use chrono::Duration;
use serde::{Deserialize, Serialize};

use super::{ActionId, Timestamp};

/// How long a task waits for its report, unless it says otherwise.
pub const DEFAULT_COMPLETION: Duration = Duration::days(7);

/// When an action is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Completion {
    /// Once it is handed over; so is whatever is no task.
    #[default]
    HandedOver,
    /// A task: once somebody reports what came of it.
    Reported {
        /// How long it waits for that after it was handed over. Whole seconds, 1 minute to 90 days.
        within: Duration,
    },
}

/// What came of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskOutcome {
    /// It was done.
    Done,
    /// The customer declined.
    Declined,
    /// The customer was not reached.
    NoAnswer,
    /// It was called off.
    Cancelled,
}

/// What somebody reported of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Which action.
    pub id: ActionId,
    /// What came of it.
    pub outcome: TaskOutcome,
    /// When it was reported.
    pub at: Timestamp,
}

impl Completion {
    /// How long a report is waited for, if it is.
    pub fn within(self) -> Option<Duration> {
        match self {
            Self::HandedOver => None,
            Self::Reported { within } => Some(within),
        }
    }
}

impl TaskOutcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Done, Self::Declined, Self::NoAnswer, Self::Cancelled];

    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Declined => "declined",
            Self::NoAnswer => "no_answer",
            Self::Cancelled => "cancelled",
        }
    }

    /// The outcome of a word in the database.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == word)
    }
}
