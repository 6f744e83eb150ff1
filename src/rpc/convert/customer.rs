//! Customers and what they did.

use chrono::{Duration, NaiveDate, NaiveTime};
use chrono_tz::Tz;
use prost_types::value::Kind;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

use super::progress::progress;
use super::time::{parse_time, time};
use crate::domain::{
    ActionId, Customer, CustomerId, EmailAddress, Engagement, EngagementKind, Invalid, PhoneNumber, ProgressId, Stage,
    Timestamp, check_attributes, condition, parse_zone, text, token,
};
use crate::engine::{Assignment, CustomerField, CustomerFields, Erasure, Upsert};
use crate::proto::campaign::v1 as pb;
use crate::rpc::violations::{Violations, but_is};

/// How far in the future an instant of the caller's may be, as clocks differ.
const AHEAD: Duration = Duration::minutes(5);
const MAX_DEPTH: usize = 10;
const SCORE: i32 = 1_000_000;

/// Which fields an upsert writes.
#[derive(Debug, Clone)]
pub(in crate::rpc) enum Mask {
    /// Those that are not empty.
    Given,
    /// All.
    All,
    /// These.
    Fields(BTreeSet<CustomerField>),
}

/// Parses an update mask.
pub(in crate::rpc) fn parse_mask(violations: &mut Violations, mask: Option<&prost_types::FieldMask>) -> Option<Mask> {
    let Some(mask) = mask.filter(|mask| !mask.paths.is_empty()) else {
        return Some(Mask::Given);
    };
    if mask.paths == ["*"] {
        return Some(Mask::All);
    }
    let names = CustomerField::ALL.map(CustomerField::as_str).join(", ");
    let fields: Vec<Option<CustomerField>> = mask
        .paths
        .iter()
        .enumerate()
        .map(|(at, path)| {
            let field = CustomerField::ALL.into_iter().find(|field| field.as_str() == path);
            if field.is_none() {
                violations.add(
                    format!("update_mask.paths[{at}]"),
                    format!("must be one of {names}, or * alone, {}", but_is(path)),
                );
            }
            field
        })
        .collect();
    fields.into_iter().collect::<Option<_>>().map(Mask::Fields)
}

/// Parses a customer. `position` is where it stands in the request.
pub(in crate::rpc) fn parse_upsert(
    violations: &mut Violations,
    position: usize,
    given: &pb::Customer,
    mask: &Mask,
    now: Timestamp,
) -> Option<Upsert> {
    let path = format!("customers[{position}]");
    let id = violations.check(format!("{path}.customer_id"), CustomerId::parse(&given.customer_id));
    let fields = parse_fields(violations, &path, given, now)?;
    let mask = written(mask, &fields);
    Some(Upsert {
        id: id?,
        position,
        fields,
        mask,
    })
}

/// Parses what is known of a customer. `path` is where the customer stands in the request. None: there are violations.
pub(super) fn parse_fields(
    violations: &mut Violations,
    path: &str,
    given: &pb::Customer,
    now: Timestamp,
) -> Option<CustomerFields> {
    let at = |field: &str| format!("{path}.{field}");
    let display_name = violations.check(at("display_name"), text::line(&given.display_name, 200));
    let email = violations.optional(at("email"), &given.email, EmailAddress::parse);
    let phone = violations.optional(at("phone"), &given.phone, PhoneNumber::parse_recipient);
    let time_zone = violations.optional(at("time_zone"), &given.time_zone, parse_zone);
    let pipeline_stage = violations.optional(at("pipeline_stage"), &given.pipeline_stage, Stage::parse);
    let engagement_score = parse_score(violations, at("engagement_score"), given.engagement_score);
    let attributes = violations.check(at("attributes"), parse_attributes(given.attributes.as_ref()));
    let source_time = match given.source_time.as_ref() {
        None => None,
        Some(given) => violations.check(
            at("source_time"),
            parse_time(given).and_then(|time| not_ahead(time, now)),
        ),
    };
    if !violations.is_empty() {
        return None;
    }
    Some(CustomerFields {
        display_name: display_name?,
        email,
        phone,
        time_zone,
        pipeline_stage,
        engagement_score: engagement_score?,
        attributes: attributes?,
        is_test: given.is_test,
        source_time,
    })
}

