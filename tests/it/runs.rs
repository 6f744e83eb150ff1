//! Starting runs: what is refused, what becomes of hours that have passed, and where a run begins.

use campaign_automation::proto::campaign::v1 as pb;
use pb::{FirstDay, ProgressStatus, SkipReason};
use tonic::Code;

use crate::support::calls::{about, completed, day, next, skipped};
use crate::support::given::{definition, email, refused, shown};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_live_run_is_not_started_again,
    an_ended_run_is_started_again_only_if_asked,
    what_cannot_be_started_is_refused,
    hours_that_have_passed_go_as_first_day_says,
    a_start_just_before_midnight_has_its_whole_day,
    an_hour_goes_at_the_tick_of_its_moment,
    a_run_begins_on_its_start_day,
);

fn start(customer: &str, timeline: &pb::Timeline) -> pb::StartTimelineRequest {
    pb::StartTimelineRequest {
        customer_id: customer.to_owned(),
        timeline_id: timeline.timeline_id,
        ..Default::default()
    }
}

async fn a_live_run_is_not_started_again(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 5, vec![email(1, 13, "A")])).await;
    app.customer("anna", "Europe/London").await;
    let run = app.start_run("anna", &timeline).await;
    let restart = pb::StartTimelineRequest {
        allow_restart: true,
        ..start("anna", &timeline)
    };
    for request in [start("anna", &timeline), restart] {
        let error = refused(
            app.try_start(request.clone()).await,
            Code::AlreadyExists,
            "RUN_IS_LIVE",
            &[],
        );
        assert_eq!(about(&error, "progress_id"), run.progress_id.to_string());
    }
    app.pause("anna", run.progress_id, "").await.expect("paused");
    let error = refused(
        app.try_start(start("anna", &timeline)).await,
        Code::AlreadyExists,
        "RUN_IS_LIVE",
        &[],
    );
    assert_eq!(about(&error, "progress_id"), run.progress_id.to_string());
    app.server.shutdown().await.expect("stopped");
}

async fn an_ended_run_is_started_again_only_if_asked(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 5, vec![email(1, 0, "A")])).await;
    app.customer("anna", "Europe/London").await;
    let first = app.start_run("anna", &timeline).await;
    app.hourly().await;
    app.stop("anna", first.progress_id, "").await.expect("stopped");

    let error = refused(
        app.try_start(start("anna", &timeline)).await,
        Code::FailedPrecondition,
        "RUN_ENDED",
        &[],
    );
    assert_eq!(about(&error, "progress_id"), first.progress_id.to_string());

    app.pass_hours(1);
    let restart = pb::StartTimelineRequest {
        allow_restart: true,
        ..start("anna", &timeline)
    };
    let second = app.try_start(restart).await.expect("a new run");
    assert!(second.progress_id > first.progress_id);
    assert_eq!(completed(&second), [""; 0]);
    app.hourly().await;
    assert_eq!(
        app.sent_to("anna"),
        ["20260105T120000Z email", "20260105T130000Z email"]
    );
    let first = app.get("anna", first.progress_id).await.expect("the first run");
    assert_eq!(first.status(), ProgressStatus::Stopped);
    assert_eq!(completed(&first), ["d1h0A"]);
    app.server.shutdown().await.expect("stopped");
}

