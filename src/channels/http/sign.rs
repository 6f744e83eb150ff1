//! Signatures of requests that the service makes, or that are made to it, as Standard Webhooks 1.0 has them.
//!
//! A request has the headers `webhook-id`, `webhook-timestamp` (seconds since 1970) and `webhook-signature`: one `v1,` with the
//! base64 of an HMAC-SHA256 over `id.timestamp.body` for each secret, with a space between them. Who receives it goes by any one
//! of them, so that a secret can be replaced without a pause: sign with both, change the receiver, drop the old one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac::{self, HMAC_SHA256};
use std::fmt;
use std::str::FromStr;

use crate::domain::Timestamp;

/// How many bytes a secret has.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The most secrets at a time.
const MOST: usize = 2;

/// How old a signed request may be, and how far its sender's clock may be ahead, in seconds.
const TOLERANCE: u64 = 300;

/// The most signatures that are looked at.
const MOST_SIGNATURES: usize = 10;

/// The secrets with which requests are signed: one, or two while the first replaces the second.
#[derive(Clone)]
pub struct WebhookSecrets(Vec<hmac::Key>);

/// The secrets can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be one or two secrets with white space between them, each whsec_ and the base64 of 24 to 64 random bytes, as \
     `echo whsec_$(openssl rand -base64 32)` makes them"
)]
pub struct WebhookSecretError;

impl WebhookSecrets {
    /// Takes one secret, or two with white space between them.
    pub fn parse(text: &str) -> Result<Self, WebhookSecretError> {
        let keys: Result<Vec<_>, _> = text.split_whitespace().map(key).collect();
        keys.map(Self).and_then(|secrets| {
            let is_good = (1..=MOST).contains(&secrets.0.len());
            is_good.then_some(secrets).ok_or(WebhookSecretError)
        })
    }

    /// Whether a secret, as text, is one of these.
    pub fn has(&self, secret: &str) -> bool {
        // By what they sign, which takes as long whatever the secret is.
        let signature = key(secret).map(|key| hmac::sign(&key, b"the same secret"));
        signature.is_ok_and(|signature| {
            let signed_so = |known: &hmac::Key| hmac::verify(known, b"the same secret", signature.as_ref()).is_ok();
            self.0.iter().any(signed_so)
        })
    }

    /// Whether a request may be genuine, by its headers: it is signed, by whomever, within five minutes of now.
    pub fn may_be_genuine(headers: &HeaderMap, now: Timestamp) -> bool {
        let is_fresh = value_of(headers, "webhook-timestamp")
            .parse::<i64>()
            .is_ok_and(|at| at.abs_diff(now.timestamp()) <= TOLERANCE);
        is_fresh && !value_of(headers, "webhook-id").is_empty() && !value_of(headers, "webhook-signature").is_empty()
    }

    /// Whether somebody who has one of the secrets made a request with this body within five minutes of now.
    pub fn is_genuine(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> bool {
        if !Self::may_be_genuine(headers, now) {
            return false;
        }
        let value = |name: &str| value_of(headers, name);
        let (id, at) = (value("webhook-id"), value("webhook-timestamp"));
        let signed = [id.as_bytes(), b".", at.as_bytes(), b".", body].concat();
        let signatures = value("webhook-signature").split(' ').take(MOST_SIGNATURES);
        let given = signatures.filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok());
        given
            .into_iter()
            .any(|given| self.0.iter().any(|key| hmac::verify(key, &signed, &given).is_ok()))
    }

    /// The value of `webhook-signature`. `id` has no dot in it.
    fn sign(&self, id: &str, seconds: i64, body: &str) -> String {
        let signed = format!("{id}.{seconds}.{body}");
        let sign = |key| format!("v1,{}", STANDARD.encode(hmac::sign(key, signed.as_bytes())));
        let signatures: Vec<String> = self.0.iter().map(sign).collect();
        signatures.join(" ")
    }
}

/// The value of a header as text; nothing where it is none.
fn value_of<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

/// The headers of a signed request with a JSON body; none where `id` can't stand in one.
pub(super) fn signed_headers(secrets: &WebhookSecrets, id: &str, now: Timestamp, body: &str) -> Option<HeaderMap> {
    let seconds = now.timestamp();
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in [
        ("webhook-id", id),
        ("webhook-timestamp", &seconds.to_string()),
        ("webhook-signature", &secrets.sign(id, seconds, body)),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).ok()?);
    }
    Some(headers)
}

fn key(secret: &str) -> Result<hmac::Key, WebhookSecretError> {
    let encoded = secret.strip_prefix("whsec_").ok_or(WebhookSecretError)?;
    let bytes = STANDARD.decode(encoded).map_err(|_| WebhookSecretError)?;
    if !BYTES.contains(&bytes.len()) {
        return Err(WebhookSecretError);
    }
    Ok(hmac::Key::new(HMAC_SHA256, &bytes))
}

