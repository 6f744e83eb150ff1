//! Tests, reasons and instants, in words for people.

use chrono::{DateTime, Utc};

use crate::proto::campaign::v1::condition_test::Test;
use crate::proto::campaign::v1::{ConditionTests, DeferReason, FailureReason};

/// What holds, or what does not, where `holds` is false.
pub(super) fn one_test(test: &Test, holds: bool) -> String {
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
        Test::TaskOutcome(it) => {
            let outcome = word(it.outcome().as_str_name(), "TASK_OUTCOME_");
            format!("{} {not}{outcome}", it.of_action)
        }
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

/// Why an attempt failed.
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

/// What an action waits for.
pub(super) fn defer_reason(reason: DeferReason) -> &'static str {
    match reason {
        DeferReason::WaitingForAction => "waits for an earlier action",
        DeferReason::Spacing => "kept apart from another late message",
        DeferReason::ChannelUnavailable => "the channel is stopped",
        DeferReason::SendingHeld => "sending is held",
        DeferReason::QuietHours => "it is quiet there",
        DeferReason::WaitingForCompletion => "somebody has the task",
        DeferReason::WaitingForEvent => "waits for an event",
        DeferReason::RateLimited => "the channel's rate is reached",
        DeferReason::Unspecified => "",
    }
}

/// What a value of an enum is called, without what all of its names begin with.
pub(super) fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase().replace('_', " ")
}

/// An instant of a message, to the second; empty where there is none.
pub(super) fn instant(time: Option<&prost_types::Timestamp>) -> String {
    let time = time.and_then(|time| DateTime::from_timestamp(time.seconds, 0));
    time.map(|time| time.format("%FT%TZ").to_string()).unwrap_or_default()
}

/// An instant as a message.
pub(super) fn message(time: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.timestamp(),
        nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or_default(),
    }
}
