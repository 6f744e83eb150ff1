//! Counts and traces HTTP requests that are no gRPC: REST, pages and callbacks. Calls have a layer of their own further in.

use axum::extract::{MatchedPath, Request as PageRequest};
use axum::middleware::Next;
use futures::future::BoxFuture;
use http::{Request, Response};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::Instrument as _;

use crate::proto::is_grpc;
use crate::telemetry::{CallSpan, Metrics, RouteTemplate};

/// Counts and traces requests.
#[derive(Debug, Clone)]
pub(super) struct WatchLayer(pub(super) Metrics);

impl<S> Layer<S> for WatchLayer {
    type Service = Watched<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Watched {
            inner,
            metrics: self.0.clone(),
        }
    }
}

/// A service whose requests are counted and traced.
#[derive(Debug, Clone)]
pub(super) struct Watched<S> {
    inner: S,
    metrics: Metrics,
}

impl<S, A, B> Service<Request<A>> for Watched<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Send,
    B: Send,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        if is_grpc(request.headers()) {
            return Box::pin(self.inner.call(request));
        }
        let (begun, metrics, method) = (Instant::now(), self.metrics.clone(), request.method().clone());
        let call = CallSpan::http(method.as_str(), request.headers());
        let answering = self.inner.call(request).instrument(call.span().clone());
        Box::pin(async move {
            let response = answering.await?;
            let route = response.extensions().get::<RouteTemplate>();
            let route = route.map(|RouteTemplate(route)| &**route);
            let status = response.status().as_u16();
            metrics.served(method.as_str(), route, status, begun.elapsed());
            call.served(method.as_str(), route, status);
            Ok(response)
        })
    }
}

/// Tells which route a page's request matched.
pub(super) async fn name_route(request: PageRequest, next: Next) -> axum::response::Response {
    let path = request.extensions().get::<MatchedPath>();
    let route = path.map(|path| RouteTemplate(Arc::from(path.as_str())));
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}
