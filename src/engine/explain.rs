//! Saying what became of each action of a customer's runs, and what holds it now.

use super::{Engine, EngineError, RunView};
use crate::domain::explain::{Explanation, explain};
use crate::domain::{CustomerId, ProgressId};
use crate::store::StoreError;

/// A run with what is to be said about it.
#[derive(Debug)]
pub struct RunExplanation {
    /// The run.
    pub view: RunView,
    /// What is to be said.
    pub explanation: Explanation,
}

impl Engine {
    /// Explains a run; without an id all live runs of the customer, or else the one that ended last.
    pub async fn explain(
        &self,
        customer: &CustomerId,
        id: Option<ProgressId>,
    ) -> Result<Vec<RunExplanation>, EngineError> {
        let reader = self.store.reader();
        let mut runs = match id {
            Some(id) => Vec::from_iter(reader.run(customer, id).await?),
            None => reader.live_runs(customer).await?,
        };
        if runs.is_empty() && id.is_none() {
            runs.extend(reader.last_ended_run(customer).await?);
        }
        if runs.is_empty() {
            return Err(match (reader.customer(customer).await?, id) {
                (None, _) => EngineError::CustomerNotFound(customer.clone()),
                (Some(_), None) => EngineError::NoRun(customer.clone()),
                (Some(_), Some(run)) => EngineError::RunNotFound {
                    customer: customer.clone(),
                    run,
                },
            });
        }
        let mut explained = Vec::with_capacity(runs.len());
        for view in self.views(runs.clone()).await? {
            let view = view.map_err(StoreError::BrokenRun)?;
            // Not as it is shown, but as it is stored: the core thaws it by itself.
            let Some(run) = runs.iter().find(|run| run.id == view.run.id) else {
                continue;
            };
            let known = self
                .facts_read(&reader, &view.timeline, std::slice::from_ref(run), view.now)
                .await?;
            let facts = known.of(run).map_err(StoreError::BrokenRun)?;
            let explanation = explain(&view.timeline, run, &facts, &self.settings.retry, view.now);
            explained.push(RunExplanation { view, explanation });
        }
        Ok(explained)
    }
}
