//! The callers file: who is known, how, and what his roles are.
//!
//! It has digests of tokens and no tokens, so it is no secret; but whoever writes a token there by mistake finds nothing of it in an
//! error, as those go to the log.

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;

use super::token::TokenDigest;
use super::{Caller, ClientCertificate, Refused, Role, Roles};
use crate::domain::token;

/// How many tokens a caller may have: one, and another while it is replaced.
const MOST_TOKENS: usize = 2;

/// How long the name in a certificate may be, in bytes.
const LONGEST_NAME: usize = 2048;

/// Who is known.
#[derive(Debug, Clone, Default)]
pub struct Callers(Vec<Entry>);

#[derive(Debug, Clone)]
struct Entry {
    caller: Caller,
    tokens: Vec<TokenDigest>,
    certificate: Option<String>,
}

/// What is wrong with a callers file, and where.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the callers file is wrong: {0}")]
pub struct CallersError(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    callers: Vec<Given>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    name: Name,
    roles: Vec<Role>,
    #[serde(default)]
    token_sha256: Tokens,
    #[serde(default)]
    certificate: Option<CertificateName>,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Name(String);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(given: String) -> Result<Self, String> {
        token(&given, "._:@-").map(Self).map_err(|error| error.to_string())
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct CertificateName(String);

impl TryFrom<String> for CertificateName {
    type Error = String;

    fn try_from(given: String) -> Result<Self, String> {
        let is_good = (1..=LONGEST_NAME).contains(&given.len()) && given.bytes().all(|b| b.is_ascii_graphic());
        is_good.then_some(Self(given)).ok_or_else(|| {
            format!("certificate must be a URI or DNS name as in the certificate's SAN, 1 to {LONGEST_NAME} bytes")
        })
    }
}

/// One digest, or a list of them.
#[derive(Default)]
struct Tokens(Vec<TokenDigest>);

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TokensVisitor)
    }
}

/// Says what is expected, and never what is there.
struct TokensVisitor;

const EXPECTED: &str = "token_sha256 must be the SHA-256 of a token, 64 hexadecimal digits, or a list of one or two";

impl<'de> Visitor<'de> for TokensVisitor {
    type Value = Tokens;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: de::Error>(self, given: &str) -> Result<Tokens, E> {
        let digest = TokenDigest::parse(given).ok_or_else(|| E::custom(EXPECTED))?;
        Ok(Tokens(vec![digest]))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Tokens, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Tokens, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Tokens, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Tokens, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Tokens, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Tokens, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut given: A) -> Result<Tokens, A::Error> {
        let mut tokens = Vec::new();
        while let Some(Digest(digest)) = given.next_element()? {
            tokens.push(digest);
        }
        if !(1..=MOST_TOKENS).contains(&tokens.len()) {
            return Err(de::Error::custom(EXPECTED));
        }
        Ok(Tokens(tokens))
    }
}

/// A digest of a list.
struct Digest(TokenDigest);

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = String::deserialize(deserializer).map_err(|_| de::Error::custom(EXPECTED))?;
        TokenDigest::parse(&given)
            .map(Self)
            .ok_or_else(|| de::Error::custom(EXPECTED))
    }
}

