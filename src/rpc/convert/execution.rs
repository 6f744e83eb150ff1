//! Entries of the ledger, and which of them are meant.

use super::progress::{action_ref, failure_reason, number, provider_state, skip_reason};
use super::task::task_outcome;
use super::time::{parse_time, time};
use super::timeline::channel;
use crate::domain::{
    CustomerId, FailureReason, ProgressId, SkipReason, TaskOutcome, TimelineId, Timestamp, text, token,
};
use crate::engine::{ExecutionView, RetriedActions, RetryActions};
use crate::proto::campaign::v1 as pb;
use crate::rpc::violations::Violations;
use crate::store::{ExecutionFilter, ExecutionKey, ExecutionOutcome, ExecutionReason};

const OUTCOMES: &str = "EXECUTION_OUTCOME_COMPLETED, EXECUTION_OUTCOME_SKIPPED, EXECUTION_OUTCOME_FAILED, \
     EXECUTION_OUTCOME_RETRYING, EXECUTION_OUTCOME_UNKNOWN, EXECUTION_OUTCOME_EXPIRED, EXECUTION_OUTCOME_HANDED_OVER";

/// The most outcomes of a filter, which are more than there are.
const MAX_OUTCOMES: usize = 20;

/// The most actions that are tried again by one call.
const MAX_RETRIES: i32 = 1000;

/// The most keys of actions in one call.
const MAX_KEYS: usize = 1000;

/// An entry as a message.
pub(in crate::rpc) fn execution(view: &ExecutionView) -> pb::Execution {
    let ExecutionView { execution, timeline } = view;
    let (skipped, failed, task) = reasons(execution.reason);
    let (provider_status, provider_status_time, provider_error_code) = provider_state(Some(execution));
    pb::Execution {
        customer_id: execution.customer_id.to_string(),
        progress_id: execution.progress_id.0,
        timeline_id: execution.timeline_id.0,
        action: Some(action_ref(timeline, execution.action_id)),
        attempt: number(execution.attempt),
        due_time: Some(time(execution.due_at)),
        start_time: Some(time(execution.started_at)),
        finish_time: Some(time(execution.finished_at)),
        channel: channel(execution.channel).into(),
        outcome: outcome(execution.outcome).into(),
        skip_reason: skipped.map(skip_reason).unwrap_or_default().into(),
        failure_reason: failed.map(failure_reason).unwrap_or_default().into(),
        task_outcome: task.map(task_outcome).unwrap_or_default().into(),
        detail: execution.detail.clone().unwrap_or_default(),
        provider_id: execution.provider_id.clone().unwrap_or_default(),
        content_revision: execution.content_revision.unwrap_or_default(),
        provider_status,
        provider_status_time,
        provider_error_code,
        resolve_time: execution.resolved_at.map(time),
    }
}

/// Where an entry stands in the list.
pub(in crate::rpc) fn execution_key(view: &ExecutionView) -> ExecutionKey {
    let execution = &view.execution;
    (
        execution.customer_id.as_str().to_owned(),
        execution.progress_id.0,
        execution.action_id.0,
        number(execution.attempt),
    )
}

/// Parses which actions are to be tried again.
pub(in crate::rpc) fn parse_retry(
    violations: &mut Violations,
    given: &pb::RetryActionsRequest,
) -> Option<RetryActions> {
    let filter = given.filter.clone().unwrap_or_default();
    let parsed = parse_filter(violations, &filter);
    let is_dead = |outcome: &ExecutionOutcome| outcome.is_dead();
    if let Some(filter) = &parsed
        && (filter.outcomes.is_empty() || !filter.outcomes.iter().all(is_dead))
    {
        let text = "must be EXECUTION_OUTCOME_FAILED, EXECUTION_OUTCOME_UNKNOWN, or both";
        violations.add("filter.outcomes", text);
    }
    let keys = parse_keys(violations, &given.action_keys);
    let reason = violations.check("reason", text::line(&given.reason, 500));
    let max_actions = match given.max_actions {
        0 => Some(MAX_RETRIES),
        most => violations.within("max_actions", most, 1, MAX_RETRIES),
    };
    Some(RetryActions {
        filter: parsed?,
        keys: keys?,
        reason: reason?,
        max_actions: usize::try_from(max_actions?).ok()?,
        validate_only: given.validate_only,
    })
}

/// What came of trying again as a message.
pub(in crate::rpc) fn retried(result: &RetriedActions) -> pb::RetryActionsResponse {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    pb::RetryActionsResponse {
        retried_actions: number(result.retried),
        ended_run_actions: number(result.in_ended_runs),
        removed_actions: number(result.removed),
        in_flight_actions: number(result.in_flight),
        has_more: result.has_more,
    }
}

