//! Reports of a gateway of one's own: signed JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use campaign_automation::channels::{ChannelUrl, WebhookSecrets};
use campaign_automation::engine::PublicUrl;
use campaign_automation::proto::campaign::v1 as pb;
use ring::hmac::{self, HMAC_SHA256};
use serde_json::json;

use super::{PUBLIC, SECRET, call, ledger, start};
use crate::providers;
use crate::support::given::sms;
use crate::support::http::{Behaviour, HttpServer};
use crate::support::{App, Backend, on_each_database};
use crate::suppressions::links::{Answer, ask, listed};

on_each_database!(
    a_gateway_reports_under_its_signature,
    a_gateway_that_is_not_believed_changes_nothing,
);

const OLD_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

/// Noon of Monday, 5 January 2026, as the server's clock has it.
const NOON: i64 = 1_767_614_400;

async fn app(backend: Backend, gateway: &HttpServer) -> App {
    let crm = HttpServer::start().await;
    providers::app(backend, gateway, &crm, |config| {
        config.public_url = Some(PublicUrl::parse(PUBLIC).expect("a URL"));
        let url = format!("gateway+http://{}/sms", gateway.address());
        config.channels.sms_url = ChannelUrl::parse(&url).ok();
        config.channels.phone_url = ChannelUrl::parse(&url).ok();
        config.channels.providers.webhook_secret = WebhookSecrets::parse(&format!("{SECRET} {OLD_SECRET}")).ok();
    })
    .await
}

/// Reports with a body, signed with a secret at a time.
async fn report(app: &App, place: &str, secret: &str, second: i64, body: &str) -> Answer {
    let key = STANDARD.decode(secret.trim_start_matches("whsec_")).expect("base64");
    let key = hmac::Key::new(HMAC_SHA256, &key);
    let signature = STANDARD.encode(hmac::sign(&key, format!("msg_1.{second}.{body}").as_bytes()));
    let second = second.to_string();
    let signature = format!("v1,{} v1,{signature}", STANDARD.encode([7; 32]));
    let headers = [
        ("Content-Type", "application/json"),
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", &second),
        ("webhook-signature", &signature),
    ];
    ask(app, "POST", place, &headers, body).await
}

/// The places at which the requests so far ask for reports.
fn places(gateway: &HttpServer) -> Vec<String> {
    let requests = gateway.requests();
    let urls = requests.iter().map(|request| {
        let url = request.json()["status_callback"].as_str().expect("a URL").to_owned();
        url.strip_prefix(PUBLIC).expect("below the public URL").to_owned()
    });
    urls.collect()
}

async fn a_gateway_reports_under_its_signature(backend: Backend) {
    let gateway = HttpServer::start().await;
    let app = app(backend, &gateway).await;
    start(&app, vec![sms(1, 0, "A"), call(1), sms(1, 13, "A")]).await;
    gateway.behave(Behaviour::CloseUnanswered);
    app.hourly().await;
    let places = places(&gateway);
    assert_eq!(places.len(), 2);
    for place in &places {
        let token = place.strip_prefix("/callbacks/gateway/").expect("a token");
        assert!(!token.contains('/') && !token.contains("anna"), "{token}");
    }
    let sent = json!({"status": "sent", "id": "gw-7"}).to_string();
    let failed = json!({"status": "failed", "error_code": 17, "suppress": true, "more": {}}).to_string();
    assert_eq!(report(&app, &places[0], SECRET, NOON, &sent).await.status, 204);
    assert_eq!(
        report(&app, &places[1], OLD_SECRET, NOON - 299, &failed).await.status,
        204
    );
    let [text, call] = &ledger(&app).await[..] else {
        panic!("two attempts")
    };
    assert_eq!(text.outcome(), pb::ExecutionOutcome::Completed);
    assert_eq!(
        (text.provider_id.as_str(), text.provider_status.as_str()),
        ("gw-7", "sent")
    );
    assert_eq!(call.outcome(), pb::ExecutionOutcome::Failed);
    assert_eq!(call.detail, "the provider reports: failed, error 17");
    let [suppression] = &listed(&app).await[..] else {
        panic!("one")
    };
    assert_eq!(suppression.channel(), pb::Channel::Phone);
    app.server.shutdown().await.expect("stopped");
}

async fn a_gateway_that_is_not_believed_changes_nothing(backend: Backend) {
    let gateway = HttpServer::start().await;
    let app = app(backend, &gateway).await;
    start(&app, vec![sms(1, 0, "A")]).await;
    app.hourly().await;
    let place = places(&gateway).remove(0);
    let good = r#"{"status":"delivered"}"#;
    for (what, place, secret, second, body, status) in [
        (
            "another secret",
            place.as_str(),
            "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYY",
            NOON,
            good,
            403,
        ),
        ("old", &place, SECRET, NOON - 301, good, 403),
        ("of tomorrow", &place, SECRET, NOON + 301, good, 403),
        ("a forged URL", "/callbacks/gateway/x", SECRET, NOON, good, 403),
        ("one letter more", &format!("{place}A"), SECRET, NOON, good, 403),
        ("no JSON", &place, SECRET, NOON, "delivered", 400),
        ("no status", &place, SECRET, NOON, "{}", 400),
        ("an empty status", &place, SECRET, NOON, r#"{"status":" "}"#, 400),
        ("too large", &place, SECRET, NOON, &"x".repeat(70_000), 413),
    ] {
        assert_eq!(report(&app, place, secret, second, body).await.status, status, "{what}");
    }
    assert_eq!(ask(&app, "POST", &place, &[], good).await.status, 403, "no signature");
    assert_eq!(ledger(&app).await[0].provider_status, "");
    assert_eq!(report(&app, &place, SECRET, NOON, good).await.status, 204);
    assert_eq!(ledger(&app).await[0].provider_status, "delivered");
    app.server.shutdown().await.expect("stopped");
}
