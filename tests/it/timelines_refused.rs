//! Definitions of timelines that are refused, and what the refusals name.

use campaign_automation::proto::campaign::v1 as pb;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::calls::about;
use crate::support::given::{action, definition, email, refused, sms};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    definitions_that_do_not_fit_are_refused,
    all_that_is_wrong_is_said_at_once,
    content_that_is_missing_is_named_by_action,
    more_violations_than_fit_are_counted,
);

/// Two mails, on days 1 and 3.
fn plain() -> pb::TimelineDefinition {
    definition("hook", 5, vec![email(1, 0, "A"), email(3, 10, "A")])
}

fn changed(
    definition: &pb::TimelineDefinition,
    change: impl FnOnce(&mut pb::TimelineDefinition),
) -> pb::TimelineDefinition {
    let mut definition = definition.clone();
    change(&mut definition);
    definition
}

async fn definitions_that_do_not_fit_are_refused(backend: Backend) {
    let app = App::start(backend).await;
    let stored = app.timeline(changed(&plain(), |new| new.is_default = true)).await;
    let second = changed(&plain(), |new| {
        new.slug = "second".to_owned();
        new.is_default = true;
    });
    let error = refused(
        app.apply(second.clone(), "").await,
        Code::FailedPrecondition,
        "SECOND_DEFAULT",
        &[],
    );
    assert_eq!(about(&error, "slug"), "hook");
    let elsewhere = changed(&second, |new| new.pipeline_stage = "base".to_owned());
    app.apply(elsewhere, "").await.expect("the default of another stage");

    let moved = changed(&plain(), |new| new.pipeline_stage = "base".to_owned());
    let error = refused(
        app.apply(moved, &stored.etag).await,
        Code::FailedPrecondition,
        "STAGE_FIXED",
        &[],
    );
    assert_eq!(about(&error, "pipeline_stage"), "hook");

    let short = changed(&plain(), |new| new.duration_days = 2);
    let refusal = app.apply(short, &stored.etag).await;
    refused(
        refusal,
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &["timeline.actions[1].day_number"],
    );
    assert_eq!(app.get_timeline("hook").await.expect("a timeline"), stored);
    app.server.shutdown().await.expect("stopped");
}

async fn all_that_is_wrong_is_said_at_once(backend: Backend) {
    use pb::{ActionType, Channel};
    let app = App::start(backend).await;
    let short = Some(prost_types::Duration {
        seconds: 3599,
        nanos: 0,
    });
    let actions = vec![
        pb::ActionDefinition {
            priority: 1001,
            ..email(0, 24, "A")
        },
        email(6, -1, "A"),
        action(1, 0, Channel::Email, ActionType::SendSms, "A"),
        action(1, 1, Channel::Unspecified, ActionType::Unspecified, "A"),
        action(1, 2, Channel::Wait, ActionType::Wait, "A"),
        email(1, 3, ""),
        pb::ActionDefinition {
            max_lateness: short,
            ..email(1, 4, "A")
        },
        email(1, 4, "A"),
    ];
    let bad = pb::TimelineDefinition {
        slug: "Not Ok".to_owned(),
        name: String::new(),
        pipeline_stage: String::new(),
        when_missed: 9,
        max_lateness: short,
        ..definition("x", 5, actions)
    };
    let refusal = app.apply(bad, "").await;
    let expected = [
        "timeline.slug",
        "timeline.name",
        "timeline.pipeline_stage",
        "timeline.when_missed",
        "timeline.max_lateness",
        "timeline.actions[0].day_number",
        "timeline.actions[0].delay_hours",
        "timeline.actions[0].priority",
        "timeline.actions[1].day_number",
        "timeline.actions[1].delay_hours",
        "timeline.actions[2].action_type",
        "timeline.actions[3].channel",
        "timeline.actions[3].action_type",
        "timeline.actions[4].campaign_id",
        "timeline.actions[5].campaign_id",
        "timeline.actions[6].max_lateness",
        "timeline.actions[7].key",
    ];
    refused(refusal, Code::InvalidArgument, "INVALID_FIELDS", &expected);

    let keyless = |day: i32| pb::ActionDefinition {
        key: String::new(),
        ..email(day, 0, "A")
    };
    let unclear = definition("x", 5, vec![keyless(1), keyless(2)]);
    let both = ["timeline.actions[0].key", "timeline.actions[1].key"];
    refused(
        app.apply(unclear, "").await,
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &both,
    );
    let request = pb::ApplyTimelineRequest::default();
    let answer = app.timelines().apply_timeline(request).await;
    refused(answer, Code::InvalidArgument, "INVALID_FIELDS", &["timeline"]);
    let too_many = (0..1001).map(|n| pb::ActionDefinition {
        key: format!("a{n}"),
        ..email(1, 0, "A")
    });
    let too_many = definition("x", 5, too_many.collect());
    refused(
        app.apply(too_many, "").await,
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &["timeline.actions"],
    );
    app.server.shutdown().await.expect("stopped");
}

