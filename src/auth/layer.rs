//! The two layers: who it is, in front of everything, and whether he may, in front of the services.

use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::guard::Identity;
use super::{Guard, Peer};
use crate::proto::is_grpc;

/// Pages and calls of providers, which are signed in ways of their own.
const OF_OTHERS: [&str; 4] = ["/u/", "/o/", "/c/", "/callbacks/"];

/// Finds out who makes a request.
#[derive(Debug, Clone)]
pub struct IdentifyLayer(Arc<Guard>);

/// Lets through who may call.
#[derive(Debug, Clone)]
pub struct PermitLayer(Arc<Guard>);

impl IdentifyLayer {
    /// A layer with this guard.
    pub fn new(guard: Arc<Guard>) -> Self {
        Self(guard)
    }
}

impl PermitLayer {
    /// A layer with this guard.
    pub fn new(guard: Arc<Guard>) -> Self {
        Self(guard)
    }
}

impl<S> Layer<S> for IdentifyLayer {
    type Service = IdentifyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        IdentifyService {
            inner,
            guard: Arc::clone(&self.0),
        }
    }
}

impl<S> Layer<S> for PermitLayer {
    type Service = PermitService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        PermitService {
            inner,
            guard: Arc::clone(&self.0),
        }
    }
}

/// A service whose requests say who makes them, in place of tokens.
#[derive(Debug, Clone)]
pub struct IdentifyService<S> {
    inner: S,
    guard: Arc<Guard>,
}

impl<S, B> Service<Request<B>> for IdentifyService<S>
where
    S: Service<Request<B>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if OF_OTHERS.iter().any(|begin| request.uri().path().starts_with(begin)) {
            return Box::pin(self.inner.call(request));
        }
        // The clone is what `poll_ready` was called on, so it goes with the call.
        let next = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, next);
        let guard = Arc::clone(&self.guard);
        let headers = std::mem::take(request.headers_mut());
        let peer = request.extensions().get::<Peer>().cloned();
        Box::pin(async move {
            let found = guard.identify(&headers, peer.as_ref()).await;
            request.extensions_mut().insert(Identity(found));
            *request.headers_mut() = headers;
            request.headers_mut().remove(AUTHORIZATION);
            ready.call(request).await
        })
    }
}

/// A service that is called by those who may.
#[derive(Debug, Clone)]
pub struct PermitService<S> {
    inner: S,
    guard: Arc<Guard>,
}

impl<S, B> Service<Request<B>> for PermitService<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        if !is_grpc(request.headers()) && !self.guard.methods().is_of_service(path) {
            return Box::pin(self.inner.call(request));
        }
        let path = path.to_owned();
        let caller = match self.guard.permit(request.extensions(), &path) {
            Ok(caller) => caller,
            Err(refused) => {
                tracing::debug!(method = path, "refused: {refused}");
                return Box::pin(async move { Ok(refused.status().into_http()) });
            }
        };
        let is_logged = !self.guard.is_open() && self.guard.methods().changes(&path);
        request.extensions_mut().insert(caller.clone());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if let (true, Ok(response)) = (is_logged, &answer) {
                log(caller.name(), &path, response);
            }
            answer
        })
    }
}

/// Who changed something, or tried to. What it was about is in the log lines of the change itself.
fn log(caller: &str, path: &str, response: &Response<Body>) {
    let method = path.rsplit('/').next().unwrap_or(path);
    let refused = Status::from_header_map(response.headers()).map(|status| status.code());
    match refused.filter(|code| *code != Code::Ok) {
        None => tracing::info!(caller, method, "{caller} called {method}"),
        Some(code) => tracing::info!(
            caller,
            method,
            ?code,
            "{caller} called {method}, which was refused: {code:?}"
        ),
    }
}
