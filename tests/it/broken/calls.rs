//! What calls say about runs that can't be read, and what they do for all others.

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::google;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use super::{action_id, alter, run_sql};
use crate::support::calls::of_item;
use crate::support::given::{customer, definition, email, refused};
use crate::support::mailing::crowd;
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_call_about_a_broken_run_says_so,
    a_list_shows_the_others_and_names_the_broken_ones,
    a_batch_goes_on_for_the_others,
    a_run_of_a_timeline_that_is_not_there_is_broken,
);

/// Which run an error is about, by its metadata.
fn named(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().expect("an ErrorInfo").metadata["progress_id"].clone()
}

#[track_caller]
fn says_broken<T: std::fmt::Debug>(result: Result<T, Status>, run: &pb::Progress) {
    let status = refused(result, Code::Internal, "RUN_BROKEN", &[]);
    assert_eq!(named(&status), run.progress_id.to_string());
    assert!(!status.message().contains("secret"), "{}", status.message());
}

async fn execute(app: &App, customer: &str) -> Result<pb::ExecuteActionsResponse, Status> {
    let request = pb::ExecuteActionsRequest {
        customer_id: customer.to_owned(),
        ..Default::default()
    };
    app.orchestrator()
        .execute_actions(request)
        .await
        .map(Response::into_inner)
}

async fn explain(app: &App, customer: &str, run: i64) -> Result<pb::ExplainActionsResponse, Status> {
    let request = pb::ExplainActionsRequest {
        customer_id: customer.to_owned(),
        progress_id: run,
    };
    app.orchestrator()
        .explain_actions(request)
        .await
        .map(Response::into_inner)
}

/// What stands in the row is told to nobody.
async fn a_call_about_a_broken_run_says_so(backend: Backend) {
    let mut ways = vec![
        "status = 'secret'",
        "time_zone = 'secret'",
        "origin = 'secret'",
        "failed_actions = '[{\"id\": \"secret\"}]'",
    ];
    ways.push(match backend {
        Backend::Sqlite => "failed_actions = '[\"secret@example.com\"'",
        Backend::Postgres => "day_date = 'infinity'",
    });
    for way in ways {
        let app = App::start(backend).await;
        let hook = app.timeline(definition("hook", 2, vec![email(1, 0, "A")])).await;
        let base = app.timeline(definition("base", 2, vec![email(1, 0, "A")])).await;
        app.customer("anna", "Etc/UTC").await;
        let run = app.start_run("anna", &hook).await;
        alter(&app, "anna", way).await;
        let other = app.start_run("anna", &base).await;
        let id = run.progress_id;
        says_broken(app.get("anna", id).await, &run);
        says_broken(explain(&app, "anna", id).await, &run);
        says_broken(app.pause("anna", id, "").await, &run);
        says_broken(app.resume("anna", id, "").await, &run);
        says_broken(app.stop("anna", id, "").await, &run);
        let is_live = way != "status = 'secret'";
        if is_live {
            says_broken(explain(&app, "anna", 0).await, &run);
            // The other one is served, though the answer is about the broken one.
            says_broken(execute(&app, "anna").await, &run);
        } else {
            execute(&app, "anna").await.expect("results");
        }
        assert_eq!(app.sent_count(), 1, "{way}");
        let other = app.get("anna", other.progress_id).await.expect("a run");
        assert_eq!(other.completed_actions.len(), 1, "{way}");
        explain(&app, "anna", other.progress_id).await.expect("an explanation");
        app.pause("anna", other.progress_id, "").await.expect("paused");
    }
}

