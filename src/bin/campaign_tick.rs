//! The client that a CronJob runs.

use campaign_automation::client::tick::{self, TickCli};
use campaign_automation::config;
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tick::run(config::parse::<TickCli>()).await
}
