//! A fresh database for each test: a file for SQLite, and for PostgreSQL a database of its own in the server that
//! `TEST_DATABASE_URL` names.

use sea_orm::{ConnectionTrait as _, Database, DbBackend, Statement};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

use super::canaries::{self, PASSWORD};

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

/// A database that nobody else uses.
#[derive(Debug)]
pub(crate) struct TestDatabase {
    /// Where it is.
    pub url: String,
    _directory: Option<TempDir>,
    _watched: Watched,
}

/// Fails the test that lets go of it when there was something in what servers gave out that must not be there.
#[derive(Debug)]
struct Watched;

impl Drop for Watched {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            canaries::check();
        }
    }
}

/// The server to make databases in. In CI a missing one is a failure; elsewhere the test passes without having run.
pub(crate) fn postgres_url() -> Option<String> {
    let url = std::env::var("TEST_DATABASE_URL").ok();
    assert!(
        url.is_some() || std::env::var_os("CI").is_none(),
        "TEST_DATABASE_URL must be set in CI: a test wants PostgreSQL"
    );
    url
}

/// Whether that server is the coordinator of a Citus cluster, over which the tables of each test are distributed.
pub(crate) fn is_citus() -> bool {
    std::env::var_os("TEST_CITUS").is_some()
}

impl TestDatabase {
    /// An empty database; none: there is no server to make it in.
    pub(crate) async fn create(backend: Backend) -> Option<Self> {
        match backend {
            Backend::Sqlite => {
                let directory = tempfile::tempdir().expect("a directory");
                let url = format!("sqlite://{}", directory.path().join("test.db").display());
                Some(Self {
                    url,
                    _directory: Some(directory),
                    _watched: Watched,
                })
            }
            Backend::Postgres => {
                static COUNT: AtomicU32 = AtomicU32::new(0);
                let url = postgres_url()?;
                let name = format!(
                    "campaign_test_{}_{}",
                    std::process::id(),
                    COUNT.fetch_add(1, Ordering::Relaxed)
                );
                Some(Self::create_in(&url, &name).await)
            }
        }
    }
}

impl TestDatabase {
    /// One that is there, and is somebody else's to remove.
    pub(crate) fn at(url: String) -> Self {
        Self {
            url,
            _directory: None,
            _watched: Watched,
        }
    }

    /// An empty database of this name in a PostgreSQL, which is reached by the URL of another one of its databases.
    pub(crate) async fn create_in(url: &str, name: &str) -> Self {
        make_on(url, name).await;
        if is_citus() {
            make_on_workers(url, name).await;
        }
        let (server, _) = url.rsplit_once('/').expect("a URL with a database");
        let url = match server.split_once("://").and_then(|(_, rest)| rest.split_once('@')) {
            Some((user, _)) if !user.contains(':') => server.replacen('@', &format!(":{PASSWORD}@"), 1),
            Some(_) | None => server.to_owned(),
        };
        Self {
            url: format!("{url}/{name}"),
            _directory: None,
            _watched: Watched,
        }
    }

    /// A copy, as a backup that was restored. Nobody may be using the database.
    pub(crate) async fn copy(&self) -> Self {
        let backend = if self.url.starts_with("sqlite:") {
            Backend::Sqlite
        } else {
            Backend::Postgres
        };
        let copy = Self::create(backend).await.expect("a database");
        match backend {
            Backend::Sqlite => {
                let path = |url: &str| url.trim_start_matches("sqlite://").to_owned();
                let database = Database::connect(&self.url).await.expect("the database");
                let statement = format!("vacuum into '{}'", path(&copy.url));
                database.execute_unprepared(&statement).await.expect("a copy");
                database.close().await.expect("closed");
            }
            Backend::Postgres => {
                let name = |url: &str| url.rsplit_once('/').expect("a URL with a database").1.to_owned();
                let (of, to) = (name(&self.url), name(&copy.url));
                let url = postgres_url().expect("a server");
                let admin = Database::connect(&url).await.expect("the server of TEST_DATABASE_URL");
                for statement in [
                    format!("drop database {to}"),
                    format!("create database {to} template {of}"),
                ] {
                    admin.execute_unprepared(&statement).await.expect("a copy");
                }
                admin.close().await.expect("closed");
            }
        }
        copy
    }
}

/// Makes an empty database in the server of a URL.
async fn make_on(url: &str, name: &str) {
    let admin = Database::connect(url).await.expect("the server of TEST_DATABASE_URL");
    for statement in [
        format!("drop database if exists {name}"),
        format!("create database {name}"),
    ] {
        admin.execute_unprepared(&statement).await.expect("a database");
    }
    admin.close().await.expect("closed");
}

/// Makes a database of this name on the workers of a cluster as well, with the extension, and tells its nodes of each other.
async fn make_on_workers(coordinator: &str, name: &str) {
    // Nodes that are told of each other at one time trip over the roles that they share.
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _turn = TURN.lock().await;
    let known = Database::connect(coordinator).await.expect("the coordinator");
    let nodes = "select nodename, nodeport, groupid from pg_dist_node order by groupid";
    let nodes = Statement::from_string(DbBackend::Postgres, nodes);
    let nodes = known.query_all_raw(nodes).await.expect("the nodes of the cluster");
    known.close().await.expect("closed");
    let (server, _) = coordinator.rsplit_once('/').expect("a URL with a database");
    let (server, of_coordinator) = server.rsplit_once(':').expect("a URL with a port");
    let mut told = vec![format!("alter database {name} set citus.shard_count = 4")];
    for node in nodes {
        let (host, port, group): (String, i32, i32) = (
            node.try_get("", "nodename").expect("a host"),
            node.try_get("", "nodeport").expect("a port"),
            node.try_get("", "groupid").expect("a group"),
        );
        let is_worker = port.to_string() != of_coordinator;
        if is_worker {
            make_on(&format!("{server}:{port}/postgres"), name).await;
        }
        let database = Database::connect(format!("{server}:{port}/{name}"))
            .await
            .expect("a node");
        database
            .execute_unprepared("create extension citus")
            .await
            .expect("Citus");
        database.close().await.expect("closed");
        assert_eq!(is_worker, group != 0, "TEST_DATABASE_URL names the coordinator");
        told.push(if is_worker {
            format!("select citus_add_node('{host}', {port})")
        } else {
            format!("select citus_set_coordinator_host('{host}', {port})")
        });
    }
    let database = Database::connect(format!("{server}:{of_coordinator}/{name}")).await;
    let database = database.expect("the coordinator");
    for statement in told {
        database.execute_unprepared(&statement).await.expect("a cluster");
    }
    database.close().await.expect("closed");
}

/// Runs tests on both databases: each of these async functions takes a [`Backend`].
macro_rules! on_each_database {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::support::Backend::Sqlite).await;
            })+
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if $crate::support::postgres_url().is_some() {
                    super::$name($crate::support::Backend::Postgres).await;
                }
            })+
        }
    };
}
pub(crate) use on_each_database;
