//! Text messages and calls over Twilio's API, or one of its shape.
//!
//! The API has no idempotency key: what was perhaps carried out is unknown, and is never repeated.
//!
//! | what came back | outcome |
//! |---|---|
//! | 201, also where its body can't be read: it was accepted, and only its id is missing | delivered |
//! | another 2xx with an id | delivered |
//! | another 2xx without one, which is not how Twilio accepts: a proxy, perhaps | unknown |
//! | 2xx with the status `failed`, `undelivered` or `canceled` | by its code, otherwise rejected |
//! | 21610, the recipient said STOP | suppress |
//! | 429, and codes that say "too much at a time" | retry |
//! | codes about the account, the login or the sender; 401, 403, 404, 405, 3xx | misconfigured |
//! | any other 4xx | rejected |
//! | 5xx, 20500; no answer, or none in time | unknown |
//! | no connection | retry |
//! | a bad certificate, an address that is not allowed | misconfigured |
//!
//! Statuses that nobody has heard of are taken for what their HTTP status says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::client::{Answer, Asked, HttpClient};
use super::said::scrubbed;
use super::sms::{SmsFrom, SmsLimit, Spoken};
use super::twiml::twiml;
use super::url::{HttpUrl, TwilioUrl};
use crate::channels::{Message, Outcome, Sender};
use crate::domain::{Channel, PhoneNumber};

/// For how long a message may be valid, in seconds.
const VALID: std::ops::RangeInclusive<u64> = 1..=36_000;

/// The most characters of a `Twiml` parameter.
const MOST_TWIML: usize = 4000;

/// Says under which URL a provider tells what became of a message; none: it doesn't.
#[derive(Clone)]
pub struct CallbackUrls(Arc<CallbackUrl>);

type CallbackUrl = dyn Fn(&Message) -> Option<String> + Send + Sync;

impl CallbackUrls {
    /// As `url` says.
    pub fn new(url: impl Fn(&Message) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(url))
    }

    /// The URL for a message.
    pub(super) fn of(&self, message: &Message) -> Option<String> {
        (self.0)(message)
    }
}

impl fmt::Debug for CallbackUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallbackUrls")
    }
}

/// Sends text messages, or makes calls, in the name of one account.
#[derive(Debug)]
pub struct TwilioSender {
    client: Arc<HttpClient>,
    account: TwilioUrl,
    kind: Kind,
    callbacks: Option<CallbackUrls>,
    endpoint: HttpUrl,
    authorization: HeaderValue,
}

#[derive(Debug)]
enum Kind {
    Messages { from: SmsFrom, limit: SmsLimit },
    Calls { from: PhoneNumber },
}

impl TwilioSender {
    /// A sender of text messages.
    pub fn messages(
        client: Arc<HttpClient>,
        account: TwilioUrl,
        from: SmsFrom,
        limit: SmsLimit,
        callbacks: Option<CallbackUrls>,
    ) -> Self {
        Self::new(client, account, Kind::Messages { from, limit }, callbacks)
    }

    /// A maker of calls.
    pub fn calls(
        client: Arc<HttpClient>,
        account: TwilioUrl,
        from: PhoneNumber,
        callbacks: Option<CallbackUrls>,
    ) -> Self {
        Self::new(client, account, Kind::Calls { from }, callbacks)
    }

    fn new(client: Arc<HttpClient>, account: TwilioUrl, kind: Kind, callbacks: Option<CallbackUrls>) -> Self {
        let resource = match &kind {
            Kind::Messages { .. } => "Messages",
            Kind::Calls { .. } => "Calls",
        };
        let path = format!("2010-04-01/Accounts/{}/{resource}.json", account.account);
        let (user, password) = account.login();
        let login = STANDARD.encode(format!("{user}:{password}"));
        // Base64 has no letter that a header can't have.
        let mut authorization =
            HeaderValue::from_str(&format!("Basic {login}")).unwrap_or_else(|_| HeaderValue::from_static(""));
        authorization.set_sensitive(true);
        Self {
            endpoint: account.api.join(&path),
            client,
            account,
            kind,
            callbacks,
            authorization,
        }
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        let (form, to) = match self.form(message) {
            Ok(form) => form,
            Err(outcome) => return outcome,
        };
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        let outcome = match self.client.post(self.asked(), &self.endpoint, headers, form).await {
            Ok(answer) => outcome_of(&answer),
            Err(failure) => failure.outcome(),
        };
        let to = to.as_str();
        outcome.map_error(|error| scrubbed(&error, &[self.account.login().1, to, to.trim_start_matches('+')]))
    }

