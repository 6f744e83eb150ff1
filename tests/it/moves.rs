//! Customers who move between time zones: each day is lived once, and nothing is sent twice.

mod midnight;

use campaign_automation::proto::campaign::v1 as pb;
use chrono::TimeDelta;
use chrono_tz::Tz;
use pb::WhenMissed::{CatchUp, Shift};
use std::time::Duration;

use crate::support::calls::{completed, day};
use crate::support::given::{at, customer};
use crate::support::mailing::mailing_app_with;
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::story::{mail, plan, text};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_move_over_the_date_line_keeps_the_day_and_repeats_nothing,
    what_is_to_be_repeated_moves_along,
);

const AUCKLAND: &str = "Pacific/Auckland";
const HONOLULU: &str = "Pacific/Honolulu";

async fn move_to(app: &App, id: &str, zone: &str) {
    app.put_customer(customer(id, zone)).await;
}

/// When a customer moves, before or after the tick of that hour, and where to.
type Move = (&'static str, bool, &'static str);

/// A day has mails at 9 and 18 o'clock, the next two days at 9. Hourly ticks.
async fn a_move_over_the_date_line_keeps_the_day_and_repeats_nothing(backend: Backend) {
    // 08:00 in Auckland on the 6th, and 08:00 in Honolulu on the 5th. It is midnight there at 11:00 and 10:00 UTC on the 6th.
    let (from_auckland, from_honolulu) = ("2026-01-05T19:00:00Z", "2026-01-05T18:00:00Z");
    // Name, start, zone, moves, and the story by the clock of the last zone.
    let rows: [(&str, &str, &str, &[Move], &str); 7] = [
        (
            "midnight-west",
            from_auckland,
            AUCKLAND,
            &[("2026-01-06T11:00:00Z", false, HONOLULU)],
            "01-05 10:00 a sent
            01-05 19:00 b sent
            01-06 09:00 c sent
            01-07 09:00 d sent
            day 3 on 01-07, completed",
        ),
        // Nobody has ticked since midnight, and in Honolulu it is the day before again: the day lasts until that is over.
        (
            "first-west",
            from_auckland,
            AUCKLAND,
            &[("2026-01-06T11:00:00Z", true, HONOLULU)],
            "01-05 10:00 a sent
            01-05 19:00 b sent
            01-07 09:00 c sent
            01-08 09:00 d sent
            day 3 on 01-08, completed",
        ),
        // It is 23:00 in Auckland: 9 o'clock has passed there, and is due at the move.
        (
            "midnight-east",
            from_honolulu,
            HONOLULU,
            &[("2026-01-06T10:00:00Z", false, AUCKLAND)],
            "01-06 08:00 a sent
            01-06 17:00 b sent
            01-07 00:00 c sent
            01-07 09:00 d sent
            day 3 on 01-07, completed",
        ),
        (
            "first-east",
            from_honolulu,
            HONOLULU,
            &[("2026-01-06T10:00:00Z", true, AUCKLAND)],
            "01-06 08:00 a sent
            01-06 17:00 b sent
            01-07 09:00 c sent
            01-08 09:00 d sent
            day 3 on 01-08, completed",
        ),
        (
            "mid-day-west",
            from_auckland,
            AUCKLAND,
            &[("2026-01-05T23:00:00Z", false, HONOLULU)],
            "01-05 10:00 a sent
            01-05 18:00 b sent
            01-06 09:00 c sent
            01-07 09:00 d sent
            day 3 on 01-07, completed",
        ),
        (
            "there-and-back",
            from_auckland,
            AUCKLAND,
            &[
                ("2026-01-05T23:00:00Z", false, HONOLULU),
                ("2026-01-06T22:00:00Z", true, AUCKLAND),
            ],
            "01-06 09:00 a sent
            01-06 17:00 b sent
            01-07 08:00 c sent
            01-08 09:00 d sent
            day 3 on 01-08, completed",
        ),
        // To and fro within an hour, before anybody ticks: as if nothing had been, but for what was due at the moves.
        (
            "to-and-fro",
            from_honolulu,
            HONOLULU,
            &[
                ("2026-01-05T23:00:00Z", false, AUCKLAND),
                ("2026-01-06T00:00:00Z", true, HONOLULU),
            ],
            "01-05 09:00 a sent
            01-05 18:00 b sent
            01-06 09:00 c sent
            01-07 09:00 d sent
            day 3 on 01-07, completed",
        ),
    ];
    for (policy, when_missed) in [("shift", Shift), ("catch-up", CatchUp)] {
        let app = App::start(backend).await;
        let actions = vec![mail("a", 1, 9), mail("b", 1, 18), mail("c", 2, 9), mail("d", 3, 9)];
        let timeline = app.timeline(plan("hook", 3, when_missed, actions)).await;
        let mut now = at(from_honolulu);
        while now < at("2026-01-09T12:00:00Z") {
            app.clock.set(now);
            for (name, start, zone, ..) in &rows {
                if at(start) == now {
                    app.customer(name, zone).await;
                    app.start_run(name, &timeline).await;
                }
            }
            for is_first in [true, false] {
                for (name, _, _, moves, _) in &rows {
                    for (time, first, zone) in *moves {
                        if at(time) == now && *first == is_first {
                            let before = app.progress(name).await;
                            move_to(&app, name, zone).await;
                            let moved = app.progress(name).await;
                            let tz: Tz = zone.parse().expect("a zone");
                            let today = now.with_timezone(&tz).date_naive().to_string();
                            assert_eq!(day(&moved), (before.current_day, today), "{policy} {name}");
                        }
                    }
                }
                if is_first {
                    app.hourly().await;
                }
            }
            now += TimeDelta::hours(1);
        }
        for (name, .., story) in &rows {
            app.tells(name, story).await;
        }
        app.server.shutdown().await.expect("stopped");
    }
}

