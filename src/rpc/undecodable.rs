//! Requests that can't be decoded. tonic answers them with INTERNAL, as if the server were to blame, and before any service of
//! ours sees them; so a layer says `INVALID_ARGUMENT` in its place, with the field where the trouble is.

use futures::future::BoxFuture;
use http::{Request, Response};
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::violations::refuse;
use crate::proto::{TOO_HEAVY, UNDECODABLE};

/// What prost says of messages that are nested more than 100 deep, the limit that keeps a request from exhausting the stack.
const TOO_DEEP: &str = "recursion limit reached";

/// Says whose mistake it is.
#[derive(Debug, Clone, Copy)]
pub struct UndecodableLayer;

impl<S> Layer<S> for UndecodableLayer {
    type Service = UndecodableService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        UndecodableService { inner }
    }
}

/// A service whose callers learn what of their requests can't be decoded.
#[derive(Debug, Clone)]
pub struct UndecodableService<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for UndecodableService<S>
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

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            let undecodable = Status::from_header_map(response.headers())
                .filter(|status| status.code() == Code::Internal && status.details().is_empty())
                .and_then(|status| explain(status.message()));
            Ok(undecodable.map_or(response, |(field, what)| refuse(&field, &what).into_http()))
        })
    }
}

/// The field of the request that is to blame, and what is wrong there; none: it is another error.
fn explain(message: &str) -> Option<(String, String)> {
    let rest = message.strip_prefix(UNDECODABLE)?;
    // The places where it happened, the innermost first, and then what happened.
    let parts: Vec<&str> = rest.split(": ").collect();
    let is_place = |part: &&&str| part.contains('.') && !part.contains(' ');
    let places = parts.iter().take_while(is_place).count();
    let outermost = parts[..places].last().and_then(|place| place.split_once('.'));
    let field = outermost.map_or("request", |(_, field)| field);
    let what = parts[places..].join(": ");
    let what = match what.as_str() {
        TOO_DEEP => "must not be nested more than 100 messages deep".to_owned(),
        TOO_HEAVY => "has far too many items: send them in several requests".to_owned(),
        what => format!("can't be decoded: {what}"),
    };
    Some((field.to_owned(), what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::campaign::v1 as pb;
    use prost::Message as _;

    /// A field of a message as it is on the wire.
    fn within(tag: u8, inner: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag << 3 | 2];
        prost::encode_length_delimiter(inner.len(), &mut bytes).expect("room");
        bytes.extend_from_slice(inner);
        bytes
    }

    #[track_caller]
    fn check(bytes: &[u8], field: &str, what: &str) {
        let error = pb::ApplyTimelineRequest::decode(bytes).expect_err("undecodable");
        let expected = (field.to_owned(), what.to_owned());
        assert_eq!(explain(&error.to_string()), Some(expected), "{error}");
    }

    #[test]
    fn the_field_and_the_trouble_are_named() {
        let nots = (0..120).fold(Vec::new(), |test, _| within(10, &test));
        let action = within(9, &nots);
        check(
            &within(1, &within(9, &action)),
            "timeline",
            "must not be nested more than 100 messages deep",
        );
        check(
            &within(2, &[0xff]),
            "etag",
            "can't be decoded: invalid string value: data is not UTF-8 encoded",
        );
        check(&[0], "request", "can't be decoded: invalid tag value: 0");
        assert_eq!(explain("something else"), None);
    }
}
