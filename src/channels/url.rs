//! Where messages go, as one string of the configuration.
//!
//! - `outbox:<directory>` writes files.
//! - `smtp://[user:password@]host[:port][?tls=starttls|opportunistic|none]` speaks SMTP, with STARTTLS required unless
//!   `tls` says otherwise. To the machine itself (`localhost`, `127.0.0.0/8`, `::1`) the default is `none`.
//! - `smtps://[user:password@]host[:port]` speaks SMTP in TLS from the first byte.
//! - `twilio://`, `gateway+https://` and `https://` are providers that are reached by HTTP; see [`super::http`].
//!
//! The default port is 587 with STARTTLS required, 465 for `smtps`, and otherwise 25. User and password are
//! percent-encoded. The password is never shown: not by `Display`, not by `Debug`, not in an error.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::http::{HttpUrl, HttpUrlError, TwilioUrl};

/// Where messages go.
#[derive(Clone, PartialEq, Eq)]
pub enum ChannelUrl {
    /// Into files of this directory.
    Outbox(PathBuf),
    /// To a mail server.
    Smtp(SmtpServer),
    /// To Twilio, or somebody who speaks as Twilio does.
    Twilio(TwilioUrl),
    /// To a gateway of one's own.
    Gateway(HttpUrl),
    /// To a webhook.
    Webhook(HttpUrl),
}

/// A mail server, and how to speak with it.
#[derive(Clone, PartialEq, Eq)]
pub struct SmtpServer {
    /// Its name or address; an IPv6 address without brackets. The certificate must be for this name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is encrypted.
    pub tls: TlsMode,
    /// Who logs in; nobody when there is none.
    pub login: Option<Login>,
}

/// How a connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// From the first byte.
    Implicit,
    /// By STARTTLS; without it nothing is sent.
    StartTls,
    /// By STARTTLS where the server offers it, and otherwise not. A password is sent encrypted only.
    Opportunistic,
    /// Not at all.
    None,
}

/// Who logs in to a mail server.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: String,
    password: String,
}

impl Login {
    /// A login; the password is kept from logs.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            password: password.into(),
        }
    }

    /// The password, for the mail server alone.
    pub(super) fn password(&self) -> &str {
        &self.password
    }
}

/// Why a channel's URL is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelUrlError {
    /// It begins with something else.
    #[error("a channel's URL begins with outbox:, smtp://, smtps://, twilio://, gateway+https:// or https://")]
    Scheme,
    /// A URL for HTTP that can't be one.
    #[error(transparent)]
    Http(#[from] HttpUrlError),
    /// An outbox without a directory.
    #[error("outbox: needs a directory, such as outbox:/var/lib/campaign/outbox")]
    Directory,
    /// A host that cannot be one.
    #[error(
        "the host must be a name of letters, digits, '.', '_' and '-', an IPv4 address, or an IPv6 address in brackets"
    )]
    Host,
    /// A port that is none.
    #[error("the port must be a number from 1 to 65535, not {0:?}")]
    Port(String),
    /// A path, which a mail server does not have.
    #[error("a mail server's URL has no path after the host and the port")]
    Path,
    /// A user without password, or the other way round.
    #[error("user and password go together, as user:password@host, each percent-encoded and not empty")]
    Login,
    /// A percent sign without two hexadecimal digits, or bytes that are not UTF-8.
    #[error("user and password are percent-encoded UTF-8: a '%' is written %25, an '@' %40, a ':' %3A, a '/' %2F")]
    Percent,
    /// A parameter that smtp:// does not know.
    #[error("smtp:// has one parameter, tls, which is starttls, opportunistic or none")]
    Parameter,
    /// Any parameter to smtps://.
    #[error("smtps:// has no parameters: it is always encrypted")]
    ImplicitParameter,
}

impl ChannelUrl {
    /// Reads a URL.
    pub fn parse(given: &str) -> Result<Self, ChannelUrlError> {
        if let Some(directory) = given.strip_prefix("outbox:") {
            if directory.trim().is_empty() {
                return Err(ChannelUrlError::Directory);
            }
            return Ok(Self::Outbox(PathBuf::from(directory)));
        }
        if let Some(rest) = given.strip_prefix("smtps://") {
            return smtp(rest, true).map(Self::Smtp);
        }
        if let Some(rest) = given.strip_prefix("smtp://") {
            return smtp(rest, false).map(Self::Smtp);
        }
        if let Some(rest) = given.strip_prefix("twilio") {
            return Ok(Self::Twilio(TwilioUrl::parse_rest(rest)?));
        }
        if let Some(url) = given.strip_prefix("gateway+") {
            return Ok(Self::Gateway(HttpUrl::parse(url)?));
        }
        if given.starts_with("https://") || given.starts_with("http://") {
            return Ok(Self::Webhook(HttpUrl::parse(given)?));
        }
        Err(ChannelUrlError::Scheme)
    }
}

