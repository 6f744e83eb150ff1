//! What follows from the deployment's one secret: hashes of addresses, and tokens in links.
//!
//! All servers of a deployment have the same secret. It is kept for ever: without it no link in a mail that was sent works any more,
//! and nobody knows who must not be written to of those whose addresses were erased.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::hmac::{self, HMAC_SHA256};
use std::fmt;

/// How long a secret is at least, in bytes.
const SECRET_LEN: usize = 32;

/// How long the hash of an address is, in bytes.
pub const ADDRESS_HASH_LEN: usize = 32;

/// The secret of a deployment.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

/// The secret can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be at least 32 random bytes in base64, as `openssl rand -base64 32` makes them")]
pub struct SecretError;

impl Secret {
    /// Takes a secret in base64, with white space around it or not.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| SecretError)?;
        if bytes.len() < SECRET_LEN {
            return Err(SecretError);
        }
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a token is for. One that was made for something else does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To unsubscribe.
    Unsubscribe,
    /// To see that a mail was opened.
    Open,
    /// To go where a link of a mail leads.
    Click,
    /// To say what became of a message.
    Callback,
    /// To know a mail again when something comes back about it.
    Mail,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Unsubscribe, Self::Open, Self::Click, Self::Callback, Self::Mail];

    fn label(self) -> &'static [u8] {
        match self {
            Self::Unsubscribe => b"unsubscribe",
            Self::Open => b"open",
            Self::Click => b"click",
            Self::Callback => b"callback",
            Self::Mail => b"mail",
        }
    }
}

/// What follows from the secret.
pub struct Keys {
    addresses: hmac::Key,
    nonces: hmac::Key,
    tokens: LessSafeKey,
    short_tags: hmac::Key,
    short_streams: hmac::Key,
}

impl Keys {
    /// Derives the keys, each from the secret and what it is for (HKDF, RFC 5869).
    pub fn new(secret: &Secret) -> Result<Self, SecretError> {
        let derived = Salt::new(HKDF_SHA256, b"campaign-automation").extract(&secret.0);
        let hashing = |label: &'static [u8]| {
            let key = derived.expand(&[label], HMAC_SHA256).map(hmac::Key::from);
            key.map_err(|_| SecretError)
        };
        let tokens = derived.expand(&[b"tokens"], &CHACHA20_POLY1305).map(UnboundKey::from);
        Ok(Self {
            addresses: hashing(b"addresses")?,
            nonces: hashing(b"nonces")?,
            tokens: LessSafeKey::new(tokens.map_err(|_| SecretError)?),
            short_tags: hashing(b"short tags")?,
            short_streams: hashing(b"short streams")?,
        })
    }

    /// The hash of an address. `kind` keeps addresses of different kinds apart; the address is in its normal form. Nobody can try
    /// addresses without the secret.
    pub fn address_hash(&self, kind: &str, address: &str) -> [u8; ADDRESS_HASH_LEN] {
        let mut context = hmac::Context::with_key(&self.addresses);
        for part in [kind, "\0", address] {
            context.update(part.as_bytes());
        }
        let mut hash = [0; ADDRESS_HASH_LEN];
        hash.copy_from_slice(context.sign().as_ref());
        hash
    }

    /// A token for a link: unreadable, unguessable, and the same for the same content, so that a mail that is sent again is the
    /// same. Letters, digits, `-` and `_`; 38 characters more than four thirds of the content's bytes.
    pub fn seal(&self, purpose: Purpose, content: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.nonces);
        for part in [purpose.label(), b"\0", content] {
            context.update(part);
        }
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&context.sign().as_ref()[..NONCE_LEN]);
        let mut sealed = content.to_vec();
        let bound = Nonce::assume_unique_for_key(nonce);
        // It fails for contents of 256 GiB only; such a token does not open.
        let _ = self
            .tokens
            .seal_in_place_append_tag(bound, Aad::from(purpose.label()), &mut sealed);
        URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat())
    }

    /// What was sealed; none when it was not, was not for this, or was changed.
    pub fn open(&self, purpose: Purpose, token: &str) -> Option<Vec<u8>> {
        let mut bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self
            .tokens
            .open_in_place(nonce, Aad::from(purpose.label()), sealed)
            .ok()?;
        Some(opened.to_vec())
    }
}

