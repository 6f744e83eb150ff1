//! Traces over gRPC and HTTP: the context of a caller taken in, and ours handed on (W3C `traceparent`). It is taken of who is known
//! alone: it decides what is kept, so a stranger's would cost as much as he likes, and would lead into traces of others.

use ::http::HeaderMap;
use ::http::header::{HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use std::sync::Arc;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::log::SPANS;
use super::metrics::{http_method, is_fault};
use crate::domain::Channel;

/// The template of the route that a request matched, in the extensions of its answer.
#[derive(Debug, Clone)]
pub struct RouteTemplate(pub Arc<str>);

struct In<'a>(&'a HeaderMap);

impl Extractor for In<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

pub(super) struct Out<'a>(pub(super) &'a mut HeaderMap);

impl Injector for Out<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(key, value);
        }
    }
}

/// Adds the context in which this is called to a request.
pub fn client_headers(headers: &mut HeaderMap) {
    let context = Context::current();
    if context.span().span_context().is_valid() {
        TraceContextPropagator::new().inject_context(&context, &mut Out(headers));
    }
}

/// The span of a request to a provider.
pub fn client_span(provider: &'static str, channel: Channel) -> Span {
    tracing::info_span!(
        target: SPANS,
        "request",
        otel.name = "POST",
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = "POST",
        http.response.status_code = Empty,
        error.type = Empty,
        campaign.provider = provider,
        campaign.channel = channel.as_str(),
    )
}

/// The span of a call or request that this server answers.
#[derive(Debug, Clone)]
pub struct CallSpan(Span);

impl CallSpan {
    /// That of a gRPC call to a method that is known. `headers`: those that may say which trace it is part of; none: nobody may say so.
    pub fn rpc(method: Option<&str>, headers: Option<&HeaderMap>) -> Self {
        let method = method.unwrap_or("_OTHER");
        let span = tracing::info_span!(
            target: SPANS,
            "call",
            otel.name = method,
            otel.kind = "server",
            otel.status_code = Empty,
            rpc.system.name = "grpc",
            rpc.method = method,
            rpc.response.status_code = Empty,
        );
        Self::within(span, headers)
    }

    /// That of an HTTP request, likewise.
    pub fn http(method: &str, headers: Option<&HeaderMap>) -> Self {
        let method = http_method(method);
        let span = tracing::info_span!(
            target: SPANS,
            "request",
            otel.name = method,
            otel.kind = "server",
            otel.status_code = Empty,
            http.request.method = method,
            http.route = Empty,
            http.response.status_code = Empty,
        );
        Self::within(span, headers)
    }

    fn within(span: Span, headers: Option<&HeaderMap>) -> Self {
        // What REST stands for is within the request that said where it comes from.
        let headers = headers.filter(|_| !Context::current().has_active_span());
        if let Some(headers) = headers {
            let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &In(headers));
            // Where nobody takes traces there is no span to set it on.
            let _ = span.set_parent(context);
        }
        Self(span)
    }

    /// The span itself.
    pub fn span(&self) -> &Span {
        &self.0
    }

    /// How the call ended. An error is what is the server's fault.
    pub fn called(&self, status: &'static str) {
        self.0.record("rpc.response.status_code", status);
        if is_fault(status) {
            self.0.record("otel.status_code", "ERROR");
        }
    }

    /// How the request was answered.
    pub fn served(&self, method: &str, route: Option<&str>, status: u16) {
        self.0.record("http.response.status_code", status);
        if let Some(route) = route {
            self.0.record("http.route", route);
            // Its name can't be recorded any more, as its context was in use.
            let context = self.0.context();
            context.span().update_name(format!("{} {route}", http_method(method)));
        }
        if status >= 500 {
            self.0.record("otel.status_code", "ERROR");
        }
    }
}
