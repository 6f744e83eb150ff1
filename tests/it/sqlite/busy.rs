//! Somebody else holds the only right to write: calls wait for it, and give up with a clear word after the time-out.

use campaign_automation::proto::campaign::v1 as pb;
use std::time::Duration;
use tonic::Code;

use super::{run, somebody_else};
use crate::support::app::hourly;
use crate::support::given::{customer, definition, email, refused};
use crate::support::{App, Backend, Rows};

fn start(id: &str, timeline: &pb::Timeline) -> pb::StartTimelineRequest {
    pb::StartTimelineRequest {
        customer_id: id.to_owned(),
        timeline_id: timeline.timeline_id,
        ..Default::default()
    }
}

/// An app with a run that is due and a customer without one.
async fn app(busy_timeout: Duration) -> (App, pb::Timeline) {
    let app = App::start_with(Backend::Sqlite, |config| config.database.busy_timeout = busy_timeout).await;
    let timeline = app.timeline(definition("hook", 2, vec![email(1, 0, "A")])).await;
    app.customer("anna", "Etc/UTC").await;
    app.customer("bela", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    (app, timeline)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_database_is_waited_for() {
    let (app, timeline) = app(Duration::from_secs(60)).await;
    let writer = somebody_else(&app).await;
    run(&writer, "begin immediate").await;

    let (mut runs, mut ticks, mut customers) = (app.orchestrator(), app.ticks(), app.customers());
    let request = start("bela", &timeline);
    let started = tokio::spawn(async move { runs.start_timeline(request).await });
    let ticked = tokio::spawn(async move { hourly(&mut ticks, pb::ProcessCampaignTimelinesRequest::default()).await });
    let request = pb::UpsertCustomersRequest {
        customers: vec![customer("carl", "Etc/UTC")],
        ..Default::default()
    };
    let stored = tokio::spawn(async move { customers.upsert_customers(request).await });
    // Whoever only reads is not held up, and those who write have nothing to say yet.
    for _ in 0..20 {
        assert!(app.progress("anna").await.completed_actions.is_empty());
    }
    assert!(!started.is_finished() && !ticked.is_finished() && !stored.is_finished());
    assert_eq!(app.sent_count(), 0, "what is not claimed is not sent");

    run(&writer, "commit").await;
    started.await.expect("a call").expect("a run");
    stored.await.expect("a call").expect("stored");
    let summary = ticked.await.expect("a call").expect("a summary");
    assert!(!summary.has_more, "{summary:?}");
    app.hourly().await;
    assert_eq!((app.sent_to("anna").len(), app.sent_to("bela").len()), (1, 1));
    app.server.shutdown().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_stays_busy_is_unavailable() {
    let (app, timeline) = app(Duration::from_millis(20)).await;
    let rows = Rows::of(&app, Backend::Sqlite).await;
    let before = rows.all().await;
    let writer = somebody_else(&app).await;
    run(&writer, "begin immediate").await;

    let request = pb::ProcessCampaignTimelinesRequest::default();
    let ticked = hourly(&mut app.ticks(), request).await;
    let request = pb::ExecuteActionsRequest {
        customer_id: "anna".to_owned(),
        ..Default::default()
    };
    let executed = app.orchestrator().execute_actions(request).await;
    for status in [
        refused(
            app.try_start(start("bela", &timeline)).await,
            Code::Unavailable,
            "DATABASE_UNAVAILABLE",
            &[],
        ),
        refused(ticked, Code::Unavailable, "DATABASE_UNAVAILABLE", &[]),
        refused(executed, Code::Unavailable, "DATABASE_UNAVAILABLE", &[]),
    ] {
        assert!(status.message().contains("call again"), "{status:?}");
    }
    assert_eq!((rows.all().await, app.sent_count()), (before, 0));

    run(&writer, "commit").await;
    app.try_start(start("bela", &timeline)).await.expect("a run");
    app.hourly().await;
    assert_eq!((app.sent_to("anna").len(), app.sent_to("bela").len()), (1, 1));
    app.server.shutdown().await.expect("stopped");
}
