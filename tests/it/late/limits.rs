//! How late an action may go, how far apart late messages are, and what does not count as lateness.

use campaign_automation::channels::{ChannelUrl, Mailbox};
use campaign_automation::domain::Timestamp;
use campaign_automation::proto::campaign::v1 as pb;
use chrono::TimeDelta;
use pb::WhenMissed::{CatchUp, Shift};
use std::time::Duration;

use crate::support::calls::next;
use crate::support::given::{at, shown};
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::story::{check, hours, mail, plan, text, within};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    an_action_goes_up_to_its_max_lateness_and_not_beyond,
    late_messages_go_an_hour_apart_in_each_run,
    what_the_engine_put_off_does_not_age,
    ticks_further_apart_than_the_lateness_shift_no_run_for_ever,
    catching_up_what_is_too_late_when_its_day_is_reached_ends_at_once,
    what_comes_next_is_told_from_today,
);

type Actions = fn() -> Vec<pb::ActionDefinition>;

/// A mail at 13 o'clock is looked at when it is as late as it may be, or a microsecond later; afterwards every hour.
async fn an_action_goes_up_to_its_max_lateness_and_not_beyond(backend: Backend) {
    // The policy, the limits of the timeline and of the action in hours, and both stories.
    let rows = [
        (
            Shift,
            12,
            Some(1),
            "01-05 14:00 m sent
            day 1 on 01-05, completed",
            "01-06 13:00 m sent
            day 1 on 01-06, completed, shifted 1",
        ),
        (
            CatchUp,
            12,
            Some(2),
            "01-05 15:00 m sent
            day 1 on 01-05, completed",
            "01-05 15:00 m expired
            day 1 on 01-05, completed",
        ),
        (
            Shift,
            3,
            None,
            "01-05 16:00 m sent
            day 1 on 01-05, completed",
            "01-06 13:00 m sent
            day 1 on 01-06, completed, shifted 1",
        ),
        (
            CatchUp,
            12,
            None,
            "01-06 01:00 m sent
            day 1 on 01-05, completed",
            "01-06 01:00 m expired
            day 1 on 01-05, completed",
        ),
        (
            Shift,
            12,
            None,
            "01-06 01:00 m sent
            day 1 on 01-05, completed",
            "01-06 13:00 m sent
            day 1 on 01-06, completed, shifted 1",
        ),
        // A limit of its own may be wider than the timeline's too.
        (
            CatchUp,
            1,
            Some(20),
            "01-06 09:00 m sent
            day 1 on 01-05, completed",
            "01-06 09:00 m expired
            day 1 on 01-05, completed",
        ),
        (
            Shift,
            1,
            Some(22),
            "01-06 11:00 m sent
            day 1 on 01-05, completed",
            "01-06 13:00 m sent
            day 1 on 01-06, completed, shifted 1",
        ),
    ];
    let app = App::start(backend).await;
    let name = |n: usize, micros: i64| format!("c{n}-{micros}");
    for (n, (when_missed, limit, own, ..)) in rows.iter().enumerate() {
        let action = mail("m", 1, 13);
        let action = own.map_or(action.clone(), |own| within(own, action));
        let definition = pb::TimelineDefinition {
            max_lateness: Some(hours(*limit)),
            ..plan(&format!("t{n}"), 1, *when_missed, vec![action])
        };
        let timeline = app.timeline(definition).await;
        for micros in [0, 1] {
            app.customer(&name(n, micros), "Etc/UTC").await;
            app.start_run(&name(n, micros), &timeline).await;
        }
    }
    let mut looks: Vec<(Timestamp, String)> = Vec::new();
    for (n, (_, limit, own, ..)) in rows.iter().enumerate() {
        for micros in [0, 1] {
            let late = TimeDelta::hours(own.unwrap_or(*limit)) + TimeDelta::microseconds(micros);
            looks.push((at("2026-01-05T13:00:00Z") + late, name(n, micros)));
        }
    }
    looks.sort();
    for (time, customer) in looks {
        app.clock.set(time);
        app.execute(&customer).await;
    }
    app.ticks_between("2026-01-06T12:00:00Z", "2026-01-07T00:00:00Z", true, false)
        .await;
    for (n, (.., in_time, beyond)) in rows.iter().enumerate() {
        app.tells(&name(n, 0), in_time).await;
        app.tells(&name(n, 1), beyond).await;
    }
    app.server.shutdown().await.expect("stopped");
}

