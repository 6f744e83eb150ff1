//! Names of hosts, as requests have them.

use http::Request;
use http::header::HOST;
use http::uri::Authority;
use std::net::IpAddr;
use std::str::FromStr;

/// A host by its name or address, in lower case and without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(String);

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = !text.contains([':', '@']) || text.starts_with('[') && text.ends_with(']');
        let wrong = || format!("{text:?} is no name of a host, as in campaigns.local");
        Self::within(text).filter(|_| is_plain).ok_or_else(wrong)
    }
}

impl HostName {
    /// The host that a request is for; none where it doesn't say, as only programs do.
    pub(super) fn of<B>(request: &Request<B>) -> Option<Result<Self, ()>> {
        // HTTP/2 has it in the address, HTTP/1 in a header.
        let authority = request.uri().authority().map(Authority::as_str);
        let mut headers = request.headers().get_all(HOST).iter();
        let header = headers.next().map(|host| host.to_str().unwrap_or_default());
        let host = authority.or(header)?;
        Some(Self::within(host).ok_or(()))
    }

    /// Whether only this machine is called so.
    pub(super) fn is_loopback(&self) -> bool {
        let address = self.0.trim_start_matches('[').trim_end_matches(']');
        self.0 == "localhost"
            || address
                .parse::<IpAddr>()
                .is_ok_and(|address| address.to_canonical().is_loopback())
    }

    fn within(authority: &str) -> Option<Self> {
        let authority: Authority = authority.parse().ok()?;
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        (!host.is_empty()).then_some(Self(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_apart() {
        let of = |host: &str| {
            let request = Request::get("/").header(HOST, host).body(()).expect("a request");
            HostName::of(&request)
        };
        for loopback in [
            "localhost",
            "LocalHost:50051",
            "127.0.0.1:1",
            "127.8.8.8",
            "[::1]:50051",
            "[::1]",
            "localhost.",
        ] {
            let host = of(loopback).expect("a host").expect("a host");
            assert!(host.is_loopback(), "{loopback}");
        }
        for other in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:50051",
            "10.0.0.1",
            "[::2]",
        ] {
            let host = of(other).expect("a host").expect("a host");
            assert!(!host.is_loopback(), "{other}");
        }
        for none in ["", "a b", ":50051", "a/b"] {
            assert_eq!(of(none), Some(Err(())), "{none}");
        }
        let mut request = Request::get("http://evil.example/")
            .header(HOST, "localhost")
            .body(())
            .expect("a request");
        assert_eq!(HostName::of(&request), Some(Ok(HostName("evil.example".to_owned()))));
        *request.uri_mut() = "/".parse().expect("a path");
        request.headers_mut().remove(HOST);
        assert_eq!(HostName::of(&request), None);
    }

    #[test]
    fn names_are_parsed() {
        assert_eq!("Campaigns.local".parse(), Ok(HostName("campaigns.local".to_owned())));
        assert_eq!("[fd00::1]".parse(), Ok(HostName("[fd00::1]".to_owned())));
        for bad in ["", "http://a", "a:80", "a@b", "a/b", "a b"] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
    }
}
