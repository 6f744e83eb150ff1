//! Reasons, in words for people.

use crate::proto::campaign::v1::{ActionDefinition, ConditionThen, DeferReason, FailureReason, SkipReason, condition};

/// Why the conditions of an action said skip. With several it is not known which, so all are named.
pub(super) fn conditions(definition: Option<&ActionDefinition>) -> String {
    let conditions = definition.into_iter().flat_map(|definition| &definition.conditions);
    let reasons: Vec<String> = conditions
        .filter_map(|condition| {
            let skips_when_it_holds = condition.then() == ConditionThen::Skip;
            condition
                .test
                .as_ref()
                .map(|test| one_condition(test, skips_when_it_holds))
        })
        .collect();
    if reasons.is_empty() {
        "a condition".to_owned()
    } else {
        reasons.join(", or ")
    }
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

pub(super) fn skip_reason(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::Condition => "a condition",
        SkipReason::Gated => "a gate is closed",
        SkipReason::HourPassedAtStart => "its hour had passed at the start",
        SkipReason::Removed => "removed from the timeline",
        SkipReason::Expired => "too late",
        SkipReason::Unspecified => "",
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
