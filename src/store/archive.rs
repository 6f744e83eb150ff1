//! `campaign_timelines` and `customer_timeline_progress`: ending a timeline, and its runs.

use sea_orm::{ConnectionTrait, FromQueryResult};
use std::collections::BTreeSet;

use super::advance::CustomerRange;
use super::progress::TABLE;
use super::session::{Number, Session, values};
use super::timelines::list;
use super::{StoreError, Txn};
use crate::domain::{TimelineId, Timestamp};

/// A timeline that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldTimeline {
    /// Which.
    pub id: TimelineId,
    /// Its revision, which stays.
    pub revision: i64,
    /// Whether it is archived.
    pub is_archived: bool,
}

#[derive(FromQueryResult)]
struct HeldRow {
    id: i64,
    revision: i64,
    archived: i32,
}

#[derive(FromQueryResult)]
struct StoppingRow {
    id: i64,
    status_reason: String,
}

impl<C: ConnectionTrait> Session<C> {
    /// How many live runs a timeline has.
    pub async fn live_runs_of(&self, id: TimelineId) -> Result<i64, StoreError> {
        let sql = format!(
            "select count(*) as n from {TABLE} where campaign_timeline_id = $1 and status in ('active', 'paused')"
        );
        let count: Option<Number> = self.row(&sql, values![id.0]).await?;
        Ok(count.map_or(0, |count| count.n))
    }

    /// Archived timelines that may have runs which are to be stopped still, and the reason that was given.
    pub async fn timelines_to_stop(&self) -> Result<Vec<(TimelineId, String)>, StoreError> {
        let sql = "select id, status_reason from campaign_timelines where stopping_runs order by id";
        let rows: Vec<StoppingRow> = self.rows(sql, vec![]).await?;
        Ok(rows
            .into_iter()
            .map(|row| (TimelineId(row.id), row.status_reason))
            .collect())
    }
}

impl Txn {
    /// Holds timelines as they are until the end of the transaction: whoever archives one waits for runs that are about to start, and
    /// none starts after it.
    pub async fn hold_timelines(&self, ids: &BTreeSet<TimelineId>) -> Result<Vec<HeldTimeline>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let lock = if self.layout.is_distributed() {
            for id in ids {
                self.share_number(*id).await?;
            }
            ""
        } else {
            self.pick("for share", "")
        };
        let sql = format!(
            "select id, revision, case when archived_at is null then 0 else 1 end as archived from campaign_timelines \
             where id in ({}) order by id {lock}",
            list(ids.iter().map(|id| id.0)),
        );
        let rows: Vec<HeldRow> = self.rows(&sql, vec![]).await?;
        let held = |row: HeldRow| HeldTimeline {
            id: TimelineId(row.id),
            revision: row.revision,
            is_archived: row.archived == 1,
        };
        Ok(rows.into_iter().map(held).collect())
    }

    /// Archives a timeline. `stopping_runs`: it has live runs, which are to be stopped.
    pub async fn archive_timeline(
        &self,
        id: TimelineId,
        stopping_runs: bool,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "update campaign_timelines set archived_at = $2, is_active = false, is_default = false, stopping_runs = $3, \
                   status_reason = $4, revision = revision + 1, updated_at = $2 where id = $1";
        self.execute(sql, values![id.0, now, stopping_runs, reason]).await?;
        Ok(())
    }

    /// Stops the live runs of a timeline within a range, and says how many.
    pub async fn stop_runs(
        &self,
        id: TimelineId,
        reason: &str,
        range: &CustomerRange,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.note_all_stopped(id, range).await?;
        let sql = format!(
            "update {TABLE} set status = 'stopped', status_reason = $4, next_action_at = null, ended_at = $5, updated_at = $5 \
             where customer_id > $1 and customer_id <= $2 and campaign_timeline_id = $3 and status in ('active', 'paused')"
        );
        let values = values![range.after.as_str(), range.until.as_str(), id.0, reason, now];
        self.execute(&sql, values).await
    }

    /// Notes that no run of an archived timeline is live.
    pub async fn note_stopped(&self, id: TimelineId) -> Result<(), StoreError> {
        let sql = "update campaign_timelines set stopping_runs = false where id = $1";
        self.execute(sql, values![id.0]).await?;
        Ok(())
    }
}
