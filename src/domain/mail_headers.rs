//! Headers that a campaign adds to its mails.

use std::collections::BTreeMap;

use super::Invalid;

/// The names that may be added. Any other could change who gets the mail (Bcc, or what a relay reads as a command, such as
/// X-SMTPAPI), who it is from (Sender, Resent-From), what it is (Content-Type), or what the service says itself (Message-ID,
/// List-Unsubscribe). These do none of that.
const ALLOWED: [&str; 13] = [
    "Auto-Submitted",
    "Feedback-ID",
    "Importance",
    "List-Id",
    "Organization",
    "Precedence",
    "X-Auto-Response-Suppress",
    "X-Entity-Ref-ID",
    "X-Mailgun-Tag",
    "X-PM-Message-Stream",
    "X-PM-Tag",
    "X-SES-Configuration-Set",
    "X-SES-Message-Tags",
];

/// The most headers of one campaign.
const MOST: usize = 10;

/// The longest value, in characters. With the name it stays below the 998 of a line (RFC 5322, 2.1.1), folded or not.
const LONGEST: usize = 500;

/// Headers that a campaign adds to its mails, by name, in the spelling that is usual. A value is printable ASCII.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailHeaders(BTreeMap<&'static str, String>);

impl MailHeaders {
    /// Adds a header. The name may be in any case.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), Invalid> {
        let known = ALLOWED.into_iter().find(|known| known.eq_ignore_ascii_case(name));
        let name = known.ok_or_else(|| Invalid::new(name, format!("by name one of {}", ALLOWED.join(", "))))?;
        let value = value.trim_matches(' ');
        let is_printable = value.chars().all(|c| c == ' ' || c.is_ascii_graphic());
        if !(1..=LONGEST).contains(&value.len()) || !is_printable {
            let allowed = format!("for {name} 1 to {LONGEST} printable ASCII characters");
            return Err(Invalid::new(value, allowed));
        }
        if self.0.contains_key(name) {
            return Err(Invalid::new(name, "each name once, in whatever case"));
        }
        if self.0.len() == MOST {
            return Err(Invalid::new(
                format!("more than {MOST}"),
                format!("at most {MOST} headers"),
            ));
        }
        self.0.insert(name, value.to_owned());
        Ok(())
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, value: &str, expected: Result<(&str, &str), &str>) {
        let mut headers = MailHeaders::default();
        match (headers.add(name, value), expected) {
            (Ok(()), Ok(pair)) => assert_eq!(headers.iter().collect::<Vec<_>>(), [pair]),
            (Err(invalid), Err(part)) => assert!(invalid.to_string().contains(part), "{name}: {invalid}"),
            (outcome, _) => panic!("{name}: {value:?}: {outcome:?}"),
        }
    }

    #[test]
    fn names_are_from_the_list_and_values_are_printable_ascii() {
        check("Precedence", "bulk", Ok(("Precedence", "bulk")));
        check("feedback-id", " a:b:c:d ", Ok(("Feedback-ID", "a:b:c:d")));
        for name in [
            "",
            "Bcc",
            "To",
            "From",
            "Sender",
            "Subject",
            "Message-ID",
            "Return-Path",
            "Reply-To",
            "Content-Type",
            "List-Unsubscribe",
            "List-Unsubscribe-Post",
            "DKIM-Signature",
            "X-SMTPAPI",
            "Resent-To",
            "X-Anything",
            "Precedence ",
            "Precedence:",
            "Precedence\r\nBcc",
            "Prec\u{45d}dence",
        ] {
            check(name, "x", Err("one of Auto-Submitted"));
        }
        for value in [
            "",
            " ",
            "a\r\nBcc: x@y.z",
            "a\nb",
            "a\rb",
            "a\0b",
            "a\tb",
            "\u{7f}",
            "\u{85}",
            "\u{2028}",
            "\u{2029}",
            "\u{202e}x",
            "ü",
            &"x".repeat(501),
        ] {
            check("Precedence", value, Err("printable ASCII"));
        }
    }

    #[test]
    fn a_name_is_there_once_and_there_are_few() {
        let mut headers = MailHeaders::default();
        for name in &ALLOWED[..MOST] {
            headers.add(name, "x").expect("allowed");
        }
        let again = headers.add("AUTO-submitted", "y").expect_err("there already");
        assert!(again.to_string().contains("once"), "{again}");
        let more = headers.add(ALLOWED[MOST], "x").expect_err("too many");
        assert!(more.to_string().contains("at most 10"), "{more}");
    }
}
