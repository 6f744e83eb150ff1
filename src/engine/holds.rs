//! Sending holds: setting and releasing them, and what this server knows of them.
//!
//! A claim reads the holds in its own transaction. Between the claim and the first byte they are looked at once more, in a view
//! that all sends of a server share and that is never older than a second: so a hold that was set on another server stops what
//! was claimed before it within that time.

use futures::FutureExt as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

use super::once::Begin;
use super::{Answer, Engine, EngineError, Once};
use crate::domain::{
    Action, Channel, Circuit, HoldScope, LONGEST_HOLD, MOST_HOLDS, SendingHold, SendingHolds, Timeline, Timestamp,
};
use crate::store::{Page, Txn};

/// How long what was read is good for.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// A hold that is to be set.
#[derive(Debug, Clone)]
pub struct SetHold {
    /// What is held.
    pub scope: HoldScope,
    /// Why.
    pub reason: String,
    /// Until when.
    pub until: HoldUntil,
}

/// When a hold ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldUntil {
    /// When it is released.
    Released,
    /// At this instant.
    Time(Timestamp),
    /// After this time from now.
    For(chrono::Duration),
}

/// What this server goes by at this moment.
#[derive(Debug)]
pub struct SendingStatus {
    /// When.
    pub now: Timestamp,
    /// The holds in force, by scope.
    pub holds: Vec<SendingHold>,
    /// The channels that send, and their circuits where they are not closed.
    pub channels: Vec<(Channel, Option<Circuit>)>,
}

/// The holds as this server read them last.
#[derive(Debug, Default)]
pub(super) struct HoldsView {
    kept: Mutex<Kept>,
    /// One reads for all.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Kept {
    /// From when on changes may be missing; none: they are to be read anew.
    read_at: Option<Instant>,
    holds: SendingHolds,
    /// The holds that the log says are in force.
    told: Vec<HoldScope>,
}

impl HoldsView {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The holds, if they are known well enough.
    fn fresh(&self) -> Option<SendingHolds> {
        let kept = self.kept();
        let is_good = kept.read_at.is_some_and(|at| at.elapsed() < GOOD_FOR);
        is_good.then(|| kept.holds.clone())
    }

    /// They have changed.
    fn forget(&self) {
        self.kept().read_at = None;
    }

    /// Keeps what was read by somebody who began to read at `read_at`, and logs what is new.
    pub(super) fn note(&self, read_at: Instant, holds: &SendingHolds, now: Timestamp) {
        let mut kept = self.kept();
        if kept.read_at.is_some_and(|newer| newer > read_at) {
            return;
        }
        let in_force: Vec<&SendingHold> = holds.in_force(now).collect();
        for hold in in_force.iter().filter(|hold| !kept.told.contains(&hold.scope)) {
            let until = hold
                .end_at
                .map_or_else(|| "it is released".to_owned(), |end| end.to_rfc3339());
            tracing::warn!(scope = %hold.scope, reason = hold.reason, "sending is held, {}, until {until}: {}", hold.scope, hold.reason);
        }
        for scope in kept
            .told
            .iter()
            .filter(|told| !in_force.iter().any(|hold| hold.scope == **told))
        {
            tracing::warn!(%scope, "sending is no longer held, {scope}");
        }
        kept.told = in_force.into_iter().map(|hold| hold.scope.clone()).collect();
        kept.read_at = Some(read_at);
        kept.holds = holds.clone();
    }
}

impl Engine {
    /// Sets a hold, or replaces reason and end of the one on the same scope. No claim that does not know of it commits after it.
    pub async fn set_sending_hold(
        &self,
        command: SetHold,
        once: Once<'_, SendingHold>,
    ) -> Result<Answer<SendingHold>, EngineError> {
        let operation = match self.begin_once(once).await? {
            Begin::Do(operation) => operation,
            Begin::Repeat(response) => return Ok(Answer::Repeated(response)),
        };
        let (txn, now) = (&operation.txn, operation.now);
        let end_at = match command.until {
            HoldUntil::Released => None,
            HoldUntil::Time(end) if end <= now || end > now + LONGEST_HOLD => return Err(EngineError::HoldEnd(end)),
            HoldUntil::Time(end) => Some(end),
            HoldUntil::For(time) => Some(now + time),
        };
        txn.lock_holds().await?;
        check_scope(txn, &command.scope).await?;
        let known = txn.sending_holds().await?;
        let others = known.in_force(now).filter(|hold| hold.scope != command.scope);
        if others.count() >= MOST_HOLDS {
            return Err(EngineError::TooManyHolds);
        }
        let hold = SendingHold {
            scope: command.scope,
            reason: command.reason,
            started_at: now,
            end_at,
            updated_at: now,
        };
        let stored = txn.put_hold(&hold).await?;
        let answer = operation.finish(stored).await;
        self.see_holds_anew().await;
        answer
    }

