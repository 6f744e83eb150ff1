//! Calls about runs, customers and ticks.

use campaign_automation::proto::campaign::v1 as pb;

use super::super::violated;
use super::{BAD_ID, assert_empty, long};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    bad_calls_about_runs_are_refused,
    bad_calls_about_customers_and_ticks_are_refused,
);

async fn bad_calls_about_runs_are_refused(backend: Backend) {
    let app = App::start(backend).await;
    let mut calls = app.orchestrator();
    let bad = pb::StartTimelineRequest {
        first_day: 99,
        start_day: -1,
        request_id: "\n".to_owned(),
        ..Default::default()
    };
    let fields = ["customer_id", "timeline_id", "first_day", "start_day", "request_id"];
    violated("starting", calls.start_timeline(bad).await, &fields);
    let bad = pb::StartTimelineRequest {
        customer_id: long(65),
        timeline_id: i64::MIN,
        first_day: -1,
        start_day: 3651,
        ..Default::default()
    };
    violated("starting far out", calls.start_timeline(bad).await, &fields[..4]);
    let bad = pb::AssignTimelineForStageRequest {
        customer_id: "a/b".to_owned(),
        request_id: BAD_ID.to_owned(),
        ..Default::default()
    };
    violated(
        "assigning",
        calls.assign_timeline_for_stage(bad).await,
        &["customer_id", "request_id"],
    );
    let bad = pb::ExecuteActionsRequest {
        customer_id: "..".to_owned(),
        request_id: BAD_ID.to_owned(),
    };
    violated(
        "executing",
        calls.execute_actions(bad).await,
        &["customer_id", "request_id"],
    );
    let bad = pb::GetProgressRequest {
        customer_id: "a\0".to_owned(),
        progress_id: -1,
    };
    violated(
        "reading",
        calls.get_progress(bad).await,
        &["customer_id", "progress_id"],
    );
    let bad = pb::ListProgressRequest {
        customer_id: "é".to_owned(),
        timeline_id: -1,
        status: 99,
        page_size: -1,
        page_token: "?".to_owned(),
    };
    let fields = ["customer_id", "timeline_id", "status", "page_size", "page_token"];
    violated("listing", calls.list_progress(bad).await, &fields);
    for (reason, progress_id) in [
        ("a\nb".to_owned(), 0),
        (long(501), -1),
        ("a\u{2028}".to_owned(), i64::MIN),
    ] {
        let fields = ["customer_id", "progress_id", "reason", "request_id"];
        let (customer_id, request_id) = (String::new(), BAD_ID.to_owned());
        let bad = pb::PauseTimelineRequest {
            customer_id,
            progress_id,
            reason,
            request_id,
        };
        violated("pausing", calls.pause_timeline(bad.clone()).await, &fields);
        let pb::PauseTimelineRequest {
            customer_id,
            progress_id,
            reason,
            request_id,
        } = bad.clone();
        let resume = pb::ResumeTimelineRequest {
            customer_id,
            progress_id,
            reason,
            request_id,
            start_next_day: true,
        };
        violated("resuming", calls.resume_timeline(resume).await, &fields);
        let pb::PauseTimelineRequest {
            customer_id,
            progress_id,
            reason,
            request_id,
        } = bad;
        let stop = pb::StopTimelineRequest {
            customer_id,
            progress_id,
            reason,
            request_id,
        };
        violated("stopping", calls.stop_timeline(stop).await, &fields);
    }
    assert_empty(&app).await;
}

async fn bad_calls_about_customers_and_ticks_are_refused(backend: Backend) {
    let app = App::start(backend).await;
    let mut calls = app.customers();
    let numbered = |count: usize| {
        let customer = |n| pb::Customer {
            customer_id: format!("c{n}"),
            ..Default::default()
        };
        (0..count).map(customer).collect::<Vec<_>>()
    };
    let bad = pb::UpsertCustomersRequest::default();
    violated("no customers", calls.upsert_customers(bad).await, &["customers"]);
    let bad = pb::UpsertCustomersRequest {
        customers: numbered(1001),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["nope".to_owned(), "email".to_owned(), "*".to_owned()],
        }),
        request_id: BAD_ID.to_owned(),
        ..Default::default()
    };
    let fields = [
        "customers",
        "update_mask.paths[0]",
        "update_mask.paths[2]",
        "request_id",
    ];
    violated("too many customers", calls.upsert_customers(bad).await, &fields);
    let bad = pb::UpsertCustomersRequest {
        customers: [numbered(2), numbered(2)].concat(),
        ..Default::default()
    };
    let fields = ["customers[2].customer_id", "customers[3].customer_id"];
    violated("customers twice", calls.upsert_customers(bad).await, &fields);
    let bad = pb::ChangePipelineStageRequest {
        request_id: BAD_ID.to_owned(),
        ..Default::default()
    };
    let fields = ["customer_id", "pipeline_stage", "request_id"];
    violated("moving", calls.change_pipeline_stage(bad).await, &fields);
    let bad = pb::GetCustomerRequest {
        customer_id: ".".to_owned(),
    };
    violated("reading", calls.get_customer(bad).await, &["customer_id"]);
    for count in [0, 1001] {
        let bad = pb::RecordEngagementsRequest {
            engagements: vec![pb::Engagement::default(); count],
        };
        violated("events", calls.record_engagements(bad).await, &["engagements"]);
    }
    let bad = pb::ListEngagementsRequest {
        page_size: -1,
        ..Default::default()
    };
    violated(
        "listing events",
        calls.list_engagements(bad).await,
        &["customer_id", "page_size"],
    );

    let (mut ticks, partition) = (app.ticks(), |index, count| Some(pb::TickPartition { index, count }));
    let cases = [
        (0, partition(0, 0), vec![], vec!["partition.count"]),
        (0, partition(0, 1025), vec![], vec!["partition.count"]),
        (
            -1,
            partition(4, 4),
            vec![1, 0, -3],
            vec!["max_actions", "partition.index", "timeline_ids[1]", "timeline_ids[2]"],
        ),
        (
            0,
            partition(-1, 4),
            vec![1; 1001],
            vec!["partition.index", "timeline_ids"],
        ),
    ];
    for (max_actions, partition, timeline_ids, mut fields) in cases {
        fields.push("tick_id");
        let hourly = pb::ProcessCampaignTimelinesRequest {
            tick_id: BAD_ID.to_owned(),
            max_actions,
            partition,
            timeline_ids: timeline_ids.clone(),
            dry_run: false,
        };
        violated(
            "the hourly tick",
            ticks.process_campaign_timelines(hourly).await.map(drop),
            &fields,
        );
        let daily = pb::AdvanceCampaignDaysRequest {
            tick_id: BAD_ID.to_owned(),
            max_actions,
            partition,
            timeline_ids,
            dry_run: true,
        };
        violated(
            "the daily tick",
            ticks.advance_campaign_days(daily).await.map(drop),
            &fields,
        );
    }
    assert_empty(&app).await;
}
