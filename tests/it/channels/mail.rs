//! What a mail says, read by a parser of mails that is not ours.

use campaign_automation::channels::{Content, DkimSigner, MailOptions, Mailbox, Message, OutboxSender, Sender};
use campaign_automation::clock::ManualClock;
use campaign_automation::domain::{EmailAddress, MailHeaders};
use mail_parser::{HeaderValue, MessageParser, MimeHeaders as _};
use std::sync::Arc;

use super::{delivered, files, from, message, noon, outbox, patient};
use crate::support::smtp::SmtpServer;

/// The Ed25519 key of RFC 8463, A.2. Its public half is `11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=`.
const ED25519: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

const LINK: &str = "https://mail.example.com/u/3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA_BCDEF";

fn options() -> MailOptions {
    let mut headers = MailHeaders::default();
    headers.add("precedence", "bulk").expect("allowed");
    headers
        .add("Feedback-ID", "HOOK-001:shop:campaigns:example")
        .expect("allowed");
    headers.add("Organization", &"word ".repeat(90)).expect("allowed");
    MailOptions {
        preheader: Some("20 % off <today> & \"tomorrow\"".to_owned()),
        sender: Some(Mailbox::parse("Züri, Inc. <sales@shop.example>").expect("valid")),
        reply_to: Some(Mailbox::parse("\"Help\" <help@shop.example>").expect("valid")),
        headers,
        unsubscribe_url: Some(LINK.to_owned()),
        return_path: Some(EmailAddress::parse("bounce+6f1c0de0@bounces.example.com").expect("valid")),
        reference: None,
    }
}

fn with(text: Option<&str>, html: Option<&str>, options: MailOptions) -> Message {
    message(Content::Email {
        to: EmailAddress::parse("anna@example.org").expect("valid"),
        to_name: "Anna".to_owned(),
        subject: "Grüße für dich".to_owned(),
        text: text.map(ToOwned::to_owned),
        html: html.map(ToOwned::to_owned),
        options: Box::new(options),
    })
}

/// The mail as the outbox writes it.
async fn built(message: &Message) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    assert_eq!(outbox(directory.path()).send(message).await, delivered());
    let mut files = files(directory.path());
    files.pop().expect("a mail").1
}

fn raw_headers<'a>(mail: &'a str, name: &str) -> Vec<&'a str> {
    let head = mail.split_once("\r\n\r\n").expect("a body").0;
    let is_it = |line: &&str| {
        line.split_once(':')
            .is_some_and(|(given, _)| given.eq_ignore_ascii_case(name))
    };
    head.split("\r\n").filter(is_it).collect()
}

