//! Making failed actions pending again.

use super::Run;
use crate::domain::{ActionId, FailureState, Timestamp, text};

/// Why an action is not made pending again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRetried {
    /// The run is over.
    #[error("the run is over")]
    Ended,
    /// The run is held by whoever sends for it, and so are its actions.
    #[error("the run is held")]
    InFlight,
    /// The action has not failed for good.
    #[error("the action has not failed for good")]
    NotFailed,
}

impl Run {
    /// Makes an action pending again that failed for good, or whose outcome nobody knows. It is due now, and so it is not late.
    ///
    /// Attempts go on counting, as the ledger's key contains them. One more is made whatever the retry policy says, which
    /// then decides about further ones: past its last attempt there are none.
    pub fn retry(&mut self, id: ActionId, reason: &str, now: Timestamp) -> Result<(), NotRetried> {
        if !self.status.is_live() {
            return Err(NotRetried::Ended);
        }
        if self.lease.is_some() {
            return Err(NotRetried::InFlight);
        }
        let failed = self.failed.iter_mut().find(|failed| failed.id == id);
        let failed = failed
            .filter(|failed| failed.retry_at().is_none())
            .ok_or(NotRetried::NotFailed)?;
        failed.state = FailureState::Retrying(now);
        failed.due = now;
        failed.since = now;
        failed.retry_reason = text::shortened(reason, 500);
        self.next_action_at = self.next_action_at.min(Some(now)).or(Some(now));
        self.updated_at = now;
        Ok(())
    }
}
