//! `/metrics`: what a known story comes to, and that what is counted does not grow with those whom it is about.

use campaign_automation::proto::campaign::v1 as pb;
use http::uri::PathAndQuery;
use std::collections::BTreeSet;
use tonic::client::Grpc;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

use super::scrape::{Metrics, ask, get, until_metrics};
use super::watched;
use crate::providers;
use crate::support::given::{action, at, customer, definition, email, sms};
use crate::support::holds::scope;
use crate::support::http::{Behaviour, HttpServer};
use crate::support::mailing::until_run;
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_known_story_is_counted,
    gauges_tell_what_the_database_knows,
    what_is_counted_does_not_grow_with_the_customers,
    two_servers_count_apart,
);

/// Names that alerts and dashboards rely on, and their types.
const NAMES: [(&str, &str); 23] = [
    ("campaign_action_lag_seconds", "histogram"),
    ("campaign_actions_total", "counter"),
    ("campaign_backlog_due", "gauge"),
    ("campaign_broken_runs_total", "counter"),
    ("campaign_circuit_open", "gauge"),
    ("campaign_holds_active", "gauge"),
    ("campaign_leases_rescued_total", "counter"),
    ("campaign_oldest_due_age_seconds", "gauge"),
    ("campaign_ready", "gauge"),
    ("campaign_stale_completions_total", "counter"),
    ("campaign_tick_duration_seconds", "histogram"),
    ("campaign_tick_last_success_timestamp_seconds", "gauge"),
    ("db_client_connection_count", "gauge"),
    ("db_client_connection_max", "gauge"),
    ("db_client_connection_pending_requests", "gauge"),
    ("db_client_connection_timeouts_total", "counter"),
    ("db_client_connection_wait_time_seconds", "histogram"),
    ("db_client_operation_duration_seconds", "histogram"),
    ("http_client_request_duration_seconds", "histogram"),
    ("http_server_request_duration_seconds", "histogram"),
    ("messaging_client_operation_duration_seconds", "histogram"),
    ("messaging_client_sent_messages_total", "counter"),
    ("rpc_server_call_duration_seconds", "histogram"),
];

fn monitor(app: &App) -> std::net::SocketAddr {
    app.server.monitor_addr().expect("a listener")
}

fn task(hour: i32) -> pb::ActionDefinition {
    action(1, hour, pb::Channel::Interaction, pb::ActionType::CreateTask, "C")
}

/// Calls a method that there is not.
async fn call_nothing(app: &App, path: &str) -> Code {
    let mut client = Grpc::new(app.channel());
    client.ready().await.expect("a connection");
    let path: PathAndQuery = path.parse().expect("a path");
    let codec: ProstCodec<pb::GetProgressRequest, pb::GetProgressResponse> = ProstCodec::default();
    let called = client
        .unary(Request::new(pb::GetProgressRequest::default()), path, codec)
        .await;
    called.expect_err("no such method").code()
}

/// How often a call to a method ended so.
fn calls(metrics: &Metrics, method: &str, status: &str) -> f64 {
    let (method, status) = (
        format!("rpc_method=\"{method}\""),
        format!("rpc_response_status_code=\"{status}\""),
    );
    metrics.sum("rpc_server_call_duration_seconds_count", &[&method, &status])
}

