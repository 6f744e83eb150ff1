//! What is refused before it comes to a method of the contract: a path, a form, a size. Each with its HTTP status and a reason.

use http::StatusCode;
use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of the reasons, as on the gRPC side.
pub(super) const DOMAIN: &str = "campaign.v1";

/// A refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is nothing at this path.
    UnknownPath,
    /// The path has other methods.
    OtherMethods,
    /// The caller takes no JSON.
    NotAcceptable,
    /// The body did not come in time.
    BodyTooLate,
    /// The body is longer than it may be.
    BodyTooLong,
    /// The body broke off.
    BodyBroken,
    /// The body is said to be something else than JSON.
    NotJson,
    /// A page of an origin that is not allowed asks.
    ForeignOrigin,
    /// The server is called by a name that is not its own.
    ForeignHost,
    /// It took longer than its caller waits.
    CallTooLong,
    /// A method is called by its gRPC name, and not as gRPC.
    NotGrpc,
}

impl Refusal {
    /// All, for the list in the `OpenAPI` document.
    pub(super) const ALL: [Self; 11] = [
        Self::UnknownPath,
        Self::OtherMethods,
        Self::NotAcceptable,
        Self::BodyTooLate,
        Self::BodyTooLong,
        Self::BodyBroken,
        Self::NotJson,
        Self::ForeignOrigin,
        Self::ForeignHost,
        Self::CallTooLong,
        Self::NotGrpc,
    ];

    /// The HTTP status.
    pub(super) fn http(self) -> StatusCode {
        match self {
            Self::UnknownPath => StatusCode::NOT_FOUND,
            Self::OtherMethods => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::BodyTooLate => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::NotJson | Self::NotGrpc => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::CallTooLong => StatusCode::GATEWAY_TIMEOUT,
            Self::ForeignOrigin | Self::ForeignHost => StatusCode::FORBIDDEN,
        }
    }

    /// The reason in `ErrorInfo`.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::UnknownPath => "PATH_NOT_FOUND",
            Self::OtherMethods => "METHOD_NOT_ALLOWED",
            Self::NotAcceptable => "JSON_NOT_ACCEPTED",
            Self::BodyTooLate => "BODY_TOO_LATE",
            Self::BodyTooLong => "BODY_TOO_LONG",
            Self::BodyBroken => "BODY_INCOMPLETE",
            Self::NotJson => "BODY_NOT_JSON",
            Self::ForeignOrigin => "ORIGIN_NOT_ALLOWED",
            Self::ForeignHost => "HOST_NOT_ALLOWED",
            Self::CallTooLong => "CALL_TOO_LONG",
            Self::NotGrpc => "CONTENT_NOT_GRPC",
        }
    }

    /// The status, with a text for people.
    pub(super) fn status(self, text: &str) -> Status {
        let code = match self {
            Self::UnknownPath => Code::NotFound,
            Self::OtherMethods => Code::Unimplemented,
            Self::BodyTooLate | Self::CallTooLong => Code::DeadlineExceeded,
            Self::BodyTooLong => Code::OutOfRange,
            Self::NotAcceptable | Self::BodyBroken | Self::NotJson | Self::NotGrpc => Code::InvalidArgument,
            Self::ForeignOrigin | Self::ForeignHost => Code::PermissionDenied,
        };
        let details = ErrorDetails::with_error_info(self.reason(), DOMAIN, HashMap::new());
        Status::with_error_details(code, text, details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_has_a_reason_of_its_own_that_the_readme_explains() {
        let readme = include_str!("../../README.md");
        let mut reasons = HashSet::new();
        for refusal in Refusal::ALL {
            assert!(reasons.insert(refusal.reason()), "{refusal:?}");
            assert!(readme.contains(refusal.reason()), "{refusal:?}");
            assert!(readme.contains(refusal.http().as_str()), "{refusal:?}");
        }
    }
}
