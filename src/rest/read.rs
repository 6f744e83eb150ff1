//! From JSON to a message, by the rules of proto3 JSON: fields by either of their names, 64-bit numbers also as texts, enums by name or
//! number, null as if it were not there.
//!
//! Stricter than readers of JSON are by themselves, so that no mistake passes: a field that nobody knows, or that comes twice, is
//! refused, and all that is wrong is said at once, by the names of the contract: `timeline.actions[3].day_number`.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use std::collections::HashMap;

use super::json::Json;
use super::violations::{Violations, shown};

/// Below which a number that is written with a fraction or an exponent is a whole number without doubt.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// What a message that has a JSON form of its own must be.
fn own_form(message: &MessageDescriptor) -> Option<&'static str> {
    Some(match message.full_name() {
        "google.protobuf.Timestamp" => "a time, such as \"2026-01-05T12:00:00Z\"",
        "google.protobuf.Duration" => "a number of seconds, such as \"3600s\"",
        "google.protobuf.FieldMask" => "names of fields with commas between them",
        "google.protobuf.Struct" => "an object",
        "google.protobuf.ListValue" => "a list",
        "google.protobuf.Value" => "a value",
        "google.protobuf.Any" => "an object with its @type",
        "google.protobuf.BoolValue" => "true or false",
        "google.protobuf.StringValue" => "a text",
        "google.protobuf.BytesValue" => "Base64",
        "google.protobuf.Int32Value"
        | "google.protobuf.Int64Value"
        | "google.protobuf.UInt32Value"
        | "google.protobuf.UInt64Value"
        | "google.protobuf.FloatValue"
        | "google.protobuf.DoubleValue" => "a number",
        _ => return None,
    })
}

/// Whether a message has a JSON form that is no object with its fields.
pub(super) fn has_own_form(message: &MessageDescriptor) -> bool {
    own_form(message).is_some()
}

/// Reads a message. `path` is that of the message itself, empty for the request.
pub(super) fn message(
    descriptor: &MessageDescriptor,
    json: &Json,
    path: &str,
    wrong: &mut Violations,
) -> Option<DynamicMessage> {
    if let Some(form) = own_form(descriptor) {
        return own(descriptor, form, json, path, wrong);
    }
    let Json::Object(members) = json else {
        let path = if path.is_empty() { "body" } else { path };
        wrong.add(path, format!("must be an object, but is {}", json.shown()));
        return None;
    };
    let mut message = DynamicMessage::new(descriptor.clone());
    let mut seen: Vec<u32> = Vec::new();
    for (name, json) in members {
        let Some(field) = field_named(descriptor, name) else {
            let kind = descriptor.name();
            wrong.add(
                below(path, &shown_name(name)),
                format!("must not be there: {kind} has no such field"),
            );
            continue;
        };
        let path = below(path, field.name());
        if seen.contains(&field.number()) {
            wrong.add(path, "must be there once, but comes twice");
            continue;
        }
        seen.push(field.number());
        if let Some(value) = field_value(&field, json, &path, wrong) {
            set(&mut message, &field, value, &path, wrong);
        }
    }
    Some(message)
}

/// The field that is called so in JSON or in the contract.
pub(super) fn field_named(descriptor: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    descriptor
        .get_field_by_json_name(name)
        .or_else(|| descriptor.get_field_by_name(name))
}

/// Sets a field, unless another of its oneof is set.
pub(super) fn set(
    message: &mut DynamicMessage,
    field: &FieldDescriptor,
    value: Value,
    path: &str,
    wrong: &mut Violations,
) {
    let oneof = field.containing_oneof();
    let other = oneof.and_then(|oneof| {
        let mut others = oneof.fields().filter(|other| other != field);
        others.find(|other| message.has_field(other))
    });
    match other {
        Some(other) => wrong.add(path, format!("must not be given together with {}", other.name())),
        None => message.set_field(field, value),
    }
}

/// Reads the value of a field; none: it is null, or something is wrong.
pub(super) fn field_value(field: &FieldDescriptor, json: &Json, path: &str, wrong: &mut Violations) -> Option<Value> {
    let kind = field.kind();
    let is_any_value = kind
        .as_message()
        .is_some_and(|kind| kind.full_name() == "google.protobuf.Value");
    if *json == Json::Null && (field.is_list() || field.is_map() || !is_any_value) {
        return None;
    }
    if field.is_map() {
        return map(&kind, json, path, wrong);
    }
    if !field.is_list() {
        return value(&kind, json, path, wrong);
    }
    let Json::List(items) = json else {
        wrong.add(path, format!("must be a list, but is {}", json.shown()));
        return None;
    };
    let mut values = Vec::new();
    for (at, item) in items.iter().enumerate() {
        values.extend(value(&kind, item, &format!("{path}[{at}]"), wrong));
    }
    Some(Value::List(values))
}

