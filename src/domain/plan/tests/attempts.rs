//! Claims, attempts that fail, and processes that die.

use super::*;

#[test]
fn a_failed_attempt_is_repeated_across_midnight_and_holds_nothing_up() {
    let timeline = shifting(2, [email("a", 1, 23), email("b", 1, 23), email("c", 2, 0)]);
    let plot = |play: &mut Play| {
        play.outcomes
            .insert("a".to_owned(), vec![Outcome::Is(refused_for_now()); 4]);
        play.ticks("03-01 23:00", "03-02 01:00", 5);
    };
    check(
        &timeline,
        plot,
        "03-01 23:00 a temporary, again at 03-01 23:05
        03-01 23:00 b sent
        03-01 23:05 a temporary, again at 03-01 23:15
        03-01 23:15 a temporary, again at 03-01 23:35
        03-01 23:35 a temporary, again at 03-02 00:15
        03-02 00:00 c sent
        03-02 00:15 a sent
        day 2 on 03-02, active",
    );
}

#[test]
fn attempts_end_and_providers_may_ask_for_longer_waits() {
    let timeline = shifting(
        1,
        [email("a", 1, 9), email("b", 1, 9), email("c", 1, 9), email("d", 1, 9)],
    );
    let plot = |play: &mut Play| {
        play.retry.max_attempts = 2;
        let asks = |minutes| Attempted::Retry {
            reason: FailureReason::Temporary,
            error: String::new(),
            after: Some(Duration::minutes(minutes)),
        };
        play.outcomes
            .insert("a".to_owned(), vec![Outcome::Is(refused_for_now()); 2]);
        play.outcome("b", refused());
        play.outcome("c", asks(8));
        play.outcome("d", unknown());
        play.outcome("d", unknown());
        play.ticks("03-01 09:00", "03-02 00:00", 1);
    };
    check(
        &timeline,
        plot,
        "03-01 09:00 a temporary, again at 03-01 09:05
        03-01 09:00 b failed, rejected
        03-01 09:00 c temporary, again at 03-01 09:08
        03-01 09:00 d outcome_unknown, again at 03-01 09:05
        03-01 09:05 a failed, temporary
        03-01 09:05 d unknown, outcome_unknown
        03-01 09:08 c sent
        day 1 on 03-01, completed",
    );
}

#[test]
fn after_a_crash_a_mail_goes_again_and_a_text_message_is_unknown() {
    let mails = shifting(1, [email("a", 1, 9), email("b", 1, 9)]);
    let plot = |play: &mut Play| {
        play.death("b");
        play.ticks("03-01 09:00", "03-02 00:00", 15);
    };
    check(
        &mails,
        plot,
        "03-01 09:00 a sent, not recorded
        03-01 09:00 b sent, not recorded
        03-01 09:15 a outcome_unknown, again at 03-01 09:20
        03-01 09:15 b outcome_unknown, again at 03-01 09:20
        03-01 09:30 a sent
        03-01 09:30 b sent
        day 1 on 03-01, completed",
    );
    let texts = shifting(1, [sms("a", 1, 9), sms("b", 1, 9)]);
    let plot = |play: &mut Play| {
        play.death("a");
        play.ticks("03-01 09:00", "03-02 00:00", 15);
    };
    check(
        &texts,
        plot,
        "03-01 09:00 a sent, not recorded
        03-01 09:15 a unknown, outcome_unknown
        03-01 09:15 b sent
        day 1 on 03-01, completed",
    );
}

#[test]
fn a_claim_that_nobody_waited_for_is_found_after_a_crash() {
    // Somebody asks for what is due now; the run had no wake-up, as the action came into the timeline just before.
    let plot = |play: &mut Play| {
        play.ticks("03-01 08:00", "03-01 10:00", 60);
        add(play, email("later", 1, 9));
        play.death("later");
        assert!(!play.plan(at("03-01 10:30")));
        play.ticks("03-01 11:00", "03-01 12:00", 60);
    };
    check(
        &shifting(1, [email("a", 1, 9)]),
        plot,
        "03-01 09:00 a sent
        03-01 10:30 later sent, not recorded
        03-01 11:00 later outcome_unknown, again at 03-01 11:05
        03-01 12:00 later sent
        day 1 on 03-01, active",
    );
}

