//! Pausing, resuming and stopping runs, and switching their timeline off and on.

use campaign_automation::proto::campaign::v1 as pb;
use pb::ProgressStatus;
use tonic::Code;

use crate::support::app::hourly;
use crate::support::calls::{about, day, next};
use crate::support::given::{definition, email, refused, shown};
use crate::support::mailing::mailing_app;
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    each_state_refuses_what_does_not_fit,
    runs_of_others_are_not_found,
    a_paused_run_stands_still,
    a_run_resumed_after_ten_days_goes_on_where_it_was,
    a_run_resumed_for_the_next_day_waits_for_it,
    a_stopped_run_is_over,
    a_timeline_switched_off_freezes_its_runs,
    a_timeline_switched_on_after_a_week_thaws_them,
    a_run_resumed_under_a_frozen_timeline_stays_frozen,
    a_run_that_ended_stays_as_it_was_when_its_timeline_is_switched_on,
    what_was_too_late_goes_when_its_timeline_is_switched_on,
    a_run_that_is_frozen_while_it_sends_stays_on_its_day,
    a_run_stays_where_it_was_put_when_its_timeline_is_switched_off_again,
);

/// Days 1 and 2 with mails at 13 and 14 o'clock.
async fn two_mails_a_day(app: &App) -> pb::Timeline {
    let actions = vec![
        email(1, 13, "A"),
        email(1, 14, "B"),
        email(2, 13, "C"),
        email(2, 14, "D"),
    ];
    app.timeline(definition("hook", 5, actions)).await
}

async fn each_state_refuses_what_does_not_fit(backend: Backend) {
    let app = App::start(backend).await;
    let short = app.timeline(definition("short", 1, vec![])).await;
    let long = app.timeline(definition("long", 5, vec![email(1, 13, "A")])).await;
    let mut ids = Vec::new();
    for (customer, timeline) in [
        ("completed", &short),
        ("active", &long),
        ("paused", &long),
        ("stopped", &long),
    ] {
        app.customer(customer, "Europe/London").await;
        ids.push((customer, app.start_run(customer, timeline).await.progress_id));
    }
    let id_of = |customer: &str| ids.iter().find(|(name, _)| *name == customer).expect("a run").1;
    app.tick_at(&["2026-01-06T00:00:00Z"]).await;
    app.pause("paused", id_of("paused"), "").await.expect("paused");
    app.stop("stopped", id_of("stopped"), "").await.expect("stopped");

    for (state, call, reason) in [
        ("active", "resume", "RUN_NOT_PAUSED"),
        ("paused", "pause", "RUN_NOT_ACTIVE"),
        ("completed", "pause", "RUN_NOT_ACTIVE"),
        ("completed", "resume", "RUN_NOT_PAUSED"),
        ("completed", "stop", "RUN_ENDED"),
        ("stopped", "pause", "RUN_NOT_ACTIVE"),
        ("stopped", "resume", "RUN_NOT_PAUSED"),
        ("stopped", "stop", "RUN_ENDED"),
    ] {
        let id = id_of(state);
        let before = app.get(state, id).await.expect("a run");
        let answer = match call {
            "pause" => app.pause(state, id, "x").await,
            "resume" => app.resume(state, id, "x").await,
            _ => app.stop(state, id, "x").await,
        };
        let error = refused(answer, Code::FailedPrecondition, reason, &[]);
        assert_eq!(about(&error, "status"), state, "{call} of {state}");
        assert_eq!(about(&error, "progress_id"), id.to_string(), "{call} of {state}");
        assert_eq!(app.get(state, id).await.expect("a run"), before, "{call} of {state}");
    }
    app.server.shutdown().await.expect("stopped");
}

async fn runs_of_others_are_not_found(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 5, vec![])).await;
    app.customer("anna", "Europe/London").await;
    app.customer("bela", "Europe/London").await;
    let id = app.start_run("anna", &timeline).await.progress_id;
    let long = "x".repeat(501);
    for (customer, id, reason, code, name, fields) in [
        ("bela", id, "", Code::NotFound, "RUN_NOT_FOUND", &[][..]),
        ("anna", id + 1, "", Code::NotFound, "RUN_NOT_FOUND", &[]),
        ("nobody", id, "", Code::NotFound, "CUSTOMER_NOT_FOUND", &[]),
        (
            "",
            -1,
            "a\nb",
            Code::InvalidArgument,
            "INVALID_FIELDS",
            &["customer_id", "progress_id", "reason"],
        ),
        ("anna", id, &long, Code::InvalidArgument, "INVALID_FIELDS", &["reason"]),
    ] {
        refused(app.pause(customer, id, reason).await, code, name, fields);
        refused(app.resume(customer, id, reason).await, code, name, fields);
        refused(app.stop(customer, id, reason).await, code, name, fields);
        if reason.is_empty() {
            refused(app.get(customer, id).await, code, name, fields);
        }
    }
    assert_eq!(app.progress("anna").await.status(), ProgressStatus::Active);
    app.server.shutdown().await.expect("stopped");
}

