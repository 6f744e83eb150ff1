//! How the tables of customers lie: on one node, or cut into shards by Citus, all in the same way.
//!
//! On Citus a statement that touches one shard is sent there as it is, and its transaction ends there. One that touches many is cut
//! into tasks, each with all of its parameters, and takes no lock on rows. So what travels for many customers is cut by shard
//! here, and each part says in plain words which customers it is about: Citus sees in a list of ids where they are, and not in
//! a join.

use sea_orm::sea_query::ArrayType;
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::StoreError;
use super::batch::Batch;
use super::session::{Number, Session};
use crate::domain::{CustomerId, hashtext};

/// How the tables of customers lie. Read once, when the store connects: servers are restarted after the tables were distributed, and
/// after shards were split.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Layout {
    /// On one node.
    #[default]
    OneNode,
    /// In shards: the lowest hash of each, in ascending order.
    Shards(Arc<[i32]>),
}

impl Layout {
    pub(super) fn is_distributed(&self) -> bool {
        *self != Self::OneNode
    }

    /// In which shard a customer's rows are.
    pub(super) fn shard(&self, customer: &str) -> usize {
        match self {
            Self::OneNode => 0,
            Self::Shards(first) => first.partition_point(|first| *first <= hashtext(customer)),
        }
    }
}

/// Rows of customers as the table `u`, those of one shard.
#[derive(Debug)]
pub(super) struct Part {
    /// The table.
    pub(super) table: String,
    /// All parameters of the statement.
    pub(super) values: Vec<Value>,
    /// Which parameter has the customers' ids, where a database wants to be told of whom a statement is.
    ids: Option<usize>,
}

impl Part {
    /// Says whose rows of a table these are: SQL that begins with `and`, or nothing.
    pub(super) fn only(&self, customer_id: &str) -> String {
        self.ids
            .map_or_else(String::new, |ids| format!("and {customer_id} = any(${ids}::text[])"))
    }
}

/// Customers of one shard, as a parameter.
#[derive(Debug)]
pub(super) struct Among {
    /// All parameters of the statement.
    pub(super) values: Vec<Value>,
    backend: DbBackend,
    /// Which parameter has their ids.
    ids: usize,
}

impl Among {
    /// Says that a row is one of theirs. So it is found by their ids, whatever the database thinks of the size of the table.
    pub(super) fn has(&self, customer_id: &str) -> String {
        let ids = self.ids;
        if self.backend == DbBackend::Postgres {
            format!("{customer_id} = any(${ids}::text[])")
        } else {
            format!("{customer_id} in (select value from json_each(${ids}))")
        }
    }
}

/// Ids as one value.
fn ids_value<'a>(ids: impl Iterator<Item = &'a str>, backend: DbBackend) -> Value {
    if backend == DbBackend::Postgres {
        Value::Array(ArrayType::String, Some(Box::new(ids.map(Value::from).collect())))
    } else {
        ids.collect::<serde_json::Value>().to_string().into()
    }
}

#[derive(FromQueryResult)]
struct ShardRow {
    first: i32,
}

impl<C: ConnectionTrait> Session<C> {
    /// How the tables lie now.
    pub(super) async fn read_layout(&self) -> Result<Layout, StoreError> {
        if self.backend != DbBackend::Postgres {
            return Ok(Layout::OneNode);
        }
        let has_citus = "select 1::bigint as n where to_regclass('pg_dist_shard') is not null";
        if self.row::<Number>(has_citus, vec![]).await?.is_none() {
            return Ok(Layout::OneNode);
        }
        let sql = "select shardminvalue::int as first from pg_dist_shard \
                   where logicalrelid = to_regclass('customers') order by first";
        let rows: Vec<ShardRow> = self.rows(sql, vec![]).await?;
        Ok(if rows.is_empty() {
            Layout::OneNode
        } else {
            Layout::Shards(rows.into_iter().map(|row| row.first).collect())
        })
    }

    /// Rows whose first column is the customer's id, cut by shard; none where there are none. `before`: the parameters before theirs.
    pub(super) fn parts(&self, batch: Batch<'_>, before: &[Value]) -> Vec<Part> {
        let shards = if batch.is_empty() {
            Vec::new()
        } else if self.layout.is_distributed() {
            batch.cut(|customer| self.layout.shard(customer))
        } else {
            vec![batch]
        };
        let first = before.len() + 1;
        let part = |batch: Batch<'_>| {
            // Citus prunes by an array alone that is one as it comes.
            let ids = (self.layout.is_distributed()).then(|| ids_value(batch.keys(), self.backend));
            let (table, values) = batch.bind(self.backend, first);
            let values: Vec<Value> = before.iter().cloned().chain(values).chain(ids).collect();
            let ids = (self.layout.is_distributed()).then_some(values.len());
            Part { table, values, ids }
        };
        shards.into_iter().map(part).collect()
    }

    /// Customers, cut by shard; none where there are none. `before`: the parameters before their ids.
    pub(super) fn among<'a>(&self, ids: impl IntoIterator<Item = &'a CustomerId>, before: &[Value]) -> Vec<Among> {
        let mut shards: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for id in ids {
            shards
                .entry(self.layout.shard(id.as_str()))
                .or_default()
                .push(id.as_str());
        }
        let among = |ids: Vec<&str>| Among {
            values: before
                .iter()
                .cloned()
                .chain([ids_value(ids.into_iter(), self.backend)])
                .collect(),
            backend: self.backend,
            ids: before.len() + 1,
        };
        shards.into_values().map(among).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customers_are_where_citus_looks_for_them() {
        assert_eq!(Layout::OneNode.shard("anna"), 0);
        // As pg_dist_shard has it with four shards.
        let layout = Layout::Shards([i32::MIN, -1_073_741_824, 0, 1_073_741_824].into());
        // What hashtext says of them: -785388649, 1075015857, -1586087212.
        for (customer, shard) in [("abc", 2), ("a", 4), ("abcdefghijkl", 1)] {
            assert_eq!(layout.shard(customer), shard, "{customer}");
        }
    }
}
