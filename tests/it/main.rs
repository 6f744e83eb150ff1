//! The service as its callers see it: the real server on a free port, generated clients, a real database.

#![expect(
    clippy::assigning_clones,
    clippy::duration_suboptimal_units,
    clippy::too_many_lines,
    clippy::unnecessary_wraps,
    reason = "tables of cases are long and plain, and all of a table have one form"
)]
#![expect(
    clippy::disallowed_types,
    reason = "tests look into the database by statements of their own"
)]
#[cfg(not(feature = "test-support"))]
compile_error!("the tests kill servers at failpoints, which is in no release: cargo test --features test-support");

mod archive;
mod auth;
mod authorities;
mod broken;
mod channels;
mod circuits;
mod citus;
mod clocks;
mod conditions;
mod content;
mod contract;
mod customers;
mod delivery;
mod demo;
mod engagements;
mod erasure;
mod execute;
mod executions;
mod explain;
mod failures;
mod feedback;
mod fence;
mod field_failures;
mod gates;
mod growth;
mod holds;
mod interactions;
mod kills;
mod late;
mod layers;
mod main_job;
mod model;
mod moves;
mod parsers;
mod port;
mod preview;
mod programs;
mod progress;
mod providers;
mod purge;
mod quiet_hours;
mod rates;
mod requests;
mod rest;
mod retries;
mod roles;
mod runs;
mod runs_hold;
mod scale;
mod schedule;
mod segments;
mod signals;
mod simulate;
mod sqlite;
mod stages;
mod standby;
mod starts;
mod store;
mod support;
mod suppressions;
mod terminal;
mod test_customers;
mod tick;
mod timelines;
mod timelines_live;
mod timelines_refused;
mod together;
mod upgrades;
mod waits;
mod watched;
mod zones;
