//! Runs as they are shown.

use std::collections::HashMap;
use std::sync::Arc;

use super::together::{OfCustomer, Turns};
use super::{Engine, EngineError};
use crate::domain::{CustomerId, ProgressId, Run, Timeline, TimelineId, Timestamp, plan};
use crate::store::{BrokenRun, Execution, ExecutionFilter, ExecutionKey, Page, ProgressFilter, StoreError, Txn};

/// A run with all that is needed to show it.
#[derive(Debug, Clone)]
pub struct RunView {
    /// The run as it is at `now`.
    pub run: Run,
    /// Its timeline.
    pub timeline: Arc<Timeline>,
    /// The last entry of the ledger for each action, in order of time.
    pub executions: Vec<Execution>,
    /// When it was looked at.
    pub now: Timestamp,
}

impl RunView {
    pub(super) fn new(run: Run, timeline: Arc<Timeline>, executions: Vec<Execution>, now: Timestamp) -> Self {
        Self {
            run: plan::thawed(&timeline, run),
            timeline,
            executions,
            now,
        }
    }
}

/// An entry of the ledger with the timeline that says what its action is now.
#[derive(Debug, Clone)]
pub struct ExecutionView {
    /// The entry.
    pub execution: Execution,
    /// The timeline of its run.
    pub timeline: Arc<Timeline>,
}

/// A call that shows one run.
#[derive(Debug)]
pub(super) struct ShowCall {
    customer: CustomerId,
    run: Option<ProgressId>,
}

/// How many times at once runs are read that are asked for one by one.
pub(super) const TURNS: Turns = Turns { usual: 1, most: 8 };

impl OfCustomer for ShowCall {
    fn customer(&self) -> &CustomerId {
        &self.customer
    }
}

impl Engine {
    /// Shows a run; without an id the customer's only live one, or else the one that ended last. It is read together with others that
    /// are asked for at the same time.
    pub async fn progress(
        self: &Arc<Self>,
        customer: CustomerId,
        id: Option<ProgressId>,
    ) -> Result<RunView, EngineError> {
        let engine = Arc::clone(self);
        let carry_out = move |calls| {
            let engine = Arc::clone(&engine);
            async move { engine.show_together(calls).await }
        };
        let call = ShowCall {
            customer: customer.clone(),
            run: id,
        };
        match self.shows.ask(&self.tracker, call, carry_out).await.flatten() {
            Some(view) => Ok(view),
            None => self.progress_alone(&customer, id).await,
        }
    }

    /// Shows those runs that are there and can be shown; where there is anything to say about one, it is asked for again, alone.
    async fn show_together(&self, calls: Vec<ShowCall>) -> Vec<Option<RunView>> {
        let shown = self.try_shows(&calls).await;
        let mut shown = shown.unwrap_or_else(|error| {
            tracing::debug!(%error, "runs could not be read together: {error}");
            HashMap::new()
        });
        calls.iter().map(|call| shown.remove(&call.customer)).collect()
    }

    async fn try_shows(&self, calls: &[ShowCall]) -> Result<HashMap<CustomerId, RunView>, EngineError> {
        let reader = self.store.reader();
        let asked = calls.iter().map(|call| (&call.customer, call.run));
        let mut found: HashMap<CustomerId, Option<(Run, i64)>> = HashMap::new();
        for read in reader.runs_asked(asked).await? {
            let customer = match &read {
                Ok((run, _)) => run.customer_id.clone(),
                Err(broken) => match CustomerId::parse(&broken.customer_id) {
                    Ok(customer) => customer,
                    Err(_) => continue,
                },
            };
            // Which of several is meant nobody knows.
            let only = found.entry(customer);
            only.and_modify(|only| *only = None).or_insert(read.ok());
        }
        let found: Vec<(Run, i64)> = found.into_values().flatten().collect();
        let unknown = found.iter().filter(|(run, revision)| {
            let kept = self.definitions.timeline(run.timeline_id, *revision);
            kept.is_none()
        });
        let unknown = distinct(unknown.map(|(run, _)| run.timeline_id));
        let mut timelines = HashMap::new();
        for timeline in reader.timelines_by_id(&unknown).await? {
            timelines.insert(timeline.id, self.definitions.keep_timeline(timeline));
        }
        let keys: Vec<_> = found.iter().map(|(run, _)| (run.customer_id.clone(), run.id)).collect();
        let mut executions = by_run(reader.last_executions(&keys).await?);
        let now = self.clock.now();
        let view = |(run, revision): (Run, i64)| {
            let read = || timelines.get(&run.timeline_id).map(Arc::clone);
            let timeline = self.definitions.timeline(run.timeline_id, revision).or_else(read)?;
            let executions = executions.remove(&run.id).unwrap_or_default();
            Some((run.customer_id.clone(), RunView::new(run, timeline, executions, now)))
        };
        Ok(found.into_iter().filter_map(view).collect())
    }

