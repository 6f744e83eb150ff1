//! How messages leave the service: one file per way out, behind one small trait.
//!
//! A sender takes a rendered [`Message`] and says in an [`Outcome`] what happens next. It knows nothing of runs,
//! retries, leases or the database: when to send, how often, and what to record is the engine's business. A sender
//! never retries by itself, because a retry that nobody recorded is a double send.

mod email;
mod http;
mod outbox;
mod render;
mod trust;
mod url;

pub use self::http::{
    CallbackUrls, DestinationPolicy, Forbidden, GatewaySender, HttpClient, HttpSetUpError, HttpSettings, HttpUrl,
    HttpUrlError, NameResolver, SmsFrom, SmsLimit, SystemResolver, TwilioRequests, TwilioSender, TwilioUrl,
    WebhookSecretError, WebhookSecrets, WebhookSender,
};
pub use email::{
    DkimError, DkimSigner, MailOptions, MailReport, Mailbox, MailboxError, SmtpLimits, SmtpSender, TlsSetUpError,
    is_link_target, mail_text, read_mail_report, tracked_html,
};
pub use outbox::OutboxSender;
pub use render::{
    Context, Part, Place, RenderError, Rendered, Renderer, TimelineValues, VARIABLES, Values, VariableUses,
    check_template, least_segments,
};
pub use trust::{TrustError, TrustedRoots, certificates};
pub use url::{ChannelUrl, ChannelUrlError, Login, SmtpServer, TlsMode};

use futures::future::BoxFuture;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::{ActionId, Channel, CustomerId, EmailAddress, PhoneNumber, ProgressId, Slug};

/// Something that carries messages of one channel to the world outside.
pub trait Sender: Send + Sync + fmt::Debug {
    /// Tries once to deliver `message`. Never panics on a hostile value; ends within the sender's own time-out.
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Outcome>;

    /// A word for what takes it over, for metrics.
    fn system(&self) -> &'static str;
}

/// One message, rendered and addressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The same over all attempts of one action of one run, and no other's: a UUID in lower-case hyphenated form.
    pub idempotency_key: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Whose message it is.
    pub customer_id: CustomerId,
    /// The run that it belongs to.
    pub progress_id: ProgressId,
    /// The timeline of that run.
    pub timeline: Slug,
    /// The action that it carries out.
    pub action_id: ActionId,
    /// That action's key.
    pub action_key: String,
    /// After how long a provider that can't deliver it gives up; none: as long as the provider usually does.
    pub valid_for: Option<Duration>,
    /// What is sent, and where to.
    pub content: Content,
}

/// What is sent, and where to.
#[derive(Clone, PartialEq, Eq)]
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
        /// What else it has.
        options: Box<MailOptions>,
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

impl fmt::Debug for Content {
    /// Shows what kind it is, because logs are no place for what customers are told.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Email { .. } => "Email(..)",
            Self::Sms { .. } => "Sms(..)",
            Self::Call { .. } => "Call(..)",
            Self::Task { .. } => "Task(..)",
        })
    }
}

/// What came of one attempt, and so what happens next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The provider took it over.
    Delivered {
        /// The provider's id of the message; for a mail, its Message-ID with angle brackets. Empty when it did not say.
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
    /// Not delivered, and never will be, as it is nothing that can be sent. Nobody was asked, so it says nothing about the channel.
    Unsendable {
        /// What is wrong with it.
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

impl Outcome {
    /// A word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered { .. } => "delivered",
            Self::Retry { .. } => "retry",
            Self::Rejected { .. } => "rejected",
            Self::Unsendable { .. } => "unsendable",
            Self::Suppress { .. } => "suppress",
            Self::Unknown { .. } => "unknown",
            Self::Misconfigured { .. } => "misconfigured",
        }
    }

    /// Whether the provider or the way to it failed, and not only the message.
    pub fn is_trouble(&self) -> bool {
        match self {
            Self::Retry { .. } | Self::Unknown { .. } | Self::Misconfigured { .. } => true,
            Self::Delivered { .. } | Self::Rejected { .. } | Self::Unsendable { .. } | Self::Suppress { .. } => false,
        }
    }

    /// The same with another error.
    fn map_error(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Delivered { provider_id } => Self::Delivered { provider_id },
            Self::Retry { error, after } => Self::Retry {
                error: change(error),
                after,
            },
            Self::Rejected { error } => Self::Rejected { error: change(error) },
            Self::Unsendable { error } => Self::Unsendable { error: change(error) },
            Self::Suppress { error } => Self::Suppress { error: change(error) },
            Self::Unknown { error } => Self::Unknown { error: change(error) },
            Self::Misconfigured { error } => Self::Misconfigured { error: change(error) },
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debugging_shows_no_words_of_a_message() {
        let address = EmailAddress::parse("anna@example.com").expect("valid");
        let number = PhoneNumber::parse("+14155552671").expect("valid");
        let word = || "Zoë".to_owned();
        for (content, shown) in [
            (
                Content::Email {
                    to: address,
                    to_name: word(),
                    subject: word(),
                    text: Some(word()),
                    html: Some(word()),
                    options: Box::default(),
                },
                "Email(..)",
            ),
            (
                Content::Sms {
                    to: number.clone(),
                    text: word(),
                },
                "Sms(..)",
            ),
            (
                Content::Call {
                    to: number,
                    script: word(),
                },
                "Call(..)",
            ),
            (
                Content::Task {
                    title: word(),
                    text: word(),
                },
                "Task(..)",
            ),
        ] {
            assert_eq!(format!("{content:?}"), shown);
        }
    }
}
