//! Which ticks count as the last that succeeded: those that went over all customers, alone or part by part.

use campaign_automation::clock::SystemClock;
use campaign_automation::config::Config;
use campaign_automation::domain::Rate;
use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::campaign_orchestrator_service_client::CampaignOrchestratorServiceClient;
use campaign_automation::proto::campaign::v1::campaign_tick_service_client::CampaignTickServiceClient;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::scrape::{get, until, until_metrics};
use super::watched;
use crate::support::app::{daily, hourly};
use crate::support::given::{definition, email};
use crate::support::holds::scope;
use crate::support::mailing::crowd;
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_tick_counts_when_all_customers_had_theirs,
    one_part_alone_makes_no_server_ready,
    a_tick_that_waits_for_a_rate_alone_counts,
);

type Process = pb::ProcessCampaignTimelinesRequest;

fn part(index: i32, count: i32) -> Process {
    Process {
        partition: Some(pb::TickPartition { index, count }),
        ..Default::default()
    }
}

async fn tick(app: &App, request: Process) -> pb::TickSummary {
    hourly(&mut app.ticks(), request).await.expect("a summary")
}

/// When the last tick succeeded, as a server tells it that has looked since this was called: it has seen a hold that there was not.
async fn last_success(app: &App, tick: &str) -> Option<String> {
    let monitor = app.server.monitor_addr().expect("a listener");
    app.hold(scope::all(), "to see that it looks").await;
    let seen = until_metrics(monitor, |metrics| metrics.value("campaign_holds_active") == Some(1.0)).await;
    app.release(scope::all()).await.expect("released");
    until_metrics(monitor, |metrics| metrics.value("campaign_holds_active") == Some(0.0)).await;
    let series = format!("campaign_tick_last_success_timestamp_seconds{{tick=\"{tick}\"}}");
    let seconds = seen.value(&series)?;
    #[expect(clippy::cast_possible_truncation, reason = "it is a whole number of seconds")]
    let time = chrono::DateTime::from_timestamp(seconds as i64, 0);
    Some(time.expect("an instant").format("%H:%M").to_string())
}

async fn a_tick_counts_when_all_customers_had_theirs(backend: Backend) {
    let app = App::start_with(backend, watched).await;
    let timeline = app.timeline(definition("hook", 2, vec![email(1, 0, "A")])).await;
    crowd(&app, &timeline, "c", 3).await;
    let named = Process {
        timeline_ids: vec![timeline.timeline_id],
        ..Default::default()
    };
    assert!(!tick(&app, named).await.has_more);
    assert_eq!(last_success(&app, "hourly").await, None, "it was of one timeline");

    crowd(&app, &timeline, "d", 3).await;
    let at_most = |max_actions| Process {
        max_actions,
        ..Default::default()
    };
    assert!(tick(&app, at_most(1)).await.has_more);
    assert_eq!(last_success(&app, "hourly").await, None, "it was cut short");
    for (time, index, expected) in [
        ("12:10", 0, None),
        ("12:20", 2, None),
        ("12:30", 0, None),
        ("12:40", 1, Some("12:20")),
        ("12:50", 2, Some("12:30")),
    ] {
        app.set(&format!("2026-01-05T{time}:00Z"));
        assert!(!tick(&app, part(index, 3)).await.has_more);
        assert_eq!(last_success(&app, "hourly").await.as_deref(), expected, "{time}");
    }
    app.set("2026-01-05T13:00:00Z");
    assert!(!tick(&app, at_most(1000)).await.has_more);
    assert_eq!(last_success(&app, "hourly").await.as_deref(), Some("13:00"));

    let request = |partition| pb::AdvanceCampaignDaysRequest {
        partition,
        ..Default::default()
    };
    let half = Some(pb::TickPartition { index: 1, count: 2 });
    daily(&mut app.ticks(), request(half)).await.expect("a summary");
    assert_eq!(last_success(&app, "daily").await, None);
    app.set("2026-01-05T13:10:00Z");
    daily(&mut app.ticks(), request(None)).await.expect("a summary");
    assert_eq!(last_success(&app, "daily").await.as_deref(), Some("13:10"));
    app.server.shutdown().await.expect("stopped");
}

async fn why_not_ready(monitor: SocketAddr) -> serde_json::Value {
    let page: serde_json::Value = serde_json::from_str(&get(monitor, "/readyz").await.body).expect("JSON");
    page["why_not"].clone()
}

async fn one_part_alone_makes_no_server_ready(backend: Backend) {
    let asked = |config: &mut Config| {
        watched(config);
        config.monitor.ready_max_tick_age = Some(Duration::from_hours(2));
    };
    let app = App::start_with(backend, asked).await;
    let monitor = app.server.monitor_addr().expect("a listener");
    for index in [0, 1] {
        tick(&app, part(index, 2)).await;
    }
    assert_eq!(last_success(&app, "hourly").await.as_deref(), Some("12:00"));
    assert_eq!(why_not_ready(monitor).await, serde_json::Value::Null);
    for time in ["2026-01-05T13:00:00Z", "2026-01-05T14:00:01Z"] {
        app.set(time);
        tick(&app, part(0, 2)).await;
    }
    until(monitor, "/readyz", |page| page.body.contains("\"why_not\":\"ticks\"")).await;
    tick(&app, part(1, 2)).await;
    until(monitor, "/readyz", |page| page.body.contains("\"why_not\":null")).await;
    assert_eq!(last_success(&app, "hourly").await.as_deref(), Some("14:00"));
    app.server.shutdown().await.expect("stopped");
}

/// It is cut short, as there is more to send; but nobody could do more of it.
async fn a_tick_that_waits_for_a_rate_alone_counts(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    let (server, channel) = app
        .second_server_with(9, Arc::new(SystemClock), |config| {
            watched(config);
            config.limits.email_rate = Rate::parse("10/h").ok();
            config.tick_limit = Duration::from_secs(2);
        })
        .await;
    for id in ["anna", "bert"] {
        app.customer(id, "Etc/UTC").await;
        let request = pb::StartTimelineRequest {
            customer_id: id.to_owned(),
            timeline_id: timeline.timeline_id,
            ..Default::default()
        };
        let mut orchestrator = CampaignOrchestratorServiceClient::new(channel.clone());
        orchestrator.start_timeline(request).await.expect("a run");
    }
    let mut client = CampaignTickServiceClient::new(channel);
    let summary = hourly(&mut client, Process::default()).await.expect("a summary");
    assert!(summary.has_more, "{summary:?}");
    let monitor = server.monitor_addr().expect("a listener");
    let last = "campaign_tick_last_success_timestamp_seconds{tick=\"hourly\"}";
    until_metrics(monitor, |metrics| metrics.value(last).is_some()).await;
    server.shutdown().await.expect("stopped");
    app.server.shutdown().await.expect("stopped");
}
