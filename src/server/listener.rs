//! The port: accepts connections, encrypts them where that is configured, and serves HTTP/1.1 and HTTP/2 on each.
//!
//! Nobody who connects holds up another: whatever may take its time is done in the connection's own task and within a limit. There is
//! a bound on how many there are, in all and from one address, and how many of them have yet to say something; an error of accepting
//! neither ends nor spins the loop.

mod connection;
mod greeting;
mod places;
mod rarely;

use http::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::body::Body;
use tower::util::BoxCloneSyncService;

use crate::config::Config;
use crate::random::Random;
use crate::reload::Reloader;
use crate::server::tls::Tls;
use crate::telemetry::{Metrics, NoConnection};
use connection::Connections;
use places::{Full, Places};
use rarely::Rarely;

pub(super) use connection::Ending;

/// What answers requests.
pub(super) type Answers = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The most requests that one connection may have open.
const MAX_STREAMS: u32 = 1000;

/// The largest head of a request, in bytes.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// The most streams of a connection that its client reset and that are still known (CVE-2023-44487, "rapid reset"), and the most that were
/// reset here because of what the client did. One more ends the connection. These are h2's own defaults, which must not change
/// behind our back.
const MAX_RESET_STREAMS: usize = 20;
const MAX_ERROR_STREAMS: usize = 1024;

/// How long nothing is accepted after the machine had no room for another connection.
const PAUSE: Duration = Duration::from_millis(200);

/// How much longer than the longest call a connection goes on that was asked to end.
const AGE_MARGIN: Duration = Duration::from_secs(30);

/// The part of all connections that may be new, and not have said who they are yet: one in so many. So with those of one address.
const NEW_SHARE: usize = 4;

/// What a listener needs to know.
#[derive(Debug)]
pub(super) struct ListenerSettings {
    /// TLS, which follows its files; none: there is none.
    pub(super) tls: Option<Reloader<Tls>>,
    /// What the two limits of connections are set by, for the log.
    pub(super) flags: [&'static str; 2],
    /// The most connections.
    pub(super) max_connections: usize,
    /// The most of one address; none: all.
    pub(super) max_each: Option<usize>,
    /// How long a connection may take until it is encrypted, or has begun to ask something.
    pub(super) greeting_limit: Duration,
    /// How long the head of an HTTP/1 request may take.
    pub(super) head_limit: Duration,
    /// How often an idle connection of HTTP/2 is asked whether anybody is there, and how long the answer may take.
    pub(super) keepalive: Duration,
    /// After how long a connection is asked to end, more or less.
    pub(super) age: Duration,
    /// How long it may then go on.
    pub(super) age_grace: Duration,
    /// Where it is counted who is not let in.
    pub(super) metrics: Metrics,
}

impl ListenerSettings {
    /// As they are configured.
    pub(super) fn of(config: &Config, tls: Option<Reloader<Tls>>, metrics: Metrics) -> Self {
        let limits = &config.listener;
        Self {
            tls,
            flags: ["--max-connections", "--max-connections-per-address"],
            max_connections: limits.max_connections,
            max_each: limits.most_per_address(),
            greeting_limit: limits.greeting_limit,
            head_limit: limits.head_limit,
            keepalive: limits.keepalive,
            age: limits.connection_age,
            // What is under way may end.
            age_grace: config.tick_limit.max(config.call_limit) + AGE_MARGIN,
            metrics,
        }
    }

    /// Those of the listener for who watches, which few do, and not for long.
    pub(super) fn of_monitor(config: &Config, metrics: Metrics) -> Self {
        let most = config.monitor.max_connections;
        Self {
            flags: ["--monitor-listen"; 2],
            max_connections: most,
            max_each: Some(most.div_ceil(2)),
            age_grace: AGE_MARGIN,
            ..Self::of(config, None, metrics)
        }
    }
}

/// Serves until it is told to stop, and then until all connections have ended. When this is dropped they end at once.
pub(super) async fn serve(
    listener: TcpListener,
    mut settings: ListenerSettings,
    answers: Answers,
    stopping: CancellationToken,
) {
    let tls = settings.tls.take();
    let current = tls.as_ref().map(Reloader::subscribe);
    let _follows = tls.map(|tls| AbortOnDropHandle::new(tokio::spawn(tls.keep_looking())));
    let (tracker, ended) = (TaskTracker::new(), CancellationToken::new());
    // The tasks of connections are nobody's: this ends them.
    let _ends_all = ended.clone().drop_guard();
    let places = Places::new(settings.max_connections, settings.max_each);
    let share = |most: usize| (most / NEW_SHARE).max(1);
    let connections = Arc::new(Connections {
        http: http(&settings),
        new_places: Places::new(share(settings.max_connections), settings.max_each.map(share)),
        failures: Rarely::default(),
        tls: current,
        settings,
        answers,
        random: Random::from_os(),
        stopping: stopping.clone(),
        ended,
    });
    let (full, troubled) = (Rarely::default(), Rarely::default());
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, addr) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_connection(&error) => continue,
            Err(error) => {
                troubled.warn(|times| format!("no connection can be accepted, {times} times by now: {error}"));
                tokio::select! {
                    () = stopping.cancelled() => break,
                    () = tokio::time::sleep(PAUSE) => continue,
                }
            }
        };
        let place = match places.take(addr.ip()) {
            Ok(place) => place,
            Err(why) => {
                refuse(why, addr, &connections.settings, &full);
                continue;
            }
        };
        // Only a socket that is broken already says no.
        let _ = stream.set_nodelay(true);
        let connections = Arc::clone(&connections);
        tracker.spawn(async move {
            connections.serve(stream, addr).await;
            drop(place);
        });
    }
    drop(listener);
    tracker.close();
    tracker.wait().await;
}

/// Counts a connection that is closed at once, and says so now and then.
fn refuse(why: Full, addr: SocketAddr, settings: &ListenerSettings, full: &Rarely) {
    let (most, [flag, each_flag]) = (settings.max_connections, settings.flags);
    let (counted, what) = match why {
        Full::All => (
            NoConnection::ServerFull,
            format!("there are {most} connections, the most there may be ({flag})"),
        ),
        Full::Address => (
            NoConnection::AddressFull,
            format!(
                "{} has as many connections as one address may have ({each_flag})",
                addr.ip()
            ),
        ),
    };
    settings.metrics.not_connected(counted);
    full.warn(|times| format!("{what}: {times} were closed by now"));
}

/// Whether an error of accepting is about one connection, and none of the machine.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    [ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted].contains(&error.kind())
}

fn http(settings: &ListenerSettings) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.head_limit)
        .max_buf_size(MAX_HEADER_BYTES as usize);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(MAX_ERROR_STREAMS)
        .keep_alive_interval(settings.keepalive)
        .keep_alive_timeout(settings.keepalive);
    http
}
