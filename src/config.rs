//! What is configured: flags and environment variables, checked before anything is opened.

use chrono::SubsecRound as _;
use chrono_tz::Tz;
use clap::error::{ContextKind, ContextValue};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::channels::{ChannelUrl, Mailbox};
use crate::domain::{Timestamp, parse_zone};
use crate::engine::LaneSettings;
use crate::store::StoreUrl;

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
    /// Shows the main job on an embedded database, with 90 days in some seconds.
    Demo(DemoArgs),
}

/// Reads the command line and the environment, or ends the program with what is wrong with them. Where a value may come from the
/// environment, it says from which variable.
pub fn parse<C: Parser>() -> C {
    C::try_parse().unwrap_or_else(|error| {
        // Nobody is there to be told where that fails.
        let _ = error.print();
        let flag = match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(flag)) => flag.split(' ').next().and_then(|flag| flag.strip_prefix("--")),
            Some(_) | None => None,
        };
        let variable = flag.and_then(|flag| variable_of(&C::command(), flag));
        if let Some(variable) = variable.filter(|variable| std::env::var_os(variable).is_some()) {
            eprintln!("The environment sets it, as {variable}.");
        }
        std::process::exit(error.exit_code());
    })
}

/// The variable of a flag.
fn variable_of(command: &clap::Command, flag: &str) -> Option<String> {
    let own = command
        .get_arguments()
        .find(|argument| argument.get_long() == Some(flag));
    let variable = own.and_then(|argument| argument.get_env()?.to_str().map(str::to_owned));
    variable.or_else(|| command.get_subcommands().find_map(|command| variable_of(command, flag)))
}

