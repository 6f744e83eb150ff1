//! What nobody took up in time: late up to a limit, an hour apart, then shifted or given up; and what was frozen, which is never late.

mod limits;

use campaign_automation::proto::campaign::v1 as pb;
use chrono::TimeDelta;
use pb::WhenMissed::{CatchUp, Shift};

use crate::support::given::at;
use crate::support::mailing::mailing_app;
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::story::{check, mail, plan, text, within};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    the_hourly_tick_is_down_for_five_days,
    the_daily_tick_is_down_for_five_days,
    both_ticks_are_down_for_five_days,
    what_was_frozen_is_not_late_when_it_thaws,
);

/// A timeline, and what becomes of its run when the hourly tick is down, when both are, and when neither matters.
struct Row {
    name: &'static str,
    days: i32,
    when_missed: pb::WhenMissed,
    actions: fn() -> Vec<pb::ActionDefinition>,
    hourly_down: &'static str,
    both_down: &'static str,
    served: &'static str,
}

/// Runs begin on Monday, 5 January, at noon. The outage is from two o'clock that day to three o'clock on Saturday, the 10th.
const ROWS: [Row; 6] = [
    Row {
        name: "half-a-day",
        days: 3,
        when_missed: Shift,
        actions: || vec![mail("a", 1, 13), mail("b", 1, 20), mail("c", 2, 9), mail("d", 3, 9)],
        hourly_down: "01-05 13:00 a sent
            01-10 20:00 b sent
            01-11 09:00 c sent
            01-12 09:00 d sent
            day 3 on 01-12, completed, shifted 5",
        both_down: "01-05 13:00 a sent
            01-10 20:00 b sent
            01-11 09:00 c sent
            01-12 09:00 d sent
            day 3 on 01-12, completed, shifted 5",
        served: "01-05 13:00 a sent
            01-05 20:00 b sent
            01-06 09:00 c sent
            01-07 09:00 d sent
            day 3 on 01-07, completed",
    },
    Row {
        name: "whole-day",
        days: 3,
        when_missed: Shift,
        actions: || vec![mail("a", 1, 13), mail("b", 2, 9), mail("c", 2, 22), mail("d", 3, 9)],
        hourly_down: "01-05 13:00 a sent
            01-10 15:00 b sent
            01-10 22:00 c sent
            01-11 09:00 d sent
            day 3 on 01-11, completed, shifted 4",
        both_down: "01-05 13:00 a sent
            01-10 15:00 b sent
            01-10 22:00 c sent
            01-11 09:00 d sent
            day 3 on 01-11, completed, shifted 4",
        served: "01-05 13:00 a sent
            01-06 09:00 b sent
            01-06 22:00 c sent
            01-07 09:00 d sent
            day 3 on 01-07, completed",
    },
    // Mails an hour apart, the text message not among them, and what is on time with what is late.
    Row {
        name: "crowded",
        days: 3,
        when_missed: Shift,
        actions: || {
            vec![
                mail("a", 1, 13),
                mail("b", 2, 8),
                mail("c", 2, 9),
                text("t", 2, 9),
                mail("d", 2, 10),
                mail("e", 2, 16),
                mail("f", 3, 9),
            ]
        },
        hourly_down: "01-05 13:00 a sent
            01-10 15:00 b sent
            01-10 15:00 t sent
            01-10 16:00 c sent
            01-10 16:00 e sent
            01-10 17:00 d sent
            01-11 09:00 f sent
            day 3 on 01-11, completed, shifted 4",
        both_down: "01-05 13:00 a sent
            01-10 15:00 b sent
            01-10 15:00 t sent
            01-10 16:00 c sent
            01-10 16:00 e sent
            01-10 17:00 d sent
            01-11 09:00 f sent
            day 3 on 01-11, completed, shifted 4",
        served: "01-05 13:00 a sent
            01-06 08:00 b sent
            01-06 09:00 c sent
            01-06 09:00 t sent
            01-06 10:00 d sent
            01-06 16:00 e sent
            01-07 09:00 f sent
            day 3 on 01-07, completed",
    },
    // What is too late also today has its hour tomorrow, and the rest of the day goes today.
    Row {
        name: "own-limit",
        days: 2,
        when_missed: Shift,
        actions: || vec![mail("a", 1, 13), within(1, mail("b", 2, 9)), mail("c", 2, 20)],
        hourly_down: "01-05 13:00 a sent
            01-10 20:00 c sent
            01-11 09:00 b sent
            day 2 on 01-11, completed, shifted 5",
        both_down: "01-05 13:00 a sent
            01-10 20:00 c sent
            01-11 09:00 b sent
            day 2 on 01-11, completed, shifted 5",
        served: "01-05 13:00 a sent
            01-06 09:00 b sent
            01-06 20:00 c sent
            day 2 on 01-06, completed",
    },
    // Days 4 and 8 have no actions.
    Row {
        name: "jump",
        days: 8,
        when_missed: CatchUp,
        actions: || {
            vec![
                mail("a", 1, 13),
                mail("b", 1, 20),
                mail("c", 2, 9),
                mail("d", 3, 9),
                mail("e", 5, 9),
                mail("f", 6, 9),
                mail("g", 7, 9),
            ]
        },
        hourly_down: "01-05 13:00 a sent
            01-10 15:00 b expired
            01-10 15:00 f sent
            01-11 09:00 g sent
            day 8 on 01-12, completed, jumped 2-5",
        both_down: "01-05 13:00 a sent
            01-10 15:00 b expired
            01-10 15:00 f sent
            01-11 09:00 g sent
            day 8 on 01-12, completed, jumped 2-5",
        served: "01-05 13:00 a sent
            01-05 20:00 b sent
            01-06 09:00 c sent
            01-07 09:00 d sent
            01-09 09:00 e sent
            01-10 09:00 f sent
            01-11 09:00 g sent
            day 8 on 01-12, completed",
    },
    // The daily tick brings the run to day 2, where it stands until the hourly one comes; alone, the run goes over that day too.
    Row {
        name: "idle-jump",
        days: 7,
        when_missed: CatchUp,
        actions: || {
            vec![
                mail("a", 1, 13),
                mail("c", 2, 9),
                mail("d", 2, 20),
                mail("e", 5, 9),
                mail("f", 6, 9),
            ]
        },
        hourly_down: "01-05 13:00 a sent
            01-10 15:00 c expired
            01-10 15:00 d expired
            01-10 15:00 f sent
            day 7 on 01-11, completed, jumped 3-5",
        both_down: "01-05 13:00 a sent
            01-10 15:00 f sent
            day 7 on 01-11, completed, jumped 2-5",
        served: "01-05 13:00 a sent
            01-06 09:00 c sent
            01-06 20:00 d sent
            01-09 09:00 e sent
            01-10 09:00 f sent
            day 7 on 01-11, completed",
    },
];

