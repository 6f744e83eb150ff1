//! Stages of the pipeline: assigning their default timeline, once per visit, and changing from one to another.

use campaign_automation::proto::campaign::v1 as pb;
use pb::{AssignmentOutcome, ProgressOrigin, ProgressStatus};
use tonic::Code;

use crate::support::calls::{about, completed};
use crate::support::given::{customer, definition, email, refused};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_stage_is_assigned_once_per_visit,
    an_assignment_that_has_nothing_to_start_is_refused,
    a_change_of_stage_says_what_became_of_the_assignment,
    a_change_of_stage_stops_what_was_assigned_and_not_what_was_started,
    the_stage_that_it_has_is_no_new_visit,
    a_refused_change_of_stage_stores_nothing,
    a_new_customer_is_assigned_if_asked,
);

/// A timeline for a stage, named after it.
async fn timeline(app: &App, stage: &str, is_default: bool, is_active: bool) -> pb::Timeline {
    let mut definition = definition(&format!("for-{stage}"), 5, vec![email(1, 13, "A")]);
    stage.clone_into(&mut definition.pipeline_stage);
    definition.is_default = is_default;
    definition.is_active = is_active;
    app.timeline(definition).await
}

async fn customer_in(app: &App, id: &str, stage: &str) {
    let customer = pb::Customer {
        pipeline_stage: stage.to_owned(),
        ..customer(id, "Europe/London")
    };
    app.put_customer(customer).await;
}

async fn a_stage_is_assigned_once_per_visit(backend: Backend) {
    let app = App::start(backend).await;
    let hook = timeline(&app, "hook", true, true).await;
    customer_in(&app, "anna", "hook").await;

    let first = app.assign("anna", false).await.expect("assigned");
    let run = first.progress.expect("a run");
    assert!(first.created);
    assert_eq!(
        (run.timeline_id, run.origin()),
        (hook.timeline_id, ProgressOrigin::Assigned)
    );
    let id = run.progress_id;
    for (allow_restart, what) in [(false, "live"), (true, "live, and a restart allowed")] {
        let again = app.assign("anna", allow_restart).await.expect("assigned");
        assert!(!again.created, "{what}");
        assert_eq!(again.progress.expect("a run"), run, "{what}");
    }
    app.stop("anna", id, "").await.expect("stopped");
    let again = app.assign("anna", false).await.expect("assigned");
    let ended = again.progress.expect("a run");
    assert_eq!(
        (again.created, ended.progress_id, ended.status()),
        (false, id, ProgressStatus::Stopped)
    );

    let restarted = app.assign("anna", true).await.expect("assigned");
    let second = restarted.progress.expect("a run").progress_id;
    assert!(restarted.created && second > id);
    let again = app.assign("anna", false).await.expect("assigned");
    assert_eq!(
        (again.created, again.progress.expect("a run").progress_id),
        (false, second)
    );

    // Away and back is another visit.
    app.change_stage("anna", "elsewhere").await.expect("changed");
    let back = app.change_stage("anna", "hook").await.expect("changed");
    let third = back
        .assignment
        .expect("an assignment")
        .progress
        .expect("a run")
        .progress_id;
    assert!(third > second);
    let again = app.assign("anna", false).await.expect("assigned");
    assert_eq!(
        (again.created, again.progress.expect("a run").progress_id),
        (false, third)
    );
    app.server.shutdown().await.expect("stopped");
}

