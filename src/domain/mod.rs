//! What the service is about: timelines, customers, runs, and the rules. Pure: no async, no I/O, no clock, no database,
//! no wire types. Every function that needs the time is given it.

mod campaign;
mod channel;
pub mod condition;
mod customer;
pub mod explain;
pub mod fence;
mod hold;
mod ids;
mod outcome;
pub mod plan;
mod progress;
mod retry;
pub mod schedule;
pub mod simulate;
pub mod text;
mod tick;
mod timeline;
mod zone;

pub use campaign::Campaign;
pub use channel::{ActionType, Channel, DeliveryPolicy};
pub use condition::{Asked, Condition, EngagementQuery, Test, Then};
pub use customer::{Customer, Engagement, EngagementKind, Zone, check_attributes};
pub use hold::{HOLD_PROBE, HoldScope, LONGEST_HOLD, MOST_HOLDS, RELEASE_WINDOW, SendingHold, SendingHolds, released};
pub use ids::{ActionId, BUCKETS, CampaignId, CustomerId, ProgressId, TickRunId, TimelineId, token};
pub use outcome::{
    Attempted, DeferReason, Deferred, Failed, FailureReason, FailureState, InFlight, SkipReason, Skipped,
};
pub use plan::{Decision, Destination, Facts, Moves, Plan, Verdict};
pub use progress::{FirstDay, Lease, NotRetried, Origin, Run, Status, WrongStatus};
pub use retry::RetryPolicy;
pub use schedule::Timestamp;
pub use text::{EmailAddress, Invalid, PhoneNumber, Slug, Stage};
pub use tick::{ChannelCounts, TickCounts, TickKind, TickRun, TickState, TickSummary};
pub use timeline::{
    Action, ActionDefinition, Changes, MAX_ACTIONS, MAX_DURATION_DAYS, Position, Timeline, TimelineDefinition,
    WhenMissed,
};
pub use zone::parse_zone;
