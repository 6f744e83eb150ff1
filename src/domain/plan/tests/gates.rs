//! Gates, waits and conditions.

use super::*;

#[test]
fn a_gate_decides_what_comes_after_it_on_its_day() {
    let timeline = shifting(
        2,
        [
            email("a", 1, 8),
            gate("gate", 1, 9),
            email("b", 1, 10),
            wait("c", 1, 11),
            gate("d", 1, 12),
            email("e", 2, 9),
        ],
    );
    let plot = |score| {
        move |play: &mut Play| {
            play.facts.engagement_score = score;
            play.ticks("03-01 08:00", "03-03 00:00", 60);
        }
    };
    check(
        &timeline,
        plot(50),
        "03-01 08:00 a sent
        03-01 09:00 gate done
        03-01 10:00 b sent
        03-01 11:00 c done
        03-01 12:00 d done
        03-02 09:00 e sent
        day 2 on 03-02, completed",
    );
    check(
        &timeline,
        plot(51),
        "03-01 08:00 a sent
        03-01 09:00 gate skipped, condition
        03-01 10:00 b skipped, gated
        03-01 11:00 c skipped, gated
        03-01 12:00 d skipped, gated
        03-02 09:00 e sent
        day 2 on 03-02, completed",
    );
}

#[test]
fn a_gate_waits_for_a_message_before_it_and_others_wait_for_the_gate() {
    let timeline = shifting(1, [email("a", 1, 9), gate("gate", 1, 9), email("b", 1, 9)]);
    let plot = |score| {
        move |play: &mut Play| {
            play.outcome("a", refused_for_now());
            play.ticks("03-01 09:00", "03-01 09:00", 5);
            play.facts.engagement_score = score;
            play.ticks("03-01 09:05", "03-01 09:15", 5);
        }
    };
    check(
        &timeline,
        plot(0),
        "03-01 09:00 a temporary, again at 03-01 09:05
        03-01 09:00 gate waits until 03-01 09:05, for an action
        03-01 09:00 b waits until 03-01 09:05, for an action
        03-01 09:05 a sent
        03-01 09:05 gate done
        03-01 09:05 b sent
        day 1 on 03-01, active",
    );
    check(
        &timeline,
        plot(51),
        "03-01 09:00 a temporary, again at 03-01 09:05
        03-01 09:00 gate waits until 03-01 09:05, for an action
        03-01 09:00 b waits until 03-01 09:05, for an action
        03-01 09:05 a sent
        03-01 09:05 gate skipped, condition
        03-01 09:05 b skipped, gated
        day 1 on 03-01, active",
    );
}

#[test]
fn a_gate_that_waits_over_midnight_holds_what_comes_after_it() {
    let timeline = shifting(
        2,
        [
            email("a", 1, 23),
            gate("gate", 1, 23),
            email("b", 1, 23),
            email("c", 2, 0),
        ],
    );
    let plot = |play: &mut Play| {
        play.outcomes
            .insert("a".to_owned(), vec![Outcome::Is(refused_for_now()); 2]);
        play.retry.base = Duration::hours(1);
        play.ticks("03-01 23:00", "03-02 01:00", 60);
        play.facts.engagement_score = 51;
        play.ticks("03-02 02:00", "03-02 02:00", 60);
    };
    check(
        &timeline,
        plot,
        "03-01 23:00 a temporary, again at 03-02 00:00
        03-01 23:00 gate waits until 03-02 00:00, for an action
        03-01 23:00 b waits until 03-02 00:00, for an action
        03-02 00:00 a temporary, again at 03-02 02:00
        03-02 00:00 gate waits until 03-02 02:00, for an action
        03-02 00:00 b waits until 03-02 02:00, for an action
        03-02 00:00 c sent
        03-02 02:00 a sent
        03-02 02:00 gate skipped, condition
        03-02 02:00 b skipped, gated
        day 2 on 03-02, active",
    );
}

