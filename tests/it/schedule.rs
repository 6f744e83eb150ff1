//! The built-in schedule: `campaignd --schedule`.

use campaign_automation::config::Config;
use campaign_automation::proto::campaign::v1 as pb;
use std::time::Duration;

use crate::support::given::{definition, email};
use crate::support::mailing::PATIENCE;
use crate::support::skewed::SkewedClock;
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    ticks_run_at_round_times_by_themselves,
    two_servers_run_each_tick_once,
    what_was_missed_is_done_at_once,
    a_clock_that_is_wrong_takes_nobodys_turn,
);

/// Ticks every quarter of an hour.
fn quarterly(config: &mut Config) {
    config.schedule = Some(Duration::from_mins(15));
}

/// The ticks that finished: what they are called, and when they began.
async fn finished(app: &App) -> Vec<(String, pb::TickKind, String)> {
    let request = pb::ListTickRunsRequest::default();
    let listed = app.ticks().list_tick_runs(request).await.expect("ticks").into_inner();
    let mut finished: Vec<_> = listed
        .tick_runs
        .into_iter()
        .filter(|run| run.state() == pb::TickState::Finished)
        .map(|run| {
            let summary = run.summary.expect("a summary");
            let began = summary.start_time.expect("a time").to_string();
            (summary.tick_id.clone(), summary.kind(), began)
        })
        .collect();
    finished.sort();
    finished
}

/// Waits until the two ticks of a time have finished.
async fn until_done(app: &App, slot: &str) {
    let name = format!("schedule-{slot}");
    let looking = async {
        while finished(app).await.iter().filter(|(id, _, _)| *id == name).count() < 2 {
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, looking).await;
    assert!(found.is_ok(), "no ticks of {slot}: {:?}", finished(app).await);
}

async fn ticks_run_at_round_times_by_themselves(backend: Backend) {
    let app = App::start_with(backend, quarterly).await;
    until_done(&app, "2026-01-05T12:00:00Z").await;
    let timeline = app
        .timeline(definition("hook", 2, vec![email(1, 0, "A"), email(2, 0, "B")]))
        .await;
    // Midnight there is half past six.
    app.customer("anna", "Asia/Kolkata").await;
    app.start_run("anna", &timeline).await;
    assert_eq!(app.sent_count(), 0, "nobody ticked since");

    app.set("2026-01-05T12:15:00Z");
    until_done(&app, "2026-01-05T12:15:00Z").await;
    assert_eq!(app.sent_count(), 1);
    assert_eq!(app.progress("anna").await.current_day, 1);

    app.set("2026-01-05T18:31:07Z");
    until_done(&app, "2026-01-05T18:30:00Z").await;
    assert_eq!(app.sent_count(), 2);
    assert_eq!(app.progress("anna").await.current_day, 2);
    app.server.shutdown().await.expect("stopped");
}

async fn two_servers_run_each_tick_once(backend: Backend) {
    let app = App::start_with(backend, quarterly).await;
    let (other, _channel) = app
        .second_server_with(8, std::sync::Arc::clone(&app.clock) as _, quarterly)
        .await;
    let mut expected = Vec::new();
    for minute in ["00", "15", "30", "45"] {
        let slot = format!("2026-01-05T12:{minute}:00Z");
        app.set(&slot);
        until_done(&app, &slot).await;
        for kind in [pb::TickKind::Process, pb::TickKind::Advance] {
            expected.push((format!("schedule-{slot}"), kind, slot.clone()));
        }
    }
    expected.sort();
    assert_eq!(finished(&app).await, expected);
    other.shutdown().await.expect("stopped");
    app.server.shutdown().await.expect("stopped");
}

async fn what_was_missed_is_done_at_once(backend: Backend) {
    let app = App::start_with(backend, quarterly).await;
    let timeline = app.timeline(definition("hook", 2, vec![email(1, 14, "A")])).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    until_done(&app, "2026-01-05T12:00:00Z").await;

    let stopped = app.stop_server().await;
    stopped.clock.set(crate::support::given::at("2026-01-05T17:50:00Z"));
    let app = stopped.start(9, quarterly).await;
    until_done(&app, "2026-01-05T17:45:00Z").await;
    assert_eq!(app.sent_count(), 1);
    assert_eq!(
        finished(&app).await.len(),
        4,
        "one tick of each kind makes good for all"
    );
    app.server.shutdown().await.expect("stopped");
}

/// A server that is ahead by an hour would take the turn from whoever has it, and could do nothing with it.
async fn a_clock_that_is_wrong_takes_nobodys_turn(backend: Backend) {
    if backend == Backend::Sqlite {
        // There both clocks are the same.
        return;
    }
    let app = App::start(backend).await;
    let every_minute = |config: &mut Config| config.schedule = Some(Duration::from_mins(1));
    let server = async |seed: u64, ahead: i64| {
        let clock = std::sync::Arc::new(SkewedClock::ahead(chrono::Duration::hours(ahead)));
        app.second_server_with(seed, clock, every_minute).await.0
    };
    // The second looks at the schedule after the first has, as it starts later.
    let (skewed, right) = (server(8, 1).await, server(9, 0).await);
    let ticking = async {
        while finished(&app).await.len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ticking).await.expect("ticks");
    for (server, may) in [(skewed, false), (right, true)] {
        let texts = server.engine().store().statement_texts();
        let has_asked = texts.iter().any(|text| text.contains("tick_schedule"));
        assert_eq!(has_asked, may);
        server.shutdown().await.expect("stopped");
    }
    app.server.shutdown().await.expect("stopped");
}