async fn the_hourly_tick_is_down_for_five_days(backend: Backend) {
    outage(backend, (false, true), |row| row.hourly_down).await;
}

async fn the_daily_tick_is_down_for_five_days(backend: Backend) {
    outage(backend, (true, false), |row| row.served).await;
}

async fn both_ticks_are_down_for_five_days(backend: Backend) {
    outage(backend, (false, false), |row| row.both_down).await;
}

/// Both ticks, then only those that are up, then both again. The stories are as expected, the summaries have counted what the
/// runs show, and a tick more changes nothing.
async fn outage(backend: Backend, up: (bool, bool), expected: impl Fn(&Row) -> &'static str) {
    let app = App::start(backend).await;
    for row in &ROWS {
        let timeline = app
            .timeline(plan(row.name, row.days, row.when_missed, (row.actions)()))
            .await;
        app.customer(row.name, "Etc/UTC").await;
        app.start_run(row.name, &timeline).await;
    }
    let mut counted = 0;
    for (from, until, (hourly, daily)) in [
        ("2026-01-05T12:00:00Z", "2026-01-05T14:00:00Z", (true, true)),
        ("2026-01-05T15:00:00Z", "2026-01-10T14:00:00Z", up),
        ("2026-01-10T15:00:00Z", "2026-01-14T00:00:00Z", (true, true)),
    ] {
        counted += app.ticks_between(from, until, hourly, daily).await;
    }
    let mut shifted = 0;
    for row in &ROWS {
        app.tells(row.name, expected(row)).await;
        shifted += i64::from(app.progress(row.name).await.shifted_days);
    }
    assert_eq!(counted, shifted, "in the summaries and on the runs");
    let again = app.hourly().await.counts.expect("counts");
    assert_eq!(again, pb::TickCounts::default());
    app.server.shutdown().await.expect("stopped");
}

