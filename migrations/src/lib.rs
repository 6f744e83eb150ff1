//! The schema, step by step. Both databases get the same tables; types and storage settings differ, so each step has its
//! statements for both, side by side in one file.
//!
//! Timestamps in `SQLite` are text as sqlx writes them, always UTC, so that comparing text compares time.

pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::prelude::*;

mod m20261123_000001_initial;

/// All steps, the oldest first.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m20261123_000001_initial::Migration)]
    }
}
