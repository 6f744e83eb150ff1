//! What delivery reports change of what a run says of an action.

use super::Run;
use crate::domain::{ActionId, Failed, FailureReason, FailureState, Timestamp};

/// What is known of all attempts at an action, after a report on one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// One of them was carried out.
    Completed,
    /// None of them reached the customer.
    Failed {
        /// How many there were.
        attempts: u32,
        /// Why the last one failed, as a fixed word.
        reason: FailureReason,
        /// Why, for people.
        error: String,
        /// When the action was due.
        due: Timestamp,
        /// When the last one ended.
        at: Timestamp,
    },
    /// Of at least one nobody knows.
    Unknown,
}

impl Run {
    /// Takes up what reports say of an action. True: it said something else before. Whether the run goes on is not changed, and
    /// one that is over stays over. The run must not be held: whoever holds it would write over this.
    ///
    /// What waits to be tried again is not, when an earlier attempt turns out to have arrived.
    pub fn report(&mut self, id: ActionId, reported: Reported, now: Timestamp) -> bool {
        let before = (self.completed.clone(), self.failed.clone(), self.deferred.clone());
        let is_known =
            self.failed.iter().any(|failed| failed.id == id) || self.deferred.iter().any(|deferred| deferred.id == id);
        match reported {
            Reported::Completed if is_known => {
                self.forget(id);
                self.completed.push(id);
            }
            Reported::Failed {
                attempts,
                reason,
                error,
                due,
                at,
            } => {
                let failed = Failed {
                    id,
                    attempts,
                    state: FailureState::Failed,
                    reason,
                    error: crate::domain::text::shortened(&error, 500),
                    due,
                    since: due,
                    at,
                    may_have_arrived: false,
                    retry_reason: String::new(),
                };
                self.fail_as_reported(failed);
            }
            Reported::Completed | Reported::Unknown => {}
        }
        let is_changed = before != (self.completed.clone(), self.failed.clone(), self.deferred.clone());
        if is_changed {
            self.updated_at = now;
        }
        is_changed
    }

    fn fail_as_reported(&mut self, failed: Failed) {
        let id = failed.id;
        // An earlier report had it for carried out.
        if let Some(at) = self.completed.iter().position(|completed| *completed == id) {
            self.completed.remove(at);
            self.failed.push(failed);
            return;
        }
        if let Some(deferred) = self.deferred.iter_mut().find(|deferred| deferred.id == id) {
            deferred.may_have_arrived = false;
        }
        let Some(known) = self.failed.iter_mut().find(|known| known.id == id) else {
            return;
        };
        known.may_have_arrived = false;
        match known.state {
            FailureState::Unknown | FailureState::Failed => {
                *known = Failed {
                    since: known.since,
                    ..failed
                }
            }
            FailureState::Retrying(_) => {}
        }
    }
}
