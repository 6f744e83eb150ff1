//! A database of a measurement's own, and rows in bulk.

#![expect(clippy::disallowed_types, reason = "tables are copied by statements of its own")]

use anyhow::Context as _;
use campaign_automation::config::Config;
use campaign_automation::server;
use campaign_automation::store::StoreUrl;
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DbBackend, Statement};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The secret of the servers of tests.
pub(crate) const SECRET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/secret.key");

/// The day that it is at first, and the hour.
pub(crate) const FIRST_DAY: &str = "2026-01-05";
pub(crate) const NOON: &str = "2026-01-05T12:00:00+00:00";

/// Whether `DATABASE_URL` is a database of a Citus cluster, to be emptied and filled anew.
fn is_distributed() -> bool {
    std::env::var_os("DISTRIBUTE").is_some()
}

/// A database, which is dropped with its folder or when the next of its name is made.
pub(crate) struct Place {
    pub(crate) url: String,
    directory: TempDir,
    /// The day that it is at first.
    day: String,
}

impl Place {
    /// An empty one, migrated, for a clock that is moved by hand.
    pub(crate) async fn new(name: &str) -> anyhow::Result<Self> {
        Self::on(name, FIRST_DAY.to_owned()).await
    }

    /// An empty one, migrated, whose first day is this one.
    pub(crate) async fn on(name: &str, day: String) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let url = match std::env::var("DATABASE_URL") {
            Err(_) => format!("sqlite://{}", directory.path().join("bench.db").display()),
            Ok(cluster) if is_distributed() => {
                let database = Database::connect(&cluster).await?;
                let empty = "do $$ declare t text; begin \
                             for t in select tablename from pg_tables where schemaname = 'public' loop \
                             execute format('drop table if exists %I cascade', t); end loop; end $$";
                database.execute_unprepared(empty).await?;
                database.close().await?;
                cluster
            }
            Ok(server) => {
                let admin = Database::connect(&server).await?;
                let database = format!("campaign_bench_{}", name.replace('-', "_"));
                let drop = format!("drop database if exists {database} with (force)");
                for statement in [drop, format!("create database {database}")] {
                    admin.execute_unprepared(&statement).await?;
                }
                admin.close().await?;
                let (server, _) = server.rsplit_once('/').context("DATABASE_URL has no database")?;
                format!("{server}/{database}")
            }
        };
        let place = Self { url, directory, day };
        server::migrate(&place.config()?.database, is_distributed()).await?;
        Ok(place)
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.url.starts_with("sqlite")
    }

    /// The configuration of a server on it.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        let url = StoreUrl::parse(&self.url).map_err(anyhow::Error::msg)?;
        let mut config = Config::embedded(url, &self.outbox());
        config.secret_key_file = Some(SECRET.into());
        config.database.forced_to_disk = true;
        Ok(config)
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn outbox(&self) -> PathBuf {
        self.directory.path().join("outbox")
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> anyhow::Result<DatabaseConnection> {
        let mut options = ConnectOptions::new(&self.url);
        options.max_connections(1).sqlx_logging(false);
        let db = Database::connect(options).await?;
        if self.is_sqlite() {
            for pragma in ["journal_mode = wal", "synchronous = full", "busy_timeout = 60000"] {
                db.execute_unprepared(&format!("pragma {pragma}")).await?;
            }
        }
        Ok(db)
    }

    /// Runs statements one after the other.
    pub(crate) async fn run(&self, statements: &[&str]) -> anyhow::Result<()> {
        let db = self.connect().await?;
        for sql in statements {
            db.execute_unprepared(sql).await.with_context(|| (*sql).to_owned())?;
        }
        Ok(db.close().await?)
    }

    /// Stores `count` customers, and starts each on a timeline at the first day's midnight, with its next action at `wake`.
    pub(crate) async fn load(&self, timeline: i64, count: usize, wake: &str) -> anyhow::Result<()> {
        self.load_customers(count).await?;
        self.load_runs(timeline, count, wake).await
    }

    /// Stores `count` customers.
    pub(crate) async fn load_customers(&self, count: usize) -> anyhow::Result<()> {
        let (with, from) = self.series(count);
        let (id, midnight) = (self.customer("n"), self.midnight());
        let bucket = self.bucket(&id, "n");
        let json = self.pick("::jsonb", "");
        let customers = format!(
            "insert into customers (customer_id, bucket, display_name, email, time_zone, stage_visit, engagement_score, is_test, \
             attributes, created_at, updated_at) {with} select {id}, {bucket}, 'Customer ' || n, 'c' || n || '@example.com', \
             'Etc/UTC', 0, 0, false, '{{}}'{json}, {midnight}, {midnight} from {from}"
        );
        let zone = "insert into time_zones (time_zone) values ('Etc/UTC') on conflict do nothing";
        self.run(&[&customers, zone]).await?;
        self.vacuum().await
    }

    /// Starts the first `count` customers.
    pub(crate) async fn load_runs(&self, timeline: i64, count: usize, wake: &str) -> anyhow::Result<()> {
        let (with, from) = self.series(count);
        let (columns, row) = self.run_row(timeline, &self.customer("n"), "n", wake);
        let runs = format!("insert into customer_timeline_progress ({columns}) {with} select {row} from {from}");
        self.run(&[&runs]).await?;
        self.vacuum().await
    }

    /// Starts the first `count` customers: one of `each` on a timeline, with its next action at `wake`, and the others on another,
    /// with nothing to do, so that those of both are spread over the whole table.
    pub(crate) async fn load_shares(
        &self,
        timeline: i64,
        others: i64,
        count: usize,
        each: usize,
        wake: &str,
    ) -> anyhow::Result<()> {
        let (with, from) = self.series(count);
        let of_each = |this: &str, other: &str| format!("case when n % {each} = 0 then {this} else {other} end");
        let timeline = of_each(&timeline.to_string(), &others.to_string());
        let wake = of_each(wake, "null");
        let (columns, row) = self.run_row(timeline, &self.customer("n"), "n", &wake);
        let runs = format!("insert into customer_timeline_progress ({columns}) {with} select {row} from {from}");
        self.run(&[&runs]).await?;
        self.vacuum().await
    }

    /// The columns of a run that begins, and what they are for a customer with a number, all in SQL.
    pub(crate) fn run_row(
        &self,
        timeline: impl Display,
        customer: &str,
        number: &str,
        wake: &str,
    ) -> (&'static str, String) {
        let (midnight, day) = (self.midnight(), &self.day);
        let (stamp, date) = (self.pick("::timestamptz", ""), self.pick("::date", ""));
        let bucket = self.bucket(customer, number);
        let columns = "customer_id, campaign_timeline_id, next_action_at, not_before, day_started_at, started_at, updated_at, bucket, \
             current_day, day_date, zone_is_default, origin, status, time_zone";
        let row = format!(
            "{customer}, {timeline}, ({wake}){stamp}, {midnight}, {midnight}, {midnight}, {midnight}, {bucket}, 1, \
             '{day}'{date}, false, 'started', 'active', 'Etc/UTC'"
        );
        (columns, row)
    }

    /// The id of the customer with a number, in SQL.
    pub(crate) fn customer(&self, number: &str) -> String {
        if self.is_sqlite() {
            format!("printf('c%08d', {number})")
        } else {
            format!("'c' || lpad(({number})::text, 8, '0')")
        }
    }

    /// The bucket of a customer, in SQL. Citus cuts tables by the same hash, and claims go by it; `SQLite` has none.
    fn bucket(&self, customer: &str, number: &str) -> String {
        if self.is_sqlite() {
            format!("{number} % 1024")
        } else {
            format!("(hashtext({customer}) >> 22) + 512")
        }
    }

    /// The first day's midnight, in SQL.
    pub(crate) fn midnight(&self) -> String {
        format!("'{}T00:00:00+00:00'{}", self.day, self.pick("::timestamptz", ""))
    }

    /// A table of the numbers `n` to `count`: what stands before a SELECT, and in its FROM.
    fn series(&self, count: usize) -> (String, String) {
        self.numbers("s", count)
    }

    /// The same under a name.
    pub(crate) fn numbers(&self, name: &str, count: usize) -> (String, String) {
        if self.is_sqlite() {
            let with =
                format!("with recursive {name}(n) as (select 1 union all select n + 1 from {name} where n < {count}) ");
            (with, name.to_owned())
        } else {
            (String::new(), format!("generate_series(1, {count}) as {name}(n)"))
        }
    }

    fn pick(&self, postgres: &'static str, sqlite: &'static str) -> &'static str {
        if self.is_sqlite() { sqlite } else { postgres }
    }

    /// An empty table with the columns and indexes of one of the service's, so that each row costs the database the same; its name.
    pub(crate) async fn copy(&self, table: &str) -> anyhow::Result<String> {
        let copy = format!("floor_{table}");
        if !self.is_sqlite() {
            let create = format!("create table {copy} (like {table} including all)");
            self.run(&[&create]).await?;
            if table == "customer_timeline_progress" {
                // LIKE leaves them out.
                let options =
                    "fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0";
                self.run(&[&format!("alter table {copy} set ({options})")]).await?;
            }
            return Ok(copy);
        }
        let db = self.connect().await?;
        let sql =
            format!("select sql from sqlite_schema where tbl_name = '{table}' and sql is not null order by type desc");
        for row in db.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await? {
            let sql: String = row.try_get("", "sql")?;
            db.execute_unprepared(&sql.replace(table, &copy)).await?;
        }
        db.close().await?;
        Ok(copy)
    }

    /// Clears away what earlier rounds left, and lets the planner know the tables. `SQLite` needs neither.
    pub(crate) async fn vacuum(&self) -> anyhow::Result<()> {
        if self.is_sqlite() {
            return Ok(());
        }
        if is_distributed() {
            // It goes to the shards of the tables that are named.
            let tables = "vacuum analyze customers, customer_timeline_progress, action_executions, engagement_events";
            self.run(&[tables]).await?;
        }
        self.run(&["vacuum analyze", "checkpoint"]).await
    }
}
