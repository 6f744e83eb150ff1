//! Programs that call the service: the CronJobs' client, the people's client, and the demo. They know the contract and not the inside.

pub mod ctl;
pub mod demo;
mod explain;
pub mod files;
mod hold;
mod simulate;
pub mod tick;
mod words;