async fn a_paused_run_stands_still(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = two_mails_a_day(&app).await;
    app.customer("anna", "Europe/London").await;
    let run = app.start_run("anna", &timeline).await;
    let paused = app.pause("anna", run.progress_id, "on holiday").await.expect("paused");
    assert_eq!(paused.status(), ProgressStatus::Paused);
    assert_eq!((paused.status_reason.as_str(), next(&paused)), ("on holiday", None));

    app.tick_at(&["2026-01-05T13:00:00Z", "2026-01-06T00:00:00Z"]).await;
    app.daily().await;
    app.tick_at(&["2026-01-06T14:00:00Z"]).await;
    assert_eq!(app.sent_count(), 0);
    assert_eq!(app.progress("anna").await, paused);
    let held = app.execute("anna").await;
    assert_eq!((held[0].hold(), held[0].actions.len()), (pb::RunHold::Paused, 0));
    app.server.shutdown().await.expect("stopped");
}

async fn a_run_resumed_after_ten_days_goes_on_where_it_was(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = two_mails_a_day(&app).await;
    app.customer("anna", "Europe/London").await;
    let id = app.start_run("anna", &timeline).await.progress_id;
    app.pause("anna", id, "").await.expect("paused");
    app.tick_at(&["2026-01-06T14:00:00Z", "2026-01-10T14:00:00Z"]).await;

    app.set("2026-01-15T15:30:00Z");
    let resumed = app.resume("anna", id, "back again").await.expect("resumed");
    assert_eq!(resumed.status(), ProgressStatus::Active);
    assert_eq!(resumed.status_reason, "back again");
    assert_eq!(day(&resumed), (1, "2026-01-15".to_owned()));
    assert_eq!(
        next(&resumed),
        Some(("d1h13A".to_owned(), "2026-01-15T15:30:00Z".to_owned()))
    );
    app.tick_at(&["2026-01-15T16:00:00Z"]).await;
    assert_eq!(
        app.sent_to("anna"),
        ["20260115T160000Z email", "20260115T160000Z email"]
    );
    app.tick_at(&["2026-01-16T13:00:00Z", "2026-01-16T14:00:00Z"]).await;
    let run = app.progress("anna").await;
    assert_eq!(day(&run), (2, "2026-01-16".to_owned()));
    assert_eq!((run.shifted_days, app.sent_count()), (0, 4));
    app.server.shutdown().await.expect("stopped");
}

async fn a_run_resumed_for_the_next_day_waits_for_it(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = two_mails_a_day(&app).await;
    app.customer("anna", "Europe/London").await;
    let id = app.start_run("anna", &timeline).await.progress_id;
    app.tick_at(&["2026-01-05T13:00:00Z"]).await;
    app.pause("anna", id, "").await.expect("paused");

    app.set("2026-01-15T15:30:00Z");
    let request = pb::ResumeTimelineRequest {
        customer_id: "anna".to_owned(),
        progress_id: id,
        start_next_day: true,
        ..Default::default()
    };
    let resumed = app.orchestrator().resume_timeline(request).await.expect("resumed");
    let resumed = resumed.into_inner().progress.expect("a run");
    assert_eq!(day(&resumed), (1, "2026-01-16".to_owned()));
    assert_eq!(
        next(&resumed),
        Some(("d1h14B".to_owned(), "2026-01-16T14:00:00Z".to_owned()))
    );
    app.tick_at(&["2026-01-15T16:00:00Z", "2026-01-16T13:00:00Z", "2026-01-16T14:00:00Z"])
        .await;
    assert_eq!(
        app.sent_to("anna"),
        ["20260105T130000Z email", "20260116T140000Z email"]
    );
    app.tick_at(&["2026-01-17T13:00:00Z"]).await;
    let run = app.progress("anna").await;
    assert_eq!((day(&run), run.shifted_days), ((2, "2026-01-17".to_owned()), 0));
    assert_eq!(app.sent_count(), 3);
    app.server.shutdown().await.expect("stopped");
}

