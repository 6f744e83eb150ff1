//! Hostile calls about runs, their ledger and their timelines.

use campaign_automation::proto::campaign::v1 as pb;
use tonic::Code;

use super::{Case, Told, World, case, fields};
use crate::support::given::stamp;

pub(super) fn runs(world: &World) -> Vec<Case> {
    let not_found = || Told::Error(Code::NotFound, "RUN_NOT_FOUND");
    let mut cases = Vec::new();
    for (what, customer_id, progress_id) in [
        ("another customer's run", "anna", world.berts),
        ("another customer's run", "bert", world.annas),
        ("a run that never was", "anna", i64::MAX),
    ] {
        let customer_id = customer_id.to_owned();
        let pause = pb::PauseTimelineRequest {
            customer_id: customer_id.clone(),
            progress_id,
            ..Default::default()
        };
        // All begin with the customer and the run.
        for name in [
            "GetProgress",
            "ExplainActions",
            "PauseTimeline",
            "ResumeTimeline",
            "StopTimeline",
        ] {
            cases.push(case(format!("{name} of {what}"), name, &pause, not_found()));
        }
        let filter = Some(pb::ExecutionFilter {
            customer_id,
            progress_id,
            outcomes: vec![pb::ExecutionOutcome::Failed.into()],
            ..Default::default()
        });
        let retry = pb::RetryActionsRequest {
            filter: filter.clone(),
            ..Default::default()
        };
        cases.push(case(
            format!("RetryActions of {what}"),
            "RetryActions",
            &retry,
            Told::Nothing,
        ));
        let list = pb::ListExecutionsRequest {
            filter,
            ..Default::default()
        };
        cases.push(case(
            format!("ListExecutions of {what}"),
            "ListExecutions",
            &list,
            Told::Nothing,
        ));
    }
    let dead = pb::ExecutionFilter {
        customer_id: "anna".to_owned(),
        progress_id: world.carls,
        outcomes: vec![pb::ExecutionOutcome::Failed.into()],
        ..Default::default()
    };
    let retry = |filter: Option<pb::ExecutionFilter>| pb::RetryActionsRequest {
        filter,
        ..Default::default()
    };
    let outcomes = |outcomes: Vec<i32>| {
        retry(Some(pb::ExecutionFilter {
            outcomes,
            ..Default::default()
        }))
    };
    cases.extend([
        case(
            "a dead letter of another customer",
            "RetryActions",
            &retry(Some(dead)),
            Told::Nothing,
        ),
        case("no filter", "RetryActions", &retry(None), fields(&["filter.outcomes"])),
        case(
            "no outcomes",
            "RetryActions",
            &outcomes(vec![]),
            fields(&["filter.outcomes"]),
        ),
        case(
            "unknown outcomes",
            "RetryActions",
            &outcomes(vec![3, 8, i32::MIN]),
            fields(&["filter.outcomes[1]", "filter.outcomes[2]"]),
        ),
        case(
            "a million outcomes",
            "RetryActions",
            &outcomes(vec![3; 1_000_000]),
            fields(&["filter.outcomes"]),
        ),
    ]);
    let everything = pb::RetryActionsRequest {
        filter: Some(pb::ExecutionFilter {
            customer_id: "a\0".to_owned(),
            progress_id: i64::MIN,
            timeline_id: i64::MIN,
            outcomes: vec![0],
            finish_time_from: Some(prost_types::Timestamp {
                seconds: i64::MIN,
                nanos: i32::MIN,
            }),
            finish_time_until: Some(prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: i32::MAX,
            }),
        }),
        action_keys: vec!["\0".to_owned()],
        reason: "\0".to_owned(),
        max_actions: i32::MIN,
        validate_only: false,
        request_id: "\0".to_owned(),
    };
    let filter = [
        "filter.customer_id",
        "filter.progress_id",
        "filter.timeline_id",
        "filter.outcomes[0]",
        "filter.finish_time_from",
        "filter.finish_time_until",
    ];
    let more = ["action_keys[0]", "reason", "max_actions", "request_id"];
    cases.push(case(
        "all that can be wrong",
        "RetryActions",
        &everything,
        fields(&[&filter[..], &more].concat()),
    ));
    let list = pb::ListExecutionsRequest {
        filter: everything.filter,
        page_size: i32::MIN,
        page_token: "\0".to_owned(),
    };
    let more = ["page_size", "page_token"];
    cases.push(case(
        "all that can be wrong",
        "ListExecutions",
        &list,
        fields(&[&filter[..], &more].concat()),
    ));
    let backwards = pb::ListExecutionsRequest {
        filter: Some(pb::ExecutionFilter {
            finish_time_from: Some(stamp("9999-12-31T23:59:59Z")),
            finish_time_until: Some(stamp("0001-01-01T00:00:00Z")),
            ..Default::default()
        }),
        ..Default::default()
    };
    cases.push(case(
        "times back to front",
        "ListExecutions",
        &backwards,
        fields(&["filter.finish_time_until"]),
    ));
    let explain = pb::ExplainActionsRequest {
        customer_id: "a\u{202e}".to_owned(),
        progress_id: i64::MIN,
    };
    cases.push(case(
        "all that can be wrong",
        "ExplainActions",
        &explain,
        fields(&["customer_id", "progress_id"]),
    ));
    let nobody = pb::ExplainActionsRequest {
        customer_id: "nobody".to_owned(),
        ..Default::default()
    };
    cases.push(case(
        "nobody",
        "ExplainActions",
        &nobody,
        Told::Error(Code::NotFound, "CUSTOMER_NOT_FOUND"),
    ));
    cases
}

