//! Hours, dates and zones: when an action goes, and on which day a run begins and ends.

use super::*;

/// Plays 90 days with mails at 0, 2, 9 and 23 o'clock, and compares each with the first tick at which a clock on the wall
/// showed that hour or later.
#[track_caller]
fn check_hours(tz: &str, first_date: &str, minutes: i64) {
    let hours = [0, 2, 9, 23];
    let timeline = shifting(90, (1..=90).flat_map(|day| hours.map(|hour| email("mail", day, hour))));
    let tz: Tz = tz.parse().expect("a zone");
    let date: NaiveDate = first_date.parse().expect("a date");
    let begin = instant(date, 0, tz);
    let ticks: Vec<Timestamp> = (0..92 * 24 * 60 / minutes)
        .map(|n| begin + Duration::minutes(n * minutes))
        .collect();
    let mut expected: Vec<(ActionId, Timestamp)> = Vec::new();
    for action in &timeline.definition.actions {
        let date = plus_days(date, i64::from(action.definition.day_number) - 1);
        let wall = date.and_hms_opt(action.definition.delay_hours, 0, 0).expect("a time");
        let from = expected
            .last()
            .map_or(0, |(_, last)| ticks.partition_point(|tick| tick < last));
        let tick = ticks[from..]
            .iter()
            .find(|tick| tick.with_timezone(&tz).naive_local() >= wall);
        expected.push((action.id, *tick.expect("a tick")));
    }
    // To plan all at every tick takes long, and need not be seen everywhere.
    let engines: &[Engine] = if minutes == 60 {
        &[Engine::Bulk]
    } else {
        &[Engine::Bulk, Engine::Eager]
    };
    for engine in engines.iter().copied() {
        let mut play = Play::new(engine, &timeline);
        play.start(tz.name(), FirstDay::SendPassed, 1, begin);
        for tick in &ticks {
            play.tick(*tick);
        }
        let sent: Vec<(ActionId, Timestamp)> = play
            .log
            .iter()
            .map(|(id, now, what)| (*id, *now, what))
            .filter(|(_, _, what)| *what == "sent")
            .map(|(id, now, _)| (id, now))
            .collect();
        assert_eq!(sent, expected, "{tz} {first_date} {engine:?}");
        assert_eq!(
            (
                play.log.len(),
                play.run.status,
                play.run.shifted_days,
                play.advances.len()
            ),
            (360, Status::Completed, 0, 89),
            "{tz}"
        );
    }
}

#[test]
fn every_action_goes_at_its_hour_where_the_customer_lives() {
    for tz in [
        "Etc/UTC",
        "Pacific/Kiritimati",
        "Etc/GMT+12",
        "Asia/Kathmandu",
        "Asia/Kolkata",
        "America/St_Johns",
        "Pacific/Chatham",
    ] {
        check_hours(tz, "2026-01-01", 60);
        check_hours(tz, "2026-09-01", 60);
    }
    check_hours("Asia/Kathmandu", "2026-01-01", 30);
}

#[test]
fn clock_changes_move_no_action_from_its_hour() {
    for tz in [
        "America/New_York",
        "Europe/London",
        "Australia/Adelaide",
        "Australia/Lord_Howe",
        "America/Santiago",
        "Africa/Cairo",
        "America/Nuuk",
        "Atlantic/Azores",
        "Asia/Beirut",
        "America/Havana",
    ] {
        check_hours(tz, "2026-02-20", 60);
        check_hours(tz, "2026-08-20", 60);
    }
    check_hours("Australia/Lord_Howe", "2026-08-20", 30);
}

#[test]
fn the_leap_day_is_a_day() {
    check_hours("Etc/UTC", "2028-02-01", 60);
    check_hours("America/New_York", "2028-02-01", 45);
}

