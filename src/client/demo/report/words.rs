//! Reasons, in words for people.

use chrono::{DateTime, Duration, Utc};

use super::super::timestamp;
use crate::proto::campaign::v1::{
    ActionDefinition, ConditionThen, DeferReason, Engagement, EngagementKind, FailureReason, condition,
};

/// Why the conditions of an action said skip at an instant. The answer doesn't say which of several did, and what the
/// stage and the score were then is not known now; so those that may have are named.
pub(super) fn conditions(
    definition: Option<&ActionDefinition>,
    engagements: &[Engagement],
    at: Option<DateTime<Utc>>,
) -> String {
    let mut reasons = Vec::new();
    for condition in definition.into_iter().flat_map(|definition| &definition.conditions) {
        let skips_when_it_holds = condition.then() == ConditionThen::Skip;
        let Some(test) = &condition.test else { continue };
        let is_ruled_out = match test {
            condition::Test::EmailOpened(opened) => {
                at.is_some_and(|at| was_opened(engagements, at, opened.within_hours) != skips_when_it_holds)
            }
            condition::Test::EngagementScoreAbove(_) | condition::Test::PipelineStage(_) => false,
        };
        if !is_ruled_out {
            reasons.push(one_condition(test, skips_when_it_holds));
        }
    }
    if reasons.is_empty() {
        "a condition".to_owned()
    } else {
        reasons.join(", or ")
    }
}

/// Whether it was known at an instant that a mail was opened in the hours before.
fn was_opened(engagements: &[Engagement], at: DateTime<Utc>, within_hours: i32) -> bool {
    let window = at - Duration::hours(within_hours.into())..=at;
    engagements.iter().any(|event| {
        let is_in_window = timestamp(event.occur_time).is_some_and(|occurred| window.contains(&occurred));
        let was_known = timestamp(event.receive_time).is_none_or(|received| received <= at);
        event.kind() == EngagementKind::EmailOpened && is_in_window && was_known
    })
}

fn one_condition(test: &condition::Test, holds: bool) -> String {
    match (test, holds) {
        (condition::Test::EmailOpened(opened), true) => format!("opened a mail within {} h", opened.within_hours),
        (condition::Test::EmailOpened(opened), false) => format!("opened no mail within {} h", opened.within_hours),
        (condition::Test::EngagementScoreAbove(score), true) => format!("score above {}", score.threshold),
        (condition::Test::EngagementScoreAbove(score), false) => format!("score not above {}", score.threshold),
        (condition::Test::PipelineStage(is), true) => format!("in stage {}", is.stage),
        (condition::Test::PipelineStage(is), false) => format!("not in stage {}", is.stage),
    }
}

pub(super) fn failure_reason(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::Rejected => "refused",
        FailureReason::Temporary => "can't be delivered now",
        FailureReason::OutcomeUnknown => "perhaps delivered",
        FailureReason::MissingAddress => "no address for this channel",
        FailureReason::Template => "the text can't be filled in",
        FailureReason::Misconfigured => "the channel is not set up",
        FailureReason::Suppressed => "must not be written to",
        FailureReason::Unspecified => "",
    }
}

pub(super) fn defer_reason(reason: DeferReason) -> &'static str {
    match reason {
        DeferReason::WaitingForAction => "waits for an earlier action",
        DeferReason::Spacing => "kept apart from another late message",
        DeferReason::ChannelUnavailable => "the channel is stopped",
        DeferReason::Unspecified => "",
    }
}
