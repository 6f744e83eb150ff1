//! Events that a wait waits for.

use super::EngagementQuery;

/// What a wait waits for, and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwaitedEvent {
    /// What the customer does. Where it is about an action of the run it counts whenever it was done, and else from when the run
    /// came to the day of the wait on.
    pub query: EngagementQuery,
    /// How many hours after it begins it gives up, 1..=24; none, or where that is later: when its day is over.
    pub timeout_hours: Option<u32>,
    /// What happens then.
    pub after_timeout: AfterTimeout,
}

/// What happens when an event does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AfterTimeout {
    /// The day goes on.
    #[default]
    Continue,
    /// The later actions of the day are skipped.
    SkipRestOfDay,
}

impl AfterTimeout {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Continue, Self::SkipRestOfDay];

    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::SkipRestOfDay => "skip_rest_of_day",
        }
    }
}
