//! The bound on calls under way, over all connections. What is beyond it is refused at once, before anything of it is read.
//!
//! What strangers may ask, pages and callbacks of providers, has places of its own, an eighth of them, so that they can't take those of
//! callers. It counts until an answer begins, whatever is answered. Not counted are ticks, which are few, long, and what the service is for, and
//! health checks, by which it is seen to be alive.

use futures::future::BoxFuture;
use http::{Request, Response};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::Semaphore;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::proto::is_grpc;
use crate::rest::RestLayer;
use crate::rpc::too_busy;
use crate::telemetry::{Metrics, Refusal};

/// What is not counted, by how its path begins.
const NOT_COUNTED: [&str; 7] = [
    "/grpc.health.v1.Health/",
    "/healthz",
    "/readyz",
    "/campaign.v1.CampaignTickService/ProcessCampaignTimelines",
    "/campaign.v1.CampaignTickService/AdvanceCampaignDays",
    "/api/v1/ticks:process",
    "/api/v1/ticks:advance",
];

/// What anybody may ask, by how its path begins.
const OF_STRANGERS: [&str; 4] = ["/u/", "/o/", "/c/", "/callbacks/"];

/// Refuses what is too much.
#[derive(Debug, Clone)]
pub(super) struct ShedLayer {
    callers: Places,
    strangers: Places,
    metrics: Metrics,
    rest: RestLayer,
}

/// How many at a time.
#[derive(Debug, Clone)]
struct Places {
    most: usize,
    free: Arc<Semaphore>,
}

impl Places {
    fn new(most: usize) -> Self {
        Self {
            most,
            free: Arc::new(Semaphore::new(most)),
        }
    }
}

impl ShedLayer {
    /// At most so many calls at a time.
    pub(super) fn new(most: usize, metrics: Metrics, rest: RestLayer) -> Self {
        Self {
            callers: Places::new(most),
            strangers: Places::new(most.div_ceil(8)),
            metrics,
            rest,
        }
    }

    fn refused(&self, most: usize, is_grpc: bool) -> Response<Body> {
        self.metrics.refused(Refusal::ServerBusy);
        let status = too_busy(most);
        if is_grpc {
            status.into_http()
        } else {
            self.rest.failed(&status)
        }
    }
}

impl<S> Layer<S> for ShedLayer {
    type Service = ShedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ShedService {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service of which not too much is asked at a time.
#[derive(Debug, Clone)]
pub(super) struct ShedService<S> {
    inner: S,
    layer: ShedLayer,
}

impl<S> Service<Request<Body>> for ShedService<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        if NOT_COUNTED.iter().any(|begin| path.starts_with(begin)) {
            return Box::pin(self.inner.call(request));
        }
        let is_stranger = OF_STRANGERS.iter().any(|begin| path.starts_with(begin));
        let places = if is_stranger {
            &self.layer.strangers
        } else {
            &self.layer.callers
        };
        let Ok(place) = Arc::clone(&places.free).try_acquire_owned() else {
            let refused = self.layer.refused(places.most, is_grpc(request.headers()));
            return Box::pin(async move { Ok(refused) });
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(place);
            answer
        })
    }
}
