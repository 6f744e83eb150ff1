//! Timelines, actions, conditions.

use chrono::Duration;
use std::collections::BTreeMap;

use super::about::{About, check_abouts};
use super::awaited::{awaits, parse_awaits};
use super::condition::{condition, parse_conditions};
use super::task::{completion, parse_completion};
use super::time::{parse_seconds, seconds, time};
use crate::domain::{
    Action, ActionDefinition, ActionType, CampaignId, Changes, Channel, MAX_ACTIONS, MAX_DURATION_DAYS, Slug, Stage,
    Timeline, TimelineDefinition, WhenMissed, text, token,
};
use crate::engine::{AppliedTimeline, ApplyTimeline, etag};
use crate::proto::campaign::v1 as pb;
use crate::rpc::violations::Violations;

const DEFAULT_LATENESS: Duration = Duration::hours(12);
const LATENESS_WORDS: &str = "whole seconds, 1 hour to 30 days";
const MAX_CONDITIONS: usize = 20;
/// The channels, as violations list them.
pub(super) const CHANNELS: &str = "CHANNEL_EMAIL, CHANNEL_SMS, CHANNEL_PHONE, CHANNEL_WAIT, CHANNEL_INTERACTION";
const ACTION_TYPES: &str = "ACTION_TYPE_SEND_EMAIL, ACTION_TYPE_SEND_SMS, ACTION_TYPE_MAKE_CALL, ACTION_TYPE_WAIT, \
     ACTION_TYPE_CHECK_CONDITION, ACTION_TYPE_CREATE_TASK";

/// Parses what is to be applied.
pub(in crate::rpc) fn parse_apply(
    violations: &mut Violations,
    request: pb::ApplyTimelineRequest,
) -> Option<ApplyTimeline> {
    let definition = violations.required("timeline", request.timeline)?;
    let (definition, positions) = parse_definition(violations, &definition)?;
    Some(ApplyTimeline {
        definition,
        positions,
        etag: request.etag,
        validate_only: request.validate_only,
    })
}

/// Parses a definition, which is the field `timeline` of a request, and says for each action where it stood there.
pub(super) fn parse_definition(
    violations: &mut Violations,
    given: &pb::TimelineDefinition,
) -> Option<(TimelineDefinition<ActionDefinition>, Vec<usize>)> {
    let slug = violations.check("timeline.slug", Slug::parse(&given.slug));
    let name = violations.check("timeline.name", text::required_line(&given.name, 200));
    let pipeline_stage = violations.check("timeline.pipeline_stage", Stage::parse(&given.pipeline_stage));
    let duration_days = violations.within("timeline.duration_days", given.duration_days, 1, MAX_DURATION_DAYS);
    let when_missed = match pb::WhenMissed::try_from(given.when_missed) {
        Ok(pb::WhenMissed::Unspecified | pb::WhenMissed::Shift) => Some(WhenMissed::Shift),
        Ok(pb::WhenMissed::CatchUp) => Some(WhenMissed::CatchUp),
        Err(_) => violations
            .known(
                "timeline.when_missed",
                given.when_missed,
                "WHEN_MISSED_SHIFT, WHEN_MISSED_CATCH_UP",
            )
            .map(|_: pb::WhenMissed| WhenMissed::Shift),
    };
    let max_lateness = parse_lateness(violations, "timeline.max_lateness", given.max_lateness.as_ref());
    if given.actions.len() > MAX_ACTIONS {
        violations.add(
            "timeline.actions",
            format!("must be at most {MAX_ACTIONS}, but are {}", given.actions.len()),
        );
        return None;
    }
    let keys = resolve_keys(violations, &given.actions);
    let last_day = duration_days.unwrap_or(MAX_DURATION_DAYS);
    let mut abouts = Vec::new();
    let actions: Vec<Option<ActionDefinition>> = given
        .actions
        .iter()
        .zip(&keys)
        .enumerate()
        .map(|(at, (action, key))| parse_action(violations, at, action, key.clone(), last_day, &mut abouts))
        .collect();
    check_abouts(violations, &abouts, &given.actions, &keys);
    let mut actions: Vec<(usize, ActionDefinition)> = actions
        .into_iter()
        .enumerate()
        .filter_map(|(at, action)| Some((at, action?)))
        .collect();
    actions.sort_by_key(|(at, action)| (action.day_number, action.delay_hours, action.priority, *at));
    let (positions, actions) = actions.into_iter().unzip();
    let definition = TimelineDefinition {
        slug: slug?,
        name: name?,
        pipeline_stage: pipeline_stage?,
        duration_days: duration_days?,
        is_active: given.is_active,
        is_default: given.is_default,
        when_missed: when_missed?,
        max_lateness: max_lateness?.unwrap_or(DEFAULT_LATENESS),
        actions,
    };
    Some((definition, positions))
}

