//! What people, their mail programs and providers reach by HTTP: the link to unsubscribe, whether mails are read, and what came of
//! messages.
//!
//! RFC 8058: a mail program unsubscribes with one POST, without cookies, credentials or redirects, so the link itself says who. A GET
//! shows a page and changes nothing, because scanners follow the links of every mail.

mod callbacks;
mod events;
mod reports;
mod tracking;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::map_response;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use std::sync::Arc;
use std::time::Duration;

use crate::channels::{TwilioRequests, WebhookSecrets};
use crate::engine::{Engine, EngineError, PublicUrl};
pub(crate) use reports::{GATEWAY, TWILIO_CALL, TWILIO_MESSAGE};

/// The longest that reading a request, and then a change, may take. Nobody is told that it worked who can't be sure of it.
const LIMIT: Duration = Duration::from_secs(10);

/// In how many seconds to try again.
const TRY_AGAIN: &str = "30";

/// What all requests need.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The engine.
    pub engine: Arc<Engine>,
    /// Under which URL people and providers reach the endpoints.
    pub public_url: Option<PublicUrl>,
    /// Who reports on messages.
    pub providers: Providers,
    /// Tells those who may tell of bounces from others; none: nobody may.
    pub events: Option<WebhookSecrets>,
    /// The longest that a call may take. Ten seconds are enough for those here.
    pub call_limit: Duration,
}

impl Shared {
    fn limit(&self) -> Duration {
        self.call_limit.min(LIMIT)
    }

    /// The body of a request, if it comes in time and is no longer than `most` bytes; else what to answer.
    async fn read(&self, body: Body, most: usize) -> Result<Bytes, StatusCode> {
        match tokio::time::timeout(self.limit(), to_bytes(body, most)).await {
            Ok(read) => read.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE),
            Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
        }
    }

    /// What a change came to; none: it failed, or took longer than a call may.
    async fn in_time<T>(&self, what: &str, change: impl Future<Output = Result<T, EngineError>>) -> Option<T> {
        in_time_of(self.limit(), what, change).await
    }
}

/// How requests of providers are told from those of others. None: nothing is sent over such a one, or it signs nothing.
#[derive(Debug, Clone, Default)]
pub struct Providers {
    /// The Twilio account of text messages.
    pub texts: Option<TwilioRequests>,
    /// The Twilio account of calls.
    pub calls: Option<TwilioRequests>,
    /// A gateway of one's own.
    pub gateway: Option<WebhookSecrets>,
}

/// The endpoints that are no RPCs.
pub fn router(shared: Shared) -> Router {
    Router::new()
        .route("/u/{token}", get(ask).post(unsubscribe))
        .route("/o/{token}", get(tracking::open).head(tracking::peek_at_picture))
        .route("/c/{token}", get(tracking::click).head(tracking::peek_at_link))
        .route(callbacks::TWILIO_INBOUND, post(callbacks::twilio_inbound))
        .route("/callbacks/twilio/message/{token}", post(reports::twilio_message))
        .route("/callbacks/twilio/call/{token}", post(reports::twilio_call))
        .route("/callbacks/gateway/{token}", post(reports::gateway))
        .route("/callbacks/events", post(events::events))
        .route("/callbacks/mail", post(events::mail))
        .layer(map_response(closed))
        .with_state(shared)
}

/// What a change came to; none: it failed, or took longer than `limit`. `what` it was, for the log.
async fn in_time_of<T>(limit: Duration, what: &str, change: impl Future<Output = Result<T, EngineError>>) -> Option<T> {
    match tokio::time::timeout(limit, change).await {
        Ok(Ok(done)) => return Some(done),
        Ok(Err(error)) => tracing::error!(%error, "can't {what}: {error}"),
        Err(_) => tracing::error!("can't {what}: no answer from the database within {limit:?}"),
    }
    None
}

/// A page that asks whether to unsubscribe.
async fn ask(State(shared): State<Shared>, Path(token): Path<String>) -> Response {
    if shared.engine.read_unsubscribe_link(&token).is_none() {
        return unknown_link();
    }
    let question = "<p>You will get no more advertising at the address to which this mail was sent.</p>\
         <form method=\"post\"><button name=\"List-Unsubscribe\" value=\"One-Click\">Unsubscribe</button></form>";
    page(StatusCode::OK, "Unsubscribe?", question)
}

/// Unsubscribes, whatever the body says: who has the link and posts means it.
async fn unsubscribe(State(shared): State<Shared>, Path(token): Path<String>) -> Response {
    let Some(link) = shared.engine.read_unsubscribe_link(&token) else {
        return unknown_link();
    };
    if let Some(stored) = shared
        .in_time("unsubscribe somebody", shared.engine.unsubscribe(&link))
        .await
    {
        tracing::info!(suppression_id = stored.id, "{}: unsubscribed", stored.of.detail);
        let done = "<p>No more advertising will be sent to this address.</p>";
        return page(StatusCode::OK, "You are unsubscribed", done);
    }
    let failed = "<p>Something is broken here. Please try again in a minute.</p>";
    let page = page(StatusCode::SERVICE_UNAVAILABLE, "You are not unsubscribed yet", failed);
    ([(RETRY_AFTER, TRY_AGAIN)], page).into_response()
}

fn unknown_link() -> Response {
    let why = "<p>It is not complete, or was not made here. Please take the link from the mail as it is.</p>";
    page(StatusCode::FORBIDDEN, "This link is not known", why)
}

/// A page with a title and a body, neither of which has anything foreign in it.
fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title>\
         <style>body{{font:18px/1.5 sans-serif;max-width:32em;margin:4em auto;padding:0 1em}}button{{font:inherit;padding:.4em 1em}}</style>\
         </head><body><h1>{title}</h1>{body}</body></html>"
    );
    (status, Html(html)).into_response()
}

/// Says to browsers and search engines that a page is nobody else's business.
async fn closed(mut response: Response) -> Response {
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    let all: HeaderMap = [
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
    ]
    .map(|(name, value)| (name, HeaderValue::from_static(value)))
    .into_iter()
    .collect();
    response.headers_mut().extend(all);
    response
}
