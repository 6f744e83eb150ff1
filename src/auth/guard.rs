//! Asks who calls, and says whether he may.

use http::HeaderMap;
use std::sync::Arc;
use tokio::sync::watch;

use super::token::bearer;
use super::{Caller, Callers, JwtVerifier, Methods, Peer, Refused};

/// By what callers are known. Where there is neither, nobody is asked.
#[derive(Debug, Default)]
pub struct Credentials {
    /// The callers file, as it is at each moment.
    pub callers: Option<watch::Receiver<Arc<Callers>>>,
    /// Checks JWTs.
    pub jwt: Option<JwtVerifier>,
}

/// Asks who calls, and says whether he may.
#[derive(Debug)]
pub struct Guard {
    credentials: Credentials,
    methods: Methods,
}

impl Guard {
    /// A guard who goes by this table.
    pub fn new(credentials: Credentials, methods: Methods) -> Self {
        Self { credentials, methods }
    }

    /// Whether everybody may everything, as there is nothing to know anybody by.
    pub fn is_open(&self) -> bool {
        self.credentials.callers.is_none() && self.credentials.jwt.is_none()
    }

    /// Who makes a request. A token counts more than the certificate of the connection, over which a proxy may bring those of others.
    pub(super) async fn identify(&self, headers: &HeaderMap, peer: Option<&Peer>) -> Result<Caller, Refused> {
        if self.is_open() {
            return Ok(Caller::anyone());
        }
        if let Some(token) = bearer(headers)? {
            return self.by_token(token).await;
        }
        let certificate = peer.and_then(|peer| peer.certificate.as_ref());
        match (&self.credentials.callers, certificate) {
            (Some(callers), Some(certificate)) => callers.borrow().by_certificate(certificate),
            (None, _) | (_, None) => Err(Refused::NoCredentials),
        }
    }

    async fn by_token(&self, token: &str) -> Result<Caller, Refused> {
        let of_file = self.credentials.callers.as_ref();
        if let Some(caller) = of_file.and_then(|callers| callers.borrow().by_token(token)) {
            return Ok(caller);
        }
        match &self.credentials.jwt {
            // Anything else is no JWT (RFC 7515, section 3.1), and asks for no keys.
            Some(jwt) if token.bytes().filter(|b| *b == b'.').count() == 2 => jwt.caller(token).await,
            Some(_) | None => Err(Refused::TokenInvalid),
        }
    }

    /// The table.
    pub(super) fn methods(&self) -> &Methods {
        &self.methods
    }

    /// Who calls the method at this path, if he may. `extensions` are those of his request.
    pub fn permit(&self, extensions: &http::Extensions, path: &str) -> Result<Caller, Refused> {
        self.methods.permit(path, &identity(extensions))
    }

    /// Who asks for what anybody may have who is known.
    pub fn permit_known(&self, extensions: &http::Extensions) -> Result<Caller, Refused> {
        identity(extensions)
    }
}

/// What was found out about who makes a request.
#[derive(Debug, Clone)]
pub(super) struct Identity(pub(super) Result<Caller, Refused>);

/// The name of who makes a request, once it was found out; none: nobody knows him, or nobody is asked.
pub fn name_of(extensions: &http::Extensions) -> Option<String> {
    let caller = identity(extensions).ok()?;
    Some(caller.name().to_owned()).filter(|name| !name.is_empty())
}

/// Whether it was found out who makes a request, or nobody is asked.
pub fn is_known(extensions: &http::Extensions) -> bool {
    identity(extensions).is_ok()
}

fn identity(extensions: &http::Extensions) -> Result<Caller, Refused> {
    let found = extensions.get::<Identity>().cloned();
    found.map_or(Err(Refused::NoCredentials), |Identity(found)| found)
}
