//! What providers tell of messages: let in by signature, each event on its own, stored once, with what follows from it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use campaign_automation::channels::WebhookSecrets;
use campaign_automation::config::Config;
use campaign_automation::engine::BounceAddress;
use campaign_automation::proto::campaign::v1 as pb;
use pb::SuppressionReason as Reason;
use pb::SuppressionScope as Scope;
use ring::hmac::{self, HMAC_SHA256};
use serde_json::{Value, json};

use super::{Answer, ask, engagements, mail_to, suppressions};
use crate::support::given::{condition, customer, definition, email};
use crate::support::mailing::mailing_app_with;
use crate::support::smtp::SmtpServer;
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    what_comes_back_is_an_event_and_stops_what_it_should,
    three_soft_bounces_in_seven_days_stop_all,
    a_repetition_changes_nothing,
    an_address_is_known_without_its_mail,
    who_bounced_gets_no_more_and_conditions_see_why,
    a_bad_event_harms_no_other,
    who_has_not_the_secret_is_refused,
);

pub(super) const PLACE: &str = "/callbacks/events";

pub(super) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const OLD_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

pub(super) fn with_secret(config: &mut Config) {
    let secrets = format!("{SECRET}\n{OLD_SECRET}");
    config.feedback.events_secret = Some(WebhookSecrets::parse(&secrets).expect("secrets"));
    config.feedback.bounce_address = Some(BounceAddress::parse("bounces@example.com").expect("an address"));
}

/// A server that has sent a mail to each of these customers, and will send another each day at noon.
pub(super) async fn app_with(backend: Backend, smtp: &SmtpServer, customers: &[&str]) -> App {
    let app = mailing_app_with(backend, &smtp.url(), with_secret).await;
    let timeline = app
        .timeline(definition(
            "hook",
            10,
            (1..=10).map(|day| email(day, 12, "A")).collect(),
        ))
        .await;
    for id in customers {
        app.customer(id, "Etc/UTC").await;
        app.start_run(id, &timeline).await;
    }
    app.hourly().await;
    assert_eq!(smtp.mails(), customers.len());
    app
}

/// The Message-ID of the last mail to a customer.
pub(super) fn message_id(smtp: &SmtpServer, customer: &str) -> String {
    let mail = mail_to(smtp, &format!("{customer}@example.com"));
    format!("<{}>", mail.message_id().expect("a Message-ID"))
}

