//! What providers of text messages, calls and tasks need beside their URLs.

use clap::Args;
use std::path::{Path, PathBuf};

use crate::channels::{ChannelUrl, DestinationPolicy, HttpUrl, SmsFrom, SmsLimit, TwilioUrl, WebhookSecrets};
use crate::domain::PhoneNumber;

/// What providers of text messages, calls and tasks need.
#[derive(Debug, Clone, Args)]
pub struct ProviderArgs {
    /// Who text messages are from: a number such as `+14155550100`, or a Twilio messaging service `MG…`. Required for Twilio.
    #[arg(long, env = "CAMPAIGN_SMS_FROM", value_name = "NUMBER", value_parser = SmsFrom::parse)]
    pub sms_from: Option<SmsFrom>,
    /// The number from which calls are made. Required for Twilio.
    #[arg(long, env = "CAMPAIGN_PHONE_FROM", value_name = "NUMBER", value_parser = PhoneNumber::parse)]
    pub phone_from: Option<PhoneNumber>,
    /// Into how many parts a text message may be split, 1 to 10; a longer one is refused.
    #[arg(long, env = "CAMPAIGN_SMS_MAX_SEGMENTS", value_name = "COUNT", default_value_t, value_parser = limit)]
    pub sms_max_segments: SmsLimit,
    /// The file with the secret with which webhooks and requests to gateways are signed, `whsec_…`, or with two, the new and the old
    /// one, while it is replaced.
    #[arg(long, env = "CAMPAIGN_WEBHOOK_SECRET_FILE", value_name = "FILE")]
    pub webhook_secret_file: Option<PathBuf>,
    /// The same secret itself, from the environment alone: others may read a command line.
    #[arg(long, env = "CAMPAIGN_WEBHOOK_SECRET", value_name = "SECRET", hide_env_values = true, value_parser = WebhookSecrets::parse, conflicts_with = "webhook_secret_file")]
    pub webhook_secret: Option<WebhookSecrets>,
    /// Allow providers on this machine and in its own network, and `http` to them.
    #[arg(long, env = "CAMPAIGN_ALLOW_PRIVATE_DESTINATIONS")]
    pub allow_private_destinations: bool,
}

/// Where text messages or calls go. `F` is whom they are from.
#[derive(Debug, Clone)]
pub enum SpokenRoute<F> {
    /// Into files.
    Outbox(PathBuf),
    /// To Twilio, or somebody who speaks as Twilio does.
    Twilio(TwilioUrl, F),
    /// To a gateway of one's own.
    Gateway(HttpUrl, WebhookSecrets, Option<F>),
}

/// Where tasks go.
#[derive(Debug, Clone)]
pub enum TaskRoute {
    /// Into files.
    Outbox(PathBuf),
    /// To a webhook.
    Webhook(HttpUrl, WebhookSecrets),
}

/// Why a provider can't be used, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// Mail goes where it can't.
    #[error("--email-url (CAMPAIGN_EMAIL_URL) must be smtp://, smtps:// or outbox:DIR")]
    NotForMail,
    /// Text messages or calls go where they can't.
    #[error("{0} must be twilio://SID:TOKEN@host, gateway+https://host/path or outbox:DIR")]
    NotForSpoken(&'static str),
    /// Tasks go where they can't.
    #[error("--interaction-url (CAMPAIGN_INTERACTION_URL) must be https://host/path or outbox:DIR")]
    NotForTasks,
    /// A sender is missing.
    #[error("{0} must be set for Twilio")]
    NoFrom(&'static str),
    /// The secret is missing.
    #[error(
        "--webhook-secret-file (CAMPAIGN_WEBHOOK_SECRET_FILE) or CAMPAIGN_WEBHOOK_SECRET must be set for {0}: whsec_ and the base64 of \
         24 to 64 random bytes"
    )]
    NoSecret(&'static str),
    /// The file of the secret.
    #[error("--webhook-secret-file (CAMPAIGN_WEBHOOK_SECRET_FILE) {path}: {error}")]
    SecretFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// The destination is not allowed.
    #[error("{flag}: {error}; --allow-private-destinations (CAMPAIGN_ALLOW_PRIVATE_DESTINATIONS) allows one's own")]
    Forbidden {
        /// The flag.
        flag: &'static str,
        /// Why not.
        error: String,
    },
}

