//! Programs that a signal ends before they are done: they say so, leave nothing half done, and the next run does the rest. Each hangs
//! on something here, so that none is done before the signal is there.

use sea_orm::{ConnectionTrait as _, Database, DatabaseTransaction, TransactionTrait as _};
use std::net::TcpListener;
use std::path::Path;
use tokio::task::block_in_place;

use crate::purge::{engagements, record};
use crate::support::given::{definition, email};
use crate::support::process::{CAMPAIGN_TICK, CAMPAIGND, Served, check, program, run};
use crate::support::{App, Backend, Rows, TestDatabase, on_each_database};

on_each_database!(
    a_purge_ends_after_what_it_has_begun,
    a_fence_changes_nothing_or_all,
    a_migration_that_does_not_come_to_its_end_changes_nothing,
);

/// As whoever schedules it knows it: try again.
const TRY_AGAIN: i32 = 75;

/// Keeps others from going on, until it is dropped: a transaction that has run a statement.
async fn hold(url: &str, statement: &str) -> DatabaseTransaction {
    let database = Database::connect(url).await.expect("the database");
    let held = database.begin().await.expect("a transaction");
    held.execute_unprepared(statement).await.expect(statement);
    held
}

/// A program on a database, as it begins.
fn begin(directory: &Path, url: &str, arguments: &[&str]) -> Served {
    let mut command = program(CAMPAIGND, directory, arguments);
    command.env("CAMPAIGN_DATABASE_URL", url);
    Served::begin(command)
}

/// Sends a signal to a program that hangs, and waits for its end, with what hangs it let go once it has heard.
async fn end(served: Served, signal: &str, held: DatabaseTransaction) {
    block_in_place(|| {
        served.until_it_hears();
        served.signal(signal);
        served.until(&format!("stopping, as SIG{signal} came"));
    });
    held.rollback().await.expect("let go");
    let (status, said) = block_in_place(|| served.ended_saying());
    assert_eq!(status.code(), Some(TRY_AGAIN), "{said:?}");
    let last = said.last().expect("why it ended");
    assert!(last.contains("ended by a signal before it was done"), "{said:?}");
}

async fn a_purge_ends_after_what_it_has_begun(backend: Backend) {
    let directory = tempfile::tempdir().expect("a directory");
    let app = App::start(backend).await;
    app.customer("anna", "Etc/UTC").await;
    for part in 0..5 {
        let ids = (0..1000).map(|n| format!("{part}-{n}"));
        record(&app, "anna", ids, "2026-01-05T11:00:00Z").await;
    }
    std::fs::write(directory.path().join("clock"), "2026-03-01T00:00:00Z").expect("a clock");
    let arguments = ["purge", "--older-than", "30d"];
    let purge = || {
        let mut command = program(CAMPAIGND, directory.path(), &arguments);
        command.env("CAMPAIGN_DATABASE_URL", &app.database.url);
        command.env("CAMPAIGN_TEST_CLOCK", "clock");
        command
    };
    let lock = match backend {
        Backend::Sqlite => "delete from engagement_events where event_id = 'of nobody'",
        Backend::Postgres => "lock table engagement_events in share mode",
    };
    let held = hold(&app.database.url, lock).await;
    end(Served::begin(purge()), "TERM", held).await;
    // A page has 1,000 at most, so this is at least as much as one batch leaves.
    assert_eq!(engagements(&app, "anna").await.len(), 1000);
    let rest = block_in_place(|| run(purge()));
    check(&rest, 0, &["0 executions of ended runs"]);
    assert!(engagements(&app, "anna").await.is_empty());
    app.server.shutdown().await.expect("stopped");
}

async fn a_fence_changes_nothing_or_all(backend: Backend) {
    let directory = tempfile::tempdir().expect("a directory");
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    let stopped = app.stop_server().await;
    let url = &stopped.database.url;
    let rows = Rows::at(url, backend).await;
    let before = rows.all().await;
    let lock = match backend {
        Backend::Sqlite => "delete from customers where customer_id = 'nobody'",
        Backend::Postgres => "lock table customer_timeline_progress, customers in access exclusive mode",
    };
    let arguments = ["fence", "--before", "2026-01-05T13:00:00Z"];
    for signal in ["TERM", "INT"] {
        let held = hold(url, lock).await;
        end(begin(directory.path(), url, &arguments), signal, held).await;
        assert_eq!(rows.all().await, before, "{signal}");
    }
    let mut fence = program(CAMPAIGND, directory.path(), &arguments);
    fence.env("CAMPAIGN_DATABASE_URL", url);
    check(&block_in_place(|| run(fence)), 0, &["1 with something to fence"]);
    assert_ne!(rows.all().await, before);
}

async fn a_migration_that_does_not_come_to_its_end_changes_nothing(backend: Backend) {
    let directory = tempfile::tempdir().expect("a directory");
    let database = TestDatabase::create(backend).await.expect("a database");
    if backend == Backend::Sqlite {
        // A new file is opened by one at a time; one in this mode is opened while another writes to it.
        let new = Database::connect(format!("{}?mode=rwc", database.url)).await;
        let new = new.expect("the database");
        new.execute_unprepared("pragma journal_mode = wal").await.expect("set");
        new.close().await.expect("closed");
    }
    // Another migrator is at work.
    let table = "create table seaql_migrations (version varchar primary key, applied_at bigint not null)";
    for signal in ["TERM", "INT"] {
        let held = hold(&database.url, table).await;
        end(begin(directory.path(), &database.url, &["migrate"]), signal, held).await;
        // Nothing of it is there, or this would fail.
        hold(&database.url, table).await.rollback().await.expect("let go");
    }
    let mut migrate = program(CAMPAIGND, directory.path(), &["migrate"]);
    migrate.env("CAMPAIGN_DATABASE_URL", &database.url);
    check(&block_in_place(|| run(migrate)), 0, &["up to date"]);
}

/// The server goes on by itself, and does not answer here.
#[test]
fn a_tick_that_is_told_hands_over_to_the_next() {
    let directory = tempfile::tempdir().expect("a directory");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = format!("http://{}", silent.local_addr().expect("an address"));
    for signal in ["TERM", "INT"] {
        let tick = Served::begin(program(
            CAMPAIGN_TICK,
            directory.path(),
            &["hourly", "--server", &server],
        ));
        tick.until_it_hears();
        tick.signal(signal);
        let (status, said) = tick.ended_saying();
        assert_eq!(status.code(), Some(TRY_AGAIN), "{said:?}");
        assert!(
            said.concat().contains("ended by a signal before it was done"),
            "{said:?}"
        );
    }
}