/// Parses an engagement score.
pub(super) fn parse_score(violations: &mut Violations, path: String, given: i32) -> Option<i32> {
    violations.within(path, given, -SCORE, SCORE)
}

fn written(mask: &Mask, fields: &CustomerFields) -> BTreeSet<CustomerField> {
    let is_given = |field: CustomerField| match field {
        CustomerField::DisplayName => !fields.display_name.is_empty(),
        CustomerField::Email => fields.email.is_some(),
        CustomerField::Phone => fields.phone.is_some(),
        CustomerField::TimeZone => fields.time_zone.is_some(),
        CustomerField::PipelineStage => fields.pipeline_stage.is_some(),
        CustomerField::EngagementScore => fields.engagement_score != 0,
        CustomerField::Attributes => !fields.attributes.is_empty(),
        CustomerField::IsTest => fields.is_test,
    };
    match mask {
        Mask::Given => CustomerField::ALL
            .into_iter()
            .filter(|field| is_given(*field))
            .collect(),
        Mask::All => CustomerField::ALL
            .into_iter()
            .filter(|field| *field != CustomerField::PipelineStage || is_given(*field))
            .collect(),
        Mask::Fields(fields) => fields.clone(),
    }
}

fn not_ahead(time: Timestamp, now: Timestamp) -> Result<Timestamp, Invalid> {
    if time <= now + AHEAD {
        Ok(time)
    } else {
        Err(Invalid::new(time, "at most 5 minutes in the future"))
    }
}

/// Parses attributes; a null stays one.
pub(super) fn parse_attributes(given: Option<&prost_types::Struct>) -> Result<Map<String, Value>, Invalid> {
    let Some(given) = given else { return Ok(Map::new()) };
    if let Some(name) = given.fields.keys().find(|name| !is_attribute_name(name)) {
        return Err(Invalid::new(
            name,
            "names of 1 to 64 characters without control characters",
        ));
    }
    let attributes = json_object(given, MAX_DEPTH)?;
    check_attributes(&attributes)?;
    Ok(attributes)
}

/// Whether an attribute may have this name.
pub(super) fn is_attribute_name(name: &str) -> bool {
    (1..=64).contains(&name.chars().count()) && !name.chars().any(text::is_forbidden_in_line)
}

fn json_object(given: &prost_types::Struct, depth: usize) -> Result<Map<String, Value>, Invalid> {
    given
        .fields
        .iter()
        .map(|(name, value)| Ok((storable(name)?, json(value, depth)?)))
        .collect()
}

fn json(given: &prost_types::Value, depth: usize) -> Result<Value, Invalid> {
    let deeper = || {
        depth
            .checked_sub(1)
            .ok_or_else(|| Invalid::new("more", format!("nested at most {MAX_DEPTH} deep")))
    };
    Ok(match &given.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(truth)) => Value::Bool(*truth),
        Some(Kind::NumberValue(number)) => number_value(*number)?,
        Some(Kind::StringValue(text)) => Value::String(storable(text)?),
        Some(Kind::StructValue(object)) => Value::Object(json_object(object, deeper()?)?),
        Some(Kind::ListValue(list)) => {
            let depth = deeper()?;
            Value::Array(
                list.values
                    .iter()
                    .map(|value| json(value, depth))
                    .collect::<Result<_, _>>()?,
            )
        }
    })
}

/// A text that `PostgreSQL` can hold, which the character U+0000 can't be in.
pub(super) fn storable(text: &str) -> Result<String, Invalid> {
    if text.contains('\0') {
        return Err(Invalid::new(text, "text without the character U+0000"));
    }
    Ok(text.to_owned())
}

