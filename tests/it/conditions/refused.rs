//! Conditions that are no conditions: each violation by its path, all at once, and nothing is stored.

use campaign_automation::proto::campaign::v1 as pb;
use pb::ConditionThen as Then;
use pb::attribute_is::Comparison;
use pb::condition::Test;
use prost_types::value::Kind;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{
    above, all, any, attribute, clicked_of, event_named, in_stage, inner, not, opened, opened_of, replied_of, text,
    value,
};
use crate::support::given::{action, condition, definition, email, refused, sms};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    bad_conditions_are_named_by_their_path,
    bad_operands_are_named_by_their_path,
    deep_and_wide_conditions_are_refused_and_harm_nothing,
    an_action_may_be_about_messages_that_stand_earlier,
);

async fn bad_conditions_are_named_by_their_path(backend: Backend) {
    let app = App::start(backend).await;
    app.campaign("A").await;
    let nothing = pb::Condition::default();
    let bad = vec![
        condition(opened(0), Then::Skip),
        condition(opened(8761), Then::Skip),
        condition(above(1_000_001), Then::Skip),
        condition(in_stage("Not Ok"), Then::Execute),
        condition(above(1), Then::Unspecified),
        nothing,
    ];
    let many = vec![condition(above(1), Then::Skip); 21];
    for (conditions, fields) in [
        (
            bad,
            &[
                "[0].email_opened.within_hours",
                "[1].email_opened.within_hours",
                "[2].engagement_score_above.threshold",
                "[3].pipeline_stage.stage",
                "[4].then",
                "[5]",
                "[5].then",
            ][..],
        ),
        (many, &[""]),
    ] {
        let action = pb::ActionDefinition {
            conditions,
            ..email(1, 0, "A")
        };
        let paths: Vec<String> = fields
            .iter()
            .map(|field| format!("timeline.actions[0].conditions{field}"))
            .collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let answer = app.apply(definition("hook", 5, vec![action]), "").await;
        refused(answer, Code::InvalidArgument, "INVALID_FIELDS", &paths);
    }
    refused(
        app.get_timeline("hook").await,
        Code::NotFound,
        "TIMELINE_NOT_FOUND",
        &[],
    );
    app.server.shutdown().await.expect("stopped");
}

/// Applies a mail under these conditions, and expects these violations, by their paths within the conditions.
async fn violated(app: &App, conditions: Vec<pb::Condition>, fields: &[&str]) {
    let action = pb::ActionDefinition {
        conditions,
        ..email(1, 0, "A")
    };
    let paths: Vec<String> = fields
        .iter()
        .map(|field| format!("timeline.actions[0].conditions{field}"))
        .collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let answer = app.apply(definition("hook", 5, vec![action]), "").await;
    refused(answer, Code::InvalidArgument, "INVALID_FIELDS", &paths);
}

