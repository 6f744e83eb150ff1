//! What providers tell of messages that they took over, in one JSON shape, and what mail servers write, as it comes.
//!
//! Both are let in by the same secret: a signature as Standard Webhooks has it or, as a mail server's pipe can hardly sign, the secret
//! itself as bearer token. Events have ids, so what comes again changes nothing.

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::SubsecRound as _;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::{Shared, TRY_AGAIN, in_time_of};
use crate::channels::WebhookSecrets;
use crate::channels::read_mail_report;
use crate::domain::{Address, Channel, FeedbackKind, MailStatus, Timestamp};
use crate::engine::{Feedback, FeedbackOutcome};

/// The most events of a request.
const MOST_EVENTS: usize = 1_000;

/// The most bytes of a request with events.
const MOST_BYTES: usize = 2 * 1024 * 1024;

/// The most bytes of a mail. A report has the mail that it is about in it, or its headers.
const MOST_MAIL_BYTES: usize = 10 * 1024 * 1024;

/// The most bytes of a request that is signed, as only its end tells whether the signature is right.
const MOST_SIGNED_BYTES: usize = 1024 * 1024;

/// How long a request takes at most.
const LIMIT: Duration = Duration::from_secs(30);

/// How far ahead of the server's clock an event may be.
const MOST_AHEAD: chrono::Duration = chrono::Duration::minutes(5);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    events: Vec<serde_json::Value>,
}

/// An event, as the README documents it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    at: Option<String>,
    message_id: Option<String>,
    return_path: Option<String>,
    address: Option<String>,
    channel: Option<String>,
    bounce_class: Option<String>,
    code: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    results: Vec<ItemResult>,
}

/// What came of one event.
#[derive(Serialize)]
struct ItemResult {
    /// `recorded`, `duplicate`, `unknown` or `refused`; of a mail also `ignored`.
    status: &'static str,
    /// More about it, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

/// Events of messages.
pub(super) async fn events(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    let body = match let_in(&shared, &headers, body, MOST_BYTES).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    let request: Request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => {
            let why = format!("the body must be {{\"events\": [...]}}: {error}");
            return (StatusCode::BAD_REQUEST, why).into_response();
        }
    };
    if request.events.len() > MOST_EVENTS {
        let why = format!("{} events, at most {MOST_EVENTS} in a request", request.events.len());
        return (StatusCode::PAYLOAD_TOO_LARGE, why).into_response();
    }
    let now = shared.engine.clock().now();
    let read: Vec<Result<Feedback, String>> = request
        .events
        .into_iter()
        .map(|event| read(&shared, event, now))
        .collect();
    let good: Vec<Feedback> = read.iter().flatten().cloned().collect();
    let Some(outcomes) = in_time_of(LIMIT, "record events of messages", shared.engine.record_feedback(good)).await
    else {
        return try_again();
    };
    let mut outcomes = outcomes.into_iter();
    let results = read.into_iter().map(|read| match read {
        Ok(_) => said(outcomes.next().unwrap_or(FeedbackOutcome::NobodyKnown)),
        Err(why) => ItemResult {
            status: "refused",
            description: Some(why),
        },
    });
    let results = results.collect();
    json(&Answer { results })
}

/// A mail that came to the address for bounces, as it came.
pub(super) async fn mail(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let body = match let_in(&shared, &headers, body, MOST_MAIL_BYTES).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    let ignored = |why: &str| {
        let result = ItemResult {
            status: "ignored",
            description: Some(why.to_owned()),
        };
        json(&result)
    };
    let Some(report) = read_mail_report(&body) else {
        return ignored("no report of a delivery that failed or succeeded, or of a complaint");
    };
    let query = query.unwrap_or_default();
    let recipient = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "recipient");
    let by_recipient = recipient.and_then(|(_, address)| shared.engine.find_mail_reference(&address));
    let mail = by_recipient.or_else(|| shared.engine.find_mail_reference(&report.text));
    if mail.is_none() {
        return ignored("about no mail of this deployment, as far as its recipient and its headers say");
    }
    let feedback = Feedback {
        id: report.id,
        kind: report.kind,
        occurred_at: shared.engine.clock().now(),
        mail,
        address: None,
    };
    let recorded = shared.engine.record_feedback(vec![feedback]);
    match in_time_of(LIMIT, "record what a mail server reports", recorded).await {
        Some(outcomes) => json(&said(outcomes.first().copied().unwrap_or(FeedbackOutcome::NobodyKnown))),
        None => try_again(),
    }
}

