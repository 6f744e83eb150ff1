//! A provider over real TCP that speaks HTTP/1.1, does as it is told, and remembers what it was asked, byte by byte.
//!
//! How it behaves can be changed at any moment, for everybody or by what is in a request. Nothing sleeps: a stalled request waits
//! until its client hangs up or the provider is dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::canaries;

/// What the provider does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Answers with a status, more headers (each with its CR LF) and a body.
    Answer(u16, &'static str, String),
    /// Closes the connection as soon as it is there.
    CloseAtOnce,
    /// Reads the request and closes the connection.
    CloseUnanswered,
    /// Answers with this status, and closes the connection in the middle of the body.
    CloseInBody(u16),
    /// Answers with this status, says no more and keeps the connection.
    StallInBody(u16),
    /// Answers with this status and a body without end.
    Endless(u16),
    /// Reads the request and answers nothing.
    Stall,
    /// Answers what is no HTTP.
    Babble,
}

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// All up to the empty line, as it came.
    pub head: String,
    /// What followed.
    pub body: String,
    /// The number of the connection it came on, from 1.
    pub connection: usize,
}

impl Request {
    /// A header's value; empty when it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value)
    }

    /// The path and query.
    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// A parameter of a form; empty when it is missing.
    pub(crate) fn parameter(&self, name: &str) -> String {
        let mut pairs = form_urlencoded::parse(self.body.as_bytes());
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
            .unwrap_or_default()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

/// A provider. It stops when it is dropped.
#[derive(Debug)]
pub(crate) struct HttpServer {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Goes up to close the connections.
    hung_up: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    /// What it does with requests that have this in their bodies.
    special: Vec<(String, Behaviour)>,
    requests: Vec<Request>,
    connections: usize,
    open: usize,
    /// Whether it answers as Twilio does, each time with another id.
    as_twilio: bool,
}

impl HttpServer {
    /// Starts a provider on a free port of 127.0.0.1 that answers 204.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                behaviour: Behaviour::Answer(204, "", String::new()),
                special: Vec::new(),
                requests: Vec::new(),
                connections: 0,
                open: 0,
                as_twilio: false,
            }),
            hung_up: watch::Sender::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { port, shared, task }
    }

    /// Starts a provider that takes over what it is asked, as Twilio does: the n-th request gets the id of [`sid`].
    pub(crate) async fn twilio() -> Self {
        let server = Self::start().await;
        server.shared.state().as_twilio = true;
        server
    }

    /// Host and port.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Changes what it does from now on.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        let mut state = self.shared.state();
        state.behaviour = behaviour;
        state.as_twilio = false;
    }

    /// Answers from now on with a status and a body.
    pub(crate) fn answer(&self, status: u16, body: &str) {
        self.behave(Behaviour::Answer(status, "", body.to_owned()));
    }

    /// Changes what it does with requests that have this in their bodies.
    pub(crate) fn behave_to(&self, part: &str, behaviour: Behaviour) {
        self.shared.state().special.push((part.to_owned(), behaviour));
    }

    /// Takes over from now on what it is asked, as Twilio does.
    pub(crate) fn accept_all(&self) {
        let mut state = self.shared.state();
        state.special.clear();
        state.as_twilio = true;
    }

    /// The requests that came whole, in order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.shared.state().connections
    }

    /// Closes all connections, as servers do with idle ones, and waits until they are closed.
    pub(crate) async fn hang_up(&self) {
        self.shared.hung_up.send_modify(|count| *count += 1);
        while self.shared.state().open > 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// The id that the n-th request to a Twilio gets, from 1.
pub(crate) fn sid(prefix: &str, number: usize) -> String {
    format!("{prefix}{number:032x}")
}

/// An error as Twilio writes it.
pub(crate) fn twilio_error(status: u16, code: u32, message: &str) -> Behaviour {
    let error = serde_json::json!({
        "code": code,
        "message": message,
        "more_info": format!("https://www.twilio.com/docs/errors/{code}"),
        "status": status,
    });
    Behaviour::Answer(status, "", error.to_string())
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.hung_up.send_modify(|count| *count += 1);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let mut hung_up = shared.hung_up.subscribe();
        let number = {
            let mut state = shared.state();
            state.connections += 1;
            state.open += 1;
            state.connections
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            tokio::select! {
                _ = serve(&mut stream, &shared, number) => {}
                _ = hung_up.changed() => {}
            }
            drop(stream);
            shared.state().open -= 1;
        });
    }
}