/// The evening's mail is refused until the customer has moved: at midnight to the day before, and back in the middle of the day.
async fn what_is_to_be_repeated_moves_along(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app_with(backend, &smtp.url(), |config| {
        config.retry_base = Duration::from_hours(1);
        config.retry_cap = Duration::from_hours(1);
        config.retry_attempts = 30;
    })
    .await;
    let actions = vec![text("a", 1, 9), mail("b", 1, 18), text("c", 2, 9), text("d", 3, 9)];
    app.set("2026-01-05T19:00:00Z");
    for (policy, when_missed) in [("shift", Shift), ("catch-up", CatchUp)] {
        let timeline = app.timeline(plan(policy, 3, when_missed, actions.clone())).await;
        app.customer(policy, AUCKLAND).await;
        app.start_run(policy, &timeline).await;
    }
    let both = ["shift", "catch-up"];
    smtp.behave(Behaviour::Reply(Step::Rcpt, "451 4.3.0 come again"));
    app.ticks_between("2026-01-05T20:00:00Z", "2026-01-06T11:00:00Z", true, false)
        .await;
    for policy in both {
        let retrying = app.progress(policy).await.failed_actions;
        move_to(&app, policy, HONOLULU).await;
        assert_eq!(app.progress(policy).await.failed_actions, retrying, "{policy}");
    }
    app.ticks_between("2026-01-06T12:00:00Z", "2026-01-06T13:00:00Z", true, false)
        .await;
    for policy in both {
        let run = app.progress(policy).await;
        assert_eq!(
            (day(&run), run.failed_actions.len()),
            ((2, "2026-01-06".to_owned()), 1),
            "{policy}"
        );
        move_to(&app, policy, AUCKLAND).await;
    }
    smtp.accept_all();
    app.ticks_between("2026-01-06T14:00:00Z", "2026-01-09T00:00:00Z", true, true)
        .await;
    for policy in both {
        let run = app.progress(policy).await;
        assert_eq!(completed(&run), ["a", "b", "c", "d"], "{policy}");
        assert_eq!(run.status(), pb::ProgressStatus::Completed, "{policy}");
        assert_eq!(day(&run), (3, "2026-01-08".to_owned()), "{policy}");
        assert_eq!(app.sent_to(policy).len(), 3, "{policy}");
        assert!(run.completed_actions[1].attempts > 3, "{policy}");
    }
    assert_eq!(smtp.deliveries().len(), 2);
    app.server.shutdown().await.expect("stopped");
}
