//! Sending holds: what they stop, on which server, what is said about it, and how it goes again.

pub(crate) mod races;
mod release;
mod shown;

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::sending_service_client::SendingServiceClient;
use campaign_automation::proto::campaign::v1::set_sending_hold_request::End;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::support::app::hourly;
use crate::support::calls::{completed, day};
use crate::support::given::{action, customer, definition, email, shown, sms, stamp};
use crate::support::holds::scope;
use crate::support::mailing::{assert_each_got, crowd, mailing_app_with};
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::story::{keyed, wait};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_hold_stops_what_is_in_its_scope_and_nothing_else,
    a_hold_ends_by_itself,
    a_hold_is_replaced,
    what_is_held_is_left_alone_until_it_is_over,
    what_is_held_does_not_age_and_days_go_on,
    a_hold_of_another_server_stops_what_was_claimed_before,
    a_hold_in_the_middle_of_ticks_loses_nothing,
    test_customers_are_held_too,
);

/// For how long to hold.
fn lasting(seconds: i64) -> Option<End> {
    Some(End::HoldFor(prost_types::Duration { seconds, nanos: 0 }))
}

/// The keys of what is held in a customer's run.
fn held(run: &pb::Progress) -> BTreeSet<String> {
    let is_held = |deferred: &&pb::DeferredAction| deferred.reason() == pb::DeferReason::SendingHeld;
    let key = |deferred: &pb::DeferredAction| deferred.action.clone().expect("an action").key;
    run.deferred_actions.iter().filter(is_held).map(key).collect()
}

fn counts(summary: &pb::TickSummary) -> pb::TickCounts {
    summary.counts.clone().expect("counts")
}

async fn a_hold_stops_what_is_in_its_scope_and_nothing_else(backend: Backend) {
    let all = ["call", "mail", "other", "sms", "task", "wait"];
    for (name, stopped_of_one, stopped_of_two) in [
        (
            "all",
            &["call", "mail", "other", "sms", "task"][..],
            &["mail", "sms"][..],
        ),
        ("email", &["mail", "other"], &["mail"]),
        ("sms", &["sms"], &["sms"]),
        ("phone", &["call"], &[]),
        ("interaction", &["task"], &[]),
        ("timeline", &["call", "mail", "other", "sms", "task"], &[]),
        ("campaign", &["mail", "sms"], &["mail"]),
    ] {
        let app = App::start(backend).await;
        let mut actions = vec![
            keyed("mail", email(1, 12, "A")),
            keyed("sms", sms(1, 12, "A")),
            wait("wait", 1, 12),
            keyed("other", email(1, 12, "B")),
            keyed("call", action(1, 12, pb::Channel::Phone, pb::ActionType::MakeCall, "B")),
        ];
        let task = action(1, 12, pb::Channel::Interaction, pb::ActionType::CreateTask, "B");
        actions.push(keyed("task", task));
        let one = app.timeline(definition("one", 1, actions)).await;
        let actions = vec![keyed("mail", email(1, 12, "A")), keyed("sms", sms(1, 12, "B"))];
        let two = app.timeline(definition("two", 1, actions)).await;
        for (id, timeline) in [("anna", &one), ("bert", &two)] {
            app.customer(id, "Etc/UTC").await;
            app.start_run(id, timeline).await;
        }
        let scope = match name {
            "all" => scope::all(),
            "email" => scope::channel(pb::Channel::Email),
            "sms" => scope::channel(pb::Channel::Sms),
            "phone" => scope::channel(pb::Channel::Phone),
            "interaction" => scope::channel(pb::Channel::Interaction),
            "timeline" => scope::timeline(&one),
            _ => scope::campaign("A"),
        };
        app.hold(scope.clone(), "why").await;
        let summary = app.hourly().await;
        app.execute("anna").await;
        let mut stopped_in_all = 0;
        for (id, stopped) in [("anna", stopped_of_one), ("bert", stopped_of_two)] {
            let run = app.progress(id).await;
            let of_run: Vec<&str> = if id == "anna" {
                all.to_vec()
            } else {
                vec!["mail", "sms"]
            };
            let stopped: BTreeSet<String> = stopped.iter().map(|key| (*key).to_owned()).collect();
            let done: BTreeSet<String> = completed(&run).into_iter().collect();
            let mut either: Vec<&str> = done.union(&stopped).map(String::as_str).collect();
            either.sort_unstable();
            assert_eq!((held(&run), either), (stopped.clone(), of_run), "{name}: {id}");
            assert!(done.is_disjoint(&stopped), "{name}: {id}: {done:?}");
            stopped_in_all += stopped.len();
        }
        assert_eq!(
            counts(&summary).held,
            i64::try_from(stopped_in_all).expect("few"),
            "{name}"
        );
        assert_eq!(app.sent_count(), 7 - stopped_in_all, "{name}");

        // It held for no time by this clock, so all of it has its turn at once.
        app.release(scope).await.expect("released");
        let summary = app.hourly().await;
        assert_eq!((counts(&summary).held, app.sent_count()), (0, 7), "{name}");
        for id in ["anna", "bert"] {
            let run = app.progress(id).await;
            assert!(
                run.completed_actions.iter().all(|done| done.attempts <= 1),
                "{name}: {run:?}"
            );
            assert_eq!(run.deferred_actions, [], "{name}: {id}");
        }
        app.server.shutdown().await.expect("stopped");
    }
}

