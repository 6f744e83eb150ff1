//! A request of a method as REST has it, made of its message by the options of the contract, apart from the server's own reading of them.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use prost_reflect::{DynamicMessage, MethodDescriptor, ReflectMessage as _};
use serde_json::Value;

/// A request.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) http: String,
    pub(super) path: String,
    pub(super) body: String,
}

/// The request in each form for which its message has what must be in the path.
pub(super) fn forms(method: &MethodDescriptor, request: &DynamicMessage) -> Vec<Asked> {
    let pool = method.parent_pool();
    let option = pool.get_extension_by_name("google.api.http").expect("the option");
    let options = method.options();
    let rule = options.get_extension(&option);
    let rule = rule.as_message().expect("a rule");
    let more = rule
        .get_field_by_name("additional_bindings")
        .expect("bindings")
        .into_owned();
    let more = more.as_list().expect("bindings").iter();
    let more = more.map(|rule| rule.as_message().expect("a rule").clone());
    let forms = [rule.clone()].into_iter().chain(more);
    forms.filter_map(|rule| form(&rule, request)).collect()
}

fn form(rule: &DynamicMessage, request: &DynamicMessage) -> Option<Asked> {
    let text = |field: &str| {
        let value = rule.get_field_by_name(field).expect(field).into_owned();
        value.as_str().expect("a text").to_owned()
    };
    let (http, template) = [("GET", text("get")), ("POST", text("post"))]
        .into_iter()
        .find(|(_, path)| !path.is_empty())
        .expect("a path");
    let json = serde_json::to_value(request).expect("JSON");
    let mut rest = json.as_object().expect("an object").clone();
    let mut path = String::new();
    let mut parts = template.split(['{', '}']);
    while let Some(literal) = parts.next() {
        path += literal;
        let Some(field) = parts.next() else { break };
        let field = request.descriptor().get_field_by_name(field).expect("a field");
        let value = rest.remove(field.json_name())?;
        path += &encoded(&value);
    }
    let mut body = String::new();
    if text("body") == "*" {
        body = Value::Object(rest).to_string();
    } else {
        let mut pairs = Vec::new();
        parameters("", &Value::Object(rest), &mut pairs);
        path = [path, pairs.join("&")].join(if pairs.is_empty() { "" } else { "?" });
    }
    Some(Asked {
        http: http.to_owned(),
        path,
        body,
    })
}

fn parameters(name: &str, value: &Value, pairs: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (member, value) in members {
                let dot = if name.is_empty() { "" } else { "." };
                parameters(&format!("{name}{dot}{member}"), value, pairs);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| parameters(name, value, pairs)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            pairs.push(format!("{name}={}", encoded(value)));
        }
    }
}

fn encoded(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string()
}
