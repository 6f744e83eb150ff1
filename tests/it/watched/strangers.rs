//! Traces of strangers: nobody who is not known decides what is traced, or puts anything into the traces of others.

use campaign_automation::auth::digest_of;
use campaign_automation::proto::campaign::v1 as pb;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::collector::hex;
use super::program::{Program, World};
use super::scrape::ask;
use crate::support::Backend;

/// What a stranger sends.
const STRANGE: &str = "5ad7651916cd43dd8448eb211c80319c";
const STRANGE_PARENT: &str = "00-5ad7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// What a caller sends.
const KNOWN: &str = "6bf92f3577b34da6a3ce929d0e0e4736";
const KNOWN_PARENT: &str = "00-6bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

const GET: &str = "campaign.v1.CustomerService/GetCustomer";
const PATH: &str = "/api/v1/customers/nobody";

fn traced<T>(message: T, parent: &str, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("traceparent", parent.parse().expect("ASCII"));
    if !token.is_empty() {
        metadata.insert("authorization", format!("Bearer {token}").parse().expect("ASCII"));
    }
    request
}

async fn call(program: &Program, parent: &str, token: &str) -> Code {
    let nobody = pb::GetCustomerRequest {
        customer_id: "nobody".to_owned(),
    };
    let found = program.customers().get_customer(traced(nobody, parent, token)).await;
    found.expect_err("nobody").code()
}

async fn check(program: &Program, parent: &str) {
    let checked = traced(HealthCheckRequest::default(), parent, "");
    let mut client = HealthClient::new(program.channel());
    client.check(checked).await.expect("a status");
}

/// Asks by HTTP; `more`: further headers, each with its CR LF.
async fn get(program: &Program, path: &str, parent: &str, more: &str) -> u16 {
    let headers = format!("traceparent: {parent}\r\n{more}");
    ask(program.addr, "GET", path, &headers, "").await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_is_known_says_what_is_traced() {
    let world = World::start(Backend::Sqlite).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("callers.yaml");
    let callers = format!(
        "callers:\n  - {{name: crm, roles: [viewer], token_sha256: {}}}\n",
        digest_of("good")
    );
    std::fs::write(&file, callers).expect("written");
    let program = world
        .serve(&[("CAMPAIGN_CALLERS_FILE", file.to_str().expect("a path"))])
        .await;
    for token in ["", "guessed"] {
        assert_eq!(call(&program, STRANGE_PARENT, token).await, Code::Unauthenticated);
    }
    check(&program, STRANGE_PARENT).await;
    for (path, status) in [
        (PATH, 401),
        ("/api/v1/nothing", 401),
        ("/nothing", 404),
        ("/healthz", 200),
        ("/u/x", 403),
    ] {
        assert_eq!(get(&program, path, STRANGE_PARENT, "").await, status, "{path}");
    }
    assert_eq!(call(&program, KNOWN_PARENT, "good").await, Code::NotFound);
    let bearer = "Authorization: Bearer good\r\n";
    assert_eq!(get(&program, PATH, KNOWN_PARENT, bearer).await, 404);
    let request = "GET /api/v1/customers/{customer_id}";
    let spans = world.collector.until(KNOWN, &[GET, request]).await;
    let of_request = spans.iter().find(|span| span.name == request).expect("a span");
    assert_eq!(
        (hex(&of_request.parent_span_id).as_str(), of_request.kind()),
        ("00f067aa0ba902b7", SpanKind::Server)
    );
    // The call that the request stands for, and the one that came as it is.
    let mut parents: Vec<String> = spans
        .iter()
        .filter(|span| span.name == GET)
        .map(|span| hex(&span.parent_span_id))
        .collect();
    parents.sort_unstable();
    let mut expected = [hex(&of_request.span_id), "00f067aa0ba902b7".to_owned()];
    expected.sort_unstable();
    assert_eq!(parents, expected);
    // What is to be pushed was, when it has ended.
    program.stop();
    assert_eq!(world.collector.trace(STRANGE), []);
    assert_eq!(world.collector.count(), 3, "{:?}", world.collector.texts());
}

/// Where nobody is asked, everybody is a caller; but links of mails and reports of providers are strangers' all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_of_mails_are_strangers_also_where_nobody_is_asked() {
    let world = World::start(Backend::Sqlite).await;
    let program = world.serve(&[]).await;
    for path in ["/u/x", "/o/x", "/c/x", "/callbacks/events"] {
        get(&program, path, STRANGE_PARENT, "").await;
    }
    assert_eq!(call(&program, KNOWN_PARENT, "").await, Code::NotFound);
    world.collector.until(KNOWN, &[GET]).await;
    program.stop();
    assert_eq!(world.collector.trace(STRANGE), []);
}
