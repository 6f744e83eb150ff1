//! Dates, hours and zones: the one place that does time arithmetic.

use chrono::{
    DateTime, Datelike as _, Days, Duration, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone as _, Utc,
};
use chrono_tz::Tz;
use std::cell::Cell;

/// An instant, in whole microseconds.
pub type Timestamp = DateTime<Utc>;

/// The instant at which the wall clock in `zone` shows `hour` (0..=23) on `date`.
///
/// Where clocks jump over that hour it is later by the jump, and where it comes twice it is the first time (RFC 5545,
/// section 3.3.5; "compatible" elsewhere).
pub fn instant(date: NaiveDate, hour: u32, zone: Tz) -> Timestamp {
    INSTANTS.with(|known| {
        let place = date
            .num_days_from_ce()
            .unsigned_abs()
            .wrapping_mul(24)
            .wrapping_add(hour);
        let place = &known[place.wrapping_add(31 * zone as u32) as usize % known.len()];
        if let Some(same) = place.get().filter(|known| known.is_of(date, hour, zone)) {
            return same.instant;
        }
        let instant = instant_by_rules(date, hour, zone);
        place.set(Some(KnownInstant {
            date,
            hour,
            zone,
            instant,
        }));
        instant
    })
}

thread_local! {
    /// What [`instant`] said last. Runs that are planned together ask for the same few instants, and to go through the rules of a
    /// zone for each was a tenth of a start.
    static INSTANTS: [Cell<Option<KnownInstant>>; 256] = const { [const { Cell::new(None) }; 256] };
}

#[derive(Clone, Copy)]
struct KnownInstant {
    date: NaiveDate,
    hour: u32,
    zone: Tz,
    instant: Timestamp,
}

impl KnownInstant {
    fn is_of(&self, date: NaiveDate, hour: u32, zone: Tz) -> bool {
        (self.date, self.hour, self.zone) == (date, hour, zone)
    }
}

fn instant_by_rules(date: NaiveDate, hour: u32, zone: Tz) -> Timestamp {
    let wall = date.and_time(NaiveTime::MIN) + Duration::hours(i64::from(hour));
    match zone.from_local_datetime(&wall) {
        LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => time.to_utc(),
        LocalResult::None => (wall - offset_before_gap(wall, zone)).and_utc(),
    }
}

/// The date in `zone` at `now`.
pub fn local_date(now: Timestamp, zone: Tz) -> NaiveDate {
    now.with_timezone(&zone).date_naive()
}

/// `date` moved by `days`, which may be negative. Stays where it is at the end of the calendar.
pub fn plus_days(date: NaiveDate, days: i64) -> NaiveDate {
    let step = Days::new(days.unsigned_abs());
    let moved = if days < 0 {
        date.checked_sub_days(step)
    } else {
        date.checked_add_days(step)
    };
    moved.unwrap_or(date)
}

/// What the clock on the wall shows in `zone` at `now`.
pub fn wall(now: Timestamp, zone: Tz) -> NaiveDateTime {
    now.with_timezone(&zone).naive_local()
}

/// The first instant from `now` on at which the clock in `zone` shows a time that `suits`: one of a range that begins at `first`
/// and comes every day. That is when it shows `first`, or when clocks are put forward over it, or back behind its end.
pub fn next_at_wall(zone: Tz, now: Timestamp, first: NaiveTime, suits: impl Fn(NaiveTime) -> bool) -> Timestamp {
    let mut at = now;
    loop {
        let shown = wall(at, zone);
        if suits(shown.time()) {
            return at;
        }
        let mut to_come = shown.date().and_time(first) - shown;
        if to_come < Duration::zero() {
            to_come += Duration::days(1);
        }
        // So it is, unless clocks are changed before.
        let then = at + to_come;
        match change_of_clocks(zone, at, then) {
            Some(change) => at = change,
            None => return then,
        }
    }
}

/// The first instant after `from`, and not after `until`, at which clocks are changed. They are not changed twice within a day.
fn change_of_clocks(zone: Tz, from: Timestamp, until: Timestamp) -> Option<Timestamp> {
    let offset = |at: Timestamp| wall(at, zone) - at.naive_utc();
    let before = offset(from);
    if offset(until) == before {
        return None;
    }
    // They are changed at whole seconds.
    let at = |second| DateTime::from_timestamp(second, 0).unwrap_or(until);
    let (mut same, mut other) = (from.timestamp(), until.timestamp());
    while other - same > 1 {
        let middle = same.midpoint(other);
        if offset(at(middle)) == before {
            same = middle;
        } else {
            other = middle;
        }
    }
    Some(at(other))
}

/// The offset from UTC that held before the jump that swallowed `wall`. A jump is at most a day long (Samoa, 2011).
fn offset_before_gap(wall: NaiveDateTime, zone: Tz) -> Duration {
    (1..=48)
        .find_map(|hours| {
            let earlier = wall - Duration::hours(hours);
            let time = zone.from_local_datetime(&earlier).latest()?;
            Some(earlier - time.naive_utc())
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(zone: &str, date: &str, hour: u32, expected: &str) {
        let zone: Tz = zone.parse().expect("a zone");
        let date: NaiveDate = date.parse().expect("a date");
        let expected: Timestamp = expected.parse().expect("an instant");
        assert_eq!(instant(date, hour, zone), expected);
    }

    #[test]
    fn an_hour_of_a_day_is_an_instant() {
        check("Etc/UTC", "2026-02-28", 23, "2026-02-28T23:00:00Z");
        check("America/New_York", "2026-01-15", 9, "2026-01-15T14:00:00Z");
        check("Asia/Kathmandu", "2026-01-15", 0, "2026-01-14T18:15:00Z");
        check("Pacific/Kiritimati", "2026-01-15", 0, "2026-01-14T10:00:00Z");
        check("Etc/GMT+12", "2026-01-15", 0, "2026-01-15T12:00:00Z");
    }

    #[test]
    fn in_a_gap_later_by_the_gap() {
        check("America/New_York", "2026-03-08", 2, "2026-03-08T07:00:00Z");
        check("America/New_York", "2026-03-08", 9, "2026-03-08T13:00:00Z");
        check("Australia/Lord_Howe", "2026-10-04", 2, "2026-10-03T15:30:00Z");
        check("America/Santiago", "2026-09-06", 0, "2026-09-06T04:00:00Z");
        check("Africa/Cairo", "2026-04-24", 0, "2026-04-23T22:00:00Z");
        check("Pacific/Apia", "2011-12-30", 9, "2011-12-30T19:00:00Z");
    }

    #[test]
    fn in_a_fold_the_first_time() {
        check("America/New_York", "2026-11-01", 1, "2026-11-01T05:00:00Z");
        check("America/New_York", "2026-11-01", 9, "2026-11-01T14:00:00Z");
        check("Australia/Lord_Howe", "2026-04-05", 1, "2026-04-04T14:00:00Z");
    }

    #[test]
    fn hours_of_a_day_never_go_backwards() {
        for zone in chrono_tz::TZ_VARIANTS {
            for day in 0..730 {
                let date = plus_days(NaiveDate::from_ymd_opt(2026, 1, 1).expect("a date"), day);
                let instants: Vec<_> = (0..24).step_by(23).map(|hour| instant(date, hour, zone)).collect();
                assert!(instants.is_sorted(), "{zone} {date}");
            }
        }
    }
}
