//! The links in mails: made when a mail is written, and read when somebody follows one.

use http::Uri;
use std::fmt;

use super::suppressions::address_of;
use super::{Engine, EngineError};
use crate::domain::text::hexadecimal;
use crate::domain::{
    ActionId, Channel, Customer, NewSuppression, ProgressId, Suppression, SuppressionReason, SuppressionScope,
};
use crate::keys::{ADDRESS_HASH_LEN, Purpose};

/// The form of what is sealed in a token. Mails are kept for years, so a new form gets a new number, and old ones are read on.
const FORM: u8 = 1;

/// Under which URL this deployment is reached from outside.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicUrl(String);

/// Why a URL can't be the public one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be https://host[:port][/path] without user, query and fragment, or http:// on localhost, 127.0.0.1 or [::1] to try it out"
)]
pub struct PublicUrlError;

impl PublicUrl {
    /// Reads `https://host[:port][/path]`. Unencrypted is for this machine only: a link in a mail is as good as its recipient's word.
    pub fn parse(given: &str) -> Result<Self, PublicUrlError> {
        let uri: Uri = given.parse().map_err(|_| PublicUrlError)?;
        let authority = uri.authority().ok_or(PublicUrlError)?;
        let is_local = ["localhost", "127.0.0.1", "[::1]"].contains(&authority.host());
        let is_safe = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => is_local,
            Some(_) | None => false,
        };
        let is_plain = uri.query().is_none() && !given.contains(['#', '@', '\'', '"', '<', '>', '&']);
        if !is_safe || !is_plain || authority.host().is_empty() {
            return Err(PublicUrlError);
        }
        Ok(Self(given.trim_end_matches('/').to_owned()))
    }

    /// A URL below it.
    pub(super) fn join(&self, path: &str, token: &str) -> String {
        format!("{}/{path}/{token}", self.0)
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a link to unsubscribe says: the address that the mail went to, and of which mail it was. Nobody but this deployment can make
/// one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsubscribeLink {
    address_hash: [u8; ADDRESS_HASH_LEN],
    run: ProgressId,
    action: ActionId,
}

impl UnsubscribeLink {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORM];
        bytes.extend(self.address_hash);
        bytes.extend(self.run.0.to_be_bytes());
        bytes.extend(self.action.0.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (form, rest) = bytes.split_first()?;
        let (address_hash, rest) = rest.split_first_chunk()?;
        let (run, rest) = rest.split_first_chunk()?;
        let action = rest.try_into().ok()?;
        (*form == FORM).then_some(Self {
            address_hash: *address_hash,
            run: ProgressId(i64::from_be_bytes(*run)),
            action: ActionId(i64::from_be_bytes(action)),
        })
    }
}

impl Engine {
    /// Where the recipient of this action of this run unsubscribes: the same over all attempts, opaque, and good as long as the
    /// deployment has its secret. None: the deployment has no public URL, or the customer no mail address.
    pub(super) fn unsubscribe_url(&self, customer: &Customer, run: ProgressId, action: ActionId) -> Option<String> {
        let public_url = self.settings.public_url.as_ref()?;
        let address = address_of(customer, Channel::Email)?;
        let link = UnsubscribeLink {
            address_hash: self.address_digest(&address),
            run,
            action,
        };
        let token = self.keys.seal(Purpose::Unsubscribe, &link.to_bytes());
        Some(public_url.join("u", &token))
    }

    /// What the token of a link to unsubscribe says. None: this deployment did not make it.
    pub fn read_unsubscribe_link(&self, token: &str) -> Option<UnsubscribeLink> {
        UnsubscribeLink::from_bytes(&self.keys.open(Purpose::Unsubscribe, token)?)
    }

    /// Sends no more marketing mail to the address that a link was made for. As often as it is followed, it is one suppression.
    pub async fn unsubscribe(&self, link: &UnsubscribeLink) -> Result<Suppression, EngineError> {
        let new = NewSuppression {
            channel: Channel::Email,
            address_hash: hexadecimal(&link.address_hash),
            scope: SuppressionScope::Marketing,
            reason: SuppressionReason::Unsubscribed,
            detail: format!("by the link in the mail of action {} of run {}", link.action, link.run),
        };
        self.suppress(&new).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_urls_are_checked() {
        for good in [
            "https://mail.example.com",
            "https://example.com:8443/campaigns/",
            "http://localhost:50051",
            "http://127.0.0.1:50051/",
            "http://[::1]:50051",
        ] {
            let url = PublicUrl::parse(good).expect(good);
            assert_eq!(url.join("u", "T"), format!("{}/u/T", good.trim_end_matches('/')));
        }
        for bad in [
            "",
            "example.com",
            "/u",
            "http://example.com",
            "ftp://example.com",
            "https://user@example.com",
            "https://example.com/?a=b",
            "https://example.com/#a",
            "https://example.com/a b",
            "https://",
        ] {
            assert_eq!(PublicUrl::parse(bad), Err(PublicUrlError), "{bad}");
        }
    }

    #[test]
    fn what_a_link_says_is_read_as_it_was_written() {
        let link = UnsubscribeLink {
            address_hash: std::array::from_fn(|at| u8::try_from(at * 8).unwrap_or(u8::MAX)),
            run: ProgressId(i64::MAX),
            action: ActionId(7),
        };
        let written = link.to_bytes();
        assert_eq!(UnsubscribeLink::from_bytes(&written), Some(link));
        assert_eq!(UnsubscribeLink::from_bytes(&written[1..]), None);
        assert_eq!(UnsubscribeLink::from_bytes(&[&written[..], &[0]].concat()), None);
        assert_eq!(UnsubscribeLink::from_bytes(&[&[2], &written[1..]].concat()), None);
    }
}
