//! Outcomes and the leases under which they are recorded.

use campaign_automation::domain::{ActionId, Run, Status};
use campaign_automation::store::{Before, Completion, Landed, Unrecorded};
use chrono::TimeDelta;
use std::collections::HashMap;

use super::{Ground, leased, now};
use crate::support::{Backend, on_each_database};

on_each_database!(
    an_outcome_counts_under_its_lease_and_once,
    an_outcome_of_a_run_that_was_frozen_leaves_it_in_its_place,
    an_outcome_of_a_run_that_is_gone_recreates_nothing,
);

/// The run with an action done, and a day further on.
fn done(run: &Run, token: i64, action: i64) -> Completion {
    let mut served = run.clone();
    served.lease = None;
    served.completed.push(ActionId(action));
    served.current_day += 1;
    served.next_action_at = None;
    Completion::new(Before::of(run, 1), token, run, served)
}

async fn complete(ground: &Ground, completion: &Completion) -> HashMap<i64, Landed> {
    let txn = ground.store.begin().await.expect("a transaction");
    let landed = txn.complete(&[completion], now()).await.expect("recorded");
    txn.commit().await.expect("committed");
    landed.into_iter().map(|(id, landed)| (id.0, landed)).collect()
}

async fn why(ground: &Ground, run: &Run) -> Unrecorded {
    let txn = ground.store.begin().await.expect("a transaction");
    txn.why_unrecorded(&run.customer_id, run.id).await.expect("a reason")
}

/// oban#532: the first worker's outcome comes after the second's, and must not overwrite it.
async fn an_outcome_counts_under_its_lease_and_once(backend: Backend) {
    let ground = Ground::new(backend).await;
    ground.runs("c", 1, "n").await;
    let run = ground.run("c00001").await;
    assert_eq!(ground.claim(&[leased(&run, 1, now())], now()).await, [run.id.0]);
    let claimed = ground.run("c00001").await;
    for token in [2, 0, -1, i64::MAX] {
        assert!(complete(&ground, &done(&claimed, token, 1)).await.is_empty(), "{token}");
        assert_eq!(ground.run("c00001").await, claimed, "{token}");
    }

    // The lease ends, and somebody else takes over.
    let over = now() + TimeDelta::minutes(2);
    assert_eq!(ground.claim(&[leased(&claimed, 2, over)], over).await, [run.id.0]);
    let taken = ground.run("c00001").await;
    assert!(complete(&ground, &done(&claimed, 1, 1)).await.is_empty());
    assert_eq!(ground.run("c00001").await, taken, "while the second is sending");
    assert_eq!(why(&ground, &run).await, Unrecorded::TakenOver);

    let landed = complete(&ground, &done(&taken, 2, 2)).await;
    let expected = Landed {
        as_planned: true,
        is_due: false,
    };
    assert_eq!(landed, HashMap::from([(run.id.0, expected)]));
    let ended = ground.run("c00001").await;
    assert_eq!(
        (ended.completed.as_slice(), ended.lease, ended.current_day),
        (&[ActionId(2)][..], None, 2)
    );
    for (token, action) in [(1, 1), (2, 2)] {
        assert!(
            complete(&ground, &done(&taken, token, action)).await.is_empty(),
            "{token}"
        );
        assert_eq!(ground.run("c00001").await, ended, "{token}: after the second has ended");
    }
}

async fn an_outcome_of_a_run_that_was_frozen_leaves_it_in_its_place(backend: Backend) {
    let ground = Ground::new(backend).await;
    ground.runs("c", 2, "n").await;
    for (name, status) in [("c00001", Status::Paused), ("c00002", Status::Stopped)] {
        let run = ground.run(name).await;
        ground.claim(&[leased(&run, 1, now())], now()).await;
        let mut frozen = ground.run(name).await;
        frozen.status = status;
        frozen.next_action_at = None;
        let txn = ground.store.begin().await.expect("a transaction");
        txn.update_run(&frozen).await.expect("frozen");
        txn.commit().await.expect("committed");
        let landed = complete(&ground, &done(&run, 1, 1)).await;
        assert!(!landed[&run.id.0].as_planned && !landed[&run.id.0].is_due, "{landed:?}");
        let stored = ground.store.reader().run(&run.customer_id, run.id).await;
        let stored = stored.expect("a run").expect("a run");
        assert_eq!(
            (stored.status, stored.current_day, stored.lease),
            (status, 1, None),
            "{name}"
        );
        assert_eq!(stored.completed, [ActionId(1)], "{name}: what was sent is known");
    }
}

async fn an_outcome_of_a_run_that_is_gone_recreates_nothing(backend: Backend) {
    use sea_orm::ConnectionTrait as _;
    let ground = Ground::new(backend).await;
    ground.runs("c", 1, "n").await;
    let run = ground.run("c00001").await;
    ground.claim(&[leased(&run, 1, now())], now()).await;
    let erased = ground
        .sql
        .execute_unprepared("delete from customer_timeline_progress")
        .await;
    erased.expect("erased");
    assert!(complete(&ground, &done(&run, 1, 1)).await.is_empty());
    assert_eq!(why(&ground, &run).await, Unrecorded::Gone);
    assert_eq!(
        ground.store.reader().live_runs(&run.customer_id).await.expect("runs"),
        []
    );
}
