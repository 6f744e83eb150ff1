//! How often one caller may call. It is this server's alone, in memory, and by its clock.
//!
//! A caller is known by his name, once it was found out who he is, and else by the address that he comes from. What is refused is
//! not read.

use futures::future::{BoxFuture, Either, ready};
use http::{Request, Response};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tonic::body::Body;
use tower::{Layer, Service};

use super::network::network;
use crate::auth::{Peer, name_of};
use crate::clock::Clock;
use crate::domain::{Bucket, Rate, Timestamp};
use crate::rest::RestLayer;
use crate::rpc::too_often;
use crate::telemetry::{Metrics, Refusal};

/// Half of the most callers that are remembered.
const GENERATION: usize = 10_000;

/// How the paths begin of what is counted. Health, reflection, links of mails and calls of providers are not.
const COUNTED: [&str; 2] = ["/campaign.v1.", "/api/"];

/// Refuses callers who call too often.
#[derive(Debug, Clone)]
pub(super) struct RateLayer {
    limit: Option<Arc<Limit>>,
    metrics: Metrics,
    rest: RestLayer,
}

#[derive(Debug)]
struct Limit {
    rate: Rate,
    clock: Arc<dyn Clock>,
    callers: Mutex<Callers>,
}

impl RateLayer {
    /// At most so many calls of each caller; none: any number.
    pub(super) fn new(rate: Option<Rate>, clock: Arc<dyn Clock>, metrics: Metrics, rest: RestLayer) -> Self {
        let limit = rate.map(|rate| Limit {
            rate,
            clock,
            callers: Mutex::default(),
        });
        Self {
            limit: limit.map(Arc::new),
            metrics,
            rest,
        }
    }

    fn refused<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let limit = self.limit.as_ref()?;
        let path = request.uri().path();
        if !COUNTED.iter().any(|begin| path.starts_with(begin)) {
            return None;
        }
        let caller = Caller::of(request);
        let mut callers = limit.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = callers.take(caller, limit.rate, limit.clock.now());
        let wait = taken.err()?.to_std().unwrap_or_default();
        let status = too_often(limit.rate, wait);
        self.metrics.refused(Refusal::CallerTooOften);
        Some(self.rest.refused(&status, request.headers()))
    }
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Caller {
    /// Somebody of this name.
    Known(String),
    /// Nobody knows who, but from there.
    At(IpAddr),
    /// Nobody knows, nor from where: within the process.
    Unknown,
}

impl Caller {
    fn of<B>(request: &Request<B>) -> Self {
        if let Some(name) = name_of(request.extensions()) {
            return Self::Known(name);
        }
        let peer = request.extensions().get::<Peer>();
        peer.map_or(Self::Unknown, |peer| Self::At(network(peer.addr.ip())))
    }
}

/// The buckets of callers. Those that have not called for longest are forgotten, which gives them a full bucket.
#[derive(Debug, Default)]
struct Callers {
    young: HashMap<Caller, Bucket>,
    old: HashMap<Caller, Bucket>,
}

impl Callers {
    fn take(&mut self, caller: Caller, rate: Rate, now: Timestamp) -> Result<(), chrono::Duration> {
        if let Some(bucket) = self.young.get_mut(&caller) {
            return bucket.try_take(rate, now);
        }
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        let mut bucket = self.old.remove(&caller).unwrap_or_else(|| Bucket::full(now));
        let taken = bucket.try_take(rate, now);
        self.young.insert(caller, bucket);
        taken
    }
}

impl<S> Layer<S> for RateLayer {
    type Service = RateService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RateService {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service that nobody may call too often.
#[derive(Debug, Clone)]
pub(super) struct RateService<S> {
    inner: S,
    layer: RateLayer,
}

impl<S, B> Service<Request<B>> for RateService<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Error: Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<Self::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.layer.refused(&request) {
            None => Either::Left(self.inner.call(request)),
            Some(refused) => Either::Right(Box::pin(ready(Ok(refused)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_callers_are_remembered_and_those_that_call_are() {
        let (rate, now) = (Rate::parse("1/h").expect("a rate"), Timestamp::UNIX_EPOCH);
        let mut callers = Callers::default();
        let caller = |n: u32| Caller::At(IpAddr::from(n.to_be_bytes()));
        for n in 0..100_000 {
            assert_eq!(callers.take(caller(n), rate, now), Ok(()), "{n}");
            assert!(callers.take(caller(n / 5000 * 5000), rate, now).is_err(), "{n}");
            assert!(callers.young.len() + callers.old.len() <= 2 * GENERATION);
        }
    }
}
