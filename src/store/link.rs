//! The link to `PostgreSQL`: giving up when it is silent, and which connections are trusted.
//!
//! The database ends a statement that takes too long by itself, and says so. A network that carries nothing any more says nothing:
//! there is no error and no end of the connection, and whoever waits for the answer would wait for ever.

use sea_orm::{DbErr, RuntimeErr};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use std::io::ErrorKind;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The longest that a connection may take to show that it still is one.
const TEST_TIMEOUT: Duration = Duration::from_secs(2);

/// After how long a connection that nobody used must show that before it is used again. Asking always costs each use a round trip.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// What is known of the connections.
#[derive(Debug)]
pub(super) struct Link {
    /// How long to wait for an answer.
    patience: Duration,
    /// How long to wait for the answer to an empty question.
    test_timeout: Duration,
    /// When a connection failed last.
    failed_at: Mutex<Option<Instant>>,
}

impl Link {
    /// Waits a quarter longer than the database may work on a statement, so that it is the first to give up where it can.
    pub(super) fn new(statement_timeout: Duration) -> Self {
        Self {
            patience: statement_timeout + statement_timeout / 4,
            test_timeout: TEST_TIMEOUT.min(statement_timeout / 4),
            failed_at: Mutex::default(),
        }
    }

    /// Waits for an answer. When there is none, nobody knows whether it was carried out.
    async fn wait<T>(&self, answer: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        let answered = match tokio::time::timeout(self.patience, answer).await {
            Ok(answered) => answered,
            Err(elapsed) => Err(DbErr::Conn(RuntimeErr::SqlxError(
                sqlx::Error::Io(elapsed.into()).into(),
            ))),
        };
        if answered
            .as_ref()
            .is_err_and(|error| is_silent(error) || is_broken(error))
        {
            self.note_failure();
        }
        answered
    }

    /// Whether a connection may be used that nobody used for a while. When one failed, those that were idle at that time are taken
    /// for lost with it: to open new ones is cheaper than to ask each, and to wait for those that are silent.
    pub(super) async fn check_idle(
        &self,
        connection: &mut PgConnection,
        idle_for: Duration,
    ) -> Result<(), sqlx::Error> {
        if self.failed_at().is_some_and(|at| at.elapsed() <= idle_for) {
            return Err(sqlx::Error::Io(ErrorKind::NotConnected.into()));
        }
        if idle_for < TRUSTED_FOR {
            return Ok(());
        }
        self.check(connection).await
    }

    /// Asks for an answer on a connection. One that fails is closed, without another word.
    pub(super) async fn check(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let tested = tokio::time::timeout(self.test_timeout, connection.ping()).await;
        let tested = tested.unwrap_or_else(|elapsed| Err(sqlx::Error::Io(elapsed.into())));
        if tested.is_err() {
            self.note_failure();
        }
        tested
    }

    fn note_failure(&self) {
        *self.failed_at() = Some(Instant::now());
    }

    fn failed_at(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.failed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for an answer of the database. The embedded one has no link that could fall silent.
pub(super) async fn wait<T>(link: Option<&Link>, answer: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
    match link {
        Some(link) => link.wait(answer).await,
        None => answer.await,
    }
}

/// Whether nothing was done, because the connection had ended before: it broke, or the database ended it when it stopped (class
/// 57P). What only reads or begins may be asked again on another one.
pub(super) fn is_broken(error: &DbErr) -> bool {
    match of_driver(error) {
        Some(sqlx::Error::Database(error)) => error.code().is_some_and(|code| code.starts_with("57P")),
        Some(error) => matches!(error, sqlx::Error::Io(error) if error.kind() != ErrorKind::TimedOut),
        None => false,
    }
}

/// Whether there was no answer.
fn is_silent(error: &DbErr) -> bool {
    matches!(of_driver(error), Some(sqlx::Error::Io(error)) if error.kind() == ErrorKind::TimedOut)
}

fn of_driver(error: &DbErr) -> Option<&sqlx::Error> {
    let (DbErr::Conn(inner) | DbErr::Exec(inner) | DbErr::Query(inner)) = error else {
        return None;
    };
    match inner {
        RuntimeErr::SqlxError(error) => Some(error),
        RuntimeErr::Internal(_) => None,
    }
}
