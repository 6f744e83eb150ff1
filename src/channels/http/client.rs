//! The HTTP client of all providers.
//!
//! It connects with addresses that it has checked and with no others: a name is looked up once, what is not allowed is taken out of
//! the answer, and the connection is made with what is left, so that an answer that changes afterwards changes nothing. Addresses
//! within URLs are checked alike. It follows no redirects, asks no proxy, reads no more of an answer than 64 KiB, and repeats nothing.
//!
//! A connection that was used before and is idle may be closed by the provider in the very moment in which a request is written to it.
//! Nobody can tell then whether it was read, so idle connections are given up well before providers do it.

use chrono::DateTime;
use http::HeaderMap;
use http::header::RETRY_AFTER;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::policy::{DestinationPolicy, Forbidden};
use super::resolve::{CheckedResolver, NameResolver};
use super::url::HttpUrl;
use crate::channels::{Outcome, TrustedRoots};
use crate::clock::Clock;
use crate::domain::Channel;
use crate::telemetry::{Metrics, client_headers, client_span};

/// The most that is read of an answer, in bytes.
const MOST_BODY: usize = 64 * 1024;

/// How long an idle connection is kept. Servers keep them for a minute or more.
const IDLE: Duration = Duration::from_secs(15);

/// The longest that connecting may take.
const CONNECT: Duration = Duration::from_secs(10);

/// The longest that a provider may ask to wait for.
const MOST_WAIT: Duration = Duration::from_hours(24);

const USER_AGENT: &str = concat!("campaign-automation/", env!("CARGO_PKG_VERSION"));

/// How the client works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpSettings {
    /// With whom it connects.
    pub policy: DestinationPolicy,
    /// How long a request may take in all, from 100 ms; connecting has half of it, and no more than 10 seconds.
    pub timeout: Duration,
}

/// The client can't be set up.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client can't be set up")]
pub struct HttpSetUpError(#[source] Box<dyn Error + Send + Sync>);

/// A client for providers.
pub struct HttpClient {
    encrypted: reqwest::Client,
    /// It reaches private addresses only.
    plain: reqwest::Client,
    settings: HttpSettings,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

/// Whom a request is made to, as those who watch the server know it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// A word for the kind of provider.
    pub(super) provider: &'static str,
    /// For which channel.
    pub(super) channel: Channel,
}

/// What a provider answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// The status, 100..=999.
    pub(super) status: u16,
    /// How long it asks to wait, a day at most.
    pub(super) retry_after: Option<Duration>,
    /// The body; none when it was cut off, or too long.
    pub(super) body: Option<Vec<u8>>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The destination is not allowed.
    Forbidden(Forbidden),
    /// The server is not who it should be.
    Certificate(String),
    /// There was no connection, so nothing was sent.
    NotConnected(String),
    /// There was one, and the request may have been carried out.
    Lost(String),
}

impl HttpClient {
    /// A client that looks up names with `resolver`, for providers that prove by one of the `trusted` who they are.
    pub fn new(
        settings: HttpSettings,
        trusted: &TrustedRoots,
        resolver: Arc<dyn NameResolver>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Result<Self, HttpSetUpError> {
        Ok(Self {
            encrypted: build(settings, trusted, Arc::clone(&resolver), true)?,
            plain: build(settings, trusted, resolver, false)?,
            settings,
            clock,
            metrics,
        })
    }

    /// Makes a POST request, once. Where it is traced, it says so in its headers.
    pub(super) async fn post(
        &self,
        asked: Asked,
        to: &HttpUrl,
        headers: HeaderMap,
        body: String,
    ) -> Result<Answer, Failure> {
        let (begun, span) = (Instant::now(), client_span(asked.provider, asked.channel));
        let answer = self.post_once(to, headers, body).instrument(span.clone()).await;
        let known = answer.as_ref().map(|answer| answer.status).map_err(Failure::kind);
        self.metrics
            .asked(asked.provider, asked.channel, known, begun.elapsed());
        match known {
            Ok(status) => {
                span.record("http.response.status_code", status);
                if status >= 400 {
                    span.record("otel.status_code", "ERROR");
                }
            }
            Err(why) => {
                span.record("error.type", why);
                span.record("otel.status_code", "ERROR");
            }
        }
        answer
    }

    async fn post_once(&self, to: &HttpUrl, mut headers: HeaderMap, body: String) -> Result<Answer, Failure> {
        client_headers(&mut headers);
        self.settings.policy.check(to).map_err(Failure::Forbidden)?;
        let client = if to.is_encrypted() {
            &self.encrypted
        } else {
            &self.plain
        };
        let request = client.post(to.url().clone()).headers(headers).body(body);
        let mut response = request
            .send()
            .await
            .map_err(|error| Failure::of(&error.without_url()))?;
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| self.wait(value.to_str().ok()?));
        let mut body = Some(Vec::new());
        while let Some(read) = &mut body {
            match response.chunk().await {
                Ok(Some(chunk)) if read.len() + chunk.len() <= MOST_BODY => read.extend_from_slice(&chunk),
                Ok(None) => break,
                Ok(Some(_)) | Err(_) => body = None,
            }
        }
        Ok(Answer {
            status: response.status().as_u16(),
            retry_after,
            body,
        })
    }