#[tokio::test]
async fn a_mail_with_everything_reads_as_it_was_meant() {
    let (text, html) = (
        "Grüße\n\nTschüs",
        "<!DOCTYPE html><html><head><title>x</title></head><body class=\"a>b\"><p>Grüße</p></body></html>",
    );
    let raw = built(&with(Some(text), Some(html), options())).await;
    let mail = MessageParser::default().parse(raw.as_bytes()).expect("a mail");
    let mailbox = |address: Option<&mail_parser::Address<'_>>| {
        let first = address.and_then(|address| address.first()).expect("a mailbox");
        (
            first.name().unwrap_or_default().to_owned(),
            first.address().unwrap_or_default().to_owned(),
        )
    };
    let pair = |name: &str, address: &str| (name.to_owned(), address.to_owned());
    assert_eq!(mailbox(mail.from()), pair("Züri, Inc.", "sales@shop.example"));
    assert_eq!(mailbox(mail.to()), pair("Anna", "anna@example.org"));
    assert_eq!(mailbox(mail.reply_to()), pair("Help", "help@shop.example"));
    assert_eq!(mail.subject(), Some("Grüße für dich"));
    assert_eq!(
        mail.message_id(),
        Some("6f1c0de0-0000-4000-8000-000000000001@example.com"),
        "of the deployment's domain"
    );
    assert_eq!(
        mail.content_type().and_then(|given| given.subtype()),
        Some("alternative")
    );
    assert_eq!(
        (mail.text_body_count(), mail.html_body_count(), mail.attachment_count()),
        (1, 1, 0)
    );
    assert_eq!(
        mail.body_text(0).expect("a text").replace("\r\n", "\n").trim_end(),
        text
    );
    let hidden = "<body class=\"a>b\"><div style=\"display:none;max-height:0;max-width:0;opacity:0;overflow:hidden;mso-hide:all\">20 % off &lt;today&gt; &amp; &quot;tomorrow&quot;</div><p>Grüße</p>";
    let got = mail.body_html(0).expect("HTML").replace("\r\n", "");
    assert!(got.contains(hidden), "{got}");
    // Exactly one each, and on one line, because not every reader unfolds them.
    let unsubscribe = raw_headers(&raw, "List-Unsubscribe");
    assert_eq!(unsubscribe.len(), 1);
    assert!(matches!(
        mail.header("List-Unsubscribe"),
        Some(HeaderValue::Address(_) | HeaderValue::Text(_))
    ));
    let unfolded = raw.replace("\r\n ", " ");
    assert_eq!(
        raw_headers(&unfolded, "List-Unsubscribe")[0].replace(' ', ""),
        format!("List-Unsubscribe:<{LINK}>")
    );
    assert_eq!(
        raw_headers(&raw, "List-Unsubscribe-Post"),
        ["List-Unsubscribe-Post: List-Unsubscribe=One-Click"]
    );
    assert_eq!(raw_headers(&raw, "Precedence"), ["Precedence: bulk"]);
    assert_eq!(
        raw_headers(&raw, "Feedback-ID"),
        ["Feedback-ID: HOOK-001:shop:campaigns:example"]
    );
    assert_eq!(raw_headers(&raw, "Organization").len(), 1);
    assert!(raw.lines().all(|line| line.len() <= 998), "{raw}");
    for name in ["Return-Path", "Sender", "Bcc"] {
        assert_eq!(raw_headers(&raw, name), [""; 0], "{name}");
    }
}

#[tokio::test]
async fn one_part_alone_is_the_mail() {
    let text = built(&with(Some("Hi"), None, options())).await;
    let mail = MessageParser::default().parse(text.as_bytes()).expect("a mail");
    assert_eq!(mail.content_type().and_then(|given| given.subtype()), Some("plain"));
    assert!(
        !text.contains("display:none"),
        "a mail without HTML goes without a preheader: {text}"
    );
    let html = built(&with(None, Some("<p>Hi</p>"), options())).await;
    let mail = MessageParser::default().parse(html.as_bytes()).expect("a mail");
    assert_eq!(mail.content_type().and_then(|given| given.subtype()), Some("html"));
    let html = mail.body_html(0).expect("HTML");
    assert!(html.starts_with("<div style=\"display:none"), "{html}");
    let plain = built(&with(Some("Hi"), None, MailOptions::default())).await;
    for name in ["List-Unsubscribe", "List-Unsubscribe-Post", "Reply-To", "Precedence"] {
        assert_eq!(raw_headers(&plain, name), [""; 0], "{name}");
    }
}

#[tokio::test]
async fn the_hidden_text_comes_first_in_whatever_page() {
    for (html, before) in [
        ("<p>x", ""),
        ("<BODY\tdata-x='>'>\n<p>x", "<BODY\tdata-x='>'>"),
        ("<bodyguard><body>x", "<bodyguard><body>"),
        ("<html><head></head>x", "<html><head></head>"),
        ("<!doctype html>x", "<!doctype html>"),
        ("<html lang=de>x", "<html lang=de>"),
        ("<body", ""),
        ("<body class=\"", ""),
        ("İ<body>x", "İ<body>"),
    ] {
        let raw = built(&with(None, Some(html), options())).await;
        let mail = MessageParser::default().parse(raw.as_bytes()).expect("a mail");
        let got = mail.body_html(0).expect("HTML");
        assert!(got.starts_with(&format!("{before}<div style=")), "{html:?}: {got}");
    }
}

