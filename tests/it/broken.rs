//! Runs whose rows can't be read: what a restored backup, a statement by hand or a newer version may leave behind. Such a run
//! stays as it is and is counted, and no other run, customer or call suffers from it.

mod calls;
mod crowds;
mod days;
mod definitions;
mod ticks;

use campaign_automation::proto::campaign::v1 as pb;
use sea_orm::{ConnectionTrait as _, Database};

use crate::support::{App, Backend, Rows};

/// Runs statements on an app's database.
pub(crate) async fn run_sql(app: &App, statements: &[String]) {
    let database = Database::connect(&app.database.url).await.expect("the database");
    for statement in statements {
        let done = database.execute_unprepared(statement).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    database.close().await.expect("closed");
}

/// Changes the row of a customer's run by hand.
async fn alter(app: &App, customer: &str, set: &str) {
    let statement = format!("update customer_timeline_progress set {set} where customer_id = '{customer}'");
    run_sql(app, &[statement]).await;
}

/// The rows of the runs of all customers whose ids don't begin with `calm`.
async fn broken_rows(app: &App, backend: Backend) -> Vec<String> {
    let rows = Rows::of(app, backend).await.all().await;
    let runs = &rows["customer_timeline_progress"];
    runs.iter().filter(|row| !row.contains("calm")).cloned().collect()
}

fn broken(summary: &pb::TickSummary) -> i64 {
    summary.counts.as_ref().expect("counts").broken_runs
}

/// How many mails a tick delivered.
fn mails(summary: &pb::TickSummary) -> i64 {
    let counts = summary.counts.as_ref().expect("counts");
    let of_mails = counts
        .channels
        .iter()
        .find(|counts| counts.channel() == pb::Channel::Email);
    of_mails.map_or(0, |counts| counts.completed)
}

/// The id of a timeline's first action.
fn action_id(timeline: &pb::Timeline) -> i64 {
    timeline.definition.as_ref().expect("a definition").actions[0].action_id
}
