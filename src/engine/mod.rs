//! Moving runs: what calls about runs do, what the two ticks do, and how messages are claimed, sent and recorded.
//!
//! The engine has the clock. It reads, lets the pure core decide, writes, and keeps these promises:
//! a message is sent only under a claim that is committed; no transaction is open while something is sent; whoever is served
//! by a tick is served by the same code as by a call; and a tick holds no state, so that it may run twice, overlap or die.

mod advance;
mod archive;
mod cache;
mod circuits;
mod claim;
mod content;
mod customers;
mod decided;
mod definitions;
mod delivery;
mod erasure;
mod error;
mod execute;
mod explain;
mod facts;
mod feedback;
mod fence;
mod flight;
mod holds;
mod lanes;
mod leases;
mod links;
mod once;
mod orchestrator;
mod preview;
mod purge;
mod rates;
mod redrive;
mod release;
mod running;
mod schedule;
mod sending;
mod simulate;
mod skew;
mod starts;
mod stopped;
mod suppressions;
mod survey;
mod task;
mod tick;
mod together;
mod tracking;
mod turns;
mod view;

pub use archive::ArchivedTimeline;
pub use content::MailIdentity;
pub use customers::{CustomerField, CustomerFields, RecordOutcome, Upsert, UpsertOutcome};
pub(crate) use definitions::etag;
pub use definitions::{
    AppliedCampaign, AppliedTimeline, ApplyTimeline, CampaignContent, ContentProblem, DefaultChange,
};
pub use delivery::{Heard, ProviderReport, callback_urls};
pub use erasure::{EraseCustomer, Erasure, Redact};
pub use error::EngineError;
pub use execute::{ActionReport, ActionReportKind, RunHold, RunReport};
pub use explain::RunExplanation;
pub use feedback::{BounceAddress, Feedback, FeedbackOutcome, MailReference};
pub use fence::{FenceReport, FenceRuns, fence_runs};
pub use holds::{HoldUntil, SendingStatus, SetHold};
pub use lanes::LaneSettings;
pub use links::{PublicUrl, PublicUrlError, UnsubscribeLink};
pub use once::{Answer, Once};
pub use orchestrator::{Assigned, Assignment, StageChange};
pub use preview::{Preview, PreviewCampaign, PreviewWarning, PreviewedCampaign};
pub use purge::{PurgeReport, purge};
pub use redrive::{RetriedActions, RetryActions};
pub use simulate::{FIRST_NOT_STORED, SimulateTimeline, SimulatedCustomer, SimulatedTimeline};
pub use skew::ClockSkew;
pub use starts::{StartRun, Started};
pub use suppressions::{ListSuppressions, Recipient, SuppressRecipient};
pub use task::{ActionName, ReportTask, ReportedTask};
pub use tick::{Stop, TickEvents, TickRequest};
pub use tracking::{ClickLink, OpenLink};
pub use view::{ExecutionView, RunView};

use chrono::Duration;
use chrono_tz::Tz;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::channels::{Renderer, Senders};
use crate::clock::Clock;
use crate::domain::{CircuitPolicy, RateLimits, RetryPolicy, SendingHours};
use crate::keys::Keys;
use crate::random::Random;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;
use cache::Definitions;
use circuits::Circuits;
use holds::HoldsView;
use lanes::Lanes;
use leases::Leases;
use running::RunningTicks;
use skew::ClockGuard;
use starts::{StartAnswer, StartCall};
use together::Together;
use view::ShowCall;

/// How the engine behaves.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// The zone of customers that have none.
    pub default_zone: Tz,
    /// When messages may be sent, by the clock where the customer is.
    pub hours: SendingHours,
    /// When failed attempts are repeated.
    pub retry: RetryPolicy,
    /// How long a claim holds. Longer than `send_timeout` by 10 seconds at least.
    pub lease: Duration,
    /// How often leases are prolonged that are under way for long.
    pub heartbeat: std::time::Duration,
    /// By how much the server's clock and the database's may differ. Twice of it is at most what the lease is longer than
    /// `send_timeout`, so that nobody takes over what is still being sent.
    pub max_clock_skew: Duration,
    /// How long one attempt may take.
    pub send_timeout: Duration,
    /// When a channel is left alone, and for how long.
    pub circuits: CircuitPolicy,
    /// How much is sent at most.
    pub rates: RateLimits,
    /// The longest a tick runs.
    pub tick_limit: std::time::Duration,
    /// How many messages are under way at a time, by channel.
    pub lanes: LaneSettings,
    /// Who mails are from.
    pub identity: MailIdentity,
    /// Where the links in mails lead; none: mails that need one are not sent.
    pub public_url: Option<PublicUrl>,
    /// Where bounces go; none: to the address that a mail is from.
    pub bounce_address: Option<BounceAddress>,
}

/// What the engine needs from outside.
#[derive(Debug)]
pub struct Parts {
    /// The database.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Random,
    /// The ways out.
    pub senders: Senders,
    /// What follows from the deployment's secret.
    pub keys: Arc<Keys>,
    /// Where it counts what it does.
    pub metrics: Metrics,
    /// Where tasks are counted that outlive the call that began them.
    pub tracker: TaskTracker,
    /// Cancelled when the server stops: nothing new is claimed from then on.
    pub stopping: CancellationToken,
}

/// The engine. Shared by all calls.
#[derive(Debug)]
pub struct Engine {
    store: Store,
    clock: Arc<dyn Clock>,
    clock_guard: Arc<ClockGuard>,
    random: Random,
    keys: Arc<Keys>,
    metrics: Metrics,
    lanes: Lanes,
    leases: Leases,
    renderer: Renderer,
    settings: EngineSettings,
    definitions: Definitions,
    holds: HoldsView,
    circuits: Circuits,
    deployment: Uuid,
    running: RunningTicks,
    /// Permits to simulate.
    simulations: Semaphore,
    /// Starts that are asked for one by one, and runs that are.
    starts: Arc<Together<StartCall, StartAnswer>>,
    shows: Arc<Together<ShowCall, Option<RunView>>>,
    tracker: TaskTracker,
    stopping: CancellationToken,
}

impl Engine {
    /// An engine on a database that is migrated.
    pub async fn new(parts: Parts, settings: EngineSettings) -> Result<Arc<Self>, StoreError> {
        let Parts {
            store,
            clock,
            random,
            senders,
            keys,
            metrics,
            tracker,
            stopping,
        } = parts;
        let txn = store.begin().await?;
        let deployment = txn.deployment_id(random.uuid()).await?;
        txn.commit().await?;
        let starts = Together::new(starts::turns(&store));
        let clock_guard = ClockGuard::new(store.clone(), Arc::clone(&clock), settings.max_clock_skew);
        Ok(Arc::new(Self {
            store,
            clock,
            clock_guard: Arc::new(clock_guard),
            random,
            keys,
            metrics,
            lanes: Lanes::new(senders, &settings.lanes),
            leases: Leases::default(),
            renderer: Renderer::new(),
            circuits: Circuits::new(settings.circuits),
            settings,
            definitions: Definitions::default(),
            holds: HoldsView::default(),
            deployment,
            running: RunningTicks::default(),
            simulations: Semaphore::new(simulate::AT_A_TIME),
            starts,
            shows: Together::new(view::TURNS),
            tracker,
            stopping,
        }))
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The time.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The zone of customers that have none.
    pub fn default_zone(&self) -> Tz {
        self.settings.default_zone
    }

    /// Where tasks are counted that outlive the call that began them.
    pub fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }
}
