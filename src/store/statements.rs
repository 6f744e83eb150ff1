//! What a statement is, for those who count them: its first word, and the first of our tables that it names. Never its text.

use sea_orm::DbBackend;
use std::time::Duration;
use tokio::time::Instant;

use super::StoreError;
use crate::telemetry::Metrics;

/// All tables.
const TABLES: [&str; 21] = [
    "action_executions",
    "campaign_timeline_actions",
    "campaign_timelines",
    "campaigns",
    "channel_circuits",
    "customer_timeline_progress",
    "customers",
    "delivery_reports",
    "engagement_events",
    "erasures",
    "request_log",
    "send_rates",
    "sending_holds",
    "seaql_migrations",
    "service_metadata",
    "stopped_in_flight",
    "suppressions",
    "tick_parts",
    "tick_runs",
    "tick_schedule",
    "time_zones",
];

const OPERATIONS: [&str; 5] = ["ANALYZE", "DELETE", "INSERT", "SELECT", "UPDATE"];

/// What a statement does, and to which table; none: to none of ours.
pub(super) fn operation(sql: &str) -> (&'static str, Option<&'static str>) {
    let mut words = sql.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let first = words.find(|word| !word.is_empty()).unwrap_or_default();
    let mut known = OPERATIONS.into_iter();
    let operation = known.find(|known| known.eq_ignore_ascii_case(first));
    let table = words.find_map(|word| TABLES.into_iter().find(|table| *table == word));
    (operation.unwrap_or("OTHER"), table)
}

/// The database's name in the semantic conventions.
pub(super) fn system(backend: DbBackend) -> &'static str {
    if backend == DbBackend::Postgres {
        "postgresql"
    } else {
        "sqlite"
    }
}

/// Notes how long a statement took, and how it ended.
pub(super) fn note<T>(
    metrics: &Metrics,
    system: &'static str,
    what: (&'static str, Option<&'static str>),
    begun: Instant,
    result: &Result<T, StoreError>,
) {
    let took: Duration = begun.elapsed();
    metrics.ran(system, what, result.as_ref().err().map(StoreError::kind), took);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tables_are_known() {
        let migrations = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/src");
        let mut made = vec!["seaql_migrations".to_owned()];
        for file in std::fs::read_dir(migrations).expect("the migrations") {
            let text = std::fs::read_to_string(file.expect("a file").path()).expect("a migration");
            let names = text
                .split("create table ")
                .skip(1)
                .filter_map(|rest| rest.split(' ').next());
            made.extend(names.map(str::to_owned));
        }
        made.sort_unstable();
        made.dedup();
        let mut known = TABLES.to_vec();
        known.sort_unstable();
        assert_eq!(made, known);
    }

    #[test]
    fn the_first_word_and_the_first_table_are_told() {
        for (sql, expected) in [
            ("select id from campaigns where id = $1", ("SELECT", Some("campaigns"))),
            (
                "insert into tick_runs (kind) values ($1)",
                ("INSERT", Some("tick_runs")),
            ),
            (
                "update customer_timeline_progress as p set status = u.s from (select 1) as u",
                ("UPDATE", Some("customer_timeline_progress")),
            ),
            (
                "select p.customer_id from (select r.a from unnest($1::text[]) as r(a)) as u join customer_timeline_progress p on true",
                ("SELECT", Some("customer_timeline_progress")),
            ),
            ("  delete\nfrom customers", ("DELETE", Some("customers"))),
            ("select pg_advisory_xact_lock(1)", ("SELECT", None)),
            ("analyze customers", ("ANALYZE", Some("customers"))),
            ("pragma optimize", ("OTHER", None)),
            ("", ("OTHER", None)),
        ] {
            assert_eq!(operation(sql), expected, "{sql}");
        }
    }
}
