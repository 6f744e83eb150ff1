//! What is played: worlds, each with a clock, ticks and customers side by side, made from a seed.
//!
//! The schedule of a customer depends on the world's seed and its own number, and on nothing else, so that it can be
//! played alone as it was played in company.

use campaign_automation::domain::Timestamp;
use chrono::{TimeDelta, Timelike as _};
use chrono_tz::Tz;
use fastrand::Rng;

use super::chance::{act, choose, event, first_event};
use super::holds::{Order, of_all, of_timeline};
use super::side::{instant, local_date, plus};
use crate::support::given::at;

/// From +14 to −12, with half hours, half-hour clock changes, midnights that don't exist, and changes both ways.
pub(super) const ZONES: [&str; 12] = [
    "Etc/UTC",
    "Pacific/Auckland",
    "Pacific/Honolulu",
    "Pacific/Kiritimati",
    "Etc/GMT+12",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "America/New_York",
    "Europe/Berlin",
    "America/Santiago",
    "Africa/Cairo",
];

/// Shortly before clocks change in New York, Berlin, Auckland and on Lord Howe, Cairo, Santiago, and before a leap day.
const BEGINS: [&str; 8] = [
    "2026-03-06T00:00:00Z",
    "2026-03-27T00:00:00Z",
    "2026-04-03T00:00:00Z",
    "2026-04-22T00:00:00Z",
    "2026-09-04T00:00:00Z",
    "2026-10-23T00:00:00Z",
    "2026-10-30T00:00:00Z",
    "2028-02-26T00:00:00Z",
];

/// How many keys there are, `K00` and so on. Each is a campaign too.
pub(super) const KEYS: usize = 20;

/// Customers side by side under one clock.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub seed: u64,
    pub start: Timestamp,
    pub steps: Vec<Step>,
    pub schedules: Vec<Schedule>,
    /// What operators hold and release, and at which steps.
    pub orders: Vec<(usize, Order)>,
}

/// The clock moves on, what is scheduled happens, and then somebody ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub gap: TimeDelta,
    pub tick: Tick,
}

/// Who ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tick {
    Nobody,
    Hourly,
    Daily,
    /// Both at once.
    Both,
    /// Two hourly ones at once.
    Twice,
    /// An hourly one whose mails take so long. What is scheduled happens meanwhile.
    Slow(TimeDelta),
}

/// What happens to one customer and the timeline of its own.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    pub number: usize,
    /// Nothing disturbs it, so that all that happens to it can be foretold.
    pub is_calm: bool,
    pub zone: &'static str,
    pub days: i32,
    pub catches_up: bool,
    pub lateness_hours: i64,
    pub score: i32,
    pub acts: Vec<Act>,
    pub events: Vec<(usize, Event)>,
}

/// An action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Act {
    pub key: usize,
    pub day: i32,
    pub hour: u32,
    pub priority: i32,
    pub kind: Kind,
    pub condition: Option<Cond>,
    pub lateness_hours: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Email,
    Sms,
    Call,
    Task,
    Wait,
    Gate,
}

impl Kind {
    pub(super) fn sends(self) -> bool {
        !matches!(self, Self::Wait | Self::Gate)
    }

    /// Whether it is a message, of which late ones keep their distance.
    pub(super) fn is_message(self) -> bool {
        matches!(self, Self::Email | Self::Sms | Self::Call)
    }
}

/// A condition. Scores are 0 or 100, and the threshold is 50.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cond {
    SkipIfScored,
    OnlyIfScored,
    /// Only while the customer is in the stage of its timeline.
    OnlyIfInStage,
    SkipIfOpened {
        within_hours: i32,
    },
}

/// How a customer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    SendPassed,
    SkipPassed,
    NextDay,
}

/// What the mail server says to mails to this customer from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Accept,
    NotNow,
    Never,
    NoSuchMailbox,
    /// It takes the message and hangs up.
    HangUp,
    /// It says that the service is not set up as it must be, which stops the channel for all.
    Misconfigured,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Start {
        first: First,
        start_day: i32,
    },
    /// To the stage of its timeline (true), which assigns it, or to another.
    Stage(bool),
    Pause,
    Resume {
        next_day: bool,
    },
    Stop,
    Execute,
    Active(bool),
    Zone(&'static str),
    Edit(Edit),
    Score(i32),
    /// A mail was opened so many hours ago.
    Opened(i64),
    Addresses(bool),
    Mail(Answer),
    /// A server claims what is due and dies.
    Crash,
}

/// Numbers are of the actions that are there, counted round and round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Edit {
    Hour(usize, u32),
    Day(usize, i32),
    Remove(usize),
    /// An action with a new key.
    Add(Act),
    /// What was removed last comes back.
    Restore,
    Duration(i32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Somebody ticks every hour or more often.
    Punctual,
    /// Ticks come when they like, and stay away for days.
    Patchy,
    /// As patchy, and the mail server is slow or says that the service is misconfigured.
    Broken,
}

