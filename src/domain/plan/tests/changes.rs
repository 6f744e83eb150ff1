//! What people change while a run is under way: the timeline, the run, the zone.

use super::*;

#[test]
fn what_is_removed_while_it_is_pending_ends_as_removed() {
    let timeline = shifting(
        2,
        [
            email("a", 1, 9),
            email("b", 1, 10),
            gate("gate", 1, 11),
            email("c", 1, 12),
            email("d", 2, 9),
        ],
    );
    let plot = |play: &mut Play| {
        play.outcome("a", refused_for_now());
        play.facts.engagement_score = 51;
        play.tick(at("03-01 09:00"));
        for key in ["a", "b", "gate"] {
            remove(play, key, at("03-01 09:02"));
        }
        play.ticks("03-01 09:05", "03-02 01:00", 5);
        remove(play, "c", at("03-02 01:00"));
        play.facts.engagement_score = 0;
        play.ticks("03-02 02:00", "03-03 00:00", 60);
    };
    check(
        &timeline,
        plot,
        "03-01 09:00 a temporary, again at 03-01 09:05
        03-01 09:05 a skipped, removed
        03-01 09:05 b skipped, removed
        03-01 09:05 gate skipped, removed
        03-01 12:00 c sent
        03-02 09:00 d sent
        day 2 on 03-02, completed",
    );
}

#[test]
fn what_is_removed_while_the_run_is_paused_was_pending() {
    let timeline = shifting(2, [email("a", 1, 9), email("b", 2, 9)]);
    let plot = |next_day| {
        move |play: &mut Play| {
            play.pause("03-01 08:30");
            remove(play, "a", at("03-03 12:00"));
            play.resume(next_day, "03-08 10:00");
            play.ticks("03-08 10:00", "03-11 00:00", 60);
        }
    };
    check(
        &timeline,
        plot(false),
        "03-08 10:00 a skipped, removed
        03-09 09:00 b sent
        day 2 on 03-09, completed",
    );
    check(
        &timeline,
        plot(true),
        "03-08 10:00 a skipped, removed
        03-10 09:00 b sent
        day 2 on 03-10, completed",
    );
}

#[test]
fn what_is_removed_of_a_day_that_was_jumped_over_was_not_pending() {
    let timeline = catching_up(2, [within(24 * 7, email("a", 1, 9)), email("b", 2, 9)]);
    let plot = |play: &mut Play| {
        for _ in 0..3 {
            play.outcome("a", refused_for_now());
        }
        play.tick(at("03-01 09:00"));
        play.tick(at("03-04 09:00"));
        remove(play, "b", at("03-04 09:01"));
        play.ticks("03-04 09:05", "03-04 10:00", 5);
    };
    check(
        &timeline,
        plot,
        "03-01 09:00 a temporary, again at 03-01 09:05
        03-04 09:00 a temporary, again at 03-04 09:10
        03-04 09:10 a temporary, again at 03-04 09:30
        03-04 09:30 a sent
        day 2 on 03-02, completed, jumped 2 to 2",
    );
}

#[test]
fn what_was_removed_before_the_start_was_never_pending() {
    let timeline = shifting(1, [removed("03-01 07:00", email("a", 1, 9)), email("b", 1, 9)]);
    check(
        &timeline,
        |play| play.ticks("03-01 08:00", "03-02 00:00", 60),
        "03-01 09:00 b sent
        day 1 on 03-01, completed",
    );
}

