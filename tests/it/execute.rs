//! `ExecuteActions`: what is due for one customer, carried out now, with a result for every action.

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::condition::Test;
use std::time::Duration;
use tonic::{Code, Request};

use crate::support::given::{action, at, condition, customer, definition, email, refused, sms, stamp};
use crate::support::mailing::{assert_each_got, crowd, keys, mailing_app, until_run};
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    every_outcome_is_told,
    what_is_too_late_is_told_as_expired,
    all_live_runs_are_served_and_nothing_is_done_again,
    holds_are_told,
    what_a_tick_holds_is_in_flight_elsewhere,
    nothing_is_executed_twice_in_a_race_with_ticks,
    a_caller_that_goes_away_leaves_all_recorded,
    a_request_id_makes_repeating_safe,
    unknown_and_malformed_customers_are_refused,
);

/// The results of a run, each as "key outcome" with what else is set but the error.
fn told(run: &pb::RunResult) -> Vec<String> {
    let tell = |result: &pb::ActionResult| {
        let mut text = format!(
            "{} {}",
            result.action.as_ref().expect("an action").key,
            result.outcome().as_str_name().trim_start_matches("ACTION_OUTCOME_")
        );
        let mut add = |given: i32, name: &str, prefix: &str| {
            if given != 0 {
                text.push(' ');
                text.push_str(name.trim_start_matches(prefix));
            }
        };
        add(result.skip_reason, result.skip_reason().as_str_name(), "SKIP_REASON_");
        add(
            result.failure_reason,
            result.failure_reason().as_str_name(),
            "FAILURE_REASON_",
        );
        add(
            result.defer_reason,
            result.defer_reason().as_str_name(),
            "DEFER_REASON_",
        );
        text
    };
    run.actions.iter().map(tell).collect()
}

fn gate(hour: i32, conditions: Vec<pb::Condition>) -> pb::ActionDefinition {
    pb::ActionDefinition {
        key: "gate".to_owned(),
        conditions,
        ..action(1, hour, pb::Channel::Wait, pb::ActionType::CheckCondition, "")
    }
}

fn keyed(key: &str, action: pb::ActionDefinition) -> pb::ActionDefinition {
    pb::ActionDefinition {
        key: key.to_owned(),
        ..action
    }
}

fn skip_if_score_above(threshold: i32) -> pb::Condition {
    let test = Test::EngagementScoreAbove(pb::EngagementScoreAbove { threshold });
    condition(test, pb::ConditionThen::Skip)
}

/// Each case is a timeline of its own, and a customer of its own with a score of 60; it is noon.
async fn every_outcome_is_told(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    smtp.reply_to_rcpt("refused@example.com", "550 5.7.1 not wanted here");
    smtp.reply_to_rcpt("gone@example.com", "550 5.1.1 no such user");
    smtp.reply_to_rcpt("busy@example.com", "451 4.3.0 come again");
    smtp.reply_to_rcpt("gated@example.com", "451 4.3.0 come again");
    let broken = pb::CampaignDefinition {
        campaign_id: "BROKEN".to_owned(),
        kind: pb::CampaignKind::Transactional.into(),
        subject: "Dear {{ customer.attributes.nickname }}".to_owned(),
        text_body: "Hello".to_owned(),
        ..Default::default()
    };
    let request = pb::ApplyCampaignRequest {
        campaign: Some(broken),
        ..Default::default()
    };
    app.content().apply_campaign(request).await.expect("a campaign");
    let mail = || keyed("mail", email(1, 0, "MAIL"));
    let wait = keyed("wait", action(1, 3, pb::Channel::Wait, pb::ActionType::Wait, ""));
    let conditional = pb::ActionDefinition {
        conditions: vec![skip_if_score_above(59)],
        ..mail()
    };
    let cases: Vec<(&str, Vec<pb::ActionDefinition>, &[&str], &str)> = vec![
        (
            "served",
            vec![mail(), wait, keyed("text", sms(1, 12, "MAIL"))],
            &["mail EXECUTED", "wait EXECUTED", "text EXECUTED"],
            "",
        ),
        ("above", vec![conditional], &["mail SKIPPED CONDITION"], ""),
        (
            "behind",
            vec![
                gate(0, vec![skip_if_score_above(59)]),
                keyed("mail", email(1, 1, "MAIL")),
            ],
            &["gate SKIPPED CONDITION", "mail SKIPPED GATED"],
            "",
        ),
        (
            "refused",
            vec![mail()],
            &["mail FAILED REJECTED"],
            "550 5.7.1 not wanted here",
        ),
        (
            "gone",
            vec![mail()],
            &["mail FAILED SUPPRESSED"],
            "550 5.1.1 no such user",
        ),
        (
            "busy",
            vec![mail()],
            &["mail RETRYING TEMPORARY"],
            "451 4.3.0 come again",
        ),
        (
            "gated",
            vec![mail(), gate(1, Vec::new())],
            &["mail RETRYING TEMPORARY", "gate DEFERRED WAITING_FOR_ACTION"],
            "451 4.3.0 come again",
        ),
        (
            "nameless",
            vec![keyed("mail", email(1, 0, "BROKEN"))],
            &["mail FAILED TEMPLATE"],
            "nickname",
        ),
        (
            "nomail",
            vec![mail(), keyed("text", sms(1, 1, "MAIL"))],
            &["mail FAILED MISSING_ADDRESS", "text EXECUTED"],
            "email",
        ),
        (
            "early",
            vec![
                keyed("later", email(1, 13, "MAIL")),
                keyed("tomorrow", email(2, 0, "MAIL")),
            ],
            &["later NOT_DUE"],
            "",
        ),
    ];
    for (name, actions, expected, error) in cases {
        let timeline = app.timeline(definition(name, 2, actions)).await;
        let mut who = customer(name, "Etc/UTC");
        who.engagement_score = 60;
        if name == "nomail" {
            who.email = String::new();
        }
        app.put_customer(who).await;
        let run = app.start_run(name, &timeline).await;
        let runs = app.execute(name).await;
        let [result] = runs.as_slice() else {
            panic!("{name}: {runs:?}")
        };
        assert_eq!(told(result), expected, "{name}");
        assert_eq!(
            (
                result.progress_id,
                result.timeline_id,
                result.current_day,
                result.status()
            ),
            (run.progress_id, timeline.timeline_id, 1, pb::ProgressStatus::Active),
            "{name}"
        );
        let first = &result.actions[0];
        assert!(
            first.error.contains(error) && first.error.is_empty() == error.is_empty(),
            "{name}: {first:?}"
        );
        for action in &result.actions {
            check_until(name, action);
        }
    }
}