const SMS_URL: &str = "--sms-url (CAMPAIGN_SMS_URL)";
const PHONE_URL: &str = "--phone-url (CAMPAIGN_PHONE_URL)";
const INTERACTION_URL: &str = "--interaction-url (CAMPAIGN_INTERACTION_URL)";

impl ProviderArgs {
    /// With whom the service connects.
    pub fn policy(&self) -> DestinationPolicy {
        DestinationPolicy {
            private: self.allow_private_destinations,
        }
    }

    pub(super) fn sms(&self, url: ChannelUrl) -> Result<SpokenRoute<SmsFrom>, ProviderError> {
        let from = self.sms_from.clone();
        self.spoken(url, SMS_URL, from, "--sms-from (CAMPAIGN_SMS_FROM)")
    }

    pub(super) fn phone(&self, url: ChannelUrl) -> Result<SpokenRoute<PhoneNumber>, ProviderError> {
        let from = self.phone_from.clone();
        self.spoken(url, PHONE_URL, from, "--phone-from (CAMPAIGN_PHONE_FROM)")
    }

    pub(super) fn interaction(&self, url: ChannelUrl) -> Result<TaskRoute, ProviderError> {
        match url {
            ChannelUrl::Outbox(directory) => Ok(TaskRoute::Outbox(directory)),
            ChannelUrl::Webhook(url) => {
                self.check(&url, INTERACTION_URL)?;
                Ok(TaskRoute::Webhook(url, self.secrets(INTERACTION_URL)?))
            }
            ChannelUrl::Smtp(_) | ChannelUrl::Twilio(_) | ChannelUrl::Gateway(_) => Err(ProviderError::NotForTasks),
        }
    }

    fn spoken<F>(
        &self,
        url: ChannelUrl,
        flag: &'static str,
        from: Option<F>,
        from_flag: &'static str,
    ) -> Result<SpokenRoute<F>, ProviderError> {
        match url {
            ChannelUrl::Outbox(directory) => Ok(SpokenRoute::Outbox(directory)),
            ChannelUrl::Twilio(account) => {
                self.check(&account.api, flag)?;
                let from = from.ok_or(ProviderError::NoFrom(from_flag))?;
                Ok(SpokenRoute::Twilio(account, from))
            }
            ChannelUrl::Gateway(url) => {
                self.check(&url, flag)?;
                Ok(SpokenRoute::Gateway(url, self.secrets(flag)?, from))
            }
            ChannelUrl::Smtp(_) | ChannelUrl::Webhook(_) => Err(ProviderError::NotForSpoken(flag)),
        }
    }

    fn check(&self, url: &HttpUrl, flag: &'static str) -> Result<(), ProviderError> {
        self.policy().check(url).map_err(|why| ProviderError::Forbidden {
            flag,
            error: why.to_string(),
        })
    }

    fn secrets(&self, flag: &'static str) -> Result<WebhookSecrets, ProviderError> {
        match (&self.webhook_secret, &self.webhook_secret_file) {
            (Some(secrets), _) => Ok(secrets.clone()),
            (None, Some(path)) => read(path),
            (None, None) => Err(ProviderError::NoSecret(flag)),
        }
    }
}

fn read(path: &Path) -> Result<WebhookSecrets, ProviderError> {
    let failed = |error: String| ProviderError::SecretFile {
        path: path.to_path_buf(),
        error,
    };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    WebhookSecrets::parse(&text).map_err(|error| failed(error.to_string()))
}

