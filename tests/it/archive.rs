//! Ending a timeline for good: what it is then, what becomes of its runs, and what is finished by a tick.

use campaign_automation::proto::campaign::v1 as pb;
use pb::ProgressStatus::{Active, Completed, Stopped};
use sea_orm::{ConnectionTrait as _, Database};
use std::time::Duration;
use tonic::{Code, Status};

use crate::support::calls::{about, of_item};
use crate::support::given::{definition, email, refused, shown};
use crate::support::mailing::{crowd, mailing_app_with, until_run};
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    an_archived_timeline_is_over,
    live_runs_keep_a_timeline,
    live_runs_are_stopped_where_that_is_wanted,
    what_is_being_sent_is_recorded,
    a_tick_stops_what_is_left,
    a_repeated_request_archives_once,
    no_run_outlives_its_timeline,
);

async fn archive(app: &App, request: pb::ArchiveTimelineRequest) -> Result<pb::ArchiveTimelineResponse, Status> {
    let response = app.timelines().archive_timeline(request).await;
    response.map(tonic::Response::into_inner)
}

fn of(timeline: &pb::Timeline) -> pb::ArchiveTimelineRequest {
    pb::ArchiveTimelineRequest {
        timeline_id: timeline.timeline_id,
        ..Default::default()
    }
}

fn stopping(timeline: &pb::Timeline, reason: &str) -> pb::ArchiveTimelineRequest {
    pb::ArchiveTimelineRequest {
        stop_runs: true,
        reason: reason.to_owned(),
        ..of(timeline)
    }
}

async fn slugs(app: &App, request: pb::ListTimelinesRequest) -> Vec<String> {
    let page = app.timelines().list_timelines(request).await.expect("a page");
    let timelines = page.into_inner().timelines.into_iter();
    timelines
        .map(|timeline| timeline.definition.expect("a definition").slug)
        .collect()
}

