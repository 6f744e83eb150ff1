//! By what callers are known.

use clap::{ArgAction, Args};
use std::net::SocketAddr;
use std::path::PathBuf;

use super::ConfigError;
use crate::channels::HttpUrl;

/// By what callers are known, and what those may see who are not.
#[derive(Debug, Clone, Args)]
pub struct AuthArgs {
    /// The file that says who may call: names, roles, and digests of tokens or names in certificates. It is read again when it
    /// changes.
    #[arg(long, env = "CAMPAIGN_CALLERS_FILE", value_name = "FILE")]
    pub callers_file: Option<PathBuf>,
    /// Whose JWTs are taken, letter by letter as their `iss` has it.
    #[arg(long, env = "CAMPAIGN_JWT_ISSUER", value_name = "ISSUER")]
    pub jwt_issuer: Option<String>,
    /// What must be in `aud` of JWTs, so that one for somebody else is not taken.
    #[arg(long, env = "CAMPAIGN_JWT_AUDIENCE", value_name = "AUDIENCE")]
    pub jwt_audience: Option<String>,
    /// The file with the issuer's public keys, a JWKS. It is read again when it changes.
    #[arg(long, env = "CAMPAIGN_JWKS_FILE", value_name = "FILE")]
    pub jwks_file: Option<PathBuf>,
    /// Where the issuer has its JWKS, in place of a file: `https`, or `http` on this machine.
    #[arg(long, env = "CAMPAIGN_JWKS_URL", value_name = "URL", value_parser = jwks_url)]
    pub jwks_url: Option<HttpUrl>,
    /// The claim of JWTs that has the roles, a list or a text with spaces; dots lead into objects, as in `realm_access.roles`.
    #[arg(
        long,
        env = "CAMPAIGN_JWT_ROLES_CLAIM",
        value_name = "CLAIM",
        default_value = "roles"
    )]
    pub jwt_roles_claim: String,
    /// Whether callers may ask for the contract: gRPC reflection, and `/openapi.json`.
    #[arg(long, env = "CAMPAIGN_REFLECTION", value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub reflection: bool,
}

/// How JWTs are checked.
#[derive(Debug, Clone)]
pub struct JwtArgs {
    /// Whose they are.
    pub issuer: String,
    /// For whom they are.
    pub audience: String,
    /// Where the keys are.
    pub keys: JwksAt,
}

/// Where the keys of an issuer are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksAt {
    /// In a file.
    File(PathBuf),
    /// At a URL.
    Url(HttpUrl),
}

impl AuthArgs {
    /// Whether it can be known who calls.
    pub fn asks(&self) -> bool {
        self.callers_file.is_some() || self.jwt_issuer.is_some()
    }

    /// How JWTs are checked; none: they are not taken.
    pub fn jwt(&self) -> Result<Option<JwtArgs>, ConfigError> {
        let keys = match (&self.jwks_file, &self.jwks_url) {
            (Some(_), Some(_)) => return Err(ConfigError::TwoJwks),
            (Some(file), None) => Some(JwksAt::File(file.clone())),
            (None, Some(url)) => Some(JwksAt::Url(url.clone())),
            (None, None) => None,
        };
        // An empty one would be that of tokens that have none.
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        match (filled(&self.jwt_issuer), filled(&self.jwt_audience), keys) {
            (Some(issuer), Some(audience), Some(keys)) => Ok(Some(JwtArgs { issuer, audience, keys })),
            (None, None, None) if self.jwt_issuer.is_none() && self.jwt_audience.is_none() => Ok(None),
            (_, _, _) => Err(ConfigError::HalfJwt),
        }
    }
}

/// Whether others may be let to an address: only if what is said there is encrypted, and everybody is asked who he is.
pub(super) fn check_public(listen: SocketAddr, has_tls: bool, asks: bool) -> Result<(), ConfigError> {
    if listen.ip().to_canonical().is_loopback() || (has_tls && asks) {
        return Ok(());
    }
    let missing = match (has_tls, asks) {
        (false, false) => "nothing is encrypted, and nobody is asked who he is",
        (false, true) => "nothing is encrypted, tokens neither",
        (true, false | true) => "nobody is asked who he is",
    };
    Err(ConfigError::Public { listen, missing })
}

fn jwks_url(given: &str) -> Result<HttpUrl, String> {
    let url = HttpUrl::parse(given).map_err(|error| error.to_string())?;
    if !url.is_encrypted() && !url.is_loopback() {
        return Err("must begin with https://: whoever can change the keys on their way can make tokens".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use super::*;
    use clap::Parser as _;

    #[track_caller]
    fn check(arguments: &[&str], expected: Result<bool, &str>) {
        let cli = Cli::try_parse_from([&["campaignd"], arguments].concat());
        let outcome = cli
            .map_err(|error| error.to_string())
            .and_then(|cli| cli.config.auth.jwt().map_err(|error| error.to_string()));
        match (outcome, expected) {
            (Ok(jwt), Ok(is_some)) => assert_eq!(jwt.is_some(), is_some, "{arguments:?}"),
            (Err(error), Err(part)) => assert!(error.contains(part), "{arguments:?}: {error}"),
            (outcome, _) => panic!("{arguments:?}: {outcome:?}"),
        }
    }

    #[test]
    fn jwts_need_issuer_audience_and_keys() {
        let (issuer, audience, file) = ("--jwt-issuer=i", "--jwt-audience=a", "--jwks-file=f");
        check(&[], Ok(false));
        check(&[issuer, audience, file], Ok(true));
        check(&[issuer, audience, "--jwks-url=https://id.example/jwks"], Ok(true));
        check(&[issuer, audience, "--jwks-url=http://127.0.0.1:8080/jwks"], Ok(true));
        check(&[issuer, audience, "--jwks-url=http://[::1]:8080/jwks"], Ok(true));
        for half in [
            &[issuer, audience][..],
            &[issuer, file],
            &[audience, file],
            &[file],
            &["--jwt-issuer=", audience, file],
        ] {
            check(half, Err("CAMPAIGN_JWT_AUDIENCE"));
        }
        check(
            &[issuer, audience, file, "--jwks-url=https://id.example/jwks"],
            Err("CAMPAIGN_JWKS_FILE"),
        );
        check(&["--jwks-url=http://id.example/jwks"], Err("https://"));
        check(&["--jwks-url=http://10.0.0.1/jwks"], Err("https://"));
        check(&["--reflection"], Err("BOOL"));
        check(&["--reflection=false"], Ok(false));
    }

    #[test]
    fn others_are_let_in_only_where_all_is_asked_and_encrypted() {
        let public = |listen: &str, has_tls, asks| {
            let refused = check_public(listen.parse().expect("an address"), has_tls, asks).err();
            refused.map(|error| error.to_string())
        };
        for loopback in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(public(loopback, false, false), None);
        }
        for open in ["0.0.0.0:1", "[::]:1", "10.1.2.3:1"] {
            assert_eq!(public(open, true, true), None);
            for (has_tls, asks, says) in [
                (false, false, "nothing is encrypted, and nobody is asked"),
                (false, true, "nothing is encrypted, tokens neither"),
                (true, false, "nobody is asked who he is"),
            ] {
                let refused = public(open, has_tls, asks).expect("refused");
                let words = [says, open, "--tls-cert-file", "--callers-file", "--insecure-public"];
                assert!(words.iter().all(|word| refused.contains(word)), "{refused}");
            }
        }
    }
}
