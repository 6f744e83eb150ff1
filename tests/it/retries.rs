//! Trying again what failed for good: which actions, how many, and what becomes of them.

mod requests;

use campaign_automation::proto::campaign::v1 as pb;
use pb::ExecutionOutcome::{Completed, Failed, Unknown};
use pb::{FailureReason, FailureState};
use std::time::Duration;
use tonic::Status;

use crate::support::given::{definition, email, shown, sms, stamp};
use crate::support::mailing::{arrived, crowd, mailing_app, mailing_app_with, until_run};
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    what_failed_is_tried_again,
    attempts_go_on_counting,
    what_is_unknown_is_tried_again_only_when_asked_for,
    the_filter_decides_which,
    what_cannot_be_tried_again_is_counted,
    a_run_that_is_sending_is_left_alone,
    a_call_does_so_many_and_the_next_goes_on,
);

fn dead(outcomes: &[pb::ExecutionOutcome]) -> pb::RetryActionsRequest {
    let filter = pb::ExecutionFilter {
        outcomes: outcomes.iter().map(|outcome| (*outcome).into()).collect(),
        ..Default::default()
    };
    pb::RetryActionsRequest {
        filter: Some(filter),
        ..Default::default()
    }
}

fn all() -> pb::RetryActionsRequest {
    dead(&[Failed, Unknown])
}

async fn retry(app: &App, request: pb::RetryActionsRequest) -> Result<pb::RetryActionsResponse, Status> {
    let response = app.orchestrator().retry_actions(request).await;
    response.map(tonic::Response::into_inner)
}

fn retried(count: i64) -> pb::RetryActionsResponse {
    pb::RetryActionsResponse {
        retried_actions: count,
        ..Default::default()
    }
}

/// State, reason and attempts of the failures of a customer's run, in order of their keys.
async fn failures(app: &App, customer: &str) -> Vec<(String, FailureState, FailureReason, i32)> {
    let run = app.progress(customer).await;
    let mut failures: Vec<_> = run
        .failed_actions
        .iter()
        .map(|failed| {
            let key = failed.action.as_ref().expect("an action").key.clone();
            (key, failed.state(), failed.reason(), failed.attempts)
        })
        .collect();
    failures.sort();
    failures
}

/// A customer whose mail was refused for good at noon.
async fn one_failure(app: &App, smtp: &SmtpServer, id: &str, timeline: &pb::Timeline) -> pb::Progress {
    app.customer(id, "Etc/UTC").await;
    smtp.reply_to_rcpt(&format!("{id}@example.com"), "550 5.7.1 blocked by policy");
    let run = app.start_run(id, timeline).await;
    app.hourly().await;
    smtp.accept_all();
    run
}

async fn what_failed_is_tried_again(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let mut hook = definition("hook", 5, vec![email(1, 0, "A"), email(5, 0, "Z")]);
    hook.when_missed = pb::WhenMissed::CatchUp.into();
    let timeline = app.timeline(hook).await;
    one_failure(&app, &smtp, "anna", &timeline).await;

    // Two days later, long past its max_lateness.
    app.set("2026-01-07T12:30:00Z");
    app.daily().await;
    let request = pb::RetryActionsRequest {
        validate_only: true,
        ..all()
    };
    assert_eq!(retry(&app, request).await.expect("counts"), retried(1));
    let before = app.progress("anna").await;
    assert_eq!(
        before.failed_actions[0].state(),
        FailureState::Failed,
        "nothing was changed"
    );
    let request = pb::RetryActionsRequest {
        reason: "unblocked".to_owned(),
        ..all()
    };
    assert_eq!(retry(&app, request).await.expect("counts"), retried(1));
    let run = app.progress("anna").await;
    let failed = &run.failed_actions[0];
    assert_eq!(
        (failed.state(), failed.attempts, failed.retry_reason.as_str()),
        (FailureState::Retrying, 1, "unblocked")
    );
    assert_eq!(shown(failed.next_retry_time), "2026-01-07T12:30:00Z");
    let next = run.next_action.clone().expect("next");
    assert_eq!(
        (next.action.expect("an action").key, shown(next.due_time)),
        ("d1h0A".to_owned(), "2026-01-07T12:30:00Z".to_owned())
    );
    assert_eq!(retry(&app, all()).await.expect("counts"), retried(0), "it is pending");

    app.hourly().await;
    let run = app.progress("anna").await;
    assert_eq!(run.failed_actions, []);
    assert_eq!((run.completed_actions.len(), run.completed_actions[0].attempts), (1, 2));
    assert_eq!(
        arrived(&smtp)["anna@example.com"],
        [run.completed_actions[0].provider_id.clone()]
    );
    assert_eq!(retry(&app, all()).await.expect("counts"), retried(0), "it is done");
    let ledger = app
        .orchestrator()
        .list_executions(pb::ListExecutionsRequest::default())
        .await
        .expect("a page")
        .into_inner()
        .executions;
    let told: Vec<_> = ledger
        .iter()
        .map(|it| (it.attempt, it.outcome(), shown(it.due_time)))
        .collect();
    let expected = [
        (1, Failed, "2026-01-05T12:00:00Z".to_owned()),
        (2, Completed, "2026-01-07T12:30:00Z".to_owned()),
    ];
    assert_eq!(told, expected);
    app.server.shutdown().await.expect("stopped");
}

