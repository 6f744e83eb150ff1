//! `campaign_timelines` and `campaign_timeline_actions`.

mod rows;

use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

use super::batch::{Batch, Cell, Col};
use super::session::{Number, Session, values};
use super::{Page, StoreError, Txn};
use crate::domain::{
    Action, ActionDefinition, CampaignId, Slug, Stage, Timeline, TimelineDefinition, TimelineId, Timestamp, condition,
};
use rows::{ACTION_COLUMNS, ActionRow, COLUMNS, TimelineRow};

const TABLE: &str = "campaign_timelines";

/// Which timelines to list.
#[derive(Debug, Clone, Default)]
pub struct TimelineFilter {
    /// Only of this stage.
    pub pipeline_stage: Option<Stage>,
    /// Only active ones.
    pub active_only: bool,
    /// Archived ones, too.
    pub show_archived: bool,
}

#[derive(FromQueryResult)]
struct ReplanRow {
    id: i64,
    revision: i64,
    replan_days: serde_json::Value,
}

/// A timeline, or which one can't be read and why.
pub type ReadTimeline = Result<Timeline, (TimelineId, StoreError)>;

impl<C: ConnectionTrait> Session<C> {
    /// A timeline.
    pub async fn timeline(&self, id: TimelineId) -> Result<Option<Timeline>, StoreError> {
        self.one_timeline("id = $1", "", values![id.0]).await
    }

    /// A timeline by its slug.
    pub async fn timeline_by_slug(&self, slug: &Slug) -> Result<Option<Timeline>, StoreError> {
        self.one_timeline("slug = $1", "", values![slug.as_str()]).await
    }

    /// The default timeline of a stage.
    pub async fn default_timeline(&self, stage: &Stage) -> Result<Option<Timeline>, StoreError> {
        self.one_timeline("pipeline_stage = $1 and is_default", "", values![stage.as_str()])
            .await
    }

