//! What is foretold, and then happens.

use campaign_automation::proto::campaign::v1 as pb;
use pb::ConditionThen as Then;
use pb::condition::Test;
use pb::script_entry::What;
use std::collections::BTreeSet;

use super::{Scenario, busy, check, engaged, entry, gate, keyed, only, opened, opened_within, plain};
use crate::support::given::{condition, email, sms};
use crate::support::mailing::mailing_app_with;
use crate::support::smtp::SmtpServer;
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    what_people_and_customers_do_is_foretold,
    an_outage_is_foretold,
    what_mail_servers_answer_is_foretold,
);

fn custom(name: &str) -> What {
    What::Engagement(pb::ScriptEngagement {
        kind: pb::EngagementKind::Custom.into(),
        name: name.to_owned(),
        ..Default::default()
    })
}

fn attributes(name: &str, value: Option<&str>) -> What {
    let kind = value.map_or(prost_types::value::Kind::NullValue(0), |value| {
        prost_types::value::Kind::StringValue(value.to_owned())
    });
    let value = prost_types::Value { kind: Some(kind) };
    What::Attributes(prost_types::Struct {
        fields: [(name.to_owned(), value)].into(),
    })
}

fn resume(start_next_day: bool) -> What {
    What::Resume(pb::ScriptResume { start_next_day })
}

#[track_caller]
fn assert_seen(seen: &BTreeSet<String>, expected: &[&str]) {
    let expected: BTreeSet<String> = expected.iter().map(|word| (*word).to_owned()).collect();
    assert_eq!(*seen, expected);
}

async fn app(backend: Backend, smtp: &SmtpServer) -> App {
    mailing_app_with(backend, &smtp.url(), |config| {
        config.channel_probe = std::time::Duration::from_secs(90 * 60);
        // That messages of others fail is not foretold.
        config.limits.channel_failures = 0;
    })
    .await
}

