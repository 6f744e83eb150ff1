//! What is played: timelines, times and outcomes.

use super::*;

/// An instant of 2026 in UTC, as in `03-01 09:00`.
pub(super) fn at(text: &str) -> Timestamp {
    format!("2026-{}:00Z", text.replacen(' ', "T", 1))
        .parse()
        .expect("an instant")
}

pub(super) fn zone(name: &str) -> Zone {
    Zone {
        tz: name.parse().expect("a zone"),
        is_default: false,
    }
}

pub(super) fn step(key: &str, day_number: i32, delay_hours: u32, channel: Channel, action_type: ActionType) -> Action {
    let campaign_id = action_type
        .sends()
        .then(|| CampaignId::parse("HOOK-001").expect("a campaign"));
    let definition = ActionDefinition {
        key: key.to_owned(),
        day_number,
        delay_hours,
        priority: 0,
        channel,
        action_type,
        campaign_id,
        conditions: Vec::new(),
        max_lateness: None,
        completion: crate::domain::Completion::HandedOver,
        awaits: None,
    };
    Action {
        id: ActionId(0),
        definition,
        removed_at: None,
    }
}

pub(super) fn email(key: &str, day: i32, hour: u32) -> Action {
    step(key, day, hour, Channel::Email, ActionType::SendEmail)
}

pub(super) fn sms(key: &str, day: i32, hour: u32) -> Action {
    step(key, day, hour, Channel::Sms, ActionType::SendSms)
}

pub(super) fn call(key: &str, day: i32, hour: u32) -> Action {
    step(key, day, hour, Channel::Phone, ActionType::MakeCall)
}

pub(super) fn task(key: &str, day: i32, hour: u32) -> Action {
    step(key, day, hour, Channel::Interaction, ActionType::CreateTask)
}

pub(super) fn wait(key: &str, day: i32, hour: u32) -> Action {
    step(key, day, hour, Channel::Wait, ActionType::Wait)
}

/// A gate that lets pass as long as the score is at most 50.
pub(super) fn gate(key: &str, day: i32, hour: u32) -> Action {
    unless_engaged(step(key, day, hour, Channel::Wait, ActionType::CheckCondition))
}

pub(super) fn unless_engaged(mut action: Action) -> Action {
    action.definition.conditions.push(Condition {
        test: Test::Leaf(Leaf::EngagementScoreAbove { threshold: 50 }),
        then: Then::Skip,
    });
    action
}

pub(super) fn within(hours: i64, mut action: Action) -> Action {
    action.definition.max_lateness = Some(Duration::hours(hours));
    action
}

pub(super) fn first(mut action: Action) -> Action {
    action.definition.priority = -1;
    action
}

pub(super) fn removed(when: &str, mut action: Action) -> Action {
    action.removed_at = Some(at(when));
    action
}

/// A timeline whose late actions shift it. Ids are given in the order of the list.
pub(super) fn shifting(duration_days: i32, actions: impl IntoIterator<Item = Action>) -> Timeline {
    let actions = actions.into_iter().zip(1..).map(|(action, id)| Action {
        id: ActionId(id),
        ..action
    });
    let definition = TimelineDefinition {
        slug: Slug::parse("hook").expect("a slug"),
        name: "Hook".to_owned(),
        pipeline_stage: Stage::parse("hook").expect("a stage"),
        duration_days,
        is_active: true,
        is_default: false,
        when_missed: WhenMissed::Shift,
        max_lateness: Duration::hours(12),
        actions: actions.collect(),
    };
    let created_at = Timestamp::UNIX_EPOCH;
    let timeline = Timeline {
        id: TimelineId(1),
        definition,
        revision: 1,
        activated_at: Some(created_at),
        archived_at: None,
        created_at,
        updated_at: created_at,
    };
    in_order(timeline)
}

pub(super) fn catching_up(duration_days: i32, actions: impl IntoIterator<Item = Action>) -> Timeline {
    let mut timeline = shifting(duration_days, actions);
    timeline.definition.when_missed = WhenMissed::CatchUp;
    timeline
}

pub(super) fn in_order(mut timeline: Timeline) -> Timeline {
    timeline.definition.actions.sort_by_key(Action::position);
    timeline
}

pub(super) fn refused_for_now() -> Attempted {
    Attempted::Retry {
        reason: FailureReason::Temporary,
        error: "421".to_owned(),
        after: None,
    }
}

pub(super) fn refused() -> Attempted {
    Attempted::Failed {
        reason: FailureReason::Rejected,
        error: "550".to_owned(),
    }
}

pub(super) fn unknown() -> Attempted {
    Attempted::Unknown {
        error: "timeout".to_owned(),
    }
}

/// What becomes of an attempt.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Is(Attempted),
    /// The process dies while it is sent.
    Death,
}
