//! Whether the server lives and is ready: for probes over HTTP and gRPC, on both listeners.

use campaign_automation::config::Config;
use sea_orm::{ConnectionTrait as _, Database};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::scrape::{get, until};
use super::watched;
use crate::broken::run_sql;
use crate::support::{App, Backend, on_each_database, postgres_url};

on_each_database!(
    another_schema_makes_it_unready,
    late_ticks_are_told_and_fail_nothing,
    late_ticks_make_it_unready_where_that_is_asked_for,
    what_is_served_where,
);

/// What gRPC's health service says of a service.
async fn grpc(addr: SocketAddr, service: &str) -> ServingStatus {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).expect("an address");
    let mut client = HealthClient::new(endpoint.connect().await.expect("a connection"));
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    client.check(request).await.expect("a status").into_inner().status()
}

fn body(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// Waits until `/readyz` gives this reason, or none, and checks that everything else says so too.
async fn until_ready_is(addr: SocketAddr, why_not: Option<&str>) -> Value {
    let page = until(addr, "/readyz", |page| body(&page.body)["why_not"] == json!(why_not)).await;
    assert_eq!(page.status, if why_not.is_none() { 200 } else { 503 }, "{page:?}");
    assert_eq!(body(&page.body)["ready"], json!(why_not.is_none()));
    let expected = if why_not.is_none() {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    // It is told one after the other.
    while grpc(addr, "campaign.v1.CampaignTickService").await != expected {
        tokio::task::yield_now().await;
    }
    let metric = if why_not.is_none() {
        "campaign_ready 1\n"
    } else {
        "campaign_ready 0\n"
    };
    until(addr, "/metrics", |page| page.body.contains(metric)).await;
    assert_eq!(get(addr, "/healthz").await.status, 200);
    for alive in ["liveness", ""] {
        assert_eq!(grpc(addr, alive).await, ServingStatus::Serving, "{alive:?}");
    }
    body(&page.body)
}

async fn another_schema_makes_it_unready(backend: Backend) {
    let app = App::start_with(backend, watched).await;
    let monitor = app.server.monitor_addr().expect("a listener");
    until_ready_is(monitor, None).await;
    run_sql(&app, &["alter table seaql_migrations rename to elsewhere".to_owned()]).await;
    run_sql(
        &app,
        &["create table seaql_migrations (version varchar(255) primary key, applied_at bigint not null)".to_owned()],
    )
    .await;
    until_ready_is(monitor, Some("schema")).await;
    run_sql(
        &app,
        &[
            "drop table seaql_migrations".to_owned(),
            "alter table elsewhere rename to seaql_migrations".to_owned(),
        ],
    )
    .await;
    until_ready_is(monitor, None).await;
    app.server.shutdown().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_makes_it_unready_until_it_is_back() {
    let Some(url) = postgres_url() else {
        return;
    };
    let app = App::start_with(Backend::Postgres, watched).await;
    let monitor = app.server.monitor_addr().expect("a listener");
    until_ready_is(monitor, None).await;
    let (_, name) = app.database.url.rsplit_once('/').expect("a name");
    let admin = Database::connect(url).await.expect("the server");
    let allow = async |allowed: bool| {
        for statement in [
            format!("alter database {name} allow_connections {allowed}"),
            format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"),
        ] {
            admin.execute_unprepared(&statement).await.expect("an administrator");
        }
    };
    allow(false).await;
    until_ready_is(monitor, Some("database")).await;
    assert_eq!(
        get(app.server.addr(), "/readyz").await.status,
        503,
        "on the main port as well"
    );
    allow(true).await;
    until_ready_is(monitor, None).await;
    app.server.shutdown().await.expect("stopped");
}

async fn late_ticks_are_told_and_fail_nothing(backend: Backend) {
    let app = App::start_with(backend, watched).await;
    let monitor = app.server.monitor_addr().expect("a listener");
    let never = until_ready_is(monitor, None).await;
    assert_eq!(never["ticks"], json!({"hourly": null, "daily": null}));
    app.hourly().await;
    let known = until(monitor, "/readyz", |page| {
        !body(&page.body)["ticks"]["hourly"].is_null()
    })
    .await;
    let hourly = |age| json!({"last_success": "2026-01-05T12:00:00Z", "age_seconds": age});
    assert_eq!(body(&known.body)["ticks"]["hourly"], hourly(0));
    app.pass_hours(3);
    let late = get(monitor, "/readyz").await;
    assert_eq!(
        (late.status, &body(&late.body)["ticks"]["hourly"]),
        (200, &hourly(10_800))
    );
    app.server.shutdown().await.expect("stopped");
}

async fn late_ticks_make_it_unready_where_that_is_asked_for(backend: Backend) {
    let asked = |config: &mut Config| {
        watched(config);
        config.monitor.ready_max_tick_age = Some(Duration::from_secs(7200));
    };
    let app = App::start_with(backend, asked).await;
    let monitor = app.server.monitor_addr().expect("a listener");
    until_ready_is(monitor, None).await;
    app.hourly().await;
    until(monitor, "/readyz", |page| {
        !body(&page.body)["ticks"]["hourly"].is_null()
    })
    .await;
    app.pass_hours(3);
    until_ready_is(monitor, Some("ticks")).await;
    // It serves calls all the same, and the tick that it waits for.
    app.hourly().await;
    until_ready_is(monitor, None).await;
    app.server.shutdown().await.expect("stopped");
}

async fn what_is_served_where(backend: Backend) {
    let app = App::start_with(backend, watched).await;
    let monitor = app.server.monitor_addr().expect("a listener");
    for (path, main, there) in [
        ("/healthz", 200, 200),
        ("/readyz", 200, 200),
        ("/metrics", 404, 200),
        ("/api/v1/customers", 200, 404),
        ("/openapi.json", 200, 404),
    ] {
        assert_eq!(get(app.server.addr(), path).await.status, main, "{path}");
        assert_eq!(get(monitor, path).await.status, there, "{path}");
    }
    app.server.shutdown().await.expect("stopped");

    // Without a listener of their own, on a port that asks nobody anyway.
    let app = App::start(backend).await;
    assert_eq!(app.server.monitor_addr(), None);
    assert_eq!(get(app.server.addr(), "/metrics").await.status, 200);
    app.server.shutdown().await.expect("stopped");
}
