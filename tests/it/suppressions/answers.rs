//! Answers of people to text messages: STOP stops, START starts again, and nobody but the provider can say so for them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use campaign_automation::channels::ChannelUrl;
use campaign_automation::engine::PublicUrl;
use campaign_automation::proto::campaign::v1 as pb;
use ring::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::links::{Answer, FORM, ask, listed};
use crate::providers::{self, ACCOUNT};
use crate::support::calls::completed;
use crate::support::given::{customer, definition, sms};
use crate::support::http::{HttpServer, twilio_error};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    stop_stops_all_text_messages_and_start_allows_them_again,
    start_takes_back_what_the_provider_had_heard_and_not_what_an_operator_said,
    answers_that_are_no_words_do_nothing,
    who_is_not_the_provider_is_refused,
    without_a_token_or_a_public_url_there_is_no_such_place,
    a_request_that_never_ends_is_not_waited_for,
);

const PLACE: &str = "/callbacks/twilio/inbound";

pub(crate) const PUBLIC: &str = "https://mail.example.com/campaigns";

const ANNA: &str = "+14155552671";

async fn app(backend: Backend, twilio: &HttpServer) -> App {
    let crm = HttpServer::start().await;
    providers::app(backend, twilio, &crm, |config| {
        config.public_url = Some(PublicUrl::parse(PUBLIC).expect("a URL"));
    })
    .await
}

/// The signature of Twilio's documentation: of a token, a URL, and the parameters sorted by name.
pub(crate) fn signature(token: &str, url: &str, parameters: &[(&str, &str)]) -> String {
    let mut sorted = parameters.to_vec();
    sorted.sort_unstable();
    let signed = sorted
        .iter()
        .flat_map(|(name, value)| [*name, *value])
        .collect::<String>();
    let key = hmac::Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes());
    STANDARD.encode(hmac::sign(&key, format!("{url}{signed}").as_bytes()))
}

pub(crate) fn form(parameters: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(parameters)
        .finish()
}

pub(crate) fn message<'a>(from: &'a str, body: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("MessageSid", "SM00000000000000000000000000000001"),
        ("AccountSid", ACCOUNT),
        ("From", from),
        ("To", "+14155550100"),
        ("Body", body),
    ]
}

/// Tells of an answer, as the provider does.
pub(crate) async fn answer(app: &App, parameters: &[(&str, &str)]) -> Answer {
    let signature = signature("t0ken", &format!("{PUBLIC}{PLACE}"), parameters);
    let headers = [FORM, ("X-Twilio-Signature", &signature)];
    ask(app, "POST", PLACE, &headers, &form(parameters)).await
}

async fn said(app: &App, from: &str, body: &str) {
    let answer = answer(app, &message(from, body)).await;
    assert_eq!(answer.status, 200, "{body}");
    assert!(answer.head.contains("content-type: text/xml"), "{}", answer.head);
    assert!(
        answer.body.ends_with("<Response/>"),
        "nothing is said back: {}",
        answer.body
    );
}

/// Two customers with numbers of their own, on a timeline with a text message at each of these hours of day 1.
async fn two(app: &App, hours: &[i32]) {
    let actions = hours.iter().map(|hour| sms(1, *hour, "A")).collect();
    let timeline = app.timeline(definition("hook", 1, actions)).await;
    for (id, phone) in [("anna", ANNA), ("berta", "+14155552672")] {
        let mut customer = customer(id, "Etc/UTC");
        phone.clone_into(&mut customer.phone);
        app.put_customer(customer).await;
        app.start_run(id, &timeline).await;
    }
}

async fn stop_stops_all_text_messages_and_start_allows_them_again(backend: Backend) {
    let twilio = HttpServer::twilio().await;
    let app = app(backend, &twilio).await;
    two(&app, &[0, 13, 14]).await;
    app.hourly().await;
    assert_eq!(twilio.requests().len(), 2);
    for word in ["STOP", " Stop. ", "unsubscribe"] {
        said(&app, ANNA, word).await;
    }
    let [suppression] = &listed(&app).await[..] else {
        panic!("one, however often it is said");
    };
    assert_eq!(suppression.reason(), pb::SuppressionReason::StopKeyword);
    assert_eq!(suppression.scope(), pb::SuppressionScope::All);
    assert_eq!(suppression.channel(), pb::Channel::Sms);
    app.set("2026-01-05T13:30:00Z");
    app.hourly().await;
    assert_eq!(twilio.requests().len(), 3, "only the other one's");
    assert_eq!(
        app.progress("anna").await.skipped_actions[0].reason(),
        pb::SkipReason::Suppressed
    );
    said(&app, ANNA, "start").await;
    assert_eq!(listed(&app).await, []);
    app.set("2026-01-05T14:30:00Z");
    app.hourly().await;
    assert_eq!(twilio.requests().len(), 5);
    assert_eq!(completed(&app.progress("anna").await).len(), 2);
    app.server.shutdown().await.expect("stopped");
}