async fn a_hold_ends_by_itself(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    let hold = app.hold_until(scope::all(), "too many", lasting(600)).await;
    assert_eq!(shown(hold.end_time), "2026-01-05T12:10:00Z");
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    app.hourly().await;
    let run = app.progress("anna").await;
    // At its end, and at this run's place in the ten minutes after it.
    let until = shown(run.deferred_actions[0].until_time);
    assert!(
        ("2026-01-05T12:10:00Z".."2026-01-05T12:20:00Z").contains(&until.as_str()),
        "{until}"
    );
    app.set("2026-01-05T12:09:59Z");
    assert_eq!(
        (app.holds().await.len(), app.hourly().await.sending_holds.len()),
        (1, 1)
    );
    app.set("2026-01-05T12:10:00Z");
    assert_eq!(app.holds().await, []);
    app.set("2026-01-05T12:20:00Z");
    assert_eq!(app.hourly().await.sending_holds, []);
    assert_eq!(app.sent_count(), 1);
    app.release(scope::all()).await.expect_err("it is over");

    // At an instant.
    let end = Some(End::EndTime(stamp("2026-01-05T13:00:00Z")));
    let hold = app.hold_until(scope::timeline(&timeline), "again", end).await;
    assert_eq!(shown(hold.start_time), "2026-01-05T12:20:00Z");
    app.customer("bert", "Etc/UTC").await;
    app.start_run("bert", &timeline).await;
    app.tick_at(&["2026-01-05T12:59:00Z"]).await;
    assert_eq!(app.sent_to("bert").len(), 0);
    app.tick_at(&["2026-01-05T13:15:00Z"]).await;
    assert_eq!(app.sent_to("bert").len(), 1);
    app.server.shutdown().await.expect("stopped");
}

