//! Whatever planning and sending make of a run is stored, much or little, together with others.

use campaign_automation::domain::{
    ActionId, Channel, DeferReason, Deferred, Failed, FailureReason, FailureState, InFlight, Run, SkipReason, Skipped,
    Status,
};
use campaign_automation::store::{Before, Claim, Completion};
use chrono::TimeDelta;
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};

use super::{Ground, leased, now};
use crate::support::{Backend, on_each_database};

on_each_database!(
    a_run_is_stored_as_it_was_planned,
    who_waits_to_record_a_run_holds_none_behind_it,
);

/// What is made of a run.
type Change = fn(&mut Run);

/// One for each field that planning or sending writes, and those that most write together.
const CHANGES: &[(&str, Change)] = &[
    ("nothing", |_| {}),
    ("next_action_at", |run| run.next_action_at = None),
    ("in_flight", |run| run.in_flight.push(in_flight())),
    ("completed", |run| run.completed.push(ActionId(1))),
    ("sent", |run| {
        run.completed.push(ActionId(7));
        run.in_flight.clear();
        run.next_action_at = Some(now() + TimeDelta::days(1));
    }),
    ("skipped", |run| {
        run.skipped.push(Skipped {
            id: ActionId(2),
            reason: SkipReason::Condition,
        });
    }),
    ("failed", |run| {
        run.failed.push(Failed {
            id: ActionId(3),
            attempts: 1,
            state: FailureState::Failed,
            reason: FailureReason::Temporary,
            error: "451 later".to_owned(),
            due: now(),
            since: now(),
            at: now(),
            may_have_arrived: false,
            retry_reason: String::new(),
        });
    }),
    ("deferred", |run| {
        run.deferred.push(Deferred {
            id: ActionId(4),
            until: now() + TimeDelta::hours(1),
            reason: DeferReason::WaitingForAction,
            due: now(),
            late_by_ms: 0,
            attempts: 0,
            may_have_arrived: false,
        });
    }),
    ("jumped_days", |run| run.jumped_days.push((1, 3))),
    ("last_late", |run| _ = run.last_late.insert(Channel::Email, now())),
    ("current_day", |run| run.current_day += 1),
    ("day_date", |run| run.day_date += TimeDelta::days(1)),
    ("day_started_at", |run| run.day_started_at += TimeDelta::days(1)),
    ("day_shifted_at", |run| run.day_shifted_at = Some(now())),
    ("shifted_days", |run| run.shifted_days += 1),
    ("ended_at", |run| {
        run.status = Status::Completed;
        run.ended_at = Some(now());
        run.next_action_at = None;
    }),
];

/// What a claim alone writes.
const OF_CLAIMS: (&str, Change) = ("not_before", |run| run.not_before += TimeDelta::hours(1));

fn in_flight() -> InFlight {
    InFlight {
        id: ActionId(5),
        attempt: 1,
        due: now(),
        since: now(),
    }
}

/// The stored run, but for when it was changed.
async fn stored(ground: &Ground, run: &Run) -> Run {
    let stored = ground.store.reader().run(&run.customer_id, run.id).await;
    Run {
        updated_at: run.updated_at,
        ..stored.expect("a run").expect("a run")
    }
}

async fn a_run_is_stored_as_it_was_planned(backend: Backend) {
    let ground = Ground::new(backend).await;
    let changes: Vec<(&str, Change)> = CHANGES.iter().copied().chain([OF_CLAIMS]).collect();
    ground.runs("c", changes.len(), "n").await;
    let mut planned = Vec::new();
    for (n, (_, change)) in (1..).zip(&changes) {
        let run = ground.run(&format!("c{n:05}")).await;
        let mut claim = leased(&run, n, now());
        change(&mut claim.run);
        planned.push(Claim::new(&run, claim.run, 1));
    }
    assert_eq!(ground.claim(&planned, now()).await.len(), planned.len());
    for ((name, _), claim) in changes.iter().zip(&planned) {
        assert_eq!(
            stored(&ground, &claim.run).await,
            claim.run,
            "{name}, when it is claimed"
        );
    }

    // What comes of sends: each other change to what was claimed with one.
    let mut served = Vec::new();
    for (claim, (_, change)) in planned.iter().zip(CHANGES.iter().rev()) {
        if claim.run.status != Status::Active {
            continue;
        }
        let mut run = claim.run.clone();
        let token = run.lease.take().expect("a lease").token;
        change(&mut run);
        served.push(Completion::new(Before::of(&claim.run, 1), token, &claim.run, run));
    }
    let txn = ground.store.begin().await.expect("a transaction");
    let landed = txn.complete(&served.iter().collect::<Vec<_>>(), now()).await;
    txn.commit().await.expect("committed");
    let landed = landed.expect("recorded");
    assert_eq!(landed.len(), served.len());
    for completion in &served {
        assert!(landed[&completion.run.id].as_planned, "{:?}", completion.run);
        assert_eq!(stored(&ground, &completion.run).await, completion.run);
    }
}

/// Whoever locks runs of many customers takes them in the order of customers, and so does a record, however little it changes of
/// some: or else each could wait for the other. On SQLite there is one writer.
async fn who_waits_to_record_a_run_holds_none_behind_it(backend: Backend) {
    let ground = Ground::new(backend).await;
    ground.runs("c", 2, "n").await;
    let runs = [ground.run("c00001").await, ground.run("c00002").await];
    let claims = [leased(&runs[0], 1, now()), leased(&runs[1], 2, now())];
    assert_eq!(ground.claim(&claims, now()).await.len(), 2);
    let done = |claim: &Claim, change: Change| {
        let mut run = claim.run.clone();
        let token = run.lease.take().expect("a lease").token;
        change(&mut run);
        Completion::new(Before::of(&claim.run, 1), token, &claim.run, run)
    };
    let much: Change = |run| run.shifted_days += 1;
    let little: Change = |run| run.completed.push(ActionId(1));
    let served = [done(&claims[0], much), done(&claims[1], little)];

    let somebody = ground.sql.begin().await.expect("a transaction");
    let lock = |customer: &str| {
        format!("select 1 from customer_timeline_progress where customer_id = '{customer}' for update nowait")
    };
    if backend == Backend::Postgres {
        somebody.execute_unprepared(&lock("c00001")).await.expect("locked");
    }
    let record = async {
        let txn = ground.store.begin().await.expect("a transaction");
        let landed = txn.complete(&served.iter().collect::<Vec<_>>(), now()).await;
        txn.commit().await.expect("committed");
        landed.expect("recorded")
    };
    let (landed, ()) = tokio::join!(record, async {
        if backend == Backend::Postgres {
            let waits =
                "select 1 as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
            let waits = sea_orm::Statement::from_string(ground.sql.get_database_backend(), waits);
            while ground
                .sql
                .query_one_raw(waits.clone())
                .await
                .expect("an answer")
                .is_none()
            {
                tokio::task::yield_now().await;
            }
            let next = somebody.execute_unprepared(&lock("c00002")).await;
            next.expect("nobody holds it");
        }
        somebody.commit().await.expect("committed");
    });
    assert_eq!(landed.len(), 2);
}
