//! Changing a timeline while customers are on it: what is pending is planned anew, what is finished stays finished.

mod edits;
mod pending;

use campaign_automation::proto::campaign::v1 as pb;
use pb::{ProgressStatus, SkipReason};

use crate::support::calls::{completed, day, next, skipped};
use crate::support::given::{definition, email, shown};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    an_hour_that_is_moved_counts_today,
    an_action_that_is_added_to_today_goes,
    what_is_moved_or_added_to_a_past_day_never_goes,
    what_is_removed_while_pending_is_skipped,
    what_is_removed_while_frozen_is_skipped_after,
    what_is_finished_stays_finished,
    a_shorter_timeline_completes_who_is_beyond_it,
    the_answer_says_how_many_runs_are_planned_anew,
    new_content_is_sent_from_then_on,
    a_new_action_has_its_new_campaign_at_once,
    a_default_is_set_and_taken_away,
    a_switch_that_changes_nothing_is_none,
);

fn keyed(key: &str, action: pb::ActionDefinition) -> pb::ActionDefinition {
    pb::ActionDefinition {
        key: key.to_owned(),
        ..action
    }
}

/// A timeline of five days with these actions, and a run of it for `anna` in London.
async fn running(app: &App, actions: Vec<pb::ActionDefinition>) -> pb::Timeline {
    let timeline = app.timeline(definition("hook", 5, actions)).await;
    app.customer("anna", "Europe/London").await;
    app.start_run("anna", &timeline).await;
    timeline
}

/// Applies other actions, and says how many runs are planned anew.
async fn change(app: &App, timeline: &pb::Timeline, actions: Vec<pb::ActionDefinition>) -> (pb::Timeline, i64) {
    let definition = pb::TimelineDefinition {
        actions,
        ..timeline.definition.clone().expect("a definition")
    };
    let applied = app.apply(definition, &timeline.etag).await.expect("applied");
    let runs = applied.changes.expect("changes").runs_to_replan;
    (applied.timeline.expect("a timeline"), runs)
}

/// A mail at 18 o'clock is moved to 14, and one at 15 to 17.
async fn an_hour_that_is_moved_counts_today(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = running(
        &app,
        vec![keyed("early", email(1, 18, "A")), keyed("late", email(1, 15, "A"))],
    )
    .await;
    app.tick_at(&["2026-01-05T13:00:00Z"]).await;
    let moved = vec![keyed("early", email(1, 14, "A")), keyed("late", email(1, 17, "A"))];
    let (_, runs) = change(&app, &timeline, moved).await;
    assert_eq!(runs, 1);
    assert_eq!(
        next(&app.progress("anna").await),
        Some(("early".to_owned(), "2026-01-05T14:00:00Z".to_owned()))
    );
    app.tick_at(&[
        "2026-01-05T13:30:00Z",
        "2026-01-05T14:00:00Z",
        "2026-01-05T15:00:00Z",
        "2026-01-05T17:00:00Z",
        "2026-01-05T18:00:00Z",
    ])
    .await;
    assert_eq!(
        app.sent_to("anna"),
        ["20260105T140000Z email", "20260105T170000Z email"]
    );
    app.server.shutdown().await.expect("stopped");
}

/// One to come, one whose hour has passed since the start; the day's own action is done.
async fn an_action_that_is_added_to_today_goes(backend: Backend) {
    let app = App::start(backend).await;
    let first = keyed("first", email(1, 12, "A"));
    let timeline = running(&app, vec![first.clone()]).await;
    app.tick_at(&["2026-01-05T12:00:00Z", "2026-01-05T14:00:00Z"]).await;
    app.set("2026-01-05T15:00:00Z");
    let added = vec![
        first,
        keyed("passed", email(1, 14, "A")),
        keyed("to-come", email(1, 16, "A")),
    ];
    let (_, runs) = change(&app, &timeline, added).await;
    assert_eq!(runs, 1);
    app.tick_at(&["2026-01-05T15:00:00Z", "2026-01-05T16:00:00Z", "2026-01-06T00:00:00Z"])
        .await;
    let run = app.progress("anna").await;
    assert_eq!(completed(&run), ["first", "passed", "to-come"]);
    assert_eq!(
        app.sent_to("anna"),
        [
            "20260105T120000Z email",
            "20260105T150000Z email",
            "20260105T160000Z email"
        ]
    );
    assert_eq!((day(&run), run.shifted_days), ((2, "2026-01-06".to_owned()), 0));
    app.server.shutdown().await.expect("stopped");
}

