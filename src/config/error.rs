//! What is wrong with a configuration.

use std::net::SocketAddr;
use std::time::Duration;

use super::ProviderError;

/// What is wrong with the configuration, and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The address can be reached by others.
    #[error(
        "--listen (CAMPAIGN_LISTEN) {listen} can be reached by others, and {missing}: set both --tls-cert-file and --callers-file or --jwt-issuer, listen on loopback, or, where a proxy sees to it, set --insecure-public (CAMPAIGN_INSECURE_PUBLIC=true)"
    )]
    Public {
        /// The address.
        listen: SocketAddr,
        /// What it would be safe with.
        missing: &'static str,
    },
    /// Of what JWTs need, something is missing.
    #[error(
        "JWTs need all of --jwt-issuer (CAMPAIGN_JWT_ISSUER), --jwt-audience (CAMPAIGN_JWT_AUDIENCE), and --jwks-file (CAMPAIGN_JWKS_FILE) or --jwks-url (CAMPAIGN_JWKS_URL), and none of them empty"
    )]
    HalfJwt,
    /// There are two places of keys.
    #[error(
        "--jwks-file (CAMPAIGN_JWKS_FILE) and --jwks-url (CAMPAIGN_JWKS_URL) are both set: keys are taken from one place"
    )]
    TwoJwks,
    /// A channel goes nowhere.
    #[error("{flag} ({variable}) must be set on PostgreSQL: {allowed}")]
    NoChannel {
        /// The flag.
        flag: &'static str,
        /// The variable.
        variable: &'static str,
        /// What it may be.
        allowed: &'static str,
    },
    /// A provider can't be used.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// There is no secret.
    #[error(
        "--secret-key-file (CAMPAIGN_SECRET_KEY_FILE) must be set on PostgreSQL: a file with what `openssl rand -base64 32` prints, the same for all servers"
    )]
    NoSecret,
    /// Mail has no sender.
    #[error("--email-from (CAMPAIGN_EMAIL_FROM) must be set for SMTP, as in \"Our Shop <hello@shop.example>\"")]
    NoSender,
    /// The heartbeat is too slow.
    #[error(
        "--heartbeat (CAMPAIGN_HEARTBEAT) must be a third of --lease (CAMPAIGN_LEASE) at most, but they are {heartbeat:?} and {lease:?}"
    )]
    SlowHeartbeat {
        /// The heartbeat.
        heartbeat: Duration,
        /// The lease.
        lease: Duration,
    },
    /// The lease is too short.
    #[error(
        "--lease (CAMPAIGN_LEASE) must be longer than --send-timeout (CAMPAIGN_SEND_TIMEOUT) by 10 seconds at least, and by twice --max-clock-skew (CAMPAIGN_MAX_CLOCK_SKEW), but they are {lease:?}, {send_timeout:?} and {max_clock_skew:?}"
    )]
    ShortLease {
        /// The lease.
        lease: Duration,
        /// The time-out.
        send_timeout: Duration,
        /// By how much clocks may differ.
        max_clock_skew: Duration,
    },
}
