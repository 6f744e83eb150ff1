//! Bounds of fields, as far as their comments say them in the words that the contract uses for it.

use serde_json::{Map, Value};

/// What a field is, as far as its bounds go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bounded {
    Text,
    Number,
    List,
    /// A text in a path, which can't be empty.
    PathText,
}

/// The bounds that a comment gives.
pub(super) fn bounds(what: Bounded, comment: &str) -> Map<String, Value> {
    let mut found = Map::new();
    let is_required = comment.contains("Required");
    match what {
        Bounded::Text | Bounded::PathText => {
            if what == Bounded::PathText {
                found.insert("minLength".to_owned(), 1.into());
            }
            if let Some((_, most)) = range(comment, |after| after.starts_with(" of letters, digits and `._:@-`")) {
                let least = u8::from(is_required || what == Bounded::PathText);
                found.insert(
                    "pattern".to_owned(),
                    format!("^[A-Za-z0-9._:@-]{{{least},{most}}}$").into(),
                );
            } else if let Some(most) = at_most(comment, " characters") {
                found.insert("maxLength".to_owned(), most.into());
            }
        }
        Bounded::Number => {
            let Some((least, most)) = range(comment, |after| after.starts_with(['.', ',', ';', ' ', ':'])) else {
                return found;
            };
            // 0 is as if it were not there, and stands for a default.
            let least = if is_required { least } else { 0 };
            found.insert("minimum".to_owned(), least.into());
            if !comment.contains("more is cut") {
                found.insert("maximum".to_owned(), most.into());
            }
        }
        Bounded::List => {
            if let Some((least, most)) = range(comment, |after| !after.starts_with(" of")) {
                found.insert("minItems".to_owned(), least.into());
                found.insert("maxItems".to_owned(), most.into());
            } else if let Some(most) = at_most(comment, "") {
                found.insert("maxItems".to_owned(), most.into());
            }
        }
    }
    found
}

/// The first "1 to 1,000" whose continuation fits.
fn range(comment: &str, fits: impl Fn(&str) -> bool) -> Option<(u64, u64)> {
    comment.match_indices(" to ").find_map(|(at, to)| {
        let before = comment[..at].rsplit(|c: char| !c.is_ascii_digit() && c != ',').next()?;
        let (most, after) = number(&comment[at + to.len()..])?;
        let (least, rest) = number(before)?;
        (rest.is_empty() && fits(after)).then_some((least, most))
    })
}

/// The number in "at most 500 characters".
fn at_most(comment: &str, unit: &str) -> Option<u64> {
    comment.match_indices("at most ").find_map(|(at, words)| {
        let (most, after) = number(&comment[at + words.len()..])?;
        after.starts_with(unit).then_some(most)
    })
}

/// A number with commas, and what follows.
fn number(text: &str) -> Option<(u64, &str)> {
    let is_part = |c: char| c.is_ascii_digit() || c == ',';
    let end = text.find(|c: char| !is_part(c)).unwrap_or(text.len());
    let digits = text[..end].trim_end_matches(',');
    let number = digits.replace(',', "").parse().ok()?;
    Some((number, &text[digits.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(what: Bounded, comment: &str, expected: &Value) {
        assert_eq!(Value::Object(bounds(what, comment)), *expected, "{comment}");
    }

    #[test]
    fn bounds_are_found_in_comments() {
        let id = "Who: 1 to 64 of letters, digits and `._:@-`. Required; the customer must exist.";
        check(Bounded::Text, id, &json!({"pattern": "^[A-Za-z0-9._:@-]{1,64}$"}));
        check(Bounded::PathText, "Whose. Required.", &json!({"minLength": 1}));
        let why = "Why, for whoever looks later: at most 500 characters without control characters. Optional.";
        check(Bounded::Text, why, &json!({"maxLength": 500}));
        let size = "How many at most, 1 to 1,000; more is cut to 1,000. Default (0): 50. Negative is an error.";
        check(Bounded::Number, size, &json!({"minimum": 0}));
        check(
            Bounded::Number,
            "How many actions at most, 1 to 1,000. Default (0): 1,000.",
            &json!({"minimum": 0, "maximum": 1000}),
        );
        check(
            Bounded::Number,
            "The day to begin on, 1 to the timeline's `duration_days`.",
            &json!({}),
        );
        check(
            Bounded::List,
            "What to start, 1 to 1,000.",
            &json!({"minItems": 1, "maxItems": 1000}),
        );
        check(
            Bounded::List,
            "Only these, at most 1,000. Empty: all.",
            &json!({"maxItems": 1000}),
        );
        check(Bounded::Number, "Which run. Required.", &json!({}));
    }
}
