//! Anything at all, in any order.

use super::*;
use crate::domain::{HoldScope, SendingHold, SendingHolds};

/// What happens to a run in a random play.
#[derive(Debug, Clone)]
enum Event {
    Nothing,
    Score(i32),
    Address(bool),
    Pause,
    Resume(bool),
    Freeze,
    Thaw,
    Move(&'static str),
    Stop(Channel, i64),
    /// An operator holds all that is sent, for some hours.
    Hold(i64),
    Add(Box<Action>),
    Remove(usize),
    /// Somebody asks for what is due of this run alone.
    Ask,
}

const ZONES: [&str; 6] = [
    "Etc/UTC",
    "Pacific/Kiritimati",
    "Etc/GMT+12",
    "America/Santiago",
    "Asia/Kathmandu",
    "Africa/Cairo",
];

fn any_action() -> impl Strategy<Value = Action> {
    const KINDS: [fn(&str, i32, u32) -> Action; 7] = [email, email, sms, call, task, wait, gate];
    let hour = prop_oneof![Just(0), Just(9), Just(10), Just(23), 0u32..24];
    let lateness = prop_oneof![Just(None), Just(None), (1i64..50).prop_map(Some)];
    (0..KINDS.len(), 1i32..6, hour, -1i32..2, lateness, any::<bool>()).prop_map(
        |(kind, day, hour, priority, lateness, is_conditional)| {
            let mut action = KINDS[kind]("any", day, hour);
            action.definition.priority = priority;
            action.definition.max_lateness = lateness.map(Duration::hours);
            if is_conditional { unless_engaged(action) } else { action }
        },
    )
}

/// Gives some actions a condition about a message that stands earlier, which never says skip but may have to wait.
fn about_others(actions: &mut [Action]) {
    let slot = |action: &Action| {
        let definition = &action.definition;
        (definition.day_number, definition.delay_hours, definition.priority)
    };
    let all = actions.to_vec();
    for action in actions.iter_mut().step_by(3) {
        let earlier = all
            .iter()
            .filter(|other| other.definition.action_type.sends() && slot(other) < slot(action));
        if let Some(last) = earlier.max_by_key(|other| slot(other)) {
            action.definition.conditions.push(Condition {
                test: Test::Leaf(Leaf::Engaged {
                    query: EngagementQuery {
                        kind: EngagementKind::EmailOpened,
                        of_action: Some(last.definition.key.clone()),
                    },
                    within_hours: 48,
                }),
                then: Then::Skip,
            });
        }
    }
}

fn any_timeline() -> impl Strategy<Value = Timeline> {
    (prop::collection::vec(any_action(), 0..12), any::<bool>(), 5i32..7).prop_map(|(mut actions, shifts, days)| {
        for (action, n) in actions.iter_mut().zip(1..) {
            action.definition.key = format!("a{n}");
        }
        about_others(&mut actions);
        if shifts {
            shifting(days, actions)
        } else {
            catching_up(days, actions)
        }
    })
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let until = (0i64..200).prop_map(|hours| Attempted::ChannelUnavailable {
        until: at("03-27 00:00") + Duration::hours(hours),
    });
    let result = prop_oneof![
        Just(Attempted::Completed),
        Just(refused_for_now()),
        Just(refused_for_now()),
        Just(refused()),
        Just(unknown()),
        Just(Attempted::HandedBack),
        until
    ];
    prop_oneof![6 => result.prop_map(Outcome::Is), 1 => Just(Outcome::Death)]
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        20 => Just(Event::Nothing),
        1 => (40i32..60).prop_map(Event::Score),
        1 => any::<bool>().prop_map(Event::Address),
        1 => Just(Event::Pause),
        2 => any::<bool>().prop_map(Event::Resume),
        1 => Just(Event::Freeze),
        2 => Just(Event::Thaw),
        1 => prop::sample::select(&ZONES[..]).prop_map(Event::Move),
        1 => (prop::sample::select(&Channel::ALL[..3]), 0i64..50).prop_map(|(channel, hours)| Event::Stop(channel, hours)),
        1 => (0i64..50).prop_map(Event::Hold),
        1 => any_action().prop_map(|action| Event::Add(Box::new(action))),
        1 => (0usize..12).prop_map(Event::Remove),
        1 => Just(Event::Ask),
    ]
}

/// Seconds between two ticks. A little back, as clocks of two servers differ.
fn any_gap() -> impl Strategy<Value = i64> {
    prop_oneof![
        1 => Just(-4),
        1 => Just(0),
        2 => Just(60),
        2 => Just(900),
        8 => Just(3600),
        3 => 1i64..40_000,
        2 => 40_000i64..100_000,
        1 => 100_000i64..600_000,
    ]
}