/// The keys of actions, in their order: as given, or the campaign's id where that names one action alone.
fn resolve_keys(violations: &mut Violations, actions: &[pb::ActionDefinition]) -> Vec<Option<String>> {
    let mut without_key: BTreeMap<&str, usize> = BTreeMap::new();
    for action in actions.iter().filter(|action| action.key.is_empty()) {
        *without_key.entry(action.campaign_id.as_str()).or_default() += 1;
    }
    let keys: Vec<Option<String>> = actions
        .iter()
        .enumerate()
        .map(|(at, action)| {
            let path = format!("timeline.actions[{at}].key");
            if !action.key.is_empty() {
                return violations.check(path, token(&action.key, "._:-"));
            }
            if action.campaign_id.is_empty() {
                violations.add(path, "must be set for an action without a campaign");
                return None;
            }
            if without_key
                .get(action.campaign_id.as_str())
                .copied()
                .unwrap_or_default()
                > 1
            {
                violations.add(
                    path,
                    format!(
                        "must be set, because several actions without a key have campaign {}",
                        text::shown(&action.campaign_id)
                    ),
                );
                return None;
            }
            Some(action.campaign_id.clone())
        })
        .collect();
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, key) in keys.iter().enumerate() {
        let Some(key) = key else { continue };
        if let Some(before) = first.insert(key, at) {
            violations.add(
                format!("timeline.actions[{at}].key"),
                format!(
                    "must be unique in the timeline, but {} is that of actions[{before}] as well",
                    text::shown(key)
                ),
            );
        }
    }
    keys
}

fn parse_action(
    violations: &mut Violations,
    position: usize,
    given: &pb::ActionDefinition,
    key: Option<String>,
    last_day: i32,
    abouts: &mut Vec<About>,
) -> Option<ActionDefinition> {
    let path = format!("timeline.actions[{position}]");
    let day_number = violations.within(format!("{path}.day_number"), given.day_number, 1, last_day);
    let delay_hours = violations.within(format!("{path}.delay_hours"), given.delay_hours, 0, 23);
    let priority = violations.within(format!("{path}.priority"), given.priority, -1000, 1000);
    let channel = violations
        .known::<pb::Channel>(format!("{path}.channel"), given.channel, CHANNELS)
        .and_then(parse_channel);
    let action_type = violations
        .known::<pb::ActionType>(format!("{path}.action_type"), given.action_type, ACTION_TYPES)
        .and_then(parse_action_type);
    if let Some((channel, action_type)) = channel
        .zip(action_type)
        .filter(|(channel, action_type)| !action_type.goes_with(*channel))
    {
        let allowed: Vec<&str> = ActionType::ALL
            .into_iter()
            .filter(|known| known.goes_with(channel))
            .map(ActionType::as_str)
            .collect();
        violations.add(
            format!("{path}.action_type"),
            format!(
                "must be {} for channel {}, but is {}",
                allowed.join(" or "),
                channel.as_str(),
                action_type.as_str()
            ),
        );
    }
    let campaign_id = parse_campaign_id(
        violations,
        &format!("{path}.campaign_id"),
        &given.campaign_id,
        action_type,
    );
    if given.conditions.len() > MAX_CONDITIONS {
        violations.add(
            format!("{path}.conditions"),
            format!("must be at most {MAX_CONDITIONS}, but are {}", given.conditions.len()),
        );
        return None;
    }
    let conditions = parse_conditions(
        violations,
        &format!("{path}.conditions"),
        position,
        &given.conditions,
        abouts,
    );
    let max_lateness = parse_lateness(violations, &format!("{path}.max_lateness"), given.max_lateness.as_ref());
    let completion = parse_completion(violations, &path, given, action_type);
    let awaits = parse_awaits(violations, &path, position, given, action_type, abouts);
    Some(ActionDefinition {
        key: key?,
        day_number: day_number?,
        delay_hours: delay_hours?.unsigned_abs(),
        priority: priority?,
        channel: channel?,
        action_type: action_type?,
        campaign_id: campaign_id?,
        conditions: conditions?,
        max_lateness: max_lateness?,
        completion: completion?,
        awaits: awaits?,
    })
}

/// The campaign of an action, there when and only when its type sends. None: a violation.
fn parse_campaign_id(
    violations: &mut Violations,
    path: &str,
    given: &str,
    action_type: Option<ActionType>,
) -> Option<Option<CampaignId>> {
    match (given.is_empty(), action_type?.sends()) {
        (true, false) => Some(None),
        (false, true) => violations.check(path, CampaignId::parse(given)).map(Some),
        (true, true) => {
            violations.add(path, "must be set for an action that sends");
            None
        }
        (false, false) => {
            violations.add(
                path,
                format!(
                    "must be empty for an action that sends nothing, but is {}",
                    text::shown(given)
                ),
            );
            None
        }
    }
}