/// On day 2, one of today and one of day 4 are moved to day 1, and another is added there.
async fn what_is_moved_or_added_to_a_past_day_never_goes(backend: Backend) {
    let app = App::start(backend).await;
    let actions = vec![
        keyed("today", email(2, 15, "A")),
        keyed("later", email(4, 10, "A")),
        keyed("last", email(5, 10, "A")),
    ];
    let timeline = running(&app, actions).await;
    app.tick_at(&["2026-01-06T12:00:00Z"]).await;
    let moved = vec![
        keyed("today", email(1, 15, "A")),
        keyed("later", email(1, 16, "A")),
        keyed("added", email(1, 17, "A")),
        keyed("last", email(5, 10, "A")),
    ];
    let (_, runs) = change(&app, &timeline, moved).await;
    assert_eq!(runs, 1);
    app.tick_at(&[
        "2026-01-06T13:00:00Z",
        "2026-01-06T15:00:00Z",
        "2026-01-07T10:00:00Z",
        "2026-01-08T10:00:00Z",
        "2026-01-09T10:00:00Z",
        "2026-01-10T00:00:00Z",
    ])
    .await;
    let run = app.progress("anna").await;
    assert_eq!((run.status(), run.shifted_days), (ProgressStatus::Completed, 0));
    assert_eq!((completed(&run), skipped(&run)), (vec!["last".to_owned()], vec![]));
    assert_eq!(app.sent_to("anna"), ["20260109T100000Z email"]);
    app.server.shutdown().await.expect("stopped");
}

/// Today's pending one is skipped, tomorrow's is simply gone, and the day goes on.
async fn what_is_removed_while_pending_is_skipped(backend: Backend) {
    let app = App::start(backend).await;
    let kept = vec![keyed("kept", email(1, 16, "A")), keyed("done", email(1, 12, "A"))];
    let mut actions = kept.clone();
    actions.extend([keyed("today", email(1, 15, "A")), keyed("tomorrow", email(2, 10, "A"))]);
    let timeline = running(&app, actions).await;
    app.tick_at(&["2026-01-05T13:00:00Z"]).await;
    let (_, runs) = change(&app, &timeline, vec![kept[0].clone()]).await;
    assert_eq!(runs, 1);
    app.set("2026-01-05T13:30:00Z");
    let summary = app.hourly().await;
    let email = summary.counts.expect("counts").channels;
    assert_eq!(email.iter().map(|channel| channel.skipped).sum::<i64>(), 1);
    let run = app.progress("anna").await;
    assert_eq!(skipped(&run), [("today".to_owned(), SkipReason::Removed)]);
    let removed = run.skipped_actions[0].action.clone().expect("an action");
    assert!(removed.is_removed);
    assert_eq!(
        completed(&run),
        ["done"],
        "what was finished stays, though it is gone from the timeline"
    );
    assert!(run.completed_actions[0].action.clone().expect("an action").is_removed);

    app.tick_at(&["2026-01-05T15:00:00Z", "2026-01-05T16:00:00Z", "2026-01-06T10:00:00Z"])
        .await;
    let run = app.progress("anna").await;
    assert_eq!(completed(&run), ["done", "kept"]);
    assert_eq!(skipped(&run), [("today".to_owned(), SkipReason::Removed)]);
    assert_eq!(day(&run), (2, "2026-01-06".to_owned()));
    app.server.shutdown().await.expect("stopped");
}

