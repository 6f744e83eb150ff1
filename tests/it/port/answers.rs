//! Answers: how large they may be, how long they may take, and how long they count.

use campaign_automation::proto::campaign::v1 as pb;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use prost::bytes::Bytes;
use prost_types::value::Kind;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{in_time, nobody};
use crate::rest::ask_at;
use crate::support::given::customer;
use crate::support::{App, Backend};

/// What changes little of a customer that is stored.
fn scored(hundred: u32, n: u32) -> pb::Customer {
    pb::Customer {
        customer_id: format!("c{hundred}-{n}"),
        engagement_score: 7,
        ..Default::default()
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_an_error_that_names_the_limit() {
    let app = App::start(Backend::Sqlite).await;
    let text = |_| Some(Kind::StringValue("x".repeat(2000)));
    for hundred in 0..3 {
        let large = (0..100).map(|n| pb::Customer {
            attributes: Some(prost_types::Struct {
                fields: (0..7)
                    .map(|n| (format!("k{n}"), prost_types::Value { kind: text(n) }))
                    .collect(),
            }),
            ..customer(&format!("c{hundred}-{n}"), "")
        });
        let request = pb::UpsertCustomersRequest {
            customers: large.collect(),
            ..Default::default()
        };
        app.customers().upsert_customers(request).await.expect("stored");
    }
    // Lists are cut to what an answer has room for. What was written is answered whole.
    let mut client = app.customers().max_decoding_message_size(64 << 20);
    let mut score = async |hundreds| {
        let request = pb::UpsertCustomersRequest {
            customers: (0..hundreds)
                .flat_map(|hundred| (0..100).map(move |n| scored(hundred, n)))
                .collect(),
            ..Default::default()
        };
        let answer = client.upsert_customers(request).await;
        answer.map(|answer| answer.into_inner().results.len())
    };
    let status = score(3).await.expect_err("too large");
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert!(status.message().contains("4194304 bytes"), "{status:?}");
    assert_eq!(score(2).await.expect("customers"), 200, "the connection goes on");
    let scored: Vec<String> = (0..300)
        .map(|n| {
            format!(
                "{{\"customerId\": \"c{}-{}\", \"engagementScore\": 8}}",
                n / 100,
                n % 100
            )
        })
        .collect();
    let body = format!("{{\"customers\": [{}]}}", scored.join(","));
    let json = [("Content-Type", "application/json")];
    let answer = ask_at(app.server.addr(), "POST", "/api/v1/customers:upsert", &json, body).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("4194304 bytes"), "{}", answer.text());
    app.server.shutdown().await.expect("stopped");
}

/// A client whose answers have room for so many bytes, of which it reads none.
async fn slow_reader(app: &App, room: u32) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(app.server.addr()).await.expect("a connection");
    let mut builder = h2::client::Builder::new();
    let (client, connection) = builder
        .initial_window_size(room)
        .handshake(stream)
        .await
        .expect("HTTP/2");
    (client, tokio::spawn(connection))
}

fn begin(client: &mut SendRequest<Bytes>, method: &str, more: &[(&str, &str)]) -> (ResponseFuture, SendStream<Bytes>) {
    let mut head = http::Request::post(format!("http://localhost{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in more {
        head = head.header(*name, *value);
    }
    client
        .send_request(head.body(()).expect("a request"), false)
        .expect("sent")
}

#[tokio::test]
async fn a_call_takes_no_longer_than_the_servers_limit_whatever_its_caller_says() {
    let app = App::start_with(Backend::Sqlite, |config| {
        config.call_limit = Duration::from_millis(300);
    })
    .await;
    let (mut client, connection) = slow_reader(&app, 1).await;
    for timeout in [&[][..], &[("grpc-timeout", "1H")]] {
        // Its message does not come.
        let (response, body) = begin(&mut client, "/campaign.v1.CustomerService/GetCustomer", timeout);
        let response = in_time("a call", response).await.expect("a response");
        let status = Status::from_header_map(response.headers()).expect("a status");
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.as_str());
        assert_eq!(
            (status.code(), reason),
            (Code::DeadlineExceeded, Some("CALL_TOO_LONG")),
            "{timeout:?}"
        );
        assert!(status.message().contains("300"), "{status:?}");
        drop(body);
    }
    connection.abort();
    app.server.shutdown().await.expect("stopped");
}

async fn get(client: &mut SendRequest<Bytes>, path: &str) -> http::Response<RecvStream> {
    let head = http::Request::get(format!("http://localhost{path}")).body(());
    let (response, _) = client.send_request(head.expect("a request"), true).expect("sent");
    in_time("an answer", response).await.expect("an answer")
}

#[tokio::test]
async fn an_answer_counts_until_it_was_taken_and_what_is_no_answer_does_not() {
    let app = App::start_with(Backend::Sqlite, |config| config.listener.max_requests = 1).await;
    let called = async || app.customers().get_customer(nobody()).await.expect_err("nobody").code();
    let (mut client, connection) = slow_reader(&app, 0).await;
    let (response, conversation) = begin(
        &mut client,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        &[],
    );
    let reflection = in_time("a conversation", response).await.expect("a response");
    assert_eq!(called().await, Code::NotFound, "a conversation waits for its caller");
    let mut unread = vec![get(&mut client, "/api/v1/customers/nobody").await];
    assert_eq!((unread[0].status().as_u16(), called().await), (404, Code::NotFound));
    // Nor does a stranger keep the place of strangers.
    for _ in 0..2 {
        let page = get(&mut client, "/u/nothing").await;
        assert_eq!(page.status().as_u16(), 403);
        unread.push(page);
    }
    // An answer lies in memory until it has left, also where there is room for its beginning.
    let (mut other, another) = slow_reader(&app, 1).await;
    for client in [&mut client, &mut other] {
        let document = get(client, "/openapi.json").await;
        assert_eq!((document.status().as_u16(), called().await), (200, Code::Unavailable));
        drop(document);
        in_time("a place that becomes free", async {
            while called().await != Code::NotFound {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    drop((reflection, conversation, unread));
    connection.abort();
    another.abort();
    app.server.shutdown().await.expect("stopped");
}
