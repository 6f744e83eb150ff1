//! Defining timelines: creating, changing, and what is refused.

use campaign_automation::proto::campaign::v1 as pb;
use tonic::Code;

use crate::support::calls::about;
use crate::support::given::{definition, email, refused, sms};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_new_timeline_has_its_defaults,
    what_is_applied_twice_changes_nothing,
    the_etag_must_be_the_current_one,
    what_is_only_validated_is_not_stored,
    the_answer_says_what_changed,
    active_and_default_count_on_creation_only,
    appliers_at_once_do_not_overwrite_each_other,
);

/// Two mails, on days 1 and 3.
fn plain() -> pb::TimelineDefinition {
    definition("hook", 5, vec![email(1, 0, "A"), email(3, 10, "A")])
}

fn changed(
    definition: &pb::TimelineDefinition,
    change: impl FnOnce(&mut pb::TimelineDefinition),
) -> pb::TimelineDefinition {
    let mut definition = definition.clone();
    change(&mut definition);
    definition
}

fn keys(definition: &pb::TimelineDefinition) -> Vec<&str> {
    definition.actions.iter().map(|action| action.key.as_str()).collect()
}

async fn a_new_timeline_has_its_defaults(backend: Backend) {
    let app = App::start(backend).await;
    app.campaign("A").await;
    app.campaign("B").await;
    let keyless = |action: pb::ActionDefinition| pb::ActionDefinition {
        key: String::new(),
        ..action
    };
    let first = pb::ActionDefinition {
        priority: -5,
        ..keyless(email(3, 10, "B"))
    };
    let given = definition("hook", 5, vec![sms(3, 10, "A"), keyless(sms(3, 9, "A")), first]);
    let applied = app.apply(given, "").await.expect("applied");
    let changes = applied.changes.expect("changes");
    assert!(applied.created);
    assert_eq!(changes.added_keys, ["A", "B", "d3h10A"]);
    assert_eq!((changes.removed_keys.len(), changes.changed_keys.len()), (0, 0));
    assert_eq!((changes.unchanged_actions, changes.runs_to_replan), (0, 0));

    let timeline = applied.timeline.expect("a timeline");
    assert_eq!(
        (timeline.etag.as_str(), timeline.create_time),
        ("\"1\"", timeline.update_time)
    );
    let stored = timeline.definition.clone().expect("a definition");
    assert_eq!(stored.when_missed(), pb::WhenMissed::Shift);
    assert_eq!(stored.max_lateness.expect("a duration").seconds, 12 * 3600);
    assert_eq!(keys(&stored), ["A", "B", "d3h10A"], "in order of the plan");
    assert_eq!(app.get_timeline("hook").await.expect("a timeline"), timeline);
    app.server.shutdown().await.expect("stopped");
}

async fn what_is_applied_twice_changes_nothing(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(plain()).await;
    app.pass_hours(1);
    let backwards = changed(&plain(), |definition| definition.actions.reverse());
    for given in [plain(), backwards, timeline.definition.clone().expect("a definition")] {
        let applied = app.apply(given, &timeline.etag).await.expect("applied");
        assert!(!applied.created);
        assert_eq!(applied.timeline.as_ref(), Some(&timeline));
        let nothing = pb::TimelineChanges {
            unchanged_actions: 2,
            ..Default::default()
        };
        assert_eq!(applied.changes, Some(nothing));
    }
    app.server.shutdown().await.expect("stopped");
}

async fn the_etag_must_be_the_current_one(backend: Backend) {
    let app = App::start(backend).await;
    app.campaign("A").await;
    let refusal = app.apply(plain(), "\"1\"").await;
    let error = refused(refusal, Code::Aborted, "ETAG_MISMATCH", &[]);
    assert_eq!(about(&error, "current_etag"), "", "there is none yet");

    app.apply(plain(), "").await.expect("applied");
    let longer = changed(&plain(), |definition| definition.duration_days = 6);
    let second = app
        .apply(longer.clone(), "\"1\"")
        .await
        .expect("applied")
        .timeline
        .expect("a timeline");
    assert_eq!(second.etag, "\"2\"");
    for etag in ["", "\"1\"", "2", "\"3\""] {
        let error = refused(app.apply(plain(), etag).await, Code::Aborted, "ETAG_MISMATCH", &[]);
        assert_eq!(about(&error, "current_etag"), "\"2\"", "{etag}");
    }
    assert_eq!(app.get_timeline("hook").await.expect("a timeline"), second);

    // Switching counts as a change.
    let off = app.set_active(&second, false).await;
    refused(
        app.apply(plain(), &second.etag).await,
        Code::Aborted,
        "ETAG_MISMATCH",
        &[],
    );
    app.apply(plain(), &off.etag).await.expect("applied");
    app.server.shutdown().await.expect("stopped");
}

