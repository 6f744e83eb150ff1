//! Every unary method both ways: two servers with the same world, one asked by gRPC and one by REST, say the same to each of many
//! requests, good ones and bad ones. A method that is new is tried as soon as it has a good request, and the test fails without.

use campaign_automation::proto::campaign::v1 as pb;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MethodDescriptor, SerializeOptions};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tonic::Status;

use super::asked::forms;
use super::{JSON, ask};
use crate::contract::{good_requests, world};
use crate::interactions::task;
use crate::support::given::definition;
use crate::support::raw::{method, methods};
use crate::support::{App, Backend, on_each_database};

on_each_database!(every_method_says_the_same_both_ways);

/// What gRPC answers, as REST should have it: the HTTP status and the JSON.
fn expected(method: &MethodDescriptor, answer: Result<Vec<Vec<u8>>, Status>) -> (u16, Value) {
    let status = match answer {
        Ok(messages) => {
            let message = DynamicMessage::decode(method.output(), messages[0].as_slice()).expect("a message");
            return (200, printed(&message, false));
        }
        Err(status) => status,
    };
    let pool = method.parent_pool();
    let outer = pool
        .get_message_by_name("google.rpc.Status")
        .expect("google.rpc.Status");
    let outer = DynamicMessage::decode(outer, status.details()).expect("details");
    let mut json = printed(&outer, true);
    if json.get("details").is_none() {
        json["details"] = json!([]);
    }
    // The table of google.rpc.Code.
    let http = match i32::from(status.code()) {
        3 | 9 | 11 => 400,
        5 => 404,
        6 | 10 => 409,
        8 => 429,
        14 => 503,
        code => panic!("{}: {code}: {status:?}", method.name()),
    };
    (http, json)
}

fn printed(message: &DynamicMessage, skip_default_fields: bool) -> Value {
    let options = SerializeOptions::new().skip_default_fields(skip_default_fields);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .expect("JSON")
}

/// A request of nothing but what its path needs.
fn bare(method: &MethodDescriptor) -> DynamicMessage {
    let json = r#"{"customerId": "nobody", "progressId": 999, "timelineId": 999, "campaignId": "NONE", "suppressionId": 999,
        "pipelineStage": "none"}"#;
    let all: Value = serde_json::from_str(json).expect("JSON");
    let names: BTreeSet<String> = method
        .input()
        .fields()
        .map(|field| field.json_name().to_owned())
        .collect();
    let known = all
        .as_object()
        .expect("an object")
        .clone()
        .into_iter()
        .filter(|(name, _)| names.contains(name));
    // Of `timelineId` and `slug`, say, one at most is given.
    let known: serde_json::Map<String, Value> = known.collect();
    DynamicMessage::deserialize(method.input(), Value::Object(known)).expect("a request")
}

/// Asks the one server by gRPC and the other by REST, in each form that the request has. Gives the HTTP status that both mean.
async fn say_the_same(by_grpc: &App, by_rest: &App, method: &MethodDescriptor, request: &DynamicMessage) -> u16 {
    let answer = by_grpc.call(method, request.encode_to_vec()).await;
    let (status, json) = expected(method, answer);
    let forms = forms(method, request);
    assert!(!forms.is_empty(), "{}: {request:?} has no form", method.name());
    for asked in forms {
        let headers = if asked.body.is_empty() { &[][..] } else { &[JSON][..] };
        let answer = ask(by_rest, &asked.http, &asked.path, headers, &asked.body).await;
        let what = format!("{}: {asked:?}: {}", method.name(), answer.text());
        assert_eq!((answer.status, answer.json()), (status, json.clone()), "{what}");
    }
    status
}

async fn every_method_says_the_same_both_ways(backend: Backend) {
    let (by_grpc, by_rest) = (App::start(backend).await, App::start(backend).await);
    for app in [&by_grpc, &by_rest] {
        world(app).await;
        app.timeline(definition("tasks", 5, vec![task("call", 0, 48)])).await;
        app.customer("dora", "").await;
    }
    let unary: Vec<MethodDescriptor> = methods()
        .into_iter()
        .filter(|method| !method.is_server_streaming())
        .collect();
    for method in &unary {
        say_the_same(&by_grpc, &by_rest, method, &bare(method)).await;
    }
    let start = pb::StartTimelineRequest {
        customer_id: "dora".to_owned(),
        timeline_id: 3,
        ..Default::default()
    };
    let report = pb::CompleteInteractionRequest {
        customer_id: "dora".to_owned(),
        progress_id: 4,
        action_key: "call".to_owned(),
        outcome: pb::TaskOutcome::Done.into(),
        ..Default::default()
    };
    let start = message("StartTimeline", &start);
    assert_eq!(say_the_same(&by_grpc, &by_rest, &start.0, &start.1).await, 200);
    by_grpc.hourly().await;
    by_rest.hourly().await;
    let more = [message("CompleteInteraction", &report)];
    let mut done = BTreeSet::from(["StartTimeline".to_owned()]);
    let requests = more.into_iter().chain(good_requests());
    for (method, request) in requests.filter(|(method, _)| !method.is_server_streaming()) {
        if say_the_same(&by_grpc, &by_rest, &method, &request).await == 200 {
            done.insert(method.name().to_owned());
        }
    }
    let all: BTreeSet<String> = unary.iter().map(|method| method.name().to_owned()).collect();
    assert_eq!(done, all, "each method is answered at least once");
    by_grpc.server.shutdown().await.expect("stopped");
    by_rest.server.shutdown().await.expect("stopped");
}

fn message(name: &str, request: &impl prost::Message) -> (MethodDescriptor, DynamicMessage) {
    let method = method(name);
    let request = DynamicMessage::decode(method.input(), request.encode_to_vec().as_slice());
    (method, request.expect("a request"))
}
