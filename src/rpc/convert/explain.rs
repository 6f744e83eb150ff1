//! Explanations, as messages and in words.

use std::collections::HashMap;

use super::condition::finding;
use super::progress::{
    action_ref, attempts as attempts_of, failure_reason, number, provider_state, skip_reason, status,
};
use super::sending::hold as sending_hold;
use super::time::{date, time};
use crate::domain::explain::{Expected, ExplainedAction, Hold, Never, Standing};
use crate::domain::{ActionId, DeferReason, FailureState, SkipReason, Timestamp};
use crate::engine::{RunExplanation, RunView};
use crate::proto::campaign::v1 as pb;
use crate::store::Execution;

/// A run with what is to be said about it as a message.
pub(in crate::rpc) fn explanation(explained: &RunExplanation) -> pb::RunExplanation {
    let RunExplanation { view, explanation } = explained;
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
    let actions = explanation.actions.iter();
    let actions = actions.map(|explained| action(view, explained, ledger.get(&explained.id).copied()));
    pb::RunExplanation {
        customer_id: run.customer_id.to_string(),
        progress_id: run.id.0,
        timeline_id: run.timeline_id.0,
        timeline_slug: timeline.definition.slug.to_string(),
        status: status(run.status).into(),
        status_reason: run.status_reason.clone(),
        timeline_is_active: timeline.definition.is_active,
        current_day: run.current_day,
        day_date: Some(date(run.day_date)),
        time_zone: run.zone.tz.name().to_owned(),
        look_time: Some(time(*now)),
        next_look_time: explanation.next_look.map(time),
        actions: actions.collect(),
    }
}

fn action(view: &RunView, explained: &ExplainedAction, execution: Option<&Execution>) -> pb::ActionExplanation {
    let base = pb::ActionExplanation {
        action: Some(action_ref(&view.timeline, explained.id)),
        due_time: explained.due.map(time),
        attempts: attempts(view, explained.id),
        conditions: explained.findings.iter().map(finding).collect(),
        sending_hold: explained.sending_hold.as_ref().map(sending_hold),
        ..pb::ActionExplanation::default()
    };
    let of_ledger = || pb::ActionExplanation {
        due_time: execution.map(|execution| time(execution.due_at)),
        end_time: execution.map(|execution| time(execution.finished_at)),
        detail: execution
            .and_then(|execution| execution.detail.clone())
            .unwrap_or_default(),
        provider_status: provider_state(execution).0,
        ..base.clone()
    };
    let message = match &explained.standing {
        Standing::Completed => pb::ActionExplanation {
            standing: pb::ActionStanding::Completed.into(),
            attempts: execution.map_or(1, attempts_of),
            provider_id: execution
                .and_then(|execution| execution.provider_id.clone())
                .unwrap_or_default(),
            ..of_ledger()
        },
        Standing::Skipped(reason) => {
            let standing = match reason {
                SkipReason::Expired | SkipReason::NotCompletedInTime => pb::ActionStanding::Expired,
                SkipReason::Condition
                | SkipReason::Gated
                | SkipReason::HourPassedAtStart
                | SkipReason::Removed
                | SkipReason::QuietHoursUnknown
                | SkipReason::Suppressed
                | SkipReason::EventMissing => pb::ActionStanding::Skipped,
            };
            pb::ActionExplanation {
                standing: standing.into(),
                skip_reason: skip_reason(*reason).into(),
                ..of_ledger()
            }
        }
        Standing::Failed(state) => failed(view, explained.id, *state, of_ledger()),
        Standing::InFlight { attempt, until } => pb::ActionExplanation {
            standing: pb::ActionStanding::InFlight.into(),
            attempts: number(*attempt),
            until_time: Some(time(*until)),
            ..base
        },
        Standing::Due(expected) => due(expected, base),
        Standing::Held { by, until } => held(view, explained.id, *by, *until, base),
        Standing::Never(never) => pb::ActionExplanation {
            standing: pb::ActionStanding::Never.into(),
            never_reason: never_reason(*never).into(),
            ..base
        },
    };
    pb::ActionExplanation {
        summary: summary(view, explained, &message),
        ..message
    }
}

fn attempts(view: &RunView, id: ActionId) -> i32 {
    number(view.run.attempts(id))
}

fn failed(view: &RunView, id: ActionId, state: FailureState, base: pb::ActionExplanation) -> pb::ActionExplanation {
    let failed = view.run.failed.iter().find(|failed| failed.id == id);
    let standing = match state {
        FailureState::Unknown => pb::ActionStanding::Unknown,
        FailureState::Failed | FailureState::Retrying(_) => pb::ActionStanding::Failed,
    };
    pb::ActionExplanation {
        standing: standing.into(),
        failure_reason: failed
            .map(|failed| failure_reason(failed.reason))
            .unwrap_or_default()
            .into(),
        detail: failed.map(|failed| failed.error.clone()).unwrap_or_default(),
        ..base
    }
}

