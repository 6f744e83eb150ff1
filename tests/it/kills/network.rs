//! Servers that are told to stop under load, whose connections break, fall silent or are slow, and messages that kill their
//! server.

use campaign_automation::failpoint::Failpoint;
use chrono::TimeDelta;
use std::time::Duration;
use tonic::Code;

use super::figures::Figures;
use super::proxy::{Fault, Kept, Proxy};
use super::rig::{BREADTH, CUSTOMERS, Rig, Way};
use super::ticking::{killed, tick, ticking};
use super::{kills, worlds};
use crate::support::{Backend, on_each_database};

on_each_database!(
    a_server_that_is_told_to_stop_leaves_nothing_open,
    a_database_that_breaks_off_loses_nothing,
    a_provider_that_breaks_off_loses_nothing,
    a_slow_network_doubles_nothing,
    a_message_that_kills_its_server_ends,
);

/// For how many days the network is slow.
const SLOW_DAYS: usize = 3;

/// Nothing is sent twice and nothing becomes unknown, and what was not begun is free at once.
async fn a_server_that_is_told_to_stop_leaves_nothing_open(backend: Backend) {
    for way in [Way::Mail, Way::Text] {
        let mut rng = fastrand::Rng::with_seed(5);
        let mut figures = Figures::default();
        for days in worlds(kills()) {
            let mut rig = Rig::start(backend, way, days).await;
            let other = rig.serve(None);
            for day in 1..=days {
                rig.wind_to_hour_of(day).await;
                let server = rig.serve(None);
                let ticking = ticking(&server);
                tokio::time::sleep(Duration::from_millis(rng.u64(0..60))).await;
                server.signal("TERM");
                let ended = tokio::task::block_in_place(|| server.ended());
                assert_eq!(ended.code(), Some(0), "{ended:?}");
                // The caller is answered, or hears that the server stops.
                let _ = ticking.await.expect("a task");
                assert_eq!(rig.leases().await, 0, "leases are held by nobody");
                tick(&other).await.expect("a tick");
                assert_eq!(rig.arrivals(), day * CUSTOMERS, "all goes at once");
            }
            drop(other);
            figures += rig.finish().await;
        }
        figures.print("told to stop", way, backend);
    }
}

/// A commit that does not arrive, and one whose answer is lost, of a claim and of outcomes. The same server goes on, also when
/// nobody tells it that its connections are dead.
async fn a_database_that_breaks_off_loses_nothing(backend: Backend) {
    // There is no network between a server and SQLite.
    if backend == Backend::Sqlite {
        return;
    }
    for way in [Way::Mail, Way::Text] {
        for fault in [Fault::Reset, Fault::Silence] {
            for at in [Failpoint::BeforeClaimCommit, Failpoint::BeforeRecordCommit] {
                for is_committed in [false, true] {
                    let rig = Rig::start(backend, way, 1).await;
                    the_database_breaks_off(rig, fault, at, is_committed).await;
                }
            }
        }
    }
}

async fn the_database_breaks_off(mut rig: Rig, fault: Fault, at: Failpoint, is_committed: bool) {
    let proxy = Proxy::to(rig.database_address()).await;
    rig.reach_the_database_by(proxy.addr());
    rig.wind_to_hour_of(1).await;
    let stop = format!("{}=stop", at.as_str());
    let server = rig.serve_with(Some(&stop), &[("CAMPAIGN_STATEMENT_TIMEOUT", "1s")]);
    let ticking = ticking(&server);
    server.until_asleep();
    let leases = rig.leases().await;
    if is_committed {
        proxy.keep(Some(Kept::Answers));
    } else {
        proxy.fail(fault);
    }
    server.signal("CONT");
    if is_committed {
        while rig.leases().await == leases {
            tokio::task::yield_now().await;
        }
        proxy.fail(fault);
        proxy.keep(None);
    }
    // Outcomes are recorded at the next try. The caller hears of a claim that failed, which may be that of the next batch.
    let ticked = ticking.await.expect("a task");
    let what = format!("{} of {fault:?}, committed {is_committed}", at.as_str());
    match &ticked {
        Ok(summary) => {
            assert_eq!(at, Failpoint::BeforeRecordCommit, "{what}");
            // That its lease is over is its own doing.
            let stale = summary.counts.as_ref().expect("counts").stale_completions;
            assert_eq!(stale, 0, "{what}");
        }
        Err(status) => assert_eq!(status.code(), Code::Unavailable, "{what}: {status:?}"),
    }
    let sent_by_then = if ticked.is_ok() { BREADTH } else { 0 };
    assert!(rig.arrivals() >= sent_by_then, "{what}");
    if at == Failpoint::BeforeClaimCommit && is_committed {
        // As after a crash: nobody knows of it, and what promises at most once is unknown.
        rig.note_lost_claim();
    }
    rig.wind(TimeDelta::seconds(76)).await;
    tick(&server).await.expect("a tick, of the same server");
    drop(server);
    rig.finish_and_judge(&what).await;
}

