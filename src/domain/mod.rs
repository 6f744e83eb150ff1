//! What the service is about: timelines, customers, runs, and the rules. Pure: no async, no I/O, no clock, no database,
//! no wire types. Every function that needs the time is given it.

mod awaited;
mod campaign;
mod channel;
mod circuit;
pub mod condition;
mod customer;
mod delivery;
pub mod explain;
mod feedback;
pub mod fence;
mod hold;
mod ids;
mod keyword;
mod mail_headers;
mod outcome;
pub mod plan;
mod progress;
mod quiet_hours;
mod rate;
mod recipient;
mod retry;
pub mod schedule;
mod segments;
pub mod simulate;
mod suppression;
mod task;
pub mod text;
mod text_hash;
mod tick;
mod timeline;
mod trace_parent;
mod zone;

pub use awaited::{AfterTimeout, AwaitedEvent};
pub use campaign::{Campaign, CampaignKind, Tracking};
pub use channel::{ActionType, Channel, DeliveryPolicy};
pub use circuit::{ChannelHealth, ChannelStop, Circuit, CircuitCause, CircuitPolicy, CircuitState};
pub use condition::{Asked, Condition, EngagementQuery, Reach, Test, Then};
pub use customer::{Customer, Engagement, EngagementKind, Zone, check_attributes};
pub use delivery::{AttemptKey, DeliveryReport, ProviderState, ProviderStatus, Told};
pub use feedback::{FeedbackKind, MailRefusal, MailStatus, bounced_too_often, soft_bounce_window};
pub use hold::{
    HOLD_PROBE, HoldScope, LONGEST_HOLD, MOST_HOLDS, RELEASE_WINDOW, Releases, SendingHold, SendingHolds, released,
};
pub use ids::{ActionId, BUCKETS, CampaignId, CustomerId, ProgressId, TickRunId, TimelineId, token};
pub use keyword::Keyword;
pub use mail_headers::MailHeaders;
pub use outcome::{
    Attempted, DeferReason, Deferred, Failed, FailureReason, FailureState, InFlight, SkipReason, Skipped,
};
pub use plan::{Decision, Destination, Facts, Moves, Plan, Verdict};
pub use progress::{FirstDay, Lease, NotReported, NotRetried, Origin, Reported, Run, Status, TaskEntry, WrongStatus};
pub use quiet_hours::{CustomerHours, Hours, Opening, SendingHours, Whereabouts};
pub use rate::{Bucket, Rate, RateLimits};
pub use recipient::NumberRefusal;
pub use retry::RetryPolicy;
pub use schedule::Timestamp;
pub use segments::{MOST_SEGMENTS, SmsEncoding, SmsLength};
pub use suppression::{Address, NewSuppression, Suppressed, Suppression, SuppressionReason, SuppressionScope};
pub use task::{Completion, DEFAULT_COMPLETION, TaskOutcome, TaskReport};
pub use text::{EmailAddress, Invalid, PhoneNumber, Slug, Stage};
pub use text_hash::hashtext;
pub use tick::{ChannelCounts, TickCounts, TickKind, TickRun, TickState, TickSummary};
pub use timeline::{
    Action, ActionDefinition, Changes, MAX_ACTIONS, MAX_DURATION_DAYS, Position, Timeline, TimelineDefinition,
    WhenMissed,
};
pub use trace_parent::TraceParent;
pub use zone::parse_zone;
