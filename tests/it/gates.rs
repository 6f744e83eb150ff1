//! What is repeated, what waits for it, and in which order things go.

use campaign_automation::proto::campaign::v1 as pb;
use pb::WhenMissed::{CatchUp, Shift};
use std::time::Duration;

use crate::support::given::customer;
use crate::support::mailing::mailing_app_with;
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::story::{check, gate, hours, mail, plan, text, unless_engaged, wait, within};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    what_is_repeated_goes_over_midnight_and_past_the_last_day,
    what_is_repeated_is_given_up_only_when_catching_up,
    what_is_due_goes_by_day_hour_priority_and_id,
    a_gate_after_a_mail_that_is_repeated_waits_for_it,
    a_gate_waits_no_longer_than_it_may_be_late,
    a_gate_decides_about_what_is_added_later_that_day,
    a_gate_that_was_never_asked_holds_nothing,
    a_wait_is_over_at_its_hour,
);

const AGAIN: Behaviour = Behaviour::Reply(Step::Rcpt, "451 4.3.0 come again");

/// A server whose retries are an hour apart, give or take a fifth, so that the tick two hours later finds them.
async fn app(backend: Backend, smtp: &SmtpServer) -> App {
    mailing_app_with(backend, &smtp.url(), |config| {
        config.retry_base = Duration::from_hours(1);
        config.retry_cap = Duration::from_hours(1);
        config.retry_attempts = 20;
    })
    .await
}

async fn start(app: &App, timeline: pb::TimelineDefinition) -> pb::Timeline {
    let slug = timeline.slug.clone();
    let timeline = app.timeline(timeline).await;
    app.customer(&slug, "Etc/UTC").await;
    app.start_run(&slug, &timeline).await;
    timeline
}

async fn score(app: &App, id: &str, score: i32) {
    let customer = pb::Customer {
        engagement_score: score,
        ..customer(id, "Etc/UTC")
    };
    app.put_customer(customer).await;
}

async fn tell(app: &App, customer: &str, expected: &str) {
    check(customer, &app.progress(customer).await, expected);
}

/// A mail of eleven at night is refused until after midnight. The run goes on to its next day, or if there is none is completed
/// only when the mail is.
async fn what_is_repeated_goes_over_midnight_and_past_the_last_day(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app(backend, &smtp).await;
    for (policy, when_missed) in [("shift", Shift), ("catch-up", CatchUp)] {
        let actions = vec![mail("a", 1, 23), text("b", 2, 0), text("c", 2, 9)];
        start(&app, plan(&format!("{policy}-on"), 2, when_missed, actions)).await;
        start(
            &app,
            plan(&format!("{policy}-last"), 1, when_missed, vec![mail("a", 1, 23)]),
        )
        .await;
        // And one whose last day has nothing to send.
        start(
            &app,
            plan(&format!("{policy}-empty"), 3, when_missed, vec![mail("a", 1, 23)]),
        )
        .await;
    }
    smtp.behave(AGAIN);
    app.tick_at(&["2026-01-05T23:00:00Z", "2026-01-06T00:00:00Z"]).await;
    app.daily().await;
    for policy in ["shift", "catch-up"] {
        tell(
            &app,
            &format!("{policy}-on"),
            "01-06 00:00 b sent
            a retrying, temporary
            day 2 on 01-06, active",
        )
        .await;
        tell(
            &app,
            &format!("{policy}-last"),
            "a retrying, temporary
            day 1 on 01-05, active",
        )
        .await;
    }
    app.tick_at(&["2026-01-06T02:00:00Z"]).await;
    app.daily().await;
    tell(
        &app,
        "shift-last",
        "a retrying, temporary
        day 1 on 01-05, active",
    )
    .await;
    smtp.accept_all();
    app.tick_at(&["2026-01-06T04:00:00Z", "2026-01-06T09:00:00Z"]).await;
    app.ticks_between("2026-01-07T00:00:00Z", "2026-01-08T00:00:00Z", true, true)
        .await;
    for policy in ["shift", "catch-up"] {
        let stories = [
            (
                "on",
                "01-06 00:00 b sent
                01-06 04:00 a sent
                01-06 09:00 c sent
                day 2 on 01-06, completed",
            ),
            (
                "last",
                "01-06 04:00 a sent
                day 1 on 01-05, completed",
            ),
            (
                "empty",
                "01-06 04:00 a sent
                day 3 on 01-07, completed",
            ),
        ];
        for (name, story) in stories {
            tell(&app, &format!("{policy}-{name}"), story).await;
        }
        let run = app.progress(&format!("{policy}-last")).await;
        assert!(run.completed_actions[0].attempts >= 3);
        assert_eq!(run.end_time, run.completed_actions[0].complete_time);
    }
    assert_eq!(smtp.deliveries().len(), 6);
    app.server.shutdown().await.expect("stopped");
}

