//! Starting runs: one, or many with as many statements as one, be they asked for by one call or by many that come at the same time.

use chrono_tz::Tz;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::definitions::refuse_archived;
use super::once::Begin;
use super::together::{OfCustomer, Turns};
use super::{Answer, Engine, EngineError, Once, RunView};
use crate::domain::schedule::instant;
use crate::domain::{
    ActionId, CustomerId, FirstDay, Origin, ProgressId, Run, SkipReason, Status, Timeline, TimelineId, Timestamp,
    TraceParent, Zone, plan,
};
use crate::failpoint::{Failpoint, reach};
use crate::store::{Begun, Execution, ExecutionOutcome, ExecutionReason, RunOf, Store, StoreError, Txn};

/// What to start.
#[derive(Debug, Clone)]
pub struct StartRun {
    /// Where it stood in the request; none: it is alone there.
    pub position: Option<usize>,
    /// For whom.
    pub customer: CustomerId,
    /// Which timeline.
    pub timeline: TimelineId,
    /// What becomes of hours that have passed.
    pub first_day: FirstDay,
    /// The day to begin on, from 1.
    pub start_day: i32,
    /// Whether it may be started again.
    pub allow_restart: bool,
    /// The trace that it is part of.
    pub trace_parent: Option<TraceParent>,
}

/// A call that starts one run.
#[derive(Debug)]
pub(super) struct StartCall {
    command: StartRun,
    once: Once<'static, RunView>,
}

/// What comes of such a call.
pub(super) type StartAnswer = Result<Answer<RunView>, EngineError>;

/// What came of starts, in their order.
pub type Started = Vec<Result<RunView, EngineError>>;

/// The zones of customers of starts, by their ids, who are locked.
type Customers = HashMap<String, Option<Tz>>;

/// What is known about the customers and timelines of starts.
struct Known {
    customers: Customers,
    timelines: HashMap<TimelineId, Arc<Timeline>>,
    last_runs: HashMap<RunOf, (ProgressId, Option<Status>)>,
}

/// What is to come of a start.
enum Decided {
    /// The next new run.
    Starts,
    /// The new run at this place is that of an earlier start in the same batch.
    IsTwinOf(usize),
    Refused(EngineError),
}

/// How many transactions there are at a time of starts that are asked for one by one.
pub(super) fn turns(store: &Store) -> Turns {
    match store.writes_at_a_time() {
        1 => Turns { usual: 1, most: 1 },
        usual => Turns { usual, most: 8 },
    }
}

impl OfCustomer for StartCall {
    fn customer(&self) -> &CustomerId {
        &self.command.customer
    }
}

impl Engine {
    /// Starts a run of a timeline, together with others that are asked for at the same time.
    pub async fn start_run(self: &Arc<Self>, command: StartRun, once: Once<'static, RunView>) -> StartAnswer {
        self.clock_agrees()?;
        let engine = Arc::clone(self);
        let carry_out = move |calls| {
            let engine = Arc::clone(&engine);
            async move { engine.start_together(calls).await }
        };
        let call = StartCall { command, once };
        let answer = self.starts.ask(&self.tracker, call, carry_out).await;
        answer.unwrap_or(Err(EngineError::BrokeOff))
    }

    async fn start_together(&self, calls: Vec<StartCall>) -> Vec<StartAnswer> {
        match self.try_starts(&calls).await {
            Ok(answers) => answers,
            Err(EngineError::Store(error)) if error.is_of_all() => {
                calls.iter().map(|_| Err(error.clone().into())).collect()
            }
            // One of them is to blame, and must not take the others with it.
            Err(_) => {
                let mut answers = Vec::with_capacity(calls.len());
                for call in &calls {
                    let alone = self.try_starts(std::slice::from_ref(call)).await;
                    answers.push(alone.and_then(|mut answers| answers.pop().ok_or(EngineError::BrokeOff)?));
                }
                answers
            }
        }
    }

