//! Claims of many at once, and the order in which due runs come.

use campaign_automation::domain::{CustomerId, Run, Status, TimelineId};
use campaign_automation::random::Random;
use campaign_automation::store::{Buckets, Claim, Cursor, Due, Store, StoreError};
use chrono::{NaiveDate, TimeDelta};
use std::collections::{BTreeMap, BTreeSet};

use super::{Ground, leased, new_run, now};
use crate::support::{Backend, on_each_database};

on_each_database!(
    many_claimers_share_all_that_is_due,
    a_claim_finds_the_run_as_it_was_read_or_does_nothing,
    due_runs_come_oldest_first_and_pages_leave_no_gap,
    what_comes_back_at_once_holds_up_nobody,
    a_customer_has_one_live_run_of_a_timeline,
);

/// Something that is done to a run.
type Change = fn(&mut Run);

/// What is due now.
fn due(timeline: TimelineId, after: &Cursor, buckets: Buckets, limit: usize) -> Due<'_> {
    Due {
        timeline,
        after,
        now: now(),
        buckets,
        limit,
    }
}

/// Claims batches until nothing is left, as a tick does. Gives the runs and the tokens under which they were claimed.
async fn claim_all(store: Store, ground: TimelineId, seed: u64) -> Vec<(i64, i64)> {
    let random = Random::from_seed(seed);
    let (mut mine, mut cursor) = (Vec::new(), Cursor::BEGIN);
    loop {
        let txn = store.begin().await.expect("a transaction");
        txn.hold_timeline(ground)
            .await
            .expect("a timeline")
            .expect("an active one");
        let runs = txn
            .due_runs_for_update(&due(ground, &cursor, Buckets::ALL, 200))
            .await
            .expect("runs")
            .runs;
        let Some(last) = runs.last() else {
            return mine;
        };
        cursor = Cursor::after(last);
        let claims: Vec<Claim> = runs.iter().map(|run| leased(run, random.token(), now())).collect();
        let claimed = txn
            .claim(&claims.iter().collect::<Vec<_>>(), now())
            .await
            .expect("claimed");
        txn.commit().await.expect("committed");
        let mut of_mine = claims.iter().filter(|claim| claimed.contains(&claim.run.id));
        mine.extend(
            of_mine
                .by_ref()
                .map(|claim| (claim.run.id.0, claim.run.lease.expect("a lease").token)),
        );
    }
}

async fn many_claimers_share_all_that_is_due(backend: Backend) {
    const RUNS: usize = 10_000;
    let ground = Ground::new(backend).await;
    ground.runs("c", RUNS, "n % 600").await;
    // Neither due nor free.
    ground.runs("later", 50, "n + 86400").await;
    let claimers = (0..16).map(|seed| tokio::spawn(claim_all(ground.store.clone(), ground.timeline, seed)));
    let mut claimed = BTreeMap::new();
    for claimer in claimers.collect::<Vec<_>>() {
        for (id, token) in claimer.await.expect("a claimer") {
            assert_eq!(claimed.insert(id, token), None, "run {id} was claimed twice");
        }
    }
    assert_eq!(claimed.len(), RUNS);
    let reader = ground.store.reader();
    let left = reader
        .due_runs(&due(ground.timeline, &Cursor::BEGIN, Buckets::ALL, RUNS))
        .await
        .expect("runs");
    assert_eq!(left.runs.len(), 0, "nothing is left");
    for name in ["c00001", "c05000", "c10000"] {
        let run = ground.run(name).await;
        assert_eq!(run.lease.expect("a lease").token, claimed[&run.id.0], "{name}");
    }
    assert_eq!(ground.run("later00001").await.lease, None);
}

async fn a_claim_finds_the_run_as_it_was_read_or_does_nothing(backend: Backend) {
    let ground = Ground::new(backend).await;
    ground.runs("c", 6, "n").await;
    let free = ground.run("c00001").await;
    let mut claims = vec![leased(&free, 1, now())];

    let changes: [(&str, Change); 4] = [
        ("c00002", |run| run.status = Status::Paused),
        ("c00003", |run| run.status = Status::Stopped),
        ("c00004", |run| {
            run.day_date = NaiveDate::from_ymd_opt(2026, 1, 6).expect("a date");
        }),
        ("c00005", |run| run.zone.tz = chrono_tz::Europe::Paris),
    ];
    let mut changed = Vec::new();
    for (name, change) in changes {
        let mut run = ground.run(name).await;
        claims.push(leased(&run, 2, now()));
        change(&mut run);
        let txn = ground.store.begin().await.expect("a transaction");
        txn.update_run(&run).await.expect("changed");
        txn.commit().await.expect("committed");
        changed.push(run);
    }
    // Somebody else's, until his lease is over.
    let held = ground.run("c00006").await;
    assert_eq!(ground.claim(&[leased(&held, 3, now())], now()).await, [held.id.0]);
    claims.push(leased(&held, 4, now()));

    assert_eq!(ground.claim(&claims, now()).await, [free.id.0]);
    let reader = ground.store.reader();
    for run in changed {
        let stored = reader.run(&run.customer_id, run.id).await.expect("a run");
        assert_eq!(stored, Some(run));
    }
    assert_eq!(ground.run("c00006").await.lease.expect("a lease").token, 3);
    let over = now() + TimeDelta::minutes(2);
    assert_eq!(
        ground.claim(&claims[5..], over - TimeDelta::microseconds(1)).await,
        [0; 0]
    );
    assert_eq!(ground.claim(&claims[5..], over).await, [held.id.0]);
}