/// A message that does not arrive, and one whose answer is lost. The same server sends the mails again, with the same ids, and no
/// text message.
async fn a_provider_that_breaks_off_loses_nothing(backend: Backend) {
    for way in [Way::Mail, Way::Text] {
        for fault in [Fault::Reset, Fault::Silence] {
            for has_arrived in [false, true] {
                let rig = Rig::start(backend, way, 1).await;
                the_provider_breaks_off(rig, fault, has_arrived).await;
            }
        }
    }
}

async fn the_provider_breaks_off(mut rig: Rig, fault: Fault, has_arrived: bool) {
    let proxy = Proxy::to(rig.provider_address()).await;
    rig.reach_the_provider_by(proxy.addr());
    rig.wind_to_hour_of(1).await;
    // Nobody is told of silence, so the server has to lose patience; no earlier than this test has looked at what it broke off.
    let patience: &[(&str, &str)] = match fault {
        Fault::Reset => &[],
        Fault::Silence => &[("CAMPAIGN_SEND_TIMEOUT", "5s")],
    };
    let server = rig.serve_with(None, patience);
    if has_arrived {
        rig.stall();
    } else {
        proxy.keep(Some(Kept::Requests));
    }
    let ticking = ticking(&server);
    if has_arrived {
        rig.until_all_stalled().await;
    } else {
        proxy.until_kept().await;
    }
    rig.note_kill("network").await;
    proxy.fail(fault);
    proxy.keep(None);
    rig.release();
    ticking.await.expect("a task").expect("a tick");
    for _ in 0..2 {
        rig.wind(TimeDelta::minutes(2)).await;
        tick(&server).await.expect("a tick");
    }
    let what = format!("{fault:?}, arrived {has_arrived}");
    let outcomes = rig.arrived() + rig.unknown().await;
    assert!(outcomes >= CUSTOMERS, "{what}: {outcomes} have an outcome");
    drop(server);
    rig.finish_and_judge(&what).await;
}

/// Two servers at once, each of whose words takes its time: nothing is sent twice and nothing becomes unknown.
async fn a_slow_network_doubles_nothing(backend: Backend) {
    for way in [Way::Mail, Way::Text] {
        let mut rig = Rig::start(backend, way, SLOW_DAYS).await;
        let provider = Proxy::to(rig.provider_address()).await;
        rig.reach_the_provider_by(provider.addr());
        provider.slow(true);
        let database = match backend {
            Backend::Sqlite => None,
            Backend::Postgres => {
                let proxy = Proxy::to(rig.database_address()).await;
                rig.reach_the_database_by(proxy.addr());
                proxy.slow(true);
                Some(proxy)
            }
        };
        let (one, other) = (rig.serve(None), rig.serve(None));
        for day in 1..=SLOW_DAYS {
            rig.wind_to_hour_of(day).await;
            let (first, second) = (ticking(&one), ticking(&other));
            first.await.expect("a task").expect("a tick");
            second.await.expect("a task").expect("a tick");
        }
        drop((one, other, database));
        rig.finish_and_judge("slow network").await;
    }
}

/// Attempts count from the claim, so that a message that ends its server each time is given up, and the others go.
async fn a_message_that_kills_its_server_ends(backend: Backend) {
    let mut rig = Rig::start(backend, Way::Mail, 1).await;
    rig.wind_to_hour_of(1).await;
    // All are claimed together, and each server dies at the first.
    for _ in 0..3 {
        let server = rig.serve_with(Some("before_send=kill"), &[("CAMPAIGN_RETRY_ATTEMPTS", "3")]);
        tick(&server).await.expect_err("a tick of a dead server");
        killed(server);
        rig.note_death("before_send").await;
        rig.wind(TimeDelta::minutes(3)).await;
        // Found, and to be repeated in a minute, as long as there are attempts.
        let server = rig.serve_with(Some("before_send=kill"), &[("CAMPAIGN_RETRY_ATTEMPTS", "3")]);
        tick(&server).await.expect("a tick that sends nothing");
        drop(server);
        rig.wind(TimeDelta::minutes(3)).await;
    }
    let server = rig.serve(None);
    tick(&server).await.expect("a tick");
    assert_eq!(rig.unknown().await, CUSTOMERS, "given up");
    assert_eq!(rig.arrivals(), 0, "each server died before it sent anything");
}
