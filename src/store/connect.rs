//! Opening the database.

use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnAcquireErr, ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DbBackend, DbErr,
    SqliteTransactionMode, TransactionOptions, TransactionTrait as _,
};
use sqlx::Connection as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;

use super::emitted::Emitted;
use super::layout::Layout;
use super::link::{self, Link};
use super::places::Places;
use super::session::{Reader, Session, Txn};
use super::{StoreError, StoreUrl, statements};
use crate::telemetry::{Connections, Metrics};

/// How long a connection may wait for a free place in the pool, and for the database to take it.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// How to open the database.
#[derive(Debug, Clone)]
pub struct ConnectSettings {
    /// Where it is.
    pub url: StoreUrl,
    /// The most connections at a time.
    pub max_connections: u32,
    /// Whether `SQLite` forces every commit to the disk; not so where a power cut may take what was done last.
    pub forced_to_disk: bool,
    /// How long `SQLite` waits for its turn to write while others do.
    pub busy_timeout: Duration,
    /// How long `PostgreSQL` works on a statement, and waits within a transaction for the next one.
    pub statement_timeout: Duration,
}

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    db: DatabaseConnection,
    pub(super) backend: DbBackend,
    pub(super) layout: Layout,
    place: Arc<str>,
    /// The link to `PostgreSQL`.
    link: Option<Arc<Link>>,
    places: Places,
    max_connections: u32,
    /// Whose turn it is to write to `SQLite`.
    turns: Option<Turns>,
    statements: Arc<Emitted>,
    metrics: Metrics,
}

/// Turns to write. `SQLite` has one writer at a time, and whoever waits for it asks again and again, so that among many one may wait
/// for ever. Here the writers of this process stand in line, and hold no connection meanwhile.
#[derive(Debug, Clone)]
struct Turns {
    line: Arc<Mutex<()>>,
    /// How long to stand in it.
    patience: Duration,
}

impl Store {
    /// Opens the database. It is not migrated, and not looked at yet but for how its tables lie.
    pub async fn connect(settings: &ConnectSettings) -> Result<Self, StoreError> {
        let store = Self::open(settings, ONE_NODE).await?;
        let layout = store.surveyor().read_layout().await?;
        if !layout.is_distributed() {
            return Ok(store);
        }
        store.close().await?;
        let store = Self::open(settings, CITUS).await?;
        Ok(Self { layout, ..store })
    }

    async fn open(settings: &ConnectSettings, plans: &'static [(&str, &str)]) -> Result<Self, StoreError> {
        let place = settings.url.place();
        let opened = open(settings, plans).await;
        let (db, link) = opened.map_err(|error| StoreError::of(error, &place))?;
        let backend = db.get_database_backend();
        let link = (backend == DbBackend::Postgres).then_some(link);
        let turns = (backend == DbBackend::Sqlite).then(|| Turns {
            line: Arc::default(),
            patience: settings.busy_timeout,
        });
        Ok(Self {
            db,
            backend,
            layout: Layout::OneNode,
            place,
            link,
            places: Places::new(statements::system(backend), settings.max_connections, ACQUIRE_TIMEOUT),
            max_connections: settings.max_connections,
            turns,
            statements: Arc::default(),
            metrics: Metrics::unread(),
        })
    }

    /// How many transactions of one tick may write at a time: more than one keep a server of `PostgreSQL` busy while this process
    /// thinks, and `SQLite` has one writer.
    pub fn writes_at_a_time(&self) -> usize {
        if self.backend == DbBackend::Postgres { 2 } else { 1 }
    }

    /// Whether what is done for many customers is cheaper within one shard than all over them.
    pub fn has_shards(&self) -> bool {
        self.layout.is_distributed()
    }

    /// The same, and all that it does is counted.
    #[must_use]
    pub fn counted_by(self, metrics: Metrics) -> Self {
        let (db, backend, places, most) = (self.db.clone(), self.backend, self.places.clone(), self.max_connections);
        metrics.show_connections(statements::system(self.backend), most, move || {
            let (open, idle) = if backend == DbBackend::Postgres {
                let pool = db.get_postgres_connection_pool();
                (pool.size(), pool.num_idle())
            } else {
                let pool = db.get_sqlite_connection_pool();
                (pool.size(), pool.num_idle())
            };
            let idle = u32::try_from(idle).unwrap_or(u32::MAX);
            Connections {
                idle,
                used: open.saturating_sub(idle),
                waiting: places.waiting(),
            }
        });
        Self { metrics, ..self }
    }

