//! Keeping customers: what an upsert writes, what it ignores, and what it refuses.

use campaign_automation::proto::campaign::v1 as pb;
use pb::upsert_customers_result::Result as Item;
use prost_types::value::Kind;
use tonic::{Code, Status};

use crate::support::calls::{day, next, of_item};
use crate::support::given::{customer, definition, email, refused, stamp};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    the_stage_is_set_on_insert_only,
    the_mask_says_what_is_written,
    attributes_merge_by_key,
    attributes_are_bounded_in_all,
    an_older_state_is_ignored,
    a_bad_item_harms_no_other,
    what_concerns_all_items_refuses_the_call,
    live_runs_move_with_their_customer,
    customers_are_listed_page_by_page,
);

/// Upserts one customer, and answers with its result.
async fn upsert(app: &App, customer: pb::Customer, paths: Option<&[&str]>) -> pb::UpsertCustomersResult {
    let request = pb::UpsertCustomersRequest {
        customers: vec![customer],
        update_mask: paths.map(mask),
        ..Default::default()
    };
    app.upsert(request).await.expect("results").results.remove(0)
}

fn mask(paths: &[&str]) -> prost_types::FieldMask {
    prost_types::FieldMask {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    }
}

/// The customer, or the error, of an item.
fn stored(result: &pb::UpsertCustomersResult) -> Result<pb::Customer, Status> {
    match result.result.clone().expect("a result") {
        Item::Customer(customer) => Ok(customer),
        Item::Error(error) => of_item(&error),
    }
}

/// Attributes from texts; an empty one is null.
fn attributes(pairs: &[(&str, &str)]) -> Option<prost_types::Struct> {
    let value = |text: &str| prost_types::Value {
        kind: Some(if text.is_empty() {
            Kind::NullValue(0)
        } else {
            Kind::StringValue(text.to_owned())
        }),
    };
    let fields = pairs.iter().map(|(key, text)| ((*key).to_owned(), value(text)));
    Some(prost_types::Struct {
        fields: fields.collect(),
    })
}

async fn the_stage_is_set_on_insert_only(backend: Backend) {
    let app = App::start(backend).await;
    let in_stage = |stage: &str| pb::Customer {
        pipeline_stage: stage.to_owned(),
        ..customer("anna", "Europe/London")
    };
    let inserted = upsert(&app, in_stage("hook"), None).await;
    assert_eq!(
        (
            inserted.created,
            stored(&inserted).expect("stored").pipeline_stage.as_str()
        ),
        (true, "hook")
    );

    // The stage that it has, or none, is fine, and so is one that is not written.
    for (stage, paths) in [
        ("hook", None),
        ("", None),
        ("", Some(&["*"][..])),
        ("hook", Some(&["pipeline_stage"])),
        ("base", Some(&["display_name"])),
    ] {
        let result = upsert(&app, in_stage(stage), paths).await;
        assert_eq!(
            stored(&result).expect("stored").pipeline_stage,
            "hook",
            "{stage} {paths:?}"
        );
        assert!(!result.created);
    }
    for (stage, paths) in [
        ("base", None),
        ("base", Some(&["*"][..])),
        ("base", Some(&["pipeline_stage"])),
        ("", Some(&["pipeline_stage"])),
    ] {
        let given = pb::Customer {
            display_name: "Somebody else".to_owned(),
            ..in_stage(stage)
        };
        let result = stored(&upsert(&app, given, paths).await);
        let error = refused(result, Code::FailedPrecondition, "STAGE_HAS_ITS_OWN_CALL", &[]);
        assert!(error.message().contains("ChangePipelineStage"), "{}", error.message());
    }
    let kept = app.get_customer("anna").await.expect("a customer");
    assert_eq!(
        (kept.pipeline_stage.as_str(), kept.display_name.as_str()),
        ("hook", "Customer anna")
    );

    // A customer without a stage gets one by ChangePipelineStage as well.
    app.customer("bela", "").await;
    let given = pb::Customer {
        pipeline_stage: "hook".to_owned(),
        ..customer("bela", "")
    };
    let result = stored(&upsert(&app, given, None).await);
    refused(result, Code::FailedPrecondition, "STAGE_HAS_ITS_OWN_CALL", &[]);
    app.server.shutdown().await.expect("stopped");
}

