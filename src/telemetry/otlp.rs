//! Where traces and metrics are pushed to: a collector that speaks OTLP over gRPC; by TLS, or plainly beside the server or in its cluster.
//!
//! What it asks for with each push, such as a token, stands in `OTEL_EXPORTER_OTLP_HEADERS`, which the exporters read by themselves. It
//! is a secret, and shown nowhere.

use anyhow::Context as _;
use opentelemetry::KeyValue;
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig as _, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tonic::transport::{Certificate, ClientTlsConfig};
use tonic::{Request, Status};

/// Where what a collector asks for stands.
const HEADERS: [&str; 3] = [
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
];

/// The address of a collector, as in `http://localhost:4317`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpEndpoint(String);

impl FromStr for OtlpEndpoint {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        let is_usable = |uri: &::http::Uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
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

impl OtlpEndpoint {
    fn is_encrypted(&self) -> bool {
        self.0.starts_with("https:")
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

impl TraceRatio {
    /// Whether it takes a trace, for which there is a random number from 0 to 1.
    pub fn takes(self, fraction: f64) -> bool {
        fraction < self.0
    }
}

/// What is pushed, and where to.
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    /// The collector.
    pub endpoint: OtlpEndpoint,
    /// Which share of traces it gets, but for those that others have begun, of which they decide.
    pub ratio: TraceRatio,
    /// Whose certificate it must have, PEM; none: one of the public authorities.
    pub certificate: Option<PathBuf>,
}

impl Otlp {
    pub(super) fn metrics(&self) -> anyhow::Result<MetricExporter> {
        let builder = MetricExporter::builder()
            .with_tonic()
            .with_endpoint(self.endpoint.0.clone());
        self.secured(builder)?.build().with_context(|| self.unusable())
    }

    pub(super) fn traces(&self) -> anyhow::Result<SdkTracerProvider> {
        let builder = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(self.endpoint.0.clone());
        let exporter = self.secured(builder)?.build().with_context(|| self.unusable())?;
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(self.ratio.0)));
        Ok(SdkTracerProvider::builder()
            .with_resource(resource())
            .with_sampler(sampler)
            .with_batch_exporter(exporter)
            .build())
    }

    /// Encrypted, where it is to be, and with headers that no log shows.
    fn secured<B: WithTonicConfig>(&self, builder: B) -> anyhow::Result<B> {
        for variable in HEADERS {
            let given = std::env::var(variable).unwrap_or_default();
            check_headers(&given).map_err(|why| anyhow::anyhow!("{variable}: {why}"))?;
        }
        let builder = builder.with_interceptor(hidden);
        if !self.endpoint.is_encrypted() {
            return Ok(builder);
        }
        let tls = match &self.certificate {
            Some(file) => ClientTlsConfig::new().ca_certificate(read(file)?),
            None => ClientTlsConfig::new().with_webpki_roots(),
        };
        Ok(builder.with_tls_config(tls))
    }

    fn unusable(&self) -> String {
        format!(
            "--otlp-endpoint (OTEL_EXPORTER_OTLP_ENDPOINT) {:?} can't be used",
            self.endpoint.0
        )
    }
}

/// Keeps what is sent with a push out of the logs of what sends it.
#[expect(clippy::unnecessary_wraps, reason = "it is what interceptors give")]
fn hidden(mut request: Request<()>) -> Result<Request<()>, Status> {
    for value in request.metadata_mut().as_mut().values_mut() {
        value.set_sensitive(true);
    }
    Ok(request)
}

/// Checks headers as the variables have them, `name=value,name=value` with `%20` and its like. The exporters leave out what they
/// can't read, and the collector says no more than that somebody is missing. Nothing of a value is told.
fn check_headers(given: &str) -> Result<(), String> {
    for (at, pair) in given.split_terminator(',').enumerate() {
        let (name, value) = pair.split_once('=').unwrap_or_default();
        let is_name = ::http::HeaderName::from_bytes(name.trim().as_bytes()).is_ok();
        if !is_name || value.trim().is_empty() || ::http::HeaderValue::from_str(value.trim()).is_err() {
            return Err(format!("header {} of it must be NAME=VALUE", at + 1));
        }
    }
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<Certificate> {
    let place = || format!("--otlp-certificate (OTEL_EXPORTER_OTLP_CERTIFICATE) {}", file.display());
    let pem = std::fs::read(file).with_context(place)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    anyhow::ensure!(
        certificates.is_ok_and(|certificates| !certificates.is_empty()),
        "{}: there is no certificate in it, which in PEM begins with -----BEGIN CERTIFICATE-----",
        place()
    );
    Ok(Certificate::from_pem(pem))
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
            ("https://collector.example.com:4317", true),
            ("grpc://localhost:4317", false),
            ("https://user:secret@localhost:4317", false),
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

    #[test]
    fn headers_are_checked_and_not_told() {
        for good in ["", "authorization=Bearer%20s3cr3t", "a=1, x-scope=b=c,", "a=%"] {
            assert_eq!(check_headers(good), Ok(()), "{good:?}");
        }
        for (bad, at) in [
            ("s3cr3t", 1),
            ("a=1,s3cr3t", 2),
            ("a=", 1),
            ("a b=s3cr3t", 1),
            ("a=s3cr\n3t", 1),
        ] {
            let error = check_headers(bad).expect_err(bad);
            assert_eq!(error, format!("header {at} of it must be NAME=VALUE"));
        }
    }

    #[test]
    fn shares_take_as_much_as_they_say() {
        let takes = |ratio: &str, fraction| ratio.parse::<TraceRatio>().expect("a share").takes(fraction);
        assert!(takes("1", 0.999) && takes("0.5", 0.49) && !takes("0.5", 0.5) && !takes("0", 0.0));
    }
}
