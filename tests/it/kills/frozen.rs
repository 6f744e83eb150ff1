//! Servers that are stopped for longer than their lease and go on, as machines do that sleep, and faults that panic.

use campaign_automation::failpoint::Failpoint;
use campaign_automation::proto::campaign::v1 as pb;
use chrono::TimeDelta;
use std::time::Duration;

use super::rig::{BREADTH, CUSTOMERS, LEASE_IS_OVER, Rig, Way};
use super::ticking::{killed, tick, ticking};
use crate::support::{Backend, on_each_database};

on_each_database!(
    a_server_that_sleeps_beyond_its_lease_changes_nothing,
    a_lease_that_is_prolonged_is_not_taken_over,
    what_is_handed_back_makes_room_when_that_is_recorded,
    a_fault_in_one_run_holds_up_no_other,
    what_was_under_way_is_told_of_a_stopped_run_at_once_and_of_a_paused_one_later,
);

/// Runs that are stopped or paused while they are sent to are served by no tick; a server that dies then must not leave
/// their messages under way for ever. A paused one finds out when it is resumed, and has its full time to repeat them then.
async fn what_was_under_way_is_told_of_a_stopped_run_at_once_and_of_a_paused_one_later(backend: Backend) {
    for (way, of_paused) in [
        (Way::Mail, pb::FailureState::Retrying),
        (Way::Text, pb::FailureState::Unknown),
    ] {
        let mut rig = Rig::start(backend, way, 1).await;
        rig.wind_to_hour_of(1).await;
        rig.stall();
        let (sender, other) = (rig.serve(None), rig.serve(None));
        let ticking = ticking(&sender);
        rig.until_all_stalled().await;
        let mut client = rig.orchestrator(&other).await;
        let listed = client.list_progress(pb::ListProgressRequest::default()).await;
        let listed = listed.expect("runs").into_inner().progress;
        // Others are claimed as well, and are handed back when they can't begin in time.
        let written_to = rig.written_to();
        let under_way = listed.into_iter().filter(|run| written_to.contains(&run.customer_id));
        let runs: Vec<pb::Progress> = under_way.take(2).collect();
        let [stopped, paused] = runs.as_slice() else {
            panic!("{runs:?}")
        };
        let stop = pb::StopTimelineRequest {
            customer_id: stopped.customer_id.clone(),
            progress_id: stopped.progress_id,
            ..Default::default()
        };
        client.stop_timeline(stop).await.expect("stopped");
        let pause = pb::PauseTimelineRequest {
            customer_id: paused.customer_id.clone(),
            progress_id: paused.progress_id,
            ..Default::default()
        };
        client.pause_timeline(pause).await.expect("paused");
        sender.signal("KILL");
        killed(sender);
        ticking.await.expect("a task").expect_err("a tick of a dead server");
        rig.release();
        tick(&other).await.expect("a tick");
        for run in [stopped, paused] {
            let shown = rig.run(&other, run).await;
            assert!(!shown.in_flight_actions.is_empty(), "its lease holds still: {shown:?}");
        }
        rig.wind(TimeDelta::seconds(76)).await;
        tick(&other).await.expect("a tick");
        let mut client = rig.orchestrator(&other).await;
        let resume = pb::ResumeTimelineRequest {
            customer_id: paused.customer_id.clone(),
            progress_id: paused.progress_id,
            ..Default::default()
        };
        client.resume_timeline(resume).await.expect("resumed");
        tick(&other).await.expect("a tick");
        for (run, status, state) in [
            (stopped, pb::ProgressStatus::Stopped, pb::FailureState::Unknown),
            (paused, pb::ProgressStatus::Active, of_paused),
        ] {
            let shown = rig.run(&other, run).await;
            let states: Vec<_> = shown.failed_actions.iter().map(pb::FailedAction::state).collect();
            assert_eq!((shown.status(), states), (status, vec![state]), "{way:?}");
            assert!(shown.in_flight_actions.is_empty(), "{shown:?}");
            let filter = pb::ExecutionFilter {
                progress_id: run.progress_id,
                customer_id: run.customer_id.clone(),
                ..Default::default()
            };
            let request = pb::ListExecutionsRequest {
                filter: Some(filter),
                ..Default::default()
            };
            let listed = client
                .list_executions(request)
                .await
                .expect("executions")
                .into_inner()
                .executions;
            assert_eq!(listed.len(), 1, "{listed:?}");
        }
    }
}

