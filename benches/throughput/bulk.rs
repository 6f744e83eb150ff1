//! Calls with a thousand items each, of several callers: beside INSERTs of the same rows in batches as large.

#![expect(clippy::disallowed_types, reason = "what a `Session` costs is not part of the floor")]

use anyhow::ensure;
use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::campaign_orchestrator_service_client::CampaignOrchestratorServiceClient;
use campaign_automation::proto::campaign::v1::customer_service_client::CustomerServiceClient;
use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, Statement, Value};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Channel;

use crate::Plan;
use crate::app::App;
use crate::callers;
use crate::floor::CONNECTIONS;
use crate::measure::{Line, per_second};
use crate::place::{NOON, Place};
use crate::senders::Taker;

/// How many items a call has, the most that the contract allows, and rows a statement of the floor.
pub(crate) const BATCH: usize = 1000;

/// How many callers there are.
const CALLERS: usize = 4;

/// `StartTimelines`.
pub(crate) async fn start(plan: &Plan) -> anyhow::Result<Line> {
    let place = Place::new("start-bulk").await?;
    let app = App::start(&place, Taker::new(Duration::ZERO).senders(), 1).await?;
    let timeline = app.define(2, 1..=2).await?;
    place.load_customers((plan.rounds + 1) * plan.stored).await?;
    let copy = place.copy("customer_timeline_progress").await?;
    let (columns, row) = place.run_row(timeline, "u.c0", "cast(u.c1 as integer)", &format!("'{NOON}'"));
    let insert = format!("insert into {copy} ({columns}) select {row}");
    let floor = Floor::new(&place, insert, |number| {
        vec![format!("c{number:08}"), number.to_string()]
    })
    .await?;
    let call = move |channel: Channel, numbers: Range<usize>| async move {
        let count = numbers.len();
        let start = |number| pb::TimelineStart {
            customer_id: format!("c{number:08}"),
            timeline_id: timeline,
            ..Default::default()
        };
        let request = pb::StartTimelinesRequest {
            starts: numbers.map(start).collect(),
            ..Default::default()
        };
        let mut client = CampaignOrchestratorServiceClient::new(channel);
        let results = client.start_timelines(request).await?.into_inner().results;
        let is_run = |result: &&pb::StartTimelinesResult| {
            matches!(result.result, Some(pb::start_timelines_result::Result::Run(_)))
        };
        let started = results.iter().filter(is_run).count();
        ensure!(started == count, "{started} of {count} were started");
        Ok(())
    };
    measure(Line::new("start-bulk"), plan, &place, app, &floor, call).await
}

/// `RecordEngagements`: each customer opened the mail of its run, and did something else, which only its name tells of.
pub(crate) async fn engagements(plan: &Plan) -> anyhow::Result<Line> {
    let place = Place::new("engagements").await?;
    let app = App::start(&place, Taker::new(Duration::ZERO).senders(), 1).await?;
    let timeline = app.define(2, 1..=2).await?;
    let people = plan.stored / 2;
    place.load(timeline, people, &format!("'{NOON}'")).await?;
    let copy = place.copy("engagement_events").await?;
    let stamp = if place.is_sqlite() { "" } else { "::timestamptz" };
    let insert = format!(
        "insert into {copy} (customer_id, event_id, kind, name, occurred_at, received_at, progress_id, action_id) select u.c0, u.c1, u.c2, \
         nullif(u.c3, ''), u.c4{stamp}, u.c4{stamp}, cast(nullif(u.c5, '') as bigint), cast(nullif(u.c6, '') as bigint)"
    );
    let row = move |number: usize| {
        let customer = number / 2 % people + 1;
        let (kind, name, run, action) = if number.is_multiple_of(2) {
            ("email_opened", "", customer.to_string(), "1")
        } else {
            ("custom", "visited", String::new(), "")
        };
        let (customer, event) = (format!("c{customer:08}"), format!("event-{number}"));
        let (kind, name, at, action) = (kind.to_owned(), name.to_owned(), NOON.to_owned(), action.to_owned());
        vec![customer, event, kind, name, at, run, action]
    };
    let floor = Floor::new(&place, insert, row).await?;
    let call = move |channel: Channel, numbers: Range<usize>| async move {
        let event = |number: usize| {
            let customer = number / 2 % people + 1;
            let event = pb::Engagement {
                customer_id: format!("c{customer:08}"),
                event_id: format!("event-{number}"),
                ..Default::default()
            };
            if number.is_multiple_of(2) {
                // Runs have the numbers of their customers, as nothing else was ever started here.
                let (progress_id, action_id) = (i64::try_from(customer).unwrap_or_default(), 1);
                let kind = pb::EngagementKind::EmailOpened.into();
                pb::Engagement {
                    kind,
                    progress_id,
                    action_id,
                    ..event
                }
            } else {
                let (kind, name) = (pb::EngagementKind::Custom.into(), "visited".to_owned());
                pb::Engagement { kind, name, ..event }
            }
        };
        let request = pb::RecordEngagementsRequest {
            engagements: numbers.map(event).collect(),
        };
        let mut client = CustomerServiceClient::new(channel);
        let results = client.record_engagements(request).await?.into_inner().results;
        let refused = results.iter().find(|result| result.error.is_some() || result.duplicate);
        ensure!(refused.is_none(), "an event was not stored: {refused:?}");
        Ok(())
    };
    measure(Line::new("engagements"), plan, &place, app, &floor, call).await
}

