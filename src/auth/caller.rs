//! Who calls, once it is known.

use std::sync::Arc;

use super::{Role, Roles};

/// Before the name of whom a JWT speaks of. No name of the callers file has the sign in it, so neither can be taken for the other.
const OF_JWT: &str = "jwt/";

/// Who calls. It is in the extensions of each request that comes to a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    name: Arc<str>,
    roles: Roles,
}

impl Caller {
    /// Somebody of the callers file.
    pub(super) fn of_file(name: &str, roles: Roles) -> Self {
        Self {
            name: name.into(),
            roles,
        }
    }

    /// Whom a JWT speaks of, by its `sub`.
    pub(super) fn of_jwt(subject: &str, roles: Roles) -> Self {
        Self {
            name: format!("{OF_JWT}{subject}").into(),
            roles,
        }
    }

    /// Whoever it is, where nobody is asked. He may everything, and has no name.
    pub fn anyone() -> Self {
        Self {
            name: "".into(),
            roles: Role::ALL.into_iter().collect(),
        }
    }

    /// Who is not known, and may nothing but what is open to all.
    pub(super) fn nobody() -> Self {
        Self {
            name: "".into(),
            roles: Roles::default(),
        }
    }

    /// Who made a request. Without the layers of this module nobody is known.
    pub fn of(extensions: &http::Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_else(Self::nobody)
    }

    /// His name; empty where nobody is asked. It is no secret.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether he has a role.
    pub fn has(&self, role: Role) -> bool {
        self.roles.have(role)
    }
}
