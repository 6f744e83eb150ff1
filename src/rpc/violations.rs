//! Gathering all that is wrong with a request.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::error::DOMAIN;
use crate::domain::Invalid;
use crate::domain::text::shown;

/// How many bytes of violations an error carries. It travels in the head of a response, of which many clients take 8 KiB, and
/// Base64 adds a third.
const MOST_BYTES: usize = 4000;

/// As many of the items as an error carries, one at least.
pub(super) fn fitting<T>(items: &[T], size: impl Fn(&T) -> usize) -> &[T] {
    let mut bytes = 0;
    let fits = items.iter().take_while(|item| {
        bytes += size(item);
        bytes <= MOST_BYTES
    });
    &items[..fits.count().max(1).min(items.len())]
}

/// What is wrong with a request, field by field.
#[derive(Debug, Default)]
pub(super) struct Violations(Vec<(String, String)>);

impl Violations {
    /// Notes a violation.
    pub(super) fn add(&mut self, path: impl Into<String>, description: impl Into<String>) {
        self.0.push((path.into(), description.into()));
    }

    /// The value, or none and a violation.
    pub(super) fn check<T>(&mut self, path: impl Into<String>, result: Result<T, Invalid>) -> Option<T> {
        result.map_err(|invalid| self.add(path, invalid.to_string())).ok()
    }

    /// The parsed value of a text that may be empty, which gives none.
    pub(super) fn optional<T>(
        &mut self,
        path: impl Into<String>,
        given: &str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<T> {
        if given.is_empty() {
            None
        } else {
            self.check(path, parse(given))
        }
    }

    /// A number within bounds.
    pub(super) fn within<N: PartialOrd + std::fmt::Display + Copy>(
        &mut self,
        path: impl Into<String>,
        given: N,
        least: N,
        most: N,
    ) -> Option<N> {
        if (least..=most).contains(&given) {
            return Some(given);
        }
        self.add(path, format!("must be {least} to {most}, but is {given}"));
        None
    }

    /// A required positive id.
    pub(super) fn id(&mut self, path: impl Into<String>, given: i64) -> Option<i64> {
        if given > 0 {
            return Some(given);
        }
        self.add(path, format!("must be a positive id, but is {given}"));
        None
    }

    /// A number of an enum that is known and set.
    pub(super) fn known<E: TryFrom<i32>>(&mut self, path: impl Into<String>, given: i32, allowed: &str) -> Option<E> {
        match E::try_from(given) {
            Ok(value) if given != 0 => Some(value),
            Ok(_) | Err(_) => {
                self.add(path, format!("must be one of {allowed}, but is {given}"));
                None
            }
        }
    }

    /// A missing message.
    pub(super) fn required<T>(&mut self, path: impl Into<String>, given: Option<T>) -> Option<T> {
        if given.is_none() {
            self.add(path, "must be set");
        }
        given
    }

    /// Whether nothing is wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The parsed request, or the error that says all that is wrong with it.
    pub(super) fn finish<T>(self, parsed: Option<T>) -> Result<T, Status> {
        match parsed {
            Some(parsed) if self.0.is_empty() => Ok(parsed),
            Some(_) | None => Err(self.into_status()),
        }
    }

    /// The error that says all that is wrong.
    pub(super) fn into_status(self) -> Status {
        let first = self
            .0
            .first()
            .map_or_else(String::new, |(path, description)| format!("{path} {description}"));
        let more = match self.0.len() {
            0 | 1 => String::new(),
            count => format!(" (and {} more; see the field violations)", count - 1),
        };
        let shown = fitting(&self.0, |(path, description)| path.len() + description.len() + 8);
        let mut details = ErrorDetails::with_error_info("INVALID_FIELDS", DOMAIN, std::collections::HashMap::new());
        for (path, description) in shown {
            details.add_bad_request_violation(path, description);
        }
        Status::with_error_details(Code::InvalidArgument, format!("{first}{more}"), details)
    }
}

/// Refuses one field.
pub(super) fn refuse(path: &str, description: &str) -> Status {
    let mut violations = Violations::default();
    violations.add(path, description);
    violations.into_status()
}

/// A value as it is shown in a violation.
pub(super) fn but_is(given: &str) -> String {
    format!("but is {}", shown(given))
}
