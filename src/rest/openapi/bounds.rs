//! Bounds of fields, as far as their comments say them in the words that the contract uses for it: "1 to 64 of letters, digits and
//! `._:@-`", "at most 500 characters", "1 to 1,000". What is said otherwise is in the description only.

use serde_json::{Map, Value};

/// What a field is, as far as its bounds go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bounded {
    Text,
    Number,
    List,
}

/// Whether a comment says that a field must be there.
pub(super) fn is_required(comment: &str) -> bool {
    ["Required.", "Required;"].iter().any(|words| comment.contains(words))
}

/// The bounds that a comment gives. What is not `required` may have its default as well, which is as if it were not there.
pub(super) fn bounds(what: Bounded, comment: &str, required: bool) -> Map<String, Value> {
    match what {
        Bounded::Text => of_text(comment, required),
        Bounded::Number => of_number(comment, required),
        Bounded::List => of_list(comment),
    }
}

fn of_text(comment: &str, required: bool) -> Map<String, Value> {
    let mut found = Map::new();
    let least = |least: i64| if required { least } else { 0 };
    let range = ranges(comment).next();
    match (range, at_most(comment, " characters")) {
        (Some((min, max, after)), _) if letters(after).is_some() => {
            let letters = letters(after).unwrap_or_default();
            found.insert(
                "pattern".to_owned(),
                format!("^[{letters}]{{{},{max}}}$", least(min)).into(),
            );
        }
        (Some((min, max, after)), _) if after.trim_start_matches(" printable ASCII").starts_with(" characters") => {
            found.insert("minLength".to_owned(), least(min).into());
            found.insert("maxLength".to_owned(), max.into());
        }
        (_, Some(most)) => {
            found.insert("maxLength".to_owned(), most.into());
        }
        (_, None) => {}
    }
    found
}

fn of_number(comment: &str, required: bool) -> Map<String, Value> {
    let mut found = Map::new();
    let Some((least, most, _)) = ranges(comment).next() else {
        return found;
    };
    let has_default = !required && ["efault", "(0)", "0:"].iter().any(|words| comment.contains(words));
    found.insert(
        "minimum".to_owned(),
        if has_default { least.min(0) } else { least }.into(),
    );
    if !comment.contains("more is cut") {
        found.insert("maximum".to_owned(), most.into());
    }
    found
}

fn of_list(comment: &str) -> Map<String, Value> {
    let mut found = Map::new();
    if let Some((least, most, _)) = ranges(comment).next() {
        found.insert("minItems".to_owned(), least.into());
        found.insert("maxItems".to_owned(), most.into());
    } else if let Some(most) = at_most(comment, "") {
        found.insert("maxItems".to_owned(), most.into());
    }
    found
}

/// Each "1 to 1,000", and what follows it.
fn ranges(comment: &str) -> impl Iterator<Item = (i64, i64, &str)> {
    comment.match_indices(" to ").filter_map(|(at, to)| {
        let is_part = |c: char| c.is_ascii_digit() || c == ',' || c == '-';
        let before = comment[..at].rsplit(|c: char| !is_part(c)).next()?;
        let (least, rest) = number(before)?;
        let (most, after) = number(&comment[at + to.len()..])?;
        rest.is_empty().then_some((least, most, after))
    })
}

/// The number in "at most 500 characters".
fn at_most(comment: &str, unit: &str) -> Option<i64> {
    comment.match_indices("at most ").find_map(|(at, words)| {
        let (most, after) = number(&comment[at + words.len()..])?;
        after.starts_with(unit).then_some(most)
    })
}

/// A number with commas, and what follows.
fn number(text: &str) -> Option<(i64, &str)> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let is_part = |c: char| c.is_ascii_digit() || c == ',';
    let end = unsigned.find(|c: char| !is_part(c)).unwrap_or(unsigned.len());
    let digits = unsigned[..end].trim_end_matches(',');
    let number: i64 = digits.replace(',', "").parse().ok()?;
    let sign = if unsigned.len() < text.len() { -1 } else { 1 };
    Some((sign * number, &unsigned[digits.len()..]))
}

/// The letters of " of lower-case letters, digits and `-`" or " printable ASCII characters without spaces", as a pattern has them.
fn letters(after: &str) -> Option<String> {
    if after.starts_with(" printable ASCII characters without spaces") {
        return Some("!-~".to_owned());
    }
    let (mut rest, mut found, mut signs) = (after.strip_prefix(" of ")?, String::new(), String::new());
    loop {
        rest = rest
            .trim_start_matches(", ")
            .trim_start_matches(" and ")
            .trim_start_matches("and ");
        let words = [("lower-case letters", "a-z"), ("letters", "A-Za-z"), ("digits", "0-9")];
        if let Some((words, range)) = words.iter().find(|(words, _)| rest.starts_with(words)) {
            found += range;
            rest = &rest[words.len()..];
        } else if let Some((quoted, after)) = rest.strip_prefix('`').and_then(|rest| rest.split_once('`')) {
            signs += quoted;
            rest = after;
        } else {
            break;
        }
    }
    // A hyphen stands for itself at the end only.
    let hyphen = if signs.contains('-') { "-" } else { "" };
    let letters = format!("{found}{}{hyphen}", signs.replace('-', ""));
    (!letters.is_empty()).then_some(letters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(what: Bounded, comment: &str, expected: &Value) {
        let found = bounds(what, comment, is_required(comment));
        assert_eq!(Value::Object(found), *expected, "{comment}");
    }

    #[test]
    fn bounds_of_texts_are_found() {
        for (comment, expected) in [
            (
                "Who: 1 to 64 of letters, digits and `._:@-`. Required; the customer must exist.",
                json!({"pattern": "^[A-Za-z0-9._:@-]{1,64}$"}),
            ),
            (
                "The stage: 1 to 64 of lower-case letters, digits, `_` and `-`, or empty for none.",
                json!({"pattern": "^[a-z0-9_-]{0,64}$"}),
            ),
            (
                "The same id. 1 to 64 printable ASCII characters without spaces, a UUID for example. Optional.",
                json!({"pattern": "^[!-~]{0,64}$"}),
            ),
            (
                "Why: 1 to 500 characters without control characters. Required.",
                json!({"minLength": 1, "maxLength": 500}),
            ),
            ("Why: at most 500 characters. Optional.", json!({"maxLength": 500})),
            ("Whose. Required.", json!({})),
        ] {
            check(Bounded::Text, comment, &expected);
        }
    }

    #[test]
    fn bounds_of_numbers_and_lists_are_found() {
        for (comment, expected) in [
            (
                "How many at most, 1 to 1,000; more is cut to 1,000. Default (0): 50.",
                json!({"minimum": 0}),
            ),
            (
                "How many, 1 to 1,000. Default (0): 1,000.",
                json!({"minimum": 0, "maximum": 1000}),
            ),
            ("The window, 1 to 8760.", json!({"minimum": 1, "maximum": 8760})),
            (
                "The order, smaller first, -1000 to 1,000. Default 0.",
                json!({"minimum": -1000, "maximum": 1000}),
            ),
            ("The day, 1 to the timeline's `duration_days`.", json!({})),
            ("Which run. Required.", json!({})),
        ] {
            check(Bounded::Number, comment, &expected);
        }
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
    }
}
