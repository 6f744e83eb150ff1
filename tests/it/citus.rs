//! PostgreSQL distributed by Citus.
//!
//! There is no cluster here, unless somebody brings one; `tests/citus/cluster.sh` makes it on this machine, and each test that has a
//! database of PostgreSQL has one distributed over it:
//!
//! ```text
//! TEST_CITUS=1 TEST_DATABASE_URL=$(tests/citus/cluster.sh start DIRECTORY) cargo test --features test-support --test it
//! ```
//!
//! Tests that stop a server by a trigger, give a row to another customer, count statements, or wait until the database says that somebody
//! waits for a lock don't pass there.
//!
//! Everywhere else it is played: a server that reads of shards works as it does there, and a single PostgreSQL takes all that it says.

mod rules;

use campaign_automation::config::{Config, DatabaseArgs};
use campaign_automation::server;
use campaign_automation::store::StoreUrl;
use migrations::distribution::{Place, TABLES, statement};
use sea_orm::{ConnectionTrait as _, Database, DbBackend, Statement};
use std::path::Path;

use crate::support::given::{definition, email};
use crate::support::mailing::crowd;
use crate::support::{App, Backend, TestDatabase, is_citus, on_each_database, postgres_url};
use crate::upgrades::{statements_of_all_methods, walk};

on_each_database!(what_is_no_cluster_is_told_what_to_do);

fn database(url: &str) -> DatabaseArgs {
    Config::embedded(StoreUrl::parse(url).expect("a URL"), Path::new(".")).database
}

/// As Citus has it in its own catalog.
const PLAYED: &str = "create table pg_dist_shard (logicalrelid regclass, shardminvalue text); \
                      insert into pg_dist_shard select 'customers'::regclass, first \
                      from unnest(array['-2147483648', '-1073741824', '0', '1073741824']) as first";

