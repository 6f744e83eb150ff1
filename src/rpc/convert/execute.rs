//! What became of actions that a call executed.

use super::progress::{action_ref, defer_reason, failure_reason, skip_reason, status};
use super::time::time;
use crate::domain::{FailureState, Timeline};
use crate::engine::{ActionReport, ActionReportKind, RunHold, RunReport};
use crate::proto::campaign::v1 as pb;

/// The reports as a message.
pub(in crate::rpc) fn executed(reports: &[RunReport]) -> pb::ExecuteActionsResponse {
    pb::ExecuteActionsResponse {
        runs: reports.iter().map(run).collect(),
    }
}

fn run(report: &RunReport) -> pb::RunResult {
    let hold = match report.hold {
        None => pb::RunHold::Unspecified,
        Some(RunHold::Paused) => pb::RunHold::Paused,
        Some(RunHold::TimelineInactive) => pb::RunHold::TimelineInactive,
    };
    pb::RunResult {
        progress_id: report.run.id.0,
        timeline_id: report.run.timeline_id.0,
        status: status(report.run.status).into(),
        current_day: report.run.current_day,
        hold: hold.into(),
        actions: report
            .actions
            .iter()
            .map(|action| result(&report.timeline, action))
            .collect(),
    }
}

fn result(timeline: &Timeline, report: &ActionReport) -> pb::ActionResult {
    let base = pb::ActionResult {
        action: Some(action_ref(timeline, report.id)),
        ..pb::ActionResult::default()
    };
    match &report.kind {
        ActionReportKind::Executed { provider_id } => pb::ActionResult {
            outcome: pb::ActionOutcome::Executed.into(),
            provider_id: provider_id.clone().unwrap_or_default(),
            ..base
        },
        ActionReportKind::Skipped(reason) => {
            let outcome = if reason.is_expiry() {
                pb::ActionOutcome::Expired
            } else {
                pb::ActionOutcome::Skipped
            };
            pb::ActionResult {
                outcome: outcome.into(),
                skip_reason: skip_reason(*reason).into(),
                ..base
            }
        }
        ActionReportKind::Failed { state, reason, error } => {
            let (outcome, until) = match state {
                FailureState::Retrying(at) => (pb::ActionOutcome::Retrying, Some(*at)),
                FailureState::Failed => (pb::ActionOutcome::Failed, None),
                FailureState::Unknown => (pb::ActionOutcome::Unknown, None),
            };
            pb::ActionResult {
                outcome: outcome.into(),
                failure_reason: failure_reason(*reason).into(),
                error: error.clone(),
                until_time: until.map(time),
                ..base
            }
        }
        ActionReportKind::Deferred { until, reason } => pb::ActionResult {
            outcome: pb::ActionOutcome::Deferred.into(),
            defer_reason: defer_reason(*reason).into(),
            until_time: Some(time(*until)),
            ..base
        },
        ActionReportKind::NotDue(until) => pb::ActionResult {
            outcome: pb::ActionOutcome::NotDue.into(),
            until_time: Some(time(*until)),
            ..base
        },
        ActionReportKind::InFlight => pb::ActionResult {
            outcome: pb::ActionOutcome::InFlight.into(),
            ..base
        },
    }
}