    /// Carries out calls, each about another customer, in one transaction.
    async fn try_starts(&self, calls: &[StartCall]) -> Result<Vec<StartAnswer>, EngineError> {
        let (txn, now) = (self.store.begin().await?, self.clock.now());
        let customers = locked(&txn, calls.iter().map(|call| &call.command)).await?;
        let keys = calls.iter().filter_map(|call| call.once.key.as_ref());
        let mut became = txn.answered_requests(keys, now).await?;
        let mut of_call = |call: &StartCall| became.remove(&call.once.key.as_ref()?.customer_id);
        let before: Vec<Option<Begun>> = calls.iter().map(&mut of_call).collect();
        let new = calls.iter().zip(&before).filter(|(_, before)| before.is_none());
        let new: Vec<&StartRun> = new.map(|(call, _)| &call.command).collect();
        let mut started = self.start_all(&txn, customers, &new, now).await?.into_iter();
        let mut answers = Vec::with_capacity(calls.len());
        let mut kept = Vec::new();
        for (call, before) in calls.iter().zip(before) {
            answers.push(match before {
                Some(Begun::Answered(response)) => Ok(Answer::Repeated(response)),
                Some(Begun::Reused) => {
                    let id = call.once.key.as_ref().map(|key| key.request_id.clone());
                    Err(EngineError::RequestIdReused(id.unwrap_or_default()))
                }
                Some(Begun::New) | None => started.next().unwrap_or(Err(EngineError::Concurrent)).map(|view| {
                    let key = call.once.key.as_ref();
                    kept.extend(key.map(|key| (key, (call.once.encode)(&view))));
                    Answer::Fresh(view)
                }),
            });
        }
        txn.keep_answers(kept, now).await?;
        reach(Failpoint::BeforeCallCommit);
        txn.commit().await?;
        reach(Failpoint::AfterCallCommit);
        Ok(answers)
    }

    /// Starts runs of timelines, each on its own. What is asked for twice is live the second time.
    pub async fn start_runs(
        &self,
        commands: &[StartRun],
        once: Once<'_, Started>,
    ) -> Result<Answer<Started>, EngineError> {
        self.clock_agrees()?;
        let operation = match self.begin_once(once).await? {
            Begin::Do(operation) => operation,
            Begin::Repeat(response) => return Ok(Answer::Repeated(response)),
        };
        let customers = locked(&operation.txn, commands).await?;
        let commands: Vec<&StartRun> = commands.iter().collect();
        let started = self
            .start_all(&operation.txn, customers, &commands, operation.now)
            .await?;
        operation.finish(started).await
    }

    /// Starts runs of customers who are locked.
    async fn start_all(
        &self,
        txn: &Txn,
        customers: Customers,
        commands: &[&StartRun],
        now: Timestamp,
    ) -> Result<Started, EngineError> {
        let known = self.known(txn, customers, commands).await?;
        let mut runs: Vec<(Arc<Timeline>, Run)> = Vec::new();
        let mut places: HashMap<RunOf, usize> = HashMap::new();
        let mut decided: Vec<Decided> = Vec::with_capacity(commands.len());
        for command in commands {
            let key = (command.customer.clone(), command.timeline);
            let twin = places.get(&key).copied();
            decided.push(match (self.decide(command, &known, now), twin) {
                (Err(error @ EngineError::StartDayPastEnd { .. }), _) | (Err(error), None) => Decided::Refused(error),
                (Ok(_) | Err(_), Some(twin)) => Decided::IsTwinOf(twin),
                (Ok(started), None) => {
                    places.insert(key, runs.len());
                    runs.push(started);
                    Decided::Starts
                }
            });
        }
        let views = self.enter(txn, runs, now).await?;
        let ids: Vec<ProgressId> = views.iter().map(|view| view.run.id).collect();
        // They come in the order in which they were decided.
        let mut views = views.into_iter();
        let started = decided.into_iter().map(|decided| match decided {
            Decided::Starts => views.next().ok_or(EngineError::Concurrent),
            Decided::IsTwinOf(at) => Err(EngineError::RunIsLive(ids[at])),
            Decided::Refused(error) => Err(error),
        });
        Ok(started.collect())
    }

    /// Reads what else starts are about. The timelines stay as they are until the end of the transaction.
    async fn known(&self, txn: &Txn, customers: Customers, commands: &[&StartRun]) -> Result<Known, EngineError> {
        let ids: BTreeSet<TimelineId> = commands.iter().map(|command| command.timeline).collect();
        let runs: BTreeSet<RunOf> = commands
            .iter()
            .map(|command| (command.customer.clone(), command.timeline))
            .collect();
        let mut timelines = HashMap::new();
        for held in txn.hold_timelines(&ids).await? {
            let timeline = self.held_timeline(txn, held.id, held.revision).await?;
            timelines.extend(timeline.map(|timeline| (timeline.id, timeline)));
        }
        Ok(Known {
            customers,
            timelines,
            last_runs: txn.last_runs_of(&runs).await?,
        })
    }

