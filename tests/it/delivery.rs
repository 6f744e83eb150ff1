//! What providers report of text messages and calls: asked for with each, believed of the provider alone, stored whatever the order,
//! and the end of not knowing.

mod gateway;
mod held;
mod hostile;
mod unknown;

use campaign_automation::engine::PublicUrl;
use campaign_automation::proto::campaign::v1 as pb;
use sea_orm::{ConnectionTrait as _, Database};

use crate::providers;
use crate::support::given::{action, customer, definition, shown, sms};
use crate::support::http::{Behaviour, HttpServer, Request, sid};
use crate::support::{App, Backend, on_each_database};
use crate::suppressions::answers::{self, PUBLIC, form, signature};
use crate::suppressions::links::{Answer, FORM, ask, listed};

on_each_database!(
    each_request_names_where_to_report,
    without_a_public_url_or_a_token_nothing_is_asked_for,
    what_was_handed_over_stays_so_and_shows_how_it_ended,
    who_is_not_the_provider_changes_nothing,
    what_can_not_be_stored_now_is_asked_for_again,
    reports_on_what_is_gone_are_taken_and_change_nothing,
    a_report_of_stop_suppresses_once,
);

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A server that is reached from outside.
async fn app(backend: Backend, twilio: &HttpServer) -> App {
    let crm = HttpServer::start().await;
    providers::app(backend, twilio, &crm, |config| {
        config.public_url = Some(PublicUrl::parse(PUBLIC).expect("a URL"));
        // However many answers are lost, it's no reason to leave the channel alone.
        config.limits.channel_failures = 0;
    })
    .await
}

fn call(hour: i32) -> pb::ActionDefinition {
    action(1, hour, pb::Channel::Phone, pb::ActionType::MakeCall, "B")
}

/// Starts a customer on a timeline of these actions on day 1.
async fn start(app: &App, actions: Vec<pb::ActionDefinition>) -> pb::Progress {
    let timeline = app.timeline(definition("hook", 1, actions)).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await
}

/// Where a request asks its provider to report: what is below the public URL.
#[track_caller]
pub(crate) fn place(request: &Request) -> String {
    let url = request.parameter("StatusCallback");
    let path = url.strip_prefix(PUBLIC).unwrap_or_else(|| panic!("{url}: {request:?}"));
    path.to_owned()
}

/// Reports with these parameters, signed as the provider signs.
async fn report_with(app: &App, place: &str, parameters: &[(&str, &str)]) -> Answer {
    let signature = signature("t0ken", &format!("{PUBLIC}{place}"), parameters);
    let headers = [FORM, ("X-Twilio-Signature", &signature)];
    ask(app, "POST", place, &headers, &form(parameters)).await
}

/// Reports a status.
pub(crate) async fn report(app: &App, place: &str, status: &str) {
    report_code(app, place, status, "").await;
}

/// Reports a status and a code.
async fn report_code(app: &App, place: &str, status: &str, code: &str) {
    let (id, status) = if place.contains("/call/") {
        (("CallSid", sid("CA", 77)), ("CallStatus", status))
    } else {
        (("MessageSid", sid("SM", 77)), ("MessageStatus", status))
    };
    let mut parameters = vec![("AccountSid", providers::ACCOUNT), (id.0, &id.1), status];
    if !code.is_empty() {
        parameters.push(("ErrorCode", code));
    }
    let answer = report_with(app, place, &parameters).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{status:?}");
}

/// The ledger.
async fn ledger(app: &App) -> Vec<pb::Execution> {
    let request = pb::ListExecutionsRequest::default();
    let listed = app.orchestrator().list_executions(request).await.expect("a ledger");
    listed.into_inner().executions
}

/// Changes what is stored.
async fn store(app: &App, statement: &str) {
    let database = Database::connect(&app.database.url).await.expect("the database");
    database.execute_unprepared(statement).await.expect(statement);
}

/// How many reports are kept for later.
async fn kept(app: &App, backend: Backend) -> usize {
    let rows = crate::support::Rows::of(app, backend).await.all().await;
    rows["delivery_reports"].len()
}

