//! Ticks that find nothing to do may be jumped over: whatever the timeline and the script, the story is the same as with every tick.

use chrono::NaiveDate;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::domain::condition::{Leaf, Test};
use crate::domain::{
    ActionDefinition, ActionId, ActionType, CampaignId, Channel, Condition, CustomerId, EngagementKind, Slug, Stage,
    Then, TimelineDefinition, TimelineId, WhenMissed,
};

/// How long the stories are, in minutes.
const MINUTES: i64 = 14 * 24 * 60;

const ZONES: [&str; 4] = ["Etc/UTC", "America/New_York", "Asia/Kathmandu", "Pacific/Kiritimati"];

/// In America the clocks go forward on the third day.
fn start() -> Timestamp {
    let date = NaiveDate::from_ymd_opt(2026, 3, 6).expect("a date");
    date.and_hms_opt(10, 20, 0).expect("a time").and_utc()
}

fn rules() -> Rules {
    Rules {
        default_zone: Tz::UTC,
        hours: SendingHours::default(),
        retry: RetryPolicy::default(),
        channel_probe: Duration::minutes(100),
        of_tests: Destination::TestOutbox,
        most_passes: 1000,
    }
}

/// A day, an hour, a kind of action, and whether it has a condition.
type Plan = (i32, u32, usize, bool);

fn action((id, (day_number, delay_hours, kind, has_condition)): (i64, Plan)) -> Action {
    let (channel, action_type) = [
        (Channel::Email, ActionType::SendEmail),
        (Channel::Sms, ActionType::SendSms),
        (Channel::Wait, ActionType::Wait),
        (Channel::Wait, ActionType::CheckCondition),
        (Channel::Interaction, ActionType::CreateTask),
    ][kind];
    let query = EngagementQuery {
        kind: EngagementKind::EmailOpened,
        of_action: None,
    };
    let condition = Condition {
        test: Test::Leaf(Leaf::Engaged {
            query,
            within_hours: 30,
        }),
        then: Then::Skip,
    };
    let definition = ActionDefinition {
        key: format!("a{id}"),
        day_number,
        delay_hours,
        priority: 0,
        channel,
        action_type,
        campaign_id: action_type.sends().then(|| CampaignId::parse("A").expect("a campaign")),
        conditions: if has_condition { vec![condition] } else { Vec::new() },
        max_lateness: None,
        completion: crate::domain::Completion::HandedOver,
        awaits: None,
    };
    Action {
        id: ActionId(id),
        definition,
        removed_at: None,
    }
}

fn timeline(plans: Vec<Plan>, when_missed: WhenMissed) -> Timeline {
    let mut actions: Vec<Action> = (1..).zip(plans).map(action).collect();
    actions.sort_by_key(Action::position);
    Timeline {
        id: TimelineId(1),
        definition: TimelineDefinition {
            slug: Slug::parse("plan").expect("a slug"),
            name: "Plan".to_owned(),
            pipeline_stage: Stage::parse("hook").expect("a stage"),
            duration_days: 6,
            is_active: true,
            is_default: false,
            when_missed,
            max_lateness: Duration::hours(12),
            actions,
        },
        revision: 1,
        activated_at: None,
        archived_at: None,
        created_at: start(),
        updated_at: start(),
    }
}

fn customer(zone: &str) -> Customer {
    Customer {
        id: CustomerId::parse("anna").expect("an id"),
        display_name: String::new(),
        email: crate::domain::EmailAddress::parse("anna@example.com").ok(),
        phone: crate::domain::PhoneNumber::parse("+14155552671").ok(),
        time_zone: zone.parse().ok(),
        pipeline_stage: None,
        stage_visit: 0,
        engagement_score: 0,
        attributes: serde_json::Map::new(),
        is_test: false,
        source_time: None,
        created_at: start(),
        updated_at: start(),
    }
}

fn event(which: usize, n: usize) -> Event {
    let answers = [
        Answer::Accepted,
        Answer::Temporary,
        Answer::Rejected,
        Answer::Suppressed,
        Answer::Unknown,
        Answer::Misconfigured,
    ];
    match which {
        0 => Event::Pause,
        1 | 2 => Event::Resume { next_day: n % 2 == 1 },
        3 => Event::TimelineActive(false),
        4 | 5 => Event::TimelineActive(true),
        6 => Event::Ticks(false),
        7 | 8 => Event::Ticks(true),
        9 => Event::TimeZone(ZONES[n % ZONES.len()].parse().ok()),
        10 => Event::Engaged {
            kind: EngagementKind::EmailOpened,
            of_action: None,
        },
        _ => Event::Answers([Channel::Email, Channel::Sms][n % 2], answers[n % answers.len()]),
    }
}

/// The story with every tick.
fn with_every_tick(simulation: Simulation, outside: Outside<'_>) -> (Vec<Step>, Run) {
    let rules = rules();
    let (start, end, script) = (simulation.start, simulation.end, in_order(&simulation.script));
    let interval = simulation.tick_interval;
    let mut simulator = Simulator::new(simulation, &rules, outside);
    let mut at = on_grid(start, interval).expect("a tick");
    let mut tick_until = |simulator: &mut Simulator<'_>, until: Timestamp| {
        while at < until {
            if simulator.is_served() {
                simulator.tick(at);
            }
            at += interval;
        }
    };
    for entry in &script {
        tick_until(&mut simulator, entry.at);
        if simulator.is_over() {
            break;
        }
        simulator.apply(entry, start);
    }
    tick_until(&mut simulator, end + Duration::microseconds(1));
    (simulator.steps, shown(&simulator.timeline, simulator.run))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, rng_seed: RngSeed::Fixed(3), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ticks_with_nothing_to_do_are_jumped_over(
        plans in prop::collection::vec((1..=6_i32, 0..24_u32, 0..5_usize, any::<bool>()), 1..16),
        catches_up in any::<bool>(),
        zone in 0..ZONES.len(),
        minutes in prop::sample::select(vec![7, 15, 60, 90, 1440]),
        script in prop::collection::vec((0..MINUTES, 0..13_usize, 0..12_usize), 0..12),
    ) {
        let when_missed = if catches_up { WhenMissed::CatchUp } else { WhenMissed::Shift };
        let script = script.into_iter().enumerate().map(|(position, (minute, which, n))| Entry {
            position,
            at: start() + Duration::minutes(minute),
            event: event(which, n),
        });
        let simulation = Simulation {
            timeline: timeline(plans, when_missed),
            customer: customer(ZONES[zone]),
            engagements: BTreeMap::new(),
            first_day: FirstDay::SendPassed,
            start_day: 1,
            start: start(),
            end: start() + Duration::minutes(MINUTES),
            tick_interval: Duration::minutes(minutes),
            script: script.collect(),
        };
        let outside = Outside { render: &|_, _, _, _| Ok(()), is_abandoned: &|| false };
        let (steps, run) = with_every_tick(simulation.clone(), outside);
        let simulated = simulate(simulation, &rules(), outside);
        prop_assert_eq!(simulated.steps, steps);
        prop_assert_eq!(Place::of(&simulated.run).day, run.current_day);
        prop_assert_eq!(simulated.run.completed, run.completed);
    }
}
