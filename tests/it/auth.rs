//! Who calls, and what he may: tokens of the callers file and JWTs, the table of methods, and what is each caller's own.

mod jwks;
mod jwts;
mod mangled;
mod methods;
mod own;
mod programs;
mod tokens;

use campaign_automation::auth::digest_of;
use campaign_automation::config::Config;
use http::uri::PathAndQuery;
use std::path::PathBuf;
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::support::{App, Backend, Watched, canaries};

/// What a scheduler may call, which changes nothing here.
const LIST_TICKS: &str = "/campaign.v1.CampaignTickService/ListTickRuns";

/// A server that asks who calls, beside one on the same database that asks nobody, which tests set up what they need with.
struct Guarded {
    app: App,
    server: Watched,
    channel: Channel,
    folder: TempDir,
}

impl Guarded {
    /// A server with these callers, each with his name and roles; his token is `token-of-` and his name.
    async fn with_callers(backend: Backend, callers: &[(&str, &str)]) -> Self {
        let text = callers_file(callers);
        Self::start(backend, &[("callers.yaml", text)], |config, path| {
            config.auth.callers_file = Some(path("callers.yaml"));
        })
        .await
    }

    /// A server with these files, and a configuration that names them.
    async fn start(
        backend: Backend,
        files: &[(&str, String)],
        change: impl FnOnce(&mut Config, &dyn Fn(&str) -> PathBuf),
    ) -> Self {
        let app = App::start(backend).await;
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let path = |name: &str| folder.path().join(name);
        let (server, channel) = app.server_on(&app.database.url, |config| change(config, &path)).await;
        Self {
            app,
            server,
            channel,
            folder,
        }
    }

    /// Replaces a file.
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("written");
    }

    /// Calls a method with a request that says nothing, and with a token.
    async fn call(&self, path: &str, token: &str) -> Result<(), Status> {
        self.call_with(path, &[&format!("Bearer {token}")]).await
    }

    /// The same with these headers `authorization`.
    async fn call_with(&self, path: &str, credentials: &[&str]) -> Result<(), Status> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.expect("a connection");
        let mut request = Request::new(());
        for value in credentials {
            let value = value.parse().expect("a value");
            request.metadata_mut().append("authorization", value);
        }
        let at = PathAndQuery::try_from(path).expect("a path");
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let mut answers = client.server_streaming(request, at, codec).await?.into_inner();
        // It watches for ever.
        if path.ends_with("/Watch") {
            return answers.message().await.map(|_| ());
        }
        while answers.message().await?.is_some() {}
        Ok(())
    }

    async fn stop(self) {
        self.server.shutdown().await.expect("stopped");
        self.app.server.shutdown().await.expect("stopped");
    }
}

/// A callers file with these callers.
fn callers_file(callers: &[(&str, &str)]) -> String {
    let entry = |(name, roles): &(&str, &str)| {
        let digest = digest_of(&format!("token-of-{name}"));
        format!("  - {{name: {name}, roles: [{roles}], token_sha256: {digest}}}\n")
    };
    format!("callers:\n{}", callers.iter().map(entry).collect::<String>())
}

/// Whether somebody was let in, or why not, by code and reason.
fn told(result: &Result<(), Status>) -> Result<(), (Code, String)> {
    match result {
        Ok(()) => Ok(()),
        Err(status) => {
            let details = status.get_error_details();
            let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
            Err((status.code(), reason))
        }
    }
}

#[track_caller]
fn refused(result: &Result<(), Status>, code: Code, reason: &str, what: &str) {
    assert_eq!(told(result), Err((code, reason.to_owned())), "{what}: {result:?}");
    canaries::check_text(what, &format!("{result:?}"));
}
