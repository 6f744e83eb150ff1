//! Which destinations are allowed.

use std::net::IpAddr;

use super::address::{Reach, reach};
use super::url::HttpUrl;

/// With whom the client connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DestinationPolicy {
    /// Also with this machine and its own network, and with them unencrypted too. Never with link-local addresses, where clouds have
    /// their metadata.
    pub private: bool,
}

impl DestinationPolicy {
    pub(super) fn allows(self, reach: Reach, is_encrypted: bool) -> bool {
        match reach {
            Reach::Public => is_encrypted,
            Reach::Private => self.private,
            Reach::Never => false,
        }
    }

    /// Whether requests to a URL are made at all, as far as it can be said without looking up its name.
    pub fn check(self, url: &HttpUrl) -> Result<(), Forbidden> {
        if !url.is_encrypted() && !self.private {
            return Err(Forbidden::Unencrypted);
        }
        match url.literal() {
            Some(address) if !self.allows(reach(address), url.is_encrypted()) => Err(Forbidden::of(address)),
            Some(_) | None => Ok(()),
        }
    }
}

/// Why no request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// It would be readable on its way.
    #[error("requests are encrypted: use https, or allow private destinations")]
    Unencrypted,
    /// The address is of this machine or its network.
    #[error("{0} is a private address, and private destinations are not allowed")]
    Private(IpAddr),
    /// The address is public, where nothing goes unencrypted.
    #[error("{0} is a public address, and only private destinations are reached without encryption")]
    Public(IpAddr),
    /// The address is no one's who could be meant.
    #[error("{0} is reserved or link-local, and never connected with")]
    Never(IpAddr),
}

impl Forbidden {
    pub(super) fn of(address: IpAddr) -> Self {
        match reach(address) {
            Reach::Public => Self::Public(address),
            Reach::Private => Self::Private(address),
            Reach::Never => Self::Never(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: DestinationPolicy = DestinationPolicy { private: false };
    const PRIVATE: DestinationPolicy = DestinationPolicy { private: true };

    #[test]
    fn addresses_in_urls_are_checked() {
        let check = |policy: DestinationPolicy, url: &str| {
            let url = HttpUrl::parse(url).expect(url);
            policy.check(&url).map_err(|why| why.to_string())
        };
        for url in ["https://a.example", "https://8.8.8.8", "https://[2606:4700::1111]:8443"] {
            assert_eq!((check(PUBLIC, url), check(PRIVATE, url)), (Ok(()), Ok(())), "{url}");
        }
        for url in [
            "https://127.0.0.1",
            "https://0x7f.1",
            "https://10.0.0.1",
            "https://[::ffff:127.0.0.1]",
            "https://[fd00::1]",
            "http://127.0.0.1:8080",
            "http://a.example",
        ] {
            assert!(check(PUBLIC, url).is_err(), "{url}");
            assert_eq!(check(PRIVATE, url), Ok(()), "{url}");
        }
        for url in [
            "http://8.8.8.8",
            "https://169.254.169.254",
            "http://169.254.169.254",
            "https://[fe80::1]",
            "https://0.0.0.0",
        ] {
            assert!(check(PUBLIC, url).is_err() && check(PRIVATE, url).is_err(), "{url}");
        }
    }
}
