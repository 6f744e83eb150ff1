//! Rows of timelines and actions, and what is read from them.

use chrono::Duration;
use sea_orm::FromQueryResult;

use super::TABLE;
use crate::domain::{
    Action, ActionDefinition, ActionId, ActionType, AfterTimeout, AwaitedEvent, CampaignId, Channel, Completion,
    EngagementQuery, Slug, Stage, Timeline, TimelineDefinition, TimelineId, Timestamp, WhenMissed, condition,
};
use crate::store::StoreError;
use crate::store::engagements::kind_of;

/// The columns of a [`TimelineRow`].
pub(super) const COLUMNS: &str = "id, slug, name, pipeline_stage, duration_days, is_active, is_default, when_missed, \
     max_lateness_seconds, revision, activated_at, archived_at, created_at, updated_at";

/// The columns of an [`ActionRow`].
pub(super) const ACTION_COLUMNS: &str = "id, campaign_timeline_id, key, day_number, delay_hours, priority, channel, action_type, \
     campaign_id, conditions, max_lateness_seconds, completion_within_seconds, until_event, until_event_name, until_of_action, \
     timeout_hours, after_timeout, removed_at";

/// A row of `campaign_timelines`.
#[derive(FromQueryResult)]
pub(super) struct TimelineRow {
    pub(super) id: i64,
    slug: String,
    name: String,
    pipeline_stage: String,
    duration_days: i32,
    is_active: bool,
    is_default: bool,
    when_missed: String,
    max_lateness_seconds: i64,
    revision: i64,
    activated_at: Option<Timestamp>,
    archived_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// A row of `campaign_timeline_actions`.
#[derive(FromQueryResult)]
pub(super) struct ActionRow {
    id: i64,
    pub(super) campaign_timeline_id: i64,
    key: String,
    day_number: i32,
    delay_hours: i32,
    priority: i32,
    channel: String,
    action_type: String,
    campaign_id: Option<String>,
    conditions: serde_json::Value,
    max_lateness_seconds: Option<i64>,
    completion_within_seconds: Option<i64>,
    until_event: Option<String>,
    until_event_name: Option<String>,
    until_of_action: Option<String>,
    timeout_hours: Option<i64>,
    after_timeout: Option<String>,
    removed_at: Option<Timestamp>,
}

impl TimelineRow {
    /// The timeline, with its actions.
    pub(super) fn into_timeline(self, actions: Vec<Action>) -> Result<Timeline, StoreError> {
        let corrupt = |what: String| StoreError::corrupt(TABLE, self.id, what);
        let when_missed = [WhenMissed::Shift, WhenMissed::CatchUp]
            .into_iter()
            .find(|known| known.as_str() == self.when_missed);
        Ok(Timeline {
            id: TimelineId(self.id),
            definition: TimelineDefinition {
                slug: Slug::parse(&self.slug).map_err(|error| corrupt(error.to_string()))?,
                name: self.name,
                pipeline_stage: Stage::parse(&self.pipeline_stage).map_err(|error| corrupt(error.to_string()))?,
                duration_days: self.duration_days,
                is_active: self.is_active,
                is_default: self.is_default,
                when_missed: when_missed.ok_or_else(|| corrupt(format!("when_missed {}", self.when_missed)))?,
                max_lateness: Duration::seconds(self.max_lateness_seconds),
                actions,
            },
            revision: self.revision,
            activated_at: self.activated_at,
            archived_at: self.archived_at,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

impl ActionRow {
    fn awaits(&self) -> Result<Option<AwaitedEvent>, String> {
        let Some(kind) = &self.until_event else {
            return Ok(None);
        };
        let mut known = AfterTimeout::ALL.into_iter();
        let after_timeout = known.find(|known| Some(known.as_str()) == self.after_timeout.as_deref());
        Ok(Some(AwaitedEvent {
            query: EngagementQuery {
                kind: kind_of(kind, self.until_event_name.clone())?,
                of_action: self.until_of_action.clone(),
            },
            timeout_hours: self.timeout_hours.and_then(|hours| u32::try_from(hours).ok()),
            after_timeout: after_timeout.ok_or_else(|| format!("after_timeout {:?}", self.after_timeout))?,
        }))
    }

    /// The action.
    pub(super) fn into_action(self) -> Result<Action, StoreError> {
        let corrupt = |what: String| StoreError::corrupt("campaign_timeline_actions", self.id, what);
        let channel = Channel::ALL.into_iter().find(|known| known.as_str() == self.channel);
        let action_type = ActionType::ALL
            .into_iter()
            .find(|known| known.as_str() == self.action_type);
        let campaign_id = self.campaign_id.as_deref().map(CampaignId::parse).transpose();
        let awaits = self.awaits().map_err(&corrupt)?;
        Ok(Action {
            id: ActionId(self.id),
            definition: ActionDefinition {
                key: self.key,
                day_number: self.day_number,
                delay_hours: self.delay_hours.unsigned_abs(),
                priority: self.priority,
                channel: channel.ok_or_else(|| corrupt(format!("channel {}", self.channel)))?,
                action_type: action_type.ok_or_else(|| corrupt(format!("action_type {}", self.action_type)))?,
                campaign_id: campaign_id.map_err(|error| corrupt(error.to_string()))?,
                conditions: condition::from_json(self.conditions).map_err(&corrupt)?,
                max_lateness: self.max_lateness_seconds.map(Duration::seconds),
                completion: self.completion_within_seconds.map_or(Completion::HandedOver, |within| {
                    Completion::Reported {
                        within: Duration::seconds(within),
                    }
                }),
                awaits,
            },
            removed_at: self.removed_at,
        })
    }
}