/// A mail that may be three hours late is refused hour after hour; and one is refused once, and then nobody ticks.
async fn what_is_repeated_is_given_up_only_when_catching_up(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app(backend, &smtp).await;
    for (policy, when_missed) in [("shift", Shift), ("catch-up", CatchUp)] {
        start(&app, plan(policy, 3, when_missed, vec![within(3, mail("a", 1, 13))])).await;
        start(
            &app,
            plan(
                &format!("{policy}-alone"),
                3,
                when_missed,
                vec![within(3, mail("a", 1, 20))],
            ),
        )
        .await;
    }
    smtp.behave(AGAIN);
    app.tick_at(&["2026-01-05T13:00:00Z", "2026-01-05T14:30:00Z", "2026-01-05T16:00:00Z"])
        .await;
    let retrying = "a retrying, temporary
        day 1 on 01-05, active";
    tell(&app, "shift", retrying).await;
    // Its last attempt was as late as it may be, and the next one would be later.
    tell(
        &app,
        "catch-up",
        "01-05 16:00 a failed, temporary
        day 1 on 01-05, active",
    )
    .await;
    app.tick_at(&["2026-01-05T20:00:00Z"]).await;
    for customer in ["shift-alone", "catch-up-alone"] {
        tell(&app, customer, retrying).await;
    }
    smtp.accept_all();
    app.tick_at(&["2026-01-07T12:00:00Z"]).await;
    for (customer, expected) in [
        (
            "shift",
            "01-07 12:00 a sent
            day 2 on 01-07, active, shifted 1",
        ),
        (
            "shift-alone",
            "01-07 12:00 a sent
            day 2 on 01-07, active, shifted 1",
        ),
        (
            "catch-up",
            "01-05 16:00 a failed, temporary
            day 3 on 01-07, active, jumped 2-2",
        ),
        (
            "catch-up-alone",
            "01-07 12:00 a expired
            day 3 on 01-07, active, jumped 2-2",
        ),
    ] {
        tell(&app, customer, expected).await;
    }
    app.server.shutdown().await.expect("stopped");
}

/// A mail of the day before is to be repeated when four of today are due. They are applied in an order that is not theirs.
async fn what_is_due_goes_by_day_hour_priority_and_id(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app(backend, &smtp).await;
    let first = |priority, action| pb::ActionDefinition { priority, ..action };
    let actions = vec![
        first(0, mail("hour-1", 2, 1)),
        first(5, mail("last-at-0", 2, 0)),
        first(0, mail("second-at-0", 2, 0)),
        first(0, mail("third-at-0", 2, 0)),
        first(-1, mail("first-at-0", 2, 0)),
        first(1000, mail("yesterday", 1, 23)),
    ];
    let timeline = start(&app, plan("hook", 2, Shift, actions)).await;
    let keys = timeline.definition.expect("a definition").actions;
    let in_plan: Vec<String> = keys.into_iter().map(|action| action.key).collect();
    smtp.behave(AGAIN);
    app.tick_at(&["2026-01-05T23:00:00Z"]).await;
    smtp.accept_all();
    app.tick_at(&["2026-01-06T01:00:00Z"]).await;
    let run = app.progress("hook").await;
    let ids: Vec<String> = run
        .completed_actions
        .iter()
        .map(|done| done.provider_id.clone())
        .collect();
    let arrived: Vec<String> = smtp.deliveries().into_iter().map(|mail| mail.message_id).collect();
    assert_eq!(ids, arrived, "recorded in the order in which they went");
    let went = crate::support::calls::completed(&run);
    let expected = [
        "yesterday",
        "first-at-0",
        "second-at-0",
        "third-at-0",
        "last-at-0",
        "hour-1",
    ];
    assert_eq!(went, expected);
    assert_eq!(in_plan, expected, "the definition is shown in the same order");
    app.server.shutdown().await.expect("stopped");
}

