//! Nothing that the service gives out to those who watch it tells who a customer is, or a secret: not its log at its loudest, in
//! both forms, not its spans, metrics and errors, whatever providers say.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use campaign_automation::proto::campaign::v1 as pb;
use std::collections::BTreeMap;
use tonic::Status;

use super::program::{Program, TOKEN, World};
use super::scrape::{ask, get};
use crate::providers::ACCOUNT;
use crate::support::app::SECRET;
use crate::support::given::{action, customer, email, sms};
use crate::support::http::{Behaviour, twilio_error};
use crate::support::{Backend, canaries, on_each_database};
use crate::suppressions::answers::{PUBLIC, form, signature};

on_each_database!(nobody_who_watches_learns_who_a_customer_is);

/// What is personal.
const CANARIES: [&str; 6] = [
    "canary anna",
    "canary%20anna",
    "canary-anna",
    "4155550123",
    "canary-colour",
    "canary-reply",
];

/// What the collector asks for.
const PUSHED: &str = "pushed-canary";

/// Traced, so that there are spans of all.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn anna() -> pb::Customer {
    let colour = prost_types::Value {
        kind: Some(prost_types::value::Kind::StringValue("canary-colour".to_owned())),
    };
    pb::Customer {
        display_name: "Canary Anna".to_owned(),
        email: "canary-anna@example.com".to_owned(),
        phone: "+14155550123".to_owned(),
        attributes: Some(prost_types::Struct {
            fields: BTreeMap::from([("colour".to_owned(), colour)]),
        }),
        ..customer("c-1", "Etc/UTC")
    }
}

/// What must be nowhere, in small letters.
fn secrets() -> Vec<String> {
    let key = std::fs::read_to_string(SECRET).expect("the secret");
    let login = STANDARD.encode(format!("{ACCOUNT}:{TOKEN}"));
    let all = [
        TOKEN,
        canaries::PASSWORD,
        PUSHED,
        &login,
        key.trim(),
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ];
    all.map(str::to_lowercase).to_vec()
}

#[track_caller]
fn check(what: &str, text: &str) {
    canaries::check_text(what, text);
    let text = text.to_lowercase();
    for canary in CANARIES.map(str::to_owned).into_iter().chain(secrets()) {
        if let Some(at) = text.find(&canary) {
            let from = text[..at].rfind('\n').map_or(0, |at| at + 1);
            let line: String = text[from..]
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .take(600)
                .collect();
            panic!("{canary} is in {what}: {line}");
        }
    }
}

fn check_refused<T: std::fmt::Debug>(what: &str, answer: Result<T, Status>) {
    let status = answer.expect_err(what);
    check(
        what,
        &format!("{status:?} {}", String::from_utf8_lossy(status.details())),
    );
}

/// A report of Twilio, and an answer of her.
async fn hear(program: &Program, world: &World) {
    for request in world.twilio.requests() {
        let url = request.parameter("StatusCallback");
        let Some(place) = url.strip_prefix(PUBLIC) else {
            continue;
        };
        let status = if place.contains("/call/") {
            "CallStatus"
        } else {
            "MessageStatus"
        };
        tell(
            program,
            place,
            &[("To", "+14155550123"), (status, "undelivered"), ("ErrorCode", "30005")],
        )
        .await;
        // One that is forged, and one that is broken.
        ask(program.addr, "POST", place, "", "To=%2B14155550123").await;
    }
    let reply = [
        ("From", "+14155550123"),
        ("To", "+14155550100"),
        ("Body", "canary-reply STOP"),
    ];
    tell(program, "/callbacks/twilio/inbound", &reply).await;
}

async fn tell(program: &Program, place: &str, parameters: &[(&str, &str)]) {
    let signature = signature(TOKEN, &format!("{PUBLIC}{place}"), parameters);
    let headers = format!("Content-Type: application/x-www-form-urlencoded\r\nX-Twilio-Signature: {signature}\r\n");
    ask(program.addr, "POST", place, &headers, &form(parameters)).await;
}

