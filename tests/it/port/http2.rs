//! Limits of HTTP/2: streams, heads, resets, and peers who are not there any more.

use std::time::Duration;
use tokio::net::TcpStream;

use super::frames::{
    ACK, CANCEL, END_STREAM, ENHANCE_YOUR_CALM, Frames, GOAWAY, HEADERS, PING, REFUSED_STREAM, RST_STREAM, SETTINGS,
    frame, headers, reset,
};
use super::in_time;
use crate::support::{App, Backend};

/// The setting that says how many streams there may be at a time.
const MAX_CONCURRENT_STREAMS: u16 = 3;

/// The ids of the streams of a client.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|n| 2 * n + 1)
}

#[tokio::test]
async fn a_connection_has_a_thousand_streams_and_one_more_is_refused() {
    let app = App::start_with(Backend::Sqlite, |config| config.listener.max_requests = 5000).await;
    // Bodies that don't come.
    let path = "/api/v1/customers:upsert";
    let open: Vec<u8> = streams(1001)
        .flat_map(|stream| headers(stream, path, false, &[]))
        .collect();
    let mut frames = Frames::begin(app.server.addr(), &open).await;
    let settings = frames.next_of(&[SETTINGS]).await;
    let mut told = settings.payload.chunks(6).map(|one| one.split_at(2));
    let most = told.find(|(id, _)| *id == MAX_CONCURRENT_STREAMS.to_be_bytes());
    assert_eq!(most.map(|(_, value)| value), Some(&1000_u32.to_be_bytes()[..]));
    let refused = frames.next_of(&[RST_STREAM, HEADERS, GOAWAY]).await;
    assert_eq!(
        (refused.kind, refused.stream, refused.number(0)),
        (RST_STREAM, 2001, REFUSED_STREAM)
    );
    // When one ends, there is room for another.
    let next = [reset(1, CANCEL), headers(2003, "/healthz", true, &[])].concat();
    frames.say(&next).await;
    let answered = frames.next_of(&[RST_STREAM, HEADERS, GOAWAY]).await;
    assert_eq!((answered.kind, answered.stream), (HEADERS, 2003));
    app.server.shutdown().await.expect("stopped");
}

#[tokio::test]
async fn a_list_of_headers_that_is_too_large_is_refused() {
    let app = App::start(Backend::Sqlite).await;
    let stream = TcpStream::connect(app.server.addr()).await.expect("a connection");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    for (length, status) in [(8 * 1024, 200), (17 * 1024, 431), (8 * 1024, 200)] {
        let head = http::Request::get("http://localhost/openapi.json").header("x", "x".repeat(length));
        let (response, _) = client
            .send_request(head.body(()).expect("a request"), true)
            .expect("sent");
        let response = in_time("an answer", response).await.expect("an answer");
        assert_eq!(response.status(), status, "{length}");
    }
    connection.abort();
    app.server.shutdown().await.expect("stopped");
}

/// What becomes of a connection on which all of this is said at once, and then a ping: the reason of its end, or none, as it goes on.
async fn end_after(app: &App, said: Vec<u8>) -> Option<u32> {
    let said = [said, frame(PING, 0, 0, b"anybody?")].concat();
    let mut frames = Frames::begin(app.server.addr(), &said).await;
    loop {
        let next = frames.next_of(&[PING, GOAWAY]).await;
        match next.kind {
            GOAWAY => return Some(next.number(4)),
            _ if next.flags & ACK != 0 => return None,
            _ => {}
        }
    }
}

/// To reset at once costs a client nothing, and a server all that it has begun (CVE-2023-44487).
#[tokio::test]
async fn who_resets_what_he_asks_for_again_and_again_is_shown_out() {
    let app = App::start(Backend::Sqlite).await;
    let rapid = |count| {
        let asked = |stream| [headers(stream, "/healthz", true, &[]), reset(stream, CANCEL)].concat();
        streams(count).flat_map(asked).collect::<Vec<u8>>()
    };
    assert_eq!(end_after(&app, rapid(20)).await, None);
    assert_eq!(end_after(&app, rapid(21)).await, Some(ENHANCE_YOUR_CALM));
    app.server.shutdown().await.expect("stopped");
}

/// The same, where the client has the server do the resetting.
#[tokio::test]
async fn who_asks_wrongly_again_and_again_is_shown_out() {
    let app = App::start(Backend::Sqlite).await;
    // HTTP/2 has no such header, so the stream is reset.
    let wrong = |count| {
        let asked = |stream| headers(stream, "/healthz", true, &[("connection", "close")]);
        streams(count).flat_map(asked).collect::<Vec<u8>>()
    };
    assert_eq!(end_after(&app, wrong(1024)).await, None);
    assert_eq!(end_after(&app, wrong(1025)).await, Some(ENHANCE_YOUR_CALM));
    app.server.shutdown().await.expect("stopped");
}

#[tokio::test]
async fn who_is_not_there_any_more_is_not_kept() {
    let app = App::start_with(Backend::Sqlite, |config| {
        config.listener.keepalive = Duration::from_secs(2);
    })
    .await;
    let stream = TcpStream::connect(app.server.addr()).await.expect("a connection");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    // It has asked something, and then answers no ping.
    let mut mute = Frames::begin(app.server.addr(), &headers(1, "/healthz", true, &[])).await;
    let mut was_asked = false;
    while let Some(next) = mute.next().await {
        was_asked |= next.kind == PING && next.flags & ACK == 0;
        assert!(next.flags & END_STREAM == 0 || next.stream <= 1, "{next:?}");
    }
    assert!(was_asked, "it is asked before it is given up");
    // One that is as old, and answers, is kept, although nothing is asked on it.
    let mut client = in_time("a connection", client.ready())
        .await
        .expect("it is still there");
    let head = http::Request::get("http://localhost/healthz").body(());
    let (response, _) = client.send_request(head.expect("a request"), true).expect("sent");
    assert_eq!(in_time("an answer", response).await.expect("an answer").status(), 200);
    connection.abort();
    app.server.shutdown().await.expect("stopped");
}
