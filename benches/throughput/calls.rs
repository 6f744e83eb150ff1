//! Calls about one customer each, of many callers: beside as many clients of `pgbench`, with one statement each.

#![expect(clippy::disallowed_types, reason = "what a `Session` costs is not part of the floor")]

use anyhow::ensure;
use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::campaign_orchestrator_service_client::CampaignOrchestratorServiceClient;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use std::ops::Range;
use std::time::{Duration, Instant};
use tonic::transport::Channel;

use crate::Plan;
use crate::app::App;
use crate::callers::{self, Calls};
use crate::measure::{Line, per_second};
use crate::place::{NOON, Place};
use crate::programs::{CLIENTS, PREPARED, pgbench, pgbench_tables};
use crate::senders::Taker;

/// How many callers there are, as many as clients of `pgbench`, and over how many connections they call.
const CALLERS: usize = CLIENTS;
const CONNECTIONS: usize = 4;

/// How many calls go before those that are measured: statements are prepared, and connections opened.
const FIRST_CALLS: usize = 2_000;

/// `StartTimeline`, beside a durable INSERT of the same row by each client. `SQLite` has one writer.
pub(crate) async fn start(plan: &Plan) -> anyhow::Result<Line> {
    let place = Place::new("start").await?;
    let app = App::start(&place, Taker::new(Duration::ZERO).senders(), 1).await?;
    let timeline = app.define(2, 1..=2).await?;
    let copy = place.copy("customer_timeline_progress").await?;
    place.load_customers(FIRST_CALLS + plan.rounds * plan.calls).await?;
    let call = move |mut client: CampaignOrchestratorServiceClient<Channel>, number: usize| async move {
        let request = pb::StartTimelineRequest {
            customer_id: format!("c{number:08}"),
            timeline_id: timeline,
            ..Default::default()
        };
        client.start_timeline(request).await?;
        Ok(())
    };
    ask(&app, 1..FIRST_CALLS + 1, call).await?;
    let mut line = Line::new("start");
    for round in 0..plan.rounds {
        let first = FIRST_CALLS + 1 + round * plan.calls;
        let numbers = first..first + plan.calls;
        place.vacuum().await?;
        let of_floor = if place.is_sqlite() {
            insert_one_by_one(&place, &copy, timeline, numbers.clone()).await?
        } else {
            let (columns, row) = place.run_row(timeline, &place.customer(":n::int"), ":n::int", &format!("'{NOON}'"));
            let each = plan.calls.div_ceil(CLIENTS);
            let script = format!(
                "\\set i :i + 1\n\\set n {first} + :client_id * {each} + :i\ninsert into {copy} ({columns}) values ({row});\n"
            );
            let file = place.folder().join("insert.sql");
            std::fs::write(&file, script)?;
            let script = file.to_string_lossy();
            let arguments = [&PREPARED[..], &["-D", "i=-1", "-f", &script]].concat();
            pgbench(&place, &arguments, plan.calls)?
        };
        place.vacuum().await?;
        measure(&app, &mut line, of_floor, numbers, call).await?;
    }
    app.stop().await?;
    Ok(line.sorted())
}

/// `GetProgress`, beside `pgbench -S` as it is, and beside the same with its statement prepared.
pub(crate) async fn progress(plan: &Plan) -> anyhow::Result<Option<[Line; 2]>> {
    let place = Place::new("progress").await?;
    if place.is_sqlite() {
        return Ok(None);
    }
    pgbench_tables(&place)?;
    let app = App::start(&place, Taker::new(Duration::ZERO).senders(), 64).await?;
    let timeline = app.define(2, 1..=2).await?;
    place.load(timeline, plan.calls, &format!("'{NOON}'")).await?;
    // Each has had a mail.
    app.execute().await?;
    let people = plan.calls;
    let call = move |mut client: CampaignOrchestratorServiceClient<Channel>, number: usize| async move {
        // A prime, so that it is a customer from anywhere, as with pgbench.
        let customer = number * 7_919_701 % people + 1;
        let request = pb::GetProgressRequest {
            customer_id: format!("c{customer:08}"),
            ..Default::default()
        };
        let found = client.get_progress(request).await?.into_inner();
        let of_mail = found.progress.map(|progress| progress.completed_actions.len());
        ensure!(of_mail == Some(1), "{of_mail:?} actions were carried out");
        Ok(())
    };
    place.vacuum().await?;
    ask(&app, 0..FIRST_CALLS, call).await?;
    let (mut line, mut prepared) = (Line::new("progress"), Line::new("progress-prepared"));
    for _ in 0..plan.rounds {
        let of_floor = pgbench(&place, &["-S"], plan.calls)?;
        measure(&app, &mut line, of_floor, 0..plan.calls, call).await?;
        let of_floor = pgbench(&place, &[&["-S"], &PREPARED[..]].concat(), plan.calls)?;
        measure(&app, &mut prepared, of_floor, 0..plan.calls, call).await?;
    }
    app.stop().await?;
    Ok(Some([line.sorted(), prepared.sorted()]))
}

/// Calls, and notes how fast that went beside the floor.
async fn measure<C, F>(app: &App, line: &mut Line, of_floor: f64, numbers: Range<usize>, call: C) -> anyhow::Result<()>
where
    C: Fn(CampaignOrchestratorServiceClient<Channel>, usize) -> F + Copy + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let (before, count) = (app.statements(), numbers.len());
    let calls = ask(app, numbers, call).await?;
    line.statements = (app.statements() - before) as f64 / count as f64;
    line.times.extend(calls.each);
    line.rounds.push((of_floor, per_second(count, calls.took)));
    Ok(())
}

async fn ask<C, F>(app: &App, numbers: Range<usize>, call: C) -> anyhow::Result<Calls>
where
    C: Fn(CampaignOrchestratorServiceClient<Channel>, usize) -> F + Copy + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let connections = app.connections(CONNECTIONS).await?;
    callers::make(CALLERS, numbers, move |caller, number| {
        let connection = connections[caller % CONNECTIONS].clone();
        call(CampaignOrchestratorServiceClient::new(connection), number)
    })
    .await
}

/// Rows in a second, each in a transaction of its own, by the one writer that `SQLite` has.
async fn insert_one_by_one(place: &Place, table: &str, timeline: i64, numbers: Range<usize>) -> anyhow::Result<f64> {
    let (columns, row) = place.run_row(timeline, &place.customer("$1"), "$1", &format!("'{NOON}'"));
    let sql = format!("insert into {table} ({columns}) values ({row})");
    let db = place.connect().await?;
    let (begun, count) = (Instant::now(), numbers.len());
    for number in numbers {
        let number = i64::try_from(number)?;
        db.execute_raw(Statement::from_sql_and_values(DbBackend::Sqlite, &sql, [number.into()]))
            .await?;
    }
    let took = begun.elapsed();
    db.close().await?;
    Ok(per_second(count, took))
}
