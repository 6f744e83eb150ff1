//! What a failed delivery means, and so what happens next.
//!
//! | what happened | outcome |
//! |---|---|
//! | 4yz, no connection, a connection lost or silent before the message was handed over | retry |
//! | a connection lost or silent from the message's first byte on | unknown |
//! | 5yz with x.3.x but x.3.4, or x.4.x (RFC 3463): their system or their network; to RCPT or to the message also x.2.2: the mailbox is full | retry |
//! | 5yz to RCPT or to the message, with x.1.1, x.1.6 or x.1.10 (RFC 3463): no such mailbox | suppress |
//! | 530, 534, 535, 538; 5yz while connecting or logging in; TLS, certificate | misconfigured |
//! | 5yz to MAIL, which names but our own address, unless it is about the message's size or letters | misconfigured |
//! | 5yz to RCPT or to the message with x.7.x: policy, authentication or reputation, which says nothing about the recipient | rejected, with an alarm |
//! | any other 5yz, such as x.3.4: the message is too big and stays so | rejected |
//!
//! A connection that broke while the message was being written counts as unknown, although the server can hardly have
//! taken it: lettre does not say whether writing or reading failed.

use std::fmt;

use super::session::{Cause, Failure, Step};
use crate::channels::Outcome;
use crate::domain::text::shortened;
use crate::domain::{MailRefusal, MailStatus};

impl Failure {
    /// What happens next.
    pub(super) fn outcome(&self) -> Outcome {
        let error = self.to_string();
        match &self.cause {
            Cause::Reply { code, text } => self.outcome_of_reply(*code, text, error),
            Cause::SetUp(_) => Outcome::Misconfigured { error },
            Cause::Lost(_) | Cause::TimedOut if self.step == Step::Body => Outcome::Unknown { error },
            Cause::Lost(_) | Cause::TimedOut => Outcome::Retry { error, after: None },
        }
    }

    fn outcome_of_reply(&self, code: u16, text: &str, error: String) -> Outcome {
        if code < 500 {
            return Outcome::Retry { error, after: None };
        }
        if matches!(code, 530 | 534 | 535 | 538) {
            return Outcome::Misconfigured { error };
        }
        let status = enhanced_status(text);
        let refusal = status.map(MailStatus::refusal);
        let is_full_mailbox = matches!(status, Some(MailStatus { subject: 2, .. }));
        if refusal == Some(MailRefusal::Trouble) && (!is_full_mailbox || self.is_about_recipient()) {
            return Outcome::Retry { error, after: None };
        }
        match self.step {
            Step::Mail if code == 552 || is_about_message(status) => Outcome::Rejected { error },
            Step::Connect | Step::Login | Step::Mail => Outcome::Misconfigured { error },
            Step::Rcpt | Step::Data | Step::Body if refusal == Some(MailRefusal::NoSuchMailbox) => {
                Outcome::Suppress { error }
            }
            Step::Rcpt | Step::Data | Step::Body => Outcome::Rejected { error },
        }
    }

    /// Whether a server refused the mail by policy (5.7.x): somebody must look at the sender's reputation and signatures. The
    /// recipient may well exist, and the next recipient may be refused likewise.
    pub(super) fn is_policy(&self) -> bool {
        match &self.cause {
            Cause::Reply { code, text } => {
                let refusal = enhanced_status(text).map(MailStatus::refusal);
                *code >= 500 && self.is_about_recipient() && refusal == Some(MailRefusal::Policy)
            }
            Cause::Lost(_) | Cause::TimedOut | Cause::SetUp(_) => false,
        }
    }