/// A server that takes its database for one of four shards, or has one of a cluster.
async fn app_with_shards() -> App {
    let place = TestDatabase::create(Backend::Postgres).await.expect("a database");
    if !is_citus() {
        server::migrate(&database(&place.url), false).await.expect("a schema");
        let sql = Database::connect(&place.url).await.expect("the database");
        sql.execute_unprepared(PLAYED).await.expect("shards");
        sql.close().await.expect("closed");
    }
    App::start_on(place, walk).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_statement_keeps_the_rules() {
    if postgres_url().is_none() {
        return;
    }
    let statements = statements_of_all_methods(app_with_shards().await).await;
    let broken: Vec<String> = statements
        .iter()
        .map(|sql| (sql, rules::broken_rules(sql)))
        .filter(|(_, broken)| !broken.is_empty())
        .map(|(sql, broken)| format!("{}\n    {sql}", broken.join("\n")))
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    // It is asked, and no exception is one that nobody needs.
    let routed = |sql: &&String| sql.contains("= any($");
    assert!(statements.iter().filter(routed).count() > 10, "shards are told apart");
    let idle: Vec<&str> = rules::ALL_SHARDS
        .iter()
        .filter(|one| !statements.iter().any(|sql| sql.contains(one.with)))
        .map(|one| one.why)
        .collect();
    assert!(idle.is_empty(), "{idle:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_table_has_a_place_that_its_keys_allow() {
    if postgres_url().is_none() {
        return;
    }
    let place = TestDatabase::create(Backend::Postgres).await.expect("a database");
    server::migrate(&database(&place.url), false).await.expect("a schema");
    let sql = Database::connect(&place.url).await.expect("the database");
    let rows = async |query: &str| {
        let rows = sql
            .query_all_raw(Statement::from_string(DbBackend::Postgres, query))
            .await;
        let names = rows
            .expect("rows")
            .into_iter()
            .map(|row| row.try_get::<String>("", "name"));
        names.collect::<Result<Vec<_>, _>>().expect("names")
    };
    let tables = "select relname::text as name from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace \
                  and relname <> 'seaql_migrations' order by relname";
    let mut placed = TABLES.map(|(table, _)| table);
    placed.sort_unstable();
    assert_eq!(rows(tables).await, placed);
    let distributed: Vec<&str> = TABLES
        .into_iter()
        .filter(|(_, place)| *place == Place::Customers)
        .map(|(table, _)| table)
        .collect();
    let without = "select i.indexrelid::regclass::text as name from pg_index i where i.indisunique \
                   and i.indrelid = any(select t::regclass from unnest(TABLES) t) and not exists (select from pg_attribute a \
                   where a.attrelid = i.indrelid and a.attname = 'customer_id' and a.attnum = any(i.indkey))";
    let list = format!("array['{}']", distributed.join("', '"));
    assert_eq!(rows(&without.replace("TABLES", &list)).await, Vec::<String>::new());
    let one = "select indexrelid::regclass::text as name from pg_index where indexrelid = 'tick_runs_pkey'::regclass and indisunique";
    assert_eq!(rows(one).await, ["tick_runs_pkey"], "unique indexes are seen");
    sql.close().await.expect("closed");
    assert_eq!(statement("tick_runs", Place::Coordinator), None);
    let first = statement("customers", Place::Customers).expect("a statement");
    let other = statement("request_log", Place::Customers).expect("a statement");
    assert!(
        first.contains("'default'") && other.contains("colocate_with => 'customers'"),
        "{first} {other}"
    );
}

/// Where runs lie in shards, how many there are is told from a sample.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_of_runs_are_about_as_long_as_they_are_asked_for() {
    const RUNS: usize = 2000;
    if postgres_url().is_none() {
        return;
    }
    let app = app_with_shards().await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    crowd(&app, &timeline, "c", RUNS).await;
    let store = app.server.engine().store().reader();
    for size in [1, 31, 640, RUNS, 2 * RUNS] {
        let (mut after, mut lengths) = (String::new(), Vec::new());
        while let Some(range) = store.next_range(&after, size).await.expect("a range") {
            assert!(range.after == after && range.until > after, "{range:?}");
            let number = |customer: &str| {
                customer
                    .get(1..)
                    .map_or(0, |digits| 1 + digits.parse::<usize>().expect("a number"))
            };
            lengths.push(number(&range.until) - number(&after));
            after = range.until;
            if size < 100 && lengths.len() == 10 {
                break;
            }
        }
        let about = size / 2..=2 * size;
        let (last, others) = lengths.split_last().expect("ranges");
        assert!(
            others.iter().all(|length| about.contains(length)),
            "{size}: {lengths:?}"
        );
        assert!(*last <= 2 * size, "{size}: {lengths:?}");
        if size >= 100 {
            assert_eq!(lengths.iter().sum::<usize>(), RUNS, "{size}");
        }
    }
    app.server.shutdown().await.expect("stopped");
}

/// What it knows of the shards is from its start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_says_that_the_tables_were_distributed_under_it() {
    if postgres_url().is_none() || is_citus() {
        return;
    }
    let app = App::start(Backend::Postgres).await;
    let store = app.server.engine().store();
    store.check_schema().await.expect("the schema that it knows");
    let sql = Database::connect(&app.database.url).await.expect("the database");
    sql.execute_unprepared(PLAYED).await.expect("shards");
    sql.close().await.expect("closed");
    let refused = store.check_schema().await.expect_err("a refusal");
    assert!(refused.to_string().contains("start it again"), "{refused}");
    app.server.shutdown().await.expect("stopped");
}

async fn what_is_no_cluster_is_told_what_to_do(backend: Backend) {
    let place = TestDatabase::create(backend).await.expect("a database");
    if backend == Backend::Postgres && is_citus() {
        // Twice, and then nothing is left to do.
        server::migrate(&database(&place.url), true).await.expect("distributed");
        server::migrate(&database(&place.url), true).await.expect("distributed");
        return;
    }
    let refused = server::migrate(&database(&place.url), true)
        .await
        .expect_err("a refusal");
    let part = match backend {
        Backend::Sqlite => "only PostgreSQL with Citus",
        Backend::Postgres => "CREATE EXTENSION citus",
    };
    assert!(format!("{refused:#}").contains(part), "{refused:#}");
    // It is asked before anything is done.
    let mode = if backend == Backend::Sqlite { "?mode=rwc" } else { "" };
    let sql = Database::connect(format!("{}{mode}", place.url))
        .await
        .expect("the database");
    assert!(sql.execute_unprepared("select * from customers").await.is_err());
    sql.close().await.expect("closed");
}
