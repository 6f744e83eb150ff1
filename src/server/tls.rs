//! The server's certificate, and whose certificates callers must show. Both are read from files, and again when those change: new
//! connections are made with what is there then, and those that are there go on.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage};

use crate::auth::ClientCertificate;
use crate::channels::{TrustError, certificates};
use crate::clock::Clock;
use crate::config::TlsFiles;
use crate::domain::Timestamp;
use crate::reload::{ReloadError, Reloader};
use crate::telemetry::Metrics;

/// What is spoken within TLS.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What connections are encrypted with.
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) config: Arc<ServerConfig>,
    /// When the server's certificate expires, as far as it says so.
    expires_at: Option<Timestamp>,
}

/// What is wrong with a file, and with which.
#[derive(Debug, thiserror::Error)]
enum TlsError {
    #[error("--tls-cert-file (CAMPAIGN_TLS_CERT_FILE) {0}: {1}")]
    Certificate(String, TrustError),
    #[error("--tls-cert-file (CAMPAIGN_TLS_CERT_FILE) {0}: {1}")]
    NotInForce(String, String),
    #[error("--tls-key-file (CAMPAIGN_TLS_KEY_FILE) {0}: {1}")]
    Key(String, String),
    #[error(
        "--tls-key-file (CAMPAIGN_TLS_KEY_FILE) {key} is not the key of the first certificate in --tls-cert-file (CAMPAIGN_TLS_CERT_FILE) {certificate}"
    )]
    Mismatch { key: String, certificate: String },
    #[error("--tls-client-ca-file (CAMPAIGN_TLS_CLIENT_CA_FILE) {0}: {1}")]
    Authorities(String, String),
    #[error("TLS can't be set up: {0}")]
    Other(#[from] rustls::Error),
}

/// Reads the files of TLS, if there are any, so that they can be followed. From now on metrics tell how long the certificate is valid
/// that callers are shown at that moment.
pub(super) async fn read(
    files: Option<TlsFiles>,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> Result<Option<Reloader<Tls>>, ReloadError> {
    let Some(files) = files else {
        return Ok(None);
    };
    let (clock, now) = (Arc::clone(clock), Arc::clone(clock));
    let paths = [&files.certificate, &files.key]
        .into_iter()
        .chain(&files.client_authorities);
    let paths = paths.cloned().collect();
    let what = "the certificate that callers are shown";
    let parse = move |contents: &[Vec<u8>]| parse(&files, contents, &clock);
    let tls = Reloader::read(what, paths, parse).await?;
    let current = tls.subscribe();
    metrics.show_certificate(move || Some(current.borrow().expires_at? - now.now()));
    Ok(Some(tls))
}

fn parse(files: &TlsFiles, contents: &[Vec<u8>], clock: &Arc<dyn Clock>) -> Result<Tls, TlsError> {
    let name = |path: &Path| path.display().to_string();
    let (certificate, key) = (name(&files.certificate), name(&files.key));
    let chain = certificates(&contents[0]).map_err(|error| TlsError::Certificate(certificate.clone(), error))?;
    let in_force = chain.first().map_or(Ok(()), |first| check_in_force(first, clock.now()));
    in_force.map_err(|why| TlsError::NotInForce(certificate.clone(), why))?;
    let expires_at = chain.first().and_then(end_of);
    let private_key = private_key(&contents[1]).map_err(|why| TlsError::Key(key.clone(), why))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_details(Arc::clone(&provider), Arc::new(TimeOf(Arc::clone(clock))))
        .with_safe_default_protocol_versions()?;
    let authorities = files.client_authorities.as_deref().zip(contents.get(2));
    let builder = match authorities {
        None => builder.with_no_client_auth(),
        Some((path, pem)) => {
            let wrong = |why: String| TlsError::Authorities(name(path), why);
            let mut roots = RootCertStore::empty();
            for authority in certificates(pem).map_err(|error| wrong(error.to_string()))? {
                roots.add(authority)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| wrong(error.to_string()))?)
        }
    };
    let config = builder.with_single_cert(chain, private_key);
    let mismatch = rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch);
    let mut config = config.map_err(|error| {
        if error == mismatch {
            return TlsError::Mismatch {
                key: key.clone(),
                certificate,
            };
        }
        TlsError::Key(key.clone(), error.to_string())
    })?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    if authorities.is_some() {
        // Whoever comes back is verified anew: a certificate may have run out since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Tls {
        config: Arc::new(config),
        expires_at,
    })
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        let is_encrypted = pem.windows(9).any(|window| window == b"ENCRYPTED");
        if is_encrypted {
            "the key has a passphrase: it must be stored without".to_owned()
        } else {
            "there is no private key in it, which in PEM begins with -----BEGIN PRIVATE KEY-----".to_owned()
        }
    })
}

/// Whether a certificate is in force. An expired one helps nobody: callers refuse it.
fn check_in_force(certificate: &CertificateDer<'_>, now: Timestamp) -> Result<(), String> {
    let certificate = EndEntityCert::try_from(certificate).map_err(|error| error.to_string())?;
    match refusal(&certificate, unix_time(now)) {
        Some(webpki::Error::CertExpired { not_after, .. }) => Err(format!("it expired at {}", shown(not_after))),
        Some(webpki::Error::CertNotValidYet { not_before, .. }) => {
            Err(format!("it is not valid before {}", shown(not_before)))
        }
        Some(_) | None => Ok(()),
    }
}

