//! Tokens of the callers file: known, unknown, replaced while the server runs; over gRPC, gRPC-Web and REST.

use campaign_automation::auth::digest_of;
use std::time::Duration;
use tonic::Code;

use super::{Guarded, LIST_TICKS, callers_file, refused, told};
use crate::rest::{Answer, ask_at};
use crate::support::{Backend, on_each_database};

on_each_database!(a_token_lets_in_and_nothing_else_does);

async fn a_token_lets_in_and_nothing_else_does(backend: Backend) {
    let it = Guarded::with_callers(backend, &[("ticks", "scheduler"), ("root", "admin")]).await;
    let good = "Bearer token-of-ticks";
    assert_eq!(told(&it.call_with(LIST_TICKS, &[good]).await), Ok(()));
    assert_eq!(told(&it.call_with(LIST_TICKS, &["bearer token-of-root"]).await), Ok(()));
    refused(
        &it.call_with(LIST_TICKS, &[]).await,
        Code::Unauthenticated,
        "NO_CREDENTIALS",
        "none",
    );
    let mut texts = Vec::new();
    for bad in [
        &["Bearer token-of-tick"][..],
        &["Bearer token-of-tickss"],
        &["Bearer TOKEN-OF-TICKS"],
        &["Bearer ticks"],
        &["Basic dG9rZW4tb2YtdGlja3M="],
        &["token-of-ticks"],
        &["Bearer"],
        &["Bearer token-of-ticks,token-of-root"],
        &[good, good],
        &[good, "Bearer x"],
        // A digest is no token.
        &[&format!("Bearer {}", digest_of("token-of-ticks"))],
        // Without an issuer no JWT is looked at.
        &["Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0."],
    ] {
        let result = it.call_with(LIST_TICKS, bad).await;
        refused(&result, Code::Unauthenticated, "TOKEN_INVALID", &format!("{bad:?}"));
        let status = result.expect_err("refused");
        assert!(!status.message().contains("token-of"), "{status:?}");
        texts.push((status.message().to_owned(), status.details().to_vec()));
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "an unknown token and a wrong one are the same");
    // What there is, is not told to who is not known.
    for path in [
        "/campaign.v1.CampaignTickService/Nothing",
        "/campaign.v1.Nothing/Nothing",
        "/x",
    ] {
        refused(
            &it.call_with(path, &[]).await,
            Code::Unauthenticated,
            "NO_CREDENTIALS",
            path,
        );
        refused(&it.call_with(path, &[good]).await, Code::Unimplemented, "", path);
    }
    it.stop().await;
}

