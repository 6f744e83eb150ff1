//! Turns a message into the mail that goes over the wire, the same for a mail server and for the file outbox.
//!
//! The header set is fixed: From, To, Subject, Date, Message-ID, MIME-Version, Content-Type and, per part,
//! Content-Transfer-Encoding; where the message asks for it Reply-To, `List-Unsubscribe` with `List-Unsubscribe-Post`, and
//! headers from the list of `domain`; and a DKIM-Signature where there is a key. Over all attempts of one message the bytes are the
//! same but for the Date and the signature: the Message-ID, which is of the deployment's domain whoever the mail is from, and
//! the boundary come from the idempotency key. The Message-ID also has what the mail is known by when something comes back about it.
//!
//! Text and HTML are sent as they are given. Of one alone no other is made: a text that a machine made of HTML reads worse than
//! what mail programs make of it themselves.

use chrono::{DateTime, Utc};
use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox as LettreMailbox, MessageBuilder, MultiPart, SinglePart};
use std::fmt;
use std::time::SystemTime;

use super::DkimSigner;
use crate::channels::{Content, MailOptions, Message, Outcome};
use crate::domain::text::is_forbidden_in_line;

/// Who a mail is from: an address, and perhaps a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    name: Option<String>,
    address: lettre::Address,
}

/// Why a mailbox is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailboxError {
    /// The address is none.
    #[error("must be an address such as news@example.com, or a name and an address such as Acme <news@example.com>")]
    Address,
    /// Mail servers do not agree on other letters.
    #[error("the address must be ASCII; a domain with other letters is written in its xn-- form")]
    NotAscii,
    /// A character in the name that could break the header.
    #[error("the display name has a control character")]
    Name,
}

impl Mailbox {
    /// Reads `address`, `<address>`, `Name <address>` or `"Name" <address>`.
    pub fn parse(given: &str) -> Result<Self, MailboxError> {
        let given = given.trim();
        let (name, address) = match given.strip_suffix('>').and_then(|rest| rest.rsplit_once('<')) {
            Some((name, address)) => (name.trim(), address),
            None => ("", given),
        };
        let name = name
            .strip_prefix('"')
            .and_then(|name| name.strip_suffix('"'))
            .unwrap_or(name)
            .trim();
        if name.chars().any(is_forbidden_in_line) {
            return Err(MailboxError::Name);
        }
        if !address.is_ascii() {
            return Err(MailboxError::NotAscii);
        }
        let address = address.parse().map_err(|_| MailboxError::Address)?;
        Ok(Self {
            name: (!name.is_empty()).then(|| name.to_owned()),
            address,
        })
    }

    /// The part of the address after the `@`.
    pub fn domain(&self) -> &str {
        self.address.domain()
    }

    /// The name, unless it has none.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The address.
    pub fn address(&self) -> &str {
        self.address.as_ref()
    }

    fn for_header(&self) -> LettreMailbox {
        LettreMailbox::new(self.name.clone(), self.address.clone())
    }

    /// The Message-ID of the message with this idempotency key and reference, in angle brackets.
    fn message_id(&self, idempotency_key: &str, reference: Option<&str>) -> String {
        let reference = reference.map(|reference| format!(".{reference}")).unwrap_or_default();
        format!("<{idempotency_key}{reference}@{}>", self.domain())
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} <{}>", self.address),
            None => self.address.fmt(f),
        }
    }
}

/// A mail as it goes to a mail server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::channels) struct Mail {
    /// Who sends it, and to whom, as the mail server is told.
    pub(in crate::channels) envelope: Envelope,
    /// Its Message-ID, in angle brackets.
    pub(in crate::channels) message_id: String,
    /// The mail.
    pub(in crate::channels) text: String,
}

/// The mail that a message becomes, unsigned, as a mail server gets it; or what came of it, when it cannot be one. The mail is dated
/// `now`, and from `from` unless the message names somebody else.
pub fn mail_text(message: &Message, from: &Mailbox, now: DateTime<Utc>) -> Result<String, Outcome> {
    build_mail(message, from, None, now).map(|mail| mail.text)
}

