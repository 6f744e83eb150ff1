//! REST: the methods of the contract as JSON over HTTP, by the `google.api.http` options of `proto/`. No route is written by hand.
//!
//! A layer in front of the gRPC services. What is below `/api/` is looked up in a table that is made of the descriptors, turned into
//! the message of its method (path, query, body), and handed inwards as the gRPC call that it stands for, so that limits,
//! deadlines, and whatever else is a layer there, hold for it as well. What comes back is printed as proto3 JSON. Anything else on
//! the port passes. A method that streams answers with a line for each message.
//!
//! Who is not known is told so before he is told what there is. Who may call is decided by the same [`Gate`] as soon as the method is
//! known, before anything of the body is read.
//!
//! Everything is known at the start: a contract with a method without a path, two methods with one path, or a path with fields that
//! are none, is not served.

mod answer;
mod browser;
mod call;
mod gate;
mod host;
mod json;
mod openapi;
mod read;
mod refusal;
mod request;
mod routes;
mod template;
mod violations;

use futures::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use prost::Message as _;
use prost::bytes::Bytes;
use prost_reflect::DescriptorPool;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::proto::{contract, grpc_timeout, is_grpc, soon_enough};
pub use browser::{BrowserLayer, Origin};
pub use gate::Gate;
pub use host::HostName;
use refusal::Refusal;
use routes::{Found, Route, Routes};
use template::RequestPath;

/// Where the `OpenAPI` document is.
pub const OPENAPI_PATH: &str = "/openapi.json";

/// How long a caller waits who does not say.
const LONGEST: Duration = Duration::from_hours(24);

/// The limits of requests, as gRPC has them.
#[derive(Debug, Clone, Copy)]
pub struct RestSettings {
    /// The longest body, in bytes.
    pub most_bytes: usize,
    /// The longest that a body may take to come.
    pub limit: Duration,
    /// Whether the `OpenAPI` document is there.
    pub document: bool,
}

/// Serves the contract as REST.
#[derive(Debug, Clone)]
pub struct RestLayer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pool: DescriptorPool,
    routes: Routes,
    openapi: Bytes,
    settings: RestSettings,
    gate: Arc<dyn Gate>,
}

impl RestLayer {
    /// The routes of the contract, or what is wrong with it.
    pub fn new(settings: RestSettings, gate: Arc<dyn Gate>) -> Result<Self, String> {
        let pool = contract()?;
        let routes = Routes::of(&pool)?;
        let openapi = openapi::document(&routes).to_string().into();
        let shared = Shared {
            pool,
            routes,
            openapi,
            settings,
            gate,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The answer to what can't be called, for this reason, in the form in which it was asked: gRPC's, or REST's.
    pub fn refused(&self, status: &tonic::Status, asked: &HeaderMap) -> Response<Body> {
        if is_grpc(asked) {
            return status.clone().into_http();
        }
        answer::error(&self.shared.pool, status)
    }

    /// The answer to a path at which there is nothing.
    pub fn nothing_there(&self) -> Response<Body> {
        self.shared.nothing_there()
    }
}

/// Whether a path is REST's.
fn is_rest(path: &str) -> bool {
    path.starts_with(routes::PREFIX) || path == OPENAPI_PATH
}

impl<S> Layer<S> for RestLayer {
    type Service = RestService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RestService {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service that is served as REST, too.
#[derive(Debug, Clone)]
pub struct RestService<S> {
    inner: S,
    layer: RestLayer,
}

impl<S> Service<Request<Body>> for RestService<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The clone is what `poll_ready` was called on, so it goes with the call.
        let next = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, next);
        if !is_rest(request.uri().path()) {
            return Box::pin(ready.call(request));
        }
        let layer = self.layer.clone();
        Box::pin(async move {
            let is_head = request.method() == Method::HEAD;
            let asked = grpc_timeout(request.headers()).map_or(LONGEST, soon_enough);
            let answering = tokio::time::timeout(asked, layer.answer(ready, request));
            let mut response = answering.await.unwrap_or_else(|_| Ok(layer.too_late()))?;
            if is_head {
                response = without_body(response);
            }
            Ok(response)
        })
    }
}

impl RestLayer {
    /// The answer to a call that takes longer than its caller waits. The time of the body counts, which inner layers don't see.
    fn too_late(&self) -> Response<Body> {
        let text = "the call took longer than grpc-timeout says: repeat it with the same request_id, and a longer time";
        self.shared.refuse(Refusal::CallTooLong, text)
    }

