//! A stand-in for a text message provider, over a real socket, for tests that kill processes: with `test-support` only.
//!
//! A message is a line of JSON on a connection of its own; the provider answers with a line. It has no memory for what it was
//! sent before, as most providers have none, so what is sent twice arrives twice.

use futures::future::BoxFuture;
use serde_json::json;
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::{Message, Outcome, Sender};

/// Sends lines to an address.
#[derive(Debug)]
pub struct LineSender(SocketAddr);

impl LineSender {
    /// A sender to this address.
    pub fn new(addr: SocketAddr) -> Self {
        Self(addr)
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        let connected = TcpStream::connect(self.0).await;
        let mut stream = match connected {
            Ok(stream) => BufReader::new(stream),
            Err(error) => {
                return Outcome::Retry {
                    error: error.to_string(),
                    after: None,
                };
            }
        };
        let line = json!({"key": message.idempotency_key, "customer": message.customer_id.as_str(), "attempt": message.attempt});
        let mut answer = String::new();
        let spoken = async {
            stream.write_all(format!("{line}\n").as_bytes()).await?;
            stream.read_line(&mut answer).await
        };
        match spoken.await {
            Ok(_) if answer.ends_with('\n') => Outcome::Delivered {
                provider_id: answer.trim_end().to_owned(),
            },
            Ok(_) => Outcome::Unknown {
                error: "the connection broke before the answer".to_owned(),
            },
            Err(error) => Outcome::Unknown {
                error: error.to_string(),
            },
        }
    }
}

impl Sender for LineSender {
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Outcome> {
        Box::pin(self.deliver(message))
    }
}
