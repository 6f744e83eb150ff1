//! Tasks that wait for a report, and waits for events.

use super::*;
use crate::domain::{AfterTimeout, AwaitedEvent, Completion, NotReported, TaskOutcome};

fn reported_within(hours: i64, mut action: Action) -> Action {
    let within = Duration::hours(hours);
    action.definition.completion = Completion::Reported { within };
    action
}

fn unless_done(of_action: &str, mut action: Action) -> Action {
    let leaf = Leaf::TaskOutcome {
        of_action: of_action.to_owned(),
        is: TaskOutcome::Done,
    };
    action.definition.conditions.push(Condition {
        test: Test::Leaf(leaf),
        then: Then::Skip,
    });
    action
}

fn replied(of_action: Option<&str>) -> EngagementQuery {
    EngagementQuery {
        kind: EngagementKind::Replied,
        of_action: of_action.map(str::to_owned),
    }
}

fn until_replied(
    of_action: Option<&str>,
    timeout_hours: Option<u32>,
    after_timeout: AfterTimeout,
    mut action: Action,
) -> Action {
    action.definition.awaits = Some(AwaitedEvent {
        query: replied(of_action),
        timeout_hours,
        after_timeout,
    });
    action
}

fn report(play: &mut Play, key: &str, outcome: TaskOutcome, when: &str) {
    let id = play.id(key);
    let reported = play.run.report_task(&play.timeline, id, outcome, at(when));
    assert!(reported.expect("a task that waits").is_some());
    play.facts.task_outcomes.insert(key.to_owned(), outcome);
}

/// The customer replies, and the service wakes the run.
fn replies(play: &mut Play, of_action: Option<&str>, when: &str) {
    play.facts.engagements.insert(replied(of_action), at(when));
    if play
        .run
        .deferred
        .iter()
        .any(|it| it.reason == DeferReason::WaitingForEvent)
    {
        play.run.next_action_at = play.run.next_action_at.min(Some(at(when)));
    }
}

#[test]
fn days_go_on_while_a_task_waits_and_the_run_ends_with_it() {
    let timeline = shifting(2, [reported_within(72, task("call", 1, 9)), email("b", 2, 9)]);
    let handed_over = "03-01 09:00 call waits until 03-04 09:00, for a report
        03-02 09:00 b sent";
    check(
        &timeline,
        |play| play.ticks("03-01 09:00", "03-05 12:00", 60),
        &format!("{handed_over}\n03-04 09:00 call skipped, not_completed_in_time\nday 2 on 03-02, completed"),
    );
    check(
        &timeline,
        |play| {
            play.ticks("03-01 09:00", "03-03 12:00", 60);
            assert_eq!(play.run.status, Status::Active);
            report(play, "call", TaskOutcome::Declined, "03-03 12:10");
            let id = play.id("call");
            let again = |outcome, play: &mut Play| play.run.report_task(&play.timeline, id, outcome, at("03-03 12:20"));
            assert_eq!(again(TaskOutcome::Declined, play), Ok(None));
            assert!(matches!(again(TaskOutcome::Done, play), Err(NotReported::Otherwise(_))));
            play.ticks("03-03 13:00", "03-05 12:00", 60);
            assert_eq!(play.run.completed.len(), 2);
        },
        &format!("{handed_over}\nday 2 on 03-02, completed"),
    );
}

#[test]
fn a_condition_about_a_task_waits_for_its_report_until_it_is_too_late() {
    let mails = [unless_done("call", email("a", 1, 10)), email("b", 1, 11)];
    let timeline = shifting(1, [reported_within(72, task("call", 1, 9))].into_iter().chain(mails));
    let begin = "03-01 09:00 call waits until 03-04 09:00, for a report
        03-01 10:00 a waits until 03-01 22:00, for an action
        03-01 11:00 b sent";
    for (outcome, becomes) in [
        (TaskOutcome::Done, "skipped, condition"),
        (TaskOutcome::NoAnswer, "sent"),
    ] {
        check(
            &timeline,
            |play| {
                play.ticks("03-01 09:00", "03-01 13:00", 60);
                report(play, "call", outcome, "03-01 13:30");
                play.ticks("03-01 14:00", "03-02 01:00", 60);
            },
            &format!("{begin}\n03-01 14:00 a {becomes}\nday 1 on 03-01, completed"),
        );
    }
    check(
        &timeline,
        |play| play.ticks("03-01 09:00", "03-02 01:00", 60),
        &format!("{begin}\n03-01 22:00 a sent\nday 1 on 03-01, active"),
    );
}

#[test]
fn a_gate_does_not_wait_for_a_task_that_it_does_not_ask_about() {
    let timeline = shifting(
        1,
        [
            reported_within(72, task("call", 1, 9)),
            gate("gate", 1, 10),
            email("b", 1, 11),
        ],
    );
    check(
        &timeline,
        |play| play.ticks("03-01 09:00", "03-02 01:00", 60),
        "03-01 09:00 call waits until 03-04 09:00, for a report
        03-01 10:00 gate done
        03-01 11:00 b sent
        day 1 on 03-01, active",
    );
}

