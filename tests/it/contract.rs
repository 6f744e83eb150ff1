//! The contract where it is hard: what is refused and how, what an error carries, and how calls and connections end.

mod everywhere;
mod fields;
mod fuzz;
mod hostile;
mod items;
mod pages;
mod reasons;
mod refusals;
mod transport;

use campaign_automation::proto::google;
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

pub(crate) use fuzz::good_requests;
pub(crate) use hostile::world;

/// Checks a refusal of fields: exactly these, each once, with an `ErrorInfo`.
#[track_caller]
fn violated<T: std::fmt::Debug>(what: &str, result: Result<T, Status>, fields: &[&str]) {
    let Err(status) = result else {
        panic!("{what}: not refused: {result:?}");
    };
    assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
    let details = status.get_error_details();
    let mut named: Vec<String> = details
        .bad_request()
        .unwrap_or_else(|| panic!("{what}: no field violations: {status:?}"))
        .field_violations
        .iter()
        .map(|violation| {
            assert!(
                violation.description.contains("must"),
                "{what}: {} says not what is allowed: {}",
                violation.field,
                violation.description
            );
            violation.field.clone()
        })
        .collect();
    named.sort_unstable();
    let mut expected = fields.to_vec();
    expected.sort_unstable();
    assert_eq!(named, expected, "{what}: {}", status.message());
    informed(what, &status, "INVALID_FIELDS");
}

/// Checks the `ErrorInfo` of an error.
#[track_caller]
fn informed(what: &str, status: &Status, reason: &str) {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("{what}: no ErrorInfo: {status:?}"));
    assert_eq!(info.reason, reason, "{what}: {}", status.message());
    assert_eq!(info.domain, "campaign.v1", "{what}");
    assert!(is_reason(&info.reason), "{what}: {}", info.reason);
}

/// Whether a word is a reason: `^[A-Z][A-Z0-9_]+$`, at most 63 characters.
fn is_reason(word: &str) -> bool {
    (2..=63).contains(&word.len())
        && word.starts_with(|c: char| c.is_ascii_uppercase())
        && word
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// The error of an item, as if it were that of a call.
fn status_of(error: &google::rpc::Status) -> Status {
    Status::with_details(
        Code::from_i32(error.code),
        error.message.clone(),
        error.encode_to_vec().into(),
    )
}
