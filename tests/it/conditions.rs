//! Conditions and gates: from the contract to what is sent, at their boundaries, and to the stored JSON and back.

mod about;
mod refused;
mod stored;
mod tests_in_tests;

use campaign_automation::proto::campaign::v1 as pb;
use pb::condition::Test;
use pb::{ConditionThen as Then, SkipReason};

use crate::support::calls::{completed, skipped};
use crate::support::given::{action, condition, customer, definition, email, stamp};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    what_was_done_within_hours_has_both_ends,
    a_score_is_above_when_strictly_above,
    a_stage_is_compared_whole,
    in_a_list_the_first_that_says_skip_decides,
    the_facts_of_the_moment_decide_and_nothing_is_undone,
    a_gate_that_says_skip_ends_its_day,
);

fn opened(within_hours: i32) -> Test {
    Test::EmailOpened(opened_of(within_hours, ""))
}

fn opened_of(within_hours: i32, of_action: &str) -> pb::EmailOpened {
    let of_action = of_action.to_owned();
    pb::EmailOpened {
        within_hours,
        of_action,
    }
}

fn clicked_of(within_hours: i32, of_action: &str) -> pb::EmailClicked {
    let of_action = of_action.to_owned();
    pb::EmailClicked {
        within_hours,
        of_action,
    }
}

fn replied_of(within_hours: i32, of_action: &str) -> pb::Replied {
    let of_action = of_action.to_owned();
    pb::Replied {
        within_hours,
        of_action,
    }
}

fn event_named(name: &str, within_hours: i32) -> Test {
    let name = name.to_owned();
    Test::Event(pb::EventOccurred { name, within_hours })
}

fn attribute(name: &str, comparison: pb::attribute_is::Comparison) -> Test {
    Test::Attribute(pb::AttributeIs {
        name: name.to_owned(),
        comparison: Some(comparison),
    })
}

fn number(number: f64) -> prost_types::Value {
    value(prost_types::value::Kind::NumberValue(number))
}

fn text(text: &str) -> prost_types::Value {
    value(prost_types::value::Kind::StringValue(text.to_owned()))
}

fn truth(truth: bool) -> prost_types::Value {
    value(prost_types::value::Kind::BoolValue(truth))
}

fn value(kind: prost_types::value::Kind) -> prost_types::Value {
    prost_types::Value { kind: Some(kind) }
}

fn inner(test: Test) -> pb::ConditionTest {
    pb::ConditionTest {
        test: Some(test.into()),
    }
}

fn several(tests: impl IntoIterator<Item = Test>) -> pb::ConditionTests {
    pb::ConditionTests {
        of: tests.into_iter().map(inner).collect(),
    }
}

fn all(tests: impl IntoIterator<Item = Test>) -> Test {
    Test::All(several(tests))
}

fn any(tests: impl IntoIterator<Item = Test>) -> Test {
    Test::Any(several(tests))
}

fn not(test: Test) -> Test {
    Test::Not(inner(test))
}

fn above(threshold: i32) -> Test {
    Test::EngagementScoreAbove(pb::EngagementScoreAbove { threshold })
}

fn in_stage(stage: &str) -> Test {
    let stage = stage.to_owned();
    Test::PipelineStage(pb::PipelineStageIs { stage })
}

fn event(customer: &str, kind: pb::EngagementKind, time: &str) -> pb::Engagement {
    let name = if kind == pb::EngagementKind::Custom {
        "demo.booked"
    } else {
        ""
    };
    pb::Engagement {
        customer_id: customer.to_owned(),
        event_id: format!("{kind:?}-{time}"),
        kind: kind.into(),
        name: name.to_owned(),
        occur_time: Some(stamp(time)),
        ..Default::default()
    }
}

/// A timeline with a mail at 13 o'clock of day 1 under these conditions.
async fn conditional(app: &App, slug: &str, conditions: Vec<pb::Condition>) -> pb::Timeline {
    let action = pb::ActionDefinition {
        key: "mail".to_owned(),
        conditions,
        ..email(1, 13, "A")
    };
    app.timeline(definition(slug, 5, vec![action])).await
}