/// Makes a mail of `message`, dated `now`; or says what came of it, when it cannot be one.
///
/// Names and subjects with control characters are refused here once more, because lettre panics on a display name with a
/// line break in it.
pub(in crate::channels) fn build_mail(
    message: &Message,
    from: &Mailbox,
    signer: Option<&DkimSigner>,
    now: DateTime<Utc>,
) -> Result<Mail, Outcome> {
    let Content::Email {
        to,
        to_name,
        subject,
        text,
        html,
        options,
    } = &message.content
    else {
        return Err(Outcome::Misconfigured {
            error: "a mail sender was given something that is not a mail".to_owned(),
        });
    };
    if to_name.chars().any(is_forbidden_in_line) {
        return Err(unsendable("the recipient's display name has a control character"));
    }
    if subject.chars().any(is_forbidden_in_line) {
        return Err(unsendable("the subject has a control character"));
    }
    let to: lettre::Address = to
        .as_str()
        .parse()
        .map_err(|_| unsendable("the recipient's address is not valid"))?;
    let to_name = Some(to_name.trim())
        .filter(|name| !name.is_empty())
        .map(ToOwned::to_owned);
    let sender = options.sender.as_ref().unwrap_or(from);
    let return_path = match &options.return_path {
        None => sender.address.clone(),
        Some(address) => address
            .as_str()
            .parse()
            .map_err(|_| unsendable("the address for bounces is not valid"))?,
    };
    let envelope = Envelope::new(Some(return_path), vec![to.clone()]).map_err(|error| refused(&error))?;
    let message_id = from.message_id(&message.idempotency_key, options.reference.as_deref());
    let mail = lettre::Message::builder()
        .envelope(envelope.clone())
        .from(sender.for_header())
        .to(LettreMailbox::new(to_name, to))
        // What looks like an encoded word (RFC 2047) would be decoded by whoever shows it.
        .subject(subject.replace("=?", "= ?"))
        .date(SystemTime::from(now))
        .message_id(Some(message_id.clone()));
    let mail = with_options(mail, options)?;
    let html = html.as_ref().map(|html| match &options.preheader {
        Some(preheader) => with_preheader(html, preheader),
        None => html.clone(),
    });
    let mail = match (text, &html) {
        (Some(text), Some(html)) => mail.multipart(
            MultiPart::alternative()
                .boundary(&message.idempotency_key)
                .singlepart(part(ContentType::TEXT_PLAIN, text))
                .singlepart(part(ContentType::TEXT_HTML, html)),
        ),
        (Some(text), None) => mail.singlepart(part(ContentType::TEXT_PLAIN, text)),
        (None, Some(html)) => mail.singlepart(part(ContentType::TEXT_HTML, html)),
        (None, None) => return Err(unsendable("the mail has neither text nor HTML")),
    }
    .map_err(|error| refused(&error))?;
    let mut text = String::from_utf8(mail.formatted()).map_err(|_| unsendable("the mail is not UTF-8"))?;
    if let Some(signer) = signer {
        let signature = signer.header(&text, sender.domain(), now);
        let signature = signature.map_err(|error| Outcome::Misconfigured {
            error: error.to_string(),
        })?;
        text.insert_str(0, &signature);
    }
    Ok(Mail {
        envelope,
        message_id,
        text,
    })
}

