//! What browsers need: gRPC-Web, and leave for pages of other origins (CORS).
//!
//! A page may call only if its origin is allowed by name. One that is not is refused, rather than only kept from reading the answer:
//! some requests change things, and browsers send them without asking first. Programs send no `origin`, and are not concerned.

use futures::future::BoxFuture;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN, RETRY_AFTER};
use http::{Method, Request, Response, Uri};
use prost_reflect::DescriptorPool;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower::util::Either;
use tower::{Layer, Service, ServiceExt as _};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer, ExposeHeaders};

use super::host::HostName;
use super::refusal::Refusal;
use super::{answer, is_rest};
use crate::proto::is_grpc;

/// How long a browser may keep what it was allowed.
const KEEP: Duration = Duration::from_hours(1);

/// The origin of pages: `https://crm.example.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(HeaderValue);

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no origin: a scheme, a host, and a port if it is another, as in https://crm.example.com"
            )
        };
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority().ok_or_else(wrong)?);
        // Browsers send it just so, and it is compared letter by letter.
        let plain = format!("{scheme}://{}", authority.as_str().to_ascii_lowercase());
        // They leave out the port that goes without saying.
        let is_default_port = matches!((scheme, uri.port_u16()), ("http", Some(80)) | ("https", Some(443)));
        if text != plain || !["http", "https"].contains(&scheme) || text.contains(['@', '*']) || is_default_port {
            return Err(wrong());
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| wrong())
    }
}

/// Serves browsers.
#[derive(Debug, Clone)]
pub struct BrowserLayer {
    origins: Vec<HeaderValue>,
    /// Under which names it is called; none: under any.
    hosts: Option<Arc<[HostName]>>,
    cors: CorsLayer,
    pool: DescriptorPool,
}

impl BrowserLayer {
    /// Allows these origins, and no others. Where hosts are given, even none, requests must be for one of them or for loopback.
    pub fn new(origins: &[Origin], hosts: Option<&[HostName]>) -> Result<Self, String> {
        let origins: Vec<HeaderValue> = origins.iter().map(|Origin(origin)| origin.clone()).collect();
        let exposed = ["grpc-status", "grpc-message", "grpc-status-details-bin"].map(HeaderName::from_static);
        let cors = CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins.clone()))
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(ExposeHeaders::list(exposed.into_iter().chain([RETRY_AFTER])))
            .max_age(KEEP);
        let pool = crate::proto::contract()?;
        Ok(Self {
            origins,
            hosts: hosts.map(Arc::from),
            cors,
            pool,
        })
    }

    /// The answer to who calls the server by a name that is not its own. A page may come by a name that its owner points at loopback
    /// after the page was loaded ("DNS rebinding"); to the browser that is the page's own server, and asks for no leave.
    fn misaddressed(&self, request: &Request<Body>) -> Option<Response<Body>> {
        let hosts = self.hosts.as_deref()?;
        if HostName::of(request)?.is_ok_and(|host| host.is_loopback() || hosts.contains(&host)) {
            return None;
        }
        let text = "the host in the request is none of this server, which listens on loopback: call it localhost or by its address, or name the host by --allowed-host";
        if is_grpc(request.headers()) {
            return Some(Refusal::ForeignHost.status(text).into_http());
        }
        Some(answer::refusal(&self.pool, Refusal::ForeignHost, text))
    }

    /// The answer to a page that may not call.
    fn refused(&self, origin: &HeaderValue) -> Option<Response<Body>> {
        if self.origins.contains(origin) {
            return None;
        }
        let text = "pages of this origin may not call: --cors-origin allows them";
        Some(answer::refusal(&self.pool, Refusal::ForeignOrigin, text))
    }
}

impl<S> Layer<S> for BrowserLayer {
    type Service = BrowserService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BrowserService {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service for browsers, too.
#[derive(Debug, Clone)]
pub struct BrowserService<S> {
    inner: S,
    layer: BrowserLayer,
}

impl<S> Service<Request<Body>> for BrowserService<S>
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
        let is_method = is_method(request.uri().path());
        // Links of mails and what providers call are anybody's.
        if !is_method && !is_rest(request.uri().path()) {
            return Box::pin(ready.call(request));
        }
        if let Some(refused) = self.layer.misaddressed(&request) {
            return Box::pin(async move { Ok(refused) });
        }
        let origin = request.headers().get(ORIGIN);
        if let Some(refused) = origin.and_then(|origin| self.layer.refused(origin)) {
            return Box::pin(async move { Ok(refused) });
        }
        let is_from_page = origin.is_some();
        let is_preflight = is_from_page && asks_first(&request);
        // Pages may send what is no gRPC without asking first, and tonic takes anything for it.
        if is_method && !is_preflight && !is_grpc(request.headers()) {
            let text = "methods are called by these paths as gRPC or gRPC-Web, content-type: application/grpc, and as JSON below /api/";
            let refused = answer::refusal(&self.layer.pool, Refusal::NotGrpc, text);
            return Box::pin(async move { Ok(refused) });
        }
        let inner = if is_method && is_grpc_web(&request) {
            Either::Left(GrpcWebLayer::new().layer(ready))
        } else {
            Either::Right(ready)
        };
        if is_from_page {
            Box::pin(self.layer.cors.layer(inner).oneshot(request))
        } else {
            Box::pin(inner.oneshot(request))
        }
    }
}

/// Whether a request is gRPC-Web, by its content type.
fn is_grpc_web(request: &Request<Body>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/grpc-web"))
}

/// Whether a browser asks what it may do.
fn asks_first(request: &Request<Body>) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Whether a path is that of a method by its gRPC name, as `/campaign.v1.CustomerService/GetCustomer`.
fn is_method(path: &str) -> bool {
    let mut segments = path.trim_start_matches('/').split('/');
    let is_service = |name: &str| name.contains('.') && name.starts_with(|c: char| c.is_ascii_alphabetic());
    segments.next().is_some_and(is_service) && segments.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_told_by_their_paths() {
        for method in ["/campaign.v1.CustomerService/GetCustomer", "//a.b/c", "/a.b/"] {
            assert!(is_method(method), "{method}");
        }
        for other in [
            "/",
            "/u/x",
            "/.well-known/security.txt",
            "/favicon.ico",
            "/a/b.c",
            "/.a.b/c",
        ] {
            assert!(!is_method(other), "{other}");
        }
    }

    #[test]
    fn origins_are_written_as_browsers_send_them() {
        for good in [
            "https://crm.example.com",
            "http://localhost:3000",
            "http://127.0.0.1:8080",
        ] {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "*",
            "null",
            "crm.example.com",
            "https://",
            "https://crm.example.com/",
            "https://CRM.example.com",
            "https://*.example.com",
            "https://user@example.com",
            "ftp://example.com",
            "https://example.com?x",
            "https://example.com:443",
            "http://example.com:80",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }
}