async fn an_archived_timeline_is_over(backend: Backend) {
    let app = App::start(backend).await;
    let mut hook = definition("hook", 5, vec![email(1, 0, "A")]);
    hook.is_default = true;
    let before = app.timeline(hook.clone()).await;
    app.timeline(definition("other", 5, vec![email(1, 0, "A")])).await;
    app.customer("anna", "Etc/UTC").await;
    app.change_stage("anna", "base").await.expect("a stage");
    let answer = archive(&app, of(&before)).await.expect("archived");
    let archived = answer.timeline.expect("a timeline");
    let now = archived.definition.clone().expect("a definition");
    assert_eq!((now.is_active, now.is_default, answer.runs_to_stop), (false, false, 0));
    assert_eq!(shown(archived.archive_time), "2026-01-05T12:00:00Z");
    assert_ne!(archived.etag, before.etag);
    assert_eq!(before.archive_time, None);

    // Archiving it again changes nothing, nor does switching it off.
    app.pass_hours(1);
    let again = archive(&app, stopping(&before, "once more")).await.expect("archived");
    assert_eq!(again.timeline.as_ref(), Some(&archived));
    assert_eq!(app.set_active(&before, false).await, archived);
    assert_eq!(app.get_timeline("hook").await.expect("a timeline"), archived);
    let by_id = pb::GetTimelineRequest {
        timeline_id: before.timeline_id,
        ..Default::default()
    };
    let by_id = app.timelines().get_timeline(by_id).await.expect("a timeline");
    assert_eq!(by_id.into_inner().timeline.as_ref(), Some(&archived));

    let all = pb::ListTimelinesRequest::default;
    assert_eq!(slugs(&app, all()).await, ["other"]);
    let with_archived = pb::ListTimelinesRequest {
        show_archived: true,
        ..all()
    };
    assert_eq!(slugs(&app, with_archived.clone()).await, ["hook", "other"]);
    let active = pb::ListTimelinesRequest {
        active_only: true,
        ..with_archived.clone()
    };
    assert_eq!(slugs(&app, active).await, ["other"]);
    let first = pb::ListTimelinesRequest {
        page_size: 1,
        ..with_archived
    };
    let page = app
        .timelines()
        .list_timelines(first)
        .await
        .expect("a page")
        .into_inner();
    let other_filter = pb::ListTimelinesRequest {
        page_token: page.next_page_token,
        ..all()
    };
    let answer = app.timelines().list_timelines(other_filter).await;
    refused(answer, Code::InvalidArgument, "INVALID_FIELDS", &["page_token"]);

    let over = |result: Result<(), Status>| {
        let status = refused(result, Code::FailedPrecondition, "TIMELINE_ARCHIVED", &[]);
        assert!(status.message().contains("another slug"), "{}", status.message());
        assert_eq!(about(&status, "slug"), "hook");
    };
    let start = pb::StartTimelineRequest {
        customer_id: "anna".to_owned(),
        timeline_id: before.timeline_id,
        ..Default::default()
    };
    over(app.try_start(start).await.map(drop));
    let start = pb::TimelineStart {
        customer_id: "anna".to_owned(),
        timeline_id: before.timeline_id,
        ..Default::default()
    };
    let starts = pb::StartTimelinesRequest {
        starts: vec![start],
        ..Default::default()
    };
    let results = app
        .orchestrator()
        .start_timelines(starts)
        .await
        .expect("results")
        .into_inner();
    match results.results[0].result.as_ref().expect("a result") {
        pb::start_timelines_result::Result::Error(error) => over(of_item(error)),
        pb::start_timelines_result::Result::Run(run) => panic!("started: {run:?}"),
    }
    let on = pb::SetTimelineActiveRequest {
        timeline_id: before.timeline_id,
        is_active: true,
        ..Default::default()
    };
    over(app.timelines().set_timeline_active(on).await.map(drop));
    over(app.set_default("hook", before.timeline_id).await.map(drop));
    for etag in ["", archived.etag.as_str(), "\"99\""] {
        over(app.apply(hook.clone(), etag).await.map(drop));
    }
    // Its stage has no default any more, and may have another.
    let changed = app.change_stage("anna", "hook").await.expect("a stage");
    let assignment = changed.assignment.expect("an assignment");
    assert_eq!(assignment.outcome(), pb::AssignmentOutcome::NoDefault);
    let again = pb::TimelineDefinition {
        slug: "hook-2".to_owned(),
        ..hook
    };
    app.apply(again, "").await.expect("applied");
    assert!(app.assign("anna", false).await.expect("assigned").created);

    let nobody = pb::ArchiveTimelineRequest {
        timeline_id: 99,
        ..Default::default()
    };
    refused(archive(&app, nobody).await, Code::NotFound, "TIMELINE_NOT_FOUND", &[]);
    let bad = pb::ArchiveTimelineRequest {
        reason: "two\nlines".to_owned(),
        request_id: "a b".to_owned(),
        ..Default::default()
    };
    let fields = ["timeline_id", "reason", "request_id"];
    refused(
        archive(&app, bad).await,
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &fields,
    );
    app.server.shutdown().await.expect("stopped");
}

async fn live_runs_keep_a_timeline(backend: Backend) {
    let app = App::start(backend).await;
    let hook = app.timeline(definition("hook", 5, vec![email(1, 20, "A")])).await;
    let mut runs = Vec::new();
    for id in ["anna", "bob", "carl"] {
        app.customer(id, "Etc/UTC").await;
        runs.push(app.start_run(id, &hook).await.progress_id);
    }
    app.pause("bob", runs[1], "").await.expect("paused");
    app.stop("carl", runs[2], "").await.expect("stopped");
    let status = refused(
        archive(&app, of(&hook)).await,
        Code::FailedPrecondition,
        "TIMELINE_HAS_RUNS",
        &[],
    );
    assert!(status.message().contains("2 live runs"), "{}", status.message());
    assert_eq!(about(&status, "runs"), "2");
    assert_eq!(app.get_timeline("hook").await.expect("a timeline"), hook);
    app.stop("anna", runs[0], "").await.expect("stopped");
    app.stop("bob", runs[1], "").await.expect("stopped");
    let archived = archive(&app, of(&hook)).await.expect("archived");
    assert!(archived.timeline.expect("a timeline").archive_time.is_some());
    app.server.shutdown().await.expect("stopped");
}

