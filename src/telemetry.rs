//! The log.

use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

use crate::config::{LogArgs, LogFormat};

/// Sets up logging for this process, to standard error. Tests don't.
pub fn init(log: &LogArgs) -> anyhow::Result<()> {
    let filter: EnvFilter = log
        .log
        .parse()
        .map_err(|error| anyhow::anyhow!("--log (CAMPAIGN_LOG) {:?}: {error}", log.log))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match log.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|error| anyhow::anyhow!("can't set up the log: {error}"))
}
