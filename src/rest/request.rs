//! From an HTTP request to the message of its method: what is in the path, in the query and in the body, each field once.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use super::json::Json;
use super::read::{below, field_named, field_value, has_own_form, message, set, shown_name, value};
use super::routes::{BodyOf, Route};
use super::template::decoded;
use super::violations::{Violations, shown};

/// How deep a parameter may reach by dots.
const DEEPEST: usize = 16;

/// The request of a route, or all that is wrong with it.
pub(super) fn request(
    route: &Route,
    values: &[String],
    query: Option<&str>,
    body: &[u8],
) -> Result<DynamicMessage, Violations> {
    let mut wrong = Violations::default();
    let mut request = read_body(route, body, &mut wrong);
    read_query(route, query.unwrap_or_default(), &mut request, &mut wrong);
    for (fields, text) in route.fields.iter().zip(values) {
        let path = dotted(fields);
        if let Some(value) = parameter(fields, &path, text, &mut wrong) {
            // What the body or the query says as well must be the same.
            match get(&request, fields) {
                Some(other) if other != value => {
                    wrong.add(
                        path,
                        format!("must be as in the path, {}, or not be given", shown(text)),
                    );
                }
                Some(_) => {}
                None => put(&mut request, fields, value, &path, &mut wrong),
            }
        }
    }
    if wrong.is_empty() { Ok(request) } else { Err(wrong) }
}

fn read_body(route: &Route, body: &[u8], wrong: &mut Violations) -> DynamicMessage {
    let descriptor = route.rpc.input();
    let empty = || DynamicMessage::new(descriptor.clone());
    if body.is_empty() {
        return empty();
    }
    if matches!(route.body, BodyOf::Nothing) {
        wrong.add("body", "must be empty: fields are given in the path and as parameters");
        return empty();
    }
    let json = match Json::parse(body) {
        Ok(json) => json,
        Err(error) => {
            wrong.add("body", format!("must be JSON: {error}"));
            return empty();
        }
    };
    match &route.body {
        BodyOf::Nothing => empty(),
        BodyOf::All => message(&descriptor, &json, "", wrong).unwrap_or_else(empty),
        BodyOf::Field(field) => {
            let mut request = empty();
            if let Some(value) = field_value(field, &json, field.name(), wrong) {
                request.set_field(field, value);
            }
            request
        }
    }
}

fn read_query(route: &Route, query: &str, request: &mut DynamicMessage, wrong: &mut Violations) {
    let mut seen: Vec<String> = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, text) = part.split_once('=').unwrap_or((part, ""));
        let (name, text) = (name.replace('+', " "), text.replace('+', " "));
        let (Some(name), Some(text)) = (decoded(&name), decoded(&text)) else {
            wrong.add(shown_name(&name), "must be UTF-8 with percent-encoding");
            continue;
        };
        let fields = match fields_of(&route.rpc.input(), &name) {
            Ok(fields) => fields,
            Err(what) => {
                wrong.add(shown_name(&name), what);
                continue;
            }
        };
        let (path, Some(last)) = (dotted(&fields), fields.last()) else {
            continue;
        };
        let in_body = match &route.body {
            BodyOf::Nothing => false,
            BodyOf::All => true,
            BodyOf::Field(field) => fields.first() == Some(field),
        };
        if in_body {
            wrong.add(path, "must be given in the body, not as a parameter");
            continue;
        }
        if !last.is_list() && seen.contains(&path) {
            wrong.add(path, "must be given once, but comes twice");
            continue;
        }
        if let Some(value) = parameter(&fields, &path, &text, wrong) {
            put(request, &fields, value, &path, wrong);
        }
        seen.push(path);
    }
}

/// The fields that a parameter's name leads through, or what is wrong with it.
fn fields_of(descriptor: &MessageDescriptor, name: &str) -> Result<Vec<FieldDescriptor>, String> {
    let (mut message, mut fields) = (descriptor.clone(), Vec::new());
    let mut parts = name.split('.').take(DEEPEST + 1).peekable();
    while let Some(part) = parts.next() {
        let field = field_named(&message, part);
        let field = field.ok_or_else(|| format!("must not be given: {} has no such field", message.name()))?;
        let kind = field.kind();
        fields.push(field.clone());
        let inner = kind.as_message().filter(|inner| !has_own_form(inner));
        match (parts.peek(), inner) {
            (None, None) if is_parameter(&field) => return Ok(fields),
            (Some(_), Some(inner)) if !field.is_list() && !field.is_map() && fields.len() < DEEPEST => {
                message = inner.clone();
            }
            (None | Some(_), _) => break,
        }
    }
    Err("must not be given as a parameter: it is no single value or list of values".to_owned())
}

/// Whether a field can be a parameter by itself: a value, or a list of them.
pub(super) fn is_parameter(field: &FieldDescriptor) -> bool {
    let is_text = |message: &MessageDescriptor| {
        let shapeless = ["Struct", "ListValue", "Value", "Any"].map(|name| format!("google.protobuf.{name}"));
        has_own_form(message) && !shapeless.contains(&message.full_name().to_owned())
    };
    !field.is_map() && field.kind().as_message().is_none_or(is_text)
}

/// Reads what a path or a parameter says. What is no text in JSON is one here.
fn parameter(fields: &[FieldDescriptor], path: &str, text: &str, wrong: &mut Violations) -> Option<Value> {
    let kind = fields.last()?.kind();
    let is_bool = |kind: &Kind| {
        let boxed = kind.as_message().map(MessageDescriptor::full_name);
        *kind == Kind::Bool || boxed == Some("google.protobuf.BoolValue")
    };
    let json = match (&kind, text) {
        (kind, "true") if is_bool(kind) => Json::Bool(true),
        (kind, "false") if is_bool(kind) => Json::Bool(false),
        (Kind::Enum(_), text) => text.parse().map_or_else(|_| Json::Text(text.to_owned()), Json::Integer),
        (_, text) => Json::Text(text.to_owned()),
    };
    value(&kind, &json, path, wrong)
}

/// What is set at the end of a chain of fields.
fn get(message: &DynamicMessage, fields: &[FieldDescriptor]) -> Option<Value> {
    let (first, rest) = fields.split_first()?;
    if !message.has_field(first) {
        return None;
    }
    let value = message.get_field(first);
    if rest.is_empty() {
        return Some(value.into_owned());
    }
    get(value.as_message()?, rest)
}

/// Sets what is at the end of a chain of fields, or adds to a list there.
fn put(message: &mut DynamicMessage, fields: &[FieldDescriptor], value: Value, path: &str, wrong: &mut Violations) {
    let Some((first, rest)) = fields.split_first() else {
        return;
    };
    if rest.is_empty() && !first.is_list() {
        set(message, first, value, path, wrong);
        return;
    }
    if !message.has_field(first) {
        // Checks its oneof.
        let empty = Value::default_value_for_field(first);
        set(message, first, empty, path, wrong);
    }
    let field = message.get_field_mut(first);
    if let Value::List(values) = field {
        values.push(value);
    } else if let Value::Message(inner) = field {
        put(inner, rest, value, path, wrong);
    }
}

fn dotted(fields: &[FieldDescriptor]) -> String {
    fields
        .iter()
        .fold(String::new(), |path, field| below(&path, field.name()))
}