    /// For reading.
    pub fn reader(&self) -> Reader {
        Session {
            conn: self.db.clone(),
            backend: self.backend,
            layout: self.layout.clone(),
            place: Arc::clone(&self.place),
            link: self.link.clone(),
            is_alone: true,
            statements: Arc::clone(&self.statements),
            metrics: self.metrics.clone(),
            places: self.places.clone(),
            taken: None,
            turn: None,
        }
    }

    /// For reading what is watched from time to time, which is not among the statements that are counted.
    pub fn surveyor(&self) -> Reader {
        Session {
            statements: Arc::default(),
            ..self.reader()
        }
    }

    /// For writing. On `SQLite` it is a writer from the start, and waits for its turn.
    pub async fn begin(&self) -> Result<Txn, StoreError> {
        let mode = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let turn = match &self.turns {
            Some(turns) => Some(turns.wait().await.map_err(|error| self.failed(error))?),
            None => None,
        };
        let taken = self.places.take(&self.metrics).await;
        let taken = taken.map_err(|error| self.failed(error))?;
        let begin = || link::wait(self.link.as_deref(), self.db.begin_with_options(mode));
        let begun = Instant::now();
        let conn = match begin().await {
            Err(error) if link::is_broken(&error) => begin().await,
            conn => conn,
        };
        let conn = conn.map_err(|error| self.failed(error));
        statements::note(
            &self.metrics,
            statements::system(self.backend),
            ("BEGIN", None),
            begun,
            &conn,
        );
        let conn = conn?;
        Ok(Session {
            conn,
            backend: self.backend,
            layout: self.layout.clone(),
            place: Arc::clone(&self.place),
            link: self.link.clone(),
            is_alone: false,
            statements: Arc::clone(&self.statements),
            metrics: self.metrics.clone(),
            places: self.places.clone(),
            taken: Some(taken),
            turn,
        })
    }

    /// Asks the database whether it is there.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let ping = link::wait(self.link.as_deref(), self.db.ping()).await;
        ping.map_err(|error| self.failed(error))
    }

    /// Overwrites what was deleted, where the database does so only when asked: `SQLite` keeps old pages in its write-ahead log.
    /// While somebody reads, it is left for the next time. `PostgreSQL` does it by autovacuum.
    pub async fn forget_deleted(&self) -> Result<(), StoreError> {
        if self.backend == DbBackend::Sqlite {
            let done = self.db.execute_unprepared("pragma wal_checkpoint(truncate)").await;
            done.map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// How many statements have been run, BEGIN and COMMIT not counted.
    pub fn statements(&self) -> u64 {
        self.statements.count()
    }

    /// The text of each statement that has been run, sorted.
    #[cfg(feature = "test-support")]
    pub fn statement_texts(&self) -> Vec<String> {
        self.statements.texts()
    }

    /// Closes all connections.
    pub async fn close(self) -> Result<(), StoreError> {
        let Self { db, place, .. } = self;
        db.close().await.map_err(|error| StoreError::of(error, &place))
    }

    pub(super) fn failed(&self, error: DbErr) -> StoreError {
        StoreError::of(error, &self.place)
    }
}

/// Opens connections, and says what is known of the link that they use.
async fn open(
    settings: &ConnectSettings,
    plans: &'static [(&str, &str)],
) -> Result<(DatabaseConnection, Arc<Link>), DbErr> {
    let (forced_to_disk, busy_timeout) = (settings.forced_to_disk, settings.busy_timeout);
    let statement_timeout = settings.statement_timeout;
    let link = Arc::new(Link::new(statement_timeout));
    let mut options = ConnectOptions::new(settings.url.as_str());
    options
        .max_connections(settings.max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(move |options| sqlite_options(options, forced_to_disk, busy_timeout))
        // When a COMMIT fails on a full disk, SQLite has rolled back by itself. sqlx then takes the connection for one in a
        // transaction, and begins the next as a savepoint, which waits for nobody. Such a connection is not used again.
        .map_sqlx_sqlite_before_acquire(|connection, _| {
            let is_clean = !connection.is_in_transaction();
            Box::pin(std::future::ready(Ok(is_clean)))
        })
        .map_sqlx_postgres_opts(move |options| postgres_options(options, statement_timeout, plans))
        // The link's test is in place of sqlx's own, which waits for ever for a connection that is silent.
        .test_before_acquire(false)
        .map_sqlx_postgres_before_acquire({
            let link = Arc::clone(&link);
            move |connection, used| {
                let link = Arc::clone(&link);
                Box::pin(async move { link.check_idle(connection, used.idle_for).await.map(|()| true) })
            }
        })
        // A statement that was given up leaves a connection that may be silent for ever. sqlx would ask it without an end
        // whether it still is one, and its place in the pool would be lost.
        .map_sqlx_postgres_pool_opts({
            let link = Arc::clone(&link);
            move |options| {
                let link = Arc::clone(&link);
                options.after_release(move |connection, _| {
                    let link = Arc::clone(&link);
                    Box::pin(async move { link.check(connection).await.map(|()| true) })
                })
            }
        });
    Ok((Database::connect(options).await?, link))
}

impl Turns {
    async fn wait(&self) -> Result<OwnedMutexGuard<()>, DbErr> {
        let turn = tokio::time::timeout(self.patience, Arc::clone(&self.line).lock_owned()).await;
        turn.map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))
    }
}