    /// Reads a document, once: what is there with a 200, at most 64 KiB of it.
    pub async fn get(&self, from: &HttpUrl) -> Result<Vec<u8>, String> {
        self.settings.policy.check(from).map_err(|error| error.to_string())?;
        let client = if from.is_encrypted() {
            &self.encrypted
        } else {
            &self.plain
        };
        let failed = |error: reqwest::Error| Failure::of(&error.without_url()).to_string();
        let mut response = client.get(from.url().clone()).send().await.map_err(failed)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(format!("the server answers {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MOST_BODY {
                return Err(format!("the answer is longer than {MOST_BODY} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Seconds since 1970, for signatures.
    pub(super) fn now(&self) -> crate::domain::Timestamp {
        self.clock.now()
    }

    /// The time from now that a `Retry-After` names, in seconds or as a date.
    fn wait(&self, given: &str) -> Option<Duration> {
        let given = given.trim();
        let wait = if let Ok(seconds) = given.parse() {
            Duration::from_secs(seconds)
        } else {
            let until = DateTime::parse_from_rfc2822(given).ok()?;
            (until.to_utc() - self.clock.now()).to_std().unwrap_or_default()
        };
        Some(wait.min(MOST_WAIT))
    }
}

fn build(
    settings: HttpSettings,
    trusted: &TrustedRoots,
    resolver: Arc<dyn NameResolver>,
    is_encrypted: bool,
) -> Result<reqwest::Client, HttpSetUpError> {
    let failed = |error: Box<dyn Error + Send + Sync>| HttpSetUpError(error);
    let roots = trusted.store().map_err(|error| failed(error.into()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.into()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let resolver = CheckedResolver {
        resolver,
        policy: settings.policy,
        is_encrypted,
    };
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(is_encrypted)
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .user_agent(USER_AGENT)
        .dns_resolver(Arc::new(resolver))
        .connect_timeout(CONNECT.min(settings.timeout / 2))
        .timeout(settings.timeout)
        .pool_idle_timeout(IDLE)
        .build()
        .map_err(|error| failed(error.into()))
}

impl Failure {
    fn of(error: &reqwest::Error) -> Self {
        if let Some(forbidden) = find::<Forbidden>(error) {
            return Self::Forbidden(*forbidden);
        }
        if let Some(error) = find::<rustls::Error>(error).filter(|_| error.is_connect()) {
            return if matches!(error, rustls::Error::InvalidCertificate(_)) {
                Self::Certificate(error.to_string())
            } else {
                Self::NotConnected(error.to_string())
            };
        }
        let said = innermost(error);
        if error.is_connect() || error.is_builder() {
            Self::NotConnected(said)
        } else {
            Self::Lost(said)
        }
    }

    /// A word for it.
    fn kind(&self) -> &'static str {
        match self {
            Self::Forbidden(_) => "forbidden",
            Self::Certificate(_) => "certificate",
            Self::NotConnected(_) => "not_connected",
            Self::Lost(_) => "lost",
        }
    }

    /// What happens next with what is sent once at most.
    pub(super) fn outcome(self) -> Outcome {
        let error = self.to_string();
        match self {
            Self::Forbidden(_) | Self::Certificate(_) => Outcome::Misconfigured { error },
            Self::NotConnected(_) => Outcome::Retry { error, after: None },
            Self::Lost(_) => Outcome::Unknown { error },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden(why) => why.fmt(f),
            Self::Certificate(error) => write!(f, "the server's certificate: {error}"),
            Self::NotConnected(error) => write!(f, "no connection: {error}"),
            Self::Lost(error) => write!(f, "no answer: {error}"),
        }
    }
}

/// The first error of a kind in a chain of causes. What is within an `io::Error` is not in its chain.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inner = inner.and_then(|inner| find::<E>(inner));
        if let Some(found) = error.downcast_ref().or(inner) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The last cause, which says most.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::SystemResolver;
    use crate::clock::ManualClock;

    const PUBLIC: DestinationPolicy = DestinationPolicy { private: false };

    fn client(policy: DestinationPolicy) -> HttpClient {
        let settings = HttpSettings {
            policy,
            timeout: Duration::from_secs(1),
        };
        let clock = ManualClock::new("2026-01-05T12:00:00Z".parse().expect("an instant"));
        let trusted = TrustedRoots::public();
        HttpClient::new(
            settings,
            &trusted,
            Arc::new(SystemResolver),
            Arc::new(clock),
            Metrics::unread(),
        )
        .expect("a client")
    }

    #[test]
    fn the_wait_is_read_in_seconds_and_as_a_date() {
        for (given, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("86400", Some(86_400)),
            ("86401", Some(86_400)),
            ("99999999999999999999", None),
            ("Mon, 05 Jan 2026 12:01:30 GMT", Some(90)),
            ("Mon, 05 Jan 2026 11:00:00 GMT", Some(0)),
            ("Mon, 05 Jan 2099 11:00:00 GMT", Some(86_400)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(
                client(PUBLIC).wait(given).map(|wait| wait.as_secs()),
                seconds,
                "{given:?}"
            );
        }
    }
}