/// A REST call to a guarded server.
async fn rest(it: &Guarded, method: &str, path: &str, token: Option<&str>, body: &str) -> Answer {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
    ask_at(it.server.addr(), method, path, &headers, body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rest_asks_the_same() {
    let it = Guarded::with_callers(Backend::Sqlite, &[("crm", "caller"), ("eye", "viewer")]).await;
    it.app.customer("anna", "").await;
    let customer = "/api/v1/customers/anna";
    for (path, method, token, body, status, reason) in [
        (customer, "GET", Some("token-of-eye"), "", 200, ""),
        (customer, "GET", None, "", 401, "NO_CREDENTIALS"),
        (customer, "GET", Some("wrong"), "", 401, "TOKEN_INVALID"),
        (customer, "GET", Some("token-of-crm"), "", 403, "ROLE_MISSING"),
        // Before it is told what there is, and before the body is looked at.
        ("/api/v1/customers/nobody", "GET", None, "", 401, "NO_CREDENTIALS"),
        (
            "/api/v1/customers/nobody",
            "GET",
            Some("token-of-crm"),
            "",
            403,
            "ROLE_MISSING",
        ),
        (
            "/api/v1/customers/nobody",
            "GET",
            Some("token-of-eye"),
            "",
            404,
            "CUSTOMER_NOT_FOUND",
        ),
        (
            "/api/v1/customers:upsert",
            "POST",
            None,
            "{no json",
            401,
            "NO_CREDENTIALS",
        ),
        (
            "/api/v1/customers:upsert",
            "POST",
            Some("token-of-eye"),
            "{no json",
            403,
            "ROLE_MISSING",
        ),
        (
            "/api/v1/customers:upsert",
            "POST",
            Some("token-of-crm"),
            "{no json",
            400,
            "INVALID_FIELDS",
        ),
        ("/openapi.json", "GET", None, "", 401, "NO_CREDENTIALS"),
        ("/openapi.json", "GET", Some("token-of-crm"), "", 200, ""),
        // Nor is it told whether there is a path, or which methods it has.
        ("/api/v1/nothing", "GET", None, "", 401, "NO_CREDENTIALS"),
        ("/api/v1/nothing", "GET", Some("wrong"), "", 401, "TOKEN_INVALID"),
        (
            "/api/v1/nothing",
            "GET",
            Some("token-of-crm"),
            "",
            404,
            "PATH_NOT_FOUND",
        ),
        ("/api/v1/%ff", "GET", None, "", 401, "NO_CREDENTIALS"),
        ("/api/", "GET", None, "", 401, "NO_CREDENTIALS"),
        (customer, "PATCH", None, "", 401, "NO_CREDENTIALS"),
        (customer, "PATCH", Some("token-of-crm"), "", 405, "METHOD_NOT_ALLOWED"),
        (customer, "OPTIONS", None, "", 401, "NO_CREDENTIALS"),
        (customer, "OPTIONS", Some("token-of-crm"), "", 204, ""),
        ("/openapi.json", "PATCH", None, "", 401, "NO_CREDENTIALS"),
    ] {
        let answer = rest(&it, method, path, token, body).await;
        assert_eq!(answer.status, status, "{method} {path} {token:?}: {}", answer.text());
        if !reason.is_empty() {
            assert_eq!(answer.detail("ErrorInfo")["reason"], reason, "{path} {token:?}");
        }
        let asks = if status == 401 { "Bearer" } else { "" };
        assert_eq!(answer.header("www-authenticate"), asks, "{path} {token:?}");
    }
    let mut texts = Vec::new();
    for (method, path) in [("GET", customer), ("PUT", customer), ("GET", "/api/v1/nothing")] {
        texts.push(rest(&it, method, path, None, "").await.text().to_owned());
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "what there is and what there is not are the same");
    let missing = rest(&it, "GET", customer, Some("token-of-crm"), "")
        .await
        .detail("ErrorInfo");
    assert_eq!(missing["metadata"]["method"], "CustomerService/GetCustomer");
    assert_eq!(missing["metadata"]["roles"], "viewer");
    // Links and calls of providers are signed in their own ways.
    for path in ["/u/x", "/o/x", "/c/x"] {
        let open = ask_at(it.app.server.addr(), "GET", path, &[], "").await;
        let guarded = ask_at(it.server.addr(), "GET", path, &[("Authorization", "Bearer x")], "").await;
        assert_eq!((guarded.status, guarded.text()), (open.status, open.text()), "{path}");
    }
    // gRPC-Web is the same call in another coat.
    let web = [("Content-Type", "application/grpc-web+proto"), ("X-Grpc-Web", "1")];
    for (token, expected) in [("x", "16"), ("token-of-crm", "7")] {
        let bearer = format!("Bearer {token}");
        let headers = [&web[..], &[("Authorization", &bearer)]].concat();
        let path = "/campaign.v1.CustomerService/GetCustomer";
        let answer = ask_at(it.server.addr(), "POST", path, &headers, b"\0\0\0\0\0").await;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        let is_told = answer.header("grpc-status") == expected || body.contains(&format!("grpc-status:{expected}"));
        assert!(is_told, "{answer:?}");
    }
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_can_be_switched_off() {
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let file = [("callers.yaml", callers_file(&[("crm", "caller")]))];
    let it = Guarded::start(Backend::Sqlite, &file, |config, path| {
        config.auth.callers_file = Some(path("callers.yaml"));
        config.auth.reflection = false;
    })
    .await;
    refused(
        &it.call(reflection, "token-of-crm").await,
        Code::Unimplemented,
        "",
        "off",
    );
    let document = rest(&it, "GET", "/openapi.json", Some("token-of-crm"), "").await;
    assert_eq!(document.detail("ErrorInfo")["reason"], "PATH_NOT_FOUND");
    it.stop().await;
}

/// A token is replaced: the new one is added, then the old one is taken out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_replaced_while_the_server_runs() {
    let it = Guarded::with_callers(Backend::Sqlite, &[("ticks", "scheduler")]).await;
    let file = |digests: &[String]| {
        let digests = digests.join(", ");
        format!("callers:\n  - name: ticks\n    roles: [scheduler]\n    token_sha256: [{digests}]\n")
    };
    let (old, new) = (digest_of("token-of-ticks"), digest_of("new"));
    refused(
        &it.call(LIST_TICKS, "new").await,
        Code::Unauthenticated,
        "TOKEN_INVALID",
        "not yet",
    );
    it.write("callers.yaml", &file(&[old, new.clone()]));
    until(&it, "new", true).await;
    assert_eq!(told(&it.call(LIST_TICKS, "token-of-ticks").await), Ok(()), "both count");
    it.write("callers.yaml", &file(&[new]));
    until(&it, "token-of-ticks", false).await;
    assert_eq!(told(&it.call(LIST_TICKS, "new").await), Ok(()));
    it.stop().await;
}

/// Waits until the server has read its file again, which it does every few seconds.
async fn until(it: &Guarded, token: &str, is_known: bool) {
    let mut every = tokio::time::interval(Duration::from_millis(100));
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while told(&it.call(LIST_TICKS, token).await).is_ok() != is_known {
            every.tick().await;
        }
    });
    waited.await.expect("the file is read again");
}
