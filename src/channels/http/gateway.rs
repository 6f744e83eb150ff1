//! Text messages and calls through a gateway of one's own: signed JSON over HTTPS.
//!
//! A POST request, signed as Standard Webhooks are (see [`super::sign`]), with the header `idempotency-key`, which is the same over all
//! attempts at one message, as `id` is:
//!
//! ```json
//! {"id": "6f1c0de0-…", "type": "sms", "to": "+14155552671", "text": "Hi Anna", "from": "+14155550100", "attempt": 1,
//!  "customer_id": "anna", "progress_id": 7, "timeline": "hook-90-day", "action_key": "tip-day-10", "valid_seconds": 3600,
//!  "status_callback": "https://…"}
//! ```
//!
//! `type` is `sms` with `text`, or `call` with `script`; `from`, `valid_seconds` and `status_callback`, which is where the gateway may
//! report what became of it, are there when they are known.
//! The answer is any 2xx, with `{"id": "…"}` or without. What it refuses, it may say why:
//!
//! ```json
//! {"outcome": "retry", "error": "too busy", "retry_after_seconds": 60}
//! ```
//!
//! `outcome` is `retry` (later), `rejected` (for good), `suppress` (and never again to this number), `unknown` (perhaps sent) or
//! `misconfigured` (nothing goes until somebody mends it). Any other answer counts by its HTTP status: 408, 425 and 429 are to be
//! repeated, 401, 403, 404, 405, 410 and 3xx stop the channel, other 4xx are rejected, 5xx are unknown. A 2xx with an `outcome` counts
//! as that outcome. What is unknown is not sent again.

use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

use super::client::{Answer, Asked, HttpClient};
use super::said::scrubbed;
use super::sign::{WebhookSecrets, signed_headers};
use super::sms::{SmsLimit, Spoken};
use super::twilio::CallbackUrls;
use super::url::HttpUrl;
use crate::channels::{Message, Outcome, Sender};
use crate::domain::Channel;
use crate::domain::text::shortened;

/// The longest wait that is honoured.
const MOST_WAIT_SECONDS: u64 = 24 * 3600;

/// Sends text messages and calls to a gateway.
#[derive(Debug)]
pub struct GatewaySender {
    client: Arc<HttpClient>,
    to: HttpUrl,
    secrets: WebhookSecrets,
    from: Option<String>,
    limit: SmsLimit,
    callbacks: Option<CallbackUrls>,
}

#[derive(Serialize)]
struct Request<'a> {
    id: &'a str,
    r#type: &'static str,
    to: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    attempt: u32,
    customer_id: &'a str,
    progress_id: i64,
    timeline: &'a str,
    action_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_callback: Option<String>,
}

impl GatewaySender {
    /// A sender to the gateway at `to`. `from` is passed on as it is.
    pub fn new(
        client: Arc<HttpClient>,
        to: HttpUrl,
        secrets: WebhookSecrets,
        from: Option<String>,
        limit: SmsLimit,
        callbacks: Option<CallbackUrls>,
    ) -> Self {
        Self {
            client,
            to,
            secrets,
            from,
            limit,
            callbacks,
        }
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        let spoken = match Spoken::of(message, self.limit) {
            Ok(spoken) => spoken,
            Err(outcome) => return outcome,
        };
        let (kind, channel, text, script) = match spoken {
            Spoken::Sms { text, .. } => ("sms", Channel::Sms, Some(text), None),
            Spoken::Call { script, .. } => ("call", Channel::Phone, None, Some(script)),
        };
        let request = Request {
            id: &message.idempotency_key,
            r#type: kind,
            to: spoken.to().as_str(),
            text,
            script,
            from: self.from.as_deref(),
            attempt: message.attempt,
            customer_id: message.customer_id.as_str(),
            progress_id: message.progress_id.0,
            timeline: message.timeline.as_str(),
            action_key: &message.action_key,
            valid_seconds: message.valid_for.map(|valid| valid.as_secs()),
            status_callback: self.callbacks.as_ref().and_then(|callbacks| callbacks.of(message)),
        };
        let signed = serde_json::to_string(&request).ok().and_then(|body| {
            let mut headers = signed_headers(&self.secrets, &message.idempotency_key, self.client.now(), &body)?;
            let key = HeaderValue::from_str(&message.idempotency_key).ok()?;
            headers.insert(HeaderName::from_static("idempotency-key"), key);
            Some((headers, body))
        });
        let Some((headers, body)) = signed else {
            return Outcome::Unsendable {
                error: "the message can't be written as JSON".to_owned(),
            };
        };
        let asked = Asked {
            provider: "gateway",
            channel,
        };
        let outcome = match self.client.post(asked, &self.to, headers, body).await {
            Ok(answer) => outcome_of(&answer, &message.idempotency_key),
            Err(failure) => failure.outcome(),
        };
        let to = spoken.to().as_str();
        outcome.map_error(|error| scrubbed(&error, &[to, to.trim_start_matches('+')]))
    }
}

