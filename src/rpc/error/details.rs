//! How an error is put together: its text, its reason, what it is about, and when to try again.

use chrono::SecondsFormat;
use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::DOMAIN;
use crate::domain::Timestamp;

/// The first three, and how many more there are.
pub(super) fn first_few(texts: &[String]) -> String {
    let rest = if texts.len() > 3 {
        format!(" (and {} more)", texts.len() - 3)
    } else {
        String::new()
    };
    format!("{}{rest}", texts.iter().take(3).cloned().collect::<Vec<_>>().join("; "))
}

/// The details of an error: its reason, and what it is about.
pub(in crate::rpc) fn info(reason: &str, metadata: &[(&str, String)]) -> ErrorDetails {
    let metadata: HashMap<String, String> = metadata
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect();
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}

/// An error with a reason.
pub(super) fn with_info(code: Code, reason: &str, text: &str, metadata: &[(&str, String)]) -> Status {
    Status::with_error_details(code, text, info(reason, metadata))
}

/// An instant in the metadata of an error.
pub(super) fn rfc3339(at: Timestamp) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Something is not there.
pub(super) fn not_found(reason: &str, text: &str, metadata: &[(&str, String)]) -> Status {
    with_info(Code::NotFound, reason, text, metadata)
}

/// Something must be otherwise first. The first of the metadata says what.
pub(super) fn precondition(reason: &str, text: &str, metadata: &[(&str, String)]) -> Status {
    let mut details = info(reason, metadata);
    let subject = metadata
        .first()
        .map(|(key, value)| format!("{key}:{value}"))
        .unwrap_or_default();
    details.add_precondition_failure_violation(reason, subject, text);
    Status::with_error_details(Code::FailedPrecondition, text, details)
}

/// Something is not possible now, and may be a second later.
pub(in crate::rpc) fn unavailable(reason: &str, text: &str, metadata: &[(&str, String)]) -> Status {
    let mut details = info(reason, metadata);
    details.set_retry_info(Some(std::time::Duration::from_secs(1)));
    Status::with_error_details(Code::Unavailable, text, details)
}
