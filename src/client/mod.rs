//! Programs that call the service: the CronJobs' client, the people's client, and the demo. They know the contract and not the inside.

mod channel;
mod check;
mod complete;
pub mod ctl;
pub mod demo;
mod erase;
mod explain;
pub mod files;
mod hold;
mod preview;
mod retry;
mod sending;
mod server;
mod simulate;
mod suppress;
pub mod tick;
mod token;
mod trace;
mod words;
