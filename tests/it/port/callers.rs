//! Who asks too much, and who calls the server by a name that is not its own.

use campaign_automation::auth::digest_of;
use campaign_automation::channels::WebhookSecrets;
use campaign_automation::config::Config;
use campaign_automation::domain::Rate;
use http::HeaderMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use super::{answer, in_time, nobody};
use crate::support::{App, Backend};

/// The reason of a refusal, and after how many milliseconds to call again.
fn refusal(status: &Status) -> (Code, String, Option<u128>) {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    let wait = details.retry_info().and_then(|info| info.retry_delay);
    (status.code(), reason, wait.map(|wait| wait.as_millis()))
}

async fn call(app: &App) -> (Code, String, Option<u128>) {
    let found = app.customers().get_customer(nobody()).await;
    refusal(&found.expect_err("nobody"))
}

/// The status, the head and the body of an answer over HTTP/1.1.
async fn get(app: &App, host: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(app.server.addr()).await.expect("a connection");
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut read = String::new();
    stream.read_to_string(&mut read).await.expect("an answer");
    let status = read.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), read.to_lowercase())
}

#[tokio::test]
async fn who_calls_too_often_is_told_when_to_come_again() {
    let rate = |config: &mut Config| config.listener.caller_rate = Rate::parse("4/s").ok();
    let app = App::start_with(Backend::Sqlite, rate).await;
    let found = (Code::NotFound, "CUSTOMER_NOT_FOUND".to_owned(), None);
    for _ in 0..4 {
        assert_eq!(call(&app).await, found);
    }
    let often = (Code::ResourceExhausted, "CALLER_TOO_OFTEN".to_owned(), Some(250));
    assert_eq!(call(&app).await, often);
    // Whichever way he comes; but what is no method of the contract is anybody's.
    let path = "/api/v1/customers/nobody";
    let (status, text) = get(&app, "localhost", path).await;
    assert_eq!(status, 429, "{text}");
    assert!(
        text.contains("retry-after: 1\r\n") && text.contains("caller_too_often"),
        "{text}"
    );
    for path in ["/openapi.json", "/u/x"] {
        assert_ne!(get(&app, "localhost", path).await.0, 429);
    }
    let health = HealthClient::new(app.channel())
        .check(HealthCheckRequest::default())
        .await;
    health.expect("a status");
    app.clock.advance(chrono::Duration::milliseconds(250));
    assert_eq!(call(&app).await, found);
    assert_eq!(call(&app).await, often);
    app.clock.advance(chrono::Duration::seconds(60));
    for _ in 0..3 {
        assert_eq!(call(&app).await, found);
    }
    assert_eq!(get(&app, "localhost", path).await.0, 404);
    assert_eq!(call(&app).await, often);
    app.server.shutdown().await.expect("stopped");
}

