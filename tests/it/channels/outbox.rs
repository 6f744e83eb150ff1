//! What the file outbox writes.

use campaign_automation::channels::{Content, Message, OutboxSender, Outcome, Sender};
use campaign_automation::clock::ManualClock;
use campaign_automation::domain::PhoneNumber;
use chrono::Duration;
use std::sync::Arc;

use super::{KEY, delivered, files, from, kind, mail, mail_to, message, noon, outbox, patient};
use crate::support::smtp::SmtpServer;

#[tokio::test]
async fn the_outbox_has_the_very_mail_that_a_server_gets() {
    let server = SmtpServer::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let made = directory.path().join("made/when/missing");
    assert_eq!(outbox(&made).send(&mail()).await, delivered());
    assert_eq!(patient(&server.url()).send(&mail()).await, delivered());
    let name = format!("20260102T120000Z-cus_1-email-{KEY}-1.eml");
    assert_eq!(files(&made), [(name, server.deliveries()[0].data.clone())]);
}

#[tokio::test]
async fn the_outbox_takes_every_channel() {
    let phone = PhoneNumber::parse("+14155552671").expect("valid");
    let cases = [
        (
            "sms",
            Content::Sms {
                to: phone.clone(),
                text: "Hi \"you\"".to_owned(),
            },
            "to +14155552671, text Hi \"you\"",
        ),
        (
            "phone",
            Content::Call {
                to: phone,
                script: "Hello".to_owned(),
            },
            "to +14155552671, script Hello",
        ),
        (
            "interaction",
            Content::Task {
                title: "Call".to_owned(),
                text: String::new(),
            },
            "title Call, text ",
        ),
    ];
    for (channel, content, expected) in cases {
        let directory = tempfile::tempdir().expect("a directory");
        let name = format!("20260102T120000Z-cus_1-{channel}-{KEY}-1.json");
        let outcome = outbox(directory.path()).send(&message(content)).await;
        assert_eq!(
            outcome,
            Outcome::Delivered {
                provider_id: name.clone()
            }
        );
        let [(written, text)] = files(directory.path()).try_into().expect("one file");
        assert_eq!(written, name);
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for field in expected.split(", ") {
            let (key, value) = field.split_once(' ').expect("a key and a value");
            assert_eq!(json[key], value, "{text}");
        }
        assert_eq!(json["channel"], channel);
        assert_eq!(json["customer_id"], "cus:1");
        assert_eq!(json["idempotency_key"], KEY);
        assert_eq!(json["attempt"], 1);
        assert_eq!(json["time"], "2026-01-02T12:00:00Z");
    }
}

#[tokio::test]
async fn each_delivery_to_the_outbox_is_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let outbox = outbox(directory.path());
    for attempt in [1, 2, 2] {
        assert_eq!(outbox.send(&Message { attempt, ..mail() }).await, delivered());
    }
    let names: Vec<String> = files(directory.path()).into_iter().map(|(name, _)| name).collect();
    let name = |end: &str| format!("20260102T120000Z-cus_1-email-{KEY}-{end}.eml");
    assert_eq!(names, [name("1"), name("2-again2"), name("2")]);
}

#[tokio::test]
async fn the_outbox_sorts_by_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = Arc::new(ManualClock::new(noon()));
    let outbox = OutboxSender::new(directory.path(), from(), clock.clone()).expect("a directory");
    for text in ["first", "second", "third"] {
        let to = PhoneNumber::parse("+14155552671").expect("valid");
        outbox
            .send(&message(Content::Sms {
                to,
                text: text.to_owned(),
            }))
            .await;
        clock.advance(Duration::hours(7));
    }
    let texts: Vec<String> = files(directory.path()).into_iter().map(|(_, text)| text).collect();
    assert!(
        texts[0].contains("first") && texts[1].contains("second") && texts[2].contains("third"),
        "{texts:?}"
    );
}

#[tokio::test]
async fn the_outbox_refuses_as_a_server_would() {
    let directory = tempfile::tempdir().expect("a directory");
    let outbox = outbox(directory.path());
    let Outcome::Rejected { error } = outbox.send(&mail_to("anna@nobody.invalid")).await else {
        panic!("taken over")
    };
    assert!(error.starts_with("550 5.1.2 "), "{error}");
    // Its folder can't be made, as a file is in its place.
    std::fs::remove_dir(directory.path()).expect("removed");
    std::fs::write(directory.path(), "").expect("written");
    let outcome = outbox.send(&mail()).await;
    assert_eq!(kind(&outcome), "retry", "{outcome:?}");
    std::fs::remove_file(directory.path()).expect("removed");
}
