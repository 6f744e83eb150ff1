//! How long a call may take: what the caller says (`grpc-timeout`), and the server's own limit for unary calls.
//!
//! tonic reports a call that ran out of time as CANCELLED, and only until the head of the response; so a layer of ours is a
//! little faster and says `DEADLINE_EXCEEDED`, and a streaming call finds the instant in its extensions.

use futures::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tonic::body::Body;
use tower::{Layer, Service};

use super::error::too_long;

/// How much earlier than tonic the layer gives up.
const EARLIER: Duration = Duration::from_millis(10);

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
        let asked = request
            .headers()
            .get("grpc-timeout")
            .and_then(|value| value.to_str().ok())
            .and_then(parse_timeout);
        if let Some(deadline) = asked.and_then(|asked| begun.checked_add(asked)) {
            request.extensions_mut().insert(Deadline(deadline));
        }
        let limit = asked.map_or(self.settings.limit, |asked| {
            asked.saturating_sub(EARLIER).max(asked / 2).min(self.settings.limit)
        });
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

/// Whether a request is gRPC's, by its content type.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/grpc"))
}

/// Parses `grpc-timeout`: at most 8 digits and a unit (gRPC over HTTP/2, "Requests").
fn parse_timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_parsed() {
        let cases = [
            ("5S", Some(5000)),
            ("100m", Some(100)),
            ("1H", Some(3_600_000)),
            ("2M", Some(120_000)),
            ("1000u", Some(1)),
            ("99999999n", Some(99)),
        ];
        for (text, expected) in cases {
            assert_eq!(
                parse_timeout(text).map(|duration| duration.as_millis()),
                expected,
                "{text}"
            );
        }
        for bad in ["", "S", "5", "5X", "-5S", "123456789S", "é"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }
}