fn due(expected: &Expected, base: pb::ActionExplanation) -> pb::ActionExplanation {
    let base = pb::ActionExplanation {
        standing: pb::ActionStanding::Due.into(),
        ..base
    };
    match expected {
        Expected::Send | Expected::Complete => pb::ActionExplanation {
            next_outcome: pb::ActionOutcome::Executed.into(),
            ..base
        },
        Expected::Skip { reason, detail } => {
            let outcome = if reason.is_expiry() {
                pb::ActionOutcome::Expired
            } else {
                pb::ActionOutcome::Skipped
            };
            pb::ActionExplanation {
                next_outcome: outcome.into(),
                skip_reason: skip_reason(*reason).into(),
                detail: detail.clone().unwrap_or_default(),
                ..base
            }
        }
        Expected::Fail { state, reason, error } => {
            let outcome = match state {
                FailureState::Retrying(_) => pb::ActionOutcome::Retrying,
                FailureState::Failed => pb::ActionOutcome::Failed,
                FailureState::Unknown => pb::ActionOutcome::Unknown,
            };
            pb::ActionExplanation {
                next_outcome: outcome.into(),
                failure_reason: failure_reason(*reason).into(),
                detail: error.clone(),
                ..base
            }
        }
        Expected::InTurn => base,
    }
}

fn held(
    view: &RunView,
    id: ActionId,
    by: Hold,
    until: Option<Timestamp>,
    base: pb::ActionExplanation,
) -> pb::ActionExplanation {
    let hold = match by {
        Hold::RunPaused => pb::ActionHold::RunPaused,
        Hold::TimelineInactive => pb::ActionHold::TimelineInactive,
        Hold::DayNotReached => pb::ActionHold::DayNotReached,
        Hold::HourNotReached => pb::ActionHold::HourNotReached,
        Hold::Missed => pb::ActionHold::Missed,
        Hold::Retry => pb::ActionHold::Retry,
        Hold::Deferred(DeferReason::WaitingForAction) => pb::ActionHold::WaitingForAction,
        Hold::Deferred(DeferReason::Spacing) => pb::ActionHold::Spacing,
        Hold::Deferred(DeferReason::ChannelUnavailable) => pb::ActionHold::ChannelUnavailable,
        Hold::Deferred(DeferReason::SendingHeld) => pb::ActionHold::SendingHeld,
        Hold::Deferred(DeferReason::QuietHours) => pb::ActionHold::QuietHours,
        Hold::Deferred(DeferReason::WaitingForCompletion) => pb::ActionHold::WaitingForCompletion,
        Hold::Deferred(DeferReason::WaitingForEvent) => pb::ActionHold::WaitingForEvent,
        Hold::Deferred(DeferReason::RateLimited) => pb::ActionHold::RateLimited,
    };
    let failed = view.run.failed.iter().find(|failed| failed.id == id);
    pb::ActionExplanation {
        standing: pb::ActionStanding::Held.into(),
        hold: hold.into(),
        until_time: until.map(time),
        failure_reason: failed
            .map(|failed| failure_reason(failed.reason))
            .unwrap_or_default()
            .into(),
        detail: failed.map(|failed| failed.error.clone()).unwrap_or_default(),
        ..base
    }
}

fn never_reason(never: Never) -> pb::NeverReason {
    match never {
        Never::DayPassed => pb::NeverReason::DayPassed,
        Never::DayJumped => pb::NeverReason::DayJumped,
        Never::RunEnded => pb::NeverReason::RunEnded,
    }
}

