//! Tasks: when they are complete, and what people report of them.

use super::time::{parse_seconds, seconds};
use crate::domain::{ActionType, Completion, CustomerId, DEFAULT_COMPLETION, ProgressId, TaskOutcome, text, token};
use crate::engine::{ActionName, ReportTask};
use crate::proto::campaign::v1 as pb;
use crate::rpc::violations::Violations;

const OUTCOMES: &str = "TASK_OUTCOME_DONE, TASK_OUTCOME_DECLINED, TASK_OUTCOME_NO_ANSWER, TASK_OUTCOME_CANCELLED";
const COMPLETIONS: &str = "TASK_COMPLETION_REPORTED, TASK_COMPLETION_HANDED_OVER";
const WITHIN_WORDS: &str = "whole seconds, 1 minute to 90 days";

/// When the action at a path is complete. None: there are violations.
pub(super) fn parse_completion(
    violations: &mut Violations,
    path: &str,
    given: &pb::ActionDefinition,
    action_type: Option<ActionType>,
) -> Option<Completion> {
    let mode = match pb::TaskCompletion::try_from(given.completion) {
        Ok(mode) => Some(mode),
        Err(_) => violations.known(format!("{path}.completion"), given.completion, COMPLETIONS),
    };
    let is_task = action_type.map(|given| given == ActionType::CreateTask);
    let only_of_tasks = format!(
        "must not be set unless the action type is {}",
        ActionType::CreateTask.as_str()
    );
    let within = match &given.completion_within {
        None => Some(DEFAULT_COMPLETION),
        Some(given) => {
            let path = format!("{path}.completion_within");
            if is_task == Some(false) {
                violations.add(path, only_of_tasks.as_str());
                None
            } else if mode == Some(pb::TaskCompletion::HandedOver) {
                violations.add(path, "must not be set with TASK_COMPLETION_HANDED_OVER");
                None
            } else {
                violations.check(path, parse_seconds(given, 60, 90 * 86_400, WITHIN_WORDS))
            }
        }
    };
    match (is_task?, mode?) {
        (true, pb::TaskCompletion::Unspecified | pb::TaskCompletion::Reported) => {
            Some(Completion::Reported { within: within? })
        }
        (true, pb::TaskCompletion::HandedOver) | (false, pb::TaskCompletion::Unspecified) => {
            within.map(|_| Completion::HandedOver)
        }
        (false, pb::TaskCompletion::Reported | pb::TaskCompletion::HandedOver) => {
            violations.add(format!("{path}.completion"), only_of_tasks);
            None
        }
    }
}

/// When an action is complete, as messages.
pub(super) fn completion(
    completion: Completion,
    action_type: ActionType,
) -> (pb::TaskCompletion, Option<prost_types::Duration>) {
    match completion {
        Completion::Reported { within } => (pb::TaskCompletion::Reported, Some(seconds(within))),
        Completion::HandedOver if action_type == ActionType::CreateTask => (pb::TaskCompletion::HandedOver, None),
        Completion::HandedOver => (pb::TaskCompletion::Unspecified, None),
    }
}

/// Parses what somebody reports of a task.
pub(in crate::rpc) fn parse_report(
    violations: &mut Violations,
    request: &pb::CompleteInteractionRequest,
) -> Option<ReportTask> {
    let customer = violations.check("customer_id", CustomerId::parse(&request.customer_id));
    let run = violations.id("progress_id", request.progress_id);
    let action = match (request.action_key.as_str(), request.action_id) {
        ("", 0) => {
            violations.add("action_key", "must be set, or action_id in its place");
            None
        }
        ("", id) => violations.id("action_id", id).map(ActionName::id),
        (key, id) => {
            if id != 0 {
                violations.add("action_id", "must not be set where action_key is");
            }
            violations.check("action_key", token(key, "._:-")).map(ActionName::Key)
        }
    };
    let outcome = parse_outcome(violations, "outcome", request.outcome);
    let note = violations.check("note", text::line(&request.note, 500));
    Some(ReportTask {
        customer: customer?,
        run: ProgressId(run?),
        action: action?,
        outcome: outcome?,
        note: note?,
    })
}

/// Parses what came of a task.
pub(super) fn parse_outcome(violations: &mut Violations, path: &str, given: i32) -> Option<TaskOutcome> {
    match violations.known::<pb::TaskOutcome>(path, given, OUTCOMES)? {
        pb::TaskOutcome::Unspecified => None,
        pb::TaskOutcome::Done => Some(TaskOutcome::Done),
        pb::TaskOutcome::Declined => Some(TaskOutcome::Declined),
        pb::TaskOutcome::NoAnswer => Some(TaskOutcome::NoAnswer),
        pb::TaskOutcome::Cancelled => Some(TaskOutcome::Cancelled),
    }
}

/// What came of a task, as a message.
pub(in crate::rpc) fn task_outcome(outcome: TaskOutcome) -> pb::TaskOutcome {
    match outcome {
        TaskOutcome::Done => pb::TaskOutcome::Done,
        TaskOutcome::Declined => pb::TaskOutcome::Declined,
        TaskOutcome::NoAnswer => pb::TaskOutcome::NoAnswer,
        TaskOutcome::Cancelled => pb::TaskOutcome::Cancelled,
    }
}