async fn each_request_names_where_to_report(backend: Backend) {
    let twilio = HttpServer::twilio().await;
    let app = app(backend, &twilio).await;
    start(&app, vec![sms(1, 0, "A"), call(1), sms(1, 2, "A")]).await;
    app.hourly().await;
    let requests = twilio.requests();
    let places: Vec<String> = requests.iter().map(place).collect();
    let [text, call, other] = &places[..] else {
        panic!("{requests:?}")
    };
    let token = text.strip_prefix("/callbacks/twilio/message/").expect("a token");
    assert_eq!(
        requests[0].body,
        format!(
            "To=%2B14155552671&From=%2B14155550100&Body=Hi+Customer+anna&StatusCallback=\
             https%3A%2F%2Fmail.example.com%2Fcampaigns%2Fcallbacks%2Ftwilio%2Fmessage%2F{token}"
        )
    );
    let token = call.strip_prefix("/callbacks/twilio/call/").expect("a token");
    assert_eq!(
        requests[1].body,
        format!(
            "To=%2B14155552671&From=%2B14155550100&Twiml=%3CResponse%3E%3CSay%3EGood+day+Customer+anna%3C%2FSay%3E%3C%2FResponse%3E\
             &StatusCallback=https%3A%2F%2Fmail.example.com%2Fcampaigns%2Fcallbacks%2Ftwilio%2Fcall%2F{token}\
             &StatusCallbackEvent=initiated&StatusCallbackEvent=ringing&StatusCallbackEvent=answered&StatusCallbackEvent=completed"
        )
    );
    assert_ne!(text, other, "each has its own");
    for place in &places {
        assert!(!place.contains("anna"), "nothing personal: {place}");
    }
    app.server.shutdown().await.expect("stopped");
}

async fn without_a_public_url_or_a_token_nothing_is_asked_for(backend: Backend) {
    let (twilio, crm) = (HttpServer::twilio().await, HttpServer::start().await);
    let by_key = format!(
        "twilio+http://SK1:t0ken@{}?account={}",
        twilio.address(),
        providers::ACCOUNT
    );
    for by_key in [None, Some(by_key)] {
        let app = providers::app(backend, &twilio, &crm, |config| {
            if let Some(url) = &by_key {
                config.public_url = Some(PublicUrl::parse(PUBLIC).expect("a URL"));
                config.channels.sms_url = campaign_automation::channels::ChannelUrl::parse(url).ok();
            }
        })
        .await;
        start(&app, vec![sms(1, 0, "A")]).await;
        app.hourly().await;
        let request = twilio.requests().pop().expect("a request");
        assert_eq!(request.parameter("StatusCallback"), "");
        let place = "/callbacks/twilio/message/x";
        let answer = report_with(&app, place, &[("MessageStatus", "sent")]).await;
        assert_eq!(answer.status, 404);
        assert!(answer.body.contains("--public-url"), "{}", answer.body);
        app.server.shutdown().await.expect("stopped");
    }
}