/// Write-ahead log, so that readers and the writer don't wait for each other. Every commit is forced to the disk (FULL): after a
/// power cut the claims must be known under which messages may have been sent.
fn sqlite_options(options: SqliteConnectOptions, forced_to_disk: bool, busy_timeout: Duration) -> SqliteConnectOptions {
    let synchronous = if forced_to_disk {
        SqliteSynchronous::Full
    } else {
        SqliteSynchronous::Normal
    };
    options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .busy_timeout(busy_timeout)
        .foreign_keys(true)
        // What is deleted is overwritten: a customer that was erased must not be found in the file.
        .pragma("secure_delete", "on")
        // The thread that reads for a connection hands over each row of a claim without waiting for who takes them.
        .row_buffer_size(1024)
}

/// Generic plans: with a custom one the planner takes a lease token, of which it has seen none, for one that no row has,
/// and scans the table. And each statement has an index by which it finds its rows: a plan of the time when the table was small would
/// read all of it, for each customer in the worst case, until somebody analyzes it. What has none counts as so costly then that it would
/// be compiled each time.
const ONE_NODE: &[(&str, &str)] = &[
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("jit", "off"),
];

/// Citus can't plan without knowing the parameters by which rows are in one shard or another. Each session has one connection to each
/// node: there are many sessions, and what is committed on many connections is prepared on each of them first.
const CITUS: &[(&str, &str)] = &[("citus.max_adaptive_executor_pool_size", "1")];