async fn a_known_story_is_counted(backend: Backend) {
    let (twilio, crm) = (HttpServer::twilio().await, HttpServer::start().await);
    crm.behave(Behaviour::Answer(503, "", String::new()));
    let app = providers::app(backend, &twilio, &crm, watched).await;
    let timeline = app
        .timeline(definition("hook", 2, vec![email(1, 0, "A"), sms(1, 0, "B"), task(0)]))
        .await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    let missing = pb::GetProgressRequest {
        customer_id: "nobody".to_owned(),
        ..Default::default()
    };
    app.orchestrator().get_progress(missing).await.expect_err("nobody");
    assert_eq!(
        call_nothing(&app, "/campaign.v1.Nothing/Happens").await,
        Code::Unimplemented
    );
    app.clock.advance(chrono::Duration::minutes(10));
    app.hourly().await;
    let page = get(app.server.addr(), "/api/v1/customers/anna").await;
    assert_eq!(page.status, 200, "{page:?}");
    assert_eq!(get(app.server.addr(), "/u/anna").await.status, 403);
    assert_eq!(get(app.server.addr(), "/nothing/anna").await.status, 404);

    let metrics = Metrics::scrape(monitor(&app)).await;
    for (series, expected) in [
        ("campaign_actions_total{channel=\"email\",outcome=\"completed\"}", 1.0),
        ("campaign_actions_total{channel=\"sms\",outcome=\"completed\"}", 1.0),
        (
            "campaign_actions_total{channel=\"interaction\",outcome=\"retrying\"}",
            1.0,
        ),
        ("campaign_action_lag_seconds_count{channel=\"email\"}", 1.0),
        ("campaign_action_lag_seconds_sum{channel=\"email\"}", 600.0),
        ("campaign_action_lag_seconds_bucket{channel=\"sms\",le=\"300\"}", 0.0),
        ("campaign_action_lag_seconds_bucket{channel=\"sms\",le=\"600\"}", 1.0),
        (
            "campaign_tick_duration_seconds_count{result=\"finished\",tick=\"hourly\"}",
            1.0,
        ),
        ("campaign_actions_total{channel=\"email\",outcome=\"unknown\"}", 0.0),
        ("campaign_broken_runs_total", 0.0),
        ("campaign_stale_completions_total", 0.0),
        ("campaign_leases_rescued_total", 0.0),
        ("campaign_ready", 1.0),
    ] {
        assert_eq!(
            metrics.value(series),
            Some(expected),
            "{series}: {:#?}",
            metrics.series()
        );
    }
    let start = "campaign.v1.CampaignOrchestratorService/StartTimeline";
    assert!((calls(&metrics, start, "OK") - 1.0).abs() < f64::EPSILON);
    for (method, status) in [
        ("campaign.v1.CampaignOrchestratorService/GetProgress", "NOT_FOUND"),
        ("campaign.v1.CampaignTickService/ProcessCampaignTimelines", "OK"),
        ("campaign.v1.CustomerService/GetCustomer", "OK"),
        ("_OTHER", "UNIMPLEMENTED"),
    ] {
        assert!(
            (calls(&metrics, method, status) - 1.0).abs() < f64::EPSILON,
            "{method} {status}"
        );
    }
    for labels in [
        [
            "http_route=\"/api/v1/customers/{customer_id}\"",
            "http_response_status_code=\"200\"",
        ],
        ["http_route=\"/u/{token}\"", "http_response_status_code=\"403\""],
        ["http_request_method=\"GET\"", "http_response_status_code=\"404\""],
    ] {
        let count = metrics.sum("http_server_request_duration_seconds_count", &labels);
        assert!((count - 1.0).abs() < f64::EPSILON, "{labels:?}: {count}");
    }
    for labels in [
        [
            "campaign_provider=\"twilio\"",
            "campaign_channel=\"sms\"",
            "http_response_status_code=\"201\"",
        ],
        [
            "campaign_provider=\"webhook\"",
            "campaign_channel=\"interaction\"",
            "error_type=\"503\"",
        ],
    ] {
        let count = metrics.sum("http_client_request_duration_seconds_count", &labels);
        assert!((count - 1.0).abs() < f64::EPSILON, "{labels:?}: {count}");
    }
    for (system, channel, error) in [
        ("outbox", "email", None),
        ("twilio", "sms", None),
        ("webhook", "interaction", Some("retry")),
    ] {
        let labels = [
            format!("messaging_system=\"{system}\""),
            format!("campaign_channel=\"{channel}\""),
            "messaging_operation_name=\"send\"".to_owned(),
            error.map(|error| format!("error_type=\"{error}\"")).unwrap_or_default(),
        ];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        for name in [
            "messaging_client_sent_messages_total",
            "messaging_client_operation_duration_seconds_count",
        ] {
            let count = metrics.sum(name, &labels);
            assert!((count - 1.0).abs() < f64::EPSILON, "{name} {labels:?}: {count}");
        }
    }
    let sent = metrics.sum("messaging_client_sent_messages_total", &[]);
    assert!((sent - 3.0).abs() < f64::EPSILON, "{sent}");
    let system = match backend {
        Backend::Sqlite => "db_system_name=\"sqlite\"",
        Backend::Postgres => "db_system_name=\"postgresql\"",
    };
    for (operation, table) in [
        ("INSERT", "customer_timeline_progress"),
        ("UPDATE", "customer_timeline_progress"),
        ("SELECT", "campaign_timelines"),
        ("INSERT", "tick_runs"),
    ] {
        let (operation, table) = (
            format!("db_operation_name=\"{operation}\""),
            format!("db_collection_name=\"{table}\""),
        );
        assert!(
            metrics.sum(
                "db_client_operation_duration_seconds_count",
                &[system, &operation, &table]
            ) >= 1.0
        );
    }
    let pool = match backend {
        Backend::Sqlite => "db_client_connection_pool_name=\"sqlite\"",
        Backend::Postgres => "db_client_connection_pool_name=\"postgresql\"",
    };
    let connections = |state: &str| {
        let state = format!("db_client_connection_state=\"{state}\"");
        metrics.sum("db_client_connection_count", &[pool, &state])
    };
    let most = metrics.sum("db_client_connection_max", &[pool]);
    assert!((1.0..=most).contains(&(connections("idle") + connections("used"))));
    assert!(metrics.sum("db_client_connection_wait_time_seconds_count", &[pool]) >= 10.0);
    assert!(metrics.sum("db_client_connection_pending_requests", &[pool]) >= 0.0);
    assert!(metrics.sum("db_client_connection_timeouts_total", &[pool]).abs() < f64::EPSILON);
    let surveyed = until_metrics(monitor(&app), |metrics| {
        metrics
            .types()
            .contains_key("campaign_tick_last_success_timestamp_seconds")
    })
    .await;
    for (name, of) in NAMES {
        assert_eq!(surveyed.types().get(name).map(String::as_str), Some(of), "{name}");
    }
    app.server.shutdown().await.expect("stopped");
}

