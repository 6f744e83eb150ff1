use super::*;
use crate::proto::campaign::v1::{
    ActionDefinition, ActionRef, ActionType, CompletedAction, Condition, ConditionThen, DeferReason, DeferredAction,
    EmailOpened, EngagementKind, FailedAction, FailureReason, FailureState, PipelineStageIs, SkipReason, SkippedAction,
    condition,
};

/// An instant of day `day`, which is the 4th of January plus `day`, in UTC.
#[expect(clippy::unnecessary_wraps, reason = "fields of messages are optional")]
fn at(day: i64, hour: i64) -> Option<prost_types::Timestamp> {
    let begin = 1_767_571_200; // 2026-01-05T00:00:00Z
    Some(prost_types::Timestamp {
        seconds: begin + ((day - 1) * 24 + hour) * 3600,
        nanos: 0,
    })
}

#[expect(clippy::unnecessary_wraps, reason = "fields of messages are optional")]
fn action(id: i64, day: i32, hour: i32, action_type: ActionType, name: &str) -> Option<ActionRef> {
    let campaign_id = if name.starts_with("HOOK") {
        name.to_owned()
    } else {
        String::new()
    };
    Some(ActionRef {
        action_id: id,
        key: name.to_owned(),
        day_number: day,
        delay_hours: hour,
        action_type: action_type.into(),
        campaign_id,
        ..ActionRef::default()
    })
}

fn skipped(action: Option<ActionRef>, at: Option<prost_types::Timestamp>, reason: SkipReason) -> SkippedAction {
    SkippedAction {
        action,
        skip_time: at,
        reason: reason.into(),
        ..SkippedAction::default()
    }
}

fn outcome() -> Outcome {
    let conditions = vec![
        Condition {
            test: Some(condition::Test::PipelineStage(PipelineStageIs {
                stage: "hook".to_owned(),
            })),
            then: ConditionThen::Execute.into(),
        },
        Condition {
            test: Some(condition::Test::EmailOpened(EmailOpened {
                within_hours: 48,
                ..EmailOpened::default()
            })),
            then: ConditionThen::Skip.into(),
        },
    ];
    let definition = ActionDefinition {
        key: "gate".to_owned(),
        conditions,
        ..ActionDefinition::default()
    };
    let run = Progress {
        progress_id: 7,
        time_zone: "Asia/Kolkata".to_owned(),
        status: ProgressStatus::Active.into(),
        current_day: 4,
        duration_days: 10,
        percent_complete: 30.0,
        completed_actions: vec![
            CompletedAction {
                action: action(1, 1, 0, ActionType::SendEmail, "HOOK-001"),
                complete_time: at(1, 6),
                attempts: 1,
                ..CompletedAction::default()
            },
            CompletedAction {
                action: action(6, 3, 9, ActionType::Wait, "quiet"),
                complete_time: at(3, 4),
                attempts: 1,
                ..CompletedAction::default()
            },
        ],
        skipped_actions: vec![
            skipped(
                action(2, 2, 9, ActionType::CheckCondition, "gate"),
                at(2, 4),
                SkipReason::Condition,
            ),
            skipped(
                action(3, 2, 9, ActionType::SendSms, "HOOK-002"),
                at(2, 4),
                SkipReason::Gated,
            ),
        ],
        failed_actions: vec![
            failed(4, 3, "HOOK-003", FailureState::Failed, 1),
            failed(5, 4, "HOOK-004", FailureState::Failed, 1),
            failed(7, 4, "HOOK-005", FailureState::Retrying, 2),
        ],
        deferred_actions: vec![DeferredAction {
            action: action(8, 4, 11, ActionType::MakeCall, "HOOK-006"),
            until_time: at(4, 7),
            reason: DeferReason::Spacing.into(),
        }],
        next_action: Some(NextAction {
            action: action(8, 4, 11, ActionType::MakeCall, "HOOK-006"),
            due_time: at(4, 7),
        }),
        ..Progress::default()
    };
    let engagement = Engagement {
        kind: EngagementKind::EmailOpened.into(),
        progress_id: 7,
        action_id: 1,
        occur_time: at(1, 7),
        ..Engagement::default()
    };
    let event = Event {
        customer_id: "priya".to_owned(),
        at: timestamp(at(2, 12)).expect("an instant"),
        text: "paused: a break".to_owned(),
    };
    let person = Person {
        customer: Customer {
            display_name: "Priya Nair".to_owned(),
            ..Customer::default()
        },
        behaviour: "a high score",
        runs: vec![run],
        engagements: vec![engagement],
        events: vec![event],
    };
    Outcome {
        timeline: TimelineDefinition {
            actions: vec![definition],
            ..TimelineDefinition::default()
        },
        campaigns: BTreeMap::from([("HOOK-001".to_owned(), "Welcome".to_owned())]),
        people: vec![person],
    }
}

