//! Conditions about an action of the run.

use super::*;

fn opened(of_action: &str) -> EngagementQuery {
    EngagementQuery {
        kind: EngagementKind::EmailOpened,
        of_action: Some(of_action.to_owned()),
    }
}

/// An action that is carried out only when the mail of another was opened.
fn if_opened(of_action: &str, mut action: Action) -> Action {
    let leaf = Leaf::Engaged {
        query: opened(of_action),
        within_hours: 48,
    };
    action.definition.conditions.push(Condition {
        test: Test::Not(Box::new(Test::Any(vec![Test::Leaf(leaf)]))),
        then: Then::Skip,
    });
    action
}

fn opens(play: &mut Play, of_action: &str, when: &str) {
    play.facts.engagements.insert(opened(of_action), at(when));
}

#[test]
fn what_an_action_is_about_is_final_before_it_is_decided() {
    let timeline = shifting(
        1,
        [email("a", 1, 9), email("b", 1, 9), if_opened("a", email("c", 1, 10))],
    );
    let plot = |opens_it: bool| {
        move |play: &mut Play| {
            play.retry.base = Duration::hours(2);
            play.outcome("a", refused_for_now());
            play.ticks("03-01 09:00", "03-01 10:00", 60);
            if opens_it {
                opens(play, "a", "03-01 10:59");
            }
            play.ticks("03-01 11:00", "03-01 12:00", 60);
        }
    };
    check(
        &timeline,
        plot(true),
        "03-01 09:00 a temporary, again at 03-01 11:00
        03-01 09:00 b sent
        03-01 10:00 c waits until 03-01 11:00, for an action
        03-01 11:00 a sent
        03-01 11:00 c sent
        day 1 on 03-01, active",
    );
    check(
        &timeline,
        plot(false),
        "03-01 09:00 a temporary, again at 03-01 11:00
        03-01 09:00 b sent
        03-01 10:00 c waits until 03-01 11:00, for an action
        03-01 11:00 a sent
        03-01 11:00 c skipped, condition
        day 1 on 03-01, active",
    );
}

#[test]
fn it_waits_over_midnight_for_an_action_of_a_day_before() {
    let timeline = shifting(
        2,
        [
            email("a", 1, 20),
            if_opened("a", wait("b", 2, 0)),
            if_opened("a", email("c", 2, 9)),
            email("d", 2, 9),
        ],
    );
    let plot = |play: &mut Play| {
        play.facts.stopped_channels.insert(Channel::Email, at("03-02 08:00"));
        play.ticks("03-01 20:00", "03-02 07:00", 60);
        opens(play, "a", "03-02 08:00");
        play.ticks("03-02 08:00", "03-03 00:00", 60);
    };
    check(
        &timeline,
        plot,
        "03-01 20:00 a waits until 03-02 08:00, channel
        03-02 00:00 b waits until 03-02 08:00, for an action
        03-02 08:00 a sent
        03-02 08:00 b done
        03-02 09:00 c sent
        03-02 09:00 d sent
        day 2 on 03-02, completed",
    );
}

#[test]
fn it_waits_no_longer_than_it_may_be_late() {
    let timeline = shifting(1, [email("a", 1, 9), within(1, if_opened("a", sms("b", 1, 9)))]);
    let plot = |play: &mut Play| {
        play.facts.stopped_channels.insert(Channel::Email, at("03-05 00:00"));
        play.ticks("03-01 09:00", "03-01 12:00", 30);
    };
    check(
        &timeline,
        plot,
        "03-01 09:00 a waits until 03-05 00:00, channel
        03-01 09:00 b waits until 03-01 10:00, for an action
        03-01 10:00 b skipped, condition
        day 1 on 03-01, active",
    );
}

/// The mail at 9 was missed, and has its hour tomorrow; what is about it waits for that.
#[test]
fn what_was_missed_today_is_waited_for() {
    let timeline = shifting(
        1,
        [
            within(1, email("a", 1, 9)),
            within(20, if_opened("a", email("b", 1, 20))),
        ],
    );
    let plot = |play: &mut Play| {
        play.ticks("03-01 20:00", "03-02 08:00", 60);
        opens(play, "a", "03-02 09:00");
        play.ticks("03-02 09:00", "03-02 09:00", 60);
    };
    check(
        &timeline,
        plot,
        "03-01 20:00 b waits until 03-02 00:00, for an action
        03-02 00:00 b waits until 03-02 09:00, for an action
        03-02 09:00 a sent
        03-02 09:00 b sent
        day 1 on 03-02, active, shifted 1",
    );
}

#[test]
fn what_was_never_taken_up_is_not_waited_for() {
    let timeline = shifting(
        3,
        [
            email("a", 1, 9),
            if_opened("a", email("b", 2, 9)),
            email("c", 3, 8),
            if_opened("c", email("d", 3, 9)),
        ],
    );
    check(
        &timeline,
        |play| {
            play.start("Etc/UTC", FirstDay::SendPassed, 2, at("03-01 08:00"));
            play.ticks("03-01 09:00", "03-01 23:00", 60);
            // Its day is over, and so it never fires.
            add(play, email("later", 1, 9));
            let about_it = if_opened("later", email("later, too", 3, 10));
            add(play, about_it);
            play.ticks("03-02 00:00", "03-03 00:00", 60);
        },
        "03-01 09:00 b skipped, condition
        03-02 08:00 c sent
        03-02 09:00 d skipped, condition
        03-02 10:00 later, too skipped, condition
        day 3 on 03-02, completed",
    );
}

#[test]
fn an_action_that_ended_without_being_sent_holds_nothing() {
    let timeline = shifting(
        1,
        [
            email("a", 1, 8),
            unless_engaged(email("b", 1, 8)),
            if_opened("a", email("c", 1, 9)),
            if_opened("b", email("d", 1, 9)),
        ],
    );
    let plot = |play: &mut Play| {
        play.facts.engagement_score = 51;
        play.outcome("a", refused());
        play.ticks("03-01 08:00", "03-01 09:00", 60);
    };
    check(
        &timeline,
        plot,
        "03-01 08:00 b skipped, condition
        03-01 08:00 a failed, rejected
        03-01 09:00 c skipped, condition
        03-01 09:00 d skipped, condition
        day 1 on 03-01, active",
    );
}

/// A gate waits for what its conditions are about as for the messages before it, and others wait for the gate.
#[test]
fn a_gate_may_be_about_an_action_of_a_day_before() {
    let gate = step("gate", 2, 9, Channel::Wait, ActionType::CheckCondition);
    let timeline = shifting(2, [email("a", 1, 9), if_opened("a", gate), email("b", 2, 10)]);
    let plot = |play: &mut Play| {
        play.facts.stopped_channels.insert(Channel::Email, at("03-02 11:00"));
        play.ticks("03-01 09:00", "03-02 10:00", 60);
        opens(play, "a", "03-02 11:00");
        play.ticks("03-02 11:00", "03-02 12:00", 60);
    };
    check(
        &timeline,
        plot,
        "03-01 09:00 a waits until 03-02 11:00, channel
        03-02 09:00 gate waits until 03-02 11:00, for an action
        03-02 10:00 b waits until 03-02 11:00, for an action
        03-02 11:00 a sent
        03-02 11:00 gate done
        03-02 11:00 b sent
        day 2 on 03-02, active",
    );
}