/// By how many bytes a short token is longer than its content.
pub(crate) const SHORT_TOKEN_OVERHEAD: usize = 10;

/// The letters of short tokens (RFC 4648, base32), which mean the same in capitals.
const SHORT_LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// How many characters a short token of so many bytes has.
pub(crate) const fn short_token_len(content: usize) -> usize {
    ((content + SHORT_TOKEN_OVERHEAD) * 8).div_ceil(5)
}

impl Keys {
    /// A token where there is little room and capitals don't count, such as in a mail address: unreadable, the same for the same
    /// content, and letters and digits alone. `content` has 32 bytes at most. Nobody guesses one: of 2^80 one is good.
    ///
    /// It is encryption under a synthetic initialisation vector, as in RFC 5297, with HMAC-SHA256 for both halves: the tag is the
    /// vector, shortened.
    pub fn seal_short(&self, purpose: Purpose, content: &[u8]) -> String {
        let tag = self.short_tag(purpose, content);
        let bytes = [&tag[..], &self.short_stream(purpose, &tag, content)].concat();
        let mut text = String::with_capacity(short_token_len(content.len()));
        let (mut held, mut bits) = (0_u32, 0);
        for byte in bytes {
            held = (held << 8) | u32::from(byte);
            bits += 8;
            while bits >= 5 {
                bits -= 5;
                text.push(char::from(SHORT_LETTERS[((held >> bits) & 31) as usize]));
            }
        }
        if bits > 0 {
            text.push(char::from(SHORT_LETTERS[((held << (5 - bits)) & 31) as usize]));
        }
        text
    }

