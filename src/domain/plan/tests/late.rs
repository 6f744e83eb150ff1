//! What nobody took up in time: late, shifted, caught up or expired, and never in a burst.

use super::*;

#[test]
fn a_run_that_nobody_ticked_is_shifted() {
    let timeline = shifting(2, [email("a", 1, 9), email("b", 1, 20), email("c", 2, 9)]);
    let down = |play: &mut Play| {
        play.ticks("03-01 08:00", "03-01 09:00", 60);
        play.ticks("03-06 11:00", "03-08 00:00", 60);
    };
    check(
        &timeline,
        down,
        "03-01 09:00 a sent
        03-06 20:00 b sent
        03-07 09:00 c sent
        day 2 on 03-07, completed, shifted 5",
    );
    let served = |play: &mut Play| {
        play.ticks("03-01 08:00", "03-01 20:00", 60);
        play.ticks("03-06 11:00", "03-07 00:00", 60);
    };
    check(
        &timeline,
        served,
        "03-01 09:00 a sent
        03-01 20:00 b sent
        03-06 11:00 c sent
        day 2 on 03-06, completed, shifted 4",
    );
}

#[test]
fn up_to_its_lateness_an_action_goes_late_and_not_beyond() {
    let timeline = shifting(1, [email("mail", 1, 20)]);
    check(
        &timeline,
        |play| play.ticks("03-02 08:00", "03-02 08:00", 60),
        "03-02 08:00 mail sent
        day 1 on 03-01, completed",
    );
    let beyond = |play: &mut Play| {
        play.tick(at("03-02 08:00") + Duration::microseconds(1));
        play.ticks("03-02 09:00", "03-03 00:00", 60);
    };
    check(
        &timeline,
        beyond,
        "03-02 20:00 mail sent
        day 1 on 03-02, completed, shifted 1",
    );
    let own = shifting(1, [within(1, email("mail", 1, 9)), email("other", 1, 9)]);
    check(
        &own,
        |play| play.ticks("03-01 10:00", "03-01 10:00", 60),
        "03-01 10:00 mail sent
        03-01 10:00 other sent
        day 1 on 03-01, active",
    );
}

#[test]
fn what_is_missed_while_others_of_its_day_go_has_its_hour_tomorrow() {
    let timeline = shifting(2, [within(1, email("a", 1, 9)), email("b", 1, 20), email("c", 2, 7)]);
    let plot = |play: &mut Play| play.ticks("03-01 11:00", "03-04 00:00", 60);
    check(
        &timeline,
        plot,
        "03-01 20:00 b sent
        03-02 09:00 a sent
        03-03 07:00 c sent
        day 2 on 03-03, completed, shifted 1",
    );
}

#[test]
fn a_shifted_day_that_is_missed_again_goes_when_its_hour_comes_round() {
    let timeline = shifting(1, [within(0, email("mail", 1, 9))]);
    let plot = |play: &mut Play| {
        for day in ["03-01", "03-02", "03-04"] {
            play.tick(at(&format!("{day} 09:30")));
        }
        play.ticks("03-05 09:00", "03-06 00:00", 60);
    };
    check(
        &timeline,
        plot,
        "03-04 09:30 mail sent
        day 1 on 03-04, completed, shifted 3",
    );
}

#[test]
fn catching_up_jumps_to_the_day_of_the_calendar() {
    let timeline = catching_up(7, (1..=7).map(|day| email(&format!("d{day}"), day, 9)));
    check(
        &timeline,
        |play| play.ticks("04-01 00:00", "04-01 00:00", 60),
        "04-01 00:00 d1 skipped, expired
        day 7 on 03-07, completed, jumped 2 to 7",
    );
    let timeline = catching_up(
        7,
        timeline
            .definition
            .actions
            .into_iter()
            .chain([email("d1, later", 1, 20)]),
    );
    let down = |play: &mut Play| {
        play.ticks("03-01 08:00", "03-01 09:00", 60);
        play.ticks("03-05 11:00", "03-08 00:00", 60);
    };
    check(
        &timeline,
        down,
        "03-01 09:00 d1 sent
        03-05 11:00 d1, later skipped, expired
        03-05 11:00 d5 sent
        03-06 09:00 d6 sent
        03-07 09:00 d7 sent
        day 7 on 03-07, completed, jumped 2 to 4",
    );
}

#[test]
fn catching_up_gives_up_only_what_is_too_late_of_a_day() {
    let timeline = catching_up(
        2,
        [email("a", 1, 9), email("b", 1, 20), email("c", 1, 22), email("d", 2, 9)],
    );
    check(
        &timeline,
        |play| play.ticks("03-02 06:00", "03-03 00:00", 60),
        "03-02 06:00 a skipped, expired
        03-02 06:00 c waits until 03-02 07:00, spacing
        03-02 06:00 b sent
        03-02 07:00 c sent
        03-02 09:00 d sent
        day 2 on 03-02, completed",
    );
}

