//! Between messages and domain types, one file per subject. Parsing gathers violations and never guesses: a missing message
//! or an unknown number is a violation, not a default.

pub(super) mod campaign;
pub(super) mod condition;
pub(super) mod customer;
pub(super) mod execute;
pub(super) mod execution;
pub(super) mod explain;
pub(super) mod progress;
pub(super) mod sending;
pub(super) mod simulation;
pub(super) mod start;
pub(super) mod tick;
pub(super) mod time;
pub(super) mod timeline;
