//! Roles: what kinds of things a caller may do.

use serde::Deserialize;
use std::fmt;

/// A role. Which methods it opens is in [`super::methods`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A service of the CRM: starts, moves, applies, upserts, records, and sees what is not personal data.
    Caller,
    /// Sees personal data.
    Viewer,
    /// Calls the ticks.
    Scheduler,
    /// Keeps it running: holds, suppressions, retries, circuits, and the ticks of all.
    Operator,
    /// Does what can't be undone, and has all other roles.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Caller, Self::Viewer, Self::Scheduler, Self::Operator, Self::Admin];

    /// The word in the callers file and in JWTs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Viewer => "viewer",
            Self::Scheduler => "scheduler",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }

    fn bit(self) -> u8 {
        match self {
            Self::Caller => 1,
            Self::Viewer => 2,
            Self::Scheduler => 4,
            Self::Operator => 8,
            Self::Admin => 16,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The roles of a caller.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles(u8);

impl Roles {
    /// Whether this role is among them. An admin has all.
    pub fn have(self, role: Role) -> bool {
        self.0 & (role.bit() | Role::Admin.bit()) != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | role.bit()))
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Role::ALL.into_iter().filter(|role| self.0 & role.bit() != 0);
        f.debug_list().entries(named.map(Role::as_str)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_had_by_name_or_by_an_admin() {
        let roles = Roles::from_iter([Role::Viewer, Role::Scheduler]);
        let had: Vec<Role> = Role::ALL.into_iter().filter(|role| roles.have(*role)).collect();
        assert_eq!(had, [Role::Viewer, Role::Scheduler]);
        let admin = Roles::from_iter([Role::Admin]);
        assert!(Role::ALL.into_iter().all(|role| admin.have(role)));
        assert!(!Role::ALL.into_iter().any(|role| Roles::default().have(role)));
        assert!(
            Role::ALL
                .into_iter()
                .all(|role| Role::parse(role.as_str()) == Some(role))
        );
        assert_eq!(Role::parse("Admin"), None);
    }
}
