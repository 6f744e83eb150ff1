//! Edits of a live timeline, one by one: what becomes of who is under way, and what the answer says.

use campaign_automation::proto::campaign::v1 as pb;
use pb::WhenMissed::{CatchUp, Shift};
use tonic::Code;

use crate::support::calls::{about, next};
use crate::support::given::refused;
use crate::support::story::{mail, plan, text, within};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    each_edit_counts_at_the_next_tick,
    the_answer_counts_actions_and_runs,
    only_runs_that_the_next_tick_plans_are_counted,
    what_was_sent_never_goes_again_in_its_run,
    a_stale_etag_changes_nothing,
    an_edit_that_is_repeated_is_made_once,
);

/// An action, or none.
type MaybeAction = fn() -> Option<pb::ActionDefinition>;

/// A timeline of four days and a run of it for its namesake, in UTC.
pub(super) async fn start(
    app: &App,
    slug: &str,
    when_missed: pb::WhenMissed,
    actions: Vec<pb::ActionDefinition>,
) -> pb::Timeline {
    let timeline = app.timeline(plan(slug, 4, when_missed, actions)).await;
    app.customer(slug, "Etc/UTC").await;
    app.start_run(slug, &timeline).await;
    timeline
}

fn with(timeline: &pb::Timeline, actions: Vec<pb::ActionDefinition>) -> pb::TimelineDefinition {
    pb::TimelineDefinition {
        actions,
        ..timeline.definition.clone().expect("a definition")
    }
}

pub(super) async fn edit(
    app: &App,
    timeline: &pb::Timeline,
    actions: Vec<pb::ActionDefinition>,
) -> pb::ApplyTimelineResponse {
    let applied = app.apply(with(timeline, actions), &timeline.etag).await;
    applied.expect("applied")
}

/// An edit of a run that is on day 2 and has had `a` on day 1 and `b` on day 2 at 9; `c` is at 15, `d` on day 3 at 9. It is
/// half past twelve; the next tick is at one o'clock.
struct Edit {
    name: &'static str,
    when_missed: pb::WhenMissed,
    to: fn() -> Vec<pb::ActionDefinition>,
    expected: &'static str,
}

