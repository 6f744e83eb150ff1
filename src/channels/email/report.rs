//! What mail servers write back about a mail: that it did not arrive (DSN, RFC 3464), or that its recipient complained (ARF, RFC 5965).
//!
//! Anybody can write such a mail. What it says about addresses is not believed: whom it is about is known by what the deployment
//! itself sealed into the mail that came back.

use mail_parser::{Message, MessageParser, MessagePart, MimeHeaders as _, PartType};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

use crate::domain::{FeedbackKind, MailStatus};

/// How many parts a mail has at most, those of mails in it counted.
const MOST_PARTS: usize = 100;

/// How deep mails in mails are looked into.
const MOST_NESTED: usize = 4;

/// What a mail server wrote about a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailReport {
    /// The same whenever it is read, and no other's: 39 printable ASCII characters.
    pub id: String,
    /// What became of the mail.
    pub kind: FeedbackKind,
    /// All that it says, decoded, to look for the mail's reference in: the report's own headers first.
    pub text: String,
}

/// Reads a mail as it came, headers first. None: it is no report, or of something that nothing follows from, such as a delay.
pub fn read_mail_report(raw: &[u8]) -> Option<MailReport> {
    if is_hostile(raw) {
        return None;
    }
    let mail = MessageParser::default().parse(raw)?;
    let kind = mail.parts.iter().find_map(kind_of)?;
    let mut text = String::from_utf8_lossy(raw).into_owned();
    add_decoded(&mail, &mut text, MOST_NESTED);
    let named = mail.message_id().map(str::as_bytes);
    let hash = Sha256::digest(named.unwrap_or(raw));
    let mut id = "report-".to_owned();
    for byte in &hash[..16] {
        // Writing to a string does not fail.
        let _ = write!(id, "{byte:02x}");
    }
    Some(MailReport { id, kind, text })
}

/// Whether mails may be in mails so deep that the parser, which goes down as deep, has no more room on its stack. Each takes a header.
fn is_hostile(raw: &[u8]) -> bool {
    let name = b"content-type";
    raw.windows(name.len())
        .filter(|word| word.eq_ignore_ascii_case(name))
        .nth(MOST_PARTS)
        .is_some()
}

/// What a part says became of a mail.
fn kind_of(part: &MessagePart<'_>) -> Option<FeedbackKind> {
    let content_type = part.content_type()?;
    if !content_type.ctype().eq_ignore_ascii_case("message") {
        return None;
    }
    let subtype = content_type.subtype().unwrap_or_default().to_ascii_lowercase();
    let text = String::from_utf8_lossy(part.contents());
    match subtype.as_str() {
        "delivery-status" | "global-delivery-status" => of_delivery(&text),
        "feedback-report" => of_complaint(&text),
        _ => None,
    }
}

/// What a delivery report says: of several recipients, about one who did not get it.
fn of_delivery(text: &str) -> Option<FeedbackKind> {
    let unix = text.replace("\r\n", "\n");
    let recipients: Vec<FeedbackKind> = unix.split("\n\n").filter_map(of_recipient).collect();
    let failed = recipients.iter().find(|kind| **kind != FeedbackKind::Delivered);
    failed.or(recipients.first()).copied()
}

fn of_recipient(fields: &str) -> Option<FeedbackKind> {
    let fields = unfolded(fields);
    match value(&fields, "action")?.to_ascii_lowercase().as_str() {
        "delivered" => Some(FeedbackKind::Delivered),
        action if action.starts_with("failed") => {
            let status = value(&fields, "status").and_then(MailStatus::find);
            // Some servers say the code in what the other one told them, and 5.0.0 themselves.
            let told = value(&fields, "diagnostic-code").and_then(MailStatus::find);
            let status = match status {
                Some(status) if !status.is_general() => Some(status),
                general => told.or(general),
            };
            let refusal = status.map(MailStatus::refusal);
            Some(refusal.map_or(FeedbackKind::Rejected, FeedbackKind::from))
        }
        _ => None,
    }
}

fn of_complaint(text: &str) -> Option<FeedbackKind> {
    let fields = unfolded(&text.replace("\r\n", "\n"));
    let kind = value(&fields, "feedback-type")?;
    kind.eq_ignore_ascii_case("abuse").then_some(FeedbackKind::Complaint)
}

/// Fields with those that go over several lines in one.
fn unfolded(fields: &str) -> String {
    fields.replace("\n ", " ").replace("\n\t", " ")
}

/// The value of the first field of this name.
fn value<'a>(fields: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = fields.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(known, _)| known.trim().eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim())
}

