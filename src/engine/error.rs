//! Why a call is refused. The words for the caller are in `rpc`, one arm for each.

use crate::domain::{
    CampaignId, Channel, CustomerId, HoldScope, Invalid, ProgressId, Slug, Stage, Status, TaskOutcome, TimelineId,
    Timestamp,
};
use crate::engine::{ActionName, ClockSkew, ContentProblem};
use crate::store::StoreError;

/// Why a call is refused.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such customer.
    #[error("customer {0} not found")]
    CustomerNotFound(CustomerId),
    /// There is no such timeline.
    #[error("timeline {0} not found")]
    TimelineNotFound(TimelineId),
    /// There is no timeline with this slug.
    #[error("timeline {0} not found")]
    SlugNotFound(Slug),
    /// There is no such campaign.
    #[error("campaign {0} not found")]
    CampaignNotFound(CampaignId),
    /// The customer has no such run.
    #[error("run {run} of customer {customer} not found")]
    RunNotFound {
        /// Whose.
        customer: CustomerId,
        /// Which.
        run: ProgressId,
    },
    /// The customer has no run at all.
    #[error("customer {0} has no run")]
    NoRun(CustomerId),
    /// The run has no such action.
    #[error("run {run} of customer {customer} has no such action")]
    ActionNotFound {
        /// Whose.
        customer: CustomerId,
        /// Which run.
        run: ProgressId,
        /// Which action.
        action: ActionName,
    },
    /// The task was reported before, with another outcome.
    #[error("task {action} was reported before")]
    TaskReportedOtherwise {
        /// The action's key.
        action: String,
        /// What was reported.
        outcome: TaskOutcome,
        /// When.
        at: Timestamp,
    },
    /// The run does not wait for a report of the action.
    #[error("run {run} does not wait for action {action}: {why}")]
    TaskNotWaiting {
        /// Which run.
        run: ProgressId,
        /// The action's key.
        action: String,
        /// Where the run stands.
        status: Status,
        /// Why not.
        why: &'static str,
    },
    /// The customer has several live runs.
    #[error("the customer has several live runs")]
    AmbiguousRun(Vec<ProgressId>),
    /// A run of this timeline is live.
    #[error("run {0} is live")]
    RunIsLive(ProgressId),
    /// There was a run of this timeline before.
    #[error("run {0} has ended")]
    RunHasEnded(ProgressId),
    /// The run is not in the state for this.
    #[error("run {run} is {}", .status.as_str())]
    RunNotActive {
        /// Which.
        run: ProgressId,
        /// What it is.
        status: Status,
    },
    /// The run is not paused.
    #[error("run {run} is {}", .status.as_str())]
    RunNotPaused {
        /// Which.
        run: ProgressId,
        /// What it is.
        status: Status,
    },
    /// The run is over already.
    #[error("run {run} is {}", .status.as_str())]
    RunIsOver {
        /// Which.
        run: ProgressId,
        /// What it is.
        status: Status,
    },
    /// The timeline is switched off.
    #[error("timeline {0} is inactive")]
    TimelineInactive(TimelineId),
    /// The timeline was archived.
    #[error("timeline {timeline} is archived")]
    TimelineArchived {
        /// Which.
        timeline: TimelineId,
        /// Its slug.
        slug: Slug,
    },
    /// The timeline can't be archived, because it has live runs.
    #[error("timeline {timeline} has {runs} live runs")]
    TimelineHasRuns {
        /// Which.
        timeline: TimelineId,
        /// How many.
        runs: i64,
    },
    /// The timeline has fewer days than the run is to start on.
    #[error("start_day {given} is past the last day {duration}")]
    StartDayPastEnd {
        /// Where the start stood in the request; none: it was alone there.
        position: Option<usize>,
        /// What was given.
        given: i32,
        /// How many days there are.
        duration: i32,
    },
    /// The customer has no stage.
    #[error("customer {0} has no stage")]
    StageMissing(CustomerId),
    /// The stage has no default timeline.
    #[error("stage {0} has no default timeline")]
    NoDefaultTimeline(Stage),
    /// A stage came in a way that may not change it.
    #[error("customer {customer} is in another stage")]
    StageHasItsOwnCall {
        /// Whose.
        customer: CustomerId,
        /// The stage that is stored.
        stored: Option<Stage>,
        /// The one that was given.
        given: Option<Stage>,
    },
    /// A customer would have more attributes than are allowed.
    #[error("the attributes with those that are stored: {invalid}")]
    AttributesInvalid {
        /// Where the customer stood in the request.
        position: usize,
        /// What they would be, and what is allowed.
        invalid: Invalid,
    },
    /// The given etag is not the current one; none: there is nothing yet.
    #[error("the etag is not the current one")]
    EtagMismatch {
        /// What was given.
        given: String,
        /// What is there.
        current: Option<i64>,
    },
    /// The stage of a timeline can't be changed.
    #[error("timeline {slug} is of stage {stored}")]
    StageFixed {
        /// Which.
        slug: Slug,
        /// Its stage.
        stored: Stage,
    },
    /// The stage has a default timeline already.
    #[error("stage {stage} has the default timeline {current}")]
    SecondDefault {
        /// Which stage.
        stage: Stage,
        /// Its default.
        current: Slug,
    },
    /// The timeline is of another stage.
    #[error("timeline {timeline} is of stage {stored}")]
    StageMismatch {
        /// Which.
        timeline: TimelineId,
        /// Its stage.
        stored: Stage,
    },
    /// Actions need content that is not there.
    #[error("actions need content that is not there")]
    ContentMissing(Vec<ContentProblem>),
    /// Actions need content that would be taken away.
    #[error("actions need content that would be taken away")]
    ContentInUse(Vec<String>),
    /// A run can't be read, or can't be planned because the service has a fault.
    #[error("run {0} can't be used")]
    Broken(ProgressId),
    /// The customer has no address for the channel.
    #[error("customer {customer} has no address for {}", .channel.as_str())]
    AddressMissing {
        /// Whose.
        customer: CustomerId,
        /// For which.
        channel: Channel,
    },
    /// There is no such suppression in force.
    #[error("there is no suppression {0}")]
    SuppressionNotFound(i64),
    /// There is no such hold in force.
    #[error("there is no hold on {0}")]
    HoldNotFound(HoldScope),
    /// A hold can't end then.
    #[error("a hold can't end at {0}")]
    HoldEnd(Timestamp),
    /// There are as many holds as there may be.
    #[error("there are too many holds")]
    TooManyHolds,
    /// Somebody else did the same at the same time.
    #[error("somebody else changed it at the same time")]
    Concurrent,
    /// It broke off, and the log says why.
    #[error("it broke off inside the server")]
    BrokeOff,
    /// The request id was used for another request.
    #[error("the request id was used for another request")]
    RequestIdReused(String),
    /// A tick of this name is running here.
    #[error("tick {0} is running")]
    TickRunning(String),
    /// This server's clock and the database's differ by more than they may.
    #[error("{0}")]
    ClockSkewed(ClockSkew),
    /// The server is about to stop.
    #[error("the server is stopping")]
    Stopping,
}