async fn a_hold_is_replaced(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 1, vec![sms(1, 0, "A")])).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    let sms = || scope::channel(pb::Channel::Sms);
    app.hold(sms(), "who knows").await;
    app.hourly().await;
    assert_eq!(
        shown(app.progress("anna").await.deferred_actions[0].until_time),
        "2026-01-05T13:00:00Z",
        "looked at again after an hour"
    );
    app.set("2026-01-05T12:01:00Z");
    let hold = app.hold_until(sms(), "the provider is down", lasting(240)).await;
    assert_eq!(hold.reason, "the provider is down");
    assert_eq!(shown(hold.start_time), "2026-01-05T12:00:00Z");
    assert_eq!(shown(hold.end_time), "2026-01-05T12:05:00Z");
    assert_eq!(shown(hold.update_time), "2026-01-05T12:01:00Z");
    assert_eq!(app.holds().await, [hold]);
    app.hourly().await;
    assert_eq!(app.sent_count(), 0);
    // What was put off for longer goes by the end that it has now, which is within five minutes after it.
    app.tick_at(&["2026-01-05T12:05:00Z", "2026-01-05T12:10:00Z"]).await;
    assert_eq!(app.sent_count(), 1);

    // Holds don't know of one another: what two stop goes when the second is over.
    app.customer("bert", "Etc/UTC").await;
    app.start_run("bert", &timeline).await;
    app.hold(scope::all(), "one").await;
    app.hold(scope::campaign("A"), "other").await;
    app.hourly().await;
    app.release(scope::all()).await.expect("released");
    app.hourly().await;
    assert_eq!((app.sent_count(), app.holds().await.len()), (1, 1));
    app.release(scope::campaign("A")).await.expect("released");
    app.hourly().await;
    assert_eq!((app.sent_count(), app.holds().await.len()), (2, 0));
    app.server.shutdown().await.expect("stopped");
}

/// What is held is not claimed by tick after tick.
async fn what_is_held_is_left_alone_until_it_is_over(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    app.hold(scope::all(), "why").await;
    crowd(&app, &timeline, "c", 20).await;
    assert_eq!(counts(&app.hourly().await).held, 20);
    let statements = || app.server.engine().store().statements();
    for minute in [1, 20, 40, 59] {
        app.set(&format!("2026-01-05T12:{minute:02}:00Z"));
        let before = statements();
        let summary = app.hourly().await;
        let used = statements() - before;
        // Circuits are read anew once a second, which may be now.
        assert!(used <= 12, "an idle tick takes {used} statements");
        assert_eq!((counts(&summary).held, counts(&summary).channels), (0, vec![]));
    }
    app.set("2026-01-05T13:00:00Z");
    assert_eq!(counts(&app.hourly().await).held, 20, "it is looked at once an hour");
    assert_eq!(app.sent_count(), 0);
    app.server.shutdown().await.expect("stopped");
}

async fn what_is_held_does_not_age_and_days_go_on(backend: Backend) {
    for when_missed in [pb::WhenMissed::Shift, pb::WhenMissed::CatchUp] {
        let app = App::start(backend).await;
        let actions = vec![
            keyed("first", email(1, 13, "A")),
            keyed("second", email(1, 13, "B")),
            wait("wait", 2, 13),
            keyed("third", email(9, 13, "A")),
        ];
        let timeline = app
            .timeline(pb::TimelineDefinition {
                when_missed: when_missed.into(),
                max_lateness: Some(crate::support::story::hours(1)),
                ..definition("hook", 9, actions)
            })
            .await;
        app.customer("anna", "Etc/UTC").await;
        app.start_run("anna", &timeline).await;
        app.hold(scope::all(), "a long weekend").await;
        app.ticks_between("2026-01-05T13:00:00Z", "2026-01-08T09:00:00Z", true, true)
            .await;
        let run = app.progress("anna").await;
        assert_eq!(day(&run), (4, "2026-01-08".to_owned()));
        assert_eq!(completed(&run), ["wait"]);
        assert_eq!(
            (held(&run).len(), run.shifted_days, run.skipped_actions.len()),
            (2, 0, 0)
        );
        app.release(scope::all()).await.expect("released");
        // Both are late, and keep an hour's distance.
        app.tick_at(&["2026-01-08T09:15:00Z"]).await;
        assert_eq!(app.sent_to("anna").len(), 1);
        app.tick_at(&["2026-01-08T10:00:00Z"]).await;
        assert_eq!(app.sent_to("anna").len(), 1);
        app.tick_at(&["2026-01-08T10:15:00Z"]).await;
        let run = app.progress("anna").await;
        assert_eq!((app.sent_to("anna").len(), completed(&run).len()), (2, 3), "{run:?}");
        assert!(run.completed_actions.iter().all(|done| done.attempts <= 1), "{run:?}");
        app.server.shutdown().await.expect("stopped");
    }
}

