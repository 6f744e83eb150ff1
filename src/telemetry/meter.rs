//! Where the metrics of one server come together: read at `/metrics`, and pushed by OTLP where that is asked for.

use anyhow::Context as _;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

use super::metrics::Metrics;
use super::otlp::{self, Otlp};

/// The metrics of one server.
#[derive(Debug, Clone)]
pub struct Metering {
    provider: SdkMeterProvider,
    registry: Registry,
    metrics: Metrics,
}

impl Metering {
    /// Nothing counted yet. Pushing needs a runtime with a thread to spare.
    pub fn start(otlp: Option<&Otlp>) -> anyhow::Result<Self> {
        let registry = Registry::new();
        let reader = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .context("metrics can't be set up")?;
        let mut builder = SdkMeterProvider::builder()
            .with_resource(otlp::resource())
            .with_reader(reader);
        if let Some(otlp) = otlp {
            builder = builder.with_periodic_exporter(otlp.metrics()?);
        }
        let provider = builder.build();
        let metrics = Metrics::new(provider.meter("campaign-automation"));
        Ok(Self {
            provider,
            registry,
            metrics,
        })
    }

    /// The handle to count with.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// All of it in the text format of Prometheus.
    pub fn text(&self) -> anyhow::Result<String> {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather());
        text.context("metrics can't be written")
    }

    /// Pushes what was not pushed yet. Blocks until it is, or the collector took too long.
    pub fn shutdown(&self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "the last metrics could not be pushed: {error}");
        }
    }
}
