//! Where the database is, and what of that may be told.

use std::path::PathBuf;
use std::sync::Arc;

/// Where the database is: `sqlite://file.db` or `postgres://user@host/name`.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(String);

impl StoreUrl {
    /// Takes a URL of one of the two databases.
    pub fn parse(url: &str) -> Result<Self, String> {
        if ["sqlite:", "postgres://", "postgresql://"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
        {
            return Ok(Self(url.to_owned()));
        }
        Err("must begin with sqlite:, postgres:// or postgresql://".to_owned())
    }

    /// Where it is, as callers may know it: the file of the embedded database, and of the other no more than what it is.
    pub(super) fn place(&self) -> Arc<str> {
        let Some(file) = self.0.strip_prefix("sqlite:") else {
            return "PostgreSQL".into();
        };
        let file = file.strip_prefix("//").unwrap_or(file);
        file.split('?').next().unwrap_or_default().into()
    }

    /// As it was given, with whatever password is in it.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The file of the embedded database.
    pub fn file(&self) -> Option<PathBuf> {
        self.is_sqlite().then(|| PathBuf::from(&*self.place()))
    }

    /// Whether it is the embedded database.
    pub fn is_sqlite(&self) -> bool {
        self.0.starts_with("sqlite:")
    }
}

impl std::fmt::Debug for StoreUrl {
    /// Shows which database it is, but no password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (scheme, rest) = self.0.split_once(':').unwrap_or_default();
        // A login may stand before the host, and in the query.
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        let place = place.split('?').next().unwrap_or_default().trim_start_matches('/');
        write!(f, "{scheme}://{place}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_tells_no_secret() {
        for (url, place) in [
            ("sqlite://campaign.db", "campaign.db"),
            ("sqlite:///var/lib/campaign.db?mode=ro", "/var/lib/campaign.db"),
            ("sqlite:campaign.db", "campaign.db"),
            ("postgres://user:secret@host/name", "PostgreSQL"),
        ] {
            assert_eq!(&*StoreUrl::parse(url).expect("a URL").place(), place, "{url}");
        }
    }

    #[test]
    fn debugging_shows_no_login() {
        for (url, shown) in [
            ("postgres://a:b@db:5432/x?sslmode=require", "postgres://db:5432/x"),
            ("postgres://db/x?user=a&password=b", "postgres://db/x"),
            ("postgresql://a:p@ss@db/x", "postgresql://db/x"),
            ("sqlite://a.db?mode=rwc", "sqlite://a.db"),
        ] {
            assert_eq!(format!("{:?}", StoreUrl::parse(url).expect("a URL")), shown);
        }
    }
}
