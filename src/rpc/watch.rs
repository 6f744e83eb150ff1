//! Counts and traces gRPC calls, those that REST stands for among them, to the ends of their answers.
//!
//! How a call ended is told in the trailers, or in the head where there is no answer. One that nobody hears to its end is cancelled.

use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use prost::bytes::Bytes;
use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::Instrument as _;

use crate::auth::is_known;
use crate::proto::{contract, is_grpc};
use crate::telemetry::{CallSpan, Metrics};

/// Methods that are not in the contract.
const OTHERS: [&str; 4] = [
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/List",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];

/// Counts and traces calls.
#[derive(Debug, Clone)]
pub struct CallsLayer {
    metrics: Metrics,
    /// The methods that are told apart.
    methods: Arc<HashSet<String>>,
}

impl CallsLayer {
    /// Knows the methods of the contract.
    pub fn new(metrics: Metrics) -> Result<Self, String> {
        let pool = contract()?;
        let services: Vec<_> = pool.services().collect();
        let methods = services.iter().flat_map(|service| {
            let methods = service
                .methods()
                .map(|method| format!("{}/{}", service.full_name(), method.name()));
            methods.collect::<Vec<_>>()
        });
        let methods = methods.chain(OTHERS.map(str::to_owned)).collect();
        Ok(Self {
            metrics,
            methods: Arc::new(methods),
        })
    }
}

impl<S> Layer<S> for CallsLayer {
    type Service = CallsService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CallsService {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service whose calls are counted and traced.
#[derive(Debug, Clone)]
pub struct CallsService<S> {
    inner: S,
    layer: CallsLayer,
}

impl<S, B> Service<Request<B>> for CallsService<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !is_grpc(request.headers()) {
            return Box::pin(self.inner.call(request));
        }
        let path = request.uri().path();
        let method = self.layer.methods.get(path.strip_prefix('/').unwrap_or(path)).cloned();
        let parent = is_known(request.extensions()).then(|| request.headers());
        let span = CallSpan::rpc(method.as_deref(), parent);
        let answering = self.inner.call(request).instrument(span.span().clone());
        let open = Open {
            metrics: self.layer.metrics.clone(),
            method,
            span,
            begun: Instant::now(),
            status: "CANCELLED",
        };
        Box::pin(async move {
            let response = answering.await?;
            if let Some(status) = status_in(response.headers()) {
                open.end(status);
                return Ok(response);
            }
            let (head, inner) = response.into_parts();
            let body = Answer {
                inner,
                open: Some(open),
            };
            Ok(Response::from_parts(head, Body::new(body)))
        })
    }
}

/// A call that is not over. It is counted when this is dropped.
#[derive(Debug)]
struct Open {
    metrics: Metrics,
    method: Option<String>,
    span: CallSpan,
    begun: Instant,
    status: &'static str,
}

impl Open {
    fn end(mut self, status: &'static str) {
        self.status = status;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics
            .called(self.method.as_deref(), self.status, self.begun.elapsed());
        self.span.called(self.status);
    }
}

/// The body of an answer, watched to its end.
struct Answer {
    inner: Body,
    open: Option<Open>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let status = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().and_then(status_in),
            Some(Err(error)) => Some(name(error.code())),
            None => Some("UNKNOWN"),
        };
        if let Some(status) = status
            && let Some(open) = self.open.take()
        {
            open.end(status);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The status that headers or trailers tell.
fn status_in(headers: &HeaderMap) -> Option<&'static str> {
    let status = headers.get("grpc-status")?;
    Some(name(Code::from_bytes(status.as_bytes())))
}

/// The name of a code, as the conventions have it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