async fn what_was_handed_over_stays_so_and_shows_how_it_ended(backend: Backend) {
    let twilio = HttpServer::twilio().await;
    let app = app(backend, &twilio).await;
    start(&app, vec![sms(1, 0, "A"), call(1)]).await;
    app.hourly().await;
    let [text, call] = &twilio.requests()[..] else {
        panic!("two requests")
    };
    let (text, call) = (place(text), place(call));
    assert_eq!(ledger(&app).await[0].provider_status, "");
    assert_eq!(ledger(&app).await[0].provider_status_time, None);
    app.set("2026-01-05T12:00:07Z");
    report(&app, &text, "sent").await;
    report(&app, &call, "no-answer").await;
    app.set("2026-01-05T12:00:09Z");
    report_code(&app, &text, "undelivered", "30005").await;
    app.set("2026-01-05T12:00:11Z");
    for late in ["sent", "queued", "undelivered", "a-word-of-tomorrow"] {
        report(&app, &text, late).await;
        report(&app, &call, late).await;
    }
    let executions = ledger(&app).await;
    for (execution, id, status, code, time) in [
        (
            &executions[0],
            sid("SM", 1),
            "undelivered",
            "30005",
            "2026-01-05T12:00:09Z",
        ),
        (&executions[1], sid("CA", 2), "undelivered", "", "2026-01-05T12:00:11Z"),
    ] {
        assert_eq!(execution.outcome(), pb::ExecutionOutcome::Completed);
        assert_eq!(execution.provider_id, id, "that of the answer");
        assert_eq!(execution.provider_status, status);
        assert_eq!(execution.provider_error_code, code);
        assert_eq!(shown(execution.provider_status_time), time);
        assert_eq!(execution.resolve_time, None, "it was known before");
    }
    let run = app.progress("anna").await;
    assert_eq!(run.failed_actions, []);
    let done = run.completed_actions.iter();
    let done: Vec<_> = done
        .map(|done| (done.provider_status.as_str(), done.provider_error_code.as_str()))
        .collect();
    assert_eq!(done, [("undelivered", "30005"), ("undelivered", "")]);
    assert_eq!(
        shown(run.completed_actions[0].provider_status_time),
        "2026-01-05T12:00:09Z"
    );
    assert_eq!(kept(&app, backend).await, 0);
    app.server.shutdown().await.expect("stopped");
}

async fn who_is_not_the_provider_changes_nothing(backend: Backend) {
    let twilio = HttpServer::twilio().await;
    let app = app(backend, &twilio).await;
    start(&app, vec![sms(1, 0, "A"), call(1)]).await;
    app.hourly().await;
    let [text, call] = &twilio.requests()[..] else {
        panic!("two requests")
    };
    let (text, call) = (place(text), place(call));
    let parameters = [
        ("MessageSid", "SM1"),
        ("MessageStatus", "delivered"),
        ("CallStatus", "completed"),
    ];
    let body = form(&parameters);
    let sign = |token: &str, place: &str| signature(token, &format!("{PUBLIC}{place}"), &parameters);
    let cases: [(&str, &str, String); 5] = [
        ("no signature", &text, String::new()),
        ("another token", &text, sign("token", &text)),
        ("another URL", &text, sign("t0ken", &call)),
        ("another scheme", &text, sign("t0ken", &text).to_lowercase()),
        ("another's signature", &call, sign("t0ken", &text)),
    ];
    for (what, place, signature) in cases {
        let headers = [FORM, ("X-Twilio-Signature", signature.as_str())];
        let answer = ask(&app, "POST", place, &headers, &body).await;
        assert_eq!(answer.status, 403, "{what}");
    }
    // Signed, but at URLs that were not made here, or for something else.
    let last = text.chars().last().expect("a token");
    let forged = [
        format!("{}{}", &text[..text.len() - 1], if last == 'A' { 'B' } else { 'A' }),
        "/callbacks/twilio/message/x".to_owned(),
        format!("{text}A"),
        text.replace("/message/", "/call/"),
        call.replace("/call/", "/message/"),
    ];
    for place in &forged {
        assert_eq!(report_with(&app, place, &parameters).await.status, 403, "{place}");
    }
    let signed = sign("t0ken", &text);
    let headers = [FORM, ("X-Twilio-Signature", signed.as_str())];
    assert_eq!(ask(&app, "GET", &text, &headers, "").await.status, 405);
    assert_eq!(
        ask(&app, "POST", &text, &headers, &"x".repeat(70_000)).await.status,
        413
    );
    for nothing in [
        &[][..],
        &[("MessageStatus", "")],
        &[("MessageStatus", "\u{1}é")],
        &[("CallStatus", "ringing")],
    ] {
        assert_eq!(report_with(&app, &text, nothing).await.status, 400, "{nothing:?}");
    }
    for execution in ledger(&app).await {
        assert_eq!(execution.provider_status, "");
    }
    // What is signed counts, whatever else is in it.
    let long = "x".repeat(10_000);
    let answer = report_with(
        &app,
        &text,
        &[("MessageStatus", &long), ("ErrorCode", &long), ("MessageSid", &long)],
    )
    .await;
    assert_eq!(answer.status, 204);
    let execution = ledger(&app).await.remove(0);
    assert_eq!(
        (execution.provider_status.len(), execution.provider_error_code.len()),
        (32, 32)
    );
    app.server.shutdown().await.expect("stopped");
}