#[test]
fn a_resumed_run_has_its_day_today_and_what_passed_is_due_at_once() {
    let timeline = shifting(
        2,
        [email("a", 1, 8), email("b", 1, 9), email("c", 1, 12), email("d", 2, 9)],
    );
    let plot = |next_day| {
        move |play: &mut Play| {
            play.tick(at("03-01 08:00"));
            play.pause("03-01 08:30");
            play.ticks("03-01 09:00", "03-08 10:00", 60);
            play.resume(next_day, "03-08 10:00");
            play.ticks("03-08 10:00", "03-10 08:00", 60);
        }
    };
    check(
        &timeline,
        plot(false),
        "03-01 08:00 a sent
        03-08 10:00 b sent
        03-08 12:00 c sent
        03-09 09:00 d sent
        day 2 on 03-09, completed",
    );
    check(
        &timeline,
        plot(true),
        "03-01 08:00 a sent
        03-09 09:00 b sent
        03-09 12:00 c sent
        day 2 on 03-10, active",
    );
}

#[test]
fn only_what_is_live_can_be_paused_resumed_or_stopped() {
    let now = at("03-01 09:00");
    let run = start(&shifting(1, []), zone("Etc/UTC"), FirstDay::SendPassed, 1, now);
    for (status, pauses, resumes, stops) in [
        (Status::Active, true, false, true),
        (Status::Paused, false, true, true),
        (Status::Completed, false, false, false),
        (Status::Stopped, false, false, false),
    ] {
        let run = || Run { status, ..run.clone() };
        let moved = [
            run().pause(String::new(), now).is_ok(),
            run().resume(String::new(), false, now).is_ok(),
            run().stop(String::new(), now).is_ok(),
        ];
        assert_eq!(moved, [pauses, resumes, stops], "{status:?}");
    }
}

#[test]
fn a_reactivated_timeline_goes_on_where_it_was_frozen() {
    let timeline = catching_up(
        3,
        [email("a", 1, 8), email("b", 1, 9), email("c", 1, 20), email("d", 2, 9)],
    );
    let plot = |frozen: &'static str| {
        move |play: &mut Play| {
            play.ticks("03-01 08:00", frozen, 60);
            play.timeline.definition.is_active = false;
            play.ticks("03-01 21:00", "03-08 09:00", 60);
            play.timeline.definition.is_active = true;
            play.timeline.activated_at = Some(at("03-08 09:30"));
            play.ticks("03-08 10:00", "03-10 00:00", 60);
        }
    };
    check(
        &timeline,
        plot("03-01 08:00"),
        "03-01 08:00 a sent
        03-08 10:00 b sent
        03-08 20:00 c sent
        03-09 09:00 d sent
        day 3 on 03-10, active",
    );
    check(
        &timeline,
        plot("03-01 20:00"),
        "03-01 08:00 a sent
        03-01 09:00 b sent
        03-01 20:00 c sent
        03-09 09:00 d sent
        day 3 on 03-10, active",
    );
}

#[test]
fn a_move_over_the_date_line_keeps_the_day_and_repeats_nothing() {
    let timeline = shifting(
        3,
        [email("a", 1, 9), email("b", 1, 18), email("c", 2, 9), email("d", 3, 9)],
    );
    let plot = |from: &'static str, to: &'static str| {
        move |play: &mut Play| {
            let begin = instant(
                plus_days(at("03-01 00:00").date_naive(), 0),
                8,
                from.parse().expect("a zone"),
            );
            play.start(from, FirstDay::SendPassed, 1, begin);
            play.tick_between(begin, begin + Duration::hours(2), Duration::hours(1));
            let moved = begin + Duration::hours(2);
            play.run = play.run.clone().move_to(zone(to), moved);
            play.advances.clear();
            play.settle(moved);
            play.tick_between(moved, moved + Duration::days(4), Duration::minutes(30));
        }
    };
    // 10:00 in Auckland on the first is 11:00 in Honolulu on the 28th.
    check(
        &timeline,
        plot("Pacific/Auckland", "Pacific/Honolulu"),
        "02-28 10:00 a sent
        02-28 18:00 b sent
        03-01 09:00 c sent
        03-02 09:00 d sent
        day 3 on 03-02, completed",
    );
    // 10:00 in Honolulu on the first is 09:00 in Auckland on the 2nd.
    check(
        &timeline,
        plot("Pacific/Honolulu", "Pacific/Auckland"),
        "03-02 08:00 a sent
        03-02 18:00 b sent
        03-03 09:00 c sent
        03-04 09:00 d sent
        day 3 on 03-04, completed",
    );
}

