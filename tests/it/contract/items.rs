//! Hostile items of batches: each is refused on its own, with all that is wrong with it, and the others are stored.

use campaign_automation::proto::campaign::v1 as pb;
use pb::upsert_customers_result::Result as Item;
use prost_types::value::Kind;

use super::{informed, status_of, violated};
use crate::support::given::{customer, definition, email, stamp};
use crate::support::{App, Backend, on_each_database};

on_each_database!(bad_customers_are_refused, bad_events_are_refused);

fn value(kind: Kind) -> prost_types::Value {
    prost_types::Value { kind: Some(kind) }
}

fn attributes(fields: impl IntoIterator<Item = (String, prost_types::Value)>) -> Option<prost_types::Struct> {
    Some(prost_types::Struct {
        fields: fields.into_iter().collect(),
    })
}

/// An attribute whose value is a list in a list, and so on.
fn nested(depth: usize) -> prost_types::Value {
    (0..depth).fold(value(Kind::NumberValue(1.0)), |inner, _| {
        value(Kind::ListValue(prost_types::ListValue { values: vec![inner] }))
    })
}

async fn bad_customers_are_refused(backend: Backend) {
    let app = App::start(backend).await;
    let bad = |change: &dyn Fn(&mut pb::Customer)| {
        let mut customer = customer("bad", "Europe/Berlin");
        change(&mut customer);
        customer
    };
    let text = |text: &str| value(Kind::StringValue(text.to_owned()));
    let with = |name: &str, value: prost_types::Value| {
        let name = name.to_owned();
        bad(&move |it| it.attributes = attributes([(name.clone(), value.clone())]))
    };
    let inner = attributes([("a\0".to_owned(), text("x"))]).expect("attributes");
    let cases: Vec<(&str, pb::Customer, &[&str])> = vec![
        ("nothing", pb::Customer::default(), &["customer_id"]),
        (
            "everything",
            bad(&|it| {
                it.customer_id = "a b".to_owned();
                it.display_name = "Anna\r\nBcc: x@example.com".to_owned();
                it.email = "anna@".to_owned();
                it.phone = "4155552671".to_owned();
                it.time_zone = "Mars/Base".to_owned();
                it.pipeline_stage = "Hook".to_owned();
                it.engagement_score = 1_000_001;
                it.attributes = attributes([(String::new(), nested(1))]);
                it.source_time = Some(stamp("2026-01-05T12:05:01Z"));
            }),
            &[
                "customer_id",
                "display_name",
                "email",
                "phone",
                "time_zone",
                "pipeline_stage",
                "engagement_score",
                "attributes",
                "source_time",
            ],
        ),
        (
            "lengths",
            bad(&|it| {
                it.customer_id = "x".repeat(65);
                it.display_name = "x".repeat(201);
                it.email = format!("{}@example.com", "x".repeat(250));
                it.phone = "+1234567890123456".to_owned();
                it.pipeline_stage = "x".repeat(65);
                it.engagement_score = i32::MIN;
            }),
            &[
                "customer_id",
                "display_name",
                "email",
                "phone",
                "pipeline_stage",
                "engagement_score",
            ],
        ),
        (
            "an alias of a zone",
            bad(&|it| it.time_zone = "US/Eastern".to_owned()),
            &["time_zone"],
        ),
        (
            "a zone in other letters",
            bad(&|it| it.time_zone = "europe/berlin".to_owned()),
            &["time_zone"],
        ),
        (
            "a mail header in an address",
            bad(&|it| it.email = "a@example.com\r\nBcc: b@example.com".to_owned()),
            &["email"],
        ),
        (
            "a sign that deceives",
            bad(&|it| it.display_name = "a\u{202E}b".to_owned()),
            &["display_name"],
        ),
        (
            "no instant",
            bad(&|it| {
                it.source_time = Some(prost_types::Timestamp {
                    seconds: i64::MAX,
                    nanos: 0,
                });
            }),
            &["source_time"],
        ),
        (
            "no nanos",
            bad(&|it| it.source_time = Some(prost_types::Timestamp { seconds: 0, nanos: -1 })),
            &["source_time"],
        ),
        (
            "101 attributes",
            bad(&|it| it.attributes = attributes((0..101).map(|n| (format!("k{n}"), nested(0))))),
            &["attributes"],
        ),
        (
            "large attributes",
            with("a", text(&"x".repeat(16 * 1024))),
            &["attributes"],
        ),
        (
            "attributes that grow when escaped",
            with("a", text(&"\u{1}".repeat(4 * 1024))),
            &["attributes"],
        ),
        ("deep attributes", with("a", nested(11)), &["attributes"]),
        ("a long name", with(&"x".repeat(65), nested(0)), &["attributes"]),
        (
            "a name with a control character",
            with("a\n", nested(0)),
            &["attributes"],
        ),
        (
            "a text that PostgreSQL can't store",
            with("a", text("x\0y")),
            &["attributes"],
        ),
        (
            "such a name within",
            with("a", value(Kind::StructValue(inner))),
            &["attributes"],
        ),
        (
            "not a number",
            with("a", value(Kind::NumberValue(f64::NAN))),
            &["attributes"],
        ),
        (
            "infinity",
            with("a", value(Kind::NumberValue(f64::INFINITY))),
            &["attributes"],
        ),
    ];
    for (what, bad, fields) in cases {
        let request = pb::UpsertCustomersRequest {
            customers: vec![customer("before", ""), bad, customer("after", "")],
            ..Default::default()
        };
        let response = app
            .customers()
            .upsert_customers(request)
            .await
            .expect(what)
            .into_inner();
        let [before, refused, after] = response.results.try_into().expect("three results");
        for stored in [before, after] {
            assert!(matches!(stored.result, Some(Item::Customer(_))), "{what}: {stored:?}");
        }
        let Some(Item::Error(error)) = refused.result else {
            panic!("{what}: not refused: {refused:?}");
        };
        let fields: Vec<String> = fields.iter().map(|field| format!("customers[1].{field}")).collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        violated(what, Err::<(), _>(status_of(&error)), &fields);
    }
    let stored = app
        .customers()
        .list_customers(pb::ListCustomersRequest::default())
        .await;
    let stored = stored.expect("a page").into_inner().customers;
    let ids: Vec<&str> = stored.iter().map(|customer| customer.customer_id.as_str()).collect();
    assert_eq!(ids, ["after", "before"]);
}

