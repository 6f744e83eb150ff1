//! The port: who is let in, how much may be asked of it at a time, and what becomes of those who ask nothing.

mod answers;
mod callers;
mod certificates;
mod connections;
mod frames;
mod heavy;
mod http2;
mod programs;
mod shares;

use campaign_automation::proto::campaign::v1 as pb;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ALL_VERSIONS, ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::support::certificates::{Authority, Pair};

/// Bounds what must happen by itself.
async fn in_time<T>(what: &str, ends: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), ends)
        .await
        .unwrap_or_else(|_| panic!("{what} does not end"))
}

/// How a client speaks TLS.
#[derive(Debug, Clone)]
struct Client<'a> {
    trusts: &'a Authority,
    shows: Option<&'a Pair>,
    protocols: &'a [&'a str],
    versions: &'a [&'static SupportedProtocolVersion],
}

impl<'a> Client<'a> {
    /// One that trusts an authority, and speaks HTTP/1.1.
    fn of(trusts: &'a Authority) -> Self {
        Self {
            trusts,
            shows: None,
            protocols: &["http/1.1"],
            versions: ALL_VERSIONS,
        }
    }

    fn showing(self, pair: &'a Pair) -> Self {
        Self {
            shows: Some(pair),
            ..self
        }
    }

    async fn connect(&self, addr: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        connect(self.config(), addr).await
    }

    fn config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.trusts.pem.as_bytes()).expect("a certificate");
        roots.add(authority).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(self.versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match self.shows {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("a certificate");
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(vec![certificate], key).expect("a pair")
            }
        };
        config.alpn_protocols = self.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// Connects. Who does so again with the same configuration may take up where he was ("resumption").
async fn connect(config: Arc<ClientConfig>, addr: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    let connecting = TlsConnector::from(config).connect(name, stream);
    in_time("a handshake", connecting).await
}

/// Asks for a document by HTTP/1.1, on a connection that stays, and gives the status of the answer; none: there is none.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Option<u16> {
    ask_for(stream, "/openapi.json").await
}

async fn ask_for(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> Option<u16> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.ok()?;
    answer(stream).await
}

/// Reads an answer to its end.
async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> Option<u16> {
    let mut read = Vec::new();
    in_time("an answer", async {
        loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or_default();
                if read.len() >= end + 4 + length {
                    return head.split(' ').nth(1)?.parse().ok();
                }
            }
            if stream.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
        }
    })
    .await
}

/// Waits until the other end closes a connection, and gives what it said before.
async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut read = Vec::new();
    // A reset is an end as well.
    let _ = in_time("a connection that is to be closed", stream.read_to_end(&mut read)).await;
    read
}

/// Asks for a customer that there is not.
fn nobody() -> pb::GetCustomerRequest {
    pb::GetCustomerRequest {
        customer_id: "nobody".to_owned(),
    }
}
