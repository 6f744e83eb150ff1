//! Sending holds: what they put off, for how long, and what goes on meanwhile.

use super::*;
use crate::domain::{ChannelStop, HoldScope, Releases, SendingHold, SendingHolds, released};
use std::collections::BTreeMap;

/// A hold from midnight of the first of March on.
fn hold(scope: HoldScope, end: Option<&str>) -> SendingHold {
    SendingHold {
        scope,
        reason: "why".to_owned(),
        started_at: at("03-01 00:00"),
        end_at: end.map(at),
        updated_at: at("03-01 00:00"),
    }
}

/// A run after some holds are over.
fn let_go(timeline: &Timeline, run: &Run, holds: &SendingHolds, now: Timestamp) -> Option<Run> {
    let channels = BTreeMap::new();
    released(timeline, run, &Releases { holds, channels }, now)
}

fn holds(play: &mut Play, holds: &[SendingHold]) {
    play.facts.sending_holds = SendingHolds::new(holds.to_vec());
}

#[test]
fn what_sends_is_held_and_all_else_goes_on() {
    let timeline = shifting(
        2,
        [
            email("a", 1, 9),
            wait("b", 1, 9),
            unless_engaged(sms("c", 1, 9)),
            task("d", 1, 9),
            gate("e", 2, 9),
            email("f", 2, 10),
        ],
    );
    let plot = |play: &mut Play| {
        holds(play, &[hold(HoldScope::All, Some("03-02 12:00"))]);
        play.facts.engagement_score = 60;
        play.ticks("03-01 09:00", "03-01 09:00", 60);
        // An hour later it is looked at again, by then for longer than that.
        play.ticks("03-02 11:30", "03-02 11:30", 60);
        play.ticks("03-02 12:00", "03-03 00:00", 60);
    };
    check(
        &timeline,
        plot,
        "03-01 09:00 a waits until 03-01 10:00, held
        03-01 09:00 b done
        03-01 09:00 c skipped, condition
        03-01 09:00 d waits until 03-01 10:00, held
        03-02 11:30 a waits until 03-02 12:00, held
        03-02 11:30 d waits until 03-02 12:00, held
        03-02 11:30 e skipped, condition
        03-02 11:30 f skipped, gated
        03-02 12:00 a sent
        03-02 12:00 d sent
        day 2 on 03-02, completed",
    );
}

#[test]
fn of_several_holds_the_last_end_counts() {
    let timeline = shifting(1, [email("a", 1, 9), sms("b", 1, 9), call("c", 1, 9)]);
    let plot = |play: &mut Play| {
        let short = hold(HoldScope::Timeline(TimelineId(1)), Some("03-01 09:20"));
        let long = hold(HoldScope::Channel(Channel::Sms), Some("03-01 09:40"));
        let endless = hold(HoldScope::Channel(Channel::Phone), None);
        let of_others = hold(HoldScope::Timeline(TimelineId(2)), None);
        holds(play, &[short, long, endless, of_others]);
        play.ticks("03-01 09:00", "03-01 09:40", 20);
    };
    check(
        &timeline,
        plot,
        "03-01 09:00 a waits until 03-01 09:20, held
        03-01 09:00 b waits until 03-01 09:40, held
        03-01 09:00 c waits until 03-01 10:00, held
        03-01 09:20 a sent
        03-01 09:40 b sent
        day 1 on 03-01, active",
    );
}

#[test]
fn what_is_to_be_repeated_is_held_without_ageing_or_attempts() {
    let timeline = catching_up(1, [within(1, email("a", 1, 9))]);
    let plot = |play: &mut Play| {
        play.outcome("a", refused_for_now());
        play.ticks("03-01 09:00", "03-01 09:00", 60);
        holds(play, &[hold(HoldScope::All, Some("03-05 09:00"))]);
        play.ticks("03-01 09:05", "03-05 08:05", 60);
        assert_eq!(play.run.attempts(play.id("a")), 1);
        play.log.retain(|(_, _, what)| !what.contains("held"));
        play.outcome("a", refused_for_now());
        play.ticks("03-05 09:00", "03-05 09:05", 5);
    };
    check(
        &timeline,
        plot,
        "03-01 09:00 a temporary, again at 03-01 09:05
        03-05 09:00 a temporary, again at 03-05 09:10
        day 1 on 03-01, active",
    );
}

