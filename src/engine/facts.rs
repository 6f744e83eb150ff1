//! What is known about the customers of a batch of runs, as far as conditions of their timeline ask for it.

use std::collections::{BTreeMap, HashMap};
use tokio::time::Instant;

use super::{Engine, EngineError};
use crate::domain::{
    Asked, Channel, Customer, Destination, EngagementQuery, Facts, ProgressId, Run, SendingHolds, Timeline, Timestamp,
};
use crate::store::{LastEngagement, Reader, Txn};

/// What is known about the customers of some runs of one timeline.
#[derive(Debug)]
pub(super) struct BatchFacts {
    asked: Asked,
    customers: HashMap<String, Customer>,
    engagements: HashMap<ProgressId, BTreeMap<EngagementQuery, Timestamp>>,
    stopped_channels: BTreeMap<Channel, Timestamp>,
    sending_holds: SendingHolds,
    /// Where messages to test customers go.
    of_tests: Destination,
}

impl Engine {
    /// Loads what is known at `now`, in a transaction that claims.
    pub(super) async fn facts_of(
        &self,
        txn: &Txn,
        timeline: &Timeline,
        runs: &[Run],
        now: Timestamp,
    ) -> Result<BatchFacts, EngineError> {
        let asked = timeline.asked();
        let (customers, engagements) = txn.known_of(runs, &asked, now).await?;
        let read_at = Instant::now();
        let holds = txn.sending_holds().await?;
        self.holds.note(read_at, &holds, now);
        Ok(self.batch_facts(timeline, asked, customers, engagements, holds, now))
    }

    /// Loads what is known at `now`, to show what would be done.
    pub(super) async fn facts_read(
        &self,
        reader: &Reader,
        timeline: &Timeline,
        runs: &[Run],
        now: Timestamp,
    ) -> Result<BatchFacts, EngineError> {
        let asked = timeline.asked();
        let (customers, engagements) = reader.known_of(runs, &asked, now).await?;
        let holds = self.read_holds().await?;
        Ok(self.batch_facts(timeline, asked, customers, engagements, holds, now))
    }

    fn batch_facts(
        &self,
        timeline: &Timeline,
        asked: Asked,
        customers: Vec<Customer>,
        engagements: Vec<LastEngagement>,
        sending_holds: SendingHolds,
        now: Timestamp,
    ) -> BatchFacts {
        BatchFacts {
            stopped_channels: self.lanes.stopped(now).collect(),
            sending_holds,
            of_tests: self.lanes.destination(true),
            ..BatchFacts::gather(timeline, asked, customers, engagements)
        }
    }
}

impl BatchFacts {
    /// What the database knows, where all channels go.
    pub(super) fn gather(
        timeline: &Timeline,
        asked: Asked,
        customers: Vec<Customer>,
        engagements: Vec<LastEngagement>,
    ) -> Self {
        let mut of_runs: HashMap<ProgressId, BTreeMap<EngagementQuery, Timestamp>> = HashMap::new();
        for LastEngagement {
            run,
            kind,
            action,
            occurred_at,
        } in engagements
        {
            // What was done about an action was done anyhow, too.
            let key = action
                .and_then(|id| timeline.action(id))
                .map(|action| action.definition.key.clone());
            let about_it = key.map(|key| EngagementQuery {
                kind: kind.clone(),
                of_action: Some(key),
            });
            let anyhow = EngagementQuery { kind, of_action: None };
            let of_run = of_runs.entry(run).or_default();
            for query in about_it.into_iter().chain([anyhow]) {
                if asked.engagements.contains(&query) {
                    let last = of_run.entry(query).or_insert(occurred_at);
                    *last = occurred_at.max(*last);
                }
            }
        }
        let customers = customers
            .into_iter()
            .map(|customer| (customer.id.as_str().to_owned(), customer));
        Self {
            asked,
            customers: customers.collect(),
            engagements: of_runs,
            stopped_channels: BTreeMap::new(),
            sending_holds: SendingHolds::default(),
            of_tests: Destination::TestOutbox,
        }
    }

    /// The customer of a run, unless it is gone.
    pub(super) fn customer(&self, run: &Run) -> Option<&Customer> {
        self.customers.get(run.customer_id.as_str())
    }

    /// What is known for a run.
    pub(super) fn of(&self, run: &Run) -> Facts {
        let Some(customer) = self.customer(run) else {
            return Facts {
                stopped_channels: self.stopped_channels.clone(),
                sending_holds: self.sending_holds.clone(),
                ..Facts::default()
            };
        };
        // No provider's trouble holds up the test outbox. An operator's word does, so that it can be tried.
        let (destination, stopped_channels) = if customer.is_test {
            (self.of_tests, BTreeMap::new())
        } else {
            (Destination::Provider, self.stopped_channels.clone())
        };
        let attribute = |name: &String| Some((name.clone(), customer.attributes.get(name)?.clone()));
        Facts {
            engagement_score: customer.engagement_score,
            pipeline_stage: customer.pipeline_stage.clone(),
            has_email: customer.email.is_some(),
            has_phone: customer.phone.is_some(),
            engagements: self.engagements.get(&run.id).cloned().unwrap_or_default(),
            attributes: self.asked.attributes.iter().filter_map(attribute).collect(),
            destination,
            stopped_channels,
            sending_holds: self.sending_holds.clone(),
        }
    }
}
