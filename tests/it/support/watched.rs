//! A server whose metrics are looked through when it is stopped.

use campaign_automation::server::Server;
use std::ops::{Deref, DerefMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::canaries;

/// A server in this process.
#[derive(Debug)]
pub(crate) struct Watched {
    server: Server,
    /// Whether it shows its metrics to whoever asks on its port, unless it has another one for them.
    shows_metrics: bool,
}

impl Watched {
    pub(crate) fn new(server: Server, shows_metrics: bool) -> Self {
        Self { server, shows_metrics }
    }

    /// Stops it, after a look at its metrics.
    pub(crate) async fn shutdown(self) -> anyhow::Result<()> {
        let addr = self.server.monitor_addr();
        if let Some(addr) = addr.or_else(|| self.shows_metrics.then(|| self.server.addr())) {
            let mut stream = TcpStream::connect(addr).await?;
            let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).await?;
            let mut page = String::new();
            stream.read_to_string(&mut page).await?;
            assert!(page.starts_with("HTTP/1.1 200"), "{page}");
            canaries::check_text("the metrics", &page);
        }
        self.server.shutdown().await
    }
}

impl Deref for Watched {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Watched {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}