fn parse_keys(violations: &mut Violations, given: &[String]) -> Option<Vec<String>> {
    if given.len() > MAX_KEYS {
        let text = format!("must be at most {MAX_KEYS}, but are {}", given.len());
        violations.add("action_keys", text);
        return None;
    }
    let parsed: Vec<Option<String>> = given
        .iter()
        .enumerate()
        .map(|(at, key)| violations.check(format!("action_keys[{at}]"), token(key, "._:-")))
        .collect();
    parsed.into_iter().collect()
}

/// Parses which entries are meant.
pub(in crate::rpc) fn parse_filter(
    violations: &mut Violations,
    given: &pb::ExecutionFilter,
) -> Option<ExecutionFilter> {
    let customer_id = violations.optional("filter.customer_id", &given.customer_id, CustomerId::parse);
    let progress_id = match given.progress_id {
        0 => None,
        id => violations.id("filter.progress_id", id).map(ProgressId),
    };
    if given.progress_id != 0 && given.customer_id.is_empty() {
        violations.add("filter.customer_id", "must be set where progress_id is");
    }
    let timeline_id = match given.timeline_id {
        0 => None,
        id => violations.id("filter.timeline_id", id).map(TimelineId),
    };
    let outcomes = parse_outcomes(violations, &given.outcomes);
    let mut instant = |field: &str, given: Option<&prost_types::Timestamp>| -> Option<Timestamp> {
        violations.check(format!("filter.{field}"), parse_time(given?))
    };
    let finished_from = instant("finish_time_from", given.finish_time_from.as_ref());
    let finished_until = instant("finish_time_until", given.finish_time_until.as_ref());
    if finished_from
        .zip(finished_until)
        .is_some_and(|(from, until)| from >= until)
    {
        violations.add("filter.finish_time_until", "must be after finish_time_from");
    }
    Some(ExecutionFilter {
        customer_id,
        progress_id,
        timeline_id,
        outcomes: outcomes?,
        finished_from,
        finished_until,
    })
}

fn parse_outcomes(violations: &mut Violations, given: &[i32]) -> Option<Vec<ExecutionOutcome>> {
    if given.len() > MAX_OUTCOMES {
        let text = format!("must be at most {MAX_OUTCOMES}, but are {}", given.len());
        violations.add("filter.outcomes", text);
        return None;
    }
    let parsed: Vec<Option<ExecutionOutcome>> = given
        .iter()
        .enumerate()
        .map(|(at, number)| {
            let known = violations.known(format!("filter.outcomes[{at}]"), *number, OUTCOMES);
            known.and_then(outcome_of)
        })
        .collect();
    parsed.into_iter().collect()
}

fn outcome(outcome: ExecutionOutcome) -> pb::ExecutionOutcome {
    match outcome {
        ExecutionOutcome::Completed => pb::ExecutionOutcome::Completed,
        ExecutionOutcome::Skipped => pb::ExecutionOutcome::Skipped,
        ExecutionOutcome::Failed => pb::ExecutionOutcome::Failed,
        ExecutionOutcome::Retrying => pb::ExecutionOutcome::Retrying,
        ExecutionOutcome::Unknown => pb::ExecutionOutcome::Unknown,
        ExecutionOutcome::Expired => pb::ExecutionOutcome::Expired,
        ExecutionOutcome::HandedOver => pb::ExecutionOutcome::HandedOver,
    }
}

fn outcome_of(given: pb::ExecutionOutcome) -> Option<ExecutionOutcome> {
    match given {
        pb::ExecutionOutcome::Unspecified => None,
        pb::ExecutionOutcome::Completed => Some(ExecutionOutcome::Completed),
        pb::ExecutionOutcome::Skipped => Some(ExecutionOutcome::Skipped),
        pb::ExecutionOutcome::Failed => Some(ExecutionOutcome::Failed),
        pb::ExecutionOutcome::Retrying => Some(ExecutionOutcome::Retrying),
        pb::ExecutionOutcome::Unknown => Some(ExecutionOutcome::Unknown),
        pb::ExecutionOutcome::Expired => Some(ExecutionOutcome::Expired),
        pb::ExecutionOutcome::HandedOver => Some(ExecutionOutcome::HandedOver),
    }
}

fn reasons(reason: Option<ExecutionReason>) -> (Option<SkipReason>, Option<FailureReason>, Option<TaskOutcome>) {
    match reason {
        None => (None, None, None),
        Some(ExecutionReason::Skip(reason)) => (Some(reason), None, None),
        Some(ExecutionReason::Failure(reason)) => (None, Some(reason), None),
        Some(ExecutionReason::Task(outcome)) => (None, None, Some(outcome)),
    }
}