/// An instant is told for what is to come, and for nothing else.
#[track_caller]
fn check_until(name: &str, result: &pb::ActionResult) {
    use pb::ActionOutcome as Outcome;
    let noon = stamp("2026-01-05T12:00:00Z").seconds;
    let until = result.until_time.map(|until| until.seconds - noon);
    match result.outcome() {
        Outcome::NotDue => assert_eq!(until, Some(3600), "{name}"),
        // Five minutes, give or take a fifth.
        Outcome::Retrying | Outcome::Deferred => {
            assert!(
                until.is_some_and(|until| (240..=360).contains(&until)),
                "{name}: {until:?}"
            );
        }
        Outcome::Unspecified
        | Outcome::Executed
        | Outcome::Skipped
        | Outcome::Failed
        | Outcome::Unknown
        | Outcome::InFlight
        | Outcome::Expired => assert_eq!(until, None, "{name}"),
    }
    let is_mail = result
        .action
        .as_ref()
        .is_some_and(|action| action.channel() == pb::Channel::Email);
    if is_mail && result.outcome() == Outcome::Executed {
        assert!(result.provider_id.ends_with("@example.com>"), "{name}: {result:?}");
    }
}

async fn what_is_too_late_is_told_as_expired(backend: Backend) {
    let app = App::start(backend).await;
    let mut strict = definition("strict", 2, vec![email(1, 13, "A"), email(1, 15, "B")]);
    strict.when_missed = pb::WhenMissed::CatchUp.into();
    strict.max_lateness = Some(prost_types::Duration {
        seconds: 3600,
        nanos: 0,
    });
    let timeline = app.timeline(strict).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    app.set("2026-01-05T15:00:00Z");
    let runs = app.execute("anna").await;
    assert_eq!(told(&runs[0]), ["d1h13A EXPIRED EXPIRED", "d1h15B EXECUTED"]);
    assert_eq!(app.sent_to("anna"), ["20260105T150000Z email"]);
}