impl Sender for GatewaySender {
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Outcome> {
        Box::pin(self.deliver(message))
    }

    fn system(&self) -> &'static str {
        "gateway"
    }
}

/// What a gateway says, member by member: what one of them is does not make another unread.
#[derive(Debug, Default)]
struct Said {
    id: Option<String>,
    outcome: Option<Next>,
    error: Option<String>,
    retry_after: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
enum Next {
    Retry,
    Rejected,
    Suppress,
    Unknown,
    Misconfigured,
    /// It says something that nobody here knows.
    Unheard,
}

impl Said {
    fn read(body: Option<&[u8]>) -> Self {
        let Some(said) = body.and_then(|body| serde_json::from_slice::<serde_json::Value>(body).ok()) else {
            return Self::default();
        };
        let text = |name: &str| said.get(name).and_then(|value| value.as_str());
        let outcome = said.get("outcome").filter(|outcome| !outcome.is_null());
        let wait = said.get("retry_after_seconds").and_then(serde_json::Value::as_f64);
        #[expect(clippy::cast_precision_loss, reason = "it is small")]
        let wait = wait.map(|seconds| seconds.clamp(0.0, MOST_WAIT_SECONDS as f64));
        Self {
            id: text("id").map(ToOwned::to_owned),
            outcome: outcome.map(|outcome| match outcome.as_str() {
                Some("retry") => Next::Retry,
                Some("rejected") => Next::Rejected,
                Some("suppress") => Next::Suppress,
                Some("unknown") => Next::Unknown,
                Some("misconfigured") => Next::Misconfigured,
                Some(_) | None => Next::Unheard,
            }),
            error: text("error").map(ToOwned::to_owned),
            retry_after: wait.map(Duration::from_secs_f64),
        }
    }
}

/// The id that an answer names, as far as it is one.
pub(super) fn id_of(body: Option<&[u8]>) -> Option<String> {
    Said::read(body)
        .id
        .filter(|id| !id.is_empty() && !id.contains(char::is_control))
        .map(|id| shortened(&id, 128))
}

fn outcome_of(answer: &Answer, key: &str) -> Outcome {
    let said = Said::read(answer.body.as_deref());
    let status = answer.status;
    let error = match &said.error {
        Some(error) => format!("HTTP {status}: {error}"),
        None => format!("HTTP {status}"),
    };
    let after = said.retry_after.or(answer.retry_after);
    match (said.outcome, status) {
        (None, 200..=299) => Outcome::Delivered {
            provider_id: id_of(answer.body.as_deref()).unwrap_or_else(|| key.to_owned()),
        },
        (Some(Next::Suppress), _) => Outcome::Suppress { error },
        (Some(Next::Retry), _) | (None | Some(Next::Unheard), 408 | 425 | 429) => Outcome::Retry { error, after },
        // Whoever says something about the outcome says that it is not simply done.
        (Some(Next::Unknown), _) | (Some(Next::Unheard), 200..=299) | (None | Some(Next::Unheard), 500..) => {
            Outcome::Unknown { error }
        }
        (Some(Next::Misconfigured), _) | (None | Some(Next::Unheard), 0..=399 | 401 | 403 | 404 | 405 | 410) => {
            Outcome::Misconfigured { error }
        }
        (Some(Next::Rejected), _) | (None | Some(Next::Unheard), 400..=499) => Outcome::Rejected { error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "tables of outcomes read better by value")]
    fn check(status: u16, body: &str, expected: Outcome) {
        let answer = Answer {
            status,
            retry_after: Some(Duration::from_secs(7)),
            body: Some(body.as_bytes().to_vec()),
        };
        assert_eq!(outcome_of(&answer, "key"), expected, "{status} {body}");
    }

    #[test]
    fn answers_say_what_happens_next() {
        let delivered = |id: &str| Outcome::Delivered {
            provider_id: id.to_owned(),
        };
        for (body, id) in [
            ("", "key"),
            ("{}", "key"),
            ("OK", "key"),
            (r#"{"id":""}"#, "key"),
            (r#"{"id":7}"#, "key"),
            (r#"{"id":"a-1"}"#, "a-1"),
        ] {
            check(200, body, delivered(id));
            check(202, body, delivered(id));
        }
        let error = |status: u16| format!("HTTP {status}: busy");
        let after = |seconds: u64| Some(Duration::from_secs(seconds));
        for status in [200, 400, 500] {
            let error = error(status);
            let body = |outcome: &str| format!(r#"{{"outcome":"{outcome}","error":"busy","retry_after_seconds":60}}"#);
            let retry = Outcome::Retry {
                error: error.clone(),
                after: after(60),
            };
            check(status, &body("retry"), retry);
            check(status, &body("rejected"), Outcome::Rejected { error: error.clone() });
            check(status, &body("suppress"), Outcome::Suppress { error: error.clone() });
            check(status, &body("unknown"), Outcome::Unknown { error: error.clone() });
            check(status, &body("misconfigured"), Outcome::Misconfigured { error });
        }
        let far = Outcome::Retry {
            error: "HTTP 503".to_owned(),
            after: after(86_400),
        };
        check(503, r#"{"outcome":"retry","retry_after_seconds":99999999}"#, far);
        // What can't be read of a refusal does not make it consent.
        let unread = |error: &str| Outcome::Unknown {
            error: error.to_owned(),
        };
        check(200, r#"{"outcome":"failed","error":"busy"}"#, unread("HTTP 200: busy"));
        check(202, r#"{"outcome":{"code":7}}"#, unread("HTTP 202"));
        check(200, r#"{"outcome":null,"id":"a-1"}"#, delivered("a-1"));
        let rejected = Outcome::Rejected {
            error: "HTTP 200".to_owned(),
        };
        check(200, r#"{"outcome":"rejected","error":{"code":7}}"#, rejected);
        let soon = Outcome::Retry {
            error: "HTTP 200".to_owned(),
            after: Some(Duration::from_millis(1500)),
        };
        check(200, r#"{"outcome":"retry","retry_after_seconds":1.5,"id":7}"#, soon);
        for (statuses, expected) in [
            (&[408_u16, 425, 429][..], "retry"),
            (&[301, 302, 307, 401, 403, 404, 405, 410], "misconfigured"),
            (&[400, 402, 409, 413, 422, 451], "rejected"),
            (&[500, 502, 503, 504, 599], "unknown"),
        ] {
            for status in statuses {
                let error = format!("HTTP {status}");
                let expected = match expected {
                    "retry" => Outcome::Retry { error, after: after(7) },
                    "misconfigured" => Outcome::Misconfigured { error },
                    "rejected" => Outcome::Rejected { error },
                    _ => Outcome::Unknown { error },
                };
                check(*status, r#"{"outcome":"whatever"}"#, expected.clone());
                check(*status, "<html>", expected);
            }
        }
    }
}
