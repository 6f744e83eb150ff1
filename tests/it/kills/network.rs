//! Servers that are told to stop under load, whose database connections break, and messages that kill their server.

use campaign_automation::failpoint::Failpoint;
use chrono::TimeDelta;
use std::time::Duration;

use super::kills;
use super::proxy::Proxy;
use super::rig::{BREADTH, CUSTOMERS, Rig, Way, killed, tick, ticking};
use crate::support::{Backend, on_each_database};

on_each_database!(
    a_server_that_is_told_to_stop_leaves_nothing_open,
    a_database_that_breaks_off_loses_nothing,
    a_message_that_kills_its_server_ends,
);

/// Nothing is sent twice and nothing becomes unknown, and what was not begun is free at once.
async fn a_server_that_is_told_to_stop_leaves_nothing_open(backend: Backend) {
    for way in [Way::Mail, Way::Text] {
        let mut rig = Rig::start(backend, way, kills()).await;
        let mut rng = fastrand::Rng::with_seed(5);
        for day in 1..=kills() {
            rig.wind_to_hour_of(day);
            let server = rig.serve(None);
            let ticking = ticking(&server);
            tokio::time::sleep(Duration::from_millis(rng.u64(0..60))).await;
            server.signal("TERM");
            let ended = tokio::task::block_in_place(|| server.ended());
            assert_eq!(ended.code(), Some(0), "{ended:?}");
            // The caller is answered, or hears that the server stops.
            let _ = ticking.await.expect("a task");
            assert_eq!(rig.leases().await, 0, "leases are held by nobody");
        }
        rig.finish_and_judge("told to stop").await;
    }
}

/// A commit that does not arrive, and one whose answer is lost, of a claim and of outcomes.
async fn a_database_that_breaks_off_loses_nothing(backend: Backend) {
    // There is no network between a server and SQLite.
    if backend == Backend::Sqlite {
        return;
    }
    for way in [Way::Mail, Way::Text] {
        for at in [Failpoint::BeforeClaimCommit, Failpoint::BeforeRecordCommit] {
            for is_committed in [false, true] {
                let mut rig = Rig::start(backend, way, 1).await;
                let proxy = Proxy::to(rig.database_address()).await;
                rig.reach_the_database_by(proxy.addr());
                rig.wind_to_hour_of(1);
                let server = rig.serve(Some(&format!("{}=stop", at.as_str())));
                let ticking = ticking(&server);
                server.until_asleep();
                let leases = rig.leases().await;
                proxy.mute(is_committed);
                if !is_committed {
                    proxy.break_all();
                }
                server.signal("CONT");
                if is_committed {
                    while rig.leases().await == leases {
                        tokio::task::yield_now().await;
                    }
                    proxy.break_all();
                    proxy.mute(false);
                }
                // The caller hears of a claim that failed; outcomes are recorded at the next try.
                let ticked = ticking.await.expect("a task");
                assert_eq!(ticked.is_ok(), at == Failpoint::BeforeRecordCommit, "{ticked:?}");
                drop(server);
                let sent_by_then = if ticked.is_ok() { BREADTH } else { 0 };
                assert!(rig.arrivals() >= sent_by_then, "{at:?}, {is_committed}");
                let was_claimed = at == Failpoint::BeforeClaimCommit && is_committed;
                if was_claimed {
                    // As after a crash: nobody knows of it, and what promises at most once is unknown.
                    rig.note_lost_claim();
                }
                rig.wind(TimeDelta::seconds(76));
                rig.finish_and_judge(&format!("{}, committed {is_committed}", at.as_str()))
                    .await;
            }
        }
    }
}

/// Attempts count from the claim, so that a message that ends its server each time is given up, and the others go.
async fn a_message_that_kills_its_server_ends(backend: Backend) {
    let mut rig = Rig::start(backend, Way::Mail, 1).await;
    rig.wind_to_hour_of(1);
    // All are claimed together, and each server dies at the first.
    for _ in 0..3 {
        let server = rig.serve_with(Some("before_send=kill"), &[("CAMPAIGN_RETRY_ATTEMPTS", "3")]);
        tick(&server).await.expect_err("a tick of a dead server");
        killed(server);
        rig.note_death("before_send").await;
        rig.wind(TimeDelta::minutes(3));
        // Found, and to be repeated in a minute, as long as there are attempts.
        let server = rig.serve_with(Some("before_send=kill"), &[("CAMPAIGN_RETRY_ATTEMPTS", "3")]);
        tick(&server).await.expect("a tick that sends nothing");
        drop(server);
        rig.wind(TimeDelta::minutes(3));
    }
    let server = rig.serve(None);
    tick(&server).await.expect("a tick");
    assert_eq!(rig.unknown().await, CUSTOMERS, "given up");
    assert_eq!(rig.arrivals(), 0, "each server died before it sent anything");
}
