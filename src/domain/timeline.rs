//! Timelines and their actions.

use chrono::Duration;
use std::collections::BTreeSet;

use super::{
    ActionId, ActionType, Asked, AwaitedEvent, CampaignId, Channel, Completion, Condition, Reach, Slug, Stage,
    TimelineId, Timestamp,
};

/// The most days that a timeline may have.
pub const MAX_DURATION_DAYS: i32 = 3650;

/// The most actions that a timeline may have, removed ones not counted.
pub const MAX_ACTIONS: usize = 1000;

/// A stored timeline with its actions.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// Its id.
    pub id: TimelineId,
    /// What the user defined. `is_active` and `is_default` are the present state.
    pub definition: TimelineDefinition<Action>,
    /// Counts the changes from 1, those of `is_active` and `is_default` too. Also its etag.
    pub revision: i64,
    /// When it last became active. Runs that were frozen until then are due from then on.
    pub activated_at: Option<Timestamp>,
    /// When it was archived. It is inactive then, and no default, for good.
    pub archived_at: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What the user defines; `A` is [`ActionDefinition`], or [`Action`] once it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct TimelineDefinition<A> {
    /// The name by which it is applied.
    pub slug: Slug,
    /// The name for people.
    pub name: String,
    /// Which stage it serves.
    pub pipeline_stage: Stage,
    /// 1..=3650.
    pub duration_days: i32,
    /// Whether its runs are served.
    pub is_active: bool,
    /// Whether it is the default of its stage.
    pub is_default: bool,
    /// What becomes of what is too late.
    pub when_missed: WhenMissed,
    /// How late actions may go that don't say it themselves. Whole seconds.
    pub max_lateness: Duration,
    /// The actions. Stored ones are in order (day, hour, priority, id), and removed ones are among them.
    pub actions: Vec<A>,
}

/// One step, as defined.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionDefinition {
    /// Which action it is when the timeline is applied again.
    pub key: String,
    /// 1..=duration.
    pub day_number: i32,
    /// 0..=23.
    pub delay_hours: u32,
    /// Smaller first.
    pub priority: i32,
    /// How it reaches the customer.
    pub channel: Channel,
    /// What it does; goes with the channel.
    pub action_type: ActionType,
    /// What it sends; there when and only when the type sends.
    pub campaign_id: Option<CampaignId>,
    /// When it is skipped.
    pub conditions: Vec<Condition>,
    /// How late it may go; none: as the timeline says. Whole seconds.
    pub max_lateness: Option<Duration>,
    /// When it is complete.
    pub completion: Completion,
    /// Of a wait: the event that it waits for; none: for its hour.
    pub awaits: Option<AwaitedEvent>,
}

/// One step, as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Its id.
    pub id: ActionId,
    /// What it does when.
    pub definition: ActionDefinition,
    /// When it was removed from the timeline. Its row stays for the runs that know it.
    pub removed_at: Option<Timestamp>,
}

/// What becomes of what is later than its `max_lateness`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenMissed {
    /// The run stays on its day, with the same hours today.
    Shift,
    /// The run jumps to the day that the calendar says, and what was missed is expired.
    CatchUp,
}

impl WhenMissed {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shift => "shift",
            Self::CatchUp => "catch_up",
        }
    }
}

/// Where an action stands among those of its timeline: by day, hour, priority, id.
pub type Position = (i32, u32, i32, ActionId);

impl Action {
    /// Where it stands.
    pub fn position(&self) -> Position {
        (
            self.definition.day_number,
            self.definition.delay_hours,
            self.definition.priority,
            self.id,
        )
    }

    /// Whether it may hold the rest of its day: a gate, or a wait for an event.
    pub(super) fn is_gate(&self) -> bool {
        self.definition.action_type == ActionType::CheckCondition || self.definition.awaits.is_some()
    }
}