#[test]
fn an_hour_that_is_skipped_goes_at_the_next_and_one_that_repeats_goes_once() {
    let timeline = shifting(2, [email("two", 1, 2), email("midnight", 2, 0)]);
    let new_york = |play: &mut Play| {
        play.start("America/New_York", FirstDay::SendPassed, 1, at("03-08 05:00"));
        play.ticks("03-08 05:00", "03-10 05:00", 30);
    };
    check(
        &timeline,
        new_york,
        "03-08 03:00 two sent
        03-09 00:00 midnight sent
        day 2 on 03-09, completed",
    );
    let santiago = |play: &mut Play| {
        play.start("America/Santiago", FirstDay::SendPassed, 1, at("09-05 04:00"));
        play.ticks("09-05 04:00", "09-07 03:00", 30);
    };
    check(
        &timeline,
        santiago,
        "09-05 02:00 two sent
        09-06 01:00 midnight sent
        day 2 on 09-06, completed",
    );
    let azores = |play: &mut Play| {
        play.start("Atlantic/Azores", FirstDay::SendPassed, 1, at("10-24 00:00"));
        play.ticks("10-24 00:00", "10-26 01:00", 30);
    };
    check(
        &timeline,
        azores,
        "10-24 02:00 two sent
        10-25 00:00 midnight sent
        day 2 on 10-25, completed",
    );
}

#[test]
fn a_day_on_a_date_that_was_left_out_is_not_lost() {
    // Samoa went from the 29th to the 31st of December 2011.
    let timeline = shifting(2, [email("a", 1, 9), email("b", 2, 9)]);
    let plot = |play: &mut Play| {
        let begin: Timestamp = "2011-12-29T20:00:00Z".parse().expect("an instant");
        play.start("Pacific/Apia", FirstDay::NextDay, 1, begin);
        play.tick_between(begin, begin + Duration::days(3), Duration::hours(1));
    };
    check(
        &timeline,
        plot,
        "12-31 09:00 a sent
        12-31 09:00 b sent
        day 2 on 12-31, completed",
    );
}

#[test]
fn actions_go_in_the_order_of_day_hour_priority_and_id() {
    let timeline = shifting(
        1,
        [
            email("c", 1, 9),
            email("d", 1, 9),
            first(email("b", 1, 9)),
            email("a", 1, 8),
            task("e", 1, 10),
            wait("f", 1, 10),
        ],
    );
    check(
        &timeline,
        |play| play.ticks("03-01 10:00", "03-01 10:00", 60),
        "03-01 10:00 f done
        03-01 10:00 a sent
        03-01 10:00 b sent
        03-01 10:00 c sent
        03-01 10:00 d sent
        03-01 10:00 e sent
        day 1 on 03-01, active",
    );
}

#[test]
fn repeated_and_overlapping_ticks_change_nothing() {
    let steps = || {
        (1..=5).flat_map(|day| {
            [
                email("mail", day, 9),
                sms("text", day, 12),
                gate("gate", day, 13),
                email("later", day, 20),
            ]
        })
    };
    let timeline = shifting(5, steps());
    let story = |engine, plot: &dyn Fn(&mut Play)| {
        let mut play = Play::new(engine, &timeline);
        plot(&mut play);
        play.story()
    };
    let expected = story(Engine::Bulk, &|play| play.ticks("03-01 08:00", "03-06 00:00", 60));
    assert!(expected.ends_with("day 5 on 03-05, completed"), "{expected}");
    for engine in [Engine::Eager, Engine::Bulk] {
        assert_eq!(
            story(engine, &|play| play.ticks("03-01 08:00", "03-06 00:00", 15)),
            expected
        );
        assert_eq!(
            story(engine, &|play| play.ticks("03-01 08:00", "03-06 00:00", 1)),
            expected
        );
        let overlapping = |play: &mut Play| {
            let mut now = at("03-01 08:00");
            while now <= at("03-06 00:00") {
                for behind in [0, 0, 4, 0] {
                    play.tick(now - Duration::seconds(behind));
                }
                now += Duration::hours(1);
            }
        };
        assert_eq!(story(engine, &overlapping), expected);
    }
}