    /// Ends a hold.
    pub async fn release_sending_hold(
        &self,
        scope: &HoldScope,
        once: Once<'_, SendingHold>,
    ) -> Result<Answer<SendingHold>, EngineError> {
        let operation = match self.begin_once(once).await? {
            Begin::Do(operation) => operation,
            Begin::Repeat(response) => return Ok(Answer::Repeated(response)),
        };
        let (txn, now) = (&operation.txn, operation.now);
        txn.lock_holds().await?;
        let ended = txn.end_hold(scope, now).await?;
        let ended = ended.ok_or_else(|| EngineError::HoldNotFound(scope.clone()))?;
        let answer = operation.finish(ended).await;
        self.see_holds_anew().await;
        answer
    }

    /// A page of the holds in force, by scope.
    pub async fn holds_in_force(&self, page: &Page<String>) -> Result<Vec<SendingHold>, EngineError> {
        Ok(self.store.reader().holds_in_force(page, self.clock.now()).await?)
    }

    /// What this server goes by.
    pub async fn sending_status(&self) -> Result<SendingStatus, EngineError> {
        let holds = self.sending_holds().await?;
        self.read_circuits().await?;
        let (now, circuits) = (self.clock.now(), self.circuits.not_closed());
        let sending = Channel::ALL
            .into_iter()
            .filter(|channel| self.lanes.to(false, *channel).is_some());
        Ok(SendingStatus {
            now,
            holds: holds.in_force(now).cloned().collect(),
            channels: sending
                .map(|channel| (channel, circuits.iter().find(|it| it.channel == channel).cloned()))
                .collect(),
        })
    }

    /// Whether an action that was claimed must not begin: it is held, or nobody can say in time whether it is.
    pub(super) async fn is_held_now(&self, timeline: &Timeline, action: &Action, start_by: Instant) -> bool {
        let holds = match self.holds.fresh() {
            Some(holds) => Ok(Ok(holds)),
            // Once a second; each message has room for it, so it has a box of its own.
            None => tokio::time::timeout_at(start_by, self.sending_holds().boxed()).await,
        };
        match holds {
            Ok(Ok(holds)) => holds.on(timeline.id, &action.definition, self.clock.now()).is_some(),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the sending holds can't be read, and what was claimed is given back");
                true
            }
            Err(_) => true,
        }
    }

    /// The holds as they were a second ago at most.
    pub(super) async fn sending_holds(&self) -> Result<SendingHolds, EngineError> {
        if let Some(holds) = self.holds.fresh() {
            return Ok(holds);
        }
        let _reading = self.holds.reading.lock().await;
        if let Some(holds) = self.holds.fresh() {
            return Ok(holds);
        }
        self.read_holds().await
    }

    /// The holds as they are.
    pub(super) async fn read_holds(&self) -> Result<SendingHolds, EngineError> {
        let read_at = Instant::now();
        let holds = self.store.reader().sending_holds().await?;
        self.holds.note(read_at, &holds, self.clock.now());
        Ok(holds)
    }

    async fn see_holds_anew(&self) {
        self.holds.forget();
        // Whoever needs them next reads them, if this fails.
        let _ = self.sending_holds().await;
    }
}

/// The timeline or the campaign of a scope is there.
async fn check_scope(txn: &Txn, scope: &HoldScope) -> Result<(), EngineError> {
    match scope {
        HoldScope::All | HoldScope::Channel(_) => {}
        HoldScope::Timeline(id) => {
            txn.timeline(*id).await?.ok_or(EngineError::TimelineNotFound(*id))?;
        }
        HoldScope::Campaign(id) => {
            let found = txn.campaign(id).await?;
            found.ok_or_else(|| EngineError::CampaignNotFound(id.clone()))?;
        }
    }
    Ok(())
}

/// The holds of two times, each once.
pub(super) fn at_either(began: &[SendingHold], ended: &[SendingHold]) -> Vec<SendingHold> {
    let is_gone = |hold: &&SendingHold| !ended.iter().any(|other| other.scope == hold.scope);
    let mut holds: Vec<SendingHold> = began.iter().filter(is_gone).chain(ended).cloned().collect();
    holds.sort_by_cached_key(|hold| hold.scope.to_string());
    holds
}