const EDITS: [Edit; 14] = [
    Edit {
        name: "hour-earlier",
        when_missed: Shift,
        to: || vec![mail("a", 1, 13), mail("b", 2, 9), mail("c", 2, 14), mail("d", 3, 9)],
        expected: "01-06 14:00 c sent
            01-07 09:00 d sent",
    },
    // Three and a half hours late, which it may be.
    Edit {
        name: "hour-passed",
        when_missed: Shift,
        to: || vec![mail("a", 1, 13), mail("b", 2, 9), mail("c", 2, 10), mail("d", 3, 9)],
        expected: "01-06 13:00 c sent
            01-07 09:00 d sent",
    },
    // Later than it may be: it has its hour tomorrow, or none.
    Edit {
        name: "hour-long-passed",
        when_missed: Shift,
        to: || {
            vec![
                mail("a", 1, 13),
                mail("b", 2, 9),
                within(2, mail("c", 2, 10)),
                mail("d", 3, 9),
            ]
        },
        expected: "01-07 10:00 c sent
            01-08 09:00 d sent",
    },
    Edit {
        name: "hour-expired",
        when_missed: CatchUp,
        to: || {
            vec![
                mail("a", 1, 13),
                mail("b", 2, 9),
                within(2, mail("c", 2, 10)),
                mail("d", 3, 9),
            ]
        },
        expected: "01-06 13:00 c expired
            01-07 09:00 d sent",
    },
    Edit {
        name: "hour-later",
        when_missed: Shift,
        to: || vec![mail("a", 1, 13), mail("b", 2, 9), mail("c", 2, 20), mail("d", 3, 9)],
        expected: "01-06 20:00 c sent
            01-07 09:00 d sent",
    },
    Edit {
        name: "day-earlier",
        when_missed: Shift,
        to: || vec![mail("a", 1, 13), mail("b", 2, 9), mail("c", 2, 15), mail("d", 2, 18)],
        expected: "01-06 15:00 c sent
            01-06 18:00 d sent",
    },
    Edit {
        name: "day-passed",
        when_missed: Shift,
        to: || vec![mail("a", 1, 13), mail("b", 2, 9), mail("c", 1, 15), mail("d", 1, 18)],
        expected: "",
    },
    Edit {
        name: "day-later",
        when_missed: Shift,
        to: || vec![mail("a", 1, 13), mail("b", 2, 9), mail("c", 4, 15), mail("d", 3, 9)],
        expected: "01-07 09:00 d sent
            01-08 15:00 c sent",
    },
    Edit {
        name: "sent-to-later",
        when_missed: Shift,
        to: || vec![mail("a", 2, 20), mail("b", 4, 9), mail("c", 2, 15), mail("d", 3, 9)],
        expected: "01-06 15:00 c sent
            01-07 09:00 d sent",
    },
    Edit {
        name: "removed-today",
        when_missed: Shift,
        to: || vec![mail("a", 1, 13), mail("b", 2, 9), mail("d", 3, 9)],
        expected: "01-06 13:00 c removed
            01-07 09:00 d sent",
    },
    Edit {
        name: "removed-tomorrow",
        when_missed: Shift,
        to: || vec![mail("a", 1, 13), mail("b", 2, 9), mail("c", 2, 15)],
        expected: "01-06 15:00 c sent",
    },
    Edit {
        name: "added-today",
        when_missed: Shift,
        to: || {
            vec![
                mail("a", 1, 13),
                mail("b", 2, 9),
                mail("c", 2, 15),
                mail("d", 3, 9),
                mail("new", 2, 12),
                text("later", 2, 16),
            ]
        },
        expected: "01-06 13:00 new sent
            01-06 15:00 c sent
            01-06 16:00 later sent
            01-07 09:00 d sent",
    },
    Edit {
        name: "added-to-past",
        when_missed: CatchUp,
        to: || {
            vec![
                mail("a", 1, 13),
                mail("b", 2, 9),
                mail("c", 2, 15),
                mail("d", 3, 9),
                mail("never", 1, 23),
            ]
        },
        expected: "01-06 15:00 c sent
            01-07 09:00 d sent",
    },
    Edit {
        name: "another-content",
        when_missed: Shift,
        to: || {
            let c = pb::ActionDefinition {
                priority: 3,
                ..text("c", 2, 15)
            };
            vec![mail("a", 1, 13), mail("b", 2, 9), c, mail("d", 3, 9)]
        },
        expected: "01-06 15:00 c sent
            01-07 09:00 d sent",
    },
];

fn four() -> Vec<pb::ActionDefinition> {
    vec![mail("a", 1, 13), mail("b", 2, 9), mail("c", 2, 15), mail("d", 3, 9)]
}

async fn each_edit_counts_at_the_next_tick(backend: Backend) {
    let app = App::start(backend).await;
    let mut timelines = Vec::new();
    for edit in &EDITS {
        timelines.push(start(&app, edit.name, edit.when_missed, four()).await);
    }
    app.ticks_between("2026-01-05T13:00:00Z", "2026-01-06T12:00:00Z", true, true)
        .await;
    app.set("2026-01-06T12:30:00Z");
    for (one, timeline) in EDITS.iter().zip(&timelines) {
        let changes = edit(&app, timeline, (one.to)()).await.changes.expect("changes");
        let days: Vec<i32> = {
            let (before, after) = (four(), (one.to)());
            let differs = |action: &&pb::ActionDefinition, others: &[pb::ActionDefinition]| !others.contains(action);
            let gone = before.iter().filter(|action| differs(action, &after));
            let come = after.iter().filter(|action| differs(action, &before));
            gone.chain(come).map(|action| action.day_number).collect()
        };
        assert_eq!(changes.runs_to_replan, i64::from(days.contains(&2)), "{}", one.name);
    }
    let shifted = app
        .ticks_between("2026-01-06T13:00:00Z", "2026-01-10T00:00:00Z", true, true)
        .await;
    assert_eq!(shifted, 1);
    for edit in &EDITS {
        let run = app.progress(edit.name).await;
        let end = if run.shifted_days > 0 {
            "day 4 on 01-09, completed, shifted 1"
        } else {
            "day 4 on 01-08, completed"
        };
        let expected = format!(
            "01-05 13:00 a sent
            01-06 09:00 b sent
            {}
            {end}",
            edit.expected
        );
        app.tells(edit.name, &expected).await;
    }
    app.server.shutdown().await.expect("stopped");
}

