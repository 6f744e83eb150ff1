//! Carrying out what is due for one customer now, and saying what became of each action.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::claim::{Preparation, Term};
use super::flight::Flight;
use super::{Answer, Engine, EngineError, Once};
use crate::domain::plan::Pending;
use crate::domain::{
    ActionId, CustomerId, DeferReason, FailureReason, FailureState, ProgressId, Run, SkipReason, Status, Timeline,
    Timestamp, Verdict, plan,
};
use crate::store::{Begun, Execution, ExecutionOutcome, StoreError};

/// How often a call looks again at runs that have something due after what it did.
const MOST_PASSES: usize = 50;

/// What became of a run when it was executed by a call.
#[derive(Debug)]
pub struct RunReport {
    /// The run afterwards.
    pub run: Run,
    /// Its timeline.
    pub timeline: Arc<Timeline>,
    /// Why nothing of it was looked at.
    pub hold: Option<RunHold>,
    /// Its actions, in order.
    pub actions: Vec<ActionReport>,
}

/// Why nothing of a run was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunHold {
    /// It is paused.
    Paused,
    /// Its timeline is inactive.
    TimelineInactive,
}

/// What became of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionReport {
    /// Which.
    pub id: ActionId,
    /// What became of it.
    pub kind: ActionReportKind,
}

/// What became of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActionReportKind {
    /// It was carried out.
    Executed {
        /// The provider's id of the message.
        provider_id: Option<String>,
    },
    /// It won't be carried out.
    Skipped(SkipReason),
    /// It failed.
    Failed {
        /// Whether it is repeated.
        state: FailureState,
        /// Why, as a fixed word.
        reason: FailureReason,
        /// Why, for people.
        error: String,
    },
    /// It waits.
    Deferred {
        /// Until when at most.
        until: Timestamp,
        /// What for.
        reason: DeferReason,
    },
    /// It is not due before then.
    NotDue(Timestamp),
    /// Somebody else carries it out at this moment.
    InFlight,
}

impl Engine {
    /// Carries out what is due for one customer now, once for a request that has an id. The answer is kept when all is done:
    /// until then a repeated request does what is left, and nothing twice.
    pub async fn execute_customer_once(
        self: &Arc<Self>,
        customer: &CustomerId,
        once: Once<'_, Vec<RunReport>>,
    ) -> Result<Answer<Vec<RunReport>>, EngineError> {
        self.clock_agrees()?;
        let Some(key) = once.key else {
            return Ok(Answer::Fresh(self.execute_customer(customer).await?));
        };
        let txn = self.store.begin().await?;
        match txn.begin_request(&key, self.clock.now()).await? {
            Begun::New => drop(txn),
            Begun::Answered(response) => return Ok(Answer::Repeated(response)),
            Begun::Reused => return Err(EngineError::RequestIdReused(key.request_id)),
        }
        let reports = self.execute_customer(customer).await?;
        let txn = self.store.begin().await?;
        let answer = match txn.begin_request(&key, self.clock.now()).await? {
            Begun::New => {
                // Of who was erased meanwhile nothing is kept.
                if txn.customers_for_share([customer]).await?.is_empty() {
                    return Err(EngineError::CustomerNotFound(customer.clone()));
                }
                txn.finish_request(&key, (once.encode)(&reports)).await?;
                Answer::Fresh(reports)
            }
            // A twin was done first, and its answer is the one that is kept.
            Begun::Answered(response) => Answer::Repeated(response),
            Begun::Reused => Answer::Fresh(reports),
        };
        txn.commit().await?;
        Ok(answer)
    }