/// Adds the headers that the message asks for. What is not fit for one is refused, although it was when it came in.
fn with_options(mut mail: MessageBuilder, options: &MailOptions) -> Result<MessageBuilder, Outcome> {
    if options
        .preheader
        .iter()
        .any(|line| line.chars().any(is_forbidden_in_line))
    {
        return Err(unsendable("the preheader has a control character"));
    }
    if let Some(reply_to) = &options.reply_to {
        mail = mail.reply_to(reply_to.for_header());
    }
    if let Some(url) = &options.unsubscribe_url {
        let is_web = url.starts_with("https://") || url.starts_with("http://");
        if !is_web
            || !url
                .chars()
                .all(|c| c.is_ascii_graphic() && !matches!(c, '<' | '>' | ','))
        {
            return Err(unsendable("the link to unsubscribe is no URL"));
        }
        mail = mail
            .raw_header(header("List-Unsubscribe", &format!("<{url}>"))?)
            .raw_header(header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")?);
    }
    for (name, value) in options.headers.iter() {
        mail = mail.raw_header(header(name, value)?);
    }
    Ok(mail)
}

fn header(name: &str, value: &str) -> Result<HeaderValue, Outcome> {
    let wrong = || unsendable(&format!("the header {name} is not fit for a mail"));
    if value.chars().any(is_forbidden_in_line) {
        return Err(wrong());
    }
    let name = HeaderName::new_from_ascii(name.to_owned()).map_err(|_| wrong())?;
    Ok(HeaderValue::new(name, value.to_owned()))
}

/// The HTML with a hidden first text, which mail programs show beside the subject.
fn with_preheader(html: &str, preheader: &str) -> String {
    let escaped = preheader
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;");
    let hidden = "display:none;max-height:0;max-width:0;opacity:0;overflow:hidden;mso-hide:all";
    let (before, after) = html.split_at(start_of_text(html));
    format!("{before}<div style=\"{hidden}\">{escaped}</div>{after}")
}

/// Where the text of an HTML page begins: after its `<body>`, or what stands for it.
fn start_of_text(html: &str) -> usize {
    let lower = html.to_ascii_lowercase();
    ["<body", "</head", "<html", "<!doctype"]
        .into_iter()
        .find_map(|tag| end_of_tag(&lower, tag))
        .unwrap_or(0)
}

/// Where the first tag that begins like this ends, quoted `>` in its attributes left out.
fn end_of_tag(html: &str, tag: &str) -> Option<usize> {
    let begins = |(at, _): &(usize, &str)| {
        html[at + tag.len()..].starts_with(|next: char| next == '>' || next == '/' || next.is_ascii_whitespace())
    };
    let (start, _) = html.match_indices(tag).find(begins)?;
    let mut quote = None;
    for (at, c) in html[start..].char_indices() {
        match (quote, c) {
            (None, '>') => return Some(start + at + 1),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None | Some(_), _) => {}
        }
    }
    None
}

/// One part, with what RFC 5321 forbids in a body taken out: bare carriage returns and control characters.
fn part(content_type: ContentType, body: &str) -> SinglePart {
    let mut lines = body.replace("\r\n", "\n").replace('\r', "\n");
    lines.retain(|c| !c.is_control() || matches!(c, '\n' | '\t'));
    SinglePart::builder().header(content_type).body(lines)
}

fn unsendable(error: &str) -> Outcome {
    Outcome::Unsendable {
        error: error.to_owned(),
    }
}

