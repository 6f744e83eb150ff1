//! REST: the original system's endpoints as they were, every method both ways, and what is refused.

mod asked;
mod browsers;
mod forms;
mod hostile;
mod parity;

use campaign_automation::proto::campaign::v1 as pb;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::given::{definition, email};
use crate::support::{App, Backend, on_each_database};

on_each_database!(the_original_endpoints_work_as_they_were_written);

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// What a server answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header's value; empty when it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.head.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The detail of an error with this type.
    pub(crate) fn detail(&self, name: &str) -> Value {
        let json = self.json();
        let mut details = json["details"].as_array().expect("details").iter();
        let kind = format!("type.googleapis.com/google.rpc.{name}");
        let found = details.find(|detail| detail["@type"] == kind.as_str());
        found.cloned().unwrap_or_default()
    }

    /// The fields that were refused.
    fn fields(&self) -> Vec<String> {
        let violations = self.detail("BadRequest")["fieldViolations"].clone();
        let fields = violations.as_array().cloned().unwrap_or_default();
        let mut fields: Vec<String> = fields
            .iter()
            .map(|it| it["field"].as_str().expect("a field").to_owned())
            .collect();
        fields.sort_unstable();
        fields
    }
}

/// Asks a server by HTTP/1.1, on a connection of its own. The path is sent as it is.
async fn ask(app: &App, method: &str, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
    ask_at(app.server.addr(), method, path, headers, body).await
}

/// The same of a server at an address.
pub(crate) async fn ask_at(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Answer {
    let mut stream = TcpStream::connect(addr).await.expect("a connection");
    let body = body.as_ref();
    let headers = headers.iter().flat_map(|(name, value)| [*name, ": ", *value, "\r\n"]);
    let headers: String = headers.collect();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    // A server that refuses the head may close before it has read the body.
    let _ = stream.write_all(&[head.as_bytes(), body].concat()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_lowercase(), value.trim().to_owned()))
    };
    let mut answer = Answer {
        status: status.expect("a status"),
        head: head.lines().skip(1).filter_map(header).collect(),
        body: answer[end + 4..].to_vec(),
    };
    if answer.header("transfer-encoding") == "chunked" {
        answer.body = joined(&answer.body);
    }
    answer
}

/// A body that came in chunks.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunks.windows(2).position(|two| two == b"\r\n") {
        let length = std::str::from_utf8(&chunks[..end]).expect("a length");
        let length = usize::from_str_radix(length, 16).expect("a length");
        body.extend_from_slice(&chunks[end + 2..end + 2 + length]);
        chunks = &chunks[end + 4 + length..];
        if length == 0 {
            break;
        }
    }
    body
}

async fn get(app: &App, path: &str) -> Answer {
    ask(app, "GET", path, &[], "").await
}

async fn post(app: &App, path: &str, body: &str) -> Answer {
    ask(app, "POST", path, &[JSON], body).await
}

/// As the original system's documentation has them, byte by byte but for the customer's id.
async fn the_original_endpoints_work_as_they_were_written(backend: Backend) {
    let app = App::start(backend).await;
    app.customer("anna", "Europe/Berlin").await;
    let timeline = app
        .timeline(definition("plan", 90, vec![email(1, 0, "HOOK-001")]))
        .await;
    assert_eq!(timeline.timeline_id, 1);

    let body = "{\n    \"timeline_id\": 1\n}\n";
    let started = post(&app, "/api/v1/customers/anna/timelines", body).await;
    assert_eq!(
        (started.status, started.header("content-type")),
        (200, "application/json")
    );
    let run = started.json()["progress"].clone();
    let id = run["progressId"].as_str().expect("an id").to_owned();
    assert_eq!(run["customerId"], "anna");
    assert_eq!(run["timelineId"], "1", "64-bit numbers are texts");
    assert_eq!(
        (&run["status"], &run["currentDay"]),
        (&json!("PROGRESS_STATUS_ACTIVE"), &json!(1))
    );
    assert_eq!(run["startTime"], "2026-01-05T12:00:00Z");
    assert_eq!(
        run["completedActions"],
        json!([]),
        "fields with their default are there"
    );

    let shown = get(&app, "/api/v1/customers/anna/timeline-progress").await;
    assert_eq!((shown.status, &shown.json()["progress"]), (200, &run));

    let path = format!("/api/v1/customers/anna/timeline-progress/{id}/pause");
    let paused = ask(&app, "POST", &path, &[], "").await;
    assert_eq!(paused.status, 200, "{}", paused.text());
    assert_eq!(paused.json()["progress"]["status"], "PROGRESS_STATUS_PAUSED");
    assert_eq!(app.progress("anna").await.status(), pb::ProgressStatus::Paused);

    let again = post(&app, &path, "{}").await;
    assert_eq!(
        (again.status, &again.json()["code"]),
        (400, &json!(9)),
        "FAILED_PRECONDITION"
    );
    assert_eq!(again.detail("ErrorInfo")["reason"], "RUN_NOT_ACTIVE");
    app.server.shutdown().await.expect("stopped");
}
