//! Calls that come at the same time and share their statements: each has the answer that it has alone.

use campaign_automation::proto::campaign::v1 as pb;
use futures::future::join_all;
use tonic::{Code, Status};

use crate::broken::run_sql;
use crate::support::given::{customer, definition, email, refused};
use crate::support::mailing::crowd;
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    starts_at_the_same_time_have_their_own_answers,
    runs_are_shown_at_the_same_time_each_to_its_caller,
);

async fn starts_at_the_same_time_have_their_own_answers(backend: Backend) {
    let app = App::start(backend).await;
    let hook = app.timeline(definition("hook", 5, vec![email(1, 0, "A")])).await;
    let ids: Vec<String> = (0..30).map(|n| format!("c{n:04}")).collect();
    let request = pb::UpsertCustomersRequest {
        customers: ids.iter().map(|id| customer(id, "Etc/UTC")).collect(),
        ..Default::default()
    };
    app.upsert(request).await.expect("results");
    let unreadable = "update customers set time_zone = 'Nowhere' where customer_id = 'c0005'";
    run_sql(&app, &[unreadable.to_owned()]).await;
    let start = |id: &str, request_id: &str, start_day: i32| {
        app.try_start(pb::StartTimelineRequest {
            customer_id: id.to_owned(),
            timeline_id: hook.timeline_id,
            request_id: request_id.to_owned(),
            start_day,
            ..Default::default()
        })
    };
    let of_all = join_all(ids.iter().map(|id| start(id, "once", 0)));
    let (all, twin, again, other, nobody) = tokio::join!(
        of_all,
        start("c0000", "once", 0),
        start("c0001", "", 0),
        start("c0002", "once", 2),
        start("nobody", "once", 0),
    );
    // Once more, when all is over: each is answered what it was.
    let repeated = join_all(ids.iter().map(|id| start(id, "once", 0))).await;
    let mut runs = Vec::new();
    for (at, (first, repeated)) in all.iter().zip(&repeated).enumerate() {
        match at {
            // The other of the two may have been the first.
            1 | 2 => {}
            5 => {
                refused(first.clone(), Code::Internal, "INTERNAL", &[]);
                refused(repeated.clone(), Code::Internal, "INTERNAL", &[]);
            }
            _ => {
                let run = first.as_ref().expect("a run");
                assert_eq!(run.customer_id, ids[at]);
                assert_eq!(run, repeated.as_ref().expect("the same run"));
                runs.push(run.progress_id);
            }
        }
    }
    runs.sort_unstable();
    runs.dedup();
    assert_eq!(runs.len(), 27, "each has its own");
    assert_eq!(twin.expect("the same run"), *all[0].as_ref().expect("a run"));
    one_of(&all[1], &again, Code::AlreadyExists, "RUN_IS_LIVE");
    one_of(&all[2], &other, Code::InvalidArgument, "REQUEST_ID_REUSED");
    refused(nobody, Code::NotFound, "CUSTOMER_NOT_FOUND", &[]);
    app.server.shutdown().await.expect("stopped");
}

/// Of two calls one has a run, and the other is refused.
#[track_caller]
fn one_of(one: &Result<pb::Progress, Status>, other: &Result<pb::Progress, Status>, code: Code, reason: &str) {
    let (good, bad) = if one.is_ok() { (one, other) } else { (other, one) };
    good.as_ref().expect("a run");
    refused(bad.clone(), code, reason, &[]);
}

async fn runs_are_shown_at_the_same_time_each_to_its_caller(backend: Backend) {
    let app = App::start(backend).await;
    let hook = app.timeline(definition("hook", 5, vec![email(1, 0, "A")])).await;
    let other = app.timeline(definition("other", 5, vec![email(1, 0, "A")])).await;
    let ids = crowd(&app, &hook, "c", 30).await;
    app.hourly().await;
    // This one has two, and this one none that is live.
    app.start_run(&ids[3], &other).await;
    let ended = app.progress(&ids[4]).await.progress_id;
    app.stop(&ids[4], ended, "over").await.expect("stopped");
    let broken = "update customer_timeline_progress set time_zone = 'Nowhere' where customer_id = 'c0005'";
    run_sql(&app, &[broken.to_owned()]).await;
    let shown = join_all(ids.iter().map(|id| app.get(id, 0)));
    let (shown, nobody) = tokio::join!(shown, app.get("nobody", 0));
    let mut by_id = Vec::new();
    for (at, (id, shown)) in ids.iter().zip(shown).enumerate() {
        match at {
            3 => {
                refused(shown, Code::FailedPrecondition, "AMBIGUOUS_RUN", &[]);
            }
            5 => {
                refused(shown, Code::Internal, "RUN_BROKEN", &[]);
            }
            _ => {
                let run = shown.expect("a run");
                assert_eq!(
                    (run.customer_id.as_str(), run.completed_actions.len()),
                    (id.as_str(), 1)
                );
                let is_over = run.status == i32::from(pb::ProgressStatus::Stopped);
                assert_eq!(is_over, at == 4, "{run:?}");
                by_id.push(run);
            }
        }
    }
    refused(nobody, Code::NotFound, "CUSTOMER_NOT_FOUND", &[]);
    // By their ids, of which one is another customer's.
    let ids = by_id.iter().map(|run| app.get(&run.customer_id, run.progress_id));
    let (again, wrong) = tokio::join!(join_all(ids), app.get("c0003", by_id[0].progress_id));
    let again: Vec<pb::Progress> = again.into_iter().map(|run| run.expect("a run")).collect();
    assert_eq!(again, by_id);
    refused(wrong, Code::NotFound, "RUN_NOT_FOUND", &[]);
    // An edit of the timeline is seen at once.
    app.set_active(&hook, false).await;
    let run = app.get(&by_id[0].customer_id, 0).await.expect("a run");
    assert!(!run.timeline_is_active, "{run:?}");
    app.server.shutdown().await.expect("stopped");
}
