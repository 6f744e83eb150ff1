//! What goes with HTTP: methods, headers, sizes and times, streams, and the document about all of it.

use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{JSON, ask, get, post};
use crate::support::given::{definition, email};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    requests_have_the_form_that_they_must_have,
    head_and_options_are_answered,
    a_body_is_as_long_and_as_late_as_it_may_be,
    a_tick_answers_line_by_line,
    a_call_ends_when_its_caller_says,
    field_names_and_numbers_go_both_ways,
    the_document_is_served,
);

/// A method, a path, headers and a body; and what comes of it: an HTTP status, a code and a reason.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, u16, i32, &'a str);

async fn requests_have_the_form_that_they_must_have(backend: Backend) {
    let app = App::start(backend).await;
    app.customer("anna", "").await;
    let anna = "/api/v1/customers/anna";
    let accept = |value: &'static str| [("Accept", value)];
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let latin = [("Content-Type", "application/json; charset=latin1")];
    let engagements = "/api/v1/engagements:record";
    let zipped = [JSON, ("Content-Encoding", "gzip")];
    let cases: [Case<'_>; 14] = [
        ("GET", "/api/v1/nothing", &[], "", 404, 5, "PATH_NOT_FOUND"),
        ("GET", "/nothing", &[], "", 404, 5, "PATH_NOT_FOUND"),
        ("GET", "/", &[], "", 404, 5, "PATH_NOT_FOUND"),
        ("GET", "/api/v1/customers/bert", &[], "", 404, 5, "CUSTOMER_NOT_FOUND"),
        ("DELETE", anna, &[], "", 405, 12, "METHOD_NOT_ALLOWED"),
        ("BREW", anna, &[], "", 405, 12, "METHOD_NOT_ALLOWED"),
        ("POST", "/openapi.json", &[], "", 405, 12, "METHOD_NOT_ALLOWED"),
        ("GET", anna, &accept("text/html"), "", 406, 3, "JSON_NOT_ACCEPTED"),
        (
            "GET",
            anna,
            &accept("application/json;q=0, text/html"),
            "",
            406,
            3,
            "JSON_NOT_ACCEPTED",
        ),
        ("POST", engagements, &form, "{}", 415, 3, "BODY_NOT_JSON"),
        ("POST", engagements, &latin, "{}", 415, 3, "BODY_NOT_JSON"),
        ("POST", engagements, &[], "{}", 415, 3, "BODY_NOT_JSON"),
        ("POST", engagements, &zipped, "{}", 415, 3, "BODY_NOT_JSON"),
        ("POST", engagements, &[JSON, JSON], "{}", 400, 3, "INVALID_FIELDS"),
    ];
    for (method, path, headers, body, status, code, reason) in cases {
        let answer = ask(&app, method, path, headers, body).await;
        let what = format!("{method} {path} {headers:?}: {}", answer.text());
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (status, &json!(code)),
            "{what}"
        );
        let info = answer.detail("ErrorInfo");
        assert_eq!(
            (&info["reason"], &info["domain"]),
            (&json!(reason), &json!("campaign.v1")),
            "{what}"
        );
        assert_eq!(answer.header("content-type"), "application/json", "{what}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{what}");
    }
    for good in [
        "*/*",
        "application/json",
        "application/*;q=0.5",
        "text/html, */*;q=0.1",
        "Application/JSON;v=1",
    ] {
        let answer = ask(&app, "GET", anna, &accept(good), "").await;
        assert_eq!(answer.status, 200, "{good}: {}", answer.text());
    }
    let utf8 = ("Content-Type", "Application/JSON; charset=\"UTF-8\"");
    let answer = ask(
        &app,
        "POST",
        &format!("{anna}/pipeline-stage"),
        &[utf8],
        r#"{"pipelineStage": "hook"}"#,
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), "no-store");
    app.server.shutdown().await.expect("stopped");
}