async fn bad_operands_are_named_by_their_path(backend: Backend) {
    let app = App::start(backend).await;
    app.campaign("A").await;
    let skip = |test| condition(test, Then::Skip);
    let compared = |comparison| skip(attribute("plan", comparison));
    let unset = pb::ConditionTest::default();
    let bad = vec![
        skip(Test::EmailClicked(clicked_of(0, ""))),
        skip(Test::Replied(replied_of(8761, ""))),
        skip(event_named("", 0)),
        skip(event_named("two words", 1)),
        skip(Test::Attribute(pb::AttributeIs::default())),
        skip(attribute("", Comparison::Exists(true))),
        skip(attribute(&"x".repeat(65), Comparison::Exists(true))),
        skip(attribute("a\nb", Comparison::Exists(true))),
        compared(Comparison::Equals(prost_types::Value::default())),
        compared(Comparison::Equals(value(Kind::NullValue(0)))),
    ];
    let fields = [
        "[0].email_clicked.within_hours",
        "[1].replied.within_hours",
        "[2].event.name",
        "[2].event.within_hours",
        "[3].event.name",
        "[4].attribute.name",
        "[4].attribute",
        "[5].attribute.name",
        "[6].attribute.name",
        "[7].attribute.name",
        "[8].attribute.equals",
        "[9].attribute.equals",
    ];
    violated(&app, bad, &fields).await;
    let bad = vec![
        compared(Comparison::NotEquals(value(Kind::StructValue(
            prost_types::Struct::default(),
        )))),
        compared(Comparison::NotEquals(value(Kind::ListValue(
            prost_types::ListValue::default(),
        )))),
        compared(Comparison::Equals(text(&"x".repeat(1001)))),
        compared(Comparison::Equals(text("a\0b"))),
        compared(Comparison::Equals(value(Kind::NumberValue(f64::NAN)))),
        compared(Comparison::Greater(f64::INFINITY)),
        compared(Comparison::Less(f64::NAN)),
        skip(all([])),
        skip(Test::Any(pb::ConditionTests::default())),
        skip(Test::Not(unset.clone())),
    ];
    let fields = [
        "[0].attribute.not_equals",
        "[1].attribute.not_equals",
        "[2].attribute.equals",
        "[3].attribute.equals",
        "[4].attribute.equals",
        "[5].attribute.greater",
        "[6].attribute.less",
        "[7].all.of",
        "[8].any.of",
        "[9].not",
    ];
    violated(&app, bad, &fields).await;
    let nested = vec![
        pb::Condition {
            test: Some(all([any([above(1), not(opened(0))]), above(2_000_000)])),
            then: 7,
        },
        skip(Test::All(pb::ConditionTests {
            of: vec![inner(in_stage("hook")), unset.clone(), inner(in_stage("No"))],
        })),
    ];
    let fields = [
        "[0].then",
        "[0].all.of[0].any.of[1].not.email_opened.within_hours",
        "[0].all.of[1].engagement_score_above.threshold",
        "[1].all.of[1]",
        "[1].all.of[2].pipeline_stage.stage",
    ];
    violated(&app, nested, &fields).await;
    app.server.shutdown().await.expect("stopped");
}

/// So many combinators in one another, by turns of the three, `not` the innermost.
fn nested(depth: usize, leaf: Test) -> Test {
    (0..depth).fold(leaf, |test, n| match n % 3 {
        0 => not(test),
        1 => all([test]),
        _ => any([test]),
    })
}

async fn deep_and_wide_conditions_are_refused_and_harm_nothing(backend: Backend) {
    let app = App::start(backend).await;
    app.campaign("A").await;
    let skip = |test| condition(test, Then::Skip);
    let deep = |depth: usize| skip((0..depth).fold(above(1), |test, _| not(test)));
    let sixth = |n: usize| format!("[{n}]{}", ".not".repeat(6));
    violated(
        &app,
        vec![deep(6), deep(50), deep(90)],
        &[&sixth(0), &sixth(1), &sixth(2)],
    )
    .await;
    let mixed = skip(nested(6, above(1)));
    violated(
        &app,
        vec![mixed],
        &["[0].any.of[0].all.of[0].not.any.of[0].all.of[0].not"],
    )
    .await;
    let highs = |leaves: usize| all((0..leaves).map(|_| above(1)));
    let wide = |leaves: usize| skip(highs(leaves));
    let both = skip(any([highs(25), not(highs(26))]));
    violated(&app, vec![wide(51), wide(100_000), both], &["[0]", "[1]", "[2]"]).await;
    let empty = skip(any((0..100_000).map(|_| all([]))));
    violated(&app, vec![empty], &["[0]"]).await;

    // Deeper than messages may be, so that it can't be decoded at all.
    for depth in [97, 100, 101, 1000] {
        let action = pb::ActionDefinition {
            conditions: vec![deep(depth)],
            ..email(1, 0, "A")
        };
        let status = app
            .apply(definition("hook", 5, vec![action]), "")
            .await
            .expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{depth}: {status:?}");
        let details = status.get_error_details();
        assert_eq!(details.error_info().expect("an ErrorInfo").reason, "INVALID_FIELDS");
        let violation = &details.bad_request().expect("a violation").field_violations[0];
        assert!(violation.field.starts_with("timeline"), "{violation:?}");
        assert!(violation.description.contains("deep"), "{violation:?}");
    }

    // What is just good enough.
    let good = pb::ActionDefinition {
        conditions: vec![skip(nested(5, above(1))), deep(5), wide(50)],
        ..email(1, 0, "A")
    };
    app.apply(definition("hook", 5, vec![good]), "").await.expect("applied");
    app.server.shutdown().await.expect("stopped");
}

