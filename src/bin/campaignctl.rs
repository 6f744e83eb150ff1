//! What people do at a terminal.

use campaign_automation::client::ctl::{self, CtlCli};
use campaign_automation::config;
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match ctl::run(config::parse::<CtlCli>()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("campaignctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}
