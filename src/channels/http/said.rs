//! What a provider said, fit to be stored and shown: short, in one line, and without numbers, addresses and secrets.

use crate::domain::text::shortened;

/// The most characters that are kept.
const MOST: usize = 300;

/// From so many digits on it is taken for a phone number. Codes of errors have 5.
const DIGITS_OF_A_NUMBER: usize = 7;

/// Makes a provider's text fit to be kept. `secrets` are cut out wherever they are.
pub(super) fn scrubbed(text: &str, secrets: &[&str]) -> String {
    let mut text = shortened(&text.replace(char::is_control, " "), 4 * MOST);
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "***");
    }
    let text = without_addresses(&without_numbers(&text));
    shortened(text.trim(), MOST)
}

/// Leaves the last two digits of what may be a phone number, however it is written.
fn without_numbers(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        let end = end_of_number(from);
        let (number, after) = from.split_at(end);
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        if digits.len() >= DIGITS_OF_A_NUMBER {
            shown.push_str(before.strip_suffix('+').unwrap_or(before));
            shown.push_str("***");
            shown.push_str(&digits[digits.len() - 2..]);
        } else {
            shown.push_str(before);
            shown.push_str(number);
        }
        rest = after;
    }
    shown.push_str(rest);
    shown
}

/// Where a run of digits ends, with single signs between them that people write numbers with.
fn end_of_number(from: &str) -> usize {
    let (mut end, mut signs) = (0, 0);
    for (at, c) in from.char_indices() {
        if c.is_ascii_digit() {
            (end, signs) = (at + 1, 0);
        } else if signs < 2 && matches!(c, ' ' | '-' | '.' | '/' | '(' | ')') {
            signs += 1;
        } else {
            break;
        }
    }
    end
}

fn without_addresses(text: &str) -> String {
    let words = text
        .split(' ')
        .map(|word| if word.contains('@') { "***" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(said: &str, expected: &str) {
        assert_eq!(scrubbed(said, &["s3cret", ""]), expected);
    }

    #[test]
    fn what_is_personal_or_secret_is_cut_out() {
        check(
            "The 'To' number +14155552671 is not valid",
            "The 'To' number ***71 is not valid",
        );
        check("to 1 (415) 555-2671, code 21211", "to ***71, code 21211");
        check("%2B14155552671", "%2B***71");
        check("+49 30 1234567: no", "***67: no");
        check("error 20003, status 401", "error 20003, status 401");
        check("codes 21211 and 21610", "codes 21211 and 21610");
        check("mail <anna@example.org> is bad", "mail *** is bad");
        check("token s3cret is wrong", "token *** is wrong");
        check("a\u{1b}[2J\r\nb\0", "a [2J  b");
        check("", "");
    }

    #[test]
    fn what_is_long_is_cut_off() {
        let said = scrubbed(&"x".repeat(100_000), &[]);
        assert_eq!(said.chars().count(), MOST + 1);
        let said = scrubbed(&"1".repeat(100_000), &[]);
        assert!(said.len() < 20, "{said}");
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics_and_no_long_number_is_left(text in "\\PC{0,200}|[0-9+ ().a-z/-]{0,100}") {
            let said = scrubbed(&text, &["secret"]);
            let longest = said.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0);
            proptest::prop_assert!(longest < DIGITS_OF_A_NUMBER, "{}", said);
        }
    }
}