async fn what_cannot_be_started_is_refused(backend: Backend) {
    let app = App::start(backend).await;
    let active = app.timeline(definition("active", 5, vec![email(1, 0, "A")])).await;
    let mut inactive = definition("inactive", 5, vec![email(1, 0, "A")]);
    inactive.is_active = false;
    let inactive = app.timeline(inactive).await;
    app.customer("anna", "Europe/London").await;

    let unknown_timeline = pb::StartTimelineRequest {
        timeline_id: 4711,
        ..start("anna", &active)
    };
    let past_end = pb::StartTimelineRequest {
        start_day: 6,
        ..start("anna", &active)
    };
    let all_wrong = pb::StartTimelineRequest {
        customer_id: String::new(),
        timeline_id: -1,
        first_day: 9,
        start_day: -1,
        request_id: "two words".to_owned(),
        ..Default::default()
    };
    let all = ["customer_id", "timeline_id", "first_day", "start_day", "request_id"];
    let bad_id = start("a/b", &active);
    for (request, code, reason, fields) in [
        (
            start("anna", &inactive),
            Code::FailedPrecondition,
            "TIMELINE_INACTIVE",
            &[][..],
        ),
        (start("nobody", &active), Code::NotFound, "CUSTOMER_NOT_FOUND", &[]),
        (unknown_timeline, Code::NotFound, "TIMELINE_NOT_FOUND", &[]),
        (past_end, Code::InvalidArgument, "INVALID_FIELDS", &["start_day"]),
        (bad_id, Code::InvalidArgument, "INVALID_FIELDS", &["customer_id"]),
        (all_wrong, Code::InvalidArgument, "INVALID_FIELDS", &all),
    ] {
        refused(app.try_start(request).await, code, reason, fields);
    }
    let runs = app.list_progress(pb::ListProgressRequest::default()).await;
    assert_eq!(runs.expect("a page").progress, []);
    app.server.shutdown().await.expect("stopped");
}

/// At 15:00 in Berlin, with actions at 9, 15 and 16 o'clock of day 1.
async fn hours_that_have_passed_go_as_first_day_says(backend: Backend) {
    let app = App::start(backend).await;
    let actions = vec![email(1, 9, "A"), email(1, 15, "B"), email(1, 16, "C")];
    let timeline = app.timeline(definition("hook", 3, actions)).await;
    app.set("2026-01-05T14:00:00Z");
    let cases = [
        ("default", FirstDay::Unspecified, ["05T14", "05T14", "05T15"].as_slice()),
        ("send", FirstDay::SendPassed, &["05T14", "05T14", "05T15"]),
        ("skip", FirstDay::SkipPassed, &["05T14", "05T15"]),
        ("next", FirstDay::NextDay, &["06T08", "06T14", "06T15"]),
    ];
    for (customer, first_day, _) in cases {
        app.customer(customer, "Europe/Berlin").await;
        let request = pb::StartTimelineRequest {
            first_day: first_day.into(),
            ..start(customer, &timeline)
        };
        let run = app.try_start(request).await.expect("a run");
        let (date, skips) = match first_day {
            FirstDay::Unspecified | FirstDay::SendPassed => ("2026-01-05", vec![]),
            FirstDay::SkipPassed => ("2026-01-05", vec![("d1h9A".to_owned(), SkipReason::HourPassedAtStart)]),
            FirstDay::NextDay => ("2026-01-06", vec![]),
        };
        assert_eq!(day(&run), (1, date.to_owned()), "{customer}");
        assert_eq!(skipped(&run), skips, "{customer}");
        if let Some(skipped) = run.skipped_actions.first() {
            assert_eq!(shown(skipped.skip_time), "2026-01-05T14:00:00Z");
        }
    }
    app.tick_at(&[
        "2026-01-05T14:00:00Z",
        "2026-01-05T15:00:00Z",
        "2026-01-06T08:00:00Z",
        "2026-01-06T14:00:00Z",
        "2026-01-06T15:00:00Z",
    ])
    .await;
    for (customer, _, hours) in cases {
        let expected: Vec<String> = hours.iter().map(|hour| format!("202601{hour}0000Z email")).collect();
        assert_eq!(app.sent_to(customer), expected, "{customer}");
    }
    app.server.shutdown().await.expect("stopped");
}

