//! What goes into a plan, and what comes out.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::{
    Action, ActionId, CampaignId, CampaignKind, Channel, CustomerHours, DeferReason, EngagementQuery, FailureReason,
    FailureState, Run, SendingHolds, SkipReason, Stage, Suppressed, TaskOutcome, Timestamp,
};

/// What is known about the customer when a run is planned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The score.
    pub engagement_score: i32,
    /// The stage.
    pub pipeline_stage: Option<Stage>,
    /// Whether there is a mail address.
    pub has_email: bool,
    /// Whether there is a phone number.
    pub has_phone: bool,
    /// What the customer did, and when last, up to now. Loaded only as far as conditions of the timeline ask for it.
    pub engagements: BTreeMap<EngagementQuery, Timestamp>,
    /// The attributes that conditions of the timeline ask for, if the customer has them.
    pub attributes: Map<String, Value>,
    /// What was reported of tasks of the run, by their keys.
    pub task_outcomes: BTreeMap<String, TaskOutcome>,
    /// Where the customer's messages go.
    pub destination: Destination,
    /// Channels that are stopped, and until when. None for a test customer.
    pub stopped_channels: BTreeMap<Channel, Timestamp>,
    /// Channels whose rate has no token for the customer, and until when. None for a test customer.
    pub rate_limited: BTreeMap<Channel, Timestamp>,
    /// The sending holds.
    pub sending_holds: SendingHolds,
    /// By which channels nothing may go to the customer.
    pub suppressed: Suppressed,
    /// Which campaigns of the timeline are transactional. Loaded only where somebody gets no marketing.
    pub transactional: Arc<BTreeSet<CampaignId>>,
    /// The hours at which messages may go.
    pub hours: CustomerHours,
}

impl Facts {
    /// What kind of message an action sends. What is not known is marketing, which is the safe side.
    pub(super) fn kind_of(&self, action: &Action) -> CampaignKind {
        match &action.definition.campaign_id {
            Some(id) if self.transactional.contains(id) => CampaignKind::Transactional,
            Some(_) | None => CampaignKind::Marketing,
        }
    }
}

/// Where a customer's messages go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Destination {
    /// To the provider of their channel.
    #[default]
    Provider,
    /// To the test outbox: it is a test customer.
    TestOutbox,
    /// Nowhere: it is a test customer, and the server has no test outbox.
    NoTestOutbox,
}

impl Destination {
    /// Whether it is that of a test customer.
    pub fn is_test(self) -> bool {
        match self {
            Self::Provider => false,
            Self::TestOutbox | Self::NoTestOutbox => true,
        }
    }
}

/// What is to be done with a run at an instant.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The run as it is then, with all but the sends carried out. What is to be sent is in its `in_flight`, in order.
    pub run: Run,
    /// What was decided without sending, in order.
    pub decisions: Vec<Decision>,
    /// How the run moved.
    pub moves: Moves,
}

/// A decision about one action that needs no send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Which action.
    pub action: ActionId,
    /// Which attempt it would have been, or was, from 1.
    pub attempt: u32,
    /// When the action was due.
    pub due: Timestamp,
    /// What was decided.
    pub verdict: Verdict,
    /// For people: of what is skipped, which condition or gate said so, and what was seen; of a wait, what came of it.
    pub detail: Option<String>,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is done: a wait whose hour has come or whose event was seen, or a gate that is open.
    Completed,
    /// It won't be carried out.
    Skipped(SkipReason),
    /// It waits.
    Deferred {
        /// Until when at most.
        until: Timestamp,
        /// What for.
        reason: DeferReason,
    },
    /// It failed without an attempt, or its attempt was lost with the process that made it.
    Failed {
        /// Whether it is repeated.
        state: FailureState,
        /// Why, as a fixed word.
        reason: FailureReason,
        /// Why, for people.
        error: String,
    },
}

/// How a run moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moves {
    /// Whether it came to another day.
    pub advanced: bool,
    /// Whether it was completed.
    pub completed: bool,
    /// Days by which it was shifted.
    pub shifted_days: i32,
}
