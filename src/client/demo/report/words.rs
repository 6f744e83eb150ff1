//! Reasons, in words for people.

use chrono::{DateTime, Duration, Utc};

use super::super::timestamp;
use crate::proto::campaign::v1::condition_test::Test;
use crate::proto::campaign::v1::{
    ActionDefinition, ConditionTests, ConditionThen, DeferReason, Engagement, EngagementKind, FailureReason,
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
        let Some(test) = condition.test.clone().map(Test::from) else {
            continue;
        };
        let is_ruled_out = match &test {
            Test::EmailOpened(opened) if opened.of_action.is_empty() => {
                at.is_some_and(|at| was_opened(engagements, at, opened.within_hours) != skips_when_it_holds)
            }
            Test::EmailOpened(_)
            | Test::EngagementScoreAbove(_)
            | Test::PipelineStage(_)
            | Test::EmailClicked(_)
            | Test::Replied(_)
            | Test::Event(_)
            | Test::Attribute(_)
            | Test::All(_)
            | Test::Any(_)
            | Test::Not(_) => false,
        };
        if !is_ruled_out {
            reasons.push(one_test(&test, skips_when_it_holds));
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

/// What holds, or what does not, where `holds` is false.
fn one_test(test: &Test, holds: bool) -> String {
    let did = |done: &str, not_done: &str, within_hours: i32| {
        format!("{} within {within_hours} h", if holds { done } else { not_done })
    };
    let not = if holds { "" } else { "not " };
    match test {
        Test::EmailOpened(it) => did("opened a mail", "opened no mail", it.within_hours),
        Test::EmailClicked(it) => did("followed a link", "followed no link", it.within_hours),
        Test::Replied(it) => did("replied", "did not reply", it.within_hours),
        Test::Event(it) => did(&it.name, &format!("no {}", it.name), it.within_hours),
        Test::EngagementScoreAbove(it) => format!("score {not}above {}", it.threshold),
        Test::PipelineStage(it) => format!("{not}in stage {}", it.stage),
        Test::Attribute(it) => format!("{} {not}as asked", it.name),
        Test::Not(it) => it.test.as_ref().map_or_else(String::new, |test| one_test(test, !holds)),
        // Not all of several means that one of them does not hold, and none of several that all of them don't.
        Test::All(several) => joined(several, holds, if holds { " and " } else { " or " }),
        Test::Any(several) => joined(several, holds, if holds { " or " } else { " and " }),
    }
}

fn joined(several: &ConditionTests, holds: bool, with: &str) -> String {
    let each = several.of.iter().filter_map(|test| test.test.as_ref());
    let each: Vec<String> = each.map(|test| one_test(test, holds)).collect();
    format!("({})", each.join(with))
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
