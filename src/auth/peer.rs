//! Who is at the other end of a connection, as far as the connection knows. It decides nothing.

use std::net::SocketAddr;
use std::sync::Arc;

/// The other end of a connection. The listener puts it into the extensions of each request that comes over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its address; that of a proxy when there is one between.
    pub addr: SocketAddr,
    /// The certificate that it showed, verified against `--tls-client-ca-file`; none: it showed none.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// A verified certificate of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The URIs and DNS names of its subject alternative names (SAN), as they stand there.
    pub names: Vec<String>,
}
