//! Tasks that people complete: handed over, reported, or over before anybody said what came of them.

use campaign_automation::proto::campaign::v1 as pb;
use pb::{DeferReason, ExecutionOutcome, ProgressStatus, SkipReason, TaskCompletion, TaskOutcome};
use std::time::Duration;
use tonic::{Code, Status};

use crate::providers::app;
use crate::support::calls::about;
use crate::support::given::{action, definition, refused, shown, sms};
use crate::support::http::{Behaviour, HttpServer};
use crate::support::story::{keyed, text};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_task_is_complete_once_it_is_reported,
    a_task_that_nobody_reports_expires,
    a_task_may_be_complete_once_it_is_handed_over,
    the_first_report_counts,
    what_no_run_waits_for_is_refused,
    a_task_is_reported_while_it_is_sent,
    a_paused_run_takes_reports,
    fields_are_checked,
);

/// A task on day 1 that waits so many hours for its report.
pub(crate) fn task(key: &str, hour: i32, hours: i64) -> pb::ActionDefinition {
    pb::ActionDefinition {
        completion: TaskCompletion::Reported.into(),
        completion_within: Some(crate::support::story::hours(hours)),
        ..keyed(
            key,
            action(1, hour, pb::Channel::Interaction, pb::ActionType::CreateTask, "C"),
        )
    }
}

/// Reports a task of a customer's run.
pub(crate) async fn report(
    app: &App,
    run: &pb::Progress,
    key: &str,
    outcome: TaskOutcome,
) -> Result<pb::CompleteInteractionResponse, Status> {
    let request = pb::CompleteInteractionRequest {
        customer_id: run.customer_id.clone(),
        progress_id: run.progress_id,
        action_key: key.to_owned(),
        outcome: outcome.into(),
        note: format!("about {key}"),
        ..Default::default()
    };
    let response = app.orchestrator().complete_interaction(request).await;
    response.map(tonic::Response::into_inner)
}

/// What the ledger has, by action and attempt.
async fn ledger(app: &App) -> Vec<pb::Execution> {
    let request = pb::ListExecutionsRequest::default();
    let listed = app.orchestrator().list_executions(request).await.expect("a ledger");
    listed.into_inner().executions
}

async fn outcomes(app: &App) -> Vec<ExecutionOutcome> {
    ledger(app).await.iter().map(pb::Execution::outcome).collect()
}

/// A server, and a customer on a timeline of these actions over so many days.
async fn started(
    backend: Backend,
    days: i32,
    actions: Vec<pb::ActionDefinition>,
) -> (App, HttpServer, HttpServer, pb::Progress) {
    let (twilio, crm) = (HttpServer::twilio().await, HttpServer::start().await);
    crm.answer(201, "{\"id\":\"task-9\"}");
    let app = app(backend, &twilio, &crm, |config| {
        config.retry_base = Duration::from_hours(1);
        config.retry_cap = Duration::from_hours(1);
    })
    .await;
    let timeline = app.timeline(definition("hook", days, actions)).await;
    app.customer("anna", "Etc/UTC").await;
    let run = app.start_run("anna", &timeline).await;
    (app, twilio, crm, run)
}

#[track_caller]
fn only_deferred(run: &pb::Progress) -> (DeferReason, String) {
    let [deferred] = run.deferred_actions.as_slice() else {
        panic!("{run:?}")
    };
    (deferred.reason(), shown(deferred.until_time))
}

async fn a_task_is_complete_once_it_is_reported(backend: Backend) {
    let (app, twilio, crm, run) = started(backend, 2, vec![task("call", 0, 72), text("text", 2, 9)]).await;
    app.hourly().await;
    let bound = (DeferReason::WaitingForCompletion, "2026-01-08T12:00:00Z".to_owned());
    let waiting = app.progress("anna").await;
    assert_eq!(only_deferred(&waiting), bound);
    assert_eq!(waiting.completed_actions, []);
    let next = waiting.next_action.and_then(|next| next.action);
    assert_eq!(next.map(|action| action.key), Some("text".to_owned()));

    // Its days go on, with either tick, and past the last one it is active as long as the task waits.
    for time in ["2026-01-06T00:00:00Z", "2026-01-06T09:00:00Z", "2026-01-07T01:00:00Z"] {
        app.set(time);
        app.daily().await;
        app.hourly().await;
    }
    assert_eq!(twilio.requests().len(), 1);
    let waiting = app.progress("anna").await;
    assert_eq!((waiting.status(), waiting.current_day), (ProgressStatus::Active, 2));
    assert_eq!((only_deferred(&waiting), waiting.shifted_days), (bound, 0));
    assert_eq!(waiting.next_action, None);

    app.set("2026-01-07T15:30:00Z");
    let reported = report(&app, &run, "call", TaskOutcome::Declined)
        .await
        .expect("a report");
    let progress = reported.progress.expect("a run");
    assert!(!reported.was_reported && progress.deferred_actions.is_empty());
    let done = progress.completed_actions.iter().find(|done| done.task_outcome != 0);
    let done = done.expect("a task");
    assert_eq!((done.task_outcome(), done.attempts), (TaskOutcome::Declined, 1));
    assert_eq!(
        (done.provider_id.as_str(), done.detail.as_str()),
        ("task-9", "about call")
    );
    assert_eq!(shown(done.complete_time), "2026-01-07T15:30:00Z");
    app.hourly().await;
    assert_eq!(app.progress("anna").await.status(), ProgressStatus::Completed);
    assert_eq!(crm.requests().len(), 1);

    let ledger = ledger(&app).await;
    let told: Vec<_> = ledger.iter().map(|entry| (entry.outcome(), entry.attempt)).collect();
    let (handed_over, completed) = (ExecutionOutcome::HandedOver, ExecutionOutcome::Completed);
    assert_eq!(told, [(handed_over, 1), (completed, 2), (completed, 1)]);
    assert_eq!(ledger[1].task_outcome(), TaskOutcome::Declined);
    assert_eq!(ledger[1].detail, "about call");
}

