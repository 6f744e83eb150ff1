//! The gRPC services: parse, call the engine, wrap. The only user of generated types and of `tonic::Status`.
//!
//! A request is parsed whole before anything is done, and all that is wrong with it is said at once. Errors of the engine
//! become statuses in one place, `error`. What has side effects beyond one transaction runs in a task of its own, so that
//! a caller who goes away leaves nothing half done.

mod content;
mod convert;
mod crowd;
mod customers;
mod deadline;
mod error;
mod orchestrator;
mod page;
mod request;
mod sending;
mod ticks;
mod timelines;
mod undecodable;
mod violations;
mod watch;

pub use content::ContentService;
pub use crowd::{too_busy, too_many_watches, too_often};
pub use customers::CustomersService;
pub use deadline::{DeadlineLayer, DeadlineSettings};
pub use orchestrator::OrchestratorService;
pub use sending::SendingHoldsService;
pub use ticks::TickService;
pub use timelines::TimelinesService;
pub use undecodable::UndecodableLayer;
pub use watch::CallsLayer;

/// The largest message that is taken or given, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