async fn due_runs_come_oldest_first_and_pages_leave_no_gap(backend: Backend) {
    let ground = Ground::new(backend).await;
    // In no order, and many at the same instant.
    ground.runs("c", 1000, "(n * 7919) % 97").await;
    ground.runs("later", 10, "n + 86400").await;
    let reader = ground.store.reader();
    let found = async |cursor: &Cursor, buckets, limit| {
        let found = reader.due_runs(&due(ground.timeline, cursor, buckets, limit)).await;
        found.expect("runs").runs
    };
    let whole: Vec<Cursor> = found(&Cursor::BEGIN, Buckets::ALL, 5000)
        .await
        .iter()
        .map(Cursor::after)
        .collect();
    assert_eq!(whole.len(), 1000);
    assert!(whole.is_sorted(), "oldest first, then by id");
    for limit in [1, 7, 100, 999, 1000] {
        let (mut paged, mut cursor) = (Vec::new(), Cursor::BEGIN);
        loop {
            let page = found(&cursor, Buckets::ALL, limit).await;
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            cursor = Cursor::after(last);
            paged.extend(page.iter().map(Cursor::after));
            if limit == 1 && paged.len() == 50 {
                paged.extend(whole[50..].iter().cloned());
                break;
            }
        }
        assert_eq!(paged, whole, "{limit} at a time");
    }
    let mut parts = Vec::new();
    for part in 0..3 {
        parts.extend(
            found(&Cursor::BEGIN, Buckets::part(part, 3), 5000)
                .await
                .iter()
                .map(Cursor::after),
        );
    }
    parts.sort_unstable();
    assert_eq!(parts, whole, "partitions share all");
}

/// 10,000 runs that are due again at once, whatever is done, and behind them one whose server died: a walk over what is due
/// comes to it (river#1258).
async fn what_comes_back_at_once_holds_up_nobody(backend: Backend) {
    const FRONT: usize = 10_000;
    let ground = Ground::new(backend).await;
    ground.runs("front", FRONT, "0").await;
    ground.runs("stuck", 1, "60").await;
    let stuck = ground.run("stuck00001").await;
    let before = now() - TimeDelta::minutes(2);
    assert_eq!(ground.claim(&[leased(&stuck, 7, before)], before).await, [stuck.id.0]);

    let (mut cursor, mut batches, mut walked) = (Cursor::BEGIN, 0, BTreeSet::new());
    let found = loop {
        let txn = ground.store.begin().await.expect("a transaction");
        let runs = txn
            .due_runs_for_update(&due(ground.timeline, &cursor, Buckets::ALL, 500))
            .await;
        let runs = runs.expect("runs").runs;
        batches += 1;
        cursor = Cursor::after(runs.last().expect("the walk comes to the end"));
        for run in &runs {
            assert!(walked.insert(run.id), "{} twice", run.customer_id);
        }
        if let Some(found) = runs.iter().find(|run| run.id == stuck.id) {
            break found.clone();
        }
        // All are claimed and given back as they were: due, and first again.
        let claims: Vec<Claim> = runs.iter().map(|run| Claim::new(run, run.clone(), 1)).collect();
        assert_eq!(
            txn.claim(&claims.iter().collect::<Vec<_>>(), now())
                .await
                .expect("claimed")
                .len(),
            runs.len()
        );
        txn.commit().await.expect("committed");
    };
    assert_eq!((batches, walked.len()), (FRONT / 500 + 1, FRONT + 1));
    assert_eq!(ground.claim(&[leased(&found, 8, now())], now()).await, [stuck.id.0]);
    assert_eq!(ground.run("stuck00001").await.lease.expect("a lease").token, 8);
}

async fn a_customer_has_one_live_run_of_a_timeline(backend: Backend) {
    let ground = Ground::new(backend).await;
    let timeline = ground.timeline().await;
    let starts = (0..50).map(|_| {
        let (store, anna, bela) = (
            ground.store.clone(),
            new_run(&timeline, "anna"),
            new_run(&timeline, "bela"),
        );
        tokio::spawn(async move {
            let txn = store.begin().await.expect("a transaction");
            match txn.insert_runs(&[&anna, &bela]).await {
                Ok(ids) => {
                    txn.commit().await.expect("committed");
                    ids
                }
                Err(StoreError::Duplicate) => Vec::new(),
                Err(error) => panic!("{error}"),
            }
        })
    });
    let mut started = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        started.extend(start.await.expect("a start"));
    }
    assert_eq!(started.len(), 2, "one for each customer");
    for name in ["anna", "bela"] {
        let run = ground.run(name).await;
        assert!(started.contains(&run.id), "{name}");
        // Once it is over another may start, and one only.
        let txn = ground.store.begin().await.expect("a transaction");
        let over = run.stop("over".to_owned(), now()).expect("stopped");
        txn.update_run(&over).await.expect("stopped");
        let again = new_run(&timeline, name);
        assert_eq!(txn.insert_runs(&[&again]).await.expect("inserted").len(), 1);
        txn.commit().await.expect("committed");
        let txn = ground.store.begin().await.expect("a transaction");
        let twice = txn.insert_runs(&[&again]).await;
        assert!(matches!(twice, Err(StoreError::Duplicate)), "{twice:?}");
    }
    let customer = CustomerId::parse("anna").expect("an id");
    assert_eq!(ground.store.reader().live_runs(&customer).await.expect("runs").len(), 1);
}
