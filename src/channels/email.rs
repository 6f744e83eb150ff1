//! Mail over SMTP.
//!
//! The connections are lettre's, but not its transport and pool, because those do not say how far a delivery got. A
//! connection that breaks before the message is handed over means "try again", and one that breaks afterwards means
//! "perhaps delivered"; the transport reports both alike. It also has no time limit for commands, and asks each pooled
//! connection for a sign of life before each mail. Here every answer is waited for by itself ([`session`]), what its failure
//! means is decided in one place ([`reply`]), and the pool is a list.
//!
//! A pooled connection may have been closed by the server while nobody looked. It shows at the first command, MAIL, and
//! then the mail goes over a new connection. Nothing of the message was handed over by then, so this costs neither an
//! attempt nor an unknown outcome, and no round trip as long as connections are sound. After MAIL nothing is repeated.
//!
//! What is not here: retries, and links by which recipients unsubscribe (the engine's).

mod dkim;
mod mail;
mod options;
mod reply;
mod report;
mod session;
mod tracking;

pub use dkim::{DkimError, DkimSigner};
pub use mail::{Mailbox, MailboxError, mail_text};
pub use options::MailOptions;
pub use report::{MailReport, read_mail_report};
pub use tracking::{is_link_target, tracked_html};

pub(super) use mail::build_mail;

use futures::future::BoxFuture;
use lettre::address::Envelope;
use lettre::transport::smtp::client::TlsParameters;
use lettre::transport::smtp::extension::ClientId;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::url::{SmtpServer, TlsMode};
use super::{Message, Outcome, Sender, TrustedRoots};
use crate::clock::Clock;
use session::{Cause, Failure, Patience, Session, Step};

/// After this long without a mail a connection is not used again. Servers close them after one to five minutes.
const MAX_IDLE: Duration = Duration::from_secs(30);

/// How much a [`SmtpSender`] does at once, and how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmtpLimits {
    /// How many connections at most; at least 1.
    pub connections: usize,
    /// How long one command may take, the last included, by which the server takes the message over.
    pub command_timeout: Duration,
    /// How long one mail may take, from waiting for a free connection to the server's last answer.
    pub send_timeout: Duration,
}

impl Default for SmtpLimits {
    fn default() -> Self {
        Self {
            connections: 16,
            command_timeout: Duration::from_secs(30),
            send_timeout: Duration::from_secs(50),
        }
    }
}

/// The TLS library refuses to be set up.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up for the mail server")]
pub struct TlsSetUpError(#[source] lettre::transport::smtp::Error);

/// Sends mail to one mail server.
pub struct SmtpSender {
    server: SmtpServer,
    tls: Option<TlsParameters>,
    hello: ClientId,
    from: Mailbox,
    signer: Option<Arc<DkimSigner>>,
    clock: Arc<dyn Clock>,
    limits: SmtpLimits,
    free: Semaphore,
    idle: Mutex<Vec<Session>>,
}

impl SmtpSender {
    /// A sender to `server`, which must prove by one of the `trusted` who it is. It connects when there is something to send.
    pub fn new(
        server: SmtpServer,
        trusted: &TrustedRoots,
        from: Mailbox,
        clock: Arc<dyn Clock>,
        limits: SmtpLimits,
    ) -> Result<Self, TlsSetUpError> {
        let tls = match server.tls {
            TlsMode::None => None,
            TlsMode::Implicit | TlsMode::StartTls | TlsMode::Opportunistic => {
                Some(trusted.for_mail(&server.host).map_err(TlsSetUpError)?)
            }
        };
        let hello = ClientId::Domain(from.domain().to_owned());
        let limits = SmtpLimits {
            connections: limits.connections.max(1),
            ..limits
        };
        let free = Semaphore::new(limits.connections);
        Ok(Self {
            server,
            tls,
            hello,
            from,
            signer: None,
            clock,
            limits,
            free,
            idle: Mutex::new(Vec::new()),
        })
    }

    /// The same sender with its mails signed, if there is a signer.
    #[must_use]
    pub fn signed_by(mut self, signer: Option<Arc<DkimSigner>>) -> Self {
        self.signer = signer;
        self
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        let mail = match build_mail(message, &self.from, self.signer.as_deref(), self.clock.now()) {
            Ok(mail) => mail,
            Err(outcome) => return outcome,
        };
        match self.hand_over(&mail.envelope, &mail.text).await {
            Ok(()) => Outcome::Delivered {
                provider_id: mail.message_id,
            },
            Err(failure) => {
                if failure.is_policy() {
                    tracing::error!(
                        customer_id = %message.customer_id,
                        key = message.idempotency_key,
                        "a mail server refuses a mail by policy (5.7.x); look at the sender's reputation, SPF, DKIM and DMARC"
                    );
                }
                failure.outcome()
            }
        }
    }

    async fn hand_over(&self, envelope: &Envelope, message: &str) -> Result<(), Failure> {
        let until = Instant::now() + self.limits.send_timeout;
        let patience = Patience {
            command: self.limits.command_timeout,
            until,
        };
        let Ok(Ok(_free)) = timeout_at(until, self.free.acquire()).await else {
            return Err(Failure {
                step: Step::Connect,
                cause: Cause::Lost("all connections are busy".to_owned()),
            });
        };
        let mut session = self.begun(envelope, patience).await?;
        let result = session.finish(envelope, message, patience).await;
        self.put_back(session, result.as_ref().err());
        result
    }

    /// A connection on which the message is begun.
    async fn begun(&self, envelope: &Envelope, patience: Patience) -> Result<Session, Failure> {
        if let Some(mut session) = self.take_idle() {
            match session.begin(envelope, patience).await {
                Ok(()) => return Ok(session),
                Err(failure) if failure.leaves_connection_usable() => {
                    self.put_back(session, Some(&failure));
                    return Err(failure);
                }
                // The server closed it while it was idle.
                Err(_) => drop(session),
            }
        }
        let mut session = Session::open(&self.server, self.tls.as_ref(), &self.hello, patience).await?;
        match session.begin(envelope, patience).await {
            Ok(()) => Ok(session),
            Err(failure) => {
                self.put_back(session, Some(&failure));
                Err(failure)
            }
        }
    }

    fn take_idle(&self) -> Option<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|session| session.idle_since.elapsed() < MAX_IDLE);
        idle.pop()
    }

    /// Keeps a connection for the next mail, unless it is of no more use.
    fn put_back(&self, session: Session, failure: Option<&Failure>) {
        if session.is_in_step() && failure.is_none_or(Failure::leaves_connection_usable) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        }
    }
}

impl Sender for SmtpSender {
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Outcome> {
        Box::pin(self.deliver(message))
    }

    fn system(&self) -> &'static str {
        "smtp"
    }
}

impl fmt::Debug for SmtpSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpSender")
            .field("server", &self.server)
            .field("from", &self.from)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
