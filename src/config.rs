//! What is configured: flags and environment variables, checked before anything is opened.

mod auth;
mod channels;
mod demo;
mod error;
mod feedback;
mod limits;
mod listener;
mod monitor;
mod parse;
mod providers;
mod values;

use chrono_tz::Tz;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::channels::{ChannelUrl, Mailbox, SmsFrom};
use crate::domain::{Hours, PhoneNumber, SendingHours, Timestamp};
use crate::engine::{LaneSettings, PublicUrl};
use crate::rest::{HostName, Origin};
use crate::store::{ConnectSettings, StoreUrl};
use crate::telemetry::{Format, Log};
pub use auth::{AuthArgs, JwksAt, JwtArgs};
pub use channels::{CaFileError, ChannelArgs};
pub use demo::{DemoArgs, NamedChannels};
pub use error::ConfigError;
pub use feedback::{EventsSecretError, FeedbackArgs};
pub use limits::LimitArgs;
pub use listener::{ListenerArgs, TlsFiles};
pub use monitor::MonitorArgs;
pub use parse::parse;
pub use providers::{ProviderArgs, ProviderError, SpokenRoute, TaskRoute};
pub use values::duration;
use values::{clock_skew, concurrency, days, postal_address, schedule, statement_timeout, time, zone};

/// The smallest distance between the time that a send may take and the lease under which it runs.
const LEASE_MARGIN: Duration = Duration::from_secs(10);

/// Walks customers through multi-day campaign timelines, over gRPC.
#[derive(Debug, Parser)]
#[command(name = "campaignd", version, about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; without it, serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub config: Config,
}

/// What else the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serves, as without a command.
    Serve(Box<Config>),
    /// Brings the database's schema up to date, and ends.
    Migrate(MigrateArgs),
    /// Ends what may have been sent after a backup was taken that was restored, so that it is not sent twice. All servers must be
    /// stopped.
    Fence(FenceArgs),
    /// Takes away what is old, while servers work: executions of runs that ended before, engagement events, ticks. Runs stay, with what
    /// became of their actions.
    Purge(PurgeArgs),
    /// Shows the main job on an embedded database, with 90 days in some seconds.
    Demo(Box<DemoArgs>),
}

