//! Where the server is, and how a program reaches it: plainly, or by TLS with certificates of one's own.

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// How long the server may take until the connection is encrypted.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Which server, and how.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// Where the server is: `http://`, or `https://` where it speaks TLS.
    #[arg(
        long,
        env = "CAMPAIGN_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:50051",
        global = true
    )]
    pub server: String,
    /// Who else is trusted to say which server is which: a PEM file with the certificates of authorities of one's own. Default: the
    /// public authorities alone.
    #[arg(long, env = "CAMPAIGN_CA_FILE", value_name = "FILE", global = true)]
    pub ca_file: Option<PathBuf>,
    /// The certificate to show to a server that asks for one, PEM, followed by those between it and its authority.
    #[arg(long, env = "CAMPAIGN_CLIENT_CERT_FILE", value_name = "FILE", global = true)]
    pub client_cert_file: Option<PathBuf>,
    /// The private key of that certificate, PEM, without a passphrase.
    #[arg(long, env = "CAMPAIGN_CLIENT_KEY_FILE", value_name = "FILE", global = true)]
    pub client_key_file: Option<PathBuf>,
}

impl ServerArgs {
    /// What to connect to, or what is wrong with how it is set up.
    pub(super) fn endpoint(&self) -> anyhow::Result<Endpoint> {
        let named = || format!("--server (CAMPAIGN_SERVER) {:?}", self.server);
        let endpoint = Endpoint::from_shared(self.server.clone()).with_context(named)?;
        let identity = self.identity()?;
        match endpoint.uri().scheme_str() {
            Some("https") => {}
            Some("http") if identity.is_none() => return Ok(endpoint),
            Some("http") => bail!(
                "{}: a certificate (--client-cert-file, CAMPAIGN_CLIENT_CERT_FILE) is shown over https:// only",
                named()
            ),
            Some(_) | None => bail!("{}: must begin with http:// or https://", named()),
        }
        let mut tls = ClientTlsConfig::new().with_webpki_roots().timeout(HANDSHAKE);
        if let Some(file) = &self.ca_file {
            let pem = read("--ca-file (CAMPAIGN_CA_FILE)", file)?;
            check_certificates("--ca-file (CAMPAIGN_CA_FILE)", file, &pem)?;
            tls = tls.ca_certificate(Certificate::from_pem(pem));
        }
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let what = "TLS can't be set up with --client-cert-file (CAMPAIGN_CLIENT_CERT_FILE) and --client-key-file (CAMPAIGN_CLIENT_KEY_FILE)";
        endpoint.tls_config(tls).context(what)
    }

    fn identity(&self) -> anyhow::Result<Option<Identity>> {
        let (certificate, key) = match (&self.client_cert_file, &self.client_key_file) {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(_), None) => bail!("--client-cert-file needs --client-key-file (CAMPAIGN_CLIENT_KEY_FILE) beside it"),
            (None, Some(_)) => {
                bail!("--client-key-file needs --client-cert-file (CAMPAIGN_CLIENT_CERT_FILE) beside it")
            }
        };
        let flag = "--client-cert-file (CAMPAIGN_CLIENT_CERT_FILE)";
        let chain = read(flag, certificate)?;
        check_certificates(flag, certificate, &chain)?;
        let key = read("--client-key-file (CAMPAIGN_CLIENT_KEY_FILE)", key)?;
        Ok(Some(Identity::from_pem(chain, key)))
    }
}

fn read(flag: &str, file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("{flag} {} can't be read", file.display()))
}

fn check_certificates(flag: &str, file: &Path, pem: &[u8]) -> anyhow::Result<()> {
    let place = || format!("{flag} {}", file.display());
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.with_context(place)?;
    ensure!(
        !certificates.is_empty(),
        "{}: there is no certificate in it, which in PEM begins with -----BEGIN CERTIFICATE-----",
        place()
    );
    Ok(())
}

/// What lies behind an error, from the outside in.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        // Each often says what is behind it as well.
        let text = cause.to_string();
        if texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
        next = cause.source();
    }
    texts[1..].iter().fold(String::new(), |all, text| all + ": " + text)
}

/// Whether the two don't trust each other's certificates, which no second try mends.
pub(super) fn is_distrust(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        let within = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = cause
            .downcast_ref::<rustls::Error>()
            .or_else(|| within.and_then(|within| within.downcast_ref::<rustls::Error>()));
        // What was refused after the handshake, as TLS 1.3 does it, comes by way of h2, which keeps the text alone.
        let text = cause.to_string();
        let is_refused =
            text.contains("received fatal alert") && ["Certificate", "UnknownCA"].iter().any(|it| text.contains(it));
        if matches!(tls, Some(rustls::Error::InvalidCertificate(_))) || is_refused {
            return true;
        }
        next = cause.source();
    }
    false
}
