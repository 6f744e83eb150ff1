//! Looking up the names of providers, and taking out of the answer what is not allowed.

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::address::reach;
use super::policy::{DestinationPolicy, Forbidden};

/// Looks up names.
pub trait NameResolver: Send + Sync + fmt::Debug {
    /// All addresses of a name.
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// Looks up names as the system does.
#[derive(Debug, Clone, Copy)]
pub struct SystemResolver;

impl NameResolver for SystemResolver {
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// The part of the resolver's answer that is allowed.
pub(super) struct CheckedResolver {
    pub(super) resolver: Arc<dyn NameResolver>,
    pub(super) policy: DestinationPolicy,
    pub(super) is_encrypted: bool,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.resolver.resolve(name.as_str().to_owned());
        let (policy, is_encrypted) = (self.policy, self.is_encrypted);
        Box::pin(async move {
            let found = found.await?;
            let allowed: Vec<SocketAddr> = found
                .iter()
                .filter(|address| policy.allows(reach(**address), is_encrypted))
                .map(|address| SocketAddr::new(*address, 0))
                .collect();
            match found.first() {
                Some(first) if allowed.is_empty() => Err(Forbidden::of(*first).into()),
                Some(_) => Ok(Box::new(allowed.into_iter()) as Addrs),
                None => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: DestinationPolicy = DestinationPolicy { private: false };
    const PRIVATE: DestinationPolicy = DestinationPolicy { private: true };

    /// Answers one after the other.
    #[derive(Debug)]
    struct Answers(std::sync::Mutex<Vec<Vec<IpAddr>>>);

    impl NameResolver for Answers {
        fn resolve(&self, _: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            let answer = self.0.lock().expect("a lock").remove(0);
            Box::pin(async move { Ok(answer) })
        }
    }

    #[tokio::test]
    async fn every_address_of_every_answer_is_checked() {
        let answers: Vec<Vec<IpAddr>> = [
            "93.184.216.34",
            "127.0.0.1",
            "127.0.0.1 93.184.216.34",
            "169.254.169.254 10.0.0.1",
            "",
        ]
        .iter()
        .map(|answer| {
            answer
                .split_whitespace()
                .map(|ip| ip.parse().expect("an address"))
                .collect()
        })
        .collect();
        let resolve = async |policy, is_encrypted| {
            let resolver = CheckedResolver {
                resolver: Arc::new(Answers(std::sync::Mutex::new(answers.clone()))),
                policy,
                is_encrypted,
            };
            let mut shown = Vec::new();
            for _ in 0..answers.len() {
                let resolved = resolver.resolve("a.example".parse().expect("a name")).await;
                shown.push(match resolved {
                    Ok(addresses) => addresses
                        .map(|address| address.to_string())
                        .collect::<Vec<_>>()
                        .join(" "),
                    Err(error) if error.is::<Forbidden>() => "forbidden".to_owned(),
                    Err(error) => error.to_string(),
                });
            }
            shown
        };
        let none = "the name has no address";
        assert_eq!(
            resolve(PUBLIC, true).await,
            ["93.184.216.34:0", "forbidden", "93.184.216.34:0", "forbidden", none]
        );
        assert_eq!(
            resolve(PRIVATE, true).await,
            [
                "93.184.216.34:0",
                "127.0.0.1:0",
                "127.0.0.1:0 93.184.216.34:0",
                "10.0.0.1:0",
                none
            ]
        );
        assert_eq!(
            resolve(PRIVATE, false).await,
            ["forbidden", "127.0.0.1:0", "127.0.0.1:0", "10.0.0.1:0", none]
        );
        assert_eq!(
            resolve(PUBLIC, false).await,
            ["forbidden", "forbidden", "forbidden", "forbidden", none]
        );
    }
}