fn failed(id: i64, day: i32, name: &str, state: FailureState, attempts: i32) -> FailedAction {
    FailedAction {
        action: action(id, day, 10, ActionType::SendEmail, name),
        state: state.into(),
        attempts,
        fail_time: at(i64::from(day), 5),
        reason: FailureReason::Rejected.into(),
        error: "550 no such mailbox".to_owned(),
        next_retry_time: None,
        retry_reason: String::new(),
        ..FailedAction::default()
    }
}

#[test]
fn a_report_shows_what_came_of_every_action_by_the_customers_clock() {
    let expected = "\
Priya Nair · Asia/Kolkata · a high score
  day  1  Mon  5 Jan 11:30  sent      mail  HOOK-001  Welcome   opened 12:30
  day  2  Tue  6 Jan 09:30  closed    gate            gate      not in stage hook, or opened a mail within 48 h
  day  2  Tue  6 Jan 09:30  skipped   SMS   HOOK-002  HOOK-002  gate is closed
          Tue  6 Jan 17:30  *  paused: a break
  day  3  Wed  7 Jan 09:30  waited    wait            quiet
  day  3  Wed  7 Jan 10:30  failed    mail  HOOK-003  HOOK-003  550 no such mailbox
  day  4  Thu  8 Jan 10:30  failed    mail  HOOK-004  HOOK-004  same error
  day  4  Thu  8 Jan 10:30  waiting   mail  HOOK-005  HOOK-005  550 no such mailbox (2 attempts)
  day  4  Thu  8 Jan 12:30  waiting   call  HOOK-006  HOOK-006  kept apart from another late message
  █████████░░░░░░░░░░░░░░░░░░░░░  30 %  active, day 4 of 10 · 2 done, 2 skipped, 2 failed · next: call HOOK-006 on Thu  8 Jan 12:30

Totals over 1 customers
            done  skipped  failed  waiting
  mail         1        -       2        1
  SMS          -        1       -        -
  call         -        -       -        1
  task         -        -       -        -
  gate         -        1       -        -
  wait         1        -       -        -

";
    let text = report(&outcome(), Paint::PLAIN);
    for (line, expected) in text.lines().zip(expected.lines()) {
        assert_eq!(line, expected);
    }
    assert_eq!(text, expected);
}

#[test]
fn colours_change_nothing_else() {
    let coloured = report(&outcome(), Paint::COLOURED);
    let mut plain = String::new();
    let mut is_code = false;
    for c in coloured.chars() {
        match c {
            '\u{1b}' => is_code = true,
            'm' if is_code => is_code = false,
            _ if is_code => {}
            _ => plain.push(c),
        }
    }
    let trimmed: Vec<&str> = plain.lines().map(str::trim_end).collect();
    let expected = report(&outcome(), Paint::PLAIN);
    assert_eq!(trimmed, expected.lines().map(str::trim_end).collect::<Vec<_>>());
    assert_ne!(coloured, expected);
}