async fn what_is_only_validated_is_not_stored(backend: Backend) {
    let app = App::start(backend).await;
    app.campaign("A").await;
    let validate = |definition: pb::TimelineDefinition, etag: &str| {
        let request = pb::ApplyTimelineRequest {
            timeline: Some(definition),
            etag: etag.to_owned(),
            validate_only: true,
            ..Default::default()
        };
        let mut client = app.timelines();
        async move { client.apply_timeline(request).await.map(tonic::Response::into_inner) }
    };
    let applied = validate(plain(), "").await.expect("validated");
    assert!(applied.created);
    assert_eq!(applied.changes.expect("changes").added_keys, ["d1h0A", "d3h10A"]);
    refused(
        app.get_timeline("hook").await,
        Code::NotFound,
        "TIMELINE_NOT_FOUND",
        &[],
    );

    let stored = app.timeline(plain()).await;
    app.customer("anna", "Europe/London").await;
    app.start_run("anna", &stored).await;
    let other = changed(&plain(), |definition| {
        definition.duration_days = 9;
        definition.actions[0].delay_hours = 20;
    });
    let would = validate(other, &stored.etag).await.expect("validated");
    let changes = would.changes.expect("changes");
    assert_eq!(
        (changes.changed_keys, changes.runs_to_replan),
        (vec!["d1h0A".to_owned()], 1)
    );
    assert_eq!(changes.changed_fields, ["duration_days"]);
    let shown = would.timeline.expect("a timeline").definition.expect("a definition");
    assert_eq!((shown.duration_days, shown.actions[0].delay_hours), (9, 20));
    assert_eq!(app.get_timeline("hook").await.expect("a timeline"), stored);
    app.hourly().await;
    assert_eq!(app.sent_count(), 1, "at hour 0, as before");

    // The errors are the same.
    let no_content = changed(&plain(), |definition| {
        definition.actions[0].campaign_id = "B".to_owned();
    });
    let refusal = validate(no_content, &stored.etag).await;
    refused(refusal, Code::FailedPrecondition, "CONTENT_MISSING", &[]);
    refused(validate(plain(), "").await, Code::Aborted, "ETAG_MISMATCH", &[]);
    let long = changed(&plain(), |definition| definition.duration_days = 3651);
    let refusal = validate(long, &stored.etag).await;
    refused(
        refusal,
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &["timeline.duration_days"],
    );
    app.server.shutdown().await.expect("stopped");
}

