//! What customers did: events are stored once, each on its own, and listed the newest first.

use campaign_automation::proto::campaign::v1 as pb;
use pb::EngagementKind as Kind;
use tonic::Code;

use crate::support::calls::of_item;
use crate::support::given::{definition, email, refused, shown, stamp};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    an_event_is_stored_once,
    a_bad_event_harms_no_other,
    events_are_listed_the_newest_first,
    what_concerns_all_events_refuses_the_call,
    batches_that_cross_each_other_both_pass,
);

fn event(customer: &str, id: &str, time: &str) -> pb::Engagement {
    pb::Engagement {
        customer_id: customer.to_owned(),
        event_id: id.to_owned(),
        kind: Kind::EmailOpened.into(),
        occur_time: (!time.is_empty()).then(|| stamp(time)),
        ..Default::default()
    }
}

async fn list(app: &App, customer: &str) -> Vec<pb::Engagement> {
    let request = pb::ListEngagementsRequest {
        customer_id: customer.to_owned(),
        ..Default::default()
    };
    let page = app.customers().list_engagements(request).await.expect("a page");
    page.into_inner().engagements
}

async fn an_event_is_stored_once(backend: Backend) {
    let app = App::start(backend).await;
    for id in ["anna", "bela"] {
        app.customer(id, "").await;
    }
    let results = app
        .record(vec![
            event("anna", "one", "2026-01-05T10:00:00Z"),
            event("anna", "one", "2026-01-05T11:00:00Z"),
            event("bela", "one", "2026-01-05T11:00:00Z"),
        ])
        .await;
    let duplicates: Vec<bool> = results.iter().map(|result| result.duplicate).collect();
    assert_eq!(duplicates, [false, true, false]);

    app.pass_hours(1);
    let changed = pb::Engagement {
        kind: Kind::Replied.into(),
        ..event("anna", "one", "")
    };
    let again = app.record(vec![changed, event("anna", "two", "")]).await;
    assert_eq!((again[0].duplicate, again[1].duplicate), (true, false));
    assert!(again.iter().all(|result| result.error.is_none()));

    let stored = list(&app, "anna").await;
    let seen: Vec<_> = stored
        .iter()
        .map(|event| {
            (
                event.event_id.as_str(),
                shown(event.occur_time),
                shown(event.receive_time),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (
                "two",
                "2026-01-05T13:00:00Z".to_owned(),
                "2026-01-05T13:00:00Z".to_owned()
            ),
            (
                "one",
                "2026-01-05T10:00:00Z".to_owned(),
                "2026-01-05T12:00:00Z".to_owned()
            ),
        ]
    );
    assert_eq!(stored[1].kind(), Kind::EmailOpened);
    app.server.shutdown().await.expect("stopped");
}

async fn a_bad_event_harms_no_other(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 5, vec![email(1, 0, "A")])).await;
    let other = app.timeline(definition("other", 5, vec![email(1, 0, "A")])).await;
    for id in ["anna", "bela"] {
        app.customer(id, "").await;
    }
    let run = app.start_run("anna", &timeline).await.progress_id;
    let action_of = |timeline: &pb::Timeline| timeline.definition.clone().expect("a definition").actions[0].action_id;
    let (action, foreign) = (action_of(&timeline), action_of(&other));
    let about = |customer: &str, id: &str, progress_id: i64, action_id: i64| pb::Engagement {
        progress_id,
        action_id,
        ..event(customer, id, "")
    };
    let custom = |id: &str, kind: Kind, name: &str| pb::Engagement {
        kind: kind.into(),
        name: name.to_owned(),
        ..event("anna", id, "")
    };
    let long = "x".repeat(129);
    let invalid = (Code::InvalidArgument, "INVALID_FIELDS");
    let cases = [
        (about("anna", "about", run, action), None),
        (custom("custom", Kind::Custom, "webinar.joined"), None),
        (event("anna", "five minutes ahead", "2026-01-05T12:05:00Z"), None),
        (event("anna", "century", "2000-01-01T00:00:00Z"), None),
        (
            event("nobody", "a", ""),
            Some((Code::NotFound, "CUSTOMER_NOT_FOUND", "")),
        ),
        (
            about("bela", "b", run, action),
            Some((Code::NotFound, "RUN_NOT_FOUND", "")),
        ),
        (
            about("anna", "c", run + 7, action),
            Some((Code::NotFound, "RUN_NOT_FOUND", "")),
        ),
        (
            about("anna", "d", run, foreign),
            Some((Code::NotFound, "ACTION_NOT_FOUND", "")),
        ),
        (about("anna", "e", run, 0), Some((invalid.0, invalid.1, "action_id"))),
        (
            about("anna", "f", 0, action),
            Some((invalid.0, invalid.1, "progress_id")),
        ),
        (
            event("anna", "g", "2026-01-05T12:05:00.000001Z"),
            Some((invalid.0, invalid.1, "occur_time")),
        ),
        (
            event("anna", "h", "1999-12-31T23:59:59Z"),
            Some((invalid.0, invalid.1, "occur_time")),
        ),
        (event("anna", "", ""), Some((invalid.0, invalid.1, "event_id"))),
        (event("anna", &long, ""), Some((invalid.0, invalid.1, "event_id"))),
        (event("a/b", "i", ""), Some((invalid.0, invalid.1, "customer_id"))),
        (custom("j", Kind::Custom, ""), Some((invalid.0, invalid.1, "name"))),
        (custom("k", Kind::Replied, "x"), Some((invalid.0, invalid.1, "name"))),
        (custom("l", Kind::Unspecified, ""), Some((invalid.0, invalid.1, "kind"))),
    ];
    let results = app.record(cases.iter().map(|(event, _)| event.clone()).collect()).await;
    assert_eq!(results.len(), cases.len());
    for (at, ((event, expected), result)) in cases.iter().zip(&results).enumerate() {
        match expected {
            None => assert_eq!((&result.error, result.duplicate), (&None, false), "{event:?}"),
            Some((code, reason, field)) => {
                let error = result.error.as_ref().expect("an error");
                let path = format!("engagements[{at}].{field}");
                let fields = if field.is_empty() { vec![] } else { vec![path.as_str()] };
                refused(of_item::<()>(error), *code, reason, &fields);
            }
        }
    }
    let stored = list(&app, "anna").await;
    assert_eq!(stored.len(), 4);
    let about = stored
        .iter()
        .find(|event| event.event_id == "about")
        .expect("the event");
    assert_eq!((about.progress_id, about.action_id), (run, action));
    assert_eq!(list(&app, "bela").await, []);

    // All bad is no reason to refuse the call.
    let results = app.record(vec![event("nobody", "a", ""), event("anna", "", "")]).await;
    assert!(results.iter().all(|result| result.error.is_some()));
    app.server.shutdown().await.expect("stopped");
}