fn limit(given: &str) -> Result<SmsLimit, String> {
    let limit = given.parse().ok().and_then(SmsLimit::new);
    limit.ok_or_else(|| "must be 1 to 10".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use super::super::parse::without_secret;
    use clap::{CommandFactory as _, Parser as _};

    const SECRET: &str = "--webhook-secret=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[track_caller]
    fn check(arguments: &[&str], expected: Result<(), &str>) {
        let cli = Cli::try_parse_from([&["campaignd"], arguments].concat());
        let outcome = cli
            .map_err(|error| without_secret(error, &Cli::command()).to_string())
            .and_then(|cli| cli.config.routes().map(|_| ()).map_err(|error| error.to_string()));
        match (outcome, expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(part)) => {
                assert!(error.contains(part), "{arguments:?}: {error}");
                assert!(!error.contains("t0ken"), "{error}");
            }
            (outcome, _) => panic!("{arguments:?}: {outcome:?}"),
        }
    }

    #[test]
    fn what_a_provider_needs_is_asked_for() {
        let twilio = "--sms-url=twilio://AC1:t0ken@api.twilio.com";
        check(&[twilio], Err("CAMPAIGN_SMS_FROM"));
        check(&[twilio, "--sms-from=12"], Err("E.164"));
        check(&[twilio, "--sms-from=+14155550100"], Ok(()));
        check(
            &[twilio, "--sms-from=+14155550100", "--sms-max-segments=11"],
            Err("must be 1 to 10"),
        );
        check(
            &["--phone-url=twilio://AC1:t0ken@api.twilio.com"],
            Err("CAMPAIGN_PHONE_FROM"),
        );
        check(
            &[
                "--phone-url=twilio://AC1:t0ken@api.twilio.com",
                "--phone-from=+14155550100",
            ],
            Ok(()),
        );
        for flag in ["--sms-url", "--phone-url"] {
            check(
                &[&format!("{flag}=gateway+https://sms.example.com")],
                Err("CAMPAIGN_WEBHOOK_SECRET"),
            );
            check(&[&format!("{flag}=gateway+https://sms.example.com"), SECRET], Ok(()));
            check(&[&format!("{flag}=https://sms.example.com"), SECRET], Err(flag));
            check(&[&format!("{flag}=smtp://mail.example.com")], Err(flag));
        }
        check(
            &["--interaction-url=https://crm.example.com/x"],
            Err("CAMPAIGN_WEBHOOK_SECRET"),
        );
        check(&["--interaction-url=https://crm.example.com/x", SECRET], Ok(()));
        check(
            &["--interaction-url=gateway+https://crm.example.com/x", SECRET],
            Err("CAMPAIGN_INTERACTION_URL"),
        );
        check(
            &["--interaction-url=https://crm.example.com/x", "--webhook-secret=t0ken"],
            Err("whsec_"),
        );
        check(&[SECRET, "--webhook-secret-file=x"], Err("cannot be used with"));
        check(
            &[
                "--interaction-url=https://crm.example.com/x",
                "--webhook-secret-file=/nowhere",
            ],
            Err("/nowhere"),
        );
        check(&["--email-url=https://mail.example.com"], Err("CAMPAIGN_EMAIL_URL"));
        // Nor are secrets shown in what can't be read.
        check(
            &["--sms-url=twilio://t0ken@api.twilio.com"],
            Err("twilio://ACCOUNT_SID"),
        );
        check(&["--email-url=smtp://user:t0ken@mail:0"], Err("the port must be"));
    }

    #[test]
    fn private_destinations_take_a_word() {
        for url in [
            "twilio+http://AC1:t0ken@127.0.0.1:8080",
            "twilio://AC1:t0ken@10.0.0.1",
            "twilio+http://AC1:t0ken@sms.internal",
        ] {
            let url = format!("--sms-url={url}");
            let arguments = [url.as_str(), "--sms-from=+14155550100"];
            check(&arguments, Err("CAMPAIGN_ALLOW_PRIVATE_DESTINATIONS"));
            check(&[&arguments[..], &["--allow-private-destinations"]].concat(), Ok(()));
        }
        for url in ["twilio://AC1:t0ken@169.254.169.254", "twilio+http://AC1:t0ken@8.8.8.8"] {
            let url = format!("--sms-url={url}");
            check(
                &[&url, "--sms-from=+14155550100", "--allow-private-destinations"],
                Err("CAMPAIGN_SMS_URL"),
            );
        }
    }

    #[test]
    fn the_secret_is_read_from_its_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let argument = format!("--webhook-secret-file={}", file.path().display());
        let arguments = ["--interaction-url=https://crm.example.com", argument.as_str()];
        check(&arguments, Err("one or two secrets"));
        std::fs::write(file.path(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").expect("written");
        check(&arguments, Ok(()));
    }
}