fn smtp(rest: &str, implicit: bool) -> Result<SmtpServer, ChannelUrlError> {
    let (authority, query) = match rest.split_once('?') {
        Some((authority, query)) => (authority, Some(query)),
        None => (rest, None),
    };
    let (login, place) = match authority.rsplit_once('@') {
        Some((login, place)) => (Some(parse_login(login)?), place),
        None => (None, authority),
    };
    let place = place.strip_suffix('/').unwrap_or(place);
    if place.contains('/') {
        return Err(ChannelUrlError::Path);
    }
    let (host, port) = parse_place(place)?;
    let tls = match (implicit, query) {
        (true, None) => TlsMode::Implicit,
        (true, Some(_)) => return Err(ChannelUrlError::ImplicitParameter),
        (false, None) if is_loopback(host) => TlsMode::None,
        (false, None | Some("tls=starttls")) => TlsMode::StartTls,
        (false, Some("tls=opportunistic")) => TlsMode::Opportunistic,
        (false, Some("tls=none")) => TlsMode::None,
        (false, Some(_)) => return Err(ChannelUrlError::Parameter),
    };
    let port = port.unwrap_or(match tls {
        TlsMode::Implicit => 465,
        TlsMode::StartTls => 587,
        TlsMode::Opportunistic | TlsMode::None => 25,
    });
    Ok(SmtpServer {
        host: host.to_owned(),
        port,
        tls,
        login,
    })
}

