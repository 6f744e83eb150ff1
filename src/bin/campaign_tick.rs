//! The client that a CronJob runs.

use campaign_automation::client::tick::{self, TickCli};
use clap::Parser as _;
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tick::run(TickCli::parse()).await
}