    fn asked(&self) -> Asked {
        Asked {
            provider: "twilio",
            channel: match &self.kind {
                Kind::Messages { .. } => Channel::Sms,
                Kind::Calls { .. } => Channel::Phone,
            },
        }
    }

    /// The request's body, and whom it is to.
    fn form<'a>(&self, message: &'a Message) -> Result<(String, &'a PhoneNumber), Outcome> {
        let unsendable = |error: &str| Outcome::Unsendable {
            error: error.to_owned(),
        };
        let mut form = form_urlencoded::Serializer::new(String::new());
        let to = match &self.kind {
            Kind::Messages { from, limit } => {
                let Spoken::Sms { to, text } = Spoken::of(message, *limit)? else {
                    return Err(unsendable("this way out carries text messages only"));
                };
                form.append_pair("To", to.as_str());
                match from {
                    SmsFrom::Number(_) => form.append_pair("From", from.as_str()),
                    SmsFrom::Service(_) => form.append_pair("MessagingServiceSid", from.as_str()),
                };
                form.append_pair("Body", text);
                if let Some(valid) = message.valid_for {
                    let seconds = valid.as_secs().clamp(*VALID.start(), *VALID.end());
                    form.append_pair("ValidityPeriod", &seconds.to_string());
                }
                to
            }
            Kind::Calls { from } => {
                let Spoken::Call { to, script } = Spoken::of(message, SmsLimit::default())? else {
                    return Err(unsendable("this way out makes calls only"));
                };
                let twiml = twiml(script);
                if script.trim().is_empty() {
                    return Err(unsendable("the call script is empty"));
                }
                if twiml.chars().count() > MOST_TWIML {
                    return Err(unsendable(
                        "the call script is too long: as TwiML, with its markup, it has more than 4000 characters",
                    ));
                }
                form.append_pair("To", to.as_str());
                form.append_pair("From", from.as_str());
                form.append_pair("Twiml", &twiml);
                to
            }
        };
        if let Some(url) = self.callbacks.as_ref().and_then(|callbacks| callbacks.of(message)) {
            form.append_pair("StatusCallback", &url);
            if matches!(self.kind, Kind::Calls { .. }) {
                for event in ["initiated", "ringing", "answered", "completed"] {
                    form.append_pair("StatusCallbackEvent", event);
                }
            }
        }
        Ok((form.finish(), to))
    }
}

impl Sender for TwilioSender {
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Outcome> {
        Box::pin(self.deliver(message))
    }

    fn system(&self) -> &'static str {
        "twilio"
    }
}

/// What an answer says: of a message or call that was accepted, or an error. Its other members differ.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    sid: Option<String>,
    status: Option<serde_json::Value>,
    code: Option<i64>,
    message: Option<String>,
    error_code: Option<i64>,
    error_message: Option<String>,
}

