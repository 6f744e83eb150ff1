//! Waits for events, and conditions about tasks, as callers see them.

use campaign_automation::proto::campaign::v1 as pb;
use pb::{AfterTimeout, DeferReason, EngagementKind, ProgressStatus, SkipReason, TaskOutcome};
use tonic::Code;

use crate::interactions::{report, task};
use crate::providers::app;
use crate::support::calls::{completed, skipped};
use crate::support::given::{condition, definition, refused, shown, sms, stamp};
use crate::support::http::HttpServer;
use crate::support::story::{keyed, mail, text, wait};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_wait_ends_with_its_event,
    a_wait_ends_with_its_time,
    an_event_wakes_who_waits_for_it_and_nobody_else,
    a_condition_waits_for_the_report_of_a_task,
    a_report_wakes_a_run_that_is_sending,
    a_simulation_tells_of_reports_and_events,
    fields_are_checked,
);

fn until(event: pb::AwaitedEvent, action: pb::ActionDefinition) -> pb::ActionDefinition {
    pb::ActionDefinition {
        until_event: Some(event),
        ..action
    }
}

fn reply(timeout_hours: i32, after_timeout: AfterTimeout) -> pb::AwaitedEvent {
    pb::AwaitedEvent {
        kind: EngagementKind::Replied.into(),
        timeout_hours,
        after_timeout: after_timeout.into(),
        ..Default::default()
    }
}

/// An action that is skipped once the task was done.
fn unless_done(task: &str, action: pb::ActionDefinition) -> pb::ActionDefinition {
    let done = pb::TaskOutcomeIs {
        of_action: task.to_owned(),
        outcome: TaskOutcome::Done.into(),
    };
    let done = pb::condition::Test::TaskOutcome(done);
    pb::ActionDefinition {
        conditions: vec![condition(done, pb::ConditionThen::Skip)],
        ..action
    }
}

fn event(customer: &str, id: &str, kind: EngagementKind, name: &str) -> pb::Engagement {
    pb::Engagement {
        customer_id: customer.to_owned(),
        event_id: id.to_owned(),
        kind: kind.into(),
        name: name.to_owned(),
        ..Default::default()
    }
}

/// A server whose tests begin on a Monday at noon, and a customer on a timeline of these actions on day 1.
async fn started(backend: Backend, actions: Vec<pb::ActionDefinition>) -> (App, HttpServer, HttpServer, pb::Progress) {
    let (twilio, crm) = (HttpServer::twilio().await, HttpServer::start().await);
    crm.answer(201, "{\"id\":\"task-9\"}");
    let app = app(backend, &twilio, &crm, |_| {}).await;
    let timeline = app.timeline(definition("hook", 2, actions)).await;
    app.customer("anna", "Etc/UTC").await;
    let run = app.start_run("anna", &timeline).await;
    (app, twilio, crm, run)
}

async fn waiting(app: &App) -> Vec<(DeferReason, String)> {
    let run = app.progress("anna").await;
    let deferred = run.deferred_actions.iter();
    deferred.map(|it| (it.reason(), shown(it.until_time))).collect()
}

async fn a_wait_ends_with_its_event(backend: Backend) {
    let actions = vec![
        until(reply(6, AfterTimeout::SkipRestOfDay), wait("w", 1, 13)),
        text("text", 1, 14),
    ];
    let (app, twilio, _crm, _) = started(backend, actions).await;
    for time in ["2026-01-05T13:00:00Z", "2026-01-05T14:00:00Z"] {
        app.set(time);
        app.hourly().await;
    }
    let until = "2026-01-05T19:00:00Z".to_owned();
    let expected = [
        (DeferReason::WaitingForEvent, until.clone()),
        (DeferReason::WaitingForAction, until),
    ];
    assert_eq!(waiting(&app).await, expected);
    let request = pb::ExplainActionsRequest {
        customer_id: "anna".to_owned(),
        ..Default::default()
    };
    let explained = app
        .orchestrator()
        .explain_actions(request)
        .await
        .expect("words")
        .into_inner();
    let w = &explained.runs[0].actions[0];
    assert_eq!(w.hold(), pb::ActionHold::WaitingForEvent);
    assert!(
        w.summary.starts_with("It waits for replied, with the rest of its day"),
        "{}",
        w.summary
    );

    app.set("2026-01-05T15:20:00Z");
    app.record(vec![event("anna", "e", EngagementKind::Replied, "")]).await;
    app.hourly().await;
    let run = app.progress("anna").await;
    assert_eq!(completed(&run), ["w", "text"]);
    assert_eq!(run.completed_actions[0].detail, "replied at 2026-01-05T15:20:00Z");
    assert_eq!(twilio.requests().len(), 1);
}

