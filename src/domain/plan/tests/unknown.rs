//! What may have arrived ends as sent or unknown, whatever comes of it later.

use super::*;

#[test]
fn what_was_lost_with_its_sender_and_removed_is_unknown() {
    let plot = |play: &mut Play| {
        play.death("a");
        play.tick(at("03-01 09:00"));
        remove(play, "a", at("03-01 09:01"));
        play.ticks("03-01 09:05", "03-01 10:00", 5);
    };
    check(
        &shifting(1, [email("a", 1, 9)]),
        plot,
        "03-01 09:00 a sent, not recorded
        03-01 09:05 a unknown, outcome_unknown
        day 1 on 03-01, active",
    );
}

#[test]
fn a_repetition_that_is_not_made_leaves_it_unknown() {
    let repeated = |then: fn(&mut Play)| {
        move |play: &mut Play| {
            play.outcome("a", unknown());
            play.tick(at("03-01 09:00"));
            then(play);
            play.ticks("03-01 09:05", "03-01 13:00", 5);
        }
    };
    let told = |day: &str| {
        format!(
            "03-01 09:00 a outcome_unknown, again at 03-01 09:05
            {day} a unknown, outcome_unknown
            day 1 on 03-01, active"
        )
    };
    let a = || unless_engaged(within(2, email("a", 1, 9)));
    check(
        &shifting(1, [a()]),
        repeated(|play| remove(play, "a", at("03-01 09:01"))),
        &told("03-01 09:05"),
    );
    check(
        &shifting(1, [a()]),
        repeated(|play| play.facts.engagement_score = 51),
        &told("03-01 09:05"),
    );
    let nobody_ticked = |play: &mut Play| {
        play.outcome("a", unknown());
        play.tick(at("03-01 09:00"));
        play.ticks("03-01 12:00", "03-01 13:00", 5);
    };
    check(&catching_up(1, [a()]), nobody_ticked, &told("03-01 12:00"));
}

#[test]
fn a_repetition_that_is_refused_leaves_it_unknown() {
    let plot = |play: &mut Play| {
        play.outcome("a", unknown());
        play.outcome(
            "a",
            Attempted::ChannelUnavailable {
                until: at("03-01 10:00"),
            },
        );
        play.outcome("a", refused());
        play.ticks("03-01 09:00", "03-01 12:00", 5);
    };
    check(
        &shifting(1, [email("a", 1, 9)]),
        plot,
        "03-01 09:00 a outcome_unknown, again at 03-01 09:05
        03-01 09:05 a waits until 03-01 10:00, channel
        03-01 10:00 a unknown, rejected
        day 1 on 03-01, active",
    );
}
