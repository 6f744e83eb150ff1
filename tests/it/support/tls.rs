//! TLS before a server that speaks none: what comes is decrypted and handed on. Its certificate is from an authority that only
//! the tests know.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A file of the tests' authority.
pub(crate) fn authority() -> PathBuf {
    file("authority.pem")
}

fn file(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/tls");
    PathBuf::from(folder).join(name)
}

/// TLS on a free port of 127.0.0.1, for which, as for localhost, its certificate is. It stops when it is dropped.
#[derive(Debug)]
pub(crate) struct TlsFront {
    /// The port.
    pub port: u16,
    task: JoinHandle<()>,
}

/// When encryption begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beginning {
    /// With the first byte.
    AtOnce,
    /// After STARTTLS, in SMTP.
    WhenAsked,
}

impl TlsFront {
    /// Encrypted from the first byte, before the server at an address.
    pub(crate) async fn implicit(server: &str) -> Self {
        Self::start("127.0.0.1", server, Beginning::AtOnce).await
    }

    /// The same at 127.0.0.2, for which its certificate is not.
    pub(crate) async fn at_another_address(server: &str) -> Self {
        Self::start("127.0.0.2", server, Beginning::AtOnce).await
    }

    /// SMTP that offers STARTTLS, before the mail server at an address.
    pub(crate) async fn starttls(server: &str) -> Self {
        Self::start("127.0.0.1", server, Beginning::WhenAsked).await
    }

    async fn start(host: &str, server: &str, beginning: Beginning) -> Self {
        let server: SocketAddr = server.parse().expect("an address");
        let listener = TcpListener::bind((host, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let acceptor = acceptor();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, server, acceptor.clone(), beginning));
            }
        });
        Self { port, task }
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn acceptor() -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(file("server.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(file("server.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a key that fits");
    TlsAcceptor::from(Arc::new(config))
}

/// Serves one connection; none when it is over.
async fn serve(stream: TcpStream, server: SocketAddr, acceptor: TlsAcceptor, beginning: Beginning) -> Option<()> {
    let mut server = BufReader::new(TcpStream::connect(server).await.ok()?);
    let stream = match beginning {
        Beginning::AtOnce => stream,
        Beginning::WhenAsked => {
            // The client was greeted here, so the server's own greeting goes to nobody.
            server.read_line(&mut String::new()).await.ok()?;
            until_starttls(stream).await?
        }
    };
    let mut stream = acceptor.accept(stream).await.ok()?;
    tokio::io::copy_bidirectional(&mut stream, &mut server).await.ok()?;
    Some(())
}

/// Speaks SMTP until the client wants encryption.
async fn until_starttls(stream: TcpStream) -> Option<TcpStream> {
    let mut stream = BufReader::new(stream);
    let mut reply = "220 front ESMTP\r\n";
    loop {
        stream.get_mut().write_all(reply.as_bytes()).await.ok()?;
        let mut line = String::new();
        if reply.starts_with("220 go") {
            return Some(stream.into_inner());
        }
        stream.read_line(&mut line).await.ok()?;
        reply = match line.trim_end() {
            "" => return None,
            "STARTTLS" => "220 go\r\n",
            line if line.starts_with("EHLO") => "250-front\r\n250 STARTTLS\r\n",
            _ => "530 5.7.0 STARTTLS first\r\n",
        };
    }
}