async fn a_list_shows_the_others_and_names_the_broken_ones(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 2, vec![email(1, 13, "A")])).await;
    let ids = crowd(&app, &timeline, "c", 7).await;
    let broken = ["c0000", "c0003", "c0006"];
    for id in broken {
        alter(&app, id, "last_late = '[]'").await;
    }
    for page_size in [1, 2, 3, 1000] {
        let (mut shown, mut named_ones, mut page_token) = (Vec::new(), Vec::new(), String::new());
        loop {
            let request = pb::ListProgressRequest {
                page_size,
                page_token,
                timeline_id: timeline.timeline_id,
                ..Default::default()
            };
            let page = app.list_progress(request).await.expect("a page");
            assert!(page.progress.len() + page.broken.len() <= usize::try_from(page_size).expect("a size"));
            shown.extend(page.progress.into_iter().map(|run| run.customer_id));
            for one in page.broken {
                let error: google::rpc::Status = one.error.expect("an error");
                let status = refused(of_item::<()>(&error), Code::Internal, "RUN_BROKEN", &[]);
                assert_eq!(named(&status), one.progress_id.to_string());
                named_ones.push(one.customer_id);
            }
            if page.next_page_token.is_empty() {
                break;
            }
            page_token = page.next_page_token;
        }
        assert_eq!(named_ones, broken, "{page_size}");
        let expected = ids.iter().filter(|id| !broken.contains(&id.as_str()));
        assert!(shown.iter().eq(expected), "{page_size}: {shown:?}");
    }
}

async fn a_batch_goes_on_for_the_others(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 2, vec![email(1, 13, "A")])).await;
    let ids = crowd(&app, &timeline, "c", 2).await;
    let runs = [app.progress("c0000").await, app.progress("c0001").await];
    alter(&app, &ids[0], "origin = 'imported'").await;

    // A change of zone moves the other's run.
    let customers = ids.iter().map(|id| customer(id, "Asia/Tokyo")).collect();
    let request = pb::UpsertCustomersRequest {
        customers,
        ..Default::default()
    };
    let stored = app.upsert(request).await.expect("results").results;
    assert!(
        stored
            .iter()
            .all(|one| matches!(one.result, Some(pb::upsert_customers_result::Result::Customer(_)))),
        "{stored:?}"
    );
    assert_eq!(app.progress("c0001").await.time_zone, "Asia/Tokyo");

    let engagement = |run: &pb::Progress| pb::Engagement {
        customer_id: run.customer_id.clone(),
        event_id: "e".to_owned(),
        kind: pb::EngagementKind::EmailOpened.into(),
        occur_time: Some(crate::support::given::stamp("2026-01-05T12:00:00Z")),
        progress_id: run.progress_id,
        action_id: action_id(&timeline),
        ..Default::default()
    };
    // What was done is noted, whatever the run is like.
    let recorded = app.record(runs.iter().map(engagement).collect()).await;
    assert!(recorded.iter().all(|one| one.error.is_none()), "{recorded:?}");

    // Where the status itself can't be read.
    alter(&app, &ids[0], "status = 'frozen'").await;
    let starts = ids.iter().map(|id| pb::TimelineStart {
        customer_id: id.clone(),
        timeline_id: timeline.timeline_id,
        ..Default::default()
    });
    let request = pb::StartTimelinesRequest {
        starts: starts.collect(),
        ..Default::default()
    };
    let started = app
        .orchestrator()
        .start_timelines(request)
        .await
        .expect("results")
        .into_inner();
    let errors: Vec<Status> = started
        .results
        .into_iter()
        .map(|one| match one.result {
            Some(pb::start_timelines_result::Result::Error(error)) => of_item::<()>(&error).expect_err("an error"),
            other => panic!("{other:?}"),
        })
        .collect();
    says_broken(Err::<(), _>(errors[0].clone()), &runs[0]);
    refused(Err::<(), _>(errors[1].clone()), Code::AlreadyExists, "RUN_IS_LIVE", &[]);
}

async fn a_run_of_a_timeline_that_is_not_there_is_broken(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 2, vec![email(1, 13, "A")])).await;
    crowd(&app, &timeline, "c", 2).await;
    let run = app.progress("c0000").await;
    run_sql(
        &app,
        &[
            "update customer_timeline_progress set campaign_timeline_id = 999999 where customer_id = 'c0000'"
                .to_owned(),
        ],
    )
    .await;
    says_broken(app.get("c0000", 0).await, &run);
    says_broken(explain(&app, "c0000", 0).await, &run);
    let listed = app
        .list_progress(pb::ListProgressRequest::default())
        .await
        .expect("runs");
    assert_eq!((listed.progress.len(), listed.broken.len()), (1, 1));
}
