//! Tables that grow faster than they are analyzed: a customer costs as much among many as among few.

use campaign_automation::proto::campaign::v1 as pb;
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, DbBackend, Statement};
use std::time::Duration;

use crate::broken::run_sql;
use crate::support::given::{customer, definition, email};
use crate::support::mailing::crowd;
use crate::support::{App, Backend, is_citus, postgres_url};

const FEW: usize = 60;
const MANY: usize = 2_000;

async fn number(database: &DatabaseConnection, sql: &str) -> i64 {
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    let row = database.query_one_raw(statement).await.expect("a row").expect("a row");
    row.try_get("", "n").expect("a number")
}

/// A trial with a few customers, which the database takes for the size of all there will ever be, and then everybody at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_reads_as_many_rows_among_many_as_among_few() {
    // What is read on the nodes of a cluster is not known to its coordinator.
    if postgres_url().is_none() || is_citus() {
        return;
    }
    let app = App::start(Backend::Postgres).await;
    let timeline = app.timeline(definition("hook", 5, vec![email(1, 0, "A")])).await;
    crowd(&app, &timeline, "few", FEW).await;
    let analyzed = ["customers", "customer_timeline_progress"]
        .map(|table| format!("alter table {table} set (autovacuum_enabled = false); analyze {table}"));
    run_sql(&app, &analyzed).await;

    let many = (0..MANY).map(|n| format!("many{n:04}")).collect::<Vec<_>>();
    for ids in many.chunks(20) {
        let customers = pb::UpsertCustomersRequest {
            customers: ids.iter().map(|id| customer(id, "Etc/UTC")).collect(),
            ..Default::default()
        };
        app.upsert(customers).await.expect("customers");
        let starts = ids.iter().map(|id| pb::TimelineStart {
            customer_id: id.clone(),
            timeline_id: timeline.timeline_id,
            ..Default::default()
        });
        let starts = pb::StartTimelinesRequest {
            starts: starts.collect(),
            ..Default::default()
        };
        app.orchestrator().start_timelines(starts).await.expect("runs");
    }

    // Each session tells what it read when it ends.
    let database = Database::connect(&app.database.url).await.expect("the database");
    app.server.shutdown().await.expect("stopped");
    let sessions = "select count(*) as n from pg_stat_activity \
                    where datname = current_database() and application_name = 'campaignd'";
    let ended = async { while number(&database, sessions).await > 0 {} };
    tokio::time::timeout(Duration::from_secs(30), ended)
        .await
        .expect("sessions end");
    let read = "select cast(sum(seq_tup_read + idx_tup_fetch) as bigint) as n from pg_stat_user_tables \
                where relname in ('customers', 'customer_timeline_progress')";
    let read = number(&database, read).await;
    database.close().await.expect("closed");
    let each = read / i64::try_from(FEW + MANY).expect("few");
    assert!(read > 0 && each <= 10, "{each} rows for each customer, {read} in all");
}
