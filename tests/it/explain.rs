//! Why a customer got it or did not: every reason there is, in one call, and what is told is what then happens.

use campaign_automation::proto::campaign::v1 as pb;
use pb::{ActionHold, ActionOutcome, ActionStanding, FailureReason, NeverReason, SkipReason};
use tonic::{Code, Response, Status};

use crate::support::given::{action, condition, definition, email, refused, shown, sms, stamp};
use crate::support::mailing::mailing_app;
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    what_is_to_come_waits_for_its_day_and_hour,
    what_is_over_says_why,
    what_is_frozen_says_who_thaws_it,
    a_condition_shows_what_it_saw_and_how_old_that_is,
    a_retry_and_what_waits_for_it_say_when_they_are_looked_at,
    what_never_goes_says_why,
    all_live_runs_are_explained_or_the_last_that_ended,
    what_is_told_is_what_then_happens,
    unknown_runs_are_not_explained,
);

async fn try_explain(app: &App, customer: &str, run: i64) -> Result<Vec<pb::RunExplanation>, Status> {
    let request = pb::ExplainActionsRequest {
        customer_id: customer.to_owned(),
        progress_id: run,
    };
    let response = app.orchestrator().explain_actions(request).await;
    response.map(Response::into_inner).map(|response| response.runs)
}

/// The only run of a customer, explained.
async fn explain(app: &App, customer: &str) -> pb::RunExplanation {
    let mut runs = try_explain(app, customer, 0).await.expect("explanations");
    assert_eq!(runs.len(), 1, "{runs:?}");
    runs.remove(0)
}

/// What is said about an action.
#[track_caller]
fn of<'a>(run: &'a pb::RunExplanation, key: &str) -> &'a pb::ActionExplanation {
    let is_it = |it: &&pb::ActionExplanation| it.action.as_ref().is_some_and(|action| action.key == key);
    run.actions.iter().find(is_it).expect("the action")
}

#[track_caller]
fn held(run: &pb::RunExplanation, key: &str, hold: ActionHold, until: Option<&str>) {
    let told = of(run, key);
    assert_eq!((told.standing(), told.hold()), (ActionStanding::Held, hold), "{told:?}");
    assert_eq!(told.until_time.map(|at| shown(Some(at))).as_deref(), until, "{told:?}");
}

fn keyed(key: &str, action: pb::ActionDefinition) -> pb::ActionDefinition {
    pb::ActionDefinition {
        key: key.to_owned(),
        ..action
    }
}

fn opened_within(hours: i32) -> pb::Condition {
    let test = pb::condition::Test::EmailOpened(pb::EmailOpened {
        within_hours: hours,
        ..Default::default()
    });
    condition(test, pb::ConditionThen::Skip)
}

async fn what_is_to_come_waits_for_its_day_and_hour(backend: Backend) {
    let app = App::start(backend).await;
    let actions = vec![
        keyed("now", email(1, 12, "A")),
        keyed("today", email(1, 18, "A")),
        keyed("day3", sms(3, 10, "B")),
    ];
    let timeline = app.timeline(definition("hook", 5, actions)).await;
    app.customer("anna", "Asia/Tokyo").await;
    app.set("2026-01-06T01:00:00Z");
    app.start_run("anna", &timeline).await;

    let run = explain(&app, "anna").await;
    held(&run, "now", ActionHold::HourNotReached, Some("2026-01-06T03:00:00Z"));
    held(&run, "today", ActionHold::HourNotReached, Some("2026-01-06T09:00:00Z"));
    held(&run, "day3", ActionHold::DayNotReached, Some("2026-01-08T01:00:00Z"));
    assert_eq!(shown(run.next_look_time), "2026-01-06T03:00:00Z");
    assert_eq!(
        of(&run, "today").summary,
        "Its hour has not come: it is due at 2026-01-06 18:00 Asia/Tokyo."
    );

    app.set("2026-01-06T03:30:00Z");
    let run = explain(&app, "anna").await;
    let due = of(&run, "now");
    assert_eq!(
        (due.standing(), due.next_outcome()),
        (ActionStanding::Due, ActionOutcome::Executed)
    );
    assert_eq!(shown(due.due_time), "2026-01-06T03:00:00Z");
    app.hourly().await;
    let run = explain(&app, "anna").await;
    let done = of(&run, "now");
    assert_eq!((done.standing(), done.attempts), (ActionStanding::Completed, 1));
    assert_eq!(shown(done.end_time), "2026-01-06T03:30:00Z");
    assert!(!done.provider_id.is_empty());
    // Nothing but its next day is left to look at, after the evening's mail.
    app.tick_at(&["2026-01-06T09:00:00Z"]).await;
    let run = explain(&app, "anna").await;
    assert_eq!(shown(run.next_look_time), "2026-01-06T15:00:00Z");
    app.server.shutdown().await.expect("stopped");
}