/// The headers of a signed request.
fn signed(secret: &str, seconds: i64, body: &str) -> [(&'static str, String); 3] {
    let key = STANDARD.decode(secret.trim_start_matches("whsec_")).expect("a secret");
    let signature = hmac::sign(
        &hmac::Key::new(HMAC_SHA256, &key),
        format!("msg_1.{seconds}.{body}").as_bytes(),
    );
    [
        ("webhook-id", "msg_1".to_owned()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", format!("v1,{}", STANDARD.encode(signature))),
    ]
}

fn now(app: &App) -> i64 {
    use campaign_automation::clock::Clock as _;
    app.clock.now().timestamp()
}

async fn post(app: &App, headers: &[(&str, String)], body: &str) -> Answer {
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    ask(app, "POST", PLACE, &headers, body).await
}

/// Tells of events, and gives the status of each.
async fn tell(app: &App, events: &[Value]) -> Vec<String> {
    let body = json!({ "events": events }).to_string();
    let answer = post(app, &signed(SECRET, now(app), &body), &body).await;
    let text = String::from_utf8(answer.body).expect("text");
    assert_eq!((answer.status, text.contains("results")), (200, true), "{text}");
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    let results = answer["results"].as_array().expect("results").iter();
    results
        .map(|result| result["status"].as_str().expect("a status").to_owned())
        .collect()
}

/// Scope and reason of what is in force.
pub(super) async fn in_force(app: &App) -> Vec<(Scope, Reason)> {
    let all = suppressions(app).await;
    all.iter().map(|one| (one.scope(), one.reason())).collect()
}

async fn what_comes_back_is_an_event_and_stops_what_it_should(backend: Backend) {
    type Case = (Value, &'static str, Option<(Scope, Reason)>);
    let hard = Some((Scope::All, Reason::HardBounce));
    let cases: [Case; 15] = [
        (json!({"type": "bounce", "bounce_class": "hard"}), "email.bounced", hard),
        (
            json!({"type": "bounce", "code": "550 5.1.1 no such user"}),
            "email.bounced",
            hard,
        ),
        (
            json!({"type": "bounce", "bounce_class": "soft", "code": "5.1.10"}),
            "email.bounced",
            hard,
        ),
        (
            json!({"type": "bounce", "bounce_class": "hard", "code": "5.0.0"}),
            "email.bounced",
            hard,
        ),
        (
            json!({"type": "bounce", "bounce_class": "hard", "code": "550"}),
            "email.bounced",
            hard,
        ),
        (
            json!({"type": "bounce", "bounce_class": "soft"}),
            "email.soft_bounced",
            None,
        ),
        (json!({"type": "bounce", "code": "4.2.2"}), "email.soft_bounced", None),
        (
            json!({"type": "bounce", "bounce_class": "hard", "code": "5.2.2"}),
            "email.soft_bounced",
            None,
        ),
        (
            json!({"type": "bounce", "bounce_class": "hard", "code": "550 5.7.1"}),
            "email.blocked",
            None,
        ),
        (
            json!({"type": "complaint"}),
            "email.complained",
            Some((Scope::Marketing, Reason::Complaint)),
        ),
        (
            json!({"type": "unsubscribe"}),
            "email.unsubscribed",
            Some((Scope::Marketing, Reason::Unsubscribed)),
        ),
        (json!({"type": "delivered"}), "email.delivered", None),
        (json!({"type": "open"}), "", None),
        (json!({"type": "click"}), "", None),
        (json!({"type": "reply"}), "", None),
    ];
    let smtp = SmtpServer::start().await;
    let ids: Vec<String> = (0..cases.len()).map(|n| format!("c{n}")).collect();
    let app = app_with(backend, &smtp, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut events = Vec::new();
    for (id, (event, ..)) in ids.iter().zip(&cases) {
        let mut event = event.clone();
        event["id"] = json!("evt 1");
        event["at"] = json!("2026-01-05T11:00:00.123456789+01:00");
        // Half of them by the one, and half by the other.
        if events.len() % 2 == 0 {
            event["message_id"] = json!(message_id(&smtp, id));
        } else {
            let deliveries = smtp.deliveries();
            let mail = deliveries
                .iter()
                .find(|mail| mail.to == [format!("{id}@example.com")])
                .expect("a mail");
            event["return_path"] = json!(mail.from.to_uppercase());
        }
        events.push(event);
    }
    assert_eq!(tell(&app, &events).await, vec!["recorded"; cases.len()]);
    let expected: Vec<_> = cases.iter().filter_map(|(.., stopped)| *stopped).collect();
    let mut found = in_force(&app).await;
    found.sort_unstable();
    let mut sorted = expected.clone();
    sorted.sort_unstable();
    assert_eq!(found, sorted);
    for (id, (event, name, _)) in ids.iter().zip(&cases) {
        let [stored] = &engagements(&app, id).await[..] else {
            panic!("one event: {event}")
        };
        assert_eq!(
            (stored.name.as_str(), stored.event_id.as_str()),
            (*name, "evt 1"),
            "{event}"
        );
        assert_eq!(stored.progress_id, app.progress(id).await.progress_id, "{event}");
        assert_eq!(stored.kind() == pb::EngagementKind::Custom, !name.is_empty(), "{event}");
        assert!(stored.action_id > 0);
    }
    app.server.shutdown().await.expect("stopped");
}

async fn three_soft_bounces_in_seven_days_stop_all(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app_with(backend, &smtp, &["anna", "berta"]).await;
    let soft = |id: &str, customer: &str, at: &str| json!({"id": id, "type": "bounce", "bounce_class": "soft", "at": at, "message_id": message_id(&smtp, customer)});
    app.set("2026-01-20T12:00:00Z");
    let days = ["2026-01-05T12:00:00Z", "2026-01-09T12:00:00Z", "2026-01-12T12:00:01Z"];
    for (n, at) in days.iter().enumerate() {
        tell(&app, &[soft(&format!("e{n}"), "anna", at)]).await;
    }
    // Three, but within a second more than seven days; and one that comes twice.
    for _ in 0..3 {
        tell(&app, &[soft("e2", "anna", days[2]), soft("e0", "berta", days[0])]).await;
    }
    assert_eq!(in_force(&app).await, []);
    // Told late: what counts is when it was.
    tell(&app, &[soft("e3", "anna", "2026-01-05T12:00:01Z")]).await;
    assert_eq!(in_force(&app).await, [(Scope::All, Reason::SoftBounces)]);
    let id = suppressions(&app).await[0].suppression_id;
    let lift = pb::LiftSuppressionRequest {
        suppression_id: id,
        reason: "there is room again".to_owned(),
        ..Default::default()
    };
    app.sending().lift_suppression(lift).await.expect("lifted");
    app.set("2026-01-21T12:00:00Z");
    for n in 4..6 {
        tell(&app, &[soft(&format!("e{n}"), "anna", "2026-01-21T11:00:00Z")]).await;
        assert_eq!(in_force(&app).await, [], "only what came since counts");
    }
    tell(&app, &[soft("e6", "anna", "2026-01-21T12:00:00Z")]).await;
    assert_eq!(in_force(&app).await, [(Scope::All, Reason::SoftBounces)]);
    app.server.shutdown().await.expect("stopped");
}

async fn a_repetition_changes_nothing(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app_with(backend, &smtp, &["anna", "berta"]).await;
    let events = [
        json!({"id": "1", "type": "bounce", "bounce_class": "hard", "message_id": message_id(&smtp, "anna")}),
        json!({"id": "2", "type": "delivered", "message_id": message_id(&smtp, "berta")}),
    ];
    assert_eq!(tell(&app, &events).await, ["recorded", "recorded"]);
    let id = suppressions(&app).await[0].suppression_id;
    let lift = pb::LiftSuppressionRequest {
        suppression_id: id,
        reason: "a mistake of theirs".to_owned(),
        ..Default::default()
    };
    app.sending().lift_suppression(lift).await.expect("lifted");
    for _ in 0..2 {
        assert_eq!(tell(&app, &events).await, ["duplicate", "duplicate"]);
    }
    assert_eq!(in_force(&app).await, []);
    let twice = [events[0].clone(), events[0].clone()].map(|mut event| {
        event["id"] = json!("3");
        event
    });
    let mut statuses = tell(&app, &twice).await;
    statuses.sort_unstable();
    assert_eq!(statuses, ["duplicate", "recorded"]);
    assert_eq!(in_force(&app).await.len(), 1);
    app.server.shutdown().await.expect("stopped");
}

async fn an_address_is_known_without_its_mail(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app_with(backend, &smtp, &["anna"]).await;
    let old = message_id(&smtp, "anna");
    let statuses = tell(
        &app,
        &[
            json!({"id": "1", "type": "open", "address": "ANNA@example.com"}),
            json!({"id": "2", "type": "bounce", "bounce_class": "hard", "address": "nobody@example.com"}),
            json!({"id": "3", "type": "open", "address": "nobody@example.com"}),
            json!({"id": "4", "type": "bounce", "bounce_class": "hard", "address": "+14155552671", "channel": "sms"}),
            json!({"id": "5", "type": "open", "message_id": "<20260105.1@example.com>"}),
        ],
    )
    .await;
    assert_eq!(statuses, ["recorded", "recorded", "unknown", "recorded", "unknown"]);
    let mut found = in_force(&app).await;
    found.sort_unstable();
    assert_eq!(
        found,
        [(Scope::All, Reason::HardBounce), (Scope::All, Reason::Provider)]
    );
    let mut names: Vec<String> = engagements(&app, "anna")
        .await
        .into_iter()
        .map(|event| event.name)
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["", "sms.bounced"]);
    // A mail to an address that its customer has no more says nothing about the new one.
    let mut moved = customer("anna", "Etc/UTC");
    moved.email = "anna@new.example.com".to_owned();
    app.put_customer(moved).await;
    let late = json!({"id": "6", "type": "complaint", "message_id": old});
    assert_eq!(tell(&app, &[late]).await, ["unknown"]);
    assert_eq!(in_force(&app).await.len(), 2);
    app.server.shutdown().await.expect("stopped");
}

async fn who_bounced_gets_no_more_and_conditions_see_why(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app_with(backend, &smtp.url(), with_secret).await;
    let bounced = pb::EventOccurred {
        name: "email.bounced".to_owned(),
        within_hours: 48,
    };
    let call = pb::ActionDefinition {
        conditions: vec![condition(
            pb::condition::Test::Event(bounced),
            pb::ConditionThen::Execute,
        )],
        ..crate::support::given::sms(1, 14, "A")
    };
    let actions = vec![email(1, 0, "A"), email(1, 13, "A"), call];
    let timeline = app.timeline(definition("hook", 1, actions)).await;
    for id in ["anna", "berta"] {
        app.customer(id, "Etc/UTC").await;
        app.start_run(id, &timeline).await;
    }
    app.hourly().await;
    assert!(
        smtp.deliveries().iter().all(|mail| mail.from.starts_with("bounces+")),
        "{:?}",
        smtp.deliveries()
    );
    let event = json!({"id": "1", "type": "bounce", "code": "5.1.1", "message_id": message_id(&smtp, "anna")});
    assert_eq!(tell(&app, &[event]).await, ["recorded"]);
    app.tick_hours(2).await;
    let (anna, berta) = (app.progress("anna").await, app.progress("berta").await);
    assert_eq!(anna.skipped_actions[0].reason(), pb::SkipReason::Suppressed, "{anna:?}");
    assert_eq!((anna.completed_actions.len(), anna.skipped_actions.len()), (2, 1));
    assert_eq!(
        berta.skipped_actions[0].reason(),
        pb::SkipReason::Condition,
        "{berta:?}"
    );
    app.server.shutdown().await.expect("stopped");
}

async fn a_bad_event_harms_no_other(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app_with(backend, &smtp, &["anna"]).await;
    let good = json!({"id": "1", "type": "delivered", "address": "anna@example.com"});
    let change = |name: &str, value: Value| {
        let mut event = good.clone();
        event[name] = value;
        event
    };
    let bad = [
        json!(null),
        json!([]),
        json!({}),
        change("id", json!("")),
        change("id", json!("x".repeat(129))),
        change("id", json!("a\nb")),
        change("id", json!(7)),
        change("type", json!("bounced")),
        change("type", json!("bounce")),
        change("bounce_class", json!("hard")),
        json!({"id": "1", "type": "bounce", "bounce_class": "HARD", "code": "5.1.1", "address": "anna@example.com"}),
        change("at", json!("yesterday")),
        change("at", json!("2026-01-05T12:05:01Z")),
        change("at", json!("1999-12-31T23:59:59Z")),
        change("address", json!("anna")),
        change("channel", json!("fax")),
        change("channel", json!("sms")),
        change("bounceclass", json!("hard")),
        json!({"id": "1", "type": "delivered"}),
    ];
    let mut all = bad.to_vec();
    all.insert(5, good.clone());
    let statuses = tell(&app, &all).await;
    for (n, status) in statuses.iter().enumerate() {
        assert_eq!(status, if n == 5 { "recorded" } else { "refused" }, "{}", all[n]);
    }
    assert_eq!(engagements(&app, "anna").await.len(), 1);
    for body in [
        "",
        "{}",
        "[]",
        "null",
        "{\"events\": {}}",
        "{\"events\": [], \"more\": 1}",
        "{\"events\": [",
    ] {
        let answer = post(&app, &signed(SECRET, now(&app), body), body).await;
        assert_eq!(answer.status, 400, "{body}");
    }
    let many = |count: usize| {
        let event = |n: usize| change("id", json!(format!("m{n}")));
        (0..count).map(event).collect::<Vec<_>>()
    };
    assert_eq!(tell(&app, &many(1000)).await, vec!["recorded"; 1000]);
    assert_eq!(tell(&app, &[]).await, Vec::<String>::new());
    let body = json!({ "events": many(1001) }).to_string();
    assert_eq!(post(&app, &signed(SECRET, now(&app), &body), &body).await.status, 413);
    app.server.shutdown().await.expect("stopped");
}

async fn who_has_not_the_secret_is_refused(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app_with(backend, &smtp, &["anna"]).await;
    let event = json!({"id": "1", "type": "bounce", "bounce_class": "hard", "address": "anna@example.com"});
    let body = json!({ "events": [event] }).to_string();
    let now = now(&app);
    let good = signed(SECRET, now, &body);
    let stranger = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYY";
    let bearer = |secret: &str| vec![("Authorization", format!("Bearer {secret}"))];
    for headers in [
        vec![],
        good[..2].to_vec(),
        good[1..].to_vec(),
        signed(stranger, now, &body).to_vec(),
        signed(SECRET, now - 301, &body).to_vec(),
        signed(SECRET, now + 301, &body).to_vec(),
        signed(SECRET, now, &body.replace("anna", "bert")).to_vec(),
        bearer(stranger),
        bearer(""),
        [bearer(stranger), good.to_vec()].concat(),
        vec![("Authorization", format!("Basic {SECRET}"))],
    ] {
        assert_eq!(post(&app, &headers, &body).await.status, 403, "{headers:?}");
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(ask(&app, "POST", "/callbacks/mail", &headers, &body).await.status, 403);
    }
    for place in [PLACE, "/callbacks/mail"] {
        assert_eq!(ask(&app, "GET", place, &[], "").await.status, 405);
    }
    assert_eq!(post(&app, &good, &"x".repeat(2 * 1024 * 1024 + 1)).await.status, 413);
    assert_eq!(in_force(&app).await, []);
    for headers in [
        signed(OLD_SECRET, now - 299, &body).to_vec(),
        good.to_vec(),
        bearer(SECRET),
    ] {
        assert_eq!(post(&app, &headers, &body).await.status, 200);
    }
    assert_eq!(in_force(&app).await.len(), 1);
    app.server.shutdown().await.expect("stopped");

    let app = App::start(backend).await;
    for place in [PLACE, "/callbacks/mail"] {
        let answer = ask(&app, "POST", place, &[("Authorization", "Bearer x")], "{}").await;
        assert_eq!(answer.status, 404);
        assert!(String::from_utf8_lossy(&answer.body).contains("--events-secret-file"));
    }
    app.server.shutdown().await.expect("stopped");
}
