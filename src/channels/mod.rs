//! How messages leave the service: one file per way out, behind one small trait.
//!
//! A sender takes a rendered [`Message`] and says in an [`Outcome`] what happens next. It knows nothing of runs,
//! retries, leases or the database: when to send, how often, and what to record is the engine's business. A sender
//! never retries by itself, because a retry that nobody recorded is a double send.

mod email;
#[cfg(feature = "test-support")]
mod line;
mod outbox;
mod render;
mod url;

pub use email::{Mailbox, MailboxError, SmtpLimits, SmtpSender, TlsSetUpError};
#[cfg(feature = "test-support")]
pub use line::LineSender;
pub use outbox::OutboxSender;
pub use render::{Part, Place, RenderError, Rendered, Renderer, check_template};
pub use url::{ChannelUrl, ChannelUrlError, Login, SmtpServer, TlsMode};

use futures::future::BoxFuture;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::{Channel, CustomerId, EmailAddress, PhoneNumber};

/// Something that carries messages of one channel to the world outside.
pub trait Sender: Send + Sync + fmt::Debug {
    /// Tries once to deliver `message`. Never panics on a hostile value; ends within the sender's own time-out.
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Outcome>;
}

/// One message, rendered and addressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The same over all attempts of one action of one run, and no other's: a UUID in lower-case hyphenated form.
    pub idempotency_key: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Whose message it is, for the file outbox and for tasks.
    pub customer_id: CustomerId,
    /// What is sent, and where to.
    pub content: Content,
}

/// What is sent, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A mail. At least one of `text` and `html` is there.
    Email {
        /// The recipient's address.
        to: EmailAddress,
        /// The recipient's name; empty when unknown.
        to_name: String,
        /// The subject, in one line.
        subject: String,
        /// The plain text part.
        text: Option<String>,
        /// The HTML part.
        html: Option<String>,
    },
    /// A text message.
    Sms {
        /// The recipient's number.
        to: PhoneNumber,
        /// What it says.
        text: String,
    },
    /// A phone call.
    Call {
        /// Whom to call.
        to: PhoneNumber,
        /// What is said.
        script: String,
    },
    /// A task for a person, about the customer.
    Task {
        /// The title, in one line.
        title: String,
        /// The description; may be empty.
        text: String,
    },
}

/// What came of one attempt, and so what happens next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The provider took it over.
    Delivered {
        /// The provider's id of the message; for a mail, its Message-ID with angle brackets.
        provider_id: String,
    },
    /// Not delivered, and worth another attempt.
    Retry {
        /// What the provider said, for people; no personal data beyond what it said.
        error: String,
        /// How long the provider asked to wait.
        after: Option<Duration>,
    },
    /// Not delivered, and never will be.
    Rejected {
        /// What the provider said.
        error: String,
    },
    /// Not delivered, and the recipient must not be written to any more.
    Suppress {
        /// What the provider said.
        error: String,
    },
    /// Perhaps delivered: the connection broke, or time ran out, after the message was handed over.
    Unknown {
        /// What happened.
        error: String,
    },
    /// Not delivered, and no message of this channel will be until somebody mends the set-up.
    Misconfigured {
        /// What must be mended.
        error: String,
    },
}

/// The senders of a deployment, one for each channel that sends.
#[derive(Debug, Clone)]
pub struct Senders {
    /// Mail.
    pub email: Arc<dyn Sender>,
    /// Text messages.
    pub sms: Arc<dyn Sender>,
    /// Calls.
    pub phone: Arc<dyn Sender>,
    /// Tasks for people.
    pub interaction: Arc<dyn Sender>,
    /// Whatever goes to test customers, of all channels; none: it goes nowhere.
    pub test: Option<Arc<dyn Sender>>,
}

impl Senders {
    /// The sender of a channel; none for what is never sent.
    pub fn of(&self, channel: Channel) -> Option<&Arc<dyn Sender>> {
        match channel {
            Channel::Email => Some(&self.email),
            Channel::Sms => Some(&self.sms),
            Channel::Phone => Some(&self.phone),
            Channel::Interaction => Some(&self.interaction),
            Channel::Wait => None,
        }
    }
}
