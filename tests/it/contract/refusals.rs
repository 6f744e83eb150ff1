//! What the state does not allow: the code, the reason, and what the error is about.

use campaign_automation::proto::campaign::v1 as pb;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{informed, status_of};
use crate::support::given::{customer, definition, email};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    what_is_not_there_is_named,
    what_the_state_forbids_says_so,
    many_problems_fit_into_an_error,
);

#[track_caller]
fn said<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, reason: &str, named: &str) {
    let status = result.expect_err(reason);
    assert_eq!(status.code(), code, "{reason}: {status:?}");
    informed(reason, &status, reason);
    assert!(
        status.message().contains(named),
        "{reason}: {} names not {named}",
        status.message()
    );
}

async fn what_is_not_there_is_named(backend: Backend) {
    let app = App::start(backend).await;
    app.customer("anna", "").await;
    app.customer("bert", "").await;
    let timeline = app.timeline(definition("plan", 5, vec![email(2, 0, "A")])).await;
    let annas = app.start_run("anna", &timeline).await.progress_id;
    let (mut runs, mut customers) = (app.orchestrator(), app.customers());
    let (mut timelines, mut content) = (app.timelines(), app.content());
    let nobody = || "nobody".to_owned();

    let (code, reason) = (Code::NotFound, "CUSTOMER_NOT_FOUND");
    let request = pb::GetCustomerRequest { customer_id: nobody() };
    said(customers.get_customer(request).await, code, reason, "nobody");
    let request = pb::ChangePipelineStageRequest {
        customer_id: nobody(),
        pipeline_stage: "hook".to_owned(),
        ..Default::default()
    };
    said(customers.change_pipeline_stage(request).await, code, reason, "nobody");
    let request = pb::ListEngagementsRequest {
        customer_id: nobody(),
        ..Default::default()
    };
    said(customers.list_engagements(request).await, code, reason, "nobody");
    let request = pb::StartTimelineRequest {
        customer_id: nobody(),
        timeline_id: timeline.timeline_id,
        ..Default::default()
    };
    said(runs.start_timeline(request).await, code, reason, "nobody");
    let request = pb::AssignTimelineForStageRequest {
        customer_id: nobody(),
        ..Default::default()
    };
    said(runs.assign_timeline_for_stage(request).await, code, reason, "nobody");
    let request = pb::ExecuteActionsRequest {
        customer_id: nobody(),
        ..Default::default()
    };
    said(runs.execute_actions(request).await, code, reason, "nobody");
    let request = pb::GetProgressRequest {
        customer_id: nobody(),
        progress_id: 0,
    };
    said(runs.get_progress(request).await, code, reason, "nobody");

    let reason = "RUN_NOT_FOUND";
    let request = pb::GetProgressRequest {
        customer_id: "bert".to_owned(),
        progress_id: 0,
    };
    said(runs.get_progress(request).await, code, reason, "bert");
    for (customer, run) in [("bert", annas), ("anna", i64::MAX)] {
        let (customer_id, named) = (customer.to_owned(), run.to_string());
        let request = pb::GetProgressRequest {
            customer_id: customer_id.clone(),
            progress_id: run,
        };
        said(runs.get_progress(request).await, code, reason, &named);
        let request = pb::PauseTimelineRequest {
            customer_id: customer_id.clone(),
            progress_id: run,
            ..Default::default()
        };
        said(runs.pause_timeline(request).await, code, reason, &named);
        let request = pb::ResumeTimelineRequest {
            customer_id: customer_id.clone(),
            progress_id: run,
            ..Default::default()
        };
        said(runs.resume_timeline(request).await, code, reason, &named);
        let request = pb::StopTimelineRequest {
            customer_id,
            progress_id: run,
            ..Default::default()
        };
        said(runs.stop_timeline(request).await, code, reason, &named);
    }
    assert_eq!(app.progress("anna").await.status(), pb::ProgressStatus::Active);

    let reason = "TIMELINE_NOT_FOUND";
    let (timeline_id, named) = (i64::MAX, i64::MAX.to_string());
    let request = pb::GetTimelineRequest {
        timeline_id,
        slug: String::new(),
    };
    said(timelines.get_timeline(request).await, code, reason, &named);
    let request = pb::GetTimelineRequest {
        timeline_id: 0,
        slug: "nothing".to_owned(),
    };
    said(timelines.get_timeline(request).await, code, reason, "nothing");
    let request = pb::SetTimelineActiveRequest {
        timeline_id,
        ..Default::default()
    };
    said(timelines.set_timeline_active(request).await, code, reason, &named);
    let request = pb::SetDefaultTimelineRequest {
        pipeline_stage: "hook".to_owned(),
        timeline_id,
        ..Default::default()
    };
    said(timelines.set_default_timeline(request).await, code, reason, &named);
    let request = pb::StartTimelineRequest {
        customer_id: "bert".to_owned(),
        timeline_id,
        ..Default::default()
    };
    said(runs.start_timeline(request).await, code, reason, &named);
    let request = pb::GetCampaignRequest {
        campaign_id: "NONE".to_owned(),
    };
    said(content.get_campaign(request).await, code, "CAMPAIGN_NOT_FOUND", "NONE");
}

