//! Messages go at the hours of their channel, by the clock where the customer is, and at no others.

use campaign_automation::config::Config;
use campaign_automation::domain::Hours;
use campaign_automation::proto::campaign::v1 as pb;
use pb::WhenMissed::{CatchUp, Shift};

use crate::support::given::{action, customer, definition, email, shown};
use crate::support::mailing::{assert_each_got, crowd, mailing_app_with};
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::story::{check, keyed, mail, plan, text, within};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    what_is_due_at_night_goes_in_the_morning,
    from_the_morning_on_it_is_late,
    where_the_customer_is_decides,
    it_is_told_before_and_after,
    what_was_claimed_goes_back_when_the_quiet_begins,
);

fn hours(text: &str) -> Hours {
    text.parse().expect("hours")
}

fn by_day(config: &mut Config) {
    (config.sms_hours, config.phone_hours) = (hours("08:00-21:00"), hours("08:00-21:00"));
}

fn call(key: &str, day: i32, hour: i32) -> pb::ActionDefinition {
    keyed(
        key,
        action(day, hour, pb::Channel::Phone, pb::ActionType::MakeCall, "A"),
    )
}

async fn start(app: &App, id: &str, zone: &str, timeline: pb::TimelineDefinition) {
    let timeline = app.timeline(timeline).await;
    app.customer(id, zone).await;
    app.start_run(id, &timeline).await;
}

async fn tell(app: &App, customer: &str, expected: &str) {
    check(customer, &app.progress(customer).await, expected);
}

async fn what_is_due_at_night_goes_in_the_morning(backend: Backend) {
    let app = App::start_with(backend, by_day).await;
    let actions = || {
        vec![
            mail("mail", 1, 22),
            text("sms", 1, 22),
            call("call", 1, 23),
            text("noon", 2, 12),
        ]
    };
    for (policy, when_missed) in [("shift", Shift), ("catch-up", CatchUp)] {
        start(&app, policy, "Etc/UTC", plan(policy, 2, when_missed, actions())).await;
    }
    app.tick_at(&[
        "2026-01-05T22:00:00Z",
        "2026-01-05T23:00:00Z",
        "2026-01-06T00:00:00Z",
        "2026-01-06T07:59:59Z",
    ])
    .await;
    for policy in ["shift", "catch-up"] {
        tell(
            &app,
            policy,
            "01-05 22:00 mail sent\n\
             sms waits until 01-06 08:00, quiet_hours\n\
             call waits until 01-06 08:00, quiet_hours\n\
             day 2 on 01-06, active",
        )
        .await;
    }
    app.tick_at(&["2026-01-06T08:00:00Z", "2026-01-06T12:00:00Z", "2026-01-07T00:00:00Z"])
        .await;
    for policy in ["shift", "catch-up"] {
        tell(
            &app,
            policy,
            "01-05 22:00 mail sent\n\
             01-06 08:00 call sent\n\
             01-06 08:00 sms sent\n\
             01-06 12:00 noon sent\n\
             day 2 on 01-06, completed",
        )
        .await;
    }
    app.server.shutdown().await.expect("stopped");
}

/// The night does not count, and what comes after it does: eight hours late of two is too late for who catches up.
async fn from_the_morning_on_it_is_late(backend: Backend) {
    let app = App::start_with(backend, by_day).await;
    for (policy, when_missed) in [("shift", Shift), ("catch-up", CatchUp)] {
        for (wait, tick) in [("long", 3), ("short", 2)] {
            let actions = vec![within(tick, text("sms", 1, 22))];
            start(
                &app,
                &format!("{policy}-{wait}"),
                "Etc/UTC",
                plan(&format!("{policy}-{wait}"), 2, when_missed, actions),
            )
            .await;
        }
    }
    app.tick_at(&["2026-01-05T22:00:00Z", "2026-01-06T10:30:00Z"]).await;
    for (id, expected) in [
        ("shift-long", "01-06 10:30 sms sent\nday 2 on 01-06, active"),
        ("shift-short", "01-06 10:30 sms sent\nday 2 on 01-06, active"),
        ("catch-up-long", "01-06 10:30 sms sent\nday 2 on 01-06, active"),
        ("catch-up-short", "01-06 10:30 sms expired\nday 2 on 01-06, active"),
    ] {
        tell(&app, id, expected).await;
    }
    app.server.shutdown().await.expect("stopped");
}

