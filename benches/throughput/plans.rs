//! How the database carries out the statements of a tick, for people.

#![expect(clippy::disallowed_types, reason = "plans are asked for by statements of its own")]

use anyhow::{Context as _, ensure};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::app::App;
use crate::place::Place;
use crate::senders::Taker;

/// The statements of a tick that are worth a look, by words that only they have.
const WORDS: [(&str, &str); 5] = [
    ("the probe for what is due", "as earliest"),
    ("the claim's select", "for update of p skip locked"),
    ("the claim's update", "lease_token = u.token"),
    ("the record's update", "lease_token = null"),
    ("a range of cohorts", "group by p.campaign_timeline_id"),
];

/// The same for `SQLite`, which shows no plans by itself: statements of `store/due.rs`, `store/claims.rs` and `store/advance.rs`.
const SQLITE: [(&str, &str); 3] = [
    (
        "the probe for what is due",
        "select t.id, t.revision, (select p.next_action_at from customer_timeline_progress p where p.campaign_timeline_id = t.id \
         and p.status = 'active' and p.next_action_at is not null order by p.next_action_at limit 1) as earliest \
         from campaign_timelines t where t.is_active order by t.id",
    ),
    (
        "the claim's select",
        "select p.* from customer_timeline_progress p where p.campaign_timeline_id = 1 and p.status = 'active' \
         and p.next_action_at <= '2026-01-05T12:00:00+00:00' and (p.next_action_at, p.id) > ('1970-01-01T00:00:00+00:00', 0) \
         and (p.lease_expires_at is null or p.lease_expires_at <= '2026-01-05T12:00:00+00:00') order by p.next_action_at, p.id limit 501",
    ),
    (
        "a range of customers",
        "select max(r.customer_id) as until from (select p.customer_id from customer_timeline_progress p \
         where p.customer_id > 'c0' order by p.customer_id limit 10000) r",
    ),
];

/// Keeps the plans that `PostgreSQL` sends.
#[derive(Clone, Default)]
pub(crate) struct Plans(Arc<Mutex<Vec<u8>>>);

impl Write for Plans {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Plans {
    /// From now on they are kept.
    pub(crate) fn keep() -> Self {
        let plans = Self::default();
        let writer = plans.clone();
        tracing_subscriber::fmt()
            .with_env_filter("off,sqlx::postgres::notice=debug")
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        plans
    }

    /// Shows how the first tick of a day that has something to do goes about it.
    pub(crate) async fn show(&self, place: &Place) -> anyhow::Result<()> {
        let mut out = std::io::stdout();
        if place.is_sqlite() {
            let db = place.connect().await?;
            for (name, sql) in SQLITE {
                writeln!(out, "-- {name}")?;
                let sql = format!("explain query plan {sql}");
                for row in db.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await? {
                    writeln!(out, "   {}", row.try_get::<String>("", "detail")?)?;
                }
            }
            return Ok(db.close().await?);
        }
        let (_, name) = place.url.rsplit_once('/').context("a database")?;
        for setting in [
            "session_preload_libraries = 'auto_explain'",
            "auto_explain.log_min_duration = 0",
            "auto_explain.log_analyze = on",
            "auto_explain.log_buffers = on",
            "auto_explain.log_level = 'notice'",
        ] {
            place.run(&[&format!("alter database {name} set {setting}")]).await?;
        }
        let app = App::start(place, Taker::new(Duration::ZERO).senders(), 1).await?;
        app.next_day();
        app.execute().await?;
        app.stop().await?;
        let text = String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
        let mut found: BTreeMap<&str, &str> = BTreeMap::new();
        for plan in text.split("Query Text: ").skip(1) {
            if let Some((name, _)) = WORDS.iter().find(|(_, words)| plan.contains(words)) {
                found.entry(name).or_insert(plan);
            }
        }
        ensure!(!found.is_empty(), "no plans among {} bytes: {text:.1000}", text.len());
        for (name, plan) in found {
            writeln!(out, "-- {name}")?;
            let lines = plan.lines().skip_while(|line| !line.contains("(cost="));
            for line in lines.take_while(|line| line.contains("  ") || line.contains("(cost=")) {
                writeln!(out, "   {line}")?;
            }
        }
        Ok(())
    }
}
