//! Trying again what failed for good.
//!
//! Dead letters are looked for without a lock, as there may be many that can't be tried again. What was found is locked, looked
//! at once more, and changed by one statement.

use std::collections::BTreeMap;

use super::once::Begin;
use super::{Answer, Engine, EngineError, Once};
use crate::domain::{ActionId, CustomerId, FailureState, NotRetried, ProgressId, Run, Timestamp};
use crate::store::{DeadAction, ExecutionFilter, ExecutionOutcome, Page, Txn};

/// How many dead letters are looked at in one go.
const CHUNK: u64 = 1000;

/// What to try again.
#[derive(Debug, Clone)]
pub struct RetryActions {
    /// The last attempts of the actions; it names dead outcomes, and no others.
    pub filter: ExecutionFilter,
    /// Only actions with one of these keys; none means any.
    pub keys: Vec<String>,
    /// Why.
    pub reason: String,
    /// How many at most.
    pub max_actions: usize,
    /// Whether nothing is changed, and all are counted.
    pub validate_only: bool,
}

/// How many actions are tried again, and how many are not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetriedActions {
    /// They are pending again.
    pub retried: u64,
    /// Their runs are over.
    pub in_ended_runs: u64,
    /// They were removed from their timelines.
    pub removed: u64,
    /// Their runs are held by whoever sends for them.
    pub in_flight: u64,
    /// Whether there are more that can be tried again.
    pub has_more: bool,
}

/// Actions by run.
type Found = BTreeMap<(CustomerId, ProgressId), Vec<ActionId>>;

impl Engine {
    /// Makes actions pending again that failed for good, or whose outcome is unknown.
    pub async fn retry_actions(
        &self,
        command: RetryActions,
        once: Once<'_, RetriedActions>,
    ) -> Result<Answer<RetriedActions>, EngineError> {
        self.clock_agrees()?;
        if let Some(response) = self.answered(&once).await? {
            return Ok(Answer::Repeated(response));
        }
        let (found, mut result) = self.dead_actions(&command).await?;
        if command.validate_only {
            return Ok(Answer::Fresh(result));
        }
        let operation = match self.begin_once(once).await? {
            Begin::Do(operation) => operation,
            Begin::Repeat(response) => return Ok(Answer::Repeated(response)),
        };
        retry(&operation.txn, &command, &found, &mut result, operation.now).await?;
        operation.finish(result).await
    }

    /// What can be tried again as it seems, at most so many, and what can't. With `validate_only` all is counted.
    async fn dead_actions(&self, command: &RetryActions) -> Result<(Found, RetriedActions), EngineError> {
        let reader = self.store.reader();
        let (mut found, mut result, mut after) = (Found::new(), RetriedActions::default(), None);
        loop {
            let page = Page { after, size: CHUNK };
            let dead = reader.dead_actions(&command.filter, &command.keys, &page).await?;
            for one in &dead {
                let DeadAction {
                    customer_id,
                    progress_id,
                    action_id,
                    ..
                } = one;
                if !is_wanted(&command.filter, one.state) {
                    continue;
                }
                if !one.is_live {
                    result.in_ended_runs += 1;
                } else if one.is_removed {
                    result.removed += 1;
                } else if one.is_held {
                    result.in_flight += 1;
                } else if command.validate_only {
                    result.retried += 1;
                } else if found.values().map(Vec::len).sum::<usize>() < command.max_actions {
                    let run = (customer_id.clone(), *progress_id);
                    found.entry(run).or_default().push(*action_id);
                } else {
                    result.has_more = true;
                    return Ok((found, result));
                }
            }
            let last = dead.last().filter(|_| dead.len() as u64 == CHUNK);
            let Some(last) = last else {
                return Ok((found, result));
            };
            after = Some((
                last.customer_id.as_str().to_owned(),
                last.progress_id.0,
                last.action_id.0,
                last.attempt,
            ));
        }
    }
}

/// Tries again what was found, as far as it is still so.
async fn retry(
    txn: &Txn,
    command: &RetryActions,
    found: &Found,
    result: &mut RetriedActions,
    now: Timestamp,
) -> Result<(), EngineError> {
    let keys: Vec<_> = found.keys().cloned().collect();
    let mut changed: Vec<Run> = Vec::with_capacity(keys.len());
    // One that can't be read keeps what it has.
    for mut run in txn.runs_for_update(&keys).await?.into_iter().flatten() {
        let actions = found.get(&(run.customer_id.clone(), run.id)).into_iter().flatten();
        let before = result.retried;
        for id in actions {
            let state = run.failed.iter().find(|failed| failed.id == *id);
            if !is_wanted(&command.filter, state.map(|failed| failed.state)) {
                continue;
            }
            match run.retry(*id, &command.reason, now) {
                Ok(()) => result.retried += 1,
                Err(NotRetried::Ended) => result.in_ended_runs += 1,
                Err(NotRetried::InFlight) => result.in_flight += 1,
                Err(NotRetried::NotFailed) => {}
            }
        }
        if result.retried > before {
            changed.push(run);
        }
    }
    Ok(txn.put_failed(&changed).await?)
}

/// Whether an action in this state is meant.
fn is_wanted(filter: &ExecutionFilter, state: Option<FailureState>) -> bool {
    match state {
        Some(FailureState::Failed) => filter.outcomes.contains(&ExecutionOutcome::Failed),
        Some(FailureState::Unknown) => filter.outcomes.contains(&ExecutionOutcome::Unknown),
        Some(FailureState::Retrying(_)) | None => false,
    }
}
