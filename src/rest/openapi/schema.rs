//! Schemas of messages in their proto3 JSON form.

use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};

use super::bounds::{Bounded, bounds, is_required};
use super::comments::Comments;

/// Which way a value goes: requests may have it in more than one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    In,
    InPath,
    InQuery,
    Out,
}

/// The schemas that were referred to.
#[derive(Debug)]
pub(super) struct Schemas<'a> {
    comments: &'a Comments,
    /// The comments that give the bounds of ids, by the names of the fields: an id is the same wherever it stands.
    ids: HashMap<String, String>,
    /// None while it is being made, as messages may hold themselves.
    made: BTreeMap<String, Option<Value>>,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(comments: &'a Comments, pool: Option<&DescriptorPool>) -> Self {
        let mut ids = HashMap::new();
        let messages = pool.into_iter().flat_map(DescriptorPool::all_messages);
        for field in messages.flat_map(|message| message.fields().collect::<Vec<_>>()) {
            let comment = comments.at(&field.parent_message().parent_file(), field.path());
            if is_id(&field) && !bounds(Bounded::Text, &comment, true).is_empty() {
                ids.insert(field.name().to_owned(), comment);
            }
        }
        Self {
            comments,
            ids,
            made: BTreeMap::new(),
        }
    }

    /// All that were referred to.
    pub(super) fn finish(self) -> Map<String, Value> {
        self.made
            .into_iter()
            .filter_map(|(name, schema)| Some((name, schema?)))
            .collect()
    }

    /// The schema of an error.
    pub(super) fn error(&mut self) -> Value {
        self.refer("Error", || {
            let detail = json!({
                "type": "object",
                "properties": {"@type": {"type": "string", "description": "As in type.googleapis.com/google.rpc.ErrorInfo."}},
                "required": ["@type"],
            });
            json!({
                "type": "object",
                "description": "google.rpc.Status.",
                "properties": {
                    "code": {"type": "integer", "description": "The code of google.rpc.Code.", "minimum": 1, "maximum": 16},
                    "message": {"type": "string", "description": "What is wrong, and what helps."},
                    "details": {
                        "type": "array", "items": detail,
                        "description": "google.rpc.ErrorInfo with `reason`, `domain` and `metadata`, and what else the code has: \
                                        BadRequest, PreconditionFailure, RetryInfo.",
                    },
                },
                "required": ["code", "message", "details"],
            })
        })
    }

    fn refer(&mut self, name: &str, make: impl FnOnce() -> Value) -> Value {
        if !self.made.contains_key(name) {
            self.made.insert(name.to_owned(), Some(make()));
        }
        reference(name)
    }

    /// The schema of a message: its own form, or a reference.
    pub(super) fn message(&mut self, message: &MessageDescriptor, way: Way) -> Value {
        if let Some(own) = own_form(message, way) {
            return own;
        }
        let name = message.full_name();
        let name = name
            .strip_prefix(message.package_name())
            .unwrap_or(name)
            .trim_start_matches('.');
        let name = match way {
            Way::Out => name.to_owned(),
            Way::In | Way::InPath | Way::InQuery => format!("{name}Input"),
        };
        if !self.made.contains_key(&name) {
            self.made.insert(name.clone(), None);
            let fields: Vec<FieldDescriptor> = message.fields().collect();
            let mut schema = self.object(fields.iter(), way);
            schema["description"] = self.comments.at(&message.parent_file(), message.path()).into();
            self.made.insert(name.clone(), Some(schema));
        }
        reference(&name)
    }

    /// An object with these fields.
    pub(super) fn object<'f>(&mut self, fields: impl Iterator<Item = &'f FieldDescriptor>, way: Way) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for field in fields {
            properties.insert(field.json_name().to_owned(), self.field(field, way));
            // In answers fields are there also where they have their default.
            let is_there = match way {
                Way::Out => !field.supports_presence(),
                Way::In | Way::InPath | Way::InQuery => self.is_required(field),
            };
            if is_there {
                required.push(field.json_name().to_owned());
            }
        }
        let mut schema = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        // Answers of a newer server may have more.
        if way != Way::Out {
            schema["additionalProperties"] = false.into();
        }
        schema
    }

    /// Whether a request without the field is refused.
    pub(super) fn is_required(&self, field: &FieldDescriptor) -> bool {
        is_required(&self.comments.at(&field.parent_message().parent_file(), field.path()))
    }

    /// The schema of a field, with its description.
    pub(super) fn field(&mut self, field: &FieldDescriptor, way: Way) -> Value {
        let comment = self.comments.at(&field.parent_message().parent_file(), field.path());
        let kind = field.kind();
        let mut schema = if let Some(entry) = kind.as_message().filter(|_| field.is_map()) {
            let values = self.kind(&entry.map_entry_value_field().kind(), way);
            json!({"type": "object", "additionalProperties": values})
        } else if field.is_list() {
            json!({"type": "array", "items": self.kind(&kind, way)})
        } else {
            self.kind(&kind, way)
        };
        if let Some(schema) = schema.as_object_mut().filter(|_| way != Way::Out) {
            schema.extend(self.bounds(field, &comment, way));
        }
        let oneof = field.containing_oneof().filter(|oneof| oneof.fields().len() > 1);
        let only = oneof.map(|oneof| {
            let names: Vec<String> = oneof.fields().map(|field| format!("`{}`", field.json_name())).collect();
            format!("At most one of {} is given.", names.join(", "))
        });
        let description: Vec<String> = [comment]
            .into_iter()
            .chain(only)
            .filter(|text| !text.is_empty())
            .collect();
        if !description.is_empty() {
            schema["description"] = description.join(" ").into();
        }
        schema
    }

    fn bounds(&self, field: &FieldDescriptor, comment: &str, way: Way) -> Map<String, Value> {
        let required = way == Way::InPath || is_required(comment);
        let kind = field.kind();
        if field.is_map() {
            return Map::new();
        } else if field.is_list() {
            return bounds(Bounded::List, comment, required);
        } else if kind == Kind::String {
            let found = bounds(Bounded::Text, comment, required);
            let id = self.ids.get(field.name()).filter(|_| found.is_empty());
            return id.map_or(found, |comment| bounds(Bounded::Text, comment, required));
        } else if kind == Kind::Int64 && field.name().ends_with("_id") {
            // Ids of the server's are positive.
            let mut found = Map::new();
            found.insert("minimum".to_owned(), i32::from(required).into());
            if way == Way::In {
                let digits = if required {
                    "^[1-9][0-9]{0,17}$"
                } else {
                    "^[0-9]{1,18}$"
                };
                found.insert("pattern".to_owned(), digits.into());
            }
            return found;
        }
        if [Kind::Int32, Kind::Uint32, Kind::Int64, Kind::Uint64].contains(&kind) {
            return bounds(Bounded::Number, comment, required);
        }
        Map::new()
    }

    fn kind(&mut self, kind: &Kind, way: Way) -> Value {
        match kind {
            Kind::Message(message) => self.message(message, way),
            Kind::Enum(descriptor) => self.enumerated(descriptor),
            Kind::Bool => json!({"type": "boolean"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "format": "byte"}),
            Kind::Double => json!({"type": "number", "format": "double"}),
            Kind::Float => json!({"type": "number", "format": "float"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({"type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": i32::MAX})
            }
            Kind::Uint32 | Kind::Fixed32 => {
                json!({"type": "integer", "format": "uint32", "minimum": 0, "maximum": u32::MAX})
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => long(way, "int64", "^-?[0-9]{1,18}$"),
            Kind::Uint64 | Kind::Fixed64 => long(way, "uint64", "^[0-9]{1,19}$"),
        }
    }

    fn enumerated(&mut self, descriptor: &EnumDescriptor) -> Value {
        let name = descriptor.full_name();
        let name = name
            .strip_prefix(descriptor.package_name())
            .unwrap_or(name)
            .trim_start_matches('.');
        let comments = self.comments;
        self.refer(name, || {
            let file = descriptor.parent_file();
            let about = comments.at(&file, descriptor.path());
            let values = descriptor.values().map(|value| {
                let comment = comments.at(&file, value.path());
                format!("- `{}`: {}", value.name(), comment.replace("\n\n", " "))
            });
            let values: Vec<String> = values.collect();
            let names: Vec<String> = descriptor.values().map(|value| value.name().to_owned()).collect();
            json!({"type": "string", "enum": names, "description": format!("{about}\n\n{}", values.join("\n"))})
        })
    }
}

/// Whether a field is an id that a caller gives.
fn is_id(field: &FieldDescriptor) -> bool {
    field.name().ends_with("_id") && matches!(field.kind(), Kind::String) && !field.is_list()
}

/// A 64-bit number, which is a text in answers.
fn long(way: Way, format: &str, pattern: &str) -> Value {
    match way {
        Way::In => json!({"type": ["string", "integer"], "format": format, "pattern": pattern}),
        Way::InPath | Way::InQuery => json!({"type": "integer", "format": format}),
        Way::Out => json!({"type": "string", "format": format, "pattern": "^-?[0-9]+$"}),
    }
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The schema of a message that has a JSON form of its own.
fn own_form(message: &MessageDescriptor, way: Way) -> Option<Value> {
    Some(match message.full_name() {
        "google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
        "google.protobuf.Duration" => {
            json!({"type": "string", "pattern": "^-?[0-9]{1,11}(\\.[0-9]{1,9})?s$", "examples": ["3600s"]})
        }
        "google.protobuf.FieldMask" => json!({"type": "string", "examples": ["displayName,timeZone"]}),
        "google.protobuf.Struct" => json!({"type": "object"}),
        "google.protobuf.ListValue" => json!({"type": "array"}),
        "google.protobuf.Value" => json!({}),
        "google.protobuf.Any" => json!({
            "type": "object", "properties": {"@type": {"type": "string"}}, "required": ["@type"],
        }),
        "google.protobuf.BoolValue" => json!({"type": "boolean"}),
        "google.protobuf.StringValue" => json!({"type": "string"}),
        "google.protobuf.BytesValue" => json!({"type": "string", "format": "byte"}),
        "google.protobuf.DoubleValue" | "google.protobuf.FloatValue" => json!({"type": "number"}),
        "google.protobuf.Int32Value" | "google.protobuf.UInt32Value" => json!({"type": "integer"}),
        "google.protobuf.Int64Value" => long(way, "int64", "^-?[0-9]{1,18}$"),
        "google.protobuf.UInt64Value" => long(way, "uint64", "^[0-9]{1,19}$"),
        _ => return None,
    })
}
