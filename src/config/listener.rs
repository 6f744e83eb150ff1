//! How callers reach the server, and how much of it they may take.

use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

use super::values::duration;
use crate::domain::Rate;
use crate::rest::HostName;

/// The port, as callers meet it.
#[derive(Debug, Clone, Args)]
pub struct ListenerArgs {
    /// The server's certificate, and after it those between it and its authority, PEM. With it the port speaks TLS alone, 1.2 or 1.3.
    /// It is read again when it changes.
    #[arg(long, env = "CAMPAIGN_TLS_CERT_FILE", value_name = "FILE", requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// The private key of that certificate, PEM (PKCS#8, PKCS#1 or SEC1), without a passphrase.
    #[arg(long, env = "CAMPAIGN_TLS_KEY_FILE", value_name = "FILE", requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,
    /// The authorities of callers' certificates, PEM. With it every caller must show a certificate of theirs, recipients' links and
    /// providers' reports included: a proxy that has one brings them. Read again when it changes.
    #[arg(
        long,
        env = "CAMPAIGN_TLS_CLIENT_CA_FILE",
        value_name = "FILE",
        requires = "tls_cert_file"
    )]
    pub tls_client_ca_file: Option<PathBuf>,
    /// Under which names the server is called beside `localhost` and loopback addresses, while it listens on loopback without TLS and
    /// nobody is asked who he is; several times, or with commas. Others are refused, so that no web page reaches it by a name of its own.
    #[arg(long, env = "CAMPAIGN_ALLOWED_HOST", value_name = "HOST", value_delimiter = ',')]
    pub allowed_host: Vec<HostName>,
    /// The most connections at a time, 1 to 1000000. Those beyond it are closed at once.
    #[arg(long, env = "CAMPAIGN_MAX_CONNECTIONS", value_name = "COUNT", default_value_t = 10_000, value_parser = count)]
    pub max_connections: usize,
    /// The most connections of one address (of IPv6: of its network of 64 bits), up to 1000000; 0: as many as there are. Those beyond it
    /// are closed at once. Default: half of all, so that no address takes all of them, and a proxy that everybody comes through still
    /// has enough.
    #[arg(long, env = "CAMPAIGN_MAX_CONNECTIONS_PER_ADDRESS", value_name = "COUNT", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(0..=1_000_000))]
    pub max_connections_per_address: Option<usize>,
    /// After how long a connection is asked to end, so that callers spread over all servers: 1s to 30 days, more or less by a tenth.
    /// What is under way on it is finished.
    #[arg(long, env = "CAMPAIGN_CONNECTION_AGE", value_name = "DURATION", default_value = "30m", value_parser = connection_age)]
    pub connection_age: Duration,
    /// The most calls under way at a time, 1 to 1000000. Those beyond it are refused at once as UNAVAILABLE; ticks and health checks
    /// are not counted.
    #[arg(long, env = "CAMPAIGN_MAX_REQUESTS", value_name = "COUNT", default_value_t = 1000, value_parser = count)]
    pub max_requests: usize,
    /// How often one caller may call this server, as in `50/s`, `600/m` or `3000/h`. At once go those of a second, one at least.
    /// Others are refused as `RESOURCE_EXHAUSTED`. Default: no limit.
    #[arg(long, env = "CAMPAIGN_CALLER_RATE", value_name = "RATE", value_parser = Rate::parse)]
    pub caller_rate: Option<Rate>,
    /// How long a connection may take until it is encrypted, or else until it has begun to ask something.
    #[arg(skip = Duration::from_secs(10))]
    pub greeting_limit: Duration,
    /// How long the head of an HTTP/1 request may take, and how long such a connection may be idle.
    #[arg(skip = Duration::from_secs(30))]
    pub head_limit: Duration,
    /// How often an idle connection of HTTP/2 is asked whether anybody is there, and how long the answer may take.
    #[arg(skip = Duration::from_secs(20))]
    pub keepalive: Duration,
    /// The most watches of health that may be open, on all listeners together.
    #[arg(skip = 1000_usize)]
    pub max_watches: usize,
}

/// The files of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whose certificates callers must show.
    pub client_authorities: Option<PathBuf>,
}

impl ListenerArgs {
    /// The most connections of one address; none: as many as there are.
    pub fn most_per_address(&self) -> Option<usize> {
        let most = self.max_connections_per_address;
        let most = most.unwrap_or_else(|| self.max_connections.div_ceil(2));
        (most > 0).then_some(most)
    }

    /// The files of TLS; none: the port doesn't speak it.
    pub fn tls(&self) -> Option<TlsFiles> {
        Some(TlsFiles {
            certificate: self.tls_cert_file.clone()?,
            key: self.tls_key_file.clone()?,
            client_authorities: self.tls_client_ca_file.clone(),
        })
    }
}

fn count(given: &str) -> Result<usize, String> {
    let number = given.parse().ok().filter(|number| (1..=1_000_000).contains(number));
    number.ok_or_else(|| "must be 1 to 1000000".to_owned())
}

fn connection_age(given: &str) -> Result<Duration, String> {
    let age = duration(given).ok().filter(|age| *age >= Duration::from_secs(1));
    age.ok_or_else(|| "must be 1s to 30 days, such as 30m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use super::*;
    use clap::Parser as _;

    #[test]
    fn flags_of_the_listener_are_checked() {
        let parse = |arguments: &[&str]| {
            let cli = Cli::try_parse_from([&["campaignd"], arguments].concat());
            cli.map(|cli| cli.config.listener).map_err(|error| error.to_string())
        };
        let defaults = parse(&[]).expect("defaults");
        assert_eq!((defaults.max_connections, defaults.max_requests), (10_000, 1000));
        assert_eq!(
            (defaults.tls(), defaults.caller_rate, defaults.connection_age),
            (None, None, Duration::from_mins(30))
        );
        for (flags, most) in [
            (&[][..], Some(5000)),
            (&["--max-connections=1"], Some(1)),
            (&["--max-connections=7", "--max-connections-per-address=3"], Some(3)),
            (&["--max-connections-per-address=0"], None),
        ] {
            assert_eq!(parse(flags).expect("flags").most_per_address(), most, "{flags:?}");
        }
        let (cert, key, ca) = ("--tls-cert-file=c", "--tls-key-file=k", "--tls-client-ca-file=a");
        let files = TlsFiles {
            certificate: "c".into(),
            key: "k".into(),
            client_authorities: Some("a".into()),
        };
        assert_eq!(parse(&[cert, key, ca]).expect("files").tls(), Some(files));
        for (bad, says) in [
            (&[cert][..], "--tls-key-file"),
            (&[key], "--tls-cert-file"),
            (&[ca], "--tls-cert-file"),
            (&["--max-connections=0"], "must be 1 to 1000000"),
            (&["--max-connections-per-address=1000001"], "1000000"),
            (&["--max-requests=1000001"], "must be 1 to 1000000"),
            (&["--connection-age=999ms"], "must be 1s to 30 days"),
            (&["--caller-rate=50"], "10/s"),
            (&["--allowed-host=http://a"], "no name of a host"),
        ] {
            let error = parse(bad).expect_err("refused");
            assert!(error.contains(says), "{bad:?}: {error}");
        }
    }
}