async fn events_are_listed_the_newest_first(backend: Backend) {
    let app = App::start(backend).await;
    app.customer("anna", "").await;
    let events = [
        ("b", "2026-01-05T10:00:00Z"),
        ("a", "2026-01-05T10:00:00Z"),
        ("C", "2026-01-05T10:00:00Z"),
        ("micro", "2026-01-05T10:00:00.000001Z"),
        ("old", "2000-01-01T00:00:00Z"),
        ("ahead", "2026-01-05T12:04:00Z"),
    ];
    app.record(events.iter().map(|(id, time)| event("anna", id, time)).collect())
        .await;
    for page_size in [1, 2, 3, 6, 5000] {
        let mut request = pb::ListEngagementsRequest {
            customer_id: "anna".to_owned(),
            page_size,
            ..Default::default()
        };
        let mut seen = Vec::new();
        loop {
            let page = app.customers().list_engagements(request.clone()).await.expect("a page");
            let page = page.into_inner();
            seen.extend(page.engagements.into_iter().map(|event| event.event_id));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(seen, ["ahead", "micro", "b", "a", "C", "old"], "{page_size}");
    }
    app.server.shutdown().await.expect("stopped");
}

async fn what_concerns_all_events_refuses_the_call(backend: Backend) {
    let app = App::start(backend).await;
    for id in ["anna", "bela"] {
        app.customer(id, "").await;
    }
    for events in [vec![], (0..1001).map(|n| event("anna", &n.to_string(), "")).collect()] {
        let request = pb::RecordEngagementsRequest { engagements: events };
        let answer = app.customers().record_engagements(request).await;
        refused(answer, Code::InvalidArgument, "INVALID_FIELDS", &["engagements"]);
    }
    assert_eq!(list(&app, "anna").await, []);

    app.record(vec![event("anna", "a", ""), event("anna", "b", "")]).await;
    let of = |customer: &str, page_size: i32, token: &str| pb::ListEngagementsRequest {
        customer_id: customer.to_owned(),
        page_size,
        page_token: token.to_owned(),
    };
    let page = app
        .customers()
        .list_engagements(of("anna", 1, ""))
        .await
        .expect("a page");
    let token = page.into_inner().next_page_token;
    for (request, code, reason, fields) in [
        (of("nobody", 0, ""), Code::NotFound, "CUSTOMER_NOT_FOUND", &[][..]),
        (
            of("bela", 0, &token),
            Code::InvalidArgument,
            "INVALID_FIELDS",
            &["page_token"],
        ),
        (
            of("", -1, "x"),
            Code::InvalidArgument,
            "INVALID_FIELDS",
            &["customer_id", "page_size", "page_token"],
        ),
    ] {
        refused(app.customers().list_engagements(request).await, code, reason, fields);
    }
    app.server.shutdown().await.expect("stopped");
}

/// Two batches with the same events in opposite order, many times at once.
async fn batches_that_cross_each_other_both_pass(backend: Backend) {
    let app = App::start(backend).await;
    for id in ["anna", "bela"] {
        app.customer(id, "").await;
    }
    for round in 0..5 {
        let events = |customers: [&str; 2]| -> Vec<pb::Engagement> {
            let of = |customer: &str| {
                (0..50)
                    .map(|n| event(customer, &format!("{round}-{n}"), ""))
                    .collect::<Vec<_>>()
            };
            customers.into_iter().flat_map(of).collect()
        };
        let forth = events(["anna", "bela"]);
        let mut back = events(["anna", "bela"]);
        back.reverse();
        let (forth, back) = tokio::join!(app.record(forth), app.record(back));
        let stored = forth.iter().chain(&back).filter(|result| !result.duplicate).count();
        assert_eq!(stored, 100, "each event once");
    }
    app.server.shutdown().await.expect("stopped");
}
