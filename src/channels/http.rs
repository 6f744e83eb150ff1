//! Providers that are reached by HTTP.
//!
//! One client ([`client`]) for all of them, which connects with nothing that it must not ([`resolve`], [`address`]). One file per protocol:
//! Twilio's ([`twilio`]), a gateway of one's own ([`gateway`]), tasks as webhooks ([`webhook`]). What a provider says is passed on
//! without secrets and numbers ([`said`]).
//!
//! None of them tries twice. What a broken connection means they decide alike: before there is a connection nothing was sent,
//! so it is worth another attempt; from then on the request may have been carried out.

mod address;
mod callback;
mod client;
mod gateway;
mod policy;
mod resolve;
mod said;
mod sign;
mod sms;
mod twilio;
mod twiml;
mod url;
mod webhook;

pub use callback::TwilioRequests;
pub use client::{HttpClient, HttpSetUpError, HttpSettings};
pub use gateway::GatewaySender;
pub use policy::{DestinationPolicy, Forbidden};
pub use resolve::{NameResolver, SystemResolver};
pub use sign::{WebhookSecretError, WebhookSecrets};
pub use sms::{SmsFrom, SmsLimit};
pub use twilio::{CallbackUrls, TwilioSender};
pub use url::{HttpUrl, HttpUrlError, TwilioUrl};
pub use webhook::WebhookSender;