impl Callers {
    /// Reads a callers file.
    pub fn parse(text: &str) -> Result<Self, CallersError> {
        // Without the lines around it, in which a token may stand by mistake.
        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        let file: File =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| CallersError(error.to_string()))?;
        let mut callers: Vec<Entry> = Vec::with_capacity(file.callers.len());
        let (mut names, mut digests, mut certificates) = (HashSet::new(), HashSet::new(), HashSet::new());
        for given in file.callers {
            let Name(name) = given.name;
            let wrong = |what: &str| Err(CallersError(format!("caller {name}: {what}")));
            if !names.insert(name.clone()) {
                return wrong("is there twice");
            }
            if given.roles.is_empty() {
                return wrong("roles must have one at least, of caller, viewer, scheduler, operator and admin");
            }
            let Tokens(tokens) = given.token_sha256;
            let certificate = given.certificate.map(|CertificateName(name)| name);
            if tokens.is_empty() && certificate.is_none() {
                return wrong("must have token_sha256 or certificate, by which he is known");
            }
            if !tokens.iter().all(|digest| digests.insert(*digest)) {
                return wrong("has a token_sha256 that is there twice");
            }
            if certificate
                .as_ref()
                .is_some_and(|name| !certificates.insert(name.clone()))
            {
                return wrong("has a certificate that is there twice");
            }
            callers.push(Entry {
                caller: Caller::of_file(&name, given.roles.into_iter().collect::<Roles>()),
                tokens,
                certificate,
            });
        }
        if callers.is_empty() {
            return Err(CallersError("callers must have one at least".to_owned()));
        }
        Ok(Self(callers))
    }

    /// Whose token this is. All are compared, so that the time tells nothing of which one it is like.
    pub(super) fn by_token(&self, token: &str) -> Option<Caller> {
        let digest = TokenDigest::of(token);
        let mut found = None;
        for entry in &self.0 {
            for known in &entry.tokens {
                if known.is(&digest) {
                    found = Some(&entry.caller);
                }
            }
        }
        found.cloned()
    }

    /// Whose certificate this is: one caller's, by one of its names.
    pub(super) fn by_certificate(&self, certificate: &ClientCertificate) -> Result<Caller, Refused> {
        let is_named = |entry: &&Entry| {
            entry
                .certificate
                .as_ref()
                .is_some_and(|name| certificate.names.contains(name))
        };
        let mut found = self.0.iter().filter(is_named);
        match (found.next(), found.next()) {
            (Some(entry), None) => Ok(entry.caller.clone()),
            // One that is of several callers is of none: which of them he means can't be told.
            (None | Some(_), _) => Err(Refused::CertificateUnknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::digest_of;
    use super::*;

    #[test]
    fn a_file_is_read() {
        let (one, two, three) = (digest_of("one"), digest_of("two"), digest_of("three").to_uppercase());
        let text = format!(
            "callers:\n  - name: crm\n    roles: [caller, viewer]\n    token_sha256: {one}\n  - name: a.b:c@d-1\n    roles: [scheduler]\n    \
             token_sha256: [{two}, {three}]\n    certificate: spiffe://example.com/ticks\n"
        );
        let callers = Callers::parse(&text).expect("callers");
        let name = |token: &str| callers.by_token(token).map(|caller| caller.name().to_owned());
        assert_eq!(name("one").as_deref(), Some("crm"));
        assert_eq!(name("two").as_deref(), Some("a.b:c@d-1"));
        assert_eq!(name("three").as_deref(), Some("a.b:c@d-1"));
        assert_eq!(name("four"), None);
        let crm = callers.by_token("one").expect("a caller");
        assert!(crm.has(Role::Caller) && crm.has(Role::Viewer) && !crm.has(Role::Scheduler));
        let shows = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let found = callers.by_certificate(&ClientCertificate { names });
            found.map(|caller| caller.name().to_owned())
        };
        assert_eq!(
            shows(&["other", "spiffe://example.com/ticks"]).as_deref(),
            Ok("a.b:c@d-1")
        );
        assert_eq!(
            shows(&["spiffe://example.com/ticks2"]),
            Err(Refused::CertificateUnknown)
        );
        assert_eq!(shows(&[]), Err(Refused::CertificateUnknown));
    }

    #[test]
    fn a_certificate_of_two_callers_is_nobody_s() {
        let text = "callers:\n  - {name: a, roles: [caller], certificate: a.example}\n  - {name: b, roles: [admin], certificate: b.example}\n";
        let callers = Callers::parse(text).expect("callers");
        let names = ["a.example", "b.example"].map(str::to_owned).to_vec();
        assert_eq!(
            callers.by_certificate(&ClientCertificate { names }),
            Err(Refused::CertificateUnknown)
        );
    }

    /// What is wrong is said with its place, and without what stands there.
    #[test]
    fn what_is_wrong_is_said_without_a_token() {
        let digest = digest_of("x");
        let secret = "s3cr3tt0ken";
        let caller = |rest: &str| format!("callers:\n  - name: crm\n    roles: [caller]\n    {rest}\n");
        let two = |second: &str| format!("{}  - {second}\n", caller(&format!("token_sha256: {digest}")));
        for (text, says) in [
            (String::new(), "callers"),
            ("callers: []".to_owned(), "one at least"),
            (caller(""), "caller crm: must have token_sha256 or certificate"),
            (caller(&format!("token: {secret}")), "unknown field"),
            (caller(&format!("token_sha256: {secret}")), "64 hexadecimal digits"),
            (caller(&format!("token_sha256: [{secret}]")), "64 hexadecimal digits"),
            (caller("token_sha256: 7777777"), "64 hexadecimal digits"),
            (
                caller(&format!("token_sha256: {{{secret}: 1}}")),
                "64 hexadecimal digits",
            ),
            (caller("token_sha256: []"), "64 hexadecimal digits"),
            (
                caller(&format!(
                    "token_sha256: [{digest}, {}, {}]",
                    digest_of("y"),
                    digest_of("z")
                )),
                "one or two",
            ),
            (caller(&format!("token_sha256: [{digest}, {digest}]")), "twice"),
            (caller("certificate: a b"), "certificate must be"),
            (
                two(&format!(
                    "{{name: crm, roles: [caller], token_sha256: {}}}",
                    digest_of("y")
                )),
                "caller crm: is there twice",
            ),
            (
                two(&format!("{{name: b, roles: [caller], token_sha256: {digest}}}")),
                "caller b: has a token_sha256",
            ),
            (two("{name: a/b, roles: [caller], certificate: x}"), "letters, digits"),
            (two("{name: b, roles: [root], certificate: x}"), "root"),
            (
                two("{name: b, roles: [], certificate: x}"),
                "caller b: roles must have one",
            ),
            (two("{name: b, name: c, roles: [caller], certificate: x}"), "line 5"),
            ("callers: [".to_owned(), "line"),
        ] {
            let error = Callers::parse(&text).expect_err(&text).to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert!(!error.contains(secret) && !error.contains("7777777"), "{error}");
        }
        let error = Callers::parse(&caller(&format!("token_sha256: {secret}"))).expect_err("refused");
        assert!(error.to_string().contains("line 4"), "{error}");
        let twice = "callers:\n  - {name: a, roles: [caller], certificate: x}\n  - {name: b, roles: [caller], certificate: x}\n";
        assert!(
            Callers::parse(twice)
                .expect_err("twice")
                .to_string()
                .contains("certificate that is there twice")
        );
    }
}
