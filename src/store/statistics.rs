//! What the planner of `PostgreSQL` knows about the tables that grow.
//!
//! Plans are generic, and are kept as long as the statistics are. One that was made while a table was almost empty reads all
//! of it for every row of a batch, which is quadratic once a million customers were imported. Autovacuum ends that within
//! a minute or two; a tick must not wait for it.
//!
//! Only who owns a table may count it anew, and from `PostgreSQL` 17 on whoever was given MAINTAIN. A server that works as a role of its
//! own leaves it to autovacuum: the first ticks after a large import are slower then.

use sea_orm::{DbBackend, FromQueryResult};

use super::session::values;
use super::{Store, StoreError};

/// Tables that are joined with batches.
const TABLES: &str = "'customer_timeline_progress', 'customers', 'engagement_events'";

/// Whether this role may analyze a table of `pg_class`; without it `PostgreSQL` does nothing, and says so to nobody. Before 17 it
/// knows no MAINTAIN, and must not be asked for it.
const IS_ALLOWED: &str = "(pg_has_role(relowner, 'USAGE') \
    or exists (select from pg_database where datname = current_database() and pg_has_role(datdba, 'USAGE')) \
    or case when current_setting('server_version_num')::int >= 170000 then has_table_privilege(oid, 'MAINTAIN') else false end)";

#[derive(FromQueryResult)]
struct TableRow {
    name: String,
    is_allowed: bool,
}

impl Store {
    /// Has the tables counted anew that are more than twice as large as when they were counted last. Costs one read when none is.
    pub async fn refresh_statistics(&self) -> Result<(), StoreError> {
        let reader = self.reader();
        if reader.backend != DbBackend::Postgres {
            return Ok(());
        }
        let sql = format!(
            "select relname::text as name, {IS_ALLOWED} as is_allowed from pg_class \
             where oid in (select to_regclass(t) from unnest(array[{TABLES}]) t) \
             and pg_relation_size(oid) / current_setting('block_size')::bigint > 2 * greatest(relpages, 50)"
        );
        let grown: Vec<TableRow> = reader.rows(&sql, values![]).await?;
        for TableRow { name, is_allowed } in grown {
            if !is_allowed {
                tracing::info!(
                    table = name,
                    "{name} has grown, and autovacuum will analyze it: this role may not"
                );
                continue;
            }
            tracing::info!(table = name, "{name} has grown, and is analyzed");
            // Whoever analyzes it already does it for all.
            reader
                .execute(&format!("analyze (skip_locked) {name}"), values![])
                .await?;
        }
        Ok(())
    }
}