async fn a_stopped_run_is_over(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = two_mails_a_day(&app).await;
    for customer in ["active", "paused"] {
        app.customer(customer, "Europe/London").await;
        let id = app.start_run(customer, &timeline).await.progress_id;
        if customer == "paused" {
            app.pause(customer, id, "first").await.expect("paused");
        }
        let run = app.stop(customer, id, "unsubscribed").await.expect("stopped");
        assert_eq!(run.status(), ProgressStatus::Stopped);
        assert_eq!((run.status_reason.as_str(), next(&run)), ("unsubscribed", None));
        assert_eq!(shown(run.end_time), "2026-01-05T12:00:00Z");
    }
    app.tick_at(&["2026-01-05T13:00:00Z", "2026-01-06T13:00:00Z"]).await;
    app.daily().await;
    assert_eq!(app.sent_count(), 0);
    let run = app.progress("active").await;
    assert_eq!(
        (run.status(), day(&run)),
        (ProgressStatus::Stopped, (1, "2026-01-05".to_owned()))
    );
    assert_eq!(app.execute("active").await, []);
    app.server.shutdown().await.expect("stopped");
}

async fn a_timeline_switched_off_freezes_its_runs(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = two_mails_a_day(&app).await;
    let mut other = definition("other", 5, vec![email(1, 13, "A")]);
    other.pipeline_stage = "other".to_owned();
    let other = app.timeline(other).await;
    for customer in ["anna", "bela"] {
        app.customer(customer, "Europe/London").await;
        app.start_run(customer, &timeline).await;
    }
    app.customer("carl", "Europe/London").await;
    app.start_run("carl", &other).await;

    let off = app.set_active(&timeline, false).await;
    assert!(!off.definition.expect("a definition").is_active);
    app.tick_at(&["2026-01-05T13:00:00Z"]).await;
    app.daily().await;
    app.tick_at(&["2026-01-06T13:00:00Z"]).await;
    assert_eq!(app.sent_count(), 1);
    assert_eq!(app.sent_to("carl"), ["20260105T130000Z email"]);
    for customer in ["anna", "bela"] {
        let run = app.progress(customer).await;
        assert_eq!((run.status(), run.timeline_is_active), (ProgressStatus::Active, false));
        assert_eq!((day(&run), next(&run)), ((1, "2026-01-05".to_owned()), None));
        assert_eq!(app.execute(customer).await[0].hold(), pb::RunHold::TimelineInactive);
    }
    app.server.shutdown().await.expect("stopped");
}

/// Runs on day 2, one of them with its first mail of the day sent, frozen for a week.
async fn a_timeline_switched_on_after_a_week_thaws_them(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = two_mails_a_day(&app).await;
    for (customer, zone) in [("london", "Europe/London"), ("delhi", "Asia/Kolkata")] {
        app.customer(customer, zone).await;
        app.start_run(customer, &timeline).await;
    }
    app.tick_at(&["2026-01-05T13:00:00Z", "2026-01-05T14:00:00Z", "2026-01-06T08:00:00Z"])
        .await;
    assert_eq!(app.sent_to("london").len(), 2);
    assert_eq!(
        app.sent_to("delhi").len(),
        3,
        "both of day 1, and at 13:30 the first of day 2"
    );

    app.set_active(&timeline, false).await;
    app.tick_at(&["2026-01-06T14:00:00Z", "2026-01-09T14:00:00Z"]).await;
    app.daily().await;
    app.set("2026-01-13T20:30:00Z");
    app.set_active(&timeline, true).await;
    // It is the 14th in Delhi, and 2 in the morning.
    let london = app.progress("london").await;
    assert_eq!(day(&london), (2, "2026-01-13".to_owned()));
    assert_eq!(
        next(&london),
        Some(("d2h13C".to_owned(), "2026-01-13T20:30:00Z".to_owned()))
    );
    let delhi = app.progress("delhi").await;
    assert_eq!(day(&delhi), (2, "2026-01-14".to_owned()));
    assert_eq!(
        next(&delhi),
        Some(("d2h14D".to_owned(), "2026-01-14T08:30:00Z".to_owned()))
    );

    app.tick_at(&["2026-01-13T21:00:00Z", "2026-01-14T09:00:00Z", "2026-01-15T09:00:00Z"])
        .await;
    assert_eq!(
        app.sent_to("london")[2..],
        ["20260113T210000Z email", "20260113T210000Z email"]
    );
    assert_eq!(app.sent_to("delhi")[3..], ["20260114T090000Z email"]);
    for (customer, date) in [("london", (4, "2026-01-15")), ("delhi", (3, "2026-01-15"))] {
        let run = app.progress(customer).await;
        assert_eq!(
            (day(&run), run.shifted_days),
            ((date.0, date.1.to_owned()), 0),
            "{customer}"
        );
    }
    app.server.shutdown().await.expect("stopped");
}