/// What was pending when its run was paused, or its timeline switched off, was pending still when it was removed.
async fn what_is_removed_while_frozen_is_skipped_after(backend: Backend) {
    for by_pause in [true, false] {
        let app = App::start(backend).await;
        let only = keyed("today", email(1, 15, "A"));
        let timeline = running(&app, vec![only, keyed("later", email(2, 10, "A"))]).await;
        let run = app.progress("anna").await.progress_id;
        if by_pause {
            app.pause("anna", run, "").await.expect("paused");
        } else {
            app.set_active(&timeline, false).await;
        }
        app.tick_at(&["2026-01-06T13:00:00Z", "2026-01-07T13:00:00Z"]).await;
        let stored = app.get_timeline("hook").await.expect("the timeline");
        change(&app, &stored, vec![keyed("later", email(2, 10, "A"))]).await;
        app.tick_at(&["2026-01-08T13:00:00Z"]).await;
        if by_pause {
            app.resume("anna", run, "").await.expect("resumed");
        } else {
            app.set_active(&timeline, true).await;
        }
        app.tick_at(&["2026-01-08T14:00:00Z", "2026-01-09T00:00:00Z", "2026-01-09T10:00:00Z"])
            .await;
        let run = app.progress("anna").await;
        assert_eq!(skipped(&run), [("today".to_owned(), SkipReason::Removed)], "{by_pause}");
        assert_eq!(
            shown(run.skipped_actions[0].skip_time),
            "2026-01-08T14:00:00Z",
            "{by_pause}"
        );
        assert_eq!(completed(&run), ["later"], "{by_pause}");
        app.server.shutdown().await.expect("stopped");
    }
}

/// Finished actions are moved ahead, or removed and brought back, and don't go again.
async fn what_is_finished_stays_finished(backend: Backend) {
    let app = App::start(backend).await;
    let (one, two) = (keyed("one", email(1, 12, "A")), keyed("two", email(1, 13, "A")));
    let timeline = running(&app, vec![one.clone(), two.clone()]).await;
    app.tick_at(&["2026-01-05T12:00:00Z", "2026-01-05T13:00:00Z"]).await;
    let (timeline, _) = change(&app, &timeline, vec![keyed("one", email(1, 20, "A"))]).await;
    let (timeline, _) = change(&app, &timeline, vec![keyed("one", email(2, 10, "A")), two.clone()]).await;
    app.tick_at(&["2026-01-05T20:00:00Z", "2026-01-06T10:00:00Z"]).await;
    assert_eq!(app.sent_count(), 2);
    let run = app.progress("anna").await;
    assert_eq!(
        (completed(&run), skipped(&run)),
        (vec!["one".to_owned(), "two".to_owned()], vec![])
    );

    // A run that starts now has them all.
    app.customer("bela", "Europe/London").await;
    app.start_run("bela", &timeline).await;
    app.tick_at(&["2026-01-06T13:00:00Z", "2026-01-07T10:00:00Z"]).await;
    assert_eq!(completed(&app.progress("bela").await), ["two", "one"]);
    let ids = |timeline: &pb::Timeline| {
        let actions = timeline.definition.clone().expect("a definition").actions;
        let mut ids: Vec<(String, i64)> = actions
            .into_iter()
            .map(|action| (action.key, action.action_id))
            .collect();
        ids.sort();
        ids
    };
    let again = app.get_timeline("hook").await.expect("a timeline");
    assert_eq!(ids(&again), ids(&timeline), "a key that comes back is the same action");
    app.server.shutdown().await.expect("stopped");
}

async fn a_shorter_timeline_completes_who_is_beyond_it(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = running(&app, vec![email(1, 12, "A")]).await;
    app.customer("late", "Europe/London").await;
    app.tick_at(&[
        "2026-01-05T12:00:00Z",
        "2026-01-06T12:00:00Z",
        "2026-01-07T12:00:00Z",
        "2026-01-08T12:00:00Z",
    ])
    .await;
    app.start_run("late", &timeline).await;
    let definition = |days: i32| pb::TimelineDefinition {
        duration_days: days,
        ..timeline.definition.clone().expect("a definition")
    };
    let shorter = app
        .apply(definition(2), &timeline.etag)
        .await
        .expect("applied")
        .timeline
        .expect("a timeline");
    let run = app.progress("anna").await;
    assert_eq!(
        (run.status(), run.current_day, run.duration_days),
        (ProgressStatus::Active, 4, 2)
    );
    app.tick_at(&["2026-01-08T13:00:00Z", "2026-01-09T00:00:00Z"]).await;
    let run = app.progress("anna").await;
    assert_eq!(run.status(), ProgressStatus::Completed);
    assert!((run.percent_complete - 100.0).abs() < f64::EPSILON);
    assert_eq!(day(&app.progress("late").await), (2, "2026-01-09".to_owned()));

    // Longer again: who is still on it goes on, who has completed has completed.
    app.apply(definition(3), &shorter.etag).await.expect("applied");
    app.tick_at(&["2026-01-10T00:00:00Z"]).await;
    assert_eq!(day(&app.progress("late").await), (3, "2026-01-10".to_owned()));
    assert_eq!(app.progress("anna").await.status(), ProgressStatus::Completed);
    app.server.shutdown().await.expect("stopped");
}

