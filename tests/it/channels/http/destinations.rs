//! With whom the client connects, and with whom it does not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use campaign_automation::channels::{Content, NameResolver, Outcome, Sender, WebhookSender};
use futures::future::BoxFuture;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, rustls};

use super::{client, client_with, secrets, url};
use crate::channels::{kind, message};
use crate::support::http::{Behaviour, HttpServer};

/// A name server that answers one thing after the other, and the last for ever.
#[derive(Debug)]
struct Answers {
    left: Mutex<Vec<&'static str>>,
    asked: Mutex<Vec<String>>,
}

impl Answers {
    fn new(answers: &[&'static str]) -> Arc<Self> {
        Arc::new(Self {
            left: Mutex::new(answers.to_vec()),
            asked: Mutex::new(Vec::new()),
        })
    }

    fn asked(&self) -> usize {
        self.asked.lock().expect("a lock").len()
    }
}

impl NameResolver for Answers {
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        self.asked.lock().expect("a lock").push(name);
        let mut left = self.left.lock().expect("a lock");
        let answer = if left.len() > 1 { left.remove(0) } else { left[0] };
        let addresses = answer
            .split_whitespace()
            .map(|address| address.parse().expect("an address"));
        let addresses = addresses.collect();
        Box::pin(async move { Ok(addresses) })
    }
}

/// A name server that never answers.
#[derive(Debug)]
struct Silent;

impl NameResolver for Silent {
    fn resolve(&self, _: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(std::future::pending())
    }
}

fn task() -> Content {
    Content::Task {
        title: "Call".to_owned(),
        text: String::new(),
    }
}