async fn attempts_go_on_counting(backend: Backend) {
    use FailureReason::{Rejected, Temporary};
    let smtp = SmtpServer::start().await;
    let app = mailing_app_with(backend, &smtp.url(), |config| config.retry_attempts = 3).await;
    let timeline = app.timeline(definition("hook", 5, vec![email(1, 0, "A")])).await;
    one_failure(&app, &smtp, "anna", &timeline).await;
    let key = || "d1h0A".to_owned();
    assert_eq!(
        failures(&app, "anna").await,
        [(key(), FailureState::Failed, Rejected, 1)]
    );

    // The policy has two attempts left, of which the first is this one.
    smtp.behave(Behaviour::Reply(Step::Rcpt, "451 4.3.0 come again"));
    retry(&app, all()).await.expect("counts");
    app.hourly().await;
    assert_eq!(
        failures(&app, "anna").await,
        [(key(), FailureState::Retrying, Temporary, 2)]
    );
    app.pass_hours(1);
    app.hourly().await;
    assert_eq!(
        failures(&app, "anna").await,
        [(key(), FailureState::Failed, Temporary, 3)]
    );

    // What counts is the last attempt, at 13:00, and the action counts once.
    let counted = |until: &str| {
        let mut request = pb::RetryActionsRequest {
            validate_only: true,
            ..all()
        };
        request.filter.as_mut().expect("a filter").finish_time_until = Some(stamp(until));
        request
    };
    for (until, count) in [("2026-01-05T13:00:00Z", 0), ("2026-01-05T13:00:01Z", 1)] {
        assert_eq!(
            retry(&app, counted(until)).await.expect("counts"),
            retried(count),
            "{until}"
        );
    }

    // It has none left, and each call makes one more.
    for attempts in [4, 5] {
        assert_eq!(retry(&app, all()).await.expect("counts"), retried(1));
        app.tick_hours(3).await;
        assert_eq!(
            failures(&app, "anna").await,
            [(key(), FailureState::Failed, Temporary, attempts)]
        );
    }
    smtp.accept_all();
    retry(&app, all()).await.expect("counts");
    app.hourly().await;
    assert_eq!(app.progress("anna").await.completed_actions[0].attempts, 6);
    app.server.shutdown().await.expect("stopped");
}

async fn what_is_unknown_is_tried_again_only_when_asked_for(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app_with(backend, &smtp.url(), |config| config.retry_attempts = 1).await;
    let timeline = app.timeline(definition("hook", 5, vec![email(1, 0, "A")])).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    smtp.behave(Behaviour::Drop(Step::Dot));
    app.hourly().await;
    smtp.accept_all();
    let unknown = FailureReason::OutcomeUnknown;
    let key = || "d1h0A".to_owned();
    assert_eq!(
        failures(&app, "anna").await,
        [(key(), FailureState::Unknown, unknown, 1)]
    );
    assert_eq!(retry(&app, dead(&[Failed])).await.expect("counts"), retried(0));
    assert_eq!(
        failures(&app, "anna").await,
        [(key(), FailureState::Unknown, unknown, 1)]
    );
    assert_eq!(retry(&app, dead(&[Unknown])).await.expect("counts"), retried(1));
    app.hourly().await;
    let run = app.progress("anna").await;
    assert_eq!(run.completed_actions[0].attempts, 2);
    // The server had it already, and knows it by its Message-ID.
    let id = run.completed_actions[0].provider_id.clone();
    assert_eq!(arrived(&smtp)["anna@example.com"], [id.clone(), id]);
    app.server.shutdown().await.expect("stopped");
}

