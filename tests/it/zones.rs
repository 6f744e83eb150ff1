//! Ninety days of ticks in nine zones: every action goes at the first tick after its hour where the customer lives, and
//! it makes no difference how often, by whom or in what company the ticks come.
//!
//! What is expected is found by looking at the wall clock of each zone quarter hour by quarter hour, not by the service's
//! own arithmetic. All offsets and clock changes of these years are whole quarters.

use campaign_automation::domain::Timestamp;
use campaign_automation::proto::campaign::v1 as pb;
use chrono::{DurationRound as _, NaiveDate, TimeDelta};
use chrono_tz::Tz;

use crate::support::given::{at, definition, email, shown, sms};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    hourly_ticks_alone_through_a_leap_day_and_spring,
    hourly_and_daily_ticks_through_autumn,
    repeated_ticks_change_nothing,
    overlapping_ticks_change_nothing,
    ticks_every_quarter_hour_are_only_more_punctual,
);

/// From +14 to −12, with half hours, half-hour clock changes, midnights that don't exist, and changes both ways.
const ZONES: [&str; 9] = [
    "Africa/Cairo",
    "America/New_York",
    "America/Santiago",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Etc/GMT+12",
    "Europe/Berlin",
    "Pacific/Kiritimati",
];

/// How many customers live in each zone.
const CUSTOMERS: usize = 2;

/// When a run is started, the days and hours of its actions, and how long the timeline is.
struct Plan {
    start: &'static str,
    days: i32,
    actions: &'static [(i32, i32)],
}

/// Where it is 5 February 2028 at the start: day 25 is 29 February; clocks go forward in New York on day 37, in Berlin on
/// day 51, and in Cairo at midnight of day 84; they go back in Santiago at the end of day 57, and by half an hour on
/// Lord Howe on day 58.
const SPRING: Plan = Plan {
    start: "2028-02-05T10:30:00Z",
    days: 90,
    actions: &[
        (1, 0),
        (1, 20),
        (24, 23),
        (25, 0),
        (25, 12),
        (26, 0),
        (36, 23),
        (37, 2),
        (37, 3),
        (51, 2),
        (51, 3),
        (57, 23),
        (58, 0),
        (58, 1),
        (58, 2),
        (84, 0),
        (84, 1),
        (90, 23),
    ],
};

/// Where it is 1 September 2026 at the start: in Santiago day 6 has no midnight; clocks go forward by half an hour on Lord
/// Howe on day 34; they go back in Berlin on day 55, in Cairo at the end of day 59, and in New York on day 62.
const AUTUMN: Plan = Plan {
    start: "2026-09-01T10:30:00Z",
    days: 90,
    actions: &[
        (1, 0),
        (1, 20),
        (5, 23),
        (6, 0),
        (6, 1),
        (34, 2),
        (34, 3),
        (55, 2),
        (55, 3),
        (59, 23),
        (60, 0),
        (62, 0),
        (62, 1),
        (62, 2),
        (90, 0),
    ],
};

/// Three days around the changes in Cairo and New York in autumn 2026.
const SHORT: Plan = Plan {
    start: "2026-10-30T10:30:00Z",
    days: 3,
    actions: &[(1, 0), (1, 9), (2, 0), (2, 23), (3, 0), (3, 1), (3, 2), (3, 17)],
};

async fn hourly_ticks_alone_through_a_leap_day_and_spring(backend: Backend) {
    check(backend, &SPRING, 60, async |app, _| {
        app.hourly().await;
    })
    .await;
}

async fn hourly_and_daily_ticks_through_autumn(backend: Backend) {
    check(backend, &AUTUMN, 60, async |app, now| {
        if now == now.duration_trunc(TimeDelta::days(1)).expect("a day") {
            tokio::join!(app.daily(), app.hourly());
        } else {
            app.hourly().await;
        }
    })
    .await;
}

async fn repeated_ticks_change_nothing(backend: Backend) {
    check(backend, &SHORT, 60, async |app, _| {
        app.hourly().await;
        let again = app.hourly().await.counts.expect("counts");
        assert_eq!(again, pb::TickCounts::default());
    })
    .await;
}