async fn an_assignment_that_has_nothing_to_start_is_refused(backend: Backend) {
    let app = App::start(backend).await;
    timeline(&app, "no-default", false, true).await;
    let off = timeline(&app, "off", true, false).await;
    for (id, stage) in [("none", ""), ("plain", "no-default"), ("off", "off")] {
        customer_in(&app, id, stage).await;
    }
    for (id, code, reason) in [
        ("none", Code::FailedPrecondition, "STAGE_MISSING"),
        ("plain", Code::FailedPrecondition, "NO_DEFAULT_TIMELINE"),
        ("off", Code::FailedPrecondition, "TIMELINE_INACTIVE"),
        ("nobody", Code::NotFound, "CUSTOMER_NOT_FOUND"),
        ("a/b", Code::InvalidArgument, "INVALID_FIELDS"),
    ] {
        let error = refused(app.assign(id, false).await, code, reason, &[]);
        if id == "off" {
            assert_eq!(about(&error, "timeline_id"), off.timeline_id.to_string());
        }
    }
    // What the error names helps.
    app.set_active(&off, true).await;
    assert!(app.assign("off", false).await.expect("assigned").created);
    app.server.shutdown().await.expect("stopped");
}

async fn a_change_of_stage_says_what_became_of_the_assignment(backend: Backend) {
    let app = App::start(backend).await;
    timeline(&app, "good", true, true).await;
    timeline(&app, "no-default", false, true).await;
    timeline(&app, "off", true, false).await;
    let running = timeline(&app, "running", true, true).await;
    for (id, stage, outcome) in [
        ("a", "good", AssignmentOutcome::Started),
        ("b", "no-default", AssignmentOutcome::NoDefault),
        ("c", "unheard-of", AssignmentOutcome::NoDefault),
        ("d", "off", AssignmentOutcome::DefaultInactive),
        ("e", "start", AssignmentOutcome::StageUnchanged),
        ("f", "running", AssignmentOutcome::AlreadyRunning),
    ] {
        customer_in(&app, id, "start").await;
        if stage == "running" {
            app.start_run(id, &running).await;
        }
        let change = app.change_stage(id, stage).await.expect("changed");
        let assignment = change.assignment.expect("an assignment");
        assert_eq!(assignment.outcome(), outcome, "{stage}");
        assert_eq!(change.previous_pipeline_stage, "start", "{stage}");
        assert_eq!(change.customer.expect("a customer").pipeline_stage, stage);
        assert_eq!(app.get_customer(id).await.expect("a customer").pipeline_stage, stage);
        let origin = assignment.progress.as_ref().map(pb::Progress::origin);
        let expected = match outcome {
            AssignmentOutcome::Started => Some(ProgressOrigin::Assigned),
            AssignmentOutcome::AlreadyRunning => Some(ProgressOrigin::Started),
            AssignmentOutcome::NoDefault
            | AssignmentOutcome::DefaultInactive
            | AssignmentOutcome::StageUnchanged
            | AssignmentOutcome::Unspecified => None,
        };
        assert_eq!(origin, expected, "{stage}");
    }
    app.customer("g", "").await;
    let change = app.change_stage("g", "good").await.expect("changed");
    assert_eq!(change.previous_pipeline_stage, "");
    app.server.shutdown().await.expect("stopped");
}

async fn a_change_of_stage_stops_what_was_assigned_and_not_what_was_started(backend: Backend) {
    let app = App::start(backend).await;
    let hook = timeline(&app, "hook", true, true).await;
    timeline(&app, "base", true, true).await;
    let own = timeline(&app, "own", false, true).await;
    customer_in(&app, "anna", "hook").await;
    let assigned = app
        .assign("anna", false)
        .await
        .expect("assigned")
        .progress
        .expect("a run");
    let started = app.start_run("anna", &own).await.progress_id;
    app.pause("anna", assigned.progress_id, "").await.expect("paused");

    app.pass_hours(1);
    let change = app.change_stage("anna", "base").await.expect("changed");
    assert_eq!(change.stopped_progress_ids, [assigned.progress_id]);
    let old = app.get("anna", assigned.progress_id).await.expect("a run");
    assert_eq!(
        (old.status(), old.timeline_id),
        (ProgressStatus::Stopped, hook.timeline_id)
    );
    assert!(old.status_reason.contains("base"), "{}", old.status_reason);
    let kept = app.get("anna", started).await.expect("a run");
    assert_eq!(kept.status(), ProgressStatus::Active);
    let new = change.assignment.expect("an assignment").progress.expect("a run");

    app.hourly().await;
    let sent = app.sent_to("anna");
    assert_eq!(
        sent,
        ["20260105T130000Z email", "20260105T130000Z email"],
        "of the new and of the started one"
    );
    assert_eq!(
        completed(&app.get("anna", new.progress_id).await.expect("a run")),
        ["d1h13A"]
    );

    // Also when there is nothing to start in the new stage.
    let change = app.change_stage("anna", "nowhere").await.expect("changed");
    assert_eq!(change.stopped_progress_ids, [new.progress_id]);
    assert_eq!(app.progress("anna").await.progress_id, started);
    app.server.shutdown().await.expect("stopped");
}