#[test]
fn a_task_may_be_reported_though_nobody_knows_that_it_arrived() {
    let timeline = shifting(1, [reported_within(24, task("call", 1, 9))]);
    check(
        &timeline,
        |play| {
            play.retry.base = Duration::hours(2);
            let error = "no answer".to_owned();
            play.outcome("call", Attempted::Unknown { error });
            play.ticks("03-01 09:00", "03-01 10:00", 60);
            report(play, "call", TaskOutcome::Done, "03-01 10:30");
            play.ticks("03-01 11:00", "03-02 01:00", 60);
        },
        "03-01 09:00 call outcome_unknown, again at 03-01 11:00
        day 1 on 03-01, completed",
    );
}

/// A day with a mail, a wait for a reply from ten on, and two mails behind it.
fn day_with_a_wait(of_action: Option<&str>, hours: Option<u32>, after: AfterTimeout) -> Timeline {
    shifting(
        2,
        [
            email("a", 1, 9),
            until_replied(of_action, hours, after, wait("w", 1, 10)),
            email("b", 1, 11),
            email("c", 2, 9),
        ],
    )
}

#[test]
fn a_wait_holds_its_day_until_the_event_or_its_time_out() {
    use AfterTimeout::{Continue, SkipRestOfDay};
    let begin = |until: &str| {
        format!(
            "03-01 09:00 a sent
            03-01 10:00 w waits until {until}, for an event
            03-01 11:00 b waits until {until}, for an action"
        )
    };
    for after in [Continue, SkipRestOfDay] {
        for of_action in [None, Some("a")] {
            check(
                &day_with_a_wait(of_action, Some(4), after),
                |play| {
                    play.ticks("03-01 09:00", "03-01 12:00", 60);
                    replies(play, of_action, "03-01 12:30");
                    play.ticks("03-01 13:00", "03-02 09:00", 60);
                },
                &format!(
                    "{}\n03-01 13:00 w done\n03-01 13:00 b sent\n03-02 09:00 c sent\nday 2 on 03-02, active",
                    begin("03-01 14:00")
                ),
            );
        }
    }
    let out = |hours, after, until: &str, then: &str| {
        check(
            &day_with_a_wait(None, hours, after),
            |play| play.ticks("03-01 09:00", "03-02 09:00", 60),
            &format!("{}\n{then}\n03-02 09:00 c sent\nday 2 on 03-02, active", begin(until)),
        );
    };
    out(
        Some(4),
        Continue,
        "03-01 14:00",
        "03-01 14:00 w done\n03-01 14:00 b sent",
    );
    let skipped = "w skipped, event_missing";
    let both = |at: &str| format!("{at} {skipped}\n{at} b skipped, gated");
    out(Some(4), SkipRestOfDay, "03-01 14:00", &both("03-01 14:00"));
    out(None, SkipRestOfDay, "03-02 00:00", &both("03-02 00:00"));
    out(None, Continue, "03-02 00:00", "03-02 00:00 w done\n03-02 00:00 b sent");
}

#[test]
fn an_event_counts_from_the_day_of_the_wait_on_and_about_an_action_always() {
    let second_day = |of_action| {
        let w = until_replied(of_action, Some(1), AfterTimeout::SkipRestOfDay, wait("w", 2, 10));
        shifting(2, [email("a", 1, 9), w])
    };
    for (of_action, when, becomes) in [
        (None, "03-01 23:59", "03-02 11:00 w skipped, event_missing"),
        (None, "03-02 00:00", "03-02 10:00 w done"),
        (Some("a"), "03-01 09:30", "03-02 10:00 w done"),
    ] {
        let begins = if becomes.contains("11:00") {
            "03-02 10:00 w waits until 03-02 11:00, for an event\n"
        } else {
            ""
        };
        check(
            &second_day(of_action),
            |play| {
                play.ticks("03-01 09:00", "03-01 23:00", 60);
                replies(play, of_action, when);
                play.ticks("03-02 00:00", "03-02 12:00", 60);
            },
            &format!("03-01 09:00 a sent\n{begins}{becomes}\nday 2 on 03-02, active"),
        );
    }
}

#[test]
fn a_wait_that_is_looked_at_late_has_no_more_time_for_that() {
    check(
        &day_with_a_wait(None, Some(2), AfterTimeout::SkipRestOfDay),
        |play| play.ticks("03-01 09:00", "03-01 15:00", 360),
        "03-01 09:00 a sent
        03-01 15:00 w skipped, event_missing
        03-01 15:00 b skipped, gated
        day 1 on 03-01, active",
    );
}

#[test]
fn a_wait_that_is_not_to_begin_holds_nobody() {
    let w = until_replied(None, None, AfterTimeout::SkipRestOfDay, wait("w", 1, 10));
    let timeline = shifting(1, [unless_engaged(w), email("b", 1, 11)]);
    check(
        &timeline,
        |play| {
            play.facts.engagement_score = 51;
            play.ticks("03-01 09:00", "03-01 12:00", 60);
        },
        "03-01 10:00 w skipped, condition
        03-01 11:00 b sent
        day 1 on 03-01, active",
    );
}
