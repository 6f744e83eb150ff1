//! A listener of its own for those who watch: without TLS and without asking who they are, as the probes of Kubernetes and scrapers
//! need it. Nothing here tells of customers.

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic_health::pb::health_server::{Health as HealthService, HealthServer};

use super::health::Health;
use super::listener::{MAX_HEADER_BYTES, MAX_STREAMS};
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
    /// Listens, and serves what is to be watched.
    pub(super) async fn start(
        listen: SocketAddr,
        health: &Health,
        metering: &Metering,
        service: HealthServer<impl HealthService>,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("can't listen on {listen} (--monitor-listen, CAMPAIGN_MONITOR_LISTEN)"))?;
        let addr = listener.local_addr()?;
        let pages = health
            .pages()
            .merge(pages(metering))
            .fallback(async || StatusCode::NOT_FOUND);
        let router = tonic::transport::Server::builder()
            .accept_http1(true)
            .max_concurrent_streams(MAX_STREAMS)
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .add_routes(Routes::from(pages).add_service(service));
        let serving = router.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        let serving = async {
            if let Err(error) = serving.await {
                tracing::error!(%error, "metrics and health are not served any more: {error}");
            }
        };
        Ok(Self {
            addr,
            _serving: AbortOnDropHandle::new(tokio::spawn(serving)),
        })
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
