//! Simulating: what would become of a run, by the rules and set-up of this server. Nothing is stored and nothing is sent.

use chrono::Duration;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::cache::Campaigns;
use super::content::campaign_of;
use super::definitions::{campaigns_of, content_is_there};
use super::tick::MOST_PASSES;
use super::{Engine, EngineError};
use crate::domain::simulate::{Entry, Outside, Rules, Simulated, Simulation, simulate};
use crate::domain::{
    Action, ActionDefinition, ActionId, Customer, CustomerId, EngagementQuery, FirstDay, Origin, Run, Timeline,
    TimelineDefinition, TimelineId, Timestamp,
};
use crate::store::Reader;

/// How many simulations are under way at a time. They take nothing but the processor, which the ticks need as well.
pub(super) const AT_A_TIME: usize = 2;

/// From this id on are actions that are not stored.
pub const FIRST_NOT_STORED: ActionId = ActionId(1 << 62);

/// What is to be simulated.
#[derive(Debug)]
pub struct SimulateTimeline {
    /// Which timeline.
    pub timeline: SimulatedTimeline,
    /// For whom.
    pub customer: SimulatedCustomer,
    /// When the run is started.
    pub start: Timestamp,
    /// What becomes of hours that have passed at the start.
    pub first_day: FirstDay,
    /// The day to begin on, from 1.
    pub start_day: i32,
    /// How far apart the ticks are.
    pub tick_interval: Duration,
    /// What happens meanwhile.
    pub script: Vec<Entry>,
    /// When to stop looking.
    pub end: Timestamp,
}

/// Which timeline is simulated.
#[derive(Debug)]
pub enum SimulatedTimeline {
    /// This one, as it is stored.
    Stored(Timeline),
    /// What may be stored one day.
    Defined {
        /// The whole definition, its actions in order of the plan.
        definition: TimelineDefinition<ActionDefinition>,
        /// For each action, where it stood in the request.
        positions: Vec<usize>,
    },
}

/// For whom it is simulated.
#[derive(Debug)]
pub enum SimulatedCustomer {
    /// This one, as it is stored.
    Stored(CustomerId),
    /// Somebody who need not exist.
    MadeUp(Box<Customer>),
}

impl Engine {
    /// What would become of a run. Actions that are not stored have ids from [`FIRST_NOT_STORED`] on.
    pub async fn simulate(self: &Arc<Self>, command: SimulateTimeline) -> Result<Simulated, EngineError> {
        let reader = self.store.reader();
        let timeline = match command.timeline {
            SimulatedTimeline::Stored(timeline) => timeline,
            SimulatedTimeline::Defined { definition, positions } => {
                let found = reader.campaigns_by_id(&campaigns_of(&definition)).await?;
                content_is_there(&definition, &positions, &found)?;
                let stored = reader.timeline_by_slug(&definition.slug).await?;
                defined(definition, stored.as_ref(), command.start)
            }
        };
        let campaigns = reader.campaigns_by_id(&timeline.campaign_ids()).await?;
        let campaigns: HashMap<_, _> = campaigns
            .into_iter()
            .map(|campaign| (campaign.id.clone(), Arc::new(campaign)))
            .collect();
        let (customer, stored) = match command.customer {
            SimulatedCustomer::Stored(id) => (self.customer(&id).await?, true),
            SimulatedCustomer::MadeUp(customer) => (*customer, false),
        };
        let mut simulation = Simulation {
            timeline,
            customer,
            engagements: BTreeMap::new(),
            first_day: command.first_day,
            start_day: command.start_day,
            start: command.start,
            end: command.end,
            tick_interval: command.tick_interval,
            script: command.script,
        };
        if stored {
            simulation.engagements = self.done_before(&reader, &simulation).await?;
        }
        self.carry_out(simulation, Arc::new(campaigns)).await
    }

