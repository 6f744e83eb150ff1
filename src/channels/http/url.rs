//! Where providers are that are reached by HTTP.
//!
//! - `twilio://SID:TOKEN@host[:port][/prefix][?account=AC…]`: Twilio's API, or one of its shape.
//! - `gateway+https://host[:port]/path`: a gateway of one's own.
//! - `https://host[:port]/path`: who gets tasks.
//!
//! `twilio+http://`, `gateway+http://` and `http://` are the same unencrypted, for private destinations only. Ports are 443, with `http`
//! 80, and those from 1024. Paths and queries may be secrets, as some services put keys there, and are never shown.

use reqwest::Url;
use std::fmt;
use std::net::IpAddr;

use crate::channels::url::percent_decoded;

/// The first port that need not be a well-known service's.
const FIRST_FREE_PORT: u16 = 1024;

/// Where requests go.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl(Url);

/// An account with Twilio, or with somebody who speaks as Twilio does.
#[derive(Clone, PartialEq, Eq)]
pub struct TwilioUrl {
    /// Where the API is, without its version.
    pub api: HttpUrl,
    /// The account in whose name messages are sent.
    pub account: String,
    user: String,
    password: String,
}

/// Why a URL is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HttpUrlError {
    /// It is none.
    #[error("must be a URL with a host, such as https://crm.example.com/hooks/tasks")]
    Syntax,
    /// It begins with something else.
    #[error("must begin with https://, or for a private destination with http://")]
    Scheme,
    /// A user in it.
    #[error("must have no user and no password: requests are signed")]
    User,
    /// A fragment in it, which is not sent.
    #[error("must have no fragment (#…)")]
    Fragment,
    /// A port of another service.
    #[error("must have port 443, with http 80, or one from 1024")]
    Port,
    /// No account.
    #[error(
        "must be twilio://ACCOUNT_SID:AUTH_TOKEN@host, or twilio://KEY_SID:KEY_SECRET@host?account=ACCOUNT_SID, with user and \
         password percent-encoded"
    )]
    Account,
}

impl HttpUrl {
    /// Reads `https://host[:port]/path?query`, or the same with `http`.
    pub fn parse(given: &str) -> Result<Self, HttpUrlError> {
        let url = Url::parse(given).map_err(|_| HttpUrlError::Syntax)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(HttpUrlError::User);
        }
        Self::new(url)
    }

    fn new(url: Url) -> Result<Self, HttpUrlError> {
        let usual = match url.scheme() {
            "https" => 443,
            "http" => 80,
            _ => return Err(HttpUrlError::Scheme),
        };
        if url.host_str().is_none_or(str::is_empty) {
            return Err(HttpUrlError::Syntax);
        }
        if url.fragment().is_some() {
            return Err(HttpUrlError::Fragment);
        }
        match url.port().unwrap_or(usual) {
            port if port == usual || port == 443 || port >= FIRST_FREE_PORT => Ok(Self(url)),
            _ => Err(HttpUrlError::Port),
        }
    }

    /// Whether what is sent is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether it is of this machine, by its address or by the name `localhost`.
    pub fn is_loopback(&self) -> bool {
        let is_local = self
            .literal()
            .is_some_and(|address| address.to_canonical().is_loopback());
        is_local || self.0.host_str() == Some("localhost")
    }

    /// Its address, where it has one for a host instead of a name. All the ways of writing one are read, `0x7f.1` as well.
    pub(super) fn literal(&self) -> Option<IpAddr> {
        let host = self.0.host_str()?;
        host.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// The URL, for the client alone.
    pub(super) fn url(&self) -> &Url {
        &self.0
    }

    /// The same place with more path. `path` has letters, digits and signs that need no encoding.
    pub(super) fn join(&self, path: &str) -> Self {
        let mut url = self.0.clone();
        let joined = format!("{}/{path}", url.path().trim_end_matches('/'));
        url.set_path(&joined);
        Self(url)
    }
}

impl TwilioUrl {
    /// Reads what is behind `twilio`, from `://` or `+http://` on.
    pub(in crate::channels) fn parse_rest(rest: &str) -> Result<Self, HttpUrlError> {
        let given = match (rest.strip_prefix("://"), rest.strip_prefix("+http://")) {
            (Some(rest), _) => format!("https://{rest}"),
            (None, Some(rest)) => format!("http://{rest}"),
            (None, None) => return Err(HttpUrlError::Scheme),
        };
        let mut url = Url::parse(&given).map_err(|_| HttpUrlError::Syntax)?;
        let decoded = |given: &str| percent_decoded(given).map_err(|_| HttpUrlError::Account);
        let (user, password) = (decoded(url.username())?, decoded(url.password().unwrap_or_default())?);
        let account = match url.query().map(|query| query.split_once('=')) {
            None => user.clone(),
            Some(Some(("account", account))) => account.to_owned(),
            Some(_) => return Err(HttpUrlError::Account),
        };
        let is_sid = |sid: &str| !sid.is_empty() && sid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !is_sid(&user) || !is_sid(&account) || account.starts_with("SK") || password.is_empty() {
            return Err(HttpUrlError::Account);
        }
        url.set_query(None);
        // Of a URL with a host both can be set.
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        cleared.map_err(|()| HttpUrlError::Syntax)?;
        Ok(Self {
            api: HttpUrl::new(url)?,
            account,
            user,
            password,
        })
    }

