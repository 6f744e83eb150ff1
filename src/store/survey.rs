//! What the database knows about the work as a whole: for metrics, and for whoever asks whether the ticks come.
//!
//! Cheap whatever is stored: of each active timeline it walks the due index over at most [`MOST_COUNTED`] entries.

use sea_orm::{ConnectionTrait, FromQueryResult};

use super::progress::TABLE;
use super::session::{Number, Session, values};
use super::ticks::PARTS;
use super::{Buckets, StoreError};
use crate::domain::{TickKind, Timestamp};

/// The most runs of a timeline that are counted.
const MOST_COUNTED: u32 = 10_001;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// How many runs, as far as they are counted.
    pub due: u64,
    /// Since when the one is due that waits the longest.
    pub oldest: Option<Timestamp>,
}

#[derive(FromQueryResult)]
struct BacklogRow {
    due: i64,
    oldest: Option<Timestamp>,
}

#[derive(FromQueryResult)]
struct PartRow {
    bucket_begin: i32,
    bucket_end: i32,
    finished_at: Timestamp,
}

impl<C: ConnectionTrait> Session<C> {
    /// The runs of active timelines that are due and that nobody holds.
    pub async fn backlog(&self, now: Timestamp) -> Result<Backlog, StoreError> {
        let due = "p.campaign_timeline_id = t.id and p.status = 'active' and p.next_action_at > $1 and p.next_action_at <= $2 \
             and (p.lease_expires_at is null or p.lease_expires_at <= $2)";
        let sql = format!(
            "select cast(coalesce(sum(due), 0) as bigint) as due, min(oldest) as oldest from (select \
             (select count(*) from (select 1 from {TABLE} p where {due} limit {MOST_COUNTED}) as counted) as due, \
             (select p.next_action_at from {TABLE} p where {due} order by p.next_action_at limit 1) as oldest \
             from campaign_timelines t where t.is_active) as timelines"
        );
        let sql = if self.layout.is_distributed() {
            // Citus looks into shards for all of these at once, and counts them all.
            format!(
                "select count(*) as due, min(p.next_action_at) as oldest from {TABLE} p join campaign_timelines t on {due} \
                 where t.is_active"
            )
        } else {
            sql
        };
        let row: Option<BacklogRow> = self.row(&sql, values![Timestamp::UNIX_EPOCH, now]).await?;
        Ok(Backlog {
            due: row.as_ref().map_or(0, |row| u64::try_from(row.due).unwrap_or_default()),
            oldest: row.and_then(|row| row.oldest),
        })
    }

    /// Since when ticks of a kind have gone over all customers: one alone, or those of parts together, and then by the oldest of them.
    pub async fn last_whole_tick(&self, kind: TickKind) -> Result<Option<Timestamp>, StoreError> {
        let sql = format!("select bucket_begin, bucket_end, finished_at from {PARTS} where kind = $1");
        let rows: Vec<PartRow> = self.rows(&sql, values![kind.as_str()]).await?;
        let parts = rows
            .iter()
            .map(|row| (Buckets::between(row.bucket_begin, row.bucket_end), row.finished_at));
        Ok(Buckets::all_since(parts.collect()))
    }

    /// How many holds are in force.
    pub async fn count_holds(&self, now: Timestamp) -> Result<u64, StoreError> {
        let sql = "select count(*) as n from sending_holds where end_at is null or end_at > $1";
        let row: Option<Number> = self.row(sql, values![now]).await?;
        Ok(row.map_or(0, |row| u64::try_from(row.n).unwrap_or_default()))
    }
}