/// What the answer says is what it also says beforehand, when nothing is stored.
async fn the_answer_counts_actions_and_runs(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = start(&app, "hook", Shift, four()).await;
    let definition = pb::TimelineDefinition {
        name: "Another".to_owned(),
        duration_days: 6,
        when_missed: CatchUp.into(),
        max_lateness: Some(crate::support::story::hours(5)),
        ..with(
            &timeline,
            vec![
                mail("a", 1, 13),
                mail("b", 2, 10),
                mail("e", 6, 9),
                mail("d", 3, 9),
                mail("f", 1, 20),
            ],
        )
    };
    let expected = pb::TimelineChanges {
        added_keys: vec!["f".to_owned(), "e".to_owned()],
        removed_keys: vec!["c".to_owned()],
        changed_keys: vec!["b".to_owned()],
        unchanged_actions: 2,
        changed_fields: ["name", "duration_days", "when_missed", "max_lateness"]
            .map(str::to_owned)
            .to_vec(),
        runs_to_replan: 1,
    };
    for validate_only in [true, false] {
        let request = pb::ApplyTimelineRequest {
            timeline: Some(definition.clone()),
            etag: timeline.etag.clone(),
            validate_only,
            ..Default::default()
        };
        let applied = app.timelines().apply_timeline(request).await.expect("applied");
        assert_eq!(
            applied.into_inner().changes.as_ref(),
            Some(&expected),
            "{validate_only}"
        );
        let stored = app.get_timeline("hook").await.expect("a timeline");
        assert_eq!(stored == timeline, validate_only);
    }
    app.server.shutdown().await.expect("stopped");
}

/// On the changed day are an active run, a paused one and a stopped one; on another day one more. Under a timeline that is switched
/// off nothing is planned until it is on again.
async fn only_runs_that_the_next_tick_plans_are_counted(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(plan("hook", 4, Shift, vec![mail("a", 1, 20)])).await;
    for (id, start_day) in [("active", 1), ("paused", 1), ("stopped", 1), ("elsewhere", 2)] {
        app.customer(id, "Etc/UTC").await;
        let request = pb::StartTimelineRequest {
            customer_id: id.to_owned(),
            timeline_id: timeline.timeline_id,
            start_day,
            ..Default::default()
        };
        let run = app.try_start(request).await.expect("a run").progress_id;
        match id {
            "paused" => drop(app.pause(id, run, "").await.expect("paused")),
            "stopped" => drop(app.stop(id, run, "").await.expect("stopped")),
            _ => {}
        }
    }
    let applied = edit(&app, &timeline, vec![mail("a", 1, 15)]).await;
    assert_eq!(applied.changes.expect("changes").runs_to_replan, 1);
    let off = app.set_active(&applied.timeline.expect("a timeline"), false).await;
    let applied = edit(&app, &off, vec![mail("a", 1, 14)]).await;
    assert_eq!(applied.changes.expect("changes").runs_to_replan, 0, "switched off");
    app.set_active(&off, true).await;

    app.tick_at(&["2026-01-05T13:00:00Z", "2026-01-05T14:00:00Z"]).await;
    assert_eq!(app.sent_to("active"), ["20260105T140000Z email"]);
    // Who was paused is planned anew when resumed, by the timeline as it is then.
    let paused = app.progress("paused").await.progress_id;
    let resumed = app.resume("paused", paused, "").await.expect("resumed");
    assert_eq!(next(&resumed).expect("next").1, "2026-01-05T14:00:00Z");
    app.hourly().await;
    assert_eq!(app.sent_to("paused"), ["20260105T140000Z email"]);
    assert_eq!(app.sent_count(), 2);
    app.server.shutdown().await.expect("stopped");
}