    /// What was sealed in a short token; none when it was not, was not for this, or was changed other than to capitals.
    pub fn open_short(&self, purpose: Purpose, token: &str) -> Option<Vec<u8>> {
        let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0);
        for letter in token.bytes() {
            let value = SHORT_LETTERS
                .iter()
                .position(|known| *known == letter.to_ascii_lowercase())?;
            held = (held << 5) | u32::try_from(value).ok()?;
            bits += 5;
            if bits >= 8 {
                bits -= 8;
                bytes.push(u8::try_from((held >> bits) & 255).ok()?);
            }
        }
        let is_whole = bits < 5 && held & ((1 << bits) - 1) == 0;
        let (tag, sealed) = bytes.split_first_chunk::<SHORT_TOKEN_OVERHEAD>()?;
        if !is_whole || sealed.len() > HMAC_SHA256.digest_algorithm().output_len() {
            return None;
        }
        let content = self.short_stream(purpose, tag, sealed);
        // In constant time: over the tags that both are hashed to.
        let expected = hmac::sign(&self.short_tags, &self.short_tag(purpose, &content));
        hmac::verify(&self.short_tags, tag, expected.as_ref()).ok()?;
        Some(content)
    }

    fn short_tag(&self, purpose: Purpose, content: &[u8]) -> [u8; SHORT_TOKEN_OVERHEAD] {
        let mut tag = [0; SHORT_TOKEN_OVERHEAD];
        let signed = hmac::sign(&self.short_tags, &[purpose.label(), b"\0", content].concat());
        tag.copy_from_slice(&signed.as_ref()[..SHORT_TOKEN_OVERHEAD]);
        tag
    }

    /// The content encrypted, or what was encrypted as it was.
    fn short_stream(&self, purpose: Purpose, tag: &[u8], content: &[u8]) -> Vec<u8> {
        let stream = hmac::sign(&self.short_streams, &[purpose.label(), b"\0", tag].concat());
        let pairs = content.iter().zip(stream.as_ref());
        pairs.map(|(byte, mask)| byte ^ mask).collect()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(byte: u8) -> Keys {
        Keys::new(&Secret(vec![byte; SECRET_LEN])).expect("keys")
    }

    #[test]
    fn secrets_are_long_and_never_shown() {
        let text = STANDARD.encode([7; 32]);
        let secret = Secret::parse(&format!(" {text}\n")).expect("a secret");
        assert_eq!(
            format!("{secret:?} {:?}", Keys::new(&secret).expect("keys")),
            "Secret(..) Keys(..)"
        );
        for bad in [
            "",
            "short",
            &STANDARD.encode([7; 31]),
            "not base64 at all, however long it may be, see",
        ] {
            assert_eq!(Secret::parse(bad).err(), Some(SecretError), "{bad}");
        }
    }

    #[test]
    fn an_address_has_one_hash_by_kind_and_secret() {
        let hash = keys(1).address_hash("email", "a@example.com");
        assert_eq!(hash, keys(1).address_hash("email", "a@example.com"));
        for other in [
            keys(1).address_hash("phone", "a@example.com"),
            keys(1).address_hash("email", "b@example.com"),
            keys(2).address_hash("email", "a@example.com"),
        ] {
            assert_ne!(hash, other);
        }
    }

    #[test]
    fn a_short_token_opens_for_what_it_was_made_in_capitals_or_not_and_unchanged() {
        let keys = keys(1);
        for len in 0..=32 {
            let content: Vec<u8> = (0..len).collect();
            let token = keys.seal_short(Purpose::Mail, &content);
            assert_eq!(token, keys.seal_short(Purpose::Mail, &content), "the same");
            assert_eq!(token.len(), short_token_len(content.len()));
            assert!(token.bytes().all(|byte| SHORT_LETTERS.contains(&byte)), "{token}");
            for written in [token.clone(), token.to_uppercase()] {
                assert_eq!(
                    keys.open_short(Purpose::Mail, &written),
                    Some(content.clone()),
                    "{written}"
                );
            }
            assert_eq!(keys.open_short(Purpose::Open, &token), None, "for another purpose");
            assert_eq!(
                self::keys(2).open_short(Purpose::Mail, &token),
                None,
                "another deployment's"
            );
            for at in 0..token.len() {
                for letter in ["a", "b", "7", "1", "="] {
                    let mut changed = token.clone();
                    changed.replace_range(at..=at, letter);
                    if changed != token {
                        assert_eq!(keys.open_short(Purpose::Mail, &changed), None, "changed at {at}");
                    }
                }
                assert_eq!(keys.open_short(Purpose::Mail, &token[..at]), None, "cut at {at}");
            }
            assert_eq!(keys.open_short(Purpose::Mail, &format!("{token}a")), None);
        }
        for bad in ["", "a", "\u{e9}", &"a".repeat(10_000)] {
            assert_eq!(keys.open_short(Purpose::Mail, bad), None);
        }
    }

    #[test]
    fn a_token_opens_for_what_it_was_made_and_unchanged() {
        let keys = keys(1);
        let content = b"customer 7, action 9";
        for purpose in Purpose::ALL {
            let token = keys.seal(purpose, content);
            assert_eq!(token, keys.seal(purpose, content), "the same");
            assert!(
                token
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            );
            assert!(token.len() <= content.len() * 4 / 3 + 40, "{}", token.len());
            for other in Purpose::ALL {
                let expected = (other == purpose).then(|| content.to_vec());
                assert_eq!(keys.open(other, &token), expected, "{purpose:?} as {other:?}");
            }
            assert_eq!(self::keys(2).open(purpose, &token), None, "another deployment's");
            for at in 0..token.len() {
                let mut bytes = token.clone().into_bytes();
                bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
                let changed = String::from_utf8(bytes).expect("ASCII");
                if changed != token {
                    assert_eq!(keys.open(purpose, &changed), None, "changed at {at}");
                }
            }
        }
        for bad in ["", "A", "!", &"A".repeat(10_000)] {
            assert_eq!(keys.open(Purpose::Click, bad), None);
        }
    }
}