#[test]
fn a_release_brings_forward_what_no_other_hold_is_on() {
    let timeline = shifting(1, [email("a", 1, 9), sms("b", 1, 9)]);
    let mut play = Play::new(Engine::Eager, &timeline);
    holds(
        &mut play,
        &[hold(HoldScope::All, None), hold(HoldScope::Channel(Channel::Sms), None)],
    );
    play.ticks("03-01 09:00", "03-01 09:00", 60);
    let now = at("03-01 09:10");
    let ended = hold(HoldScope::All, Some("03-01 09:10"));
    let after = SendingHolds::new(vec![ended.clone(), hold(HoldScope::Channel(Channel::Sms), None)]);
    let run = let_go(&timeline, &play.run, &after, now).expect("something is released");
    let until = |run: &Run| run.deferred.iter().map(|it| it.until).collect::<Vec<_>>();
    assert_eq!(until(&run), [at("03-01 09:10"), at("03-01 10:00")]);
    assert_eq!(run.next_action_at, Some(now));
    assert_eq!(let_go(&timeline, &run, &after, now), None, "it is released once");

    // The other runs have their places in a quarter of an hour.
    let others = (1..100).filter_map(|id| {
        let run = Run {
            id: crate::domain::ProgressId(id),
            ..play.run.clone()
        };
        let_go(&timeline, &run, &SendingHolds::new(vec![ended.clone()]), now)
    });
    for run in others {
        let until = until(&run);
        assert_eq!(until[0], until[1]);
        assert!(until[0] >= now && until[0] < now + Duration::minutes(15), "{until:?}");
    }
}

/// What was to be looked at meanwhile does not go before its turn, whoever looks first.
#[test]
fn a_probe_that_has_passed_makes_no_burst() {
    let timeline = shifting(1, [email("a", 1, 9)]);
    let mut play = Play::new(Engine::Eager, &timeline);
    play.run.id = crate::domain::ProgressId(1);
    holds(&mut play, &[hold(HoldScope::All, None)]);
    play.ticks("03-01 09:00", "03-01 09:00", 60);
    let now = at("03-01 11:00");
    let ended = SendingHolds::new(vec![hold(HoldScope::All, Some("03-01 11:00"))]);
    let run = let_go(&timeline, &play.run, &ended, now).expect("it is given its turn");
    let until = run.deferred[0].until;
    assert!(until > now && until < now + Duration::minutes(15), "{until}");
    assert_eq!(run.next_action_at, Some(until));
    play.facts.sending_holds = ended;
    play.tick(now);
    assert_eq!((play.run.in_flight.len(), &play.run.deferred[0]), (0, &run.deferred[0]));
    play.tick(until);
    assert_eq!(play.run.completed.len(), 1);
}

/// What a circuit put off goes after somebody closed it by hand, unless the probe would have come before.
#[test]
fn a_circuit_that_is_closed_by_hand_brings_forward_what_it_put_off() {
    let timeline = shifting(1, [email("a", 1, 9), gate("gate", 1, 9), sms("b", 1, 9)]);
    let mut play = Play::new(Engine::Eager, &timeline);
    play.facts.stopped_channels.insert(Channel::Email, at("03-01 10:00"));
    play.ticks("03-01 09:00", "03-01 09:00", 60);
    let none = SendingHolds::default();
    let reset = |channel, until| {
        let stop = ChannelStop {
            until: at(until),
            window: Duration::minutes(15),
        };
        let releases = Releases {
            holds: &none,
            channels: BTreeMap::from([(channel, stop)]),
        };
        released(&timeline, &play.run, &releases, at("03-01 09:10"))
    };
    assert_eq!(reset(Channel::Sms, "03-01 09:10"), None, "another channel");
    assert_eq!(reset(Channel::Email, "03-01 10:00"), None, "no sooner than the probe");
    let run = reset(Channel::Email, "03-01 09:10").expect("it is given its turn");
    let turn = run.deferred[0].until;
    assert!(turn >= at("03-01 09:10") && turn < at("03-01 09:25"), "{turn}");
    assert!(
        run.deferred.iter().all(|waiting| waiting.until == turn),
        "all are looked at with it"
    );
    assert_eq!(run.next_action_at, Some(turn));
    // Whoever was woken already, as by an event that he waits for, stays so.
    let mut woken = Run {
        next_action_at: Some(at("03-01 09:05")),
        ..play.run.clone()
    };
    let last = woken.deferred.last_mut().expect("what waits");
    last.reason = DeferReason::WaitingForEvent;
    let releases = Releases {
        holds: &none,
        channels: BTreeMap::from([(
            Channel::Email,
            ChannelStop {
                until: at("03-01 09:10"),
                window: Duration::minutes(15),
            },
        )]),
    };
    let released = released(&timeline, &woken, &releases, at("03-01 09:10")).expect("it is given its turn");
    assert_eq!(released.next_action_at, woken.next_action_at);
    play.run = run;
    play.facts.stopped_channels.clear();
    play.tick(turn);
    assert_eq!(play.run.completed.len(), 3);
}
