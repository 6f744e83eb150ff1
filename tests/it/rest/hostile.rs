//! Hostile requests: each is refused with what is wrong and where, as gRPC says it, and stores nothing.

use serde_json::json;

use super::{Answer, JSON, ask};
use crate::contract::world;
use crate::support::given::{definition, email};
use crate::support::{App, Backend, Rows, on_each_database};

on_each_database!(
    nothing_hostile_is_stored,
    all_that_is_wrong_is_said_at_once,
    what_is_given_twice_must_be_the_same,
);

const UPSERT: &str = "/api/v1/customers:upsert";
const APPLY: &str = "/api/v1/timelines:apply";
const START: &str = "/api/v1/customers/anna/timelines";

/// A request, and the fields that it is refused for.
struct Case {
    method: &'static str,
    path: String,
    body: Vec<u8>,
    fields: Vec<&'static str>,
}

fn posted(path: &str, body: impl Into<Vec<u8>>, fields: &[&'static str]) -> Case {
    Case {
        method: "POST",
        path: path.to_owned(),
        body: body.into(),
        fields: fields.to_vec(),
    }
}

fn asked(path: &str, fields: &[&'static str]) -> Case {
    Case {
        method: "GET",
        path: path.to_owned(),
        body: Vec::new(),
        fields: fields.to_vec(),
    }
}

/// What is no JSON, or none of a request.
fn bodies() -> Vec<Case> {
    let nested = |open: &str, close: &str, count: usize| format!("{}1{}", open.repeat(count), close.repeat(count));
    let nots = nested("{\"not\":", "}", 60);
    let action = format!("{{\"conditions\":[{{\"not\":{nots}}}]}}");
    let timeline = format!("{{\"timeline\":{{\"actions\":[{action}]}}}}");
    vec![
        posted(START, "", &["timeline_id"]),
        posted(START, "{", &["body"]),
        posted(START, "{}{}", &["body"]),
        posted(START, "[]", &["body"]),
        posted(START, "null", &["body"]),
        posted(START, "\"timeline_id\"", &["body"]),
        posted(START, "\u{feff}{}", &["body"]),
        posted(
            START,
            b"{\"timeline_id\": 1, \"request_id\": \"\xff\"}".to_vec(),
            &["body"],
        ),
        posted(START, "{\"request_id\": \"\\ud800\"}", &["body"]),
        posted(START, "{'timeline_id': 1}", &["body"]),
        posted(START, "{\"timeline_id\": 1e999}", &["body"]),
        posted(START, nested("[", "]", 100_000), &["body"]),
        posted(START, nested("{\"a\":", "}", 100_000), &["body"]),
        posted(
            APPLY,
            timeline,
            &[
                "timeline.actions[0].conditions[0].not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not",
            ],
        ),
    ]
}

/// What is JSON, but has other fields or values.
fn values() -> Vec<Case> {
    let start = |value: &str, fields| posted(START, format!("{{\"timelineId\": {value}}}"), fields);
    let person = |more: &str, fields| {
        posted(
            UPSERT,
            format!("{{\"customers\": [{{\"customerId\": \"x\", {more}}}]}}"),
            fields,
        )
    };
    vec![
        start("1.5", &["timeline_id"]),
        start("\"one\"", &["timeline_id"]),
        start("\"+1\"", &["timeline_id"]),
        start("\" 1\"", &["timeline_id"]),
        start("\"\"", &["timeline_id"]),
        start("true", &["timeline_id"]),
        start("[1]", &["timeline_id"]),
        start("{}", &["timeline_id"]),
        start("9223372036854775808", &["timeline_id"]),
        start("-9223372036854775809", &["timeline_id"]),
        start("\"9223372036854775808\"", &["timeline_id"]),
        start("9.3e18", &["timeline_id"]),
        start("1e300", &["timeline_id"]),
        start("123456789012345678901234567890", &["timeline_id"]),
        start("1, \"startDay\": 2147483648", &["start_day"]),
        start("1, \"firstDay\": \"FIRST_DAY_SOON\"", &["first_day"]),
        start("1, \"firstDay\": 1.5", &["first_day"]),
        start("1, \"allowRestart\": \"true\"", &["allow_restart"]),
        start("1, \"allowRestart\": 1", &["allow_restart"]),
        start("1, \"requestId\": 7", &["request_id"]),
        start("1, \"timelineId\": 1", &["timeline_id"]),
        start("1, \"timeline_id\": 1", &["timeline_id"]),
        start("1, \"timeline_ID\": 1", &["timeline_ID"]),
        start("1, \"__proto__\": {}", &["__proto__"]),
        start("1, \"a.b\\n\": {}", &["\"a.b\\n\""]),
        start("1, \"[campaign.v1.x]\": {}", &["\"[campaign.v1.x]\""]),
        person("\"engagementScore\": \"many\"", &["customers[0].engagement_score"]),
        person("\"sourceTime\": \"yesterday\"", &["customers[0].source_time"]),
        person("\"sourceTime\": 7", &["customers[0].source_time"]),
        person(
            "\"attributes\": {\"a\": {\"b\": 1, \"b\": 2}}",
            &["customers[0].attributes"],
        ),
        person("\"attributes\": []", &["customers[0].attributes"]),
        posted(UPSERT, "{\"customers\": {}}", &["customers"]),
        posted(UPSERT, "{\"customers\": [null, 1]}", &["customers[0]", "customers[1]"]),
        posted(
            UPSERT,
            "{\"customers\": [{}], \"updateMask\": [\"email\"]}",
            &["update_mask"],
        ),
        posted(
            APPLY,
            "{\"timeline\": {\"actions\": [{}, {\"conditions\": [{\"replied\": {\"withinHours\": 1}, \"emailOpened\": {}}]}]}}",
            &["timeline.actions[1].conditions[0].email_opened"],
        ),
    ]
}

/// Paths and parameters.
fn parameters() -> Vec<Case> {
    let list = |query: &str, fields| asked(&format!("/api/v1/timeline-progress?{query}"), fields);
    vec![
        list("pageSize=many", &["page_size"]),
        list("pageSize=", &["page_size"]),
        list("pageSize=1&page_size=1", &["page_size"]),
        list("size=1", &["size"]),
        list("pageSize.x=1", &["\"pageSize.x\""]),
        list("status=ACTIVE", &["status"]),
        list("customerId=%FF", &["customerId"]),
        list("customerId=%4", &["customerId"]),
        list("%FF=1", &["\"%FF\""]),
        list("=1", &["\"\""]),
        list("a%00b=1", &["\"a\\0b\""]),
        asked("/api/v1/executions?filter=x", &["filter"]),
        asked("/api/v1/executions?filter.outcomes=LOST", &["filter.outcomes"]),
        asked(
            "/api/v1/executions?filter.customerId=a&filter.customer_id=a",
            &["filter.customer_id"],
        ),
        asked(
            "/api/v1/executions?filter.finishTimeFrom=today",
            &["filter.finish_time_from"],
        ),
        asked(
            &format!("/api/v1/executions?{}=1", ["filter"; 200].join(".")),
            &["\"filter.filter.filter.filter.filter.filter.filter.filter.filt\"…"],
        ),
        asked("/api/v1/customers/anna/timeline-progress/one", &["progress_id"]),
        asked(
            "/api/v1/customers/anna/timeline-progress/1?progressId=2",
            &["progress_id"],
        ),
        asked("/api/v1/customers/%FF", &["path"]),
        asked("/api/v1/customers/%", &["path"]),
        asked("/api/v1/customers/%zz", &["path"]),
        asked("/api/v1/customers/a%2Fb", &["customer_id"]),
        asked("/api/v1/customers/..", &["customer_id"]),
        asked("/api/v1/customers/%2e%2e", &["customer_id"]),
        asked("/api/v1/customers/a%00", &["customer_id"]),
        asked("/api/v1/customers/a%20b", &["customer_id"]),
        asked("/api/v1/customers/a+b", &["customer_id"]),
        posted(&format!("{START}?timelineId=1"), "{}", &["timeline_id", "timeline_id"]),
        Case {
            body: b"{}".to_vec(),
            ..asked("/api/v1/customers/anna", &["body"])
        },
    ]
}

/// Checks a refusal: its fields, and that each says what must be.
fn check(case: &Case, answer: &Answer) {
    let body: String = String::from_utf8_lossy(&case.body).chars().take(80).collect();
    let what = format!("{} {} {body}: {}", case.method, case.path, answer.text());
    assert_eq!((answer.status, &answer.json()["code"]), (400, &json!(3)), "{what}");
    let mut expected: Vec<&str> = case.fields.clone();
    expected.dedup();
    let mut fields = answer.fields();
    fields.dedup();
    assert_eq!(fields, expected, "{what}");
    assert_eq!(answer.detail("ErrorInfo")["reason"], "INVALID_FIELDS", "{what}");
    let violations = answer.detail("BadRequest")["fieldViolations"].clone();
    for violation in violations.as_array().expect("violations") {
        let description = violation["description"].as_str().expect("a description");
        assert!(description.contains("must"), "{what}");
        assert!(description.len() < 500, "{what}");
    }
}

async fn nothing_hostile_is_stored(backend: Backend) {
    let app = App::start(backend).await;
    world(&app).await;
    let rows = Rows::of(&app, backend).await;
    let before = rows.all().await;
    for case in [bodies(), values(), parameters()].into_iter().flatten() {
        let answer = ask(&app, case.method, &case.path, &[JSON], &case.body).await;
        check(&case, &answer);
    }
    // Empty segments are those of no path.
    for path in [
        "/api/v1/customers//timelines",
        "/api/v1/customers/",
        "/api//v1/customers",
        "/api/",
        "/api/v1/customers/anna/",
    ] {
        let answer = ask(&app, "POST", path, &[JSON], "{}").await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
    assert_eq!(rows.all().await, before);
    app.server.shutdown().await.expect("stopped");
}

async fn all_that_is_wrong_is_said_at_once(backend: Backend) {
    let app = App::start(backend).await;
    let body = r#"{"timeline": {"slug": 7, "nope": 1, "actions": [{"dayNumber": "x"}, {"key": []}]}, "etag": false}"#;
    let answer = ask(&app, "POST", APPLY, &[JSON], body).await;
    let expected = [
        "etag",
        "timeline.actions[0].day_number",
        "timeline.actions[1].key",
        "timeline.nope",
        "timeline.slug",
    ];
    assert_eq!(answer.fields(), expected);
    let message = answer.json()["message"].as_str().expect("a message").to_owned();
    assert_eq!(
        message,
        "timeline.slug must be a text, but is 7 (and 4 more; see the field violations)"
    );
    // Of very many the first are listed.
    let body = format!("{{\"customers\": [{}1]}}", "1,".repeat(100_000));
    let answer = ask(&app, "POST", UPSERT, &[JSON], body).await;
    assert_eq!((answer.status, answer.fields().len()), (400, 100));
    assert!(answer.text().contains("(and 100000 more"), "{}", &answer.text()[..200]);
    app.server.shutdown().await.expect("stopped");
}

async fn what_is_given_twice_must_be_the_same(backend: Backend) {
    let app = App::start(backend).await;
    app.customer("anna", "").await;
    let plan = app
        .timeline(definition("plan", 5, vec![email(1, 0, "A")]))
        .await
        .timeline_id;
    let start = |customer: &str| format!("{{\"customer_id\": \"{customer}\", \"timelineId\": \"{plan}\"}}");
    let other = ask(&app, "POST", START, &[JSON], start("bert")).await;
    assert_eq!(
        (other.status, other.fields()),
        (400, vec!["customer_id".to_owned()]),
        "{}",
        other.text()
    );
    let same = ask(&app, "POST", START, &[JSON], start("anna")).await;
    assert_eq!(same.status, 200, "{}", same.text());
    let path = "/api/v1/customers/anna/timeline-progress/1";
    for (query, status) in [("?progress_id=1&customerId=anna", 200), ("?customerId=bert", 400)] {
        let answer = ask(&app, "GET", &format!("{path}{query}"), &[], "").await;
        assert_eq!(answer.status, status, "{query}: {}", answer.text());
    }
    app.server.shutdown().await.expect("stopped");
}
