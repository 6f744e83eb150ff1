//! Hostile requests: every call says all that is wrong at once, by field, and stores nothing.

mod calls;

use campaign_automation::proto::campaign::v1 as pb;
use pb::condition::Test;

use super::violated;
use crate::support::given::{condition, definition, email};
use crate::support::{App, Backend, on_each_database};

on_each_database!(bad_timelines_are_refused, bad_campaigns_are_refused,);

const BAD_ID: &str = "a b";

fn long(length: usize) -> String {
    "x".repeat(length)
}

fn seconds(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos })
}

/// Checks that nothing at all is stored.
async fn assert_empty(app: &App) {
    let timelines = app
        .timelines()
        .list_timelines(pb::ListTimelinesRequest::default())
        .await;
    assert_eq!(timelines.expect("a page").into_inner().timelines, []);
    let campaigns = app.content().list_campaigns(pb::ListCampaignsRequest::default()).await;
    assert_eq!(campaigns.expect("a page").into_inner().campaigns, []);
    let customers = app
        .customers()
        .list_customers(pb::ListCustomersRequest::default())
        .await;
    assert_eq!(customers.expect("a page").into_inner().customers, []);
    let runs = app
        .orchestrator()
        .list_progress(pb::ListProgressRequest::default())
        .await;
    assert_eq!(runs.expect("a page").into_inner().progress, []);
    let ticks = app.ticks().list_tick_runs(pb::ListTickRunsRequest::default()).await;
    assert_eq!(ticks.expect("a page").into_inner().tick_runs, []);
}

