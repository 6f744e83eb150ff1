//! Actions that failed for good and are made pending again.

use super::*;
use crate::domain::{Lease, NotRetried};

fn retry(play: &mut Play, key: &str, now: &str) {
    let id = play.id(key);
    assert_eq!(play.run.retry(id, "mended", at(now)), Ok(()), "{key} at {now}");
}

#[test]
fn past_the_last_attempt_one_more_is_made_each_time() {
    let timeline = shifting(3, [email("a", 1, 9)]);
    let plot = |play: &mut Play| {
        play.retry.max_attempts = 2;
        play.outcomes
            .insert("a".to_owned(), vec![Outcome::Is(refused_for_now()); 3]);
        play.ticks("03-01 09:00", "03-01 12:00", 5);
        retry(play, "a", "03-01 12:00");
        play.ticks("03-01 12:00", "03-01 13:00", 5);
        retry(play, "a", "03-01 13:00");
        let a = play.id("a");
        assert_eq!(play.run.attempts(a), 3);
        play.ticks("03-01 13:00", "03-01 14:00", 5);
    };
    check(
        &timeline,
        plot,
        "03-01 09:00 a temporary, again at 03-01 09:05
        03-01 09:05 a failed, temporary
        03-01 12:00 a failed, temporary
        03-01 13:00 a sent
        day 1 on 03-01, active",
    );
}

#[test]
fn attempts_that_are_left_are_made_with_the_waits_that_come_next() {
    let timeline = shifting(3, [email("a", 1, 9)]);
    let plot = |play: &mut Play| {
        play.retry.max_attempts = 4;
        play.outcome("a", refused());
        play.outcome("a", refused_for_now());
        play.outcome("a", unknown());
        play.outcome("a", unknown());
        play.ticks("03-01 09:00", "03-01 09:30", 5);
        retry(play, "a", "03-01 09:31");
        play.ticks("03-01 09:31", "03-01 12:00", 1);
    };
    check(
        &timeline,
        plot,
        "03-01 09:00 a failed, rejected
        03-01 09:31 a temporary, again at 03-01 09:41
        03-01 09:41 a outcome_unknown, again at 03-01 10:01
        03-01 10:01 a unknown, outcome_unknown
        day 1 on 03-01, active",
    );
}

#[test]
fn what_promises_at_most_once_goes_once_more_and_is_unknown_again() {
    let timeline = shifting(3, [sms("a", 1, 9)]);
    let plot = |play: &mut Play| {
        play.outcome("a", unknown());
        play.outcome("a", unknown());
        play.ticks("03-01 09:00", "03-01 10:00", 5);
        retry(play, "a", "03-01 10:00");
        play.ticks("03-01 10:00", "03-01 11:00", 5);
        retry(play, "a", "03-01 11:00");
        play.death("a");
        play.ticks("03-01 11:00", "03-01 11:05", 5);
    };
    check(
        &timeline,
        plot,
        "03-01 09:00 a unknown, outcome_unknown
        03-01 10:00 a unknown, outcome_unknown
        03-01 11:00 a sent, not recorded
        03-01 11:05 a unknown, outcome_unknown
        day 1 on 03-01, active",
    );
}

#[test]
fn what_is_retried_is_neither_late_nor_expired_and_keeps_no_distance() {
    let timeline = catching_up(5, [within(1, email("a", 1, 9)), email("b", 1, 10)]);
    let plot = |play: &mut Play| {
        play.outcome("a", refused());
        play.outcome("b", refused());
        play.ticks("03-01 09:00", "03-03 15:00", 60);
        retry(play, "a", "03-03 15:30");
        retry(play, "b", "03-03 15:30");
        play.ticks("03-03 16:00", "03-03 16:00", 60);
    };
    check(
        &timeline,
        plot,
        "03-01 09:00 a failed, rejected
        03-01 10:00 b failed, rejected
        03-03 16:00 a sent
        03-03 16:00 b sent
        day 3 on 03-03, active",
    );
}

#[test]
fn what_is_retried_expires_when_nobody_ticks_for_long() {
    let timeline = catching_up(5, [within(1, email("a", 1, 9))]);
    let plot = |play: &mut Play| {
        play.outcome("a", refused());
        play.ticks("03-01 09:00", "03-01 12:00", 60);
        retry(play, "a", "03-01 12:00");
        play.ticks("03-01 14:00", "03-01 14:00", 60);
    };
    check(
        &timeline,
        plot,
        "03-01 09:00 a failed, rejected
        03-01 14:00 a skipped, expired
        day 1 on 03-01, active",
    );
}

#[test]
fn a_retried_action_is_decided_anew_and_keeps_its_run_open() {
    let timeline = shifting(1, [unless_engaged(email("a", 1, 9)), email("b", 1, 10)]);
    let plot = |play: &mut Play| {
        play.outcome("a", refused());
        play.outcome("b", refused());
        play.ticks("03-01 09:00", "03-01 12:00", 60);
        play.facts.engagement_score = 1000;
        retry(play, "a", "03-01 23:00");
        retry(play, "b", "03-01 23:00");
        play.outcome("b", refused_for_now());
        play.ticks("03-01 23:55", "03-02 00:10", 5);
    };
    check(
        &timeline,
        plot,
        "03-01 09:00 a failed, rejected
        03-01 10:00 b failed, rejected
        03-01 23:55 a skipped, condition
        03-01 23:55 b temporary, again at 03-02 00:05
        03-02 00:05 b sent
        day 1 on 03-01, completed",
    );
}

#[test]
fn only_what_has_failed_for_good_in_a_live_run_that_nobody_holds_is_retried() {
    let timeline = shifting(2, [email("a", 1, 9), email("b", 1, 9), email("c", 1, 9)]);
    let mut play = Play::new(Engine::Bulk, &timeline);
    play.outcome("a", refused());
    play.outcome("b", refused_for_now());
    play.ticks("03-01 09:00", "03-01 09:00", 1);
    let now = at("03-01 09:01");
    let (a, b, c) = (play.id("a"), play.id("b"), play.id("c"));
    let retried = |run: &Run, id: ActionId| {
        let mut after = run.clone();
        let result = after.retry(id, "", now);
        if result.is_err() {
            assert_eq!(after, *run, "refused, and changed");
        }
        result.map(|()| after)
    };
    let refused = |run: &Run, id: ActionId| retried(run, id).expect_err("refused");
    assert_eq!(refused(&play.run, b), NotRetried::NotFailed);
    assert_eq!(refused(&play.run, c), NotRetried::NotFailed);
    let lease = Some(Lease {
        token: 1,
        expires_at: at("03-01 08:00"),
    });
    let held = Run {
        lease,
        ..play.run.clone()
    };
    assert_eq!(refused(&held, a), NotRetried::InFlight, "also after its lease");
    let stopped = play.run.clone().stop(String::new(), now).expect("stopped");
    assert_eq!(refused(&stopped, a), NotRetried::Ended);

    // The wake-up of the run is never put off.
    let paused = play.run.clone().pause(String::new(), now).expect("paused");
    for (wake, expected) in [
        (None, now),
        (Some(at("03-01 08:00")), at("03-01 08:00")),
        (Some(at("03-01 10:00")), now),
    ] {
        let run = Run {
            next_action_at: wake,
            ..paused.clone()
        };
        let run = retried(&run, a).expect("retried");
        assert_eq!((run.next_action_at, run.status), (Some(expected), Status::Paused));
        let failed = run.failed.iter().find(|failed| failed.id == a).expect("it");
        assert_eq!((failed.retry_at(), failed.due, failed.attempts), (Some(now), now, 1));
    }
}