#[test]
fn what_promises_at_most_once_is_alone_in_its_claim() {
    let timeline = shifting(
        1,
        [
            email("a", 1, 9),
            sms("b", 1, 9),
            email("c", 1, 9),
            call("d", 1, 9),
            email("e", 1, 9),
            task("f", 1, 9),
        ],
    );
    let mut play = Play::new(Engine::Eager, &timeline);
    let mut claims = Vec::new();
    for _ in 0..5 {
        let planned = plan::plan(&play.timeline, &play.run, &play.facts, &play.retry, at("03-01 09:00"));
        claims.push(
            planned
                .run
                .in_flight
                .iter()
                .map(|sent| play.key(sent.id).to_owned())
                .collect::<Vec<_>>()
                .join(" "),
        );
        play.plan(at("03-01 09:00"));
    }
    assert_eq!(claims, ["a", "b", "c", "d", "e f"]);
}

#[test]
fn a_claim_has_at_most_ten_messages() {
    let timeline = shifting(1, (1..=25).map(|_| email("mail", 1, 9)));
    let mut play = Play::new(Engine::Bulk, &timeline);
    let claimed = plan::plan(&play.timeline, &play.run, &play.facts, &play.retry, at("03-01 09:00"))
        .run
        .in_flight;
    assert_eq!(
        claimed.iter().map(|sent| sent.id.0).collect::<Vec<_>>(),
        (1..=10).collect::<Vec<_>>()
    );
    play.tick(at("03-01 09:00"));
    assert_eq!(play.run.completed.len(), 25);
}

#[test]
fn without_an_address_a_message_fails_and_the_run_goes_on() {
    let plot = |play: &mut Play| {
        play.facts.has_email = false;
        play.facts.has_phone = false;
        play.ticks("03-01 09:00", "03-02 00:00", 60);
    };
    check(
        &shifting(1, [email("a", 1, 9), sms("b", 1, 9), call("c", 1, 9), task("d", 1, 9)]),
        plot,
        "03-01 09:00 a failed, missing_address
        03-01 09:00 b failed, missing_address
        03-01 09:00 c failed, missing_address
        03-01 09:00 d sent
        day 1 on 03-01, completed",
    );
}

#[test]
fn what_a_stopped_channel_has_to_send_waits_without_ageing_or_attempts() {
    let timeline = catching_up(
        2,
        [email("a", 1, 9), email("b", 1, 10), sms("c", 1, 10), email("d", 2, 9)],
    );
    let plot = |play: &mut Play| {
        play.facts.stopped_channels.insert(Channel::Email, at("03-02 08:00"));
        play.ticks("03-01 08:00", "03-02 09:00", 60);
        assert_eq!(play.run.attempts(play.id("b")), 0);
    };
    check(
        &timeline,
        plot,
        "03-01 09:00 a waits until 03-02 08:00, channel
        03-01 10:00 b waits until 03-02 08:00, channel
        03-01 10:00 c sent
        03-02 08:00 b waits until 03-02 09:00, spacing
        03-02 08:00 a sent
        03-02 09:00 b sent
        03-02 09:00 d sent
        day 2 on 03-02, active",
    );
    let found_stopped = |play: &mut Play| {
        play.outcome("a", refused_for_now());
        play.outcome(
            "a",
            Attempted::ChannelUnavailable {
                until: at("03-01 09:30"),
            },
        );
        play.ticks("03-01 09:00", "03-01 09:15", 5);
        assert_eq!(play.run.attempts(play.id("a")), 1);
        play.ticks("03-01 09:20", "03-01 09:30", 5);
    };
    check(
        &shifting(1, [email("a", 1, 9)]),
        found_stopped,
        "03-01 09:00 a temporary, again at 03-01 09:05
        03-01 09:05 a waits until 03-01 09:30, channel
        03-01 09:30 a sent
        day 1 on 03-01, active",
    );
}
