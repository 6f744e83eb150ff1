//! How long a text message is at least, before anybody's values are known.

use crate::domain::SmsLength;

/// Into how many parts a template's text is split at least: as many as it has with nothing in the place of its variables. None: that
/// can't be told, as the template decides what of it is shown.
pub fn least_segments(source: &str) -> Option<usize> {
    // What is between the braces may hold braces of its own in quotes, and a dash takes white space away.
    if ["{%", "{{-", "-}}", "{#-", "-#}"]
        .iter()
        .any(|mark| source.contains(mark))
    {
        return None;
    }
    let (mut text, mut rest) = (String::new(), source);
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let end = match after.chars().next() {
            Some('{') => "}}",
            Some('#') => "#}",
            Some(_) | None => {
                text.push('{');
                rest = after;
                continue;
            }
        };
        let (inner, after) = after[1..].split_once(end)?;
        if inner.contains(['"', '\'', '{', '}']) {
            return None;
        }
        rest = after;
    }
    text.push_str(rest);
    Some(SmsLength::of(text.trim()).segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expected: Option<usize>) {
        assert_eq!(least_segments(source), expected, "{source}");
    }

    #[test]
    fn variables_count_as_nothing() {
        check("", Some(0));
        check(&"a".repeat(160), Some(1));
        check(&"a".repeat(161), Some(2));
        check(&format!("{}{{{{ customer.name }}}}", "a".repeat(160)), Some(1));
        check(&format!("{{{{ customer.name }}}}{}", "a".repeat(161)), Some(2));
        check(&format!("{{# {} #}}x", "a".repeat(500)), Some(1));
        check(&"я".repeat(71), Some(2));
        check(&format!("{{{}", "a".repeat(158)), Some(1));
        check(&format!("{{{}", "a".repeat(159)), Some(2));
    }

    #[test]
    fn what_decides_by_itself_is_left_alone() {
        let long = "a".repeat(500);
        check(&format!("{{% if day %}}{long}{{% endif %}}"), None);
        check(&format!("{{{{- day -}}}}{long}"), None);
        check(&format!("{{{{ '}}}}' }}}}{long}"), None);
        check("{{ customer.name", None);
    }
}
