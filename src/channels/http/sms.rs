//! What providers of text messages and calls have in common.

use std::fmt;
use std::str::FromStr;

use crate::channels::{Content, Message, Outcome};
use crate::domain::{Invalid, MOST_SEGMENTS, PhoneNumber, SmsLength};

/// Who text messages are from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SmsFrom {
    /// A number.
    Number(PhoneNumber),
    /// A messaging service of Twilio's, by its id, which chooses among its numbers.
    Service(String),
}

impl SmsFrom {
    /// Reads a number in E.164 form, or the id of a messaging service, `MG` and 32 hexadecimal digits.
    pub fn parse(given: &str) -> Result<Self, Invalid> {
        if let Some(id) = given.strip_prefix("MG") {
            if id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Ok(Self::Service(given.to_owned()));
            }
        } else if let Ok(number) = PhoneNumber::parse(given) {
            return Ok(Self::Number(number));
        }
        Err(Invalid::new(
            given,
            "a phone number in E.164 form such as +14155552671, or the id of a messaging service, MG and 32 hexadecimal digits",
        ))
    }

    /// The number or id as text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Number(number) => number.as_str(),
            Self::Service(id) => id,
        }
    }
}

impl FromStr for SmsFrom {
    type Err = Invalid;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        Self::parse(given)
    }
}

/// The most parts that a text message may be split into, 1 to 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmsLimit(u8);

impl Default for SmsLimit {
    fn default() -> Self {
        Self(MOST_SEGMENTS)
    }
}

impl SmsLimit {
    /// A limit of so many parts; none beyond 1 to 10.
    pub fn new(segments: u8) -> Option<Self> {
        (1..=MOST_SEGMENTS).contains(&segments).then_some(Self(segments))
    }

    fn check(self, text: &str) -> Result<(), String> {
        let length = SmsLength::of(text);
        if text.trim().is_empty() {
            return Err("the text message is empty".to_owned());
        }
        if length.segments > usize::from(self.0) {
            return Err(format!(
                "the text message has {} segments, and {} is the most (--sms-max-segments)",
                length.segments, self.0
            ));
        }
        Ok(())
    }
}

impl fmt::Display for SmsLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text message or a call that may be sent.
pub(super) enum Spoken<'a> {
    /// A text.
    Sms { to: &'a PhoneNumber, text: &'a str },
    /// A call.
    Call { to: &'a PhoneNumber, script: &'a str },
}

impl<'a> Spoken<'a> {
    /// The content of a message, unless it is refused before anything is sent.
    pub(super) fn of(message: &'a Message, limit: SmsLimit) -> Result<Self, Outcome> {
        let unsendable = |error: String| Outcome::Unsendable { error };
        let spoken = match &message.content {
            Content::Sms { to, text } => {
                limit.check(text).map_err(unsendable)?;
                Self::Sms { to, text }
            }
            Content::Call { to, script } => Self::Call { to, script },
            Content::Email { .. } | Content::Task { .. } => {
                return Err(unsendable(
                    "this way out carries text messages and calls only".to_owned(),
                ));
            }
        };
        match spoken.to().refusal() {
            Some(refusal) => Err(unsendable(refusal.to_string())),
            None => Ok(spoken),
        }
    }

    /// The recipient.
    pub(super) fn to(&self) -> &'a PhoneNumber {
        match self {
            Self::Sms { to, .. } | Self::Call { to, .. } => to,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_numbers_or_messaging_services() {
        let service = format!("MG{}", "0a".repeat(16));
        assert_eq!(
            SmsFrom::parse(&service).map(|from| from.as_str().to_owned()),
            Ok(service)
        );
        assert!(matches!(SmsFrom::parse("+14155552671"), Ok(SmsFrom::Number(_))));
        for bad in [
            "",
            "MG",
            "MG12",
            "AC0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
            "4155552671",
            "ACME",
        ] {
            assert!(SmsFrom::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_are_one_to_ten() {
        assert_eq!((SmsLimit::new(0), SmsLimit::new(11)), (None, None));
        let limit = SmsLimit::new(2).expect("a limit");
        assert_eq!(limit.check(&"a".repeat(306)), Ok(()));
        let error = "the text message has 3 segments, and 2 is the most (--sms-max-segments)";
        assert_eq!(limit.check(&"a".repeat(307)), Err(error.to_owned()));
        assert!(limit.check(" \n").is_err());
    }
}
