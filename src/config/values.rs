//! How the values of flags are written.

use chrono::SubsecRound as _;
use chrono_tz::Tz;
use std::time::Duration;

use crate::domain::{Timestamp, parse_zone, text};

pub(super) fn time(given: &str) -> Result<Timestamp, String> {
    let parsed = given.parse::<Timestamp>().map(|time| time.trunc_subsecs(6));
    parsed.map_err(|_| "must be an instant with its offset, such as 2026-03-02T16:30:00Z".to_owned())
}

pub(super) fn zone(given: &str) -> Result<Tz, String> {
    parse_zone(given).map_err(|error| error.to_string())
}

pub(super) fn postal_address(given: &str) -> Result<String, String> {
    text::required_line(given.trim(), 200).map_err(|error| error.to_string())
}

pub(super) fn concurrency(given: &str) -> Result<usize, String> {
    let number = given.parse().ok().filter(|number| (1..=10_000).contains(number));
    number.ok_or_else(|| "must be 1 to 10000".to_owned())
}

pub(super) fn clock_skew(given: &str) -> Result<Duration, String> {
    let bounds = Duration::from_millis(100)..=Duration::from_mins(1);
    let skew = duration(given).ok().filter(|skew| bounds.contains(skew));
    skew.ok_or_else(|| "must be 100ms to 60s".to_owned())
}

/// The longest is below the quarter of an hour after which a zone's midnight may be taken for finished.
pub(super) fn statement_timeout(given: &str) -> Result<Duration, String> {
    let bounds = Duration::from_secs(1)..=Duration::from_mins(10);
    let timeout = duration(given).ok().filter(|timeout| bounds.contains(timeout));
    timeout.ok_or_else(|| "must be 1s to 10m".to_owned())
}

/// The shortest and the longest, and all between that divide an hour, so that ticks come at round times.
pub(super) fn schedule(given: &str) -> Result<Duration, String> {
    let hour = Duration::from_hours(1);
    let divides =
        |every: &Duration| *every >= Duration::from_mins(1) && hour.as_millis().is_multiple_of(every.as_millis());
    let every = duration(given).ok().filter(divides);
    every.ok_or_else(|| "must be 1m to 1h and divide an hour, such as 15m".to_owned())
}

/// Days, at least as many as an event may be of use to most conditions.
pub(super) fn days(given: &str) -> Result<u32, String> {
    let days = given.strip_suffix('d').and_then(|days| days.parse().ok());
    let days = days.filter(|days| (30..=36_500).contains(days));
    days.ok_or_else(|| "must be 30d or more, such as 400d".to_owned())
}

/// Parses a duration such as `500ms`, `90s`, `5m` or `4h`.
pub fn duration(given: &str) -> Result<Duration, String> {
    let digits = given.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = given.split_at(digits);
    let milliseconds = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let parsed = number
        .parse::<u64>()
        .ok()
        .zip(milliseconds)
        .and_then(|(number, unit)| number.checked_mul(unit));
    match parsed {
        Some(milliseconds) if (1..=30 * 86_400_000).contains(&milliseconds) => Ok(Duration::from_millis(milliseconds)),
        Some(_) | None => Err("must be a number with ms, s, m or h, up to 30 days, such as 90s".to_owned()),
    }
}