async fn an_action_may_be_about_messages_that_stand_earlier(backend: Backend) {
    use pb::{ActionType, Channel};
    let app = App::start(backend).await;
    app.campaign("A").await;
    let keyed = |key: &str, priority: i32, action: pb::ActionDefinition| pb::ActionDefinition {
        key: key.to_owned(),
        priority,
        ..action
    };
    let others = || {
        vec![
            keyed("mail", 0, email(1, 9, "A")),
            keyed("sms", 0, sms(1, 10, "A")),
            keyed("call", 0, action(1, 10, Channel::Phone, ActionType::MakeCall, "A")),
            keyed("wait", 0, action(1, 10, Channel::Wait, ActionType::Wait, "")),
            keyed("before", -1, email(2, 9, "A")),
            keyed("beside", 0, email(2, 9, "A")),
            keyed("after", 1, email(2, 9, "A")),
            keyed("later", 0, email(3, 0, "A")),
        ]
    };
    let opened = |key: &str| Test::EmailOpened(opened_of(1, key));
    let clicked = |key: &str| Test::EmailClicked(clicked_of(1, key));
    let replied = |key: &str| Test::Replied(replied_of(1, key));
    let with = |test: Test| {
        let mut actions = others();
        actions.push(pb::ActionDefinition {
            conditions: vec![condition(test, Then::Skip)],
            ..keyed("about", 0, email(2, 9, "A"))
        });
        actions
    };
    let cases = [
        (opened("mail"), None),
        (opened("before"), None),
        (opened("sms"), Some("email_opened")),
        (opened("call"), Some("email_opened")),
        (opened("wait"), Some("email_opened")),
        (opened("beside"), Some("email_opened")),
        (opened("after"), Some("email_opened")),
        (opened("later"), Some("email_opened")),
        (opened("about"), Some("email_opened")),
        (opened("nobody"), Some("email_opened")),
        (opened("A"), Some("email_opened")),
        (clicked("mail"), None),
        (clicked("sms"), Some("email_clicked")),
        (replied("mail"), None),
        (replied("sms"), None),
        (replied("call"), Some("replied")),
        (replied("later"), Some("replied")),
        (not(any([above(1), replied("call")])), Some("not.any.of[1].replied")),
    ];
    for (test, field) in cases {
        let request = pb::ApplyTimelineRequest {
            timeline: Some(definition("hook", 5, with(test))),
            validate_only: true,
            ..Default::default()
        };
        let answer = app.timelines().apply_timeline(request).await;
        match field {
            None => drop(answer.expect("applied")),
            Some(field) => {
                let path = format!("timeline.actions[8].conditions[0].{field}.of_action");
                refused(answer, Code::InvalidArgument, "INVALID_FIELDS", &[&path]);
            }
        }
    }
    // The violation says what is allowed.
    let ends = async |actions: Vec<pb::ActionDefinition>, expected: &str| {
        let answer = app.apply(definition("hook", 5, actions), "").await;
        let message = answer.expect_err("refused").message().to_owned();
        assert!(message.ends_with(expected), "{message}");
    };
    let mut actions = with(replied("later"));
    ends(
        actions.clone(),
        r#"stands earlier by day, hour and priority ("mail", "sms", "before"), but is "later""#,
    )
    .await;
    actions.drain(..5);
    ends(
        actions,
        r#"another action that sends mail or SMS and stands earlier by day, hour and priority (there is none), but is "later""#,
    )
    .await;
    app.server.shutdown().await.expect("stopped");
}
