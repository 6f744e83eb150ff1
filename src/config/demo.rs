//! What the demo is told.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use std::path::PathBuf;

use super::ChannelArgs;

/// Where the demo leaves what it sends.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// The folder for the mails and other messages of channels that aren't named.
    #[arg(long, value_name = "DIR", default_value = "demo-outbox")]
    pub outbox: PathBuf,
    /// How many days to run.
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
    /// How messages leave: as the server does it, but by default all into the outbox.
    #[command(flatten)]
    pub named: NamedChannels,
}

/// The server's flags for channels, without the URLs that come from the environment, unless `--from-environment` asks for them.
#[derive(Debug, Clone)]
pub struct NamedChannels {
    /// The channels.
    pub channels: ChannelArgs,
    /// Whether the environment has URLs that are not among them.
    pub left_out: bool,
}

const FROM_ENVIRONMENT: &str = "from_environment";

fn from_environment() -> Arg {
    Arg::new(FROM_ENVIRONMENT)
        .long("from-environment")
        .action(ArgAction::SetTrue)
        .help(
            "Send by the channels of the environment as well (`CAMPAIGN_EMAIL_URL` and its like). Without it only those count that \
             the command line names, so that a demo beside a server sends nothing by accident",
        )
}

impl FromArgMatches for NamedChannels {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut channels = ChannelArgs::from_arg_matches(matches)?;
        let is_asked_for = matches.get_flag(FROM_ENVIRONMENT);
        let mut left_out = false;
        for (id, url) in channels.urls() {
            if !is_asked_for && matches.value_source(id) == Some(ValueSource::EnvVariable) {
                *url = None;
                left_out = true;
            }
        }
        Ok(Self { channels, left_out })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for NamedChannels {
    fn augment_args(command: Command) -> Command {
        ChannelArgs::augment_args(command).arg(from_environment())
    }

    fn augment_args_for_update(command: Command) -> Command {
        ChannelArgs::augment_args_for_update(command).arg(from_environment())
    }
}
