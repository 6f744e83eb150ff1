//! What calls do to runs: assign, change of stage, pause, resume, stop. Starts are in `starts`.
//!
//! Whatever starts runs locks the customer first, so that two calls about one customer never see half of each other.

use std::sync::Arc;

use super::once::Begin;
use super::{Answer, Engine, EngineError, Once, RunView};
use crate::domain::{
    Customer, CustomerId, FirstDay, Origin, ProgressId, Run, Stage, Timeline, TimelineId, Timestamp, plan,
};
use crate::store::{StoreError, Txn};
use crate::telemetry;

/// The run that was assigned for a stage.
#[derive(Debug)]
pub struct Assigned {
    /// The run of this visit.
    pub view: RunView,
    /// Whether it was started now.
    pub created: bool,
    /// Assigned runs of other stages that were stopped.
    pub stopped: Vec<ProgressId>,
}

/// What a change of stage did.
#[derive(Debug)]
pub struct StageChange {
    /// The customer as it is now.
    pub customer: Customer,
    /// The stage before.
    pub previous: Option<Stage>,
    /// What became of the assignment.
    pub assignment: Assignment,
    /// Assigned runs of other stages that were stopped.
    pub stopped: Vec<ProgressId>,
}

/// What became of an assignment when a stage was set.
#[derive(Debug)]
pub enum Assignment {
    /// The default timeline was started.
    Started(Box<RunView>),
    /// A run of it was live already.
    AlreadyRunning(Box<RunView>),
    /// The stage has none.
    NoDefault,
    /// It is inactive.
    DefaultInactive,
    /// The customer was in this stage already.
    StageUnchanged,
}

impl Engine {
    /// Starts the default timeline of the customer's stage, once per visit to it.
    pub async fn assign_for_stage(
        &self,
        id: &CustomerId,
        allow_restart: bool,
        once: Once<'_, Assigned>,
    ) -> Result<Answer<Assigned>, EngineError> {
        self.clock_agrees()?;
        let operation = match self.begin_once(once).await? {
            Begin::Do(operation) => operation,
            Begin::Repeat(response) => return Ok(Answer::Repeated(response)),
        };
        let (txn, now) = (&operation.txn, operation.now);
        let customer = self.locked_customer(txn, id).await?;
        let Some(stage) = &customer.pipeline_stage else {
            return Err(EngineError::StageMissing(customer.id));
        };
        let stopped = self.stop_assigned(txn, &customer, now).await?;
        let of_visit = txn.run_of_visit(&customer.id, customer.stage_visit).await?;
        let (view, created) = match of_visit {
            Some(run) if run.status.is_live() || !allow_restart => {
                let timeline = txn
                    .timeline(run.timeline_id)
                    .await?
                    .ok_or(EngineError::TimelineNotFound(run.timeline_id))?;
                (self.view_in(txn, run, timeline).await?, false)
            }
            Some(_) | None => match self.start_assigned(txn, &customer, stage, now).await? {
                Assignment::Started(view) => (*view, true),
                Assignment::AlreadyRunning(view) => (*view, false),
                Assignment::NoDefault | Assignment::StageUnchanged => {
                    return Err(EngineError::NoDefaultTimeline(stage.clone()));
                }
                Assignment::DefaultInactive => {
                    let default = txn
                        .default_timeline(stage)
                        .await?
                        .map_or(TimelineId(0), |timeline| timeline.id);
                    return Err(EngineError::TimelineInactive(default));
                }
            },
        };
        operation.finish(Assigned { view, created, stopped }).await
    }

    /// Stores a new stage, stops what was assigned for others, and starts what is assigned for it.
    pub async fn change_stage(
        &self,
        id: &CustomerId,
        stage: Stage,
        once: Once<'_, StageChange>,
    ) -> Result<Answer<StageChange>, EngineError> {
        self.clock_agrees()?;
        let operation = match self.begin_once(once).await? {
            Begin::Do(operation) => operation,
            Begin::Repeat(response) => return Ok(Answer::Repeated(response)),
        };
        let (txn, now) = (&operation.txn, operation.now);
        let mut customer = self.locked_customer(txn, id).await?;
        if customer.pipeline_stage.as_ref() == Some(&stage) {
            let assignment = Assignment::StageUnchanged;
            return operation
                .finish(StageChange {
                    customer,
                    previous: Some(stage),
                    assignment,
                    stopped: Vec::new(),
                })
                .await;
        }
        let previous = customer.pipeline_stage.replace(stage.clone());
        customer.stage_visit += 1;
        customer.updated_at = now;
        txn.update_customers(&[self.customer_row(&customer)]).await?;
        let stopped = self.stop_assigned(txn, &customer, now).await?;
        let assignment = self.start_assigned(txn, &customer, &stage, now).await?;
        operation
            .finish(StageChange {
                customer,
                previous,
                assignment,
                stopped,
            })
            .await
    }

    /// Freezes a run.
    pub async fn pause(
        &self,
        customer: &CustomerId,
        id: ProgressId,
        reason: String,
        once: Once<'_, RunView>,
    ) -> Result<Answer<RunView>, EngineError> {
        let step = |run: Run, _: &Timeline, now| {
            run.pause(reason, now).map_err(|wrong| EngineError::RunNotActive {
                run: id,
                status: wrong.status,
            })
        };
        self.change_run(customer, id, once, step).await
    }