/// Two runs of one customer are late at once, and are looked at a second before each hour is over, and then. Each has its own hour
/// between messages of a channel; what is an hour late exactly is not late.
async fn late_messages_go_an_hour_apart_in_each_run(backend: Backend) {
    let app = App::start(backend).await;
    app.customer("anna", "Etc/UTC").await;
    for slug in ["one", "two"] {
        let actions = vec![
            mail("a", 2, 6),
            mail("b", 2, 7),
            mail("c", 2, 8),
            text("s", 2, 6),
            text("t", 2, 7),
            mail("hour-late", 2, 11),
            mail("on-time", 2, 12),
        ];
        let timeline = app.timeline(plan(slug, 2, Shift, actions)).await;
        app.start_run("anna", &timeline).await;
    }
    app.tick_at(&[
        "2026-01-06T12:00:00Z",
        "2026-01-06T12:59:59Z",
        "2026-01-06T13:00:00Z",
        "2026-01-06T13:59:59Z",
        "2026-01-06T14:00:00Z",
    ])
    .await;
    let request = pb::ListProgressRequest {
        customer_id: "anna".to_owned(),
        ..Default::default()
    };
    let runs = app.list_progress(request).await.expect("a page").progress;
    assert_eq!(runs.len(), 2);
    for run in &runs {
        check(
            &run.timeline_slug,
            run,
            "01-06 12:00 a sent
            01-06 12:00 hour-late sent
            01-06 12:00 on-time sent
            01-06 12:00 s sent
            01-06 13:00 b sent
            01-06 13:00 t sent
            01-06 14:00 c sent
            day 2 on 01-06, active",
        );
    }
    assert_eq!(app.sent_count(), 14);
    app.server.shutdown().await.expect("stopped");
}

/// Catching up, a mail may be an hour late. It is taken up after 50 minutes, when the channel turns out to be stopped; that is mended
/// only later, and then it is refused for now. The time for which the engine put it off does not count, so it is repeated.
async fn what_the_engine_put_off_does_not_age(backend: Backend) {
    let smtp = SmtpServer::start().await;
    smtp.advertise("AUTH PLAIN");
    smtp.reply_to_auth("535 5.7.8 bad credentials");
    let url = smtp.url().replace("smtp://", "smtp://user:secret@");
    let app = App::start_with(backend, |config| {
        config.channels.email_url = Some(ChannelUrl::parse(&url).expect("a URL"));
        config.channels.email_from = Some(Mailbox::parse("Shop <shop@example.com>").expect("a sender"));
        config.channel_probe = Duration::from_secs(420);
    })
    .await;
    let timeline = app
        .timeline(plan("hook", 1, CatchUp, vec![within(1, mail("a", 1, 13))]))
        .await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    app.tick_at(&["2026-01-05T13:50:00Z"]).await;
    let story = "a waits until 01-05 13:57, channel_unavailable
        day 1 on 01-05, active";
    check("stopped", &app.progress("anna").await, story);

    smtp.reply_to_auth("235 2.7.0 welcome");
    smtp.behave(Behaviour::Reply(Step::Rcpt, "451 4.3.0 come again"));
    app.tick_at(&["2026-01-05T14:30:00Z"]).await;
    let story = "a retrying, temporary
        day 1 on 01-05, active";
    check("refused", &app.progress("anna").await, story);
    // Ten minutes of its hour are left, and what nobody takes up in them is over.
    let late = app.progress("anna").await;
    smtp.accept_all();
    app.tick_at(&["2026-01-05T14:40:00Z"]).await;
    let story = "01-05 14:40 a sent
        day 1 on 01-05, active";
    check("sent", &app.progress("anna").await, story);
    assert_eq!(late.failed_actions[0].attempts, 1);
    app.server.shutdown().await.expect("stopped");
}

