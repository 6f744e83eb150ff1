//! Bearer JWTs (RFC 7519) of an identity provider, checked as RFC 8725 says.
//!
//! Which algorithm a key is for is the key's to say, not the token's; keys are those of the provider's JWKS and never one that a token
//! brings along or points to. Times are compared with the server's clock, with a leeway of a minute.

mod crypto;
mod keys;
mod source;

use chrono::{DateTime, Utc};
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};
use std::sync::Arc;

use super::{Caller, Refused, Role, Roles};
use crate::clock::Clock;
pub use keys::{KeySet, KeySetError};
pub use source::{FetchedKeys, KeySource};

/// By how much the clocks of provider and server may differ, in seconds.
const LEEWAY: f64 = 60.0;

/// The longest that a token may be good for, in seconds: what is stolen should not be good for long.
const LONGEST_LIFE: f64 = 24.0 * 3600.0;

/// The longest subject, in bytes (`OpenID` Connect Core, section 2).
const LONGEST_SUBJECT: usize = 255;

/// The kinds of token that may be shown, as their heads name them (`typ`): one for a service (RFC 9068), and one of no kind.
const KINDS: [&str; 2] = ["at+jwt", "jwt"];

/// Which tokens are meant for this service.
#[derive(Debug, Clone)]
pub struct JwtSettings {
    /// Whose they are: `iss`, letter by letter.
    pub issuer: String,
    /// For whom they are: `aud`, or one of its values.
    pub audience: String,
    /// The claim with the roles, a list of words or words with spaces between. Dots lead into objects.
    pub roles_claim: String,
}

/// Checks tokens.
#[derive(Debug)]
pub struct JwtVerifier {
    settings: JwtSettings,
    keys: KeySource,
    clock: Arc<dyn Clock>,
}

impl JwtVerifier {
    /// Checks tokens with these keys, by this clock.
    pub fn new(settings: JwtSettings, keys: KeySource, clock: Arc<dyn Clock>) -> Self {
        crypto::install();
        Self { settings, keys, clock }
    }

    /// Who shows this token.
    pub(super) async fn caller(&self, token: &str) -> Result<Caller, Refused> {
        // What is in a head: a known algorithm, so `none` is no token; what it says of keys but `kid` is not looked at.
        let head = decode_header(token).map_err(|_| Refused::TokenInvalid)?;
        if !head.typ.as_deref().is_none_or(is_for_calls) {
            return Err(Refused::TokenInvalid);
        }
        let keys = self.keys.with(head.kid.as_deref(), head.alg).await?;
        let key = keys.find(head.kid.as_deref(), head.alg).ok_or(Refused::TokenInvalid)?;
        let mut validation = Validation::new(head.alg);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.settings.issuer]);
        validation.set_audience(&[&self.settings.audience]);
        // They would be compared with the machine's clock.
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        let token = decode::<Map<String, Value>>(token, key, &validation).map_err(|_| Refused::TokenInvalid)?;
        self.read(&token.claims)
    }

    /// Whom the claims of a token with a good signature speak of.
    fn read(&self, claims: &Map<String, Value>) -> Result<Caller, Refused> {
        check_times(claims, self.clock.now())?;
        let is_issuer = claims.get("iss").and_then(Value::as_str) == Some(&self.settings.issuer);
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        let is_subject =
            (1..=LONGEST_SUBJECT).contains(&subject.len()) && subject.bytes().all(|b| b.is_ascii_graphic());
        if !is_issuer || !is_subject {
            return Err(Refused::TokenInvalid);
        }
        Ok(Caller::of_jwt(subject, roles(claims, &self.settings.roles_claim)))
    }
}

/// Whether a token of this kind is one to call with. What an issuer signs for something else, such as `logout+jwt` or `secevent+jwt`, is
/// not, although all in it may be right (RFC 8725, section 3.11). Many issuers name no kind, or `JWT`, so neither is asked for.
fn is_for_calls(kind: &str) -> bool {
    // A media type, in any letters, which may be without its beginning (RFC 7515, section 4.1.9).
    let kind = kind.to_ascii_lowercase();
    KINDS.contains(&kind.strip_prefix("application/").unwrap_or(&kind))
}

