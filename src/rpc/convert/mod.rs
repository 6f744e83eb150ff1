//! Between messages and domain types, one file per subject. Parsing gathers violations and never guesses: a missing message
//! or an unknown number is a violation, not a default.

mod about;
mod awaited;
pub(super) mod campaign;
pub(super) mod circuit;
pub(super) mod condition;
pub(super) mod customer;
pub(super) mod execute;
pub(super) mod execution;
pub(super) mod explain;
pub(super) mod preview;
pub(super) mod progress;
pub(super) mod sending;
pub(super) mod simulation;
pub(super) mod start;
pub(super) mod suppression;
pub(super) mod task;
pub(super) mod tick;
mod time;
pub(super) mod timeline;