async fn what_the_state_forbids_says_so(backend: Backend) {
    let app = App::start(backend).await;
    app.customer("anna", "").await;
    app.put_customer(pb::Customer {
        pipeline_stage: "base".to_owned(),
        ..customer("bert", "")
    })
    .await;
    let mut first = definition("plan", 5, vec![email(2, 0, "A")]);
    first.is_default = true;
    let timeline = app.timeline(first.clone()).await;
    let second = app.timeline(definition("other", 5, vec![])).await;
    let run = app.start_run("anna", &timeline).await.progress_id;
    let (mut runs, mut timelines) = (app.orchestrator(), app.timelines());
    let wrong = Code::FailedPrecondition;
    let start = |timeline: &pb::Timeline| pb::StartTimelineRequest {
        customer_id: "anna".to_owned(),
        timeline_id: timeline.timeline_id,
        ..Default::default()
    };
    let named = run.to_string();
    said(
        runs.start_timeline(start(&timeline)).await,
        Code::AlreadyExists,
        "RUN_IS_LIVE",
        &named,
    );
    let past_end = pb::StartTimelineRequest {
        start_day: 6,
        ..start(&second)
    };
    super::violated(
        "a day past the end",
        runs.start_timeline(past_end).await,
        &["start_day"],
    );
    let resume = || pb::ResumeTimelineRequest {
        customer_id: "anna".to_owned(),
        progress_id: run,
        ..Default::default()
    };
    said(runs.resume_timeline(resume()).await, wrong, "RUN_NOT_PAUSED", &named);
    let pause = || pb::PauseTimelineRequest {
        customer_id: "anna".to_owned(),
        progress_id: run,
        ..Default::default()
    };
    runs.pause_timeline(pause()).await.expect("paused");
    said(
        runs.pause_timeline(pause()).await,
        wrong,
        "RUN_NOT_ACTIVE",
        "ResumeTimeline",
    );
    let other = app.start_run("anna", &second).await.progress_id;
    let any = pb::GetProgressRequest {
        customer_id: "anna".to_owned(),
        progress_id: 0,
    };
    said(runs.get_progress(any).await, wrong, "AMBIGUOUS_RUN", &other.to_string());
    let stop = || pb::StopTimelineRequest {
        customer_id: "anna".to_owned(),
        progress_id: run,
        ..Default::default()
    };
    runs.stop_timeline(stop()).await.expect("stopped");
    said(runs.stop_timeline(stop()).await, wrong, "RUN_ENDED", &named);
    said(
        runs.start_timeline(start(&timeline)).await,
        wrong,
        "RUN_ENDED",
        "allow_restart",
    );
    said(
        runs.resume_timeline(resume()).await,
        wrong,
        "RUN_NOT_PAUSED",
        "allow_restart",
    );

    let assign = |customer: &str| pb::AssignTimelineForStageRequest {
        customer_id: customer.to_owned(),
        ..Default::default()
    };
    said(
        runs.assign_timeline_for_stage(assign("anna")).await,
        wrong,
        "STAGE_MISSING",
        "ChangePipelineStage",
    );
    said(
        runs.assign_timeline_for_stage(assign("bert")).await,
        wrong,
        "NO_DEFAULT_TIMELINE",
        "base",
    );
    let request = pb::UpsertCustomersRequest {
        customers: vec![pb::Customer {
            pipeline_stage: "hook".to_owned(),
            ..customer("bert", "")
        }],
        ..Default::default()
    };
    let response = app
        .customers()
        .upsert_customers(request)
        .await
        .expect("results")
        .into_inner();
    let Some(pb::upsert_customers_result::Result::Error(error)) = &response.results[0].result else {
        panic!("not refused: {response:?}");
    };
    said(
        Err::<(), _>(status_of(error)),
        wrong,
        "STAGE_HAS_ITS_OWN_CALL",
        "ChangePipelineStage",
    );

    said(
        app.apply(first.clone(), "").await,
        Code::Aborted,
        "ETAG_MISMATCH",
        "etag",
    );
    said(
        app.apply(first.clone(), "\"0\"").await,
        Code::Aborted,
        "ETAG_MISMATCH",
        "etag",
    );
    said(
        app.apply(definition("new", 5, vec![]), "\"1\"").await,
        Code::Aborted,
        "ETAG_MISMATCH",
        "etag",
    );
    let moved = pb::TimelineDefinition {
        pipeline_stage: "base".to_owned(),
        ..first.clone()
    };
    said(app.apply(moved, &timeline.etag).await, wrong, "STAGE_FIXED", "hook");
    let mut third = definition("third", 5, vec![]);
    third.is_default = true;
    said(app.apply(third, "").await, wrong, "SECOND_DEFAULT", "plan");
    let missing = definition("fourth", 5, vec![email(1, 0, "NONE")]);
    said(
        app.apply(missing, "").await,
        wrong,
        "CONTENT_MISSING",
        "timeline.actions[0].campaign_id",
    );
    let request = pb::SetDefaultTimelineRequest {
        pipeline_stage: "base".to_owned(),
        timeline_id: timeline.timeline_id,
        ..Default::default()
    };
    said(
        timelines.set_default_timeline(request).await,
        wrong,
        "STAGE_MISMATCH",
        "hook",
    );
    let stored = app
        .content()
        .get_campaign(pb::GetCampaignRequest {
            campaign_id: "A".to_owned(),
        })
        .await;
    let stored = stored.expect("a campaign").into_inner().campaign.expect("a campaign");
    let only_sms = pb::CampaignDefinition {
        campaign_id: "A".to_owned(),
        sms_text: "Hi".to_owned(),
        ..Default::default()
    };
    let request = pb::ApplyCampaignRequest {
        campaign: Some(only_sms),
        etag: stored.etag,
        ..Default::default()
    };
    said(
        app.content().apply_campaign(request).await,
        wrong,
        "CONTENT_IN_USE",
        "plan",
    );

    let switch = |is_active| pb::SetTimelineActiveRequest {
        timeline_id: second.timeline_id,
        is_active,
        request_id: "r1".to_owned(),
        ..Default::default()
    };
    timelines
        .set_timeline_active(switch(false))
        .await
        .expect("switched off");
    said(
        timelines.set_timeline_active(switch(true)).await,
        Code::InvalidArgument,
        "REQUEST_ID_REUSED",
        "request_id",
    );
    let berts = pb::StartTimelineRequest {
        customer_id: "bert".to_owned(),
        ..start(&second)
    };
    said(
        runs.start_timeline(berts).await,
        wrong,
        "TIMELINE_INACTIVE",
        "SetTimelineActive",
    );
}

