//! Where traces and metrics are pushed to: a collector that speaks OTLP over gRPC, without TLS, beside the server or in its cluster.

use anyhow::Context as _;
use opentelemetry::KeyValue;
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use std::str::FromStr;

/// The address of a collector, as in `http://localhost:4317`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpEndpoint(String);

impl FromStr for OtlpEndpoint {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        let is_usable = |uri: &::http::Uri| {
            uri.scheme_str() == Some("http")
                && uri.host().is_some_and(|host| !host.is_empty())
                && !uri
                    .authority()
                    .is_some_and(|authority| authority.as_str().contains('@'))
                && ["", "/"].contains(&uri.path())
        };
        match given.parse::<::http::Uri>() {
            Ok(uri) if is_usable(&uri) => Ok(Self(given.to_owned())),
            Ok(_) | Err(_) => Err(
                "must be the address of a collector that speaks OTLP over gRPC, such as http://localhost:4317"
                    .to_owned(),
            ),
        }
    }
}

/// Which share of traces is taken, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TraceRatio(f64);

impl FromStr for TraceRatio {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        match given.parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(Self(ratio)),
            Ok(_) | Err(_) => Err("must be a number from 0 to 1, such as 0.01".to_owned()),
        }
    }
}

/// What is pushed, and where to.
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    /// The collector.
    pub endpoint: OtlpEndpoint,
    /// Which share of traces it gets, but for those that others have begun, of which they decide.
    pub ratio: TraceRatio,
}

impl Otlp {
    pub(super) fn metrics(&self) -> anyhow::Result<MetricExporter> {
        let exporter = MetricExporter::builder()
            .with_tonic()
            .with_endpoint(self.endpoint.0.clone())
            .build();
        exporter.with_context(|| self.unusable())
    }

    pub(super) fn traces(&self) -> anyhow::Result<SdkTracerProvider> {
        let exporter = SpanExporter::builder()
            .with_tonic()
impl TraceRatio {
    /// Whether it takes a trace, for which there is a random number from 0 to 1.
    pub fn takes(self, fraction: f64) -> bool {
        fraction < self.0
    }
}

            .with_endpoint(self.endpoint.0.clone())
            .build()
            .with_context(|| self.unusable())?;
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(self.ratio.0)));
        Ok(SdkTracerProvider::builder()
            .with_resource(resource())
            .with_sampler(sampler)
            .with_batch_exporter(exporter)
            .build())
    }

    fn unusable(&self) -> String {
        format!(
            "--otlp-endpoint (OTEL_EXPORTER_OTLP_ENDPOINT) {:?} can't be used",
            self.endpoint.0
        )
    }
}

/// What this process is. `OTEL_RESOURCE_ATTRIBUTES` says more.
pub(super) fn resource() -> Resource {
    Resource::builder()
        .with_service_name("campaignd")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_shares_are_checked() {
        for (given, is_one) in [
            ("http://localhost:4317", true),
            ("http://otel-collector.monitoring:4317/", true),
            ("https://localhost:4317", false),
            ("http://user:secret@localhost:4317", false),
            ("http://localhost:4317/v1/traces", false),
            ("localhost:4317", false),
            ("http://", false),
            ("", false),
        ] {
            assert_eq!(given.parse::<OtlpEndpoint>().is_ok(), is_one, "{given:?}");
        }
        for (given, is_one) in [
            ("0", true),
            ("1", true),
            ("0.01", true),
            ("-0.1", false),
            ("1.1", false),
            ("NaN", false),
            ("", false),
        ] {
            assert_eq!(given.parse::<TraceRatio>().is_ok(), is_one, "{given:?}");
        }
    }
}

    #[test]
    fn shares_take_as_much_as_they_say() {
        let takes = |ratio: &str, fraction| ratio.parse::<TraceRatio>().expect("a share").takes(fraction);
        assert!(takes("1", 0.999) && takes("0.5", 0.49) && !takes("0.5", 0.5) && !takes("0", 0.0));
    }