async fn the_mask_says_what_is_written(backend: Backend) {
    let app = App::start(backend).await;
    let full = pb::Customer {
        engagement_score: 7,
        attributes: attributes(&[("plan", "gold")]),
        ..customer("anna", "Europe/Berlin")
    };
    let sparse = pb::Customer {
        customer_id: "anna".to_owned(),
        display_name: "New".to_owned(),
        ..Default::default()
    };
    // What is stored after `sparse` was written over `full`: name, mail, zone, score.
    for (paths, expected) in [
        (None, ("New", "anna@example.com", "Europe/Berlin", 7)),
        (Some(&[][..]), ("New", "anna@example.com", "Europe/Berlin", 7)),
        (Some(&["*"]), ("New", "", "", 0)),
        (Some(&["display_name", "email"]), ("New", "", "Europe/Berlin", 7)),
        (
            Some(&["engagement_score"]),
            ("Customer anna", "anna@example.com", "Europe/Berlin", 0),
        ),
        (
            Some(&["time_zone", "phone"]),
            ("Customer anna", "anna@example.com", "", 7),
        ),
    ] {
        stored(&upsert(&app, full.clone(), Some(&["*"])).await).expect("stored");
        let after = stored(&upsert(&app, sparse.clone(), paths).await).expect("stored");
        let seen = (
            after.display_name.as_str(),
            after.email.as_str(),
            after.time_zone.as_str(),
            after.engagement_score,
        );
        assert_eq!(seen, expected, "{paths:?}");
        assert_eq!(
            after.attributes, full.attributes,
            "attributes merge, so nothing goes: {paths:?}"
        );
        assert_eq!(app.get_customer("anna").await.expect("a customer"), after);
        let source = if after.time_zone.is_empty() {
            pb::TimeZoneSource::Default
        } else {
            pb::TimeZoneSource::Customer
        };
        assert_eq!(after.time_zone_source(), source, "{paths:?}");
    }
    // An insert writes everything, whatever the mask says.
    let inserted = pb::Customer {
        customer_id: "bela".to_owned(),
        ..full
    };
    let result = upsert(&app, inserted.clone(), Some(&["phone"])).await;
    assert_eq!(stored(&result).expect("stored").display_name, inserted.display_name);
    app.server.shutdown().await.expect("stopped");
}

async fn attributes_merge_by_key(backend: Backend) {
    let app = App::start(backend).await;
    for (given, expected) in [
        (
            &[("a", "1"), ("b", "1"), ("gone", "")][..],
            &[("a", "1"), ("b", "1")][..],
        ),
        (&[("b", "2"), ("c", "2")], &[("a", "1"), ("b", "2"), ("c", "2")]),
        (&[("a", ""), ("never", "")], &[("b", "2"), ("c", "2")]),
        (&[], &[("b", "2"), ("c", "2")]),
    ] {
        let customer = pb::Customer {
            attributes: attributes(given),
            ..customer("anna", "")
        };
        let result = upsert(&app, customer, None).await;
        assert_eq!(
            stored(&result).expect("stored").attributes,
            attributes(expected),
            "{given:?}"
        );
    }
    app.server.shutdown().await.expect("stopped");
}

/// The bounds hold for what is stored, not only for what one request gives.
async fn attributes_are_bounded_in_all(backend: Backend) {
    let app = App::start(backend).await;
    let keys = |prefix: &str, count: usize, value: &str| {
        let names: Vec<String> = (0..count).map(|n| format!("{prefix}{n}")).collect();
        let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), value)).collect();
        pb::Customer {
            attributes: attributes(&pairs),
            ..customer("anna", "")
        }
    };
    stored(&upsert(&app, keys("a", 100, "1"), None).await).expect("stored");
    let before = app.get_customer("anna").await.expect("a customer");
    for (given, why) in [
        (keys("b", 1, "1"), "one key too many"),
        (
            keys("a", 99, &"x".repeat(170)),
            "too many bytes with the one that stays",
        ),
        (keys("c", 101, "1"), "too many at once"),
    ] {
        let result = stored(&upsert(&app, given, None).await);
        refused(
            result,
            Code::InvalidArgument,
            "INVALID_FIELDS",
            &["customers[0].attributes"],
        );
        assert_eq!(app.get_customer("anna").await.expect("a customer"), before, "{why}");
    }
    app.server.shutdown().await.expect("stopped");
}

