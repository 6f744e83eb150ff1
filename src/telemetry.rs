//! How a process is watched: its log, metrics, and traces. The only user of OpenTelemetry and of subscribers.
//!
//! It knows nothing of what it counts: others hand it numbers and words of their own enums. What must not get in: anything that
//! a customer can be known by, and anything that grows with them. Labels are few and known beforehand.

mod http;
mod instruments;
mod log;
mod meter;
mod metrics;
mod otlp;
mod program;
mod trace;

pub use http::{CallSpan, RouteTemplate, client_headers, client_span};
pub use log::{Format, Installed, Log, install};
pub use meter::Metering;
pub use metrics::{Connections, Metrics, NoConnection, Refusal, Survey, TickResult};
pub use otlp::{Otlp, OtlpEndpoint, TraceRatio};
pub use program::ProgramTrace;
pub use trace::{RunStep, current, run_step};