impl Timeline {
    /// The actions of one day in order, removed ones among them.
    pub fn day(&self, day: i32) -> &[Action] {
        let actions = &self.definition.actions;
        let begin = actions.partition_point(|action| action.definition.day_number < day);
        let end = actions.partition_point(|action| action.definition.day_number <= day);
        &actions[begin..end]
    }

    /// The action with this id, also when it was removed.
    pub fn action(&self, id: ActionId) -> Option<&Action> {
        self.definition.actions.iter().find(|action| action.id == id)
    }

    /// How late an action may go.
    pub fn max_lateness(&self, action: &Action) -> Duration {
        action.definition.max_lateness.unwrap_or(self.definition.max_lateness)
    }

    /// The actions of all days after `day` in order, removed ones among them.
    pub fn after_day(&self, day: i32) -> &[Action] {
        let actions = &self.definition.actions;
        &actions[actions.partition_point(|action| action.definition.day_number <= day)..]
    }

    /// The campaigns that its actions send.
    pub fn campaign_ids(&self) -> Vec<CampaignId> {
        let ids: BTreeSet<&CampaignId> = self
            .definition
            .actions
            .iter()
            .filter_map(|action| action.definition.campaign_id.as_ref())
            .collect();
        ids.into_iter().cloned().collect()
    }

    /// What conditions and waits of its actions ask about a customer.
    pub fn asked(&self) -> Asked {
        let actions = || {
            let actions = self.definition.actions.iter();
            actions.filter(|action| action.removed_at.is_none())
        };
        let mut asked = Asked::by(actions().flat_map(|action| &action.definition.conditions));
        let awaited = actions().filter_map(|action| action.definition.awaits.as_ref());
        awaited.for_each(|awaited| asked.ask(&awaited.query, Reach::Ever));
        asked
    }
}

/// What is different between a stored timeline and a definition that is applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys that are new, in order of the plan.
    pub added: Vec<String>,
    /// Keys that are gone.
    pub removed: Vec<String>,
    /// Keys that are in both, and not equal.
    pub changed: Vec<String>,
    /// How many actions are equal.
    pub unchanged: usize,
    /// Names of other fields that changed.
    pub fields: Vec<&'static str>,
    /// Days on which runs must be planned anew: where an action came, went or changed.
    pub days: BTreeSet<i32>,
}

impl Changes {
    /// Whether the two are equal.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty() && self.fields.is_empty()
    }

    /// Compares a stored timeline, if there is one, with a definition whose actions are in order of the plan.
    pub fn between(stored: Option<&Timeline>, new: &TimelineDefinition<ActionDefinition>) -> Self {
        let mut changes = Self::default();
        let old_actions = || {
            stored
                .iter()
                .flat_map(|timeline| &timeline.definition.actions)
                .filter(|old| old.removed_at.is_none())
        };
        for action in &new.actions {
            match old_actions().find(|old| old.definition.key == action.key) {
                None => {
                    changes.added.push(action.key.clone());
                    changes.days.insert(action.day_number);
                }
                Some(old) if old.definition != *action => {
                    changes.changed.push(action.key.clone());
                    changes.days.extend([old.definition.day_number, action.day_number]);
                }
                Some(_) => changes.unchanged += 1,
            }
        }
        for old in old_actions() {
            if !new.actions.iter().any(|action| action.key == old.definition.key) {
                changes.removed.push(old.definition.key.clone());
                changes.days.insert(old.definition.day_number);
            }
        }
        if let Some(Timeline { definition: old, .. }) = stored {
            let fields = [
                ("name", old.name != new.name),
                ("duration_days", old.duration_days != new.duration_days),
                ("when_missed", old.when_missed != new.when_missed),
                ("max_lateness", old.max_lateness != new.max_lateness),
            ];
            changes.fields = fields
                .into_iter()
                .filter_map(|(name, differs)| differs.then_some(name))
                .collect();
        }
        changes
    }
}