#[tokio::test]
async fn bounces_go_where_the_envelope_says() {
    for (sender, return_path, expected) in [
        (None, None, "news@example.com"),
        (Some("sales@shop.example"), None, "sales@shop.example"),
        (
            Some("sales@shop.example"),
            Some("bounce+1@bounces.example.com"),
            "bounce+1@bounces.example.com",
        ),
    ] {
        let server = SmtpServer::start().await;
        let options = MailOptions {
            sender: sender.map(|given| Mailbox::parse(given).expect("valid")),
            return_path: return_path.map(|given| EmailAddress::parse(given).expect("valid")),
            ..MailOptions::default()
        };
        let message = with(Some("Hi"), None, options);
        assert_eq!(
            patient(&server.url()).send(&message).await,
            delivered(),
            "the Message-ID stays"
        );
        assert_eq!(server.deliveries()[0].from, expected);
    }
}

#[tokio::test]
async fn a_link_that_is_none_never_gets_into_a_header() {
    let directory = tempfile::tempdir().expect("a directory");
    for hostile in [
        "",
        "x",
        "ftp://a",
        "https://a b",
        "https://a\r\nBcc: x@y.z",
        "https://a>, <mailto:x@y.z",
        "https://a/\u{e4}",
        "javascript:x",
    ] {
        let options = MailOptions {
            unsubscribe_url: Some(hostile.to_owned()),
            ..MailOptions::default()
        };
        let outcome = outbox(directory.path()).send(&with(Some("x"), None, options)).await;
        assert_eq!(super::kind(&outcome), "unsendable", "{hostile:?}: {outcome:?}");
    }
    for hostile in ["a\nb", "a\rb", "\0", "\u{85}", "\u{2028}", "\u{202e}"] {
        let options = MailOptions {
            preheader: Some(hostile.to_owned()),
            ..MailOptions::default()
        };
        let outcome = outbox(directory.path())
            .send(&with(Some("x"), Some("x"), options))
            .await;
        assert_eq!(super::kind(&outcome), "unsendable", "{hostile:?}: {outcome:?}");
    }
    assert_eq!(files(directory.path()).len(), 0);
}

#[tokio::test]
async fn a_signature_covers_every_header() {
    let directory = tempfile::tempdir().expect("a directory");
    let signer = Arc::new(DkimSigner::new("test", ED25519).expect("a key"));
    let clock = Arc::new(ManualClock::new(noon()));
    let sender = OutboxSender::new(directory.path(), from(), clock).expect("an outbox");
    let sender = sender.signed_by(Some(signer));
    let message = with(Some("Hi  \n\n\nyou \n\n"), Some("<p>Hi</p>"), options());
    assert_eq!(sender.send(&message).await, delivered());
    let signed = files(directory.path()).pop().expect("a mail").1;
    let unsigned = built(&message).await;
    let signature = signed.strip_suffix(&unsigned).expect("a header before the mail");
    let unfolded = signature.replace("\r\n", "").replace(' ', "");
    assert!(
        unfolded
            .starts_with("DKIM-Signature:v=1;a=ed25519-sha256;c=relaxed/relaxed;d=shop.example;s=test;t=1767355200;h="),
        "{unfolded}"
    );
    let covered = unfolded
        .split(";h=")
        .nth(1)
        .and_then(|rest| rest.split(';').next())
        .expect("h=");
    let head = unsigned.split_once("\r\n\r\n").expect("a body").0;
    let names = head
        .split("\r\n")
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_once(':'));
    for (name, _) in names {
        assert!(
            covered.split(':').any(|one| one.eq_ignore_ascii_case(name)),
            "{name} is not in {covered}"
        );
    }
    assert!(
        covered.contains(":list-unsubscribe:list-unsubscribe-post:"),
        "{covered}"
    );
    // This very mail was verified by dkimpy 1.1.8. Ed25519 always signs the same bytes alike.
    let told = unfolded.rsplit_once(";b=").expect("b=").1;
    let verified = "YCSsg0gv1iazfaKylXkkRH0PcUVlWLHIluPgS9/4x2jlRmUtUIcOC4Ai/06QEBmIT6HSbUNY+Ahc8v75Cu5FBA==";
    assert_eq!(told, verified);
    // For a verifier that is not ours, such as dkimpy's `dkimverify`.
    if let Ok(file) = std::env::var("CAMPAIGN_TEST_KEEP_MAIL") {
        std::fs::write(file, &signed).expect("written");
    }
}