/// Asks for a customer with a token, if there is one.
async fn status_with(addr: std::net::SocketAddr, token: &str) -> u16 {
    let mut stream = TcpStream::connect(addr).await.expect("a connection");
    let head = format!("GET /api/v1/customers/nobody HTTP/1.1\r\nHost: localhost\r\n{token}Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("written");
    answer(&mut stream).await.expect("an answer")
}

#[tokio::test]
async fn each_caller_has_a_rate_of_his_own_and_those_whom_nobody_knows_have_one_by_address() {
    let folder = tempfile::tempdir().expect("a folder");
    let entry = |name: &str| {
        format!(
            "  - {{name: {name}, roles: [viewer], token_sha256: {}}}\n",
            digest_of(name)
        )
    };
    let callers = folder.path().join("callers.yaml");
    std::fs::write(&callers, format!("callers:\n{}{}", entry("crm"), entry("web"))).expect("written");
    let app = App::start_with(Backend::Sqlite, |config| {
        config.listener.caller_rate = Rate::parse("2/s").ok();
        config.auth.callers_file = Some(callers);
    })
    .await;
    let token = |name: &str| format!("Authorization: Bearer {name}\r\n");
    for (who, status) in [
        (token("crm"), 404),
        (token("web"), 404),
        (token("guessed"), 401),
        (String::new(), 429),
    ] {
        let first = status_with(app.server.addr(), &who).await;
        let more = [(); 2].map(|()| status_with(app.server.addr(), &who));
        let more = futures::future::join_all(more).await;
        // Who guesses, and who shows nothing, are one.
        let expected = if status == 401 || status == 404 {
            (status, 1)
        } else {
            (429, 2)
        };
        let often = more.iter().filter(|status| **status == 429).count();
        assert_eq!((first, often), expected, "{who:?}: {more:?}");
    }
    app.server.shutdown().await.expect("stopped");
}

#[tokio::test]
async fn what_is_too_much_at_a_time_is_refused_at_once_but_for_ticks_and_health() {
    let most = |config: &mut Config| config.listener.max_requests = 1;
    let app = App::start_with(Backend::Sqlite, most).await;
    // A call whose body does not come keeps the only place.
    let mut slow = TcpStream::connect(app.server.addr()).await.expect("a connection");
    let head = "POST /api/v1/customers:upsert HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.expect("written");
    let busy = (Code::Unavailable, "SERVER_BUSY".to_owned(), Some(1000));
    in_time("a call that takes a place", async {
        while call(&app).await != busy {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (status, text) = get(&app, "localhost", "/api/v1/customers/nobody").await;
    assert_eq!(status, 503, "{text}");
    assert!(
        text.contains("retry-after: 1\r\n") && text.contains("server_busy"),
        "{text}"
    );
    let health = HealthClient::new(app.channel())
        .check(HealthCheckRequest::default())
        .await;
    health.expect("a status");
    app.hourly().await;
    app.daily().await;
    for tick in ["process", "advance"] {
        let mut stream = TcpStream::connect(app.server.addr()).await.expect("a connection");
        let head = format!("POST /api/v1/ticks:{tick} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("written");
        let mut read = String::new();
        stream.read_to_string(&mut read).await.expect("an answer");
        assert!(read.starts_with("HTTP/1.1 200"), "{read}");
    }
    // The rest of the body frees it.
    slow.write_all(b"}").await.expect("written");
    assert_eq!(answer(&mut slow).await, Some(400));
    let found = (Code::NotFound, "CUSTOMER_NOT_FOUND".to_owned(), None);
    assert_eq!(call(&app).await, found);
    app.server.shutdown().await.expect("stopped");
}

/// Calls a method by gRPC under the name of a host.
async fn call_at(app: &App, host: &str) -> Status {
    let stream = TcpStream::connect(app.server.addr()).await.expect("a connection");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let head = http::Request::post(format!("http://{host}/campaign.v1.CustomerService/GetCustomer"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a request");
    let (response, mut body) = client.send_request(head, false).expect("sent");
    // It may be refused before it is read.
    let _ = body.send_data(vec![0; 5].into(), true);
    let (head, mut body) = in_time("a call", response).await.expect("a response").into_parts();
    while in_time("a call", body.data()).await.is_some() {}
    let trailers: Option<HeaderMap> = body.trailers().await.expect("trailers");
    connection.abort();
    Status::from_header_map(&trailers.unwrap_or(head.headers)).expect("a status")
}

#[tokio::test]
async fn a_page_can_not_come_by_a_name_of_its_own() {
    let named = |config: &mut Config| config.listener.allowed_host = vec!["campaigns.local".parse().expect("a host")];
    let app = App::start_with(Backend::Sqlite, named).await;
    let port = app.server.addr().port();
    let path = "/api/v1/customers/nobody";
    for host in ["localhost", "127.0.0.1", "[::1]", "campaigns.local", "CAMPAIGNS.LOCAL"] {
        for host in [host.to_owned(), format!("{host}:{port}")] {
            assert_eq!(get(&app, &host, path).await.0, 404, "{host}");
            assert_eq!(call_at(&app, &host).await.code(), Code::InvalidArgument, "{host}");
        }
    }
    for host in [
        "evil.example.com",
        "localhost.evil.example.com",
        "10.0.0.1",
        "sub.campaigns.local",
    ] {
        for host in [host.to_owned(), format!("{host}:{port}")] {
            for path in [path, "/openapi.json", "/campaign.v1.CustomerService/GetCustomer"] {
                let (status, text) = get(&app, &host, path).await;
                assert_eq!(status, 403, "{host}{path}: {text}");
                assert!(
                    text.contains("host_not_allowed") && text.contains("--allowed-host"),
                    "{text}"
                );
            }
            let refused = refusal(&call_at(&app, &host).await);
            assert_eq!(
                (refused.0, refused.1.as_str()),
                (Code::PermissionDenied, "HOST_NOT_ALLOWED")
            );
        }
    }
    // Links of mails are anybody's: a proxy hands them on under the name by which recipients know it.
    let (_, text) = get(&app, "mail.example.com", "/u/x").await;
    assert!(text.contains("this link is not known"), "{text}");
    // Where everybody may call, under whatever name, it is not asked for.
    let public = |config: &mut Config| {
        config.insecure_public = true;
        config.listen = ([0, 0, 0, 0], 0).into();
    };
    let (open, _) = app.server_on(&app.database.url, public).await;
    let mut stream = TcpStream::connect(("127.0.0.1", open.addr().port()))
        .await
        .expect("a connection");
    let head = format!("GET {path} HTTP/1.1\r\nHost: campaigns\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("written");
    assert_eq!(answer(&mut stream).await, Some(404));
    open.shutdown().await.expect("stopped");
    app.server.shutdown().await.expect("stopped");
}

#[tokio::test]
async fn well_known_paths_are_not_there() {
    let app = App::start(Backend::Sqlite).await;
    for path in [
        "/.well-known/security.txt",
        "/.well-known/acme-challenge/x.y",
        "/favicon.ico",
    ] {
        let (status, text) = get(&app, "localhost", path).await;
        assert_eq!(status, 404, "{path}: {text}");
        assert!(text.contains("path_not_found"), "{path}: {text}");
    }
    tokio::time::timeout(Duration::from_secs(30), app.server.shutdown())
        .await
        .expect("an end")
        .expect("stopped");
}

/// What strangers hold up, here a callback whose body does not come, is not in the way of callers.
#[tokio::test]
async fn strangers_have_places_of_their_own() {
    let few = |config: &mut Config| {
        config.listener.max_requests = 8;
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        config.feedback.events_secret = Some(WebhookSecrets::parse(secret).expect("a secret"));
    };
    let app = App::start_with(Backend::Sqlite, few).await;
    let now = campaign_automation::clock::Clock::now(&*app.clock).timestamp();
    let mut slow = TcpStream::connect(app.server.addr()).await.expect("a connection");
    let head = format!(
        "POST /callbacks/events HTTP/1.1\r\nHost: localhost\r\nwebhook-id: a\r\nwebhook-timestamp: {now}\r\n\
         webhook-signature: v1,AAAA\r\nContent-Length: 2\r\n\r\n{{"
    );
    slow.write_all(head.as_bytes()).await.expect("written");
    // One of eight is theirs.
    in_time("a callback that takes the place of strangers", async {
        while get(&app, "localhost", "/u/nothing").await.0 != 503 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let found = (Code::NotFound, "CUSTOMER_NOT_FOUND".to_owned(), None);
    assert_eq!(call(&app).await, found);
    let (_, metrics) = get(&app, "localhost", "/metrics").await;
    let refused = metrics
        .lines()
        .find(|line| line.starts_with("campaign_calls_refused_total{") && line.contains("server_busy"));
    assert!(refused.is_some_and(|line| !line.ends_with(" 0")), "{refused:?}");
    slow.write_all(b"}").await.expect("written");
    assert_eq!(answer(&mut slow).await, Some(403));
    assert_eq!(get(&app, "localhost", "/u/nothing").await.0, 403);
    app.server.shutdown().await.expect("stopped");
}
