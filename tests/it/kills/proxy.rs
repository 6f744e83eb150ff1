//! A TCP proxy that can break all connections at once, and lose answers, as a network does.

use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A proxy to one address. It stops when it is dropped.
pub(super) struct Proxy {
    addr: SocketAddr,
    broken: watch::Sender<u64>,
    is_mute: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy to `target`, on a free port.
    pub(super) async fn to(target: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let broken = watch::Sender::new(0);
        let is_mute = watch::Sender::new(false);
        let (of_task, mute) = (broken.clone(), is_mute.clone());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target.clone(), of_task.subscribe(), mute.subscribe()));
            }
        });
        Self {
            addr,
            broken,
            is_mute,
            task,
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether it carries what clients say, and keeps what they are answered.
    pub(super) fn mute(&self, is_mute: bool) {
        self.is_mute.send_replace(is_mute);
    }

    /// Resets all connections that there are, on both sides, wherever they stand.
    pub(super) fn break_all(&self) {
        self.broken.send_modify(|times| *times += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, target: String, mut broken: watch::Receiver<u64>, is_mute: watch::Receiver<bool>) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    // Ended is reset.
    for stream in [&client, &server] {
        stream.set_zero_linger().expect("a reset in place of an end");
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let always = watch::Sender::new(false);
    let (one, other) = (broken.clone(), broken.clone());
    tokio::select! {
        () = copy(from_client, to_server, always.subscribe(), one) => {}
        () = copy(from_server, to_client, is_mute, other) => {}
        _ = broken.changed() => {}
    }
}

/// Copies until one side ends, and waits while it is mute. What was kept when the connection broke is lost.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut is_mute: watch::Receiver<bool>,
    broken: watch::Receiver<u64>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let is_heard = is_mute.wait_for(|is_mute| !is_mute).await.is_ok();
        // Whoever breaks connections does so before it lets others be heard again.
        let is_whole = broken.has_changed().is_ok_and(|has_changed| !has_changed);
        if !is_heard || !is_whole || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