fn postgres_options(
    options: PgConnectOptions,
    statement_timeout: Duration,
    plans: &'static [(&str, &str)],
) -> PgConnectOptions {
    let timeout = format!("{}ms", statement_timeout.as_millis());
    let timeouts = [
        ("statement_timeout", timeout.as_str()),
        ("idle_in_transaction_session_timeout", &timeout),
    ];
    options
        .application_name("campaignd")
        .options(timeouts)
        .options(plans.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::super::session::values;
    use super::*;
    use sea_orm::FromQueryResult;
    use std::path::Path;

    #[derive(FromQueryResult)]
    struct Pragma {
        value: String,
    }

    async fn store(directory: &Path, forced_to_disk: bool, busy_timeout: Duration) -> Store {
        store_with(1, directory, forced_to_disk, busy_timeout).await
    }

    async fn store_with(max_connections: u32, directory: &Path, forced_to_disk: bool, busy_timeout: Duration) -> Store {
        let url = format!("sqlite://{}?mode=rwc", directory.join("test.db").display());
        let settings = ConnectSettings {
            url: StoreUrl::parse(&url).expect("a URL"),
            max_connections,
            forced_to_disk,
            busy_timeout,
            statement_timeout: Duration::from_mins(1),
        };
        let store = Store::connect(&settings).await.expect("a database");
        store.migrate().await.expect("a schema");
        store
    }

    #[tokio::test]
    async fn connections_are_safe_against_power_cuts() {
        for (forced_to_disk, synchronous) in [(true, "2"), (false, "1")] {
            let directory = tempfile::tempdir().expect("a directory");
            let store = store(directory.path(), forced_to_disk, Duration::from_secs(7)).await;
            for (pragma, expected) in [
                ("journal_mode", "wal"),
                ("synchronous", synchronous),
                ("busy_timeout as timeout", "7000"),
                ("foreign_keys", "1"),
            ] {
                let (name, column) = pragma.split_once(" as ").unwrap_or((pragma, pragma));
                let sql = format!("select cast({column} as text) as value from pragma_{name}");
                let found: Option<Pragma> = store.reader().row(&sql, values![]).await.expect("a setting");
                assert_eq!(found.expect("a setting").value, expected, "{pragma}");
            }
        }
    }

    /// However many there are, nobody is passed by.
    #[tokio::test]
    async fn who_asks_first_writes_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = store_with(32, directory.path(), true, Duration::from_mins(1)).await;
        let first = store.begin().await.expect("a transaction");
        let order = std::sync::Mutex::new(Vec::new());
        let mut writers: Vec<_> = (0..20)
            .map(|n| {
                let (store, order) = (&store, &order);
                Box::pin(async move {
                    let txn = store.begin().await.expect("a transaction");
                    order.lock().expect("the order").push(n);
                    txn.commit().await.expect("committed");
                })
            })
            .collect();
        for writer in &mut writers {
            assert!(futures::poll!(writer).is_pending());
        }
        first.commit().await.expect("committed");
        futures::future::join_all(writers).await;
        let order = order.into_inner().expect("the order");
        assert_eq!(order, (0..20).collect::<Vec<_>>());
    }

    /// A transaction that SQLite rolled back by itself leaves nothing behind: not a row, and no connection that would no
    /// longer wait for its turn.
    #[tokio::test]
    async fn a_full_database_is_whole_and_goes_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let here = store(directory.path(), true, Duration::from_secs(10)).await;
        let insert = "insert into service_metadata (key, value) values ($1, $2)";
        let value = "x".repeat(100_000);
        let txn = here.begin().await.expect("a transaction");
        txn.execute("pragma max_page_count = 60", values![])
            .await
            .expect("a setting");
        txn.execute(insert, values!["first", "small"]).await.expect("room");
        let mut full = Ok(1);
        for n in 0..10 {
            full = txn.execute(insert, values![format!("row{n}"), value.as_str()]).await;
            if full.is_err() {
                break;
            }
        }
        assert!(
            matches!(&full, Err(StoreError::Disk { place, .. }) if place.ends_with("test.db")),
            "{full:?}"
        );
        drop(txn);

        // A fresh connection, without the limit of the one before. Nobody else can write beside it, as it was from the start.
        let txn = here.begin().await.expect("a transaction");
        let there = store_as_it_is(directory.path()).await;
        let busy = there.begin().await;
        assert!(matches!(busy, Err(StoreError::Unavailable(_))), "{busy:?}");
        txn.execute(insert, values!["again", value.as_str()])
            .await
            .expect("room");
        txn.commit().await.expect("committed");
        let sql =
            "select cast(count(*) as text) as value from service_metadata where key in ('first', 'again', 'row0')";
        let count: Option<Pragma> = here.reader().row(sql, values![]).await.expect("a count");
        assert_eq!(count.expect("a count").value, "1");
    }

    async fn store_as_it_is(directory: &Path) -> Store {
        let url = format!("sqlite://{}", directory.join("test.db").display());
        let settings = ConnectSettings {
            url: StoreUrl::parse(&url).expect("a URL"),
            max_connections: 1,
            forced_to_disk: true,
            busy_timeout: Duration::from_millis(20),
            statement_timeout: Duration::from_mins(1),
        };
        Store::connect(&settings).await.expect("a database")
    }
}
