//! The lists of a run's finished actions as they stand in its row: short, however long the run has been under way.
//!
//! They are written anew with each message, and a year of numbers in JSON made a row twenty times dearer than an empty list. Actions
//! are mostly finished in the order of their ids, so a list is written as ranges, in order: `1-270` or `7,1-3`. Those that were
//! skipped stand behind their reason, each time that it changes: `condition:2,5-6;expired:9`.

use std::fmt::Write as _;

use crate::domain::{ActionId, SkipReason, Skipped};

/// The most actions that a list may have: more than a run can have, so that a row which was written by hand can't fill the memory.
const MOST: usize = 100_000;

/// Actions that were carried out, as they are stored.
pub(super) fn completed_text(completed: &[ActionId]) -> String {
    let mut text = String::new();
    write_ranges(&mut text, completed.iter().copied());
    text
}

/// Actions that were skipped, as they are stored.
pub(super) fn skipped_text(skipped: &[Skipped]) -> String {
    let mut text = String::new();
    for alike in skipped.chunk_by(|one, next| one.reason == next.reason) {
        let Some(first) = alike.first() else { continue };
        if !text.is_empty() {
            text.push(';');
        }
        let _ = write!(text, "{}:", first.reason.as_str());
        write_ranges(&mut text, alike.iter().map(|skipped| skipped.id));
    }
    text
}

/// What [`completed_text`] wrote.
pub(super) fn completed_of(text: &str) -> Option<Vec<ActionId>> {
    let mut completed = Vec::new();
    if !text.is_empty() {
        read_ranges(text, &mut completed)?;
    }
    Some(completed)
}

/// What [`skipped_text`] wrote.
pub(super) fn skipped_of(text: &str) -> Option<Vec<Skipped>> {
    let mut skipped = Vec::new();
    for alike in text.split(';').filter(|_| !text.is_empty()) {
        let (reason, ranges) = alike.split_once(':')?;
        let reason = SkipReason::parse(reason)?;
        let mut ids = Vec::new();
        read_ranges(ranges, &mut ids)?;
        skipped.extend(ids.into_iter().map(|id| Skipped { id, reason }));
        if skipped.len() > MOST {
            return None;
        }
    }
    Some(skipped)
}

fn write_ranges(text: &mut String, ids: impl Iterator<Item = ActionId>) {
    let mut ids = ids.map(|id| id.0).peekable();
    let mut is_first = true;
    while let Some(first) = ids.next() {
        let mut last = first;
        while let Some(next) = ids.next_if(|next| last.checked_add(1) == Some(*next)) {
            last = next;
        }
        if !std::mem::take(&mut is_first) {
            text.push(',');
        }
        let _ = if first == last {
            write!(text, "{first}")
        } else {
            write!(text, "{first}-{last}")
        };
    }
}

fn read_ranges(text: &str, ids: &mut Vec<ActionId>) -> Option<()> {
    let number = |digits: &str| digits.parse::<i64>().ok().filter(|number| *number >= 0);
    for range in text.split(',') {
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(range)?, number(range)?),
        };
        let count = usize::try_from(last.checked_sub(first)?).ok()?.checked_add(1)?;
        if ids.len().checked_add(count)? > MOST {
            return None;
        }
        ids.extend((first..=last).map(ActionId));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(numbers: impl IntoIterator<Item = i64>) -> Vec<ActionId> {
        numbers.into_iter().map(ActionId).collect()
    }

    #[test]
    fn lists_are_written_as_ranges_in_their_order() {
        for (completed, expected) in [
            (ids([]), ""),
            (ids([7]), "7"),
            (ids([7, 8]), "7-8"),
            (ids(1..=270), "1-270"),
            (ids([7, 1, 2, 3, 5]), "7,1-3,5"),
            (ids([3, 2, 1, 1]), "3,2,1,1"),
            (ids([i64::MAX]), "9223372036854775807"),
        ] {
            assert_eq!(completed_text(&completed), expected);
            assert_eq!(completed_of(expected), Some(completed), "{expected}");
        }
        let skip = |id, reason| Skipped {
            id: ActionId(id),
            reason,
        };
        let skipped = vec![
            skip(2, SkipReason::Condition),
            skip(5, SkipReason::Condition),
            skip(6, SkipReason::Condition),
            skip(9, SkipReason::Expired),
            skip(10, SkipReason::Condition),
        ];
        let text = "condition:2,5-6;expired:9;condition:10";
        assert_eq!(skipped_text(&skipped), text);
        assert_eq!(skipped_of(text), Some(skipped));
        assert_eq!(skipped_of(""), Some(Vec::new()));
    }

    #[test]
    fn what_was_not_written_here_is_not_read() {
        for text in [
            " ",
            "[]",
            "[1]",
            "a",
            "-1",
            "1-",
            "2-1",
            "1-2-3",
            "1,",
            ",1",
            "1, 2",
            "1.5",
            "+",
            "9223372036854775808",
            "0-9223372036854775807",
            "1-100001",
            "1-60000,1-60000",
        ] {
            assert_eq!(completed_of(text), None, "{text}");
        }
        for text in [
            "condition",
            "condition:",
            ":1",
            "weather:1",
            "condition:1;",
            "condition:1-100001",
        ] {
            assert_eq!(skipped_of(text), None, "{text}");
        }
        let twice = format!("condition:1-{MOST};gated:1");
        assert_eq!(skipped_of(&twice), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(numbers in proptest::collection::vec(0..40_i64, 0..60)) {
            let completed = ids(numbers.iter().copied());
            prop_assert_eq!(completed_of(&completed_text(&completed)), Some(completed));
            let reasons = [SkipReason::Condition, SkipReason::Gated, SkipReason::Expired];
            let reason = |number: i64| reasons[usize::try_from(number % 3).unwrap_or_default()];
            let skipped: Vec<Skipped> =
                numbers.iter().map(|number| Skipped { id: ActionId(*number), reason: reason(*number) }).collect();
            prop_assert_eq!(skipped_of(&skipped_text(&skipped)), Some(skipped));
        }
    }
}