    /// Carries out what is due for one customer now, over all live runs, and says what became of every action that was not finished.
    pub async fn execute_customer(self: &Arc<Self>, customer: &CustomerId) -> Result<Vec<RunReport>, EngineError> {
        if self.store.reader().customer(customer).await?.is_none() {
            return Err(EngineError::CustomerNotFound(customer.clone()));
        }
        let flight = Flight::new(self, true);
        let mut decided: HashMap<(ProgressId, ActionId), ActionReportKind> = HashMap::new();
        let (mut broke_off, mut broken) = (None, None);
        for _ in 0..MOST_PASSES {
            let freed = self.lanes.freed.notified();
            let pass = self.execute_pass(&flight, customer, &mut decided, &mut broken).await;
            flight.drained().await;
            match pass {
                Ok(false) if flight.take_due_again() == 0 => break,
                Ok(false) => {}
                Ok(true) => drop(tokio::time::timeout(super::lanes::LOOK_AGAIN, freed).await),
                Err(error) => {
                    broke_off = Some(error);
                    break;
                }
            }
        }
        let (_, recorded) = flight.finish().await;
        // Nothing is said about runs of which one is not known, but what could be done for the others is done.
        if let Some(error) = broke_off.or(broken) {
            return Err(error);
        }
        for record in &recorded {
            for execution in &record.executions {
                if let Some(kind) = executed(execution, &record.completion.run) {
                    decided.insert((execution.progress_id, execution.action_id), kind);
                }
            }
        }
        let touched: HashSet<ProgressId> = decided.keys().map(|(run, _)| *run).collect();
        self.reports(customer, &touched, &decided).await
    }

    /// Claims all live runs of a customer once, but those that are broken. True: something was left because there was no room.
    async fn execute_pass(
        self: &Arc<Self>,
        flight: &Flight,
        id: &CustomerId,
        decided: &mut HashMap<(ProgressId, ActionId), ActionReportKind>,
        broken: &mut Option<EngineError>,
    ) -> Result<bool, EngineError> {
        self.clock_agrees()?;
        self.see_circuits().await?;
        let mut blocked = false;
        for run in self.store.reader().read_live_runs(id).await? {
            let run = match run {
                Ok(run) if run.status == Status::Active => run,
                Ok(_) => continue,
                Err(unreadable) => {
                    flight.note_broken(&unreadable);
                    *broken = Some(StoreError::BrokenRun(unreadable).into());
                    continue;
                }
            };
            let (txn, now) = (self.store.begin().await?, self.clock.now());
            let Some(revision) = txn.hold_timeline(run.timeline_id).await? else {
                continue;
            };
            let Some(run) = txn.run_for_update(id, run.id).await? else {
                continue;
            };
            let term = Term::until(None);
            let is_held = run.lease.is_some_and(|lease| lease.expires_at > now);
            if run.status != Status::Active || is_held {
                continue;
            }
            let Some(timeline) = self.held_timeline(&txn, run.timeline_id, revision).await? else {
                continue;
            };
            let runs = [run];
            let known = self.facts_of(&txn, &timeline, &runs, now).await?;
            let [run] = &runs;
            let mut tokens = self.tokens(&txn, &timeline, &runs, &known, now).await?;
            let prepared = match self.prepare(&timeline, run, &known, &mut tokens, now) {
                Preparation::Ready(prepared) => *prepared,
                Preparation::NoRoom => {
                    blocked = true;
                    continue;
                }
                Preparation::Broken(unplanned) => {
                    flight.note_broken(&unplanned);
                    *broken = Some(EngineError::Broken(run.id));
                    continue;
                }
            };
            for decision in &prepared.decisions {
                decided.insert((run.id, decision.action), kind_of(&decision.verdict));
            }
            tokens.store(&txn).await?;
            self.commit_claims(flight, txn, &timeline, vec![prepared], &known, term, now)
                .await?;
        }
        Ok(blocked)
    }