impl FromStr for WebhookSecrets {
    type Err = WebhookSecretError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Debug for WebhookSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookSecrets({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of the specification.
    #[test]
    fn the_vector_of_the_specification_is_met() {
        let secrets = WebhookSecrets::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("valid");
        let signature = secrets.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_request_is_genuine_by_any_secret_for_five_minutes() {
        let [old, new] = [
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
        ];
        let secrets = |text: &str| WebhookSecrets::parse(text).expect(text);
        let instant = |second| Timestamp::from_timestamp(1_614_265_330 + second, 0).expect("an instant");
        let both = format!("{new} {old}");
        let made = |by: &str| signed_headers(&secrets(by), "msg_1", instant(0), "{}").expect("headers");
        for by in [old, new, &both] {
            for second in [-300, 0, 300] {
                assert!(secrets(&both).is_genuine(&made(by), b"{}", instant(second)), "{by}");
            }
            for second in [-301, 301, i64::from(u32::MAX)] {
                assert!(!secrets(&both).is_genuine(&made(by), b"{}", instant(second)), "{by}");
            }
            assert!(!secrets(&both).is_genuine(&made(by), b"{ }", instant(0)));
        }
        assert!(secrets(old).is_genuine(&made(&both), b"{}", instant(0)));
        assert!(!secrets(old).is_genuine(&made(new), b"{}", instant(0)));
        for (name, value) in [
            ("webhook-id", ""),
            ("webhook-id", "msg_2"),
            ("webhook-timestamp", "1614265331"),
            ("webhook-timestamp", "-1"),
            ("webhook-timestamp", "x"),
            ("webhook-signature", ""),
            ("webhook-signature", "v1,"),
            ("webhook-signature", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ] {
            let mut headers = made(old);
            headers.insert(name, HeaderValue::from_static(value));
            assert!(!secrets(old).is_genuine(&headers, b"{}", instant(0)), "{name}: {value}");
            headers.remove(name);
            assert!(!secrets(old).is_genuine(&headers, b"{}", instant(0)), "no {name}");
        }
    }

    #[test]
    fn two_secrets_give_two_signatures() {
        let [old, new] = [
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
        ];
        let sign = |secrets: &str| WebhookSecrets::parse(secrets).expect(secrets).sign("id", 1, "{}");
        assert_eq!(
            sign(&format!(" {new}\n{old}\n")),
            format!("{} {}", sign(new), sign(old))
        );
    }

    #[test]
    fn a_request_is_known_by_its_signature_and_its_time() {
        let [old, new, other] = [
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
            "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYY",
        ];
        let secrets = |given: &str| WebhookSecrets::parse(given).expect(given);
        let both = secrets(&format!("{new} {old}"));
        let now = Timestamp::from_timestamp(1_000_000, 0).expect("a time");
        let known = |by: &str, id: &str, seconds: i64, body: &str| {
            let time = Timestamp::from_timestamp(seconds, 0).expect("a time");
            let headers = signed_headers(&secrets(by), id, time, body).expect("headers");
            both.is_genuine(&headers, b"{}", now)
        };
        for by in [old, new, &format!("{other} {new}")] {
            assert!(known(by, "id", 1_000_000, "{}"), "{by}");
        }
        assert!(known(old, "i.d", 1_000_300, "{}") && known(old, "other", 999_700, "{}"));
        assert!(!known(old, "", 1_000_000, "{}"), "without an id");
        assert!(!known(old, "id", 1_000_301, "{}") && !known(old, "id", 999_699, "{}"));
        assert!(!known(old, "id", 1_000_000, "{} ") && !known(other, "id", 1_000_000, "{}"));
        let good = signed_headers(&both, "id", now, "{}").expect("headers");
        for (name, value) in [
            ("webhook-id", "other"),
            ("webhook-timestamp", "1000001"),
            ("webhook-timestamp", "x"),
            ("webhook-timestamp", "-9223372036854775808"),
            ("webhook-signature", ""),
            ("webhook-signature", "v1,"),
            ("webhook-signature", "v1a,AAAA v2,AAAA AAAA"),
        ] {
            let mut changed = good.clone();
            changed.insert(name, HeaderValue::from_static(value));
            assert!(!both.is_genuine(&changed, b"{}", now), "{name}: {value}");
            changed.remove(name);
            assert!(!both.is_genuine(&changed, b"{}", now), "without {name}");
        }
        assert!(both.has(old) && both.has(new));
        for bad in [other, "", "whsec_", &old[6..]] {
            assert!(!both.has(bad), "{bad}");
        }
    }

    #[test]
    fn bad_secrets_are_refused_and_good_ones_not_shown() {
        let base64 = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for good in [base64(24), base64(64), format!("{} {}", base64(24), base64(25))] {
            let secrets = WebhookSecrets::parse(&good).expect("valid");
            assert!(!format!("{secrets:?}").contains("Bwc"), "{secrets:?}");
        }
        for bad in [
            String::new(),
            " ".to_owned(),
            "whsec_".to_owned(),
            "whsec_!!!!".to_owned(),
            STANDARD.encode([7; 24]),
            base64(23),
            base64(65),
            format!("{0} {0} {0}", base64(24)),
            format!("{} x", base64(24)),
        ] {
            let error = WebhookSecrets::parse(&bad).expect_err(&bad);
            assert!(!error.to_string().contains("Bwc"), "{error}");
        }
    }
}
