//! What was decided without sending anything, as it is told: in the counts of ticks, in the ledger, and to those who watch.

use super::Engine;
use super::flight::count_outcome;
use crate::domain::{Decision, DeferReason, FailureState, Run, TickCounts, Timeline, Timestamp, Verdict};
use crate::store::{Execution, ExecutionOutcome, ExecutionReason};
use crate::telemetry::{RunStep, run_step};

impl Engine {
    /// Notes a claim that is committed, for whoever watches the server.
    pub(super) fn note_claim(
        &self,
        timeline: &Timeline,
        run: &Run,
        decisions: &[Decision],
        is_test: bool,
        is_rescued: bool,
    ) {
        self.metrics.rescued(u64::from(is_rescued));
        for decision in decisions.iter().filter(|_| !is_test) {
            if let Some(action) = timeline.action(decision.action) {
                let decided = outcome_of(&decision.verdict);
                let outcome = decided.map_or("deferred", |(outcome, _, _)| outcome.as_str());
                self.metrics.acted(action.definition.channel, outcome);
            }
        }
        if run.trace_parent.is_some() {
            for in_flight in &run.in_flight {
                let action = timeline.action(in_flight.id);
                let step = RunStep {
                    name: "claim",
                    run: run.id,
                    action: Some((in_flight.id, in_flight.attempt)),
                    channel: action.map(|action| action.definition.channel),
                };
                drop(run_step(run.trace_parent.as_ref(), step));
            }
        }
    }
}

/// Counts a decision for the summary of a tick.
pub(super) fn count_decision(counts: &mut TickCounts, timeline: &Timeline, decision: &Decision) {
    let Some(action) = timeline.action(decision.action) else {
        return;
    };
    let channel = action.definition.channel;
    if let Some((outcome, _, _)) = outcome_of(&decision.verdict) {
        count_outcome(counts, channel, outcome);
    } else {
        counts.channel(channel).deferred += 1;
        counts.held += u64::from(is_held(&decision.verdict));
    }
}

/// Whether a sending hold put it off.
fn is_held(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Deferred { reason, .. } if *reason == DeferReason::SendingHeld)
}

/// The ledger's word for a decision, its reason and its error; none for what is only put off.
fn outcome_of(verdict: &Verdict) -> Option<(ExecutionOutcome, Option<ExecutionReason>, Option<String>)> {
    Some(match verdict {
        Verdict::Completed => (ExecutionOutcome::Completed, None, None),
        Verdict::Skipped(reason) => {
            let outcome = if reason.is_expiry() {
                ExecutionOutcome::Expired
            } else {
                ExecutionOutcome::Skipped
            };
            (outcome, Some(ExecutionReason::Skip(*reason)), None)
        }
        Verdict::Deferred { .. } => return None,
        Verdict::Failed { state, reason, error } => {
            let outcome = match state {
                FailureState::Retrying(_) => ExecutionOutcome::Retrying,
                FailureState::Failed => ExecutionOutcome::Failed,
                FailureState::Unknown => ExecutionOutcome::Unknown,
            };
            (outcome, Some(ExecutionReason::Failure(*reason)), Some(error.clone()))
        }
    })
}

/// The entry of the ledger for a decision; none for what is only put off.
pub(super) fn entry(run: &Run, timeline: &Timeline, decision: &Decision, now: Timestamp) -> Option<Execution> {
    let (outcome, reason, error) = outcome_of(&decision.verdict)?;
    let detail = error.or_else(|| decision.detail.clone());
    Some(Execution {
        customer_id: run.customer_id.clone(),
        progress_id: run.id,
        action_id: decision.action,
        timeline_id: timeline.id,
        attempt: decision.attempt,
        due_at: decision.due,
        started_at: now,
        finished_at: now,
        channel: timeline.action(decision.action)?.definition.channel,
        outcome,
        reason,
        provider_id: None,
        detail,
        content_revision: None,
        provider_state: None,
        resolved_at: None,
    })
}