/// At 23:59:59 in Berlin, with actions at 9 o'clock of days 1 and 2.
async fn a_start_just_before_midnight_has_its_whole_day(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app
        .timeline(definition("hook", 3, vec![email(1, 9, "A"), email(2, 9, "B")]))
        .await;
    app.set("2026-01-05T22:59:59Z");
    let cases = [
        (
            "send",
            FirstDay::SendPassed,
            (2, "2026-01-06"),
            ["05T23", "06T08"].as_slice(),
        ),
        ("skip", FirstDay::SkipPassed, (2, "2026-01-06"), &["06T08"]),
        ("next", FirstDay::NextDay, (1, "2026-01-06"), &["06T08", "07T08"]),
    ];
    for (customer, first_day, _, _) in cases {
        app.customer(customer, "Europe/Berlin").await;
        let request = pb::StartTimelineRequest {
            first_day: first_day.into(),
            ..start(customer, &timeline)
        };
        app.try_start(request).await.expect("a run");
    }
    app.tick_at(&["2026-01-05T23:00:00Z"]).await;
    for (customer, _, (number, date), _) in cases {
        assert_eq!(
            day(&app.progress(customer).await),
            (number, date.to_owned()),
            "{customer}"
        );
    }
    app.tick_at(&["2026-01-06T08:00:00Z", "2026-01-07T08:00:00Z"]).await;
    for (customer, _, _, hours) in cases {
        let expected: Vec<String> = hours.iter().map(|hour| format!("202601{hour}0000Z email")).collect();
        assert_eq!(app.sent_to(customer), expected, "{customer}");
        assert_eq!(app.progress(customer).await.shifted_days, 0, "{customer}");
    }
    app.server.shutdown().await.expect("stopped");
}

async fn an_hour_goes_at_the_tick_of_its_moment(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 3, vec![email(1, 13, "A")])).await;
    app.customer("anna", "Europe/London").await;
    app.start_run("anna", &timeline).await;
    app.tick_at(&["2026-01-05T12:59:59.999999Z"]).await;
    assert_eq!(app.sent_count(), 0);
    app.tick_at(&["2026-01-05T13:00:00Z"]).await;
    assert_eq!(app.sent_to("anna"), ["20260105T130000Z email"]);

    // The same at the start itself: what is due at this very moment has not passed.
    app.customer("bela", "Europe/London").await;
    let request = pb::StartTimelineRequest {
        first_day: FirstDay::SkipPassed.into(),
        ..start("bela", &timeline)
    };
    let run = app.try_start(request).await.expect("a run");
    assert_eq!(skipped(&run), []);
    app.hourly().await;
    assert_eq!(app.sent_to("bela"), ["20260105T130000Z email"]);
    app.server.shutdown().await.expect("stopped");
}

async fn a_run_begins_on_its_start_day(backend: Backend) {
    let app = App::start(backend).await;
    let actions = vec![email(1, 13, "A"), email(2, 13, "B"), email(3, 13, "C")];
    let timeline = app.timeline(definition("hook", 3, actions)).await;
    for (customer, start_day, first_day) in [("last", 3, FirstDay::Unspecified), ("later", 2, FirstDay::NextDay)] {
        app.customer(customer, "Europe/London").await;
        let request = pb::StartTimelineRequest {
            start_day,
            first_day: first_day.into(),
            ..start(customer, &timeline)
        };
        app.try_start(request).await.expect("a run");
    }
    let last = app.progress("last").await;
    assert_eq!(day(&last), (3, "2026-01-05".to_owned()));
    assert!((last.percent_complete - 200.0 / 3.0).abs() < 1e-9);
    assert_eq!(
        next(&app.progress("later").await),
        Some(("d2h13B".to_owned(), "2026-01-06T13:00:00Z".to_owned()))
    );

    app.tick_at(&["2026-01-05T13:00:00Z", "2026-01-06T13:00:00Z", "2026-01-07T13:00:00Z"])
        .await;
    assert_eq!(app.sent_to("last"), ["20260105T130000Z email"]);
    let last = app.progress("last").await;
    assert_eq!(
        (last.status(), completed(&last)),
        (ProgressStatus::Completed, vec!["d3h13C".to_owned()])
    );
    assert_eq!(skipped(&last), []);
    assert_eq!(
        app.sent_to("later"),
        ["20260106T130000Z email", "20260107T130000Z email"]
    );
    app.server.shutdown().await.expect("stopped");
}