/// Adds what can't be read in the mail as it came.
fn add_decoded(mail: &Message<'_>, text: &mut String, depth: usize) {
    for part in &mail.parts {
        match &part.body {
            PartType::Message(inner) if depth > 0 => {
                if part.encoding != mail_parser::Encoding::None {
                    text.push_str(&String::from_utf8_lossy(inner.raw_message()));
                }
                add_decoded(inner, text, depth - 1);
            }
            PartType::Message(_) | PartType::Multipart(_) => {}
            PartType::Text(_) | PartType::Html(_) | PartType::Binary(_) | PartType::InlineBinary(_) => {
                if part.encoding != mail_parser::Encoding::None {
                    text.push('\n');
                    text.push_str(&String::from_utf8_lossy(part.contents()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(subtype: &str, fields: &str) -> String {
        let fields = fields.replace('\n', "\r\n");
        format!(
            "From: MAILER-DAEMON@mx.example\r\nMessage-ID: <1@mx.example>\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=x; boundary=\"b\"\r\n\r\n--b\r\n\r\nSorry.\r\n\
             --b\r\nContent-Type: message/{subtype}\r\n\r\n{fields}\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\
             Content-Transfer-Encoding: quoted-printable\r\n\r\nMessage-ID: <a=\r\nb@x.example>\r\n--b--\r\n"
        )
    }

    #[track_caller]
    fn check(subtype: &str, fields: &str, expected: Option<FeedbackKind>) {
        let found = read_mail_report(report(subtype, fields).as_bytes());
        assert_eq!(found.as_ref().map(|report| report.kind), expected, "{fields}");
        if let Some(found) = found {
            assert_eq!(found.id.len(), 39);
            assert!(found.text.contains("<ab@x.example>"), "decoded: {}", found.text);
        }
    }

    #[test]
    fn delivery_reports_say_what_became_of_a_mail() {
        let failed = |status: &str, told: &str| {
            format!(
                "Reporting-MTA: dns; mx.example\nArrival-Date: Mon, 5 Jan 2026\n\nFinal-Recipient: rfc822; a@b.example\n\
                 Action: failed\nStatus: {status}\nDiagnostic-Code: {told}\n"
            )
        };
        for (status, told, expected) in [
            ("5.1.1", "smtp; 550 no", FeedbackKind::HardBounce),
            ("5.1.10 (no null)", "smtp; 556 no", FeedbackKind::HardBounce),
            (
                "5.0.0",
                "smtp; 550-5.1.1 The account\n\tdoes not exist",
                FeedbackKind::HardBounce,
            ),
            ("5.0.0", "smtp; 550 No such user", FeedbackKind::Rejected),
            ("5.2.2", "smtp; 552 5.1.1 full", FeedbackKind::SoftBounce),
            ("4.4.7", "smtp; expired", FeedbackKind::SoftBounce),
            ("5.7.1", "smtp; 550 5.1.1 not", FeedbackKind::Blocked),
            ("5.6.0", "smtp; 550", FeedbackKind::Rejected),
            ("", "", FeedbackKind::Rejected),
        ] {
            check("delivery-status", &failed(status, told), Some(expected));
        }
        check(
            "Delivery-Status",
            "Reporting-MTA: dns; a\n\nAction: delivered\nStatus: 2.0.0\n\nACTION: Failed (gone)\nstatus:5.1.1\n",
            Some(FeedbackKind::HardBounce),
        );
        check(
            "delivery-status",
            "\n\nAction: delivered\nStatus: 2.0.0\n",
            Some(FeedbackKind::Delivered),
        );
        for nothing in [
            "Action: delayed\nStatus: 4.4.1\n",
            "Action: relayed\n",
            "Action: expanded\n",
            "Status: 5.1.1\n",
            "",
        ] {
            check("delivery-status", nothing, None);
        }
    }

    #[test]
    fn only_abuse_is_a_complaint() {
        check(
            "feedback-report",
            "Feedback-Type: abuse\nVersion: 1\n",
            Some(FeedbackKind::Complaint),
        );
        check(
            "feedback-report",
            "feedback-type: Abuse\n",
            Some(FeedbackKind::Complaint),
        );
        for other in ["not-spam", "fraud", "virus", "auth-failure", "other", ""] {
            check("feedback-report", &format!("Feedback-Type: {other}\n"), None);
        }
    }

    #[test]
    fn other_mails_are_no_reports_and_nothing_panics() {
        let good = report("delivery-status", "Action: failed\nStatus: 5.1.1\n");
        assert!(read_mail_report(good.as_bytes()).is_some());
        for other in [
            "",
            "x",
            "Subject: Out of office\r\n\r\nAction: failed\r\nStatus: 5.1.1\r\n",
            "Content-Type: message/delivery-status\r\n",
            &report("rfc822", "Action: failed\nStatus: 5.1.1\n"),
            &report("delivery-status-x", "Action: failed\nStatus: 5.1.1\n"),
        ] {
            assert_eq!(read_mail_report(other.as_bytes()), None, "{other}");
        }
        for end in (0..good.len()).step_by(7) {
            read_mail_report(&good.as_bytes()[..end]);
            read_mail_report(&good.as_bytes()[end..]);
        }
        read_mail_report(&[0xff; 5000]);
        let deep = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n".repeat(5_000);
        read_mail_report(deep.as_bytes());
        for depth in [MOST_PARTS, 300_000] {
            let nested = "Content-Type: message/rfc822\r\n\r\n".repeat(depth);
            read_mail_report(nested.as_bytes());
        }
    }
}