    /// What became of the unfinished actions of a customer's live runs, and of those that were finished by this call.
    async fn reports(
        &self,
        customer: &CustomerId,
        touched: &HashSet<ProgressId>,
        decided: &HashMap<(ProgressId, ActionId), ActionReportKind>,
    ) -> Result<Vec<RunReport>, EngineError> {
        let reader = self.store.reader();
        let mut runs = reader.live_runs(customer).await?;
        for id in touched {
            if !runs.iter().any(|run| run.id == *id) {
                runs.extend(reader.run(customer, *id).await?);
            }
        }
        runs.sort_by_key(|run| run.id);
        let now = self.clock.now();
        let mut reports = Vec::with_capacity(runs.len());
        for run in runs {
            let Some(timeline) = reader.timeline(run.timeline_id).await? else {
                continue;
            };
            let hold = match (run.status, timeline.definition.is_active) {
                (Status::Paused, _) => Some(RunHold::Paused),
                (Status::Active, false) => Some(RunHold::TimelineInactive),
                (Status::Active | Status::Completed | Status::Stopped, _) => None,
            };
            let mut kinds: BTreeMap<ActionId, ActionReportKind> = decided
                .iter()
                .filter(|((id, _), _)| *id == run.id)
                .map(|((_, action), kind)| (*action, kind.clone()))
                .collect();
            if hold.is_none() {
                for Pending { id, at, .. } in plan::pending_actions(&timeline, &run, now) {
                    kinds.entry(id).or_insert_with(|| pending_kind(&run, id, at, now));
                }
                for in_flight in &run.in_flight {
                    kinds.insert(in_flight.id, ActionReportKind::InFlight);
                }
            }
            let mut actions: Vec<ActionReport> =
                kinds.into_iter().map(|(id, kind)| ActionReport { id, kind }).collect();
            actions.sort_by_key(|report| timeline.action(report.id).map(crate::domain::Action::position));
            reports.push(RunReport {
                run,
                timeline: Arc::new(timeline),
                hold,
                actions,
            });
        }
        Ok(reports)
    }
}

fn kind_of(verdict: &Verdict) -> ActionReportKind {
    match verdict {
        Verdict::Completed => ActionReportKind::Executed { provider_id: None },
        Verdict::Skipped(reason) => ActionReportKind::Skipped(*reason),
        Verdict::Deferred { until, reason } => ActionReportKind::Deferred {
            until: *until,
            reason: *reason,
        },
        Verdict::Failed { state, reason, error } => ActionReportKind::Failed {
            state: *state,
            reason: *reason,
            error: error.clone(),
        },
    }
}

fn executed(execution: &Execution, run: &Run) -> Option<ActionReportKind> {
    if execution.outcome == ExecutionOutcome::Completed {
        return Some(ActionReportKind::Executed {
            provider_id: execution.provider_id.clone(),
        });
    }
    if execution.outcome == ExecutionOutcome::HandedOver {
        let deferred = run
            .deferred
            .iter()
            .find(|deferred| deferred.id == execution.action_id)?;
        return Some(ActionReportKind::Deferred {
            until: deferred.until,
            reason: deferred.reason,
        });
    }
    let failed = run.failed.iter().find(|failed| failed.id == execution.action_id)?;
    Some(ActionReportKind::Failed {
        state: failed.state,
        reason: failed.reason,
        error: failed.error.clone(),
    })
}

fn pending_kind(run: &Run, id: ActionId, at: Timestamp, now: Timestamp) -> ActionReportKind {
    if let Some(deferred) = run.deferred.iter().find(|deferred| deferred.id == id) {
        return ActionReportKind::Deferred {
            until: deferred.until,
            reason: deferred.reason,
        };
    }
    if let Some(failed) = run.failed.iter().find(|failed| failed.id == id) {
        return ActionReportKind::Failed {
            state: failed.state,
            reason: failed.reason,
            error: failed.error.clone(),
        };
    }
    match run.lease {
        // What is due waits until whoever holds the run is done with what comes before.
        Some(lease) if at <= now => ActionReportKind::Deferred {
            until: lease.expires_at,
            reason: DeferReason::WaitingForAction,
        },
        Some(_) | None => ActionReportKind::NotDue(at),
    }
}