/// Actions that may be an hour late, when the hourly tick comes every two hours, or once a day in the evening: a day is shifted, and when its
/// hour has come round again it goes on that date, however late.
async fn ticks_further_apart_than_the_lateness_shift_no_run_for_ever(backend: Backend) {
    let rows = [
        (
            "2026-01-05T13:30:00Z",
            2,
            "01-06 15:30 a sent
            01-08 15:30 b sent
            day 2 on 01-08, completed, shifted 2",
        ),
        (
            "2026-01-05T20:00:00Z",
            24,
            "01-07 20:00 a sent
            01-10 20:00 b sent
            day 2 on 01-10, completed, shifted 4",
        ),
    ];
    for (first, apart, expected) in rows {
        let app = App::start(backend).await;
        let actions = vec![within(1, mail("a", 1, 14)), within(1, mail("b", 2, 14))];
        let timeline = app.timeline(plan("hook", 2, Shift, actions)).await;
        app.customer("anna", "Etc/UTC").await;
        app.start_run("anna", &timeline).await;
        let (mut now, mut shifted) = (at(first), 0);
        while now < at("2026-01-12T00:00:00Z") {
            app.clock.set(now);
            shifted += app.hourly().await.counts.expect("counts").shifted_days;
            now += TimeDelta::hours(apart);
        }
        app.tells("anna", expected).await;
        assert_eq!(shifted, i64::from(app.progress("anna").await.shifted_days));
        app.server.shutdown().await.expect("stopped");
    }
}

/// The tick that reaches day 2 in the afternoon gives up what could go until one o'clock in the morning, whether it moves the run by itself
/// or after the daily one did.
async fn catching_up_what_is_too_late_when_its_day_is_reached_ends_at_once(backend: Backend) {
    for daily in [false, true] {
        let app = App::start(backend).await;
        let actions = vec![mail("a", 1, 13), within(1, mail("b", 2, 0)), mail("c", 2, 20)];
        let timeline = app.timeline(plan("hook", 2, CatchUp, actions)).await;
        app.customer("anna", "Etc/UTC").await;
        app.start_run("anna", &timeline).await;
        app.tick_at(&["2026-01-05T13:00:00Z"]).await;
        app.set("2026-01-06T15:00:00Z");
        if daily {
            app.daily().await;
        }
        app.hourly().await;
        let story = "01-05 13:00 a sent
            01-06 15:00 b expired
            day 2 on 01-06, active";
        app.tells("anna", story).await;
        app.server.shutdown().await.expect("stopped");
    }
}

/// A run that nobody ticked for days shows what the next tick would find, and that is what then happens.
async fn what_comes_next_is_told_from_today(backend: Backend) {
    // The policy, the actions, when it is asked on the 8th, and what is next.
    let rows: [(&str, pb::WhenMissed, Actions, &str, &str); 6] = [
        // Day 1 is served: day 2 is today, and day 4 the day after tomorrow.
        (
            "served",
            Shift,
            || vec![mail("a", 1, 12), mail("b", 4, 9)],
            "b",
            "2026-01-10T09:00:00Z",
        ),
        (
            "today",
            Shift,
            || vec![mail("a", 1, 12), mail("b", 2, 20)],
            "b",
            "2026-01-08T20:00:00Z",
        ),
        // Undone, its day is today.
        (
            "undone",
            Shift,
            || vec![mail("b", 1, 20), mail("c", 2, 9)],
            "b",
            "2026-01-08T20:00:00Z",
        ),
        // As late as that it may not go today.
        (
            "tomorrow",
            Shift,
            || vec![within(1, mail("b", 1, 13)), mail("c", 2, 9)],
            "b",
            "2026-01-09T13:00:00Z",
        ),
        // It is day 4, and what is to come of it is next.
        (
            "calendar",
            CatchUp,
            || vec![mail("a", 1, 13), mail("c", 3, 9), mail("d", 4, 20)],
            "d",
            "2026-01-08T20:00:00Z",
        ),
        (
            "later",
            CatchUp,
            || vec![mail("a", 1, 13), mail("c", 3, 9), mail("d", 5, 20)],
            "d",
            "2026-01-09T20:00:00Z",
        ),
    ];
    let app = App::start(backend).await;
    for (name, when_missed, actions, ..) in &rows {
        let timeline = app.timeline(plan(name, 6, *when_missed, actions())).await;
        app.customer(name, "Etc/UTC").await;
        app.start_run(name, &timeline).await;
    }
    app.hourly().await;
    app.set("2026-01-08T16:30:00Z");
    for (name, .., key, time) in &rows {
        let run = app.progress(name).await;
        assert_eq!(next(&run), Some(((*key).to_owned(), (*time).to_owned())), "{name}");
    }
    app.ticks_between("2026-01-08T17:00:00Z", "2026-01-10T09:00:00Z", true, true)
        .await;
    for (name, .., key, time) in &rows {
        let run = app.progress(name).await;
        let done = run
            .completed_actions
            .iter()
            .find(|done| done.action.as_ref().is_some_and(|it| it.key == *key));
        assert_eq!(shown(done.expect("done").complete_time), *time, "{name}");
    }
    app.server.shutdown().await.expect("stopped");
}