async fn bad_events_are_refused(backend: Backend) {
    let app = App::start(backend).await;
    app.customer("anna", "").await;
    app.customer("bert", "").await;
    let timeline = app.timeline(definition("plan", 5, vec![email(2, 0, "A")])).await;
    let berts = app.start_run("bert", &timeline).await.progress_id;
    let action = timeline.definition.expect("a definition").actions[0].action_id;
    let good = || pb::Engagement {
        customer_id: "anna".to_owned(),
        event_id: "e".to_owned(),
        kind: pb::EngagementKind::EmailOpened.into(),
        ..Default::default()
    };
    let bad = |change: &dyn Fn(&mut pb::Engagement)| {
        let mut event = good();
        change(&mut event);
        event
    };
    let cases: [(&str, pb::Engagement, &[&str]); 9] = [
        (
            "nothing",
            pb::Engagement::default(),
            &["customer_id", "event_id", "kind"],
        ),
        (
            "everything",
            bad(&|it| {
                it.customer_id = "a b".to_owned();
                it.event_id = "é".to_owned();
                it.name = "x".to_owned();
                it.occur_time = Some(stamp("1999-12-31T23:59:59Z"));
                it.progress_id = -1;
            }),
            &[
                "customer_id",
                "event_id",
                "name",
                "occur_time",
                "progress_id",
                "action_id",
            ],
        ),
        ("an unknown kind", bad(&|it| it.kind = 99), &["kind"]),
        (
            "a custom one without a name",
            bad(&|it| it.kind = pb::EngagementKind::Custom.into()),
            &["name"],
        ),
        ("a long id", bad(&|it| it.event_id = "x".repeat(129)), &["event_id"]),
        (
            "a control character",
            bad(&|it| it.event_id = "a\n".to_owned()),
            &["event_id"],
        ),
        (
            "the future",
            bad(&|it| it.occur_time = Some(stamp("2026-01-05T12:05:01Z"))),
            &["occur_time"],
        ),
        (
            "a run without an action",
            bad(&|it| it.progress_id = berts),
            &["action_id"],
        ),
        (
            "an action without a run",
            bad(&|it| it.action_id = action),
            &["progress_id"],
        ),
    ];
    let request = pb::RecordEngagementsRequest {
        engagements: cases
            .iter()
            .map(|(_, event, _)| event.clone())
            .chain([good()])
            .collect(),
    };
    let response = app
        .customers()
        .record_engagements(request)
        .await
        .expect("results")
        .into_inner();
    for (at, (what, _, fields)) in cases.iter().enumerate() {
        let error = response.results[at]
            .error
            .as_ref()
            .unwrap_or_else(|| panic!("{what}: not refused"));
        let fields: Vec<String> = fields
            .iter()
            .map(|field| format!("engagements[{at}].{field}"))
            .collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        violated(what, Err::<(), _>(status_of(error)), &fields);
    }
    assert_eq!(response.results[cases.len()], pb::RecordEngagementsResult::default());

    let strange = [
        (
            "an unknown customer",
            bad(&|it| it.customer_id = "carl".to_owned()),
            "CUSTOMER_NOT_FOUND",
            "carl",
        ),
        (
            "a run of another customer",
            bad(&|it| (it.event_id, it.progress_id, it.action_id) = ("f".to_owned(), berts, action)),
            "RUN_NOT_FOUND",
            "anna",
        ),
        (
            "an action of no timeline",
            bad(&|it| (it.customer_id, it.progress_id, it.action_id) = ("bert".to_owned(), berts, action + 1)),
            "ACTION_NOT_FOUND",
            "bert",
        ),
    ];
    let request = pb::RecordEngagementsRequest {
        engagements: strange.iter().map(|(_, event, _, _)| event.clone()).collect(),
    };
    let response = app
        .customers()
        .record_engagements(request)
        .await
        .expect("results")
        .into_inner();
    for ((what, _, reason, named), result) in strange.iter().zip(response.results) {
        let status = status_of(&result.error.unwrap_or_else(|| panic!("{what}: not refused")));
        assert_eq!(status.code(), tonic::Code::NotFound, "{what}: {status:?}");
        assert!(status.message().contains(named), "{what}: {}", status.message());
        informed(what, &status, reason);
    }
    for (customer, stored) in [("anna", 1), ("bert", 0)] {
        let request = pb::ListEngagementsRequest {
            customer_id: customer.to_owned(),
            ..Default::default()
        };
        let events = app
            .customers()
            .list_engagements(request)
            .await
            .expect("a page")
            .into_inner();
        assert_eq!(events.engagements.len(), stored, "{customer}");
    }
}