async fn sent(to: &str, resolver: Arc<Answers>, private: bool) -> Outcome {
    let client = client_with(Duration::from_secs(5), resolver, private);
    WebhookSender::new(client, url(to), secrets())
        .send(&message(task()))
        .await
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_followed() {
    let server = HttpServer::start().await;
    let to = format!("https://crm.example:{}/x", server.port());
    for answers in [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "10.0.0.1 127.0.0.1",
        "169.254.169.254",
        "64:ff9b::7f00:1",
        "0.0.0.0",
    ] {
        let resolver = Answers::new(&[answers]);
        let outcome = sent(&to, resolver, false).await;
        assert_eq!(kind(&outcome), "misconfigured", "{answers}: {outcome:?}");
    }
    // Nor with the flag, where it is nobody's, or unencrypted to where everybody is.
    let plain = format!("http://crm.example:{}/x", server.port());
    for (to, answer) in [
        (&to, "169.254.169.254"),
        (&to, "fe80::1"),
        (&to, "0.0.0.0"),
        (&plain, "169.254.169.254"),
        (&plain, "93.184.216.34"),
    ] {
        let outcome = sent(to, Answers::new(&[answer]), true).await;
        assert_eq!(kind(&outcome), "misconfigured", "{to} {answer}: {outcome:?}");
    }
    assert_eq!(server.connections(), 0);
}

/// A name whose answer changes between looking and connecting: it is looked up once for each connection, and what was looked at is what
/// is connected with.
#[tokio::test]
async fn an_answer_that_changes_changes_nothing() {
    let server = HttpServer::start().await;
    let to = format!("http://crm.example:{}/x", server.port());
    let resolver = Answers::new(&[
        "127.0.0.1",
        "169.254.169.254",
        "127.0.0.1 169.254.169.254",
        "93.184.216.34",
    ]);
    let client = client_with(Duration::from_secs(5), Arc::clone(&resolver) as _, true);
    let sender = WebhookSender::new(client, url(&to), secrets());
    for (expected, asked, requests) in [
        ("delivered", 1, 1),
        ("misconfigured", 2, 1),
        ("delivered", 3, 2),
        ("misconfigured", 4, 2),
    ] {
        let outcome = sender.send(&message(task())).await;
        assert_eq!(kind(&outcome), expected, "{outcome:?}");
        assert_eq!((resolver.asked(), server.requests().len()), (asked, requests));
        // The next needs another connection.
        server.hang_up().await;
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn addresses_in_urls_are_checked_as_names_are() {
    let server = HttpServer::start().await;
    let resolver = Answers::new(&["127.0.0.1"]);
    for host in [
        "127.0.0.1",
        "0x7f.1",
        "2130706433",
        "[::1]",
        "[::ffff:7f00:1]",
        "169.254.169.254",
        "[fe80::1]",
    ] {
        let outcome = sent(
            &format!("https://{host}:{}", server.port()),
            Arc::clone(&resolver),
            false,
        )
        .await;
        assert_eq!(kind(&outcome), "misconfigured", "{host}: {outcome:?}");
        let outcome = sent(
            &format!("http://{host}:{}", server.port()),
            Arc::clone(&resolver),
            false,
        )
        .await;
        assert_eq!(kind(&outcome), "misconfigured", "{host}: {outcome:?}");
    }
    assert_eq!((server.connections(), resolver.asked()), (0, 0));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (server, other) = (HttpServer::start().await, HttpServer::start().await);
    let elsewhere: &'static str = format!("location: http://{}/\r\n", other.address()).leak();
    let metadata = "location: http://169.254.169.254/latest/meta-data/\r\n";
    for status in [301, 302, 303, 307, 308] {
        for location in [metadata, elsewhere] {
            server.behave(Behaviour::Answer(status, location, String::new()));
            let sender = WebhookSender::new(client(), url(&format!("http://{}", server.address())), secrets());
            assert_eq!(kind(&sender.send(&message(task())).await), "misconfigured");
        }
    }
    assert_eq!((server.requests().len(), other.connections()), (10, 0));
}

#[tokio::test]
async fn what_is_not_there_is_tried_again() {
    let server = HttpServer::start().await;
    // No address.
    let outcome = sent("https://crm.example/x", Answers::new(&[""]), false).await;
    assert_eq!(kind(&outcome), "retry", "{outcome:?}");
    // No answer from the name server: time runs out before there is a connection, so nothing was sent.
    let client = client_with(Duration::from_millis(600), Arc::new(Silent), true);
    let sender = WebhookSender::new(client, url("https://crm.example/x"), secrets());
    let outcome = sender.send(&message(task())).await;
    assert_eq!(kind(&outcome), "retry", "{outcome:?}");
    // Nobody who speaks TLS.
    server.behave(Behaviour::Babble);
    let outcome = sent(&format!("https://{}/x", server.address()), Answers::new(&[""]), true).await;
    assert_eq!(kind(&outcome), "retry", "{outcome:?}");
    assert_eq!(server.requests(), []);
}

/// A certificate for 127.0.0.1 that nobody has signed but itself, and its key, which protects nothing.
const CERTIFICATE: &str = "MIIBmzCCAUGgAwIBAgIUHZjwtCwZJgI8UCC39LCHxgLiOnIwCgYIKoZIzj0EAwIwFDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzE3NDM0NFoYDzIx\
    MjYxMDMwMTc0MzQ0WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASoFjXycMV20ZkFLDTSxlEn6GFz0PkiDSsKkGAS\
    L8PDNq+6R4aOW41hvjs+Yi81IzB3BWfZ747aWwUwRZPRSRO7o28wbTAdBgNVHQ4EFgQUbFu6kkKhiuQpYxA2a10gBVlKdFwwHwYDVR0jBBgwFoAUbFu6kkKh\
    iuQpYxA2a10gBVlKdFwwDwYDVR0TAQH/BAUwAwEB/zAaBgNVHREEEzARhwR/AAABgglsb2NhbGhvc3QwCgYIKoZIzj0EAwIDSAAwRQIgH29MqoZd7212rHaI\
    BdHA2yNxAOn9Mc4LAkN7eVgMA84CIQCemciBXT0NGDMpCO3vQYHCtJVEU2w+cJgjGgYq8Ua6VQ==";
const KEY_OF_CERTIFICATE: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgWhGglUwk6QwaK2QWHWcd/0NWtIbnyVvWkabFBVch6OWhRANCAASoFjXycMV20ZkFLDTSxlEn\
    6GFz0PkiDSsKkGASL8PDNq+6R4aOW41hvjs+Yi81IzB3BWfZ747aWwUwRZPRSRO7";

#[tokio::test]
async fn who_can_not_prove_who_it_is_gets_nothing() {
    let decoded = |text: &str| STANDARD.decode(text).expect("base64");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(decoded(KEY_OF_CERTIFICATE));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![decoded(CERTIFICATE).into()], key.into())
        .expect("a certificate");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let came = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        match acceptor.accept(stream).await {
            Ok(mut stream) => stream.read_u8().await.is_ok(),
            Err(_) => false,
        }
    });
    let outcome = sent(&format!("https://127.0.0.1:{port}/x"), Answers::new(&[""]), true).await;
    let Outcome::Misconfigured { error } = &outcome else {
        panic!("{outcome:?}")
    };
    assert!(error.contains("certificate"), "{error}");
    assert!(!came.await.expect("the server's end"), "the request was sent");
}
