//! Hostile input: one table of cases, each with what it must be told, and the proof that nothing was stored.
//!
//! A case is a request as bytes, so that there may be in it what a generated client can't send. After each of them all rows of
//! all tables are what they were before. What is found by `fuzz` comes here as a case with a name.

mod content;
mod people;
mod plans;
mod recipients;
mod runs;
mod sending;
mod tasks;

use campaign_automation::proto::campaign::v1 as pb;
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{informed, status_of, violated};
use crate::support::given::{action, customer, definition, email};
use crate::support::holds::scope;
use crate::support::raw::method;
use crate::support::story::keyed;
use crate::support::{App, Backend, Rows, on_each_database};
use crate::suppressions;

on_each_database!(nothing_hostile_is_stored);

/// A hostile request.
struct Case {
    what: String,
    method: &'static str,
    request: Vec<u8>,
    told: Told,
}

/// What its sender must be told.
#[derive(Debug)]
enum Told {
    /// `INVALID_ARGUMENT` with violations of exactly these fields.
    Fields(Vec<String>),
    /// `INVALID_ARGUMENT` with a violation whose path begins so, as the request can't be decoded.
    Undecodable(&'static str),
    /// The same as `Fields`, as the error of the first item of a batch.
    Item(Vec<String>),
    /// The error of the first item of a batch: its code and reason.
    ItemError(Code, &'static str),
    /// Another error: its code and reason.
    Error(Code, &'static str),
    /// An answer: there is nothing that it could be about.
    Nothing,
}

/// What is stored before.
pub(crate) struct World {
    plan: pb::Timeline,
    archived: i64,
    annas: i64,
    berts: i64,
    /// In it there is an action that failed for good.
    carls: i64,
}

/// Anna is on day 1 of a timeline, and her task is done. Bert's run is paused. Carl has no address, so that his mail has failed, and his
/// task waits. A campaign is held that nobody sends.
pub(crate) async fn world(app: &App) -> World {
    let default = pb::TimelineDefinition {
        is_default: true,
        ..definition(
            "plan",
            5,
            vec![email(1, 0, "A"), task("task", 1), email(3, 10, "A"), task("later", 5)],
        )
    };
    let plan = app.timeline(default).await;
    let gone = app.timeline(definition("gone", 5, vec![])).await.timeline_id;
    let request = pb::ArchiveTimelineRequest {
        timeline_id: gone,
        ..Default::default()
    };
    app.timelines().archive_timeline(request).await.expect("archived");
    let sms_only = pb::CampaignDefinition {
        campaign_id: "SMS".to_owned(),
        sms_text: "Hi".to_owned(),
        ..Default::default()
    };
    let request = pb::ApplyCampaignRequest {
        campaign: Some(sms_only),
        ..Default::default()
    };
    app.content().apply_campaign(request).await.expect("a campaign");
    for id in ["anna", "bert", "carl"] {
        let email = if id == "carl" { "" } else { "a@example.com" };
        app.put_customer(pb::Customer {
            pipeline_stage: "hook".to_owned(),
            email: email.to_owned(),
            ..customer(id, "Europe/Berlin")
        })
        .await;
    }
    let mut runs = Vec::new();
    for id in ["anna", "bert", "carl"] {
        runs.push(app.start_run(id, &plan).await.progress_id);
    }
    app.hourly().await;
    app.pause("bert", runs[1], "on holiday").await.expect("paused");
    let carls = app.progress("carl").await;
    assert_eq!(
        (carls.failed_actions.len(), carls.deferred_actions.len()),
        (1, 1),
        "{carls:?}"
    );
    let done = pb::CompleteInteractionRequest {
        customer_id: "anna".to_owned(),
        progress_id: runs[0],
        action_key: "task".to_owned(),
        outcome: pb::TaskOutcome::Done.into(),
        ..Default::default()
    };
    app.orchestrator().complete_interaction(done).await.expect("a report");
    let event = |n: i32| pb::Engagement {
        customer_id: "anna".to_owned(),
        event_id: format!("e{n}"),
        kind: pb::EngagementKind::EmailOpened.into(),
        ..Default::default()
    };
    app.record(vec![event(1), event(2)]).await;
    app.hold(scope::campaign("SMS"), "a wrong price").await;
    // Everybody's number.
    let number = suppressions::address(pb::Channel::Sms, "+14155552671");
    app.suppress(number).await.expect("a suppression");
    World {
        plan,
        archived: gone,
        annas: runs[0],
        berts: runs[1],
        carls: runs[2],
    }
}

/// A task that waits for its report.
fn task(key: &str, day: i32) -> pb::ActionDefinition {
    pb::ActionDefinition {
        completion: pb::TaskCompletion::Reported.into(),
        ..keyed(
            key,
            action(day, 0, pb::Channel::Interaction, pb::ActionType::CreateTask, "A"),
        )
    }
}

fn fields(paths: &[&str]) -> Told {
    Told::Fields(paths.iter().map(|path| (*path).to_owned()).collect())
}

fn case(what: impl Into<String>, method: &'static str, request: &impl Message, told: Told) -> Case {
    Case {
        what: what.into(),
        method,
        request: request.encode_to_vec(),
        told,
    }
}

/// The error of the first item of a batch.
fn first_error(case: &Case, answer: &[u8]) -> Status {
    let error = match case.method {
        "UpsertCustomers" => {
            let response = pb::UpsertCustomersResponse::decode(answer).expect("a response");
            match response.results[0].result.clone() {
                Some(pb::upsert_customers_result::Result::Error(error)) => Some(error),
                Some(pb::upsert_customers_result::Result::Customer(_)) | None => None,
            }
        }
        "StartTimelines" => {
            let response = pb::StartTimelinesResponse::decode(answer).expect("a response");
            match response.results[0].result.clone() {
                Some(pb::start_timelines_result::Result::Error(error)) => Some(error),
                Some(pb::start_timelines_result::Result::Run(_)) | None => None,
            }
        }
        "RecordEngagements" => {
            let response = pb::RecordEngagementsResponse::decode(answer).expect("a response");
            response.results[0].error.clone()
        }
        other => panic!("{other} has no items"),
    };
    status_of(&error.unwrap_or_else(|| panic!("{}: {}: not refused", case.method, case.what)))
}

fn check(case: &Case, answer: Result<Vec<Vec<u8>>, Status>) {
    let what: String = case.what.escape_debug().take(60).collect();
    let what = &format!("{}: {what}", case.method);
    let of_item = |answer: &Result<Vec<Vec<u8>>, Status>| match answer {
        Ok(messages) => first_error(case, &messages[0]),
        Err(status) => panic!("{what}: the call is refused, not the item: {status:?}"),
    };
    let other = |status: &Status, code: Code, reason: &str| {
        assert_eq!(status.code(), code, "{what}: {status:?}");
        informed(what, status, reason);
    };
    match &case.told {
        Told::Fields(expected) => {
            let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
            violated(what, answer, &expected);
        }
        Told::Item(expected) => {
            let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
            violated(what, Err::<(), _>(of_item(&answer)), &expected);
        }
        Told::ItemError(code, reason) => other(&of_item(&answer), *code, reason),
        Told::Error(code, reason) => other(&answer.expect_err(what), *code, reason),
        Told::Undecodable(field) => {
            let status = answer.expect_err(what);
            other(&status, Code::InvalidArgument, "INVALID_FIELDS");
            let details = status.get_error_details();
            let violation = &details.bad_request().expect("a violation").field_violations[0];
            assert!(violation.field.starts_with(field), "{what}: {violation:?}");
        }
        Told::Nothing => drop(answer.unwrap_or_else(|status| panic!("{what}: {status:?}"))),
    }
}

async fn nothing_hostile_is_stored(backend: Backend) {
    let app = App::start(backend).await;
    let world = world(&app).await;
    let cases = [
        people::customers(),
        people::events(&world),
        plans::timelines(),
        plans::conditions(),
        tasks::definitions(),
        tasks::waits(),
        tasks::conditions(),
        tasks::reports(&world),
        tasks::simulations(&world),
        content::campaigns(),
        content::previews(),
        runs::runs(&world),
        runs::starts(&world),
        recipients::suppressions(),
        recipients::erasures(),
        recipients::circuits(),
        sending::holds(),
    ];
    let rows = Rows::of(&app, backend).await;
    let before = rows.all().await;
    assert_eq!(before["customers"].len(), 3, "{before:?}");
    for case in cases.into_iter().flatten() {
        let answer = app.call(&method(case.method), case.request.clone()).await;
        check(&case, answer);
        let what: String = case.what.chars().take(60).collect();
        assert_eq!(
            rows.all().await,
            before,
            "{}: {what:?} has stored something",
            case.method
        );
    }
    app.server.shutdown().await.expect("stopped");
}