async fn gauges_tell_what_the_database_knows(backend: Backend) {
    let app = App::start_with(backend, watched).await;
    let timeline = app.timeline(definition("hook", 2, vec![email(1, 0, "A")])).await;
    for customer in ["anna", "bela", "cora"] {
        app.customer(customer, "Etc/UTC").await;
        app.start_run(customer, &timeline).await;
    }
    app.clock.advance(chrono::Duration::minutes(10));
    let is = |series: &'static str, expected: f64| move |metrics: &Metrics| metrics.value(series) == Some(expected);
    let monitor = monitor(&app);
    let late = until_metrics(monitor, is("campaign_oldest_due_age_seconds", 600.0)).await;
    assert_eq!(late.value("campaign_backlog_due"), Some(3.0));
    let last = "campaign_tick_last_success_timestamp_seconds{tick=\"hourly\"}";
    assert_eq!(late.value(last), None, "no tick has ever run");

    app.hold(scope::all(), "a test").await;
    until_metrics(monitor, is("campaign_holds_active", 1.0)).await;
    app.release(scope::all()).await.expect("released");
    until_metrics(monitor, is("campaign_holds_active", 0.0)).await;

    app.hourly().await;
    until_run(&app, "anna", |run| !run.completed_actions.is_empty()).await;
    let ticked = at("2026-01-05T12:10:00Z").timestamp();
    #[expect(clippy::cast_precision_loss, reason = "seconds are few")]
    let done = until_metrics(monitor, is(last, ticked as f64)).await;
    assert_eq!(done.value("campaign_backlog_due"), Some(0.0));
    assert_eq!(done.value("campaign_oldest_due_age_seconds"), Some(0.0));
    for channel in ["email", "sms", "phone", "interaction"] {
        let series = format!("campaign_circuit_open{{channel=\"{channel}\"}}");
        assert_eq!(done.value(&series), Some(0.0), "{series}");
    }

    // Days without a tick change nothing about when the last one was, on any server.
    app.pass_hours(50);
    let (second, _) = app.server_on(&app.database.url, watched).await;
    #[expect(clippy::cast_precision_loss, reason = "seconds are few")]
    let there = until_metrics(second.monitor_addr().expect("a listener"), is(last, ticked as f64)).await;
    assert_eq!(
        there.value("campaign_tick_duration_seconds_count{result=\"finished\",tick=\"hourly\"}"),
        None
    );
    app.daily().await;
    until_metrics(monitor, |metrics| {
        metrics
            .value("campaign_tick_last_success_timestamp_seconds{tick=\"daily\"}")
            .is_some()
    })
    .await;
    second.shutdown().await.expect("stopped");
    app.server.shutdown().await.expect("stopped");
}

