//! One connection, from its first byte to its end. It knows of no request what it is about.

use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::ServiceExt as _;

use super::greeting::{Greeting, Heard};
use super::places::Places;
use super::rarely::Rarely;
use super::{Answers, ListenerSettings};
use crate::auth::Peer;
use crate::random::Random;
use crate::server::tls;
use crate::telemetry::NoConnection;

/// How long the other end has to read why there is no connection.
const LINGER: Duration = Duration::from_secs(1);

/// Cancelled when the connection of a request is asked to end, in the extensions of the request: for what would go on for ever.
#[derive(Debug, Clone, Default)]
pub(in crate::server) struct Ending(pub(in crate::server) CancellationToken);

/// What all connections of a listener share.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) http: auto::Builder<TokioExecutor>,
    /// For those that have not said anything yet.
    pub(super) new_places: Arc<Places>,
    pub(super) failures: Rarely,
    /// TLS as it is at the moment; none: there is none.
    pub(super) tls: Option<watch::Receiver<Arc<tls::Tls>>>,
    pub(super) settings: ListenerSettings,
    pub(super) answers: Answers,
    pub(super) random: Random,
    /// Cancelled: they are asked to end.
    pub(super) stopping: CancellationToken,
    /// Cancelled: they end.
    pub(super) ended: CancellationToken,
}

impl Connections {
    /// Serves a connection to its end.
    pub(super) async fn serve(&self, stream: TcpStream, addr: SocketAddr) {
        tokio::select! {
            () = self.ended.cancelled() => {}
            () = self.greet(stream, addr) => {}
        }
    }

    /// Encrypts it, if need be.
    async fn greet(&self, stream: TcpStream, addr: SocketAddr) {
        let failed = |counted: NoConnection, why: &str| {
            self.settings.metrics.not_connected(counted);
            self.failures
                .warn(|times| format!("no connection came about with {addr}, {times} in all by now: {why}"));
        };
        let Ok(place) = self.new_places.take(addr.ip()) else {
            failed(
                NoConnection::TooManyNew,
                "too many others have connected and said nothing yet",
            );
            return;
        };
        let greeting = Greeting::new(place);
        let Some(config) = &self.tls else {
            let peer = Peer {
                addr,
                certificate: None,
            };
            self.converse(stream, peer, greeting).await;
            return;
        };
        let acceptor = TlsAcceptor::from(Arc::clone(&config.borrow().config));
        let encrypted = tokio::select! {
            () = self.stopping.cancelled() => return,
            encrypted = timeout(self.settings.greeting_limit, acceptor.accept(stream).into_fallible()) => encrypted,
        };
        match encrypted {
            Err(_) => failed(NoConnection::HandshakeFailed, "its TLS handshake took too long"),
            Ok(Err((error, stream))) => {
                failed(
                    NoConnection::HandshakeFailed,
                    &format!("its TLS handshake failed: {error}"),
                );
                let _ = timeout(LINGER, part(stream)).await;
            }
            Ok(Ok(stream)) => {
                let chain = stream.get_ref().1.peer_certificates();
                let certificate = chain.and_then(|chain| chain.first()).map(tls::names).map(Arc::new);
                self.converse(stream, Peer { addr, certificate }, greeting).await;
            }
        }
    }

    /// Serves HTTP on it.
    async fn converse<IO>(&self, stream: IO, peer: Peer, greeting: Arc<Greeting>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (greeted, answers) = (Arc::clone(&greeting), self.answers.clone());
        let ending = Ending::default();
        let of_requests = ending.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            greeted.end();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer.clone());
            request.extensions_mut().insert(of_requests.clone());
            answers.clone().oneshot(request)
        });
        let stream = TokioIo::new(Heard::new(stream, Arc::clone(&greeting)));
        let mut connection = pin!(self.http.serve_connection(stream, service));
        let begin = Instant::now();
        let mut greeted = pin!(sleep_until(begin + self.settings.greeting_limit));
        let mut age = pin!(sleep_until(begin + self.age()));
        let mut is_new = true;
        loop {
            tokio::select! {
                // An error is the other end's, or a limit that it exceeded. It is nothing to tell anybody.
                _ = connection.as_mut() => return,
                () = greeted.as_mut(), if is_new => {
                    if !greeting.is_over() {
                        return;
                    }
                    is_new = false;
                }
                () = age.as_mut() => {
                    if ending.0.is_cancelled() {
                        return;
                    }
                    ending.0.cancel();
                    connection.as_mut().graceful_shutdown();
                    age.as_mut().reset(Instant::now() + self.settings.age_grace);
                }
                () = self.stopping.cancelled(), if !ending.0.is_cancelled() => {
                    ending.0.cancel();
                    connection.as_mut().graceful_shutdown();
                    age.as_mut().reset(Instant::now() + self.settings.age_grace);
                }
            }
        }
    }

    /// How old a connection gets: a tenth more or less, so that not all begin anew at once.
    fn age(&self) -> Duration {
        self.settings.age.mul_f64(0.9 + 0.2 * self.random.fraction())
    }
}

/// Ends a connection whose last words are to be read. Were it closed with something unread, they could be lost.
async fn part(mut stream: TcpStream) -> std::io::Result<()> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(|_| ())
}