async fn what_is_over_says_why(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let mut by_condition = keyed("condition", email(1, 12, "A"));
    by_condition.conditions = vec![opened_within(48)];
    let mut gate = keyed(
        "gate",
        action(1, 14, pb::Channel::Wait, pb::ActionType::CheckCondition, ""),
    );
    gate.conditions = vec![opened_within(48)];
    let actions = vec![
        keyed("passed", email(1, 3, "A")),
        by_condition,
        keyed("refused", email(1, 13, "A")),
        gate,
        keyed("gated", email(1, 15, "A")),
        keyed("nophone", sms(2, 9, "B")),
    ];
    let timeline = app.timeline(definition("hook", 3, actions)).await;
    let anna = pb::Customer {
        phone: String::new(),
        ..crate::support::given::customer("anna", "Etc/UTC")
    };
    app.put_customer(anna).await;
    let start = pb::StartTimelineRequest {
        customer_id: "anna".to_owned(),
        timeline_id: timeline.timeline_id,
        first_day: pb::FirstDay::SkipPassed.into(),
        ..Default::default()
    };
    app.try_start(start).await.expect("a run");
    let opened = pb::Engagement {
        customer_id: "anna".to_owned(),
        event_id: "o1".to_owned(),
        kind: pb::EngagementKind::EmailOpened.into(),
        occur_time: Some(stamp("2026-01-05T09:00:00Z")),
        ..Default::default()
    };
    app.record(vec![opened]).await;
    app.hourly().await;
    smtp.behave(Behaviour::Reply(Step::Rcpt, "550 5.1.1 no such user"));
    app.tick_at(&["2026-01-05T13:00:00Z", "2026-01-05T14:00:00Z", "2026-01-05T15:00:00Z"])
        .await;
    app.tick_at(&["2026-01-06T00:00:00Z", "2026-01-06T09:00:00Z"]).await;

    let run = explain(&app, "anna").await;
    let told = |key: &str| {
        let told = of(&run, key);
        (told.standing(), told.skip_reason(), told.detail.clone())
    };
    assert_eq!(
        told("passed"),
        (ActionStanding::Skipped, SkipReason::HourPassedAtStart, String::new())
    );
    let saw = "email_opened within 48 hours (last at 2026-01-05T09:00:00Z, 3 h 0 min ago): holds, so skip";
    assert_eq!(
        told("condition"),
        (ActionStanding::Skipped, SkipReason::Condition, saw.to_owned())
    );
    assert_eq!(
        told("gated"),
        (
            ActionStanding::Skipped,
            SkipReason::Gated,
            "gate gate said skip".to_owned()
        )
    );
    let refused = of(&run, "refused");
    assert_eq!(
        (refused.standing(), refused.failure_reason()),
        (ActionStanding::Failed, FailureReason::Suppressed)
    );
    assert!(refused.detail.contains("no such user"), "{refused:?}");
    assert!(refused.summary.contains("RetryActions"), "{refused:?}");
    let no_phone = of(&run, "nophone");
    assert_eq!(
        (no_phone.standing(), no_phone.failure_reason()),
        (ActionStanding::Failed, FailureReason::MissingAddress)
    );
    assert!(run.actions.iter().all(|action| action.conditions.is_empty()));
    // GetProgress and the ledger say the same.
    let progress = app.progress("anna").await;
    let details: Vec<&str> = progress.skipped_actions.iter().map(|it| it.detail.as_str()).collect();
    assert!(details.contains(&saw), "{details:?}");
    app.server.shutdown().await.expect("stopped");
}

async fn what_is_frozen_says_who_thaws_it(backend: Backend) {
    let app = App::start(backend).await;
    let actions = vec![keyed("today", email(1, 18, "A")), keyed("later", email(2, 9, "A"))];
    let timeline = app.timeline(definition("hook", 3, actions)).await;
    app.customer("anna", "Etc/UTC").await;
    let id = app.start_run("anna", &timeline).await.progress_id;
    app.pause("anna", id, "on holiday").await.expect("paused");
    let run = explain(&app, "anna").await;
    held(&run, "today", ActionHold::RunPaused, None);
    held(&run, "later", ActionHold::RunPaused, None);
    assert_eq!((run.status_reason.as_str(), run.next_look_time), ("on holiday", None));
    assert!(of(&run, "today").summary.contains("ResumeTimeline"));

    app.resume("anna", id, "").await.expect("resumed");
    app.set_active(&timeline, false).await;
    let run = explain(&app, "anna").await;
    held(&run, "today", ActionHold::TimelineInactive, None);
    assert_eq!((run.timeline_is_active, run.next_look_time), (false, None));
    app.set_active(&timeline, true).await;
    let run = explain(&app, "anna").await;
    held(&run, "today", ActionHold::HourNotReached, Some("2026-01-05T18:00:00Z"));
    app.server.shutdown().await.expect("stopped");
}

