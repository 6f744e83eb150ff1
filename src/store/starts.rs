//! `customer_timeline_progress`: starting many runs at once.

use sea_orm::FromQueryResult;
use std::collections::{BTreeSet, HashMap};

use super::batch::{Batch, Col};
use super::finished::skipped_text;
use super::layout::Part;
use super::progress::TABLE;
use super::timelines::list;
use super::{StoreError, Txn};
use crate::domain::{CustomerId, Origin, ProgressId, Run, Status, TimelineId};

/// A customer and a timeline, of which there is one live run at most.
pub type RunOf = (CustomerId, TimelineId);

#[derive(FromQueryResult)]
struct LastRow {
    customer_id: String,
    campaign_timeline_id: i64,
    id: i64,
    status: String,
}

#[derive(FromQueryResult)]
struct NewRow {
    customer_id: String,
    campaign_timeline_id: i64,
    id: i64,
}

impl Txn {
    /// The last runs of timelines for customers, live or ended, and where they stand; none: that can't be read. Those without
    /// one are left out.
    pub async fn last_runs_of(
        &self,
        wanted: &BTreeSet<RunOf>,
    ) -> Result<HashMap<RunOf, (ProgressId, Option<Status>)>, StoreError> {
        let customers: BTreeSet<&CustomerId> = wanted.iter().map(|(customer, _)| customer).collect();
        let timelines: BTreeSet<i64> = wanted.iter().map(|(_, timeline)| timeline.0).collect();
        let timelines = list(timelines);
        let mut rows: Vec<LastRow> = Vec::new();
        for among in self.among(customers, &[]) {
            let sql = format!(
                "select p.customer_id, p.campaign_timeline_id, p.id, p.status from {TABLE} p \
                 where {} and p.campaign_timeline_id in ({timelines})",
                among.has("p.customer_id")
            );
            rows.extend(self.rows(&sql, among.values).await?);
        }
        rows.sort_unstable_by_key(|row| row.id);
        let mut last = HashMap::new();
        for row in rows {
            let corrupt = |what: String| StoreError::corrupt(TABLE, row.id, what);
            let status = Status::ALL.into_iter().find(|known| known.as_str() == row.status);
            let customer = CustomerId::parse(&row.customer_id).map_err(|error| corrupt(error.to_string()))?;
            let run = (customer, TimelineId(row.campaign_timeline_id));
            if wanted.contains(&run) {
                last.insert(run, (ProgressId(row.id), status));
            }
        }
        Ok(last)
    }

    /// Stores new runs, each of another customer or timeline, and says their ids in the same order. Their customers are locked, so what
    /// [`Self::last_runs_of`] said of them still holds. [`StoreError::Duplicate`] where one has a live run of the timeline
    /// all the same, and then this transaction can do no more: ON CONFLICT would take `PostgreSQL` a third longer.
    pub async fn insert_runs(&self, runs: &[&Run]) -> Result<Vec<ProgressId>, StoreError> {
        let mut batch = Batch::new(&[
            ("customer_id", Col::Text),
            ("campaign_timeline_id", Col::BigInt),
            ("stage_visit", Col::BigInt),
            ("next_action_at", Col::Time),
            ("not_before", Col::Time),
            ("day_started_at", Col::Time),
            ("started_at", Col::Time),
            ("updated_at", Col::Time),
            ("bucket", Col::Int),
            ("current_day", Col::Int),
            ("day_date", Col::Date),
            ("zone_is_default", Col::Int),
            ("origin", Col::Text),
            ("status", Col::Text),
            ("status_reason", Col::Text),
            ("time_zone", Col::Text),
            ("skipped_actions", Col::Text),
            ("trace_parent", Col::Text),
        ]);
        for run in runs {
            let (origin, visit) = match run.origin {
                Origin::Started => ("started", None),
                Origin::Assigned { visit } => ("assigned", Some(visit)),
            };
            batch.push([
                run.customer_id.as_str().into(),
                run.timeline_id.0.into(),
                visit.into(),
                run.next_action_at.into(),
                run.not_before.into(),
                run.day_started_at.into(),
                run.started_at.into(),
                run.started_at.into(),
                run.customer_id.bucket().into(),
                run.current_day.into(),
                run.day_date.into(),
                i32::from(run.zone.is_default).into(),
                origin.into(),
                run.status.as_str().into(),
                run.status_reason.as_str().into(),
                run.zone.tz.name().into(),
                skipped_text(&run.skipped).into(),
                run.trace_parent
                    .as_ref()
                    .map(|parent| parent.as_str().to_owned())
                    .into(),
            ]);
        }
        let mut rows: Vec<NewRow> = Vec::new();
        for Part { table, values, .. } in self.parts(batch, &[]) {
            let sql = format!(
                "insert into {TABLE} (customer_id, campaign_timeline_id, stage_visit, next_action_at, not_before, day_started_at, started_at, \
             updated_at, bucket, current_day, day_date, zone_is_default, origin, status, status_reason, time_zone, skipped_actions, \
             trace_parent) \
             select u.customer_id, u.campaign_timeline_id, u.stage_visit, u.next_action_at, u.not_before, u.day_started_at, u.started_at, \
             u.updated_at, u.bucket, u.current_day, u.day_date, u.zone_is_default = 1, u.origin, u.status, u.status_reason, \
             u.time_zone, u.skipped_actions, u.trace_parent from {table} returning id, customer_id, campaign_timeline_id"
            );
            rows.extend(self.rows(&sql, values).await?);
        }
        let ids: HashMap<(&str, i64), i64> = rows
            .iter()
            .map(|row| ((row.customer_id.as_str(), row.campaign_timeline_id), row.id))
            .collect();
        self.note_zones(runs.iter().map(|run| run.zone.tz)).await?;
        let id = |run: &&Run| {
            let id = ids.get(&(run.customer_id.as_str(), run.timeline_id.0));
            id.copied()
                .map(ProgressId)
                .ok_or_else(|| StoreError::corrupt(TABLE, "of a new run", "it was not stored".to_owned()))
        };
        runs.iter().map(id).collect()
    }
}