/// The body of a request, of somebody who knows the secret.
async fn let_in(shared: &Shared, headers: &HeaderMap, body: Body, most: usize) -> Result<Bytes, Box<Response>> {
    let Some(secrets) = &shared.events else {
        let why = "this server has no --events-secret-file (CAMPAIGN_EVENTS_SECRET_FILE)";
        return Err(Box::new((StatusCode::NOT_FOUND, why).into_response()));
    };
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = authorization.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let is_bearer = bearer.is_some_and(|token| secrets.has(token));
    // Who brings a wrong token, or has not signed, need not send his body first.
    let may_be_let_in =
        is_bearer || bearer.is_none() && WebhookSecrets::may_be_genuine(headers, shared.engine.clock().now());
    if !may_be_let_in {
        return Err(Box::new(refused()));
    }
    let most = if is_bearer { most } else { MOST_SIGNED_BYTES };
    let body = shared.read(body, most).await;
    let body = body.map_err(|status| Box::new(status.into_response()))?;
    if is_bearer || secrets.is_genuine(headers, &body, shared.engine.clock().now()) {
        return Ok(body);
    }
    Err(Box::new(refused()))
}

fn refused() -> Response {
    tracing::warn!("a request with events of messages was refused: it is not signed with the secret, or too old");
    let why = "the request must be signed with the secret of --events-secret-file as Standard Webhooks has it, at most 5 minutes \
         ago, or bring it as bearer token";
    (StatusCode::FORBIDDEN, why).into_response()
}

fn json(answer: &impl Serialize) -> Response {
    match serde_json::to_string(answer) {
        Ok(json) => ([(CONTENT_TYPE, "application/json")], json).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn try_again() -> Response {
    ([(RETRY_AFTER, TRY_AGAIN)], StatusCode::SERVICE_UNAVAILABLE).into_response()
}

fn said(outcome: FeedbackOutcome) -> ItemResult {
    let (status, description) = match outcome {
        FeedbackOutcome::Recorded => ("recorded", None),
        FeedbackOutcome::Duplicate => ("duplicate", None),
        FeedbackOutcome::NobodyKnown => ("unknown", Some("nobody has this address, or got this mail".to_owned())),
    };
    ItemResult { status, description }
}

/// Reads an event, or says what is wrong with it.
fn read(shared: &Shared, event: serde_json::Value, now: Timestamp) -> Result<Feedback, String> {
    let event: Event = serde_json::from_value(event).map_err(|error| error.to_string())?;
    let is_good_id = (1..=128).contains(&event.id.len()) && event.id.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if !is_good_id {
        return Err("id must be 1 to 128 printable ASCII characters".to_owned());
    }
    let channel = match event.channel.as_deref() {
        None | Some("email") => Channel::Email,
        Some("sms") => Channel::Sms,
        Some("phone") => Channel::Phone,
        Some(_) => return Err("channel must be email, sms or phone".to_owned()),
    };
    let occurred_at = match event.at.as_deref().map(str::parse::<Timestamp>) {
        None => now,
        Some(Ok(at)) if at <= now + MOST_AHEAD && at.timestamp() >= 946_684_800 => at.trunc_subsecs(6),
        Some(Ok(_) | Err(_)) => {
            return Err(
                "at must be an instant such as 2026-03-02T16:30:00Z, from the year 2000 to 5 minutes from now"
                    .to_owned(),
            );
        }
    };
    let references = [&event.message_id, &event.return_path].into_iter().flatten();
    let mail = references
        .filter(|_| channel == Channel::Email)
        .find_map(|text| shared.engine.find_mail_reference(text));
    let address = event.address.as_deref().map(|given| Address::parse(channel, given));
    let address = address.transpose().map_err(|error| format!("address {error}"))?;
    let names_mail = event.message_id.is_some() || event.return_path.is_some();
    if !names_mail && address.is_none() {
        return Err("must have message_id, return_path or address".to_owned());
    }
    Ok(Feedback {
        kind: kind_of(&event)?,
        id: event.id,
        occurred_at,
        mail,
        address: address.map(|address| (channel, address)),
    })
}

fn kind_of(event: &Event) -> Result<FeedbackKind, String> {
    if event.kind != "bounce" && event.bounce_class.is_some() {
        return Err("bounce_class must be left out unless type is bounce".to_owned());
    }
    match event.kind.as_str() {
        "delivered" => Ok(FeedbackKind::Delivered),
        "complaint" => Ok(FeedbackKind::Complaint),
        "unsubscribe" => Ok(FeedbackKind::Unsubscribed),
        "open" => Ok(FeedbackKind::Opened),
        "click" => Ok(FeedbackKind::Clicked),
        "reply" => Ok(FeedbackKind::Replied),
        "bounce" => {
            // What the server said itself counts more than what somebody took it for: many take a refusal by policy for a hard bounce.
            let said = event.code.as_deref().and_then(MailStatus::find);
            match (said.filter(|said| !said.is_general()), event.bounce_class.as_deref()) {
                (_, Some(class)) if !matches!(class, "hard" | "soft") => {
                    Err("bounce_class must be hard or soft".to_owned())
                }
                (Some(status), _) => Ok(status.refusal().into()),
                (None, Some("hard")) => Ok(FeedbackKind::HardBounce),
                (None, Some(_)) => Ok(FeedbackKind::SoftBounce),
                (None, None) => Err("a bounce must have bounce_class, or a code such as 5.1.1".to_owned()),
            }
        }
        _ => Err("type must be bounce, complaint, delivered, open, click, unsubscribe or reply".to_owned()),
    }
}
