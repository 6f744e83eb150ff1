//! The ledger: what was done and decided about each action, filtered and paged; and the dead letters.

use campaign_automation::proto::campaign::v1 as pb;
use pb::ExecutionOutcome::{Completed, Expired, Failed, Retrying, Skipped, Unknown};
use tonic::Code;

use crate::support::given::{definition, email, refused, shown, sms, stamp};
use crate::support::mailing::mailing_app_with;
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    executions_are_filtered,
    an_execution_says_everything,
    executions_are_paged,
    bad_filters_are_refused,
);

/// Runs in which every outcome came to be: anna got all, bob was refused, carl started late, dora's second attempt broke
/// off, and nobody ticked for emil.
async fn everything(backend: Backend, smtp: &SmtpServer) -> (App, pb::Timeline, pb::Timeline) {
    let app = mailing_app_with(backend, &smtp.url(), |config| config.retry_attempts = 2).await;
    let hook = app
        .timeline(definition("hook", 5, vec![email(1, 0, "A"), sms(1, 1, "B")]))
        .await;
    let other = app.timeline(definition("other", 5, vec![email(1, 0, "A")])).await;
    let mut late = definition("late", 5, vec![email(2, 0, "A")]);
    late.when_missed = pb::WhenMissed::CatchUp.into();
    late.max_lateness = Some(prost_types::Duration {
        seconds: 3600,
        nanos: 0,
    });
    let late = app.timeline(late).await;
    for id in ["anna", "bob", "carl", "dora", "emil"] {
        app.customer(id, "Etc/UTC").await;
    }
    app.start_run("anna", &hook).await;
    app.start_run("bob", &hook).await;
    let carl = pb::StartTimelineRequest {
        customer_id: "carl".to_owned(),
        timeline_id: hook.timeline_id,
        first_day: pb::FirstDay::SkipPassed.into(),
        ..Default::default()
    };
    app.try_start(carl).await.expect("a run");
    app.start_run("dora", &other).await;
    app.start_run("emil", &late).await;
    smtp.reply_to_rcpt("bob@example.com", "550 5.7.1 blocked by policy");
    smtp.reply_to_rcpt("dora@example.com", "451 4.3.0 come again");
    app.hourly().await;
    smtp.accept_all();
    smtp.hang_up().await;
    smtp.behave(Behaviour::Drop(Step::Dot));
    app.pass_hours(1);
    app.hourly().await;
    // What was missed expires with the tick that comes to its day.
    app.tick_at(&["2026-01-06T03:00:00Z"]).await;
    (app, hook, other)
}

async fn list(app: &App, filter: pb::ExecutionFilter) -> Vec<pb::Execution> {
    let request = pb::ListExecutionsRequest {
        filter: Some(filter),
        ..Default::default()
    };
    let page = app.orchestrator().list_executions(request).await.expect("a page");
    page.into_inner().executions
}

/// Executions as "customer key attempt outcome".
fn told(executions: &[pb::Execution]) -> Vec<String> {
    let one = |it: &pb::Execution| {
        let key = it.action.as_ref().expect("an action").key.clone();
        let outcome = it.outcome().as_str_name().replace("EXECUTION_OUTCOME_", "");
        format!("{} {key} {} {outcome}", it.customer_id, it.attempt)
    };
    executions.iter().map(one).collect()
}