/// Starts each customer on a timeline for each form of a condition.
async fn start_both(app: &App, name: &str, test: &Test, customers: &[&str]) {
    for (form, then) in [("skips", Then::Skip), ("executes", Then::Execute)] {
        let timeline = conditional(app, &format!("{name}-{form}"), vec![condition(test.clone(), then)]).await;
        for customer in customers {
            app.start_run(customer, &timeline).await;
        }
    }
}

/// Checks that the mail was sent or skipped in both forms, as the condition held or not.
async fn check_both(app: &App, name: &str, customer: &str, holds: bool) {
    let request = pb::ListProgressRequest {
        customer_id: customer.to_owned(),
        ..Default::default()
    };
    let mut runs = app.list_progress(request).await.expect("a page").progress;
    let (skips, executes) = (format!("{name}-skips"), format!("{name}-executes"));
    runs.retain(|run| [&skips, &executes].contains(&&run.timeline_slug));
    assert_eq!(runs.len(), 2, "both forms");
    for run in runs {
        let sends = (run.timeline_slug == executes) == holds;
        check_sent(&run, sends);
    }
}

/// Checks that the mail of a run was sent, or was skipped by its condition.
#[track_caller]
fn check_sent(run: &pb::Progress, sends: bool) {
    let name = format!("{} of {}", run.timeline_slug, run.customer_id);
    if sends {
        assert_eq!(
            (completed(run), skipped(run)),
            (vec!["mail".to_owned()], vec![]),
            "{name}"
        );
    } else {
        let by_condition = vec![("mail".to_owned(), SkipReason::Condition)];
        assert_eq!((completed(run), skipped(run)), (vec![], by_condition), "{name}");
        assert!(run.skipped_actions[0].skip_time.is_some(), "{name}");
    }
}

/// Decided at 13:00:00 on the 5th, so the window of 48 hours begins at 13:00:00 on the 3rd.
async fn what_was_done_within_hours_has_both_ends(backend: Backend) {
    use pb::EngagementKind as Kind;
    let app = App::start(backend).await;
    let kinds = [
        ("opened", opened(48), Kind::EmailOpened),
        ("clicked", Test::EmailClicked(clicked_of(48, "")), Kind::EmailClicked),
        ("replied", Test::Replied(replied_of(48, "")), Kind::Replied),
        ("event", event_named("demo.booked", 48), Kind::Custom),
    ];
    let cases = [
        ("never", &[][..], false),
        ("exactly", &["2026-01-03T13:00:00Z"], true),
        ("one-micro-more", &["2026-01-03T12:59:59.999999Z"], false),
        ("one-micro-less", &["2026-01-03T13:00:00.000001Z"], true),
        ("now", &["2026-01-05T13:00:00Z"], true),
        ("one-micro-ahead", &["2026-01-05T13:00:00.000001Z"], false),
        ("five-minutes-ahead", &["2026-01-05T13:05:00Z"], false),
        (
            "old-and-ahead",
            &["2026-01-02T13:00:00Z", "2026-01-05T13:05:00Z"],
            false,
        ),
        (
            "good-and-ahead",
            &["2026-01-04T13:00:00Z", "2026-01-05T13:05:00Z"],
            true,
        ),
        ("good-and-old", &["2026-01-04T13:00:00Z", "2025-12-01T13:00:00Z"], true),
    ];
    let mut events = Vec::new();
    for (name, test, kind) in &kinds {
        let id = |case: &str| format!("{name}-{case}");
        let mut ids: Vec<String> = cases.iter().map(|(case, ..)| id(case)).collect();
        for (case, times, _) in cases {
            events.extend(times.iter().map(|time| event(&id(case), *kind, time)));
        }
        // Whoever did something else.
        for (_, _, other) in kinds.iter().filter(|(_, _, other)| other != kind) {
            ids.push(id(&format!("{other:?}")));
            events.push(event(&id(&format!("{other:?}")), *other, "2026-01-05T12:00:00Z"));
        }
        ids.push(id("other"));
        events.push(pb::Engagement {
            name: "demo.booked.not".to_owned(),
            ..event(&id("other"), Kind::Custom, "2026-01-05T12:00:00Z")
        });
        for id in &ids {
            app.customer(id, "Europe/London").await;
        }
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        start_both(&app, name, test, &ids).await;
    }
    app.set("2026-01-05T13:00:00Z");
    for result in app.record(events).await {
        assert_eq!(result.error, None);
    }
    app.hourly().await;
    for (name, _, kind) in &kinds {
        for (case, _, holds) in cases {
            check_both(&app, name, &format!("{name}-{case}"), holds).await;
        }
        for (_, _, other) in kinds.iter().filter(|(_, _, other)| other != kind) {
            check_both(&app, name, &format!("{name}-{other:?}"), false).await;
        }
        check_both(&app, name, &format!("{name}-other"), false).await;
    }
    app.server.shutdown().await.expect("stopped");
}

