//! How the server is watched.

use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::values::duration;
use crate::telemetry::{Otlp, OtlpEndpoint, TraceRatio};

/// Metrics, traces and health.
#[derive(Debug, Clone, Args)]
pub struct MonitorArgs {
    /// Where to serve `/metrics`, `/healthz`, `/readyz` and the health service of gRPC without TLS and without asking who calls, for
    /// scrapers and probes. What is there tells nothing about customers. Default: nowhere, and on the main port all but `/metrics`,
    /// and that too if it is one that asks nobody who he is.
    #[arg(long, env = "CAMPAIGN_MONITOR_LISTEN", value_name = "ADDRESS")]
    pub monitor_listen: Option<SocketAddr>,
    /// The most connections there.
    #[arg(skip = 100_usize)]
    pub max_connections: usize,
    /// How often the database is asked for what metrics tell of it: the backlog, the last ticks, circuits and holds.
    #[arg(long, env = "CAMPAIGN_SURVEY_INTERVAL", value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub survey_interval: Option<Duration>,
    /// After how long without a successful hourly tick the server is not ready. Default: it stays ready, and `/readyz` tells the age.
    #[arg(long, env = "CAMPAIGN_READY_MAX_TICK_AGE", value_name = "DURATION", value_parser = duration)]
    pub ready_max_tick_age: Option<Duration>,
    /// The collector that traces and metrics are pushed to by OTLP over gRPC, as in `http://localhost:4317`, or by TLS where it begins with
    /// `https://`. What it asks for with each push stands in `OTEL_EXPORTER_OTLP_HEADERS`. Default: none are.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<OtlpEndpoint>,
    /// Whose certificate a collector must have that is reached by TLS: a PEM file with the certificates of authorities of one's own.
    /// Default: the public authorities'.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_CERTIFICATE", value_name = "FILE")]
    pub otlp_certificate: Option<PathBuf>,
    /// Which share of traces is pushed, 0 to 1. A run is traced as the call was that started it, and a caller who is known, or whom
    /// nobody asks, and who sends a `traceparent` decides by its sampled flag.
    #[arg(long, env = "CAMPAIGN_TRACE_RATIO", value_name = "SHARE", default_value = "0.01")]
    pub trace_ratio: TraceRatio,
}

impl MonitorArgs {
    /// What is pushed, and where to.
    pub fn otlp(&self) -> Option<Otlp> {
        Some(Otlp {
            endpoint: self.otlp_endpoint.clone()?,
            ratio: self.trace_ratio,
            certificate: self.otlp_certificate.clone(),
        })
    }

    /// Nobody watches.
    pub(super) fn nobody(&mut self) {
        (self.monitor_listen, self.survey_interval) = (None, None);
        (self.ready_max_tick_age, self.otlp_endpoint) = (None, None);
    }
}
