//! Doing a thing once, however often it is asked for.

use super::{Engine, EngineError};
use crate::domain::Timestamp;
use crate::failpoint::{Failpoint, reach};
use crate::store::{Begun, RequestKey, Txn};

/// A request that may come again, and how its answer is written down.
pub struct Once<'a, T> {
    /// Which request; none: the caller gave it no id, and every call counts.
    pub key: Option<RequestKey>,
    /// Writes the answer down, to be given again as it is.
    pub encode: &'a (dyn Fn(&T) -> Vec<u8> + Send + Sync),
}

/// The answer to a request.
#[derive(Debug)]
pub enum Answer<T> {
    /// It was carried out now.
    Fresh(T),
    /// It had been carried out before; this is what was written down then.
    Repeated(Vec<u8>),
}

/// A request that is being carried out, all or nothing.
pub(super) struct Operation<'a, T> {
    pub(super) txn: Txn,
    pub(super) now: Timestamp,
    once: Once<'a, T>,
}

/// Whether there is something to do.
pub(super) enum Begin<'a, T> {
    /// There is.
    Do(Box<Operation<'a, T>>),
    /// It was done before.
    Repeat(Vec<u8>),
}

impl<T> std::fmt::Debug for Once<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Once").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Engine {
    /// Begins a request, unless it was carried out before. A twin of it waits here until the first is over.
    pub(super) async fn begin_once<'a, T>(&self, once: Once<'a, T>) -> Result<Begin<'a, T>, EngineError> {
        let (txn, now) = (self.store.begin().await?, self.clock.now());
        if let Some(key) = &once.key {
            match txn.begin_request(key, now).await? {
                Begun::New => {}
                Begun::Answered(response) => return Ok(Begin::Repeat(response)),
                Begun::Reused => return Err(EngineError::RequestIdReused(key.request_id.clone())),
            }
        }
        Ok(Begin::Do(Box::new(Operation { txn, now, once })))
    }
}

impl Engine {
    /// The answer that was given to a request before. It is for what looks around for long before it begins.
    pub(super) async fn answered<T>(&self, once: &Once<'_, T>) -> Result<Option<Vec<u8>>, EngineError> {
        let Some(key) = &once.key else {
            return Ok(None);
        };
        // Not committed: the request is entered when it begins.
        let txn = self.store.begin().await?;
        match txn.begin_request(key, self.clock.now()).await? {
            Begun::New => Ok(None),
            Begun::Answered(response) => Ok(Some(response)),
            Begun::Reused => Err(EngineError::RequestIdReused(key.request_id.clone())),
        }
    }
}

impl<T> Operation<'_, T> {
    /// Makes the effect and the answer lasting, both or neither.
    pub(super) async fn finish(self, result: T) -> Result<Answer<T>, EngineError> {
        if let Some(key) = &self.once.key {
            self.txn.finish_request(key, (self.once.encode)(&result)).await?;
        }
        reach(Failpoint::BeforeCallCommit);
        self.txn.commit().await?;
        reach(Failpoint::AfterCallCommit);
        Ok(Answer::Fresh(result))
    }
}