/// Stores customers, starts each, ticks, and asks for what there is and what there is not.
async fn crowd(app: &App, timelines: &[i64], prefix: &str, count: usize) {
    let ids: Vec<usize> = (0..count).collect();
    for chunk in ids.chunks(1000) {
        let ids = || chunk.iter().map(|n| format!("{prefix}{n:05}"));
        let request = pb::UpsertCustomersRequest {
            customers: ids().map(|id| customer(&id, "Etc/UTC")).collect(),
            ..Default::default()
        };
        app.customers().upsert_customers(request).await.expect("customers");
        let start = |(customer_id, timeline_id): (String, &i64)| pb::TimelineStart {
            customer_id,
            timeline_id: *timeline_id,
            ..Default::default()
        };
        let request = pb::StartTimelinesRequest {
            starts: ids().zip(timelines.iter().cycle()).map(start).collect(),
            ..Default::default()
        };
        app.orchestrator().start_timelines(request).await.expect("runs");
    }
    app.hourly().await;
    let addr = app.server.addr();
    for n in 0..count.min(200) {
        get(addr, &format!("/api/v1/customers/{prefix}{n:05}")).await;
        get(addr, &format!("/u/{prefix}{n:05}")).await;
        get(addr, &format!("/nothing/{prefix}{n:05}")).await;
        ask(addr, &format!("{}{n}", prefix.to_uppercase()), "/u/x", "", "").await;
        call_nothing(app, &format!("/campaign.v1.{prefix}{n}/Happens")).await;
    }
}

async fn what_is_counted_does_not_grow_with_the_customers(backend: Backend) {
    let app = App::start_with(backend, watched).await;
    let mut timelines = Vec::new();
    for n in 0..2 {
        let wait = action(1, 0, pb::Channel::Wait, pb::ActionType::Wait, "");
        let timeline = app
            .timeline(definition(&format!("plan-{n}"), 2, vec![email(1, 23, "A"), wait]))
            .await;
        timelines.push(timeline.timeline_id);
    }
    crowd(&app, &timelines, "few", 4).await;
    let monitor = monitor(&app);
    let surveyed = |metrics: &Metrics| {
        metrics
            .value("campaign_tick_last_success_timestamp_seconds{tick=\"hourly\"}")
            .is_some()
    };
    let few = until_metrics(monitor, surveyed).await;
    for n in 2..30 {
        let timeline = app
            .timeline(definition(&format!("plan-{n}"), 2, vec![email(1, 23, "A")]))
            .await;
        timelines.push(timeline.timeline_id);
    }
    crowd(&app, &timelines, "many", 10_000).await;
    let many = Metrics::scrape(monitor).await;
    let (few, many) = (few.series(), many.series());
    // What is done to large tables alone.
    let is_usual = |series: &&&str| !series.contains("\"ANALYZE\"");
    let more: BTreeSet<_> = many.difference(&few).filter(is_usual).collect();
    assert_eq!(more, BTreeSet::new());
    assert!(many.len() < 2000, "{} series", many.len());
    for series in many {
        assert!(
            !series.contains("few0") && !series.contains("many0") && !series.contains("plan-"),
            "{series}"
        );
    }
    app.server.shutdown().await.expect("stopped");
}

async fn two_servers_count_apart(backend: Backend) {
    let app = App::start_with(backend, watched).await;
    let (second, _) = app.server_on(&app.database.url, watched).await;
    app.hourly().await;
    let ticks = "campaign_tick_duration_seconds_count{result=\"finished\",tick=\"hourly\"}";
    let (here, there) = (
        Metrics::scrape(monitor(&app)).await,
        Metrics::scrape(second.monitor_addr().expect("a listener")).await,
    );
    assert_eq!((here.value(ticks), there.value(ticks)), (Some(1.0), None));
    second.shutdown().await.expect("stopped");
    app.server.shutdown().await.expect("stopped");
}
