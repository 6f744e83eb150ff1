//! What the database does with the same rows, when nothing but plain SQL is asked of it.
//!
//! The floor writes into copies of the service's tables with all their indexes, so that each row costs the database the same.

#![expect(clippy::disallowed_types, reason = "what a `Session` costs is not part of the floor")]

use anyhow::ensure;
use sea_orm::sea_query::ArrayType;
use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, DbErr, Statement, TransactionTrait as _, Value};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::place::{FIRST_DAY, Place};

/// How many rows one statement has.
const BATCH: usize = 1000;

/// Over how many connections. `SQLite` has one writer.
pub(crate) const CONNECTIONS: usize = 2;

/// The tables that are copied.
const TABLES: [&str; 2] = ["customer_timeline_progress", "action_executions"];

/// Plain SQL on copies of the service's tables.
pub(crate) struct Floor {
    connections: Vec<DatabaseConnection>,
    is_sqlite: bool,
    rows: usize,
    /// How often it has executed.
    executed: usize,
    with_actions: bool,
}

impl Floor {
    /// Copies of what the hourly tick writes.
    pub(crate) async fn of_hourly(place: &Place, rows: usize) -> anyhow::Result<Self> {
        Self::new(place, rows, false).await
    }

    /// A copy of what the daily tick writes.
    pub(crate) async fn of_daily(place: &Place, rows: usize, with_actions: bool) -> anyhow::Result<Self> {
        Self::new(place, rows, with_actions).await
    }

    async fn new(place: &Place, rows: usize, with_actions: bool) -> anyhow::Result<Self> {
        for table in TABLES {
            let copy = place.copy(table).await?;
            place
                .run(&[&format!("insert into {copy} select * from {table}")])
                .await?;
        }
        place.vacuum().await?;
        let mut connections = Vec::new();
        for _ in 0..if place.is_sqlite() { 1 } else { CONNECTIONS } {
            connections.push(place.connect().await?);
        }
        Ok(Self {
            connections,
            is_sqlite: place.is_sqlite(),
            rows,
            executed: 0,
            with_actions,
        })
    }

    /// Finds what is due and leases it in a transaction, and writes ledger and outcomes in another, batch by batch: what sending at
    /// least once needs. How long that took.
    pub(crate) async fn execute(&mut self) -> anyhow::Result<Duration> {
        self.executed += 1;
        let statements = Arc::new(Statements::of_day(self.is_sqlite, self.executed));
        let begun = Instant::now();
        let mut tasks = Vec::new();
        for connection in &self.connections {
            let (connection, statements) = (connection.clone(), Arc::clone(&statements));
            tasks.push(tokio::spawn(async move { execute_all(&connection, &statements).await }));
        }
        let mut rows = 0;
        for task in tasks {
            rows += task.await??;
        }
        let took = begun.elapsed();
        ensure!(rows == self.rows, "{rows} rows written");
        Ok(took)
    }

    /// Moves all rows to a day by one statement; how long that took.
    pub(crate) async fn advance(&mut self, days: usize) -> anyhow::Result<Duration> {
        let date = if self.is_sqlite {
            format!("date('{FIRST_DAY}', '+{days} days')")
        } else {
            format!("date '{FIRST_DAY}' + {days}")
        };
        let wake = match (self.with_actions, self.is_sqlite) {
            (false, _) => String::new(),
            (true, true) => format!(", next_action_at = strftime('%Y-%m-%dT00:00:00+00:00', {date})"),
            (true, false) => format!(", next_action_at = {date}"),
        };
        let sql = format!(
            "update floor_customer_timeline_progress set current_day = current_day + 1, day_date = {date}{wake}"
        );
        let begun = Instant::now();
        let done = self.connections[0].execute_unprepared(&sql).await?;
        let took = begun.elapsed();
        ensure!(
            done.rows_affected() == self.rows as u64,
            "{} rows moved",
            done.rows_affected()
        );
        if self.with_actions {
            let reset = "update floor_customer_timeline_progress set next_action_at = null";
            self.connections[0].execute_unprepared(reset).await?;
        }
        Ok(took)
    }
}