impl Event {
    /// Whether it can happen while a tick is under way: what would wait for the same mail server can't, nor what is judged by
    /// where the run was before.
    pub(super) fn goes_with_a_tick(&self) -> bool {
        !matches!(self, Self::Crash | Self::Execute | Self::Start { .. } | Self::Stage(_))
    }

    /// What makes up for it, later.
    fn undone(&self, rng: &mut Rng) -> Option<Self> {
        match self {
            Self::Pause => Some(Self::Resume {
                next_day: rng.u32(0..3) == 0,
            }),
            Self::Active(false) => Some(Self::Active(true)),
            Self::Mail(_) => Some(Self::Mail(Answer::Accept)),
            Self::Addresses(false) => Some(Self::Addresses(true)),
            Self::Start { .. }
            | Self::Stage(_)
            | Self::Resume { .. }
            | Self::Stop
            | Self::Execute
            | Self::Active(true)
            | Self::Zone(_)
            | Self::Edit(_)
            | Self::Score(_)
            | Self::Opened(_)
            | Self::Addresses(true)
            | Self::Crash => None,
        }
    }
}

impl World {
    /// The world of a seed, with so many customers.
    pub(super) fn new(seed: u64, customers: usize) -> Self {
        let mut world = Self::empty(seed);
        world.schedules = (0..customers).map(|number| world.schedule(number)).collect();
        world.with_orders()
    }

    /// The world of a seed with one of its customers.
    pub(super) fn with_only(seed: u64, number: usize) -> Self {
        let mut world = Self::empty(seed);
        world.schedules = vec![world.schedule(number)];
        world.with_orders()
    }

    fn with_orders(mut self) -> Self {
        let steps = self.steps.len();
        // In half of the punctual worlds no hold disturbs, so that all can be foretold.
        if self.style() != Style::Punctual || self.seed.is_multiple_of(8) {
            self.orders = of_all(self.seed, steps);
        }
        let of_timelines = self
            .schedules
            .iter()
            .flat_map(|schedule| of_timeline(self.seed, schedule, steps));
        self.orders.extend(of_timelines);
        self.orders.sort_by_key(|(step, _)| *step);
        self
    }

    fn style(&self) -> Style {
        match self.seed % 4 {
            0 => Style::Punctual,
            1 | 2 => Style::Patchy,
            _ => Style::Broken,
        }
    }

    fn empty(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let minute = choose(&mut rng, &[0, 0, 0, 30, 59, 7]);
        let start = at(choose(&mut rng, &BEGINS)) + TimeDelta::minutes(rng.i64(0..24) * 60 + minute);
        let mut world = Self {
            seed,
            start,
            steps: Vec::new(),
            schedules: Vec::new(),
            orders: Vec::new(),
        };
        let style = world.style();
        world.steps = match style {
            Style::Punctual => {
                let minutes = choose(&mut rng, &[60, 60, 60, 45, 37]);
                let tick = |n: i64, rng: &mut Rng| match rng.u32(0..12) {
                    0 => Tick::Both,
                    1 => Tick::Twice,
                    _ if n % 24 == 23 => Tick::Both,
                    _ => Tick::Hourly,
                };
                (0..96)
                    .map(|n| Step {
                        gap: TimeDelta::minutes(minutes),
                        tick: tick(n, &mut rng),
                    })
                    .collect()
            }
            Style::Patchy | Style::Broken => patchy(&mut rng, style == Style::Broken),
        };
        world
    }

    /// When a step is.
    fn time_of(&self, step: usize) -> Timestamp {
        self.steps[..=step]
            .iter()
            .fold(self.start, |time, step| time + step.gap)
    }

    /// A step whose tick is slow and sends one of the mails, if nothing comes between.
    fn slow_tick_of_a_mail(&self, schedule: &Schedule, begin: usize, tz: Tz) -> Option<usize> {
        let first = local_date(self.time_of(begin), tz);
        let mails = schedule.acts.iter().filter(|act| act.kind == Kind::Email);
        let mut steps = mails.filter_map(|act| {
            let due = instant(plus(first, act.day - 1), act.hour, tz);
            (begin + 1..self.steps.len()).find(|step| self.time_of(*step) >= due)
        });
        steps.find(|step| matches!(self.steps[*step].tick, Tick::Slow(_)))
    }

