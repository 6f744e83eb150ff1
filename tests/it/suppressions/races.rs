//! A suppression that is stored while a claim is being made: whichever comes second waits for the first, or passes it by.
//!
//! On `PostgreSQL` each of the two is stopped here in the middle of its transaction; `SQLite` has one writer at a time, so that there
//! is nothing to stop.

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::sending_service_client::SendingServiceClient;

use super::address;
use crate::holds::races::Gate;
use crate::support::app::hourly;
use crate::support::calls::completed;
use crate::support::given::{definition, email};
use crate::support::mailing::crowd;
use crate::support::{App, Backend, postgres_url};

/// Two customers to whom a mail is due.
async fn due() -> (App, Vec<String>) {
    let app = App::start(Backend::Postgres).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    let ids = crowd(&app, &timeline, "c", 2).await;
    (app, ids)
}

fn first() -> pb::SuppressRecipientRequest {
    address(pb::Channel::Email, "c0000@example.com")
}

/// The claim has read that nobody is suppressed, and has not committed: until it has, nobody is told that somebody is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suppression_waits_for_a_claim_that_does_not_know_of_it() {
    if postgres_url().is_none() {
        return;
    }
    let (app, ids) = due().await;
    let (second, channel) = app.second_server().await;
    let gate = Gate::shut(&app, "customer_timeline_progress").await;
    let mut client = app.ticks();
    let ticking =
        tokio::spawn(async move { hourly(&mut client, pb::ProcessCampaignTimelinesRequest::default()).await });
    gate.until_blocked(1).await;
    let mut client = SendingServiceClient::new(channel);
    let mut suppressing = tokio::spawn(async move { client.suppress_recipient(first()).await });
    tokio::select! {
        () = gate.until_blocked(2) => {}
        answer = &mut suppressing => panic!("{answer:?}, and a claim may commit that does not know of it"),
    }
    gate.open().await;
    suppressing.await.expect("a task").expect("a suppression");
    ticking.await.expect("a task").expect("a summary");
    app.hourly().await;
    // What was claimed before went within two seconds, or came back and was decided anew.
    let run = app.progress(&ids[0]).await;
    assert_eq!(completed(&run).len() + run.skipped_actions.len(), 1, "{run:?}");
    assert_eq!(app.sent_count(), 1 + completed(&run).len());
    second.shutdown().await.expect("stopped");
    app.server.shutdown().await.expect("stopped");
}

/// The suppression is written, and not committed: a tick leaves the run alone, a call waits, and then both know of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_does_not_pass_a_suppression_that_is_being_stored() {
    if postgres_url().is_none() {
        return;
    }
    for by_call in [false, true] {
        let (app, ids) = due().await;
        let gate = Gate::shut(&app, "suppressions").await;
        let (second, channel) = app.second_server().await;
        let mut client = SendingServiceClient::new(channel);
        let suppressing = tokio::spawn(async move { client.suppress_recipient(first()).await });
        gate.until_blocked(1).await;
        if by_call {
            let calling = async { drop(app.execute(&ids[0]).await) };
            tokio::pin!(calling);
            tokio::select! {
                () = gate.until_blocked(2) => {}
                () = &mut calling => panic!("claimed while a suppression is being stored: {:?}", app.sent()),
            }
            gate.open().await;
            calling.await;
        } else {
            let opening = async {
                while app.sent_count() < 1 {
                    tokio::task::yield_now().await;
                }
                gate.open().await;
            };
            tokio::join!(app.hourly(), opening);
        }
        suppressing.await.expect("a task").expect("a suppression");
        app.hourly().await;
        assert_eq!(app.sent_count(), 1, "the other's");
        let skipped = &app.progress(&ids[0]).await.skipped_actions;
        assert_eq!(skipped[0].reason(), pb::SkipReason::Suppressed);
        second.shutdown().await.expect("stopped");
        app.server.shutdown().await.expect("stopped");
    }
}