/// A gate and what is behind it wait for a mail before it, also over midnight; what is before it, and the next day, do not. What
/// the gate says depends on what is known when it is asked.
async fn a_gate_after_a_mail_that_is_repeated_waits_for_it(backend: Backend) {
    for (engaged, gated) in [(false, false), (true, true)] {
        let smtp = SmtpServer::start().await;
        let app = app(backend, &smtp).await;
        let actions = vec![
            mail("a", 1, 22),
            text("before", 1, 22),
            gate("gate", 1, 23),
            text("b", 1, 23),
            wait("c", 1, 23),
            text("tomorrow", 2, 0),
        ];
        start(&app, plan("hook", 2, Shift, actions)).await;
        smtp.behave(AGAIN);
        app.tick_at(&["2026-01-05T22:00:00Z"]).await;
        tell(
            &app,
            "hook",
            "01-05 22:00 before sent
            a retrying, temporary
            day 1 on 01-05, active",
        )
        .await;
        app.tick_at(&["2026-01-05T23:30:00Z"]).await;
        let run = app.progress("hook").await;
        let waiting: Vec<String> = crate::support::mailing::keys(run.deferred_actions.iter().map(|wait| &wait.action));
        assert_eq!(waiting, ["gate", "b", "c"]);
        for wait in &run.deferred_actions {
            assert_eq!(wait.reason(), pb::DeferReason::WaitingForAction);
            assert_eq!(
                wait.until_time, run.failed_actions[0].next_retry_time,
                "no later than that"
            );
        }
        app.tick_at(&["2026-01-06T00:00:00Z"]).await;
        assert_eq!(app.sent_to("hook").len(), 2, "today is not held up");
        if engaged {
            score(&app, "hook", 51).await;
        }
        smtp.accept_all();
        app.tick_at(&["2026-01-06T02:00:00Z"]).await;
        let end = if gated {
            "01-06 02:00 b gated
            01-06 02:00 c gated
            01-06 02:00 gate condition"
        } else {
            "01-06 02:00 b sent
            01-06 02:00 c done
            01-06 02:00 gate done"
        };
        let expected = format!(
            "01-05 22:00 before sent
            01-06 00:00 tomorrow sent
            01-06 02:00 a sent
            {end}
            day 2 on 01-06, active"
        );
        tell(&app, "hook", &expected).await;
        app.server.shutdown().await.expect("stopped");
    }
}

/// A gate that may be two hours late is asked although the mail before it is still refused.
async fn a_gate_waits_no_longer_than_it_may_be_late(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app(backend, &smtp).await;
    for (policy, when_missed) in [("shift", Shift), ("catch-up", CatchUp)] {
        let actions = vec![mail("a", 1, 13), within(2, gate("gate", 1, 13)), text("b", 1, 13)];
        start(&app, plan(policy, 2, when_missed, actions)).await;
    }
    smtp.behave(AGAIN);
    app.ticks_between("2026-01-05T13:00:00Z", "2026-01-05T17:00:00Z", true, false)
        .await;
    for policy in ["shift", "catch-up"] {
        let run = app.progress(policy).await;
        let asked = run
            .completed_actions
            .iter()
            .find(|done| done.action.as_ref().is_some_and(|it| it.key == "gate"));
        let asked = crate::support::given::shown(asked.expect("the gate").complete_time);
        assert_eq!(asked, "2026-01-05T15:00:00Z", "{policy}");
        assert_eq!(
            (app.sent_to(policy).len(), run.failed_actions.len()),
            (1, 1),
            "{policy}"
        );
    }
    app.server.shutdown().await.expect("stopped");
}

/// After a gate has spoken, actions come before it and after it, at hours that have passed and at hours to come, and are moved there.
async fn a_gate_decides_about_what_is_added_later_that_day(backend: Backend) {
    for (engaged, word) in [(0, "sent"), (51, "gated")] {
        let app = App::start(backend).await;
        let actions = vec![gate("gate", 1, 14), mail("moved", 2, 18), mail("c", 2, 9)];
        let timeline = start(&app, plan("hook", 2, Shift, actions)).await;
        score(&app, "hook", engaged).await;
        app.tick_at(&["2026-01-05T14:00:00Z"]).await;
        // What it said is not taken back when the score changes.
        score(&app, "hook", 51 - engaged).await;
        let definition = pb::TimelineDefinition {
            actions: vec![
                gate("gate", 1, 14),
                mail("before", 1, 13),
                text("passed", 1, 15),
                text("to-come", 1, 18),
                wait("wait", 1, 19),
                mail("moved", 1, 20),
                mail("c", 2, 9),
            ],
            ..timeline.definition.clone().expect("a definition")
        };
        app.set("2026-01-05T15:30:00Z");
        let applied = app.apply(definition, &timeline.etag).await.expect("applied");
        assert_eq!(applied.changes.expect("changes").runs_to_replan, 1);
        app.ticks_between("2026-01-05T16:00:00Z", "2026-01-06T09:00:00Z", true, true)
            .await;
        let gate = if engaged > 50 { "condition" } else { "done" };
        let done = if engaged > 50 { "gated" } else { "done" };
        let expected = format!(
            "01-05 14:00 gate {gate}
            01-05 16:00 before sent
            01-05 16:00 passed {word}
            01-05 18:00 to-come {word}
            01-05 19:00 wait {done}
            01-05 20:00 moved {word}
            01-06 09:00 c sent
            day 2 on 01-06, active"
        );
        tell(&app, "hook", &expected).await;
        app.server.shutdown().await.expect("stopped");
    }
}

