//! The rows of a report: one per action of which something is known.

use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};

use super::super::timestamp;
use super::{Outcome, Person, words};
use crate::proto::campaign::v1::{
    ActionDefinition, ActionRef, ActionType, EngagementKind, FailedAction, FailureState, Progress, SkipReason,
};

/// One action of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) at: DateTime<Utc>,
    pub(super) day: i32,
    pub(super) kind: Kind,
    pub(super) result: Result,
    pub(super) campaign_id: String,
    /// The campaign's name, or the action's key.
    pub(super) title: String,
    /// Why, or what came of it.
    pub(super) detail: String,
}

/// What an action is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Mail,
    Sms,
    Call,
    Task,
    Gate,
    Wait,
}

/// What became of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Result {
    Done,
    Skipped,
    Failed,
    Waiting,
}

impl Kind {
    pub(super) const ALL: [Self; 6] = [Self::Mail, Self::Sms, Self::Call, Self::Task, Self::Gate, Self::Wait];

    pub(super) fn of(action_type: ActionType) -> Self {
        match action_type {
            ActionType::SendEmail => Self::Mail,
            ActionType::SendSms => Self::Sms,
            ActionType::MakeCall => Self::Call,
            ActionType::CreateTask => Self::Task,
            ActionType::CheckCondition => Self::Gate,
            ActionType::Wait | ActionType::Unspecified => Self::Wait,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Sms => "SMS",
            Self::Call => "call",
            Self::Task => "task",
            Self::Gate => "gate",
            Self::Wait => "wait",
        }
    }

    /// Whether the customer notices.
    pub(super) fn is_message(self) -> bool {
        match self {
            Self::Mail | Self::Sms | Self::Call => true,
            Self::Task | Self::Gate | Self::Wait => false,
        }
    }
}

impl Result {
    pub(super) const ALL: [Self; 4] = [Self::Done, Self::Skipped, Self::Failed, Self::Waiting];
}

impl Row {
    /// What became of it, in a word that fits its kind.
    pub(super) fn word(&self) -> &'static str {
        match (self.result, self.kind) {
            (Result::Done, Kind::Mail | Kind::Sms) => "sent",
            (Result::Done, Kind::Call) => "called",
            (Result::Done, Kind::Task) => "created",
            (Result::Done, Kind::Gate) => "open",
            (Result::Done, Kind::Wait) => "waited",
            (Result::Skipped, Kind::Gate) => "closed",
            (Result::Skipped, _) => "skipped",
            (Result::Failed, _) => "failed",
            (Result::Waiting, _) => "waiting",
        }
    }
}

/// The rows of a run in the order in which it happened; on one instant, in the order of the plan.
pub(super) fn rows(outcome: &Outcome, person: &Person, run: &Progress) -> Vec<Row> {
    let definitions = &outcome.timeline.actions;
    let by_key: BTreeMap<&str, &ActionDefinition> = definitions
        .iter()
        .map(|definition| (definition.key.as_str(), definition))
        .collect();
    let row = |action: &ActionRef, at: Option<DateTime<Utc>>, result, detail| {
        let priority = by_key
            .get(action.key.as_str())
            .map_or(0, |definition| definition.priority);
        let row = Row {
            at: at.unwrap_or_default(),
            day: action.day_number,
            kind: Kind::of(action.action_type()),
            result,
            campaign_id: action.campaign_id.clone(),
            title: outcome
                .campaigns
                .get(&action.campaign_id)
                .unwrap_or(&action.key)
                .clone(),
            detail,
        };
        (
            (
                row.at,
                action.day_number,
                action.delay_hours,
                priority,
                action.action_id,
            ),
            row,
        )
    };

    let mut rows = BTreeMap::new();
    for done in &run.completed_actions {
        let action = done.action.clone().unwrap_or_default();
        let detail = opened(person, run, &action);
        rows.extend([row(&action, timestamp(done.complete_time), Result::Done, detail)]);
    }
    let gates: Vec<&ActionRef> = run
        .skipped_actions
        .iter()
        .filter_map(|skipped| skipped.action.as_ref())
        .collect();
    for skipped in &run.skipped_actions {
        let action = skipped.action.clone().unwrap_or_default();
        let detail = match skipped.reason() {
            SkipReason::Condition => {
                let definition = by_key.get(action.key.as_str()).copied();
                words::conditions(definition, &person.engagements, timestamp(skipped.skip_time))
            }
            SkipReason::Gated => {
                let is_gate = |other: &&&ActionRef| {
                    other.day_number == action.day_number && other.action_type() == ActionType::CheckCondition
                };
                let gate = gates.iter().find(is_gate).map_or("a gate", |gate| gate.key.as_str());
                format!("{gate} is closed")
            }
            SkipReason::HourPassedAtStart => "its hour had passed at the start".to_owned(),
            SkipReason::Removed => "removed from the timeline".to_owned(),
            SkipReason::Expired => "too late".to_owned(),
            SkipReason::Suppressed => "must not be written to".to_owned(),
            SkipReason::EventMissing => "the event did not come".to_owned(),
            SkipReason::NotCompletedInTime => "nobody reported it".to_owned(),
            SkipReason::QuietHoursUnknown => "no hour suits all zones".to_owned(),
            SkipReason::Unspecified => String::new(),
        };
        rows.extend([row(&action, timestamp(skipped.skip_time), Result::Skipped, detail)]);
    }
    for failed in &run.failed_actions {
        let action = failed.action.clone().unwrap_or_default();
        let result = if failed.state() == FailureState::Retrying {
            Result::Waiting
        } else {
            Result::Failed
        };
        rows.extend([row(&action, timestamp(failed.fail_time), result, failure(failed))]);
    }
    for deferred in &run.deferred_actions {
        let action = deferred.action.clone().unwrap_or_default();
        let detail = words::defer_reason(deferred.reason()).to_owned();
        rows.extend([row(&action, timestamp(deferred.until_time), Result::Waiting, detail)]);
    }
    let mut rows: Vec<Row> = rows.into_values().collect();
    shorten_repeated_failures(&mut rows);
    rows
}

/// When a mail was opened, if it was.
fn opened(person: &Person, run: &Progress, action: &ActionRef) -> String {
    let zone: chrono_tz::Tz = run.time_zone.parse().unwrap_or(chrono_tz::Tz::UTC);
    let is_open_of_this = |event: &&crate::proto::campaign::v1::Engagement| {
        event.kind() == EngagementKind::EmailOpened
            && (event.progress_id, event.action_id) == (run.progress_id, action.action_id)
    };
    let event = person.engagements.iter().rev().find(is_open_of_this);
    let at = event.and_then(|event| timestamp(event.occur_time));
    at.map(|at| format!("opened {}", at.with_timezone(&zone).format("%H:%M")))
        .unwrap_or_default()
}

fn failure(failed: &FailedAction) -> String {
    let attempts = match failed.attempts {
        0 | 1 => String::new(),
        attempts => format!(" ({attempts} attempts)"),
    };
    let error = if failed.error.is_empty() {
        words::failure_reason(failed.reason())
    } else {
        failed.error.as_str()
    };
    format!("{error}{attempts}")
}

/// An error that was shown already is not shown in full again.
fn shorten_repeated_failures(rows: &mut [Row]) {
    let mut shown = BTreeSet::new();
    for row in rows.iter_mut().filter(|row| row.result == Result::Failed) {
        if !shown.insert(row.detail.clone()) {
            "same error".clone_into(&mut row.detail);
        }
    }
}