async fn a_task_that_nobody_reports_expires(backend: Backend) {
    let (app, _twilio, _crm, run) = started(backend, 1, vec![task("call", 0, 48)]).await;
    app.hourly().await;
    for (time, status) in [
        ("2026-01-06T00:00:00Z", ProgressStatus::Active),
        ("2026-01-07T11:59:59Z", ProgressStatus::Active),
        ("2026-01-07T12:00:00Z", ProgressStatus::Completed),
    ] {
        app.set(time);
        app.daily().await;
        app.hourly().await;
        assert_eq!(app.progress("anna").await.status(), status, "{time}");
    }
    let run_then = app.progress("anna").await;
    assert_eq!(run_then.skipped_actions[0].reason(), SkipReason::NotCompletedInTime);
    let (handed_over, expired) = (ExecutionOutcome::HandedOver, ExecutionOutcome::Expired);
    assert_eq!(outcomes(&app).await, [handed_over, expired]);
    let late = report(&app, &run, "call", TaskOutcome::Done).await;
    let status = refused(late, Code::FailedPrecondition, "TASK_NOT_WAITING", &[]);
    assert!(status.message().contains("it was not reported in time"), "{status:?}");
}

async fn a_task_may_be_complete_once_it_is_handed_over(backend: Backend) {
    let only = keyed(
        "call",
        action(1, 0, pb::Channel::Interaction, pb::ActionType::CreateTask, "C"),
    );
    let (app, _twilio, _crm, run) = started(backend, 1, vec![only]).await;
    app.hourly().await;
    assert_eq!(app.progress("anna").await.completed_actions.len(), 1);
    assert_eq!(outcomes(&app).await, [ExecutionOutcome::Completed]);
    let reported = report(&app, &run, "call", TaskOutcome::Done).await;
    refused(reported, Code::FailedPrecondition, "TASK_NOT_WAITING", &[]);
}

async fn the_first_report_counts(backend: Backend) {
    let (app, _twilio, _crm, run) = started(backend, 1, vec![task("call", 0, 48)]).await;
    app.hourly().await;
    let first = report(&app, &run, "call", TaskOutcome::NoAnswer)
        .await
        .expect("a report");
    let before = ledger(&app).await;
    for time in ["2026-01-05T13:00:00Z", "2026-01-09T00:00:00Z"] {
        app.set(time);
        app.hourly().await;
        let again = report(&app, &run, "call", TaskOutcome::NoAnswer)
            .await
            .expect("a report");
        assert!(!first.was_reported && again.was_reported);
        let other = report(&app, &run, "call", TaskOutcome::Done).await;
        let status = refused(other, Code::AlreadyExists, "TASK_ALREADY_REPORTED", &[]);
        assert_eq!(about(&status, "outcome"), "no_answer");
        assert_eq!(about(&status, "report_time"), "2026-01-05T12:00:00.000Z");
    }
    assert_eq!(ledger(&app).await, before);
}

async fn what_no_run_waits_for_is_refused(backend: Backend) {
    let actions = vec![
        task("call", 0, 48),
        task("later", 23, 48),
        keyed("text", sms(1, 1, "A")),
    ];
    let (app, _twilio, _crm, run) = started(backend, 1, actions).await;
    app.hourly().await;
    for (key, why) in [
        ("later", "it has not been handed over"),
        ("text", "it was complete once"),
    ] {
        let reported = report(&app, &run, key, TaskOutcome::Done).await;
        let status = refused(reported, Code::FailedPrecondition, "TASK_NOT_WAITING", &[]);
        assert!(status.message().contains(why), "{status:?}");
    }
    let unknown = report(&app, &run, "nothing", TaskOutcome::Done).await;
    let status = refused(unknown, Code::NotFound, "ACTION_NOT_FOUND", &[]);
    assert_eq!(about(&status, "action_key"), "nothing");
    let of_nobody = pb::Progress {
        progress_id: run.progress_id + 1,
        ..run.clone()
    };
    let reported = report(&app, &of_nobody, "call", TaskOutcome::Done).await;
    refused(reported, Code::NotFound, "RUN_NOT_FOUND", &[]);
    app.stop("anna", run.progress_id, "enough").await.expect("a run");
    let reported = report(&app, &run, "call", TaskOutcome::Done).await;
    let status = refused(reported, Code::FailedPrecondition, "TASK_NOT_WAITING", &[]);
    assert_eq!(about(&status, "status"), "stopped");
}

