//! A gateway for text messages over real HTTP: a request for each message, on a connection of its own. It has no memory for what it
//! was told before, as most providers have none, so what is sent twice is delivered twice.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::history::Arrival;

/// A provider. It stops when it is dropped.
pub(super) struct TextServer {
    addr: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    delivered: Mutex<Vec<Arrival>>,
    is_stalled: watch::Sender<bool>,
    /// How many have not sent their request yet.
    reading: watch::Sender<usize>,
    /// How many wait for an answer.
    waiting: watch::Sender<usize>,
}

impl TextServer {
    /// A provider on a free port.
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            delivered: Mutex::default(),
            is_stalled: watch::Sender::new(false),
            reading: watch::Sender::new(0),
            waiting: watch::Sender::new(0),
        });
        let of_task = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                of_task.reading.send_modify(|reading| *reading += 1);
                tokio::spawn(serve(stream, Arc::clone(&of_task)));
            }
        });
        Self { addr, shared, task }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether it answers nobody.
    pub(super) fn stall(&self, is_stalled: bool) {
        self.shared.is_stalled.send_replace(is_stalled);
    }

    /// Waits until so many wait for an answer.
    pub(super) async fn until_stalled(&self, count: usize) {
        let mut waiting = self.shared.waiting.subscribe();
        waiting.wait_for(|waiting| *waiting >= count).await.expect("a server");
    }

    /// Waits until all that came is read.
    pub(super) async fn until_read(&self) {
        // Whoever connected before is accepted before this is.
        let mut stream = TcpStream::connect(self.addr).await.expect("a connection");
        let _ = stream.shutdown().await;
        let _ = BufReader::new(stream).read_line(&mut String::new()).await;
        let mut reading = self.shared.reading.subscribe();
        reading.wait_for(|reading| *reading == 0).await.expect("a server");
    }

    /// What was delivered after the first `count`, in order.
    pub(super) fn delivered_after(&self, count: usize) -> Vec<Arrival> {
        self.shared.delivered.lock().unwrap_or_else(PoisonError::into_inner)[count..].to_vec()
    }
}

impl Shared {
    fn note(&self, arrival: Option<Arrival>) {
        self.delivered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(arrival);
    }
}

impl Drop for TextServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    let message = read(&mut stream).await;
    let arrival = message.and_then(|message| Arrival::of_text(&message));
    shared.note(arrival.clone());
    shared.reading.send_modify(|reading| *reading -= 1);
    let Some(Arrival { id: key, .. }) = arrival else {
        return;
    };
    shared.waiting.send_modify(|waiting| *waiting += 1);
    let mut is_stalled = shared.is_stalled.subscribe();
    let _ = is_stalled.wait_for(|is_stalled| !is_stalled).await;
    shared.waiting.send_modify(|waiting| *waiting -= 1);
    // Whoever was killed does not hear it.
    let body = serde_json::json!({"id": key}).to_string();
    let length = body.len();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    let _ = stream.write_all(answer.as_bytes()).await;
}

/// The message of a request; none: it did not come whole.
async fn read(stream: &mut BufReader<TcpStream>) -> Option<serde_json::Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        if let Some(given) = line.to_lowercase().strip_prefix("content-length:") {
            length = given.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    serde_json::from_slice(&body).ok()
}