/// A mail is to be repeated and others of the day are to come when the run is paused for ten days, or its timeline switched off for
/// a week. At eight in the evening it thaws: what passed is due then and not late, and the mail has as many attempts as ever.
async fn what_was_frozen_is_not_late_when_it_thaws(backend: Backend) {
    for (days, pauses) in [(7, false), (10, true)] {
        let smtp = SmtpServer::start().await;
        let app = mailing_app(backend, &smtp).await;
        let mut runs = Vec::new();
        for (name, when_missed) in [("shift", Shift), ("catch-up", CatchUp)] {
            let actions = vec![
                mail("a", 1, 13),
                text("b", 1, 14),
                text("c", 1, 16),
                mail("d", 1, 22),
                mail("e", 2, 9),
            ];
            let timeline = app.timeline(plan(name, 2, when_missed, actions)).await;
            app.customer(name, "Etc/UTC").await;
            let run = app.start_run(name, &timeline).await.progress_id;
            runs.push((name, timeline, run));
        }
        smtp.behave(Behaviour::Reply(Step::Rcpt, "451 4.3.0 come again"));
        app.tick_at(&["2026-01-05T13:00:00Z"]).await;
        for (name, timeline, run) in &runs {
            if pauses {
                app.pause(name, *run, "").await.expect("paused");
            } else {
                app.set_active(timeline, false).await;
            }
        }
        let thaw = at("2026-01-05T20:00:00Z") + TimeDelta::days(days);
        app.ticks_between("2026-01-05T14:00:00Z", "2026-01-07T12:00:00Z", true, true)
            .await;
        app.clock.set(thaw - TimeDelta::minutes(30));
        app.daily().await;
        app.hourly().await;
        assert_eq!((smtp.mails(), app.sent_count()), (2, 0));
        app.clock.set(thaw);
        for (name, timeline, run) in &runs {
            if pauses {
                app.resume(name, *run, "").await.expect("resumed");
            } else {
                app.set_active(timeline, true).await;
            }
        }
        app.hourly().await;
        smtp.accept_all();
        for _ in 0..28 {
            app.pass_hours(1);
            app.hourly().await;
        }
        let (first, second) = (5 + days, 6 + days);
        for (name, ..) in &runs {
            let run = app.progress(name).await;
            let expected = format!(
                "01-{first:02} 20:00 b sent
                01-{first:02} 20:00 c sent
                01-{first:02} 21:00 a sent
                01-{first:02} 22:00 d sent
                01-{second:02} 09:00 e sent
                day 2 on 01-{second:02}, completed"
            );
            check(name, &run, &expected);
            let attempts = run.completed_actions.iter().map(|done| done.attempts);
            assert_eq!(attempts.collect::<Vec<_>>(), [1, 1, 3, 1, 1], "{name}");
        }
        assert_eq!(smtp.deliveries().len(), 6);
        app.server.shutdown().await.expect("stopped");
    }
}
