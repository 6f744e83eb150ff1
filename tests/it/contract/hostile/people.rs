//! Hostile customers, and what they did.

use campaign_automation::proto::campaign::v1 as pb;
use prost_types::value::Kind;
use tonic::Code;

use super::{Case, Told, World, case};
use crate::support::given::customer;

/// A customer with one thing wrong, alone in a batch.
fn bad_customer(what: &str, field: &str, change: impl FnOnce(&mut pb::Customer)) -> Case {
    let mut bad = customer("dora", "");
    change(&mut bad);
    let request = pb::UpsertCustomersRequest {
        customers: vec![bad],
        ..Default::default()
    };
    let told = Told::Item(vec![format!("customers[0].{field}")]);
    case(format!("{field}: {what}"), "UpsertCustomers", &request, told)
}

fn value(kind: Kind) -> prost_types::Value {
    prost_types::Value { kind: Some(kind) }
}

fn attributes(names: impl IntoIterator<Item = String>, value: &prost_types::Value) -> Option<prost_types::Struct> {
    let fields = names.into_iter().map(|name| (name, value.clone())).collect();
    Some(prost_types::Struct { fields })
}

/// A list in a list, and so on.
fn nested(depth: usize) -> prost_types::Value {
    (0..depth).fold(value(Kind::BoolValue(true)), |inner, _| {
        value(Kind::ListValue(prost_types::ListValue { values: vec![inner] }))
    })
}

pub(super) fn customers() -> Vec<Case> {
    let mut cases = Vec::new();
    let long = "x".repeat(100_000);
    for zone in [
        "Mars/Base",
        "US/Eastern",
        "europe/berlin",
        "EST",
        "GMT+2",
        "+02:00",
        "../../etc/localtime",
        "Europe/Berlin\0",
        " Europe/Berlin",
        &long,
    ] {
        cases.push(bad_customer(zone, "time_zone", |it| it.time_zone = zone.to_owned()));
    }
    for mail in [
        "anna",
        "anna@",
        "@example.com",
        "anna@@example.com",
        "anna@example",
        "a b@example.com",
        "anna@exa mple.com",
        "anna@example.com, bert@example.com",
        "Anna <anna@example.com>",
        "anna@[127.0.0.1]",
        "\"a\"@example.com",
        "änna@example.com",
        "anna@example.com\r\nBcc: bert@example.com",
        "anna@example.com\0",
        " anna@example.com",
        &long,
    ] {
        cases.push(bad_customer(mail, "email", |it| it.email = mail.to_owned()));
    }
    for phone in [
        "4155552671",
        "+04155552671",
        "+1 415 555 2671",
        "+1415555267a",
        "+",
        "+1",
        "+1234567890123456",
        "tel:+14155552671",
        "+١٤١٥٥٥٥٢٦٧١",
        "+14155552671\n",
        &long,
    ] {
        cases.push(bad_customer(phone, "phone", |it| it.phone = phone.to_owned()));
    }
    for name in [
        "a\nb",
        "a\0b",
        "a\u{7f}b",
        "a\u{85}b",
        "a\u{202e}b",
        "a\u{2028}b",
        &long,
    ] {
        cases.push(bad_customer(name, "display_name", |it| {
            it.display_name = name.to_owned();
        }));
    }
    for score in [i32::MIN, -1_000_001, 1_000_001, i32::MAX] {
        cases.push(bad_customer(&score.to_string(), "engagement_score", |it| {
            it.engagement_score = score;
        }));
    }
    let ends = [(i64::MIN, 0), (i64::MAX, 0), (-62_135_596_801, 0), (253_402_300_800, 0)];
    let nanos = [(0, -1), (0, 1_000_000_000), (0, i32::MIN), (0, i32::MAX)];
    // The clock stands at noon of 5 January 2026.
    let ahead = [(1_767_614_701, 0), (253_402_300_799, 999_999_999)];
    for (seconds, nanos) in ends.into_iter().chain(nanos).chain(ahead) {
        let time = prost_types::Timestamp { seconds, nanos };
        cases.push(bad_customer(&format!("{time:?}"), "source_time", |it| {
            it.source_time = Some(time);
        }));
    }
    let (truth, text) = (value(Kind::BoolValue(true)), |text: &str| {
        value(Kind::StringValue(text.to_owned()))
    });
    let bombs = [
        ("many keys", attributes((0..20_000).map(|n| n.to_string()), &truth)),
        ("a long key", attributes([long.clone()], &truth)),
        ("an empty key", attributes([String::new()], &truth)),
        ("a key with U+0000", attributes(["a\0".to_owned()], &truth)),
        ("nested 11 deep", attributes(["a".to_owned()], &nested(11))),
        ("nested 30 deep", attributes(["a".to_owned()], &nested(30))),
        ("a text of 100 KB", attributes(["a".to_owned()], &text(&long))),
        ("a text with U+0000", attributes(["a".to_owned()], &text("\0"))),
        (
            "no number",
            attributes(["a".to_owned()], &value(Kind::NumberValue(f64::NAN))),
        ),
        (
            "a number without end",
            attributes(["a".to_owned()], &value(Kind::NumberValue(f64::NEG_INFINITY))),
        ),
        (
            "long numbers",
            attributes((0..100).map(|n| format!("{n:064}")), &{
                let values = vec![value(Kind::NumberValue(-f64::MAX)); 100];
                value(Kind::ListValue(prost_types::ListValue { values }))
            }),
        ),
        (
            "100,000 empty values",
            attributes(["a".to_owned()], &{
                let values = vec![prost_types::Value::default(); 100_000];
                value(Kind::ListValue(prost_types::ListValue { values }))
            }),
        ),
    ];
    for (what, bomb) in bombs {
        cases.push(bad_customer(what, "attributes", |it| it.attributes = bomb));
    }
    for depth in [60, 100, 1000] {
        let bomb = pb::Customer {
            attributes: attributes(["a".to_owned()], &nested(depth)),
            ..customer("dora", "")
        };
        let request = pb::UpsertCustomersRequest {
            customers: vec![bomb],
            ..Default::default()
        };
        let what = format!("attributes: nested {depth} deep");
        cases.push(case(what, "UpsertCustomers", &request, Told::Undecodable("customers")));
    }
    cases
}