async fn what_people_and_customers_do_is_foretold(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app(backend, &smtp).await;
    let with = |scenario: Scenario, script: Vec<pb::ScriptEntry>| Scenario { script, ..scenario };
    let pause = || What::Pause(pb::ScriptPause {});
    let above = |threshold| Test::EngagementScoreAbove(pb::EngagementScoreAbove { threshold });
    let welcome = || keyed("welcome", email(1, 0, "A"));
    let mut scenarios = vec![
        plain("plain", "America/New_York", 5, busy(5)),
        Scenario {
            first_day: pb::FirstDay::SkipPassed,
            ..plain("skip-passed", "Asia/Kolkata", 3, busy(3))
        },
        Scenario {
            first_day: pb::FirstDay::NextDay,
            start_day: 3,
            ..plain("next-day", "Pacific/Auckland", 4, busy(4))
        },
        with(
            plain("paused", "Europe/Berlin", 5, busy(5)),
            vec![
                entry("2026-01-07T10:30:00Z", pause()),
                entry("2026-01-07T11:30:00Z", pause()),
                entry("2026-01-09T20:15:00Z", resume(false)),
                entry("2026-01-10T08:00:00Z", pause()),
                entry("2026-01-10T09:00:00Z", resume(true)),
                entry("2026-01-10T10:00:00Z", resume(true)),
            ],
        ),
        with(
            plain("stopped", "Etc/UTC", 5, busy(5)),
            vec![
                entry("2026-01-07T10:30:00Z", What::Stop(pb::ScriptStop {})),
                entry("2026-01-08T10:30:00Z", pause()),
            ],
        ),
        with(
            plain("switched", "America/Chicago", 4, busy(4)),
            vec![
                entry("2026-01-06T17:00:00Z", What::TimelineIsActive(false)),
                entry("2026-01-06T18:00:00Z", What::TimelineIsActive(false)),
                entry("2026-01-09T21:40:00Z", What::TimelineIsActive(true)),
                // After all of the day is done: nothing is left for this date.
                entry("2026-01-11T03:10:00Z", What::TimelineIsActive(false)),
                entry("2026-01-12T12:00:00Z", What::TimelineIsActive(true)),
            ],
        ),
        with(
            plain("moved", "Pacific/Auckland", 5, busy(5)),
            vec![
                entry("2026-01-06T23:30:00Z", What::TimeZone("Pacific/Honolulu".to_owned())),
                entry("2026-01-08T10:00:00Z", What::TimeZone(String::new())),
                entry("2026-01-08T23:59:59Z", What::TimeZone("Pacific/Kiritimati".to_owned())),
            ],
        ),
        with(
            plain(
                "engaged",
                "Europe/London",
                4,
                vec![
                    welcome(),
                    only(email(1, 13, "B"), opened_within(48, ""), Then::Skip),
                    only(email(2, 9, "C"), opened_within(24, "welcome"), Then::Execute),
                    only(sms(2, 10, "D"), opened_within(1, "welcome"), Then::Execute),
                    only(sms(2, 11, "D2"), above(50), Then::Execute),
                    only(sms(3, 9, "E"), above(50), Then::Execute),
                    keyed("in-hook", gate(3, 12)),
                    email(3, 13, "F"),
                    only(
                        sms(4, 9, "G"),
                        Test::Attribute(pb::AttributeIs {
                            name: "plan".to_owned(),
                            comparison: Some(pb::attribute_is::Comparison::Exists(true)),
                        }),
                        Then::Skip,
                    ),
                    only(
                        sms(4, 11, "H"),
                        Test::Event(pb::EventOccurred {
                            name: "demo".to_owned(),
                            within_hours: 5,
                        }),
                        Then::Execute,
                    ),
                ],
            ),
            vec![
                entry("2026-01-04T10:00:00Z", opened()),
                entry(
                    "2026-01-06T08:59:59Z",
                    engaged(pb::EngagementKind::EmailOpened, "welcome"),
                ),
                entry("2026-01-06T11:00:00Z", What::EngagementScore(50)),
                entry("2026-01-07T09:00:00Z", What::EngagementScore(51)),
                entry("2026-01-07T12:00:00Z", What::PipelineStage("activate".to_owned())),
                entry("2026-01-07T12:30:00Z", attributes("plan", Some("gold"))),
                entry("2026-01-08T08:00:00Z", attributes("plan", None)),
                entry("2026-01-08T06:00:00Z", custom("demo")),
            ],
        ),
    ];
    let engaged = scenarios.last_mut().expect("a scenario");
    engaged.customer.pipeline_stage = "hook".to_owned();
    engaged.timeline.actions[6].conditions = vec![condition(
        Test::PipelineStage(pb::PipelineStageIs {
            stage: "hook".to_owned(),
        }),
        Then::Execute,
    )];
    let mut unreachable = plain("unreachable", "", 2, busy(2));
    unreachable.customer.phone = String::new();
    scenarios.push(unreachable);
    let start = "2026-01-05T12:20:00Z";
    let seen = check(&app, &smtp, scenarios, &[], start, "2026-01-16T00:00:00Z").await;
    assert_seen(
        &seen,
        &[
            "COMPLETED",
            "FAILED MISSING_ADDRESS",
            "SKIPPED CONDITION",
            "SKIPPED GATED",
            "SKIPPED HOUR_PASSED_AT_START",
            "STOPPED",
            "refused",
        ],
    );
    app.server.shutdown().await.expect("stopped");
}

