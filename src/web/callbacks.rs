//! What providers tell: answers of people to text messages. What became of messages is in [`super::reports`].

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::{Shared, TRY_AGAIN};
use crate::domain::{Keyword, PhoneNumber};

/// Under which path Twilio tells of answers.
pub(super) const TWILIO_INBOUND: &str = "/callbacks/twilio/inbound";

/// The most bytes of a request. Twilio's have a few hundred.
pub(super) const MOST_BYTES: usize = 64 * 1024;

/// The answer that says nothing back, as Twilio has it.
const NOTHING: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response/>";

/// An answer to a text message. STOP and its like stop all text messages to that number, and START allows them again.
pub(super) async fn twilio_inbound(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let (Some(twilio), Some(public_url)) = (&shared.providers.texts, &shared.public_url) else {
        let why = "this server has no --public-url, or no Twilio account with its auth token in --sms-url";
        return (StatusCode::NOT_FOUND, why).into_response();
    };
    let body = match shared.read(body, MOST_BYTES).await {
        Ok(body) => body,
        Err(status) => return status.into_response(),
    };
    let parameters: Vec<(String, String)> = form_urlencoded::parse(&body).into_owned().collect();
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let url = format!("{public_url}{TWILIO_INBOUND}{query}");
    let signature = headers.get("x-twilio-signature").and_then(|value| value.to_str().ok());
    if !twilio.is_genuine(&url, &parameters, signature.unwrap_or_default()) {
        tracing::warn!(
            "a request to {TWILIO_INBOUND} was refused: it is not signed as Twilio signs; if Twilio made it, --public-url is not the \
             URL that it was given, or the token in --sms-url not the one it signs with"
        );
        return (StatusCode::FORBIDDEN, "the signature is not right").into_response();
    }
    let value = |name: &str| {
        let found = parameters.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    // With "Advanced Opt-Out" Twilio says itself what it took the answer for, in whatever language it was.
    let keyword = Keyword::parse(value("OptOutType")).or_else(|| Keyword::parse(value("Body")));
    // A short code is nobody who was written to.
    let number = PhoneNumber::parse(value("From"));
    if let (Some(keyword), Ok(number)) = (keyword, number)
        && shared
            .in_time(
                "follow an answer to a text message",
                shared.engine.obey(&number, keyword),
            )
            .await
            .is_none()
    {
        return ([(RETRY_AFTER, TRY_AGAIN)], StatusCode::SERVICE_UNAVAILABLE).into_response();
    }
    ([(CONTENT_TYPE, "text/xml")], NOTHING).into_response()
}