/// Two runs on day 1, one on day 2, one that has ended.
async fn the_answer_says_how_many_runs_are_planned_anew(backend: Backend) {
    let app = App::start(backend).await;
    let hours = |one: i32, two: i32| vec![keyed("one", email(1, one, "A")), keyed("two", email(2, two, "A"))];
    let timeline = running(&app, hours(20, 20)).await;
    app.tick_at(&["2026-01-05T20:00:00Z", "2026-01-06T12:00:00Z"]).await;
    for customer in ["bela", "carl", "dora"] {
        app.customer(customer, "Europe/London").await;
        app.start_run(customer, &timeline).await;
    }
    let ended = app.progress("dora").await.progress_id;
    app.stop("dora", ended, "").await.expect("stopped");
    let mut timeline = timeline;
    for ((one, two), expected) in [((20, 20), 0), ((19, 20), 2), ((19, 19), 1), ((18, 18), 3)] {
        let (changed, runs) = change(&app, &timeline, hours(one, two)).await;
        assert_eq!(runs, expected, "day 1 at {one}, day 2 at {two}");
        timeline = changed;
    }
    app.tick_at(&["2026-01-06T18:00:00Z"]).await;
    for customer in ["bela", "carl"] {
        assert_eq!(app.sent_to(customer), ["20260106T180000Z email"], "{customer}");
    }
    assert_eq!(app.sent_to("anna")[1..], ["20260106T180000Z email"]);
    app.server.shutdown().await.expect("stopped");
}

async fn new_content_is_sent_from_then_on(backend: Backend) {
    let app = App::start(backend).await;
    running(
        &app,
        vec![keyed("one", email(1, 12, "A")), keyed("two", email(1, 13, "A"))],
    )
    .await;
    app.hourly().await;
    let request = pb::ApplyCampaignRequest {
        campaign: Some(pb::CampaignDefinition {
            campaign_id: "A".to_owned(),
            kind: pb::CampaignKind::Transactional.into(),
            subject: "Second edition".to_owned(),
            text_body: "New".to_owned(),
            ..Default::default()
        }),
        etag: "\"1\"".to_owned(),
        ..Default::default()
    };
    let applied = app
        .content()
        .apply_campaign(request)
        .await
        .expect("applied")
        .into_inner();
    assert_eq!(applied.campaign.expect("a campaign").revision, 2);
    app.tick_at(&["2026-01-05T13:00:00Z"]).await;
    let sent = app.sent();
    assert_eq!(sent.len(), 2);
    assert!(!sent[0].text.contains("Second edition") && sent[1].text.contains("Second edition"));
    let run = app.progress("anna").await;
    let revisions: Vec<i64> = run.completed_actions.iter().map(|done| done.content_revision).collect();
    assert_eq!(revisions, [1, 2]);
    app.server.shutdown().await.expect("stopped");
}

/// What the engine keeps of a timeline between ticks must not hide a campaign that came with an edit.
async fn a_new_action_has_its_new_campaign_at_once(backend: Backend) {
    let app = App::start(backend).await;
    let first = keyed("one", email(1, 12, "A"));
    let timeline = running(&app, vec![first.clone()]).await;
    app.hourly().await;
    app.campaign("B").await;
    let (timeline, _) = change(&app, &timeline, vec![first.clone(), keyed("two", email(1, 12, "B"))]).await;
    app.hourly().await;
    let run = app.progress("anna").await;
    assert_eq!(
        (completed(&run), run.failed_actions),
        (vec!["one".to_owned(), "two".to_owned()], vec![])
    );

    // An action that changes its campaign as well.
    app.customer("bela", "Europe/London").await;
    app.start_run("bela", &timeline).await;
    app.campaign("C").await;
    change(&app, &timeline, vec![first, keyed("two", email(1, 12, "C"))]).await;
    app.hourly().await;
    assert!(app.sent().iter().any(|sent| sent.text.contains("C for bela")));
    app.server.shutdown().await.expect("stopped");
}