/// All of it in one sentence.
fn summary(view: &RunView, explained: &ExplainedAction, message: &pb::ActionExplanation) -> String {
    let detail = |text: String| match message.detail.as_str() {
        "" => text,
        detail => format!("{text}: {detail}"),
    };
    let local = |at: Timestamp| {
        let there = at.with_timezone(&view.run.zone.tz);
        format!("{} {}", there.format("%F %H:%M"), view.run.zone.tz.name())
    };
    let until = |until: &Option<Timestamp>| until.map_or_else(|| "later".to_owned(), |at| format!("at {}", local(at)));
    // What the conditions say now decides later, so it is only said where it would skip.
    let would_skip = explained
        .findings
        .iter()
        .find(|finding| finding.verdict == crate::domain::Then::Skip)
        .map(|finding| format!("; as things are it would be skipped: {}", finding.in_words(view.now)))
        .unwrap_or_default();
    match &explained.standing {
        Standing::Completed if message.provider_status.is_empty() => "It was carried out.".to_owned(),
        Standing::Completed => {
            let status = &message.provider_status;
            format!("It was carried out. Its provider reports: {status}.")
        }
        Standing::Skipped(reason) => format!("{}.", detail(skipped_in_words(*reason).to_owned())),
        Standing::Failed(FailureState::Unknown) => {
            detail("It may have been delivered, and is not sent again; RetryActions does so if you want".to_owned())
        }
        Standing::Failed(FailureState::Failed | FailureState::Retrying(_)) => {
            detail("It failed for good; RetryActions tries it again".to_owned())
        }
        Standing::InFlight { attempt, .. } => format!("It is being carried out now, attempt {attempt}."),
        Standing::Due(Expected::Send) => "It is due, and the next tick sends it.".to_owned(),
        Standing::Due(Expected::Complete) => "It is due, and the next tick completes it.".to_owned(),
        Standing::Due(Expected::Skip { reason, .. }) => {
            let why = detail(skipped_in_words(*reason).to_owned());
            format!("It is due, and the next tick skips it. {why}.")
        }
        Standing::Due(Expected::Fail { .. }) => detail("It is due, and the next tick notes that it failed".to_owned()),
        Standing::Due(Expected::InTurn) => "It is due, and goes after the messages before it.".to_owned(),
        Standing::Held { by, until: at } => match by {
            Hold::RunPaused => format!("The run is paused; ResumeTimeline thaws it{would_skip}."),
            Hold::TimelineInactive => {
                format!("The timeline is inactive; SetTimelineActive switches it on{would_skip}.")
            }
            Hold::DayNotReached => format!("Its day has not come: it is due {}{would_skip}.", until(at)),
            Hold::HourNotReached => format!("Its hour has not come: it is due {}{would_skip}.", until(at)),
            Hold::Missed => format!(
                "Its hour was missed because nobody ticked; the day is repeated, and it is looked at {}{would_skip}.",
                until(at)
            ),
            Hold::Retry => detail(format!("It failed, and is tried again {}", until(at))),
            Hold::Deferred(DeferReason::WaitingForAction) => format!(
                "It waits for an earlier action that is not final yet, and is looked at {}{would_skip}.",
                until(at)
            ),
            Hold::Deferred(DeferReason::Spacing) => format!(
                "Another late message of this channel went just before; it is looked at {}{would_skip}.",
                until(at)
            ),
            Hold::Deferred(DeferReason::ChannelUnavailable) => format!(
                "Its channel is stopped, as its provider can't be used or fails (GetSendingStatus says why; ResetCircuit ends that); it is looked \
                 at {}{would_skip}.",
                until(at)
            ),
            Hold::Deferred(DeferReason::RateLimited) => format!(
                "As much goes by its channel as may; it has its turn {}{would_skip}.",
                until(at)
            ),
            Hold::Deferred(DeferReason::QuietHours) => format!(
                "It is quiet where the customer is; it is looked at {}{would_skip}.",
                until(at)
            ),
            Hold::Deferred(DeferReason::WaitingForCompletion) => format!(
                "Somebody has the task; CompleteInteraction reports what came of it, and else it expires {}.",
                until(at)
            ),
            Hold::Deferred(DeferReason::WaitingForEvent) => format!(
                "It waits for {}, with the rest of its day, and gives up {}.",
                awaited(view, explained.id),
                until(at)
            ),
            Hold::Deferred(DeferReason::SendingHeld) => match &explained.sending_hold {
                Some(hold) => format!(
                    "Sending is held ({}): {}; ReleaseSendingHold ends that, and else it is looked at {}{would_skip}.",
                    hold.scope,
                    hold.reason,
                    until(at)
                ),
                None => format!(
                    "A sending hold put it off and is over; it is looked at {} at the latest{would_skip}.",
                    until(at)
                ),
            },
        },
        Standing::Never(Never::DayPassed) => {
            "It never goes: its day was over when the run began, or when it was added or moved there.".to_owned()
        }
        Standing::Never(Never::DayJumped) => "It never goes: its day was jumped over because nobody ticked.".to_owned(),
        Standing::Never(Never::RunEnded) => "It never goes: the run ended before.".to_owned(),
    }
}

/// What a wait waits for.
fn awaited(view: &RunView, id: ActionId) -> String {
    let action = view.timeline.action(id);
    let awaits = action.and_then(|action| action.definition.awaits.as_ref());
    awaits.map_or_else(|| "an event".to_owned(), |awaits| awaits.query.to_string())
}

fn skipped_in_words(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::Condition => "A condition said skip",
        SkipReason::Gated => "A gate earlier on its day said skip",
        SkipReason::HourPassedAtStart => "Its hour had passed when the run started",
        SkipReason::Removed => "It was removed from the timeline while it was pending",
        SkipReason::Expired => "It came too late",
        SkipReason::EventMissing => "The event that it waited for did not come",
        SkipReason::NotCompletedInTime => "Nobody reported in time what came of the task",
        SkipReason::Suppressed => "The recipient must not be written to by this channel",
        SkipReason::QuietHoursUnknown => "Nobody can tell when it is quiet where the customer is",
    }
}