async fn bad_timelines_are_refused(backend: Backend) {
    let app = App::start(backend).await;
    let good = || definition("good", 10, vec![email(1, 0, "A")]);
    let with = |change: fn(&mut pb::TimelineDefinition)| {
        let mut definition = good();
        change(&mut definition);
        Some(definition)
    };
    let action = |change: fn(&mut pb::ActionDefinition)| {
        let mut definition = good();
        change(&mut definition.actions[0]);
        Some(definition)
    };
    let cases: Vec<(&str, Option<pb::TimelineDefinition>, Vec<&str>)> = vec![
        ("nothing", None, vec!["timeline"]),
        (
            "an empty definition",
            Some(pb::TimelineDefinition::default()),
            vec![
                "timeline.slug",
                "timeline.name",
                "timeline.pipeline_stage",
                "timeline.duration_days",
            ],
        ),
        (
            "everything of the definition",
            with(|it| {
                it.slug = "-Upper".to_owned();
                it.name = "two\nlines".to_owned();
                it.pipeline_stage = "Hook".to_owned();
                it.duration_days = 3651;
                it.when_missed = 99;
                it.max_lateness = seconds(3599, 0);
                it.actions = Vec::new();
            }),
            vec![
                "timeline.slug",
                "timeline.name",
                "timeline.pipeline_stage",
                "timeline.duration_days",
                "timeline.when_missed",
                "timeline.max_lateness",
            ],
        ),
        (
            "lengths",
            with(|it| {
                it.slug = long(65);
                it.name = long(201);
                it.pipeline_stage = long(65);
                it.max_lateness = seconds(30 * 86_400 + 1, 0);
            }),
            vec![
                "timeline.slug",
                "timeline.name",
                "timeline.pipeline_stage",
                "timeline.max_lateness",
            ],
        ),
        (
            "characters that can't be stored or that deceive",
            with(|it| {
                it.slug = "a\0b".to_owned();
                it.name = "a\u{202E}b".to_owned();
                it.pipeline_stage = "a\u{0}".to_owned();
                it.max_lateness = seconds(7200, 1);
            }),
            vec![
                "timeline.slug",
                "timeline.name",
                "timeline.pipeline_stage",
                "timeline.max_lateness",
            ],
        ),
        (
            "blank and negative",
            with(|it| {
                it.name = "  ".to_owned();
                it.duration_days = -1;
                it.max_lateness = seconds(-3600, 0);
                it.when_missed = -1;
            }),
            vec![
                "timeline.name",
                "timeline.duration_days",
                "timeline.max_lateness",
                "timeline.when_missed",
            ],
        ),
        (
            "an empty action",
            action(|it| *it = pb::ActionDefinition::default()),
            vec![
                "timeline.actions[0].key",
                "timeline.actions[0].day_number",
                "timeline.actions[0].channel",
                "timeline.actions[0].action_type",
            ],
        ),
        (
            "everything of an action",
            action(|it| {
                it.key = BAD_ID.to_owned();
                it.day_number = 11;
                it.delay_hours = 24;
                it.priority = 1001;
                it.channel = pb::Channel::Sms.into();
                it.campaign_id = "no/id".to_owned();
                it.max_lateness = seconds(0, 0);
                it.conditions = vec![
                    pb::Condition::default(),
                    condition(
                        Test::EmailOpened(pb::EmailOpened {
                            within_hours: 0,
                            ..Default::default()
                        }),
                        pb::ConditionThen::Skip,
                    ),
                    condition(
                        Test::EngagementScoreAbove(pb::EngagementScoreAbove { threshold: 1_000_001 }),
                        pb::ConditionThen::Unspecified,
                    ),
                    condition(
                        Test::PipelineStage(pb::PipelineStageIs {
                            stage: "Hook".to_owned(),
                        }),
                        pb::ConditionThen::Execute,
                    ),
                    pb::Condition {
                        then: 99,
                        ..condition(
                            Test::EmailOpened(pb::EmailOpened {
                                within_hours: 8761,
                                ..Default::default()
                            }),
                            pb::ConditionThen::Skip,
                        )
                    },
                ];
            }),
            vec![
                "timeline.actions[0].key",
                "timeline.actions[0].day_number",
                "timeline.actions[0].delay_hours",
                "timeline.actions[0].priority",
                "timeline.actions[0].action_type",
                "timeline.actions[0].campaign_id",
                "timeline.actions[0].max_lateness",
                "timeline.actions[0].conditions[0]",
                "timeline.actions[0].conditions[0].then",
                "timeline.actions[0].conditions[1].email_opened.within_hours",
                "timeline.actions[0].conditions[2].engagement_score_above.threshold",
                "timeline.actions[0].conditions[2].then",
                "timeline.actions[0].conditions[3].pipeline_stage.stage",
                "timeline.actions[0].conditions[4].email_opened.within_hours",
                "timeline.actions[0].conditions[4].then",
            ],
        ),
        (
            "day 0, hour -1 and unknown enums",
            action(|it| {
                it.day_number = 0;
                it.delay_hours = -1;
                it.priority = -1001;
                it.channel = 99;
                it.action_type = -7;
            }),
            vec![
                "timeline.actions[0].day_number",
                "timeline.actions[0].delay_hours",
                "timeline.actions[0].priority",
                "timeline.actions[0].channel",
                "timeline.actions[0].action_type",
            ],
        ),
        (
            "a campaign for a wait",
            action(|it| (it.channel, it.action_type) = (pb::Channel::Wait.into(), pb::ActionType::Wait.into())),
            vec!["timeline.actions[0].campaign_id"],
        ),
        (
            "none for a mail",
            action(|it| it.campaign_id.clear()),
            vec!["timeline.actions[0].campaign_id"],
        ),
        (
            "too many conditions",
            action(|it| {
                let test = Test::EmailOpened(pb::EmailOpened {
                    within_hours: 1,
                    ..Default::default()
                });
                it.conditions = vec![condition(test, pb::ConditionThen::Skip); 21];
            }),
            vec!["timeline.actions[0].conditions"],
        ),
        (
            "one key twice, and a campaign twice without keys",
            with(|it| {
                let keyless = pb::ActionDefinition {
                    key: String::new(),
                    ..email(2, 0, "B")
                };
                it.actions = vec![email(1, 0, "A"), email(1, 0, "A"), keyless.clone(), keyless];
            }),
            vec![
                "timeline.actions[1].key",
                "timeline.actions[2].key",
                "timeline.actions[3].key",
            ],
        ),
        (
            "too many actions",
            with(|it| it.actions = vec![email(1, 0, "A"); 1001]),
            vec!["timeline.actions"],
        ),
    ];
    for (what, timeline, fields) in cases {
        for validate_only in [false, true] {
            let request = pb::ApplyTimelineRequest {
                timeline: timeline.clone(),
                validate_only,
                request_id: "bad id".to_owned(),
                ..Default::default()
            };
            let fields: Vec<&str> = fields.iter().copied().chain(["request_id"]).collect();
            violated(what, app.timelines().apply_timeline(request).await, &fields);
        }
    }
    let mut timelines = app.timelines();
    let bad = pb::GetTimelineRequest::default();
    violated(
        "neither id nor slug",
        timelines.get_timeline(bad).await,
        &["timeline_id"],
    );
    let bad = pb::GetTimelineRequest {
        timeline_id: 1,
        slug: "a".to_owned(),
    };
    violated("both", timelines.get_timeline(bad).await, &["slug"]);
    let bad = pb::GetTimelineRequest {
        timeline_id: -1,
        slug: String::new(),
    };
    violated("a negative id", timelines.get_timeline(bad).await, &["timeline_id"]);
    let bad = pb::GetTimelineRequest {
        timeline_id: 0,
        slug: "A".to_owned(),
    };
    violated("a bad slug", timelines.get_timeline(bad).await, &["slug"]);
    let bad = pb::SetTimelineActiveRequest {
        reason: "\u{7}".to_owned(),
        request_id: long(65),
        ..Default::default()
    };
    let fields = ["timeline_id", "reason", "request_id"];
    violated("switching", timelines.set_timeline_active(bad).await, &fields);
    let bad = pb::SetDefaultTimelineRequest {
        timeline_id: -1,
        request_id: "ä".to_owned(),
        ..Default::default()
    };
    let fields = ["pipeline_stage", "timeline_id", "request_id"];
    violated("the default", timelines.set_default_timeline(bad).await, &fields);
    assert_empty(&app).await;
}

