//! The token by which the programs say who calls. It comes from a file or the environment, never from an argument, which others on
//! the machine can read; and it goes over nothing that others can read, unless somebody says that it may.

use clap::Args;
use http::Uri;
use std::net::IpAddr;
use std::path::PathBuf;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::trace::Trace;
use crate::auth::digest_of;
use crate::random;

/// Where the token may be, other than in a file.
const VARIABLE: &str = "CAMPAIGN_TOKEN";

/// A connection over which each call says who makes it, and to which trace it belongs.
pub(super) type Connection = InterceptedService<Channel, Headers>;

/// The token to call with.
#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    /// The file with the token to call with. Without it, the token itself may be in `CAMPAIGN_TOKEN`.
    #[arg(long, env = "CAMPAIGN_TOKEN_FILE", value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// Send the token also to another machine without encryption, where it can be read on its way.
    #[arg(long, env = "CAMPAIGN_PLAINTEXT_TOKEN", global = true)]
    pub plaintext_token: bool,
}

/// Puts the token into each call, if there is one.
#[derive(Clone)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer(..)")
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl Bearer {
    /// A connection over which each call has the token, and belongs to a trace.
    pub(super) fn over(self, channel: Channel, trace: Trace) -> Connection {
        InterceptedService::new(channel, Headers { bearer: self, trace })
    }
}

/// What is put into each call.
#[derive(Debug, Clone)]
pub(super) struct Headers {
    bearer: Bearer,
    trace: Trace,
}

impl Interceptor for Headers {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let mut request = self.bearer.call(request)?;
        self.trace.put_into(request.metadata_mut());
        Ok(request)
    }
}

impl TokenArgs {
    /// The token for a server, or why it can't be had or sent there.
    pub(super) fn bearer(&self, server: &str) -> Result<Bearer, String> {
        self.bearer_or(server, std::env::var(VARIABLE).ok())
    }

    fn bearer_or(&self, server: &str, variable: Option<String>) -> Result<Bearer, String> {
        let (place, token) = match (&self.token_file, variable) {
            (Some(file), _) => {
                let place = format!("--token-file (CAMPAIGN_TOKEN_FILE) {}", file.display());
                let text = std::fs::read_to_string(file).map_err(|error| format!("{place}: {error}"))?;
                (place, text)
            }
            (None, Some(token)) => (VARIABLE.to_owned(), token),
            (None, None) => return Ok(Bearer(None)),
        };
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!("{place}: must be one token, without spaces in it"));
        }
        if !self.plaintext_token && !is_private(server) {
            return Err(format!(
                "the token is not sent to {server}, as others can read it on its way: use https, or set --plaintext-token (CAMPAIGN_PLAINTEXT_TOKEN=true)"
            ));
        }
        let value = MetadataValue::try_from(format!("Bearer {token}"));
        let mut value = value.map_err(|_| format!("{place}: is no token"))?;
        value.set_sensitive(true);
        Ok(Bearer(Some(value)))
    }
}

/// Whether what is sent to a server can't be read by others: it is encrypted, or stays on this machine.
fn is_private(server: &str) -> bool {
    let Ok(uri) = server.parse::<Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    uri.scheme_str() == Some("https") || is_local
}

/// A new token, and its digest for the callers file.
pub(super) fn make() -> anyhow::Result<String> {
    // In base64 for URLs, without padding: what a shell and a header take as it is.
    let token = random::secret()?.replace('+', "-").replace('/', "_").replace('=', "");
    Ok(format!("token:        {token}\ntoken_sha256: {}", digest_of(&token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(token_file: Option<&str>, plaintext_token: bool) -> TokenArgs {
        TokenArgs {
            token_file: token_file.map(PathBuf::from),
            plaintext_token,
        }
    }

    #[track_caller]
    fn check(args: &TokenArgs, server: &str, variable: Option<&str>, expected: Result<Option<&str>, &str>) {
        let bearer = args.bearer_or(server, variable.map(str::to_owned));
        let shown = format!("{bearer:?}");
        let sent = bearer.map(|mut bearer| {
            let request = bearer.call(Request::new(())).expect("a request");
            let value = request.metadata().get("authorization");
            value.map(|value| value.to_str().expect("text").to_owned())
        });
        match (sent, expected) {
            (Ok(sent), Ok(expected)) => assert_eq!(sent.as_deref(), expected, "{server}"),
            (Err(error), Err(part)) => assert!(error.contains(part), "{server}: {error}"),
            (sent, _) => panic!("{server}: {sent:?}"),
        }
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }

    #[test]
    fn the_token_comes_from_a_file_or_a_variable() {
        let server = "http://127.0.0.1:50051";
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "s3cr3t-file\n").expect("written");
        let with_file = args(file.to_str(), false);
        check(&args(None, false), server, None, Ok(None));
        check(&args(None, false), server, Some("s3cr3t\n"), Ok(Some("Bearer s3cr3t")));
        check(&with_file, server, Some("s3cr3t"), Ok(Some("Bearer s3cr3t-file")));
        check(&args(Some("/nowhere"), false), server, None, Err("CAMPAIGN_TOKEN_FILE"));
        for bad in ["", " ", "s3cr3t s3cr3t", "s3cr3t\ns3cr3t", "s3cr3té"] {
            check(&args(None, false), server, Some(bad), Err("must be one token"));
        }
    }

    #[test]
    fn the_token_goes_where_nobody_reads_it() {
        for (server, is_sent) in [
            ("https://campaigns.example", true),
            ("http://localhost:50051", true),
            ("http://127.0.0.2:50051", true),
            ("http://[::1]:50051", true),
            ("http://campaigns:50051", false),
            ("http://localhost.example", false),
            ("http://10.0.0.1:50051", false),
            ("campaigns:50051", false),
        ] {
            let expected = if is_sent {
                Ok(Some("Bearer s3cr3t"))
            } else {
                Err("--plaintext-token")
            };
            check(&args(None, false), server, Some("s3cr3t"), expected);
            check(&args(None, true), server, Some("s3cr3t"), Ok(Some("Bearer s3cr3t")));
            check(&args(None, false), server, None, Ok(None));
        }
    }

    #[test]
    fn a_new_token_goes_with_its_digest() {
        let made = make().expect("a token");
        let (token, digest) = made.split_once('\n').expect("two lines");
        let token = token.strip_prefix("token:").expect("a token").trim();
        assert_eq!(token.len(), 43, "256 bits");
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
        assert_eq!(digest, format!("token_sha256: {}", digest_of(token)));
        assert_ne!(made, make().expect("another"));
    }
}
