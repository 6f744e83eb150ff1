//! The ids of things. Ours are numbers that the database gives out; a customer's id is the CRM's own string.

use serde::{Deserialize, Serialize};
use std::fmt;

use super::{Invalid, hashtext};

/// How many buckets the customers are cut into. Work is divided by ranges of buckets.
pub const BUCKETS: i32 = 1024;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

ids! {
    /// An action of a timeline.
    ActionId,
    /// A run: one customer's way through one timeline.
    ProgressId,
    /// A tick that ran.
    TickRunId,
    /// A timeline.
    TimelineId,
}

/// The CRM's own id of a customer: 1 to 64 of letters, digits and `._:@-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CustomerId(String);

impl CustomerId {
    /// Checks and takes an id. `.` and `..` are refused, because they mean something else in a path.
    pub fn parse(given: &str) -> Result<Self, Invalid> {
        token(given, "._:@-").map(Self)
    }

    /// The id as the CRM gave it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which of the [`BUCKETS`] this customer is in: the first ten bits of the id's hash, so that those of one shard stand
    /// together. It is stored, so this must never change.
    pub fn bucket(&self) -> i32 {
        (hashtext(&self.0) >> 22) + BUCKETS / 2
    }
}

impl fmt::Display for CustomerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The campaign's own id, such as `HOOK-001`: 1 to 64 of letters, digits and `._:-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CampaignId(String);

impl CampaignId {
    /// Checks and takes an id.
    pub fn parse(given: &str) -> Result<Self, Invalid> {
        token(given, "._:-").map(Self)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CampaignId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Takes 1 to 64 ASCII letters, digits and the given signs.
pub fn token(given: &str, signs: &str) -> Result<String, Invalid> {
    let good = |c: char| c.is_ascii_alphanumeric() || signs.contains(c);
    if (1..=64).contains(&given.len()) && given.chars().all(good) && given != "." && given != ".." {
        return Ok(given.to_owned());
    }
    Err(Invalid::new(
        given,
        format!("1 to 64 of letters, digits and {signs}, but not . or .."),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_id_is_checked() {
        for good in ["1", "A.b:c@d-9", "cus_1", &"x".repeat(64)] {
            assert!(CustomerId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "é", "a\n", &"x".repeat(65)] {
            assert!(CustomerId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn buckets_never_change() {
        let bucket = |id: &str| CustomerId::parse(id).expect("valid").bucket();
        assert_eq!([bucket("1"), bucket("2"), bucket("anna@example.com")], [361, 489, 890]);
    }
}