async fn measure<C, F>(
    mut line: Line,
    plan: &Plan,
    place: &Place,
    app: App,
    floor: &Floor,
    call: C,
) -> anyhow::Result<Line>
where
    C: Fn(Channel, Range<usize>) -> F + Copy + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send,
{
    // The first is for what is done once: statements are prepared, and indexes get more than one page.
    for round in 0..=plan.rounds {
        let first = round * plan.stored + 1;
        place.vacuum().await?;
        let of_floor = floor.insert(first..first + plan.stored).await?;
        place.vacuum().await?;
        let before = app.statements();
        let connections = app.connections(CALLERS).await?;
        let made = callers::make(CALLERS, 0..plan.stored.div_ceil(BATCH), move |caller, batch| {
            let begin = first + batch * BATCH;
            call(connections[caller].clone(), begin..begin + BATCH)
        })
        .await?;
        if round > 0 {
            line.statements = (app.statements() - before) as f64 / plan.stored as f64;
            line.times.extend(made.each);
            line.rounds.push((of_floor, per_second(plan.stored, made.took)));
        }
    }
    app.stop().await?;
    Ok(line.sorted())
}

/// One statement of plain SQL, for batch after batch of rows, over some connections.
struct Floor {
    connections: Vec<DatabaseConnection>,
    backend: DbBackend,
    sql: String,
    /// The texts of the row with a number: `c0`, `c1` and so on of a table `u`.
    row: Row,
}

type Row = Arc<dyn Fn(usize) -> Vec<String> + Send + Sync>;

impl Floor {
    async fn new(
        place: &Place,
        insert: String,
        row: impl Fn(usize) -> Vec<String> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let columns = 0..row(0).len();
        let of = |text: &dyn Fn(usize) -> String| columns.clone().map(text).collect::<Vec<_>>().join(", ");
        let (backend, count, table) = if place.is_sqlite() {
            let cells = of(&|at| format!("json_extract(value, '$[{at}]') as c{at}"));
            (DbBackend::Sqlite, 1, format!("(select {cells} from json_each($1)) u"))
        } else {
            let (arrays, names) = (of(&|at| format!("${}::text[]", at + 1)), of(&|at| format!("c{at}")));
            (
                DbBackend::Postgres,
                CONNECTIONS,
                format!("unnest({arrays}) as u({names})"),
            )
        };
        let mut connections = Vec::new();
        for _ in 0..count {
            connections.push(place.connect().await?);
        }
        Ok(Self {
            connections,
            backend,
            sql: format!("{insert} from {table}"),
            row: Arc::new(row),
        })
    }

    /// Rows in a second.
    async fn insert(&self, numbers: Range<usize>) -> anyhow::Result<f64> {
        let (connections, backend, sql) = (self.connections.clone(), self.backend, self.sql.clone());
        let (row, count) = (Arc::clone(&self.row), numbers.len());
        let made = callers::make(connections.len(), 0..count.div_ceil(BATCH), move |caller, batch| {
            let (db, sql, row) = (connections[caller].clone(), sql.clone(), Arc::clone(&row));
            let begin = numbers.start + batch * BATCH;
            async move {
                let rows: Vec<Vec<String>> = (begin..begin + BATCH).map(|number| row(number)).collect();
                let values: Vec<Value> = if backend == DbBackend::Sqlite {
                    vec![serde_json::to_string(&rows)?.into()]
                } else {
                    let column = |at: usize| Value::from(rows.iter().map(|row| row[at].clone()).collect::<Vec<_>>());
                    (0..rows[0].len()).map(column).collect()
                };
                let done = db
                    .execute_raw(Statement::from_sql_and_values(backend, sql, values))
                    .await?;
                ensure!(
                    done.rows_affected() == BATCH as u64,
                    "{} rows were stored",
                    done.rows_affected()
                );
                Ok(())
            }
        })
        .await?;
        Ok(per_second(count, made.took))
    }
}