pub(super) fn events(world: &World) -> Vec<Case> {
    let good = || pb::Engagement {
        customer_id: "bert".to_owned(),
        event_id: "e".to_owned(),
        kind: pb::EngagementKind::Replied.into(),
        ..Default::default()
    };
    let event = |what: &str, event: pb::Engagement, told: Told| {
        let request = pb::RecordEngagementsRequest {
            engagements: vec![event],
        };
        case(what, "RecordEngagements", &request, told)
    };
    let item = |paths: &[&str]| Told::Item(paths.iter().map(|path| format!("engagements[0].{path}")).collect());
    let at = |seconds: i64| pb::Engagement {
        occur_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        ..good()
    };
    let of_run = |progress_id: i64, action_id: i64| pb::Engagement {
        progress_id,
        action_id,
        ..good()
    };
    let action = world.plan.definition.as_ref().expect("a definition").actions[0].action_id;
    vec![
        event("an event before 2000", at(946_684_799), item(&["occur_time"])),
        event("an event at the begin of time", at(i64::MIN), item(&["occur_time"])),
        event("an event at the end of time", at(i64::MAX), item(&["occur_time"])),
        event("an event in ten minutes", at(1_767_615_000), item(&["occur_time"])),
        event(
            "an event of no kind",
            pb::Engagement {
                kind: i32::MIN,
                ..good()
            },
            item(&["kind"]),
        ),
        event("an event of half a run", of_run(-1, i64::MAX), item(&["progress_id"])),
        event(
            "an event of another customer's run",
            of_run(world.annas, action),
            Told::ItemError(Code::NotFound, "RUN_NOT_FOUND"),
        ),
        event(
            "an event of a run that never was",
            of_run(i64::MAX, i64::MAX),
            Told::ItemError(Code::NotFound, "RUN_NOT_FOUND"),
        ),
        event(
            "an event of an action that never was",
            of_run(world.berts, i64::MAX),
            Told::ItemError(Code::NotFound, "ACTION_NOT_FOUND"),
        ),
    ]
}
