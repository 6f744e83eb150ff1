//! Which ticks run on this server, so that none runs twice at a time.

use std::sync::{Mutex, PoisonError};

use super::EngineError;
use crate::domain::TickKind;

/// The ticks that run on this server, by kind, caller and name.
#[derive(Debug, Default)]
pub(super) struct RunningTicks(Mutex<Vec<TickName>>);

type TickName = (TickKind, String, String);

/// A tick is entered as long as this is held.
#[derive(Debug)]
pub(super) struct Running<'a> {
    ticks: &'a RunningTicks,
    key: TickName,
}

impl RunningTicks {
    pub(super) fn enter(&self, kind: TickKind, caller: &str, tick_id: &str) -> Result<Running<'_>, EngineError> {
        let key = (kind, caller.to_owned(), tick_id.to_owned());
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if running.contains(&key) {
            return Err(EngineError::TickRunning(tick_id.to_owned()));
        }
        running.push(key.clone());
        drop(running);
        Ok(Running { ticks: self, key })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.ticks
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|key| *key != self.key);
    }
}