fn refused(error: &lettre::error::Error) -> Outcome {
    Outcome::Unsendable {
        error: format!("the mail cannot be built: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ActionId, CustomerId, EmailAddress, ProgressId, Slug};

    fn message(to_name: &str, subject: &str, text: Option<&str>, html: Option<&str>) -> Message {
        Message {
            idempotency_key: "6f1c0de0-0000-4000-8000-000000000001".to_owned(),
            attempt: 1,
            customer_id: CustomerId::parse("cus-1").expect("valid"),
            progress_id: ProgressId(1),
            timeline: Slug::parse("hook").expect("valid"),
            action_id: ActionId(1),
            action_key: "a".to_owned(),
            valid_for: None,
            content: Content::Email {
                to: EmailAddress::parse("anna@example.org").expect("valid"),
                to_name: to_name.to_owned(),
                subject: subject.to_owned(),
                text: text.map(ToOwned::to_owned),
                html: html.map(ToOwned::to_owned),
                options: Box::default(),
            },
        }
    }

    fn built(message: &Message) -> Result<String, Outcome> {
        let from = Mailbox::parse("Acme <news@example.com>").expect("valid");
        let now = "2026-01-02T03:04:05Z".parse().expect("valid");
        build_mail(message, &from, None, now).map(|mail| mail.text)
    }

    #[test]
    fn the_header_set_is_fixed() {
        let mail = built(&message("Anna", "Hello", Some("Hi"), Some("<p>Hi</p>"))).expect("built");
        let (headers, body) = mail.split_once("\r\n\r\n").expect("a body");
        let names: Vec<&str> = headers
            .lines()
            .filter_map(|line| Some(line.split_once(": ")?.0))
            .collect();
        assert_eq!(
            names,
            [
                "From",
                "To",
                "Subject",
                "Date",
                "Message-ID",
                "MIME-Version",
                "Content-Type"
            ]
        );
        for line in [
            "From: Acme <news@example.com>",
            "To: Anna <anna@example.org>",
            "Date: Fri, 02 Jan 2026 03:04:05 +0000",
            "Message-ID: <6f1c0de0-0000-4000-8000-000000000001@example.com>",
        ] {
            assert!(headers.contains(line), "{line} is not in {headers}");
        }
        assert!(body.contains("Hi\r\n") && body.contains("<p>Hi</p>\r\n"), "{body}");
    }

    #[test]
    fn both_parts_make_alternatives_and_one_part_stands_alone() {
        for (text, html, content_type) in [
            (Some("a"), Some("b"), "multipart/alternative"),
            (Some("a"), None, "text/plain; charset=utf-8"),
            (None, Some("b"), "text/html; charset=utf-8"),
        ] {
            let mail = built(&message("", "s", text, html)).expect("built");
            assert!(mail.contains(&format!("Content-Type: {content_type}")), "{mail}");
        }
        assert!(matches!(
            built(&message("", "s", None, None)),
            Err(Outcome::Unsendable { .. })
        ));
    }

    #[test]
    fn attempts_have_the_same_bytes() {
        let message = message("Zoë", "Grüße", Some("a"), Some("b"));
        assert_eq!(built(&message), built(&Message { attempt: 2, ..message }));
    }

    #[test]
    fn hostile_names_and_subjects_are_rejected_without_a_panic() {
        for hostile in [
            "A\nB",
            "A\rB",
            "A\r\nBcc: x@y.z",
            "A\0B",
            "\u{1b}[2J",
            "\u{7f}",
            "\u{85}",
            "\u{2028}",
            "\u{202e}x",
        ] {
            let expected = |what: &str| {
                Err(Outcome::Unsendable {
                    error: format!("the {what} has a control character"),
                })
            };
            assert_eq!(
                built(&message(hostile, "s", Some("t"), None)),
                expected("recipient's display name")
            );
            assert_eq!(built(&message("n", hostile, Some("t"), None)), expected("subject"));
        }
    }

    #[test]
    fn odd_names_and_subjects_make_a_sound_mail() {
        let long = "ünï".repeat(2_000);
        for odd in [
            "\"",
            "\\",
            "<x@y.z>",
            "a@b.c, d@e.f",
            "=?utf-8?q?x?=",
            "🎈",
            ";:()[]",
            " x ",
            "\u{a0}",
            "?=",
            &long,
        ] {
            let mail = built(&message(odd, odd, Some("t"), None)).expect(odd);
            let headers = mail.split_once("\r\n\r\n").expect("a body").0;
            let unfolded = headers.replace("\r\n ", " ");
            assert_eq!(unfolded.lines().count(), 8, "{odd}: {headers}");
            assert!(unfolded.is_ascii() && !unfolded.contains("Bcc"), "{odd}: {headers}");
        }
    }

    #[test]
    fn a_subject_that_looks_encoded_is_not_decoded() {
        let mail = built(&message("n", "Hi =?utf-8?q?Bcc=3A_x=40y=2Ez?=", Some("t"), None)).expect("built");
        assert!(mail.contains("Subject: Hi = ?utf-8?q?Bcc=3A_x=40y=2Ez?=\r\n"), "{mail}");
    }

    #[test]
    fn a_body_has_no_bare_line_breaks_or_control_characters() {
        let mail = built(&message("", "s", Some("a\r\n.\rb\n\0c\u{8}\td"), None)).expect("built");
        let body = mail.split_once("\r\n\r\n").expect("a body").1;
        assert_eq!(body, "a\r\n.\r\nb\r\nc\td\r\n");
    }

    #[test]
    fn mailboxes_are_read() {
        for (given, shown) in [
            ("news@example.com", "news@example.com"),
            (" <news@example.com> ", "news@example.com"),
            ("Acme Inc. <news@example.com>", "Acme Inc. <news@example.com>"),
            ("\"Acme, Inc.\" <news@example.com>", "Acme, Inc. <news@example.com>"),
            ("Zoë <news@example.com>", "Zoë <news@example.com>"),
        ] {
            assert_eq!(Mailbox::parse(given).expect(given).to_string(), shown);
        }
        for (given, why) in [
            ("", MailboxError::Address),
            ("Acme", MailboxError::Address),
            ("Acme <news>", MailboxError::Address),
            ("Acme <news@example.com> x", MailboxError::Address),
            ("news@bücher.example", MailboxError::NotAscii),
            ("A\nB <news@example.com>", MailboxError::Name),
        ] {
            assert_eq!(Mailbox::parse(given), Err(why), "{given}");
        }
    }
}
