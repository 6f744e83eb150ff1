//! Erasing a customer: nothing about it is left but keyed hashes, and everybody else's rows.

mod races;

use campaign_automation::proto::campaign::v1 as pb;
use pb::upsert_customers_result::Result as Item;
use std::collections::{BTreeMap, BTreeSet};
use tonic::{Code, Status};

use crate::support::calls::of_item;
use crate::support::given::{customer, definition, email, refused, shown, sms, stamp};
use crate::support::mailing::mailing_app;
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{App, Backend, Rows, on_each_database};

on_each_database!(
    nothing_of_an_erased_customer_is_left,
    an_erased_address_is_not_written_to_unless_that_is_asked_for,
    an_answer_that_is_kept_shows_no_erased_customer,
    what_is_under_way_arrives_and_is_recorded_nowhere,
    an_erasure_is_done_once,
    bad_requests_erase_nothing,
);

/// What the rows of an erased customer would show. Her id is none that is part of a word.
const CANARIES: [&str; 6] = [
    "anna-4711",
    "Canary Anna",
    "canary@example.com",
    "4155550123",
    "canary-colour",
    "canary-event",
];

async fn erase(app: &App, request: pb::EraseCustomerRequest) -> Result<pb::EraseCustomerResponse, Status> {
    let response = app.customers().erase_customer(request).await?;
    Ok(response.into_inner())
}

fn anna() -> pb::EraseCustomerRequest {
    pb::EraseCustomerRequest {
        customer_id: "anna-4711".to_owned(),
        reason: "request 17".to_owned(),
        ..Default::default()
    }
}

fn canary() -> pb::Customer {
    let colour = prost_types::Value {
        kind: Some(prost_types::value::Kind::StringValue("canary-colour".to_owned())),
    };
    pb::Customer {
        display_name: "Canary Anna".to_owned(),
        email: "Canary@example.com".to_owned(),
        phone: "+14155550123".to_owned(),
        attributes: Some(prost_types::Struct {
            fields: BTreeMap::from([("colour".to_owned(), colour)]),
        }),
        ..customer("anna-4711", "Etc/UTC")
    }
}

/// The rows in which a text is, whatever its case.
async fn found(rows: &Rows, text: &str) -> Vec<(String, String)> {
    let all = rows.all().await.into_iter();
    let rows = all.flat_map(|(table, rows)| rows.into_iter().map(move |row| (table.clone(), row)));
    rows.filter(|(_, row)| row.to_lowercase().contains(&text.to_lowercase()))
        .collect()
}

async fn nothing_of_an_erased_customer_is_left(backend: Backend) {
    let app = App::start(backend).await;
    let actions = vec![email(1, 0, "A"), sms(1, 13, "A")];
    let timeline = app.timeline(definition("hook", 2, actions)).await;
    app.put_customer(canary()).await;
    app.put_customer(customer("berta", "Etc/UTC")).await;
    for id in ["anna-4711", "berta"] {
        let request = pb::StartTimelineRequest {
            customer_id: id.to_owned(),
            timeline_id: timeline.timeline_id,
            request_id: "11111111-1111-4111-8111-111111111111".to_owned(),
            ..Default::default()
        };
        app.orchestrator().start_timeline(request).await.expect("a run");
        let event = pb::Engagement {
            event_id: format!("canary-event-{id}"),
            customer_id: id.to_owned(),
            kind: pb::EngagementKind::EmailOpened.into(),
            occur_time: Some(stamp("2026-01-05T11:00:00Z")),
            ..Default::default()
        };
        let request = pb::RecordEngagementsRequest {
            engagements: vec![event],
        };
        app.customers().record_engagements(request).await.expect("recorded");
    }
    app.hourly().await;
    let rows = Rows::of(&app, backend).await;
    // As they are there while something is sent that was stopped, and while a report on it has come already.
    for row in [
        "stopped_in_flight values ('anna-4711', 1, '2026-01-05T13:00:00Z')",
        "delivery_reports values ('anna-4711', 1, 2, 1, 'sent', null, '2026-01-05T12:00:00Z', 'canary-id')",
    ] {
        rows.insert(row).await;
    }
    let about_her: BTreeSet<String> = found(&rows, "anna-4711")
        .await
        .into_iter()
        .map(|(table, _)| table)
        .collect();
    assert_eq!(
        about_her,
        rows.tables_with("customer_id").await,
        "each has a row to erase"
    );
    for canary in CANARIES {
        assert!(!found(&rows, canary).await.is_empty(), "{canary} was never there");
    }
    let before = found(&rows, "berta").await;

    app.set("2026-01-05T12:30:00Z");
    let erased = erase(&app, anna()).await.expect("erased");
    assert_eq!(shown(erased.erase_time), "2026-01-05T12:30:00Z");
    assert_eq!(
        (erased.runs, erased.executions, erased.engagements),
        (1, 1, 1),
        "{erased:?}"
    );
    assert_eq!(erased.suppression_ids.len(), 3, "mail, text messages and calls");
    for canary in CANARIES.iter().filter(|canary| **canary != "canary-event") {
        assert_eq!(found(&rows, canary).await, [], "{canary}");
    }
    assert_eq!(found(&rows, "berta").await, before, "others stay as they are");
    let kept = &rows.all().await["erasures"];
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(kept[0].contains("request 17"), "{kept:?}");

    let request = pb::GetCustomerRequest {
        customer_id: "anna-4711".to_owned(),
    };
    let gone = app.customers().get_customer(request).await;
    refused(gone, Code::NotFound, "CUSTOMER_NOT_FOUND", &[]);
    refused(erase(&app, anna()).await, Code::NotFound, "CUSTOMER_NOT_FOUND", &[]);
    // Nobody stumbles over what is not there.
    app.tick_hours(26).await;
    assert_eq!(app.progress("berta").await.completed_actions.len(), 2);
    assert_eq!(found(&rows, "anna-4711").await, []);
    app.server.shutdown().await.expect("stopped");
    if backend == Backend::Sqlite {
        let path = app.database.url.strip_prefix("sqlite://").expect("a file");
        for file in [path.to_owned(), format!("{path}-wal")] {
            let bytes = std::fs::read(&file).unwrap_or_default();
            for canary in CANARIES.iter().filter(|canary| **canary != "canary-event") {
                let is_there = bytes.windows(canary.len()).any(|bytes| bytes == canary.as_bytes());
                assert!(!is_there, "{canary} in {file}");
            }
        }
    }
}