/// Which database to migrate.
#[derive(Debug, Clone, Args)]
pub struct MigrateArgs {
    /// Also distribute the tables over the nodes of a Citus cluster, by customer, with all that is in them. It may be done again, as after
    /// an upgrade that brings new tables. No server may work meanwhile.
    #[arg(long)]
    pub distribute: bool,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// What the log looks like.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What to fence.
#[derive(Debug, Clone, Args)]
pub struct FenceArgs {
    /// When the service was last up before the backup was restored, as in `2026-03-02T16:30:00Z`. What was due before is ended.
    #[arg(long, value_name = "INSTANT", value_parser = time)]
    pub before: Timestamp,
    /// Send mails and tasks again that were due before, with the same Message-ID. By default they are ended as unknown, as text
    /// messages and calls always are.
    #[arg(long)]
    pub resend_email: bool,
    /// Change nothing, and say what would be changed.
    #[arg(long)]
    pub dry_run: bool,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// What the log looks like.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What to purge.
#[derive(Debug, Clone, Args)]
pub struct PurgeArgs {
    /// How old it is, in days, 30d or more, such as `400d`. Conditions that ask for older events find none, and what failed in a run that
    /// ended before can't be retried any more.
    #[arg(long, value_name = "DAYS", value_parser = days)]
    pub older_than: u32,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// What the log looks like.
    #[command(flatten)]
    pub log: LogArgs,
}

/// The database.
#[derive(Debug, Clone, Args)]
pub struct DatabaseArgs {
    /// `sqlite://file.db`, or `postgres://user:password@host/name`.
    #[arg(long, env = "CAMPAIGN_DATABASE_URL", value_name = "URL", default_value = "sqlite://campaign.db", hide_env_values = true, value_parser = StoreUrl::parse)]
    pub database_url: StoreUrl,
    /// The most connections to it at a time, from 2.
    #[arg(long, env = "CAMPAIGN_DATABASE_CONNECTIONS", value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub database_connections: u32,
    /// Whether `SQLite` forces every commit to the disk. Always, but for the demo and for tests.
    #[arg(skip = true)]
    pub forced_to_disk: bool,
    /// How long `SQLite` waits for its turn to write while others do, before a call is refused as UNAVAILABLE.
    #[arg(skip = Duration::from_secs(10))]
    pub busy_timeout: Duration,
    /// How long `PostgreSQL` works on a statement, 1s to 10m. When it has said nothing after a quarter more, the connection is taken
    /// for dead.
    #[arg(long, env = "CAMPAIGN_STATEMENT_TIMEOUT", value_name = "DURATION", default_value = "60s", value_parser = statement_timeout)]
    pub statement_timeout: Duration,
}

impl DatabaseArgs {
    /// How to open it.
    pub fn settings(&self) -> ConnectSettings {
        ConnectSettings {
            url: self.database_url.clone(),
            max_connections: self.database_connections,
            forced_to_disk: self.forced_to_disk,
            busy_timeout: self.busy_timeout,
            statement_timeout: self.statement_timeout,
        }
    }
}

/// The log.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or by module as in `info,campaign_automation=debug`.
    #[arg(long, env = "CAMPAIGN_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// What the log looks like.
    #[arg(long, env = "CAMPAIGN_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

impl LogArgs {
    /// What is logged.
    pub fn settings(&self) -> Log {
        Log {
            filter: self.log.clone(),
            format: match self.log_format {
                LogFormat::Text => Format::Text,
                LogFormat::Json => Format::Json,
            },
        }
    }
}

/// What the log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How to serve.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Where to listen. Anything but loopback needs TLS, and callers that are known.
    #[arg(
        long,
        env = "CAMPAIGN_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:50051"
    )]
    pub listen: SocketAddr,
    /// Listen on an address that others reach although nothing is encrypted, or nobody is asked who he is: for where a proxy or a
    /// network sees to it.
    #[arg(long, env = "CAMPAIGN_INSECURE_PUBLIC")]
    pub insecure_public: bool,
    /// How callers reach it, and how much of it they may take.
    #[command(flatten)]
    pub listener: ListenerArgs,
    /// Pages of which origin may call, from browsers, over REST and gRPC-Web, as in `https://crm.example.com`; several times, or with
    /// commas. Without it none may.
    #[arg(long, env = "CAMPAIGN_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub cors_origin: Vec<Origin>,
    /// By what callers are known.
    #[command(flatten)]
    pub auth: AuthArgs,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// The time zone of customers that have none, an IANA id.
    #[arg(long, env = "CAMPAIGN_DEFAULT_TIME_ZONE", value_name = "ZONE", default_value = "Etc/UTC", value_parser = zone)]
    pub default_time_zone: Tz,
    /// The file with the deployment's secret, 32 random bytes or more in base64. It is the same for all servers, and kept for ever.
    /// Required on `PostgreSQL`; on `SQLite` it is made beside the database (`campaign.db.key`) when it is not there.
    #[arg(long, env = "CAMPAIGN_SECRET_KEY_FILE", value_name = "FILE")]
    pub secret_key_file: Option<PathBuf>,
    /// When text messages may be sent, by the clock where the customer is: two times of the day, overnight if the second is
    /// the smaller, or `always`.
    #[arg(
        long,
        env = "CAMPAIGN_SMS_HOURS",
        value_name = "HOURS",
        default_value = "08:00-21:00"
    )]
    pub sms_hours: Hours,
    /// When calls may be made, in the same way.
    #[arg(
        long,
        env = "CAMPAIGN_PHONE_HOURS",
        value_name = "HOURS",
        default_value = "08:00-21:00"
    )]
    pub phone_hours: Hours,
    /// When mails may be sent, in the same way.
    #[arg(long, env = "CAMPAIGN_EMAIL_HOURS", value_name = "HOURS", default_value = "always")]
    pub email_hours: Hours,
    /// How messages leave.
    #[command(flatten)]
    pub channels: ChannelArgs,
    /// The postal address of whoever sends the mails, in one line, for `{{ sender.postal_address }}`. Marketing mail is not sent without.
    #[arg(long, env = "CAMPAIGN_POSTAL_ADDRESS", value_name = "ADDRESS", value_parser = postal_address)]
    pub postal_address: Option<String>,
    /// Where recipients and providers reach this server from outside, as in `https://mail.example.com`, for `{{ links.unsubscribe }}` and
    /// delivery reports: a proxy there hands on what is under `/u/` and `/callbacks/`. Marketing mail is not sent without. It must stay: mails keep their links for years.
    #[arg(long, env = "CAMPAIGN_PUBLIC_URL", value_name = "URL", value_parser = PublicUrl::parse)]
    pub public_url: Option<PublicUrl>,
    /// The private key that signs mails (DKIM), a PEM file as `openssl genpkey` makes it: RSA of 2048 bits or more, or Ed25519. Its
    /// public half is published under `SELECTOR._domainkey.` of the domain that each mail is from. Default: mails are not signed here.
    #[arg(
        long,
        env = "CAMPAIGN_DKIM_KEY_FILE",
        value_name = "FILE",
        requires = "dkim_selector"
    )]
    pub dkim_key_file: Option<PathBuf>,
    /// The selector under which the public half of the DKIM key is published.
    #[arg(
        long,
        env = "CAMPAIGN_DKIM_SELECTOR",
        value_name = "SELECTOR",
        requires = "dkim_key_file"
    )]
    pub dkim_selector: Option<String>,
    /// What is needed for what comes back about messages.
    #[command(flatten)]
    pub feedback: FeedbackArgs,
    /// The folder for messages to test customers, which never go to a provider. Default on `SQLite`: `test-outbox`; otherwise, unless
    /// it is set, their actions fail.
    #[arg(long, env = "CAMPAIGN_TEST_OUTBOX_DIR", value_name = "DIR")]
    pub test_outbox_dir: Option<PathBuf>,
    /// How many mails are under way at a time, and so how many connections to the mail server.
    #[arg(long, env = "CAMPAIGN_EMAIL_CONCURRENCY", value_name = "COUNT", default_value_t = 16, value_parser = concurrency)]
    pub email_concurrency: usize,
    /// How many text messages are under way at a time.
    #[arg(long, env = "CAMPAIGN_SMS_CONCURRENCY", value_name = "COUNT", default_value_t = 64, value_parser = concurrency)]
    pub sms_concurrency: usize,
    /// How many calls are under way at a time.
    #[arg(long, env = "CAMPAIGN_PHONE_CONCURRENCY", value_name = "COUNT", default_value_t = 16, value_parser = concurrency)]
    pub phone_concurrency: usize,
    /// How many tasks are under way at a time.
    #[arg(long, env = "CAMPAIGN_INTERACTION_CONCURRENCY", value_name = "COUNT", default_value_t = 16, value_parser = concurrency)]
    pub interaction_concurrency: usize,
    /// How long one attempt to send may take.
    #[arg(long, env = "CAMPAIGN_SEND_TIMEOUT", value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub send_timeout: Duration,
    /// How long a claim holds when its server dies. Longer than the send time-out by 10 seconds at least.
    #[arg(long, env = "CAMPAIGN_LEASE", value_name = "DURATION", default_value = "120s", value_parser = duration)]
    pub lease: Duration,
    /// How often the claims of what is under way for long are prolonged, at most a third of the lease, which is the default.
    #[arg(long, env = "CAMPAIGN_HEARTBEAT", value_name = "DURATION", value_parser = duration)]
    pub heartbeat: Option<Duration>,
    /// By how much the server's clock and the database's may differ, 100ms to 60s. Beyond it the server claims nothing and is not
    /// ready. There is no way to do without.
    #[arg(long, env = "CAMPAIGN_MAX_CLOCK_SKEW", value_name = "DURATION", default_value = "5s", value_parser = clock_skew)]
    pub max_clock_skew: Duration,
    /// How often a message is tried in all.
    #[arg(long, env = "CAMPAIGN_RETRY_ATTEMPTS", value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub retry_attempts: u32,
    /// The wait after the first failed attempt; it doubles with each.
    #[arg(long, env = "CAMPAIGN_RETRY_BASE", value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub retry_base: Duration,
    /// The longest wait between attempts.
    #[arg(long, env = "CAMPAIGN_RETRY_CAP", value_name = "DURATION", default_value = "4h", value_parser = duration)]
    pub retry_cap: Duration,
    /// How long a channel that is misconfigured, or fails again and again, stays stopped before it is tried again.
    #[arg(long, env = "CAMPAIGN_CHANNEL_PROBE", value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub channel_probe: Duration,
    /// What is sent at most, and when a channel is left alone.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// The longest that a call may take until it answers; callers may ask for less.
    #[arg(long, env = "CAMPAIGN_CALL_LIMIT", value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub call_limit: Duration,
    /// The longest that a tick runs when its caller sets no deadline.
    #[arg(long, env = "CAMPAIGN_TICK_LIMIT", value_name = "DURATION", default_value = "55m", value_parser = duration)]
    pub tick_limit: Duration,
    /// Run both ticks from within, so often and at round times: 1m to 1h, a part of an hour, such as `15m`. Of several servers with
    /// it one at a time does. Default: they are run from outside, by `campaign-tick`.
    #[arg(long, env = "CAMPAIGN_SCHEDULE", value_name = "DURATION", value_parser = schedule)]
    pub schedule: Option<Duration>,
    /// How long the server finishes what is under way when it is told to stop.
    #[arg(long, env = "CAMPAIGN_SHUTDOWN_GRACE", value_name = "DURATION", default_value = "25s", value_parser = duration)]
    pub shutdown_grace: Duration,
    /// How the server is watched.
    #[command(flatten)]
    pub monitor: MonitorArgs,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Where the deployment's secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretFile {
    /// There, and it must be there.
    Given(PathBuf),
    /// There, or else it is made.
    BesideDatabase(PathBuf),
}

