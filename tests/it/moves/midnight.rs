//! Midnights that come while other things are under way: no run is left on yesterday.

use campaign_automation::proto::campaign::v1 as pb;
use chrono::TimeDelta;
use futures::future::join_all;
use pb::WhenMissed::Shift;
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, Statement};
use std::time::Duration;

use super::move_to;
use crate::support::calls::{completed, day, next};
use crate::support::given::{at, shown};
use crate::support::mailing::mailing_app;
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::story::{mail, plan, text};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_midnight_pass_waits_for_a_transaction_that_holds_a_run,
    what_is_committed_after_midnight_is_not_left_on_yesterday,
    a_midnight_pass_beside_starts_resumes_and_moves_leaves_nobody_behind,
    a_row_that_is_held_is_passed_over_and_served_by_the_next_tick,
    a_switch_off_while_a_mail_is_sent_over_midnight_freezes_the_day,
    days_that_are_over_are_looked_for_once,
);

/// Somebody else's transaction.
struct Holder {
    connection: DatabaseConnection,
    backend: Backend,
}

impl Holder {
    /// A connection of its own.
    async fn connect(app: &App, backend: Backend) -> Self {
        let mut options = ConnectOptions::new(app.database.url.clone());
        options.max_connections(1).sqlx_logging(false);
        let connection = Database::connect(options).await.expect("a connection");
        Self { connection, backend }
    }

    /// Begins a transaction that holds rows: on SQLite, which has one writer at a time, all of them.
    async fn hold(&self, rows: &[&str]) {
        let begin = match self.backend {
            Backend::Sqlite => "begin immediate",
            Backend::Postgres => "begin",
        };
        self.run(begin).await;
        if self.backend == Backend::Postgres {
            for rows in rows {
                self.run(&format!("select 1 from {rows} for update")).await;
            }
        }
    }

    async fn release(&self) {
        self.run("commit").await;
    }

    async fn run(&self, sql: &str) {
        self.connection.execute_unprepared(sql).await.expect("a statement");
    }