async fn a_default_is_set_and_taken_away(backend: Backend) {
    use crate::support::given::refused;
    use tonic::Code;
    let app = App::start(backend).await;
    let one = running(&app, vec![email(1, 20, "A")]).await;
    let two = app.timeline(definition("two", 5, vec![])).await;
    let run = app.progress("anna").await;
    for (id, previous) in [
        (one.timeline_id, 0),
        (one.timeline_id, one.timeline_id),
        (two.timeline_id, one.timeline_id),
        (0, two.timeline_id),
        (0, 0),
        (one.timeline_id, 0),
    ] {
        let set = app.set_default("hook", id).await.expect("set");
        assert_eq!(set.previous_timeline_id, previous);
        let now = set.timeline.as_ref().map_or(0, |timeline| timeline.timeline_id);
        assert_eq!(now, id);
        for timeline in [&one, &two] {
            let slug = &timeline.definition.as_ref().expect("a definition").slug;
            let stored = app.get_timeline(slug).await.expect("a timeline").definition;
            assert_eq!(
                stored.expect("a definition").is_default,
                timeline.timeline_id == id,
                "{slug}"
            );
        }
    }
    assert_eq!(app.progress("anna").await, run, "no run is touched");
    for (stage, id, code, reason, fields) in [
        (
            "base",
            one.timeline_id,
            Code::FailedPrecondition,
            "STAGE_MISMATCH",
            &[][..],
        ),
        ("hook", 4711, Code::NotFound, "TIMELINE_NOT_FOUND", &[]),
        (
            "Not Ok",
            -1,
            Code::InvalidArgument,
            "INVALID_FIELDS",
            &["pipeline_stage", "timeline_id"],
        ),
    ] {
        refused(app.set_default(stage, id).await, code, reason, fields);
    }
    // At once: each is set, or told to read again; in the end there is one.
    let both = tokio::join!(
        app.set_default("hook", one.timeline_id),
        app.set_default("hook", two.timeline_id)
    );
    for answer in [both.0, both.1] {
        assert!(
            answer
                .as_ref()
                .err()
                .is_none_or(|status| status.code() == Code::Aborted),
            "{answer:?}"
        );
    }
    let request = pb::ListTimelinesRequest {
        pipeline_stage: "hook".to_owned(),
        ..Default::default()
    };
    let all = app
        .timelines()
        .list_timelines(request)
        .await
        .expect("a page")
        .into_inner()
        .timelines;
    let defaults = all
        .iter()
        .filter(|timeline| timeline.definition.as_ref().is_some_and(|stored| stored.is_default));
    assert_eq!(defaults.count(), 1);
    app.server.shutdown().await.expect("stopped");
}

async fn a_switch_that_changes_nothing_is_none(backend: Backend) {
    use crate::support::given::refused;
    use tonic::Code;
    let app = App::start(backend).await;
    let timeline = running(&app, vec![email(1, 20, "A")]).await;
    let run = app.progress("anna").await;
    app.pass_hours(3);
    assert_eq!(app.set_active(&timeline, true).await, timeline);
    assert_eq!(app.progress("anna").await, run);
    let off = app.set_active(&timeline, false).await;
    app.pass_hours(1);
    assert_eq!(app.set_active(&timeline, false).await, off);
    let long = "x".repeat(501);
    for (timeline_id, reason, code, name, fields) in [
        (4711, "", Code::NotFound, "TIMELINE_NOT_FOUND", &[][..]),
        (
            0,
            long.as_str(),
            Code::InvalidArgument,
            "INVALID_FIELDS",
            &["timeline_id", "reason"],
        ),
    ] {
        let request = pb::SetTimelineActiveRequest {
            timeline_id,
            is_active: true,
            reason: reason.to_owned(),
            ..Default::default()
        };
        let answer = app.timelines().set_timeline_active(request).await;
        refused(answer, code, name, fields);
    }
    app.server.shutdown().await.expect("stopped");
}
