//! Repeating requests: the same id is answered with the first answer, for 24 hours, also when twins come at once.

use campaign_automation::proto::campaign::v1 as pb;
use prost::Message as _;
use std::collections::BTreeSet;
use tonic::Code;

use crate::support::given::{customer, definition, email, refused, stamp};
use crate::support::holds::scope;
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    calls_about_runs_are_done_once,
    calls_about_customers_are_done_once,
    calls_about_definitions_are_done_once,
    calls_about_holds_are_done_once,
    twins_start_one_run,
    twins_execute_once,
    twins_without_an_id_assign_one_run,
    an_answer_is_kept_for_a_day,
    a_refused_request_is_not_kept,
    an_id_counts_per_customer_and_method,
    a_request_that_only_validates_is_not_kept,
);

const ID: &str = "4d1c2f8e-request";

/// Makes a call twice with an hour in between, and then one with the same id and another body.
macro_rules! once {
    ($app:expr, $client:ident, $method:ident, $request:expr, $other:expr $(,)?) => {{
        let first = $app.$client().$method($request.clone()).await;
        let first = first.expect(stringify!($method)).into_inner();
        $app.pass_hours(1);
        let again = $app.$client().$method($request.clone()).await;
        let again = again.expect(stringify!($method)).into_inner();
        assert_eq!(first.encode_to_vec(), again.encode_to_vec(), stringify!($method));
        let reused = $app.$client().$method($other).await;
        refused(reused, Code::InvalidArgument, "REQUEST_ID_REUSED", &["request_id"]);
        first
    }};
}

fn start(customer: &str, timeline: &pb::Timeline, request_id: &str) -> pb::StartTimelineRequest {
    pb::StartTimelineRequest {
        customer_id: customer.to_owned(),
        timeline_id: timeline.timeline_id,
        request_id: request_id.to_owned(),
        ..Default::default()
    }
}

async fn runs_of(app: &App, customer: &str) -> Vec<i64> {
    let request = pb::ListProgressRequest {
        customer_id: customer.to_owned(),
        ..Default::default()
    };
    let page = app.list_progress(request).await.expect("a page");
    page.progress.into_iter().map(|run| run.progress_id).collect()
}

async fn calls_about_runs_are_done_once(backend: Backend) {
    let app = App::start(backend).await;
    let mut hook = definition("hook", 5, vec![email(1, 0, "A"), email(1, 23, "B")]);
    hook.is_default = true;
    let timeline = app.timeline(hook).await;
    let other = app.timeline(definition("other", 5, vec![])).await;
    app.put_customer(pb::Customer {
        pipeline_stage: "hook".to_owned(),
        ..customer("anna", "Europe/London")
    })
    .await;

    let request = start("anna", &timeline, ID);
    let run = once!(app, orchestrator, start_timeline, request, start("anna", &other, ID));
    let id = run.progress.expect("a run").progress_id;
    assert_eq!(runs_of(&app, "anna").await, [id]);

    let request = pb::ExecuteActionsRequest {
        customer_id: "anna".to_owned(),
        request_id: ID.to_owned(),
    };
    let first = app.orchestrator().execute_actions(request.clone()).await;
    app.pass_hours(1);
    let again = app.orchestrator().execute_actions(request).await.expect("results");
    assert_eq!(first.expect("results").into_inner(), again.into_inner());
    assert_eq!(app.sent_count(), 1);

    let request = pb::PauseTimelineRequest {
        customer_id: "anna".to_owned(),
        progress_id: id,
        reason: "one".to_owned(),
        request_id: ID.to_owned(),
    };
    let changed = pb::PauseTimelineRequest {
        reason: "two".to_owned(),
        ..request.clone()
    };
    once!(app, orchestrator, pause_timeline, request, changed);

    let request = pb::ResumeTimelineRequest {
        customer_id: "anna".to_owned(),
        progress_id: id,
        request_id: ID.to_owned(),
        ..Default::default()
    };
    let changed = pb::ResumeTimelineRequest {
        start_next_day: true,
        ..request.clone()
    };
    once!(app, orchestrator, resume_timeline, request, changed);

    let request = pb::StopTimelineRequest {
        customer_id: "anna".to_owned(),
        progress_id: id,
        request_id: ID.to_owned(),
        ..Default::default()
    };
    let changed = pb::StopTimelineRequest {
        progress_id: id + 1,
        ..request.clone()
    };
    once!(app, orchestrator, stop_timeline, request, changed);

    let request = pb::AssignTimelineForStageRequest {
        customer_id: "anna".to_owned(),
        request_id: ID.to_owned(),
        ..Default::default()
    };
    let changed = pb::AssignTimelineForStageRequest {
        allow_restart: true,
        ..request.clone()
    };
    let assigned = once!(app, orchestrator, assign_timeline_for_stage, request, changed);
    assert!(assigned.created, "also when it is asked again");
    app.server.shutdown().await.expect("stopped");
}

