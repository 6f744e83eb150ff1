//! What every call refuses, whichever it is: tokens that are not its own, and messages that are too large. The calls are those
//! of the descriptors, so that a new one is tried without a word here.

use prost::Message as _;
use prost_reflect::{DynamicMessage, MethodDescriptor, Value};
use tonic::Code;

use super::hostile::world;
use super::violated;
use crate::support::raw::methods;
use crate::support::{App, Backend, Rows, on_each_database};

on_each_database!(
    forged_tokens_are_refused_by_every_list,
    messages_of_5_mib_are_refused_by_every_call,
);

/// The methods that answer with pages.
fn lists() -> Vec<MethodDescriptor> {
    let is_list = |method: &MethodDescriptor| method.input().get_field_by_name("page_token").is_some();
    methods().into_iter().filter(is_list).collect()
}

/// A request for a page of Anna's, where a list is of one customer.
fn page(list: &MethodDescriptor, size: i32, token: &str) -> Vec<u8> {
    let mut request = DynamicMessage::new(list.input());
    if list.input().get_field_by_name("customer_id").is_some() {
        request.set_field_by_name("customer_id", Value::String("anna".to_owned()));
    }
    request.set_field_by_name("page_size", Value::I32(size));
    request.set_field_by_name("page_token", Value::String(token.to_owned()));
    request.encode_to_vec()
}

async fn forged_tokens_are_refused_by_every_list(backend: Backend) {
    let app = App::start(backend).await;
    world(&app).await;
    let lists = lists();
    let mut tokens = Vec::new();
    for list in &lists {
        let answer = app.call(list, page(list, 1, "")).await.expect("a page");
        let answer = DynamicMessage::decode(list.output(), answer[0].as_slice()).expect("a page");
        let token = answer.get_field_by_name("next_page_token").expect("a token");
        let token = token.as_str().expect("a text").to_owned();
        assert!(token.len() > 11, "{}: {token:?}", list.name());
        tokens.push(token);
    }
    assert!(lists.len() >= 7, "{lists:?}");
    for (at, list) in lists.iter().enumerate() {
        let own = &tokens[at];
        app.call(list, page(list, i32::MAX, own)).await.expect("the next page");
        let mut forged = tokens.clone();
        forged.remove(at);
        // Each end of it; without its checksum, with that of nothing; changed, longer, twice.
        forged.extend((1..own.len()).map(|length| own[..length].to_owned()));
        forged.extend([own[11..].to_owned(), format!("AAAAAAAAAAA{}", &own[11..])]);
        for at in 0..own.len() {
            let other = if own.as_bytes()[at] == b'A' { "B" } else { "A" };
            let changed = format!("{}{other}{}", &own[..at], &own[at + 1..]);
            // The last character may have bits that stand for nothing, and must be 0.
            forged.push(changed);
        }
        forged.extend([format!("{own}A"), format!("{own}="), format!(" {own}"), own.repeat(2)]);
        forged.extend(["\0", "null", "é", "../../"].map(str::to_owned));
        forged.push("A".repeat(4_000_000));
        for token in forged {
            let shown: String = token.chars().take(40).collect();
            let what = format!("{}: {shown:?}", list.name());
            violated(&what, app.call(list, page(list, 1, &token)).await, &["page_token"]);
        }
        let answer = app.call(list, page(list, i32::MIN, "x")).await;
        violated(list.name(), answer, &["page_size", "page_token"]);
    }
    app.server.shutdown().await.expect("stopped");
}

async fn messages_of_5_mib_are_refused_by_every_call(backend: Backend) {
    let app = App::start(backend).await;
    world(&app).await;
    let rows = Rows::of(&app, backend).await;
    let before = rows.all().await;
    for method in methods() {
        // A field that nobody knows, which is skipped where it is not too long.
        let mut request = vec![0xf2, 0x07];
        let length = 5 * 1024 * 1024;
        prost::encode_length_delimiter(length, &mut request).expect("room");
        request.resize(request.len() + length, b'x');
        let status = app.call(&method, request).await.expect_err("refused");
        assert_eq!(status.code(), Code::OutOfRange, "{}: {status:?}", method.name());
    }
    assert_eq!(rows.all().await, before);
    app.server.shutdown().await.expect("stopped");
}
