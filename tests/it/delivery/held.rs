//! Reports on runs that somebody holds: kept until they are given free, and never lost.

use campaign_automation::proto::campaign::v1 as pb;

use super::{app, kept, ledger, lose_answers, place, report, start, store};
use crate::support::app::hourly;
use crate::support::given::sms;
use crate::support::http::{Behaviour, HttpServer};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_report_during_the_send_is_found_when_it_is_recorded,
    a_report_on_another_message_waits_for_the_one_that_is_sent,
    what_nobody_recorded_is_taken_up_by_the_next_tick,
);

/// Waits until so many requests came.
async fn asked(twilio: &HttpServer, count: usize) {
    while twilio.requests().len() < count {
        tokio::task::yield_now().await;
    }
}

/// Does something while a tick waits for the provider's answer, and then cuts the tick's connection to it.
async fn meanwhile(app: &App, twilio: &HttpServer, requests: usize, during: impl AsyncFnOnce()) {
    twilio.behave(Behaviour::Stall);
    let mut ticks = app.ticks();
    let tick = async { hourly(&mut ticks, pb::ProcessCampaignTimelinesRequest::default()).await };
    let during = async {
        asked(twilio, requests).await;
        during().await;
        twilio.hang_up().await;
    };
    let (summary, ()) = tokio::join!(tick, during);
    summary.expect("a summary");
}

async fn a_report_during_the_send_is_found_when_it_is_recorded(backend: Backend) {
    use pb::ExecutionOutcome::{Completed, Failed};
    for (words, expected) in [
        (&["sent"][..], Completed),
        (&["failed"], Failed),
        (&["delivered", "sent", "sent"], Completed),
    ] {
        let twilio = HttpServer::twilio().await;
        let app = app(backend, &twilio).await;
        start(&app, vec![sms(1, 0, "A")]).await;
        meanwhile(&app, &twilio, 1, async || {
            for word in words {
                report(&app, &place(&twilio.requests()[0]), word).await;
            }
            assert_eq!(kept(&app, backend).await, 1);
            assert_eq!(ledger(&app).await, []);
        })
        .await;
        let [execution] = &ledger(&app).await[..] else {
            panic!("one attempt")
        };
        assert_eq!(execution.outcome(), expected, "{execution:?}");
        assert_eq!(execution.provider_status, words[0]);
        let run = app.progress("anna").await;
        let done = (run.completed_actions.len(), run.failed_actions.len());
        assert_eq!(done, if expected == Completed { (1, 0) } else { (0, 1) });
        assert_eq!(kept(&app, backend).await, 0);
        app.server.shutdown().await.expect("stopped");
    }
}

async fn a_report_on_another_message_waits_for_the_one_that_is_sent(backend: Backend) {
    let twilio = HttpServer::twilio().await;
    let app = app(backend, &twilio).await;
    start(&app, vec![sms(1, 0, "A"), sms(1, 13, "A")]).await;
    lose_answers(&twilio);
    app.hourly().await;
    app.set("2026-01-05T13:30:00Z");
    meanwhile(&app, &twilio, 2, async || {
        report(&app, &place(&twilio.requests()[0]), "delivered").await;
        assert_eq!(kept(&app, backend).await, 1);
    })
    .await;
    let outcomes: Vec<_> = ledger(&app).await.iter().map(pb::Execution::outcome).collect();
    assert_eq!(
        outcomes,
        [pb::ExecutionOutcome::Completed, pb::ExecutionOutcome::Unknown]
    );
    let run = app.progress("anna").await;
    assert_eq!(
        (run.completed_actions.len(), run.failed_actions.len()),
        (1, 1),
        "{run:?}"
    );
    assert_eq!(kept(&app, backend).await, 0);
    app.server.shutdown().await.expect("stopped");
}

async fn what_nobody_recorded_is_taken_up_by_the_next_tick(backend: Backend) {
    let twilio = HttpServer::twilio().await;
    let app = app(backend, &twilio).await;
    start(&app, vec![sms(1, 0, "A")]).await;
    lose_answers(&twilio);
    app.hourly().await;
    // As if the server that sent it had died, and a tick had found that out without having anything to send.
    let keep = "insert into delivery_reports select customer_id, progress_id, action_id, attempt, 'sent', null, finished_at, 'SM9' \
                from action_executions";
    store(&app, keep).await;
    let gone = "insert into delivery_reports select 'berta', 99, action_id, attempt, 'sent', null, finished_at, 'SM9' \
                from action_executions";
    store(&app, gone).await;
    app.hourly().await;
    let [execution] = &ledger(&app).await[..] else {
        panic!("one attempt")
    };
    assert_eq!(execution.outcome(), pb::ExecutionOutcome::Completed);
    assert_eq!(execution.provider_id, "SM9");
    assert_eq!(app.progress("anna").await.completed_actions.len(), 1);
    assert_eq!(kept(&app, backend).await, 0);
    app.server.shutdown().await.expect("stopped");
}
