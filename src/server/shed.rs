//! The bound on calls under way, over all connections. What is beyond it is refused at once, before anything of it is read.
//!
//! What strangers may ask, pages and callbacks of providers, has places of its own, an eighth of them, so that they can't take those of
//! callers. Not counted are ticks, which are few, long, and what the service is for, and health checks, by which it is seen to be alive.
//!
//! What a caller asked for counts until all of it but the last piece has left, as it is in memory for so long, however slowly he reads.
//! Whatever else is answered counts until the answer begins: errors and pages are small, and a stranger who reads none of them would
//! keep a place for as long as he is connected. So does reflection, a conversation in which the server mostly waits.

use axum::body::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

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

/// What counts until its answer begins, by how its path begins.
const CONVERSATIONS: &str = "/grpc.reflection.";

/// The largest piece of an answer that is handed to a connection at a time, in bytes.
const PIECE: usize = 64 * 1024;

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

    fn refused<B>(&self, most: usize, request: &Request<B>) -> Response<Body> {
        self.metrics.refused(Refusal::ServerBusy);
        self.rest.refused(&too_busy(most), request.headers())
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
            let refused = self.layer.refused(places.most, &request);
            return Box::pin(async move { Ok(refused) });
        };
        let is_kept = !is_stranger && !path.starts_with(CONVERSATIONS);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            if !is_kept || !answer.status().is_success() || answer.body().is_end_stream() {
                return Ok(answer);
            }
            let (head, inner) = answer.into_parts();
            let held = Held {
                inner,
                data: Bytes::new(),
                _place: place,
            };
            Ok(Response::from_parts(head, Body::new(held)))
        })
    }
}

/// The body of an answer, which has a place as long as it is there. Large data is given piece by piece: the connection asks for the
/// next when it has room to send, and would otherwise take all of it, and keep it.
struct Held {
    inner: Body,
    /// What comes before the rest of it.
    data: Bytes,
    _place: OwnedSemaphorePermit,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.data.is_empty() {
            let frame = match std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            match frame.into_data() {
                Ok(data) => self.data = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let length = self.data.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.data.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, data) = (self.inner.size_hint(), self.data.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + data);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + data);
        }
        hint
    }
}