async fn an_erased_address_is_not_written_to_unless_that_is_asked_for(backend: Backend) {
    for without_suppression in [false, true] {
        let app = App::start(backend).await;
        let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
        app.put_customer(canary()).await;
        let request = pb::EraseCustomerRequest {
            without_suppression,
            ..anna()
        };
        let erased = erase(&app, request).await.expect("erased");
        assert_eq!(erased.suppression_ids.is_empty(), without_suppression);
        // Somebody imports an old list.
        app.put_customer(canary()).await;
        app.start_run("anna-4711", &timeline).await;
        app.hourly().await;
        let run = app.progress("anna-4711").await;
        assert_eq!(run.completed_actions.len(), usize::from(without_suppression), "{run:?}");
        let reasons: Vec<_> = run.skipped_actions.iter().map(pb::SkippedAction::reason).collect();
        assert_eq!(reasons.contains(&pb::SkipReason::Suppressed), !without_suppression);
        app.server.shutdown().await.expect("stopped");
    }
}

async fn an_answer_that_is_kept_shows_no_erased_customer(backend: Backend) {
    let app = App::start(backend).await;
    let request = pb::UpsertCustomersRequest {
        customers: vec![canary(), customer("berta", "Etc/UTC")],
        request_id: "22222222-2222-4222-8222-222222222222".to_owned(),
        ..Default::default()
    };
    let first = app.upsert(request.clone()).await.expect("results");
    erase(&app, anna()).await.expect("erased");
    let rows = Rows::of(&app, backend).await;
    assert_eq!(found(&rows, "canary").await, []);
    let again = app.upsert(request).await.expect("the same answer");
    let Some(Item::Error(error)) = &again.results[0].result else {
        panic!("{again:?}");
    };
    refused(of_item::<()>(error), Code::NotFound, "CUSTOMER_NOT_FOUND", &[]);
    assert_eq!(again.results[1], first.results[1]);
    assert_eq!(found(&rows, "canary").await, [], "repeating stores nothing");
    app.server.shutdown().await.expect("stopped");
}

async fn what_is_under_way_arrives_and_is_recorded_nowhere(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    app.put_customer(canary()).await;
    app.start_run("anna-4711", &timeline).await;
    smtp.behave(Behaviour::Stall(Step::Dot));
    let erasing = async {
        smtp.until_stalled(1).await;
        erase(&app, anna()).await.expect("erased");
        smtp.behave(Behaviour::Accept);
        smtp.release();
    };
    let (summary, ()) = tokio::join!(app.hourly(), erasing);
    assert_eq!(summary.counts.expect("counts").stale_completions, 1);
    assert_eq!(smtp.deliveries().len(), 1);
    let rows = Rows::of(&app, backend).await;
    assert_eq!(found(&rows, "anna-4711").await, []);
    app.server.shutdown().await.expect("stopped");
}

async fn an_erasure_is_done_once(backend: Backend) {
    let app = App::start(backend).await;
    app.put_customer(canary()).await;
    let request = pb::EraseCustomerRequest {
        request_id: "33333333-3333-4333-8333-333333333333".to_owned(),
        ..anna()
    };
    let first = erase(&app, request.clone()).await.expect("erased");
    app.put_customer(canary()).await;
    let again = erase(&app, request).await.expect("the same answer");
    assert_eq!(first, again);
    let rows = Rows::of(&app, backend).await;
    assert!(
        !found(&rows, "canary@example.com").await.is_empty(),
        "stored anew, and kept"
    );
    app.server.shutdown().await.expect("stopped");
}

async fn bad_requests_erase_nothing(backend: Backend) {
    let app = App::start(backend).await;
    app.put_customer(canary()).await;
    let rows = Rows::of(&app, backend).await;
    let before = rows.all().await;
    let cases = [
        (
            pb::EraseCustomerRequest {
                reason: String::new(),
                ..anna()
            },
            "reason",
        ),
        (
            pb::EraseCustomerRequest {
                reason: "a\nb".to_owned(),
                ..anna()
            },
            "reason",
        ),
        (
            pb::EraseCustomerRequest {
                customer_id: "no such id".to_owned(),
                ..anna()
            },
            "customer_id",
        ),
    ];
    for (request, field) in cases {
        refused(
            erase(&app, request).await,
            Code::InvalidArgument,
            "INVALID_FIELDS",
            &[field],
        );
    }
    assert_eq!(rows.all().await, before);
    app.server.shutdown().await.expect("stopped");
}
