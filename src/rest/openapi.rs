//! The `OpenAPI` document, made of the same descriptors as the routes: operations, parameters and schemas, with the comments of the
//! contract as their descriptions. What comments say of bounds and errors is in it as such, so that programs can check it.

mod bounds;
mod comments;
mod schema;

use http::StatusCode;
use prost_reflect::{FieldDescriptor, MessageDescriptor};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use tonic::Code;

use super::answer;
use super::read::{below, has_own_form};
use super::refusal::Refusal;
use super::request::is_parameter;
use super::routes::{BodyOf, Route, Routes};
use comments::Comments;
use schema::{Schemas, Way};

/// How deep parameters are listed by dots.
const DEEPEST: usize = 3;

/// What is true of all operations.
const ABOUT: &str = "The methods of the gRPC contract as JSON over HTTP. Fields are called as here or as in the contract \
(`customerId`, `customer_id`), also in parameters; 64-bit numbers are texts in answers and may be numbers in requests; enums are names, \
and may be numbers in requests; times are RFC 3339; null is as if the field were not there. In answers fields are there also where they \
have their default; what is optional and not set is not. Unknown fields and parameters, fields that come twice, and parameters beside \
a body are refused.\n\nErrors are `google.rpc.Status`, with `ErrorInfo` and what else belongs to it in `details`. Those of the methods are \
described with them; besides there are these reasons:";

const CODES: [(&str, Code); 12] = [
    ("INVALID_ARGUMENT", Code::InvalidArgument),
    ("NOT_FOUND", Code::NotFound),
    ("ALREADY_EXISTS", Code::AlreadyExists),
    ("PERMISSION_DENIED", Code::PermissionDenied),
    ("UNAUTHENTICATED", Code::Unauthenticated),
    ("FAILED_PRECONDITION", Code::FailedPrecondition),
    ("ABORTED", Code::Aborted),
    ("OUT_OF_RANGE", Code::OutOfRange),
    ("RESOURCE_EXHAUSTED", Code::ResourceExhausted),
    ("UNAVAILABLE", Code::Unavailable),
    ("DEADLINE_EXCEEDED", Code::DeadlineExceeded),
    ("INTERNAL", Code::Internal),
];

/// The document of all routes.
pub(super) fn document(routes: &Routes) -> Value {
    let pool = routes.iter().next().map(|route| route.rpc.parent_pool().clone());
    let comments = Comments::of(pool.as_ref());
    let mut schemas = Schemas::new(&comments, pool.as_ref());
    let mut paths: Map<String, Value> = Map::new();
    let mut tags: Vec<Value> = Vec::new();
    for route in routes.iter() {
        let path = route.template.written(|field| json_path(&fields_of(route, field)));
        let operation = operation(route, &comments, &mut schemas);
        let operations = paths.entry(path).or_insert_with(|| json!({}));
        operations[route.http.as_str().to_ascii_lowercase()] = operation;
        let service = route.rpc.parent_service();
        let tag = json!({"name": service.name(), "description": comments.at(&service.parent_file(), service.path())});
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    let reasons = Refusal::ALL.map(|refusal| format!("`{}` ({})", refusal.reason(), refusal.http().as_u16()));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Campaign automation",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!("{ABOUT} {}.", reasons.join(", ")),
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        // A server that knows no callers asks nobody.
        "security": [{"bearer": []}, {}],
        "components": {
            "schemas": schemas.finish(),
            "securitySchemes": {"bearer": {
                "type": "http", "scheme": "bearer",
                "description": "A token of the callers file, or a JWT of the issuer. A client certificate may take its place.",
            }},
        },
    })
}

fn fields_of(route: &Route, path: &str) -> Vec<FieldDescriptor> {
    let of_path = route
        .template
        .fields()
        .zip(&route.fields)
        .find(|(field, _)| *field == path);
    of_path.map(|(_, fields)| fields.clone()).unwrap_or_default()
}

fn json_path(fields: &[FieldDescriptor]) -> String {
    fields
        .iter()
        .fold(String::new(), |path, field| below(&path, field.json_name()))
}

fn operation(route: &Route, comments: &Comments, schemas: &mut Schemas<'_>) -> Value {
    let rpc = &route.rpc;
    let service = rpc.parent_service();
    let about = comments.at(&service.parent_file(), rpc.path());
    let number = if route.number == 0 {
        String::new()
    } else {
        format!("{}", route.number + 1)
    };
    let mut operation = json!({
        "operationId": format!("{}{number}", rpc.name()),
        "summary": comments::first_sentence(&about),
        "description": about,
        "tags": [service.name()],
        "responses": responses(route, &format!("{about}\n{}", comments.at(&service.parent_file(), service.path())), schemas),
    });
    let parameters = parameters(route, schemas);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    let body = match &route.body {
        BodyOf::Nothing => None,
        BodyOf::All => {
            let in_path: Vec<&FieldDescriptor> = route.fields.iter().filter_map(|fields| fields.first()).collect();
            let rest: Vec<FieldDescriptor> = rpc.input().fields().filter(|field| !in_path.contains(&field)).collect();
            Some(schemas.object(rest.iter(), Way::In))
        }
        BodyOf::Field(field) => Some(schemas.field(field, Way::In)),
    };
    if let Some(schema) = body {
        let required = schema.get("required").is_some();
        operation["requestBody"] = json!({"required": required, "content": {"application/json": {"schema": schema}}});
    }
    operation
}