    /// User and password, for the `Authorization` header alone.
    pub(super) fn login(&self) -> (&str, &str) {
        (&self.user, &self.password)
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(if self.0.path() == "/" && self.0.query().is_none() {
            ""
        } else {
            "/***"
        })
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpUrl({self})")
    }
}

impl fmt::Display for TwilioUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "account {} at {}", self.account, self.api)
    }
}

impl fmt::Debug for TwilioUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TwilioUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_shown_without_their_secrets() {
        for (given, shown) in [
            ("https://crm.example.com", "https://crm.example.com"),
            ("https://crm.example.com/hooks/s3cret", "https://crm.example.com/***"),
            ("https://crm.example.com?key=s3cret", "https://crm.example.com/***"),
            ("https://crm.example.com:8443/x", "https://crm.example.com:8443/***"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://0x7f.1/", "http://127.0.0.1"),
            ("https://2130706433", "https://127.0.0.1"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
        ] {
            let url = HttpUrl::parse(given).expect(given);
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?} {url:#?}").contains("s3cret"));
        }
        assert_eq!(
            HttpUrl::parse("https://0x7f.1").expect("valid").literal(),
            "127.0.0.1".parse().ok()
        );
        assert_eq!(
            HttpUrl::parse("https://[::1]").expect("valid").literal(),
            "::1".parse().ok()
        );
        assert_eq!(HttpUrl::parse("https://a.example").expect("valid").literal(), None);
    }

    #[test]
    fn bad_urls_are_refused() {
        for (given, why) in [
            ("", HttpUrlError::Syntax),
            ("crm.example.com", HttpUrlError::Syntax),
            ("https://", HttpUrlError::Syntax),
            ("https://[fe80::1%25eth0]/", HttpUrlError::Syntax),
            ("ftp://example.com", HttpUrlError::Scheme),
            ("file:///etc/passwd", HttpUrlError::Scheme),
            ("https://u:s3cret@example.com", HttpUrlError::User),
            ("https://u@example.com", HttpUrlError::User),
            ("https://example.com/#x", HttpUrlError::Fragment),
            ("https://example.com:22", HttpUrlError::Port),
            ("https://example.com:80", HttpUrlError::Port),
            ("http://example.com:25", HttpUrlError::Port),
            ("http://example.com:0", HttpUrlError::Port),
        ] {
            assert_eq!(HttpUrl::parse(given), Err(why), "{given}");
        }
    }

    #[test]
    fn accounts_are_read_and_their_secrets_not_shown() {
        let url = TwilioUrl::parse_rest("://AC1:s3cret%2F@api.twilio.com").expect("valid");
        assert_eq!((url.account.as_str(), url.login()), ("AC1", ("AC1", "s3cret/")));
        assert_eq!(url.to_string(), "account AC1 at https://api.twilio.com");
        let messages = url.api.join("2010-04-01/Accounts/AC1/Messages.json");
        assert_eq!(
            messages.url().as_str(),
            "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages.json"
        );
        let url = TwilioUrl::parse_rest("+http://SK1:s3cret@127.0.0.1:81/twilio/?account=AC1");
        assert_eq!(url, Err(HttpUrlError::Port));
        let url = TwilioUrl::parse_rest("+http://SK1:s3cret@127.0.0.1:8081/twilio/?account=AC1").expect("valid");
        assert_eq!((url.account.as_str(), url.login()), ("AC1", ("SK1", "s3cret")));
        assert_eq!(url.api.join("x").url().as_str(), "http://127.0.0.1:8081/twilio/x");
        assert!(!format!("{url} {url:?} {url:#?}").contains("s3cret"));
        for bad in [
            "://api.twilio.com",
            "://AC1@api.twilio.com",
            "://:s3cret@api.twilio.com",
            "://SK1:s3cret@api.twilio.com",
            "://SK1:s3cret@api.twilio.com?account=SK2",
            "://SK1:s3cret@api.twilio.com?account=",
            "://SK1:s3cret@api.twilio.com?account=AC1%2F..",
            "://AC1:s3cret@api.twilio.com?x=1",
            "://A%2F..:s3cret@api.twilio.com",
            "://AC1:s3cret%ff@api.twilio.com",
        ] {
            assert_eq!(TwilioUrl::parse_rest(bad), Err(HttpUrlError::Account), "{bad}");
        }
        assert_eq!(TwilioUrl::parse_rest("+ftp://AC1:s3cret@x"), Err(HttpUrlError::Scheme));
    }
}