/// The definition has keys `d1h0A` and `d3h10A`; each change is applied to it anew.
async fn the_answer_says_what_changed(backend: Backend) {
    type Change = fn(&mut pb::TimelineDefinition);
    let cases: [(&str, Change, &str); 9] = [
        (
            "name",
            |new| new.name = "Other".to_owned(),
            "+[] -[] ~[] =2 fields [\"name\"]",
        ),
        (
            "fields",
            |new| {
                new.duration_days = 9;
                new.when_missed = pb::WhenMissed::CatchUp.into();
                new.max_lateness = Some(prost_types::Duration {
                    seconds: 3600,
                    nanos: 0,
                });
            },
            "+[] -[] ~[] =2 fields [\"duration_days\", \"when_missed\", \"max_lateness\"]",
        ),
        (
            "hour",
            |new| new.actions[0].delay_hours = 5,
            "+[] -[] ~[\"d1h0A\"] =1 fields []",
        ),
        (
            "priority",
            |new| new.actions[1].priority = 5,
            "+[] -[] ~[\"d3h10A\"] =1 fields []",
        ),
        (
            "condition",
            |new| {
                let test = pb::condition::Test::EngagementScoreAbove(pb::EngagementScoreAbove { threshold: 1 });
                new.actions[1].conditions = vec![crate::support::given::condition(test, pb::ConditionThen::Skip)];
            },
            "+[] -[] ~[\"d3h10A\"] =1 fields []",
        ),
        (
            "lateness",
            |new| {
                new.actions[1].max_lateness = Some(prost_types::Duration {
                    seconds: 7200,
                    nanos: 0,
                });
            },
            "+[] -[] ~[\"d3h10A\"] =1 fields []",
        ),
        (
            "removed",
            |new| drop(new.actions.remove(0)),
            "+[] -[\"d1h0A\"] ~[] =1 fields []",
        ),
        (
            "added",
            |new| new.actions.extend([email(2, 5, "A"), email(1, 5, "A")]),
            "+[\"d1h5A\", \"d2h5A\"] -[] ~[] =2 fields []",
        ),
        (
            "another key",
            |new| new.actions[0].key = "other".to_owned(),
            "+[\"other\"] -[\"d1h0A\"] ~[] =1 fields []",
        ),
    ];
    let app = App::start(backend).await;
    for (at, (what, change, expected)) in cases.into_iter().enumerate() {
        let before = changed(&plain(), |definition| definition.slug = format!("t{at}"));
        let stored = app.timeline(before.clone()).await;
        app.pass_hours(1);
        let applied = app
            .apply(changed(&before, change), &stored.etag)
            .await
            .expect("applied");
        let changes = applied.changes.expect("changes");
        let seen = format!(
            "+{:?} -{:?} ~{:?} ={} fields {:?}",
            changes.added_keys,
            changes.removed_keys,
            changes.changed_keys,
            changes.unchanged_actions,
            changes.changed_fields
        );
        assert_eq!(seen, expected, "{what}");
        let new = applied.timeline.expect("a timeline");
        assert_eq!(
            (new.timeline_id, new.create_time),
            (stored.timeline_id, stored.create_time),
            "{what}"
        );
        assert!(
            new.etag != stored.etag && new.update_time != stored.update_time,
            "{what}"
        );
        assert_eq!(
            app.get_timeline(&format!("t{at}")).await.expect("a timeline"),
            new,
            "{what}"
        );
    }
    app.server.shutdown().await.expect("stopped");
}

async fn active_and_default_count_on_creation_only(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(changed(&plain(), |new| new.is_default = true)).await;
    let off = app.set_active(&timeline, false).await;
    app.set_default("hook", 0).await.expect("no default");
    let current = app.get_timeline("hook").await.expect("a timeline");

    // Applying the file of the beginning undoes neither the stop nor the other.
    let file = changed(&plain(), |new| new.is_default = true);
    let again = app.apply(file.clone(), &current.etag).await.expect("applied");
    assert_eq!(again.timeline.as_ref(), Some(&current));
    let other_name = changed(&file, |new| new.name = "Other".to_owned());
    let applied = app
        .apply(other_name, &current.etag)
        .await
        .expect("applied")
        .timeline
        .expect("a timeline");
    let stored = applied.definition.expect("a definition");
    assert_eq!(
        (stored.is_active, stored.is_default, stored.name.as_str()),
        (false, false, "Other")
    );
    assert!(!off.definition.expect("a definition").is_active);

    // Nor does it switch off.
    app.set_active(&timeline, true).await;
    let current = app
        .set_default("hook", timeline.timeline_id)
        .await
        .expect("a default")
        .timeline
        .expect("a timeline");
    let neither = changed(&plain(), |new| new.is_active = false);
    let applied = app
        .apply(neither, &current.etag)
        .await
        .expect("applied")
        .timeline
        .expect("a timeline");
    let stored = applied.definition.expect("a definition");
    assert_eq!((stored.is_active, stored.is_default), (true, true));
    app.server.shutdown().await.expect("stopped");
}

async fn appliers_at_once_do_not_overwrite_each_other(backend: Backend) {
    let app = App::start(backend).await;
    app.campaign("A").await;
    for (round, etag) in [(0, ""), (1, "\"1\"")] {
        let appliers = (0..8).map(|n| {
            let named = changed(&plain(), |new| new.name = format!("Name {round} {n}"));
            app.apply(named, etag)
        });
        let (won, lost): (Vec<_>, Vec<_>) = futures::future::join_all(appliers)
            .await
            .into_iter()
            .partition(Result::is_ok);
        assert_eq!(won.len(), 1, "round {round}");
        let winner = won
            .into_iter()
            .next()
            .expect("one")
            .expect("applied")
            .timeline
            .expect("a timeline");
        assert_eq!(
            app.get_timeline("hook").await.expect("a timeline"),
            winner,
            "round {round}"
        );
        for loser in lost {
            let status = loser.expect_err("refused");
            assert_eq!(status.code(), Code::Aborted, "{status:?}");
        }
    }
    app.server.shutdown().await.expect("stopped");
}