#[test]
fn a_move_makes_passed_hours_due_at_once_which_is_not_late() {
    let timeline = shifting(1, [email("a", 1, 9), email("b", 1, 10), email("c", 1, 23)]);
    let plot = |play: &mut Play| {
        play.start("Pacific/Honolulu", FirstDay::SendPassed, 1, at("03-01 12:00"));
        play.ticks("03-01 12:00", "03-01 15:00", 30);
        play.run = play.run.clone().move_to(zone("Etc/UTC"), at("03-01 15:00"));
        play.settle(at("03-01 15:00"));
        play.ticks("03-01 15:00", "03-02 00:00", 30);
    };
    check(
        &timeline,
        plot,
        "03-01 15:00 a sent
        03-01 15:00 b sent
        03-01 23:00 c sent
        day 1 on 03-01, completed",
    );
}

#[test]
fn what_was_frozen_is_not_late() {
    let timeline = catching_up(1, [email("a", 1, 8), email("b", 1, 9), email("c", 1, 10)]);
    let frozen = |play: &mut Play| {
        play.timeline.definition.is_active = false;
        play.ticks("03-01 08:00", "03-05 22:00", 60);
        play.timeline.definition.is_active = true;
        play.timeline.activated_at = Some(at("03-05 22:30"));
        play.ticks("03-05 23:00", "03-06 00:00", 60);
    };
    check(
        &timeline,
        frozen,
        "03-05 23:00 a sent
        03-05 23:00 b sent
        03-05 23:00 c sent
        day 1 on 03-05, completed",
    );
    let paused_while_it_retried = |play: &mut Play| {
        play.outcome("a", refused_for_now());
        play.tick(at("03-01 08:00"));
        play.pause("03-01 08:01");
        play.resume(false, "03-05 22:30");
        play.ticks("03-05 23:00", "03-06 00:00", 60);
    };
    check(
        &timeline,
        paused_while_it_retried,
        "03-01 08:00 a temporary, again at 03-01 08:05
        03-05 23:00 a sent
        03-05 23:00 b sent
        03-05 23:00 c sent
        day 1 on 03-05, completed",
    );
}

#[test]
fn what_comes_next_is_told() {
    let timeline = shifting(5, [email("a", 1, 9), email("b", 4, 9)]);
    let mut play = Play::new(Engine::Bulk, &timeline);
    let next = |play: &Play, now| {
        plan::next_action(&play.timeline, &play.run, at(now))
            .map(|(id, at)| format!("{} {}", play.key(id), play.local(at)))
    };
    assert_eq!(next(&play, "03-01 08:00").as_deref(), Some("a 03-01 09:00"));
    play.outcome("a", refused_for_now());
    play.tick(at("03-01 09:00"));
    assert_eq!(next(&play, "03-01 09:00").as_deref(), Some("a 03-01 09:05"));
    play.tick(at("03-01 09:05"));
    assert_eq!(next(&play, "03-01 09:05").as_deref(), Some("b 03-04 09:00"));
    play.ticks("03-02 00:00", "03-04 09:00", 60);
    assert_eq!(next(&play, "03-04 09:00"), None);
}

