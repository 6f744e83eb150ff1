//! How long a call may take: what the caller says (`grpc-timeout`), and the server's own limit for unary calls.
//!
//! tonic reports a call that ran out of time as CANCELLED, and only until the head of the response; so a layer of ours is a
//! little faster and says `DEADLINE_EXCEEDED`, and a streaming call finds the instant in its extensions.

use futures::future::BoxFuture;
use http::{Request, Response};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tonic::body::Body;
use tower::{Layer, Service};

use super::error::too_long;
use crate::proto::{grpc_timeout, is_grpc, soon_enough};

/// A call with less time is not begun: timers are no finer than a millisecond, so tonic's could be first.
const SHORTEST: Duration = Duration::from_millis(2);

/// When a call must be over, by the caller's word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(pub(super) Instant);

impl Deadline {
    /// The deadline of a call, if the caller gave one.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Option<Self> {
        request.extensions().get::<Self>().copied()
    }
}

/// The server's limits.
#[derive(Debug, Clone, Copy)]
pub struct DeadlineSettings {
    /// The longest that a call may take until its response begins.
    pub limit: Duration,
}

/// Gives up on calls that take too long.
#[derive(Debug, Clone, Copy)]
pub struct DeadlineLayer {
    settings: DeadlineSettings,
}

impl DeadlineLayer {
    /// A layer with these limits.
    pub fn new(settings: DeadlineSettings) -> Self {
        Self { settings }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService {
            inner,
            settings: self.settings,
        }
    }
}

/// A service whose calls end in time.
#[derive(Debug, Clone)]
pub struct DeadlineService<S> {
    inner: S,
    settings: DeadlineSettings,
}

impl<S, B> Service<Request<B>> for DeadlineService<S>
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
        // What is not gRPC has limits and answers of its own.
        if !is_grpc(request.headers()) {
            return Box::pin(self.inner.call(request));
        }
        let begun = Instant::now();
        let asked = grpc_timeout(request.headers());
        if let Some(deadline) = asked.and_then(|asked| begun.checked_add(asked)) {
            request.extensions_mut().insert(Deadline(deadline));
        }
        let limit = asked.map_or(self.settings.limit, |asked| soon_enough(asked).min(self.settings.limit));
        if limit < SHORTEST {
            return Box::pin(async move { Ok(too_long(limit).into_http()) });
        }
        // The clone is what `poll_ready` was called on, so it goes with the call.
        let next = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            if let Ok(response) = tokio::time::timeout(limit, ready.call(request)).await {
                return response;
            }
            Ok(too_long(limit).into_http())
        })
    }
}