/// An error travels in the head of the response, of which clients take 8 KiB. What doesn't fit is counted.
async fn many_problems_fit_into_an_error(backend: Backend) {
    let app = App::start(backend).await;
    let bad = vec![pb::ActionDefinition::default(); 1000];
    let status = app.apply(definition("plan", 5, bad), "").await.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    informed("a thousand bad actions", &status, "INVALID_FIELDS");
    assert!(status.message().contains("3999 more"), "{}", status.message());
    let details = status.get_error_details();
    let shown = details.bad_request().expect("violations").field_violations.len();
    assert!((20..3999).contains(&shown), "{shown} violations are shown");
    assert!(size(&status) < 8 * 1024, "{}", size(&status));

    let campaign = |n: usize| email(1, 0, &format!("{n}{}", "x".repeat(60)));
    let missing = (0..1000).map(|n| pb::ActionDefinition {
        key: n.to_string(),
        ..campaign(n)
    });
    let status = app
        .apply(definition("plan", 5, missing.collect()), "")
        .await
        .expect_err("refused");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    informed("a thousand missing campaigns", &status, "CONTENT_MISSING");
    assert!(status.message().contains("997 more"), "{}", status.message());
    assert!(size(&status) < 8 * 1024, "{}", size(&status));

    app.campaign("A").await;
    for n in 0..100 {
        app.apply(
            definition(&format!("plan{n}-{}", "x".repeat(50)), 5, vec![email(1, 0, "A")]),
            "",
        )
        .await
        .expect("a timeline");
    }
    let stored = app
        .content()
        .get_campaign(pb::GetCampaignRequest {
            campaign_id: "A".to_owned(),
        })
        .await;
    let stored = stored.expect("a campaign").into_inner().campaign.expect("a campaign");
    let only_sms = pb::CampaignDefinition {
        campaign_id: "A".to_owned(),
        sms_text: "Hi".to_owned(),
        ..Default::default()
    };
    let request = pb::ApplyCampaignRequest {
        campaign: Some(only_sms),
        etag: stored.etag,
        ..Default::default()
    };
    let status = app.content().apply_campaign(request).await.expect_err("refused");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    informed("a campaign in use", &status, "CONTENT_IN_USE");
    assert!(size(&status) < 8 * 1024, "{}", size(&status));
}

/// How long an error is as headers: the message, and the details in Base64.
fn size(status: &Status) -> usize {
    status.message().len() + status.details().len().div_ceil(3) * 4
}
