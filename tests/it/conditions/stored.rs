//! What is stored of conditions, and what comes back.

use campaign_automation::client::files;
use campaign_automation::proto::campaign::v1 as pb;
use pb::ConditionThen as Then;
use pb::condition::Test;
use sea_orm::{ConnectionTrait as _, Database, DbBackend, Statement};
use serde_json::json;

use super::{
    above, all, any, attribute, clicked_of, event_named, in_stage, not, number, opened, replied_of, text, truth,
};
use crate::support::given::{condition, definition, email, sms};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    conditions_come_back_as_they_were_applied,
    conditions_are_stored_in_the_original_shape,
    the_examples_of_the_readme_are_stored_as_it_says,
);

/// Every test in both forms, alone and together.
fn all_conditions() -> Vec<Vec<pb::Condition>> {
    use pb::attribute_is::Comparison;
    let tests = [
        opened(1),
        opened(8760),
        above(-1_000_000),
        above(0),
        above(1_000_000),
        in_stage("hook"),
        Test::EmailClicked(clicked_of(48, "")),
        Test::Replied(replied_of(8760, "")),
        event_named("demo.booked", 72),
        attribute("plan", Comparison::Equals(text("gold"))),
        attribute("plan", Comparison::Equals(number(3.0))),
        attribute("plan", Comparison::Equals(truth(false))),
        attribute("plan", Comparison::NotEquals(number(1e16))),
        attribute("plan", Comparison::Exists(false)),
        attribute("a name", Comparison::Greater(-2.5)),
        attribute("a name", Comparison::Less(1e300)),
        attribute("a name", Comparison::Less(1e-300)),
        all([above(1), not(above(2))]),
        any([all([any([not(all([above(1)])), above(2)])])]),
        not(in_stage("hook")),
    ];
    let one = |test: &Test, then| condition(test.clone(), then);
    let mut lists: Vec<Vec<pb::Condition>> = Vec::new();
    for test in &tests {
        lists.push(vec![one(test, Then::Skip)]);
        lists.push(vec![one(test, Then::Execute)]);
    }
    lists.push(tests.iter().map(|test| one(test, Then::Execute)).collect());
    assert_eq!(tests.len(), 20, "as many as there may be");
    lists.push(Vec::new());
    lists
}

async fn conditions_come_back_as_they_were_applied(backend: Backend) {
    let app = App::start(backend).await;
    app.campaign("A").await;
    let actions = all_conditions()
        .into_iter()
        .enumerate()
        .map(|(at, conditions)| pb::ActionDefinition {
            key: format!("action-{at:02}"),
            priority: i32::try_from(at).expect("few"),
            conditions,
            ..email(1, 0, "A")
        });
    let mut given = definition("hook", 5, actions.collect());
    given.when_missed = pb::WhenMissed::CatchUp.into();
    given.max_lateness = Some(prost_types::Duration {
        seconds: 7200,
        nanos: 0,
    });
    let applied = app
        .apply(given.clone(), "")
        .await
        .expect("applied")
        .timeline
        .expect("a timeline");
    let read = app.get_timeline("hook").await.expect("a timeline");
    assert_eq!(read, applied);
    let mut definition = read.definition.expect("a definition");
    for action in &mut definition.actions {
        assert!(action.action_id > 0);
        action.action_id = 0;
    }
    assert_eq!(definition, given);
    // What was read can be applied again as it is.
    let again = app
        .apply(applied.definition.clone().expect("a definition"), &applied.etag)
        .await;
    assert_eq!(again.expect("applied").timeline.expect("a timeline"), applied);
    app.server.shutdown().await.expect("stopped");
}

/// What the database holds of the conditions of the action on day 2.
async fn stored_conditions(app: &App, backend: Backend) -> serde_json::Value {
    let database = Database::connect(&app.database.url).await.expect("a connection");
    let kind = match backend {
        Backend::Sqlite => DbBackend::Sqlite,
        Backend::Postgres => DbBackend::Postgres,
    };
    let sql = "select cast(conditions as text) as conditions from campaign_timeline_actions where day_number = 2";
    let row = database.query_one_raw(Statement::from_string(kind, sql)).await;
    let text: String = row
        .expect("an answer")
        .expect("a row")
        .try_get("", "conditions")
        .expect("text");
    database.close().await.expect("closed");
    serde_json::from_str(&text).expect("JSON")
}