/// Which database to migrate.
#[derive(Debug, Clone, Args)]
pub struct MigrateArgs {
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

/// Where the demo leaves what it sends.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// The folder for the mails and other messages.
    #[arg(long, value_name = "DIR", default_value = "demo-outbox")]
    pub outbox: PathBuf,
    /// How many days to run.
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
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
    /// Where to listen. Anything but loopback needs `--insecure-public`.
    #[arg(
        long,
        env = "CAMPAIGN_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:50051"
    )]
    pub listen: SocketAddr,
    /// Listen on an address that others reach although nobody is asked who he is: anyone there may read and send everything.
    #[arg(long, env = "CAMPAIGN_INSECURE_PUBLIC")]
    pub insecure_public: bool,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// The time zone of customers that have none, an IANA id.
    #[arg(long, env = "CAMPAIGN_DEFAULT_TIME_ZONE", value_name = "ZONE", default_value = "Etc/UTC", value_parser = zone)]
    pub default_time_zone: Tz,
    /// How mail leaves: `smtp://`, `smtps://`, or `outbox:DIR` for files. Default on `SQLite`: `outbox:outbox`.
    #[arg(long, env = "CAMPAIGN_EMAIL_URL", value_name = "URL", hide_env_values = true)]
    pub email_url: Option<ChannelUrl>,
    /// Who mails are from, as in `Our Shop <hello@shop.example>`. Required for SMTP.
    #[arg(long, env = "CAMPAIGN_EMAIL_FROM", value_name = "MAILBOX", value_parser = Mailbox::parse)]
    pub email_from: Option<Mailbox>,
    /// How text messages leave: `outbox:DIR`. Default on `SQLite`: `outbox:outbox`.
    #[arg(long, env = "CAMPAIGN_SMS_URL", value_name = "URL", hide_env_values = true)]
    pub sms_url: Option<ChannelUrl>,
    /// How calls leave: `outbox:DIR`. Default on `SQLite`: `outbox:outbox`.
    #[arg(long, env = "CAMPAIGN_PHONE_URL", value_name = "URL", hide_env_values = true)]
    pub phone_url: Option<ChannelUrl>,
    /// How tasks leave: `outbox:DIR`. Default on `SQLite`: `outbox:outbox`.
    #[arg(long, env = "CAMPAIGN_INTERACTION_URL", value_name = "URL", hide_env_values = true)]
    pub interaction_url: Option<ChannelUrl>,
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
    /// How long a misconfigured channel stays stopped before it is tried again.
    #[arg(long, env = "CAMPAIGN_CHANNEL_PROBE", value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub channel_probe: Duration,
    /// The longest that a call may take until it answers; callers may ask for less.
    #[arg(long, env = "CAMPAIGN_CALL_LIMIT", value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub call_limit: Duration,
    /// The longest that a tick runs when its caller sets no deadline.
    #[arg(long, env = "CAMPAIGN_TICK_LIMIT", value_name = "DURATION", default_value = "55m", value_parser = duration)]
    pub tick_limit: Duration,
    /// How long the server finishes what is under way when it is told to stop.
    #[arg(long, env = "CAMPAIGN_SHUTDOWN_GRACE", value_name = "DURATION", default_value = "25s", value_parser = duration)]
    pub shutdown_grace: Duration,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What is wrong with the configuration, and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The address can be reached by others.
    #[error(
        "--listen (CAMPAIGN_LISTEN) {0} can be reached by others, and nobody is asked who he is: listen on loopback, or set --insecure-public (CAMPAIGN_INSECURE_PUBLIC=true)"
    )]
    Public(SocketAddr),
    /// A channel goes nowhere.
    #[error("{flag} ({variable}) must be set on PostgreSQL: {allowed}")]
    NoChannel {
        /// The flag.
        flag: &'static str,
        /// The variable.
        variable: &'static str,
        /// What it may be.
        allowed: &'static str,
    },
    /// A channel goes where it can't.
    #[error("{flag} ({variable}) must be outbox:DIR, because its providers are still to come")]
    NotAnOutbox {
        /// The flag.
        flag: &'static str,
        /// The variable.
        variable: &'static str,
    },
    /// Mail has no sender.
    #[error("--email-from (CAMPAIGN_EMAIL_FROM) must be set for SMTP, as in \"Our Shop <hello@shop.example>\"")]
    NoSender,
    /// The heartbeat is too slow.
    #[error(
        "--heartbeat (CAMPAIGN_HEARTBEAT) must be a third of --lease (CAMPAIGN_LEASE) at most, but they are {heartbeat:?} and {lease:?}"
    )]
    SlowHeartbeat {
        /// The heartbeat.
        heartbeat: Duration,
        /// The lease.
        lease: Duration,
    },
    /// The lease is too short.
    #[error(
        "--lease (CAMPAIGN_LEASE) must be longer than --send-timeout (CAMPAIGN_SEND_TIMEOUT) by 10 seconds at least, and by twice --max-clock-skew (CAMPAIGN_MAX_CLOCK_SKEW), but they are {lease:?}, {send_timeout:?} and {max_clock_skew:?}"
    )]
    ShortLease {
        /// The lease.
        lease: Duration,
        /// The time-out.
        send_timeout: Duration,
        /// By how much clocks may differ.
        max_clock_skew: Duration,
    },
}

