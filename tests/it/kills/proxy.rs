//! A TCP proxy that does to connections what networks do: it ends them with a reset, carries nothing more without a word, keeps
//! answers back, or is slow.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long a slow network takes to carry what came at once.
const SLOWLY: Duration = Duration::from_millis(10);

/// A proxy to one address. It stops when it is dropped.
pub(super) struct Proxy {
    addr: SocketAddr,
    weather: watch::Sender<Weather>,
    /// How many keep something back.
    keeping: watch::Sender<usize>,
    task: JoinHandle<()>,
}

/// What happens to all connections that there are. Those that come later are whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// They end with a reset, on both sides, wherever they stand.
    Reset,
    /// They carry nothing more, which nobody is told, as when a firewall has forgotten them.
    Silence,
}

/// How the network is.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    /// How often all connections were reset that there were.
    resets: u64,
    /// How often all connections fell silent that there were.
    silences: u64,
    /// What is kept back.
    kept: Option<Kept>,
    is_slow: bool,
}

/// What is kept back until it is let go, or lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// What clients say.
    Requests,
    /// What they are answered.
    Answers,
}

impl Proxy {
    /// A proxy to `target`, on a free port.
    pub(super) async fn to(target: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let weather = watch::Sender::new(Weather::default());
        let keeping = watch::Sender::new(0);
        let (of_task, keep) = (weather.clone(), keeping.clone());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target.clone(), of_task.subscribe(), keep.clone()));
            }
        });
        Self {
            addr,
            weather,
            keeping,
            task,
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What is kept back from now on.
    pub(super) fn keep(&self, kept: Option<Kept>) {
        self.weather.send_modify(|weather| weather.kept = kept);
    }

    /// Waits until something is kept back.
    pub(super) async fn until_kept(&self) {
        let mut keeping = self.keeping.subscribe();
        keeping.wait_for(|keeping| *keeping > 0).await.expect("a proxy");
    }

    /// Whether it takes its time.
    pub(super) fn slow(&self, is_slow: bool) {
        self.weather.send_modify(|weather| weather.is_slow = is_slow);
    }

    /// Breaks all connections that there are. What was kept back is lost.
    pub(super) fn fail(&self, fault: Fault) {
        self.weather.send_modify(|weather| match fault {
            Fault::Reset => weather.resets += 1,
            Fault::Silence => weather.silences += 1,
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    client: TcpStream,
    target: String,
    mut weather: watch::Receiver<Weather>,
    keeping: watch::Sender<usize>,
) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let began = *weather.borrow_and_update();
    // Ended is reset.
    for stream in [&client, &server] {
        stream.set_zero_linger().expect("a reset in place of an end");
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let there = Direction {
        weather: weather.clone(),
        began,
        kept: Kept::Requests,
        keeping,
    };
    let back = Direction {
        kept: Kept::Answers,
        ..there.clone()
    };
    tokio::select! {
        () = there.copy(from_client, to_server) => {}
        () = back.copy(from_server, to_client) => {}
        _ = weather.wait_for(|weather| weather.resets > began.resets) => {}
    }
}

/// One direction of a connection.
#[derive(Clone)]
struct Direction {
    weather: watch::Receiver<Weather>,
    /// As it was when the connection began.
    began: Weather,
    /// What goes this way.
    kept: Kept,
    /// How many keep something back.
    keeping: watch::Sender<usize>,
}

impl Direction {
    /// Copies until one side ends.
    async fn copy(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let Some(weather) = self.let_go().await else {
                return;
            };
            if weather.silences > self.began.silences {
                continue;
            }
            if weather.is_slow {
                tokio::time::sleep(SLOWLY).await;
            }
            if weather.resets > self.began.resets || to.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
        // Of an end nothing is heard either.
        if self.weather.borrow().silences > self.began.silences {
            let _ = self
                .weather
                .wait_for(|weather| weather.resets > self.began.resets)
                .await;
        }
    }

    /// Waits until what goes this way is let go, or lost.
    async fn let_go(&mut self) -> Option<Weather> {
        let (kept, began) = (self.kept, self.began);
        let is_free = |weather: &Weather| {
            weather.kept != Some(kept) || weather.resets > began.resets || weather.silences > began.silences
        };
        self.keeping.send_modify(|keeping| *keeping += 1);
        let let_go = self.weather.wait_for(is_free).await.map(|weather| *weather).ok();
        self.keeping.send_modify(|keeping| *keeping -= 1);
        let_go
    }
}