async fn all_live_runs_are_served_and_nothing_is_done_again(backend: Backend) {
    let app = App::start(backend).await;
    let first = app
        .timeline(definition("first", 3, vec![email(1, 0, "A"), email(1, 18, "B")]))
        .await;
    let second = app.timeline(definition("second", 1, vec![sms(1, 9, "C")])).await;
    let stopped = app.timeline(definition("stopped", 1, vec![email(1, 0, "D")])).await;
    app.customer("anna", "Etc/UTC").await;
    for timeline in [&first, &second] {
        app.start_run("anna", timeline).await;
    }
    let over = app.start_run("anna", &stopped).await;
    let request = pb::StopTimelineRequest {
        customer_id: "anna".to_owned(),
        progress_id: over.progress_id,
        ..Default::default()
    };
    app.orchestrator().stop_timeline(request).await.expect("stopped");

    let all = |runs: &[pb::RunResult]| -> Vec<(i64, Vec<String>)> {
        runs.iter().map(|run| (run.timeline_id, told(run))).collect()
    };
    let due = vec!["d1h0A EXECUTED".to_owned(), "d1h18B NOT_DUE".to_owned()];
    let done = vec!["d1h9C EXECUTED".to_owned()];
    let runs = app.execute("anna").await;
    assert_eq!(all(&runs), [(first.timeline_id, due), (second.timeline_id, done)]);

    let rest = vec!["d1h18B NOT_DUE".to_owned()];
    let runs = app.execute("anna").await;
    assert_eq!(
        all(&runs),
        [(first.timeline_id, rest), (second.timeline_id, Vec::new())]
    );
    app.hourly().await;
    assert_eq!(app.sent_to("anna"), ["20260105T120000Z email", "20260105T120000Z sms"]);

    // The next day the second run is over, and the call itself sees it.
    app.set("2026-01-06T00:00:00Z");
    app.execute("anna").await;
    assert_eq!(app.sent_to("anna")[2..], ["20260106T000000Z email"]);
    let request = pb::ListProgressRequest {
        customer_id: "anna".to_owned(),
        status: pb::ProgressStatus::Completed.into(),
        ..Default::default()
    };
    let completed = app
        .orchestrator()
        .list_progress(request)
        .await
        .expect("runs")
        .into_inner();
    assert_eq!(completed.progress.len(), 1);
    assert_eq!(completed.progress[0].timeline_id, second.timeline_id);
    assert_eq!(all(&app.execute("anna").await).len(), 1);
}

async fn holds_are_told(backend: Backend) {
    let app = App::start(backend).await;
    let [running, paused, inactive] = ["running", "paused", "inactive"];
    app.customer("anna", "Etc/UTC").await;
    let mut runs = Vec::new();
    for slug in [running, paused, inactive] {
        let timeline = app.timeline(definition(slug, 2, vec![email(1, 0, "A")])).await;
        runs.push(app.start_run("anna", &timeline).await);
    }
    let request = pb::PauseTimelineRequest {
        customer_id: "anna".to_owned(),
        progress_id: runs[1].progress_id,
        ..Default::default()
    };
    app.orchestrator().pause_timeline(request).await.expect("paused");
    let request = pb::SetTimelineActiveRequest {
        timeline_id: runs[2].timeline_id,
        is_active: false,
        ..Default::default()
    };
    app.timelines().set_timeline_active(request).await.expect("inactive");

    let results = app.execute("anna").await;
    let seen: Vec<_> = results
        .iter()
        .map(|run| (run.status(), run.hold(), told(run)))
        .collect();
    let executed = vec!["d1h0A EXECUTED".to_owned()];
    let expected = [
        (pb::ProgressStatus::Active, pb::RunHold::Unspecified, executed),
        (pb::ProgressStatus::Paused, pb::RunHold::Paused, Vec::new()),
        (pb::ProgressStatus::Active, pb::RunHold::TimelineInactive, Vec::new()),
    ];
    assert_eq!(seen, expected);
    assert_eq!(app.sent_count(), 1);
}

async fn what_a_tick_holds_is_in_flight_elsewhere(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let actions = vec![email(1, 0, "A"), sms(1, 1, "B"), email(1, 18, "C")];
    let timeline = app.timeline(definition("hook", 1, actions)).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;

    smtp.behave(Behaviour::Stall(Step::Dot));
    let (_, results) = tokio::join!(app.hourly(), async {
        smtp.until_stalled(1).await;
        let results = app.execute("anna").await;
        let seen = app.progress("anna").await;
        assert_eq!(
            keys(seen.in_flight_actions.iter().map(|action| &action.action)),
            ["d1h0A"]
        );
        assert_eq!(seen.in_flight_actions[0].attempt, 1);
        smtp.accept_all();
        smtp.release();
        results
    });
    assert_eq!(
        told(&results[0]),
        ["d1h0A IN_FLIGHT", "d1h1B DEFERRED WAITING_FOR_ACTION", "d1h18C NOT_DUE"]
    );
    let run = app.progress("anna").await;
    assert_eq!(
        keys(run.completed_actions.iter().map(|done| &done.action)),
        ["d1h0A", "d1h1B"]
    );
    assert_each_got(&smtp, &["anna".to_owned()], 1);
    assert_eq!(told(&app.execute("anna").await[0]), ["d1h18C NOT_DUE"]);
}

