//! Hostile timelines and conditions.

use campaign_automation::proto::campaign::v1 as pb;
use pb::condition::Test;
use prost::Message as _;
use tonic::Code;

use super::{Case, Told, case, fields};
use crate::support::given::{action, condition, definition, email, sms};

/// A new timeline of one action with these changes.
pub(super) fn bad_timeline(what: &str, told: Told, change: impl FnOnce(&mut pb::TimelineDefinition)) -> Case {
    let mut definition = definition("new", 5, vec![email(1, 0, "A")]);
    change(&mut definition);
    let request = pb::ApplyTimelineRequest {
        timeline: Some(definition),
        ..Default::default()
    };
    case(what, "ApplyTimeline", &request, told)
}

pub(super) fn timelines() -> Vec<Case> {
    use pb::{ActionType, Channel};
    let first = |field: &str| fields(&[&format!("timeline.actions[0].{field}")]);
    let with = |what: &str, field: &str, change: &dyn Fn(&mut pb::ActionDefinition)| {
        bad_timeline(what, first(field), |it| change(&mut it.actions[0]))
    };
    let mut cases = vec![
        case(
            "no timeline",
            "ApplyTimeline",
            &pb::ApplyTimelineRequest::default(),
            fields(&["timeline"]),
        ),
        with("day 0", "day_number", &|it| it.day_number = 0),
        with("a day past the end", "day_number", &|it| it.day_number = 6),
        with("the last of all days", "day_number", &|it| it.day_number = i32::MAX),
        with("hour 24", "delay_hours", &|it| it.delay_hours = 24),
        with("hour -1", "delay_hours", &|it| it.delay_hours = -1),
        with("no priority", "priority", &|it| it.priority = i32::MIN),
        with("an unknown channel", "channel", &|it| it.channel = i32::MAX),
        with("an unknown type", "action_type", &|it| it.action_type = i32::MIN),
        with("no lateness", "max_lateness", &|it| {
            it.max_lateness = Some(prost_types::Duration {
                seconds: i64::MAX,
                nanos: i32::MAX,
            });
        }),
        with("21 conditions", "conditions", &|it| {
            let test = Test::EngagementScoreAbove(pb::EngagementScoreAbove { threshold: 1 });
            it.conditions = vec![condition(test, pb::ConditionThen::Skip); 21];
        }),
        bad_timeline("an unknown way to be late", fields(&["timeline.when_missed"]), |it| {
            it.when_missed = 3;
        }),
        bad_timeline("no days", fields(&["timeline.duration_days"]), |it| {
            it.duration_days = 0;
            it.actions.clear();
        }),
        bad_timeline("days without end", fields(&["timeline.duration_days"]), |it| {
            it.duration_days = i32::MAX;
        }),
        bad_timeline("a key twice", fields(&["timeline.actions[1].key"]), |it| {
            it.actions.push(email(1, 0, "A"));
        }),
        bad_timeline(
            "a slug that is taken",
            Told::Error(Code::Aborted, "ETAG_MISMATCH"),
            |it| {
                it.slug = "plan".to_owned();
            },
        ),
        bad_timeline(
            "an archived slug",
            Told::Error(Code::FailedPrecondition, "TIMELINE_ARCHIVED"),
            |it| {
                it.slug = "gone".to_owned();
            },
        ),
        bad_timeline(
            "a second default",
            Told::Error(Code::FailedPrecondition, "SECOND_DEFAULT"),
            |it| {
                it.is_default = true;
            },
        ),
        bad_timeline(
            "a campaign that is missing",
            Told::Error(Code::FailedPrecondition, "CONTENT_MISSING"),
            |it| {
                it.actions[0].campaign_id = "NONE".to_owned();
            },
        ),
        bad_timeline(
            "a campaign of another channel",
            Told::Error(Code::FailedPrecondition, "CONTENT_MISSING"),
            |it| {
                it.actions = vec![sms(1, 0, "SMS"), email(2, 0, "SMS")];
            },
        ),
    ];
    for etag in [
        "\0".to_owned(),
        "\"0\"".to_owned(),
        "W/\"1\"".to_owned(),
        "é\r\n".repeat(100_000),
    ] {
        let request = pb::ApplyTimelineRequest {
            timeline: Some(definition("plan", 5, vec![])),
            etag,
            ..Default::default()
        };
        cases.push(case(
            "a strange etag",
            "ApplyTimeline",
            &request,
            Told::Error(Code::Aborted, "ETAG_MISMATCH"),
        ));
    }
    let channels = [
        Channel::Email,
        Channel::Sms,
        Channel::Phone,
        Channel::Interaction,
        Channel::Wait,
    ];
    let types = [
        (ActionType::SendEmail, Channel::Email),
        (ActionType::SendSms, Channel::Sms),
        (ActionType::MakeCall, Channel::Phone),
        (ActionType::CreateTask, Channel::Interaction),
        (ActionType::Wait, Channel::Wait),
    ];
    for channel in channels {
        for (action_type, _) in types.iter().filter(|(_, its)| *its != channel) {
            let what = format!("{} on {}", action_type.as_str_name(), channel.as_str_name());
            let campaign = if types[4..].iter().any(|(of_wait, _)| of_wait == action_type) {
                ""
            } else {
                "A"
            };
            let bad = action(1, 0, channel, *action_type, campaign);
            cases.push(bad_timeline(&what, first("action_type"), |it| it.actions = vec![bad]));
        }
    }
    cases
}