/// With no zone of its own a customer is where its number is from, and there may be several zones.
async fn where_the_customer_is_decides(backend: Backend) {
    let app = App::start_with(backend, |config| {
        by_day(config);
        config.phone_hours = hours("12:00-13:00");
        config.email_hours = hours("20:00-02:00");
    })
    .await;
    // It is noon in UTC.
    let timeline = app
        .timeline(definition(
            "hook",
            1,
            vec![mail("mail", 1, 0), text("sms", 1, 0), call("call", 1, 0)],
        ))
        .await;
    let never = "quiet_hours_unknown";
    for (id, zone, phone, mail_at, sms_at, call_at) in [
        ("utc", "Etc/UTC", "+14155552671", "2026-01-05T20:00:00Z", "sent", "sent"),
        (
            "york",
            "America/New_York",
            "+819012345678",
            "2026-01-06T01:00:00Z",
            "2026-01-05T13:00:00Z",
            "2026-01-05T17:00:00Z",
        ),
        (
            "nepal",
            "Asia/Kathmandu",
            "+14155552671",
            "2026-01-05T14:15:00Z",
            "sent",
            "2026-01-06T06:15:00Z",
        ),
        // Hawaii opens at 18:00 in UTC.
        ("america", "", "+14155552671", never, "2026-01-05T18:00:00Z", never),
        // Japan has just shut, and the default zone opens at 8.
        ("japan", "", "+819012345678", never, "2026-01-06T08:00:00Z", never),
        ("britain", "", "+447700900123", "2026-01-05T20:00:00Z", "sent", "sent"),
        ("nowhere", "", "+80012345678", "2026-01-05T20:00:00Z", "sent", "sent"),
    ] {
        let customer = pb::Customer {
            phone: phone.to_owned(),
            ..customer(id, zone)
        };
        app.put_customer(customer).await;
        app.start_run(id, &timeline).await;
        app.hourly().await;
        let run = app.progress(id).await;
        for (key, expected) in [("mail", mail_at), ("sms", sms_at), ("call", call_at)] {
            let is_it = |action: &Option<pb::ActionRef>| action.as_ref().is_some_and(|action| action.key == key);
            let deferred = run.deferred_actions.iter().find(|it| is_it(&it.action));
            let skipped = run.skipped_actions.iter().find(|it| is_it(&it.action));
            let became = match (deferred, skipped) {
                (Some(deferred), None) => shown(deferred.until_time),
                (None, Some(skipped)) if skipped.reason() == pb::SkipReason::QuietHoursUnknown => never.to_owned(),
                (None, None) if run.completed_actions.iter().any(|it| is_it(&it.action)) => "sent".to_owned(),
                other => panic!("{id} {key}: {other:?}"),
            };
            assert_eq!(became, expected, "{id} {key}");
        }
    }
    app.server.shutdown().await.expect("stopped");
}

async fn it_is_told_before_and_after(backend: Backend) {
    let app = App::start_with(backend, by_day).await;
    start(
        &app,
        "anna",
        "America/New_York",
        plan("hook", 1, Shift, vec![text("sms", 1, 0)]),
    )
    .await;
    for _ in 0..2 {
        let request = pb::ExplainActionsRequest {
            customer_id: "anna".to_owned(),
            progress_id: 0,
        };
        let response = app.orchestrator().explain_actions(request).await;
        let explained = response.expect("explanations").into_inner().runs.remove(0).actions;
        assert_eq!(explained[0].hold(), pb::ActionHold::QuietHours);
        assert_eq!(shown(explained[0].until_time), "2026-01-05T13:00:00Z");
        let summary = "It is quiet where the customer is; it is looked at at 2026-01-05 08:00 America/New_York.";
        assert_eq!(explained[0].summary, summary);
        app.hourly().await;
    }
    let executed = &app.execute("anna").await[0].actions;
    assert_eq!(executed[0].defer_reason(), pb::DeferReason::QuietHours);
    app.server.shutdown().await.expect("stopped");
}

/// The clock strikes between the claim and the first byte.
async fn what_was_claimed_goes_back_when_the_quiet_begins(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app_with(backend, &smtp.url(), |config| {
        config.email_concurrency = 1;
        config.email_hours = hours("08:00-21:00");
    })
    .await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    let ids = crowd(&app, &timeline, "c", 5).await;
    app.set("2026-01-05T20:59:59Z");
    smtp.behave(Behaviour::Stall(Step::Dot));
    let (summary, ()) = tokio::join!(app.hourly(), async {
        smtp.until_stalled(1).await;
        app.set("2026-01-05T21:00:00Z");
        smtp.accept_all();
        smtp.release();
    });
    assert_eq!((smtp.mails(), summary.counts.expect("counts").handed_back), (1, 4));
    app.hourly().await;
    assert_eq!(smtp.mails(), 1);
    app.tick_at(&["2026-01-06T08:00:00Z"]).await;
    assert_each_got(&smtp, &ids, 1);
    app.server.shutdown().await.expect("stopped");
}