async fn nothing_is_executed_twice_in_a_race_with_ticks(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let actions = vec![email(1, 0, "A"), sms(1, 1, "T"), email(1, 2, "B"), email(1, 12, "C")];
    let timeline = app.timeline(definition("hook", 1, actions)).await;
    let customers = crowd(&app, &timeline, "c", 60).await;
    let calls = futures::future::join_all(customers.iter().rev().map(|id| app.execute(id)));
    tokio::join!(app.hourly(), calls, app.hourly());
    assert_each_got(&smtp, &customers, 3);
    assert_eq!(app.sent_count(), customers.len(), "texts");
    for id in &customers {
        let run = app.progress(id).await;
        assert_eq!(
            keys(run.completed_actions.iter().map(|done| &done.action)),
            ["d1h0A", "d1h1T", "d1h2B", "d1h12C"],
            "{id}"
        );
        assert!(run.completed_actions.iter().all(|done| done.attempts == 1), "{id}");
    }
}

async fn a_caller_that_goes_away_leaves_all_recorded(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let timeline = app
        .timeline(definition("hook", 1, vec![email(1, 0, "A"), sms(1, 0, "B")]))
        .await;
    let customers = crowd(&app, &timeline, "c", 2).await;
    let [dropped, hurried] = customers.as_slice() else {
        panic!("two customers")
    };
    smtp.behave(Behaviour::Stall(Step::Dot));

    let request = |id: &str| pb::ExecuteActionsRequest {
        customer_id: id.to_owned(),
        ..Default::default()
    };
    let mut client = app.orchestrator();
    let call = client.execute_actions(request(dropped));
    tokio::select! {
        _ = call => panic!("the server is stalled"),
        () = smtp.until_stalled(1) => {}
    }
    let mut hasty = Request::new(request(hurried));
    hasty.set_timeout(Duration::from_millis(500));
    let status = app.orchestrator().execute_actions(hasty).await.expect_err("no time");
    // The server says so a little earlier; a client that is not told by then gives up by itself.
    let codes = [Code::DeadlineExceeded, Code::Cancelled];
    assert!(codes.contains(&status.code()), "{status:?}");
    smtp.until_stalled(2).await;
    smtp.accept_all();
    smtp.release();

    for id in &customers {
        let run = until_run(&app, id, |run| run.completed_actions.len() == 2).await;
        assert!(
            run.in_flight_actions.is_empty() && run.failed_actions.is_empty(),
            "{run:?}"
        );
    }
    app.hourly().await;
    assert_each_got(&smtp, &customers, 1);
    assert_eq!(app.sent_count(), 2, "texts");
}

async fn a_request_id_makes_repeating_safe(backend: Backend) {
    let app = App::start(backend).await;
    let actions = vec![email(1, 0, "A"), email(1, 18, "B")];
    let timeline = app.timeline(definition("hook", 1, actions)).await;
    let customers = crowd(&app, &timeline, "c", 2).await;
    let execute = async |id: &str| {
        let request = pb::ExecuteActionsRequest {
            customer_id: id.to_owned(),
            request_id: "once".to_owned(),
        };
        let response = app.orchestrator().execute_actions(request).await.expect("results");
        response.into_inner()
    };
    let first = execute(&customers[0]).await;
    assert_eq!(told(&first.runs[0]), ["d1h0A EXECUTED", "d1h18B NOT_DUE"]);
    app.set("2026-01-05T18:00:00Z");
    assert_eq!(
        execute(&customers[0]).await,
        first,
        "the first answer, though more is due"
    );
    assert_eq!(app.sent_count(), 1);

    // The id counts per customer; twins at once do everything once.
    tokio::join!(execute(&customers[1]), execute(&customers[1]));
    assert_eq!(app.sent_to(&customers[1]).len(), 2);
    let kept = execute(&customers[1]).await;
    assert_eq!(execute(&customers[1]).await, kept);

    // It is kept for a day.
    app.clock.set(at("2026-01-06T18:00:01Z"));
    execute(&customers[0]).await;
    assert_eq!(app.sent_to(&customers[0]).len(), 2);
}

async fn unknown_and_malformed_customers_are_refused(backend: Backend) {
    let app = App::start(backend).await;
    let execute = async |id: &str| {
        let request = pb::ExecuteActionsRequest {
            customer_id: id.to_owned(),
            ..Default::default()
        };
        app.orchestrator().execute_actions(request).await
    };
    refused(execute("nobody").await, Code::NotFound, "CUSTOMER_NOT_FOUND", &[]);
    refused(
        execute("").await,
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &["customer_id"],
    );
    app.customer("idle", "Etc/UTC").await;
    let idle = execute("idle").await.expect("results").into_inner();
    assert_eq!(idle.runs, Vec::new());
}