async fn calls_about_customers_are_done_once(backend: Backend) {
    let app = App::start(backend).await;
    let mut hook = definition("hook", 5, vec![]);
    hook.is_default = true;
    app.timeline(hook).await;
    let upsert = |name: &str| pb::UpsertCustomersRequest {
        customers: vec![
            pb::Customer {
                display_name: name.to_owned(),
                ..customer("anna", "Europe/London")
            },
            customer("not ok", ""),
        ],
        request_id: ID.to_owned(),
        ..Default::default()
    };
    let done = once!(app, customers, upsert_customers, upsert("Anna"), upsert("Bela"));
    assert!(done.results[0].created, "also when it is asked again");
    assert_eq!(app.get_customer("anna").await.expect("a customer").display_name, "Anna");

    let change = |stage: &str| pb::ChangePipelineStageRequest {
        customer_id: "anna".to_owned(),
        pipeline_stage: stage.to_owned(),
        request_id: ID.to_owned(),
    };
    let done = once!(app, customers, change_pipeline_stage, change("hook"), change("base"));
    let outcome = done.assignment.expect("an assignment").outcome();
    assert_eq!(outcome, pb::AssignmentOutcome::Started, "also when it is asked again");
    app.server.shutdown().await.expect("stopped");
}

async fn calls_about_holds_are_done_once(backend: Backend) {
    let app = App::start(backend).await;
    let set = |reason: &str| pb::SetSendingHoldRequest {
        scope: Some(scope::all()),
        reason: reason.to_owned(),
        // It is over when the call comes again.
        end: Some(pb::set_sending_hold_request::End::EndTime(stamp(
            "2026-01-05T12:30:00Z",
        ))),
        request_id: ID.to_owned(),
    };
    let hold = once!(app, sending, set_sending_hold, set("one"), set("two")).hold;
    assert_eq!(hold.expect("a hold").reason, "one");
    assert_eq!(app.holds().await, []);
    app.hold(scope::all(), "three").await;
    let release = |scope| pb::ReleaseSendingHoldRequest {
        scope: Some(scope),
        request_id: ID.to_owned(),
    };
    let sms = scope::channel(pb::Channel::Sms);
    let hold = once!(app, sending, release_sending_hold, release(scope::all()), release(sms)).hold;
    assert_eq!(hold.expect("a hold").reason, "three");
}

async fn calls_about_definitions_are_done_once(backend: Backend) {
    let app = App::start(backend).await;
    let campaign = |text: &str| pb::ApplyCampaignRequest {
        campaign: Some(pb::CampaignDefinition {
            campaign_id: "A".to_owned(),
            kind: pb::CampaignKind::Transactional.into(),
            subject: "A".to_owned(),
            text_body: text.to_owned(),
            ..Default::default()
        }),
        request_id: ID.to_owned(),
        ..Default::default()
    };
    let done = once!(app, content, apply_campaign, campaign("one"), campaign("two"));
    assert_eq!((done.created, done.campaign.expect("a campaign").revision), (true, 1));

    let apply = |days: i32| pb::ApplyTimelineRequest {
        timeline: Some(definition("hook", days, vec![email(1, 0, "A")])),
        request_id: ID.to_owned(),
        ..Default::default()
    };
    let done = once!(app, timelines, apply_timeline, apply(5), apply(6));
    let timeline = done.timeline.expect("a timeline");
    assert!(done.created);

    let switch = |is_active: bool| pb::SetTimelineActiveRequest {
        timeline_id: timeline.timeline_id,
        is_active,
        request_id: ID.to_owned(),
        ..Default::default()
    };
    once!(app, timelines, set_timeline_active, switch(false), switch(true));
    let default = |timeline_id: i64| pb::SetDefaultTimelineRequest {
        pipeline_stage: "hook".to_owned(),
        timeline_id,
        request_id: ID.to_owned(),
    };
    let done = once!(
        app,
        timelines,
        set_default_timeline,
        default(timeline.timeline_id),
        default(0)
    );
    assert_eq!(done.previous_timeline_id, 0);
    let stored = app.get_timeline("hook").await.expect("a timeline");
    assert_eq!(
        stored.etag, "\"3\"",
        "created, switched, and made the default, each once"
    );
    app.server.shutdown().await.expect("stopped");
}

