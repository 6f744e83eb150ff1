//! Conditions about an action of the run: which events count, and what is waited for.

use campaign_automation::proto::campaign::v1 as pb;
use pb::condition::Test;
use pb::{ConditionThen as Then, EngagementKind as Kind, SkipReason};

use super::{any, clicked_of, event, not, opened_of, replied_of};
use crate::support::calls::{completed, skipped};
use crate::support::given::{condition, definition, email, shown, sms};
use crate::support::mailing::mailing_app;
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    only_events_about_the_action_in_this_run_count,
    it_waits_until_the_action_is_final,
    what_was_never_taken_up_is_not_waited_for,
);

fn keyed(key: &str, action: pb::ActionDefinition) -> pb::ActionDefinition {
    pb::ActionDefinition {
        key: key.to_owned(),
        ..action
    }
}

fn if_holds(test: Test, action: pb::ActionDefinition) -> pb::ActionDefinition {
    pb::ActionDefinition {
        conditions: vec![condition(test, Then::Execute)],
        ..action
    }
}

fn id(timeline: &pb::Timeline, key: &str) -> i64 {
    let definition = timeline.definition.as_ref().expect("a definition");
    let found = definition.actions.iter().find(|action| action.key == key);
    found.expect("an action").action_id
}

/// On day 1 a mail and an SMS at 12 and 13. On day 2, at 9: what was said about the mail, or the SMS, or anything.
fn about_day_one(slug: &str) -> pb::TimelineDefinition {
    let opened = |key: &str| Test::EmailOpened(opened_of(48, key));
    let clicked = Test::EmailClicked(clicked_of(48, "mail"));
    let replied = |key: &str| Test::Replied(replied_of(48, key));
    let nested = not(any([not(opened("mail"))]));
    let on_day_two = |key: &str, test: Test| keyed(key, if_holds(test, email(2, 9, "A")));
    let actions = vec![
        keyed("mail", email(1, 12, "A")),
        keyed("sms", sms(1, 13, "A")),
        on_day_two("opened", opened("mail")),
        on_day_two("opened-any", opened("")),
        on_day_two("clicked", clicked),
        on_day_two("replied-mail", replied("mail")),
        on_day_two("replied-sms", replied("sms")),
        on_day_two("nested", nested),
    ];
    definition(slug, 3, actions)
}

/// What the customer did, about which action of which run (this one, an earlier one of this timeline, one of another timeline),
/// and what follows.
type Case = (&'static str, Kind, Option<(&'static str, i64)>, &'static [&'static str]);

async fn only_events_about_the_action_in_this_run_count(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(about_day_one("hook")).await;
    let other = app.timeline(about_day_one("other")).await;
    let (mail, sms) = (id(&timeline, "mail"), id(&timeline, "sms"));
    let of_other = id(&other, "mail");
    let cases: [Case; 11] = [
        (
            "opened-it",
            Kind::EmailOpened,
            Some(("this", mail)),
            &["opened", "opened-any", "nested"],
        ),
        ("opened-sms", Kind::EmailOpened, Some(("this", sms)), &["opened-any"]),
        (
            "opened-before",
            Kind::EmailOpened,
            Some(("earlier", mail)),
            &["opened-any"],
        ),
        (
            "opened-other",
            Kind::EmailOpened,
            Some(("other", of_other)),
            &["opened-any"],
        ),
        ("opened-what", Kind::EmailOpened, None, &["opened-any"]),
        ("clicked-it", Kind::EmailClicked, Some(("this", mail)), &["clicked"]),
        ("clicked-what", Kind::EmailClicked, None, &[]),
        ("replied-mail", Kind::Replied, Some(("this", mail)), &["replied-mail"]),
        ("replied-sms", Kind::Replied, Some(("this", sms)), &["replied-sms"]),
        ("replied-what", Kind::Replied, None, &[]),
        ("custom", Kind::Custom, Some(("this", mail)), &[]),
    ];
    let mut events = Vec::new();
    for (name, kind, about, _) in cases {
        app.customer(name, "Etc/UTC").await;
        let earlier = app.start_run(name, &timeline).await.progress_id;
        app.stop(name, earlier, "").await.expect("stopped");
        let request = pb::StartTimelineRequest {
            customer_id: name.to_owned(),
            timeline_id: timeline.timeline_id,
            allow_restart: true,
            ..Default::default()
        };
        let started = app.orchestrator().start_timeline(request).await.expect("a run");
        let this = started.into_inner().progress.expect("a run").progress_id;
        let elsewhere = app.start_run(name, &other).await.progress_id;
        let (progress_id, action_id) = match about {
            None => (0, 0),
            Some(("this", action)) => (this, action),
            Some(("earlier", action)) => (earlier, action),
            Some((_, action)) => (elsewhere, action),
        };
        events.push(pb::Engagement {
            progress_id,
            action_id,
            ..event(name, kind, "2026-01-05T20:00:00Z")
        });
    }
    app.tick_at(&["2026-01-05T12:00:00Z", "2026-01-05T13:00:00Z"]).await;
    app.set("2026-01-05T20:00:00Z");
    for result in app.record(events).await {
        assert_eq!(result.error, None);
    }
    app.tick_at(&["2026-01-06T09:00:00Z"]).await;
    for (name, _, _, expected) in cases {
        let request = pb::ListProgressRequest {
            customer_id: name.to_owned(),
            timeline_id: timeline.timeline_id,
            status: pb::ProgressStatus::Active.into(),
            ..Default::default()
        };
        let runs = app.list_progress(request).await.expect("a page").progress;
        let done = completed(&runs[0]);
        assert_eq!(done[2..], *expected, "{name}");
        assert_eq!(done.len() + skipped(&runs[0]).len(), 8, "{name}");
    }
    app.server.shutdown().await.expect("stopped");
}