    /// Several timelines, in no order. Ids without one are left out.
    pub async fn timelines_by_id(&self, ids: &[TimelineId]) -> Result<Vec<Timeline>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let condition = format!("id in ({})", list(ids.iter().map(|id| id.0)));
        let rows = self
            .rows(&format!("select {COLUMNS} from {TABLE} where {condition}"), vec![])
            .await?;
        self.with_actions(rows).await
    }

    /// Several timelines as [`Self::timelines_by_id`] finds them, each on its own, so that one that can't be read takes no other
    /// with it.
    pub async fn read_timelines(&self, ids: &[TimelineId]) -> Result<Vec<ReadTimeline>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids = list(ids.iter().map(|id| id.0));
        let sql = format!("select {COLUMNS} from {TABLE} where id in ({ids})");
        let rows = self.rows(&sql, vec![]).await?;
        self.each_with_actions(rows).await
    }

    /// A page of timelines, by slug.
    pub async fn timelines(&self, filter: &TimelineFilter, page: &Page<String>) -> Result<Vec<Timeline>, StoreError> {
        let stage = filter.pipeline_stage.as_ref().map(|stage| stage.as_str().to_owned());
        let sql = format!(
            "select {COLUMNS} from {TABLE} where slug > $1 and ($2 = '' or pipeline_stage = $2) and (not $3 or is_active) \
             and ($4 or archived_at is null) \
             order by slug limit {}",
            page.size
        );
        let after = page.after.clone().unwrap_or_default();
        let rows = self
            .rows(
                &sql,
                values![
                    after,
                    stage.unwrap_or_default(),
                    filter.active_only,
                    filter.show_archived
                ],
            )
            .await?;
        self.with_actions(rows).await
    }

    /// How many active runs are planned by what stands on one of these days of a timeline.
    pub async fn active_runs_by_days(&self, id: TimelineId, days: &BTreeSet<i32>) -> Result<i64, StoreError> {
        let Some(condition) = planned_by(days.iter().copied()) else {
            return Ok(0);
        };
        let sql = format!(
            "select count(*) as n from customer_timeline_progress \
             where campaign_timeline_id = $1 and status = 'active' and {condition}"
        );
        let count: Option<Number> = self.row(&sql, values![id.0]).await?;
        Ok(count.map_or(0, |count| count.n))
    }

    /// Active timelines whose runs on some days are to be planned anew, with the revision that asked for it.
    pub async fn timelines_to_replan(&self) -> Result<Vec<(TimelineId, i64, Vec<i32>)>, StoreError> {
        let sql = format!("select id, revision, replan_days from {TABLE} where replan_days is not null and is_active");
        let rows: Vec<ReplanRow> = self.rows(&sql, vec![]).await?;
        rows.into_iter()
            .map(|row| {
                let days = serde_json::from_value(row.replan_days)
                    .map_err(|error| StoreError::corrupt(TABLE, row.id, error))?;
                Ok((TimelineId(row.id), row.revision, days))
            })
            .collect()
    }

    pub(super) async fn one_timeline(
        &self,
        condition: &str,
        lock: &str,
        values: Vec<Value>,
    ) -> Result<Option<Timeline>, StoreError> {
        let rows = self
            .rows(
                &format!("select {COLUMNS} from {TABLE} where {condition} {lock}"),
                values,
            )
            .await?;
        Ok(self.with_actions(rows).await?.into_iter().next())
    }

    async fn with_actions(&self, rows: Vec<TimelineRow>) -> Result<Vec<Timeline>, StoreError> {
        let each = self.each_with_actions(rows).await?;
        each.into_iter().map(|read| read.map_err(|(_, error)| error)).collect()
    }

    async fn each_with_actions(&self, rows: Vec<TimelineRow>) -> Result<Vec<ReadTimeline>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "select {ACTION_COLUMNS} from campaign_timeline_actions \
             where campaign_timeline_id in ({}) order by campaign_timeline_id, day_number, delay_hours, priority, id",
            list(rows.iter().map(|row| row.id))
        );
        let mut actions: BTreeMap<i64, Vec<ActionRow>> = BTreeMap::new();
        for row in self.rows::<ActionRow>(&sql, vec![]).await? {
            actions.entry(row.campaign_timeline_id).or_default().push(row);
        }
        let read = |row: TimelineRow| {
            let id = TimelineId(row.id);
            let actions = actions.remove(&row.id).unwrap_or_default();
            let actions: Result<Vec<Action>, StoreError> = actions.into_iter().map(ActionRow::into_action).collect();
            actions
                .and_then(|actions| row.into_timeline(actions))
                .map_err(|error| (id, error))
        };
        Ok(rows.into_iter().map(read).collect())
    }
}

impl Txn {
    /// A timeline, locked against changes by others.
    pub async fn timeline_for_update(&self, id: TimelineId) -> Result<Option<Timeline>, StoreError> {
        if self.layout.is_distributed() {
            self.take_number(id).await?;
            return self.timeline(id).await;
        }
        self.one_timeline("id = $1", self.for_update(), values![id.0]).await
    }

    /// A timeline by its slug, locked against changes by others.
    pub async fn timeline_by_slug_for_update(&self, slug: &Slug) -> Result<Option<Timeline>, StoreError> {
        if self.layout.is_distributed() {
            let Some(timeline) = self.timeline_by_slug(slug).await? else {
                return Ok(None);
            };
            return self.timeline_for_update(timeline.id).await;
        }
        self.one_timeline("slug = $1", self.for_update(), values![slug.as_str()])
            .await
    }

    /// Stores a new timeline, and says its id. [`StoreError::Duplicate`] when its slug is taken, or its stage has a default.
    pub async fn insert_timeline(
        &self,
        definition: &TimelineDefinition<ActionDefinition>,
        now: Timestamp,
    ) -> Result<TimelineId, StoreError> {
        let sql = format!(
            "insert into {TABLE} (slug, name, pipeline_stage, duration_days, is_active, is_default, when_missed, \
             max_lateness_seconds, revision, activated_at, created_at, updated_at) \
             values ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $10, $10) returning id as n"
        );
        let activated_at = definition.is_active.then_some(now);
        let values = values![
            definition.slug.as_str(),
            definition.name.as_str(),
            definition.pipeline_stage.as_str(),
            definition.duration_days,
            definition.is_active,
            definition.is_default,
            definition.when_missed.as_str(),
            definition.max_lateness.num_seconds(),
            activated_at,
            now,
        ];
        let id: Option<Number> = self.row(&sql, values).await?;
        let id = TimelineId(id.map_or(0, |id| id.n));
        self.put_actions(id, &definition.actions).await?;
        Ok(id)
    }

