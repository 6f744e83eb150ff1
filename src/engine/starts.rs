//! Starting runs: one, or many with as many statements as one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::definitions::refuse_archived;
use super::once::Begin;
use super::{Answer, Engine, EngineError, Once, RunView};
use crate::domain::schedule::instant;
use crate::domain::{
    ActionId, Customer, CustomerId, FirstDay, Origin, ProgressId, Run, SkipReason, Status, Timeline, TimelineId,
    Timestamp, plan,
};
use crate::store::{Execution, ExecutionOutcome, ExecutionReason, RunOf, Txn};
use crate::telemetry;

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
}

/// What came of starts, in their order.
pub type Started = Vec<Result<RunView, EngineError>>;

/// What is known about the customers and timelines of starts.
struct Known {
    customers: HashMap<CustomerId, Customer>,
    timelines: HashMap<TimelineId, Arc<Timeline>>,
    last_runs: HashMap<RunOf, (ProgressId, Option<Status>)>,
}

/// What is to come of a start.
enum Decided {
    /// The new run at this place.
    Starts(usize),
    /// The new run at this place is that of an earlier start in the same batch.
    IsTwinOf(usize),
    Refused(EngineError),
}

impl Engine {
    /// Starts a run of a timeline.
    pub async fn start_run(&self, command: StartRun, once: Once<'_, RunView>) -> Result<Answer<RunView>, EngineError> {
        self.clock_agrees()?;
        let operation = match self.begin_once(once).await? {
            Begin::Do(operation) => operation,
            Begin::Repeat(response) => return Ok(Answer::Repeated(response)),
        };
        let started = self.start_all(&operation.txn, &[command], operation.now).await?;
        let view = started.into_iter().next().ok_or(EngineError::Concurrent)??;
        operation.finish(view).await
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
        let started = self.start_all(&operation.txn, commands, operation.now).await?;
        operation.finish(started).await
    }

    async fn start_all(&self, txn: &Txn, commands: &[StartRun], now: Timestamp) -> Result<Started, EngineError> {
        let known = known(txn, commands).await?;
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
                    Decided::Starts(runs.len() - 1)
                }
            });
        }
        let mut views = self.enter(txn, runs, now).await?;
        let ids: Vec<Option<ProgressId>> = views.iter().map(|view| Some(view.as_ref()?.run.id)).collect();
        let started = decided.into_iter().map(|decided| match decided {
            Decided::Starts(at) => views[at].take().ok_or(EngineError::Concurrent),
            Decided::IsTwinOf(at) => Err(ids[at].map_or(EngineError::Concurrent, EngineError::RunIsLive)),
            Decided::Refused(error) => Err(error),
        });
        Ok(started.collect())
    }

    /// The run that a start makes, or why it makes none.
    fn decide(&self, command: &StartRun, known: &Known, now: Timestamp) -> Result<(Arc<Timeline>, Run), EngineError> {
        let customer = known.customers.get(&command.customer);
        let customer = customer.ok_or_else(|| EngineError::CustomerNotFound(command.customer.clone()))?;
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
        if let Some((id, status)) = known.last_runs.get(&(customer.id.clone(), timeline.id)) {
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
        let run = Run::start(
            timeline,
            customer.id.clone(),
            Origin::Started,
            customer.zone(self.settings.default_zone),
            command.first_day,
            command.start_day,
            now,
        );
        Ok((Arc::clone(timeline), run))
    }

    /// Plans and stores new runs, each of another customer or timeline, of customers that are locked. None: somebody else was
    /// faster.
    pub(super) async fn enter(
        &self,
        txn: &Txn,
        mut runs: Vec<(Arc<Timeline>, Run)>,
        now: Timestamp,
    ) -> Result<Vec<Option<RunView>>, EngineError> {
        let timelines: BTreeSet<TimelineId> = runs.iter().map(|(timeline, _)| timeline.id).collect();
        // Who archives a timeline at this moment is first, or waits and then stops the run.
        let held = txn.hold_unarchived(&timelines).await?;
        let trace = telemetry::current();
        for (timeline, run) in &mut runs {
            run.trace_parent.clone_from(&trace);
            plan::settle(timeline, run, now);
            debug_assert_eq!(run.status, Status::Active, "a run starts active");
        }
        let new = runs.iter().filter(|(timeline, _)| held.contains(&timeline.id));
        let new: Vec<&Run> = new.map(|(_, run)| run).collect();
        let mut ids = txn.insert_runs(&new).await?.into_iter();
        let views = runs.into_iter().map(|(timeline, run)| {
            let id = held.contains(&timeline.id).then(|| ids.next()).flatten().flatten()?;
            let run = Run { id, ..run };
            let skipped = run.skipped.iter();
            let executions = skipped.filter_map(|skipped| skipped_at_start(&timeline, &run, skipped.id, now));
            let executions = executions.collect();
            Some(RunView::new(run, timeline, executions, now))
        });
        let views: Vec<Option<RunView>> = views.collect();
        let skipped = views.iter().flatten().flat_map(|view| view.executions.iter().cloned());
        txn.insert_missing_executions(&skipped.collect::<Vec<_>>()).await?;
        Ok(views)
    }
}

/// Reads all that starts are about. The customers stay locked.
async fn known(txn: &Txn, commands: &[StartRun]) -> Result<Known, EngineError> {
    let customers: BTreeSet<&CustomerId> = commands.iter().map(|command| &command.customer).collect();
    let timelines: BTreeSet<TimelineId> = commands.iter().map(|command| command.timeline).collect();
    let runs: BTreeSet<RunOf> = commands
        .iter()
        .map(|command| (command.customer.clone(), command.timeline))
        .collect();
    let customers = txn.customers_for_update(customers).await?;
    let timelines: Vec<TimelineId> = timelines.into_iter().collect();
    let timelines = txn.timelines_by_id(&timelines).await?;
    Ok(Known {
        customers: customers
            .into_iter()
            .map(|customer| (customer.id.clone(), customer))
            .collect(),
        timelines: timelines
            .into_iter()
            .map(|timeline| (timeline.id, Arc::new(timeline)))
            .collect(),
        last_runs: txn.last_runs_of(&runs).await?,
    })
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