/// Two tasks are under way, one of which is taken and one is left without an answer, when both are reported: what is recorded
/// after that undoes neither, and neither is sent again.
async fn a_task_is_reported_while_it_is_sent(backend: Backend) {
    let (app, _, crm, run) = started(backend, 1, vec![task("call", 0, 48), task("visit", 1, 48)]).await;
    crm.behave_to("\"visit\"", Behaviour::Stall);
    let reports = async {
        while crm.requests().len() < 2 {
            tokio::task::yield_now().await;
        }
        for key in ["call", "visit"] {
            report(&app, &run, key, TaskOutcome::Done).await.expect("a report");
        }
        crm.hang_up().await;
    };
    tokio::join!(app.hourly(), reports);
    for hours in [0, 2, 72] {
        app.pass_hours(hours);
        app.hourly().await;
        let run = app.progress("anna").await;
        let done: Vec<_> = run
            .completed_actions
            .iter()
            .map(pb::CompletedAction::task_outcome)
            .collect();
        assert_eq!(done, [TaskOutcome::Done; 2], "{hours} h: {run:?}");
        assert!(
            run.failed_actions.is_empty() && run.deferred_actions.is_empty(),
            "{run:?}"
        );
    }
    assert_eq!(app.progress("anna").await.status(), ProgressStatus::Completed);
    assert_eq!(crm.requests().len(), 2);
    let told: Vec<_> = ledger(&app).await.iter().map(pb::Execution::outcome).collect();
    let (handed_over, retrying) = (ExecutionOutcome::HandedOver, ExecutionOutcome::Retrying);
    let completed = ExecutionOutcome::Completed;
    assert_eq!(told, [handed_over, completed, retrying, completed]);
}

async fn a_paused_run_takes_reports(backend: Backend) {
    let (app, _twilio, _crm, run) = started(backend, 1, vec![task("call", 0, 48), task("visit", 1, 48)]).await;
    app.hourly().await;
    app.pause("anna", run.progress_id, "later").await.expect("a run");
    app.set("2026-01-09T00:00:00Z");
    let reported = report(&app, &run, "call", TaskOutcome::Done).await.expect("a report");
    let progress = reported.progress.expect("a run");
    assert_eq!(
        (progress.status(), progress.completed_actions.len()),
        (ProgressStatus::Paused, 1)
    );
    app.hourly().await;
    assert_eq!(app.progress("anna").await.deferred_actions.len(), 1);
    // What is not reported is over once the run goes on.
    app.resume("anna", run.progress_id, "").await.expect("a run");
    app.hourly().await;
    let run = app.progress("anna").await;
    assert_eq!(run.completed_actions.len(), 1, "{run:?}");
    assert_eq!(run.skipped_actions[0].reason(), SkipReason::NotCompletedInTime);
}

async fn fields_are_checked(backend: Backend) {
    let app = App::start(backend).await;
    app.campaign("C").await;
    let bad = pb::CompleteInteractionRequest {
        customer_id: "?".to_owned(),
        note: "a\nb".to_owned(),
        ..Default::default()
    };
    let fields = ["customer_id", "progress_id", "action_key", "outcome", "note"];
    let response = app.orchestrator().complete_interaction(bad).await;
    refused(response, Code::InvalidArgument, "INVALID_FIELDS", &fields);
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let with = |within: i64, change: fn(&mut pb::ActionDefinition)| {
        let mut action = pb::ActionDefinition {
            completion_within: seconds(within),
            ..task("call", 0, 1)
        };
        change(&mut action);
        action
    };
    for (action, field) in [
        (with(59, |_| {}), "completion_within"),
        (with(90 * 86_400 + 1, |_| {}), "completion_within"),
        (with(60, |it| it.completion = 9), "completion"),
        (
            with(60, |it| it.completion = TaskCompletion::HandedOver.into()),
            "completion_within",
        ),
        (
            pb::ActionDefinition {
                completion: TaskCompletion::Reported.into(),
                ..sms(1, 0, "C")
            },
            "completion",
        ),
        (
            pb::ActionDefinition {
                completion_within: seconds(60),
                ..sms(1, 0, "C")
            },
            "completion_within",
        ),
    ] {
        let applied = app.apply(definition("hook", 1, vec![action]), "").await;
        let path = format!("timeline.actions[0].{field}");
        refused(applied, Code::InvalidArgument, "INVALID_FIELDS", &[&path]);
    }
    // What is not said is filled in.
    let plain = pb::ActionDefinition {
        completion: 0,
        completion_within: None,
        ..task("call", 0, 1)
    };
    let applied = app.timeline(definition("hook", 1, vec![plain])).await;
    let stored = &applied.definition.expect("a definition").actions[0];
    assert_eq!(stored.completion(), TaskCompletion::Reported);
    assert_eq!(stored.completion_within, seconds(7 * 86_400));
}
