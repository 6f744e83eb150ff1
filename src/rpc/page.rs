//! Pages of lists.
//!
//! A token is the key of the last row, with a checksum over it, the caller, the method and the filters: so one of another caller or
//! another list, or one that was tampered with, is refused. It grants nothing: it only says where to go on.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::MAX_MESSAGE_BYTES;
use super::violations::Violations;
use crate::auth::Caller;
use crate::store::Page;

const DEFAULT_SIZE: i32 = 50;
const MAX_SIZE: i32 = 1000;
const CHECKSUM: usize = 8;

/// How many bytes the messages of a page have, so that the response is within what is sent.
pub(super) const MOST_BYTES: usize = MAX_MESSAGE_BYTES - 64 * 1024;

/// What a page token belongs to: the caller, the method and its filters.
#[derive(Debug)]
pub(super) struct Scope(String);

impl Scope {
    /// The scope of a caller's method with these filters.
    pub(super) fn new(caller: &Caller, method: &str, filters: &[&dyn std::fmt::Debug]) -> Self {
        Self(format!("{:?}{method}{filters:?}", caller.name()))
    }

    /// Parses `page_size` and `page_token`.
    pub(super) fn parse<K: DeserializeOwned>(
        &self,
        violations: &mut Violations,
        size: i32,
        token: &str,
    ) -> Option<Page<K>> {
        let size = match size {
            0 => Some(DEFAULT_SIZE),
            given if given < 0 => violations.within("page_size", given, 0, MAX_SIZE),
            given => Some(given.min(MAX_SIZE)),
        };
        let after = if token.is_empty() {
            Some(None)
        } else {
            self.decode(token).map(Some)
        };
        if after.is_none() {
            violations.add(
                "page_token",
                "must be a next_page_token of this method with the same filters, or empty",
            );
        }
        Some(Page {
            after: after?,
            size: u64::from(size?.unsigned_abs()),
        })
    }

    /// The messages of `rows`, which were asked for as a page of this size, and the token for the page after them; it is
    /// empty when they are the last. Where not all fit into one response there are fewer than asked for.
    pub(super) fn page<T, M: Message, K: Serialize>(
        &self,
        size: u64,
        rows: &[T],
        message: impl Fn(&T) -> M,
        key: impl FnOnce(&T) -> K,
    ) -> (Vec<M>, String) {
        let (mut messages, mut bytes) = (Vec::with_capacity(rows.len()), 0);
        for row in rows {
            let message = message(row);
            bytes += message.encoded_len() + 8;
            if bytes > MOST_BYTES && !messages.is_empty() {
                break;
            }
            messages.push(message);
        }
        let is_last = messages.len() == rows.len() && (rows.len() as u64) < size;
        let token = match messages.len().checked_sub(1) {
            Some(last) if !is_last => self.encode(&key(&rows[last])),
            Some(_) | None => String::new(),
        };
        (messages, token)
    }

    fn encode(&self, key: &impl Serialize) -> String {
        let key = serde_json::to_vec(key).unwrap_or_default();
        let mut bytes = self.checksum(&key);
        bytes.extend(key);
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    fn decode<K: DeserializeOwned>(&self, token: &str) -> Option<K> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
        let (checksum, key) = bytes.split_at_checked(CHECKSUM)?;
        if self.checksum(key) != checksum {
            return None;
        }
        serde_json::from_slice(key).ok()
    }

    fn checksum(&self, key: &[u8]) -> Vec<u8> {
        let hash = Sha256::new()
            .chain_update(self.0.as_bytes())
            .chain_update([0])
            .chain_update(key)
            .finalize();
        hash[..CHECKSUM].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_is_good_for_its_own_list_only() {
        let scope = Scope::new(&Caller::anyone(), "ListCustomers", &[&"hook"]);
        let token = scope.encode(&"anna");
        assert_eq!(scope.decode::<String>(&token).as_deref(), Some("anna"));
        assert_eq!(
            Scope::new(&Caller::anyone(), "ListCustomers", &[&"base"]).decode::<String>(&token),
            None
        );
        assert_eq!(
            Scope::new(&Caller::anyone(), "ListTimelines", &[&"hook"]).decode::<String>(&token),
            None
        );
    }

    proptest! {
        #[test]
        fn what_is_no_token_is_refused(text in "\\PC{0,80}") {
            prop_assert_eq!(Scope::new(&Caller::anyone(), "ListCustomers", &[]).decode::<String>(&text), None);
        }
    }
}
