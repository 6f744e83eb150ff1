//! Attempts of which nobody knew what came: a report tells.

use campaign_automation::proto::campaign::v1 as pb;

use super::{app, call, ledger, lose_answers, place, report, report_code, start};
use crate::support::given::{customer, definition, shown, sms};
use crate::support::http::{HttpServer, sid};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    any_order_of_reports_ends_alike,
    a_report_tells_what_came_of_it_whatever_became_of_the_run,
    what_waits_to_be_tried_again_is_not_when_it_had_arrived,
    an_attempt_that_failed_for_good_leaves_the_others_to_tell,
);

/// All orders of some words.
fn orders<'a>(words: &[&'a str]) -> Vec<Vec<&'a str>> {
    if words.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for at in 0..words.len() {
        let mut rest = words.to_vec();
        let first = rest.remove(at);
        all.extend(orders(&rest).into_iter().map(|order| [vec![first], order].concat()));
    }
    all
}

/// What is shown of a customer's only action, without what is the customer's own.
async fn seen(app: &App, customer: &str) -> String {
    let request = pb::ListExecutionsRequest {
        filter: Some(pb::ExecutionFilter {
            customer_id: customer.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let listed = app.orchestrator().list_executions(request).await.expect("a ledger");
    let mut executions = listed.into_inner().executions;
    for execution in &mut executions {
        (execution.customer_id, execution.progress_id) = (String::new(), 0);
    }
    let run = app.progress(customer).await;
    format!("{executions:?} {:?} {:?}", run.completed_actions, run.failed_actions)
}

async fn any_order_of_reports_ends_alike(backend: Backend) {
    use pb::ExecutionOutcome::{Completed, Failed};
    for (words, is_known, expected) in [
        (&["queued", "sent", "delivered", "made-up"][..], true, Completed),
        (&["queued", "sent", "undelivered", "made-up"], true, Completed),
        (&["queued", "sent", "delivered", "sent"], false, Completed),
        (&["queued", "sent", "undelivered", "made-up"], false, Failed),
        (&["failed", "delivered", "canceled"], false, Completed),
    ] {
        let twilio = HttpServer::twilio().await;
        let app = app(backend, &twilio).await;
        let timeline = app.timeline(definition("hook", 1, vec![sms(1, 0, "A")])).await;
        let orders = orders(words);
        for at in 0..orders.len() {
            let name = format!("c{at}");
            let mut customer = customer(&name, "Etc/UTC");
            customer.display_name = format!("<{name}>");
            app.put_customer(customer).await;
            app.start_run(&name, &timeline).await;
        }
        if !is_known {
            lose_answers(&twilio);
        }
        app.hourly().await;
        let requests = twilio.requests();
        assert_eq!(requests.len(), orders.len());
        let mut ends = Vec::new();
        for (at, order) in orders.iter().enumerate() {
            let of_customer = |body: &str| body == format!("Hi <c{at}>");
            let request = requests.iter().find(|request| of_customer(&request.parameter("Body")));
            let place = place(request.expect("a request"));
            for word in order {
                report_code(&app, &place, word, if *word == "undelivered" { "30003" } else { "" }).await;
            }
            let end = seen(&app, &format!("c{at}")).await;
            ends.push(if is_known { without_id(&end) } else { end });
        }
        for (end, order) in ends.iter().zip(&orders) {
            assert_eq!(end, &ends[0], "{order:?} and {:?}", orders[0]);
        }
        for execution in ledger(&app).await {
            assert_eq!(execution.outcome(), expected, "{words:?}");
            assert_eq!(execution.resolve_time.is_some(), !is_known, "{words:?}");
        }
        app.server.shutdown().await.expect("stopped");
    }
}

/// Without the ids that the provider gave, each another.
fn without_id(seen: &str) -> String {
    let mut parts = seen.split("provider_id: \"SM");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.get(32..).unwrap_or_default())
}

async fn a_report_tells_what_came_of_it_whatever_became_of_the_run(backend: Backend) {
    use pb::ExecutionOutcome::{Completed, Failed};
    for end in ["active", "paused", "stopped"] {
        let twilio = HttpServer::twilio().await;
        let app = app(backend, &twilio).await;
        let run = start(
            &app,
            vec![sms(1, 0, "A"), sms(1, 1, "A"), call(2), call(3), sms(1, 23, "A")],
        )
        .await;
        lose_answers(&twilio);
        app.hourly().await;
        let places: Vec<String> = twilio.requests().iter().map(place).collect();
        assert_eq!(places.len(), 4);
        match end {
            "paused" => _ = app.pause("anna", run.progress_id, "").await.expect("paused"),
            "stopped" => _ = app.stop("anna", run.progress_id, "").await.expect("stopped"),
            _ => {}
        }
        let before = app.progress("anna").await;
        assert_eq!(before.failed_actions.len(), 4, "{before:?}");
        app.set("2026-01-05T12:10:00Z");
        report(&app, &places[0], "sent").await;
        report_code(&app, &places[1], "undelivered", "30006").await;
        report(&app, &places[2], "busy").await;
        report(&app, &places[3], "failed").await;

        let after = app.progress("anna").await;
        assert_eq!(after.status(), before.status());
        assert_eq!(after.next_action, before.next_action);
        let keys = after.completed_actions.iter();
        let keys: Vec<_> = keys
            .map(|done| {
                (
                    done.action.as_ref().expect("an action").key.as_str(),
                    done.provider_status.as_str(),
                )
            })
            .collect();
        assert_eq!(keys, [("d1h0A", "sent"), ("d1h2B", "busy")], "{end}");
        let failed = after.failed_actions.iter();
        let failed: Vec<_> = failed
            .map(|failed| {
                (
                    failed.state(),
                    failed.reason(),
                    failed.error.as_str(),
                    failed.provider_error_code.as_str(),
                )
            })
            .collect();
        let (state, reason) = (pb::FailureState::Failed, pb::FailureReason::Rejected);
        assert_eq!(
            failed,
            [
                (state, reason, "the provider reports: undelivered, error 30006", "30006"),
                (state, reason, "the provider reports: failed", ""),
            ],
            "{end}"
        );
        let executions = ledger(&app).await;
        let outcomes: Vec<_> = executions.iter().map(pb::Execution::outcome).collect();
        assert_eq!(outcomes, [Completed, Failed, Completed, Failed]);
        for execution in &executions {
            assert_eq!(shown(execution.resolve_time), "2026-01-05T12:10:00Z");
            assert!(
                [sid("SM", 77), sid("CA", 77)].contains(&execution.provider_id),
                "{execution:?}"
            );
        }
        assert_eq!(executions[0].failure_reason(), pb::FailureReason::Unspecified);
        assert_eq!(executions[0].detail, "");
        app.hourly().await;
        assert_eq!(twilio.requests().len(), 4, "nothing goes again");
        app.server.shutdown().await.expect("stopped");
    }
}

async fn retry(app: &App) -> i64 {
    let request = pb::RetryActionsRequest {
        filter: Some(pb::ExecutionFilter {
            customer_id: "anna".to_owned(),
            outcomes: vec![
                pb::ExecutionOutcome::Unknown.into(),
                pb::ExecutionOutcome::Failed.into(),
            ],
            ..Default::default()
        }),
        reason: "because".to_owned(),
        ..Default::default()
    };
    let response = app.orchestrator().retry_actions(request).await.expect("a response");
    response.into_inner().retried_actions
}

async fn what_waits_to_be_tried_again_is_not_when_it_had_arrived(backend: Backend) {
    let twilio = HttpServer::twilio().await;
    let app = app(backend, &twilio).await;
    start(&app, vec![sms(1, 0, "A"), sms(1, 1, "A")]).await;
    lose_answers(&twilio);
    app.hourly().await;
    let places: Vec<String> = twilio.requests().iter().map(place).collect();
    assert_eq!(retry(&app).await, 2);
    twilio.accept_all();
    report(&app, &places[0], "delivered").await;
    report(&app, &places[1], "failed").await;
    app.hourly().await;
    let requests = twilio.requests();
    assert_eq!(requests.len(), 3, "the one that failed");
    assert!(
        !places.contains(&place(&requests[2])),
        "each attempt reports for itself"
    );
    let run = app.progress("anna").await;
    assert_eq!(
        (run.completed_actions.len(), run.failed_actions.len()),
        (2, 0),
        "{run:?}"
    );
    assert_eq!(retry(&app).await, 0);
    app.server.shutdown().await.expect("stopped");
}

async fn an_attempt_that_failed_for_good_leaves_the_others_to_tell(backend: Backend) {
    use pb::ExecutionOutcome::{Completed, Failed, Unknown};
    for (told, expected) in [("undelivered", [Failed, Failed]), ("delivered", [Completed, Failed])] {
        let twilio = HttpServer::twilio().await;
        let app = app(backend, &twilio).await;
        start(&app, vec![sms(1, 0, "A")]).await;
        lose_answers(&twilio);
        app.hourly().await;
        let place = place(&twilio.requests()[0]);
        assert_eq!(retry(&app).await, 1);
        twilio.behave(crate::support::http::twilio_error(400, 21614, "no mobile"));
        app.hourly().await;
        let outcomes = async || {
            let ledger = ledger(&app).await;
            ledger.iter().map(pb::Execution::outcome).collect::<Vec<_>>()
        };
        assert_eq!(outcomes().await, [Unknown, Unknown], "the first may have arrived");
        report(&app, &place, told).await;
        assert_eq!(outcomes().await, expected);
        let run = app.progress("anna").await;
        let failed: Vec<_> = run.failed_actions.iter().map(pb::FailedAction::state).collect();
        if told == "delivered" {
            assert_eq!(failed, []);
            assert_eq!(run.completed_actions.len(), 1);
        } else {
            assert_eq!(failed, [pb::FailureState::Failed]);
            assert!(run.failed_actions[0].error.contains("21614"), "{run:?}");
        }
        app.server.shutdown().await.expect("stopped");
    }
}
