//! How messages leave: the server's flags for it, which the demo takes as well.

use clap::Args;
use std::path::{Path, PathBuf};

use super::{ConfigError, ProviderArgs, ProviderError, Routes};
use crate::channels::{ChannelUrl, Mailbox, TrustError, TrustedRoots};

/// How messages leave.
#[derive(Debug, Clone, Args)]
pub struct ChannelArgs {
    /// How mail leaves: `smtp://`, `smtps://`, or `outbox:DIR` for files. Default on `SQLite`: `outbox:outbox`.
    #[arg(long, env = "CAMPAIGN_EMAIL_URL", value_name = "URL", hide_env_values = true)]
    pub email_url: Option<ChannelUrl>,
    /// Who mails are from, as in `Our Shop <hello@shop.example>`. Required for SMTP.
    #[arg(long, env = "CAMPAIGN_EMAIL_FROM", value_name = "MAILBOX", value_parser = Mailbox::parse)]
    pub email_from: Option<Mailbox>,
    /// How text messages leave: `twilio://SID:TOKEN@api.twilio.com`, `gateway+https://host/path`, or `outbox:DIR` for files. Default
    /// on `SQLite`: `outbox:outbox`.
    #[arg(long, env = "CAMPAIGN_SMS_URL", value_name = "URL", hide_env_values = true)]
    pub sms_url: Option<ChannelUrl>,
    /// How calls leave, as text messages do. Default on `SQLite`: `outbox:outbox`.
    #[arg(long, env = "CAMPAIGN_PHONE_URL", value_name = "URL", hide_env_values = true)]
    pub phone_url: Option<ChannelUrl>,
    /// How tasks leave: `https://host/path` for webhooks, or `outbox:DIR` for files. Default on `SQLite`: `outbox:outbox`.
    #[arg(long, env = "CAMPAIGN_INTERACTION_URL", value_name = "URL", hide_env_values = true)]
    pub interaction_url: Option<ChannelUrl>,
    /// What providers of text messages, calls and tasks need.
    #[command(flatten)]
    pub providers: ProviderArgs,
    /// Who else is trusted to say which server is which: a PEM file with the certificates of authorities of one's own, for mail
    /// servers and providers alike. Default: the public authorities alone.
    #[arg(long, env = "CAMPAIGN_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// The file of authorities can't be used.
#[derive(Debug, thiserror::Error)]
#[error("--ca-file (CAMPAIGN_CA_FILE) {path}: {error}", path = path.display())]
pub struct CaFileError {
    /// The file.
    path: PathBuf,
    /// What is wrong with it.
    error: String,
}

impl ChannelArgs {
    /// All channels into files of one folder.
    pub(super) fn go_to_outbox(&mut self, outbox: &Path) {
        for (_, url) in self.urls() {
            *url = Some(ChannelUrl::Outbox(outbox.to_path_buf()));
        }
    }

    /// The channels that go nowhere yet into files of one folder.
    #[must_use]
    pub fn or_outbox(mut self, outbox: &Path) -> Self {
        for (_, url) in self.urls() {
            url.get_or_insert_with(|| ChannelUrl::Outbox(outbox.to_path_buf()));
        }
        self
    }

    /// The URLs of the channels, each with the name that its flag has among the arguments.
    pub(super) fn urls(&mut self) -> [(&'static str, &mut Option<ChannelUrl>); 4] {
        [
            ("email_url", &mut self.email_url),
            ("sms_url", &mut self.sms_url),
            ("phone_url", &mut self.phone_url),
            ("interaction_url", &mut self.interaction_url),
        ]
    }

    /// Where each kind of message goes, for people; none: it isn't named.
    pub fn places(&self) -> [(&'static str, Option<String>); 4] {
        let shown = |url: &Option<ChannelUrl>| url.as_ref().map(ToString::to_string);
        [
            ("mails", shown(&self.email_url)),
            ("texts", shown(&self.sms_url)),
            ("calls", shown(&self.phone_url)),
            ("tasks", shown(&self.interaction_url)),
        ]
    }

    /// Who is trusted to say which server is which.
    pub fn trusted(&self) -> Result<TrustedRoots, CaFileError> {
        let Some(path) = &self.ca_file else {
            return Ok(TrustedRoots::public());
        };
        let failed = |error: String| CaFileError {
            path: path.clone(),
            error,
        };
        let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        TrustedRoots::with(&pem).map_err(|error: TrustError| failed(error.to_string()))
    }

    /// Where messages go. Files are the default on the embedded database only: in production it takes a word.
    pub(super) fn routes(&self, is_embedded: bool, test: Option<PathBuf>) -> Result<Routes, ConfigError> {
        let channel = |given: &Option<ChannelUrl>, flag, variable, allowed| match given {
            Some(url) => Ok(url.clone()),
            None if is_embedded => Ok(ChannelUrl::Outbox(PathBuf::from("outbox"))),
            None => Err(ConfigError::NoChannel {
                flag,
                variable,
                allowed,
            }),
        };
        let mail = "smtp://host, smtps://host, or outbox:DIR for files";
        let email = channel(&self.email_url, "--email-url", "CAMPAIGN_EMAIL_URL", mail)?;
        let from = match (&self.email_from, &email) {
            (_, ChannelUrl::Twilio(_) | ChannelUrl::Gateway(_) | ChannelUrl::Webhook(_)) => {
                return Err(ProviderError::NotForMail.into());
            }
            (Some(from), ChannelUrl::Outbox(_) | ChannelUrl::Smtp(_)) => from.clone(),
            (None, ChannelUrl::Outbox(_)) => {
                Mailbox::parse("Campaigns <campaigns@example.com>").map_err(|_| ConfigError::NoSender)?
            }
            (None, ChannelUrl::Smtp(_)) => return Err(ConfigError::NoSender),
        };
        let spoken = "twilio://SID:TOKEN@host, gateway+https://host/path, or outbox:DIR for files";
        let sms = channel(&self.sms_url, "--sms-url", "CAMPAIGN_SMS_URL", spoken)?;
        let phone = channel(&self.phone_url, "--phone-url", "CAMPAIGN_PHONE_URL", spoken)?;
        let tasks = "https://host/path, or outbox:DIR for files";
        let interaction = channel(
            &self.interaction_url,
            "--interaction-url",
            "CAMPAIGN_INTERACTION_URL",
            tasks,
        )?;
        Ok(Routes {
            email,
            sms: self.providers.sms(sms)?,
            phone: self.providers.phone(phone)?,
            interaction: self.providers.interaction(interaction)?,
            test,
            from,
        })
    }
}