    /// Waits until so many others wait for the transaction. On SQLite nobody can tell, and the others may not have come so far.
    async fn until_waited_for(&self, count: i64) {
        if self.backend == Backend::Sqlite {
            tokio::task::yield_now().await;
            return;
        }
        let sql = "select count(*) as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        let backend = self.connection.get_database_backend();
        let waiting = async {
            loop {
                // Who is there is looked up once per transaction otherwise.
                self.run("select pg_stat_clear_snapshot()").await;
                let row = self
                    .connection
                    .query_one_raw(Statement::from_string(backend, sql))
                    .await;
                let row = row.expect("a row").expect("a row");
                let waiting: i64 = row.try_get("", "n").expect("a number");
                if waiting >= count {
                    return;
                }
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        waited.expect("somebody waits");
    }
}

/// A run's row is held when midnight comes. The daily and the hourly tick wait for it and then move it with all others.
async fn a_midnight_pass_waits_for_a_transaction_that_holds_a_run(backend: Backend) {
    for daily in [true, false] {
        let app = App::start(backend).await;
        let actions = vec![mail("a", 1, 13), mail("b", 2, 0), mail("c", 2, 9)];
        let timeline = app.timeline(plan("hook", 3, Shift, actions)).await;
        for id in ["anna", "bela", "carl"] {
            app.customer(id, "Etc/UTC").await;
            app.start_run(id, &timeline).await;
        }
        app.tick_at(&["2026-01-05T13:00:00Z"]).await;
        let holder = Holder::connect(&app, backend).await;
        holder
            .hold(&["customer_timeline_progress where customer_id = 'bela'"])
            .await;
        app.set("2026-01-06T00:00:00Z");
        let tick = async { if daily { app.daily().await } else { app.hourly().await } };
        let (summary, ()) = tokio::join!(tick, async {
            holder.until_waited_for(1).await;
            holder.release().await;
        });
        assert_eq!(summary.counts.expect("counts").advanced_runs, 3);
        app.hourly().await;
        for id in ["anna", "bela", "carl"] {
            app.tells(
                id,
                "01-05 13:00 a sent
                01-06 00:00 b sent
                day 2 on 01-06, active",
            )
            .await;
        }
        app.server.shutdown().await.expect("stopped");
    }
}

/// A start, a resume and a move have computed their date a second before midnight, and commit after a midnight pass has found nothing
/// of them. The next pass does. What they start has nothing to send on its first day, so nothing else would find them.
async fn what_is_committed_after_midnight_is_not_left_on_yesterday(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app
        .timeline(plan("hook", 5, Shift, vec![mail("a", 2, 9), mail("b", 3, 9)]))
        .await;
    app.customer("started", "Etc/UTC").await;
    app.customer("resumed", "Etc/UTC").await;
    app.customer("moved", "Pacific/Kiritimati").await;
    let resumed = app.start_run("resumed", &timeline).await.progress_id;
    let request = pb::StartTimelineRequest {
        customer_id: "moved".to_owned(),
        timeline_id: timeline.timeline_id,
        first_day: pb::FirstDay::NextDay.into(),
        ..Default::default()
    };
    app.try_start(request).await.expect("a run");
    app.pause("resumed", resumed, "").await.expect("paused");
    let holder = Holder::connect(&app, backend).await;
    holder
        .hold(&["customers", "customer_timeline_progress where customer_id = 'resumed'"])
        .await;
    app.set("2026-01-05T23:59:59Z");
    let calls = async {
        tokio::join!(
            app.start_run("started", &timeline),
            async { app.resume("resumed", resumed, "").await.expect("resumed") },
            move_to(&app, "moved", "Etc/UTC"),
        )
    };
    tokio::join!(calls, async {
        holder.until_waited_for(3).await;
        app.set("2026-01-06T00:05:00Z");
        if backend == Backend::Postgres {
            for _ in 0..2 {
                app.daily().await;
                app.hourly().await;
            }
        }
        holder.release().await;
    });
    app.tick_at(&["2026-01-06T00:10:00Z"]).await;
    for id in ["started", "resumed", "moved"] {
        let run = app.progress(id).await;
        let (number, date) = day(&run);
        assert_eq!(date, "2026-01-06", "{id}");
        // On SQLite the call itself came after midnight.
        assert!((1..=2).contains(&number), "{id}: {run:?}");
        if backend == Backend::Postgres {
            assert_eq!(number, 2, "{id}");
        }
    }
    // A quarter of an hour after midnight the zone is done with, and tomorrow is another day.
    app.tick_at(&["2026-01-06T00:20:00Z", "2026-01-06T09:00:00Z", "2026-01-07T00:00:00Z"])
        .await;
    for id in ["started", "resumed", "moved"] {
        let run = app.progress(id).await;
        assert_eq!(day(&run).1, "2026-01-07", "{id}");
        assert_eq!(run.shifted_days, 0, "{id}");
    }
    app.server.shutdown().await.expect("stopped");
}

/// Midnight passes, one after the other and two at a time, beside starts, resumes and moves, while the clock passes midnight.
async fn a_midnight_pass_beside_starts_resumes_and_moves_leaves_nobody_behind(backend: Backend) {
    const EACH: usize = 8;
    let app = App::start(backend).await;
    let actions = vec![text("a", 1, 0), text("b", 2, 0), text("c", 2, 9)];
    let timeline = app.timeline(plan("hook", 5, Shift, actions)).await;
    let ids = |kind: &str| -> Vec<String> { (0..EACH).map(|n| format!("{kind}{n}")).collect() };
    let (waiting, started, resumed, moved) = (ids("waiting"), ids("started"), ids("resumed"), ids("moved"));
    let mut paused = Vec::new();
    for id in waiting.iter().chain(&started).chain(&resumed).chain(&moved) {
        app.customer(id, "Etc/UTC").await;
    }
    for id in waiting.iter().chain(&resumed).chain(&moved) {
        let run = app.start_run(id, &timeline).await;
        if resumed.contains(id) {
            paused.push((id, run.progress_id));
        }
    }
    app.hourly().await;
    for (id, run) in &paused {
        app.pause(id, *run, "").await.expect("paused");
    }
    let (other, channel) = app.second_server().await;
    app.set("2026-01-05T23:59:58Z");
    let passes = async {
        for _ in 0..6 {
            let mut beside = pb::campaign_tick_service_client::CampaignTickServiceClient::new(channel.clone());
            let request = pb::AdvanceCampaignDaysRequest::default();
            let (_, second, ()) = tokio::join!(app.hourly(), crate::support::app::daily(&mut beside, request), async {
                app.clock.advance(TimeDelta::milliseconds(500));
            });
            second.expect("a summary");
        }
    };
    let starts = join_all(started.iter().map(|id| app.start_run(id, &timeline)));
    let resumes = join_all(paused.iter().map(|(id, run)| app.resume(id, *run, "")));
    let moves = join_all(moved.iter().map(|id| move_to(&app, id, "Europe/Berlin")));
    let (.., resumes, _) = tokio::join!(passes, starts, resumes, moves);
    assert!(resumes.iter().all(Result::is_ok), "{resumes:?}");
    app.tick_at(&["2026-01-06T00:01:00Z"]).await;
    for id in waiting.iter().chain(&started).chain(&resumed).chain(&moved) {
        let run = app.progress(id).await;
        let (number, date) = day(&run);
        assert_eq!(date, "2026-01-06", "{id}");
        let allowed = if waiting.contains(id) {
            vec![2]
        } else if started.contains(id) {
            let was_before = shown(run.start_time).as_str() < "2026-01-06";
            vec![if was_before { 2 } else { 1 }]
        } else {
            vec![1, 2]
        };
        assert!(allowed.contains(&number), "{id}: day {number}, not {allowed:?}");
        let expected: &[&str] = if number == 2 { &["a", "b"] } else { &["a"] };
        assert_eq!((completed(&run), run.shifted_days), (strings(expected), 0), "{id}");
        assert_eq!(app.sent_to(id).len(), expected.len(), "{id}");
    }
    other.shutdown().await.expect("stopped");
    app.server.shutdown().await.expect("stopped");
}

fn strings(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

/// On PostgreSQL a tick does not wait for a run that somebody else holds, and serves the others.
async fn a_row_that_is_held_is_passed_over_and_served_by_the_next_tick(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(plan("hook", 3, Shift, vec![mail("a", 1, 13)])).await;
    for id in ["anna", "bela", "carl"] {
        app.customer(id, "Etc/UTC").await;
        app.start_run(id, &timeline).await;
    }
    let holder = Holder::connect(&app, backend).await;
    app.set("2026-01-05T13:00:00Z");
    if backend == Backend::Postgres {
        holder
            .hold(&["customer_timeline_progress where customer_id = 'bela'"])
            .await;
        app.hourly().await;
        assert_eq!((app.sent_count(), app.sent_to("bela").len()), (2, 0));
        holder.release().await;
    }
    app.hourly().await;
    for id in ["anna", "bela", "carl"] {
        app.tells(
            id,
            "01-05 13:00 a sent
            day 1 on 01-05, active",
        )
        .await;
    }
    app.server.shutdown().await.expect("stopped");
}

/// A mail of 23 o'clock is on its way when the timeline is switched off, and arrives after midnight. The run is frozen on its day,
/// wherever it has been switched on again by then or not, and goes on when the day after it is switched on.
async fn a_switch_off_while_a_mail_is_sent_over_midnight_freezes_the_day(backend: Backend) {
    for back_at in ["2026-01-06T00:02:00Z", "2026-01-09T15:00:00Z"] {
        let smtp = SmtpServer::start().await;
        let app = mailing_app(backend, &smtp).await;
        let timeline = app
            .timeline(plan("hook", 3, Shift, vec![mail("a", 1, 23), mail("b", 2, 9)]))
            .await;
        app.customer("anna", "Etc/UTC").await;
        app.start_run("anna", &timeline).await;
        app.set("2026-01-05T23:00:00Z");
        smtp.behave(Behaviour::Stall(Step::Dot));
        tokio::join!(app.hourly(), async {
            smtp.until_stalled(1).await;
            app.set("2026-01-05T23:01:00Z");
            app.set_active(&timeline, false).await;
            app.set("2026-01-06T00:01:00Z");
            if at(back_at) < at("2026-01-06T00:05:00Z") {
                app.set(back_at);
                app.set_active(&timeline, true).await;
                app.set("2026-01-06T00:05:00Z");
            }
            smtp.accept_all();
            smtp.release();
        });
        let run = app.progress("anna").await;
        assert_eq!(
            (run.current_day, completed(&run)),
            (1, vec!["a".to_owned()]),
            "{back_at}"
        );
        if at(back_at) > at("2026-01-06T00:05:00Z") {
            assert_eq!(day(&run).1, "2026-01-05", "frozen");
            app.ticks_between("2026-01-06T01:00:00Z", "2026-01-07T01:00:00Z", true, true)
                .await;
            assert_eq!(day(&app.progress("anna").await), (1, "2026-01-05".to_owned()));
            app.set(back_at);
            app.set_active(&timeline, true).await;
        }
        app.hourly().await;
        let thawed = at(back_at).date_naive();
        let run = app.progress("anna").await;
        assert_eq!(day(&run), (1, thawed.to_string()), "{back_at}");
        let tomorrow = format!("{}T09:00:00Z", thawed + TimeDelta::days(1));
        assert_eq!(next(&run), Some(("b".to_owned(), tomorrow.clone())), "{back_at}");
        app.tick_at(&[&tomorrow]).await;
        let run = app.progress("anna").await;
        assert_eq!(
            (completed(&run), run.shifted_days),
            (strings(&["a", "b"]), 0),
            "{back_at}"
        );
        assert_eq!(smtp.deliveries().len(), 2, "{back_at}");
        app.server.shutdown().await.expect("stopped");
    }
}

/// Looking through all runs takes long where there are many. Once one tick has moved all, the next ones have no reason to.
async fn days_that_are_over_are_looked_for_once(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(plan("hook", 5, Shift, vec![mail("a", 5, 9)])).await;
    for id in ["anna", "bert"] {
        app.customer(id, "Etc/UTC").await;
        app.start_run(id, &timeline).await;
    }
    app.hourly().await;
    app.set("2026-01-06T12:00:00Z");
    let counts = app.daily().await.counts.expect("counts");
    assert_eq!(counts.advanced_runs, 2);
    let statements = || app.server.engine().store().statements();
    let of_tick = async || {
        let before = statements();
        app.hourly().await;
        statements() - before
    };
    let (first, second) = (of_tick().await, of_tick().await);
    // What is read anew after a second may be read in either of them.
    assert!(
        first.abs_diff(second) <= 2,
        "{first} statements, and {second} in the next tick"
    );
}