/// A gate whose hour had passed at the start with `SKIP_PASSED`, and one that came too late, was never asked. What comes after it on
/// its day goes, though it would have said skip; a condition of its own still counts. Shifting, a late gate is asked tomorrow,
/// and what comes after it waits.
async fn a_gate_that_was_never_asked_holds_nothing(backend: Backend) {
    let app = App::start(backend).await;
    let behind = || vec![mail("b", 1, 15), unless_engaged(mail("own", 1, 15))];
    let with = |gate: pb::ActionDefinition| [vec![gate], behind()].concat();
    for (name, when_missed, gate_hour) in [("at-start", Shift, 9), ("expired", CatchUp, 13), ("shifted", Shift, 13)] {
        let timeline = app
            .timeline(plan(name, 1, when_missed, with(within(1, gate("gate", 1, gate_hour)))))
            .await;
        app.customer(name, "Etc/UTC").await;
        score(&app, name, 51).await;
        let request = pb::StartTimelineRequest {
            customer_id: name.to_owned(),
            timeline_id: timeline.timeline_id,
            first_day: pb::FirstDay::SkipPassed.into(),
            ..Default::default()
        };
        app.try_start(request).await.expect("a run");
    }
    app.ticks_between("2026-01-05T15:00:00Z", "2026-01-07T01:00:00Z", true, true)
        .await;
    for (name, story) in [
        (
            "at-start",
            "01-05 12:00 gate hour_passed_at_start
            01-05 15:00 b sent
            01-05 15:00 own condition
            day 1 on 01-05, completed",
        ),
        (
            "expired",
            "01-05 15:00 b sent
            01-05 15:00 gate expired
            01-05 15:00 own condition
            day 1 on 01-05, completed",
        ),
        (
            "shifted",
            "01-06 13:00 b gated
            01-06 13:00 gate condition
            01-06 13:00 own gated
            day 1 on 01-06, completed, shifted 1",
        ),
    ] {
        tell(&app, name, story).await;
    }
    app.server.shutdown().await.expect("stopped");
}

/// A wait sends nothing and keeps nobody waiting. It is done at its hour, late up to its limit, and obeys conditions and gates.
async fn a_wait_is_over_at_its_hour(backend: Backend) {
    let app = App::start(backend).await;
    let skipped = unless_engaged(wait("skipped", 1, 14));
    let rows = [
        (
            "on-time",
            Shift,
            vec![wait("w", 1, 14), text("t", 1, 14), skipped.clone()],
            "01-05 14:00 skipped done
            01-05 14:00 t sent
            01-05 14:00 w done
            day 1 on 01-05, active",
        ),
        (
            "engaged",
            Shift,
            vec![skipped, mail("m", 1, 14)],
            "01-05 14:00 m sent
            01-05 14:00 skipped condition
            day 1 on 01-05, active",
        ),
        (
            "only",
            CatchUp,
            vec![wait("w", 1, 23), wait("next", 2, 23)],
            "day 1 on 01-05, active",
        ),
    ];
    for (name, when_missed, actions, _) in &rows {
        let timeline = pb::TimelineDefinition {
            max_lateness: Some(hours(2)),
            ..plan(name, 2, *when_missed, actions.clone())
        };
        start(&app, timeline).await;
    }
    score(&app, "engaged", 51).await;
    app.tick_at(&["2026-01-05T13:59:59Z"]).await;
    for (name, ..) in &rows {
        tell(&app, name, "day 1 on 01-05, active").await;
    }
    app.tick_at(&["2026-01-05T14:00:00Z"]).await;
    for (name, .., story) in &rows {
        tell(&app, name, story).await;
    }
    // Two hours late is done, later is expired.
    app.tick_at(&["2026-01-06T01:00:00Z", "2026-01-07T01:00:00.000001Z"])
        .await;
    tell(
        &app,
        "only",
        "01-06 01:00 w done
        01-07 01:00 next expired
        day 2 on 01-06, completed",
    )
    .await;
    app.server.shutdown().await.expect("stopped");
}
