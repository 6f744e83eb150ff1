//! Programs that call the service: what reads files for it, and the demo. They know the contract and not the inside.

pub mod demo;
pub mod files;
pub mod tick;
