//! Signs mails as DKIM (RFC 6376) has it, with RSA (RFC 8301: SHA-256) or Ed25519 (RFC 8463).
//!
//! It is not lettre's: that one brings a second implementation of RSA, which has an advisory (RUSTSEC-2023-0071), takes no
//! key as `openssl genpkey` writes it, and dates the signature by a clock of its own.
//!
//! Every header of the mail is signed, both `List-Unsubscribe` ones too (RFC 8058, 4). Those that decide what a reader sees are
//! named once more, so that nobody on the way adds a second one without breaking the signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
// RSA signs without chance as RFC 8017, 8.2 has it, but ring asks for a source for all of its ways to sign.
use ring::rand as chance;
use ring::signature::{Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// Headers of which there must be no more than the mail has.
const SEALED: [&str; 6] = ["from", "reply-to", "to", "subject", "date", "message-id"];

/// Where lines of the signature are broken, in characters.
const WIDTH: usize = 72;

/// A key that signs mails, and the name under which its other half is published.
pub struct DkimSigner {
    selector: String,
    key: Key,
}

enum Key {
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Why mails can't be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DkimError {
    /// The selector can't be a part of a DNS name.
    #[error("the selector must be 1 to 63 letters, digits and -, in parts that are joined by dots")]
    Selector,
    /// The key is none.
    #[error(
        "the key must be a private RSA key of 2048 to 4096 bits or an Ed25519 key in PEM, as `openssl genpkey` makes it"
    )]
    Key,
    /// The key refused to sign.
    #[error("the mail can't be signed with the DKIM key")]
    Signing,
}

impl DkimSigner {
    /// A signer with a private key in PEM: PKCS#8 (`PRIVATE KEY`), or PKCS#1 (`RSA PRIVATE KEY`).
    pub fn new(selector: &str, pem: &str) -> Result<Self, DkimError> {
        let is_label = |label: &str| {
            let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
            (1..=63).contains(&label.len()) && label.chars().all(good)
        };
        if selector.len() > 200 || !selector.split('.').all(is_label) {
            return Err(DkimError::Selector);
        }
        let key = if let Some(der) = unwrapped(pem, "PRIVATE KEY") {
            let rsa = RsaKeyPair::from_pkcs8(&der).map(Key::Rsa);
            rsa.or_else(|_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map(Key::Ed25519))
        } else {
            let der = unwrapped(pem, "RSA PRIVATE KEY").ok_or(DkimError::Key)?;
            RsaKeyPair::from_der(&der).map(Key::Rsa)
        };
        Ok(Self {
            selector: selector.to_owned(),
            key: key.map_err(|_| DkimError::Key)?,
        })
    }

    /// The header, with its line break, that signs `mail` for `domain`. `mail` has CRLF line breaks.
    pub(super) fn header(&self, mail: &str, domain: &str, now: DateTime<Utc>) -> Result<String, DkimError> {
        let (head, body) = mail.split_once("\r\n\r\n").unwrap_or((mail, ""));
        let headers = relaxed_headers(head);
        let mut names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        names.extend(SEALED);
        let algorithm = match self.key {
            Key::Rsa(_) => "rsa-sha256",
            Key::Ed25519(_) => "ed25519-sha256",
        };
        let (selector, time) = (&self.selector, now.timestamp());
        let (names, body) = (
            folded_names(&names),
            STANDARD.encode(Sha256::digest(relaxed_body(body))),
        );
        let unsigned = format!(
            "DKIM-Signature: v=1; a={algorithm}; c=relaxed/relaxed;\r\n d={domain}; s={selector}; t={time};\r\n h={names};\r\n bh={body};\r\n b="
        );
        // The signature's own header comes last, without a line break.
        let signed = headers.into_iter().chain(relaxed_headers(&unsigned));
        let lines: Vec<String> = signed.map(|(name, value)| format!("{name}:{value}")).collect();
        let signature = self.sign(lines.join("\r\n").as_bytes())?;
        let lines: Vec<&str> = signature
            .as_bytes()
            .chunks(WIDTH)
            .filter_map(|line| std::str::from_utf8(line).ok())
            .collect();
        Ok(format!("{unsigned}{}\r\n", lines.join("\r\n ")))
    }