#[test]
fn a_gate_waits_no_longer_than_it_may_be_late() {
    let timeline = shifting(1, [email("a", 1, 9), within(1, gate("gate", 1, 9)), sms("b", 1, 9)]);
    let plot = |play: &mut Play| {
        play.facts.stopped_channels.insert(Channel::Email, at("03-05 00:00"));
        play.ticks("03-01 09:00", "03-01 12:00", 30);
    };
    check(
        &timeline,
        plot,
        "03-01 09:00 a waits until 03-05 00:00, channel
        03-01 09:00 gate waits until 03-01 10:00, for an action
        03-01 09:00 b waits until 03-01 10:00, for an action
        03-01 10:00 gate done
        03-01 10:00 b sent
        day 1 on 03-01, active",
    );
}

#[test]
fn actions_that_come_later_obey_the_gate_and_never_fire_on_a_past_day() {
    let plot = |play: &mut Play| {
        play.facts.engagement_score = 51;
        play.ticks("03-01 08:00", "03-01 12:00", 60);
        add(play, email("later, today", 1, 13));
        add(play, first(email("later, before the gate", 1, 9)));
        play.tick(at("03-01 12:30"));
        play.ticks("03-01 13:00", "03-02 00:00", 60);
        add(play, email("later, yesterday", 1, 13));
        play.ticks("03-02 01:00", "03-03 00:00", 60);
    };
    check(
        &shifting(2, [gate("gate", 1, 9), email("a", 2, 9)]),
        plot,
        "03-01 09:00 gate skipped, condition
        03-01 12:30 later, before the gate sent
        03-01 13:00 later, today skipped, gated
        03-02 09:00 a sent
        day 2 on 03-02, completed",
    );
}

#[test]
fn a_gate_may_wait_as_long_as_it_may_be_late() {
    let timeline = shifting(1, [email("a", 1, 9), within(1, gate("gate", 1, 9))]);
    let plot = |play: &mut Play| {
        play.retry.base = Duration::hours(1);
        play.outcomes
            .insert("a".to_owned(), vec![Outcome::Is(refused_for_now()); 3]);
        play.ticks("03-01 09:00", "03-01 12:00", 60);
    };
    // At ten it is as late as it may be, and what is sent by then counts.
    check(
        &timeline,
        plot,
        "03-01 09:00 a temporary, again at 03-01 10:00
        03-01 09:00 gate waits until 03-01 10:00, for an action
        03-01 10:00 a temporary, again at 03-01 12:00
        03-01 10:00 gate done
        03-01 12:00 a temporary, again at 03-01 16:00
        day 1 on 03-01, active",
    );
}

#[test]
fn a_gate_that_comes_later_on_a_past_day_holds_nothing() {
    let plot = |play: &mut Play| {
        play.facts.stopped_channels.insert(Channel::Email, at("03-02 12:00"));
        play.ticks("03-01 09:00", "03-02 01:00", 60);
        add(play, first(gate("later", 1, 9)));
        play.ticks("03-02 12:00", "03-02 12:00", 60);
    };
    check(
        &shifting(2, [email("a", 1, 9)]),
        plot,
        "03-01 09:00 a waits until 03-02 12:00, channel
        03-02 12:00 a sent
        day 2 on 03-02, active",
    );
}

#[test]
fn conditions_are_asked_at_every_attempt() {
    let plot = |play: &mut Play| {
        play.outcome("a", refused_for_now());
        play.tick(at("03-01 09:00"));
        play.facts.engagement_score = 51;
        play.ticks("03-01 09:05", "03-01 09:05", 60);
    };
    check(
        &shifting(1, [unless_engaged(email("a", 1, 9))]),
        plot,
        "03-01 09:00 a temporary, again at 03-01 09:05
        03-01 09:05 a skipped, condition
        day 1 on 03-01, active",
    );
}

#[test]
fn a_gate_that_said_skip_is_enough_whatever_a_later_one_will_say() {
    let plot = |play: &mut Play| {
        play.facts.engagement_score = 51;
        play.tick(at("03-01 09:00"));
        // It missed its hour, and comes tomorrow.
        add(play, first(within(6, gate("later", 1, 0))));
        play.tick(at("03-01 20:00"));
    };
    check(
        &shifting(1, [gate("a", 1, 9), sms("b", 1, 20)]),
        plot,
        "03-01 09:00 a skipped, condition
        03-01 20:00 b skipped, gated
        day 1 on 03-01, active",
    );
}