fn outcome_of(answer: &Answer) -> Outcome {
    let said: Option<Said> = answer
        .body
        .as_deref()
        .and_then(|body| serde_json::from_slice(body).ok());
    let is_accepted = (200..300).contains(&answer.status);
    let Some(said) = said else {
        return match answer.status {
            201 => Outcome::Delivered {
                provider_id: String::new(),
            },
            status if is_accepted => Outcome::Unknown {
                error: format!("HTTP {status} without an id"),
            },
            status => refused(status, None, format!("HTTP {status}"), answer.retry_after),
        };
    };
    if is_accepted {
        let status = said.status.as_ref().and_then(serde_json::Value::as_str);
        if matches!(status, Some("failed" | "undelivered" | "canceled")) {
            let status = status.unwrap_or_default();
            let error = described(status, said.error_code, said.error_message.as_deref());
            return refused(400, said.error_code, error, answer.retry_after);
        }
        return match said.sid {
            Some(provider_id) => Outcome::Delivered {
                provider_id: crate::domain::text::shortened(&provider_id, 64),
            },
            None if answer.status == 201 => Outcome::Delivered {
                provider_id: String::new(),
            },
            None => Outcome::Unknown {
                error: format!("HTTP {} without an id", answer.status),
            },
        };
    }
    let error = described(&format!("HTTP {}", answer.status), said.code, said.message.as_deref());
    refused(answer.status, said.code, error, answer.retry_after)
}

fn described(status: &str, code: Option<i64>, message: Option<&str>) -> String {
    let code = code.map(|code| format!(", error {code}")).unwrap_or_default();
    let message = message.map(|message| format!(": {message}")).unwrap_or_default();
    format!("{status}{code}{message}")
}

/// What a code means.
#[derive(Debug, Clone, Copy)]
enum Meaning {
    Retry,
    Rejected,
    Suppress,
    Unknown,
    Misconfigured,
}

/// What a code means, of those that don't mean what their HTTP status does.
fn meaning(code: i64) -> Option<Meaning> {
    match code {
        // The recipient said STOP.
        21_610 => Some(Meaning::Suppress),
        // Too many requests, calls at a time, messages of a number in its queue, or messages a second.
        20_429 | 10_004 | 21_611 | 14_107 => Some(Meaning::Retry),
        // An error of Twilio's own.
        20_500 | 20_503 => Some(Meaning::Unknown),
        // The account: not active, or what it may not do, or not there.
        10_001 | 20_003..=20_006 | 20_008 | 20_403 | 20_404
        // The sender of a call, and of a text message: not verified, not the account's, not able to, or missing.
        | 21_210 | 21_212 | 21_213 | 21_603 | 21_606 | 21_607 | 21_659..=21_661
        // The URL for callbacks; the messaging service: unknown, or without a number.
        | 21_609 | 21_701..=21_705 => Some(Meaning::Misconfigured),
        // The recipient of a call, and of a text message: no number, not reachable, no mobile, in a country that is switched off, not
        // verified, blocked.
        13_223..=13_227 | 21_201 | 21_203 | 21_211 | 21_214..=21_217 | 21_219 | 21_408 | 21_604 | 21_608 | 21_612 | 21_614 | 21_635
        // The text: missing, too long, not fit to be sent.
        | 21_602 | 21_605 | 21_617..=21_619 => Some(Meaning::Rejected),
        _ => None,
    }
}