/// A message that is not begun in time is under way until that is written down: who looks at the row of a dead server can't know
/// that it was not sent. So others are taken up when it is, and no more than so many are unknown after a kill.
async fn what_is_handed_back_makes_room_when_that_is_recorded(backend: Backend) {
    // Whoever keeps SQLite from writing down what was handed back keeps it from claiming.
    if backend == Backend::Sqlite {
        return;
    }
    let mut rig = Rig::start(backend, Way::Text, 1).await;
    rig.wind_to_hour_of(1).await;
    let server = rig.serve(Some("after_claim_commit=stop"));
    let ticking = ticking(&server);
    server.until_asleep();
    let locked = rig.lock_leased().await;
    rig.wind(LEASE_IS_OVER).await;
    server.signal("CONT");
    rig.until_blocked().await;
    let watching = async {
        loop {
            assert!(rig.leases().await <= BREADTH, "others were taken up");
        }
    };
    // Whoever claims looks for room ten times a second.
    let _ = tokio::time::timeout(Duration::from_secs(1), watching).await;
    locked.rollback().await.expect("let go");
    ticking.await.expect("a task").expect("a tick");
    drop(server);
    rig.finish_and_judge("handed back").await;
}

/// Another server takes over while the first one sleeps; what that one does when it wakes up counts for nothing.
async fn a_server_that_sleeps_beyond_its_lease_changes_nothing(backend: Backend) {
    for way in [Way::Mail, Way::Text] {
        // Not in a transaction: who sleeps there holds locks, and the database waits or ends it, not we.
        for at in [Failpoint::AfterClaimCommit, Failpoint::BeforeSend, Failpoint::AfterSend] {
            let mut rig = Rig::start(backend, way, 1).await;
            rig.wind_to_hour_of(1).await;
            // Nor in that of a heartbeat which happens to be under way.
            let sleeper = rig.serve_with(Some(&format!("{}=stop", at.as_str())), &[("CAMPAIGN_HEARTBEAT", "20s")]);
            let sleeping = ticking(&sleeper);
            sleeper.until_asleep();
            rig.note_kill(at.as_str()).await;
            rig.wind(TimeDelta::seconds(76)).await;
            let other = rig.serve(None);
            tick(&other).await.expect("a tick");
            rig.wind(TimeDelta::minutes(2)).await;
            tick(&other).await.expect("a tick");
            rig.note_kill(at.as_str()).await;
            if matches!(at, Failpoint::BeforeSend | Failpoint::AfterSend) {
                rig.note_asleep();
            }
            sleeper.signal("CONT");
            let woken = sleeping.await.expect("a task").expect("a tick").counts.expect("counts");
            assert!(
                woken.stale_completions > 0 || woken.channels.is_empty(),
                "{at:?}: {woken:?}"
            );
            drop((sleeper, other));
            rig.finish_and_judge(&format!("asleep at {}", at.as_str())).await;
        }
    }
}

/// A provider that takes its time keeps its messages, as long as its server lives.
async fn a_lease_that_is_prolonged_is_not_taken_over(backend: Backend) {
    let mut rig = Rig::start(backend, Way::Text, 1).await;
    rig.wind_to_hour_of(1).await;
    rig.stall();
    let (slow, other) = (rig.serve(None), rig.serve(None));
    let slowly = ticking(&slow);
    rig.until_stalled().await;
    for _ in 0..4 {
        rig.wind(TimeDelta::seconds(50)).await;
        rig.until_prolonged().await;
    }
    let others = ticking(&other);
    // The other one takes what the first has left, and nothing else.
    while rig.arrivals() < 2 * BREADTH {
        tokio::task::yield_now().await;
    }
    rig.release();
    for ticking in [slowly, others] {
        let counts = ticking.await.expect("a task").expect("a tick").counts.expect("counts");
        assert_eq!(counts.stale_completions, 0);
    }
    drop((slow, other));
    rig.finish_and_judge("prolonged").await;
}

/// A run that can't be planned, and one that can't be served, leave the others alone, and the tick ends.
async fn a_fault_in_one_run_holds_up_no_other(backend: Backend) {
    for (at, broken) in [(Failpoint::Plan, 1), (Failpoint::BeforeSend, 0)] {
        let mut rig = Rig::start(backend, Way::Mail, 1).await;
        rig.wind_to_hour_of(1).await;
        let server = rig.serve(Some(&format!("{}=panic", at.as_str())));
        let counts = tick(&server).await.expect("a tick").counts.expect("counts");
        assert_eq!(counts.broken_runs, broken, "{at:?}");
        assert_eq!(rig.arrivals(), CUSTOMERS - 1, "{at:?}");
        // As an entry like all others, for whoever reads it by a machine.
        let entry = server.until("panicked at");
        assert_eq!(entry["level"], "ERROR", "{entry}");
        assert!(
            entry["panic.place"]
                .as_str()
                .is_some_and(|place| place.contains("failpoint.rs")),
            "{entry}"
        );
        drop(server);
        rig.finish_and_judge(&format!("panic at {}", at.as_str())).await;
    }
}
