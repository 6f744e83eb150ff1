//! A listener of its own for those who watch: without TLS and without asking who they are, as the probes of Kubernetes and scrapers
//! need it. Nothing here tells of customers. It has the limits of the main one, and few connections, so that who reaches this one takes
//! nothing away from callers.

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

use super::health::Health;
use super::listener::{self, Answers, ListenerSettings};
use super::watches::BoundedHealth;
use crate::config::Config;
use crate::telemetry::Metering;

/// The form of the metrics.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The listener. Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Monitor {
    pub(super) addr: SocketAddr,
    _serving: AbortOnDropHandle<()>,
}

impl Monitor {
    /// Listens, and serves what is to be watched; none: it is served nowhere.
    pub(super) async fn start(
        config: &Config,
        health: &Health,
        metering: &Metering,
        service: HealthServer<BoundedHealth>,
    ) -> anyhow::Result<Option<Self>> {
        let Some(listen) = config.monitor.monitor_listen else {
            return Ok(None);
        };
        let settings = ListenerSettings::of_monitor(config, metering.metrics().clone());
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("can't listen on {listen} (--monitor-listen, CAMPAIGN_MONITOR_LISTEN)"))?;
        let addr = listener.local_addr()?;
        let pages = health
            .pages()
            .merge(pages(metering))
            .fallback(async || StatusCode::NOT_FOUND);
        let routes = Routes::from(pages).add_service(service).prepare();
        // It answers as long as there is anything to tell: until this is dropped.
        let stopping = CancellationToken::new();
        let serving = listener::serve(listener, settings, Answers::new(routes), stopping);
        Ok(Some(Self {
            addr,
            _serving: AbortOnDropHandle::new(tokio::spawn(serving)),
        }))
    }
}

/// The metrics, for Prometheus.
pub(super) fn pages(metering: &Metering) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .with_state(metering.clone())
}

async fn metrics(State(metering): State<Metering>) -> Response {
    match metering.text() {
        Ok(text) => ([(CONTENT_TYPE, TEXT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "{error:#}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