fn map(kind: &Kind, json: &Json, path: &str, wrong: &mut Violations) -> Option<Value> {
    let (Some(entry), Json::Object(members)) = (kind.as_message(), json) else {
        wrong.add(path, format!("must be an object, but is {}", json.shown()));
        return None;
    };
    let (keys, values) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
    let mut map = HashMap::new();
    for (name, json) in members {
        let path = format!("{path}[{}]", shown(name));
        let key = key(&keys, name, &path, wrong);
        let value = value(&values, json, &path, wrong);
        let (Some(key), Some(value)) = (key, value) else {
            continue;
        };
        if map.insert(key, value).is_some() {
            wrong.add(path, "must be there once, but comes twice");
        }
    }
    Some(Value::Map(map))
}

fn key(kind: &Kind, name: &str, path: &str, wrong: &mut Violations) -> Option<MapKey> {
    let text = Json::Text(name.to_owned());
    let json = match (kind, name) {
        (Kind::Bool, "true") => Json::Bool(true),
        (Kind::Bool, "false") => Json::Bool(false),
        _ => text,
    };
    value(kind, &json, path, wrong)?.into_map_key()
}

/// Reads one value.
pub(super) fn value(kind: &Kind, json: &Json, path: &str, wrong: &mut Violations) -> Option<Value> {
    let read = match kind {
        Kind::Message(descriptor) => return message(descriptor, json, path, wrong).map(Value::Message),
        Kind::Enum(descriptor) => enumerated(descriptor, json),
        Kind::Bool => boolean(json).map(Value::Bool),
        Kind::String => text(json).map(Value::String),
        Kind::Bytes => bytes(json).map(|bytes| Value::Bytes(bytes.into())),
        Kind::Double => float(json).map(Value::F64),
        Kind::Float => single(json).map(Value::F32),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => whole(json, i32::MIN, i32::MAX).map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => whole(json, i64::MIN, i64::MAX).map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => whole(json, 0, u32::MAX).map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => whole(json, 0, u64::MAX).map(Value::U64),
    };
    read.map_err(|what| wrong.add(path, format!("must be {what}, but is {}", json.shown())))
        .ok()
}

fn own(
    descriptor: &MessageDescriptor,
    form: &str,
    json: &Json,
    path: &str,
    wrong: &mut Violations,
) -> Option<DynamicMessage> {
    let value = json
        .to_value()
        .map_err(|twice| {
            wrong.add(
                path,
                format!("must have each member once, but {} comes twice", shown(&twice)),
            );
        })
        .ok()?;
    DynamicMessage::deserialize(descriptor.clone(), value)
        .map_err(|_| wrong.add(path, format!("must be {form}, but is {}", json.shown())))
        .ok()
}

fn boolean(json: &Json) -> Result<bool, String> {
    if let Json::Bool(value) = json {
        return Ok(*value);
    }
    Err("true or false".to_owned())
}

fn text(json: &Json) -> Result<String, String> {
    if let Json::Text(text) = json {
        return Ok(text.clone());
    }
    Err("a text".to_owned())
}

/// Reads a whole number, written as one or as a text.
fn whole<N>(json: &Json, least: N, most: N) -> Result<N, String>
where
    N: TryFrom<i128> + std::fmt::Display + Copy,
{
    let number = match json {
        Json::Integer(value) => Some(*value),
        // Within these bounds nothing is lost.
        #[expect(clippy::cast_possible_truncation, reason = "it is whole, and small enough")]
        Json::Float(value) if value.fract() == 0.0 && value.abs() < EXACT => Some(*value as i128),
        Json::Text(text) if !text.starts_with('+') => text.parse().ok(),
        Json::Null | Json::Bool(_) | Json::Float(_) | Json::Text(_) | Json::List(_) | Json::Object(_) => None,
    };
    number
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(|| format!("a whole number from {least} to {most}"))
}

fn float(json: &Json) -> Result<f64, String> {
    let is_number = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
    };
    match json {
        #[expect(clippy::cast_precision_loss, reason = "a double is what the field holds")]
        Json::Integer(value) => Some(*value as f64),
        Json::Float(value) => Some(*value),
        Json::Text(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text if is_number(text) => text.parse().ok().filter(|value: &f64| value.is_finite()),
            _ => None,
        },
        Json::Null | Json::Bool(_) | Json::List(_) | Json::Object(_) => None,
    }
    .ok_or_else(|| "a number".to_owned())
}

fn single(json: &Json) -> Result<f32, String> {
    let value = float(json)?;
    #[expect(clippy::cast_possible_truncation, reason = "what is lost is checked")]
    let single = value as f32;
    if single.is_infinite() && value.is_finite() {
        return Err("a number with single precision".to_owned());
    }
    Ok(single)
}

