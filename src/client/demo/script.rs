//! Who does what and when, beside what the ticks do.

use chrono::{DateTime, Duration, Timelike as _, Utc};

/// What happens to a customer at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cue {
    /// Hours since [`begin`].
    pub(super) hour: u32,
    /// To whom.
    pub(super) customer_id: &'static str,
    /// What.
    pub(super) act: Act,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// The run is paused, for a reason.
    Pause(&'static str),
    /// The run is resumed, for a reason.
    Resume(&'static str),
    /// The customer moves to a stage.
    ChangeStage(&'static str),
}

/// In the order in which they happen.
pub(super) const CUES: [Cue; 4] = [
    // 25 January, 06:00 in New York: the morning of day 21, before its mail.
    Cue {
        hour: 19 * 24 + 23,
        customer_id: "sam",
        act: Act::Pause("asked for a break"),
    },
    // 4 February, 15:00 in Mexico City: day 31.
    Cue {
        hour: 30 * 24 + 9,
        customer_id: "diego",
        act: Act::ChangeStage("activate"),
    },
    // 8 February, 13:00 in New York: two weeks later.
    Cue {
        hour: 34 * 24 + 6,
        customer_id: "sam",
        act: Act::Resume("back from the break"),
    },
    // 23 February, 11:00 in Sydney: day 50.
    Cue {
        hour: 48 * 24 + 12,
        customer_id: "ruby",
        act: Act::ChangeStage("activate"),
    },
];

/// The customer who opens every mail.
pub(super) const READER: &str = "kenji";

/// The customer whose run is started by hand.
pub(super) const STARTED_BY_HAND: &str = "ruby";

/// When the demo begins: Monday, 5 January 2026, 12:00 UTC, when it is the same date for all of them.
pub(super) fn begin() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::seconds(1_767_614_400)
}

/// Whether the reader looks at his mail in this hour: at noon and at 20:00 in Tokyo.
pub(super) fn is_reading_time(now: DateTime<Utc>) -> bool {
    [3, 11].contains(&now.hour())
}

/// How long after a mail came he opens it.
pub(super) fn time_to_open() -> Duration {
    Duration::minutes(40)
}

/// What is special about a customer, in a few words.
pub(super) fn behaviour(customer_id: &str) -> &'static str {
    match customer_id {
        "anna" => "nothing special",
        "kenji" => "opens every mail",
        "priya" => "a high score (82)",
        "diego" => "buys on day 31",
        "lena" => "the mail server refuses her address",
        "sam" => "paused for two weeks",
        "ruby" => "started by hand, buys on day 50, has no phone",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::{America::Mexico_City, America::New_York, Australia::Sydney};

    #[test]
    fn cues_come_in_order_at_the_hours_that_they_claim() {
        assert!(CUES.is_sorted_by_key(|cue| cue.hour));
        let local = |cue: &Cue, zone: chrono_tz::Tz| {
            let at = begin() + Duration::hours(i64::from(cue.hour));
            at.with_timezone(&zone).format("%e %B %H:%M").to_string()
        };
        let zones = [New_York, Mexico_City, New_York, Sydney];
        let times: Vec<String> = CUES.iter().zip(zones).map(|(cue, zone)| local(cue, zone)).collect();
        assert_eq!(
            times,
            [
                "25 January 06:00",
                " 4 February 15:00",
                " 8 February 13:00",
                "23 February 11:00"
            ]
        );
    }
}