async fn bad_campaigns_are_refused(backend: Backend) {
    let app = App::start(backend).await;
    let content = |change: fn(&mut pb::CampaignDefinition)| {
        let mut definition = pb::CampaignDefinition {
            campaign_id: "A".to_owned(),
            subject: "S".to_owned(),
            ..Default::default()
        };
        change(&mut definition);
        Some(definition)
    };
    let parts = [
        "campaign.subject",
        "campaign.text_body",
        "campaign.html_body",
        "campaign.sms_text",
        "campaign.call_script",
    ];
    let cases: Vec<(&str, Option<pb::CampaignDefinition>, Vec<&str>)> = vec![
        ("nothing", None, vec!["campaign"]),
        (
            "an empty one",
            Some(pb::CampaignDefinition::default()),
            vec!["campaign", "campaign.campaign_id"],
        ),
        (
            "bad names",
            content(|it| (it.campaign_id, it.name) = ("a@b".to_owned(), "a\tb".to_owned())),
            vec!["campaign.campaign_id", "campaign.name"],
        ),
        (
            "lengths",
            content(|it| {
                *it = pb::CampaignDefinition {
                    campaign_id: long(65),
                    name: long(201),
                    subject: long(999),
                    text_body: long(65_537),
                    html_body: long(262_145),
                    sms_text: long(1601),
                    call_script: long(4001),
                    preheader: long(201),
                    kind: 9,
                    sender: format!("{} <a@b.example>", long(255)),
                    reply_to: "nobody".to_owned(),
                    headers: [("Bcc".to_owned(), "x@example.com".to_owned())].into(),
                    sms_max_segments: 11,
                    ..Default::default()
                }
            }),
            ["campaign.campaign_id", "campaign.name"]
                .into_iter()
                .chain(parts)
                .chain([
                    "campaign.preheader",
                    "campaign.kind",
                    "campaign.sender",
                    "campaign.reply_to",
                    "campaign.headers",
                    "campaign.sms_max_segments",
                ])
                .collect(),
        ),
        (
            "broken templates",
            content(|it| {
                let broken = || "{{ customer.name".to_owned();
                (it.subject, it.text_body, it.html_body) = (broken(), broken(), broken());
                (it.sms_text, it.call_script) = (broken(), broken());
            }),
            parts.to_vec(),
        ),
        (
            "a character that PostgreSQL can't store",
            content(|it| {
                let zero = || "a\0b".to_owned();
                (it.subject, it.text_body, it.html_body) = (zero(), zero(), zero());
                (it.sms_text, it.call_script) = (zero(), zero());
            }),
            parts.to_vec(),
        ),
        (
            "two lines",
            content(|it| it.subject = "a\r\nBcc: x@example.com".to_owned()),
            vec!["campaign.subject"],
        ),
    ];
    for (what, campaign, fields) in cases {
        let request = pb::ApplyCampaignRequest {
            campaign,
            ..Default::default()
        };
        violated(what, app.content().apply_campaign(request).await, &fields);
    }
    let bad = pb::GetCampaignRequest::default();
    violated("no id", app.content().get_campaign(bad).await, &["campaign_id"]);
    assert_empty(&app).await;
}