/// A number; one without a fraction is stored as such, so that a template shows 3 and not 3.0.
pub(super) fn number_value(number: f64) -> Result<Value, Invalid> {
    condition::number(number)
        .map(Value::Number)
        .ok_or_else(|| Invalid::new(number, "a finite number"))
}

/// What was erased as a message.
pub(in crate::rpc) fn erased(erasure: &Erasure) -> pb::EraseCustomerResponse {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    pb::EraseCustomerResponse {
        erase_time: Some(time(erasure.erased_at)),
        runs: number(erasure.rows.runs),
        executions: number(erasure.rows.executions),
        engagements: number(erasure.rows.engagements),
        suppression_ids: erasure.suppressions.clone(),
    }
}

/// A customer as a message.
pub(in crate::rpc) fn customer(customer: &Customer, default_zone: Tz) -> pb::Customer {
    let zone = customer.zone(default_zone);
    let source = if zone.is_default {
        pb::TimeZoneSource::Default
    } else {
        pb::TimeZoneSource::Customer
    };
    let attributes = customer
        .attributes
        .iter()
        .map(|(name, value)| (name.clone(), value_message(value)))
        .collect();
    pb::Customer {
        customer_id: customer.id.to_string(),
        display_name: customer.display_name.clone(),
        email: customer
            .email
            .as_ref()
            .map(|email| email.as_str().to_owned())
            .unwrap_or_default(),
        phone: customer
            .phone
            .as_ref()
            .map(|phone| phone.as_str().to_owned())
            .unwrap_or_default(),
        time_zone: customer.time_zone.map(|tz| tz.name().to_owned()).unwrap_or_default(),
        pipeline_stage: customer
            .pipeline_stage
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        engagement_score: customer.engagement_score,
        attributes: Some(prost_types::Struct { fields: attributes }),
        source_time: customer.source_time.map(time),
        effective_time_zone: zone.tz.name().to_owned(),
        time_zone_source: source.into(),
        create_time: Some(time(customer.created_at)),
        update_time: Some(time(customer.updated_at)),
        is_test: customer.is_test,
    }
}