async fn start_takes_back_what_the_provider_had_heard_and_not_what_an_operator_said(backend: Backend) {
    let twilio = HttpServer::twilio().await;
    let app = app(backend, &twilio).await;
    two(&app, &[0, 13]).await;
    twilio.behave(twilio_error(400, 21610, "Attempt to send to unsubscribed recipient"));
    app.hourly().await;
    twilio.accept_all();
    let reasons = |all: Vec<pb::Suppression>| all.iter().map(pb::Suppression::reason).collect::<Vec<_>>();
    assert_eq!(reasons(listed(&app).await), [pb::SuppressionReason::Provider; 2]);
    said(&app, ANNA, "START").await;
    assert_eq!(
        reasons(listed(&app).await),
        [pb::SuppressionReason::Provider],
        "the other one's"
    );
    let manual = super::address(pb::Channel::Sms, ANNA);
    app.suppress(manual).await.expect("a suppression");
    said(&app, ANNA, "STOP").await;
    said(&app, ANNA, "UNSTOP").await;
    let left = reasons(listed(&app).await);
    assert_eq!(left, [pb::SuppressionReason::Provider, pb::SuppressionReason::Manual]);
    app.server.shutdown().await.expect("stopped");
}

async fn answers_that_are_no_words_do_nothing(backend: Backend) {
    let twilio = HttpServer::twilio().await;
    let app = app(backend, &twilio).await;
    for body in [
        "",
        "Thank you!",
        "please don't stop",
        "HELP",
        "\u{0}",
        &"STOP".repeat(1000),
    ] {
        said(&app, ANNA, body).await;
    }
    for from in ["", "12345", "whatsapp:+14155552671", "anna"] {
        said(&app, from, "STOP").await;
    }
    assert_eq!(listed(&app).await, []);
    // In whatever language it was said, the provider says what it took it for.
    let mut parameters = message(ANNA, "ARRÊT").to_vec();
    parameters.push(("OptOutType", "STOP"));
    assert_eq!(answer(&app, &parameters).await.status, 200);
    assert_eq!(listed(&app).await.len(), 1);
    app.server.shutdown().await.expect("stopped");
}

async fn who_is_not_the_provider_is_refused(backend: Backend) {
    let twilio = HttpServer::twilio().await;
    let app = app(backend, &twilio).await;
    let stop = message(ANNA, "STOP");
    let body = form(&stop);
    let url = format!("{PUBLIC}{PLACE}");
    let good = signature("t0ken", &url, &stop);
    let others = message("+14155552672", "STOP");
    let cases: [(&str, String); 6] = [
        ("none", String::new()),
        ("another token", signature("token", &url, &stop)),
        ("another URL", signature("t0ken", &format!("{url}/"), &stop)),
        ("another's request", signature("t0ken", &url, &others)),
        ("a parameter less", signature("t0ken", &url, &stop[1..])),
        ("cut", good[..good.len() - 4].to_owned()),
    ];
    for (what, signature) in &cases {
        let headers = [FORM, ("X-Twilio-Signature", signature)];
        let answer = ask(&app, "POST", PLACE, &headers, &body).await;
        assert_eq!(answer.status, 403, "{what}");
    }
    let signed = [FORM, ("X-Twilio-Signature", good.as_str())];
    assert_eq!(ask(&app, "POST", PLACE, &[FORM], &body).await.status, 403);
    assert_eq!(
        ask(&app, "POST", &format!("{PLACE}?a=b"), &signed, &body).await.status,
        403
    );
    assert_eq!(ask(&app, "GET", PLACE, &signed, "").await.status, 405);
    assert_eq!(ask(&app, "POST", PLACE, &signed, &"x".repeat(70_000)).await.status, 413);
    assert_eq!(listed(&app).await, []);
    // A query that was given to the provider is signed with the rest.
    let with_query = signature("t0ken", &format!("{url}?a=b&c"), &stop);
    let headers = [FORM, ("X-Twilio-Signature", with_query.as_str())];
    assert_eq!(
        ask(&app, "POST", &format!("{PLACE}?a=b&c"), &headers, &body)
            .await
            .status,
        200
    );
    assert_eq!(listed(&app).await.len(), 1);
    app.server.shutdown().await.expect("stopped");
}

async fn a_request_that_never_ends_is_not_waited_for(backend: Backend) {
    let (twilio, crm) = (HttpServer::twilio().await, HttpServer::start().await);
    let app = providers::app(backend, &twilio, &crm, |config| {
        config.public_url = Some(PublicUrl::parse(PUBLIC).expect("a URL"));
        config.call_limit = Duration::from_millis(200);
    })
    .await;
    let mut stream = TcpStream::connect(app.server.addr()).await.expect("a connection");
    let head = format!("POST {PLACE} HTTP/1.1\r\nHost: mail.example.com\r\nContent-Length: 100\r\n\r\nBody=");
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut status = String::new();
    let mut reader = BufReader::new(stream);
    reader.read_line(&mut status).await.expect("an answer");
    assert!(status.contains(" 408 "), "{status}");
    app.server.shutdown().await.expect("stopped");
}

async fn without_a_token_or_a_public_url_there_is_no_such_place(backend: Backend) {
    let (twilio, crm) = (HttpServer::twilio().await, HttpServer::start().await);
    let by_key = format!("twilio+http://SK1:t0ken@{}?account={ACCOUNT}", twilio.address());
    for by_key in [None, Some(by_key)] {
        let app = providers::app(backend, &twilio, &crm, |config| {
            if let Some(url) = &by_key {
                config.public_url = Some(PublicUrl::parse(PUBLIC).expect("a URL"));
                config.channels.sms_url = Some(ChannelUrl::parse(url).expect("a URL"));
            }
        })
        .await;
        let answer = answer(&app, &message(ANNA, "STOP")).await;
        assert_eq!(answer.status, 404);
        assert!(answer.body.contains("--public-url"), "{}", answer.body);
        assert_eq!(listed(&app).await, []);
        app.server.shutdown().await.expect("stopped");
    }
}