/// An action that is pending again: its customer, its run and its key.
type Pending = (&'static str, i64, &'static str);

async fn the_filter_decides_which(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let two = vec![email(1, 0, "A"), email(1, 1, "B")];
    let hook = app.timeline(definition("hook", 5, two.clone())).await;
    let other = app.timeline(definition("other", 5, two)).await;
    smtp.behave(Behaviour::Reply(Step::Rcpt, "550 5.7.1 blocked by policy"));
    for id in ["anna", "bob"] {
        app.customer(id, "Etc/UTC").await;
    }
    let annas = app.start_run("anna", &hook).await.progress_id;
    let annas_other = app.start_run("anna", &other).await.progress_id;
    app.hourly().await;
    app.pass_hours(1);
    let bobs = app.start_run("bob", &hook).await.progress_id;
    app.hourly().await;

    let filter = |change: &dyn Fn(&mut pb::ExecutionFilter)| {
        let mut request = all();
        change(request.filter.as_mut().expect("a filter"));
        request
    };
    let cases: Vec<(pb::RetryActionsRequest, Vec<Pending>)> = vec![
        (
            filter(&|it| it.finish_time_from = Some(stamp("2026-01-05T13:00:00Z"))),
            vec![("bob", bobs, "d1h0A"), ("bob", bobs, "d1h1B")],
        ),
        (
            pb::RetryActionsRequest {
                action_keys: vec!["d1h1B".to_owned(), "unheard-of".to_owned()],
                ..filter(&|it| {
                    it.timeline_id = hook.timeline_id;
                    it.finish_time_until = Some(stamp("2026-01-05T13:00:00Z"));
                })
            },
            vec![("anna", annas, "d1h1B")],
        ),
        (
            filter(&|it| it.customer_id = "bob".to_owned()),
            vec![("bob", bobs, "d1h0A"), ("bob", bobs, "d1h1B")],
        ),
        (
            filter(&|it| {
                it.customer_id = "anna".to_owned();
                it.progress_id = annas_other;
            }),
            vec![("anna", annas_other, "d1h0A"), ("anna", annas_other, "d1h1B")],
        ),
        (
            filter(&|it| it.timeline_id = other.timeline_id),
            vec![("anna", annas_other, "d1h0A"), ("anna", annas_other, "d1h1B")],
        ),
        (
            pb::RetryActionsRequest {
                action_keys: vec!["unheard-of".to_owned()],
                ..all()
            },
            vec![],
        ),
        (filter(&|it| it.outcomes = vec![Unknown.into()]), vec![]),
    ];
    for (request, expected) in cases {
        let count = i64::try_from(expected.len()).expect("a count");
        let counts = retry(&app, request.clone()).await.expect("counts");
        assert_eq!(counts, retried(count), "{request:?}");
        let mut pending = Vec::new();
        for (customer, run) in [("anna", annas), ("anna", annas_other), ("bob", bobs)] {
            let mut keys: Vec<String> = app
                .get(customer, run)
                .await
                .expect("a run")
                .failed_actions
                .into_iter()
                .filter(|failed| failed.state() == FailureState::Retrying)
                .map(|failed| failed.action.expect("an action").key)
                .collect();
            keys.sort();
            pending.extend(keys.into_iter().map(|key| (customer, run, key)));
        }
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(customer, run, key)| (customer, run, key.to_owned()))
            .collect();
        assert_eq!(pending, expected, "{request:?}");
        // They fail again, at 13:00.
        app.hourly().await;
    }
    app.server.shutdown().await.expect("stopped");
}

