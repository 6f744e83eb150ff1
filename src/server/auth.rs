//! By what callers are known: files that are followed while the server runs, and keys that are fetched.

use anyhow::Context as _;
use futures::FutureExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{Callers, Credentials, FetchedKeys, Guard, JwtSettings, JwtVerifier, KeySet, KeySource, Methods};
use crate::channels::{DestinationPolicy, HttpClient, HttpSettings, HttpUrl, SystemResolver, TrustedRoots};
use crate::clock::Clock;
use crate::config::{AuthArgs, JwksAt};
use crate::proto::method_paths;
use crate::reload::Reloader;
use crate::rest::Gate;
use crate::telemetry::Metrics;

/// The longest that a request for keys takes.
const FETCH: Duration = Duration::from_secs(5);

/// What follows the files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Background<'a> {
    pub(super) tracker: &'a TaskTracker,
    pub(super) stopping: &'a CancellationToken,
}

/// Who asks who calls, with the table of who may call what held against all that is served.
pub(super) async fn guard(
    args: &AuthArgs,
    trusted: &TrustedRoots,
    clock: &Arc<dyn Clock>,
    background: Background<'_>,
) -> anyhow::Result<Guard> {
    let others = [
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ];
    let contract = method_paths(&others).map_err(anyhow::Error::msg)?;
    let methods = Methods::checked(&contract).context("the table of who may call what is not that of the contract")?;
    let callers = match &args.callers_file {
        Some(file) => {
            let parse = |text: &str| Callers::parse(text).map_err(|error| error.to_string());
            let place = || format!("--callers-file (CAMPAIGN_CALLERS_FILE) {}", file.display());
            Some(
                followed("the callers file", file, parse, background)
                    .await
                    .with_context(place)?,
            )
        }
        None => None,
    };
    let jwt = match args.jwt()? {
        Some(given) => {
            let keys = match &given.keys {
                JwksAt::File(file) => {
                    let parse = |text: &str| KeySet::parse(text.as_bytes()).map_err(|error| error.to_string());
                    let place = || format!("--jwks-file (CAMPAIGN_JWKS_FILE) {}", file.display());
                    let keys = followed("the keys of --jwks-file", file, parse, background).await;
                    KeySource::File(keys.with_context(place)?)
                }
                JwksAt::Url(url) => KeySource::Url(fetched(url, trusted, clock).await?),
            };
            let settings = JwtSettings {
                issuer: given.issuer,
                audience: given.audience,
                roles_claim: args.jwt_roles_claim.clone(),
            };
            Some(JwtVerifier::new(settings, keys, Arc::clone(clock)))
        }
        None => None,
    };
    Ok(Guard::new(Credentials { callers, jwt }, methods))
}

/// What a file holds, which follows it until the server stops.
async fn followed<T: Send + Sync + 'static>(
    what: &str,
    file: &Path,
    parse: fn(&str) -> Result<T, String>,
    background: Background<'_>,
) -> anyhow::Result<watch::Receiver<Arc<T>>> {
    let parse = move |contents: &[Vec<u8>]| {
        let content = contents.first().map(Vec::as_slice).unwrap_or_default();
        parse(std::str::from_utf8(content).map_err(|_| "it is not UTF-8".to_owned())?)
    };
    let reloader = Reloader::read(what, vec![file.to_owned()], parse).await?;
    let value = reloader.subscribe();
    let stopping = background.stopping.clone();
    background
        .tracker
        .spawn(async move { stopping.run_until_cancelled(reloader.keep_looking()).await });
    Ok(value)
}

/// The keys at a URL, asked for once.
async fn fetched(url: &HttpUrl, trusted: &TrustedRoots, clock: &Arc<dyn Clock>) -> anyhow::Result<FetchedKeys> {
    let settings = HttpSettings {
        // Issuers are often in one's own network.
        policy: DestinationPolicy { private: true },
        timeout: FETCH,
    };
    // Keys are no messages: what is counted are those.
    let uncounted = Metrics::unread();
    let client = HttpClient::new(
        settings,
        trusted,
        Arc::new(SystemResolver),
        Arc::clone(clock),
        uncounted,
    )?;
    let (client, url) = (Arc::new(client), url.clone());
    let fetch = move || {
        let (client, url) = (Arc::clone(&client), url.clone());
        async move { client.get(&url).await }.boxed()
    };
    let keys = FetchedKeys::new(fetch, Arc::clone(clock));
    keys.begin().await;
    Ok(keys)
}

impl Gate for Guard {
    fn method(&self, from: &http::Extensions, path: &str) -> Result<(), tonic::Status> {
        self.permit(from, path).map(|_| ()).map_err(|refused| refused.status())
    }

    fn known(&self, from: &http::Extensions) -> Result<(), tonic::Status> {
        self.permit_known(from).map(|_| ()).map_err(|refused| refused.status())
    }
}
