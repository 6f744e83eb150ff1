//! Delivery reports of providers, each at a URL of its own that says which attempt it is about.
//!
//! A request counts by two things: that its URL was made here, and that it is signed by the provider. Statuses that nobody has heard
//! of are taken as well. Whatever can't be stored now is answered with 503 and `Retry-After`.

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::callbacks::MOST_BYTES;
use super::{Shared, TRY_AGAIN};
use crate::channels::TwilioRequests;
use crate::domain::{AttemptKey, Channel, DeliveryReport, PhoneNumber, ProviderStatus};
use crate::engine::ProviderReport;

/// Under which path Twilio reports on text messages.
pub(crate) const TWILIO_MESSAGE: &str = "callbacks/twilio/message";

/// Under which path Twilio reports on calls.
pub(crate) const TWILIO_CALL: &str = "callbacks/twilio/call";

/// Under which path a gateway reports.
pub(crate) const GATEWAY: &str = "callbacks/gateway";

/// A report as Twilio makes it, by the names of its parameters.
struct Form {
    path: &'static str,
    status: &'static str,
    id: &'static str,
    channel: Channel,
}

/// A report of Twilio on a text message.
pub(super) async fn twilio_message(
    State(shared): State<Shared>,
    Path(token): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let form = Form {
        path: TWILIO_MESSAGE,
        status: "MessageStatus",
        id: "MessageSid",
        channel: Channel::Sms,
    };
    let twilio = shared.providers.texts.clone();
    of_twilio(&shared, twilio, &form, &token, query, &headers, body).await
}

/// A report of Twilio on a call.
pub(super) async fn twilio_call(
    State(shared): State<Shared>,
    Path(token): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let form = Form {
        path: TWILIO_CALL,
        status: "CallStatus",
        id: "CallSid",
        channel: Channel::Phone,
    };
    let twilio = shared.providers.calls.clone();
    of_twilio(&shared, twilio, &form, &token, query, &headers, body).await
}

async fn of_twilio(
    shared: &Shared,
    twilio: Option<TwilioRequests>,
    form: &Form,
    token: &str,
    query: Option<String>,
    headers: &HeaderMap,
    body: Body,
) -> Response {
    let (Some(twilio), Some(public_url)) = (twilio, &shared.public_url) else {
        let why = "this server has no --public-url, or no Twilio account with its auth token for this channel";
        return (StatusCode::NOT_FOUND, why).into_response();
    };
    let body = match shared.read(body, MOST_BYTES).await {
        Ok(body) => body,
        Err(status) => return status.into_response(),
    };
    let parameters: Vec<(String, String)> = form_urlencoded::parse(&body).into_owned().collect();
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let url = format!("{public_url}/{}/{token}{query}", form.path);
    let signature = headers.get("x-twilio-signature").and_then(|value| value.to_str().ok());
    if !twilio.is_genuine(&url, &parameters, signature.unwrap_or_default()) {
        return unsigned(form.path);
    }
    let sealed = shared.engine.read_callback_token(token);
    let Some((key, channel)) = sealed.filter(|(_, channel)| *channel == form.channel) else {
        return unknown_url();
    };
    let value = |name: &str| {
        let found = parameters.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    let Some(status) = ProviderStatus::parse(value(form.status)) else {
        return (StatusCode::BAD_REQUEST, format!("{} is missing", form.status)).into_response();
    };
    let now = shared.engine.clock().now();
    let report = ProviderReport {
        report: DeliveryReport::new(status, value("ErrorCode"), value(form.id), now),
        is_stop: false,
        to: PhoneNumber::parse(value("To")).ok(),
    };
    store(shared, &key, report, channel).await
}

/// A report of a gateway.
#[derive(Deserialize)]
struct Said {
    status: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    error_code: Option<serde_json::Value>,
    #[serde(default)]
    suppress: bool,
}

/// A report of a gateway on a text message or a call.
pub(super) async fn gateway(
    State(shared): State<Shared>,
    Path(token): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let (Some(secrets), Some(_)) = (&shared.providers.gateway, &shared.public_url) else {
        let why = "this server has no --public-url, or no gateway";
        return (StatusCode::NOT_FOUND, why).into_response();
    };
    let body = match shared.read(body, MOST_BYTES).await {
        Ok(body) => body,
        Err(status) => return status.into_response(),
    };
    let now = shared.engine.clock().now();
    if !secrets.is_genuine(&headers, &body, now) {
        return unsigned(GATEWAY);
    }
    let Some((key, channel)) = shared.engine.read_callback_token(&token) else {
        return unknown_url();
    };
    let said: Option<Said> = serde_json::from_slice(&body).ok();
    let status = said.as_ref().and_then(|said| ProviderStatus::parse(&said.status));
    let (Some(said), Some(status)) = (said, status) else {
        let why =
            r#"the body must be JSON such as {"status": "delivered", "id": "…", "error_code": "…", "suppress": false}"#;
        return (StatusCode::BAD_REQUEST, why).into_response();
    };
    let error_code = match said.error_code {
        Some(serde_json::Value::String(code)) => code,
        Some(serde_json::Value::Number(code)) => code.to_string(),
        Some(_) | None => String::new(),
    };
    let report = ProviderReport {
        report: DeliveryReport::new(status, &error_code, said.id.as_deref().unwrap_or_default(), now),
        is_stop: said.suppress,
        to: None,
    };
    store(&shared, &key, report, channel).await
}

async fn store(shared: &Shared, key: &AttemptKey, report: ProviderReport, channel: Channel) -> Response {
    let heard = shared.engine.hear(key, report, channel);
    match shared.in_time("store a provider's report", heard).await {
        Some(_) => StatusCode::NO_CONTENT.into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, TRY_AGAIN)]).into_response(),
    }
}

fn unsigned(path: &str) -> Response {
    tracing::warn!(
        "a request to /{path} was refused: it is not signed as the provider signs; if the provider made it, --public-url is not the \
         URL that it was given, or the token or secret not the one it signs with"
    );
    (StatusCode::FORBIDDEN, "the signature is not right").into_response()
}

fn unknown_url() -> Response {
    (StatusCode::FORBIDDEN, "this URL was not made here").into_response()
}
