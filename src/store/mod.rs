//! Everything that is kept, and the only user of the database. Takes and returns domain types.
//!
//! One file per aggregate, the same functions for `SQLite` and `PostgreSQL`. Statements are written out, with `$1` as the
//! first parameter, which both understand; where one must differ, both variants stand side by side in that function.
//! Where `PostgreSQL` is distributed by Citus, `layout` knows it, and what goes to many customers goes to one shard after the other.
//! Instants and dates are computed in Rust and bound. No statement but the one in `clock` asks the database for the time, and
//! no transaction is held while something is sent.

mod advance;
mod advisory;
mod archive;
mod batch;
mod broken;
mod campaigns;
mod circuits;
mod claims;
mod clock;
mod connect;
mod customers;
mod delivery;
mod distribute;
mod due;
mod emitted;
mod engagements;
mod erasure;
mod error;
mod executions;
mod feedback;
mod fence;
mod finished;
mod holds;
mod layout;
mod link;
mod locked;
mod metadata;
mod partition;
mod places;
mod planned;
mod progress;
mod purge;
mod rates;
mod redrive;
mod reports;
mod requests;
mod row;
mod schedule;
mod schema;
mod session;
mod starts;
mod statements;
mod statistics;
mod stopped;
mod suppressions;
mod survey;
mod ticks;
mod timelines;
mod url;
mod waiting;

pub use advance::{BrokenCohort, Cohort, CohortMove, Cohorts, CustomerRange, ZoneDate};
pub use archive::HeldTimeline;
pub use broken::{BrokenRun, ReadRun};
pub use claims::{Claim, Completion, HeldLease, Landed, Unrecorded};
pub use connect::{ConnectSettings, Store};
pub use customers::{CustomerFilter, CustomerRow, ReadRecipient};
pub use delivery::KeptReport;
pub use due::{Cursor, Due, DueRuns, TimelineWake};
pub use engagements::LastEngagement;
pub use erasure::{AddressHashes, ErasedRows, KeptAnswer};
pub use error::StoreError;
pub use executions::{Execution, ExecutionFilter, ExecutionKey, ExecutionOutcome, ExecutionReason};
pub use fence::TicksAround;
pub use holds::PutOffRuns;
pub use partition::Buckets;
pub use planned::Before;
pub use progress::ProgressFilter;
pub(crate) use purge::PURGED_AT_ONCE;
pub use redrive::DeadAction;
pub use requests::{Begun, RequestKey};
pub use schedule::ScheduleTurn;
pub use session::{Reader, Txn};
pub use starts::RunOf;
pub use suppressions::SuppressionFilter;
pub use survey::Backlog;
pub use ticks::EnteredTick;
pub use timelines::{ReadTimeline, TimelineFilter};
pub use url::StoreUrl;

/// A page of a list: at most `size` rows after `after`.
#[derive(Debug, Clone)]
pub struct Page<K> {
    /// The key of the last row of the page before.
    pub after: Option<K>,
    /// How many rows at most.
    pub size: u64,
}
