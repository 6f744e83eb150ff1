//! Runs as they are shown.

use std::collections::HashMap;

use super::task::task_outcome;
use super::time::{date, time};
use super::timeline::{action_type, channel};
use crate::domain::{
    ActionId, DeferReason, FailureReason, FailureState, Origin, ProgressId, Run, SkipReason, Status, Timeline, Zone,
    plan,
};
use crate::engine::RunView;
use crate::proto::campaign::v1 as pb;
use crate::store::{Execution, ExecutionReason};

/// A run as a message.
pub(in crate::rpc) fn progress(view: &RunView) -> pb::Progress {
    let RunView {
        run,
        timeline,
        executions,
        now,
    } = view;
    let ledger: HashMap<ActionId, &Execution> = executions
        .iter()
        .map(|execution| (execution.action_id, execution))
        .collect();
    let is_served = run.status == Status::Active && timeline.definition.is_active;
    let next = if is_served && run.in_flight.is_empty() {
        plan::next_action(timeline, run, *now)
    } else {
        None
    };
    pb::Progress {
        progress_id: run.id.0,
        customer_id: run.customer_id.to_string(),
        timeline_id: run.timeline_id.0,
        timeline_slug: timeline.definition.slug.to_string(),
        timeline_name: timeline.definition.name.clone(),
        timeline_is_active: timeline.definition.is_active,
        origin: origin(run.origin).into(),
        status: status(run.status).into(),
        status_reason: run.status_reason.clone(),
        current_day: run.current_day,
        day_date: Some(date(run.day_date)),
        duration_days: timeline.definition.duration_days,
        percent_complete: run.percent_complete(timeline.definition.duration_days),
        shifted_days: run.shifted_days,
        time_zone: run.zone.tz.name().to_owned(),
        time_zone_source: zone_source(run.zone).into(),
        start_time: Some(time(run.started_at)),
        end_time: run.ended_at.map(time),
        update_time: Some(time(run.updated_at)),
        completed_actions: run
            .completed
            .iter()
            .map(|id| completed(view, *id, ledger.get(id).copied()))
            .collect(),
        skipped_actions: run
            .skipped
            .iter()
            .map(|skipped| pb::SkippedAction {
                action: Some(action_ref(timeline, skipped.id)),
                skip_time: ledger.get(&skipped.id).map(|execution| time(execution.finished_at)),
                reason: skip_reason(skipped.reason).into(),
                detail: detail(ledger.get(&skipped.id).copied()),
            })
            .collect(),
        failed_actions: failed(timeline, run, &ledger),
        deferred_actions: run
            .deferred
            .iter()
            .map(|deferred| pb::DeferredAction {
                action: Some(action_ref(timeline, deferred.id)),
                until_time: Some(time(deferred.until)),
                reason: defer_reason(deferred.reason).into(),
            })
            .collect(),
        in_flight_actions: run
            .in_flight
            .iter()
            .map(|in_flight| pb::InFlightAction {
                action: Some(action_ref(timeline, in_flight.id)),
                attempt: number(in_flight.attempt),
            })
            .collect(),
        next_action: next.map(|(id, due)| pb::NextAction {
            action: Some(action_ref(timeline, id)),
            due_time: Some(time(due)),
        }),
        jumped_days: run
            .jumped_days
            .iter()
            .map(|(first_day, last_day)| pb::DayRange {
                first_day: *first_day,
                last_day: *last_day,
            })
            .collect(),
    }
}

fn detail(execution: Option<&Execution>) -> String {
    execution
        .and_then(|execution| execution.detail.clone())
        .unwrap_or_default()
}

/// What a provider last reported of an attempt: its word, when, and its code for what went wrong.
pub(super) fn provider_state(execution: Option<&Execution>) -> (String, Option<prost_types::Timestamp>, String) {
    let Some(state) = execution.and_then(|execution| execution.provider_state.as_ref()) else {
        return (String::new(), None, String::new());
    };
    let code = state.error_code.clone().unwrap_or_default();
    (state.status.as_str().to_owned(), Some(time(state.at)), code)
}

fn completed(view: &RunView, id: ActionId, execution: Option<&Execution>) -> pb::CompletedAction {
    let (provider_status, provider_status_time, provider_error_code) = provider_state(execution);
    let report = view.run.task_report(id);
    let ended_at = execution.map(|execution| execution.finished_at);
    pb::CompletedAction {
        action: Some(action_ref(&view.timeline, id)),
        complete_time: report.map(|report| report.at).or(ended_at).map(time),
        attempts: execution.map_or(1, attempts),
        provider_id: execution
            .and_then(|execution| execution.provider_id.clone())
            .unwrap_or_default(),
        content_revision: execution
            .and_then(|execution| execution.content_revision)
            .unwrap_or_default(),
        provider_status,
        provider_status_time,
        provider_error_code,
        task_outcome: report
            .map(|report| task_outcome(report.outcome))
            .unwrap_or_default()
            .into(),
        detail: detail(execution),
    }
}

/// How many attempts there were up to an entry of the ledger. That a task was reported is none.
pub(in crate::rpc) fn attempts(execution: &Execution) -> i32 {
    let is_report = matches!(execution.reason, Some(ExecutionReason::Task(_)));
    number(execution.attempt.saturating_sub(u32::from(is_report)))
}

