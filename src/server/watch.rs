//! Counts and traces HTTP requests that are no gRPC: REST, pages and callbacks. Calls have a layer of their own further in.
//!
//! They are counted in front of everything, and traced behind where it was found out who makes them, as only who is known may say
//! which trace a request is part of. So what is refused before that is counted, and not traced.

use axum::extract::{MatchedPath, Request as PageRequest};
use axum::middleware::Next;
use futures::future::BoxFuture;
use http::{Request, Response};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::Instrument as _;

use crate::auth::is_known;
use crate::proto::is_grpc;
use crate::telemetry::{CallSpan, Metrics, RouteTemplate};

/// Counts requests.
#[derive(Debug, Clone)]
pub(super) struct WatchLayer(pub(super) Metrics);

/// Traces requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct TraceLayer;

impl<S> Layer<S> for WatchLayer {
    type Service = Watched<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Watched {
            inner,
            metrics: self.0.clone(),
        }
    }
}

/// A service whose requests are counted.
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
        let answering = self.inner.call(request);
        Box::pin(async move {
            let response = answering.await?;
            let (route, status) = (route(&response), response.status().as_u16());
            metrics.served(method.as_str(), route, status, begun.elapsed());
            Ok(response)
        })
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Traced(inner)
    }
}

/// A service whose requests are traced.
#[derive(Debug, Clone)]
pub(super) struct Traced<S>(S);

impl<S, A, B> Service<Request<A>> for Traced<S>
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
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        if is_grpc(request.headers()) {
            return Box::pin(self.0.call(request));
        }
        let method = request.method().clone();
        let parent = is_known(request.extensions()).then(|| request.headers());
        let call = CallSpan::http(method.as_str(), parent);
        let answering = self.0.call(request).instrument(call.span().clone());
        Box::pin(async move {
            let response = answering.await?;
            call.served(method.as_str(), route(&response), response.status().as_u16());
            Ok(response)
        })
    }
}

/// The template of the route that a request matched.
fn route<B>(response: &Response<B>) -> Option<&str> {
    let route = response.extensions().get::<RouteTemplate>();
    route.map(|RouteTemplate(route)| &**route)
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