async fn what_cannot_be_tried_again_is_counted(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let hook = app
        .timeline(definition("hook", 5, vec![email(1, 0, "A"), email(1, 1, "B")]))
        .await;
    smtp.behave(Behaviour::Reply(Step::Rcpt, "550 5.7.1 blocked by policy"));
    let mut runs = Vec::new();
    for id in ["anna", "bob", "carl"] {
        app.customer(id, "Etc/UTC").await;
        runs.push(app.start_run(id, &hook).await.progress_id);
    }
    app.hourly().await;
    app.stop("anna", runs[0], "gone").await.expect("stopped");
    app.pause("bob", runs[1], "on holiday").await.expect("paused");
    let mut without = hook.definition.clone().expect("a definition");
    without.actions.remove(1);
    app.apply(without, &hook.etag).await.expect("applied");
    let expected = pb::RetryActionsResponse {
        retried_actions: 2,
        ended_run_actions: 2,
        removed_actions: 2,
        ..Default::default()
    };
    for validate_only in [true, false] {
        let request = pb::RetryActionsRequest { validate_only, ..all() };
        assert_eq!(retry(&app, request).await.expect("counts"), expected);
    }
    let states = |failures: Vec<(String, FailureState, FailureReason, i32)>| -> Vec<_> {
        failures.into_iter().map(|(_, state, ..)| state).collect()
    };
    let (dead, retrying) = (FailureState::Failed, FailureState::Retrying);
    assert_eq!(states(failures(&app, "anna").await), [dead, dead]);
    assert_eq!(states(failures(&app, "bob").await), [retrying, dead]);
    assert_eq!(states(failures(&app, "carl").await), [retrying, dead]);

    // A paused run stays so, and goes on with it when it is resumed.
    smtp.accept_all();
    app.pass_hours(5);
    app.hourly().await;
    assert_eq!(app.progress("carl").await.completed_actions.len(), 1);
    let bob = app.progress("bob").await;
    assert_eq!(
        (bob.completed_actions.len(), bob.status_reason.as_str()),
        (0, "on holiday")
    );
    app.resume("bob", runs[1], "").await.expect("resumed");
    app.hourly().await;
    assert_eq!(app.progress("bob").await.completed_actions.len(), 1);
    app.server.shutdown().await.expect("stopped");
}

async fn a_run_that_is_sending_is_left_alone(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app_with(backend, &smtp.url(), |config| {
        config.send_timeout = Duration::from_secs(50);
    })
    .await;
    let hook = app
        .timeline(definition(
            "hook",
            5,
            vec![email(1, 0, "A"), email(1, 15, "B"), sms(1, 16, "C")],
        ))
        .await;
    one_failure(&app, &smtp, "anna", &hook).await;
    app.pass_hours(3);
    smtp.behave(Behaviour::Stall(Step::Dot));
    let ticking = {
        let mut ticks = app.ticks();
        tokio::spawn(async move {
            crate::support::app::hourly(&mut ticks, pb::ProcessCampaignTimelinesRequest::default()).await
        })
    };
    smtp.until_stalled(1).await;
    until_run(&app, "anna", |run| !run.in_flight_actions.is_empty()).await;
    let expected = pb::RetryActionsResponse {
        in_flight_actions: 1,
        ..Default::default()
    };
    for validate_only in [true, false] {
        let request = pb::RetryActionsRequest { validate_only, ..all() };
        assert_eq!(retry(&app, request).await.expect("counts"), expected);
    }
    smtp.accept_all();
    smtp.release();
    ticking.await.expect("a tick").expect("a summary");
    assert_eq!(retry(&app, all()).await.expect("counts"), retried(1), "a moment later");
    app.hourly().await;
    assert_eq!(app.progress("anna").await.completed_actions.len(), 2);
    app.server.shutdown().await.expect("stopped");
}

async fn a_call_does_so_many_and_the_next_goes_on(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let hook = app
        .timeline(definition("hook", 5, vec![email(1, 0, "A"), email(1, 1, "B")]))
        .await;
    smtp.behave(Behaviour::Reply(Step::Rcpt, "550 5.7.1 blocked by policy"));
    let ids = crowd(&app, &hook, "c", 4).await;
    app.hourly().await;
    smtp.accept_all();
    let most = |max_actions: i32| pb::RetryActionsRequest { max_actions, ..all() };
    let validated = pb::RetryActionsRequest {
        validate_only: true,
        ..most(3)
    };
    assert_eq!(retry(&app, validated).await.expect("counts"), retried(8), "all of them");
    for (count, has_more) in [(3, true), (3, true), (2, false), (0, false)] {
        let expected = pb::RetryActionsResponse {
            has_more,
            ..retried(count)
        };
        assert_eq!(retry(&app, most(3)).await.expect("counts"), expected);
    }
    app.hourly().await;
    for id in ids {
        assert_eq!(app.progress(&id).await.completed_actions.len(), 2, "{id}");
    }
    app.server.shutdown().await.expect("stopped");
}
