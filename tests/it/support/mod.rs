//! What the integration tests stand on.

pub(crate) mod app;
pub(crate) mod calls;
pub(crate) mod canaries;
pub(crate) mod certificates;
mod database;
pub(crate) mod given;
pub(crate) mod holds;
pub(crate) mod http;
pub(crate) mod jwt;
pub(crate) mod mailing;
pub(crate) mod mutate;
pub(crate) mod process;
pub(crate) mod raw;
mod rows;
pub(crate) mod skewed;
pub(crate) mod smtp;
pub(crate) mod story;
pub(crate) mod tls;
mod watched;

pub(crate) use app::{App, Stopped};
pub(crate) use database::{Backend, TestDatabase, is_citus, on_each_database, postgres_url};
pub(crate) use rows::Rows;
pub(crate) use watched::Watched;