    /// What the customer did up to the start, as far as conditions ask. No event can be about an action of a run that is not there.
    async fn done_before(
        &self,
        reader: &Reader,
        simulation: &Simulation,
    ) -> Result<BTreeMap<EngagementQuery, Timestamp>, EngineError> {
        let Simulation {
            timeline,
            customer,
            start,
            ..
        } = simulation;
        let (id, zone) = (customer.id.clone(), customer.zone(self.settings.default_zone));
        let run = Run::start(timeline, id, Origin::Started, zone, FirstDay::SendPassed, 1, *start);
        let (_, engagements) = reader.known_of(&[run], &timeline.asked(), None, *start).await?;
        let mut done = BTreeMap::new();
        for engagement in engagements {
            let query = EngagementQuery {
                kind: engagement.kind,
                of_action: None,
            };
            let last = done.entry(query).or_insert(engagement.occurred_at);
            *last = engagement.occurred_at.max(*last);
        }
        Ok(done)
    }

    /// Simulates on a thread of its own, because it may take a while, until nobody waits for it.
    async fn carry_out(
        self: &Arc<Self>,
        simulation: Simulation,
        campaigns: Campaigns,
    ) -> Result<Simulated, EngineError> {
        let _permit = self.simulations.acquire().await.map_err(|_| EngineError::Stopping)?;
        let abandoned = self.stopping.child_token();
        let _guard = abandoned.clone().drop_guard();
        let engine = Arc::clone(self);
        let rules = Rules {
            default_zone: self.settings.default_zone,
            hours: self.settings.hours,
            retry: self.settings.retry,
            channel_probe: self.settings.circuits.pause,
            of_tests: self.lanes.destination(true),
            most_passes: MOST_PASSES,
        };
        let task = self.tracker.spawn_blocking(move || {
            let outside = Outside {
                render: &|run, timeline, action, customer| {
                    let campaign = campaign_of(action, &campaigns)?;
                    let customer = Arc::new(customer.clone());
                    engine.write(run, timeline, action, &customer, campaign).map(drop)
                },
                is_abandoned: &|| abandoned.is_cancelled(),
            };
            simulate(simulation, &rules, outside)
        });
        let simulated = task.await;
        if self.stopping.is_cancelled() {
            return Err(EngineError::Stopping);
        }
        // A panic there is a panic here, so that it is told as any other.
        simulated.map_err(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => EngineError::Stopping,
        })
    }
}

/// A timeline as it would be stored. Actions that are stored by their key keep their ids, which decide between two of the same
/// priority; the others get higher ones, in order of the plan.
fn defined(definition: TimelineDefinition<ActionDefinition>, stored: Option<&Timeline>, now: Timestamp) -> Timeline {
    let stored_actions = stored.iter().flat_map(|timeline| &timeline.definition.actions);
    let ids: HashMap<&str, ActionId> = stored_actions
        .map(|action| (action.definition.key.as_str(), action.id))
        .collect();
    let TimelineDefinition {
        slug,
        name,
        pipeline_stage,
        duration_days,
        is_active,
        is_default,
        when_missed,
        max_lateness,
        actions,
    } = definition;
    let mut next = FIRST_NOT_STORED.0;
    let mut actions: Vec<Action> = actions
        .into_iter()
        .map(|definition| {
            let id = ids.get(definition.key.as_str()).copied().unwrap_or_else(|| {
                next += 1;
                ActionId(next)
            });
            Action {
                id,
                definition,
                removed_at: None,
            }
        })
        .collect();
    actions.sort_by_key(Action::position);
    Timeline {
        id: stored.map_or(TimelineId(0), |timeline| timeline.id),
        definition: TimelineDefinition {
            slug,
            name,
            pipeline_stage,
            duration_days,
            is_active,
            is_default,
            when_missed,
            max_lateness,
            actions,
        },
        revision: 0,
        activated_at: None,
        archived_at: None,
        created_at: now,
        updated_at: now,
    }
}