/// Where the messages of each channel go.
#[derive(Debug, Clone)]
pub struct Routes {
    /// Mail.
    pub email: ChannelUrl,
    /// Text messages.
    pub sms: SpokenRoute<SmsFrom>,
    /// Calls.
    pub phone: SpokenRoute<PhoneNumber>,
    /// Tasks.
    pub interaction: TaskRoute,
    /// Whatever goes to test customers.
    pub test: Option<PathBuf>,
    /// Who mails are from.
    pub from: Mailbox,
}

impl Config {
    /// A server on loopback, on any free port, with an embedded database that nobody needs after a power cut, and one outbox for
    /// all channels, with a folder `test` in it for test customers.
    pub fn embedded(database_url: StoreUrl, outbox: &Path) -> Self {
        #[derive(Parser)]
        struct Defaults {
            #[command(flatten)]
            config: Config,
        }
        let mut config = Defaults::parse_from([std::ffi::OsString::from("campaignd")]).config;
        config.test_outbox_dir = Some(outbox.join("test"));
        config.channels.go_to_outbox(outbox);
        config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.database.database_url = database_url;
        config.database.forced_to_disk = false;
        config.monitor.nobody();
        config
    }

    /// Checks what clap can't, and says where messages go.
    pub fn routes(&self) -> Result<Routes, ConfigError> {
        self.auth.jwt()?;
        if !self.insecure_public {
            auth::check_public(self.listen, self.listener.tls().is_some(), self.auth.asks())?;
        }
        // Of two servers one may be behind by the skew, and the other ahead by as much.
        if self.lease < self.send_timeout + LEASE_MARGIN.max(2 * self.max_clock_skew) {
            return Err(ConfigError::ShortLease {
                lease: self.lease,
                send_timeout: self.send_timeout,
                max_clock_skew: self.max_clock_skew,
            });
        }
        if let Some(heartbeat) = self.heartbeat.filter(|heartbeat| *heartbeat > self.lease / 3) {
            return Err(ConfigError::SlowHeartbeat {
                heartbeat,
                lease: self.lease,
            });
        }
        let is_embedded = self.database.database_url.is_sqlite();
        self.channels.routes(is_embedded, self.test_outbox())
    }

