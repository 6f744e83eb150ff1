//! TLS: both protocols over it, whom it lets in, and what is wrong with its files.

use campaign_automation::config::Config;
use campaign_automation::proto::campaign::v1::customer_service_client::CustomerServiceClient;
use std::path::PathBuf;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tonic::Code;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use super::{Client, ask, ask_for, connect, nobody, until_closed};
use crate::support::certificates::{Authority, Files, Pair};
use crate::support::{App, Backend};

/// A server with this certificate, which asks for those of an authority.
async fn serve(files: &Files, pair: &Pair, clients: Option<&Authority>) -> App {
    let (certificate, key) = files.pair("server", pair);
    let clients = clients.map(|authority| files.write("clients.pem", &authority.pem));
    App::start_with(Backend::Sqlite, |config| set(config, certificate, key, clients)).await
}

fn set(config: &mut Config, certificate: PathBuf, key: PathBuf, clients: Option<PathBuf>) {
    config.listener.tls_cert_file = Some(certificate);
    config.listener.tls_key_file = Some(key);
    config.listener.tls_client_ca_file = clients;
}

#[tokio::test]
async fn rest_and_grpc_come_over_tls_and_nothing_else() {
    let (files, authority) = (Files::new(), Authority::new("ours"));
    let app = serve(&files, &authority.server(), None).await;
    let addr = app.server.addr();
    for versions in [&[&TLS12], &[&TLS13]] {
        for protocols in [&["http/1.1"][..], &["h2", "http/1.1"], &[]] {
            let client = Client {
                protocols,
                versions,
                ..Client::of(&authority)
            };
            let mut stream = client.connect(addr).await.expect("a connection");
            let spoken = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            assert_eq!(spoken.as_deref(), protocols.first().map(|name| name.as_bytes()));
            if protocols.first() != Some(&"h2") {
                assert_eq!(ask(&mut stream).await, Some(200), "{protocols:?}");
            }
        }
    }
    // The name of the service stands in no certificate of another authority.
    let other = Authority::new("another");
    let refused = Client::of(&other).connect(addr).await.expect_err("another authority");
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    let grpc = |authority: &Authority| {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&authority.pem));
        let endpoint = Endpoint::from_shared(format!("https://localhost:{}", addr.port())).expect("a URL");
        endpoint.tls_config(tls).expect("TLS").connect_lazy()
    };
    let found = CustomerServiceClient::new(grpc(&authority))
        .get_customer(nobody())
        .await;
    assert_eq!(found.expect_err("nobody").code(), Code::NotFound);
    let found = CustomerServiceClient::new(grpc(&other)).get_customer(nobody()).await;
    assert_eq!(found.expect_err("no connection").code(), Code::Unavailable);
    // Without TLS there is no answer to anything.
    let mut plain = TcpStream::connect(addr).await.expect("a connection");
    assert_eq!(ask(&mut plain).await, None);
    // What a client says that knows TLS 1.1 and no later one: it is told that this version won't do (alert 70).
    let mut old = TcpStream::connect(addr).await.expect("a connection");
    let extensions = [0, 8, 0, 13, 0, 4, 0, 2, 4, 3];
    let hello = [&[3, 2][..], &[7; 32], &[0, 0, 2, 0xc0, 0x13, 1, 0], &extensions].concat();
    let length = u8::try_from(hello.len()).expect("a length");
    let record = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &hello].concat();
    old.write_all(&record).await.expect("written");
    let said = until_closed(&mut old).await;
    assert_eq!((said.first(), said.last()), (Some(&21), Some(&70)), "{said:?}");
    app.server.shutdown().await.expect("stopped");
}

#[tokio::test]
async fn callers_show_a_certificate_of_the_right_authority_that_is_in_force() {
    let (files, authority, callers) = (Files::new(), Authority::new("ours"), Authority::new("callers"));
    let app = serve(&files, &authority.server(), Some(&callers)).await;
    let uri = "spiffe://example.com/crm";
    let (good, expired) = (callers.client_until(uri, 4000), callers.client_until(uri, 2026));
    let foreign = Authority::new("callers").client_until(uri, 4000);
    let stolen = callers.server();
    let client = Client::of(&authority);
    for versions in [&[&TLS12], &[&TLS13]] {
        for (what, shown, is_let_in) in [
            ("a good one", Some(&good), true),
            ("none", None, false),
            ("an expired one", Some(&expired), false),
            ("one of another authority", Some(&foreign), false),
            ("one for servers", Some(&stolen), false),
        ] {
            let client = Client {
                shows: shown,
                versions,
                ..client.clone()
            };
            // With TLS 1.3 a client thinks that it is connected before the server has looked.
            let answered = match client.connect(app.server.addr()).await {
                Ok(mut stream) => ask(&mut stream).await,
                Err(_) => None,
            };
            assert_eq!(answered, is_let_in.then_some(200), "{what}");
        }
    }
    // It is the server's clock that counts, also for those who take up where they were.
    let brief = callers.client_until(uri, 2027);
    for (versions, now) in [([&TLS12], "2026-01-05T12:00:00Z"), ([&TLS13], "2026-01-06T12:00:00Z")] {
        app.set(now);
        let client = Client {
            shows: Some(&brief),
            versions: &versions,
            ..client.clone()
        };
        let config = client.config();
        let mut first = connect(config.clone(), app.server.addr()).await.expect("a connection");
        assert_eq!(ask(&mut first).await, Some(200));
        app.set("2027-01-02T00:00:00Z");
        let again = match connect(config, app.server.addr()).await {
            Ok(mut stream) => ask(&mut stream).await,
            Err(_) => None,
        };
        assert_eq!(again, None, "{versions:?}");
    }
    app.server.shutdown().await.expect("stopped");
}

