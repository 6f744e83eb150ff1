//! A collector of OTLP over real gRPC, which remembers what it was given.

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tonic::metadata::MetadataMap;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use super::PATIENCE;
use crate::support::certificates::Pair;

/// A collector on a free port.
#[derive(Debug, Clone)]
pub(super) struct Collector {
    pub(super) endpoint: String,
    given: Given,
}

#[derive(Debug, Clone, Default)]
struct Given(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    spans: Vec<Span>,
    /// All that came, as it can be shown.
    texts: Vec<String>,
    /// The names of metrics.
    metrics: Vec<String>,
    /// What was said with each push.
    headers: Vec<MetadataMap>,
}

impl Collector {
    pub(super) async fn start() -> Self {
        Self::serve("http", Server::builder()).await
    }

    /// One that is reached by TLS, at localhost.
    pub(super) async fn by_tls(pair: &Pair) -> Self {
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(&pair.certificate, &pair.key));
        Self::serve("https", Server::builder().tls_config(tls).expect("TLS")).await
    }

    async fn serve(scheme: &str, mut server: Server) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let endpoint = format!("{scheme}://{}", listener.local_addr().expect("an address"));
        let given = Given::default();
        let server = server
            .add_service(TraceServiceServer::new(given.clone()))
            .add_service(MetricsServiceServer::new(given.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        Self { endpoint, given }
    }

    /// The spans of a trace.
    pub(super) fn trace(&self, id: &str) -> Vec<Span> {
        let known = self.given.known();
        let spans = known.spans.iter().filter(|span| hex(&span.trace_id) == id);
        spans.cloned().collect()
    }

    /// Waits until a trace has spans of all these names, and gives its spans.
    pub(super) async fn until(&self, id: &str, names: &[&str]) -> Vec<Span> {
        let waiting = async {
            loop {
                let spans = self.trace(id);
                if names.iter().all(|name| spans.iter().any(|span| span.name == *name)) {
                    return spans;
                }
                tokio::task::yield_now().await;
            }
        };
        if let Ok(spans) = tokio::time::timeout(PATIENCE, waiting).await {
            return spans;
        }
        panic!("{names:?} are not all in {:#?}", self.given.known().spans);
    }

    /// How many spans have a name.
    pub(super) fn named(&self, name: &str) -> usize {
        let known = self.given.known();
        known.spans.iter().filter(|span| span.name == name).count()
    }

    /// How many spans there are in all.
    pub(super) fn count(&self) -> usize {
        self.given.known().spans.len()
    }

    /// All that came.
    pub(super) fn texts(&self) -> Vec<String> {
        self.given.known().texts.clone()
    }

    /// What was said under a name with each push.
    pub(super) fn headers(&self, name: &str) -> Vec<Option<String>> {
        let known = self.given.known();
        let values = known.headers.iter().map(|headers| headers.get(name));
        let text = |value: &tonic::metadata::AsciiMetadataValue| value.to_str().expect("ASCII").to_owned();
        values.map(|value| value.map(text)).collect()
    }

    /// The names of the metrics that came.
    pub(super) fn metrics(&self) -> Vec<String> {
        self.given.known().metrics.clone()
    }
}

/// Bytes as W3C writes them.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

impl Given {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl TraceService for Given {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (headers, _, request) = request.into_parts();
        let mut known = self.known();
        known.headers.push(headers);
        known.texts.push(format!("{request:?}"));
        let scopes = request.resource_spans.into_iter().flat_map(|of| of.scope_spans);
        known.spans.extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Given {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let (headers, _, request) = request.into_parts();
        let mut known = self.known();
        known.headers.push(headers);
        known.texts.push(format!("{request:?}"));
        let scopes = request.resource_metrics.into_iter().flat_map(|of| of.scope_metrics);
        known
            .metrics
            .extend(scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name));
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}
