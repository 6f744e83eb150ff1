//! The senders against a mail server, HTTP servers and a directory.

mod http;
mod mail;
mod outbox;
mod smtp;

use campaign_automation::channels::{
    ChannelUrl, Content, Mailbox, Message, OutboxSender, Outcome, SmtpLimits, SmtpSender, TrustedRoots,
};
use campaign_automation::clock::ManualClock;
use campaign_automation::domain::{ActionId, CustomerId, EmailAddress, ProgressId, Slug};
use chrono::{DateTime, Utc};
use std::path::Path;
use std::sync::Arc;

const KEY: &str = "6f1c0de0-0000-4000-8000-000000000001";
const MESSAGE_ID: &str = "<6f1c0de0-0000-4000-8000-000000000001@example.com>";

fn noon() -> DateTime<Utc> {
    "2026-01-02T12:00:00Z".parse().expect("valid")
}

fn from() -> Mailbox {
    Mailbox::parse("Acme <news@example.com>").expect("valid")
}

fn mail_to(to: &str) -> Message {
    message(Content::Email {
        to: EmailAddress::parse(to).expect("valid"),
        to_name: "Anna".to_owned(),
        subject: "Hello".to_owned(),
        text: Some("Hi\n.dots\n..\nend".to_owned()),
        html: Some("<p>Hi</p>".to_owned()),
        options: Box::default(),
    })
}

fn message(content: Content) -> Message {
    let customer_id = CustomerId::parse("cus:1").expect("valid");
    Message {
        idempotency_key: KEY.to_owned(),
        attempt: 1,
        customer_id,
        progress_id: ProgressId(7),
        timeline: Slug::parse("hook-90-day").expect("valid"),
        action_id: ActionId(31),
        action_key: "tip-day-10".to_owned(),
        valid_for: None,
        content,
    }
}

fn mail() -> Message {
    mail_to("anna@example.org")
}

fn kind(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered { .. } => "delivered",
        Outcome::Retry { .. } => "retry",
        Outcome::Rejected { .. } => "rejected",
        Outcome::Unsendable { .. } => "unsendable",
        Outcome::Suppress { .. } => "suppress",
        Outcome::Unknown { .. } => "unknown",
        Outcome::Misconfigured { .. } => "misconfigured",
    }
}

fn delivered() -> Outcome {
    Outcome::Delivered {
        provider_id: MESSAGE_ID.to_owned(),
    }
}

/// A sender that waits so long that no test sees the end of it.
fn patient(url: &str) -> SmtpSender {
    sender(url, SmtpLimits::default())
}

fn sender(url: &str, limits: SmtpLimits) -> SmtpSender {
    let ChannelUrl::Smtp(server) = ChannelUrl::parse(url).expect("valid") else {
        panic!("not SMTP: {url}")
    };
    let clock = Arc::new(ManualClock::new(noon()));
    SmtpSender::new(server, &TrustedRoots::public(), from(), clock, limits).expect("TLS")
}

fn outbox(directory: &Path) -> OutboxSender {
    OutboxSender::new(directory, from(), Arc::new(ManualClock::new(noon()))).expect("a directory")
}

/// Names and contents of the files in a directory, hidden ones included, sorted.
fn files(directory: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let mut files: Vec<(String, String)> = entries
        .map(|entry| entry.expect("an entry"))
        .map(|entry| {
            let text = std::fs::read_to_string(entry.path()).expect("text");
            (entry.file_name().into_string().expect("UTF-8"), text)
        })
        .collect();
    files.sort();
    files
}