/// Serves one connection; none when it is over.
async fn serve(stream: &mut BufReader<TcpStream>, shared: &Shared, connection: usize) -> Option<()> {
    loop {
        if shared.state().behaviour == Behaviour::CloseAtOnce {
            return None;
        }
        let head = head(stream).await?;
        let mut request = Request {
            head,
            body: String::new(),
            connection,
        };
        let mut body = vec![0; request.header("content-length").parse().unwrap_or(0)];
        stream.read_exact(&mut body).await.ok()?;
        request.body = String::from_utf8(body).expect("UTF-8");
        // URLs get into the logs of whoever they pass by.
        canaries::look("the URL of a request", request.path());
        let behaviour = {
            let mut state = shared.state();
            state.requests.push(request.clone());
            let special = state
                .special
                .iter()
                .find(|(part, _)| request.body.contains(part.as_str()));
            match special {
                Some((_, behaviour)) => behaviour.clone(),
                None if state.as_twilio => taken_over(&request, state.requests.len()),
                None => state.behaviour.clone(),
            }
        };
        match behaviour {
            Behaviour::Answer(status, headers, body) => {
                let length = body.len();
                let answer = format!("HTTP/1.1 {status} whatever\r\n{headers}content-length: {length}\r\n\r\n{body}");
                // 204 and 304 have no body, and so no length.
                let answer = match status {
                    204 | 304 => format!("HTTP/1.1 {status} whatever\r\n{headers}\r\n"),
                    _ => answer,
                };
                write(stream, answer.as_bytes()).await?;
            }
            Behaviour::CloseAtOnce | Behaviour::CloseUnanswered => return None,
            Behaviour::CloseInBody(status) => {
                write(
                    stream,
                    format!("HTTP/1.1 {status} x\r\ncontent-length: 100\r\n\r\n{{\"sid\"").as_bytes(),
                )
                .await?;
                return None;
            }
            Behaviour::StallInBody(status) => {
                write(
                    stream,
                    format!("HTTP/1.1 {status} x\r\ncontent-length: 100\r\n\r\n{{\"sid\"").as_bytes(),
                )
                .await?;
                std::future::pending::<()>().await;
            }
            Behaviour::Endless(status) => {
                write(
                    stream,
                    format!("HTTP/1.1 {status} x\r\ntransfer-encoding: chunked\r\n\r\n").as_bytes(),
                )
                .await?;
                loop {
                    write(stream, format!("1000\r\n{}\r\n", "x".repeat(0x1000)).as_bytes()).await?;
                }
            }
            Behaviour::Stall => std::future::pending().await,
            Behaviour::Babble => {
                write(stream, b"220 mail.example.com ESMTP\r\n\r\n").await?;
                return None;
            }
        }
    }
}

/// What Twilio answers to what it takes over.
fn taken_over(request: &Request, number: usize) -> Behaviour {
    let prefix = if request.path().ends_with("/Calls.json") {
        "CA"
    } else {
        "SM"
    };
    let taken = serde_json::json!({
        "sid": sid(prefix, number),
        "status": "queued",
        "to": request.parameter("To"),
        "num_segments": "1",
        "price": null,
        "error_code": null,
        "error_message": null,
        "date_created": "Mon, 05 Jan 2026 12:00:00 +0000",
    });
    Behaviour::Answer(201, "content-type: application/json\r\n", taken.to_string())
}

async fn write(stream: &mut BufReader<TcpStream>, bytes: &[u8]) -> Option<()> {
    stream.get_mut().write_all(bytes).await.ok()
}

/// The head of a request, up to the empty line.
async fn head(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).expect("UTF-8"))
}
