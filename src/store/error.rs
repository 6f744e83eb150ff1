//! What can go wrong with the database, as far as anybody acts on it.

use sea_orm::{DbErr, RuntimeErr, SqlErr};
use std::sync::Arc;

use super::BrokenRun;

/// Why a statement was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database can't be reached, is busy, or gave up on a deadlock. The same may work a moment later.
    #[error("the database is not available")]
    Unavailable(#[source] DbErr),
    /// What was to be written can't be, for now. What was begun is undone.
    #[error("the disk of the database ({place}) is full, or can't be written")]
    Disk {
        /// Where the database is.
        place: Arc<str>,
        /// What it says.
        #[source]
        source: DbErr,
    },
    /// The database can be read at most.
    #[error(
        "the database ({place}) can't be written: its file and its folder must be there, and writable for this server's user"
    )]
    ReadOnly {
        /// Where the database is.
        place: Arc<str>,
        /// What it says.
        #[source]
        source: DbErr,
    },
    /// A unique index refuses the row. The caller knows which one it can be.
    #[error("the row is there already")]
    Duplicate,
    /// Something in a row can't be read.
    #[error("{table} {id}: {what}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The row.
        id: String,
        /// What is wrong.
        what: String,
    },
    /// A run can't be read.
    #[error("{0}")]
    BrokenRun(BrokenRun),
    /// The schema is not that of this program.
    #[error("{0}")]
    Schema(String),
    /// Anything else, which is a bug of ours.
    #[error("the database refused a statement")]
    Refused(#[source] DbErr),
}

/// What an error is about, as far as anybody acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Transient,
    Disk,
    ReadOnly,
    Bug,
}

impl Trouble {
    fn of(error: &DbErr) -> Self {
        let (DbErr::Conn(inner) | DbErr::Exec(inner) | DbErr::Query(inner)) = error else {
            return if matches!(error, DbErr::ConnectionAcquire(_)) {
                Self::Transient
            } else {
                Self::Bug
            };
        };
        let RuntimeErr::SqlxError(inner) = inner else {
            return Self::Bug;
        };
        if let sqlx::Error::Database(error) = &**inner {
            return error.code().map_or(Self::Bug, |code| Self::of_code(&code));
        }
        let is_transient = matches!(
            &**inner,
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed
        );
        if is_transient { Self::Transient } else { Self::Bug }
    }

    /// The codes of `PostgreSQL` have five characters, and those of `SQLite` at most four.
    fn of_code(code: &str) -> Self {
        match code.parse::<u32>() {
            Ok(number) if code.len() < 5 => Self::of_sqlite(number),
            Ok(_) | Err(_) => Self::of_postgres(code),
        }
    }

    /// By the primary code, which is the lowest byte: busy (5), locked (6); I/O error (10), full (13); read-only (8), can't
    /// open (14).
    fn of_sqlite(code: u32) -> Self {
        match code & 0xff {
            5 | 6 => Self::Transient,
            10 | 13 => Self::Disk,
            8 | 14 => Self::ReadOnly,
            _ => Self::Bug,
        }
    }

    /// Disk full (53100), I/O error (58030); read-only, as a standby is (25006); and what passes: connection lost (08),
    /// shutting down (57P), deadlock and serialization (40), out of connections and the like (53), statement or lock time-out.
    fn of_postgres(code: &str) -> Self {
        let transient = ["08", "57P", "40", "53", "57014", "55P03"];
        match code {
            "53100" | "58030" => Self::Disk,
            "25006" => Self::ReadOnly,
            _ if transient.iter().any(|class| code.starts_with(class)) => Self::Transient,
            _ => Self::Bug,
        }
    }
}

impl StoreError {
    /// A word for what went wrong.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(DbErr::ConnectionAcquire(_)) => "no_connection",
            Self::Unavailable(_) => "unavailable",
            Self::Disk { .. } => "disk",
            Self::ReadOnly { .. } => "read_only",
            Self::Duplicate => "duplicate",
            Self::Corrupt { .. } | Self::BrokenRun(_) => "corrupt",
            Self::Schema(_) => "schema",
            Self::Refused(_) => "refused",
        }
    }

    /// Whether it is about the database as a whole, and not about what was asked of it.
    pub fn is_of_all(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Disk { .. } | Self::ReadOnly { .. } | Self::Schema(_) => true,
            Self::Duplicate | Self::Corrupt { .. } | Self::BrokenRun(_) | Self::Refused(_) => false,
        }
    }

    /// What an error of a database means.
    pub(super) fn of(error: DbErr, place: &Arc<str>) -> Self {
        if let Some(SqlErr::UniqueConstraintViolation(_)) = error.sql_err() {
            return Self::Duplicate;
        }
        match Trouble::of(&error) {
            Trouble::Transient => Self::Unavailable(error),
            Trouble::Disk => Self::Disk {
                place: Arc::clone(place),
                source: error,
            },
            Trouble::ReadOnly => Self::ReadOnly {
                place: Arc::clone(place),
                source: error,
            },
            Trouble::Bug => Self::Refused(error),
        }
    }

    /// A row that can't be read.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "most callers have a value, and it is made into text"
    )]
    pub(super) fn corrupt(table: &'static str, id: impl ToString, what: impl ToString) -> Self {
        Self::Corrupt {
            table,
            id: id.to_string(),
            what: what.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_to_do() {
        let cases = [
            ("5", Trouble::Transient),
            ("517", Trouble::Transient),
            ("6", Trouble::Transient),
            ("13", Trouble::Disk),
            ("778", Trouble::Disk),
            ("8", Trouble::ReadOnly),
            ("1032", Trouble::ReadOnly),
            ("14", Trouble::ReadOnly),
            ("1", Trouble::Bug),
            ("53100", Trouble::Disk),
            ("53300", Trouble::Transient),
            ("25006", Trouble::ReadOnly),
            ("40P01", Trouble::Transient),
            ("08006", Trouble::Transient),
            ("57014", Trouble::Transient),
            ("42601", Trouble::Bug),
        ];
        for (code, expected) in cases {
            assert_eq!(Trouble::of_code(code), expected, "{code}");
        }
    }
}