    /// The run that a start makes, or why it makes none.
    fn decide(&self, command: &StartRun, known: &Known, now: Timestamp) -> Result<(Arc<Timeline>, Run), EngineError> {
        let customer = &command.customer;
        let zone = known.customers.get(customer.as_str());
        let zone = *zone.ok_or_else(|| EngineError::CustomerNotFound(customer.clone()))?;
        let timeline = known.timelines.get(&command.timeline);
        let timeline = timeline.ok_or(EngineError::TimelineNotFound(command.timeline))?;
        refuse_archived(timeline)?;
        if command.start_day > timeline.definition.duration_days {
            return Err(EngineError::StartDayPastEnd {
                position: command.position,
                given: command.start_day,
                duration: timeline.definition.duration_days,
            });
        }
        if let Some((id, status)) = known.last_runs.get(&(customer.clone(), timeline.id)) {
            let Some(status) = status else {
                return Err(EngineError::Broken(*id));
            };
            if status.is_live() {
                return Err(EngineError::RunIsLive(*id));
            }
            if !command.allow_restart {
                return Err(EngineError::RunHasEnded(*id));
            }
        }
        if !timeline.definition.is_active {
            return Err(EngineError::TimelineInactive(timeline.id));
        }
        let mut run = Run::start(
            timeline,
            customer.clone(),
            Origin::Started,
            Zone::of_customer(zone, self.settings.default_zone),
            command.first_day,
            command.start_day,
            now,
        );
        run.trace_parent.clone_from(&command.trace_parent);
        Ok((Arc::clone(timeline), run))
    }

    /// Plans and stores new runs, each of another customer or timeline, of customers that are locked and timelines that are held.
    pub(super) async fn enter(
        &self,
        txn: &Txn,
        mut runs: Vec<(Arc<Timeline>, Run)>,
        now: Timestamp,
    ) -> Result<Vec<RunView>, EngineError> {
        for (timeline, run) in &mut runs {
            plan::settle(timeline, run, now);
            debug_assert_eq!(run.status, Status::Active, "a run starts active");
        }
        let new: Vec<&Run> = runs.iter().map(|(_, run)| run).collect();
        let ids = txn.insert_runs(&new).await.map_err(|error| {
            // Whoever starts runs locks their customers first, so this was done by something else.
            if matches!(error, StoreError::Duplicate) {
                EngineError::Concurrent
            } else {
                error.into()
            }
        })?;
        let views = runs.into_iter().zip(ids).map(|((timeline, run), id)| {
            let run = Run { id, ..run };
            let skipped = run.skipped.iter();
            let executions = skipped.filter_map(|skipped| skipped_at_start(&timeline, &run, skipped.id, now));
            let executions = executions.collect();
            RunView::new(run, timeline, executions, now)
        });
        let views: Vec<RunView> = views.collect();
        let skipped = views.iter().flat_map(|view| view.executions.iter().cloned());
        txn.insert_missing_executions(&skipped.collect::<Vec<_>>()).await?;
        Ok(views)
    }
}

/// Locks the customers of starts.
async fn locked<'a>(txn: &Txn, commands: impl IntoIterator<Item = &'a StartRun>) -> Result<Customers, EngineError> {
    let ids: BTreeSet<&CustomerId> = commands.into_iter().map(|command| &command.customer).collect();
    Ok(txn.zones_for_update(ids).await?)
}

/// The ledger's entry for an action that was skipped because its hour had passed at the start.
fn skipped_at_start(timeline: &Timeline, run: &Run, id: ActionId, now: Timestamp) -> Option<Execution> {
    let action = timeline.action(id)?;
    Some(Execution {
        customer_id: run.customer_id.clone(),
        progress_id: run.id,
        action_id: id,
        timeline_id: timeline.id,
        attempt: 1,
        due_at: instant(run.day_date, action.definition.delay_hours, run.zone.tz),
        started_at: now,
        finished_at: now,
        channel: action.definition.channel,
        outcome: ExecutionOutcome::Skipped,
        reason: Some(ExecutionReason::Skip(SkipReason::HourPassedAtStart)),
        provider_id: None,
        detail: None,
        content_revision: None,
        provider_state: None,
        resolved_at: None,
    })
}
