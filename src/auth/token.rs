//! Bearer tokens as they come in a request. What they are is shown nowhere.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};
use std::fmt;
use subtle::ConstantTimeEq as _;

use super::Refused;

/// The longest token that is looked at, in bytes.
const LONGEST: usize = 8 * 1024;

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a token.
    pub(super) fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Reads 64 hexadecimal digits.
    pub(super) fn parse(given: &str) -> Option<Self> {
        if given.len() != 64 || !given.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&given[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// Whether it is the same, found in a time that does not depend on how much of it is.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

/// The digest of a token as the callers file has it, in hexadecimal.
pub fn digest_of(token: &str) -> String {
    let bytes = TokenDigest::of(token).0;
    bytes
        .iter()
        .fold(String::with_capacity(64), |hex, byte| format!("{hex}{byte:02x}"))
}

/// The bearer token of a request, if it has one. Two headers, another scheme, and what is no token are refused.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refused> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refused::TokenInvalid);
    }
    let given = value.to_str().map_err(|_| Refused::TokenInvalid)?;
    let (scheme, token) = given.split_once(' ').ok_or(Refused::TokenInvalid)?;
    let token = token.trim_matches(' ');
    // RFC 6750, section 2.1.
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    let is_good = scheme.eq_ignore_ascii_case("bearer") && (1..=LONGEST).contains(&token.len());
    if !is_good || !token.bytes().all(is_token) {
        return Err(Refused::TokenInvalid);
    }
    Ok(Some(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[track_caller]
    fn check(values: &[&str], expected: &Result<Option<&str>, Refused>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).expect("a value"));
        }
        assert_eq!(bearer(&headers), *expected, "{values:?}");
    }

    #[test]
    fn a_token_is_found_or_refused() {
        check(&[], &Ok(None));
        check(&["Bearer a.b-c_d~e+f/g=="], &Ok(Some("a.b-c_d~e+f/g==")));
        check(&["bearer  x"], &Ok(Some("x")));
        let long = format!("Bearer {}", "x".repeat(LONGEST));
        check(&[&long], &Ok(Some(&long[7..])));
        let longer = format!("{long}x");
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Basic eDp5",
            "x",
            "Bearer a b",
            "Bearer a,Bearer b",
            "Bearer \t",
            "Bearer é",
            &longer,
        ] {
            check(&[bad], &Err(Refused::TokenInvalid));
        }
        check(&["Bearer a", "Bearer b"], &Err(Refused::TokenInvalid));
    }

    #[test]
    fn digests_are_read_and_compared() {
        let hex = digest_of("secret");
        assert_eq!(hex, "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b");
        let read = TokenDigest::parse(&hex).expect("a digest");
        assert!(read.is(&TokenDigest::of("secret")) && !read.is(&TokenDigest::of("Secret")));
        assert_eq!(format!("{read:?}"), "TokenDigest(..)");
        for bad in [
            "",
            "2bb8",
            &hex[1..],
            &format!("{hex}0"),
            &hex.replace('2', "g"),
            &hex.replacen("2b", "é", 1),
        ] {
            assert!(TokenDigest::parse(bad).is_none(), "{bad}");
        }
    }
}
