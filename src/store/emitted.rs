//! Which statements were run.

#[cfg(feature = "test-support")]
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "test-support")]
use std::sync::{Mutex, PoisonError};

/// How many statements a store has run; for tests also which.
#[derive(Debug, Default)]
pub(super) struct Emitted {
    count: AtomicU64,
    #[cfg(feature = "test-support")]
    texts: Mutex<BTreeSet<String>>,
}

impl Emitted {
    /// Counts a statement.
    pub(super) fn note(
        &self,
        #[cfg_attr(not(feature = "test-support"), expect(unused_variables, reason = "for tests"))] sql: &str,
    ) {
        self.count.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "test-support")]
        {
            let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
            if !texts.contains(sql) {
                texts.insert(sql.to_owned());
            }
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    #[cfg(feature = "test-support")]
    pub(super) fn texts(&self) -> Vec<String> {
        let texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.iter().cloned().collect()
    }
}