/// One mail is being sent, and others wait for its connection: they see the hold within two seconds, and go back.
async fn a_hold_of_another_server_stops_what_was_claimed_before(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app_with(backend, &smtp.url(), |config| config.email_concurrency = 1).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    let ids = crowd(&app, &timeline, "c", 20).await;
    let (second, channel) = app.second_server().await;
    smtp.behave(Behaviour::Stall(Step::Dot));
    let (summary, ()) = tokio::join!(app.hourly(), async {
        smtp.until_stalled(1).await;
        let request = pb::SetSendingHoldRequest {
            scope: Some(scope::channel(pb::Channel::Email)),
            reason: "why".to_owned(),
            ..Default::default()
        };
        let set = SendingServiceClient::new(channel.clone())
            .set_sending_hold(request)
            .await;
        set.expect("a hold");
        let begun = Instant::now();
        loop {
            let status = app.sending().get_sending_status(pb::GetSendingStatusRequest {}).await;
            let status = status.expect("a status").into_inner();
            if status.channels.iter().any(|channel| channel.is_held) {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(2), "the hold has not come");
            tokio::task::yield_now().await;
        }
        smtp.accept_all();
        smtp.release();
    });
    let counts = counts(&summary);
    assert_eq!(
        (smtp.mails(), counts.held, counts.handed_back),
        (1, 19, 19),
        "{counts:?}"
    );
    assert_eq!(summary.sending_holds.len(), 1);
    app.release(scope::channel(pb::Channel::Email)).await.expect("released");
    app.hourly().await;
    assert_each_got(&smtp, &ids, 1);
    second.shutdown().await.expect("stopped");
    app.server.shutdown().await.expect("stopped");
}

async fn a_hold_in_the_middle_of_ticks_loses_nothing(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app_with(backend, &smtp.url(), |config| config.email_concurrency = 2).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    let ids = crowd(&app, &timeline, "c", 600).await;
    let (summary, ()) = tokio::join!(app.hourly(), async {
        while smtp.mails() < 20 {
            tokio::task::yield_now().await;
        }
        app.hold(scope::campaign("A"), "a wrong price").await;
    });
    let (sent, counts) = (smtp.mails(), counts(&summary));
    assert!((20..600).contains(&sent), "{sent} mails");
    assert_eq!(usize::try_from(counts.held).expect("a count"), 600 - sent);
    app.hourly().await;
    let run = |id: &String| {
        let (app, id) = (&app, id.clone());
        async move { app.progress(&id).await }
    };
    for id in &ids {
        let run = run(id).await;
        let done = run.completed_actions.len();
        assert_eq!((done + held(&run).len(), run.failed_actions.len()), (1, 0), "{run:?}");
    }
    assert_eq!(smtp.mails(), sent);
    app.release(scope::campaign("A")).await.expect("released");
    app.hourly().await;
    assert_each_got(&smtp, &ids, 1);
    app.server.shutdown().await.expect("stopped");
}

async fn test_customers_are_held_too(backend: Backend) {
    let outbox = tempfile::tempdir().expect("a directory");
    let app = App::start_with(backend, |config| {
        config.test_outbox_dir = Some(outbox.path().to_owned());
    })
    .await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    app.put_customer(pb::Customer {
        is_test: true,
        ..customer("tess", "Etc/UTC")
    })
    .await;
    app.start_run("tess", &timeline).await;
    let written = || std::fs::read_dir(outbox.path()).expect("the outbox").count();
    app.hold(scope::channel(pb::Channel::Email), "a trial").await;
    let summary = hourly(&mut app.ticks(), pb::ProcessCampaignTimelinesRequest::default()).await;
    let counts = counts(&summary.expect("a summary"));
    assert_eq!((written(), counts.held), (0, 0), "it is held, and not counted");
    assert_eq!(held(&app.progress("tess").await).len(), 1);
    app.release(scope::channel(pb::Channel::Email)).await.expect("released");
    app.hourly().await;
    assert_eq!(written(), 1);
    app.server.shutdown().await.expect("stopped");
}