#[test]
fn what_comes_next_after_an_outage_is_told() {
    let actions = || [within(1, email("a", 1, 9)), email("b", 2, 9), email("c", 3, 9)];
    let next = |play: &Play, now| {
        plan::next_action(&play.timeline, &play.run, at(now))
            .map(|(id, at)| format!("{} {}", play.key(id), play.local(at)))
    };
    let play = Play::new(Engine::Bulk, &shifting(5, actions()));
    for (now, expected) in [
        ("03-01 10:00", "a 03-01 09:00"),
        ("03-01 10:01", "a 03-02 09:00"),
        ("03-04 08:00", "a 03-04 09:00"),
        ("03-04 10:00", "a 03-04 09:00"),
        ("03-04 10:01", "a 03-05 09:00"),
    ] {
        assert_eq!(next(&play, now).as_deref(), Some(expected), "{now}");
    }
    let mut play = Play::new(Engine::Bulk, &shifting(5, actions()));
    play.tick(at("03-01 09:00"));
    assert_eq!(next(&play, "03-01 09:00").as_deref(), Some("b 03-02 09:00"));
    assert_eq!(next(&play, "03-06 09:00").as_deref(), Some("b 03-06 09:00"));

    let play = Play::new(Engine::Bulk, &catching_up(5, actions()));
    for (now, expected) in [
        ("03-01 10:00", Some("a 03-01 09:00")),
        ("03-01 10:01", Some("b 03-02 09:00")),
        ("03-02 21:01", Some("c 03-03 09:00")),
        ("03-03 21:01", None),
    ] {
        assert_eq!(next(&play, now).as_deref(), expected, "{now}");
    }
}

#[test]
fn what_is_finished_does_not_come_next_where_it_is_moved() {
    let timeline = shifting(5, [email("a", 1, 9), email("b", 4, 9)]);
    let mut play = Play::new(Engine::Bulk, &timeline);
    play.tick(at("03-01 09:00"));
    for action in &mut play.timeline.definition.actions {
        action.definition.day_number = if action.definition.key == "a" { 2 } else { 3 };
    }
    play.timeline.definition.actions.sort_by_key(Action::position);
    let (next, due) = plan::next_action(&play.timeline, &play.run, at("03-01 09:00")).expect("a next one");
    assert_eq!((play.key(next), play.local(due).as_str()), ("b", "03-03 09:00"));
}

#[test]
fn what_is_due_at_midnight_comes_before_a_retry_after_it() {
    let timeline = shifting(2, [email("a", 1, 23), email("b", 2, 0)]);
    let mut play = Play::new(Engine::Bulk, &timeline);
    play.retry.base = Duration::hours(2);
    play.outcome("a", refused_for_now());
    let next = |play: &Play, now: &str| {
        let (next, due) = plan::next_action(&play.timeline, &play.run, at(now)).expect("a next one");
        format!("{} {}", play.key(next), play.local(due))
    };
    play.tick(at("03-01 23:00"));
    assert_eq!(next(&play, "03-01 23:00"), "b 03-02 00:00");
    play.tick(at("03-02 00:00"));
    assert_eq!(next(&play, "03-02 00:00"), "a 03-02 01:00");
}

#[test]
fn what_is_repeated_has_as_much_time_from_the_resumption_as_from_its_hour() {
    let timeline = catching_up(1, [within(1, email("a", 1, 9))]);
    let pause = |play: &mut Play| {
        play.tick(at("03-01 09:00"));
        play.pause("03-01 09:01");
        play.resume(false, "03-05 20:00");
        play.ticks("03-05 20:00", "03-05 21:00", 5);
    };
    let refused_before_and_after = |play: &mut Play| {
        play.outcome("a", refused_for_now());
        play.outcome("a", refused_for_now());
        pause(play);
    };
    check(
        &timeline,
        refused_before_and_after,
        "03-01 09:00 a temporary, again at 03-01 09:05
        03-05 20:00 a temporary, again at 03-05 20:10
        03-05 20:10 a sent
        day 1 on 03-05, active",
    );
    let lost_with_its_sender = |play: &mut Play| {
        play.death("a");
        pause(play);
    };
    check(
        &timeline,
        lost_with_its_sender,
        "03-01 09:00 a sent, not recorded
        03-05 20:00 a outcome_unknown, again at 03-05 20:05
        03-05 20:05 a sent
        day 1 on 03-05, active",
    );
}