async fn a_wait_ends_with_its_time(backend: Backend) {
    for (after, kept) in [(AfterTimeout::Unspecified, 2), (AfterTimeout::SkipRestOfDay, 0)] {
        let actions = vec![until(reply(2, after), wait("w", 1, 13)), text("text", 1, 14)];
        let (app, twilio, _crm, _) = started(backend, actions).await;
        for time in ["2026-01-05T13:00:00Z", "2026-01-05T14:00:00Z", "2026-01-05T15:00:00Z"] {
            app.set(time);
            app.hourly().await;
        }
        let run = app.progress("anna").await;
        assert_eq!(
            (completed(&run).len(), twilio.requests().len()),
            (kept, kept / 2),
            "{run:?}"
        );
        if kept == 0 {
            let expected = [
                ("w".to_owned(), SkipReason::EventMissing),
                ("text".to_owned(), SkipReason::Gated),
            ];
            assert_eq!(skipped(&run), expected);
        }
        app.server.shutdown().await.expect("stopped");
    }
}

async fn an_event_wakes_who_waits_for_it_and_nobody_else(backend: Backend) {
    let booked = pb::AwaitedEvent {
        kind: EngagementKind::Custom.into(),
        name: "booked".to_owned(),
        ..Default::default()
    };
    let (app, _twilio, _crm, _) = started(backend, vec![until(booked, wait("w", 1, 12)), text("text", 1, 12)]).await;
    app.customer("bert", "Etc/UTC").await;
    app.hourly().await;
    let statements = || app.server.engine().store().statements();
    app.set("2026-01-05T12:30:00Z");
    let mut costs = Vec::new();
    for (customer, kind, name, wakes) in [
        ("bert", EngagementKind::Custom, "booked", false),
        ("anna", EngagementKind::Replied, "", false),
        ("anna", EngagementKind::Custom, "seen", false),
        ("anna", EngagementKind::Custom, "booked", true),
    ] {
        // The least of several, as the server does other things beside.
        let mut cost = u64::MAX;
        for n in 0..if wakes { 1 } else { 5 } {
            let before = statements();
            app.record(vec![event(customer, &format!("{name}{n}"), kind, name)])
                .await;
            cost = cost.min(statements() - before);
        }
        costs.push(cost);
        app.hourly().await;
        assert_eq!(waiting(&app).await.is_empty(), wakes, "{customer} {name}");
    }
    // Where no timeline waits for it, an event costs one look however many runs there are, and another where one does.
    assert!(
        costs[1] == costs[2] && costs[0] == costs[1] + 1 && costs[0] < costs[3],
        "{costs:?}"
    );
}

async fn a_condition_waits_for_the_report_of_a_task(backend: Backend) {
    for (outcome, sent) in [(TaskOutcome::Done, 0), (TaskOutcome::NoAnswer, 1)] {
        let actions = vec![task("call", 12, 72), unless_done("call", text("text", 1, 13))];
        let (app, twilio, _crm, run) = started(backend, actions).await;
        app.hourly().await;
        app.set("2026-01-05T13:00:00Z");
        app.hourly().await;
        let expected = [
            (DeferReason::WaitingForCompletion, "2026-01-08T12:00:00Z".to_owned()),
            (DeferReason::WaitingForAction, "2026-01-06T01:00:00Z".to_owned()),
        ];
        assert_eq!(waiting(&app).await, expected);
        app.set("2026-01-05T15:00:00Z");
        report(&app, &run, "call", outcome).await.expect("a report");
        app.hourly().await;
        assert_eq!(twilio.requests().len(), sent);
        let run = app.progress("anna").await;
        if sent == 0 {
            let detail = &run.skipped_actions[0].detail;
            assert_eq!(detail, "task_outcome of call is done (it is done): holds, so skip");
        }
        app.server.shutdown().await.expect("stopped");
    }
}

/// While a message of the run is under way its task is reported: what waits for that goes with the same tick.
async fn a_report_wakes_a_run_that_is_sending(backend: Backend) {
    let actions = vec![
        task("call", 12, 72),
        unless_done("call", text("if-not", 1, 13)),
        keyed(
            "other",
            crate::support::given::action(1, 14, pb::Channel::Interaction, pb::ActionType::CreateTask, "C"),
        ),
    ];
    let (app, twilio, crm, run) = started(backend, actions).await;
    for time in ["2026-01-05T12:00:00Z", "2026-01-05T13:00:00Z"] {
        app.set(time);
        app.hourly().await;
    }
    crm.behave_to("\"other\"", crate::support::http::Behaviour::Stall);
    app.set("2026-01-05T14:00:00Z");
    let meanwhile = async {
        while crm.requests().len() < 2 {
            tokio::task::yield_now().await;
        }
        report(&app, &run, "call", TaskOutcome::NoAnswer)
            .await
            .expect("a report");
        crm.hang_up().await;
    };
    tokio::join!(app.hourly(), meanwhile);
    assert_eq!(twilio.requests().len(), 1, "{:?}", app.progress("anna").await);
}