    fn sign(&self, input: &[u8]) -> Result<String, DkimError> {
        match &self.key {
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &chance::SystemRandom::new(), input, &mut signature)
                    .map_err(|_| DkimError::Signing)?;
                Ok(STANDARD.encode(signature))
            }
            // RFC 8463, 3: what is signed is the hash.
            Key::Ed25519(key) => Ok(STANDARD.encode(key.sign(&Sha256::digest(input)))),
        }
    }
}

impl fmt::Debug for DkimSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DkimSigner")
            .field("selector", &self.selector)
            .finish_non_exhaustive()
    }
}

/// What a PEM file has between the lines of this label.
fn unwrapped(pem: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once(&format!("-----BEGIN {label}-----"))?;
    let (inside, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let inside: String = inside.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(inside).ok()
}

/// The names of headers, parted by colons, in lines that are not too long.
fn folded_names(names: &[&str]) -> String {
    let (mut folded, mut width) = (String::new(), 0);
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            folded.push(':');
        }
        width += name.len() + 1;
        if width > WIDTH {
            folded.push_str("\r\n  ");
            width = name.len();
        }
        folded.push_str(name);
    }
    folded
}

/// Headers in relaxed form (RFC 6376, 3.4.2), in their order.
fn relaxed_headers(head: &str) -> Vec<(String, String)> {
    let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_ascii_lowercase(), single_spaced(value.trim())))
    };
    unfolded.split("\r\n").filter_map(header).collect()
}

/// A body in relaxed form (RFC 6376, 3.4.4).
fn relaxed_body(body: &str) -> String {
    let lines: Vec<String> = body
        .split("\r\n")
        .map(|line| single_spaced(line.trim_end_matches([' ', '\t'])))
        .collect();
    let count = lines
        .iter()
        .rposition(|line| !line.is_empty())
        .map_or(0, |last| last + 1);
    lines[..count]
        .iter()
        .fold(String::with_capacity(body.len()), |mut all, line| {
            all.push_str(line);
            all.push_str("\r\n");
            all
        })
}

/// A text with one space for each run of spaces and tabs.
fn single_spaced(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len());
    let mut after_space = false;
    for c in text.chars() {
        let is_space = matches!(c, ' ' | '\t');
        if !is_space {
            spaced.push(c);
        } else if !after_space {
            spaced.push(' ');
        }
        after_space = is_space;
    }
    spaced
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of RFC 8463, A.2, as openssl writes it.
    const ED25519: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

    #[test]
    fn the_body_of_the_standard_has_the_hash_of_the_standard() {
        let body = "Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n\r\n";
        let hash = STANDARD.encode(Sha256::digest(relaxed_body(body)));
        assert_eq!(hash, "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=", "RFC 8463, A.3");
    }

    #[test]
    fn headers_and_bodies_are_relaxed() {
        // RFC 6376, 3.4.5
        let head = "A: X\r\nB : Y\t\r\n\tZ  ";
        let expected = [("a", "X"), ("b", "Y Z")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(relaxed_headers(head), expected);
        assert_eq!(relaxed_body(" C \r\nD \t E\r\n\r\n\r\n"), " C\r\nD E\r\n");
        for (body, relaxed) in [
            ("", ""),
            ("\r\n", ""),
            ("\r\n\r\n \t\r\n", ""),
            ("a", "a\r\n"),
            ("\r\na", "\r\na\r\n"),
        ] {
            assert_eq!(relaxed_body(body), relaxed, "{body:?}");
        }
    }

    #[test]
    fn keys_and_selectors_are_checked() {
        assert!(DkimSigner::new("mail.2026-11", ED25519).is_ok());
        for selector in ["", ".", "a.", "a b", "ä", "a;b", "a\r\nb", &"x".repeat(64)] {
            assert_eq!(
                DkimSigner::new(selector, ED25519).err(),
                Some(DkimError::Selector),
                "{selector:?}"
            );
        }
        for key in [
            "",
            "x",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
            &ED25519.replace("PRIVATE", "PUBLIC"),
        ] {
            assert_eq!(DkimSigner::new("mail", key).err(), Some(DkimError::Key), "{key:?}");
        }
        let signer = DkimSigner::new("mail", ED25519).expect("a key");
        assert_eq!(format!("{signer:?}"), "DkimSigner { selector: \"mail\", .. }");
    }
}
