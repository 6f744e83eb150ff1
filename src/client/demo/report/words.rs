//! Reasons, in words for people.

use chrono::{DateTime, Duration, Utc};

use super::super::timestamp;
use crate::client::words::one_test;
pub(super) use crate::client::words::{defer_reason, failure_reason};
use crate::proto::campaign::v1::condition_test::Test;
use crate::proto::campaign::v1::{ActionDefinition, ConditionThen, Engagement, EngagementKind};

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
            | Test::TaskOutcome(_)
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
