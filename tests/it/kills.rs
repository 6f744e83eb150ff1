//! Servers that are killed, as real processes with real sockets and a real database: at every failpoint, and at random under
//! load. Judged ([`judge`]) by what arrived at the fake providers and by the database, never by what the service says of itself.
//!
//! A world ([`rig`]) has one channel, one timeline with an action on each of many days, and a clock in a file that outlives its
//! servers. On each day, in the hour of its messages, a server is killed in one window, and on some days the next one as well,
//! which finds what the first has left; then a server that nobody kills ticks as its CronJob would. When all runs have ended, the
//! ledger, what arrived, and the days of the runs ([`history`]) are matched to what the calendar asks for ([`chronos`]).
//!
//! The long run, which prints a table of what was found:
//!
//! ```text
//! KILLS=200 cargo test --features test-support --test it kills:: -- --nocapture 2>&1 | grep '^|' | LC_ALL=C sort -u
//! ```
//!
//! `KILLS` is how often a server is killed in each window at least, on each channel and database; at random it is five times as
//! often. PostgreSQL itself is stopped as often as a server is killed in a window.

mod chronos;
mod cluster;
mod database;
mod figures;
mod frozen;
mod history;
mod judge;
mod network;
mod proxy;
mod random;
mod rig;
mod texts;
mod ticking;

use campaign_automation::failpoint::Failpoint;
use campaign_automation::proto::campaign::v1 as pb;
use chrono::TimeDelta;

use crate::support::{Backend, on_each_database};
use figures::Figures;
use rig::{Rig, Way};
use ticking::{killed, tick, ticking};

on_each_database!(
    a_server_that_is_killed_before_its_claim_loses_nothing,
    a_server_that_is_killed_after_its_claim_loses_nothing,
    a_server_that_is_killed_before_a_send_loses_nothing,
    a_server_that_is_killed_after_a_send_loses_nothing,
    a_server_that_is_killed_before_it_records_loses_nothing,
    a_server_that_is_killed_after_it_recorded_loses_nothing,
    a_server_that_is_killed_in_its_heartbeat_loses_nothing,
    a_server_that_is_killed_while_days_advance_loses_nothing,
    a_start_that_is_killed_is_made_once,
    a_change_of_stage_that_is_killed_is_made_once,
);

/// The most days that a world has. A run carries along what it has done, so that long ones get slow.
const MOST_DAYS: usize = 100;

/// How often a server is killed in each window.
fn kills() -> usize {
    kills_or(3)
}

/// The same with a number of its own for who doesn't ask for the long run.
fn kills_or(few: usize) -> usize {
    let number = std::env::var("KILLS").ok();
    number.map_or(few, |number| number.parse().expect("KILLS is a number"))
}

/// So many days, shared out among worlds.
fn worlds(days: usize) -> impl Iterator<Item = usize> {
    (0..days)
        .step_by(MOST_DAYS)
        .map(move |begun| MOST_DAYS.min(days - begun))
}

async fn a_server_that_is_killed_before_its_claim_loses_nothing(backend: Backend) {
    killed_while_it_sends(backend, Failpoint::BeforeClaimCommit, 1).await;
}

async fn a_server_that_is_killed_after_its_claim_loses_nothing(backend: Backend) {
    killed_while_it_sends(backend, Failpoint::AfterClaimCommit, 1).await;
}

async fn a_server_that_is_killed_before_a_send_loses_nothing(backend: Backend) {
    killed_while_it_sends(backend, Failpoint::BeforeSend, rig::CUSTOMERS).await;
}

async fn a_server_that_is_killed_after_a_send_loses_nothing(backend: Backend) {
    killed_while_it_sends(backend, Failpoint::AfterSend, rig::CUSTOMERS).await;
}

async fn a_server_that_is_killed_before_it_records_loses_nothing(backend: Backend) {
    killed_while_it_sends(backend, Failpoint::BeforeRecordCommit, 1).await;
}

async fn a_server_that_is_killed_after_it_recorded_loses_nothing(backend: Backend) {
    killed_while_it_sends(backend, Failpoint::AfterRecordCommit, 1).await;
}

/// Each day has its messages, and a tick that is killed when it comes to a place for the n-th time, with n up to `passes`.
async fn killed_while_it_sends(backend: Backend, at: Failpoint, passes: usize) {
    for way in [Way::Mail, Way::Text] {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut figures = Figures::default();
        for days in worlds(kills()) {
            let mut rig = Rig::start(backend, way, days).await;
            for day in 1..=days {
                rig.wind_to_hour_of(day).await;
                let server = rig.serve(Some(&format!("{}=kill@{}", at.as_str(), rng.usize(1..=passes))));
                rig.tick_until_killed(server).await;
                rig.note_death(at.as_str()).await;
                if day % 2 == 0 {
                    rig.kill_another(at.as_str()).await;
                }
                rig.restart_and_recover().await;
            }
            figures += rig.finish().await;
        }
        figures.print(at.as_str(), way, backend);
    }
}