/// Each row of the README's table has a condition as a file writes it, and as it is stored.
async fn the_examples_of_the_readme_are_stored_as_it_says(backend: Backend) {
    let app = App::start(backend).await;
    let readme = include_str!("../../../README.md");
    let rows = readme
        .lines()
        .filter(|line| line.contains("`{\"if\":") && line.starts_with("| "));
    let (mut conditions, mut expected) = (Vec::new(), Vec::new());
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let (in_file, as_stored) = (
            cells[2].replace('…', "CONDITION_THEN_SKIP"),
            cells[3].replace('…', "\"skip\""),
        );
        let text = format!("timeline: {{actions: [{{conditions: [{in_file}]}}]}}");
        let request: pb::ApplyTimelineRequest = files::parse("README.md", &text).expect("a request");
        let timeline = request.timeline.expect("a timeline");
        conditions.extend(timeline.actions.into_iter().flat_map(|action| action.conditions));
        expected.push(serde_json::from_str::<serde_json::Value>(&as_stored).expect("JSON"));
    }
    assert_eq!((conditions.len(), expected.len()), (16, 16));
    let last = pb::ActionDefinition {
        conditions,
        ..email(2, 0, "A")
    };
    let first = pb::ActionDefinition {
        key: "HOOK-001".to_owned(),
        ..email(1, 0, "A")
    };
    let task = crate::interactions::task("call-back", 1, 1);
    app.timeline(definition("hook", 5, vec![first, task, last])).await;
    assert_eq!(stored_conditions(&app, backend).await, json!(expected));
    app.server.shutdown().await.expect("stopped");
}

async fn conditions_are_stored_in_the_original_shape(backend: Backend) {
    use pb::attribute_is::Comparison;
    let app = App::start(backend).await;
    let conditions = vec![
        condition(opened(48), Then::Skip),
        condition(above(50), Then::Skip),
        condition(in_stage("hook"), Then::Execute),
        condition(Test::EmailClicked(clicked_of(24, "")), Then::Skip),
        condition(Test::Replied(replied_of(24, "first")), Then::Skip),
        condition(event_named("demo.booked", 72), Then::Skip),
        condition(attribute("plan", Comparison::Equals(text("gold"))), Then::Skip),
        condition(attribute("plan", Comparison::NotEquals(truth(true))), Then::Skip),
        condition(attribute("plan", Comparison::Exists(true)), Then::Skip),
        condition(attribute("plan", Comparison::Greater(2.5)), Then::Skip),
        condition(attribute("plan", Comparison::Less(3.0)), Then::Skip),
        condition(
            Test::TaskOutcome(pb::TaskOutcomeIs {
                of_action: "call".to_owned(),
                outcome: pb::TaskOutcome::NoAnswer.into(),
            }),
            Then::Execute,
        ),
        condition(all([above(1), not(any([above(2), opened(1)]))]), Then::Execute),
    ];
    let last = pb::ActionDefinition {
        conditions,
        ..email(2, 0, "A")
    };
    let first = pb::ActionDefinition {
        key: "first".to_owned(),
        ..sms(1, 0, "A")
    };
    let task = crate::interactions::task("call", 1, 1);
    app.timeline(definition("hook", 5, vec![first, task, last])).await;
    let stored = stored_conditions(&app, backend).await;
    let expected = json!([
        {"if": "email_opened", "within_hours": 48, "then": "skip"},
        {"if": "engagement_score_above", "threshold": 50, "then": "skip"},
        {"if": "pipeline_stage", "stage": "hook", "then": "execute"},
        {"if": "email_clicked", "within_hours": 24, "then": "skip"},
        {"if": "replied", "within_hours": 24, "of_action": "first", "then": "skip"},
        {"if": "event", "name": "demo.booked", "within_hours": 72, "then": "skip"},
        {"if": "attribute", "name": "plan", "equals": "gold", "then": "skip"},
        {"if": "attribute", "name": "plan", "not_equals": true, "then": "skip"},
        {"if": "attribute", "name": "plan", "exists": true, "then": "skip"},
        {"if": "attribute", "name": "plan", "greater": 2.5, "then": "skip"},
        {"if": "attribute", "name": "plan", "less": 3, "then": "skip"},
        {"if": "task_outcome", "of_action": "call", "is": "no_answer", "then": "execute"},
        {"if": "all", "of": [
            {"if": "engagement_score_above", "threshold": 1},
            {"if": "not", "of": {"if": "any", "of": [
                {"if": "engagement_score_above", "threshold": 2},
                {"if": "email_opened", "within_hours": 1},
            ]}},
        ], "then": "execute"},
    ]);
    assert_eq!(stored, expected);
    app.server.shutdown().await.expect("stopped");
}
