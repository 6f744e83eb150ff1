//! Tasks as webhooks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use campaign_automation::channels::{Content, HttpClient, Message, Outcome, Sender, WebhookSecrets, WebhookSender};
use ring::hmac;
use std::sync::Arc;

use super::{KEY, OLD_SECRET, SECRET, check_broken_connections, client, golden, impatient, secrets, url};
use crate::channels::{kind, message};
use crate::support::http::{Behaviour, HttpServer, Request};

fn webhook(client: Arc<HttpClient>, server: &HttpServer) -> WebhookSender {
    WebhookSender::new(
        client,
        url(&format!("http://{}/hooks/s3cret", server.address())),
        secrets(),
    )
}

fn task() -> Content {
    Content::Task {
        title: "Call Zoë".to_owned(),
        text: "She said \"maybe\"".to_owned(),
    }
}

/// Checks a signature as a receiver does that follows the specification.
fn is_signed(request: &Request, secret: &str) -> bool {
    let key = STANDARD
        .decode(secret.strip_prefix("whsec_").expect("a secret"))
        .expect("base64");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let (id, timestamp) = (request.header("webhook-id"), request.header("webhook-timestamp"));
    let signed = format!("{id}.{timestamp}.{}", request.body);
    let mut signatures = request.header("webhook-signature").split(' ');
    signatures.any(|signature| {
        let signature = STANDARD
            .decode(signature.strip_prefix("v1,").expect("a version"))
            .expect("base64");
        hmac::verify(&key, signed.as_bytes(), &signature).is_ok()
    })
}

#[tokio::test]
async fn a_task_is_created_with_these_bytes() {
    let server = HttpServer::start().await;
    let outcome = webhook(client(), &server).send(&message(task())).await;
    let provider_id = KEY.to_owned();
    assert_eq!(outcome, Outcome::Delivered { provider_id });
    assert_eq!(
        golden(&server),
        "POST /hooks/s3cret HTTP/1.1\r\n\
         content-type: application/json\r\n\
         webhook-id: 6f1c0de0-0000-4000-8000-000000000001\r\n\
         webhook-timestamp: 1767355200\r\n\
         webhook-signature: v1,yGTHxuDyh0pbRpJSNfvuRRZiiVCfi6Ipw7QJnGrSuD0=\r\n\
         accept: */*\r\n\
         user-agent: campaign-automation/0.1.0\r\n\
         host: 127.0.0.1:PORT\r\n\
         content-length: 282\r\n\
         \r\n\
         {\"type\":\"interaction.created\",\"timestamp\":\"2026-01-02T12:00:00Z\",\"data\":{\
         \"id\":\"6f1c0de0-0000-4000-8000-000000000001\",\"customer_id\":\"cus:1\",\"progress_id\":7,\"timeline\":\"hook-90-day\",\
         \"action_id\":31,\"action_key\":\"tip-day-10\",\"attempt\":1,\"title\":\"Call Zoë\",\"text\":\"She said \\\"maybe\\\"\"}}"
    );
}

#[tokio::test]
async fn receivers_can_check_who_it_is_from_while_secrets_are_replaced() {
    let server = HttpServer::start().await;
    let to = url(&format!("http://{}", server.address()));
    let both = WebhookSecrets::parse(&format!("{SECRET}\n{OLD_SECRET}\n")).expect("valid");
    let sender = WebhookSender::new(client(), to, both);
    for attempt in [1, 2] {
        let sent = Message {
            attempt,
            ..message(task())
        };
        assert_eq!(kind(&sender.send(&sent).await), "delivered");
        let request = server.requests().pop().expect("a request");
        assert!(
            is_signed(&request, SECRET) && is_signed(&request, OLD_SECRET),
            "{request:?}"
        );
        assert!(
            !is_signed(&request, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
            "{request:?}"
        );
        assert_eq!(request.header("webhook-id"), KEY, "the same over all attempts");
        assert_eq!(request.json()["data"]["attempt"], attempt);
    }
    assert!(webhook(client(), &server).send(&message(task())).await != Outcome::Rejected { error: String::new() });
    let request = server.requests().pop().expect("a request");
    assert!(is_signed(&request, SECRET) && !is_signed(&request, OLD_SECRET));
}

#[tokio::test]
async fn the_receivers_status_decides_what_happens_next() {
    let server = HttpServer::start().await;
    let sender = webhook(client(), &server);
    for (status, expected) in [
        (200, "delivered"),
        (202, "delivered"),
        (204, "delivered"),
        (301, "misconfigured"),
        (308, "misconfigured"),
        (400, "rejected"),
        (401, "misconfigured"),
        (404, "misconfigured"),
        (409, "retry"),
        (410, "misconfigured"),
        (422, "rejected"),
        (429, "retry"),
        (500, "retry"),
        (502, "retry"),
        (504, "retry"),
    ] {
        server.behave(Behaviour::Answer(
            status,
            "retry-after: 90\r\nlocation: /elsewhere\r\n",
            String::new(),
        ));
        let outcome = sender.send(&message(task())).await;
        assert_eq!(kind(&outcome), expected, "{status}: {outcome:?}");
        if let Outcome::Retry { after, .. } = outcome {
            assert_eq!(after.map(|after| after.as_secs()), Some(90), "{status}");
        }
    }
    assert_eq!(server.requests().len(), 15, "no redirect is followed");
    server.answer(201, r#"{"id":"task-9"}"#);
    let provider_id = "task-9".to_owned();
    assert_eq!(sender.send(&message(task())).await, Outcome::Delivered { provider_id });
    assert!(!format!("{sender:?} {sender:#?}").contains("s3cret"));
}

#[tokio::test]
async fn a_broken_connection_leaves_the_outcome_unknown() {
    check_broken_connections(task(), |server| webhook(impatient(), server)).await;
}
