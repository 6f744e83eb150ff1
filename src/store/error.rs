//! What can go wrong with the database, as far as anybody acts on it.

use sea_orm::{DbErr, RuntimeErr, SqlErr};

/// Why a statement was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database can't be reached, is busy, or gave up on a deadlock. The same may work a moment later.
    #[error("the database is not available")]
    Unavailable(#[source] DbErr),
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
    /// The schema is not that of this program.
    #[error("{0}")]
    Schema(String),
    /// Anything else, which is a bug of ours.
    #[error("the database refused a statement")]
    Refused(#[source] DbErr),
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        if let Some(SqlErr::UniqueConstraintViolation(_)) = error.sql_err() {
            return Self::Duplicate;
        }
        if is_transient(&error) {
            Self::Unavailable(error)
        } else {
            Self::Refused(error)
        }
    }
}

fn is_transient(error: &DbErr) -> bool {
    let (DbErr::Conn(inner) | DbErr::Exec(inner) | DbErr::Query(inner)) = error else {
        return matches!(error, DbErr::ConnectionAcquire(_));
    };
    let RuntimeErr::SqlxError(inner) = inner else {
        return false;
    };
    if let sqlx::Error::Database(error) = &**inner {
        return error.code().is_some_and(|code| is_transient_code(&code));
    }
    matches!(
        &**inner,
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed
    )
}

/// `PostgreSQL`: connection lost (08), shutting down (57P), deadlock and serialization (40), out of connections and the
/// like (53), statement or lock time-out. `SQLite`: busy (5), locked (6), and their extended forms.
fn is_transient_code(code: &str) -> bool {
    let sqlite = code
        .parse::<u32>()
        .is_ok_and(|number| code.len() < 5 && matches!(number & 0xff, 5 | 6));
    sqlite || ["08", "57P", "40", "53"].iter().any(|class| code.starts_with(class)) || matches!(code, "57014" | "55P03")
}

impl StoreError {
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