async fn what_can_not_be_stored_now_is_asked_for_again(backend: Backend) {
    let twilio = HttpServer::twilio().await;
    let app = app(backend, &twilio).await;
    start(&app, vec![sms(1, 0, "A")]).await;
    app.hourly().await;
    let place = place(&twilio.requests()[0]);
    let run = app.progress("anna").await;
    store(&app, "update customer_timeline_progress set status = 'of tomorrow'").await;
    let answer = report_with(&app, &place, &[("MessageStatus", "delivered")]).await;
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("retry-after: 30"), "{}", answer.head);
    let status = if run.status() == pb::ProgressStatus::Completed {
        "completed"
    } else {
        "active"
    };
    store(
        &app,
        &format!("update customer_timeline_progress set status = '{status}'"),
    )
    .await;
    report(&app, &place, "delivered").await;
    assert_eq!(ledger(&app).await[0].provider_status, "delivered");
    app.server.shutdown().await.expect("stopped");
}

async fn reports_on_what_is_gone_are_taken_and_change_nothing(backend: Backend) {
    let twilio = HttpServer::twilio().await;
    let app = app(backend, &twilio).await;
    start(&app, vec![sms(1, 0, "A"), sms(1, 1, "A")]).await;
    app.hourly().await;
    let places: Vec<String> = twilio.requests().iter().map(place).collect();
    store(&app, "delete from action_executions").await;
    report(&app, &places[0], "delivered").await;
    store(&app, "delete from customer_timeline_progress").await;
    report(&app, &places[1], "delivered").await;
    assert_eq!(ledger(&app).await, []);
    assert_eq!(kept(&app, backend).await, 0);
    app.server.shutdown().await.expect("stopped");
}

async fn a_report_of_stop_suppresses_once(backend: Backend) {
    let twilio = HttpServer::twilio().await;
    let app = app(backend, &twilio).await;
    start(&app, vec![sms(1, 0, "A"), sms(1, 13, "A")]).await;
    app.hourly().await;
    let place = place(&twilio.requests()[0]);
    // Numbers that can't be reached are shown, and not suppressed.
    for code in ["30003", "30005", "30006", "21614"] {
        report_code(&app, &place, "failed", code).await;
    }
    assert_eq!(listed(&app).await, []);
    // The customer has another number by then, which said nothing.
    let mut moved = customer("anna", "Etc/UTC");
    moved.phone = "+14155552699".to_owned();
    app.put_customer(moved).await;
    let stop = [
        ("MessageStatus", "undelivered"),
        ("ErrorCode", "21610"),
        ("To", "+14155552671"),
    ];
    for _ in 0..2 {
        assert_eq!(report_with(&app, &place, &stop).await.status, 204);
    }
    let [suppression] = &listed(&app).await[..] else {
        panic!("one")
    };
    assert_eq!(suppression.reason(), pb::SuppressionReason::Provider);
    assert_eq!(suppression.channel(), pb::Channel::Sms);
    // Lifted by the recipient's word, an old report does not bring it back.
    let answer = answers::answer(&app, &answers::message("+14155552671", "START")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(report_with(&app, &place, &stop).await.status, 204);
    assert_eq!(listed(&app).await, []);
    app.set("2026-01-05T13:30:00Z");
    app.hourly().await;
    assert_eq!(twilio.requests().len(), 2);
    assert_eq!(ledger(&app).await[0].provider_error_code, "21610");
    app.server.shutdown().await.expect("stopped");
}

/// Does not answer what it is asked, perhaps having done it.
fn lose_answers(twilio: &HttpServer) {
    twilio.behave(Behaviour::CloseUnanswered);
}
