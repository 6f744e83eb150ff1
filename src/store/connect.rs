//! Opening the database.

use migrations::{Migrator, MigratorTrait as _};
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DbBackend, SqliteTransactionMode,
    TransactionOptions, TransactionTrait as _,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::StoreError;
use super::session::{Reader, Session, Txn};

/// Any number, the same for all migrators, so that they wait for each other.
const MIGRATION_LOCK: i64 = 7_270_010_451;

/// How long a statement may take, and how long a transaction may wait for its next one. Far below the quarter of an hour after
/// which a zone's midnight may be taken for finished.
const STATEMENT_TIMEOUT: &str = "60s";

/// Where the database is: `sqlite://file.db` or `postgres://user@host/name`.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(String);

impl StoreUrl {
    /// Takes a URL of one of the two databases.
    pub fn parse(url: &str) -> Result<Self, String> {
        if ["sqlite:", "postgres://", "postgresql://"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
        {
            return Ok(Self(url.to_owned()));
        }
        Err("must begin with sqlite:, postgres:// or postgresql://".to_owned())
    }

    /// Whether it is the embedded database.
    pub fn is_sqlite(&self) -> bool {
        self.0.starts_with("sqlite:")
    }
}

impl std::fmt::Debug for StoreUrl {
    /// Shows which database it is, but no password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (scheme, rest) = self.0.split_once(':').unwrap_or_default();
        let place = rest.rsplit('@').next().unwrap_or_default().trim_start_matches('/');
        write!(f, "{scheme}://{place}")
    }
}

/// How to open the database.
#[derive(Debug, Clone)]
pub struct ConnectSettings {
    /// Where it is.
    pub url: StoreUrl,
    /// The most connections at a time.
    pub max_connections: u32,
    /// Whether `SQLite` forces every commit to the disk; not so where a power cut may take what was done last.
    pub forced_to_disk: bool,
}

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    db: DatabaseConnection,
    backend: DbBackend,
    statements: Arc<AtomicU64>,
}

impl Store {
    /// Opens the database. It is not migrated, and not looked at yet.
    pub async fn connect(settings: &ConnectSettings) -> Result<Self, StoreError> {
        let forced_to_disk = settings.forced_to_disk;
        let mut options = ConnectOptions::new(settings.url.0.clone());
        options
            .max_connections(settings.max_connections)
            .acquire_timeout(Duration::from_secs(30))
            .sqlx_logging(false)
            .map_sqlx_sqlite_opts(move |options| sqlite_options(options, forced_to_disk))
            .map_sqlx_postgres_opts(postgres_options);
        let db = Database::connect(options).await?;
        let backend = db.get_database_backend();
        Ok(Self {
            db,
            backend,
            statements: Arc::new(AtomicU64::new(0)),
        })
    }

    /// Brings the schema up to date. Any number of processes may do so at once: one does it, the others wait.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let txn = self.begin().await?;
        if self.backend == DbBackend::Postgres {
            txn.conn
                .execute_unprepared(&format!("select pg_advisory_xact_lock({MIGRATION_LOCK})"))
                .await?;
        }
        Migrator::up(&txn.conn, None).await?;
        txn.commit().await
    }

    /// Checks that the schema is that of this program.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        let missing = Migrator::get_pending_migrations(&self.db).await?.len();
        if missing == 0 {
            return Ok(());
        }
        Err(StoreError::Schema(format!(
            "the database lacks {missing} migration(s): run `campaignd migrate` first"
        )))
    }

    /// For reading.
    pub fn reader(&self) -> Reader {
        Session {
            conn: self.db.clone(),
            backend: self.backend,
            statements: Arc::clone(&self.statements),
        }
    }

    /// For writing. On `SQLite` it is a writer from the start, and waits for its turn.
    pub async fn begin(&self) -> Result<Txn, StoreError> {
        let mode = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let conn = self.db.begin_with_options(mode).await?;
        Ok(Session {
            conn,
            backend: self.backend,
            statements: Arc::clone(&self.statements),
        })
    }

    /// Asks the database whether it is there.
    pub async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.db.ping().await?)
    }

    /// How many statements have been run, BEGIN and COMMIT not counted.
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// Closes all connections.
    pub async fn close(self) -> Result<(), StoreError> {
        Ok(self.db.close().await?)
    }
}

/// Write-ahead log, so that readers and the writer don't wait for each other. Every commit is forced to the disk (FULL): after a
/// power cut the claims must be known under which messages may have been sent.
fn sqlite_options(options: SqliteConnectOptions, forced_to_disk: bool) -> SqliteConnectOptions {
    let synchronous = if forced_to_disk {
        SqliteSynchronous::Full
    } else {
        SqliteSynchronous::Normal
    };
    options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .busy_timeout(Duration::from_secs(10))
        .foreign_keys(true)
}

/// Generic plans: with a custom one the planner takes a lease token, of which it has seen none, for one that no row has,
/// and scans the table.
fn postgres_options(options: PgConnectOptions) -> PgConnectOptions {
    options.application_name("campaignd").options([
        ("statement_timeout", STATEMENT_TIMEOUT),
        ("idle_in_transaction_session_timeout", STATEMENT_TIMEOUT),
        ("plan_cache_mode", "force_generic_plan"),
    ])
}
