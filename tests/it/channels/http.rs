//! The senders against providers that speak HTTP.

mod destinations;
mod gateway;
mod twilio;
mod webhook;

use campaign_automation::channels::{
    DestinationPolicy, HttpClient, HttpSettings, HttpUrl, NameResolver, Outcome, Sender, SystemResolver, TrustedRoots,
    WebhookSecrets,
};
use campaign_automation::clock::ManualClock;
use campaign_automation::telemetry::Metrics;
use std::sync::Arc;
use std::time::Duration;

use super::{KEY, kind, message, noon};
use crate::support::http::{Behaviour, HttpServer};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

fn secrets() -> WebhookSecrets {
    WebhookSecrets::parse(SECRET).expect("valid")
}

fn url(given: &str) -> HttpUrl {
    HttpUrl::parse(given).expect(given)
}

/// A client that waits so long that no test sees the end of it.
fn client() -> Arc<HttpClient> {
    client_with(Duration::from_secs(30), Arc::new(SystemResolver), true)
}

/// A client that soon gives up.
fn impatient() -> Arc<HttpClient> {
    client_with(Duration::from_millis(600), Arc::new(SystemResolver), true)
}

fn client_with(timeout: Duration, resolver: Arc<dyn NameResolver>, private: bool) -> Arc<HttpClient> {
    let settings = HttpSettings {
        policy: DestinationPolicy { private },
        timeout,
    };
    let clock = Arc::new(ManualClock::new(noon()));
    Arc::new(HttpClient::new(settings, &TrustedRoots::public(), resolver, clock, Metrics::unread()).expect("a client"))
}

/// A request as it came, with the server's port as `PORT`.
fn golden(server: &HttpServer) -> String {
    let [request] = server.requests().try_into().expect("one request");
    let port = format!(":{}\r\n", server.port());
    request.head.replace(&port, ":PORT\r\n") + &request.body
}

/// Checks what becomes of messages when the connection breaks, where a request may have been carried out: they are `delivered` if
/// a status said so, and otherwise unknown. The sender gives up after 600 ms.
async fn check_broken_connections<S: Sender>(
    content: campaign_automation::channels::Content,
    sender: impl Fn(&HttpServer) -> S,
) {
    for (behaviour, expected) in [
        (Behaviour::CloseAtOnce, "unknown"),
        (Behaviour::CloseUnanswered, "unknown"),
        (Behaviour::Babble, "unknown"),
        (Behaviour::Stall, "unknown"),
        (Behaviour::CloseInBody(201), "delivered"),
        (Behaviour::StallInBody(201), "delivered"),
        (Behaviour::Endless(201), "delivered"),
        (Behaviour::CloseInBody(422), "rejected"),
        (Behaviour::StallInBody(422), "rejected"),
        (Behaviour::Endless(422), "rejected"),
    ] {
        let server = HttpServer::start().await;
        let sender = sender(&server);
        server.behave(behaviour.clone());
        let outcome = sender.send(&message(content.clone())).await;
        assert_eq!(kind(&outcome), expected, "{behaviour:?}: {outcome:?}");
        let came = usize::from(behaviour != Behaviour::CloseAtOnce);
        assert_eq!(server.requests().len(), came, "{behaviour:?} is sent once");

        // Whatever it was, the next message of the same sender is not held up by it.
        server.answer(201, "{\"sid\":\"SM1\",\"id\":\"SM1\"}");
        let outcome = sender.send(&message(content.clone())).await;
        let provider_id = "SM1".to_owned();
        assert_eq!(outcome, Outcome::Delivered { provider_id }, "after {behaviour:?}");
    }
    // Connections that the server closed while they were idle cost nothing.
    let server = HttpServer::start().await;
    let sender = sender(&server);
    server.answer(201, "{\"sid\":\"SM1\"}");
    for connections in [1, 1, 2] {
        if connections == 2 {
            server.hang_up().await;
        }
        assert_eq!(kind(&sender.send(&message(content.clone())).await), "delivered");
        assert_eq!(server.connections(), connections);
    }
}