pub(super) fn conditions() -> Vec<Case> {
    let with = |what: &str, paths: &[&str], test: Option<Test>, then: i32| {
        let paths: Vec<String> = paths
            .iter()
            .map(|path| format!("timeline.actions[0].conditions[0]{path}"))
            .collect();
        bad_timeline(what, Told::Fields(paths), |it| {
            it.actions[0].conditions = vec![pb::Condition { test, then }];
        })
    };
    let above = || Test::EngagementScoreAbove(pb::EngagementScoreAbove { threshold: 1 });
    let nots = |depth: usize| {
        (0..depth).fold(above(), |test, _| {
            let inner = pb::ConditionTest {
                test: Some(test.into()),
            };
            Test::Not(inner)
        })
    };
    let compared = |name: &str, comparison| {
        Some(Test::Attribute(pb::AttributeIs {
            name: name.to_owned(),
            comparison,
        }))
    };
    let mut cases = vec![
        with("no test", &["", ".then"], None, 0),
        with("an unknown then", &[".then"], Some(above()), 3),
        with(
            "opened within no time",
            &[".email_opened.within_hours"],
            Some(Test::EmailOpened(pb::EmailOpened::default())),
            1,
        ),
        with(
            "clicked within no time",
            &[".email_clicked.within_hours"],
            Some(Test::EmailClicked(pb::EmailClicked::default())),
            1,
        ),
        with(
            "replied within no time",
            &[".replied.within_hours"],
            Some(Test::Replied(pb::Replied::default())),
            1,
        ),
        with(
            "no event",
            &[".event.name", ".event.within_hours"],
            Some(Test::Event(pb::EventOccurred::default())),
            1,
        ),
        with(
            "no stage",
            &[".pipeline_stage.stage"],
            Some(Test::PipelineStage(pb::PipelineStageIs::default())),
            1,
        ),
        with(
            "no attribute",
            &[".attribute.name", ".attribute"],
            compared("", None),
            1,
        ),
        with("nothing to compare with", &[".attribute"], compared("a", None), 1),
        with(
            "a number without end",
            &[".attribute.greater"],
            compared("a", Some(pb::attribute_is::Comparison::Greater(f64::INFINITY))),
            1,
        ),
        with(
            "all of nothing",
            &[".all.of"],
            Some(Test::All(pb::ConditionTests::default())),
            1,
        ),
        with(
            "any of nothing",
            &[".any.of"],
            Some(Test::Any(pb::ConditionTests::default())),
            1,
        ),
        with(
            "not nothing",
            &[".not"],
            Some(Test::Not(pb::ConditionTest::default())),
            1,
        ),
    ];
    // A test of which this version does not know, as a newer client may send it: field 60 of the condition.
    let unknown = [
        pb::Condition { test: None, then: 1 }.encode_to_vec(),
        vec![0xe2, 0x03, 0x00],
    ]
    .concat();
    let mut action = email(1, 0, "A").encode_to_vec();
    put(&mut action, 9, &unknown);
    let mut timeline = definition("new", 5, vec![]).encode_to_vec();
    put(&mut timeline, 9, &action);
    let mut request = Vec::new();
    put(&mut request, 1, &timeline);
    cases.push(Case {
        what: "an unknown test".to_owned(),
        method: "ApplyTimeline",
        request,
        told: fields(&["timeline.actions[0].conditions[0]"]),
    });
    for depth in [100, 1000] {
        let what = format!("conditions {depth} deep");
        let told = Told::Undecodable("timeline");
        cases.push(bad_timeline(&what, told, |it| {
            it.actions[0].conditions = vec![condition(nots(depth), pb::ConditionThen::Skip)];
        }));
    }
    cases
}

/// Adds a field of a message to an encoded message.
fn put(bytes: &mut Vec<u8>, tag: u32, message: &[u8]) {
    prost::encoding::encode_varint(u64::from(tag << 3 | 2), bytes);
    prost::encode_length_delimiter(message.len(), bytes).expect("room");
    bytes.extend_from_slice(message);
}
