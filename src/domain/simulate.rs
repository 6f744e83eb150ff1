//! What would become of a run: the rules carried out tick by tick, with a script in place of the world.
//!
//! Nothing is decided here. A tick does what the engine's hourly tick does with one run, in the same order and by the same
//! functions: the run moves on if its day is over; then, as long as something is due, it is planned, what is in flight is sent
//! and recorded, and the run is settled. Ticks that would find nothing to do are jumped over, so that years take milliseconds.

mod note;
mod script;
mod step;

use chrono::Duration;
use chrono_tz::Tz;
use std::collections::BTreeMap;

use super::condition;
use super::schedule::{instant, local_date, plus_days};
use super::{
    Action, Asked, Attempted, Customer, DeferReason, Destination, EngagementQuery, Facts, FailureReason, FirstDay,
    Origin, RetryPolicy, Run, SendingHours, SkipReason, Status, TaskOutcome, Timeline, Timestamp, Verdict, plan,
};
use script::World;
pub use script::{Answer, Entry, Event};
pub use step::{ActionStep, Step, What};
use step::{Place, verdict_of};

/// The most entries of a script.
pub const MAX_ENTRIES: usize = 1000;

/// How long after its last day a run is looked at, at most, in days.
pub const MAX_DAYS_AFTER: i64 = 400;

/// What is to be simulated.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// The timeline. It counts as active at the start.
    pub timeline: Timeline,
    /// For whom.
    pub customer: Customer,
    /// What conditions ask about, and when the customer last did it before the start.
    pub engagements: BTreeMap<EngagementQuery, Timestamp>,
    /// What becomes of hours that have passed at the start.
    pub first_day: FirstDay,
    /// The day to begin on, from 1.
    pub start_day: i32,
    /// When the run is started.
    pub start: Timestamp,
    /// When to stop looking.
    pub end: Timestamp,
    /// How far apart the ticks are, from a second. They come at whole multiples of it since 1970.
    pub tick_interval: Duration,
    /// What happens meanwhile, in any order. Before the start there are engagements only.
    pub script: Vec<Entry>,
}

/// How the service is set up.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The zone of customers that have none.
    pub default_zone: Tz,
    /// When messages may be sent.
    pub hours: SendingHours,
    /// When failed attempts are repeated.
    pub retry: RetryPolicy,
    /// How long a channel that is misconfigured stays stopped.
    pub channel_probe: Duration,
    /// Where messages to test customers go.
    pub of_tests: Destination,
    /// How often a tick takes up a run that has something due again.
    pub most_passes: usize,
}

/// Fills in what an action sends to a customer, or says why that fails.
pub type Render<'a> = dyn Fn(&Run, &Timeline, &Action, &Customer) -> Result<(), (FailureReason, String)> + 'a;

/// What a simulation asks of whoever started it.
#[expect(missing_debug_implementations, reason = "it consists of functions")]
#[derive(Clone, Copy)]
pub struct Outside<'a> {
    /// Fills in messages.
    pub render: &'a Render<'a>,
    /// Whether nobody waits for the result any more.
    pub is_abandoned: &'a dyn Fn() -> bool,
}

/// What would become of the run.
#[derive(Debug, Clone)]
pub struct Simulated {
    /// All that happens, in order.
    pub steps: Vec<Step>,
    /// The run at the end.
    pub run: Run,
    /// Its timeline.
    pub timeline: Timeline,
    /// Up to when it was simulated.
    pub until: Timestamp,
    /// Whether it was broken off because there were too many steps.
    pub truncated: bool,
}

struct Simulator<'a> {
    timeline: Timeline,
    run: Run,
    world: World,
    asked: Asked,
    tick_interval: Duration,
    rules: &'a Rules,
    outside: Outside<'a>,
    /// Up to when all has happened.
    now: Timestamp,
    /// The last tick that looked at the run.
    last_tick: Option<Timestamp>,
    steps: Vec<Step>,
    leaves: usize,
    truncated: bool,
}

/// Says what would become of a run.
pub fn simulate(simulation: Simulation, rules: &Rules, outside: Outside<'_>) -> Simulated {
    let (start, end, script) = (simulation.start, simulation.end, in_order(&simulation.script));
    let mut simulator = Simulator::new(simulation, rules, outside);
    for entry in &script {
        simulator.tick_until(entry.at);
        if simulator.is_over() {
            break;
        }
        simulator.apply(entry, start);
    }
    // Also the tick at the very end.
    simulator.tick_until(end + Duration::microseconds(1));
    let until = if simulator.is_over() { simulator.now } else { end };
    let Simulator {
        timeline,
        run,
        steps,
        truncated,
        ..
    } = simulator;
    Simulated {
        steps,
        run: shown(&timeline, run),
        timeline,
        until,
        truncated,
    }
}

/// A script in order of time. Entries of one instant stay in their order.
fn in_order(script: &[Entry]) -> Vec<Entry> {
    let mut script = script.to_vec();
    script.sort_by_key(|entry| entry.at);
    script
}

