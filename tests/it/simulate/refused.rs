//! What can't be simulated: all that is wrong with a request at once, by its fields.

use campaign_automation::proto::campaign::v1 as pb;
use pb::script_entry::What;
use pb::simulate_timeline_request::{Which, Whom};
use tonic::Code;

use super::{answers, engaged, entry, opened};
use crate::support::given::{customer, definition, email, refused, stamp};
use crate::support::{App, Backend, on_each_database};

on_each_database!(bad_fields_are_named, what_is_not_there_is_named);

fn good() -> pb::SimulateTimelineRequest {
    pb::SimulateTimelineRequest {
        which: Some(Which::Timeline(definition("plan", 5, vec![email(1, 9, "A")]))),
        whom: Some(Whom::Customer(customer("anna", ""))),
        ..Default::default()
    }
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

async fn bad_fields_are_named(backend: Backend) {
    let app = App::start(backend).await;
    app.campaign("A").await;
    let with = |change: fn(&mut pb::SimulateTimelineRequest)| {
        let mut request = good();
        change(&mut request);
        request
    };
    let cases: Vec<(&str, pb::SimulateTimelineRequest, Vec<&str>)> = vec![
        (
            "nothing",
            pb::SimulateTimelineRequest::default(),
            vec!["timeline_id", "customer_id"],
        ),
        (
            "bad ids",
            with(|it| {
                it.which = Some(Which::TimelineId(-1));
                it.whom = Some(Whom::CustomerId("a b".to_owned()));
            }),
            vec!["timeline_id", "customer_id"],
        ),
        (
            "a bad definition, a bad customer, and all else as well",
            with(|it| {
                it.which = Some(Which::Timeline(definition("plan", 0, vec![email(7, 24, "A")])));
                it.whom = Some(Whom::Customer(pb::Customer {
                    email: "anna".to_owned(),
                    time_zone: "US/Eastern".to_owned(),
                    engagement_score: 1_000_001,
                    ..customer("a b", "")
                }));
                it.start_time = Some(stamp("1999-12-31T23:59:59Z"));
                it.first_day = 9;
                it.start_day = -1;
                it.tick_interval = seconds(59);
            }),
            vec![
                "timeline.duration_days",
                "timeline.actions[0].delay_hours",
                "customer.customer_id",
                "customer.email",
                "customer.time_zone",
                "customer.engagement_score",
                "start_time",
                "first_day",
                "start_day",
                "tick_interval",
            ],
        ),
        (
            "bounds",
            with(|it| {
                it.start_time = Some(stamp("2200-01-01T00:00:00Z"));
                it.start_day = 6;
                it.tick_interval = seconds(86_401);
            }),
            vec!["start_time", "start_day", "tick_interval"],
        ),
        (
            "an end before the start",
            with(|it| it.end_time = it.start_time.or(Some(stamp("2026-01-05T12:00:00Z")))),
            vec!["end_time"],
        ),
        (
            "an end too far away",
            with(|it| it.end_time = Some(stamp("2027-02-14T12:00:00.000001Z"))),
            vec!["end_time"],
        ),
        (
            "entries",
            with(|it| {
                it.start_time = Some(stamp("2026-01-05T12:00:00Z"));
                it.end_time = Some(stamp("2026-01-09T12:00:00Z"));
                it.script = vec![
                    pb::ScriptEntry::default(),
                    entry("2026-01-05T11:59:59Z", What::Ticks(false)),
                    entry("2026-01-09T12:00:00.000001Z", What::Ticks(true)),
                    entry("1999-12-31T23:59:59Z", opened()),
                    entry(
                        "2026-01-05T11:00:00Z",
                        engaged(pb::EngagementKind::EmailOpened, "d1h9A"),
                    ),
                    entry("2026-01-05T13:00:00Z", engaged(pb::EngagementKind::Unspecified, "none")),
                    entry("2026-01-05T13:00:00Z", What::EngagementScore(-1_000_001)),
                    entry("2026-01-05T13:00:00Z", What::PipelineStage("Upper".to_owned())),
                    entry("2026-01-05T13:00:00Z", What::TimeZone("Mars/Olympus".to_owned())),
                    entry(
                        "2026-01-05T13:00:00Z",
                        What::Answer(pb::ScriptAnswer {
                            channel: pb::Channel::Wait.into(),
                            answer: 99,
                        }),
                    ),
                    entry("2026-01-05T13:00:00Z", What::Answer(pb::ScriptAnswer::default())),
                ];
            }),
            vec![
                "script[0].time",
                "script[0]",
                "script[1].time",
                "script[2].time",
                "script[3].time",
                "script[4].engagement.of_action",
                "script[5].engagement.kind",
                "script[5].engagement.of_action",
                "script[6].engagement_score",
                "script[7].pipeline_stage",
                "script[8].time_zone",
                "script[9].answer.channel",
                "script[9].answer.answer",
                "script[10].answer.channel",
                "script[10].answer.answer",
            ],
        ),
        (
            "too long a script",
            with(|it| it.script = vec![entry("2026-01-05T13:00:00Z", What::Ticks(true)); 1001]),
            vec!["script"],
        ),
    ];
    for (name, request, fields) in cases {
        let result = app.timelines().simulate_timeline(request).await;
        assert!(result.is_err(), "{name}: {result:?}");
        refused(result, Code::InvalidArgument, "INVALID_FIELDS", &fields);
    }
    let fits = pb::SimulateTimelineRequest {
        end_time: Some(stamp("2027-02-14T12:00:00Z")),
        script: vec![entry("2026-01-05T13:00:00Z", answers(pb::SimulatedAnswer::Accepted)); 1000],
        ..good()
    };
    app.timelines().simulate_timeline(fits).await.expect("steps");
    app.server.shutdown().await.expect("stopped");
}

async fn what_is_not_there_is_named(backend: Backend) {
    let app = App::start(backend).await;
    let request = pb::SimulateTimelineRequest {
        which: Some(Which::TimelineId(77)),
        ..good()
    };
    let result = app.timelines().simulate_timeline(request).await;
    refused(result, Code::NotFound, "TIMELINE_NOT_FOUND", &[]);
    let result = app.timelines().simulate_timeline(good()).await;
    let status = refused(result, Code::FailedPrecondition, "CONTENT_MISSING", &[]);
    assert!(
        status.message().contains("timeline.actions[0].campaign_id"),
        "{status:?}"
    );
    app.campaign("A").await;
    let request = pb::SimulateTimelineRequest {
        whom: Some(Whom::CustomerId("nobody".to_owned())),
        ..good()
    };
    let result = app.timelines().simulate_timeline(request).await;
    refused(result, Code::NotFound, "CUSTOMER_NOT_FOUND", &[]);
    app.timelines().simulate_timeline(good()).await.expect("steps");
    app.server.shutdown().await.expect("stopped");
}
