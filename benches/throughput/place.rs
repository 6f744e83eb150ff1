//! A database of a measurement's own, and rows in bulk.

use anyhow::Context as _;
use campaign_automation::config::Config;
use campaign_automation::server;
use campaign_automation::store::StoreUrl;
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection};
use std::path::PathBuf;
use tempfile::TempDir;

/// The secret of the servers of tests.
const SECRET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/secret.key");

/// The day that it is at first, and the hour.
pub(crate) const FIRST_DAY: &str = "2026-01-05";
pub(crate) const NOON: &str = "2026-01-05T12:00:00Z";

/// A database, which is dropped with its folder or when the next of its name is made.
pub(crate) struct Place {
    url: String,
    directory: TempDir,
}

impl Place {
    /// An empty one, migrated.
    pub(crate) async fn new(name: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let url = match std::env::var("DATABASE_URL") {
            Err(_) => format!("sqlite://{}", directory.path().join("bench.db").display()),
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
        let place = Self { url, directory };
        server::migrate(&place.config()?.database).await?;
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

    fn outbox(&self) -> PathBuf {
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
        let (series, from, id, json, stamp, date) = if self.is_sqlite() {
            let series = format!("with recursive s(n) as (select 1 union all select n + 1 from s where n < {count}) ");
            (series, "s".to_owned(), "printf('c%08d', n)", "", "", "")
        } else {
            let from = format!("generate_series(1, {count}) as s(n)");
            (
                String::new(),
                from,
                "'c' || lpad(n::text, 8, '0')",
                "::jsonb",
                "::timestamptz",
                "::date",
            )
        };
        let midnight = format!("'{FIRST_DAY}T00:00:00+00:00'{stamp}");
        let customers = format!(
            "insert into customers (customer_id, bucket, display_name, email, time_zone, stage_visit, engagement_score, is_test, \
             attributes, created_at, updated_at) {series} select {id}, n % 1024, 'Customer ' || n, 'c' || n || '@example.com', \
             'Etc/UTC', 0, 0, false, '{{}}'{json}, {midnight}, {midnight} from {from}"
        );
        let runs = format!(
            "insert into customer_timeline_progress (customer_id, campaign_timeline_id, next_action_at, not_before, day_started_at, \
             started_at, updated_at, bucket, current_day, day_date, zone_is_default, origin, status, time_zone) {series} \
             select {id}, {timeline}, {wake}{stamp}, {midnight}, {midnight}, {midnight}, {midnight}, n % 1024, 1, \
             '{FIRST_DAY}'{date}, false, 'started', 'active', 'Etc/UTC' from {from}"
        );
        let zone = "insert into time_zones (time_zone) values ('Etc/UTC') on conflict do nothing";
        self.run(&[&customers, &runs, zone]).await?;
        self.vacuum().await
    }

    /// Clears away what earlier rounds left, and lets the planner know the tables. `SQLite` needs neither.
    pub(crate) async fn vacuum(&self) -> anyhow::Result<()> {
        if self.is_sqlite() {
            return Ok(());
        }
        self.run(&["vacuum analyze", "checkpoint"]).await
    }
}
