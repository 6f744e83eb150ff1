//! Connections: how many there may be, how long they may say nothing, and how old they get.

use campaign_automation::config::Config;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tonic::Code;

use super::{Client, answer, ask, in_time, nobody, until_closed};
use crate::support::certificates::{Authority, Files};
use crate::support::{App, Backend};

async fn connect(app: &App) -> TcpStream {
    TcpStream::connect(app.server.addr()).await.expect("a connection")
}

#[tokio::test]
async fn connections_beyond_the_most_are_closed_and_those_that_are_there_go_on() {
    let app = App::start_with(Backend::Sqlite, |config| {
        config.listener.max_connections = 3;
        config.listener.max_connections_per_address = Some(0);
    })
    .await;
    let mut there = Vec::new();
    // One is the app's own.
    for _ in 0..2 {
        let mut stream = connect(&app).await;
        assert_eq!(ask(&mut stream).await, Some(200));
        there.push(stream);
    }
    for _ in 0..3 {
        assert_eq!(ask(&mut connect(&app).await).await, None);
    }
    for stream in &mut there {
        assert_eq!(ask(stream).await, Some(200));
    }
    let found = app.customers().get_customer(nobody()).await;
    assert_eq!(found.expect_err("nobody").code(), Code::NotFound);
    there.pop();
    in_time("a place that becomes free", async {
        while ask(&mut connect(&app).await).await.is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    app.server.shutdown().await.expect("stopped");
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let limits = |config: &mut Config| {
        config.listener.greeting_limit = Duration::from_millis(300);
        config.listener.head_limit = Duration::from_millis(300);
    };
    let app = App::start_with(Backend::Sqlite, limits).await;
    // Nothing, half of what HTTP/2 begins with, half a head, and nothing more after an answer.
    for (said, ends_with_answer) in [
        ("", false),
        ("PRI * HTTP/2.0\r\n", false),
        ("GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n", false),
        ("GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n", true),
    ] {
        let mut stream = connect(&app).await;
        stream.write_all(said.as_bytes()).await.expect("written");
        let heard = until_closed(&mut stream).await;
        assert_eq!(heard.starts_with(b"HTTP/1.1 200"), ends_with_answer, "{said:?}");
    }
    // A caller over HTTP/2 may be quiet between calls: this connection is older than those were.
    let found = app.customers().get_customer(nobody()).await;
    assert_eq!(found.expect_err("nobody").code(), Code::NotFound);
    app.server.shutdown().await.expect("stopped");
}

#[tokio::test]
async fn slow_handshakes_hold_up_nobody_and_end() {
    let (files, authority) = (Files::new(), Authority::new("ours"));
    let (certificate, key) = files.pair("server", &authority.server());
    let app = App::start_with(Backend::Sqlite, |config| {
        config.listener.tls_cert_file = Some(certificate);
        config.listener.tls_key_file = Some(key);
        config.listener.max_connections = 40;
        config.listener.max_connections_per_address = Some(0);
        config.listener.greeting_limit = Duration::from_secs(3);
    })
    .await;
    let mut mute = Vec::new();
    for _ in 0..9 {
        mute.push(connect(&app).await);
    }
    let mut stream = Client::of(&authority)
        .connect(app.server.addr())
        .await
        .expect("a connection");
    assert_eq!(ask(&mut stream).await, Some(200));
    // A quarter of the connections may be such; one more is closed at once.
    mute.push(connect(&app).await);
    let late = Client::of(&authority).connect(app.server.addr()).await;
    assert!(late.is_err(), "one new connection too many");
    assert_eq!(ask(&mut stream).await, Some(200));
    for mut stream in mute {
        assert_eq!(until_closed(&mut stream).await, b"");
    }
    let mut stream = Client::of(&authority)
        .connect(app.server.addr())
        .await
        .expect("a connection");
    assert_eq!(ask(&mut stream).await, Some(200));
    app.server.shutdown().await.expect("stopped");
}

#[tokio::test]
async fn an_old_connection_ends_with_what_is_under_way_on_it() {
    let app = App::start_with(Backend::Sqlite, |config| {
        config.listener.connection_age = Duration::from_millis(200);
    })
    .await;
    let (mut client, connection) = h2::client::handshake(connect(&app).await).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let head = http::Request::post(format!("http://{}/api/v1/customers:upsert", app.server.addr()));
    let head = head
        .header("content-type", "application/json")
        .body(())
        .expect("a request");
    let (response, mut body) = client.send_request(head, false).expect("sent");
    body.send_data("{".into(), false).expect("half a body");
    in_time("a connection that gets old", async {
        while client.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    body.send_data("}".into(), true).expect("the rest of it");
    let response = in_time("a call", response).await.expect("an answer");
    assert_ne!(response.status(), 200, "an empty request");
    assert!(response.status().is_client_error(), "{response:?}");
    drop((client, body, response));
    in_time("the connection", connection)
        .await
        .expect("a task")
        .expect("a good end");
    // Over HTTP/1 the next answer says that it is the last, or the connection is closed while nothing is asked.
    let mut idle = connect(&app).await;
    assert_eq!(ask(&mut idle).await, Some(200));
    assert_eq!(until_closed(&mut idle).await, b"");
    // Callers come again by themselves.
    let found = app.customers().get_customer(nobody()).await;
    assert_eq!(found.expect_err("nobody").code(), Code::NotFound);
    app.server.shutdown().await.expect("stopped");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let app = App::start(Backend::Sqlite).await;
    for (length, status) in [(8 * 1024, 200), (17 * 1024, 431)] {
        let mut stream = connect(&app).await;
        let head = format!(
            "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
            "x".repeat(length)
        );
        stream.write_all(head.as_bytes()).await.expect("written");
        assert_eq!(answer(&mut stream).await, Some(status), "{length}");
    }
    app.server.shutdown().await.expect("stopped");
}