    /// By which names callers may call the server beside loopback's, where it matters: on loopback, without TLS, where nobody is asked
    /// who he is. A web page can reach such a server by a name of its own, but has no certificate for it, and no token.
    pub fn hosts(&self) -> Option<&[HostName]> {
        let is_open = self.listener.tls().is_none() && !self.auth.asks();
        (is_open && self.listen.ip().to_canonical().is_loopback()).then_some(&self.listener.allowed_host)
    }

    /// How often leases are prolonged.
    pub fn heartbeat(&self) -> Duration {
        let most = self.lease / 3;
        self.heartbeat.unwrap_or(most)
    }

    /// Where the deployment's secret is.
    pub fn secret_file(&self) -> Result<SecretFile, ConfigError> {
        if let Some(file) = &self.secret_key_file {
            return Ok(SecretFile::Given(file.clone()));
        }
        match self.database.database_url.file() {
            Some(database) => {
                let mut file = database.into_os_string();
                file.push(".key");
                Ok(SecretFile::BesideDatabase(file.into()))
            }
            None => Err(ConfigError::NoSecret),
        }
    }

    /// When messages may be sent.
    pub fn hours(&self) -> SendingHours {
        SendingHours {
            email: self.email_hours,
            sms: self.sms_hours,
            phone: self.phone_hours,
        }
    }

    /// How many messages are under way at a time.
    pub fn lanes(&self) -> LaneSettings {
        LaneSettings {
            email: self.email_concurrency,
            sms: self.sms_concurrency,
            phone: self.phone_concurrency,
            interaction: self.interaction_concurrency,
        }
    }

    fn test_outbox(&self) -> Option<PathBuf> {
        let is_embedded = self.database.database_url.is_sqlite();
        let default = || is_embedded.then(|| PathBuf::from("test-outbox"));
        self.test_outbox_dir.clone().or_else(default)
    }
}

#[cfg(test)]
mod tests;