async fn a_run_resumed_under_a_frozen_timeline_stays_frozen(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = two_mails_a_day(&app).await;
    app.customer("anna", "Europe/London").await;
    let id = app.start_run("anna", &timeline).await.progress_id;
    app.pause("anna", id, "").await.expect("paused");
    app.set_active(&timeline, false).await;
    app.set("2026-01-07T15:00:00Z");
    app.resume("anna", id, "").await.expect("resumed");
    app.tick_at(&["2026-01-07T16:00:00Z"]).await;
    assert_eq!(app.sent_count(), 0);
    app.set("2026-01-09T15:00:00Z");
    app.set_active(&timeline, true).await;
    app.hourly().await;
    let run = app.progress("anna").await;
    assert_eq!((app.sent_count(), day(&run)), (2, (1, "2026-01-09".to_owned())));
    assert_eq!(run.shifted_days, 0);
    app.server.shutdown().await.expect("stopped");
}

async fn a_run_that_ended_stays_as_it_was_when_its_timeline_is_switched_on(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 13, "A")])).await;
    for customer in ["completed", "stopped"] {
        app.customer(customer, "Europe/London").await;
    }
    app.start_run("completed", &timeline).await;
    let id = app.start_run("stopped", &timeline).await.progress_id;
    app.stop("stopped", id, "").await.expect("stopped");
    app.tick_at(&["2026-01-05T13:00:00Z", "2026-01-06T00:00:00Z"]).await;
    let before = (app.progress("completed").await, app.progress("stopped").await);
    assert_eq!(before.0.status(), ProgressStatus::Completed);

    app.set_active(&timeline, false).await;
    app.set("2026-01-09T15:00:00Z");
    app.set_active(&timeline, true).await;
    assert_eq!((app.progress("completed").await, app.progress("stopped").await), before);
    app.server.shutdown().await.expect("stopped");
}

async fn a_run_stays_where_it_was_put_when_its_timeline_is_switched_off_again(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = two_mails_a_day(&app).await;
    app.customer("anna", "Europe/London").await;
    app.start_run("anna", &timeline).await;
    app.set_active(&timeline, false).await;
    app.set("2026-01-09T12:00:00Z");
    app.set_active(&timeline, true).await;
    assert_eq!(day(&app.progress("anna").await), (1, "2026-01-09".to_owned()));
    app.set_active(&timeline, false).await;
    assert_eq!(day(&app.progress("anna").await), (1, "2026-01-09".to_owned()));
    app.server.shutdown().await.expect("stopped");
}

/// It waited for its hour tomorrow, and is due at the reactivation, which is not late.
async fn what_was_too_late_goes_when_its_timeline_is_switched_on(backend: Backend) {
    let app = App::start(backend).await;
    let strict = pb::TimelineDefinition {
        max_lateness: Some(prost_types::Duration {
            seconds: 3600,
            nanos: 0,
        }),
        ..definition("hook", 2, vec![email(1, 13, "A")])
    };
    let timeline = app.timeline(strict).await;
    app.customer("anna", "Europe/London").await;
    app.start_run("anna", &timeline).await;
    app.tick_at(&["2026-01-05T15:00:00Z"]).await;
    assert_eq!(app.sent_count(), 0);
    app.set_active(&timeline, false).await;
    app.set("2026-01-05T16:00:00Z");
    app.set_active(&timeline, true).await;
    app.tick_at(&["2026-01-05T17:00:00Z"]).await;
    assert_eq!(app.sent_to("anna"), ["20260105T170000Z email"]);
    app.server.shutdown().await.expect("stopped");
}

/// Midnight passes while a mail is under way.
async fn a_run_that_is_frozen_while_it_sends_stays_on_its_day(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let timeline = app
        .timeline(definition("hook", 5, vec![email(1, 23, "A"), email(2, 9, "B")]))
        .await;
    app.customer("anna", "Europe/London").await;
    app.start_run("anna", &timeline).await;
    app.set("2026-01-05T23:59:30Z");
    smtp.behave(Behaviour::Stall(Step::Dot));
    let mut client = app.ticks();
    let tick = tokio::spawn(async move { hourly(&mut client, pb::ProcessCampaignTimelinesRequest::default()).await });
    smtp.until_stalled(1).await;
    app.set("2026-01-06T00:00:10Z");
    app.set_active(&timeline, false).await;
    smtp.behave(Behaviour::Accept);
    smtp.release();
    let counts = tick.await.expect("a tick").expect("a summary").counts.expect("counts");
    assert_eq!((counts.channels[0].completed, counts.advanced_runs), (1, 0));
    let run = app.progress("anna").await;
    assert_eq!(
        (day(&run), run.completed_actions.len()),
        ((1, "2026-01-05".to_owned()), 1)
    );

    app.set("2026-01-08T12:00:00Z");
    app.set_active(&timeline, true).await;
    app.tick_at(&["2026-01-08T13:00:00Z", "2026-01-09T00:00:00Z", "2026-01-09T09:00:00Z"])
        .await;
    let run = app.progress("anna").await;
    assert_eq!(
        (day(&run), run.completed_actions.len()),
        ((2, "2026-01-09".to_owned()), 2)
    );
    app.server.shutdown().await.expect("stopped");
}
