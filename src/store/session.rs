//! Running statements: on the pool for reading, in a transaction for writing.

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, FromQueryResult, QueryResult, Value,
};
use std::sync::Arc;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit};
use tokio::time::Instant;

use super::emitted::Emitted;
use super::layout::Layout;
use super::link::{Link, is_broken, wait};
use super::places::Places;
use super::{StoreError, statements};
use crate::telemetry::Metrics;

/// A way to run statements. Functions that read are there on every session, those that write on [`Txn`] only.
#[derive(Debug)]
pub struct Session<C> {
    pub(super) conn: C,
    pub(super) backend: DbBackend,
    pub(super) layout: Layout,
    /// Where the database is, for people.
    pub(super) place: Arc<str>,
    /// The link to `PostgreSQL`.
    pub(super) link: Option<Arc<Link>>,
    /// Whether each statement is on its own, and so can be repeated on another connection when its own turns out to have ended.
    pub(super) is_alone: bool,
    pub(super) statements: Arc<Emitted>,
    pub(super) metrics: Metrics,
    pub(super) places: Places,
    /// Its own place, which is free after the connection is given back; none: each statement takes one.
    pub(super) taken: Option<OwnedSemaphorePermit>,
    /// The turn to write, which is over after the connection is given back.
    pub(super) turn: Option<OwnedMutexGuard<()>>,
}

/// Reads, each statement on its own.
pub type Reader = Session<DatabaseConnection>;

/// Reads and writes, all or nothing. Dropped without `Txn::commit` it is rolled back.
pub type Txn = Session<DatabaseTransaction>;

impl Txn {
    /// Makes everything lasting.
    pub async fn commit(self) -> Result<(), StoreError> {
        let Self {
            conn,
            place,
            link,
            metrics,
            backend,
            taken: _taken,
            turn: _turn,
            ..
        } = self;
        let begun = Instant::now();
        let committed = wait(link.as_deref(), conn.commit()).await;
        let committed = committed.map_err(|error| StoreError::of(error, &place));
        statements::note(
            &metrics,
            statements::system(backend),
            ("COMMIT", None),
            begun,
            &committed,
        );
        committed
    }
}

impl<C: ConnectionTrait> Session<C> {
    /// All rows of a query.
    pub(super) async fn rows<T: FromQueryResult>(&self, sql: &str, values: Vec<Value>) -> Result<Vec<T>, StoreError> {
        let rows = self.raw_rows(sql, values).await?;
        rows.iter()
            .map(|row| T::from_query_result(row, "").map_err(|error| self.failed(error)))
            .collect()
    }

    /// All rows of a query, to be read one by one.
    pub(super) async fn raw_rows(&self, sql: &str, values: Vec<Value>) -> Result<Vec<QueryResult>, StoreError> {
        let statement = self.statement(sql, values);
        let ask = |statement| wait(self.link.as_deref(), self.conn.query_all_raw(statement));
        let once_more = self.is_alone.then(|| statement.clone());
        let begun = Instant::now();
        let _place = match self.taken {
            Some(_) => None,
            None => Some(
                self.places
                    .take(&self.metrics)
                    .await
                    .map_err(|error| self.failed(error))?,
            ),
        };
        let rows = match (ask(statement).await, once_more) {
            (Err(error), Some(statement)) if is_broken(&error) => ask(statement).await,
            (rows, _) => rows,
        };
        let rows = rows.map_err(|error| self.failed(error));
        statements::note(
            &self.metrics,
            statements::system(self.backend),
            statements::operation(sql),
            begun,
            &rows,
        );
        rows
    }

    /// The first row of a query.
    pub(super) async fn row<T: FromQueryResult>(&self, sql: &str, values: Vec<Value>) -> Result<Option<T>, StoreError> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// Runs a statement, and says how many rows it changed.
    pub(super) async fn execute(&self, sql: &str, values: Vec<Value>) -> Result<u64, StoreError> {
        let begun = Instant::now();
        let done = self.conn.execute_raw(self.statement(sql, values));
        let done = wait(self.link.as_deref(), done).await;
        let done = done.map_err(|error| self.failed(error));
        statements::note(
            &self.metrics,
            statements::system(self.backend),
            statements::operation(sql),
            begun,
            &done,
        );
        Ok(done?.rows_affected())
    }

    fn failed(&self, error: DbErr) -> StoreError {
        StoreError::of(error, &self.place)
    }

    #[expect(clippy::disallowed_types, reason = "all statements are made here")]
    fn statement(&self, sql: &str, values: Vec<Value>) -> sea_orm::Statement {
        self.statements.note(sql);
        sea_orm::Statement::from_sql_and_values(self.backend, sql, values)
    }

    /// The variant of a piece of SQL for this database.
    pub(super) fn pick<'a>(&self, postgres: &'a str, sqlite: &'a str) -> &'a str {
        if self.backend == DbBackend::Postgres {
            postgres
        } else {
            sqlite
        }
    }

    /// Locks the rows that a SELECT finds until the end of the transaction. `SQLite` has one writer at a time anyway.
    pub(super) fn for_update(&self) -> &'static str {
        self.pick("for update", "")
    }
}

/// The parameters of a statement.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$(sea_orm::Value::from($value)),*] };
}
pub(super) use values;

/// A row with one number.
#[derive(Debug, FromQueryResult)]
pub(super) struct Number {
    pub(super) n: i64,
}