async fn live_runs_are_stopped_where_that_is_wanted(backend: Backend) {
    for (reason, expected) in [
        ("the season is over", "the season is over"),
        ("", "the timeline was archived"),
    ] {
        let app = App::start(backend).await;
        let hook = app.timeline(definition("hook", 1, vec![email(1, 20, "A")])).await;
        let other = app.timeline(definition("other", 1, vec![email(1, 20, "A")])).await;
        for id in ["anna", "bob", "carl", "dora"] {
            app.customer(id, "Etc/UTC").await;
        }
        app.start_run("dora", &hook).await;
        app.tick_hours(36).await;
        app.start_run("anna", &hook).await;
        let bob = app.start_run("bob", &hook).await.progress_id;
        app.start_run("carl", &other).await;
        app.pause("bob", bob, "on holiday").await.expect("paused");
        let archived = archive(&app, stopping(&hook, reason)).await.expect("archived");
        assert_eq!(archived.runs_to_stop, 2);
        let now = shown(archived.timeline.expect("a timeline").archive_time);
        for id in ["anna", "bob"] {
            let run = app.progress(id).await;
            assert_eq!((run.status(), run.status_reason.as_str()), (Stopped, expected), "{id}");
            assert_eq!(shown(run.end_time), now, "{id}");
            assert_eq!(run.next_action, None, "{id}");
        }
        assert_eq!(app.progress("carl").await.status(), Active);
        assert_eq!(app.progress("dora").await.status(), Completed);
        let sent = app.sent_count();
        app.tick_hours(30).await;
        assert_eq!((app.sent_to("carl").len(), app.sent_count()), (1, sent + 1));
        app.server.shutdown().await.expect("stopped");
    }
}

async fn what_is_being_sent_is_recorded(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app_with(backend, &smtp.url(), |config| {
        config.send_timeout = Duration::from_secs(50);
    })
    .await;
    let hook = app
        .timeline(definition("hook", 5, vec![email(1, 0, "A"), email(1, 15, "B")]))
        .await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &hook).await;
    smtp.behave(Behaviour::Stall(Step::Dot));
    let ticking = {
        let mut ticks = app.ticks();
        let request = pb::ProcessCampaignTimelinesRequest::default();
        tokio::spawn(async move { crate::support::app::hourly(&mut ticks, request).await })
    };
    smtp.until_stalled(1).await;
    until_run(&app, "anna", |run| !run.in_flight_actions.is_empty()).await;
    let archived = archive(&app, stopping(&hook, "over")).await.expect("archived");
    assert_eq!(archived.runs_to_stop, 1);
    let run = app.progress("anna").await;
    assert_eq!((run.status(), run.in_flight_actions.len()), (Stopped, 1));
    smtp.accept_all();
    smtp.release();
    ticking.await.expect("a tick").expect("a summary");
    let run = app.progress("anna").await;
    assert_eq!((run.status(), run.status_reason.as_str()), (Stopped, "over"));
    assert_eq!((run.completed_actions.len(), run.in_flight_actions.len()), (1, 0));
    app.tick_hours(30).await;
    assert_eq!(smtp.deliveries().len(), 1);
    app.server.shutdown().await.expect("stopped");
}