    /// Makes a stored timeline equal to a definition, but for `is_active` and `is_default`, and notes which days are to be planned anew.
    pub async fn update_timeline(
        &self,
        stored: &Timeline,
        definition: &TimelineDefinition<ActionDefinition>,
        replan_days: &BTreeSet<i32>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let replan = self.to_replan(stored.id, replan_days).await?;
        let sql = format!(
            "update {TABLE} set name = $2, duration_days = $3, when_missed = $4, max_lateness_seconds = $5, replan_days = $6, \
             revision = revision + 1, updated_at = $7 where id = $1"
        );
        let values = values![
            stored.id.0,
            definition.name.as_str(),
            definition.duration_days,
            definition.when_missed.as_str(),
            definition.max_lateness.num_seconds(),
            replan,
            now,
        ];
        self.execute(&sql, values).await?;
        self.put_actions(stored.id, &definition.actions).await?;
        let kept = |action: &&Action| definition.actions.iter().any(|new| new.key == action.definition.key);
        let removed: Vec<i64> = stored
            .definition
            .actions
            .iter()
            .filter(|action| action.removed_at.is_none() && !kept(action))
            .map(|action| action.id.0)
            .collect();
        if !removed.is_empty() {
            let sql = format!(
                "update campaign_timeline_actions set removed_at = $1 where id in ({})",
                list(removed)
            );
            self.execute(&sql, values![now]).await?;
        }
        Ok(())
    }

    /// Switches a timeline, and notes which days are to be planned anew.
    pub async fn set_timeline_active(
        &self,
        id: TimelineId,
        is_active: bool,
        reason: &str,
        replan_days: &BTreeSet<i32>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let replan = self.to_replan(id, replan_days).await?;
        let sql = format!(
            "update {TABLE} set is_active = $2, status_reason = $3, revision = revision + 1, updated_at = $4, replan_days = $5, \
             activated_at = case when $2 then $4 else activated_at end where id = $1"
        );
        self.execute(&sql, values![id.0, is_active, reason, now, replan])
            .await?;
        Ok(())
    }

    /// The days that are noted to be planned anew, with these.
    async fn to_replan(&self, id: TimelineId, days: &BTreeSet<i32>) -> Result<Option<serde_json::Value>, StoreError> {
        let sql = format!("select id, revision, coalesce(replan_days, '[]') as replan_days from {TABLE} where id = $1");
        let row: Option<ReplanRow> = self.row(&sql, values![id.0]).await?;
        let noted = row.map_or(json!([]), |row| row.replan_days);
        let noted: BTreeSet<i32> =
            serde_json::from_value(noted).map_err(|error| StoreError::corrupt(TABLE, id, error))?;
        let days: BTreeSet<i32> = noted.union(days).copied().collect();
        Ok((!days.is_empty()).then(|| json!(days)))
    }

    /// Makes a timeline the default of its stage, or no longer.
    pub async fn set_timeline_default(
        &self,
        id: TimelineId,
        is_default: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = format!("update {TABLE} set is_default = $2, revision = revision + 1, updated_at = $3 where id = $1");
        self.execute(&sql, values![id.0, is_default, now]).await?;
        Ok(())
    }

    /// Notes that the runs were planned anew, unless the timeline was changed meanwhile.
    pub async fn clear_replan(&self, id: TimelineId, revision: i64) -> Result<(), StoreError> {
        let sql = format!("update {TABLE} set replan_days = null where id = $1 and revision = $2");
        self.execute(&sql, values![id.0, revision]).await?;
        Ok(())
    }