    async fn answer<S>(&self, mut inner: S, request: Request<Body>) -> Result<Response<Body>, S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>>,
    {
        let shared = &*self.shared;
        let (head, body) = request.into_parts();
        let (route, call) = match shared.prepare(head, body).await {
            Ok(prepared) => prepared,
            Err(response) => return Ok(response),
        };
        let response = inner.call(call).await?;
        let more = call::metadata(response.headers());
        let output = route.rpc.output();
        let mut answer = if route.rpc.is_server_streaming() {
            answer::lines(&output, response, more).await
        } else {
            match call::unary(response).await {
                Ok(bytes) => answer::message(&output, &bytes, more),
                Err(status) => answer::error(&shared.pool, &status),
            }
        };
        answer.extensions_mut().insert(route.text.clone());
        Ok(answer)
    }
}

impl Shared {
    /// The gRPC call of a request, or what to answer at once.
    async fn prepare(&self, head: Parts, body: Body) -> Result<(&Route, Request<Body>), Response<Body>> {
        let known = self.gate.known(&head.extensions);
        known.map_err(|status| answer::error(&self.pool, &status))?;
        if head.uri.path() == OPENAPI_PATH && self.settings.document {
            return Err(self.document(&head));
        }
        let Some(path) = RequestPath::parse(head.uri.path()) else {
            let mut wrong = violations::Violations::default();
            wrong.add("path", "must be UTF-8 with percent-encoding");
            return Err(answer::error(&self.pool, &wrong.into_status()));
        };
        let (route, values) = match self.routes.find(&head.method, &path) {
            Found::Route(route, values) => (route, values),
            Found::OtherMethods(methods) => return Err(self.other_methods(&head.method, &methods)),
            Found::Nothing => return Err(self.nothing_there()),
        };
        let allowed = self.gate.method(&head.extensions, &call::path(&route.rpc));
        allowed.map_err(|status| answer::error(&self.pool, &status))?;
        if !accepts_json(&head.headers) {
            let text = "the answer is JSON, which the accept header does not take";
            return Err(self.refuse(Refusal::NotAcceptable, text));
        }
        let body = self.read(body).await?;
        let is_read = is_json(&head.headers) && is_plain(&head.headers);
        if !is_read && !body.is_empty() {
            let text = "the body must be JSON, not compressed, and be called so: content-type: application/json";
            return Err(self.refuse(Refusal::NotJson, text));
        }
        let message = request::request(route, &values, head.uri.query(), &body)
            .map_err(|wrong| answer::error(&self.pool, &wrong.into_status()))?;
        // The same text may be longer as a message.
        let message = message.encode_to_vec();
        let call = (message.len() <= self.settings.most_bytes)
            .then(|| call::request(head, &route.rpc, &message))
            .flatten();
        Ok((route, call.ok_or_else(|| self.too_long())?))
    }

    async fn read(&self, body: Body) -> Result<Bytes, Response<Body>> {
        let reading = Limited::new(body, self.settings.most_bytes).collect();
        match tokio::time::timeout(self.settings.limit, reading).await {
            Ok(Ok(read)) => Ok(read.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(self.too_long()),
            Ok(Err(_)) => Err(self.refuse(Refusal::BodyBroken, "the body broke off")),
            Err(_) => {
                let text = format!("the body did not come within {} ms", self.settings.limit.as_millis());
                Err(self.refuse(Refusal::BodyTooLate, &text))
            }
        }
    }

    fn nothing_there(&self) -> Response<Body> {
        if !self.settings.document {
            return self.refuse(Refusal::UnknownPath, "there is nothing at this path");
        }
        let text = format!("there is nothing at this path: {OPENAPI_PATH} lists what there is");
        self.refuse(Refusal::UnknownPath, &text)
    }

    fn too_long(&self) -> Response<Body> {
        let text = format!("the request is longer than {} bytes", self.settings.most_bytes);
        self.refuse(Refusal::BodyTooLong, &text)
    }

    fn refuse(&self, refusal: Refusal, text: &str) -> Response<Body> {
        answer::refusal(&self.pool, refusal, text)
    }

    /// The answer where a path is asked for with a method that it does not have; OPTIONS asks just that.
    fn other_methods(&self, method: &Method, others: &[&Method]) -> Response<Body> {
        let mut response = if method == Method::OPTIONS {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        } else {
            self.refuse(
                Refusal::OtherMethods,
                "the path does not have this method: allow lists those it has",
            )
        };
        answer::allow(&mut response, others);
        response
    }

    fn document(&self, head: &Parts) -> Response<Body> {
        if head.method == Method::GET || head.method == Method::HEAD {
            return answer::of(StatusCode::OK, self.openapi.clone());
        }
        self.other_methods(&head.method, &[&Method::GET])
    }
}

/// The same answer without its body, whose length is said all the same.
fn without_body(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = http_body::Body::size_hint(&body).exact() {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(head, Body::empty())
}

/// The parts of the value of a header that lists types, each with its parameters.
fn types(value: &HeaderValue) -> Option<impl Iterator<Item = (String, Vec<String>)>> {
    let parse = |part: &str| {
        let mut parts = part.split(';').map(|part| part.trim().to_ascii_lowercase());
        let kind = parts.next().unwrap_or_default();
        (kind, parts.collect())
    };
    Some(
        value
            .to_str()
            .ok()?
            .split(',')
            .map(parse)
            .collect::<Vec<_>>()
            .into_iter(),
    )
}

/// Whether a caller takes JSON. One that does not say takes anything.
fn accepts_json(headers: &HeaderMap) -> bool {
    let is_refused = |parameter: &String| {
        let weight = parameter
            .strip_prefix("q=")
            .and_then(|weight| weight.parse::<f32>().ok());
        weight.is_some_and(|weight| weight <= 0.0)
    };
    let known = ["application/json", answer::LINES, "application/*", "*/*", ""];
    let is_taken = |(kind, parameters): (String, Vec<String>)| {
        known.contains(&kind.as_str()) && !parameters.iter().any(is_refused)
    };
    let mut values = headers.get_all(ACCEPT).iter().peekable();
    values.peek().is_none() || values.filter_map(types).flatten().any(is_taken)
}

/// Whether a body is as it is, and not compressed.
fn is_plain(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_ENCODING)
        .is_none_or(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Whether a body is said to be JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let is_utf8 = |parameter: &String| match parameter.strip_prefix("charset=") {
        Some(charset) => ["utf-8", "\"utf-8\""].contains(&charset),
        None => true,
    };
    let mut kinds = headers.get(CONTENT_TYPE).and_then(types).into_iter().flatten();
    let (first, more) = (kinds.next(), kinds.next());
    more.is_none()
        && first.is_some_and(|(kind, parameters)| kind == "application/json" && parameters.iter().all(is_utf8))
}