    fn schedule(&self, number: usize) -> Schedule {
        let mut rng = Rng::with_seed(self.seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
        let rng = &mut rng;
        let is_calm = self.style() == Style::Punctual && number % 4 != 3;
        let zone = choose(rng, &ZONES);
        let days = rng.i32(1..=4);
        let is_slow = |step: usize| matches!(self.steps[step].tick, Tick::Slow(_));
        let begin = rng.usize(0..4);
        let begin = (begin..self.steps.len()).find(|step| !is_slow(*step)).unwrap_or(begin);
        let tz: Tz = zone.parse().expect("a zone");
        let hour_at_start = self.time_of(begin).with_timezone(&tz).hour();
        let hours = [0, 9, 10, 23, hour_at_start, (hour_at_start + 1) % 24, rng.u32(0..24)];
        let mut keys = 0;
        let mut acts: Vec<Act> = (0..rng.usize(2..12))
            .map(|_| act(rng, &mut keys, days, &hours))
            .collect();
        if is_calm {
            for act in &mut acts {
                act.condition = act
                    .condition
                    .filter(|condition| !matches!(condition, Cond::SkipIfOpened { .. }));
            }
        }
        let mut schedule = Schedule {
            number,
            is_calm,
            zone,
            days,
            catches_up: rng.u32(0..3) == 0,
            lateness_hours: choose(rng, &[1, 2, 6, 12, 12, 12, 30]),
            score: choose(rng, &[0, 100]),
            acts,
            events: vec![(begin, first_event(rng, days, is_calm))],
        };
        if !is_calm {
            if rng.u32(0..4) == 0 {
                // From the beginning, and perhaps until nobody tries any more.
                let answer = choose(rng, &[Answer::NotNow, Answer::NotNow, Answer::HangUp]);
                let until = (begin + 1 + rng.usize(5..50)).min(self.steps.len() - 1);
                let answers = [(begin + 1, answer), (until, Answer::Accept)];
                let events = answers.map(|(step, answer)| (step, Event::Mail(answer)));
                schedule.events.extend(events);
            }
            if let Some(step) = self.slow_tick_of_a_mail(&schedule, begin, tz) {
                let event = match rng.u32(0..5) {
                    0 | 1 => Event::Pause,
                    2 => Event::Active(false),
                    3 => Event::Zone(choose(rng, &ZONES)),
                    _ => Event::Stop,
                };
                let undone = event.undone(rng).filter(|_| step + 5 < self.steps.len());
                schedule.events.extend(undone.map(|undone| (step + 5, undone)));
                schedule.events.push((step, event));
            }
            for _ in 0..rng.usize(0..9) {
                // Most while the run is live.
                let early = (begin + 2 + 12 * usize::try_from(days).expect("days")).min(self.steps.len());
                let until = if rng.u32(0..4) == 0 { self.steps.len() } else { early };
                let mut step = rng.usize(begin + 1..until);
                if rng.u32(0..3) == 0 {
                    // Gladly while a tick is under way.
                    step = (step..self.steps.len()).find(|step| is_slow(*step)).unwrap_or(step);
                }
                let event = event(rng, &mut keys, &schedule, &hours, self.style());
                let undone = event.undone(rng);
                schedule.events.push((step, event));
                if let Some(undone) = undone.filter(|_| step + 1 < self.steps.len()) {
                    let until = rng.usize(step + 1..(step + 25).min(self.steps.len()));
                    schedule.events.push((until, undone));
                }
            }
        }
        schedule.events.sort_by_key(|(step, _)| *step);
        // One thing at a time, so that it is clear what did what.
        schedule.events.dedup_by_key(|(step, _)| *step);
        schedule
    }
}

fn patchy(rng: &mut Rng, is_slow: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    while steps.len() < 70 {
        // Who ticks for a while.
        let ticks: &[Tick] = match rng.u32(0..6) {
            0 => &[Tick::Daily],
            1 => &[Tick::Hourly],
            2 => &[Tick::Nobody, Tick::Hourly, Tick::Daily],
            _ => &[
                Tick::Hourly,
                Tick::Hourly,
                Tick::Hourly,
                Tick::Both,
                Tick::Twice,
                Tick::Daily,
            ],
        };
        for _ in 0..rng.usize(1..14) {
            let minutes = match rng.u32(0..40) {
                0 => rng.i64(60 * 20..60 * 110),
                1..=3 => rng.i64(60..60 * 16),
                4..=9 => rng.i64(1..90),
                10 => 1,
                _ => 60,
            };
            let tick = if is_slow && rng.u32(0..6) == 0 {
                Tick::Slow(TimeDelta::minutes(choose(rng, &[0, 1, 3, 30, 90, 600])))
            } else {
                choose(rng, ticks)
            };
            steps.push(Step {
                gap: TimeDelta::minutes(minutes) + TimeDelta::seconds(choose(rng, &[0, 0, 0, 1, 31])),
                tick,
            });
        }
    }
    steps
}