async fn a_simulation_tells_of_reports_and_events(backend: Backend) {
    let app = App::start(backend).await;
    let actions = vec![
        task("call", 9, 48),
        unless_done("call", mail("if-not", 1, 10)),
        until(reply(0, AfterTimeout::SkipRestOfDay), wait("w", 2, 9)),
        mail("mail", 2, 10),
    ];
    app.timeline(definition("hook", 2, actions.clone())).await;
    app.customer("anna", "Etc/UTC").await;
    let entry = |time: &str, what| pb::ScriptEntry {
        time: Some(stamp(time)),
        what: Some(what),
    };
    let reported = pb::script_entry::What::TaskReport(pb::ScriptTaskReport {
        action_key: "call".to_owned(),
        outcome: TaskOutcome::Done.into(),
    });
    let replied = pb::script_entry::What::Engagement(pb::ScriptEngagement {
        kind: EngagementKind::Replied.into(),
        ..Default::default()
    });
    let script = vec![
        entry("2026-01-05T11:30:00Z", reported.clone()),
        entry("2026-01-06T15:30:00Z", replied),
        entry("2026-01-06T16:30:00Z", reported),
    ];
    for (script, expected) in [
        (
            script,
            "05 09 call deferred, 05 10 if-not deferred, 05 12 if-not skipped, 06 09 w deferred, 06 10 mail deferred, \
             06 16 w executed, 06 16 mail executed",
        ),
        (
            Vec::new(),
            "05 09 call deferred, 05 10 if-not deferred, 05 22 if-not executed, 06 09 w deferred, 06 10 mail deferred, \
             07 00 w skipped, 07 00 mail skipped, 07 09 call expired",
        ),
    ] {
        let request = pb::SimulateTimelineRequest {
            which: Some(pb::simulate_timeline_request::Which::Timeline(definition(
                "hook",
                2,
                actions.clone(),
            ))),
            whom: Some(pb::simulate_timeline_request::Whom::CustomerId("anna".to_owned())),
            start_time: Some(stamp("2026-01-05T08:00:00Z")),
            script,
            ..Default::default()
        };
        let told = app
            .timelines()
            .simulate_timeline(request)
            .await
            .expect("a story")
            .into_inner();
        let steps = told.steps.iter().filter_map(|step| {
            let Some(pb::simulation_step::What::Action(done)) = &step.what else {
                return None;
            };
            let time = shown(step.time);
            let outcome = done
                .outcome()
                .as_str_name()
                .trim_start_matches("ACTION_OUTCOME_")
                .to_lowercase();
            let key = &done.action.as_ref()?.key;
            Some(format!("{} {} {key} {outcome}", &time[8..10], &time[11..13]))
        });
        assert_eq!(steps.collect::<Vec<_>>().join(", "), expected);
        assert_eq!(told.run.expect("a run").status(), ProgressStatus::Completed);
    }
}

async fn fields_are_checked(backend: Backend) {
    let app = App::start(backend).await;
    app.campaign("A").await;
    app.campaign("C").await;
    let good = || reply(11, AfterTimeout::Continue);
    let of = |key: &str, kind: EngagementKind| pb::AwaitedEvent {
        of_action: key.to_owned(),
        kind: kind.into(),
        ..good()
    };
    let custom = pb::AwaitedEvent {
        name: "booked".to_owned(),
        ..of("text", EngagementKind::Custom)
    };
    let w = |event| until(event, wait("w", 2, 13));
    let cases = [
        (w(reply(12, AfterTimeout::Continue)), "until_event.timeout_hours"),
        (w(reply(-1, AfterTimeout::Continue)), "until_event.timeout_hours"),
        (
            w(pb::AwaitedEvent {
                after_timeout: 7,
                ..good()
            }),
            "until_event.after_timeout",
        ),
        (w(pb::AwaitedEvent { kind: 0, ..good() }), "until_event.kind"),
        (
            w(pb::AwaitedEvent {
                name: "x".to_owned(),
                ..good()
            }),
            "until_event.name",
        ),
        (w(of("nothing", EngagementKind::Replied)), "until_event.of_action"),
        (w(of("text", EngagementKind::EmailOpened)), "until_event.of_action"),
        (w(custom), "until_event.of_action"),
        (until(good(), keyed("w", sms(2, 13, "A"))), "until_event"),
        (
            unless_done("text", keyed("w", sms(2, 13, "A"))),
            "conditions[0].task_outcome.of_action",
        ),
        (
            unless_done("plain", keyed("w", sms(2, 13, "A"))),
            "conditions[0].task_outcome.of_action",
        ),
        (
            unless_done("call", keyed("w", sms(1, 1, "A"))),
            "conditions[0].task_outcome.of_action",
        ),
    ];
    for (action, field) in cases {
        let plain = pb::ActionDefinition {
            completion: pb::TaskCompletion::HandedOver.into(),
            completion_within: None,
            ..task("plain", 2, 1)
        };
        let others = vec![text("text", 1, 1), task("call", 2, 1), plain, action];
        let applied = app.apply(definition("hook", 2, others), "").await;
        let path = format!("timeline.actions[3].{field}");
        refused(applied, Code::InvalidArgument, "INVALID_FIELDS", &[&path]);
    }
    // What was applied comes back.
    let actions = vec![text("text", 1, 1), w(of("text", EngagementKind::Replied))];
    let applied = app.timeline(definition("hook", 2, actions.clone())).await;
    let stored = &applied.definition.expect("a definition").actions[1];
    assert_eq!(stored.until_event, actions[1].until_event);
    assert_eq!(stored.completion_within, None);
}