/// Whether a token is good at this moment.
fn check_times(claims: &Map<String, Value>, now: DateTime<Utc>) -> Result<(), Refused> {
    let now = seconds(now);
    // A claim that is there and no number is no claim to go by.
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(Refused::TokenInvalid),
    };
    let (expires, begins, issued) = (time("exp")?, time("nbf")?, time("iat")?);
    let expires = expires.ok_or(Refused::TokenInvalid)?;
    if expires + LEEWAY <= now {
        return Err(Refused::TokenExpired);
    }
    let is_early = [begins, issued].into_iter().flatten().any(|time| time > now + LEEWAY);
    let life = expires - issued.unwrap_or(now).min(now);
    if is_early || life > LONGEST_LIFE + LEEWAY {
        return Err(Refused::TokenInvalid);
    }
    Ok(())
}

/// Seconds since 1970.
fn seconds(time: DateTime<Utc>) -> f64 {
    // Whole milliseconds of the next 200,000 years fit.
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds of this age have no more digits than an f64"
    )]
    let milliseconds = time.timestamp_millis() as f64;
    milliseconds / 1000.0
}

/// The roles that claims give. Words that are no roles are somebody else's.
fn roles(claims: &Map<String, Value>, path: &str) -> Roles {
    let mut parts = path.split('.');
    // A name that has dots itself, such as a URL, is found as it is.
    let found = claims.get(path).or_else(|| {
        let first = claims.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    });
    let words: Vec<&str> = match found {
        Some(Value::String(text)) => text.split(' ').collect(),
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
    };
    words.into_iter().filter_map(Role::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn roles_are_a_list_or_a_text() {
        for (claims, path, expected) in [
            (
                json!({"roles": ["caller", "viewer", "root", 7]}),
                "roles",
                vec![Role::Caller, Role::Viewer],
            ),
            (json!({"scope": "openid scheduler"}), "scope", vec![Role::Scheduler]),
            (
                json!({"realm_access": {"roles": ["admin"]}}),
                "realm_access.roles",
                vec![Role::Admin],
            ),
            (
                json!({"https://x.example/roles": ["operator"]}),
                "https://x.example/roles",
                vec![Role::Operator],
            ),
            (json!({"roles": "Admin,admin"}), "roles", vec![]),
            (json!({"roles": {"admin": true}}), "roles", vec![]),
            (json!({}), "roles", vec![]),
            (json!({"a": 1}), "a.b.c", vec![]),
        ] {
            let found = roles(claims.as_object().expect("claims"), path);
            assert_eq!(found, expected.iter().copied().collect(), "{claims}");
        }
    }

    #[test]
    fn times_have_a_minute_of_leeway_and_a_life_of_a_day() {
        let now: DateTime<Utc> = "2026-01-05T12:00:00Z".parse().expect("an instant");
        let at = |seconds: i64| now.timestamp() + seconds;
        let day = 24 * 3600;
        for (claims, expected) in [
            (json!({"exp": at(1)}), Ok(())),
            (json!({"exp": at(-59)}), Ok(())),
            (json!({"exp": at(-60)}), Err(Refused::TokenExpired)),
            (json!({"exp": at(1), "nbf": at(60), "iat": at(60)}), Ok(())),
            (json!({"exp": at(100), "nbf": at(61)}), Err(Refused::TokenInvalid)),
            (json!({"exp": at(100), "iat": at(61)}), Err(Refused::TokenInvalid)),
            (json!({"exp": at(day + 60)}), Ok(())),
            (json!({"exp": at(day + 61)}), Err(Refused::TokenInvalid)),
            (json!({"exp": at(10), "iat": at(-day - 51)}), Err(Refused::TokenInvalid)),
            (json!({"exp": at(day + 200), "iat": at(50)}), Err(Refused::TokenInvalid)),
            (json!({"exp": "2030"}), Err(Refused::TokenInvalid)),
            (json!({"exp": at(1), "nbf": null}), Err(Refused::TokenInvalid)),
            (json!({"exp": 1e300}), Err(Refused::TokenInvalid)),
            (json!({"exp": -1e300}), Err(Refused::TokenExpired)),
            (json!({}), Err(Refused::TokenInvalid)),
        ] {
            let found = check_times(claims.as_object().expect("claims"), now);
            assert_eq!(found, expected, "{claims}");
        }
    }
}
