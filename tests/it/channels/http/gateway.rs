//! Text messages and calls through a gateway.

use campaign_automation::channels::{
    CallbackUrls, Content, GatewaySender, HttpClient, Message, Outcome, Sender, SmsLimit,
};
use campaign_automation::domain::PhoneNumber;
use std::sync::Arc;
use std::time::Duration;

use super::{KEY, check_broken_connections, client, golden, impatient, secrets, url};
use crate::channels::{kind, message};
use crate::support::http::{Behaviour, HttpServer};

fn gateway(client: Arc<HttpClient>, server: &HttpServer) -> GatewaySender {
    let to = url(&format!("http://{}/sms?key=s3cret", server.address()));
    GatewaySender::new(client, to, secrets(), None, SmsLimit::default(), None)
}

fn text() -> Content {
    Content::Sms {
        to: PhoneNumber::parse("+14155552671").expect("valid"),
        text: "Hi \"Zoë\"".to_owned(),
    }
}

fn call() -> Content {
    Content::Call {
        to: PhoneNumber::parse("+14155552671").expect("valid"),
        script: "Good day".to_owned(),
    }
}

#[tokio::test]
async fn a_text_message_is_asked_for_in_these_bytes() {
    let server = HttpServer::start().await;
    let outcome = gateway(client(), &server).send(&message(text())).await;
    let provider_id = KEY.to_owned();
    assert_eq!(outcome, Outcome::Delivered { provider_id });
    assert_eq!(
        golden(&server),
        "POST /sms?key=s3cret HTTP/1.1\r\n\
         content-type: application/json\r\n\
         webhook-id: 6f1c0de0-0000-4000-8000-000000000001\r\n\
         webhook-timestamp: 1767355200\r\n\
         webhook-signature: v1,gQvwgpTV7H8aCGZyCljjwAcur3b2XE6I4ixC4TOxr78=\r\n\
         idempotency-key: 6f1c0de0-0000-4000-8000-000000000001\r\n\
         accept: */*\r\n\
         user-agent: campaign-automation/0.1.0\r\n\
         host: 127.0.0.1:PORT\r\n\
         content-length: 200\r\n\
         \r\n\
         {\"id\":\"6f1c0de0-0000-4000-8000-000000000001\",\"type\":\"sms\",\"to\":\"+14155552671\",\"text\":\"Hi \\\"Zoë\\\"\",\
         \"attempt\":1,\"customer_id\":\"cus:1\",\"progress_id\":7,\"timeline\":\"hook-90-day\",\"action_key\":\"tip-day-10\"}"
    );
}

#[tokio::test]
async fn what_is_known_is_passed_on() {
    let server = HttpServer::start().await;
    let to = url(&format!("http://{}/calls", server.address()));
    let callbacks = CallbackUrls::new(|_| Some("https://campaigns.example/callbacks/x".to_owned()));
    let from = Some("+14155550100".to_owned());
    let sender = GatewaySender::new(client(), to, secrets(), from, SmsLimit::default(), Some(callbacks));
    let sent = Message {
        attempt: 2,
        valid_for: Some(Duration::from_secs(90)),
        ..message(call())
    };
    server.answer(202, "{\"id\":\"call-1\"}");
    let provider_id = "call-1".to_owned();
    assert_eq!(sender.send(&sent).await, Outcome::Delivered { provider_id });
    let expected = serde_json::json!({
        "id": KEY, "type": "call", "to": "+14155552671", "script": "Good day", "from": "+14155550100", "attempt": 2,
        "customer_id": "cus:1", "progress_id": 7, "timeline": "hook-90-day", "action_key": "tip-day-10", "valid_seconds": 90,
        "status_callback": "https://campaigns.example/callbacks/x",
    });
    assert_eq!(server.requests()[0].json(), expected);
}

#[tokio::test]
async fn the_gateway_says_what_happens_next() {
    let server = HttpServer::start().await;
    let sender = gateway(client(), &server);
    for (status, body, expected) in [
        (500, r#"{"outcome":"retry","retry_after_seconds":60}"#, "retry"),
        (400, r#"{"outcome":"rejected","error":"no"}"#, "rejected"),
        (400, r#"{"outcome":"suppress"}"#, "suppress"),
        (400, r#"{"outcome":"unknown"}"#, "unknown"),
        (400, r#"{"outcome":"misconfigured"}"#, "misconfigured"),
        (400, r#"{"outcome":"other"}"#, "rejected"),
        (401, "", "misconfigured"),
        (410, "", "misconfigured"),
        (429, "", "retry"),
        (502, "<html>", "unknown"),
    ] {
        for content in [text(), call()] {
            server.answer(status, body);
            let outcome = sender.send(&message(content)).await;
            assert_eq!(kind(&outcome), expected, "{status} {body}: {outcome:?}");
        }
    }
    server.answer(
        400,
        r#"{"outcome":"rejected","error":"+1 415-555-2671 of anna@example.org is bad"}"#,
    );
    let error = "HTTP 400: ***71 of *** is bad".to_owned();
    assert_eq!(sender.send(&message(text())).await, Outcome::Rejected { error });
}

#[tokio::test]
async fn a_broken_connection_leaves_the_outcome_unknown() {
    check_broken_connections(text(), |server| gateway(impatient(), server)).await;
}

#[tokio::test]
async fn what_can_not_be_sent_is_refused_before_anything_is() {
    let server = HttpServer::start().await;
    let sender = gateway(client(), &server);
    let long = Content::Sms {
        to: PhoneNumber::parse("+14155552671").expect("valid"),
        text: "a".repeat(1531),
    };
    let task = Content::Task {
        title: "Call".to_owned(),
        text: String::new(),
    };
    for content in [long, task] {
        assert_eq!(kind(&sender.send(&message(content)).await), "unsendable");
    }
    assert_eq!(server.requests(), []);
    server.behave(Behaviour::CloseAtOnce);
    assert!(!format!("{sender:?} {sender:#?}").contains("s3cret"));
}