    async fn put_actions(&self, id: TimelineId, actions: &[ActionDefinition]) -> Result<(), StoreError> {
        let mut batch = Batch::new(&[
            ("key", Col::Text),
            ("day_number", Col::Int),
            ("delay_hours", Col::Int),
            ("priority", Col::Int),
            ("channel", Col::Text),
            ("action_type", Col::Text),
            ("campaign_id", Col::Text),
            ("conditions", Col::Json),
            ("max_lateness_seconds", Col::BigInt),
            ("completion_within_seconds", Col::BigInt),
            ("until_event", Col::Text),
            ("until_event_name", Col::Text),
            ("until_of_action", Col::Text),
            ("timeout_hours", Col::BigInt),
            ("after_timeout", Col::Text),
        ]);
        for action in actions {
            let awaits = action.awaits.as_ref();
            batch.push([
                action.key.as_str().into(),
                action.day_number.into(),
                i32::try_from(action.delay_hours).unwrap_or(0).into(),
                action.priority.into(),
                action.channel.as_str().into(),
                action.action_type.as_str().into(),
                action.campaign_id.as_ref().map(CampaignId::as_str).into(),
                Cell::json(&condition::to_json(&action.conditions)),
                Cell::from(action.max_lateness.map(|lateness| lateness.num_seconds())),
                Cell::from(action.completion.within().map(|within| within.num_seconds())),
                awaits.map(|awaits| awaits.query.kind.as_str()).into(),
                awaits.and_then(|awaits| awaits.query.kind.name()).into(),
                awaits.and_then(|awaits| awaits.query.of_action.as_deref()).into(),
                Cell::from(awaits.and_then(|awaits| awaits.timeout_hours).map(i64::from)),
                awaits.map(|awaits| awaits.after_timeout.as_str()).into(),
            ]);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let (table, mut values) = batch.bind(self.backend, 2);
        values.insert(0, id.0.into());
        // SQLite takes ON CONFLICT after a SELECT for a join condition unless there is a WHERE before it.
        let sql = format!(
            "insert into campaign_timeline_actions (campaign_timeline_id, key, day_number, delay_hours, priority, channel, \
             action_type, campaign_id, conditions, max_lateness_seconds, completion_within_seconds, until_event, until_event_name, \
             until_of_action, timeout_hours, after_timeout) \
             select $1, u.key, u.day_number, u.delay_hours, u.priority, u.channel, u.action_type, u.campaign_id, u.conditions, \
             u.max_lateness_seconds, u.completion_within_seconds, u.until_event, u.until_event_name, u.until_of_action, \
             u.timeout_hours, u.after_timeout from {table} where true \
             on conflict (campaign_timeline_id, key) do update set day_number = excluded.day_number, \
             delay_hours = excluded.delay_hours, priority = excluded.priority, channel = excluded.channel, \
             action_type = excluded.action_type, campaign_id = excluded.campaign_id, conditions = excluded.conditions, \
             max_lateness_seconds = excluded.max_lateness_seconds, \
             completion_within_seconds = excluded.completion_within_seconds, until_event = excluded.until_event, \
             until_event_name = excluded.until_event_name, until_of_action = excluded.until_of_action, \
             timeout_hours = excluded.timeout_hours, after_timeout = excluded.after_timeout, removed_at = null"
        );
        self.execute(&sql, values).await?;
        Ok(())
    }
}

/// Which runs are planned by what stands on one of these days: those that are on it, and those that are past it and have something
/// put off or failed, which may be of it.
pub(super) fn planned_by(days: impl Iterator<Item = i32> + Clone) -> Option<String> {
    let first = days.clone().min()?;
    Some(format!(
        "(current_day in ({}) or (current_day > {first} \
         and (cast(deferred_actions as text) <> '[]' or cast(failed_actions as text) <> '[]')))",
        list(days)
    ))
}

/// Numbers of ours as an SQL list. They are no user's input, and an IN list of literals is planned well by both databases.
pub(super) fn list<N: ToString>(numbers: impl IntoIterator<Item = N>) -> String {
    numbers
        .into_iter()
        .map(|number| number.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}