async fn twins_start_one_run(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 5, vec![email(1, 0, "A")])).await;
    app.customer("anna", "Europe/London").await;
    let twins = (0..20).map(|_| {
        let mut client = app.orchestrator();
        let request = start("anna", &timeline, ID);
        async move { client.start_timeline(request).await }
    });
    let answers: BTreeSet<Vec<u8>> = futures::future::join_all(twins)
        .await
        .into_iter()
        .map(|answer| answer.expect("a run").into_inner().encode_to_vec())
        .collect();
    assert_eq!(answers.len(), 1);
    assert_eq!(runs_of(&app, "anna").await.len(), 1);

    // Of those without an id one starts a run, and the others are told of it.
    app.customer("bela", "Europe/London").await;
    let others = (0..20).map(|_| {
        let mut client = app.orchestrator();
        let request = start("bela", &timeline, "");
        async move { client.start_timeline(request).await }
    });
    let (started, refusals): (Vec<_>, Vec<_>) = futures::future::join_all(others)
        .await
        .into_iter()
        .partition(Result::is_ok);
    assert_eq!((started.len(), runs_of(&app, "bela").await.len()), (1, 1));
    for refusal in refusals {
        refused(refusal, Code::AlreadyExists, "RUN_IS_LIVE", &[]);
    }
    app.server.shutdown().await.expect("stopped");
}

async fn twins_execute_once(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 5, vec![email(1, 0, "A")])).await;
    app.customer("anna", "Europe/London").await;
    app.start_run("anna", &timeline).await;
    let twins = (0..10).map(|_| {
        let mut client = app.orchestrator();
        let request = pb::ExecuteActionsRequest {
            customer_id: "anna".to_owned(),
            request_id: ID.to_owned(),
        };
        async move { client.execute_actions(request).await }
    });
    let answers: BTreeSet<Vec<u8>> = futures::future::join_all(twins)
        .await
        .into_iter()
        .map(|answer| answer.expect("results").into_inner().encode_to_vec())
        .collect();
    assert_eq!(app.sent_count(), 1);
    assert_eq!(answers.len(), 1);
    app.server.shutdown().await.expect("stopped");
}

async fn twins_without_an_id_assign_one_run(backend: Backend) {
    let app = App::start(backend).await;
    let mut hook = definition("hook", 5, vec![email(1, 0, "A")]);
    hook.is_default = true;
    app.timeline(hook).await;
    app.put_customer(pb::Customer {
        pipeline_stage: "hook".to_owned(),
        ..customer("anna", "Europe/London")
    })
    .await;
    let twins = (0..50).map(|_| {
        let mut client = app.orchestrator();
        let request = pb::AssignTimelineForStageRequest {
            customer_id: "anna".to_owned(),
            ..Default::default()
        };
        async move { client.assign_timeline_for_stage(request).await }
    });
    let answers = futures::future::join_all(twins).await;
    let mut created = 0;
    let mut ids = BTreeSet::new();
    for answer in answers {
        let answer = answer.expect("assigned").into_inner();
        created += i32::from(answer.created);
        ids.insert(answer.progress.expect("a run").progress_id);
    }
    assert_eq!((created, ids.len()), (1, 1));
    assert_eq!(runs_of(&app, "anna").await.len(), 1);
    app.server.shutdown().await.expect("stopped");
}

