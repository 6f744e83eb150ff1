//! Tasks for people, as webhooks to the CRM in the format of Standard Webhooks 1.0.
//!
//! A POST request, signed (see [`super::sign`]). `webhook-id` is the same over all attempts at one task; a task may come more than once,
//! and who receives it goes by that id:
//!
//! ```json
//! {"type": "interaction.created", "timestamp": "2026-01-05T12:00:00Z",
//!  "data": {"id": "6f1c0de0-…", "customer_id": "anna", "progress_id": 7, "timeline": "hook-90-day", "action_id": 31,
//!           "action_key": "welcome-call", "attempt": 1, "title": "Call Anna", "text": "She asked for …"}}
//! ```
//!
//! Any 2xx is consent, which completes the action only where its definition says so: else somebody reports what came of it, by
//! `CompleteInteraction`; with `{"id": "…"}` it names the task. 401, 403, 404, 405, 410 and redirects stop the channel until somebody mends
//! it; 400, 413 and 422 refuse this task for good; anything else, and no answer, is tried again, after `Retry-After` if it is given.

use chrono::SecondsFormat;
use futures::future::BoxFuture;
use serde::Serialize;
use std::sync::Arc;

use super::client::{Answer, Asked, HttpClient};
use super::gateway::id_of;
use super::said::scrubbed;
use super::sign::{WebhookSecrets, signed_headers};
use super::url::HttpUrl;
use crate::channels::{Content, Message, Outcome, Sender};
use crate::domain::Channel;

/// Sends tasks to one URL.
#[derive(Debug)]
pub struct WebhookSender {
    client: Arc<HttpClient>,
    to: HttpUrl,
    secrets: WebhookSecrets,
}

#[derive(Serialize)]
struct Event<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Task<'a>,
}

#[derive(Serialize)]
struct Task<'a> {
    id: &'a str,
    customer_id: &'a str,
    progress_id: i64,
    timeline: &'a str,
    action_id: i64,
    action_key: &'a str,
    attempt: u32,
    title: &'a str,
    text: &'a str,
}

impl WebhookSender {
    /// A sender to `to`.
    pub fn new(client: Arc<HttpClient>, to: HttpUrl, secrets: WebhookSecrets) -> Self {
        Self { client, to, secrets }
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        let Content::Task { title, text } = &message.content else {
            return Outcome::Unsendable {
                error: "this way out carries tasks only".to_owned(),
            };
        };
        let now = self.client.now();
        let event = Event {
            r#type: "interaction.created",
            timestamp: now.to_rfc3339_opts(SecondsFormat::AutoSi, true),
            data: Task {
                id: &message.idempotency_key,
                customer_id: message.customer_id.as_str(),
                progress_id: message.progress_id.0,
                timeline: message.timeline.as_str(),
                action_id: message.action_id.0,
                action_key: &message.action_key,
                attempt: message.attempt,
                title,
                text,
            },
        };
        let signed = serde_json::to_string(&event).ok().and_then(|body| {
            let headers = signed_headers(&self.secrets, &message.idempotency_key, now, &body)?;
            Some((headers, body))
        });
        let Some((headers, body)) = signed else {
            return Outcome::Unsendable {
                error: "the task can't be written as JSON".to_owned(),
            };
        };
        let asked = Asked {
            provider: "webhook",
            channel: Channel::Interaction,
        };
        let outcome = match self.client.post(asked, &self.to, headers, body).await {
            Ok(answer) => outcome_of(&answer, &message.idempotency_key),
            Err(failure) => failure.outcome(),
        };
        outcome.map_error(|error| scrubbed(&error, &[]))
    }
}

impl Sender for WebhookSender {
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Outcome> {
        Box::pin(self.deliver(message))
    }

    fn system(&self) -> &'static str {
        "webhook"
    }
}

fn outcome_of(answer: &Answer, key: &str) -> Outcome {
    let error = format!("HTTP {}", answer.status);
    match answer.status {
        200..=299 => Outcome::Delivered {
            provider_id: id_of(answer.body.as_deref()).unwrap_or_else(|| key.to_owned()),
        },
        300..=399 | 401 | 403 | 404 | 405 | 410 => Outcome::Misconfigured { error },
        400 | 413 | 422 => Outcome::Rejected { error },
        _ => Outcome::Retry {
            error,
            after: answer.retry_after,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn statuses_say_what_happens_next() {
        let check = |statuses: &[u16], expected: fn(String) -> Outcome| {
            for status in statuses {
                let answer = Answer {
                    status: *status,
                    retry_after: Some(Duration::from_secs(7)),
                    body: None,
                };
                assert_eq!(outcome_of(&answer, "key"), expected(format!("HTTP {status}")));
            }
        };
        check(&[200, 201, 202, 204, 299], |_| Outcome::Delivered {
            provider_id: "key".to_owned(),
        });
        check(&[300, 301, 302, 303, 304, 307, 308, 401, 403, 404, 405, 410], |error| {
            Outcome::Misconfigured { error }
        });
        check(&[400, 413, 422], |error| Outcome::Rejected { error });
        check(
            &[402, 406, 408, 409, 418, 425, 429, 500, 501, 502, 503, 504, 599, 999],
            |error| Outcome::Retry {
                error,
                after: Some(Duration::from_secs(7)),
            },
        );
    }
}
