//! What is wrong with a request, all at once, and as the gRPC side says it.

use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::refusal;

/// How many violations an error lists. A body of 4 MiB can have a million.
const MOST: usize = 100;

/// What is wrong, field by field, by the names of the contract.
#[derive(Debug, Default)]
pub(super) struct Violations {
    listed: Vec<(String, String)>,
    count: usize,
}

impl Violations {
    /// Notes a violation.
    pub(super) fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.count += 1;
        if self.listed.len() < MOST {
            self.listed.push((field.into(), description.into()));
        }
    }

    /// Whether nothing is wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The error that says it.
    pub(super) fn into_status(self) -> Status {
        let first = self.listed.first();
        let first = first.map_or_else(String::new, |(field, description)| format!("{field} {description}"));
        let more = match self.count {
            0 | 1 => String::new(),
            count => format!(" (and {} more; see the field violations)", count - 1),
        };
        let mut details = ErrorDetails::with_error_info("INVALID_FIELDS", refusal::DOMAIN, HashMap::new());
        for (field, description) in self.listed {
            details.add_bad_request_violation(field, description);
        }
        Status::with_error_details(Code::InvalidArgument, format!("{first}{more}"), details)
    }
}

/// A text as it is shown in an error: in quotes, without what a terminal would act on, and short.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 60;
    let short: String = text.chars().take(MOST).collect();
    let rest = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{rest}")
}