async fn a_condition_shows_what_it_saw_and_how_old_that_is(backend: Backend) {
    let app = App::start(backend).await;
    let mut mail = keyed("mail", email(1, 18, "A"));
    let scored = pb::condition::Test::EngagementScoreAbove(pb::EngagementScoreAbove { threshold: 50 });
    mail.conditions = vec![condition(scored, pb::ConditionThen::Skip), opened_within(48)];
    let timeline = app.timeline(definition("hook", 3, vec![mail])).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    let run = explain(&app, "anna").await;
    let told = &of(&run, "mail").conditions;
    assert_eq!(
        told.iter().map(pb::ConditionFinding::verdict).collect::<Vec<_>>(),
        [pb::ConditionThen::Execute; 2]
    );
    assert_eq!(told[0].leaves[0].fact, Some(pb::leaf_finding::Fact::EngagementScore(0)));
    assert_eq!(told[1].leaves[0].fact, None, "no mail was opened");

    let opened = pb::Engagement {
        customer_id: "anna".to_owned(),
        event_id: "o1".to_owned(),
        kind: pb::EngagementKind::EmailOpened.into(),
        occur_time: Some(stamp("2026-01-03T12:00:00Z")),
        ..Default::default()
    };
    app.record(vec![opened]).await;
    let run = explain(&app, "anna").await;
    let told = of(&run, "mail");
    held(&run, "mail", ActionHold::HourNotReached, Some("2026-01-05T18:00:00Z"));
    assert!(told.conditions[1].holds, "exactly 48 hours ago");
    assert!(
        told.summary
            .contains("it would be skipped: email_opened within 48 hours (last at 2026-01-03T12:00:00Z, 2 d 0 h ago)"),
        "{}",
        told.summary
    );
    // By its hour the mail is too long ago.
    app.set("2026-01-05T18:00:00Z");
    let run = explain(&app, "anna").await;
    assert_eq!(of(&run, "mail").next_outcome(), ActionOutcome::Executed);
    assert!(!of(&run, "mail").conditions[1].holds);
    app.server.shutdown().await.expect("stopped");
}

async fn a_retry_and_what_waits_for_it_say_when_they_are_looked_at(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let mut gate = keyed(
        "gate",
        action(1, 12, pb::Channel::Wait, pb::ActionType::CheckCondition, ""),
    );
    gate.conditions = vec![opened_within(48)];
    gate.priority = 1;
    let timeline = app
        .timeline(definition("hook", 3, vec![keyed("mail", email(1, 12, "A")), gate]))
        .await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    smtp.behave(Behaviour::Reply(Step::Rcpt, "451 4.3.0 try again later"));
    app.hourly().await;
    let run = explain(&app, "anna").await;
    let mail = of(&run, "mail");
    assert_eq!(
        (mail.standing(), mail.hold(), mail.attempts),
        (ActionStanding::Held, ActionHold::Retry, 1)
    );
    assert!(mail.detail.contains("try again later"), "{mail:?}");
    let retry = mail.until_time.expect("an instant");
    let waits = of(&run, "gate");
    assert_eq!(
        (waits.hold(), waits.until_time),
        (ActionHold::WaitingForAction, Some(retry)),
        "{waits:?}"
    );
    assert_eq!(run.next_look_time, Some(retry));
    app.server.shutdown().await.expect("stopped");
}

async fn what_never_goes_says_why(backend: Backend) {
    let app = App::start(backend).await;
    let actions = vec![keyed("first", email(1, 9, "A")), keyed("last", email(4, 9, "A"))];
    let timeline = app.timeline(definition("hook", 5, actions)).await;
    app.customer("anna", "Etc/UTC").await;
    let start = pb::StartTimelineRequest {
        customer_id: "anna".to_owned(),
        timeline_id: timeline.timeline_id,
        start_day: 2,
        ..Default::default()
    };
    let run = app.try_start(start).await.expect("a run").progress_id;
    let told = explain(&app, "anna").await;
    let first = of(&told, "first");
    assert_eq!(
        (first.standing(), first.never_reason()),
        (ActionStanding::Never, NeverReason::DayPassed)
    );
    app.stop("anna", run, "enough").await.expect("stopped");
    let told = explain(&app, "anna").await;
    let last = of(&told, "last");
    assert_eq!(
        (last.standing(), last.never_reason(), told.next_look_time),
        (ActionStanding::Never, NeverReason::RunEnded, None)
    );
    app.server.shutdown().await.expect("stopped");
}