async fn an_older_state_is_ignored(backend: Backend) {
    let app = App::start(backend).await;
    let named = |name: &str, time: &str| pb::Customer {
        display_name: name.to_owned(),
        source_time: (!time.is_empty()).then(|| stamp(time)),
        ..customer("anna", "")
    };
    for (name, time, is_ignored) in [
        ("first", "2026-01-05T10:00:00Z", false),
        ("older", "2026-01-05T09:59:59.999999Z", true),
        ("same", "2026-01-05T10:00:00Z", false),
        ("untimed", "", false),
        ("older still than the last time", "2026-01-05T09:00:00Z", true),
        ("at most 5 minutes ahead", "2026-01-05T12:05:00Z", false),
    ] {
        let before = app.get_customer("anna").await.ok();
        let result = upsert(&app, named(name, time), None).await;
        assert_eq!(result.ignored_as_older, is_ignored, "{name}");
        let after = stored(&result).expect("stored");
        if is_ignored {
            assert_eq!(Some(after), before, "{name}");
        } else {
            assert_eq!(after.display_name, name);
        }
    }
    // What is ignored is ignored as a whole, its stage too.
    let with_stage = pb::Customer {
        pipeline_stage: "hook".to_owned(),
        ..named("older", "2026-01-05T09:00:00Z")
    };
    assert!(upsert(&app, with_stage, None).await.ignored_as_older);
    let ahead = stored(&upsert(&app, named("ahead", "2026-01-05T12:05:01Z"), None).await);
    refused(
        ahead,
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &["customers[0].source_time"],
    );
    app.server.shutdown().await.expect("stopped");
}

async fn a_bad_item_harms_no_other(backend: Backend) {
    let app = App::start(backend).await;
    app.put_customer(pb::Customer {
        pipeline_stage: "hook".to_owned(),
        ..customer("old", "")
    })
    .await;
    let bad = pb::Customer {
        customer_id: "a/b".to_owned(),
        display_name: "line\nbreak".to_owned(),
        email: "nobody".to_owned(),
        phone: "0123".to_owned(),
        time_zone: "US/Eastern".to_owned(),
        pipeline_stage: "Not Ok".to_owned(),
        engagement_score: 1_000_001,
        ..Default::default()
    };
    let bad_zone = pb::Customer {
        time_zone: "Mars/Olympus".to_owned(),
        ..customer("mars", "")
    };
    let moved = pb::Customer {
        pipeline_stage: "base".to_owned(),
        display_name: "Moved".to_owned(),
        ..customer("old", "")
    };
    let request = pb::UpsertCustomersRequest {
        customers: vec![customer("first", ""), bad, bad_zone, moved, customer("last", "")],
        ..Default::default()
    };
    let results = app.upsert(request).await.expect("results").results;
    assert_eq!(results.len(), 5);
    for (at, id) in [(0, "first"), (4, "last")] {
        assert_eq!(stored(&results[at]).expect("stored").customer_id, id);
    }
    let all = [
        "customer_id",
        "display_name",
        "email",
        "phone",
        "time_zone",
        "pipeline_stage",
        "engagement_score",
    ]
    .map(|field| format!("customers[1].{field}"));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    refused(stored(&results[1]), Code::InvalidArgument, "INVALID_FIELDS", &all);
    refused(
        stored(&results[2]),
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &["customers[2].time_zone"],
    );
    refused(
        stored(&results[3]),
        Code::FailedPrecondition,
        "STAGE_HAS_ITS_OWN_CALL",
        &[],
    );
    refused(
        app.get_customer("mars").await,
        Code::NotFound,
        "CUSTOMER_NOT_FOUND",
        &[],
    );
    assert_eq!(
        app.get_customer("old").await.expect("a customer").display_name,
        "Customer old"
    );
    app.server.shutdown().await.expect("stopped");
}

async fn what_concerns_all_items_refuses_the_call(backend: Backend) {
    let app = App::start(backend).await;
    let of = |customers: Vec<pb::Customer>| pb::UpsertCustomersRequest {
        customers,
        ..Default::default()
    };
    let with_mask = |paths: &[&str]| pb::UpsertCustomersRequest {
        update_mask: Some(mask(paths)),
        ..of(vec![customer("anna", "")])
    };
    let many = (0..1001).map(|n| customer(&format!("c{n}"), "")).collect();
    for (request, fields) in [
        (of(vec![]), &["customers"][..]),
        (of(many), &["customers"]),
        (
            of(vec![customer("anna", ""), customer("anna", "")]),
            &["customers[1].customer_id"],
        ),
        (with_mask(&["email", "create_time"]), &["update_mask.paths[1]"]),
        (with_mask(&["*", "email"]), &["update_mask.paths[0]"]),
    ] {
        let answer = app.upsert(request).await;
        refused(answer, Code::InvalidArgument, "INVALID_FIELDS", fields);
    }
    refused(
        app.get_customer("anna").await,
        Code::NotFound,
        "CUSTOMER_NOT_FOUND",
        &[],
    );
    refused(
        app.get_customer("").await,
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &["customer_id"],
    );
    app.server.shutdown().await.expect("stopped");
}

