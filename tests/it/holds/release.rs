//! How what was held goes again: over as long a time as it was held, and not all at once.

use campaign_automation::proto::campaign::v1 as pb;
use tonic::Code;

use super::{counts, held};
use crate::support::calls::about;
use crate::support::given::{definition, email, refused, shown, sms};
use crate::support::holds::scope;
use crate::support::mailing::{crowd, mailing_app, until_run};
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::story::{keyed, mail, unless_engaged};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_crowd_goes_minute_by_minute,
    after_a_short_hold_all_goes_at_once,
    a_run_that_is_being_sent_is_released_afterwards,
    what_was_held_is_decided_anew,
    what_waits_for_it_goes_with_it,
    a_hold_is_released_once,
);

/// With a tick every minute, the first go with the first, and after a quarter of an hour all are gone.
async fn a_crowd_goes_minute_by_minute(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    app.hold(scope::timeline(&timeline), "why").await;
    let ids = crowd(&app, &timeline, "c", 1000).await;
    assert_eq!(counts(&app.hourly().await).held, 1000);
    app.set("2026-01-05T14:30:00Z");
    app.release(scope::timeline(&timeline)).await.expect("released");
    let mut sent = app.sent_count();
    assert_eq!(sent, 0);
    for minute in 31..=45 {
        app.set(&format!("2026-01-05T14:{minute}:00Z"));
        app.hourly().await;
        let now = app.sent_count();
        let share = now - std::mem::replace(&mut sent, now);
        assert!((40..=95).contains(&share), "{share} in minute {minute}");
    }
    assert_eq!(sent, 1000);
    for id in &ids {
        assert_eq!(app.sent_to(id).len(), 1, "{id}");
    }
    app.server.shutdown().await.expect("stopped");
}

async fn after_a_short_hold_all_goes_at_once(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 1, vec![sms(1, 0, "A")])).await;
    app.hold(scope::all(), "why").await;
    crowd(&app, &timeline, "c", 50).await;
    app.hourly().await;
    app.set("2026-01-05T12:00:30Z");
    app.release(scope::all()).await.expect("released");
    // Those that are not due before do not wait for the others.
    app.set("2026-01-05T12:01:00Z");
    app.hourly().await;
    assert_eq!(app.sent_count(), 50);
    app.server.shutdown().await.expect("stopped");
}

/// A tick that comes while a run is being sent can't wake what the run has put off, so the next does.
async fn a_run_that_is_being_sent_is_released_afterwards(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let actions = vec![keyed("sms", sms(1, 0, "A")), keyed("mail", email(1, 1, "A"))];
    let timeline = app.timeline(definition("hook", 1, actions)).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    app.hold(scope::channel(pb::Channel::Sms), "why").await;
    smtp.behave(Behaviour::Stall(Step::Dot));
    tokio::join!(app.hourly(), async {
        smtp.until_stalled(1).await;
        let run = until_run(&app, "anna", |run| !run.in_flight_actions.is_empty()).await;
        assert_eq!(held(&run).len(), 1);
        app.release(scope::channel(pb::Channel::Sms)).await.expect("released");
        app.hourly().await;
        assert_eq!(app.sent_count(), 0);
        smtp.accept_all();
        smtp.release();
    });
    app.hourly().await;
    assert_eq!((app.sent_count(), smtp.mails()), (1, 1));
    app.server.shutdown().await.expect("stopped");
}

/// Conditions are asked when it goes.
async fn what_was_held_is_decided_anew(backend: Backend) {
    let app = App::start(backend).await;
    let actions = vec![unless_engaged(mail("offer", 1, 0))];
    let timeline = app.timeline(definition("hook", 1, actions)).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    app.hold(scope::all(), "why").await;
    app.hourly().await;
    assert_eq!(held(&app.progress("anna").await).len(), 1);
    app.put_customer(pb::Customer {
        engagement_score: 90,
        ..crate::support::given::customer("anna", "Etc/UTC")
    })
    .await;
    app.release(scope::all()).await.expect("released");
    app.hourly().await;
    let run = app.progress("anna").await;
    assert_eq!((app.sent_count(), run.skipped_actions.len()), (0, 1), "{run:?}");
    app.server.shutdown().await.expect("stopped");
}

/// An action that asks about a held mail waits for it, and is looked at when that has gone.
async fn what_waits_for_it_goes_with_it(backend: Backend) {
    let app = App::start(backend).await;
    let opened = pb::condition::Test::EmailOpened(pb::EmailOpened {
        within_hours: 48,
        of_action: "mail".to_owned(),
    });
    let about_it = pb::ActionDefinition {
        conditions: vec![crate::support::given::condition(opened, pb::ConditionThen::Skip)],
        ..keyed("sms", sms(1, 1, "A"))
    };
    let timeline = app
        .timeline(definition("hook", 1, vec![mail("mail", 1, 0), about_it]))
        .await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    app.hold(scope::channel(pb::Channel::Email), "why").await;
    app.hourly().await;
    assert_eq!(app.progress("anna").await.deferred_actions.len(), 2);
    app.release(scope::channel(pb::Channel::Email)).await.expect("released");
    app.hourly().await;
    assert_eq!(app.sent_to("anna").len(), 2);
    app.server.shutdown().await.expect("stopped");
}

async fn a_hold_is_released_once(backend: Backend) {
    let app = App::start(backend).await;
    app.hold(scope::all(), "why").await;
    app.set("2026-01-05T12:20:00Z");
    let released = app.release(scope::all()).await.expect("released");
    assert_eq!((released.reason.as_str(), app.holds().await), ("why", vec![]));
    assert_eq!(shown(released.end_time), "2026-01-05T12:20:00Z");
    for scope in [scope::all(), scope::channel(pb::Channel::Sms)] {
        let again = app.release(scope).await;
        let error = refused(again, Code::NotFound, "SENDING_HOLD_NOT_FOUND", &[]);
        assert!(
            ["all", "channel:sms"].contains(&about(&error, "scope").as_str()),
            "{error:?}"
        );
    }
    // One that is set after that is another.
    let hold = app.hold(scope::all(), "other").await;
    assert_eq!(shown(hold.start_time), "2026-01-05T12:20:00Z");
    app.server.shutdown().await.expect("stopped");
}
