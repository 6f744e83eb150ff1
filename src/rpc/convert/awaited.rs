//! Waits for events.

use super::about::{About, Earlier};
use super::customer::parse_kind;
use crate::domain::{ActionType, AfterTimeout, AwaitedEvent, EngagementKind, EngagementQuery, text};
use crate::proto::campaign::v1 as pb;
use crate::rpc::violations::Violations;

const AFTER: &str = "AFTER_TIMEOUT_CONTINUE, AFTER_TIMEOUT_SKIP_REST_OF_DAY";

/// What the action at a position and path waits for, if it does. None: there are violations.
pub(super) fn parse_awaits(
    violations: &mut Violations,
    path: &str,
    position: usize,
    given: &pb::ActionDefinition,
    action_type: Option<ActionType>,
    abouts: &mut Vec<About>,
) -> Option<Option<AwaitedEvent>> {
    let Some(awaited) = &given.until_event else {
        return Some(None);
    };
    let path = format!("{path}.until_event");
    if action_type.is_some_and(|given| given != ActionType::Wait) {
        let text = format!(
            "must not be set unless the action type is {}",
            ActionType::Wait.as_str()
        );
        violations.add(path, text);
        return None;
    }
    let kind = parse_kind(violations, &path, awaited.kind, &awaited.name);
    let of_action = if awaited.of_action.is_empty() {
        Some(None)
    } else {
        let (key, path) = (awaited.of_action.clone(), format!("{path}.of_action"));
        if awaited.kind() == pb::EngagementKind::Custom {
            let text = format!(
                "must be empty with ENGAGEMENT_KIND_CUSTOM, but is {}",
                text::shown(&key)
            );
            violations.add(path, text);
            None
        } else {
            abouts.push(About::new(path, position, key.clone(), Earlier::of_kind(kind.as_ref())));
            Some(Some(key))
        }
    };
    let timeout_hours = match awaited.timeout_hours {
        0 => Some(None),
        hours => {
            let left = 24 - given.delay_hours.clamp(0, 23);
            let hours = violations.within(format!("{path}.timeout_hours"), hours, 1, left);
            hours.map(|hours| Some(hours.unsigned_abs()))
        }
    };
    let after_timeout = match pb::AfterTimeout::try_from(awaited.after_timeout) {
        Ok(pb::AfterTimeout::Unspecified | pb::AfterTimeout::Continue) => Some(AfterTimeout::Continue),
        Ok(pb::AfterTimeout::SkipRestOfDay) => Some(AfterTimeout::SkipRestOfDay),
        Err(_) => violations
            .known(format!("{path}.after_timeout"), awaited.after_timeout, AFTER)
            .map(|_: pb::AfterTimeout| AfterTimeout::Continue),
    };
    Some(Some(AwaitedEvent {
        query: EngagementQuery {
            kind: kind?,
            of_action: of_action?,
        },
        timeout_hours: timeout_hours?,
        after_timeout: after_timeout?,
    }))
}

/// What an action waits for, as a message.
pub(super) fn awaits(awaited: &AwaitedEvent) -> pb::AwaitedEvent {
    let kind = match awaited.query.kind {
        EngagementKind::EmailOpened => pb::EngagementKind::EmailOpened,
        EngagementKind::EmailClicked => pb::EngagementKind::EmailClicked,
        EngagementKind::Replied => pb::EngagementKind::Replied,
        EngagementKind::Custom(_) => pb::EngagementKind::Custom,
    };
    let after_timeout = match awaited.after_timeout {
        AfterTimeout::Continue => pb::AfterTimeout::Continue,
        AfterTimeout::SkipRestOfDay => pb::AfterTimeout::SkipRestOfDay,
    };
    pb::AwaitedEvent {
        kind: kind.into(),
        name: awaited.query.kind.name().unwrap_or_default().to_owned(),
        of_action: awaited.query.of_action.clone().unwrap_or_default(),
        timeout_hours: awaited
            .timeout_hours
            .and_then(|hours| i32::try_from(hours).ok())
            .unwrap_or(0),
        after_timeout: after_timeout.into(),
    }
}