async fn a_server_that_is_killed_in_its_heartbeat_loses_nothing(backend: Backend) {
    for way in [Way::Mail, Way::Text] {
        let mut figures = Figures::default();
        for days in worlds(kills()) {
            let mut rig = Rig::start(backend, way, days).await;
            for day in 1..=days {
                rig.wind_to_hour_of(day).await;
                rig.stall();
                let server = rig.serve(Some("heartbeat=kill"));
                let ticking = ticking(&server);
                rig.until_stalled().await;
                // A third of the lease is over.
                rig.wind(TimeDelta::seconds(30)).await;
                killed(server);
                ticking.await.expect("a task").expect_err("a tick of a dead server");
                rig.release();
                rig.note_death("heartbeat").await;
                rig.restart_and_recover().await;
            }
            figures += rig.finish().await;
        }
        figures.print("heartbeat", way, backend);
    }
}

async fn a_server_that_is_killed_while_days_advance_loses_nothing(backend: Backend) {
    let mut figures = Figures::default();
    for days in worlds(kills()) {
        let mut rig = Rig::start(backend, Way::Mail, days + 1).await;
        for day in 1..=days {
            rig.wind_to_hour_of(day).await;
            let server = rig.serve(None);
            tick(&server).await.expect("a tick");
            drop(server);
            rig.wind_to_midnight_after(day).await;
            let server = rig.serve(Some("day_advance=kill"));
            rig.tick_until_killed(server).await;
            rig.note_death("day_advance").await;
        }
        figures += rig.finish().await;
    }
    figures.print("day_advance", Way::Mail, backend);
}

async fn a_start_that_is_killed_is_made_once(backend: Backend) {
    let mut rig = Rig::start(backend, Way::Text, 1).await;
    for at in [Failpoint::BeforeCallCommit, Failpoint::AfterCallCommit] {
        for n in 0..kills() {
            let customer = format!("{}-{n}", at.as_str().replace('_', "-"));
            let server = rig.serve(None);
            rig.upsert(&server, &customer, "").await;
            drop(server);
            let request = pb::StartTimelineRequest {
                customer_id: customer.clone(),
                timeline_id: rig.timeline_id,
                request_id: format!("00000000-0000-4000-8000-{n:012}"),
                ..Default::default()
            };
            let server = rig.serve(Some(&format!("{}=kill", at.as_str())));
            let dead = rig.orchestrator(&server).await.start_timeline(request.clone()).await;
            dead.expect_err("a server that died");
            killed(server);
            rig.note_death(at.as_str()).await;
            let server = rig.serve(None);
            let again = rig.orchestrator(&server).await.start_timeline(request.clone()).await;
            let id = again
                .expect("a start")
                .into_inner()
                .progress
                .expect("a run")
                .progress_id;
            let replayed = rig.orchestrator(&server).await.start_timeline(request).await;
            let replayed = replayed.expect("the same start").into_inner().progress.expect("a run");
            assert_eq!(replayed.progress_id, id);
            rig.extra.push(customer);
        }
    }
    rig.finish_and_judge("start").await;
}

async fn a_change_of_stage_that_is_killed_is_made_once(backend: Backend) {
    let mut rig = Rig::start(backend, Way::Text, 1).await;
    for at in [Failpoint::BeforeCallCommit, Failpoint::AfterCallCommit] {
        for n in 0..kills() {
            let customer = format!("{}-{n}", at.as_str().replace('_', "-"));
            let server = rig.serve(None);
            rig.upsert(&server, &customer, "lead").await;
            drop(server);
            let request = pb::ChangePipelineStageRequest {
                customer_id: customer.clone(),
                pipeline_stage: rig::STAGE.to_owned(),
                request_id: format!("00000000-0000-4000-8000-{n:012}"),
            };
            let server = rig.serve(Some(&format!("{}=kill", at.as_str())));
            let dead = rig
                .customers(&server)
                .await
                .change_pipeline_stage(request.clone())
                .await;
            dead.expect_err("a server that died");
            killed(server);
            rig.note_death(at.as_str()).await;
            let server = rig.serve(None);
            let again = rig.customers(&server).await.change_pipeline_stage(request).await;
            let run = again
                .expect("a change")
                .into_inner()
                .assignment
                .and_then(|made| made.progress)
                .expect("an assigned run");
            assert_eq!(run.customer_id, customer);
            rig.extra.push(customer);
        }
    }
    rig.finish_and_judge("stage change").await;
}
