//! What people do at a terminal.

use campaign_automation::client::ctl::{self, CtlCli};
use clap::Parser as _;
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match ctl::run(CtlCli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("campaignctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}