fn parse_login(given: &str) -> Result<Login, ChannelUrlError> {
    match given.split_once(':') {
        Some((user, password)) if !user.is_empty() && !password.is_empty() => {
            Ok(Login::new(percent_decoded(user)?, percent_decoded(password)?))
        }
        Some(_) | None => Err(ChannelUrlError::Login),
    }
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`.
fn parse_place(given: &str) -> Result<(&str, Option<u16>), ChannelUrlError> {
    let (host, port) = match given.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(ChannelUrlError::Host)?;
            let port = match after.strip_prefix(':') {
                Some(port) => Some(port),
                None if after.is_empty() => None,
                None => return Err(ChannelUrlError::Host),
            };
            (host, port)
        }
        None => match given.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (given, None),
        },
    };
    let good = if given.starts_with('[') {
        matches!(host.parse(), Ok(IpAddr::V6(_)))
    } else {
        !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    if !good {
        return Err(ChannelUrlError::Host);
    }
    let port = match port {
        Some(text) => match text.parse() {
            Ok(number) if number > 0 => Some(number),
            Ok(_) | Err(_) => return Err(ChannelUrlError::Port(text.to_owned())),
        },
        None => None,
    };
    Ok((host, port))
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

pub(super) fn percent_decoded(given: &str) -> Result<String, ChannelUrlError> {
    let mut bytes = Vec::with_capacity(given.len());
    let mut rest = given.as_bytes();
    while let [first, after @ ..] = rest {
        if *first == b'%' {
            let [high, low, after @ ..] = after else {
                return Err(ChannelUrlError::Percent);
            };
            bytes.push(hex(*high)? * 16 + hex(*low)?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).map_err(|_| ChannelUrlError::Percent)
}

fn hex(digit: u8) -> Result<u8, ChannelUrlError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(ChannelUrlError::Percent),
    }
}

impl FromStr for ChannelUrl {
    type Err = ChannelUrlError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        Self::parse(given)
    }
}

impl fmt::Display for ChannelUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outbox(directory) => write!(f, "outbox:{}", directory.display()),
            Self::Smtp(server) => server.fmt(f),
            Self::Twilio(account) => account.fmt(f),
            Self::Gateway(url) => write!(f, "gateway+{url}"),
            Self::Webhook(url) => url.fmt(f),
        }
    }
}

impl fmt::Debug for ChannelUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelUrl({self})")
    }
}

impl fmt::Display for SmtpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls == TlsMode::Implicit {
            "smtps://"
        } else {
            "smtp://"
        })?;
        if let Some(login) = &self.login {
            write!(f, "{}:***@", login.user)?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "{}:{}", self.host, self.port)?;
        }
        f.write_str(match self.tls {
            TlsMode::Implicit => "",
            TlsMode::StartTls => "?tls=starttls",
            TlsMode::Opportunistic => "?tls=opportunistic",
            TlsMode::None => "?tls=none",
        })
    }
}

impl fmt::Debug for SmtpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmtpServer({self})")
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({}:***)", self.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(given: &str, shown: &str) {
        let url = ChannelUrl::parse(given).expect(given);
        assert_eq!(url.to_string(), shown);
    }

    #[track_caller]
    fn check_refused(given: &str, why: &ChannelUrlError) {
        let refused = ChannelUrl::parse(given).expect_err(given);
        assert_eq!(&refused, why, "{given}");
        assert!(!refused.to_string().contains("s3cret"), "{refused}");
    }

    #[test]
    fn urls_are_read_with_their_defaults() {
        check("outbox:/var/out box", "outbox:/var/out box");
        check("outbox:./out", "outbox:./out");
        check("smtp://mail.example.com", "smtp://mail.example.com:587?tls=starttls");
        check(
            "smtp://mail.example.com/?tls=none",
            "smtp://mail.example.com:25?tls=none",
        );
        check(
            "smtp://mail.example.com:2525?tls=opportunistic",
            "smtp://mail.example.com:2525?tls=opportunistic",
        );
        check("smtp://localhost:1025", "smtp://localhost:1025?tls=none");
        check("smtp://127.0.0.1", "smtp://127.0.0.1:25?tls=none");
        check("smtp://[::1]:25", "smtp://[::1]:25?tls=none");
        check("smtp://localhost?tls=starttls", "smtp://localhost:587?tls=starttls");
        check("smtps://u:p@mail.example.com", "smtps://u:***@mail.example.com:465");
        check(
            "smtp://u%40x.org:p@[2001:db8::1]",
            "smtp://u@x.org:***@[2001:db8::1]:587?tls=starttls",
        );
    }

    #[test]
    fn urls_of_providers_are_read() {
        check(
            "twilio://AC1:s3cret@api.twilio.com",
            "account AC1 at https://api.twilio.com",
        );
        check(
            "gateway+https://sms.example.com/in",
            "gateway+https://sms.example.com/***",
        );
        check("gateway+http://127.0.0.1:8080", "gateway+http://127.0.0.1:8080");
        check("https://crm.example.com/tasks", "https://crm.example.com/***");
    }

    #[test]
    fn bad_urls_are_refused_with_what_is_allowed() {
        check_refused("", &ChannelUrlError::Scheme);
        check_refused("ftp://u:s3cret@example.com", &ChannelUrlError::Scheme);
        check_refused(
            "https://u:s3cret@example.com",
            &ChannelUrlError::Http(HttpUrlError::User),
        );
        check_refused(
            "gateway+ftp://example.com",
            &ChannelUrlError::Http(HttpUrlError::Scheme),
        );
        check_refused(
            "gateway+https://u:s3cret@example.com",
            &ChannelUrlError::Http(HttpUrlError::User),
        );
        check_refused(
            "twilio://s3cret@example.com",
            &ChannelUrlError::Http(HttpUrlError::Account),
        );
        check_refused(
            "twilio+ssh://a:s3cret@example.com",
            &ChannelUrlError::Http(HttpUrlError::Scheme),
        );
        check_refused("outbox:", &ChannelUrlError::Directory);
        check_refused("smtp://", &ChannelUrlError::Host);
        check_refused("smtp://a b", &ChannelUrlError::Host);
        check_refused("smtp://::1", &ChannelUrlError::Host);
        check_refused("smtp://[::1", &ChannelUrlError::Host);
        check_refused("smtp://[::1]x", &ChannelUrlError::Host);
        check_refused("smtp://mail:0", &ChannelUrlError::Port("0".to_owned()));
        check_refused("smtp://mail:66000", &ChannelUrlError::Port("66000".to_owned()));
        check_refused("smtp://mail/inbox", &ChannelUrlError::Path);
        check_refused("smtp://user@mail", &ChannelUrlError::Login);
        check_refused("smtp://:s3cret@mail", &ChannelUrlError::Login);
        check_refused("smtp://user:s3cret%4@mail", &ChannelUrlError::Percent);
        check_refused("smtp://user:s3cret%zz@mail", &ChannelUrlError::Percent);
        check_refused("smtp://user:s3cret%ff@mail", &ChannelUrlError::Percent);
        check_refused("smtp://mail?tls=maybe", &ChannelUrlError::Parameter);
        check_refused("smtp://mail?tls=none&x=1", &ChannelUrlError::Parameter);
        check_refused("smtps://mail?tls=none", &ChannelUrlError::ImplicitParameter);
    }

    #[test]
    fn the_password_is_decoded_and_never_shown() {
        let url = ChannelUrl::parse("smtp://user:s3cret%40%2F%3A%25@mail.example.com").expect("valid");
        let ChannelUrl::Smtp(server) = &url else {
            panic!("not SMTP: {url}")
        };
        assert_eq!(server.login, Some(Login::new("user", "s3cret@/:%")));
        for shown in [
            format!("{url} {url:?} {url:#?}"),
            format!("{server} {server:?} {:?}", server.login),
        ] {
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }
}