    /// Whether the server had been told of the recipient.
    fn is_about_recipient(&self) -> bool {
        match self.step {
            Step::Connect | Step::Login | Step::Mail => false,
            Step::Rcpt | Step::Data | Step::Body => true,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.step {
            Step::Connect => "connecting to the mail server",
            Step::Login => "logging in to the mail server",
            Step::Mail => "naming the sender",
            Step::Rcpt => "naming the recipient",
            Step::Data => "announcing the message",
            Step::Body => "handing over the message",
        };
        match &self.cause {
            Cause::Reply { code, text } => write!(f, "{code} {}", in_one_line(text)),
            Cause::Lost(error) | Cause::SetUp(error) => write!(f, "{step}: {}", in_one_line(error)),
            Cause::TimedOut => write!(f, "{step}: no answer in time"),
        }
    }
}

/// The enhanced status code such as `5.1.1` at the beginning of the text of a reply that refuses for good.
fn enhanced_status(text: &str) -> Option<MailStatus> {
    let status = MailStatus::parse(text.split_whitespace().next()?)?;
    (status.class == 5).then_some(status)
}

/// Whether it is about the message's size or letters.
fn is_about_message(status: Option<MailStatus>) -> bool {
    matches!(status, Some(MailStatus { subject: 3 | 6, .. }))
}

/// What the server said, fit to be stored and shown.
fn in_one_line(text: &str) -> String {
    shortened(&text.replace(char::is_control, " "), 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(step: Step, reply: &str, expected: &str) {
        let (code, text) = reply.split_once(' ').expect("a code and a text");
        let cause = Cause::Reply {
            code: code.parse().expect("a number"),
            text: text.to_owned(),
        };
        let (kind, error) = kind(Failure { step, cause }.outcome());
        assert_eq!((kind, error.as_str()), (expected, reply), "{step:?} {reply}");
    }

    fn kind(outcome: Outcome) -> (&'static str, String) {
        match outcome {
            Outcome::Delivered { provider_id } => ("delivered", provider_id),
            Outcome::Retry { error, after: _ } => ("retry", error),
            Outcome::Rejected { error } => ("rejected", error),
            Outcome::Unsendable { error } => ("unsendable", error),
            Outcome::Suppress { error } => ("suppress", error),
            Outcome::Unknown { error } => ("unknown", error),
            Outcome::Misconfigured { error } => ("misconfigured", error),
        }
    }

    #[test]
    fn replies_say_what_happens_next() {
        for step in [
            Step::Connect,
            Step::Login,
            Step::Mail,
            Step::Rcpt,
            Step::Data,
            Step::Body,
        ] {
            check(step, "421 4.3.2 shutting down", "retry");
            check(step, "450 4.2.1 mailbox busy", "retry");
            check(step, "451 4.7.1 greylisted", "retry");
            check(step, "452 4.2.2 mailbox full", "retry");
            check(step, "454 4.7.0 temporary authentication failure", "retry");
            check(step, "530 5.7.0 authentication required", "misconfigured");
            check(step, "534 5.7.9 mechanism too weak", "misconfigured");
            check(step, "535 5.7.8 bad credentials", "misconfigured");
            check(step, "538 5.7.11 encryption required", "misconfigured");
        }
        for step in [Step::Rcpt, Step::Data, Step::Body] {
            check(step, "550 5.1.1 no such user", "suppress");
            check(step, "551 5.1.6 moved", "suppress");
            check(step, "556 5.1.10 null MX", "suppress");
            check(step, "550 5.1.2 no such domain", "rejected");
            check(step, "550 5.1.3 bad syntax", "rejected");
            check(step, "552 5.2.2 mailbox full", "retry");
            check(step, "550 5.2.1 mailbox disabled", "rejected");
            check(step, "550 5.2.3 longer than the mailbox takes", "rejected");
            check(step, "554 5.3.0 mail system trouble", "retry");
            check(step, "554 5.3.1 system full", "retry");
            check(step, "554 5.3.2 not accepting messages", "retry");
            check(step, "554 5.3.5 loops to itself", "retry");
            check(step, "552 5.3.4 too big", "rejected");
            check(step, "550 5.4.1 no answer from host", "retry");
            check(step, "550 5.4.4 unable to route", "retry");
            check(step, "554 5.4.6 routing loop", "retry");
            check(step, "554 5.4.7 delivery time expired", "retry");
            check(step, "550 5.5.2 syntax", "rejected");
            check(step, "554 5.6.0 bad content", "rejected");
            check(step, "552 exceeded storage", "rejected");
            check(step, "550 5.7.1 blocked by policy", "rejected");
            check(step, "554 5.7.26 not authenticated", "rejected");
            check(step, "550 no such user", "rejected");
            check(step, "550 5.1 no such user", "rejected");
            check(step, "550 5.1.1.1 no such user", "rejected");
            check(step, "550 4.1.1 a class that does not fit", "rejected");
            check(step, "503 bad sequence", "rejected");
        }
        check(Step::Mail, "553 5.1.8 bad sender", "misconfigured");
        check(
            Step::Mail,
            "550 5.7.60 not allowed to send as this sender",
            "misconfigured",
        );
        check(Step::Mail, "550 5.1.1 not about the recipient", "misconfigured");
        check(Step::Mail, "552 too big", "rejected");
        check(Step::Mail, "550 5.3.4 too big", "rejected");
        check(Step::Mail, "553 5.6.7 no such letters here", "rejected");
        check(Step::Connect, "554 5.7.1 your address is blocked", "misconfigured");
        check(Step::Login, "504 unknown mechanism", "misconfigured");
        check(Step::Connect, "554 5.3.2 not accepting messages", "retry");
        check(Step::Mail, "550 5.4.4 unable to route", "retry");
        check(Step::Mail, "552 5.2.2 not about the recipient", "rejected");
    }

    #[test]
    fn a_refusal_by_policy_raises_an_alarm_and_nothing_else_does() {
        for (step, code, text, expected) in [
            (Step::Rcpt, 550, "5.7.1 blocked by policy", true),
            (Step::Body, 554, "5.7.26 not authenticated", true),
            (Step::Body, 550, "5.7.509 DMARC", true),
            (Step::Data, 521, "5.7.0 no", true),
            (Step::Rcpt, 450, "4.7.1 greylisted", false),
            (Step::Rcpt, 550, "5.1.1 no such user", false),
            (Step::Rcpt, 550, "blocked by policy", false),
            (Step::Connect, 554, "5.7.1 your address is blocked", false),
        ] {
            let cause = Cause::Reply {
                code,
                text: text.to_owned(),
            };
            let failure = Failure { step, cause };
            assert_eq!(failure.is_policy(), expected, "{step:?} {code} {text}");
        }
    }

    #[test]
    fn a_lost_connection_is_unknown_only_once_the_message_is_under_way() {
        for (step, expected) in [
            (Step::Connect, "retry"),
            (Step::Login, "retry"),
            (Step::Mail, "retry"),
            (Step::Rcpt, "retry"),
            (Step::Data, "retry"),
            (Step::Body, "unknown"),
        ] {
            for cause in [Cause::Lost("broken pipe".to_owned()), Cause::TimedOut] {
                assert_eq!(kind(Failure { step, cause }.outcome()).0, expected, "{step:?}");
            }
            let cause = Cause::SetUp("bad certificate".to_owned());
            assert_eq!(kind(Failure { step, cause }.outcome()).0, "misconfigured", "{step:?}");
        }
    }

    #[test]
    fn what_the_server_says_is_kept_short_and_in_one_line() {
        let text = format!("5.7.1 a\u{1b}[2J\n{}", "x".repeat(100_000));
        let shown = Failure {
            step: Step::Rcpt,
            cause: Cause::Reply { code: 550, text },
        }
        .to_string();
        assert!(shown.len() < 600 && !shown.chars().any(char::is_control), "{shown}");
    }

    const STEPS: [Step; 6] = [
        Step::Connect,
        Step::Login,
        Step::Mail,
        Step::Rcpt,
        Step::Data,
        Step::Body,
    ];

    proptest::proptest! {
        /// Whatever a server says with a refusal, the mail is not taken for delivered or lost, nobody is suppressed but by words about
        /// him, and what is kept of it is one short line.
        #[test]
        fn no_words_of_a_server_break_anything(
            step in proptest::sample::select(&STEPS[..]),
            code in 400..600_u16,
            text in "\\PC{0,80}|[245]?\\.?[0-9]{0,4}\\.[0-9]{0,5}[ \r\n\0-]?\\PC{0,20}|[\0-\u{2029}]{0,600}",
        ) {
            let failure = Failure { step, cause: Cause::Reply { code, text: text.clone() } };
            let (kind, error) = kind(failure.outcome());
            let is_for_good = code >= 500;
            proptest::prop_assert!(["retry", "rejected", "suppress", "misconfigured"].contains(&kind));
            proptest::prop_assert!(is_for_good || kind == "retry", "{} {}", kind, error);
            let is_about_somebody = matches!(step, Step::Rcpt | Step::Data | Step::Body);
            proptest::prop_assert!(kind != "suppress" || (is_about_somebody && text.trim_start().starts_with("5.1.")));
            proptest::prop_assert!(error.chars().count() <= 510 && !error.contains(char::is_control), "{:?}", error);
            proptest::prop_assert!(!failure.is_policy() || is_for_good);
        }
    }
}