async fn content_that_is_missing_is_named_by_action(backend: Backend) {
    use pb::{ActionType, Channel};
    let app = App::start(backend).await;
    let mail_only = pb::CampaignDefinition {
        campaign_id: "MAIL".to_owned(),
        kind: pb::CampaignKind::Transactional.into(),
        subject: "Hello".to_owned(),
        html_body: "<p>Hello</p>".to_owned(),
        ..Default::default()
    };
    let request = pb::ApplyCampaignRequest {
        campaign: Some(mail_only),
        ..Default::default()
    };
    app.content().apply_campaign(request).await.expect("a campaign");
    let actions = vec![
        sms(2, 0, "MAIL"),
        email(1, 0, "MAIL"),
        email(1, 1, "NONE"),
        action(1, 2, Channel::Phone, ActionType::MakeCall, "MAIL"),
        action(1, 3, Channel::Interaction, ActionType::CreateTask, "MAIL"),
        action(1, 4, Channel::Wait, ActionType::Wait, ""),
    ];
    let error = refused(
        app.apply(definition("hook", 5, actions), "").await,
        Code::FailedPrecondition,
        "CONTENT_MISSING",
        &[],
    );
    let details = error.get_error_details();
    let violations = &details.precondition_failure().expect("violations").violations;
    let named: Vec<(&str, bool)> = violations
        .iter()
        .map(|violation| {
            (
                violation.subject.as_str(),
                violation.description.contains("is not there"),
            )
        })
        .collect();
    let expected = [
        ("timeline.actions[0].campaign_id", false),
        ("timeline.actions[2].campaign_id", true),
        ("timeline.actions[3].campaign_id", false),
    ];
    assert_eq!(named, expected);
    refused(
        app.get_timeline("hook").await,
        Code::NotFound,
        "TIMELINE_NOT_FOUND",
        &[],
    );
    app.server.shutdown().await.expect("stopped");
}

/// An error travels in the head of a response, so it carries as many violations as clients take, and says how many more there are.
async fn more_violations_than_fit_are_counted(backend: Backend) {
    let app = App::start(backend).await;
    let bad = (0..1000).map(|n| pb::ActionDefinition {
        key: format!("action-{n}"),
        ..email(9, 24, "A")
    });
    let answer = app.apply(definition("hook", 5, bad.collect()), "").await;
    let error = refused(answer, Code::InvalidArgument, "INVALID_FIELDS", &[]);
    let details = error.get_error_details();
    let violations = &details.bad_request().expect("violations").field_violations;
    assert_eq!(violations[0].field, "timeline.actions[0].day_number");
    assert!((20..2000).contains(&violations.len()), "{}", violations.len());
    assert!(error.message().contains("1999 more"), "{}", error.message());

    let missing = (0..1000).map(|n| pb::ActionDefinition {
        key: format!("action-{n}"),
        ..email(1, 0, &format!("{n}-{}", "x".repeat(60)))
    });
    let answer = app.apply(definition("hook", 5, missing.collect()), "").await;
    let error = refused(answer, Code::FailedPrecondition, "CONTENT_MISSING", &[]);
    assert!(error.message().contains("997 more"), "{}", error.message());
    app.server.shutdown().await.expect("stopped");
}