async fn executions_are_filtered(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let (app, hook, other) = everything(backend, &smtp).await;
    let all = [
        "anna d1h0A 1 COMPLETED",
        "anna d1h1B 1 COMPLETED",
        "bob d1h0A 1 FAILED",
        "bob d1h1B 1 COMPLETED",
        "carl d1h0A 1 SKIPPED",
        "carl d1h1B 1 SKIPPED",
        "dora d1h0A 1 RETRYING",
        "dora d1h0A 2 UNKNOWN",
        "emil d2h0A 1 EXPIRED",
    ];
    let bobs_run = app.progress("bob").await.progress_id;
    let with = |outcomes: &[pb::ExecutionOutcome]| pb::ExecutionFilter {
        outcomes: outcomes.iter().map(|outcome| (*outcome).into()).collect(),
        ..Default::default()
    };
    let between = |from: Option<&str>, until: Option<&str>| pb::ExecutionFilter {
        finish_time_from: from.map(stamp),
        finish_time_until: until.map(stamp),
        ..Default::default()
    };
    let of = |customer: &str, run: i64| pb::ExecutionFilter {
        customer_id: customer.to_owned(),
        progress_id: run,
        ..Default::default()
    };
    let on = |timeline: &pb::Timeline, outcomes: &[pb::ExecutionOutcome]| pb::ExecutionFilter {
        timeline_id: timeline.timeline_id,
        ..with(outcomes)
    };
    let cases: Vec<(pb::ExecutionFilter, &[usize])> = vec![
        (pb::ExecutionFilter::default(), &[0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (of("bob", 0), &[2, 3]),
        (of("bob", bobs_run), &[2, 3]),
        (of("anna", bobs_run), &[]),
        (of("nobody", 0), &[]),
        (on(&hook, &[]), &[0, 1, 2, 3, 4, 5]),
        (on(&other, &[]), &[6, 7]),
        (with(&[Completed]), &[0, 1, 3]),
        (with(&[Failed]), &[2]),
        (with(&[Unknown]), &[7]),
        (with(&[Failed, Unknown]), &[2, 7]),
        (with(&[Unknown, Failed, Failed]), &[2, 7]),
        (with(&[Failed, Retrying]), &[2, 6]),
        (with(&[Skipped, Expired]), &[4, 5, 8]),
        (on(&other, &[Failed, Unknown]), &[7]),
        (on(&hook, &[Completed, Failed]), &[0, 1, 2, 3]),
        // The first instant is included, the last is not.
        (between(Some("2026-01-05T13:00:00Z"), None), &[7, 8]),
        (between(None, Some("2026-01-05T13:00:00Z")), &[0, 1, 2, 3, 4, 5, 6]),
        (
            between(Some("2026-01-05T13:00:00Z"), Some("2026-01-06T03:00:00Z")),
            &[7],
        ),
        (between(Some("2026-01-06T03:00:01Z"), None), &[]),
        (
            pb::ExecutionFilter {
                finish_time_until: Some(stamp("2026-01-05T13:00:00Z")),
                ..on(&hook, &[Failed, Unknown])
            },
            &[2],
        ),
    ];
    for (filter, expected) in cases {
        let expected: Vec<&str> = expected.iter().map(|at| all[*at]).collect();
        assert_eq!(told(&list(&app, filter.clone()).await), expected, "{filter:?}");
    }
    app.server.shutdown().await.expect("stopped");
}

async fn an_execution_says_everything(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let (app, hook, _) = everything(backend, &smtp).await;
    // The action is shown as it is now.
    let mut moved = hook.definition.clone().expect("a definition");
    moved.actions[0].day_number = 3;
    moved.actions.truncate(1);
    app.apply(moved, &hook.etag).await.expect("applied");
    let of = |customer: &str| pb::ExecutionFilter {
        customer_id: customer.to_owned(),
        ..Default::default()
    };
    let anna = list(&app, of("anna")).await;
    let run = app.progress("anna").await;
    let mail = &anna[0];
    assert_eq!(
        (mail.progress_id, mail.timeline_id),
        (run.progress_id, hook.timeline_id)
    );
    let action = mail.action.as_ref().expect("an action");
    assert_eq!(
        (action.day_number, action.campaign_id.as_str(), action.is_removed),
        (3, "A", false)
    );
    assert_eq!(mail.provider_id, run.completed_actions[0].provider_id);
    assert!(mail.provider_id.starts_with('<'), "{mail:?}");
    assert_eq!((mail.channel(), mail.content_revision), (pb::Channel::Email, 1));
    let times = [mail.due_time, mail.start_time, mail.finish_time].map(shown);
    assert_eq!(times, ["2026-01-05T12:00:00Z"; 3]);
    assert_eq!(
        (mail.skip_reason(), mail.failure_reason(), mail.detail.as_str()),
        (pb::SkipReason::Unspecified, pb::FailureReason::Unspecified, "")
    );
    assert!(anna[1].action.as_ref().expect("an action").is_removed);

    let why = |it: &pb::Execution| (it.skip_reason(), it.failure_reason(), it.detail.clone());
    let none = (pb::SkipReason::Unspecified, pb::FailureReason::Unspecified);
    let bob = list(&app, of("bob")).await;
    assert_eq!(
        why(&bob[0]),
        (
            none.0,
            pb::FailureReason::Rejected,
            "550 5.7.1 blocked by policy".to_owned()
        )
    );
    let carl = list(&app, of("carl")).await;
    assert_eq!(
        why(&carl[0]),
        (pb::SkipReason::HourPassedAtStart, none.1, String::new())
    );
    assert_eq!(shown(carl[0].due_time), "2026-01-05T00:00:00Z");
    let dora = list(&app, of("dora")).await;
    assert_eq!(
        why(&dora[0]),
        (none.0, pb::FailureReason::Temporary, "451 4.3.0 come again".to_owned())
    );
    assert_eq!(
        (dora[1].failure_reason(), shown(dora[1].finish_time)),
        (pb::FailureReason::OutcomeUnknown, "2026-01-05T13:00:00Z".to_owned())
    );
    let emil = list(&app, of("emil")).await;
    let too_late = "due at 2026-01-06T00:00:00Z, and may be late by 1 h".to_owned();
    assert_eq!(why(&emil[0]), (pb::SkipReason::Expired, none.1, too_late));
    app.server.shutdown().await.expect("stopped");
}

async fn executions_are_paged(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let (app, _, other) = everything(backend, &smtp).await;
    let dead = pb::ExecutionFilter {
        outcomes: vec![Failed.into(), Unknown.into()],
        ..Default::default()
    };
    let of_other = pb::ExecutionFilter {
        timeline_id: other.timeline_id,
        ..Default::default()
    };
    for filter in [pb::ExecutionFilter::default(), dead.clone(), of_other] {
        let all = told(&list(&app, filter.clone()).await);
        for page_size in [1, 2, 3, 100] {
            let (mut seen, mut page_token) = (Vec::new(), String::new());
            loop {
                let request = pb::ListExecutionsRequest {
                    filter: Some(filter.clone()),
                    page_size,
                    page_token,
                };
                let page = app.orchestrator().list_executions(request).await.expect("a page");
                let page = page.into_inner();
                assert!(page.executions.len() <= usize::try_from(page_size).expect("a size"));
                seen.extend(told(&page.executions));
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            assert_eq!(seen, all, "pages of {page_size} of {filter:?}");
        }
    }

    // A token is good for its own filter.
    let first = pb::ListExecutionsRequest {
        page_size: 1,
        ..Default::default()
    };
    let page = app.orchestrator().list_executions(first).await.expect("a page");
    let page_token = page.into_inner().next_page_token;
    let with = |filter: Option<pb::ExecutionFilter>| pb::ListExecutionsRequest {
        filter,
        page_token: page_token.clone(),
        ..Default::default()
    };
    let other_filter = app.orchestrator().list_executions(with(Some(dead))).await;
    refused(other_filter, Code::InvalidArgument, "INVALID_FIELDS", &["page_token"]);
    // No filter and an empty one are the same.
    let rest = app
        .orchestrator()
        .list_executions(with(Some(pb::ExecutionFilter::default())))
        .await;
    assert_eq!(rest.expect("a page").into_inner().executions.len(), 8);
    app.server.shutdown().await.expect("stopped");
}

async fn bad_filters_are_refused(backend: Backend) {
    let app = App::start(backend).await;
    let beyond = prost_types::Timestamp {
        seconds: i64::MAX,
        nanos: 0,
    };
    let cases: Vec<(pb::ExecutionFilter, &[&str])> = vec![
        (
            pb::ExecutionFilter {
                customer_id: "a b".to_owned(),
                progress_id: -1,
                timeline_id: -1,
                outcomes: vec![Failed.into(), 0, 99],
                finish_time_from: Some(beyond),
                finish_time_until: Some(beyond),
            },
            &[
                "filter.customer_id",
                "filter.progress_id",
                "filter.timeline_id",
                "filter.outcomes[1]",
                "filter.outcomes[2]",
                "filter.finish_time_from",
                "filter.finish_time_until",
            ],
        ),
        (
            pb::ExecutionFilter {
                progress_id: 1,
                outcomes: vec![Failed.into(); 21],
                finish_time_from: Some(stamp("2026-01-05T12:00:00Z")),
                finish_time_until: Some(stamp("2026-01-05T12:00:00Z")),
                ..Default::default()
            },
            &["filter.customer_id", "filter.outcomes", "filter.finish_time_until"],
        ),
    ];
    for (filter, fields) in cases {
        let request = pb::ListExecutionsRequest {
            filter: Some(filter),
            page_size: -1,
            page_token: "x".to_owned(),
        };
        let fields = [fields, &["page_size", "page_token"]].concat();
        let answer = app.orchestrator().list_executions(request).await;
        refused(answer, Code::InvalidArgument, "INVALID_FIELDS", &fields);
    }
    app.server.shutdown().await.expect("stopped");
}