async fn an_answer_is_kept_for_a_day(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 5, vec![email(1, 0, "A")])).await;
    app.customer("anna", "Europe/London").await;
    let run = app.try_start(start("anna", &timeline, ID)).await.expect("a run");
    app.set("2026-01-06T11:59:59Z");
    assert_eq!(app.try_start(start("anna", &timeline, ID)).await.expect("a run"), run);
    // The tick tidies up what is no longer kept, and nothing else.
    app.hourly().await;
    assert_eq!(app.try_start(start("anna", &timeline, ID)).await.expect("a run"), run);
    app.set("2026-01-06T12:00:01Z");
    let again = app.try_start(start("anna", &timeline, ID)).await;
    refused(again, Code::AlreadyExists, "RUN_IS_LIVE", &[]);
    // By then the id may serve another request.
    let other = pb::StartTimelineRequest {
        first_day: pb::FirstDay::NextDay.into(),
        ..start("anna", &timeline, ID)
    };
    refused(app.try_start(other).await, Code::AlreadyExists, "RUN_IS_LIVE", &[]);
    app.server.shutdown().await.expect("stopped");
}

async fn a_refused_request_is_not_kept(backend: Backend) {
    let app = App::start(backend).await;
    let mut off = definition("hook", 5, vec![]);
    off.is_active = false;
    let timeline = app.timeline(off).await;
    app.customer("anna", "Europe/London").await;
    let request = start("anna", &timeline, ID);
    let refusal = app.try_start(request.clone()).await;
    refused(refusal, Code::FailedPrecondition, "TIMELINE_INACTIVE", &[]);
    app.set_active(&timeline, true).await;
    let other_body = pb::StartTimelineRequest {
        start_day: 2,
        ..request.clone()
    };
    let run = app.try_start(other_body.clone()).await.expect("a run");
    assert_eq!(app.try_start(other_body).await.expect("a run"), run);
    refused(
        app.try_start(request).await,
        Code::InvalidArgument,
        "REQUEST_ID_REUSED",
        &["request_id"],
    );
    app.server.shutdown().await.expect("stopped");
}

async fn an_id_counts_per_customer_and_method(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 5, vec![])).await;
    for customer in ["anna", "bela"] {
        app.customer(customer, "Europe/London").await;
        let run = app.try_start(start(customer, &timeline, ID)).await.expect("a run");
        assert_eq!(run.customer_id, customer);
        let request = pb::PauseTimelineRequest {
            customer_id: customer.to_owned(),
            progress_id: run.progress_id,
            request_id: ID.to_owned(),
            ..Default::default()
        };
        app.orchestrator().pause_timeline(request).await.expect("paused");
    }
    // Upper and lower case are different ids.
    let again = app.try_start(start("anna", &timeline, &ID.to_uppercase())).await;
    refused(again, Code::AlreadyExists, "RUN_IS_LIVE", &[]);
    let long = "x".repeat(65);
    for bad in ["two words", "ünicode", &long] {
        let answer = app.try_start(start("anna", &timeline, bad)).await;
        refused(answer, Code::InvalidArgument, "INVALID_FIELDS", &["request_id"]);
    }
    app.server.shutdown().await.expect("stopped");
}

/// `validate_only` stores nothing, so the id is free for the real request.
async fn a_request_that_only_validates_is_not_kept(backend: Backend) {
    let app = App::start(backend).await;
    let campaign = |validate_only: bool, etag: &str| pb::ApplyCampaignRequest {
        campaign: Some(pb::CampaignDefinition {
            campaign_id: "A".to_owned(),
            kind: pb::CampaignKind::Transactional.into(),
            subject: "A".to_owned(),
            text_body: "A".to_owned(),
            ..Default::default()
        }),
        etag: etag.to_owned(),
        validate_only,
        request_id: format!("{ID}{etag}"),
    };
    let timeline = |validate_only: bool, etag: &str| pb::ApplyTimelineRequest {
        timeline: Some(definition("hook", 5, vec![email(1, 0, "A")])),
        etag: etag.to_owned(),
        validate_only,
        request_id: format!("{ID}{etag}"),
    };
    for etag in ["", "\"1\""] {
        for validate_only in [true, false] {
            let applied = app.content().apply_campaign(campaign(validate_only, etag)).await;
            applied.expect("a campaign");
        }
    }
    for etag in ["", "\"1\""] {
        for validate_only in [true, false] {
            let applied = app.timelines().apply_timeline(timeline(validate_only, etag)).await;
            applied.expect("a timeline");
        }
    }
    app.server.shutdown().await.expect("stopped");
}