/// Where the messages of each channel go.
#[derive(Debug, Clone)]
pub struct Routes {
    /// Mail.
    pub email: ChannelUrl,
    /// Text messages.
    pub sms: PathBuf,
    /// Calls.
    pub phone: PathBuf,
    /// Tasks.
    pub interaction: PathBuf,
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
        let outbox = ChannelUrl::Outbox(outbox.to_path_buf());
        config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.database.database_url = database_url;
        config.database.forced_to_disk = false;
        config.email_url = Some(outbox.clone());
        config.sms_url = Some(outbox.clone());
        config.phone_url = Some(outbox.clone());
        config.interaction_url = Some(outbox);
        config
    }

    /// Checks what clap can't, and says where messages go.
    pub fn routes(&self) -> Result<Routes, ConfigError> {
        if !self.insecure_public && !is_loopback(self.listen.ip()) {
            return Err(ConfigError::Public(self.listen));
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
        let mail = "smtp://host, smtps://host, or outbox:DIR for files";
        let email = self.channel(self.email_url.as_ref(), "--email-url", "CAMPAIGN_EMAIL_URL", mail)?;
        let from = match (&self.email_from, &email) {
            (Some(from), _) => from.clone(),
            (None, ChannelUrl::Outbox(_)) => {
                Mailbox::parse("Campaigns <campaigns@example.com>").map_err(|_| ConfigError::NoSender)?
            }
            (None, ChannelUrl::Smtp(_)) => return Err(ConfigError::NoSender),
        };
        Ok(Routes {
            email,
            sms: self.outbox(self.sms_url.as_ref(), "--sms-url", "CAMPAIGN_SMS_URL")?,
            phone: self.outbox(self.phone_url.as_ref(), "--phone-url", "CAMPAIGN_PHONE_URL")?,
            interaction: self.outbox(
                self.interaction_url.as_ref(),
                "--interaction-url",
                "CAMPAIGN_INTERACTION_URL",
            )?,
            test: self.test_outbox(),
            from,
        })
    }

    /// How often leases are prolonged.
    pub fn heartbeat(&self) -> Duration {
        let most = self.lease / 3;
        self.heartbeat.unwrap_or(most)
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

    /// A channel's way out. A file outbox is the default on the embedded database only: in production it takes a word.
    fn channel(
        &self,
        given: Option<&ChannelUrl>,
        flag: &'static str,
        variable: &'static str,
        allowed: &'static str,
    ) -> Result<ChannelUrl, ConfigError> {
        match given {
            Some(url) => Ok(url.clone()),
            None if self.database.database_url.is_sqlite() => Ok(ChannelUrl::Outbox(PathBuf::from("outbox"))),
            None => Err(ConfigError::NoChannel {
                flag,
                variable,
                allowed,
            }),
        }
    }

    fn test_outbox(&self) -> Option<PathBuf> {
        let is_embedded = self.database.database_url.is_sqlite();
        let default = || is_embedded.then(|| PathBuf::from("test-outbox"));
        self.test_outbox_dir.clone().or_else(default)
    }

    fn outbox(
        &self,
        given: Option<&ChannelUrl>,
        flag: &'static str,
        variable: &'static str,
    ) -> Result<PathBuf, ConfigError> {
        match self.channel(given, flag, variable, "outbox:DIR for files")? {
            ChannelUrl::Outbox(directory) => Ok(directory),
            ChannelUrl::Smtp(_) => Err(ConfigError::NotAnOutbox { flag, variable }),
        }
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

fn time(given: &str) -> Result<Timestamp, String> {
    let parsed = given.parse::<Timestamp>().map(|time| time.trunc_subsecs(6));
    parsed.map_err(|_| "must be an instant with its offset, such as 2026-03-02T16:30:00Z".to_owned())
}

fn zone(given: &str) -> Result<Tz, String> {
    parse_zone(given).map_err(|error| error.to_string())
}

fn concurrency(given: &str) -> Result<usize, String> {
    let number = given.parse().ok().filter(|number| (1..=10_000).contains(number));
    number.ok_or_else(|| "must be 1 to 10000".to_owned())
}

fn clock_skew(given: &str) -> Result<Duration, String> {
    let bounds = Duration::from_millis(100)..=Duration::from_mins(1);
    let skew = duration(given).ok().filter(|skew| bounds.contains(skew));
    skew.ok_or_else(|| "must be 100ms to 60s".to_owned())
}

/// Parses a duration such as `500ms`, `90s`, `5m` or `4h`.
pub fn duration(given: &str) -> Result<Duration, String> {
    let digits = given.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = given.split_at(digits);
    let milliseconds = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let parsed = number
        .parse::<u64>()
        .ok()
        .zip(milliseconds)
        .and_then(|(number, unit)| number.checked_mul(unit));
    match parsed {
        Some(milliseconds) if (1..=30 * 86_400_000).contains(&milliseconds) => Ok(Duration::from_millis(milliseconds)),
        Some(_) | None => Err("must be a number with ms, s, m or h, up to 30 days, such as 90s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arguments: &[&str], expected: Result<(), &str>) {
        let cli = Cli::try_parse_from([&["campaignd"], arguments].concat());
        let outcome = cli
            .map_err(|error| error.to_string())
            .and_then(|cli| cli.config.routes().map(|_| ()).map_err(|error| error.to_string()));
        match (outcome, expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.contains(part), "{arguments:?}: {error}"),
            (outcome, _) => panic!("{arguments:?}: {outcome:?}"),
        }
    }

    #[test]
    fn the_defaults_serve_the_embedded_database() {
        check(&[], Ok(()));
    }

    #[test]
    fn what_is_wrong_names_the_variable() {
        let postgres = "--database-url=postgres://localhost/x";
        check(&["--listen=0.0.0.0:1"], Err("CAMPAIGN_INSECURE_PUBLIC"));
        check(&["--listen=0.0.0.0:1", "--insecure-public"], Ok(()));
        check(&[postgres], Err("CAMPAIGN_EMAIL_URL"));
        check(
            &[
                postgres,
                "--email-url=outbox:o",
                "--phone-url=outbox:o",
                "--interaction-url=outbox:o",
            ],
            Err("CAMPAIGN_SMS_URL"),
        );
        check(&["--email-url=smtp://localhost"], Err("CAMPAIGN_EMAIL_FROM"));
        check(
            &["--email-url=smtp://localhost", "--email-from=Shop <a@example.com>"],
            Ok(()),
        );
        check(&["--sms-url=smtp://localhost"], Err("CAMPAIGN_SMS_URL"));
        check(&["--lease=65s"], Err("CAMPAIGN_LEASE"));
        check(&["--lease=70s"], Ok(()));
        check(&["--heartbeat=41s"], Err("CAMPAIGN_HEARTBEAT"));
        check(&["--heartbeat=40s"], Ok(()));
        check(&["--lease=70s", "--max-clock-skew=6s"], Err("CAMPAIGN_MAX_CLOCK_SKEW"));
        check(&["--lease=72s", "--max-clock-skew=6s"], Ok(()));
        check(&["--max-clock-skew=0s"], Err("must be 100ms to 60s"));
        check(&["--max-clock-skew=61s"], Err("must be 100ms to 60s"));
        check(&["--default-time-zone=US/Eastern"], Err("America/New_York"));
        check(&["--send-timeout=5"], Err("must be a number with"));
        check(&["--database-url=mysql://x"], Err("must begin with"));
    }

    #[test]
    fn test_customers_have_an_outbox_by_default_on_the_embedded_database_only() {
        let test = |arguments: &[&str]| {
            let channels = [
                "--email-url=outbox:o",
                "--sms-url=outbox:o",
                "--phone-url=outbox:o",
                "--interaction-url=outbox:o",
            ];
            let cli = Cli::try_parse_from([&["campaignd"], &channels[..], arguments].concat()).expect("arguments");
            cli.config.routes().expect("routes").test
        };
        assert_eq!(test(&[]), Some(PathBuf::from("test-outbox")));
        assert_eq!(test(&["--test-outbox-dir=t"]), Some(PathBuf::from("t")));
        let postgres = "--database-url=postgres://localhost/x";
        assert_eq!(test(&[postgres]), None);
        assert_eq!(test(&[postgres, "--test-outbox-dir=t"]), Some(PathBuf::from("t")));
    }

    #[test]
    fn durations_have_units() {
        for (text, milliseconds) in [("500ms", 500), ("90s", 90_000), ("5m", 300_000), ("4h", 14_400_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "5", "s", "0s", "-5s", "5d", "99999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