async fn all_live_runs_are_explained_or_the_last_that_ended(backend: Backend) {
    let app = App::start(backend).await;
    let one = app.timeline(definition("one", 2, vec![email(1, 18, "A")])).await;
    let two = app.timeline(definition("two", 2, vec![email(1, 18, "A")])).await;
    app.customer("anna", "Etc/UTC").await;
    let first = app.start_run("anna", &one).await.progress_id;
    let second = app.start_run("anna", &two).await.progress_id;
    let ids = |runs: Vec<pb::RunExplanation>| runs.iter().map(|run| run.progress_id).collect::<Vec<_>>();
    assert_eq!(ids(try_explain(&app, "anna", 0).await.expect("two")), [first, second]);
    assert_eq!(ids(try_explain(&app, "anna", second).await.expect("one")), [second]);
    app.stop("anna", second, "").await.expect("stopped");
    assert_eq!(ids(try_explain(&app, "anna", 0).await.expect("one")), [first]);
    app.pass_hours(1);
    app.stop("anna", first, "").await.expect("stopped");
    assert_eq!(ids(try_explain(&app, "anna", 0).await.expect("one")), [first]);
    app.server.shutdown().await.expect("stopped");
}

/// At every hour of two weeks, with an outage in them, the next tick does what was told just before.
async fn what_is_told_is_what_then_happens(backend: Backend) {
    for when_missed in [pb::WhenMissed::Shift, pb::WhenMissed::CatchUp] {
        let app = App::start(backend).await;
        let mut never = keyed("never", sms(2, 11, "B"));
        never.conditions = vec![condition(
            pb::condition::Test::EngagementScoreAbove(pb::EngagementScoreAbove { threshold: 50 }),
            pb::ConditionThen::Execute,
        )];
        let actions = vec![
            keyed("a", email(1, 9, "A")),
            keyed("b", email(2, 0, "A")),
            never,
            keyed("wait", action(3, 7, pb::Channel::Wait, pb::ActionType::Wait, "")),
            keyed("c", email(3, 7, "A")),
            keyed("d", email(5, 23, "A")),
            keyed("e", sms(6, 12, "B")),
        ];
        let timeline = app
            .timeline(pb::TimelineDefinition {
                when_missed: when_missed.into(),
                ..definition("hook", 7, actions)
            })
            .await;
        app.customer("anna", "America/New_York").await;
        app.start_run("anna", &timeline).await;
        let outage = 70..=130;
        for hour in 0..24 * 14 {
            app.pass_hours(1);
            if outage.contains(&hour) {
                continue;
            }
            let told = explain(&app, "anna").await;
            app.hourly().await;
            let then = explain(&app, "anna").await;
            for before in &told.actions {
                let key = &before.action.as_ref().expect("an action").key;
                let after = of(&then, key);
                let expected = match (before.standing(), before.next_outcome()) {
                    (ActionStanding::Due, ActionOutcome::Executed) => vec![ActionStanding::Completed],
                    (ActionStanding::Due, ActionOutcome::Skipped) => vec![ActionStanding::Skipped],
                    (ActionStanding::Due, ActionOutcome::Expired) => vec![ActionStanding::Expired],
                    // In turn, after what was sent first.
                    (ActionStanding::Due, _) => vec![ActionStanding::Completed, ActionStanding::Skipped],
                    // Only what the run's way to a later day overtakes is never reached.
                    (ActionStanding::Held, _) => vec![ActionStanding::Held, ActionStanding::Never],
                    (standing, _) => vec![standing],
                };
                assert!(
                    expected.contains(&after.standing()),
                    "{key}: {before:?} became {after:?}"
                );
            }
        }
        let over = explain(&app, "anna").await;
        assert_eq!(over.status(), pb::ProgressStatus::Completed, "{over:?}");
        app.server.shutdown().await.expect("stopped");
    }
}

async fn unknown_runs_are_not_explained(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 2, vec![email(1, 18, "A")])).await;
    app.customer("anna", "Etc/UTC").await;
    app.customer("bert", "Etc/UTC").await;
    refused(
        try_explain(&app, "nobody", 0).await,
        Code::NotFound,
        "CUSTOMER_NOT_FOUND",
        &[],
    );
    refused(try_explain(&app, "anna", 0).await, Code::NotFound, "RUN_NOT_FOUND", &[]);
    let run = app.start_run("anna", &timeline).await.progress_id;
    refused(
        try_explain(&app, "bert", run).await,
        Code::NotFound,
        "RUN_NOT_FOUND",
        &[],
    );
    refused(
        try_explain(&app, "", -1).await,
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &["customer_id", "progress_id"],
    );
    app.server.shutdown().await.expect("stopped");
}