    async fn progress_alone(&self, customer: &CustomerId, id: Option<ProgressId>) -> Result<RunView, EngineError> {
        let reader = self.store.reader();
        let run = if let Some(run) = id {
            let found = reader.run(customer, run).await?;
            found.ok_or_else(|| EngineError::RunNotFound {
                customer: customer.clone(),
                run,
            })
        } else {
            let mut live = reader.live_runs(customer).await?;
            match (live.pop(), live.as_slice()) {
                (Some(only), []) => Ok(only),
                (Some(last), others) => {
                    let ids = others.iter().chain([&last]).map(|run| run.id).collect();
                    Err(EngineError::AmbiguousRun(ids))
                }
                (None, _) => reader
                    .last_ended_run(customer)
                    .await?
                    .ok_or_else(|| EngineError::NoRun(customer.clone())),
            }
        };
        let run = match run {
            Ok(run) => run,
            Err(error @ EngineError::AmbiguousRun(_)) => return Err(error),
            Err(error) if reader.customer(customer).await?.is_some() => return Err(error),
            Err(_) => return Err(EngineError::CustomerNotFound(customer.clone())),
        };
        let mut views = self.views(vec![run]).await?;
        let view = views.pop().ok_or_else(|| EngineError::NoRun(customer.clone()))?;
        Ok(view.map_err(StoreError::BrokenRun)?)
    }

    /// Shows a page of runs, by customer and id, and says which of them can't be shown.
    pub async fn list_progress(
        &self,
        filter: &ProgressFilter,
        page: &Page<(String, i64)>,
    ) -> Result<Vec<Result<RunView, BrokenRun>>, EngineError> {
        let (mut runs, mut shown) = (Vec::new(), Vec::new());
        for run in self.store.reader().runs(filter, page).await? {
            match run {
                Ok(run) => runs.push(run),
                Err(broken) => shown.push(Err(broken)),
            }
        }
        shown.extend(self.views(runs).await?);
        shown.sort_by(|a, b| place(a).cmp(&place(b)));
        Ok(shown)
    }

    /// Shows a page of the ledger, by customer, run, action and attempt.
    pub async fn list_executions(
        &self,
        filter: &ExecutionFilter,
        page: &Page<ExecutionKey>,
    ) -> Result<Vec<ExecutionView>, EngineError> {
        let reader = self.store.reader();
        let executions = reader.executions(filter, page).await?;
        let timelines = distinct(executions.iter().map(|execution| execution.timeline_id));
        let timelines = by_id(reader.timelines_by_id(&timelines).await?);
        let views = executions.into_iter().filter_map(|execution| {
            let timeline = Arc::clone(timelines.get(&execution.timeline_id)?);
            Some(ExecutionView { execution, timeline })
        });
        Ok(views.collect())
    }

    pub(super) async fn views(&self, runs: Vec<Run>) -> Result<Vec<Result<RunView, BrokenRun>>, EngineError> {
        let reader = self.store.reader();
        let keys: Vec<_> = runs.iter().map(|run| (run.customer_id.clone(), run.id)).collect();
        let executions = reader.last_executions(&keys).await?;
        let timelines = distinct(runs.iter().map(|run| run.timeline_id));
        let timelines = reader.timelines_by_id(&timelines).await?;
        Ok(self.assemble(runs, timelines, executions))
    }

    /// Shows a run as a transaction that changed it sees it.
    pub(super) async fn view_in(&self, txn: &Txn, run: Run, timeline: Timeline) -> Result<RunView, EngineError> {
        let executions = txn.last_executions(&[(run.customer_id.clone(), run.id)]).await?;
        Ok(RunView::new(run, Arc::new(timeline), executions, self.clock.now()))
    }

    fn assemble(
        &self,
        runs: Vec<Run>,
        timelines: Vec<Timeline>,
        executions: Vec<Execution>,
    ) -> Vec<Result<RunView, BrokenRun>> {
        let timelines = by_id(timelines);
        let mut by_run = by_run(executions);
        let now = self.clock.now();
        runs.into_iter()
            .map(|run| {
                let Some(timeline) = timelines.get(&run.timeline_id) else {
                    return Err(BrokenRun::of(&run, "its timeline is not there"));
                };
                let executions = by_run.remove(&run.id).unwrap_or_default();
                Ok(RunView::new(run, Arc::clone(timeline), executions, now))
            })
            .collect()
    }
}

fn by_run(executions: Vec<Execution>) -> HashMap<ProgressId, Vec<Execution>> {
    let mut by_run: HashMap<ProgressId, Vec<Execution>> = HashMap::new();
    for execution in executions {
        by_run.entry(execution.progress_id).or_default().push(execution);
    }
    by_run
}

/// Where a run stands in a list.
fn place(run: &Result<RunView, BrokenRun>) -> (&str, ProgressId) {
    match run {
        Ok(view) => (view.run.customer_id.as_str(), view.run.id),
        Err(broken) => (&broken.customer_id, broken.id),
    }
}

fn by_id(timelines: Vec<Timeline>) -> HashMap<TimelineId, Arc<Timeline>> {
    timelines
        .into_iter()
        .map(|timeline| (timeline.id, Arc::new(timeline)))
        .collect()
}

fn distinct(timelines: impl Iterator<Item = TimelineId>) -> Vec<TimelineId> {
    let mut ids: Vec<_> = timelines.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