/// Walks her through all channels, with providers that take what they get and then with those that repeat it.
async fn walk(program: &Program, world: &World, timeline: i64) {
    world.twilio.accept_all();
    world.crm.answer(201, "{\"id\":\"task-9\"}");
    world.smtp.accept_all();
    program.start_run("c-1", timeline, PARENT).await.expect("a run");
    program.tick(PARENT).await.expect("a summary");
    hear(program, world).await;
    world.twilio.behave(twilio_error(
        400,
        21_211,
        "The 'To' number +14155550123 of Canary Anna is not valid",
    ));
    world.crm.behave(Behaviour::Answer(
        500,
        "",
        "Canary Anna canary-anna@example.com".to_owned(),
    ));
    world.smtp.reply_to_rcpt(
        "canary-anna@example.com",
        "550 5.1.1 <canary-anna@example.com> Canary Anna unknown",
    );
    world.set_clock("2026-01-05T13:10:00Z");
    program.tick(PARENT).await.expect("a summary");

    check_refused("a second start", program.start_run("c-1", timeline, PARENT).await);
    let request = pb::PauseTimelineRequest {
        customer_id: "c-1".to_owned(),
        progress_id: i64::MAX,
        ..Default::default()
    };
    check_refused(
        "a pause of no run",
        program.orchestrator().pause_timeline(request).await,
    );
    let wrong = pb::Customer {
        phone: "+14155550123-canary-anna".to_owned(),
        ..anna()
    };
    let request = pb::UpsertCustomersRequest {
        customers: vec![wrong],
        ..Default::default()
    };
    // Who gives what is wrong may be told what it is; nobody else.
    let _ = program.customers().upsert_customers(request).await;
    let _ = get(program.addr, "/api/v1/customers/c-1").await;
    let _ = get(program.addr, "/api/v1/customers?filter=canary-anna").await;
}

async fn nobody_who_watches_learns_who_a_customer_is(backend: Backend) {
    for format in ["text", "json"] {
        let world = World::start(backend).await;
        let pushed = format!("authorization=Bearer%20{PUSHED}");
        let settings = [
            ("CAMPAIGN_LOG_FORMAT", format),
            ("CAMPAIGN_LOG", "trace"),
            ("OTEL_EXPORTER_OTLP_HEADERS", &pushed),
        ];
        let program = world.serve(&settings).await;
        let phone = |hour| action(1, hour, pb::Channel::Phone, pb::ActionType::MakeCall, "A");
        let task = |hour| action(1, hour, pb::Channel::Interaction, pb::ActionType::CreateTask, "A");
        let actions = vec![
            email(1, 0, "A"),
            sms(1, 0, "A"),
            phone(0),
            task(0),
            email(1, 13, "A"),
            sms(1, 13, "A"),
            phone(13),
            task(13),
        ];
        let keyed = |(n, action): (usize, pb::ActionDefinition)| pb::ActionDefinition {
            key: format!("a{n}"),
            ..action
        };
        let actions = actions.into_iter().enumerate().map(keyed).collect();
        let timeline = program.prepare(anna(), actions).await;
        walk(&program, &world, timeline).await;
        assert!(
            world
                .smtp
                .deliveries()
                .iter()
                .any(|mail| mail.data.contains("Canary Anna")),
            "she got a mail"
        );
        assert!(
            world
                .twilio
                .requests()
                .iter()
                .any(|text| text.body.contains("4155550123")),
            "and a text message"
        );
        assert!(world.crm.requests().len() >= 2, "and a task");
        world
            .collector
            .until(TRACE, &["claim", "send", "POST", "record", "report"])
            .await;
        check("the metrics", &get(program.monitor, "/metrics").await.body);
        check("readiness", &get(program.monitor, "/readyz").await.body);
        let log = program.stop();
        assert!(log.contains("TRACE"), "the log is at its loudest");
        check(&format!("the log as {format}"), &log);
        for text in world.collector.texts() {
            check("what was pushed", &text);
        }
    }
}
