//! What is known about the customers of a batch of runs, as far as conditions of their timeline ask for it.

use chrono_tz::Tz;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use tokio::time::Instant;

use super::{Engine, EngineError};
use crate::domain::{
    ActionId, Asked, Campaign, CampaignId, CampaignKind, Channel, ChannelStop, Customer, CustomerHours, Destination,
    EngagementQuery, Facts, ProgressId, Run, SendingHolds, SendingHours, Suppressed, SuppressionScope, Timeline,
    Timestamp, Whereabouts,
};
use crate::store::{BrokenRun, LastEngagement, ReadRecipient, Reader, Txn};

/// What is known about the customers of some runs of one timeline.
#[derive(Debug)]
pub(super) struct BatchFacts {
    asked: Asked,
    customers: HashMap<String, Arc<Customer>>,
    /// Customers that can't be read.
    broken: HashSet<String>,
    engagements: HashMap<ProgressId, BTreeMap<EngagementQuery, Timestamp>>,
    stopped_channels: BTreeMap<Channel, ChannelStop>,
    sending_holds: SendingHolds,
    suppressed: HashMap<String, Suppressed>,
    transactional: Arc<BTreeSet<CampaignId>>,
    hours: SendingHours,
    /// The keys of tasks that are reported.
    tasks: HashMap<ActionId, String>,
    /// The zone of customers that have none.
    default_zone: Tz,
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
        // The runs are locked, so whoever suppresses one of these customers has committed, or waits for this claim.
        let (customers, engagements) = txn.known_of(runs, &asked, asked.since(now), now).await?;
        let transactional = if somebody_gets_no_marketing(&customers) {
            let campaigns = self.campaigns_held(txn, timeline).await?;
            transactional(campaigns.values().map(AsRef::as_ref))
        } else {
            Arc::default()
        };
        let read_at = Instant::now();
        let holds = txn.sending_holds().await?;
        self.holds.note(read_at, &holds, now);
        Ok(BatchFacts {
            transactional,
            ..self.batch_facts(timeline, asked, customers, engagements, holds, now)
        })
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
        let (customers, engagements) = reader.known_of(runs, &asked, None, now).await?;
        let transactional = if somebody_gets_no_marketing(&customers) {
            transactional(&reader.campaigns_by_id(&timeline.campaign_ids()).await?)
        } else {
            Arc::default()
        };
        let holds = self.read_holds().await?;
        Ok(BatchFacts {
            transactional,
            ..self.batch_facts(timeline, asked, customers, engagements, holds, now)
        })
    }

    fn batch_facts(
        &self,
        timeline: &Timeline,
        asked: Asked,
        customers: Vec<ReadRecipient>,
        engagements: Vec<LastEngagement>,
        sending_holds: SendingHolds,
        now: Timestamp,
    ) -> BatchFacts {
        BatchFacts {
            stopped_channels: self.circuits.stopped(now),
            sending_holds,
            hours: self.settings.hours,
            default_zone: self.settings.default_zone,
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
        customers: Vec<ReadRecipient>,
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
                if asked.engagements.contains_key(&query) {
                    let last = of_run.entry(query).or_insert(occurred_at);
                    *last = occurred_at.max(*last);
                }
            }
        }
        let (mut known, mut broken, mut suppressed) = (HashMap::new(), HashSet::new(), HashMap::new());
        for customer in customers {
            match customer {
                Ok((customer, channels)) => {
                    let id = customer.id.as_str().to_owned();
                    if !channels.is_empty() {
                        suppressed.insert(id.clone(), channels);
                    }
                    known.insert(id, Arc::new(customer));
                }
                Err(id) => _ = broken.insert(id),
            }
        }
        let tasks = timeline.definition.actions.iter();
        let tasks = tasks.filter(|action| action.definition.completion.within().is_some());
        let tasks = tasks.map(|action| (action.id, action.definition.key.clone()));
        Self {
            asked,
            tasks: tasks.collect(),
            customers: known,
            broken,
            engagements: of_runs,
            stopped_channels: BTreeMap::new(),
            sending_holds: SendingHolds::default(),
            suppressed,
            transactional: Arc::default(),
            hours: SendingHours::default(),
            default_zone: Tz::UTC,
            of_tests: Destination::TestOutbox,
        }
    }

    /// As if nobody was suppressed.
    pub(super) fn with_nobody_suppressed(self) -> Self {
        Self {
            suppressed: HashMap::new(),
            ..self
        }
    }

    /// The customer of a run, unless it is gone.
    pub(super) fn customer(&self, run: &Run) -> Option<&Arc<Customer>> {
        self.customers.get(run.customer_id.as_str())
    }

    /// Until when each channel that is stopped stays so for a run.
    fn stopped_for(&self, run: &Run) -> BTreeMap<Channel, Timestamp> {
        let stopped = self.stopped_channels.iter();
        stopped
            .map(|(channel, stop)| (*channel, stop.until_for(run.id)))
            .collect()
    }

    /// What is known for a run, unless its customer can't be read.
    pub(super) fn of(&self, run: &Run) -> Result<Facts, BrokenRun> {
        if self.broken.contains(run.customer_id.as_str()) {
            return Err(BrokenRun::of(run, "its customer's row can't be read"));
        }
        let Some(customer) = self.customer(run) else {
            return Ok(Facts {
                stopped_channels: self.stopped_for(run),
                sending_holds: self.sending_holds.clone(),
                ..Facts::default()
            });
        };
        // No provider's trouble holds up the test outbox. An operator's word does, so that it can be tried.
        let (destination, stopped_channels) = if customer.is_test {
            (self.of_tests, BTreeMap::new())
        } else {
            (Destination::Provider, self.stopped_for(run))
        };
        let attribute = |name: &String| Some((name.clone(), customer.attributes.get(name)?.clone()));
        let reports = run.task_reports.iter();
        let task_outcomes = reports.filter_map(|report| Some((self.tasks.get(&report.id)?.clone(), report.outcome)));
        Ok(Facts {
            task_outcomes: task_outcomes.collect(),
            engagement_score: customer.engagement_score,
            pipeline_stage: customer.pipeline_stage.clone(),
            has_email: customer.email.is_some(),
            has_phone: customer.phone.is_some(),
            engagements: self.engagements.get(&run.id).cloned().unwrap_or_default(),
            attributes: self.asked.attributes.iter().filter_map(attribute).collect(),
            destination,
            stopped_channels,
            // A claim knows.
            rate_limited: BTreeMap::new(),
            sending_holds: self.sending_holds.clone(),
            suppressed: self.suppressed.get(customer.id.as_str()).cloned().unwrap_or_default(),
            transactional: Arc::clone(&self.transactional),
            hours: CustomerHours {
                hours: self.hours,
                whereabouts: Whereabouts::of(customer, self.default_zone),
            },
        })
    }
}

fn somebody_gets_no_marketing(customers: &[ReadRecipient]) -> bool {
    let mut scopes = customers
        .iter()
        .flatten()
        .flat_map(|(_, suppressed)| suppressed.values());
    scopes.any(|(scope, _)| *scope == SuppressionScope::Marketing)
}

fn transactional<'a>(campaigns: impl IntoIterator<Item = &'a Campaign>) -> Arc<BTreeSet<CampaignId>> {
    let campaigns = campaigns.into_iter();
    let transactional = campaigns.filter(|campaign| campaign.kind == CampaignKind::Transactional);
    Arc::new(transactional.map(|campaign| campaign.id.clone()).collect())
}