/// Nobody ticks from the evening of the second day on, for five days.
async fn an_outage_is_foretold(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app(backend, &smtp).await;
    let outage = [
        entry("2026-01-06T20:30:00Z", What::Ticks(false)),
        entry("2026-01-11T20:30:00Z", What::Ticks(true)),
        // Short enough for what is late to go all the same.
        entry("2026-01-13T06:30:00Z", What::Ticks(false)),
        entry("2026-01-13T17:30:00Z", What::Ticks(true)),
    ];
    let catching_up = |scenario: Scenario| Scenario {
        timeline: pb::TimelineDefinition {
            when_missed: pb::WhenMissed::CatchUp.into(),
            ..scenario.timeline
        },
        ..scenario
    };
    let four_a_day = |days: i32| {
        let day = |day| {
            [
                email(day, 7, "A"),
                email(day, 8, "E"),
                email(day, 9, "B"),
                email(day, 22, "C"),
                sms(day, 10, "D"),
            ]
        };
        (1..=days).flat_map(day).collect::<Vec<_>>()
    };
    let sparse = || vec![email(1, 9, "A"), email(5, 9, "B"), sms(6, 21, "C"), email(9, 9, "D")];
    let scenarios = vec![
        plain("shifts", "Europe/Berlin", 6, four_a_day(6)),
        catching_up(plain("catches-up", "Europe/Berlin", 9, four_a_day(9))),
        plain("shifts-sparse", "America/Los_Angeles", 9, sparse()),
        catching_up(plain("catches-up-sparse", "America/Los_Angeles", 9, sparse())),
        Scenario {
            script: vec![
                entry("2026-01-06T12:00:00Z", What::Pause(pb::ScriptPause {})),
                entry("2026-01-10T12:00:00Z", resume(false)),
            ],
            ..catching_up(plain("paused-in-it", "Asia/Tokyo", 9, four_a_day(9)))
        },
    ];
    let start = "2026-01-05T12:00:00Z";
    let seen = check(&app, &smtp, scenarios, &outage, start, "2026-01-18T00:00:00Z").await;
    assert_seen(
        &seen,
        &[
            "ACTIVE",
            "COMPLETED",
            "DEFER_REASON_SPACING",
            "EXPIRED EXPIRED",
            "jumped",
            "shifted",
        ],
    );
    app.server.shutdown().await.expect("stopped");
}

async fn what_mail_servers_answer_is_foretold(backend: Backend) {
    use pb::SimulatedAnswer::{Accepted, Misconfigured, Rejected, Suppressed, Temporary, Unknown};
    let smtp = SmtpServer::start().await;
    let app = app(backend, &smtp).await;
    let answers = [
        ("2026-01-05T12:00:00Z", Misconfigured),
        ("2026-01-05T13:30:00Z", Accepted),
        ("2026-01-05T18:30:00Z", Temporary),
        ("2026-01-05T20:30:00Z", Accepted),
        ("2026-01-06T08:30:00Z", Rejected),
        ("2026-01-06T10:30:00Z", Unknown),
        ("2026-01-06T12:30:00Z", Accepted),
        ("2026-01-07T08:30:00Z", Suppressed),
        ("2026-01-07T09:30:00Z", Accepted),
    ]
    .map(|(time, answer)| entry(time, super::answers(answer)));
    let gated = only(gate(1, 20), opened_within(48, ""), Then::Skip);
    let mut tested = plain("tested", "Etc/UTC", 3, busy(3));
    tested.customer.is_test = true;
    let scenarios = vec![
        tested,
        plain(
            "answered",
            "Etc/UTC",
            3,
            vec![
                keyed("misconfigured", email(1, 10, "A")),
                keyed("not-held-up", sms(1, 11, "B")),
                keyed("temporary", email(1, 19, "C")),
                keyed("gate", gated),
                keyed("behind-the-gate", sms(1, 20, "D")),
                keyed("rejected", email(2, 9, "E")),
                keyed("unknown", email(2, 11, "F")),
                keyed("waits", only(sms(2, 12, "G"), opened_within(1, "unknown"), Then::Skip)),
                keyed("suppressed", email(3, 9, "H")),
                keyed("last", email(3, 10, "I")),
            ],
        ),
        // Eleven mails at once, and texts, which go alone.
        plain(
            "crowded",
            "Etc/UTC",
            2,
            (0..11)
                .map(|n| keyed(&format!("m{n:02}"), email(1, 19, "A")))
                .chain((0..3).map(|n| keyed(&format!("t{n:02}"), sms(1, 19, "B"))))
                .collect(),
        ),
    ];
    let (start, end) = ("2026-01-05T12:00:00Z", "2026-01-09T00:00:00Z");
    let seen = check(&app, &smtp, scenarios, &answers, start, end).await;
    assert_seen(
        &seen,
        &[
            "COMPLETED",
            "DEFER_REASON_CHANNEL_UNAVAILABLE",
            "DEFER_REASON_SPACING",
            "DEFER_REASON_WAITING_FOR_ACTION",
            "FAILED REJECTED",
            "FAILED SUPPRESSED",
            "RETRYING OUTCOME_UNKNOWN",
            "RETRYING TEMPORARY",
            "SKIPPED SUPPRESSED",
        ],
    );
    app.server.shutdown().await.expect("stopped");
}
