//! Distributing the tables with Citus: each is brought to the place that it has in `migrations`.

use migrations::distribution::{INDEX, TABLES, statement};
use sea_orm::{ConnectionTrait as _, DbBackend, FromQueryResult};
use std::collections::BTreeSet;

use super::schema::MIGRATION_LOCK;
use super::session::values;
use super::{Reader, Store, StoreError, Txn};

/// The oldest version of Citus by which the statements of the service were run.
const OLDEST: i32 = 13;

/// What a cluster must be like.
#[derive(FromQueryResult)]
struct Cluster {
    version: String,
    is_coordinator: bool,
    nodes: i64,
    replicas: i32,
}

#[derive(FromQueryResult)]
struct Name {
    name: String,
}

impl Store {
    /// Refuses a database that can't be distributed, and says what to do.
    pub async fn check_cluster(&self) -> Result<(), StoreError> {
        if self.backend != DbBackend::Postgres {
            return Err(refused(
                "the embedded database is one file: only PostgreSQL with Citus can be distributed",
            ));
        }
        self.reader().check_cluster().await
    }

    /// Brings the tables to their places in the cluster, with all that is in them, and says how many were moved. The schema must be up to date.
    /// Whoever uses the database waits meanwhile, and must connect anew afterwards.
    pub async fn distribute(&self) -> Result<usize, StoreError> {
        self.check_cluster().await?;
        let txn = self.begin().await?;
        let lock = format!("select pg_advisory_xact_lock({MIGRATION_LOCK})");
        self.run(&txn, &lock).await?;
        let sql = "select logicalrelid::regclass::text as name from pg_catalog.pg_dist_partition";
        let names: Vec<Name> = txn.rows(sql, values![]).await?;
        let placed: BTreeSet<String> = names.into_iter().map(|row| row.name).collect();
        // A table that refers to another may only be moved by one connection to each node.
        self.run(&txn, "set local citus.multi_shard_modify_mode to 'sequential'")
            .await?;
        // Moving what is there takes as long as it takes.
        self.run(&txn, "set local statement_timeout to 0").await?;
        let mut moved = Vec::new();
        for (table, place) in TABLES {
            if let Some(statement) = statement(table, place).filter(|_| !placed.contains(table)) {
                self.run(&txn, &statement).await?;
                moved.push(table);
            }
        }
        // Their rows are where they belong now, and were left here besides. A table goes with those that refer to it, so this comes last.
        for table in &moved {
            let rest = format!("select truncate_local_data_after_distributing_table('{table}')");
            self.run(&txn, &rest).await?;
        }
        self.run(&txn, INDEX).await?;
        txn.commit().await?;
        Ok(moved.len())
    }

    /// Runs a statement of ours that may take long, and is not given up by this side either.
    async fn run(&self, txn: &Txn, sql: &str) -> Result<(), StoreError> {
        let done = txn.conn.execute_unprepared(sql).await;
        done.map(|_| ()).map_err(|error| self.failed(error))
    }
}

impl Reader {
    async fn check_cluster(&self) -> Result<(), StoreError> {
        let sql = "select extname::text as name from pg_extension where extname = 'citus'";
        let extension: Option<Name> = self.row(sql, values![]).await?;
        if extension.is_none() {
            return Err(refused(
                "this database has no Citus: on each node install it, name it in shared_preload_libraries, and in a database of this name run \
                 `CREATE EXTENSION citus` as a superuser; then, on the coordinator, citus_set_coordinator_host and citus_add_node for each worker",
            ));
        }
        let sql = "select (select extversion from pg_extension where extname = 'citus') as version, citus_is_coordinator() as is_coordinator, \
                   (select count(*) from pg_catalog.pg_dist_node where isactive and shouldhaveshards) as nodes, \
                   current_setting('citus.shard_replication_factor')::int as replicas";
        let cluster: Option<Cluster> = self.row(sql, values![]).await?;
        cluster
            .as_ref()
            .map_or_else(|| Err(refused("Citus says nothing of itself")), Cluster::check)
    }
}

impl Cluster {
    fn check(&self) -> Result<(), StoreError> {
        let major = self
            .version
            .split(['.', '-'])
            .next()
            .and_then(|major| major.parse::<i32>().ok());
        if major.is_none_or(|major| major < OLDEST) {
            return Err(refused(format!(
                "Citus {} is too old: the service's statements need {OLDEST} or later",
                self.version
            )));
        }
        if !self.is_coordinator {
            return Err(refused(
                "this is a worker of the cluster: give the URL of its coordinator",
            ));
        }
        if self.nodes == 0 {
            return Err(refused(
                "no node of the cluster takes shards: on the coordinator, as a superuser, `SELECT citus_add_node('HOST', 5432)` for each worker",
            ));
        }
        if self.replicas != 1 {
            return Err(refused(format!(
                "citus.shard_replication_factor is {}, and Citus locks no rows of shards that it keeps more than once: set it to 1, and \
                 replicate whole nodes",
                self.replicas
            )));
        }
        Ok(())
    }
}

fn refused(why: impl Into<String>) -> StoreError {
    StoreError::Schema(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut Cluster), expected: Option<&str>) {
        let mut cluster = Cluster {
            version: "13.2-1".to_owned(),
            is_coordinator: true,
            nodes: 2,
            replicas: 1,
        };
        change(&mut cluster);
        let refusal = cluster.check().err().map(|error| error.to_string());
        assert_eq!(refusal.is_some(), expected.is_some(), "{refusal:?}");
        assert!(refusal.unwrap_or_default().contains(expected.unwrap_or_default()));
    }

    #[test]
    fn a_cluster_that_can_not_hold_the_tables_is_told_why() {
        check(|_| {}, None);
        check(|cluster| cluster.version = "14.0-1".to_owned(), None);
        check(
            |cluster| cluster.version = "12.1-1".to_owned(),
            Some("12.1-1 is too old"),
        );
        check(|cluster| cluster.is_coordinator = false, Some("its coordinator"));
        check(|cluster| cluster.nodes = 0, Some("citus_add_node"));
        check(|cluster| cluster.replicas = 2, Some("shard_replication_factor is 2"));
    }
}
