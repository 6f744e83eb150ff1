//! JWTs: good ones of each kind of key, and forged ones.

use serde_json::{Value, json};
use tonic::Code;

use super::{Guarded, LIST_TICKS, callers_file, refused, told};
use crate::support::Backend;
use crate::support::jwt::{AUDIENCE, ISSUER, Signer, base64, claims, jwks};

/// When the servers of tests begin.
pub(super) const NOW: &str = "2026-01-05T12:00:00Z";

/// A server that knows the callers of an issuer with these keys, beside `crm` of its own.
pub(super) async fn guarded(keys: &[&Signer]) -> Guarded {
    let files = [
        ("jwks.json", jwks(keys)),
        ("callers.yaml", callers_file(&[("crm", "admin")])),
    ];
    Guarded::start(Backend::Sqlite, &files, |config, path| {
        config.auth.callers_file = Some(path("callers.yaml"));
        config.auth.jwt_issuer = Some(ISSUER.to_owned());
        config.auth.jwt_audience = Some(AUDIENCE.to_owned());
        config.auth.jwks_file = Some(path("jwks.json"));
    })
    .await
}

/// The claims of somebody who may, with some of them changed; null takes one out.
fn with(changes: &Value) -> Value {
    let mut claims = claims("nightly", &["scheduler"], NOW);
    for (name, value) in changes.as_object().expect("claims") {
        if value.is_null() {
            claims.as_object_mut().expect("claims").remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_tokens_of_all_kinds_let_in() {
    let keys = [
        Signer::ed("ed"),
        Signer::p256("p256"),
        Signer::p384("p384"),
        Signer::rsa("rsa"),
    ];
    let it = guarded(&keys.iter().collect::<Vec<_>>()).await;
    let good = claims("nightly", &["scheduler"], NOW);
    for key in &keys {
        let told = told(&it.call(LIST_TICKS, &key.token(&good)).await);
        assert_eq!(told, Ok(()), "{}", key.algorithm());
    }
    let rsa = &keys[3];
    let ed = &keys[0];
    for (what, token) in [
        ("PS256", rsa.token_with(&json!({"alg": "PS256", "kid": "rsa"}), &good)),
        (
            "no id, and one key of the kind",
            ed.token_with(&json!({"alg": "EdDSA"}), &good),
        ),
        (
            "several audiences",
            ed.token(&with(&json!({"aud": ["other", AUDIENCE]}))),
        ),
        (
            "roles as a text",
            ed.token(&with(&json!({"roles": "openid scheduler"}))),
        ),
        (
            "other roles beside",
            ed.token(&with(&json!({"roles": ["root", "scheduler", 7]}))),
        ),
        ("no nbf and iat", ed.token(&with(&json!({"nbf": null, "iat": null})))),
        ("no kind", ed.token_with(&json!({"alg": "EdDSA", "kid": "ed"}), &good)),
        (
            "one for services",
            ed.token_with(&json!({"alg": "EdDSA", "kid": "ed", "typ": "at+jwt"}), &good),
        ),
        (
            "the same in full and in other letters",
            ed.token_with(
                &json!({"alg": "EdDSA", "kid": "ed", "typ": "application/AT+JWT"}),
                &good,
            ),
        ),
        ("parts of seconds", ed.token(&with(&json!({"exp": 1_767_614_500.75})))),
    ] {
        assert_eq!(told(&it.call(LIST_TICKS, &token).await), Ok(()), "{what}");
    }
    assert_eq!(
        told(&it.call(LIST_TICKS, "token-of-crm").await),
        Ok(()),
        "the callers file goes on"
    );
    for (what, roles) in [
        ("none", json!(null)),
        ("others", json!(["root"])),
        ("another", json!(["caller"])),
    ] {
        let result = it.call(LIST_TICKS, &ed.token(&with(&json!({"roles": roles})))).await;
        refused(&result, Code::PermissionDenied, "ROLE_MISSING", what);
    }
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_tokens_let_nobody_in() {
    let (ed, ec, rsa, other) = (
        Signer::ed("ed"),
        Signer::p256("ec"),
        Signer::rsa("rsa"),
        Signer::ed("other"),
    );
    let it = guarded(&[&ed, &ec, &rsa]).await;
    let good = with(&json!({}));
    let now = super::super::support::given::at(NOW).timestamp();
    let token = ed.token(&good);
    assert_eq!(told(&it.call(LIST_TICKS, &token).await), Ok(()));
    let parts: Vec<&str> = token.split('.').collect();
    let [head, payload, signature] = parts[..] else {
        panic!("{token}")
    };
    let admin = base64(with(&json!({"roles": ["admin"]})).to_string().as_bytes());
    let none = base64(br#"{"alg":"none"}"#);
    let hs256 = |secret: &[u8], kid: &str| {
        let head = base64(json!({"alg": "HS256", "kid": kid}).to_string().as_bytes());
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        let message = format!("{head}.{payload}");
        format!(
            "{message}.{}",
            base64(ring::hmac::sign(&key, message.as_bytes()).as_ref())
        )
    };
    let modulus = rsa.jwk()["n"].as_str().expect("a modulus").to_owned();
    let headed = |head: &Value| ed.token_with(head, &good);
    let cases: Vec<(&str, String)> = vec![
        ("no algorithm, no signature", format!("{none}.{payload}.")),
        ("no algorithm, a signature", format!("{none}.{payload}.{signature}")),
        (
            "no algorithm in other letters",
            format!("{}.{payload}.", base64(br#"{"alg":"nOnE"}"#)),
        ),
        ("HS256 with a public key", hs256(modulus.as_bytes(), "rsa")),
        (
            "HS256 with a public key as JSON",
            hs256(rsa.jwk().to_string().as_bytes(), "rsa"),
        ),
        (
            "HS256 with the document",
            hs256(jwks(&[&ed, &ec, &rsa]).as_bytes(), "ed"),
        ),
        ("HS256 with nothing", hs256(b"", "ed")),
        (
            "another issuer",
            ed.token(&with(&json!({"iss": "https://id.example.com"}))),
        ),
        (
            "several issuers",
            ed.token(&with(&json!({"iss": [ISSUER, "https://evil.example"]}))),
        ),
        ("another audience", ed.token(&with(&json!({"aud": "other"})))),
        (
            "other audiences",
            ed.token(&with(&json!({"aud": ["other", "campaigns2"]}))),
        ),
        ("no audience", ed.token(&with(&json!({"aud": []})))),
        ("without an issuer", ed.token(&with(&json!({"iss": null})))),
        ("without an audience", ed.token(&with(&json!({"aud": null})))),
        ("without a subject", ed.token(&with(&json!({"sub": null})))),
        ("without an end", ed.token(&with(&json!({"exp": null})))),
        (
            "an end as a text",
            ed.token(&with(&json!({"exp": format!("{}", now + 3600)}))),
        ),
        ("too long a life", ed.token(&with(&json!({"exp": now + 25 * 3600})))),
        ("not yet", ed.token(&with(&json!({"nbf": now + 61})))),
        ("made in the future", ed.token(&with(&json!({"iat": now + 61})))),
        ("an empty subject", ed.token(&with(&json!({"sub": ""})))),
        ("a subject with a line", ed.token(&with(&json!({"sub": "a\nb"})))),
        ("a long subject", ed.token(&with(&json!({"sub": "x".repeat(256)})))),
        ("a subject that is a number", ed.token(&with(&json!({"sub": 7})))),
        ("a key that nobody knows", other.token(&good)),
        (
            "another's key by a known id",
            other.token_with(&json!({"alg": "EdDSA", "kid": "ed"}), &good),
        ),
        (
            "another's key without an id",
            other.token_with(&json!({"alg": "EdDSA"}), &good),
        ),
        (
            "the id of another kind of key",
            headed(&json!({"alg": "EdDSA", "kid": "ec"})),
        ),
        (
            "the algorithm of another kind of key",
            headed(&json!({"alg": "ES256", "kid": "ed"})),
        ),
        (
            "the algorithm of the key of that id",
            headed(&json!({"alg": "ES256", "kid": "ec"})),
        ),
        ("PS256 for RS256", {
            let signed = rsa.token_with(&json!({"alg": "PS256", "kid": "rsa"}), &good);
            let signature = signed.rsplit('.').next().expect("a signature").to_owned();
            let head = base64(br#"{"alg":"RS256","kid":"rsa"}"#);
            format!("{head}.{payload}.{signature}")
        }),
        (
            "another curve",
            Signer::p384("ec").token_with(&json!({"alg": "ES256", "kid": "ec"}), &good),
        ),
        (
            "ES384 with P-256",
            ec.token_with(&json!({"alg": "ES384", "kid": "ec"}), &good),
        ),
        // CVE-2022-21449
        ("a signature of zeros", {
            let head = base64(br#"{"alg":"ES256","kid":"ec"}"#);
            format!("{head}.{payload}.{}", base64(&[0; 64]))
        }),
        ("other claims", format!("{head}.{admin}.{signature}")),
        (
            "another head",
            format!("{}.{payload}.{signature}", base64(br#"{"alg":"EdDSA","kid":"ed"}"#)),
        ),
        ("no signature", format!("{head}.{payload}.")),
        (
            "a short signature",
            format!("{head}.{payload}.{}", &signature[..signature.len() - 4]),
        ),
        ("a long signature", format!("{head}.{payload}.{signature}AAAA")),
        ("four parts", format!("{token}.{signature}")),
        ("two parts", format!("{head}.{payload}")),
        (
            "five parts, as a JWE has",
            format!("{head}.{payload}.{signature}.{payload}.{signature}"),
        ),
        (
            "a path as an id",
            headed(&json!({"alg": "EdDSA", "kid": "../../../../dev/null"})),
        ),
        (
            "SQL as an id",
            headed(&json!({"alg": "EdDSA", "kid": "x' union select 'key"})),
        ),
        ("an id with a NUL", headed(&json!({"alg": "EdDSA", "kid": "ed\u{0}"}))),
        ("an id that is a list", headed(&json!({"alg": "EdDSA", "kid": ["ed"]}))),
        ("a key that comes along", {
            other.token_with(&json!({"alg": "EdDSA", "kid": "ed", "jwk": other.jwk()}), &good)
        }),
        ("a place of keys that comes along", {
            other.token_with(
                &json!({"alg": "EdDSA", "kid": "other", "jku": "http://127.0.0.1:1/jwks"}),
                &good,
            )
        }),
        ("certificates that come along", {
            other.token_with(
                &json!({"alg": "EdDSA", "kid": "ed", "x5u": "http://127.0.0.1:1/x", "x5c": ["AA=="]}),
                &good,
            )
        }),
        (
            "what must be understood, and is not",
            headed(&json!({"alg": "EdDSA", "kid": "ed", "crit": ["exp"]})),
        ),
        (
            "claims without base64",
            headed(&json!({"alg": "EdDSA", "kid": "ed", "b64": false, "crit": ["b64"]})),
        ),
        (
            "one to log out with",
            headed(&json!({"alg": "EdDSA", "kid": "ed", "typ": "logout+jwt"})),
        ),
        (
            "one about events",
            headed(&json!({"alg": "EdDSA", "kid": "ed", "typ": "application/secevent+jwt"})),
        ),
        (
            "one of somebody's key",
            headed(&json!({"alg": "EdDSA", "kid": "ed", "typ": "dpop+jwt"})),
        ),
        (
            "an empty kind",
            headed(&json!({"alg": "EdDSA", "kid": "ed", "typ": ""})),
        ),
        (
            "a kind that is a list",
            headed(&json!({"alg": "EdDSA", "kid": "ed", "typ": ["JWT"]})),
        ),
        (
            "an algorithm twice",
            ed.token_of(r#"{"alg":"none","alg":"EdDSA","kid":"ed"}"#, &good.to_string(), "EdDSA"),
        ),
        (
            "claims that are a list",
            ed.token_of(r#"{"alg":"EdDSA","kid":"ed"}"#, "[]", "EdDSA"),
        ),
        (
            "claims that are no JSON",
            ed.token_of(r#"{"alg":"EdDSA","kid":"ed"}"#, "{", "EdDSA"),
        ),
        (
            "more than a token may have",
            ed.token(&with(&json!({"x": "x".repeat(8 * 1024)}))),
        ),
    ];
    let mut told_texts = Vec::new();
    for (what, token) in &cases {
        let result = it.call(LIST_TICKS, token).await;
        refused(&result, Code::Unauthenticated, "TOKEN_INVALID", what);
        told_texts.push(result.expect_err("refused").message().to_owned());
    }
    told_texts.dedup();
    assert_eq!(told_texts.len(), 1, "nobody is told what was wrong");
    refused(
        &it.call_with(LIST_TICKS, &[&format!("Bearer {token}"), &format!("Bearer {token}")])
            .await,
        Code::Unauthenticated,
        "TOKEN_INVALID",
        "twice",
    );
    // The server's clock counts, and no other.
    let old = ed.token(&with(&json!({"exp": now - 60})));
    refused(
        &it.call(LIST_TICKS, &old).await,
        Code::Unauthenticated,
        "TOKEN_EXPIRED",
        "old",
    );
    let forged = other.token_with(&json!({"alg": "EdDSA", "kid": "ed"}), &with(&json!({"exp": now - 60})));
    let result = it.call(LIST_TICKS, &forged).await;
    refused(&result, Code::Unauthenticated, "TOKEN_INVALID", "old, and another's");
    it.app.set("2026-01-05T13:00:59Z");
    assert_eq!(told(&it.call(LIST_TICKS, &token).await), Ok(()), "a minute is left");
    it.app.set("2026-01-05T13:01:00Z");
    refused(
        &it.call(LIST_TICKS, &token).await,
        Code::Unauthenticated,
        "TOKEN_EXPIRED",
        "an hour later",
    );
    it.stop().await;
}

/// Who calls himself as somebody of the callers file is called is not him.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subject_is_nobody_of_the_callers_file() {
    let key = Signer::ed("ed");
    let it = guarded(&[&key]).await;
    let tick = |token: String| {
        let mut client = super::own::ticks(&it.channel, &token);
        async move { super::own::named_tick(&mut client, "night").await.expect("a tick") }
    };
    let own = tick("token-of-crm".to_owned()).await;
    it.app.pass_hours(1);
    let his = tick(key.token(&claims("crm", &["scheduler"], "2026-01-05T13:00:00Z"))).await;
    assert_ne!(own.start_time, his.start_time, "a tick of his own");
    it.stop().await;
}
