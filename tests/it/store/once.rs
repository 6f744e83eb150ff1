//! Requests and ticks that broke off, and their twins.

use campaign_automation::domain::{TickCounts, TickKind, TickSummary};
use campaign_automation::store::{Begun, EnteredTick, RequestKey};
use chrono::TimeDelta;

use super::{Ground, now};
use crate::support::{Backend, on_each_database};

on_each_database!(
    a_request_that_broke_off_is_new_again,
    twins_wait_for_the_answer,
    a_tick_that_broke_off_is_entered_again,
);

fn key(id: &str) -> RequestKey {
    RequestKey {
        customer_id: "anna".to_owned(),
        method: "StartTimeline",
        caller: "crm".to_owned(),
        request_id: id.to_owned(),
        hash: vec![1, 2, 3],
    }
}

async fn a_request_that_broke_off_is_new_again(backend: Backend) {
    let ground = Ground::new(backend).await;
    for _ in 0..3 {
        // Begun, and its server dies before it is committed.
        let txn = ground.store.begin().await.expect("a transaction");
        assert_eq!(txn.begin_request(&key("a"), now()).await.expect("begun"), Begun::New);
        txn.finish_request(&key("a"), b"lost".to_vec()).await.expect("finished");
    }
    let txn = ground.store.begin().await.expect("a transaction");
    assert_eq!(txn.begin_request(&key("a"), now()).await.expect("begun"), Begun::New);
    txn.finish_request(&key("a"), b"kept".to_vec()).await.expect("finished");
    txn.commit().await.expect("committed");
    let other = RequestKey {
        hash: vec![4],
        ..key("a")
    };
    for (key, expected) in [(key("a"), Begun::Answered(b"kept".to_vec())), (other, Begun::Reused)] {
        let txn = ground.store.begin().await.expect("a transaction");
        assert_eq!(txn.begin_request(&key, now()).await.expect("begun"), expected);
    }
}

async fn twins_wait_for_the_answer(backend: Backend) {
    let ground = Ground::new(backend).await;
    let twins = (0..16_u8).map(|number| {
        let store = ground.store.clone();
        tokio::spawn(async move {
            let txn = store.begin().await.expect("a transaction");
            match txn.begin_request(&key("a"), now()).await.expect("begun") {
                Begun::New => {
                    txn.finish_request(&key("a"), vec![number]).await.expect("finished");
                    txn.commit().await.expect("committed");
                    (true, vec![number])
                }
                Begun::Answered(answer) => (false, answer),
                Begun::Reused => panic!("the same request"),
            }
        })
    });
    let mut answers = Vec::new();
    for twin in twins.collect::<Vec<_>>() {
        answers.push(twin.await.expect("a twin"));
    }
    assert_eq!(answers.iter().filter(|(is_new, _)| *is_new).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|(_, answer)| *answer == answers[0].1), "{answers:?}");
}

async fn a_tick_that_broke_off_is_entered_again(backend: Backend) {
    let ground = Ground::new(backend).await;
    let enter = async |kind, name: &str| {
        let txn = ground.store.begin().await.expect("a transaction");
        let entered = txn.enter_tick(kind, "ticks", name, now()).await.expect("entered");
        txn.commit().await.expect("committed");
        entered
    };
    let first = enter(TickKind::Process, "noon").await;
    let EnteredTick::Entered(id) = first.clone() else {
        panic!("{first:?}")
    };
    // Its server died; and then one more, which could say why it broke off.
    assert_eq!(enter(TickKind::Process, "noon").await, first);
    let other = enter(TickKind::Advance, "noon").await;
    assert!(matches!(other, EnteredTick::Entered(other) if other != id), "{other:?}");
    let mut counts = TickCounts::default();
    counts.channel(campaign_automation::domain::Channel::Email).completed = 3;
    let summary = TickSummary {
        kind: TickKind::Process,
        tick_id: "noon".to_owned(),
        started_at: now(),
        finished_at: Some(now() + TimeDelta::seconds(3)),
        counts,
        has_more: true,
        next_due_at: Some(now()),
        oldest_due_at: None,
        sending_holds: Vec::new(),
        circuits: Vec::new(),
        dry_run: false,
    };
    let finish = async |error| {
        let txn = ground.store.begin().await.expect("a transaction");
        txn.finish_tick(id, &summary, error).await.expect("finished");
        txn.commit().await.expect("committed");
    };
    finish(Some("the disk was full")).await;
    assert_eq!(enter(TickKind::Process, "noon").await, first, "it goes on");
    finish(None).await;
    for _ in 0..2 {
        let again = enter(TickKind::Process, "noon").await;
        assert_eq!(again, EnteredTick::Finished(Box::new(summary.clone())));
    }
    assert_eq!(enter(TickKind::Advance, "noon").await, other);
}