/// The statements of a round.
struct Statements {
    backend: DbBackend,
    lease: String,
    ledger: String,
    done: String,
}

impl Statements {
    fn of_day(is_sqlite: bool, day: usize) -> Self {
        let before = day - 1;
        let (backend, table, now, wake, lock, json) = if is_sqlite {
            (
                DbBackend::Sqlite,
                "(select json_extract(value, '$[0]') as customer, json_extract(value, '$[1]') as run_id from json_each($1)) u",
                format!("strftime('%Y-%m-%dT13:00:00+00:00', '{FIRST_DAY}', '+{before} days')"),
                format!("strftime('%Y-%m-%dT00:00:00+00:00', '{FIRST_DAY}', '+{day} days')"),
                "",
                "",
            )
        } else {
            (
                DbBackend::Postgres,
                "unnest($1::text[], $2::bigint[]) as u(customer, run_id)",
                format!("timestamptz '{FIRST_DAY} 13:00:00+00' + interval '{before} days'"),
                format!("timestamptz '{FIRST_DAY} 00:00:00+00' + interval '{day} days'"),
                "for update skip locked",
                "::jsonb",
            )
        };
        Self {
            backend,
            lease: format!(
                "update floor_customer_timeline_progress as p set lease_token = {day}, lease_expires_at = {wake}, \
                 in_flight_actions = '[{{\"id\":1,\"attempt\":1,\"due\":\"2026-01-05T12:00:00Z\"}}]'{json} \
                 from (select customer_id as customer, id as run_id from floor_customer_timeline_progress where campaign_timeline_id = 1 \
                 and status = 'active' and next_action_at <= {now} and (lease_expires_at is null or lease_expires_at <= {now}) \
                 order by next_action_at, id limit {BATCH} {lock}) u \
                 where p.customer_id = u.customer and p.id = u.run_id returning customer_id, id"
            ),
            ledger: format!(
                "insert into floor_action_executions (customer_id, progress_id, action_id, campaign_timeline_id, attempt, due_at, \
                 started_at, finished_at, channel, outcome, provider_id, content_revision) select u.customer, u.run_id, {day}, 1, 1, \
                 {wake}, {wake}, {wake}, 'email', 'completed', '6f1c0de0-0000-4000-8000-000000000001', 1 from {table} where true"
            ),
            done: format!(
                "update floor_customer_timeline_progress as p set lease_token = null, lease_expires_at = null, in_flight_actions = '[]', \
                 completed_actions = '[{day}]'{json}, next_action_at = {wake} \
                 from {table} where p.customer_id = u.customer and p.id = u.run_id"
            ),
        }
    }
}

/// Takes batch after batch until nothing is due; how many rows that were.
async fn execute_all(db: &DatabaseConnection, statements: &Statements) -> anyhow::Result<usize> {
    let Statements {
        backend,
        lease,
        ledger,
        done,
    } = statements;
    let mut all = 0;
    loop {
        let txn = db.begin().await?;
        let leased = txn.query_all_raw(Statement::from_string(*backend, lease)).await?;
        txn.commit().await?;
        let ids: Result<Vec<(String, i64)>, DbErr> = leased
            .iter()
            .map(|row| Ok((row.try_get("", "customer_id")?, row.try_get("", "id")?)))
            .collect();
        let ids = ids?;
        if ids.is_empty() {
            return Ok(all);
        }
        all += ids.len();
        let values = if *backend == DbBackend::Sqlite {
            vec![Value::from(serde_json::to_string(&ids)?)]
        } else {
            let (customers, runs) = ids
                .iter()
                .map(|(customer, run)| (customer.as_str().into(), (*run).into()))
                .unzip();
            vec![
                Value::Array(ArrayType::String, Some(Box::new(customers))),
                Value::Array(ArrayType::BigInt, Some(Box::new(runs))),
            ]
        };
        let txn = db.begin().await?;
        for sql in [ledger, done] {
            let statement = Statement::from_sql_and_values(*backend, sql, values.clone());
            let written = txn.execute_raw(statement).await?.rows_affected();
            ensure!(written == ids.len() as u64, "{written} rows written");
        }
        txn.commit().await?;
    }
}