fn responses(route: &Route, about: &str, schemas: &mut Schemas<'_>) -> Value {
    let output = schemas.message(&route.rpc.output(), Way::Out);
    let error = schemas.error();
    let (kind, done) = if route.rpc.is_server_streaming() {
        let line = json!({"type": "object", "properties": {"result": output, "error": error}});
        (
            answer::LINES,
            json!({"description": "A line for each message as it comes; an error is the last.", "schema": line}),
        )
    } else {
        ("application/json", json!({"description": "Done.", "schema": output}))
    };
    let mut responses =
        json!({"200": {"description": done["description"], "content": {kind: {"schema": done["schema"]}}}});
    let named = CODES.iter().filter(|(name, _)| about.contains(name));
    let mut statuses: BTreeSet<StatusCode> = named.map(|(_, code)| answer::http_status(*code)).collect();
    let always = [Refusal::BodyBroken, Refusal::ForeignOrigin, Refusal::NotAcceptable];
    let with_body = [Refusal::BodyTooLate, Refusal::BodyTooLong, Refusal::NotJson];
    statuses.extend(always.iter().chain(&with_body).map(|refusal| refusal.http()));
    for status in statuses {
        let description = status.canonical_reason().unwrap_or("Error");
        let content = json!({"application/json": {"schema": error}});
        responses[status.as_str()] = json!({"description": description, "content": content});
    }
    responses
}

fn parameters(route: &Route, schemas: &mut Schemas<'_>) -> Vec<Value> {
    let mut parameters = Vec::new();
    for fields in &route.fields {
        let Some(field) = fields.last() else { continue };
        let mut schema = schemas.field(field, Way::InPath);
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        parameters.push(json!({
            "name": json_path(fields), "in": "path", "required": true,
            "description": description.unwrap_or_default(), "schema": schema,
        }));
    }
    if !matches!(route.body, BodyOf::All) {
        let mut found = Vec::new();
        in_query(&route.rpc.input(), &mut Vec::new(), &mut found);
        let in_body = |fields: &Vec<FieldDescriptor>| match &route.body {
            BodyOf::Field(field) => fields.first() == Some(field),
            BodyOf::All | BodyOf::Nothing => false,
        };
        for fields in found
            .iter()
            .filter(|fields| !route.fields.contains(fields) && !in_body(fields))
        {
            let Some(field) = fields.last() else { continue };
            let mut schema = schemas.field(field, Way::InQuery);
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            parameters.push(json!({
                "name": json_path(fields), "in": "query", "required": fields.len() == 1 && schemas.is_required(field),
                "description": description.unwrap_or_default(), "schema": schema,
            }));
        }
    }
    parameters
}

/// The fields of a message that can be parameters, each as the fields that lead to it.
fn in_query(message: &MessageDescriptor, before: &mut Vec<FieldDescriptor>, found: &mut Vec<Vec<FieldDescriptor>>) {
    for field in message.fields() {
        let kind = field.kind();
        let inner = kind.as_message().filter(|inner| !has_own_form(inner));
        before.push(field.clone());
        match inner {
            Some(inner) if !field.is_list() && !field.is_map() && before.len() < DEEPEST => {
                in_query(inner, before, found);
            }
            None if is_parameter(&field) => found.push(before.clone()),
            Some(_) | None => {}
        }
        before.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::FILE_DESCRIPTOR_SET;
    use prost_reflect::DescriptorPool;

    fn the_document() -> Value {
        let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("descriptors");
        document(&Routes::of(&pool).expect("routes"))
    }

    #[test]
    fn operations_have_what_the_contract_says() {
        let document = the_document();
        let start = &document["paths"]["/api/v1/customers/{customerId}/timelines"]["post"];
        assert_eq!(start["operationId"], "StartTimeline");
        assert_eq!(start["summary"], "About a timeline: starts a run of it for a customer.");
        let [customer] = &start["parameters"].as_array().expect("parameters")[..] else {
            panic!("{start}")
        };
        assert_eq!(
            (&customer["name"], &customer["in"]),
            (&json!("customerId"), &json!("path"))
        );
        assert_eq!(customer["schema"]["pattern"], "^[A-Za-z0-9._:@-]{1,64}$");
        let body = &start["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(body["properties"]["timelineId"]["type"], json!(["string", "integer"]));
        assert_eq!(body["properties"]["customerId"], Value::Null);
        let statuses: Vec<&str> = start["responses"]
            .as_object()
            .expect("responses")
            .keys()
            .map(String::as_str)
            .collect();
        let expected = [
            "200", "400", "401", "403", "404", "406", "408", "409", "413", "415", "429", "500", "503", "504",
        ];
        assert_eq!(statuses, expected);
        let list = &document["paths"]["/api/v1/executions"]["get"];
        let names = list["parameters"].as_array().expect("parameters").iter();
        let names: Vec<&str> = names.filter_map(|parameter| parameter["name"].as_str()).collect();
        assert!(
            names.contains(&"filter.customerId") && names.contains(&"filter.outcomes"),
            "{names:?}"
        );
    }

    #[test]
    fn all_that_is_referred_to_is_there() {
        let document = the_document();
        let text = document.to_string();
        let names = text.split("#/components/schemas/").skip(1);
        let names: BTreeSet<&str> = names.filter_map(|rest| rest.split('"').next()).collect();
        assert!(names.len() > 40, "{names:?}");
        for name in names {
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
        }
    }

    #[test]
    fn everything_is_described() {
        let document = the_document();
        for (path, operations) in document["paths"].as_object().expect("paths") {
            for (method, operation) in operations.as_object().expect("operations") {
                let described = operation["description"].as_str().is_some_and(|text| text.len() > 20);
                assert!(described, "{method} {path}");
            }
        }
        for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
            let described = schema["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(described, "{name}");
        }
    }
}