pub(super) fn starts(world: &World) -> Vec<Case> {
    let start = |what: &str, start: pb::TimelineStart, told: Told| {
        let request = pb::StartTimelinesRequest {
            starts: vec![start],
            ..Default::default()
        };
        case(what, "StartTimelines", &request, told)
    };
    let of = |customer: &str, timeline_id: i64| pb::TimelineStart {
        customer_id: customer.to_owned(),
        timeline_id,
        ..Default::default()
    };
    let plan = world.plan.timeline_id;
    let all = ["customer_id", "timeline_id", "first_day", "start_day"].map(|field| format!("starts[0].{field}"));
    let batch = |count: usize| pb::StartTimelinesRequest {
        starts: vec![of("dora", plan); count],
        request_id: "\u{7f}".to_owned(),
    };
    let worst = pb::TimelineStart {
        first_day: i32::MIN,
        start_day: i32::MAX,
        ..of("..", i64::MIN)
    };
    let late = pb::TimelineStart {
        start_day: 6,
        allow_restart: true,
        ..of("anna", plan)
    };
    let archive = |timeline_id: i64, text: &str| pb::ArchiveTimelineRequest {
        timeline_id,
        stop_runs: true,
        reason: text.to_owned(),
        request_id: text.to_owned(),
    };
    let refused = |code, reason| Told::ItemError(code, reason);
    vec![
        case(
            "no starts",
            "StartTimelines",
            &batch(0),
            fields(&["starts", "request_id"]),
        ),
        case(
            "1,001 starts",
            "StartTimelines",
            &batch(1001),
            fields(&["starts", "request_id"]),
        ),
        start("all that can be wrong", worst, Told::Item(all.into())),
        start(
            "a day past the end",
            late,
            Told::Item(vec!["starts[0].start_day".to_owned()]),
        ),
        start(
            "nobody",
            of("nobody", plan),
            refused(Code::NotFound, "CUSTOMER_NOT_FOUND"),
        ),
        start(
            "no timeline",
            of("anna", i64::MAX),
            refused(Code::NotFound, "TIMELINE_NOT_FOUND"),
        ),
        start(
            "an archived timeline",
            of("anna", world.archived),
            refused(Code::FailedPrecondition, "TIMELINE_ARCHIVED"),
        ),
        start(
            "a live run",
            of("anna", plan),
            refused(Code::AlreadyExists, "RUN_IS_LIVE"),
        ),
        case(
            "all that can be wrong",
            "ArchiveTimeline",
            &archive(-1, "\0"),
            fields(&["timeline_id", "reason", "request_id"]),
        ),
        case(
            "a long reason",
            "ArchiveTimeline",
            &archive(plan, &"x".repeat(501)),
            fields(&["reason", "request_id"]),
        ),
        case(
            "no timeline",
            "ArchiveTimeline",
            &archive(i64::MAX, "x"),
            Told::Error(Code::NotFound, "TIMELINE_NOT_FOUND"),
        ),
    ]
}