/// The mail at 12 is refused for now at first; what is about it, an hour later, waits for it, and what is about something else
/// does not.
async fn it_waits_until_the_action_is_final(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let opened = |key: &str| Test::EmailOpened(opened_of(48, key));
    let actions = vec![
        keyed("mail", email(1, 12, "A")),
        keyed("about-it", if_holds(opened("mail"), sms(1, 13, "A"))),
        keyed("about-any", if_holds(opened(""), sms(1, 13, "A"))),
    ];
    let timeline = app.timeline(definition("hook", 2, actions)).await;
    app.customer("anna", "Etc/UTC").await;
    let run = app.start_run("anna", &timeline).await.progress_id;
    smtp.behave(Behaviour::Reply(Step::Rcpt, "451 4.3.0 come again"));
    for time in ["12:00", "12:10", "12:25", "12:59"] {
        app.tick_at(&[&format!("2026-01-05T{time}:00Z")]).await;
    }
    let retry_at = shown(app.progress("anna").await.failed_actions[0].next_retry_time);
    assert!(retry_at.as_str() > "2026-01-05T13:00:00Z", "{retry_at}");

    app.tick_at(&["2026-01-05T13:00:00Z"]).await;
    let waiting = app.progress("anna").await;
    let [deferred] = waiting.deferred_actions.as_slice() else {
        panic!("{waiting:?}")
    };
    assert_eq!(deferred.action.as_ref().expect("an action").key, "about-it");
    assert_eq!(deferred.reason(), pb::DeferReason::WaitingForAction);
    assert_eq!(shown(deferred.until_time), retry_at);
    assert_eq!(skipped(&waiting), [("about-any".to_owned(), SkipReason::Condition)]);

    // It is sent at last, and seen at the same moment.
    smtp.accept_all();
    app.set(&retry_at);
    app.pass_hours(1);
    let about = pb::Engagement {
        progress_id: run,
        action_id: id(&timeline, "mail"),
        ..event("anna", Kind::EmailOpened, &retry_at)
    };
    assert_eq!(app.record(vec![about]).await[0].error, None);
    app.hourly().await;
    let run = app.progress("anna").await;
    assert_eq!(completed(&run), ["mail", "about-it"]);
    assert_eq!(run.deferred_actions, []);
    app.server.shutdown().await.expect("stopped");
}

async fn what_was_never_taken_up_is_not_waited_for(backend: Backend) {
    let app = App::start(backend).await;
    let opened = || Test::EmailOpened(opened_of(48, "mail"));
    let actions = vec![
        keyed("mail", email(1, 12, "A")),
        keyed("if-opened", if_holds(opened(), email(2, 12, "A"))),
        keyed("unless-opened", if_holds(not(opened()), email(2, 12, "A"))),
    ];
    let timeline = app.timeline(definition("hook", 2, actions)).await;
    app.customer("anna", "Etc/UTC").await;
    let request = pb::StartTimelineRequest {
        customer_id: "anna".to_owned(),
        timeline_id: timeline.timeline_id,
        start_day: 2,
        ..Default::default()
    };
    app.orchestrator().start_timeline(request).await.expect("a run");
    app.hourly().await;
    let run = app.progress("anna").await;
    assert_eq!(completed(&run), ["unless-opened"]);
    assert_eq!(skipped(&run), [("if-opened".to_owned(), SkipReason::Condition)]);
    app.server.shutdown().await.expect("stopped");
}