fn failed(timeline: &Timeline, run: &Run, ledger: &HashMap<ActionId, &Execution>) -> Vec<pb::FailedAction> {
    let message = |failed: &crate::domain::Failed| {
        let state = match failed.state {
            FailureState::Retrying(_) => pb::FailureState::Retrying,
            FailureState::Failed => pb::FailureState::Failed,
            FailureState::Unknown => pb::FailureState::Unknown,
        };
        let (provider_status, provider_status_time, provider_error_code) =
            provider_state(ledger.get(&failed.id).copied());
        pb::FailedAction {
            action: Some(action_ref(timeline, failed.id)),
            state: state.into(),
            attempts: number(failed.attempts),
            fail_time: Some(time(failed.at)),
            reason: failure_reason(failed.reason).into(),
            error: failed.error.clone(),
            next_retry_time: failed.retry_at().map(time),
            retry_reason: failed.retry_reason.clone(),
            provider_status,
            provider_status_time,
            provider_error_code,
        }
    };
    run.failed.iter().map(message).collect()
}

/// An action as it is defined now.
pub(in crate::rpc) fn action_ref(timeline: &Timeline, id: ActionId) -> pb::ActionRef {
    let Some(action) = timeline.action(id) else {
        return pb::ActionRef {
            action_id: id.0,
            is_removed: true,
            ..pb::ActionRef::default()
        };
    };
    let definition = &action.definition;
    pb::ActionRef {
        action_id: id.0,
        key: definition.key.clone(),
        day_number: definition.day_number,
        delay_hours: number(definition.delay_hours),
        channel: channel(definition.channel).into(),
        action_type: action_type(definition.action_type).into(),
        campaign_id: definition
            .campaign_id
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        is_removed: action.removed_at.is_some(),
    }
}

/// Where a zone came from.
pub(in crate::rpc) fn zone_source(zone: Zone) -> pb::TimeZoneSource {
    if zone.is_default {
        pb::TimeZoneSource::Default
    } else {
        pb::TimeZoneSource::Customer
    }
}

/// A status as a message.
pub(in crate::rpc) fn status(status: Status) -> pb::ProgressStatus {
    match status {
        Status::Active => pb::ProgressStatus::Active,
        Status::Paused => pb::ProgressStatus::Paused,
        Status::Completed => pb::ProgressStatus::Completed,
        Status::Stopped => pb::ProgressStatus::Stopped,
    }
}

/// A status from a filter; none: any.
pub(in crate::rpc) fn parse_status(given: pb::ProgressStatus) -> Option<Status> {
    match given {
        pb::ProgressStatus::Unspecified => None,
        pb::ProgressStatus::Active => Some(Status::Active),
        pb::ProgressStatus::Paused => Some(Status::Paused),
        pb::ProgressStatus::Completed => Some(Status::Completed),
        pb::ProgressStatus::Stopped => Some(Status::Stopped),
    }
}

fn origin(origin: Origin) -> pb::ProgressOrigin {
    match origin {
        Origin::Started => pb::ProgressOrigin::Started,
        Origin::Assigned { .. } => pb::ProgressOrigin::Assigned,
    }
}

/// A reason as a message.
pub(in crate::rpc) fn skip_reason(reason: SkipReason) -> pb::SkipReason {
    match reason {
        SkipReason::Condition => pb::SkipReason::Condition,
        SkipReason::Gated => pb::SkipReason::Gated,
        SkipReason::HourPassedAtStart => pb::SkipReason::HourPassedAtStart,
        SkipReason::Removed => pb::SkipReason::Removed,
        SkipReason::Expired => pb::SkipReason::Expired,
        SkipReason::QuietHoursUnknown => pb::SkipReason::QuietHoursUnknown,
        SkipReason::Suppressed => pb::SkipReason::Suppressed,
        SkipReason::NotCompletedInTime => pb::SkipReason::NotCompletedInTime,
        SkipReason::EventMissing => pb::SkipReason::EventMissing,
    }
}

/// A reason as a message.
pub(in crate::rpc) fn failure_reason(reason: FailureReason) -> pb::FailureReason {
    match reason {
        FailureReason::Rejected => pb::FailureReason::Rejected,
        FailureReason::Temporary => pb::FailureReason::Temporary,
        FailureReason::OutcomeUnknown => pb::FailureReason::OutcomeUnknown,
        FailureReason::MissingAddress => pb::FailureReason::MissingAddress,
        FailureReason::Template => pb::FailureReason::Template,
        FailureReason::Misconfigured => pb::FailureReason::Misconfigured,
        FailureReason::Suppressed => pb::FailureReason::Suppressed,
    }
}

/// A reason as a message.
pub(in crate::rpc) fn defer_reason(reason: DeferReason) -> pb::DeferReason {
    match reason {
        DeferReason::WaitingForAction => pb::DeferReason::WaitingForAction,
        DeferReason::Spacing => pb::DeferReason::Spacing,
        DeferReason::ChannelUnavailable => pb::DeferReason::ChannelUnavailable,
        DeferReason::SendingHeld => pb::DeferReason::SendingHeld,
        DeferReason::QuietHours => pb::DeferReason::QuietHours,
        DeferReason::WaitingForCompletion => pb::DeferReason::WaitingForCompletion,
        DeferReason::WaitingForEvent => pb::DeferReason::WaitingForEvent,
        DeferReason::RateLimited => pb::DeferReason::RateLimited,
    }
}

/// Ids of runs as they are listed.
pub(in crate::rpc) fn ids(runs: &[ProgressId]) -> Vec<i64> {
    runs.iter().map(|run| run.0).collect()
}

/// A count as it is shown.
pub(in crate::rpc) fn number(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