#[test]
fn catching_up_retries_nothing_that_is_too_late() {
    let timeline = catching_up(9, [within(2, email("mail", 1, 9))]);
    let tried = |play: &mut Play| {
        play.outcomes
            .insert("mail".to_owned(), vec![Outcome::Is(refused_for_now()); 9]);
        play.ticks("03-01 08:00", "03-01 23:00", 5);
    };
    check(
        &timeline,
        tried,
        "03-01 09:00 mail temporary, again at 03-01 09:05
        03-01 09:05 mail temporary, again at 03-01 09:15
        03-01 09:15 mail temporary, again at 03-01 09:35
        03-01 09:35 mail temporary, again at 03-01 10:15
        03-01 10:15 mail failed, temporary
        day 1 on 03-01, active",
    );
    let down = |play: &mut Play| {
        play.outcome("mail", refused_for_now());
        play.ticks("03-01 08:00", "03-01 09:00", 60);
        play.ticks("03-05 09:00", "03-05 09:00", 60);
    };
    check(
        &timeline,
        down,
        "03-01 09:00 mail temporary, again at 03-01 09:05
        03-05 09:00 mail skipped, expired
        day 5 on 03-05, active, jumped 2 to 4",
    );
}

#[test]
fn late_messages_of_a_channel_go_an_hour_apart() {
    let timeline = shifting(
        1,
        [
            email("a", 1, 8),
            email("b", 1, 9),
            email("c", 1, 10),
            sms("d", 1, 10),
            email("e", 1, 12),
            task("f", 1, 8),
        ],
    );
    check(
        &timeline,
        |play| play.ticks("03-01 12:00", "03-01 15:00", 15),
        "03-01 12:00 b waits until 03-01 13:00, spacing
        03-01 12:00 c waits until 03-01 13:00, spacing
        03-01 12:00 a sent
        03-01 12:00 f sent
        03-01 12:00 d sent
        03-01 12:00 e sent
        03-01 13:00 c waits until 03-01 14:00, spacing
        03-01 13:00 b sent
        03-01 14:00 c sent
        day 1 on 03-01, active",
    );
}

#[test]
fn only_what_reached_the_customer_keeps_late_messages_waiting() {
    let timeline = shifting(1, [email("a", 1, 8)]);
    let retried = |play: &mut Play| {
        play.outcome("a", refused_for_now());
        play.outcome("a", Attempted::HandedBack);
        play.ticks("03-01 12:00", "03-01 14:00", 5);
    };
    check(
        &timeline,
        retried,
        "03-01 12:00 a temporary, again at 03-01 12:05
        03-01 12:05 a handed back
        03-01 12:05 a sent
        day 1 on 03-01, active",
    );
}

#[test]
fn catching_up_jumps_over_days_that_nobody_saw_alone_and_in_bulk() {
    // Days 2, 3 and 6 have no actions; day 1 is served before the ticks end.
    let timeline = catching_up(
        6,
        [email("a", 1, 9), email("b", 4, 9), email("c", 5, 9), email("d", 5, 20)],
    );
    let plot = |until: &'static str| {
        move |play: &mut Play| {
            play.ticks("03-01 08:00", "03-01 09:00", 60);
            play.ticks(until, "03-08 00:00", 60);
        }
    };
    check(
        &timeline,
        plot("03-05 10:00"),
        "03-01 09:00 a sent
        03-05 10:00 c sent
        03-05 20:00 d sent
        day 6 on 03-06, completed, jumped 2 to 4",
    );
    check(
        &timeline,
        plot("03-06 00:00"),
        "03-01 09:00 a sent
        03-06 00:00 c skipped, expired
        03-06 00:00 d sent
        day 6 on 03-06, completed, jumped 2 to 4",
    );
    check(
        &timeline,
        plot("03-07 00:00"),
        "03-01 09:00 a sent
        day 6 on 03-06, completed, jumped 2 to 6",
    );
}

#[test]
fn catching_up_what_was_put_off_does_not_age() {
    let timeline = catching_up(1, [within(1, email("a", 1, 9))]);
    let put_off = |play: &mut Play| {
        play.facts.stopped_channels.insert(Channel::Email, at("03-01 10:00"));
        play.tick(at("03-01 09:50"));
        play.outcome("a", refused_for_now());
        play.outcome("a", refused_for_now());
        play.ticks("03-01 12:00", "03-01 12:05", 5);
    };
    // Ten minutes of its hour are left at twelve: time for a retry after five, and not for another after ten.
    check(
        &timeline,
        put_off,
        "03-01 09:50 a waits until 03-01 10:00, channel
        03-01 12:00 a temporary, again at 03-01 12:05
        03-01 12:05 a failed, temporary
        day 1 on 03-01, active",
    );
}

#[test]
fn catching_up_gives_up_what_is_too_late_when_the_day_is_reached() {
    let timeline = catching_up(2, [email("a", 1, 9), within(1, email("b", 2, 0))]);
    let down_at_midnight = |play: &mut Play| {
        play.ticks("03-01 09:00", "03-01 09:00", 60);
        play.ticks("03-02 03:00", "03-02 03:00", 60);
    };
    check(
        &timeline,
        down_at_midnight,
        "03-01 09:00 a sent
        03-02 03:00 b skipped, expired
        day 2 on 03-02, active",
    );
}
