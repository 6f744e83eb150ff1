//! A text message provider over real TCP: a line for each message, and a line as an answer. It delivers what it is told, as often
//! as it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A provider. It stops when it is dropped.
pub(super) struct TextServer {
    addr: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    delivered: Mutex<Vec<String>>,
    is_stalled: watch::Sender<bool>,
    /// How many have not sent their line yet.
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

    /// Waits until somebody waits for an answer.
    pub(super) async fn until_stalled(&self) {
        let mut waiting = self.shared.waiting.subscribe();
        waiting.wait_for(|waiting| *waiting > 0).await.expect("a server");
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

    /// The keys of what was delivered, in order.
    pub(super) fn delivered(&self) -> Vec<String> {
        self.shared
            .delivered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Shared {
    fn note(&self, key: Option<String>) {
        self.delivered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(key);
    }
}

impl Drop for TextServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let read = stream.read_line(&mut line).await;
    let message: Option<serde_json::Value> = read.ok().and_then(|_| serde_json::from_str(&line).ok());
    let key = message.and_then(|message| Some(message["key"].as_str()?.to_owned()));
    shared.note(key.clone());
    shared.reading.send_modify(|reading| *reading -= 1);
    let Some(key) = key else {
        return;
    };
    shared.waiting.send_modify(|waiting| *waiting += 1);
    let mut is_stalled = shared.is_stalled.subscribe();
    let _ = is_stalled.wait_for(|is_stalled| !is_stalled).await;
    shared.waiting.send_modify(|waiting| *waiting -= 1);
    // Whoever was killed does not hear it.
    let _ = stream.write_all(format!("{key}\n").as_bytes()).await;
}
