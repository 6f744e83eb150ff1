//! Instants, dates and durations.

use chrono::{Datelike as _, NaiveDate};

use crate::clock::whole_microseconds;
use crate::domain::{Invalid, Timestamp};
use crate::proto::google;

/// From the year 1 to the end of the year 9999, as `google.protobuf.Timestamp` has it.
pub(in crate::rpc) fn parse_time(given: &prost_types::Timestamp) -> Result<Timestamp, Invalid> {
    let nanos = u32::try_from(given.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let in_range = (-62_135_596_800..=253_402_300_799).contains(&given.seconds);
    let time = nanos
        .filter(|_| in_range)
        .and_then(|nanos| Timestamp::from_timestamp(given.seconds, nanos));
    time.map(whole_microseconds).ok_or_else(|| {
        let shown = format!("{} seconds and {} nanos", given.seconds, given.nanos);
        Invalid::new(shown, "an instant from the year 1 to 9999")
    })
}

/// An instant as a message.
pub(in crate::rpc) fn time(time: Timestamp) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0);
    prost_types::Timestamp {
        seconds: time.timestamp(),
        nanos,
    }
}

/// A date as a message.
pub(in crate::rpc) fn date(date: NaiveDate) -> google::r#type::Date {
    let number = |n: u32| i32::try_from(n).unwrap_or(0);
    google::r#type::Date {
        year: date.year(),
        month: number(date.month()),
        day: number(date.day()),
    }
}

/// A duration of whole seconds within bounds.
pub(in crate::rpc) fn parse_seconds(
    given: &prost_types::Duration,
    least: i64,
    most: i64,
    words: &str,
) -> Result<chrono::Duration, Invalid> {
    if given.nanos == 0 && (least..=most).contains(&given.seconds) {
        return Ok(chrono::Duration::seconds(given.seconds));
    }
    Err(Invalid::new(
        format!("{} seconds and {} nanos", given.seconds, given.nanos),
        words,
    ))
}

/// A duration of whole seconds as a message.
pub(in crate::rpc) fn seconds(duration: chrono::Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: duration.num_seconds(),
        nanos: 0,
    }
}