/// What a refusal means: by its code if that is known, and otherwise by its status.
fn refused(status: u16, code: Option<i64>, error: String, after: Option<Duration>) -> Outcome {
    let by_status = match status {
        408 | 429 => Meaning::Retry,
        401 | 403 | 404 | 405 | 410 | 0..=399 => Meaning::Misconfigured,
        400..=499 => Meaning::Rejected,
        500.. => Meaning::Unknown,
    };
    match code.and_then(meaning).unwrap_or(by_status) {
        Meaning::Retry => Outcome::Retry { error, after },
        Meaning::Rejected => Outcome::Rejected { error },
        Meaning::Suppress => Outcome::Suppress { error },
        Meaning::Unknown => Outcome::Unknown { error },
        Meaning::Misconfigured => Outcome::Misconfigured { error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(outcome: &Outcome) -> &'static str {
        match outcome {
            Outcome::Delivered { .. } => "delivered",
            Outcome::Retry { .. } => "retry",
            Outcome::Rejected { .. } => "rejected",
            Outcome::Unsendable { .. } => "unsendable",
            Outcome::Suppress { .. } => "suppress",
            Outcome::Unknown { .. } => "unknown",
            Outcome::Misconfigured { .. } => "misconfigured",
        }
    }

    #[track_caller]
    fn check(status: u16, body: &str, expected: &str) -> Outcome {
        let answer = Answer {
            status,
            retry_after: Some(Duration::from_secs(7)),
            body: Some(body.as_bytes().to_vec()),
        };
        let outcome = outcome_of(&answer);
        assert_eq!(kind(&outcome), expected, "{status} {body}: {outcome:?}");
        outcome
    }

    #[test]
    fn codes_say_what_happens_next() {
        let error = |status: u16, code: i64, expected: &str| {
            let body = format!(
                r#"{{"code":{code},"message":"no","more_info":"https://www.twilio.com/docs/errors/{code}","status":{status}}}"#
            );
            check(status, &body, expected);
        };
        error(401, 20_003, "misconfigured");
        error(403, 20_003, "misconfigured");
        error(404, 20_404, "misconfigured");
        error(429, 20_429, "retry");
        error(503, 20_429, "retry");
        error(400, 21_611, "retry");
        error(400, 21_610, "suppress");
        error(403, 21_610, "suppress");
        for code in [
            21_211, 21_214, 21_217, 21_408, 21_602, 21_604, 21_608, 21_612, 21_614, 21_617,
        ] {
            error(400, code, "rejected");
        }
        error(403, 21_408, "rejected");
        for code in [20_005, 21_212, 21_603, 21_606, 21_659, 21_660, 21_703, 21_705] {
            error(400, code, "misconfigured");
        }
        error(500, 20_500, "unknown");
        error(400, 20_500, "unknown");
        // Codes that nobody has heard of.
        error(400, 99_999, "rejected");
        error(403, 99_999, "misconfigured");
        error(429, 99_999, "retry");
        error(500, 99_999, "unknown");
    }

    #[test]
    fn statuses_do_where_there_is_no_code() {
        for (status, expected) in [
            (301, "misconfigured"),
            (302, "misconfigured"),
            (307, "misconfigured"),
            (400, "rejected"),
            (401, "misconfigured"),
            (403, "misconfigured"),
            (404, "misconfigured"),
            (405, "misconfigured"),
            (408, "retry"),
            (409, "rejected"),
            (410, "misconfigured"),
            (422, "rejected"),
            (429, "retry"),
            (499, "rejected"),
            (500, "unknown"),
            (502, "unknown"),
            (503, "unknown"),
            (504, "unknown"),
            (599, "unknown"),
            (999, "unknown"),
        ] {
            for body in ["", "{}", "[]", "<html>no</html>", "\u{0}", r#"{"code":"x"}"#] {
                check(status, body, expected);
            }
        }
        let retry = Outcome::Retry {
            error: "HTTP 429".to_owned(),
            after: Some(Duration::from_secs(7)),
        };
        assert_eq!(check(429, "", "retry"), retry);
    }

    #[test]
    fn what_was_accepted_is_delivered() {
        let delivered = |id: &str| Outcome::Delivered {
            provider_id: id.to_owned(),
        };
        for status in [
            "queued",
            "sending",
            "sent",
            "accepted",
            "scheduled",
            "delivered",
            "in-progress",
            "never heard of",
        ] {
            let body =
                format!(r#"{{"sid":"SM1","status":"{status}","num_segments":"1","price":null,"error_code":null}}"#);
            assert_eq!(check(201, &body, "delivered"), delivered("SM1"));
            assert_eq!(check(200, &body, "delivered"), delivered("SM1"));
        }
        for body in ["", "{}", "<html>", r#"{"sid":7}"#] {
            assert_eq!(check(201, body, "delivered"), delivered(""));
            check(200, body, "unknown");
            check(204, body, "unknown");
        }
        check(201, r#"{"sid":"SM1","status":"failed","error_code":21610}"#, "suppress");
        check(
            201,
            r#"{"sid":"SM1","status":"undelivered","error_code":30003}"#,
            "rejected",
        );
        check(201, r#"{"sid":"SM1","status":"failed","error_code":null}"#, "rejected");
    }
}
