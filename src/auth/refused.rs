//! Why somebody may not call. What is said to him helps nobody to find out more: a wrong token and an unknown one are the same.

use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::Role;

/// The domain of the reasons, as on the gRPC side.
const DOMAIN: &str = "campaign.v1";

/// Why somebody may not call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// He shows neither a token nor a certificate.
    #[error("there are no credentials: send authorization: Bearer with a token, or show a certificate")]
    NoCredentials,
    /// The token is none that is known, or was not made for this service.
    #[error("the token is not accepted")]
    TokenInvalid,
    /// The token was good.
    #[error("the token has expired: get another one")]
    TokenExpired,
    /// The certificate is good, and nobody's here.
    #[error("the certificate has no name that stands in the callers file")]
    CertificateUnknown,
    /// The token can't be checked as long as the keys can't be had.
    #[error("the keys of the issuer can't be fetched at this moment: try again")]
    KeysUnavailable,
    /// He is known, and may not.
    #[error("{method} is for {}, and the caller is none of them", names(roles, " or "))]
    RoleMissing {
        /// The method, without its package.
        method: String,
        /// Who may.
        roles: &'static [Role],
    },
    /// There is no such method, or it is in no table.
    #[error("there is no such method")]
    NoSuchMethod,
}

fn names(roles: &[Role], between: &str) -> String {
    let all: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    all.join(between)
}

impl Refused {
    /// The reason in `ErrorInfo`; callers rely on it, so it is never renamed. None: there is nothing to refuse.
    fn reason(&self) -> Option<&'static str> {
        match self {
            Self::NoCredentials => Some("NO_CREDENTIALS"),
            Self::TokenInvalid => Some("TOKEN_INVALID"),
            Self::TokenExpired => Some("TOKEN_EXPIRED"),
            Self::CertificateUnknown => Some("CERTIFICATE_UNKNOWN"),
            Self::KeysUnavailable => Some("KEYS_UNAVAILABLE"),
            Self::RoleMissing { .. } => Some("ROLE_MISSING"),
            Self::NoSuchMethod => None,
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::NoCredentials | Self::TokenInvalid | Self::TokenExpired | Self::CertificateUnknown => {
                Code::Unauthenticated
            }
            Self::KeysUnavailable => Code::Unavailable,
            Self::RoleMissing { .. } => Code::PermissionDenied,
            Self::NoSuchMethod => Code::Unimplemented,
        }
    }

    /// The status for the caller.
    pub fn status(&self) -> Status {
        let Some(reason) = self.reason() else {
            return Status::new(self.code(), self.to_string());
        };
        let metadata = match self {
            Self::RoleMissing { method, roles } => HashMap::from([
                ("method".to_owned(), method.clone()),
                ("roles".to_owned(), names(roles, ",")),
            ]),
            Self::NoCredentials
            | Self::TokenInvalid
            | Self::TokenExpired
            | Self::CertificateUnknown
            | Self::KeysUnavailable
            | Self::NoSuchMethod => HashMap::new(),
        };
        let details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
        Status::with_error_details(self.code(), self.to_string(), details)
    }
}
