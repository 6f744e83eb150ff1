//! Walks customers through multi-day campaign timelines, over gRPC and REST.
//!
//! A customer runs through a timeline, day by day in the customer's own time zone; actions of a day are sent at their hour.
//! CRM services start runs and show them; two ticks, called by CronJobs, advance days and execute what is due.
//!
//! What is where, and who knows whom (an arrow reads "knows"; `tests/it/layers.rs` holds it):
//!
//! ```text
//! bin ─> client ─> proto          (the demo also starts a server)
//!  └───> server ─> rpc ─> engine ─> store ────┐
//!          ├───> web ──────┘  └───> channels ─┼─> domain      (store and channels don't know each other)
//!          ├───> rest ─> proto
//!          └─> config, auth
//!
//! Whatever has something to count or to trace, all but domain, knows telemetry, which knows the words of domain alone.
//! ```
//!
//! - [`domain`]: the rules, pure. [`domain::plan`] alone decides what is sent, skipped or put off, and when a day is over;
//!   [`domain::explain`] and [`domain::simulate`] ask it, so they can't disagree with what happens.
//! - [`store`]: the database, `SQLite` or `PostgreSQL`, one file per table. Nobody else knows SQL.
//! - [`channels`]: the ways out, one file each.
//! - [`engine`]: carries out what the rules say: claims, sends, records; starts and moves runs; the two ticks.
//! - [`rpc`]: the gRPC services of `proto/`: parse, call the engine, wrap. Nobody else knows statuses.
//! - [`rest`]: the same methods as JSON over HTTP, by the options in `proto/`: a layer in front of [`rpc`] that knows none of them.
//! - [`web`]: what people and providers reach by HTTP on the same port: links of mails, and what became of messages.
//! - [`server`], [`config`]: a process of it. [`telemetry`]: its log, metrics and traces. [`client`]: programs that call one.
//! - [`auth`]: who calls, and what he may: a layer in front of [`rpc`] that knows the names of its methods.
//! - [`keys`]: what follows from the deployment's secret. [`reload`]: files that are read again when they change.
//! - [`signals`]: what ends a program before it is done.
//! - [`failpoint`]: where tests end a process. Nothing in a release.
//!
//! What never happens:
//!
//! - Nothing is sent that was not committed as claimed before; no transaction is open while something is sent.
//! - `domain` does no I/O and never asks for the time. Only [`clock`] knows what time it is, only [`random`] is random.
//! - No claim commits that does not know of a suppression of its recipient, and no SMS or call begins in the quiet hours there.
//! - A server whose clock differs from the database's claims nothing.
//! - An SMS or a call whose outcome is not known is not sent again. A mail goes again with the same Message-ID.
//! - A tick keeps no state: it may run twice, overlap, come late or never, and the next one does the rest.
//! - No request stores half of what it asks for, and no bad one stores anything.

#[cfg(all(feature = "test-support", not(debug_assertions)))]
compile_error!("test-support is for tests, and never in a release");

pub mod auth;
pub mod channels;
pub mod client;
pub mod clock;
pub mod config;
pub mod domain;
pub mod engine;
pub mod failpoint;
pub mod keys;
pub mod proto;
pub mod random;
pub mod reload;
pub mod rest;
pub mod rpc;
pub mod server;
pub mod signals;
pub mod store;
pub mod telemetry;
pub mod web;
