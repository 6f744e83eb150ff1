//! What a mail has beside its addresses, its subject and its parts.

use std::fmt;

use super::Mailbox;
use crate::domain::{EmailAddress, MailHeaders};

/// What a mail has beside its addresses, its subject and its parts. By default: nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MailOptions {
    /// What mail programs show beside the subject, in one line: the hidden first text of the HTML. A mail without HTML goes
    /// without it.
    pub preheader: Option<String>,
    /// Who it is from; none: the deployment's sender.
    pub sender: Option<Mailbox>,
    /// Where answers go.
    pub reply_to: Option<Mailbox>,
    /// More headers.
    pub headers: MailHeaders,
    /// Where a POST takes the recipient off the list (RFC 8058): `https://…`, opaque, without personal data.
    pub unsubscribe_url: Option<String>,
    /// Where bounces go, the sender of the envelope; none: to the address that the mail is from.
    pub return_path: Option<EmailAddress>,
    /// What the mail is known by when something comes back about it, a part of its Message-ID: letters and digits.
    pub reference: Option<String>,
}

impl fmt::Debug for MailOptions {
    /// Shows nothing of it: whoever has the link to unsubscribe may do so.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MailOptions(..)")
    }
}