fn enumerated(descriptor: &EnumDescriptor, json: &Json) -> Result<Value, String> {
    let number = match json {
        Json::Text(name) => descriptor.get_value_by_name(name).map(|value| value.number()),
        // A number that nobody knows is left to the method, as in gRPC.
        Json::Integer(number) => i32::try_from(*number).ok(),
        Json::Null | Json::Bool(_) | Json::Float(_) | Json::List(_) | Json::Object(_) => None,
    };
    let number = number.ok_or_else(|| {
        let names: Vec<String> = descriptor.values().map(|value| value.name().to_owned()).collect();
        format!("one of {}", names.join(", "))
    })?;
    Ok(Value::EnumNumber(number))
}

fn bytes(json: &Json) -> Result<Vec<u8>, String> {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let Json::Text(text) = json else {
        return Err("Base64".to_owned());
    };
    let alphabets = [
        GeneralPurpose::new(&base64::alphabet::STANDARD, CONFIG),
        GeneralPurpose::new(&base64::alphabet::URL_SAFE, CONFIG),
    ];
    let read = alphabets.iter().find_map(|alphabet| alphabet.decode(text).ok());
    read.ok_or_else(|| "Base64".to_owned())
}

/// The path of a field of what is at `path`.
pub(super) fn below(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// A name that is none of ours, for a path: as it is, if it is a word, and else in quotes.
pub(super) fn shown_name(name: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if (1..=60).contains(&name.len()) && name.chars().all(is_word) {
        name.to_owned()
    } else {
        shown(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads one value, or says what is wrong with it.
    fn read(kind: &Kind, json: &str) -> Result<Value, String> {
        let json = Json::parse(json.as_bytes()).expect(json);
        let mut wrong = Violations::default();
        let value = value(kind, &json, "it", &mut wrong);
        value.ok_or_else(|| wrong.into_status().message().to_owned())
    }

    #[track_caller]
    fn check(kind: &Kind, cases: &[(&str, Value)], bad: &[&str]) {
        for (json, expected) in cases {
            assert_eq!(read(kind, json).as_ref(), Ok(expected), "{kind:?} {json}");
        }
        for json in bad {
            let error = read(kind, json).expect_err(json);
            assert!(
                error.starts_with("it must be ") && error.contains(", but is "),
                "{error}"
            );
        }
    }

    #[test]
    fn numbers_are_read_as_they_are_or_refused() {
        let whole = [
            ("7", Value::I64(7)),
            ("\"-7\"", Value::I64(-7)),
            ("7.0", Value::I64(7)),
            ("7e3", Value::I64(7000)),
        ];
        let bad = [
            "7.5",
            "\"7.0\"",
            "\"\"",
            "null",
            "true",
            "1e30",
            "9223372036854775808",
            "9007199254740993.0",
            "\"0x7\"",
        ];
        check(&Kind::Int64, &whole, &bad);
        check(&Kind::Int64, &[("9223372036854775807", Value::I64(i64::MAX))], &[]);
        check(
            &Kind::Uint64,
            &[("18446744073709551615", Value::U64(u64::MAX))],
            &["-1", "18446744073709551616"],
        );
        check(&Kind::Int32, &[("-2147483648", Value::I32(i32::MIN))], &["2147483648"]);
        check(
            &Kind::Uint32,
            &[("4294967295", Value::U32(u32::MAX))],
            &["-1", "4294967296"],
        );
        let doubles = [
            ("1", Value::F64(1.0)),
            ("\"1.5e3\"", Value::F64(1500.0)),
            ("\"-Infinity\"", Value::F64(f64::NEG_INFINITY)),
        ];
        check(
            &Kind::Double,
            &doubles,
            &["\"inf\"", "\"nan\"", "\"1e999\"", "\"\"", "null", "[]"],
        );
        check(&Kind::Float, &[("0.5", Value::F32(0.5))], &["1e39"]);
        assert!(matches!(read(&Kind::Double, "\"NaN\""), Ok(Value::F64(value)) if value.is_nan()));
    }

    #[test]
    fn other_values_are_read_by_their_forms() {
        check(&Kind::Bool, &[("true", Value::Bool(true))], &["\"true\"", "1", "null"]);
        check(
            &Kind::String,
            &[("\"\\u00e9\"", Value::String("é".to_owned()))],
            &["1", "true", "[\"a\"]"],
        );
        let bytes = |bytes: &'static [u8]| Value::Bytes(bytes.into());
        let forms = [
            ("\"+/8=\"", bytes(b"\xfb\xff")),
            ("\"-_8\"", bytes(b"\xfb\xff")),
            ("\"\"", bytes(b"")),
        ];
        check(&Kind::Bytes, &forms, &["\"*\"", "7"]);
    }
}
