//! Looks through what the tests' servers give out to those who watch them: there is nothing in it that a customer can be known by,
//! and no secret, in whatever test it is written.
//!
//! - Servers in this process: what the service itself logs at its loudest, and all its spans with what is recorded on them, which is
//!   what a collector would get. Its dependencies log here as well, but for the tests' own clients and providers too, which know all.
//! - Programs that serve: all that they log at their loudest, dependencies too. Programs that end: what they say to standard error.
//! - Metrics, when a server is stopped in good order; what is in errors beside their words; URLs of requests to providers.
//!
//! What comes from other threads can fail no test where it is found. It is kept, and whoever lets go of a database after that fails:
//! the test in which it was written, at the latest, and all after it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeSet;
use std::fmt::{Debug, Display};
use std::sync::{LazyLock, Mutex, Once, PoisonError};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The password of databases that need none. `PostgreSQL` does not look at it where it trusts everybody.
pub(crate) const PASSWORD: &str = "dbpass-canary";

/// Of all that is secret in tests, something to know it by.
const SECRETS: [&str; 12] = [
    // Logins of providers and of mail servers.
    "t0ken",
    "s/ecret",
    "s%2Fecret",
    "user:secret",
    // Callers.
    "token-of-",
    // The second part of any JWT.
    ".eyJ",
    // Webhooks, gateways and events, the new secret and the old one.
    "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
    // The deployment's, and what it stands for.
    "dGVzdHMgaGF2ZSBhIHNlY3JldC",
    "tests have a secret",
    // Keys of TLS and DKIM.
    "PRIVATE KEY",
    PASSWORD,
];

/// Names of customers are `Customer` and their ids, and so are Rust's words for one.
const NAMES: [&str; 2] = ["Customer ", "Canary Anna"];

/// What refusals of numbers show as an example. It is also the number of some customers.
const EXAMPLE: &str = "in E.164 form such as +14155552671";

/// Links in mails, which say who got them.
const LINKS: [&str; 5] = ["/u/", "/o/", "/c/", "/callbacks/twilio/message/", "/callbacks/gateway/"];

/// Whom mails are from. They are no customers.
const SENDERS: [&str; 4] = [
    "shop@example.com",
    "news@example.com",
    "campaigns@example.com",
    "hello@shop.example",
];

/// What was found in what other threads wrote.
static FOUND: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Logins as they are in headers, by what does not depend on what stands around them.
static LOGINS: LazyLock<[String; 3]> = LazyLock::new(|| {
    ["t0ken", "0t0ken", "00t0ken"].map(|login| {
        let begins = login.len() - "t0ken".len();
        // Four letters are three bytes.
        let (from, to) = ((begins * 4).div_ceil(3), login.len() * 4 / 3);
        STANDARD.encode(login)[from..to].to_owned()
    })
});

/// Looks through what servers in this process log, from now on.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing_subscriber::registry().with(Canaries).init());
}

/// Fails when there was something in what other threads wrote.
#[track_caller]
pub(crate) fn check() {
    let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(found.is_empty(), "{found:#?}");
}

/// Fails when there is something in a text.
#[track_caller]
pub(crate) fn check_text(what: &str, text: &str) {
    if let Some(canary) = secret_in(text).or_else(|| personal_in(text)) {
        panic!("{}", told(what, &canary, text));
    }
}

/// Fails when there is a secret in a text that may be about a customer.
#[track_caller]
pub(crate) fn check_secrets(what: &str, text: &str) {
    if let Some(canary) = secret_in(text) {
        panic!("{}", told(what, &canary, text));
    }
}

/// The same as [`check_text`] for what another thread wrote.
pub(crate) fn look(what: impl Display, text: &str) {
    if let Some(canary) = secret_in(text).or_else(|| personal_in(text)) {
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        found.insert(told(what, &canary, text));
    }
}

fn told(what: impl Display, canary: &str, text: &str) -> String {
    let line = text.lines().find(|line| line.contains(canary)).unwrap_or(text);
    format!("{canary} is in {what}: {}", line.chars().take(600).collect::<String>())
}

fn secret_in(text: &str) -> Option<String> {
    let logins = LOGINS.iter().map(String::as_str);
    let mut all = SECRETS.into_iter().chain(logins);
    all.find(|secret| text.contains(secret)).map(str::to_owned)
}

fn personal_in(text: &str) -> Option<String> {
    let name = |name: &&str| {
        let mut places = text.match_indices(name);
        places.any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric()))
    };
    let name = NAMES.into_iter().find(name).map(str::to_owned);
    name.or_else(|| number_in(text))
        .or_else(|| address_in(text))
        .or_else(|| link_in(text))
}

/// A number as `+` and nine digits or more, and any of those that most customers have without it.
fn number_in(text: &str) -> Option<String> {
    let text = text.replace(EXAMPLE, "");
    let number = |at: usize| {
        let rest = &text[at..];
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].to_owned()
    };
    let signed = ["+", "%2B", "%2b"].into_iter().flat_map(|sign| {
        let places = text.match_indices(sign).map(|(at, sign)| at + sign.len());
        places.map(number).filter(|number| number.len() >= 9)
    });
    let bare = text.match_indices("1415555").map(|(at, _)| number(at));
    signed.chain(bare.filter(|number| number.len() == 11)).next()
}

/// A mail address.
fn address_in(text: &str) -> Option<String> {
    let is_local = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    let is_domain = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
    let addresses = ["@", "%40"].into_iter().flat_map(|sign| text.match_indices(sign));
    addresses
        .map(|(at, sign)| {
            let (before, after) = (&text[..at], &text[at + sign.len()..]);
            let local = before.rsplit(|c| !is_local(c)).next().unwrap_or_default();
            let domain = &after[..after.find(|c| !is_domain(c)).unwrap_or(after.len())];
            (local, domain.trim_end_matches('.'))
        })
        .filter(|(local, domain)| {
            let top = domain.rsplit_once('.').map_or("", |(_, top)| top);
            !local.is_empty() && top.len() >= 2 && top.bytes().all(|byte| byte.is_ascii_alphabetic())
        })
        .map(|(local, domain)| format!("{local}@{domain}"))
        .find(|address| !SENDERS.contains(&address.as_str()))
}

/// A link with what is sealed in it.
fn link_in(text: &str) -> Option<String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let links = LINKS.into_iter().flat_map(|link| text.match_indices(link));
    links
        .map(|(at, link)| {
            let rest = &text.as_bytes()[at + link.len()..];
            let length = rest.iter().take_while(|byte| is_token(**byte)).count();
            &text[at..at + link.len() + length]
        })
        .find(|link| link.len() > 40)
        .map(str::to_owned)
}

/// Looks through events and spans of the service.
struct Canaries;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Canaries {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let target = metadata.target();
        // That of the spans that are for traces alone begins so, too.
        target.starts_with("campaign_automation") || target.starts_with("migrations")
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        attributes.record(&mut Values(attributes.metadata()));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(metadata) = context.metadata(id) {
            values.record(&mut Values(metadata));
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut Values(event.metadata()));
    }
}

/// What is looked through, of one event or span.
struct Values<'a>(&'a Metadata<'a>);

impl Visit for Values<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let (target, name) = (self.0.target(), self.0.name());
        look(format_args!("{field} of {name} of {target}"), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