async fn overlapping_ticks_change_nothing(backend: Backend) {
    check(backend, &SHORT, 60, async |app, _| {
        tokio::join!(app.hourly(), app.hourly());
    })
    .await;
}

async fn ticks_every_quarter_hour_are_only_more_punctual(backend: Backend) {
    check(backend, &SHORT, 15, async |app, _| {
        app.hourly().await;
    })
    .await;
}

/// Runs a plan for customers of all zones, with ticks so many minutes apart, and compares what was sent, and when, with
/// what the wall clocks say.
async fn check(backend: Backend, plan: &Plan, minutes: i64, tick: impl AsyncFn(&App, Timestamp)) {
    let app = App::start(backend).await;
    app.set(plan.start);
    let actions = plan.actions.iter().enumerate().map(|(n, (day, hour))| match n % 3 {
        2 => sms(*day, *hour, "TEXT"),
        _ => email(*day, *hour, "MAIL"),
    });
    let timeline = app.timeline(definition("world", plan.days, actions.collect())).await;
    let customers: Vec<(String, Tz)> = (0..ZONES.len() * CUSTOMERS)
        .map(|n| (format!("c{n:02}"), ZONES[n % ZONES.len()].parse().expect("a zone")))
        .collect();
    for (id, zone) in &customers {
        app.customer(id, zone.name()).await;
        app.start_run(id, &timeline).await;
    }
    let apart = TimeDelta::minutes(minutes);
    let mut now = at(plan.start);
    // Until the last day is over at the far end of the world.
    let end = now + TimeDelta::days(i64::from(plan.days) + 1);
    while now < end {
        tick(&app, now).await;
        now += apart;
        now = now.duration_trunc(apart).expect("a tick");
        app.clock.set(now);
    }
    tick(&app, now).await;

    let start = at(plan.start);
    for (id, zone) in &customers {
        let first_day = start.with_timezone(zone).date_naive();
        let mut expected: Vec<String> = plan
            .actions
            .iter()
            .enumerate()
            .map(|(n, (day, hour))| {
                let due = first_time(*zone, first_day, *day, *hour).max(start);
                let channel = if n % 3 == 2 { "sms" } else { "email" };
                format!("{} {channel}", next_tick(due, start, apart).format("%Y%m%dT%H%M%SZ"))
            })
            .collect();
        expected.sort();
        assert_eq!(app.sent_to(id), expected, "{id} {zone}");
        let run = app.progress(id).await;
        assert_eq!(
            (run.status(), run.shifted_days, run.percent_complete),
            (pb::ProgressStatus::Completed, 0, 100.0),
            "{id} {zone}"
        );
        let over = next_tick(first_time(*zone, first_day, plan.days + 1, 0), start, apart);
        let over = over.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        assert_eq!(shown(run.end_time), over, "{id} {zone}");
        assert_eq!(run.completed_actions.len(), plan.actions.len(), "{id} {zone}");
    }
    app.server.shutdown().await.expect("stopped");
}

/// When the wall clock of a zone shows an hour of a day, or has jumped over it, for the first time.
fn first_time(zone: Tz, first_day: NaiveDate, day: i32, hour: i32) -> Timestamp {
    let date = first_day + TimeDelta::days(i64::from(day) - 1);
    let wall = date
        .and_hms_opt(u32::try_from(hour).expect("an hour"), 0, 0)
        .expect("a time");
    let mut time = wall.and_utc() - TimeDelta::hours(24);
    while time.with_timezone(&zone).naive_local() < wall {
        time += TimeDelta::minutes(15);
    }
    time
}

/// The first tick at or after `due`. The first of all is at the start, and the others at full hours or quarters.
fn next_tick(due: Timestamp, start: Timestamp, apart: TimeDelta) -> Timestamp {
    if due <= start {
        return start;
    }
    let before = due.duration_trunc(apart).expect("a tick");
    if before == due { before } else { before + apart }
}
