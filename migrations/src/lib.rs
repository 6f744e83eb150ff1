//! The schema, step by step. Both databases get the same tables; types and storage settings differ, so each step has its
//! statements for both, side by side in one file.
//!
//! Servers of the version before work on the new schema while they are replaced, so a step may only add: tables, columns that
//! are nullable or have a default, indexes (on `PostgreSQL` `concurrently` where a table is large). What a version stops using, a step of the
//! version after it takes away, and notes what a program must know from then on, in the same transaction:
//!
//! ```sql
//! insert into service_metadata (key, value) values ('schema_floor', 'THE STEP OF THE VERSION THAT STOPPED USING IT')
//!     on conflict (key) do update set value = excluded.value;
//! ```
//!
//! `tests/it/upgrades` runs the statements of the version before against the schema of this one, and brings a database of it up to date.
//!
//! Timestamps in `SQLite` are text as sqlx writes them, always UTC, so that comparing text compares time.

pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::prelude::*;

pub mod distribution;
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