async fn a_score_is_above_when_strictly_above(backend: Backend) {
    let app = App::start(backend).await;
    let cases = [
        ("none", 0, false),
        ("below", 49, false),
        ("exactly", 50, false),
        ("above", 51, true),
    ];
    for (name, engagement_score, _) in cases {
        app.put_customer(pb::Customer {
            engagement_score,
            ..customer(name, "Europe/London")
        })
        .await;
    }
    start_both(&app, "above", &above(50), &cases.map(|(name, ..)| name)).await;
    app.tick_at(&["2026-01-05T13:00:00Z"]).await;
    for (name, _, holds) in cases {
        check_both(&app, "above", name, holds).await;
    }
    app.server.shutdown().await.expect("stopped");
}

async fn a_stage_is_compared_whole(backend: Backend) {
    let app = App::start(backend).await;
    let cases = [("same", "hook", true), ("longer", "hooked", false), ("none", "", false)];
    for (name, stage, _) in cases {
        app.put_customer(pb::Customer {
            pipeline_stage: stage.to_owned(),
            ..customer(name, "Europe/London")
        })
        .await;
    }
    start_both(&app, "stage", &in_stage("hook"), &cases.map(|(name, ..)| name)).await;
    app.tick_at(&["2026-01-05T13:00:00Z"]).await;
    for (name, _, holds) in cases {
        check_both(&app, "stage", name, holds).await;
    }
    app.server.shutdown().await.expect("stopped");
}

/// The facts: score 51, stage `hook`, no mail opened.
async fn in_a_list_the_first_that_says_skip_decides(backend: Backend) {
    let app = App::start(backend).await;
    app.put_customer(pb::Customer {
        engagement_score: 51,
        pipeline_stage: "hook".to_owned(),
        ..customer("anna", "Europe/London")
    })
    .await;
    let executes = || condition(in_stage("hook"), Then::Execute);
    let also_executes = || condition(opened(48), Then::Skip);
    let skips = || condition(above(50), Then::Skip);
    let also_skips = || condition(opened(48), Then::Execute);
    let cases = [
        (vec![], true),
        (vec![executes(), also_executes()], true),
        (vec![executes(), skips()], false),
        (vec![skips(), executes()], false),
        (vec![also_executes(), executes(), also_skips()], false),
        (vec![executes(); 20], true),
    ];
    let mut runs = Vec::new();
    for (at, (conditions, sends)) in cases.into_iter().enumerate() {
        let timeline = conditional(&app, &format!("list-{at}"), conditions).await;
        runs.push((app.start_run("anna", &timeline).await.progress_id, sends));
    }
    app.tick_at(&["2026-01-05T13:00:00Z"]).await;
    for (run, sends) in runs {
        check_sent(&app.get("anna", run).await.expect("a run"), sends);
    }
    app.server.shutdown().await.expect("stopped");
}