impl<'a> Simulator<'a> {
    /// A run that has just started.
    fn new(simulation: Simulation, rules: &'a Rules, outside: Outside<'a>) -> Self {
        let Simulation {
            mut timeline,
            customer,
            engagements,
            first_day,
            start_day,
            start,
            tick_interval,
            ..
        } = simulation;
        timeline.definition.is_active = true;
        timeline.activated_at = None;
        // What was removed is nothing to a run that starts now.
        timeline.definition.actions.retain(|action| action.removed_at.is_none());
        let (id, zone) = (customer.id.clone(), customer.zone(rules.default_zone));
        let mut run = Run::start(&timeline, id, Origin::Started, zone, first_day, start_day, start);
        plan::settle(&timeline, &mut run, start);
        let mut simulator = Self {
            asked: timeline.asked(),
            timeline,
            run,
            world: World::new(customer, engagements),
            tick_interval,
            rules,
            outside,
            now: start,
            last_tick: None,
            steps: Vec::new(),
            leaves: 0,
            truncated: false,
        };
        simulator.begin();
        simulator
    }
}

impl Simulator<'_> {
    fn is_over(&self) -> bool {
        !self.run.status.is_live() || self.truncated || (self.outside.is_abandoned)()
    }

    fn begin(&mut self) {
        let (at, place) = (self.now, Place::of(&self.run));
        self.push(at, place, What::Started);
        for skipped in self.run.skipped.clone() {
            let Some(action) = self.timeline.action(skipped.id) else {
                continue;
            };
            let step = ActionStep {
                id: skipped.id,
                attempt: 1,
                due: instant(self.run.day_date, action.definition.delay_hours, self.run.zone.tz),
                verdict: Verdict::Skipped(skipped.reason),
                detail: None,
                findings: Vec::new(),
            };
            self.push(at, place, What::Action(step));
        }
    }

    /// Carries out an entry of the script.
    fn apply(&mut self, entry: &Entry, start: Timestamp) {
        let before = self.run.clone();
        let refused = match &entry.event {
            Event::Pause => self.change(|run, _| run.pause(String::new(), entry.at)),
            Event::Stop => self.change(|run, _| run.stop(String::new(), entry.at)),
            Event::Resume { next_day } => self.change(|run, timeline| {
                let mut run = run.resume(String::new(), *next_day, entry.at)?;
                plan::settle(timeline, &mut run, entry.at);
                Ok(run)
            }),
            Event::TimelineActive(is_active) => {
                if *is_active && !self.timeline.definition.is_active {
                    self.timeline.activated_at = Some(entry.at);
                }
                self.timeline.definition.is_active = *is_active;
                None
            }
            Event::TimeZone(tz) => {
                let zone = self.world.customer.zone(self.rules.default_zone);
                self.world.customer.time_zone = *tz;
                let moved = self.world.customer.zone(self.rules.default_zone);
                if moved != zone {
                    self.run = before.clone().move_to(moved, entry.at);
                }
                None
            }
            Event::TaskReported(key, outcome) => self.report(key, *outcome, entry.at),
            Event::Engaged { .. } => {
                let refused = self.world.apply(entry);
                self.wake(entry.at);
                refused
            }
            Event::EngagementScore(_)
            | Event::PipelineStage(_)
            | Event::Attributes(_)
            | Event::Ticks(_)
            | Event::Answers(_, _) => self.world.apply(entry),
        };
        // What was done before the start is no part of the run.
        if entry.at < start {
            return;
        }
        self.now = self.now.max(entry.at);
        let (place, position) = (Place::of(&shown(&self.timeline, self.run.clone())), entry.position);
        self.push(entry.at, place, What::Script { position, refused });
    }

    /// Reports a task, or says why that is refused.
    fn report(&mut self, key: &str, outcome: TaskOutcome, at: Timestamp) -> Option<String> {
        let mut actions = self.timeline.definition.actions.iter();
        let id = actions.find(|action| action.definition.key == key)?.id;
        let reported = self.run.report_task(&self.timeline, id, outcome, at);
        reported.err().map(|refused| refused.to_string())
    }

    /// Has the run looked at if it waits for an event.
    fn wake(&mut self, at: Timestamp) {
        let mut deferred = self.run.deferred.iter();
        if deferred.any(|it| it.reason == DeferReason::WaitingForEvent) && self.run.next_action_at.is_some() {
            self.run.next_action_at = self.run.next_action_at.min(Some(at));
        }
    }

    /// What is known at an instant.
    fn facts(&self, at: Timestamp) -> Facts {
        let key = |id| Some(self.timeline.action(id)?.definition.key.clone());
        let reports = self.run.task_reports.iter();
        Facts {
            task_outcomes: reports.filter_map(|it| Some((key(it.id)?, it.outcome))).collect(),
            ..self.world.facts(&self.asked, self.rules, at)
        }
    }

    /// Changes the run, or says why that is refused.
    fn change(&mut self, step: impl FnOnce(Run, &Timeline) -> Result<Run, super::WrongStatus>) -> Option<String> {
        match step(self.run.clone(), &self.timeline) {
            Ok(run) => {
                self.run = run;
                None
            }
            Err(wrong) => Some(wrong.to_string()),
        }
    }

    /// Carries out the ticks before an instant.
    fn tick_until(&mut self, until: Timestamp) {
        while !self.is_over() {
            match self.next_tick() {
                Some(at) if at < until => self.tick(at),
                Some(_) | None => return,
            }
        }
    }

    /// The next tick that may find something to do: at the run's wake-up, or when its day is over.
    fn next_tick(&self) -> Option<Timestamp> {
        if !self.is_served() {
            return None;
        }
        let run = plan::thawed(&self.timeline, self.run.clone());
        let midnight = instant(plus_days(run.day_date, 1), 0, run.zone.tz);
        let is_to_come = self.last_tick.is_none_or(|last| last < midnight);
        let wanted = run.next_action_at.into_iter().chain(is_to_come.then_some(midnight));
        let after_last = self.last_tick.map(|last| last + Duration::microseconds(1));
        let earliest = after_last.map_or(self.now, |after| after.max(self.now));
        on_grid(wanted.min()?.max(earliest), self.tick_interval)
    }

    /// What a tick does with the run.
    fn tick(&mut self, at: Timestamp) {
        self.now = at;
        self.last_tick = Some(at);
        let day_date = plan::thawed(&self.timeline, self.run.clone()).day_date;
        if !self.is_due(at) && local_date(at, self.run.zone.tz) > day_date {
            self.settle(at);
        }
        for _ in 0..self.rules.most_passes {
            if self.is_over() || !self.is_due(at) {
                return;
            }
            let facts = self.facts(at);
            let planned = plan::plan(&self.timeline, &self.run, &facts, &self.rules.retry, at);
            let before = std::mem::replace(&mut self.run, planned.run);
            let found_nothing = planned.decisions.is_empty() && self.run.in_flight.is_empty();
            self.note(&before, planned.decisions, &facts, at);
            if found_nothing {
                return;
            }
            if !self.run.in_flight.is_empty() {
                self.send(&facts, at);
                self.settle(at);
            }
        }
    }

    /// Whether a tick would look at the run.
    fn is_served(&self) -> bool {
        self.world.ticks && self.timeline.definition.is_active && self.run.status == Status::Active
    }

    fn is_due(&self, at: Timestamp) -> bool {
        self.run.next_action_at.is_some_and(|wake| wake <= at)
    }

    fn settle(&mut self, at: Timestamp) {
        let before = self.run.clone();
        plan::settle(&self.timeline, &mut self.run, at);
        self.note(&before, Vec::new(), &Facts::default(), at);
    }

    /// Sends what is in flight, in order, and records what comes of it.
    fn send(&mut self, facts: &Facts, at: Timestamp) {
        for in_flight in self.run.in_flight.clone() {
            let Some(action) = self.timeline.action(in_flight.id).cloned() else {
                continue;
            };
            let result = self.attempt(&action, at);
            let retry = &self.rules.retry;
            // Half of the jitter is the middle of the wait.
            self.run
                .record(&self.timeline, &in_flight, result.clone(), retry, 0.5, at);
            let Some(verdict) = verdict_of(&self.run, in_flight.id, &result) else {
                continue;
            };
            let step = ActionStep {
                id: in_flight.id,
                attempt: in_flight.attempt,
                due: in_flight.due,
                verdict,
                detail: None,
                findings: condition::findings(&action.definition.conditions, facts, at),
            };
            self.push(at, Place::of(&self.run), What::Action(step));
        }
    }

    fn attempt(&mut self, action: &Action, at: Timestamp) -> Attempted {
        let channel = action.definition.channel;
        if let Some(until) = self.world.stopped_until(channel, at) {
            return Attempted::ChannelUnavailable { until };
        }
        let rendered = (self.outside.render)(&self.run, &self.timeline, action, &self.world.customer);
        match rendered {
            Ok(()) => self.world.answer(channel, at, self.rules.channel_probe),
            Err((reason, error)) => Attempted::Failed { reason, error },
        }
    }
}

/// The run as it is shown.
fn shown(timeline: &Timeline, run: Run) -> Run {
    if timeline.definition.is_active {
        plan::thawed(timeline, run)
    } else {
        run
    }
}

/// The first whole multiple of `interval` since 1970 that is not before `time`.
fn on_grid(time: Timestamp, interval: Duration) -> Option<Timestamp> {
    let step = interval.num_microseconds().filter(|step| *step > 0)?;
    let micros = time.timestamp_micros();
    let past = micros.rem_euclid(step);
    let ahead = if past == 0 { 0 } else { step - past };
    Timestamp::from_timestamp_micros(micros + ahead)
}

#[cfg(test)]
mod tests;