async fn a_tick_stops_what_is_left(backend: Backend) {
    let app = App::start(backend).await;
    let hook = app.timeline(definition("hook", 5, vec![email(1, 20, "A")])).await;
    let other = app.timeline(definition("other", 5, vec![email(1, 20, "A")])).await;
    crowd(&app, &hook, "c", 5).await;
    app.customer("dora", "Etc/UTC").await;
    app.start_run("dora", &other).await;
    archive(&app, stopping(&hook, "over")).await.expect("archived");
    for daily in [false, true] {
        // As if the call had broken off before it came to these.
        let database = Database::connect(&app.database.url).await.expect("a connection");
        for sql in [
            "update customer_timeline_progress set status = 'active', ended_at = null, next_action_at = not_before \
             where customer_id in ('c0002', 'c0004')",
            "update campaign_timelines set stopping_runs = true where slug = 'hook'",
        ] {
            database.execute_unprepared(sql).await.expect("changed");
        }
        database.close().await.expect("closed");
        // Until then they are frozen.
        let runs = app.execute("c0002").await;
        assert_eq!(runs[0].hold(), pb::RunHold::TimelineInactive);
        // Ticks that are not about them leave them so.
        let request = pb::ProcessCampaignTimelinesRequest {
            dry_run: true,
            ..Default::default()
        };
        crate::support::app::hourly(&mut app.ticks(), request)
            .await
            .expect("a summary");
        let request = pb::ProcessCampaignTimelinesRequest {
            timeline_ids: vec![other.timeline_id],
            ..Default::default()
        };
        crate::support::app::hourly(&mut app.ticks(), request)
            .await
            .expect("a summary");
        assert_eq!(app.progress("c0002").await.status(), Active);
        if daily {
            app.daily().await;
        } else {
            app.hourly().await;
        }
        for id in ["c0002", "c0004"] {
            let run = app.progress(id).await;
            assert_eq!((run.status(), run.status_reason.as_str()), (Stopped, "over"), "{id}");
        }
    }
    assert_eq!(app.progress("dora").await.status(), Active);
    // Nothing is left, and no tick looks for it.
    app.tick_hours(30).await;
    assert_eq!((app.sent_count(), app.sent_to("dora").len()), (1, 1));
    app.server.shutdown().await.expect("stopped");
}

async fn a_repeated_request_archives_once(backend: Backend) {
    let app = App::start(backend).await;
    let hook = app.timeline(definition("hook", 5, vec![email(1, 20, "A")])).await;
    crowd(&app, &hook, "c", 3).await;
    let request = || pb::ArchiveTimelineRequest {
        request_id: "once".to_owned(),
        ..stopping(&hook, "over")
    };
    let (one, other) = tokio::join!(archive(&app, request()), archive(&app, request()));
    let one = one.expect("archived");
    assert_eq!(one.runs_to_stop, 3);
    assert_eq!(one, other.expect("archived"));
    app.pass_hours(1);
    assert_eq!(archive(&app, request()).await.expect("archived"), one);
    let reused = archive(
        &app,
        pb::ArchiveTimelineRequest {
            stop_runs: false,
            ..request()
        },
    )
    .await;
    refused(reused, Code::InvalidArgument, "REQUEST_ID_REUSED", &["request_id"]);
    app.server.shutdown().await.expect("stopped");
}

async fn no_run_outlives_its_timeline(backend: Backend) {
    let app = App::start(backend).await;
    let ids: Vec<String> = (0..40).map(|n| format!("c{n:02}")).collect();
    for id in &ids {
        app.customer(id, "Etc/UTC").await;
    }
    for round in 0..5 {
        let hook = app
            .timeline(definition(&format!("hook-{round}"), 5, vec![email(1, 20, "A")]))
            .await;
        let starts = ids.iter().map(|id| {
            let request = pb::StartTimelineRequest {
                customer_id: id.clone(),
                timeline_id: hook.timeline_id,
                ..Default::default()
            };
            app.try_start(request)
        });
        let (started, archived) = tokio::join!(
            futures::future::join_all(starts),
            archive(&app, stopping(&hook, "over"))
        );
        archived.expect("archived");
        let mut count = 0;
        for result in started {
            match result {
                Ok(_) => count += 1,
                Err(status) => assert!(
                    matches!(status.code(), Code::FailedPrecondition | Code::Aborted),
                    "{status:?}"
                ),
            }
        }
        let request = pb::ListProgressRequest {
            timeline_id: hook.timeline_id,
            page_size: 100,
            ..Default::default()
        };
        let runs = app.list_progress(request).await.expect("a page").progress;
        assert_eq!(runs.len(), count, "round {round}");
        assert!(runs.iter().all(|run| run.status() == Stopped), "round {round}");
    }
    app.server.shutdown().await.expect("stopped");
}
