//! Claiming: from a due run to messages that may be sent.
//!
//! A claim reads due runs and what their conditions ask for, lets the core plan, and commits what was planned, all in one
//! short transaction. What needs no send is done with that; what does is launched after the commit, for the runs that
//! were still as they had been read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use tokio::time::Instant;

use super::flight::{Flight, count_outcome};
use super::lanes::Room;
use super::sending::Claimed;
use super::{Answer, Engine, EngineError, Once};
use crate::domain::{
    ActionId, Customer, CustomerId, Decision, DeferReason, Facts, FailureReason, FailureState, Lease, Moves,
    ProgressId, Run, SkipReason, Status, Timeline, TimelineId, Timestamp, Verdict, plan,
};
use crate::store::{Before, Begun, Buckets, Claim, Cursor, Execution, ExecutionOutcome, Txn};

/// The most runs in one claim.
const BATCH: usize = 500;

/// How often a call looks again at runs that have something due after what it did.
const MOST_PASSES: usize = 50;

/// What came of a claim.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Whether the timeline may have more that is due.
    pub(super) more: bool,
    /// Whether something was left because there was no room for it.
    pub(super) blocked: bool,
    /// How many actions were taken up.
    pub(super) actions: u64,
}

/// A run that was planned, with room for what it sends.
struct Prepared {
    claim: Claim,
    decisions: Vec<Decision>,
    moves: Moves,
    rooms: Vec<Room>,
}

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
    /// Claims due runs of a timeline after the cursor, at most `budget` actions, and launches what is to be sent. The cursor
    /// moves on to the last run that was dealt with.
    pub(super) async fn claim_due(
        self: &Arc<Self>,
        flight: &Flight,
        id: TimelineId,
        cursor: &mut Cursor,
        buckets: Buckets,
        budget: u64,
    ) -> Result<Claims, EngineError> {
        let claimed_at = Instant::now();
        let (txn, now) = (self.store.begin().await?, self.clock.now());
        let Some(revision) = txn.hold_timeline(id).await? else {
            return Ok(Claims::default());
        };
        let limit = BATCH.min(usize::try_from(budget).unwrap_or(BATCH));
        let runs = txn.due_runs_for_update(id, *cursor, now, buckets, limit).await?;
        if runs.is_empty() {
            return Ok(Claims::default());
        }
        let Some(timeline) = self.held_timeline(&txn, id, revision).await? else {
            return Ok(Claims::default());
        };
        let more = runs.len() == limit;
        let (customers, opened) = self.facts_of(&txn, &timeline, &runs, now).await?;
        let mut prepared = Vec::with_capacity(runs.len());
        let (mut actions, mut blocked, mut spent) = (0, false, false);
        let mut dealt_with = *cursor;
        for run in &runs {
            let customer = customers.get(run.customer_id.as_str());
            let facts = self.facts(customer, opened.get(run.customer_id.as_str()).copied(), now);
            let Some(one) = self.prepare(&timeline, run, &facts, now) else {
                blocked = true;
                break;
            };
            let of_run = (one.decisions.len() + one.rooms.len()) as u64;
            if actions > 0 && actions + of_run > budget {
                self.release(&timeline, &one.claim.run, one.rooms);
                spent = true;
                break;
            }
            actions += of_run;
            dealt_with = (run.next_action_at.unwrap_or(now), run.id);
            prepared.push(one);
        }
        self.commit_claims(flight, txn, &timeline, prepared, &customers, claimed_at, now)
            .await?;
        *cursor = dealt_with;
        Ok(Claims {
            more: more || blocked || spent,
            blocked,
            actions,
        })
    }

    /// Counts what a claim would do, and changes nothing. The cursor moves on.
    pub(super) async fn rehearse_due(
        &self,
        flight: &Flight,
        id: TimelineId,
        cursor: &mut Cursor,
        buckets: Buckets,
        budget: u64,
    ) -> Result<Claims, EngineError> {
        let (reader, now) = (self.store.reader(), self.clock.now());
        let limit = BATCH.min(usize::try_from(budget).unwrap_or(BATCH));
        let runs = reader.due_runs(id, *cursor, now, buckets, limit).await?;
        let (Some(last), Some(timeline)) = (runs.last(), reader.timeline(id).await?) else {
            return Ok(Claims::default());
        };
        *cursor = (last.next_action_at.unwrap_or(now), last.id);
        let customers = reader.customers_by_id(distinct(&runs)).await?;
        let customers: HashMap<_, _> = customers
            .into_iter()
            .map(|customer| (customer.id.as_str().to_owned(), customer))
            .collect();
        let opened = if timeline.needs_last_opened() {
            reader.last_opened(distinct(&runs), now).await?
        } else {
            HashMap::new()
        };
        let mut actions = 0;
        for run in &runs {
            let facts = self.facts(
                customers.get(run.customer_id.as_str()),
                opened.get(run.customer_id.as_str()).copied(),
                now,
            );
            let planned = plan::plan(&timeline, run, &facts, &self.settings.retry, now);
            actions += (planned.decisions.len() + planned.run.in_flight.len()) as u64;
            flight.count(|counts| {
                counts.add_moves(&planned.moves);
                for decision in &planned.decisions {
                    count_decision(counts, &timeline, decision);
                }
                for in_flight in &planned.run.in_flight {
                    if let Some(action) = timeline.action(in_flight.id) {
                        counts.channel(action.definition.channel).would_execute += 1;
                    }
                }
            });
        }
        Ok(Claims {
            more: runs.len() == limit,
            blocked: false,
            actions,
        })
    }

    /// Carries out what is due for one customer now, once for a request that has an id. The answer is kept when all is done:
    /// until then a repeated request does what is left, and nothing twice.
    pub async fn execute_customer_once(
        self: &Arc<Self>,
        customer: &CustomerId,
        once: Once<'_, Vec<RunReport>>,
    ) -> Result<Answer<Vec<RunReport>>, EngineError> {
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
        match txn.begin_request(&key, self.clock.now()).await? {
            Begun::New => txn.finish_request(&key, (once.encode)(&reports)).await?,
            Begun::Answered(_) | Begun::Reused => {}
        }
        txn.commit().await?;
        Ok(Answer::Fresh(reports))
    }

    /// Carries out what is due for one customer now, over all live runs, and says what became of every action that was not finished.
    pub async fn execute_customer(self: &Arc<Self>, customer: &CustomerId) -> Result<Vec<RunReport>, EngineError> {
        if self.store.reader().customer(customer).await?.is_none() {
            return Err(EngineError::CustomerNotFound(customer.clone()));
        }
        let flight = Flight::new(self, true);
        let mut decided: HashMap<(ProgressId, ActionId), ActionReportKind> = HashMap::new();
        let mut broke_off = None;
        for _ in 0..MOST_PASSES {
            let freed = self.lanes.freed.notified();
            let pass = self.execute_pass(&flight, customer, &mut decided).await;
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
        if let Some(error) = broke_off {
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

    /// Claims all live runs of a customer once. True: something was left because there was no room.
    async fn execute_pass(
        self: &Arc<Self>,
        flight: &Flight,
        id: &CustomerId,
        decided: &mut HashMap<(ProgressId, ActionId), ActionReportKind>,
    ) -> Result<bool, EngineError> {
        let claimed_at = Instant::now();
        let mut blocked = false;
        let mut runs = self.store.reader().live_runs(id).await?;
        runs.retain(|run| run.status == Status::Active);
        for run in runs {
            let (txn, now) = (self.store.begin().await?, self.clock.now());
            let Some(revision) = txn.hold_timeline(run.timeline_id).await? else {
                continue;
            };
            let Some(run) = txn.run_for_update(id, run.id).await? else {
                continue;
            };
            let is_held = run.lease.is_some_and(|lease| lease.expires_at > now);
            if run.status != Status::Active || is_held {
                continue;
            }
            let Some(timeline) = self.held_timeline(&txn, run.timeline_id, revision).await? else {
                continue;
            };
            let runs = [run];
            let (customers, opened) = self.facts_of(&txn, &timeline, &runs, now).await?;
            let facts = self.facts(customers.get(id.as_str()), opened.get(id.as_str()).copied(), now);
            let [run] = &runs;
            let Some(prepared) = self.prepare(&timeline, run, &facts, now) else {
                blocked = true;
                continue;
            };
            for decision in &prepared.decisions {
                decided.insert((run.id, decision.action), kind_of(&decision.verdict));
            }
            self.commit_claims(flight, txn, &timeline, vec![prepared], &customers, claimed_at, now)
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
                for (id, at) in plan::pending_actions(&timeline, &run, now) {
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

    /// Plans a run, and takes room for what it sends. None: there is none now.
    fn prepare(&self, timeline: &Timeline, run: &Run, facts: &Facts, now: Timestamp) -> Option<Prepared> {
        let planned = plan::plan(timeline, run, facts, &self.settings.retry, now);
        let mut rooms = Vec::with_capacity(planned.run.in_flight.len());
        for in_flight in &planned.run.in_flight {
            let lane = timeline
                .action(in_flight.id)
                .and_then(|action| self.lanes.of(action.definition.channel));
            let Some(room) = lane.and_then(super::lanes::Lane::reserve) else {
                self.release(timeline, &planned.run, rooms);
                return None;
            };
            rooms.push(room);
        }
        let mut claimed = planned.run;
        if !rooms.is_empty() {
            claimed.lease = Some(Lease {
                token: self.random.token(),
                expires_at: now + self.settings.lease,
            });
        }
        let claim = Claim {
            before: Before::from(run),
            run: claimed,
        };
        Some(Prepared {
            claim,
            decisions: planned.decisions,
            moves: planned.moves,
            rooms,
        })
    }

    fn release(&self, timeline: &Timeline, run: &Run, rooms: Vec<Room>) {
        for (in_flight, room) in run.in_flight.iter().zip(rooms) {
            if let Some(lane) = timeline
                .action(in_flight.id)
                .and_then(|action| self.lanes.of(action.definition.channel))
            {
                lane.release(room);
            }
        }
    }

    /// Commits what was prepared, counts what was decided, and launches what is to be sent.
    #[expect(
        clippy::too_many_arguments,
        reason = "the end of a claim needs all that the claim gathered"
    )]
    async fn commit_claims(
        self: &Arc<Self>,
        flight: &Flight,
        txn: Txn,
        timeline: &Arc<Timeline>,
        prepared: Vec<Prepared>,
        customers: &HashMap<String, Customer>,
        claimed_at: Instant,
        now: Timestamp,
    ) -> Result<(), EngineError> {
        let committed = self.write_claims(txn, timeline, &prepared, now).await;
        let (claimed, campaigns) = match committed {
            Ok(committed) => committed,
            Err(error) => {
                for one in prepared {
                    self.release(timeline, &one.claim.run, one.rooms);
                }
                return Err(error);
            }
        };
        for Prepared {
            claim,
            decisions,
            moves,
            rooms,
        } in prepared
        {
            if !claimed.contains(&claim.run.id) {
                self.release(timeline, &claim.run, rooms);
                continue;
            }
            flight.count(|counts| {
                counts.add_moves(&moves);
                for decision in &decisions {
                    count_decision(counts, timeline, decision);
                }
            });
            if let Some(lease) = claim.run.lease {
                flight.launch(Claimed {
                    before: Before::from(&claim.run),
                    token: lease.token,
                    customer: customers.get(claim.run.customer_id.as_str()).cloned(),
                    run: claim.run,
                    timeline: Arc::clone(timeline),
                    campaigns: Arc::clone(&campaigns),
                    rooms,
                    claimed_at,
                });
            } else if claim.run.next_action_at.is_some_and(|at| at <= now) {
                flight.note_due_again();
            }
        }
        Ok(())
    }

    async fn write_claims(
        &self,
        txn: Txn,
        timeline: &Timeline,
        prepared: &[Prepared],
        now: Timestamp,
    ) -> Result<(HashSet<ProgressId>, super::cache::Campaigns), EngineError> {
        let campaigns = match self.definitions.campaigns(timeline.id) {
            Some(campaigns) => campaigns,
            None => self
                .definitions
                .keep_campaigns(timeline.id, txn.campaigns_by_id(&timeline.campaign_ids()).await?),
        };
        let mut claims: Vec<Claim> = prepared.iter().map(|one| one.claim.clone()).collect();
        claims.sort_by(|a, b| (&a.run.customer_id, a.run.id).cmp(&(&b.run.customer_id, b.run.id)));
        let claimed = txn.claim(&claims, now).await?;
        let ledger: Vec<Execution> = prepared
            .iter()
            .filter(|one| claimed.contains(&one.claim.run.id))
            .flat_map(|one| {
                one.decisions
                    .iter()
                    .filter_map(|decision| entry(&one.claim.run, timeline, decision, now))
            })
            .collect();
        txn.insert_executions(&ledger).await?;
        txn.commit().await?;
        Ok((claimed, campaigns))
    }

    /// A timeline at the revision that a transaction holds. The transaction reads it itself: one that waited for another
    /// connection could wait for ever when all are held by such as it.
    async fn held_timeline(
        &self,
        txn: &Txn,
        id: TimelineId,
        revision: i64,
    ) -> Result<Option<Arc<Timeline>>, EngineError> {
        if let Some(timeline) = self.definitions.timeline(id, revision) {
            return Ok(Some(timeline));
        }
        Ok(txn
            .timeline(id)
            .await?
            .map(|timeline| self.definitions.keep_timeline(timeline)))
    }

    /// The customers of runs, and when they last opened a mail where a condition asks for it.
    async fn facts_of(
        &self,
        txn: &Txn,
        timeline: &Timeline,
        runs: &[Run],
        now: Timestamp,
    ) -> Result<(HashMap<String, Customer>, HashMap<String, Timestamp>), EngineError> {
        let customers = txn.customers_by_id(distinct(runs)).await?;
        let opened = if timeline.needs_last_opened() {
            txn.last_opened(distinct(runs), now).await?
        } else {
            HashMap::new()
        };
        Ok((
            customers
                .into_iter()
                .map(|customer| (customer.id.as_str().to_owned(), customer))
                .collect(),
            opened,
        ))
    }

    fn facts(&self, customer: Option<&Customer>, last_opened: Option<Timestamp>, now: Timestamp) -> Facts {
        let stopped_channels = self.lanes.stopped(now).collect();
        let Some(customer) = customer else {
            return Facts {
                stopped_channels,
                ..Facts::default()
            };
        };
        Facts {
            engagement_score: customer.engagement_score,
            pipeline_stage: customer.pipeline_stage.clone(),
            has_email: customer.email.is_some(),
            has_phone: customer.phone.is_some(),
            last_opened,
            stopped_channels,
        }
    }
}

fn distinct(runs: &[Run]) -> impl Iterator<Item = &CustomerId> {
    let ids: std::collections::BTreeSet<&CustomerId> = runs.iter().map(|run| &run.customer_id).collect();
    ids.into_iter()
}

fn count_decision(counts: &mut crate::domain::TickCounts, timeline: &Timeline, decision: &Decision) {
    let Some(action) = timeline.action(decision.action) else {
        return;
    };
    let channel = action.definition.channel;
    match outcome_of(&decision.verdict) {
        Some((outcome, _, _)) => count_outcome(counts, channel, outcome),
        None => counts.channel(channel).deferred += 1,
    }
}

/// The ledger's word for a decision, its reason and its error; none for what is only put off.
fn outcome_of(verdict: &Verdict) -> Option<(ExecutionOutcome, Option<&'static str>, Option<String>)> {
    Some(match verdict {
        Verdict::Completed => (ExecutionOutcome::Completed, None, None),
        Verdict::Skipped(SkipReason::Expired) => (ExecutionOutcome::Expired, Some(SkipReason::Expired.as_str()), None),
        Verdict::Skipped(reason) => (ExecutionOutcome::Skipped, Some(reason.as_str()), None),
        Verdict::Deferred { .. } => return None,
        Verdict::Failed { state, reason, error } => {
            let outcome = match state {
                FailureState::Retrying(_) => ExecutionOutcome::Retrying,
                FailureState::Failed => ExecutionOutcome::Failed,
                FailureState::Unknown => ExecutionOutcome::Unknown,
            };
            (outcome, Some(reason.as_str()), Some(error.clone()))
        }
    })
}

fn entry(run: &Run, timeline: &Timeline, decision: &Decision, now: Timestamp) -> Option<Execution> {
    let (outcome, reason, error) = outcome_of(&decision.verdict)?;
    Some(Execution {
        customer_id: run.customer_id.clone(),
        progress_id: run.id,
        action_id: decision.action,
        attempt: decision.attempt,
        due_at: decision.due,
        started_at: now,
        finished_at: now,
        channel: timeline.action(decision.action)?.definition.channel,
        outcome,
        reason: reason.map(str::to_owned),
        provider_id: None,
        error,
        content_revision: None,
    })
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
