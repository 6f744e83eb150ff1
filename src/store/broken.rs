//! Rows of runs that can't be read, because a newer version, a statement by hand or a backup of either wrote them.
//!
//! Where many runs are read at once, each row is read on its own, so that one which is broken takes no other with it. What is
//! said about a broken one names the run and the column, never what stands there: that may be an address.

use sea_orm::{ConnectionTrait, FromQueryResult, QueryResult, Value};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::session::Session;
use super::{StoreError, Txn};
use crate::domain::{CustomerId, ProgressId, Run};

/// A run that can't be served or shown, and stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenRun {
    /// Whose, as it is stored.
    pub customer_id: String,
    /// Which.
    pub id: ProgressId,
    /// What is wrong.
    pub what: String,
}

/// A run, or what of it could be read.
pub type ReadRun = Result<Run, BrokenRun>;

impl BrokenRun {
    /// A run that was read, but is not fit for use.
    pub fn of(run: &Run, what: impl Into<String>) -> Self {
        Self {
            customer_id: run.customer_id.to_string(),
            id: run.id,
            what: what.into(),
        }
    }
}

impl fmt::Display for BrokenRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {} can't be used: {}", self.id, self.what)
    }
}

/// Reads a row, or says why it can't be read.
pub(super) fn read<T: FromQueryResult>(row: &QueryResult) -> Result<T, String> {
    // The decoder panics at what chrono can't hold, such as PostgreSQL's infinity.
    let read = catch_unwind(AssertUnwindSafe(|| T::from_query_result(row, "")));
    let read = read.map_err(|_| "an instant or a date is out of range".to_owned())?;
    read.map_err(|error| error.to_string())
}

/// A value of a row, if it can be read.
pub(super) fn value<T: sea_orm::TryGetable>(row: &QueryResult, column: &str) -> Option<T> {
    catch_unwind(AssertUnwindSafe(|| row.try_get("", column).ok())).ok()?
}

impl<C: ConnectionTrait> Session<C> {
    /// The runs that a query finds.
    pub(super) async fn read_runs(&self, sql: &str, values: Vec<Value>) -> Result<Vec<ReadRun>, StoreError> {
        let rows = self.raw_rows(sql, values).await?;
        Ok(rows.iter().map(super::progress::read_run).collect())
    }
}

impl Txn {
    /// A run that may have been stopped, by the customer's id as it is stored, locked against changes by others.
    pub async fn read_run_for_update(&self, customer: &str, id: ProgressId) -> Result<Option<ReadRun>, StoreError> {
        let condition = "p.customer_id = $1 and p.id = $2";
        let values = super::session::values![customer, id.0];
        let found = self.read_where(condition, self.for_update(), values).await?;
        Ok(found.into_iter().next())
    }

    /// Whether a run is there, in whatever state.
    pub(super) async fn is_there(&self, customer: &CustomerId, id: ProgressId) -> Result<bool, StoreError> {
        let sql = format!(
            "select id as n from {} where customer_id = $1 and id = $2",
            super::progress::TABLE
        );
        let values = super::session::values![customer.as_str(), id.0];
        let found: Option<super::session::Number> = self.row(&sql, values).await?;
        Ok(found.is_some())
    }
}
