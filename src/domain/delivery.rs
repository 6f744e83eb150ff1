//! Delivery reports: what a provider says became of a message or call that it took over.
//!
//! Reports come late, twice and in any order. So what is known of an attempt is the greatest of all reports on it, in an order
//! that is the same whichever came first.

use super::{ActionId, CustomerId, ProgressId, Timestamp};

/// The most characters of a status.
const MOST_STATUS: usize = 32;

/// The most characters of a code.
const MOST_CODE: usize = 32;

/// The most characters of a provider's id.
const MOST_ID: usize = 128;

/// The code with which Twilio says that the recipient said STOP.
const STOPPED: &str = "21610";

/// An attempt at an action of a run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptKey {
    /// Whose run.
    pub customer_id: CustomerId,
    /// Which run.
    pub progress_id: ProgressId,
    /// Which action.
    pub action_id: ActionId,
    /// Which attempt, from 1.
    pub attempt: u32,
}

/// A provider's word for where a message or call stands, as the provider gave it: 1 to 32 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderStatus(String);

/// What a status tells of the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The provider has it, or had it.
    TakenOver,
    /// It does not reach the customer.
    Failed,
}

impl ProviderStatus {
    /// Takes a status, without what can't be shown, and cut after 32 characters. None: nothing is left.
    pub fn parse(given: &str) -> Option<Self> {
        visible(given, MOST_STATUS).map(Self)
    }

    /// As the provider gave it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How far along the way it is. A word that nobody has heard of says no more than that the provider knows the message. Of two
    /// that say how it ended, which no honest provider sends, the better one counts: who has a message in hand has it.
    fn rank(&self) -> u8 {
        match self.0.as_str() {
            "scheduled" => 1,
            "accepted" => 2,
            "queued" => 3,
            "initiated" => 4,
            "sending" | "ringing" => 5,
            "sent" | "in-progress" | "answered" => 6,
            "canceled" => 7,
            "failed" => 8,
            "no-answer" => 9,
            "busy" => 10,
            "undelivered" => 11,
            "partially_delivered" => 12,
            "delivered" | "completed" => 13,
            "read" => 14,
            _ => 0,
        }
    }

    /// What it tells. A call that nobody answers was made, as it would be had its provider's answer not been lost.
    pub fn told(&self) -> Told {
        match self.0.as_str() {
            "canceled" | "failed" | "undelivered" => Told::Failed,
            _ => Told::TakenOver,
        }
    }
}

/// Where a message or call stands at its provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderState {
    /// The status.
    pub status: ProviderStatus,
    /// The provider's code for what went wrong: at most 32 visible ASCII characters.
    pub error_code: Option<String>,
    /// When it was reported.
    pub at: Timestamp,
}

impl ProviderState {
    /// Whether it says that the recipient wants nothing more.
    pub fn is_stop(&self) -> bool {
        self.error_code.as_deref() == Some(STOPPED)
    }

    /// What two reports come to, in whichever order they came.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        // Of reports that are the same, the first.
        let order = |state: &Self| {
            let (status, code) = (state.status.clone(), state.error_code.clone());
            (status.rank(), status.0, code, std::cmp::Reverse(state.at))
        };
        if order(&other) > order(&self) { other } else { self }
    }
}

/// What a provider reports of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryReport {
    /// Where it stands.
    pub state: ProviderState,
    /// The provider's id of the message or call.
    pub provider_id: Option<String>,
}

impl DeliveryReport {
    /// A report that came at an instant. A code or an id of which nothing can be shown is none.
    pub fn new(status: ProviderStatus, error_code: &str, provider_id: &str, at: Timestamp) -> Self {
        let state = ProviderState {
            status,
            error_code: visible(error_code, MOST_CODE).filter(|code| code != "0"),
            at,
        };
        Self {
            state,
            provider_id: visible(provider_id, MOST_ID),
        }
    }

    /// What two reports on the same attempt come to, in whichever order they came.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            provider_id: self.provider_id.max(other.provider_id),
            state: self.state.and(other.state),
        }
    }
}

/// What can be shown of a word, if anything can.
fn visible(given: &str, most: usize) -> Option<String> {
    let word: String = given.chars().filter(char::is_ascii_graphic).take(most).collect();
    (!word.is_empty()).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::schedule::Timestamp;

    fn state(status: &str, code: &str, second: i64) -> ProviderState {
        let status = ProviderStatus::parse(status).expect("a status");
        let at = Timestamp::from_timestamp(second, 0).expect("an instant");
        DeliveryReport::new(status, code, "", at).state
    }

    #[test]
    fn later_statuses_outrank_earlier_ones_whichever_comes_first() {
        let messages = [
            "made-up",
            "scheduled",
            "accepted",
            "queued",
            "sending",
            "sent",
            "undelivered",
            "delivered",
            "read",
        ];
        let calls = ["new", "queued", "initiated", "ringing", "in-progress", "completed"];
        for words in [&messages[..], &calls] {
            for pair in words.windows(2) {
                let (earlier, later) = (state(pair[0], "", 9), state(pair[1], "", 1));
                assert_eq!(earlier.clone().and(later.clone()), later);
                assert_eq!(later.clone().and(earlier), later);
            }
        }
        for end in ["busy", "failed", "no-answer", "canceled"] {
            let (ringing, end) = (state("ringing", "", 9), state(end, "", 1));
            assert_eq!(ringing.and(end.clone()), end);
        }
        // The same twice is the first.
        let (first, again) = (state("sent", "", 1), state("sent", "", 2));
        assert_eq!(again.and(first.clone()), first);
    }

    #[test]
    fn words_are_taken_as_they_are_as_far_as_they_can_be_shown() {
        let taken = |given: &str| ProviderStatus::parse(given).map(|status| status.as_str().to_owned());
        assert_eq!(taken("delivered").as_deref(), Some("delivered"));
        assert_eq!(taken(" Deli\0vered\u{202e}é ").as_deref(), Some("Delivered"));
        assert_eq!(taken(&"x".repeat(1000)), Some("x".repeat(32)));
        assert_eq!(taken("\u{7}"), None);
        assert_eq!(state("sent", "30005", 1).error_code.as_deref(), Some("30005"));
        assert_eq!(state("sent", "0", 1).error_code, None);
    }
}