/// A sent action is moved to a later hour, a later day, removed, brought back, given another channel, in every order. The run never
/// has it again, and a run that starts afterwards has it where it is then.
async fn what_was_sent_never_goes_again_in_its_run(backend: Backend) {
    let app = App::start(backend).await;
    let last = || mail("z", 4, 20);
    let mut timeline = start(&app, "hook", Shift, vec![mail("k", 1, 13), last()]).await;
    app.tick_at(&["2026-01-05T13:00:00Z"]).await;
    let edits: [(&str, MaybeAction); 9] = [
        ("2026-01-05T14:00:00Z", || Some(mail("k", 1, 16))),
        ("2026-01-05T17:00:00Z", || None),
        ("2026-01-05T18:00:00Z", || Some(mail("k", 1, 20))),
        ("2026-01-05T21:00:00Z", || Some(mail("k", 2, 9))),
        ("2026-01-06T10:00:00Z", || None),
        ("2026-01-06T11:00:00Z", || Some(text("k", 2, 15))),
        ("2026-01-06T16:00:00Z", || Some(mail("k", 3, 0))),
        ("2026-01-07T12:00:00Z", || Some(mail("k", 3, 12))),
        ("2026-01-07T13:00:00Z", || Some(mail("k", 4, 21))),
    ];
    let mut now = "2026-01-05T13:00:00Z";
    for (time, to) in edits {
        app.ticks_between(now, time, true, true).await;
        let actions = to().into_iter().chain([last()]).collect();
        timeline = edit(&app, &timeline, actions).await.timeline.expect("a timeline");
        app.hourly().await;
        let coming = Some(("z".to_owned(), "2026-01-08T20:00:00Z".to_owned()));
        assert_eq!(next(&app.progress("hook").await), coming, "{time}");
        now = time;
    }
    app.ticks_between(now, "2026-01-09T00:00:00Z", true, true).await;
    app.tells(
        "hook",
        "01-05 13:00 k sent
        01-08 20:00 z sent
        day 4 on 01-08, completed",
    )
    .await;

    app.customer("new", "Etc/UTC").await;
    app.start_run("new", &timeline).await;
    app.ticks_between("2026-01-09T01:00:00Z", "2026-01-13T00:00:00Z", true, true)
        .await;
    app.tells(
        "new",
        "01-12 20:00 z sent
        01-12 21:00 k sent
        day 4 on 01-12, completed",
    )
    .await;
    app.server.shutdown().await.expect("stopped");
}

async fn a_stale_etag_changes_nothing(backend: Backend) {
    let app = App::start(backend).await;
    let first = start(&app, "hook", Shift, vec![mail("a", 1, 20)]).await;
    let second = edit(&app, &first, vec![mail("a", 1, 18)])
        .await
        .timeline
        .expect("a timeline");
    let before = app.progress("hook").await;
    for actions in [vec![], vec![mail("a", 1, 14)], vec![mail("a", 1, 20), mail("b", 1, 14)]] {
        let error = app.apply(with(&first, actions), &first.etag).await;
        let error = refused(error, Code::Aborted, "ETAG_MISMATCH", &[]);
        assert_eq!(about(&error, "current_etag"), second.etag);
    }
    assert_eq!(app.get_timeline("hook").await.expect("a timeline"), second);
    assert_eq!(app.progress("hook").await, before);
    app.ticks_between("2026-01-05T13:00:00Z", "2026-01-05T20:00:00Z", true, false)
        .await;
    assert_eq!(app.sent_to("hook"), ["20260105T180000Z email"]);
    app.server.shutdown().await.expect("stopped");
}

/// With a request id the answer is the first one again; with the new etag there is nothing to change.
async fn an_edit_that_is_repeated_is_made_once(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = start(&app, "hook", Shift, vec![mail("a", 1, 20), mail("b", 2, 9)]).await;
    let definition = with(&timeline, vec![mail("a", 1, 14), mail("c", 2, 9)]);
    let request = pb::ApplyTimelineRequest {
        timeline: Some(definition.clone()),
        etag: timeline.etag.clone(),
        request_id: "edit-1".to_owned(),
        ..Default::default()
    };
    let first = app
        .timelines()
        .apply_timeline(request.clone())
        .await
        .expect("applied")
        .into_inner();
    app.tick_at(&["2026-01-05T13:00:00Z"]).await;
    let again = app
        .timelines()
        .apply_timeline(request)
        .await
        .expect("applied")
        .into_inner();
    assert_eq!(again, first);
    let stored = first.timeline.expect("a timeline");
    let nothing = app.apply(definition, &stored.etag).await.expect("applied");
    assert_eq!(nothing.timeline.as_ref(), Some(&stored));
    let unchanged = pb::TimelineChanges {
        unchanged_actions: 2,
        ..Default::default()
    };
    assert_eq!(nothing.changes, Some(unchanged));
    app.ticks_between("2026-01-05T14:00:00Z", "2026-01-06T10:00:00Z", true, true)
        .await;
    app.tells(
        "hook",
        "01-05 14:00 a sent
        01-06 09:00 c sent
        day 2 on 01-06, active",
    )
    .await;
    app.server.shutdown().await.expect("stopped");
}