fn happen(play: &mut Play, event: &Event, now: Timestamp) {
    match event {
        Event::Score(score) => play.facts.engagement_score = *score,
        Event::Address(has_one) => (play.facts.has_email, play.facts.has_phone) = (*has_one, *has_one),
        Event::Pause => play.run = play.run.clone().pause(String::new(), now).unwrap_or(play.run.clone()),
        Event::Resume(next_day) => {
            play.run = play
                .run
                .clone()
                .resume(String::new(), *next_day, now)
                .unwrap_or(play.run.clone());
            if play.run.next_action_at == Some(now) {
                play.settle(now);
            }
        }
        Event::Freeze => play.timeline.definition.is_active = false,
        Event::Thaw if play.timeline.definition.is_active => {}
        Event::Thaw => {
            play.timeline.definition.is_active = true;
            play.timeline.activated_at = Some(now);
        }
        Event::Move(to) if play.run.status.is_live() => {
            play.run = play.run.clone().move_to(zone(to), now);
            play.advances.clear();
        }
        Event::Stop(channel, hours) => drop(
            play.facts
                .stopped_channels
                .insert(*channel, now + Duration::hours(*hours)),
        ),
        Event::Hold(hours) => {
            let hold = SendingHold {
                scope: HoldScope::All,
                reason: "why".to_owned(),
                started_at: now,
                end_at: Some(now + Duration::hours(*hours)),
                updated_at: now,
            };
            play.facts.sending_holds = SendingHolds::new(vec![hold]);
        }
        Event::Add(action) => {
            let mut action = Action::clone(action);
            action.definition.key = format!("later {}", play.timeline.definition.actions.len());
            add(play, action);
        }
        Event::Remove(n) => {
            // First to where the run is by now, so that both engines agree on what was pending.
            play.tick(now);
            if let Some(action) = play
                .timeline
                .definition
                .actions
                .get(*n)
                .filter(|action| action.removed_at.is_none())
            {
                let key = action.definition.key.clone();
                remove(play, &key, now);
            }
        }
        Event::Ask if play.run.status == Status::Active && play.timeline.definition.is_active => drop(play.plan(now)),
        Event::Nothing | Event::Move(_) | Event::Ask => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nothing_is_lost_or_repeated(
        timeline in any_timeline(),
        outcomes in prop::collection::vec(prop::collection::vec(any_outcome(), 0..4), 12),
        events in prop::collection::vec((any_gap(), any_event()), 0..80),
        tz in prop::sample::select(&ZONES[..]),
        first_day in prop::sample::select(&[FirstDay::SendPassed, FirstDay::SkipPassed, FirstDay::NextDay][..]),
        start_day in 1i32..3,
        begin_hour in 0i64..48,
    ) {
        let [eager, bulk] = [Engine::Eager, Engine::Bulk].map(|engine| {
            let mut play = Play::new(engine, &timeline);
            play.outcomes = outcomes.iter().zip(1..).map(|(list, n)| (format!("a{n}"), list.clone())).collect();
            let mut now = at("03-28 00:00") + Duration::hours(begin_hour);
            play.start(tz, first_day, start_day, now);
            for (gap, event) in &events {
                now += Duration::seconds(*gap);
                happen(&mut play, event, now);
                play.tick(now);
            }
            let story = play.story();
            finish(&mut play, now);
            story
        });
        // Who catches up by a bulk advance enters one by one what was missed on the first day that it comes to. What was
        // too late may be in time after all when the clock goes back or the timeline is frozen; who looks only when it is
        // time does so tomorrow. And what is removed from a paused run may be forgotten.
        let has = |is: fn(&Event) -> bool| events.iter().any(|(_, event)| is(event));
        let goes_back = events.iter().any(|(gap, _)| *gap < 0);
        let freezes = has(|event| matches!(event, Event::Freeze));
        let forgets = has(|event| matches!(event, Event::Pause)) && has(|event| matches!(event, Event::Remove(_)));
        let jumps = timeline.definition.when_missed == WhenMissed::CatchUp;
        if !(jumps || goes_back || freezes || forgets) {
            prop_assert_eq!(eager, bulk);
        }
    }
}

/// Lets a run come to its end.
fn finish(play: &mut Play, mut now: Timestamp) {
    happen(play, &Event::Thaw, now);
    happen(play, &Event::Resume(false), now);
    play.outcomes.clear();
    play.facts.stopped_channels.clear();
    play.facts.sending_holds = SendingHolds::default();
    for _ in 0..40 * 24 {
        now += Duration::hours(1);
        play.tick(now);
    }
    assert_eq!(play.run.status, Status::Completed, "{:?}", play.run);
}
