//! Whose turn it is to run the ticks of the built-in schedule.

use campaign_automation::domain::Timestamp;
use campaign_automation::store::ScheduleTurn;
use chrono::TimeDelta;
use uuid::Uuid;

use super::{Ground, now};
use crate::support::{Backend, on_each_database};

on_each_database!(one_server_at_a_time_has_the_turn);

const A: Uuid = Uuid::from_u128(1);
const B: Uuid = Uuid::from_u128(2);

fn minute(minute: i64) -> Timestamp {
    now() + TimeDelta::minutes(minute)
}

/// Asks for the turn of the ticks of a minute, at another minute, for a minute.
async fn take(ground: &Ground, holder: Uuid, slot: i64, at: i64) -> ScheduleTurn {
    let txn = ground.store.begin().await.expect("a transaction");
    let turn = txn
        .take_schedule(holder, minute(slot), minute(at), minute(at + 1))
        .await
        .expect("an answer");
    txn.commit().await.expect("committed");
    turn
}

async fn keep(ground: &Ground, holder: Uuid, until: i64) -> bool {
    let txn = ground.store.begin().await.expect("a transaction");
    let is_kept = txn.keep_schedule(holder, minute(until)).await.expect("an answer");
    txn.commit().await.expect("committed");
    is_kept
}

async fn leave(ground: &Ground, holder: Uuid, done: Option<i64>) {
    let txn = ground.store.begin().await.expect("a transaction");
    let left = txn.leave_schedule(holder, done.map(minute)).await;
    left.expect("left");
    txn.commit().await.expect("committed");
}

async fn one_server_at_a_time_has_the_turn(backend: Backend) {
    use ScheduleTurn::{Done, Held, Taken};
    let ground = Ground::new(backend).await;
    assert_eq!(take(&ground, A, 0, 0).await, Taken);
    assert_eq!(take(&ground, B, 0, 0).await, Held);
    assert_eq!(take(&ground, A, 0, 0).await, Taken, "who has it may ask again");
    assert!(keep(&ground, A, 3).await);
    assert!(!keep(&ground, B, 9).await, "it is not B's");
    assert_eq!(take(&ground, B, 0, 2).await, Held, "it was prolonged");

    // A died, and comes back.
    assert_eq!(take(&ground, B, 0, 3).await, Taken);
    assert!(!keep(&ground, A, 9).await);
    leave(&ground, A, Some(0)).await;
    assert_eq!(take(&ground, A, 0, 3).await, Held, "A had nothing to give up");

    // B is told to stop before it is done, and A goes on.
    leave(&ground, B, None).await;
    assert_eq!(take(&ground, A, 0, 3).await, Taken);
    leave(&ground, A, Some(0)).await;
    assert_eq!(
        (take(&ground, A, 0, 3).await, take(&ground, B, 0, 3).await),
        (Done, Done)
    );
    assert_eq!(take(&ground, B, 15, 15).await, Taken);
    leave(&ground, B, None).await;
    assert_eq!(take(&ground, A, 0, 17).await, Done, "what is done stays so");
}