/// A lateness that may be left out. None: a violation.
fn parse_lateness(
    violations: &mut Violations,
    path: &str,
    given: Option<&prost_types::Duration>,
) -> Option<Option<Duration>> {
    match given {
        None => Some(None),
        Some(given) => violations
            .check(path, parse_seconds(given, 3600, 30 * 86_400, LATENESS_WORDS))
            .map(Some),
    }
}

/// The channel of a message; none: it is not set.
pub(super) fn parse_channel(given: pb::Channel) -> Option<Channel> {
    match given {
        pb::Channel::Unspecified => None,
        pb::Channel::Email => Some(Channel::Email),
        pb::Channel::Sms => Some(Channel::Sms),
        pb::Channel::Phone => Some(Channel::Phone),
        pb::Channel::Wait => Some(Channel::Wait),
        pb::Channel::Interaction => Some(Channel::Interaction),
    }
}

fn parse_action_type(given: pb::ActionType) -> Option<ActionType> {
    match given {
        pb::ActionType::Unspecified => None,
        pb::ActionType::SendEmail => Some(ActionType::SendEmail),
        pb::ActionType::SendSms => Some(ActionType::SendSms),
        pb::ActionType::MakeCall => Some(ActionType::MakeCall),
        pb::ActionType::Wait => Some(ActionType::Wait),
        pb::ActionType::CheckCondition => Some(ActionType::CheckCondition),
        pb::ActionType::CreateTask => Some(ActionType::CreateTask),
    }
}

/// A channel as a message.
pub(in crate::rpc) fn channel(channel: Channel) -> pb::Channel {
    match channel {
        Channel::Email => pb::Channel::Email,
        Channel::Sms => pb::Channel::Sms,
        Channel::Phone => pb::Channel::Phone,
        Channel::Wait => pb::Channel::Wait,
        Channel::Interaction => pb::Channel::Interaction,
    }
}

/// An action type as a message.
pub(in crate::rpc) fn action_type(action_type: ActionType) -> pb::ActionType {
    match action_type {
        ActionType::SendEmail => pb::ActionType::SendEmail,
        ActionType::SendSms => pb::ActionType::SendSms,
        ActionType::MakeCall => pb::ActionType::MakeCall,
        ActionType::Wait => pb::ActionType::Wait,
        ActionType::CheckCondition => pb::ActionType::CheckCondition,
        ActionType::CreateTask => pb::ActionType::CreateTask,
    }
}

/// A timeline as a message.
pub(in crate::rpc) fn timeline(timeline: &Timeline) -> pb::Timeline {
    let definition = &timeline.definition;
    let when_missed = match definition.when_missed {
        WhenMissed::Shift => pb::WhenMissed::Shift,
        WhenMissed::CatchUp => pb::WhenMissed::CatchUp,
    };
    pb::Timeline {
        timeline_id: timeline.id.0,
        definition: Some(pb::TimelineDefinition {
            slug: definition.slug.to_string(),
            name: definition.name.clone(),
            pipeline_stage: definition.pipeline_stage.to_string(),
            duration_days: definition.duration_days,
            is_active: definition.is_active,
            is_default: definition.is_default,
            when_missed: when_missed.into(),
            max_lateness: Some(seconds(definition.max_lateness)),
            actions: definition
                .actions
                .iter()
                .filter(|action| action.removed_at.is_none())
                .map(action)
                .collect(),
        }),
        etag: etag(timeline.revision),
        create_time: Some(time(timeline.created_at)),
        update_time: Some(time(timeline.updated_at)),
        archive_time: timeline.archived_at.map(time),
    }
}

fn action(action: &Action) -> pb::ActionDefinition {
    let definition = &action.definition;
    let (completion, completion_within) = completion(definition.completion, definition.action_type);
    pb::ActionDefinition {
        action_id: action.id.0,
        key: definition.key.clone(),
        day_number: definition.day_number,
        delay_hours: i32::try_from(definition.delay_hours).unwrap_or(0),
        priority: definition.priority,
        channel: channel(definition.channel).into(),
        action_type: action_type(definition.action_type).into(),
        campaign_id: definition
            .campaign_id
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        conditions: definition.conditions.iter().map(condition).collect(),
        max_lateness: definition.max_lateness.map(seconds),
        completion: completion.into(),
        completion_within,
        until_event: definition.awaits.as_ref().map(awaits),
    }
}

/// What was applied, as a message.
pub(in crate::rpc) fn applied(applied: &AppliedTimeline) -> pb::ApplyTimelineResponse {
    let Changes {
        added,
        removed,
        changed,
        unchanged,
        fields,
        ..
    } = &applied.changes;
    pb::ApplyTimelineResponse {
        timeline: Some(timeline(&applied.timeline)),
        created: applied.created,
        changes: Some(pb::TimelineChanges {
            added_keys: added.clone(),
            removed_keys: removed.clone(),
            changed_keys: changed.clone(),
            unchanged_actions: i32::try_from(*unchanged).unwrap_or(i32::MAX),
            changed_fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            runs_to_replan: applied.runs_to_replan,
        }),
    }
}
