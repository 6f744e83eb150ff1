//! Where the keys of an issuer come from: a file that is followed, or a URL that is asked again.
//!
//! A URL is asked when a token names a key that is not known, at most every [`PAUSE`], so that forged tokens make no storm; and when
//! what is known is older than [`FRESH`], so that a key that was withdrawn goes out of use. As long as it does not answer, the last
//! good keys stay.

use chrono::{DateTime, Duration, Utc};
use futures::future::BoxFuture;
use jsonwebtoken::Algorithm;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

use super::KeySet;
use crate::auth::Refused;
use crate::clock::Clock;

/// How long at least between two requests for keys.
const PAUSE: Duration = Duration::seconds(30);

/// How long keys are used before they are asked for again.
const FRESH: Duration = Duration::minutes(10);

/// Asks for the document, or says why there is none.
type Fetch = Box<dyn Fn() -> BoxFuture<'static, Result<Vec<u8>, String>> + Send + Sync>;

/// Where keys come from.
#[derive(Debug)]
pub enum KeySource {
    /// A file, as it is at each moment.
    File(watch::Receiver<Arc<KeySet>>),
    /// A URL.
    Url(FetchedKeys),
}

impl KeySource {
    /// The keys, among which the one of this id is if it can be had.
    pub(super) async fn with(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Arc<KeySet>, Refused> {
        match self {
            Self::File(keys) => Ok(Arc::clone(&keys.borrow())),
            Self::Url(fetched) => fetched.with(id, algorithm).await,
        }
    }
}

/// Keys that are fetched.
#[derive(Debug, Clone)]
pub struct FetchedKeys(Arc<Fetched>);

struct Fetched {
    fetch: Fetch,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
    /// Held while it is asked, so that one request is enough for all who wait.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, Default)]
struct Known {
    keys: Option<Arc<KeySet>>,
    /// When they came.
    fetched_at: Option<DateTime<Utc>>,
    /// When they were last asked for because something was missing or old.
    asked_at: Option<DateTime<Utc>>,
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched").finish_non_exhaustive()
    }
}

impl FetchedKeys {
    /// Keys that `fetch` gets.
    pub fn new(
        fetch: impl Fn() -> BoxFuture<'static, Result<Vec<u8>, String>> + Send + Sync + 'static,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self(Arc::new(Fetched {
            fetch: Box::new(fetch),
            clock,
            known: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }))
    }

    /// Asks for the keys for the first time. Where there are none the server starts all the same: tokens are refused as something that
    /// may be tried again, and each asks anew.
    pub async fn begin(&self) {
        self.0.ask().await;
    }

    async fn with(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Arc<KeySet>, Refused> {
        self.0.with(id, algorithm).await
    }
}

impl Fetched {
    async fn with(self: &Arc<Self>, id: Option<&str>, algorithm: Algorithm) -> Result<Arc<KeySet>, Refused> {
        if let Some(keys) = self.good(id, algorithm) {
            return Ok(keys);
        }
        let asking = self.asking.lock().await;
        // Somebody else may have asked meanwhile.
        if let Some(keys) = self.good(id, algorithm) {
            return Ok(keys);
        }
        if self.may_ask() {
            let fetched = Arc::clone(self);
            // By itself: whoever calls may hang up at any time, and with him would go what all wait for.
            let asked = tokio::spawn(async move { fetched.ask().await });
            // One that panicked has said so.
            let _ = asked.await;
        }
        drop(asking);
        self.known().keys.ok_or(Refused::KeysUnavailable)
    }

    /// The keys, if they are new enough and the one of this id is among them.
    fn good(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Arc<KeySet>> {
        let known = self.known();
        let is_fresh = known
            .fetched_at
            .is_some_and(|at| is_within(at, self.clock.now(), FRESH));
        known.keys.filter(|keys| is_fresh && keys.find(id, algorithm).is_some())
    }

    /// Whether it is time to ask again; if so, it is not for a while.
    fn may_ask(&self) -> bool {
        let now = self.clock.now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.asked_at.is_some_and(|at| is_within(at, now, PAUSE)) {
            return false;
        }
        known.asked_at = Some(now);
        true
    }

    async fn ask(&self) {
        let parsed = match (self.fetch)().await {
            Ok(document) => KeySet::parse(&document).map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        let keys = match parsed {
            Ok(keys) => keys,
            Err(error) => {
                tracing::warn!("the keys of --jwks-url can't be had, and those known stay: {error}");
                return;
            }
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.keys = Some(Arc::new(keys));
        known.fetched_at = Some(self.clock.now());
    }

    fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether `now` is within some time of `at`. A clock that was set back is not waited for.
fn is_within(at: DateTime<Utc>, now: DateTime<Utc>, time: Duration) -> bool {
    (now - at).abs() < time
}
