//! `send_rates`: the tokens of rates that all servers share. A row per key that was used since the daily tick.

use sea_orm::FromQueryResult;
use std::collections::BTreeMap;

use super::batch::{Batch, Col};
use super::session::{Reader, values};
use super::{StoreError, Txn};
use crate::domain::{Bucket, Timestamp};

const TABLE: &str = "send_rates";

const BUCKETS: &[(&str, Col)] = &[
    ("rate_key", Col::Text),
    ("full_at", Col::Time),
    ("queued_until", Col::Time),
];

#[derive(FromQueryResult)]
struct Row {
    rate_key: String,
    full_at: Timestamp,
    queued_until: Timestamp,
}

#[derive(FromQueryResult)]
struct LastRow {
    queued_until: Option<Timestamp>,
}

impl Reader {
    /// Up to when tokens are spoken for.
    pub async fn queued_until(&self) -> Result<Option<Timestamp>, StoreError> {
        let sql = format!("select max(queued_until) as queued_until from {TABLE}");
        let row: Option<LastRow> = self.row(&sql, vec![]).await?;
        Ok(row.and_then(|row| row.queued_until))
    }
}

impl Txn {
    /// The buckets of these keys, locked until the end of the transaction; new ones are full.
    pub async fn lock_buckets(
        &self,
        keys: impl Iterator<Item = &String>,
        now: Timestamp,
    ) -> Result<BTreeMap<String, Bucket>, StoreError> {
        let mut batch = Batch::new(BUCKETS);
        for key in keys {
            batch.push([key.as_str().into(), now.into(), now.into()]);
        }
        let (table, values) = batch.bind(self.backend, 1);
        // In one order for all, so that two of them can't wait for each other.
        let sql = format!(
            "insert into {TABLE} (rate_key, full_at, queued_until) select u.rate_key, u.full_at, u.queued_until from {table} where true \
             order by u.rate_key on conflict (rate_key) do update set rate_key = excluded.rate_key \
             returning rate_key, full_at, queued_until"
        );
        let rows: Vec<Row> = self.rows(&sql, values).await?;
        let bucket = |row: Row| {
            let bucket = Bucket {
                full_at: row.full_at,
                queued_until: row.queued_until,
            };
            (row.rate_key, bucket)
        };
        Ok(rows.into_iter().map(bucket).collect())
    }

    /// Stores buckets that are locked.
    pub async fn put_buckets(&self, buckets: impl Iterator<Item = (&String, Bucket)>) -> Result<(), StoreError> {
        let mut batch = Batch::new(BUCKETS);
        for (key, bucket) in buckets {
            batch.push([key.as_str().into(), bucket.full_at.into(), bucket.queued_until.into()]);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let (table, values) = batch.bind(self.backend, 1);
        let sql = format!(
            "update {TABLE} as r set full_at = u.full_at, queued_until = u.queued_until from {table} where r.rate_key = u.rate_key"
        );
        self.execute(&sql, values).await?;
        Ok(())
    }

    /// Forgets buckets that are full, of domains above all.
    pub async fn purge_buckets(&self, now: Timestamp) -> Result<(), StoreError> {
        let sql = format!("delete from {TABLE} where full_at <= $1 and queued_until <= $1");
        self.execute(&sql, values![now]).await?;
        Ok(())
    }
}
