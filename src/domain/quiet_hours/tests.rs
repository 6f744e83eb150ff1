use chrono::{Duration, NaiveDate, TimeDelta};
use chrono_tz::TZ_VARIANTS;

use super::*;
use crate::domain::parse_zone;

/// Two years of which every change of clocks is looked at.
const DAYS: i64 = 730;

fn at(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

fn hours(text: &str) -> Hours {
    text.parse().expect("hours")
}

fn number(text: &str) -> PhoneNumber {
    PhoneNumber::parse(text).expect("a number")
}

#[test]
fn hours_are_written_as_two_times() {
    for text in ["08:00-21:00", "20:00-02:30", "00:00-00:01", "23:59-24:00", "always"] {
        assert_eq!(hours(text).to_string(), text);
    }
    assert_eq!(hours("00:00-24:00"), Hours::Always);
    assert_eq!(hours("20:00-00:00"), hours("20:00-24:00"));
    for bad in [
        "",
        "8-21",
        "08:00",
        "8:00-21:00",
        "08:00-08:00",
        "24:00-08:00",
        "08:00-24:01",
        "08:60-21:00",
        "+8:00-21:00",
        "Always",
    ] {
        assert!(bad.parse::<Hours>().is_err(), "{bad}");
    }
}

#[test]
fn a_day_opens_once() {
    for (given, zone, now, expected) in [
        (
            "08:00-21:00",
            "Etc/UTC",
            "2026-01-05T07:59:59.999999Z",
            "2026-01-05T08:00:00Z",
        ),
        ("08:00-21:00", "Etc/UTC", "2026-01-05T08:00:00Z", "2026-01-05T08:00:00Z"),
        (
            "08:00-21:00",
            "Etc/UTC",
            "2026-01-05T20:59:59.999999Z",
            "2026-01-05T20:59:59.999999Z",
        ),
        ("08:00-21:00", "Etc/UTC", "2026-01-05T21:00:00Z", "2026-01-06T08:00:00Z"),
        (
            "08:00-21:00",
            "Asia/Kathmandu",
            "2026-01-05T15:15:00Z",
            "2026-01-06T02:15:00Z",
        ),
        ("20:00-02:00", "Etc/UTC", "2026-01-05T23:59:59Z", "2026-01-05T23:59:59Z"),
        ("20:00-02:00", "Etc/UTC", "2026-01-06T02:00:00Z", "2026-01-06T20:00:00Z"),
        // Clocks go from 02:00 to 03:00 at 07:00 UTC.
        (
            "08:00-21:00",
            "America/New_York",
            "2026-03-08T02:00:00Z",
            "2026-03-08T12:00:00Z",
        ),
        (
            "02:30-21:00",
            "America/New_York",
            "2026-03-08T05:00:00Z",
            "2026-03-08T07:00:00Z",
        ),
        // And from 02:00 to 01:00 at 06:00 UTC.
        (
            "01:30-01:45",
            "America/New_York",
            "2026-11-01T05:45:00Z",
            "2026-11-01T06:30:00Z",
        ),
        (
            "00:30-01:30",
            "America/New_York",
            "2026-11-01T05:30:00Z",
            "2026-11-01T06:00:00Z",
        ),
        // Samoa had no 30 December.
        (
            "08:00-21:00",
            "Pacific/Apia",
            "2011-12-30T08:00:00Z",
            "2011-12-30T18:00:00Z",
        ),
        ("always", "Etc/UTC", "2026-01-05T03:00:00Z", "2026-01-05T03:00:00Z"),
    ] {
        let zone = parse_zone(zone).expect("a zone");
        assert_eq!(
            hours(given).open_at(zone, at(now)),
            at(expected),
            "{given} {zone} {now}"
        );
    }
}

/// The instants at which clocks in a zone are changed, to the minute.
fn changes(zone: Tz, begin: Timestamp) -> Vec<Timestamp> {
    let offset = |at: Timestamp| wall(at, zone) - at.naive_utc();
    let mut found = Vec::new();
    for quarter in 0..DAYS * 4 {
        let (mut same, mut other) = (
            begin + Duration::hours(quarter * 6),
            begin + Duration::hours(quarter * 6 + 6),
        );
        let before = offset(same);
        if offset(other) == before {
            continue;
        }
        while other - same > TimeDelta::minutes(1) {
            let middle = same + Duration::minutes((other - same).num_minutes() / 2);
            if offset(middle) == before {
                same = middle;
            } else {
                other = middle;
            }
        }
        found.push(other);
    }
    found
}

/// Between changes of clocks every day is as the other, so two days around each change and one plain day stand for two years of
/// minutes: at each of them it is told what a walk from minute to minute finds.
#[test]
fn in_every_zone_it_opens_at_the_first_minute_that_is_allowed() {
    let begin = at("2026-01-01T00:00:00Z");
    let all = [
        "08:00-21:00",
        "22:00-02:30",
        "02:30-03:15",
        "00:30-01:30",
        "23:15-23:45",
    ]
    .map(hours);
    for zone in TZ_VARIANTS {
        for around in changes(zone, begin).into_iter().chain([begin + Duration::days(10)]) {
            let first = around - Duration::hours(27);
            let minutes: Vec<NaiveTime> = (0..54 * 60)
                .map(|n| wall(first + Duration::minutes(n), zone).time())
                .collect();
            for given in all {
                let mut opens = None;
                for (n, time) in minutes.iter().enumerate().rev() {
                    if given.has(*time) {
                        opens = Some(n);
                    }
                    let (Some(opens), true) = (opens, n % 13 == 0) else {
                        continue;
                    };
                    let instant = |n: usize| first + Duration::minutes(i64::try_from(n).expect("minutes"));
                    let told = given.open_at(zone, instant(n));
                    assert_eq!(told, instant(opens), "{given} {zone} {}", instant(n));
                }
            }
        }
    }
}

#[test]
fn a_number_tells_its_country() {
    for (digits, zone, other) in [
        ("+14155552671", "America/New_York", "Pacific/Guam"),
        ("+16715552671", "Pacific/Guam", "America/New_York"),
        ("+79161234567", "Europe/Moscow", "Asia/Almaty"),
        ("+77011234567", "Asia/Almaty", "Europe/Moscow"),
        ("+442079460000", "Europe/London", "Europe/Paris"),
        ("+819012345678", "Asia/Tokyo", "Asia/Seoul"),
    ] {
        let zones: Vec<&str> = zones_of(&number(digits)).iter().map(|zone| zone.name()).collect();
        assert!(zones.contains(&zone) && !zones.contains(&other), "{digits}: {zones:?}");
    }
    for nowhere in ["+80012345678", "+88216123456", "+99"] {
        assert_eq!(zones_of(&number(nowhere)), [], "{nowhere}");
    }
    for line in CALLING_CODES.lines() {
        let (code, zones) = line.split_once(' ').expect("a code and zones");
        // A number has a digit more than the shortest code; no longer code goes on with a nought.
        let read = zones_of(&number(&format!("+{code}0")));
        assert_eq!(read.len(), zones.split(' ').count(), "{line}");
        assert!((1..=4).contains(&code.len()));
    }
}

/// What goes to somebody who may be in one of several zones goes at the first minute that suits all of them.
#[test]
fn somebody_whose_zone_is_not_known_is_written_to_when_it_suits_all() {
    let of = |zone: Tz, digits: &str, given: Hours| CustomerHours {
        hours: SendingHours {
            sms: given,
            ..SendingHours::default()
        },
        whereabouts: Whereabouts {
            zone,
            country: zones_of(&number(digits)),
        },
    };
    let begin = NaiveDate::from_ymd_opt(2026, 3, 7)
        .and_then(|date| date.and_hms_opt(0, 0, 0))
        .expect("a date")
        .and_utc();
    for (zone, digits, given) in [
        (Tz::UTC, "+14155552671", "08:00-21:00"),
        (Tz::UTC, "+79161234567", "08:00-21:00"),
        (Tz::Europe__Berlin, "+819012345678", "08:00-21:00"),
        (Tz::Australia__Sydney, "+61491570156", "07:30-22:15"),
        (Tz::UTC, "+80012345678", "20:00-02:00"),
    ] {
        let hours = of(zone, digits, hours(given));
        for step in 0..120 {
            let now = begin + Duration::minutes(step * 47);
            let first = (0..3 * 1440)
                .map(|n| now + Duration::minutes(n))
                .find(|at| hours.allow(Channel::Sms, *at));
            let expected = first.map_or(
                Opening::Never,
                |at| if at == now { Opening::Now } else { Opening::At(at) },
            );
            // Hours begin at whole minutes, and so does the search.
            assert_eq!(hours.opening(Channel::Sms, now), expected, "{digits} {now}");
        }
        assert_eq!(hours.opening(Channel::Interaction, begin), Opening::Now);
    }
    let never = of(Tz::UTC, "+14155552671", hours("12:00-13:00"));
    assert_eq!(never.opening(Channel::Sms, begin), Opening::Never);
}
