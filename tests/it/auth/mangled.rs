//! JWTs with changes that nobody thought of, in what is signed and in what was: nobody is let in by one that says something else, and no
//! head is too strange to be refused.

use serde_json::{Value, json};
use tonic::Code;

use super::jwts::{NOW, guarded};
use super::{Guarded, LIST_TICKS, told};
use crate::support::jwt::{AUDIENCE, ISSUER, Signer, claims};
use crate::support::mutate::check_changed;

/// How many tokens of each kind.
const CASES: u32 = 500;

/// Whether a token lets in; an error: something else than a refusal came of it.
fn lets_in(it: &Guarded, token: &str) -> Result<bool, String> {
    match told(&tokio::runtime::Handle::current().block_on(it.call(LIST_TICKS, token))) {
        Ok(()) => Ok(true),
        Err((Code::Unauthenticated | Code::PermissionDenied, _)) => Ok(false),
        Err(other) => Err(format!("{other:?}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_token_lets_nobody_in() {
    let key = Signer::ed("ed");
    let it = guarded(&[&key]).await;
    let token = key.token(&claims("nightly", &["scheduler"], NOW));
    tokio::task::block_in_place(|| {
        assert_eq!(lets_in(&it, &token), Ok(true));
        check_changed(&[&token], CASES, |changed| {
            let changed = String::from_utf8_lossy(changed);
            // What no header may have does not get as far.
            if !changed.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Ok(());
            }
            if lets_in(&it, &changed)? && changed != token {
                return Err("it lets in".to_owned());
            }
            Ok(())
        });
    });
    it.stop().await;
}

/// Signed with a key that is known, so that what they say is all that is left to refuse them for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_signed_is_read_with_care() {
    let key = Signer::ed("ed");
    let it = guarded(&[&key]).await;
    let head = json!({"alg": "EdDSA", "kid": "ed", "typ": "JWT"}).to_string();
    let good = claims("nightly", &["scheduler"], NOW).to_string();
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    tokio::task::block_in_place(|| {
        assert_eq!(lets_in(&it, &key.token_of(&head, &good, "EdDSA")), Ok(true));
        check_changed(&[&head], CASES, |changed| {
            let changed = String::from_utf8_lossy(changed);
            if !lets_in(&it, &key.token_of(&changed, &good, "EdDSA"))? {
                return Ok(());
            }
            let is_good = read(&changed).is_some_and(|head| {
                let is_key = head["kid"].is_null() || head["kid"] == "ed";
                let is_kind = head["typ"].is_null()
                    || head["typ"]
                        .as_str()
                        .is_some_and(|kind| kind.eq_ignore_ascii_case("jwt"));
                head["alg"] == "EdDSA" && is_key && is_kind && head["crit"].is_null()
            });
            is_good.then_some(()).ok_or_else(|| "it lets in".to_owned())
        });
        check_changed(&[&good], CASES, |changed| {
            let changed = String::from_utf8_lossy(changed);
            if !lets_in(&it, &key.token_of(&head, &changed, "EdDSA"))? {
                return Ok(());
            }
            let is_good = read(&changed).is_some_and(|claims| {
                let is_time = |name: &str| claims[name].is_number() || claims[name].is_null();
                claims["iss"] == ISSUER
                    && claims["aud"] == AUDIENCE
                    && claims["sub"].as_str().is_some_and(|subject| !subject.is_empty())
                    && claims["exp"].is_number()
                    && is_time("nbf")
                    && is_time("iat")
            });
            is_good.then_some(()).ok_or_else(|| "it lets in".to_owned())
        });
    });
    it.stop().await;
}
