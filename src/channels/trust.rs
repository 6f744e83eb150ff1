//! Who is trusted to say which server is which: the public authorities, and those of one's own network beside them.

use lettre::transport::smtp::client::{Certificate, TlsParameters};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Whose certificates are accepted, from mail servers and providers alike.
#[derive(Debug, Clone)]
pub struct TrustedRoots {
    own: Vec<CertificateDer<'static>>,
}

/// Why a file of certificates is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// There is none in it.
    #[error("there is no certificate in it, which in PEM begins with -----BEGIN CERTIFICATE-----")]
    Empty,
    /// It is cut off, or not base64.
    #[error("certificate {number} is not PEM: {error}")]
    Pem {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        error: String,
    },
    /// It is PEM, and no certificate.
    #[error("certificate {number} is none: {error}")]
    Certificate {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        error: String,
    },
}

/// The certificates of a PEM file, one at least.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let mut found = Vec::new();
    for (at, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let number = at + 1;
        let certificate = certificate.map_err(|error| TrustError::Pem {
            number,
            error: error.to_string(),
        })?;
        let added = RootCertStore::empty().add(certificate.clone());
        added.map_err(|error| TrustError::Certificate {
            number,
            error: error.to_string(),
        })?;
        found.push(certificate);
    }
    if found.is_empty() {
        return Err(TrustError::Empty);
    }
    Ok(found)
}

impl TrustedRoots {
    /// The public authorities alone.
    pub fn public() -> Self {
        Self { own: Vec::new() }
    }

    /// The public authorities, and those of a PEM file.
    pub fn with(pem: &[u8]) -> Result<Self, TrustError> {
        let own = certificates(pem)?;
        Ok(Self { own })
    }

    /// For the HTTP client.
    pub(super) fn store(&self) -> Result<RootCertStore, rustls::Error> {
        let mut store = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        for certificate in &self.own {
            store.add(certificate.clone())?;
        }
        Ok(store)
    }

    /// For connections to the mail server of this name. The public authorities are lettre's default.
    pub(super) fn for_mail(&self, host: &str) -> Result<TlsParameters, lettre::transport::smtp::Error> {
        let mut parameters = TlsParameters::builder(host.to_owned());
        for certificate in &self.own {
            parameters = parameters.add_root_certificate(Certificate::from_der(certificate.to_vec())?);
        }
        parameters.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHORITY: &str = include_str!("../../tests/it/support/tls/authority.pem");

    #[test]
    fn a_file_of_authorities_is_checked() {
        let two = format!("# ours\n{AUTHORITY}\n{AUTHORITY}");
        assert_eq!(
            TrustedRoots::with(AUTHORITY.as_bytes())
                .map(|roots| roots.own.len())
                .ok(),
            Some(1)
        );
        assert_eq!(
            TrustedRoots::with(two.as_bytes()).map(|roots| roots.own.len()).ok(),
            Some(2)
        );
        let key = AUTHORITY.replace("CERTIFICATE", "PRIVATE KEY");
        for none in ["", "\n", "x", &key, "\u{0}\u{1}"] {
            assert_eq!(
                TrustedRoots::with(none.as_bytes()).err(),
                Some(TrustError::Empty),
                "{none:?}"
            );
        }
        let half = &AUTHORITY[..AUTHORITY.len() / 2];
        let garbled = AUTHORITY.replacen("MII", "?II", 1);
        let other = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (broken, says) in [
            (half.to_owned(), "certificate 1 is not PEM"),
            (garbled, "certificate 1 is not PEM"),
            (other.to_owned(), "certificate 1 is none"),
            (format!("{AUTHORITY}{other}"), "certificate 2 is none"),
        ] {
            let error = TrustedRoots::with(broken.as_bytes()).expect_err("refused").to_string();
            assert!(error.contains(says), "{broken}: {error}");
        }
    }
}