async fn the_facts_of_the_moment_decide_and_nothing_is_undone(backend: Backend) {
    let app = App::start(backend).await;
    let unless_high = |day, key: &str| pb::ActionDefinition {
        key: key.to_owned(),
        conditions: vec![condition(above(50), Then::Skip)],
        ..email(day, 13, "A")
    };
    let actions = vec![unless_high(1, "one"), unless_high(2, "two"), unless_high(3, "three")];
    let timeline = app.timeline(definition("hook", 5, actions)).await;
    app.customer("anna", "Europe/London").await;
    app.start_run("anna", &timeline).await;
    for (score, time) in [
        (50, "2026-01-05T13:00:00Z"),
        (51, "2026-01-06T13:00:00Z"),
        (7, "2026-01-07T13:00:00Z"),
    ] {
        app.put_customer(pb::Customer {
            engagement_score: score,
            ..customer("anna", "Europe/London")
        })
        .await;
        app.tick_at(&[time]).await;
    }
    let run = app.progress("anna").await;
    assert_eq!(completed(&run), ["one", "three"]);
    assert_eq!(skipped(&run), [("two".to_owned(), SkipReason::Condition)]);
    app.server.shutdown().await.expect("stopped");
}

/// Day 1: a mail at 12, at 13 a gate, then a mail and a wait, and a mail at 14. Day 2: another mail.
async fn a_gate_that_says_skip_ends_its_day(backend: Backend) {
    use pb::{ActionType, Channel};
    let app = App::start(backend).await;
    for (slug, channel) in [("by-wait", Channel::Wait), ("by-interaction", Channel::Interaction)] {
        let gate = pb::ActionDefinition {
            key: "gate".to_owned(),
            conditions: vec![condition(above(50), Then::Skip)],
            ..action(1, 13, channel, ActionType::CheckCondition, "")
        };
        let keyed = |key: &str, priority: i32, action: pb::ActionDefinition| pb::ActionDefinition {
            key: key.to_owned(),
            priority,
            ..action
        };
        let actions = vec![
            keyed("before", 0, email(1, 12, "A")),
            gate,
            keyed("beside", 1, email(1, 13, "A")),
            keyed("wait", 2, action(1, 13, Channel::Wait, ActionType::Wait, "")),
            keyed("after", 0, email(1, 14, "A")),
            keyed("tomorrow", 0, email(2, 0, "A")),
        ];
        let timeline = app.timeline(definition(slug, 5, actions)).await;
        for (name, engagement_score) in [("low", 50), ("high", 51)] {
            let id = format!("{name}-{slug}");
            app.put_customer(pb::Customer {
                engagement_score,
                ..customer(&id, "Europe/London")
            })
            .await;
            app.start_run(&id, &timeline).await;
        }
    }
    app.tick_at(&[
        "2026-01-05T12:00:00Z",
        "2026-01-05T13:00:00Z",
        "2026-01-05T14:00:00Z",
        "2026-01-06T00:00:00Z",
    ])
    .await;
    for slug in ["by-wait", "by-interaction"] {
        let low = app.progress(&format!("low-{slug}")).await;
        // By completion: the wait needs no send, and is done before the mail beside it.
        assert_eq!(
            completed(&low),
            ["before", "gate", "wait", "beside", "after", "tomorrow"],
            "{slug}"
        );
        assert_eq!(skipped(&low), []);
        let high = app.progress(&format!("high-{slug}")).await;
        assert_eq!(completed(&high), ["before", "tomorrow"], "{slug}");
        let expected = [
            ("gate", SkipReason::Condition),
            ("beside", SkipReason::Gated),
            ("wait", SkipReason::Gated),
            ("after", SkipReason::Gated),
        ]
        .map(|(key, reason)| (key.to_owned(), reason));
        assert_eq!(skipped(&high), expected, "{slug}");
    }
    app.server.shutdown().await.expect("stopped");
}