#[test]
fn hours_that_passed_before_the_start_are_sent_skipped_or_wait_for_tomorrow() {
    let timeline = shifting(
        2,
        [
            email("early", 1, 9),
            email("now", 1, 10),
            email("late", 1, 22),
            email("next", 2, 9),
        ],
    );
    let play = |first_day| {
        move |play: &mut Play| {
            play.start("Etc/UTC", first_day, 1, at("03-01 10:00"));
            play.ticks("03-01 10:00", "03-04 00:00", 60);
        }
    };
    check(
        &timeline,
        play(FirstDay::SendPassed),
        "03-01 10:00 early sent
        03-01 10:00 now sent
        03-01 22:00 late sent
        03-02 09:00 next sent
        day 2 on 03-02, completed",
    );
    check(
        &timeline,
        play(FirstDay::SkipPassed),
        "03-01 10:00 now sent
        03-01 22:00 late sent
        03-02 09:00 next sent
        day 2 on 03-02, completed",
    );
    check(
        &timeline,
        play(FirstDay::NextDay),
        "03-02 09:00 early sent
        03-02 10:00 now sent
        03-02 22:00 late sent
        03-03 09:00 next sent
        day 2 on 03-03, completed",
    );
    let run = start(&timeline, zone("Etc/UTC"), FirstDay::SkipPassed, 1, at("03-01 10:00"));
    assert_eq!(
        run.skipped
            .iter()
            .map(|skipped| (skipped.id, skipped.reason))
            .collect::<Vec<_>>(),
        [(ActionId(1), SkipReason::HourPassedAtStart)]
    );
}

#[test]
fn the_first_day_is_the_customers_date() {
    let timeline = shifting(1, [email("mail", 1, 9)]);
    let play = |tz: &'static str| {
        move |play: &mut Play| {
            play.start(tz, FirstDay::SendPassed, 1, at("03-01 11:30"));
            play.ticks("03-01 11:30", "03-03 12:00", 30);
        }
    };
    check(
        &timeline,
        play("Pacific/Kiritimati"),
        "03-02 09:00 mail sent
        day 1 on 03-02, completed",
    );
    check(
        &timeline,
        play("Etc/GMT+12"),
        "02-28 23:30 mail sent
        day 1 on 02-28, completed",
    );
}

#[test]
fn a_run_may_begin_further_on() {
    let timeline = shifting(
        4,
        [
            email("one", 1, 9),
            email("two", 2, 9),
            email("three", 3, 9),
            email("four", 4, 9),
        ],
    );
    let plot = |play: &mut Play| {
        play.start("Etc/UTC", FirstDay::SendPassed, 3, at("03-01 08:00"));
        play.ticks("03-01 08:00", "03-03 00:00", 60);
    };
    check(
        &timeline,
        plot,
        "03-01 09:00 three sent
        03-02 09:00 four sent
        day 4 on 03-02, completed",
    );
}

#[test]
fn a_run_is_completed_after_its_last_day_once_nothing_is_pending() {
    let timeline = shifting(3, [email("mail", 1, 9)]);
    check(
        &timeline,
        |play| play.ticks("03-01 09:00", "03-03 23:45", 15),
        "03-01 09:00 mail sent
        day 3 on 03-03, active",
    );
    check(
        &timeline,
        |play| play.ticks("03-01 09:00", "03-04 00:00", 15),
        "03-01 09:00 mail sent
        day 3 on 03-03, completed",
    );
    check(
        &shifting(1, []),
        |play| play.ticks("03-01 09:00", "03-02 00:00", 60),
        "day 1 on 03-01, completed",
    );
    let retrying = |play: &mut Play| {
        play.outcomes
            .insert("mail".to_owned(), vec![Outcome::Is(refused_for_now()); 3]);
        play.ticks("03-01 08:00", "03-02 00:45", 5);
    };
    check(
        &shifting(1, [email("mail", 1, 23)]),
        retrying,
        "03-01 23:00 mail temporary, again at 03-01 23:05
        03-01 23:05 mail temporary, again at 03-01 23:15
        03-01 23:15 mail temporary, again at 03-01 23:35
        03-01 23:35 mail sent
        day 1 on 03-01, completed",
    );
}

#[test]
fn a_shortened_timeline_ends_at_the_next_advance() {
    let plot = |play: &mut Play| {
        play.ticks("03-01 08:00", "03-05 10:00", 60);
        play.timeline.definition.duration_days = 2;
        play.ticks("03-05 11:00", "03-06 00:00", 60);
    };
    check(
        &shifting(9, [email("mail", 1, 9)]),
        plot,
        "03-01 09:00 mail sent
        day 5 on 03-05, completed",
    );
}