#[tokio::test]
async fn a_caller_is_known_by_his_certificate() {
    let (files, authority, callers) = (Files::new(), Authority::new("ours"), Authority::new("callers"));
    let (certificate, key) = files.pair("server", &authority.server());
    let clients = files.write("clients.pem", &callers.pem);
    let known = "callers:\n  - {name: crm, roles: [viewer], certificate: \"spiffe://example.com/crm\"}\n  - {name: ticks, roles: [scheduler], certificate: \"spiffe://example.com/ticks\"}\n";
    let known = files.write("callers.yaml", known);
    let app = App::start_with(Backend::Sqlite, |config| {
        set(config, certificate, key, Some(clients));
        config.auth.callers_file = Some(known);
    })
    .await;
    // There is no such customer; but only who may see customers is told so.
    for (uri, status) in [
        ("spiffe://example.com/crm", 404),
        ("spiffe://example.com/ticks", 403),
        ("spiffe://example.com/else", 401),
    ] {
        let shown = callers.client_until(uri, 4000);
        let client = Client::of(&authority).showing(&shown);
        let mut stream = client.connect(app.server.addr()).await.expect("a connection");
        let answered = ask_for(&mut stream, "/api/v1/customers/nobody").await;
        assert_eq!(answered, Some(status), "{uri}");
    }
    app.server.shutdown().await.expect("stopped");
}

/// What a server says that can't start with these files.
async fn refused(certificate: PathBuf, key: PathBuf, clients: Option<PathBuf>) -> String {
    let folder = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite://{}/campaign.db", folder.path().display());
    let url = campaign_automation::store::StoreUrl::parse(&url).expect("a URL");
    let mut config = Config::embedded(url, folder.path());
    set(&mut config, certificate, key, clients);
    let clock = campaign_automation::clock::ManualClock::new(crate::support::given::at("2026-01-05T12:00:00Z"));
    let random = campaign_automation::random::Random::from_seed(7);
    let started = campaign_automation::server::Server::start(config, std::sync::Arc::new(clock), random).await;
    format!("{:#}", started.expect_err("a server that does not start"))
}

#[tokio::test]
async fn files_that_are_no_use_are_named_at_the_start() {
    let (files, authority) = (Files::new(), Authority::new("ours"));
    let (good, other) = (authority.server(), authority.server());
    let (certificate, key) = files.pair("good", &good);
    let (_, other_key) = files.pair("other", &other);
    let (expired, expired_key) = files.pair("expired", &authority.server_until(2026));
    let locked = files.write(
        "locked.key",
        &good.key.replace("BEGIN PRIVATE", "BEGIN ENCRYPTED PRIVATE"),
    );
    let empty = files.write("empty.pem", "");
    let half = files.write("half.pem", &good.certificate[..200]);
    let missing = files.path("missing.pem");
    let cases: [(_, _, Option<&PathBuf>, &[&str]); 9] = [
        (&missing, &key, None, &["missing.pem can't be read"]),
        (
            &empty,
            &key,
            None,
            &["CAMPAIGN_TLS_CERT_FILE", "empty.pem", "no certificate"],
        ),
        (&half, &key, None, &["CAMPAIGN_TLS_CERT_FILE", "half.pem", "not PEM"]),
        (&certificate, &empty, None, &["CAMPAIGN_TLS_KEY_FILE", "no private key"]),
        (&certificate, &locked, None, &["CAMPAIGN_TLS_KEY_FILE", "passphrase"]),
        (
            &certificate,
            &other_key,
            None,
            &["other.key is not the key of", "good.pem"],
        ),
        (&expired, &expired_key, None, &["it expired at 2026-01-01T00:00:00Z"]),
        (
            &certificate,
            &key,
            Some(&empty),
            &["CAMPAIGN_TLS_CLIENT_CA_FILE", "no certificate"],
        ),
        (&certificate, &key, Some(&missing), &["missing.pem can't be read"]),
    ];
    for (certificate, key, clients, says) in cases {
        let text = refused(certificate.clone(), key.clone(), clients.cloned()).await;
        for words in says {
            assert!(text.contains(words), "{words:?} is not in: {text}");
        }
        let secret = good.key.lines().nth(1).expect("a key");
        assert!(!text.contains(secret), "{text}");
    }
}
