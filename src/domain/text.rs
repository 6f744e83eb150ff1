//! Text that people or other systems give us, checked once at the edge.

use std::fmt;

/// A value that is refused, with what is allowed in its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be {allowed}, but is {given}")]
pub struct Invalid {
    /// What was given, quoted and shortened so that it can be shown.
    pub given: String,
    /// What is allowed.
    pub allowed: String,
}

impl Invalid {
    /// Refuses `given`.
    pub fn new(given: impl fmt::Display, allowed: impl Into<String>) -> Self {
        Self {
            given: shown(&given.to_string()),
            allowed: allowed.into(),
        }
    }
}

/// Bytes as lower-case digits, two each.
pub fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    let digits = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    digits.collect()
}

/// A value in quotes, with control characters escaped, and cut after 80 characters.
pub fn shown(given: &str) -> String {
    let mut text: String = given.chars().take(80).flat_map(char::escape_debug).collect();
    if given.chars().nth(80).is_some() {
        text.push('…');
    }
    format!("\"{text}\"")
}

/// Cuts `text` after `most` characters.
pub fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Whether a character may not stand in a line of text: controls, line separators, and the marks that turn the
/// direction of writing, with which a name can make a subject read as another.
pub fn is_forbidden_in_line(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{200E}' | '\u{200F}')
}

/// Takes a line of at most `most` characters; it may be empty.
pub fn line(given: &str, most: usize) -> Result<String, Invalid> {
    if given.chars().count() <= most && !given.chars().any(is_forbidden_in_line) {
        return Ok(given.to_owned());
    }
    Err(Invalid::new(
        given,
        format!("at most {most} characters in one line, without control characters"),
    ))
}

/// Takes a line of 1 to `most` characters.
pub fn required_line(given: &str, most: usize) -> Result<String, Invalid> {
    if given.trim().is_empty() {
        return Err(Invalid::new(
            given,
            format!("1 to {most} characters in one line, without control characters"),
        ));
    }
    line(given, most)
}

/// A stage of the sales pipeline: 1 to 64 of lower-case letters, digits, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stage(String);

impl Stage {
    /// Checks and takes a stage.
    pub fn parse(given: &str) -> Result<Self, Invalid> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if (1..=64).contains(&given.len()) && given.chars().all(good) {
            return Ok(Self(given.to_owned()));
        }
        Err(Invalid::new(given, "1 to 64 of lower-case letters, digits, _ and -"))
    }

    /// The stage as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name by which a timeline is applied: 1 to 64 of lower-case letters, digits and `-`, beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slug(String);

impl Slug {
    /// Checks and takes a slug.
    pub fn parse(given: &str) -> Result<Self, Invalid> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if (1..=64).contains(&given.len()) && given.chars().all(good) && !given.starts_with('-') {
            return Ok(Self(given.to_owned()));
        }
        Err(Invalid::new(
            given,
            "1 to 64 of lower-case letters, digits and -, beginning with a letter or digit",
        ))
    }

    /// The slug as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A mail address in the form of RFC 5321, ASCII, at most 254 characters.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EmailAddress(String);

impl EmailAddress {
    /// Checks and takes an address.
    pub fn parse(given: &str) -> Result<Self, Invalid> {
        let options = email_address::Options::default()
            .without_display_text()
            .without_domain_literal()
            .with_required_tld();
        let valid = given.len() <= 254
            && given.is_ascii()
            && !given.contains('"')
            && email_address::EmailAddress::parse_with_options(given, options).is_ok();
        if valid {
            return Ok(Self(given.to_owned()));
        }
        Err(Invalid::new(
            given,
            "a mail address such as anna@example.com, at most 254 ASCII characters",
        ))
    }

    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain, in lower case.
    pub fn domain(&self) -> String {
        self.0.rsplit('@').next().unwrap_or_default().to_ascii_lowercase()
    }
}

impl fmt::Debug for EmailAddress {
    /// Shows the domain only, because logs are no place for addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EmailAddress(***@{})", self.0.rsplit('@').next().unwrap_or_default())
    }
}

/// A phone number in E.164 form: `+`, then 2 to 15 digits, the first not 0.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PhoneNumber(String);

impl PhoneNumber {
    /// Checks and takes a number.
    pub fn parse(given: &str) -> Result<Self, Invalid> {
        let digits = given.strip_prefix('+').unwrap_or_default();
        let valid =
            (2..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
        if valid {
            return Ok(Self(given.to_owned()));
        }
        Err(Invalid::new(given, "a phone number in E.164 form such as +14155552671"))
    }

    /// The number as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PhoneNumber {
    /// Shows the last two digits only, because logs are no place for numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PhoneNumber(***{})", &self.0[self.0.len().saturating_sub(2)..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_two_digits_each() {
        assert_eq!(hexadecimal(&[0, 15, 16, 171, 255]), "000f10abff");
        assert_eq!(hexadecimal(&[]), "");
    }

    #[test]
    fn mail_addresses_are_checked() {
        for good in ["anna@example.com", "a.b+c@sub.example.org", "x@nobody.invalid"] {
            assert!(EmailAddress::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "anna",
            "anna@",
            "@example.com",
            "a b@example.com",
            "a@b@c.com",
            "a@example.com\r\nBcc: x@y.z",
            "Anna <a@example.com>",
            "ä@example.com",
            "a@localhost",
        ] {
            assert!(EmailAddress::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn phone_numbers_are_checked() {
        for good in ["+14155552671", "+49301234"] {
            assert!(PhoneNumber::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "4155552671", "+0123", "+1 415", "+1234567890123456", "+1\n"] {
            assert!(PhoneNumber::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hostile_lines_are_refused_and_shown_escaped() {
        for bad in ["a\nb", "a\rb", "a\0b", "a\u{2028}b", "a\u{202E}b", "a\u{85}b"] {
            assert!(line(bad, 200).is_err(), "{bad:?}");
        }
        assert_eq!(shown("a\n"), "\"a\\n\"");
        assert!(line("Zoë 🎈 O'Neil", 200).is_ok());
    }

    proptest::proptest! {
        /// Whatever is taken is what was given, in the form that is promised; and all in that form is taken.
        #[test]
        fn numbers_are_taken_as_they_are_or_not_at_all(given in "\\PC{0,20}|\\+?[0-9٣०]{0,18}[ \n]?") {
            let digits = given.strip_prefix('+').unwrap_or_default();
            let is_number = (2..=15).contains(&digits.len())
                && digits.bytes().all(|byte| byte.is_ascii_digit())
                && !digits.starts_with('0');
            let taken = PhoneNumber::parse(&given).ok();
            proptest::prop_assert_eq!(taken.as_ref().map(PhoneNumber::as_str), is_number.then_some(given.as_str()));
            // Nobody is written to whose number is none; and what it costs is asked of numbers that nobody has.
            if let Ok(recipient) = PhoneNumber::parse_recipient(&given) {
                proptest::prop_assert_eq!(Some(recipient), taken);
            }
        }

        #[test]
        fn addresses_are_taken_as_they_are_or_not_at_all(given in "\\PC{0,40}|[a-zA-Z0-9.+<>\"(), @\r\n-]{0,30}@[a-z.@-]{0,20}") {
            if let Ok(address) = EmailAddress::parse(&given) {
                proptest::prop_assert_eq!(address.as_str(), given.as_str());
                let is_plain = |c: char| c.is_ascii_graphic() && !"<>()\",;:\\[]".contains(c);
                proptest::prop_assert!(given.chars().all(is_plain), "{}", given);
                proptest::prop_assert_eq!(given.matches('@').count(), 1);
            }
        }
    }
}