async fn head_and_options_are_answered(backend: Backend) {
    let app = App::start(backend).await;
    app.customer("anna", "").await;
    for path in ["/api/v1/customers/anna", "/api/v1/customers/bert", "/openapi.json"] {
        let (whole, head) = (get(&app, path).await, ask(&app, "HEAD", path, &[], "").await);
        assert_eq!((head.status, head.body.len()), (whole.status, 0), "{path}");
        assert_eq!(head.header("content-length"), whole.body.len().to_string(), "{path}");
    }
    for (path, allowed) in [
        ("/api/v1/customers/anna", "GET, HEAD, OPTIONS"),
        ("/api/v1/suppressions", "GET, HEAD, OPTIONS, POST"),
        ("/api/v1/customers/anna/timelines", "OPTIONS, POST"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
    ] {
        let answer = ask(&app, "OPTIONS", path, &[], "").await;
        assert_eq!((answer.status, answer.header("allow")), (204, allowed), "{path}");
        let answer = ask(&app, "PATCH", path, &[], "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, allowed), "{path}");
    }
    app.server.shutdown().await.expect("stopped");
}

async fn a_body_is_as_long_and_as_late_as_it_may_be(backend: Backend) {
    let app = App::start_with(backend, |config| config.call_limit = Duration::from_millis(500)).await;
    let most = 4 * 1024 * 1024;
    for (length, status, reason) in [(most, 400, "INVALID_FIELDS"), (most + 1, 413, "BODY_TOO_LONG")] {
        let frame = r#"{"pipelineStage": ""}"#;
        let body = frame.replace("\"\"", &format!("\"{}\"", "x".repeat(length - frame.len())));
        let answer = post(&app, "/api/v1/customers/anna/pipeline-stage", &body).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.detail("ErrorInfo")["reason"], reason);
    }
    // Half a body, and then nothing.
    let mut stream = TcpStream::connect(app.server.addr()).await.expect("a connection");
    let head = "POST /api/v1/customers:upsert HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(answer, b"HTTP/1.1 408");
    app.server.shutdown().await.expect("stopped");
}

async fn a_tick_answers_line_by_line(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("plan", 5, vec![email(1, 0, "A")])).await;
    app.customer("anna", "").await;
    app.start_run("anna", &timeline).await;
    let answer = post(&app, "/api/v1/ticks:process", r#"{"tickId": "by-rest"}"#).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "application/x-ndjson"),
        "{}",
        answer.text()
    );
    let lines: Vec<Value> = answer
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let summary = &lines.last().expect("a line")["result"]["summary"];
    assert_eq!(
        (&summary["tickId"], app.sent_to("anna").len()),
        (&json!("by-rest"), 1),
        "{lines:?}"
    );
    // What fails at once is an error as others are.
    let answer = post(&app, "/api/v1/ticks:process", r#"{"maxActions": -1}"#).await;
    assert_eq!((answer.status, answer.fields()), (400, vec!["max_actions".to_owned()]));
    let daily = ask(
        &app,
        "POST",
        "/api/v1/ticks:advance",
        &[("Accept", "application/x-ndjson")],
        "",
    )
    .await;
    assert!(daily.text().contains("\"summary\""), "{}", daily.text());
    app.server.shutdown().await.expect("stopped");
}

async fn a_call_ends_when_its_caller_says(backend: Backend) {
    let app = App::start(backend).await;
    app.customer("anna", "").await;
    let wait = |time: &'static str| [("Grpc-Timeout", time)];
    let short = ask(&app, "GET", "/api/v1/customers/anna", &wait("1m"), "").await;
    assert_eq!((short.status, &short.json()["code"]), (504, &json!(4)));
    assert_eq!(short.detail("ErrorInfo")["reason"], "CALL_TOO_LONG");
    // Whose body does not come in that time waits no longer.
    let mut late = TcpStream::connect(app.server.addr()).await.expect("a connection");
    let head = "POST /api/v1/customers:upsert HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Grpc-Timeout: 100m\r\nContent-Length: 20\r\nConnection: close\r\n\r\n{";
    late.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    let _ = late.read_to_string(&mut answer).await;
    assert!(
        answer.starts_with("HTTP/1.1 504 ") && answer.contains("CALL_TOO_LONG"),
        "{answer}"
    );
    let long = ask(&app, "GET", "/api/v1/customers/anna", &wait("20S"), "").await;
    assert_eq!(long.status, 200, "{}", long.text());
    app.server.shutdown().await.expect("stopped");
}

async fn field_names_and_numbers_go_both_ways(backend: Backend) {
    let app = App::start(backend).await;
    let body = r#"{"customers": [
        {"customer_id": "a", "engagementScore": "7", "email": null, "is_test": true, "attributes": {"n": 1, "deep": [null, {"a_b": 1.5}]},
         "sourceTime": "2026-01-05T13:00:00.5+01:00"},
        {"customerId": "b", "engagement_score": 7.0}], "update_mask": null, "assignTimeline": false}"#;
    let stored = post(&app, "/api/v1/customers:upsert", body).await;
    assert_eq!(stored.status, 200, "{}", stored.text());
    let customer = get(&app, "/api/v1/customers/a").await.json()["customer"].clone();
    assert_eq!(customer["sourceTime"], "2026-01-05T12:00:00.500Z");
    assert_eq!(
        (&customer["engagementScore"], &customer["isTest"]),
        (&json!(7), &json!(true))
    );
    assert_eq!(customer["attributes"]["deep"], json!([null, {"a_b": 1.5}]));
    assert_eq!(customer["email"], "");
    for query in ["pageSize=1&pipelineStage=", "page_size=1", "pageSize=%31"] {
        let page = get(&app, &format!("/api/v1/customers?{query}")).await.json();
        assert_eq!(page["customers"].as_array().map(Vec::len), Some(1), "{query}: {page}");
        assert!(
            page["nextPageToken"].as_str().is_some_and(|token| !token.is_empty()),
            "{page}"
        );
    }
    app.server.shutdown().await.expect("stopped");
}

async fn the_document_is_served(backend: Backend) {
    let app = App::start(backend).await;
    let answer = get(&app, "/openapi.json").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "application/json")
    );
    assert_eq!(answer.json()["openapi"], "3.1.0");
    app.server.shutdown().await.expect("stopped");
}
