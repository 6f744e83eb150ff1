//! What those see who watch the service: metrics, health, traces and logs, and that none of it tells who a customer is.

mod calls;
mod canaries;
mod certificate;
mod collector;
mod encrypted;
mod health;
mod metrics;
mod program;
mod scrape;
mod strangers;
mod traces;
mod watches;
mod whole;

use campaign_automation::config::Config;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How long a condition may take to come true. Nobody waits for so long unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// With a listener for those who watch, and a database that is asked again and again.
fn watched(config: &mut Config) {
    config.monitor.monitor_listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    config.monitor.survey_interval = Some(Duration::from_millis(10));
}