    /// Thaws a run.
    pub async fn resume(
        &self,
        customer: &CustomerId,
        id: ProgressId,
        reason: String,
        next_day: bool,
        once: Once<'_, RunView>,
    ) -> Result<Answer<RunView>, EngineError> {
        self.clock_agrees()?;
        let step = |run: Run, timeline: &Timeline, now| {
            let resumed = run.resume(reason, next_day, now);
            let mut run = resumed.map_err(|wrong| EngineError::RunNotPaused {
                run: id,
                status: wrong.status,
            })?;
            plan::settle(timeline, &mut run, now);
            Ok(run)
        };
        self.change_run(customer, id, once, step).await
    }

    /// Ends a run.
    pub async fn stop(
        &self,
        customer: &CustomerId,
        id: ProgressId,
        reason: String,
        once: Once<'_, RunView>,
    ) -> Result<Answer<RunView>, EngineError> {
        let step = |run: Run, _: &Timeline, now| {
            run.stop(reason, now).map_err(|wrong| EngineError::RunIsOver {
                run: id,
                status: wrong.status,
            })
        };
        self.change_run(customer, id, once, step).await
    }

    async fn change_run(
        &self,
        customer: &CustomerId,
        id: ProgressId,
        once: Once<'_, RunView>,
        step: impl FnOnce(Run, &Timeline, Timestamp) -> Result<Run, EngineError>,
    ) -> Result<Answer<RunView>, EngineError> {
        let operation = match self.begin_once(once).await? {
            Begin::Do(operation) => operation,
            Begin::Repeat(response) => return Ok(Answer::Repeated(response)),
        };
        let (txn, now) = (&operation.txn, operation.now);
        let run = self.locked_run(txn, customer, id).await?;
        let timeline = txn
            .timeline(run.timeline_id)
            .await?
            .ok_or(EngineError::TimelineNotFound(run.timeline_id))?;
        let run = step(run, &timeline, now)?;
        txn.update_run(&run).await?;
        let view = self.view_in(txn, run, timeline).await?;
        operation.finish(view).await
    }

    pub(super) async fn locked_run(
        &self,
        txn: &Txn,
        customer: &CustomerId,
        id: ProgressId,
    ) -> Result<Run, EngineError> {
        if let Some(run) = txn.run_for_update(customer, id).await? {
            return Ok(run);
        }
        Err(match txn.customer(customer).await? {
            Some(_) => EngineError::RunNotFound {
                customer: customer.clone(),
                run: id,
            },
            None => EngineError::CustomerNotFound(customer.clone()),
        })
    }

    pub(super) async fn locked_customer(&self, txn: &Txn, id: &CustomerId) -> Result<Customer, EngineError> {
        txn.customer_for_update(id)
            .await?
            .ok_or_else(|| EngineError::CustomerNotFound(id.clone()))
    }

    /// Starts the active default timeline of a stage for a customer who visits it.
    pub(super) async fn start_assigned(
        &self,
        txn: &Txn,
        customer: &Customer,
        stage: &Stage,
        now: Timestamp,
    ) -> Result<Assignment, EngineError> {
        let Some(timeline) = txn.default_timeline(stage).await? else {
            return Ok(Assignment::NoDefault);
        };
        let live = txn
            .last_run_of(&customer.id, timeline.id)
            .await?
            .filter(|run| run.status.is_live());
        if let Some(run) = live {
            return Ok(Assignment::AlreadyRunning(Box::new(
                self.view_in(txn, run, timeline).await?,
            )));
        }
        if !timeline.definition.is_active {
            return Ok(Assignment::DefaultInactive);
        }
        let (origin, zone) = (
            Origin::Assigned {
                visit: customer.stage_visit,
            },
            customer.zone(self.settings.default_zone),
        );
        let mut run = Run::start(
            &timeline,
            customer.id.clone(),
            origin,
            zone,
            FirstDay::SendPassed,
            1,
            now,
        );
        run.trace_parent = telemetry::current();
        let held = txn.hold_timelines(&[timeline.id].into()).await?;
        if held.iter().any(|held| held.is_archived) {
            return Err(EngineError::Concurrent);
        }
        let started = self.enter(txn, vec![(Arc::new(timeline), run)], now).await?;
        let view = started.into_iter().next().ok_or(EngineError::Concurrent)?;
        Ok(Assignment::Started(Box::new(view)))
    }

    /// Stops live runs that were assigned on other visits than the present one.
    async fn stop_assigned(
        &self,
        txn: &Txn,
        customer: &Customer,
        now: Timestamp,
    ) -> Result<Vec<ProgressId>, EngineError> {
        let stage = customer.pipeline_stage.as_ref().map_or("none", Stage::as_str);
        let mut stopped = Vec::new();
        for run in txn.live_runs_for_update([&customer.id]).await? {
            let run = run.map_err(StoreError::BrokenRun)?;
            let of_other_visit = match run.origin {
                Origin::Assigned { visit } => visit != customer.stage_visit,
                Origin::Started => false,
            };
            if of_other_visit {
                let id = run.id;
                let run = run.stop(format!("the customer's stage is now {stage}"), now);
                txn.update_run(&run.map_err(|wrong| EngineError::RunIsOver {
                    run: id,
                    status: wrong.status,
                })?)
                .await?;
                stopped.push(id);
            }
        }
        Ok(stopped)
    }
}