/// Day 2 has mails at 9 and at 20 o'clock. At 15:00 UTC the first has gone in Berlin; then the customer moves.
async fn live_runs_move_with_their_customer(backend: Backend) {
    let app = App::start(backend).await;
    let actions = vec![email(2, 9, "A"), email(2, 20, "B"), email(3, 9, "C")];
    let timeline = app.timeline(definition("hook", 5, actions)).await;
    let cases = [
        ("tokyo", "Asia/Tokyo", "2026-01-07", "2026-01-07T11:00:00Z"),
        ("new-york", "America/New_York", "2026-01-06", "2026-01-07T01:00:00Z"),
        ("same", "Europe/Berlin", "2026-01-06", "2026-01-06T19:00:00Z"),
        ("default", "", "2026-01-06", "2026-01-06T20:00:00Z"),
    ];
    for (id, ..) in cases {
        app.customer(id, "Europe/Berlin").await;
        app.start_run(id, &timeline).await;
    }
    app.tick_at(&["2026-01-06T08:00:00Z"]).await;
    app.set("2026-01-06T15:30:00Z");
    let paused = app.progress("new-york").await.progress_id;
    app.pause("new-york", paused, "").await.expect("paused");
    for (id, zone, ..) in cases {
        let moved = pb::Customer {
            time_zone: zone.to_owned(),
            ..customer(id, "")
        };
        stored(&upsert(&app, moved, Some(&["time_zone"])).await).expect("stored");
    }
    let run = app.progress("new-york").await;
    assert_eq!(
        (run.time_zone.as_str(), day(&run)),
        ("America/New_York", (2, "2026-01-06".to_owned()))
    );
    app.resume("new-york", paused, "").await.expect("resumed");
    for (id, zone, date, due) in cases {
        let run = app.progress(id).await;
        assert_eq!(day(&run), (2, date.to_owned()), "{id}");
        assert_eq!(next(&run), Some(("d2h20B".to_owned(), due.to_owned())), "{id}");
        if !zone.is_empty() {
            assert_eq!(run.time_zone, zone);
        }
        assert_eq!(
            run.time_zone_source() == pb::TimeZoneSource::Default,
            zone.is_empty(),
            "{id}"
        );
    }
    app.tick_at(&[
        "2026-01-06T16:00:00Z",
        "2026-01-06T19:00:00Z",
        "2026-01-06T20:00:00Z",
        "2026-01-07T01:00:00Z",
        "2026-01-07T11:00:00Z",
    ])
    .await;
    for (id, _, _, due) in cases {
        let sent = app.sent_to(id);
        let second = due.replace(['-', ':'], "");
        assert_eq!(
            sent[..2],
            ["20260106T080000Z email".to_owned(), format!("{second} email")],
            "{id}"
        );
        assert_eq!(app.progress(id).await.shifted_days, 0, "{id}");
    }
    app.server.shutdown().await.expect("stopped");
}

async fn customers_are_listed_page_by_page(backend: Backend) {
    let app = App::start(backend).await;
    for (id, stage) in [("b", "hook"), ("C", "base"), ("a", "hook"), ("d", ""), ("a1", "hook")] {
        app.put_customer(pb::Customer {
            pipeline_stage: stage.to_owned(),
            ..customer(id, "")
        })
        .await;
    }
    for (stage, expected) in [("", "C a a1 b d"), ("hook", "a a1 b"), ("nowhere", "")] {
        for page_size in [1, 2, 3, 1001] {
            let mut request = pb::ListCustomersRequest {
                pipeline_stage: stage.to_owned(),
                page_size,
                ..Default::default()
            };
            let mut seen = Vec::new();
            loop {
                let page = app.customers().list_customers(request.clone()).await.expect("a page");
                let page = page.into_inner();
                seen.extend(page.customers.into_iter().map(|customer| customer.customer_id));
                if page.next_page_token.is_empty() {
                    break;
                }
                request.page_token = page.next_page_token;
            }
            assert_eq!(seen.join(" "), expected, "{stage:?} by {page_size}");
        }
    }
    let bad = pb::ListCustomersRequest {
        pipeline_stage: "Not Ok".to_owned(),
        page_size: -1,
        page_token: "x".to_owned(),
    };
    let fields = ["pipeline_stage", "page_size", "page_token"];
    let answer = app.customers().list_customers(bad).await;
    refused(answer, Code::InvalidArgument, "INVALID_FIELDS", &fields);
    app.server.shutdown().await.expect("stopped");
}