/// A JSON value as a message.
pub(super) fn value_message(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(truth) => Kind::BoolValue(*truth),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(list) => Kind::ListValue(prost_types::ListValue {
            values: list.iter().map(value_message).collect(),
        }),
        Value::Object(object) => Kind::StructValue(prost_types::Struct {
            fields: object
                .iter()
                .map(|(name, value)| (name.clone(), value_message(value)))
                .collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}

/// What became of an assignment, as a message.
pub(in crate::rpc) fn assignment(assignment: &Assignment) -> pb::StageAssignment {
    let (outcome, view) = match assignment {
        Assignment::Started(view) => (pb::AssignmentOutcome::Started, Some(view)),
        Assignment::AlreadyRunning(view) => (pb::AssignmentOutcome::AlreadyRunning, Some(view)),
        Assignment::NoDefault => (pb::AssignmentOutcome::NoDefault, None),
        Assignment::DefaultInactive => (pb::AssignmentOutcome::DefaultInactive, None),
        Assignment::StageUnchanged => (pb::AssignmentOutcome::StageUnchanged, None),
    };
    pb::StageAssignment {
        outcome: outcome.into(),
        progress: view.map(|view| progress(view)),
    }
}

/// Parses an event. `path` is where it stands in the request.
pub(in crate::rpc) fn parse_engagement(
    violations: &mut Violations,
    path: &str,
    given: &pb::Engagement,
    now: Timestamp,
) -> Option<Engagement> {
    let at = |field: &str| format!("{path}.{field}");
    let customer_id = violations.check(at("customer_id"), CustomerId::parse(&given.customer_id));
    let event_id = violations.check(at("event_id"), event_id(&given.event_id));
    let kind = parse_kind(violations, path, given.kind, &given.name);
    let occurred_at = match given.occur_time.as_ref() {
        None => Some(now),
        Some(given) => violations.check(
            at("occur_time"),
            parse_time(given)
                .and_then(|time| not_ahead(time, now))
                .and_then(since_2000),
        ),
    };
    let about = match (given.progress_id, given.action_id) {
        (0, 0) => Some(None),
        (progress, action) => {
            let progress = violations.id(at("progress_id"), progress);
            let action = violations.id(at("action_id"), action);
            progress
                .zip(action)
                .map(|(progress, action)| Some((ProgressId(progress), ActionId(action))))
        }
    };
    Some(Engagement {
        customer_id: customer_id?,
        event_id: event_id?,
        kind: kind?,
        occurred_at: occurred_at?,
        received_at: now,
        about: about?,
    })
}

/// Parses what a customer did. `path` is where the message stands that has `kind` and `name`.
pub(super) fn parse_kind(violations: &mut Violations, path: &str, kind: i32, name: &str) -> Option<EngagementKind> {
    let at = |field: &str| format!("{path}.{field}");
    let kinds =
        "ENGAGEMENT_KIND_EMAIL_OPENED, ENGAGEMENT_KIND_EMAIL_CLICKED, ENGAGEMENT_KIND_REPLIED, ENGAGEMENT_KIND_CUSTOM";
    let kind = violations.known::<pb::EngagementKind>(at("kind"), kind, kinds);
    match kind {
        Some(pb::EngagementKind::Custom) => violations
            .check(at("name"), token(name, "._:-"))
            .map(EngagementKind::Custom),
        Some(_) if !name.is_empty() => {
            violations.add(
                at("name"),
                format!(
                    "must be empty unless the kind is ENGAGEMENT_KIND_CUSTOM, {}",
                    but_is(name)
                ),
            );
            None
        }
        Some(pb::EngagementKind::EmailOpened) => Some(EngagementKind::EmailOpened),
        Some(pb::EngagementKind::EmailClicked) => Some(EngagementKind::EmailClicked),
        Some(pb::EngagementKind::Replied) => Some(EngagementKind::Replied),
        Some(pb::EngagementKind::Unspecified) | None => None,
    }
}

fn event_id(given: &str) -> Result<String, Invalid> {
    if (1..=128).contains(&given.len()) && given.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        return Ok(given.to_owned());
    }
    Err(Invalid::new(given, "1 to 128 printable ASCII characters"))
}

/// Checks that an instant is not long ago.
pub(super) fn since_2000(time: Timestamp) -> Result<Timestamp, Invalid> {
    let begin = NaiveDate::from_ymd_opt(2000, 1, 1)
        .unwrap_or_default()
        .and_time(NaiveTime::MIN)
        .and_utc();
    if time >= begin {
        Ok(time)
    } else {
        Err(Invalid::new(time, "in the year 2000 or later"))
    }
}

/// An event as a message.
pub(in crate::rpc) fn engagement(event: &Engagement) -> pb::Engagement {
    let (kind, name) = match &event.kind {
        EngagementKind::EmailOpened => (pb::EngagementKind::EmailOpened, ""),
        EngagementKind::EmailClicked => (pb::EngagementKind::EmailClicked, ""),
        EngagementKind::Replied => (pb::EngagementKind::Replied, ""),
        EngagementKind::Custom(name) => (pb::EngagementKind::Custom, name.as_str()),
    };
    pb::Engagement {
        customer_id: event.customer_id.to_string(),
        event_id: event.event_id.clone(),
        kind: kind.into(),
        name: name.to_owned(),
        occur_time: Some(time(event.occurred_at)),
        progress_id: event.about.map_or(0, |(progress, _)| progress.0),
        action_id: event.about.map_or(0, |(_, action)| action.0),
        receive_time: Some(time(event.received_at)),
    }
}