async fn the_stage_that_it_has_is_no_new_visit(backend: Backend) {
    let app = App::start(backend).await;
    timeline(&app, "hook", true, true).await;
    customer_in(&app, "anna", "hook").await;
    let run = app
        .assign("anna", false)
        .await
        .expect("assigned")
        .progress
        .expect("a run");
    let before = app.get_customer("anna").await.expect("a customer");
    app.pass_hours(1);
    let change = app.change_stage("anna", "hook").await.expect("changed");
    assert_eq!(change.stopped_progress_ids, [0; 0]);
    assert_eq!(app.get_customer("anna").await.expect("a customer"), before);
    let again = app.assign("anna", false).await.expect("assigned");
    assert_eq!(again.progress.expect("a run"), run);
    app.server.shutdown().await.expect("stopped");
}

async fn a_refused_change_of_stage_stores_nothing(backend: Backend) {
    let app = App::start(backend).await;
    customer_in(&app, "anna", "hook").await;
    let before = app.get_customer("anna").await.expect("a customer");
    for (id, stage, code, reason, fields) in [
        ("nobody", "base", Code::NotFound, "CUSTOMER_NOT_FOUND", &[][..]),
        ("anna", "", Code::InvalidArgument, "INVALID_FIELDS", &["pipeline_stage"]),
        (
            "",
            "Not Ok",
            Code::InvalidArgument,
            "INVALID_FIELDS",
            &["customer_id", "pipeline_stage"],
        ),
    ] {
        refused(app.change_stage(id, stage).await, code, reason, fields);
    }
    assert_eq!(app.get_customer("anna").await.expect("a customer"), before);
    app.server.shutdown().await.expect("stopped");
}

async fn a_new_customer_is_assigned_if_asked(backend: Backend) {
    let app = App::start(backend).await;
    timeline(&app, "good", true, true).await;
    timeline(&app, "off", true, false).await;
    customer_in(&app, "old", "good").await;
    let of_stage = |id: &str, stage: &str| pb::Customer {
        pipeline_stage: stage.to_owned(),
        ..customer(id, "Europe/London")
    };
    let request = pb::UpsertCustomersRequest {
        customers: vec![
            of_stage("new", "good"),
            of_stage("off", "off"),
            of_stage("plain", "no-default"),
            of_stage("none", ""),
            of_stage("old", "good"),
        ],
        assign_timeline: true,
        ..Default::default()
    };
    let results = app.upsert(request).await.expect("results").results;
    let outcomes: Vec<_> = results
        .iter()
        .map(|result| {
            (
                result.created,
                result.assignment.as_ref().map(pb::StageAssignment::outcome),
            )
        })
        .collect();
    assert_eq!(
        outcomes,
        [
            (true, Some(AssignmentOutcome::Started)),
            (true, Some(AssignmentOutcome::DefaultInactive)),
            (true, Some(AssignmentOutcome::NoDefault)),
            (true, None),
            (false, None),
        ]
    );
    let runs = app.list_progress(pb::ListProgressRequest::default()).await;
    let owners: Vec<String> = runs
        .expect("a page")
        .progress
        .into_iter()
        .map(|run| run.customer_id)
        .collect();
    assert_eq!(owners, ["new"]);
    // It is the run of this visit.
    assert!(!app.assign("new", false).await.expect("assigned").created);
    app.server.shutdown().await.expect("stopped");
}