/// Until when a certificate is in force: at the end of time it is not.
fn end_of(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let end_of_time = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    let Some(webpki::Error::CertExpired { not_after, .. }) = refusal(&certificate, end_of_time) else {
        return None;
    };
    timestamp(not_after)
}

/// Why a certificate is refused at a time. Nobody is trusted here, so it is in any case, and for being out of force before anything
/// else.
fn refusal(certificate: &EndEntityCert<'_>, at: UnixTime) -> Option<webpki::Error> {
    let (algorithms, usage) = (webpki::ALL_VERIFICATION_ALGS, KeyUsage::server_auth());
    let verified = certificate.verify_for_usage(algorithms, &[], &[], at, usage, None, None);
    verified.err()
}

/// The names of a certificate that was verified, as far as they say who a caller is.
pub(super) fn names(certificate: &CertificateDer<'_>) -> ClientCertificate {
    let names = EndEntityCert::try_from(certificate).map(|certificate| {
        let names = certificate.valid_uri_names().chain(certificate.valid_dns_names());
        names.map(str::to_owned).collect()
    });
    ClientCertificate {
        names: names.unwrap_or_default(),
    }
}

fn unix_time(at: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at.timestamp()).unwrap_or_default()))
}

fn timestamp(at: UnixTime) -> Option<Timestamp> {
    let at = i64::try_from(at.as_secs()).ok()?;
    Timestamp::from_timestamp(at, 0)
}

fn shown(at: UnixTime) -> String {
    let at = timestamp(at);
    at.map_or_else(|| "an unknown time".to_owned(), |at| at.format("%FT%TZ").to_string())
}

/// The server's clock, for certificates.
#[derive(Debug)]
struct TimeOf(Arc<dyn Clock>);

impl TimeProvider for TimeOf {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{CertificateParams, KeyPair, SanType, date_time_ymd};

    /// A certificate of 2026 and its key, PEM.
    fn pair() -> (String, KeyPair) {
        let mut params = CertificateParams::new(vec!["b.example.com".to_owned()]).expect("parameters");
        let uri = "spiffe://example.com/crm".try_into().expect("a URI");
        params.subject_alt_names.push(SanType::URI(uri));
        params.subject_alt_names.push(SanType::IpAddress([192, 0, 2, 1].into()));
        (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2027, 1, 1));
        let key = KeyPair::generate().expect("a key");
        (params.self_signed(&key).expect("a certificate").pem(), key)
    }

    fn parsed(certificate: &str, key: &str, now: &str) -> Result<Tls, String> {
        let files = TlsFiles {
            certificate: "cert".into(),
            key: "key".into(),
            client_authorities: Some("ca".into()),
        };
        let contents = [certificate, key, certificate].map(|text| text.as_bytes().to_vec());
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(now.parse().expect("an instant")));
        parse(&files, &contents, &clock).map_err(|error| error.to_string())
    }

    #[test]
    fn a_certificate_is_used_while_it_is_in_force() {
        let (certificate, key) = pair();
        let key = key.serialize_pem();
        for (now, expected) in [
            (
                "2025-12-31T23:59:59Z",
                Some("it is not valid before 2026-01-01T00:00:00Z"),
            ),
            ("2026-01-01T00:00:00Z", None),
            ("2027-01-01T00:00:00Z", None),
            ("2027-01-01T00:00:01Z", Some("it expired at 2027-01-01T00:00:00Z")),
        ] {
            let parsed = parsed(&certificate, &key, now);
            if let Ok(tls) = &parsed {
                assert_eq!(tls.expires_at, "2027-01-01T00:00:00Z".parse().ok(), "{now}");
            }
            let error = parsed.err();
            let says = expected.map(|why| format!("--tls-cert-file (CAMPAIGN_TLS_CERT_FILE) cert: {why}"));
            assert_eq!(error, says, "{now}");
        }
    }

    /// PKCS#8 holds the key of SEC1 as its last part, which begins after 29 bytes.
    #[test]
    fn keys_may_be_of_either_form() {
        let (certificate, key) = pair();
        let sec1 = STANDARD.encode(&key.serialize_der()[29..]);
        let sec1 = format!("-----BEGIN EC PRIVATE KEY-----\n{sec1}\n-----END EC PRIVATE KEY-----\n");
        for key in [key.serialize_pem(), sec1] {
            let tls = parsed(&certificate, &key, "2026-03-02T12:00:00Z").expect(&key);
            let config = &tls.config;
            assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
            assert!(!config.session_storage.can_cache() && config.send_tls13_tickets == 0);
        }
    }

    #[test]
    fn callers_are_known_by_the_names_in_their_certificates() {
        let (certificate, _) = pair();
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
        assert_eq!(names(&certificate).names, ["spiffe://example.com/crm", "b.example.com"]);
    }
}
