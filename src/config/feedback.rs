//! What is needed for what comes back about messages.

use clap::Args;
use std::path::PathBuf;

use crate::channels::WebhookSecrets;
use crate::domain::Invalid;
use crate::engine::BounceAddress;

/// What is needed for what comes back about messages.
#[derive(Debug, Clone, Args)]
pub struct FeedbackArgs {
    /// The file with the secret by which `/callbacks/events` and `/callbacks/mail` know who may tell of bounces and complaints, `whsec_…`,
    /// or with two, the new and the old one, while it is replaced. Without, nobody may.
    #[arg(long, env = "CAMPAIGN_EVENTS_SECRET_FILE", value_name = "FILE")]
    pub events_secret_file: Option<PathBuf>,
    /// The same secret itself, from the environment alone: others may read a command line.
    #[arg(long, env = "CAMPAIGN_EVENTS_SECRET", value_name = "SECRET", hide_env_values = true, value_parser = WebhookSecrets::parse, conflicts_with = "events_secret_file")]
    pub events_secret: Option<WebhookSecrets>,
    /// Where bounces go, at most 16 characters before the `@`, as in `bounces@example.com`: each mail is sent in the name of
    /// `bounces+…@example.com`, which says which mail it was. Its mail server hands what comes there to `/callbacks/mail`. Default: bounces go
    /// to whoever the mail is from.
    #[arg(long, env = "CAMPAIGN_BOUNCE_ADDRESS", value_name = "ADDRESS", value_parser = bounce_address)]
    pub bounce_address: Option<BounceAddress>,
}

/// The secret can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--events-secret-file (CAMPAIGN_EVENTS_SECRET_FILE) {path}: {error}")]
pub struct EventsSecretError {
    /// The file.
    path: PathBuf,
    /// What is wrong with it.
    error: String,
}

impl FeedbackArgs {
    /// By what it is known who may tell of bounces; none: nobody may.
    pub fn secrets(&self) -> Result<Option<WebhookSecrets>, EventsSecretError> {
        let path = match (&self.events_secret, &self.events_secret_file) {
            (Some(secrets), _) => return Ok(Some(secrets.clone())),
            (None, None) => return Ok(None),
            (None, Some(path)) => path,
        };
        let failed = |error: String| EventsSecretError {
            path: path.clone(),
            error,
        };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let secrets = WebhookSecrets::parse(&text).map_err(|error| failed(error.to_string()))?;
        Ok(Some(secrets))
    }
}

fn bounce_address(given: &str) -> Result<BounceAddress, String> {
    BounceAddress::parse(given).map_err(|error: Invalid| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use super::super::parse::without_secret;
    use clap::{CommandFactory as _, Parser as _};

    #[track_caller]
    fn check(arguments: &[&str], expected: Result<bool, &str>) {
        let cli = Cli::try_parse_from([&["campaignd"], arguments].concat());
        let outcome = cli
            .map_err(|error| without_secret(error, &Cli::command()).to_string())
            .and_then(|cli| cli.config.feedback.secrets().map_err(|error| error.to_string()));
        match (outcome, expected) {
            (Ok(secrets), Ok(is_some)) => assert_eq!(secrets.is_some(), is_some, "{arguments:?}"),
            (Err(error), Err(part)) => {
                assert!(error.contains(part), "{arguments:?}: {error}");
                assert!(!error.contains("t0ken"), "{error}");
            }
            (outcome, _) => panic!("{arguments:?}: {outcome:?}"),
        }
    }

    #[test]
    fn the_secret_and_the_address_are_checked() {
        check(&[], Ok(false));
        check(&["--events-secret=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], Ok(true));
        check(&["--events-secret=t0ken"], Err("whsec_"));
        check(&["--events-secret-file=/nowhere"], Err("/nowhere"));
        let file = tempfile::NamedTempFile::new().expect("a file");
        let argument = format!("--events-secret-file={}", file.path().display());
        check(&[&argument], Err("one or two secrets"));
        std::fs::write(file.path(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").expect("written");
        check(&[&argument], Ok(true));
        check(&["--bounce-address=bounces@example.com"], Ok(false));
        check(
            &["--bounce-address=all-of-the-bounces@example.com"],
            Err("16 characters"),
        );
        check(&["--bounce-address=bounces"], Err("mail address"));
    }
}
