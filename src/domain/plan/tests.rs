//! Runs are played: a timeline, a run and a clock go in, and a log of what happened when comes out.
//!
//! `Play` carries out what the planner says as the engine does. After every step it checks what must always hold, so each
//! test here checks that too, and every story is told twice: with the bulk advance, and with a tick that plans everything.

mod about;
mod anything;
mod attempts;
mod changes;
mod gates;
mod held;
mod hours;
mod late;
mod retried;
mod unknown;

use chrono::{Duration, NaiveDate};
use chrono_tz::Tz;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::domain::condition::Leaf;
use crate::domain::explain::{Expected, Explanation, Hold, Standing, explain};
use crate::domain::schedule::{instant, local_date, plus_days};
use crate::domain::{
    Action, ActionDefinition, ActionId, ActionType, Attempted, CampaignId, Channel, Condition, CustomerId, DeferReason,
    DeliveryPolicy, EngagementKind, EngagementQuery, Facts, FailureReason, FailureState, FirstDay, InFlight, Moves,
    Origin, Plan, RetryPolicy, Run, SkipReason, Slug, Stage, Status, Test, Then, Timeline, TimelineDefinition,
    TimelineId, Timestamp, Verdict, WhenMissed, Zone, plan,
};

// What is played: timelines, times and outcomes.

/// An instant of 2026 in UTC, as in `03-01 09:00`.
fn at(text: &str) -> Timestamp {
    format!("2026-{}:00Z", text.replacen(' ', "T", 1))
        .parse()
        .expect("an instant")
}

fn zone(name: &str) -> Zone {
    Zone {
        tz: name.parse().expect("a zone"),
        is_default: false,
    }
}

fn step(key: &str, day_number: i32, delay_hours: u32, channel: Channel, action_type: ActionType) -> Action {
    let campaign_id = action_type
        .sends()
        .then(|| CampaignId::parse("HOOK-001").expect("a campaign"));
    let definition = ActionDefinition {
        key: key.to_owned(),
        day_number,
        delay_hours,
        priority: 0,
        channel,
        action_type,
        campaign_id,
        conditions: Vec::new(),
        max_lateness: None,
    };
    Action {
        id: ActionId(0),
        definition,
        removed_at: None,
    }
}

fn email(key: &str, day: i32, hour: u32) -> Action {
    step(key, day, hour, Channel::Email, ActionType::SendEmail)
}

fn sms(key: &str, day: i32, hour: u32) -> Action {
    step(key, day, hour, Channel::Sms, ActionType::SendSms)
}

fn call(key: &str, day: i32, hour: u32) -> Action {
    step(key, day, hour, Channel::Phone, ActionType::MakeCall)
}

fn task(key: &str, day: i32, hour: u32) -> Action {
    step(key, day, hour, Channel::Interaction, ActionType::CreateTask)
}

fn wait(key: &str, day: i32, hour: u32) -> Action {
    step(key, day, hour, Channel::Wait, ActionType::Wait)
}

/// A gate that lets pass as long as the score is at most 50.
fn gate(key: &str, day: i32, hour: u32) -> Action {
    unless_engaged(step(key, day, hour, Channel::Wait, ActionType::CheckCondition))
}

fn unless_engaged(mut action: Action) -> Action {
    action.definition.conditions.push(Condition {
        test: Test::Leaf(Leaf::EngagementScoreAbove { threshold: 50 }),
        then: Then::Skip,
    });
    action
}

fn within(hours: i64, mut action: Action) -> Action {
    action.definition.max_lateness = Some(Duration::hours(hours));
    action
}

fn first(mut action: Action) -> Action {
    action.definition.priority = -1;
    action
}

fn removed(when: &str, mut action: Action) -> Action {
    action.removed_at = Some(at(when));
    action
}

/// A timeline whose late actions shift it. Ids are given in the order of the list.
fn shifting(duration_days: i32, actions: impl IntoIterator<Item = Action>) -> Timeline {
    let actions = actions.into_iter().zip(1..).map(|(action, id)| Action {
        id: ActionId(id),
        ..action
    });
    let definition = TimelineDefinition {
        slug: Slug::parse("hook").expect("a slug"),
        name: "Hook".to_owned(),
        pipeline_stage: Stage::parse("hook").expect("a stage"),
        duration_days,
        is_active: true,
        is_default: false,
        when_missed: WhenMissed::Shift,
        max_lateness: Duration::hours(12),
        actions: actions.collect(),
    };
    let created_at = Timestamp::UNIX_EPOCH;
    let timeline = Timeline {
        id: TimelineId(1),
        definition,
        revision: 1,
        activated_at: Some(created_at),
        archived_at: None,
        created_at,
        updated_at: created_at,
    };
    in_order(timeline)
}

fn catching_up(duration_days: i32, actions: impl IntoIterator<Item = Action>) -> Timeline {
    let mut timeline = shifting(duration_days, actions);
    timeline.definition.when_missed = WhenMissed::CatchUp;
    timeline
}

fn in_order(mut timeline: Timeline) -> Timeline {
    timeline.definition.actions.sort_by_key(Action::position);
    timeline
}

fn refused_for_now() -> Attempted {
    Attempted::Retry {
        reason: FailureReason::Temporary,
        error: "421".to_owned(),
        after: None,
    }
}

fn refused() -> Attempted {
    Attempted::Failed {
        reason: FailureReason::Rejected,
        error: "550".to_owned(),
    }
}

fn unknown() -> Attempted {
    Attempted::Unknown {
        error: "timeout".to_owned(),
    }
}

/// What becomes of an attempt.
#[derive(Debug, Clone)]
enum Outcome {
    Is(Attempted),
    /// The process dies while it is sent.
    Death,
}

// Playing.

/// Who serves the runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    /// Plans only what is due, and moves what is served in bulk.
    Bulk,
    /// Plans every run at every tick.
    Eager,
}

struct Play {
    engine: Engine,
    timeline: Timeline,
    run: Run,
    facts: Facts,
    retry: RetryPolicy,
    /// What becomes of the next attempts at an action; what is not here is delivered.
    outcomes: BTreeMap<String, Vec<Outcome>>,
    log: Vec<(ActionId, Timestamp, String)>,
    moves: Moves,
    /// The day on which it began, and the furthest that was seen.
    first_day: i32,
    last_day: i32,
    /// How often the run advanced on a date since it was last moved to a zone.
    advances: BTreeMap<NaiveDate, u32>,
    /// What was delivered, and when the last late message of a channel was.
    delivered: BTreeSet<ActionId>,
    /// What may have been delivered.
    unknown: BTreeSet<ActionId>,
    last_late: BTreeMap<Channel, Timestamp>,
}

impl Play {
    /// A play in UTC that begins on the first of March at 08:00.
    fn new(engine: Engine, timeline: &Timeline) -> Self {
        let mut play = Self {
            engine,
            timeline: timeline.clone(),
            run: start(timeline, zone("Etc/UTC"), FirstDay::SendPassed, 1, at("03-01 08:00")),
            facts: Facts {
                has_email: true,
                has_phone: true,
                ..Facts::default()
            },
            retry: RetryPolicy::default(),
            outcomes: BTreeMap::new(),
            log: Vec::new(),
            moves: Moves::default(),
            first_day: 1,
            last_day: 1,
            advances: BTreeMap::new(),
            delivered: BTreeSet::new(),
            unknown: BTreeSet::new(),
            last_late: BTreeMap::new(),
        };
        play.settle(at("03-01 08:00"));
        play
    }

    /// Begins anew.
    fn start(&mut self, tz: &str, first_day: FirstDay, start_day: i32, now: Timestamp) {
        self.run = start(&self.timeline, zone(tz), first_day, start_day, now);
        (self.first_day, self.last_day) = (start_day, start_day);
        self.settle(now);
    }

    fn outcome(&mut self, key: &str, outcome: Attempted) {
        self.outcomes
            .entry(key.to_owned())
            .or_default()
            .push(Outcome::Is(outcome));
    }

    fn death(&mut self, key: &str) {
        self.outcomes.entry(key.to_owned()).or_default().push(Outcome::Death);
    }

    /// Ticks from one instant to another, both included.
    fn ticks(&mut self, from: &str, until: &str, minutes: i64) {
        self.tick_between(at(from), at(until), Duration::minutes(minutes));
    }

    fn tick_between(&mut self, from: Timestamp, until: Timestamp, step: Duration) {
        let mut now = from;
        while now <= until {
            self.tick(now);
            now += step;
        }
    }

    /// One tick, as the engine does it: what is served moves on, then what is due is planned until nothing is.
    fn tick(&mut self, now: Timestamp) {
        // A tick that plans everything looks at runs that nobody would wake.
        if self.engine != Engine::Bulk {
            return self.look(now);
        }
        let told = explain(&self.timeline, &self.run, &self.facts, &self.retry, now).next_look;
        let before = self.run.clone();
        self.look(now);
        if told.is_none_or(|at| at > now) {
            let Run {
                day_date,
                day_shifted_at,
                updated_at,
                ..
            } = self.run;
            let thawed = Run {
                day_date,
                day_shifted_at,
                updated_at,
                ..before
            };
            assert_eq!(self.run, thawed, "looked before it was told at {now}");
        }
    }

    fn look(&mut self, now: Timestamp) {
        for _ in 0..1000 {
            if self.run.status != Status::Active || !self.timeline.definition.is_active {
                return;
            }
            if self.engine == Engine::Bulk {
                self.advance_in_bulk(now);
                if self.run.next_action_at.is_none_or(|wake| wake > now) {
                    return;
                }
            }
            if !self.plan(now) {
                return;
            }
        }
        panic!("the tick at {now} does not end");
    }

    /// Plans once, and sends. False: there was nothing to send, so the tick is over.
    fn plan(&mut self, now: Timestamp) -> bool {
        let told = explain(&self.timeline, &self.run, &self.facts, &self.retry, now);
        let planned = plan::plan(&self.timeline, &self.run, &self.facts, &self.retry, now);
        check_told(&told, &planned, now);
        self.run.updated_at = now;
        if planned.decisions.is_empty() && planned.run == self.run {
            return false;
        }
        self.run = planned.run;
        self.note_moves(planned.moves, now);
        for decision in planned.decisions {
            let what = match decision.verdict {
                Verdict::Completed => "done".to_owned(),
                Verdict::Skipped(reason) => format!("skipped, {}", reason.as_str()),
                Verdict::Deferred { until, reason } => format!("waits until {}, {}", self.local(until), word(reason)),
                Verdict::Failed { state, reason, .. } => self.failure(state, reason),
            };
            self.note(decision.action, now, what);
        }
        if self.run.in_flight.is_empty() {
            let again = plan::plan(&self.timeline, &self.run, &self.facts, &self.retry, now);
            assert_eq!(again.decisions, [], "decided again at {now}");
            assert_eq!(again.run, self.run, "moved again at {now}");
            self.check(now);
            return false;
        }
        assert!(
            self.run.next_action_at.is_some_and(|wake| wake <= now),
            "lost if its sender died at {now}"
        );
        self.check_claim(now);
        let dies = |play: &Self, sent: &InFlight| {
            matches!(
                play.outcomes.get(play.key(sent.id)).and_then(|list| list.first()),
                Some(Outcome::Death)
            )
        };
        if let Some(last) = self.run.in_flight.iter().position(|sent| dies(self, sent)) {
            for sent in self.run.in_flight.clone().into_iter().take(last + 1) {
                self.next_outcome(sent.id);
                self.unknown.insert(sent.id);
                self.note(sent.id, now, "sent, not recorded".to_owned());
            }
            return false;
        }
        for sent in self.run.in_flight.clone() {
            let Outcome::Is(result) = self.next_outcome(sent.id) else {
                unreachable!("death was dealt with")
            };
            self.record(&sent, result, now);
        }
        self.settle(now);
        true
    }

    fn next_outcome(&mut self, id: ActionId) -> Outcome {
        let key = self.key(id).to_owned();
        match self.outcomes.get_mut(&key) {
            Some(list) if !list.is_empty() => list.remove(0),
            Some(_) | None => Outcome::Is(Attempted::Completed),
        }
    }

    fn record(&mut self, sent: &InFlight, result: Attempted, now: Timestamp) {
        let handed_back = result == Attempted::HandedBack;
        if result == Attempted::Completed {
            self.note_delivery(sent, now);
        }
        if matches!(result, Attempted::Unknown { .. }) {
            self.unknown.insert(sent.id);
        }
        self.run.record(&self.timeline, sent, result, &self.retry, 0.5, now);
        let what = if handed_back {
            "handed back".to_owned()
        } else if let Some(failed) = self.run.failed.iter().find(|failed| failed.id == sent.id) {
            self.failure(failed.state, failed.reason)
        } else if let Some(deferred) = self.run.deferred.iter().find(|deferred| deferred.id == sent.id) {
            format!("waits until {}, {}", self.local(deferred.until), word(deferred.reason))
        } else {
            "sent".to_owned()
        };
        self.note(sent.id, now, what);
    }

    fn note_delivery(&mut self, sent: &InFlight, now: Timestamp) {
        assert!(
            self.delivered.insert(sent.id),
            "{} was delivered twice",
            self.key(sent.id)
        );
        let channel = self.timeline.action(sent.id).expect("an action").definition.channel;
        if channel.is_message() && now - sent.due > Duration::hours(1) {
            let last = self.last_late.insert(channel, now);
            assert!(
                last.is_none_or(|last| now - last >= Duration::hours(1)),
                "a burst of late messages at {now}"
            );
        }
    }

    fn failure(&self, state: FailureState, reason: FailureReason) -> String {
        let reason = reason.as_str();
        match state {
            FailureState::Retrying(at) => format!("{reason}, again at {}", self.local(at)),
            FailureState::Failed => format!("failed, {reason}"),
            FailureState::Unknown => format!("unknown, {reason}"),
        }
    }

    fn settle(&mut self, now: Timestamp) {
        let moves = plan::settle(&self.timeline, &mut self.run, now);
        self.note_moves(moves, now);
        self.check(now);
    }

    /// What the bulk advance does: all runs that are alike and have no overdue wake-up go where an example of them goes.
    fn advance_in_bulk(&mut self, now: Timestamp) {
        let (tz, wake) = (self.run.zone.tz, self.run.next_action_at);
        if self.run.day_date >= local_date(now, tz) || wake.is_some_and(|wake| wake <= now) {
            return;
        }
        let like = start(
            &self.timeline,
            self.run.zone,
            FirstDay::SendPassed,
            self.run.current_day,
            Timestamp::UNIX_EPOCH,
        );
        let like = Run {
            day_date: self.run.day_date,
            ..like
        };
        let Some((to, moves)) = plan::advance_served(&self.timeline, &like, now) else {
            return;
        };
        if moves.completed && wake.is_some() {
            return;
        }
        let mut settled = self.run.clone();
        let moves_alone = plan::settle(&self.timeline, &mut settled, now);
        if to.current_day != self.run.current_day {
            self.run.day_started_at = to.day_started_at;
        }
        self.run.current_day = to.current_day;
        self.run.day_date = to.day_date;
        self.run.day_shifted_at = None;
        self.run.shifted_days += moves.shifted_days;
        self.run.jumped_days.extend(to.jumped_days);
        self.run.status = to.status;
        self.run.ended_at = to.ended_at;
        self.run.next_action_at = wake.into_iter().chain(to.next_action_at).min();
        self.run.updated_at = now;
        let expected = Run {
            not_before: self.run.not_before,
            ..settled
        };
        assert_eq!(
            (&self.run, moves),
            (&expected, moves_alone),
            "in bulk is not as alone at {now}"
        );
        self.note_moves(moves, now);
        self.check(now);
    }

    fn note_moves(&mut self, moves: Moves, now: Timestamp) {
        self.moves.advanced |= moves.advanced;
        self.moves.completed |= moves.completed;
        self.moves.shifted_days += moves.shifted_days;
        if moves.advanced {
            *self.advances.entry(local_date(now, self.run.zone.tz)).or_default() += 1;
        }
        assert!(self.run.current_day >= self.last_day, "the day went back at {now}");
        self.last_day = self.run.current_day;
        if self.timeline.definition.when_missed == WhenMissed::Shift {
            assert!(
                self.advances.values().all(|times| *times == 1),
                "advanced twice on a date: {:?}",
                self.advances
            );
        }
    }

    // What always holds.

    fn check(&self, now: Timestamp) {
        let (run, timeline) = (&self.run, &self.timeline);
        let mut entries: BTreeMap<ActionId, u32> = BTreeMap::new();
        let known = run
            .completed
            .iter()
            .copied()
            .chain(run.skipped.iter().map(|skipped| skipped.id));
        let known = known
            .chain(run.failed.iter().map(|failed| failed.id))
            .chain(run.deferred.iter().map(|deferred| deferred.id));
        known.for_each(|id| *entries.entry(id).or_default() += 1);
        assert!(
            entries.values().all(|times| *times == 1),
            "entered twice at {now}: {run:?}"
        );
        let refused = run.failed.iter().filter(|failed| failed.state == FailureState::Failed);
        let mut denied = refused
            .map(|failed| failed.id)
            .chain(run.skipped.iter().map(|skipped| skipped.id));
        assert!(
            denied.all(|id| !self.unknown.contains(&id)),
            "it may have arrived, and is denied at {now}: {run:?}"
        );
        let is_jumped = |day: i32| {
            run.jumped_days
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&day))
        };
        if self.moves.advanced {
            let lost = timeline.definition.actions.iter().find(|action| {
                let day = action.definition.day_number;
                let is_passed = self.first_day <= day && day < run.current_day && !is_jumped(day);
                let came_in_time = action.removed_at.is_none() && !action.definition.key.starts_with("later");
                is_passed && came_in_time && !entries.contains_key(&action.id)
            });
            assert_eq!(lost, None, "lost at {now}");
        }
        if run.status == Status::Completed {
            let waits = !run.deferred.is_empty()
                || !run.in_flight.is_empty()
                || run.failed.iter().any(|failed| failed.retry_at().is_some());
            assert!(!waits, "completed while something waits at {now}");
            assert_eq!((run.next_action_at, run.ended_at.is_some()), (None, true));
        }
        if run.status != Status::Active || !timeline.definition.is_active {
            return;
        }
        let pending = plan::pending_actions(timeline, run, now);
        let ends_as_removed = timeline.day(run.current_day).iter().any(|action| {
            let was_pending = action.removed_at.is_some_and(|at| at >= run.day_started_at);
            was_pending && !entries.contains_key(&action.id)
        });
        assert_eq!(
            run.next_action_at.is_some(),
            !pending.is_empty() || !run.in_flight.is_empty() || ends_as_removed,
            "forgotten at {now}: {run:?}"
        );
        let tomorrow = instant(plus_days(run.day_date, 1), 0, run.zone.tz);
        let of_today = timeline
            .day(run.current_day)
            .iter()
            .filter(|action| action.removed_at.is_none() && !is_jumped(run.current_day));
        let is_sent = |id| run.in_flight.iter().any(|sent| sent.id == id);
        let unfinished = of_today.filter(|action| !entries.contains_key(&action.id) && !is_sent(action.id));
        if unfinished.count() > 0 {
            assert!(
                run.next_action_at.is_some_and(|wake| wake <= tomorrow),
                "the bulk advance would lose it at {now}"
            );
        }
    }

    fn check_claim(&self, now: Timestamp) {
        let actions: Vec<&Action> = self
            .run
            .in_flight
            .iter()
            .filter_map(|sent| self.timeline.action(sent.id))
            .collect();
        assert_eq!(actions.len(), self.run.in_flight.len());
        assert!(
            actions.is_sorted_by_key(|action| action.position()),
            "out of order at {now}"
        );
        let alone = actions
            .iter()
            .any(|action| action.definition.channel.delivery_policy() == DeliveryPolicy::AtMostOnce);
        assert!(
            !alone || actions.len() == 1,
            "not alone in its claim at {now}: {actions:?}"
        );
        for sent in &self.run.in_flight {
            assert!(
                !self.run.is_final(sent.id) && !self.delivered.contains(&sent.id),
                "sent again at {now}"
            );
            assert!(sent.due <= now, "sent too early at {now}");
        }
    }

    // What is read of it.

    fn key(&self, id: ActionId) -> &str {
        &self.timeline.action(id).expect("an action").definition.key
    }

    fn id(&self, key: &str) -> ActionId {
        self.timeline
            .definition
            .actions
            .iter()
            .find(|action| action.definition.key == key)
            .expect("an action")
            .id
    }

    fn local(&self, at: Timestamp) -> String {
        at.with_timezone(&self.run.zone.tz).format("%m-%d %H:%M").to_string()
    }

    fn note(&mut self, id: ActionId, now: Timestamp, what: String) {
        self.log.push((id, now, what));
    }

    /// The log with local times of the present zone, and where the run stands.
    fn story(&self) -> String {
        let mut story = String::new();
        for (id, now, what) in &self.log {
            writeln!(story, "{} {} {what}", self.local(*now), self.key(*id)).expect("text");
        }
        let Run {
            current_day,
            day_date,
            status,
            shifted_days,
            jumped_days,
            ..
        } = &self.run;
        write!(
            story,
            "day {current_day} on {}, {}",
            day_date.format("%m-%d"),
            status.as_str()
        )
        .expect("text");
        if *shifted_days > 0 {
            write!(story, ", shifted {shifted_days}").expect("text");
        }
        for (first, last) in jumped_days {
            write!(story, ", jumped {first} to {last}").expect("text");
        }
        assert_eq!(
            *shifted_days, self.moves.shifted_days,
            "what is counted is what is stored"
        );
        story
    }
}

fn start(timeline: &Timeline, zone: Zone, first_day: FirstDay, start_day: i32, now: Timestamp) -> Run {
    let customer = CustomerId::parse("anna").expect("a customer");
    Run::start(timeline, customer, Origin::Started, zone, first_day, start_day, now)
}

fn word(reason: DeferReason) -> &'static str {
    match reason {
        DeferReason::WaitingForAction => "for an action",
        DeferReason::Spacing => "spacing",
        DeferReason::ChannelUnavailable => "channel",
        DeferReason::SendingHeld => "held",
    }
}

/// Tells a story both ways.
#[track_caller]
fn check(timeline: &Timeline, plot: impl Fn(&mut Play), expected: &str) {
    for engine in [Engine::Eager, Engine::Bulk] {
        let mut play = Play::new(engine, timeline);
        plot(&mut play);
        let expected: Vec<&str> = expected
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        assert_eq!(play.story(), expected.join("\n"), "{engine:?}");
    }
}

/// Adds an action to the timeline of a play, as the engine does: runs on its day are woken.
fn add(play: &mut Play, action: Action) {
    let id = ActionId(1 + i64::try_from(play.timeline.definition.actions.len()).expect("few"));
    play.timeline.definition.actions.push(Action { id, ..action });
    play.timeline = in_order(play.timeline.clone());
    wake(play, id);
}

fn remove(play: &mut Play, key: &str, now: Timestamp) {
    let id = play.id(key);
    let actions = &mut play.timeline.definition.actions;
    actions
        .iter_mut()
        .find(|action| action.id == id)
        .expect("an action")
        .removed_at = Some(now);
    wake(play, id);
}

/// Days that are over are woken too, so that it does not matter when a removal is noticed; the engine leaves them alone.
fn wake(play: &mut Play, id: ActionId) {
    let day = play.timeline.action(id).expect("an action").definition.day_number;
    if day <= play.run.current_day && play.engine == Engine::Bulk {
        // Long ago, which is as good as now.
        play.run.next_action_at = Some(at("01-01 00:00"));
    }
}

/// What is explained is what is then done.
fn check_told(told: &Explanation, planned: &Plan, now: Timestamp) {
    let last = |id| planned.decisions.iter().rfind(|decision| decision.action == id);
    for action in &told.actions {
        let id = action.id;
        let done = if planned.run.in_flight.iter().any(|sent| sent.id == id) {
            Some(Standing::Due(Expected::Send))
        } else {
            last(id).map(|decision| match decision.verdict.clone() {
                Verdict::Completed => Standing::Due(Expected::Complete),
                Verdict::Skipped(reason) => Standing::Due(Expected::Skip {
                    reason,
                    detail: decision.detail.clone(),
                }),
                Verdict::Deferred { until, reason } => Standing::Held {
                    by: Hold::Deferred(reason),
                    until: Some(until),
                },
                Verdict::Failed { state, reason, error } => Standing::Due(Expected::Fail { state, reason, error }),
            })
        };
        match (&action.standing, done) {
            (told, Some(done)) => assert_eq!(*told, done, "told otherwise at {now}"),
            (Standing::Due(Expected::InTurn), None) => {
                assert!(!planned.run.in_flight.is_empty(), "in turn after nothing at {now}");
            }
            (Standing::Due(told), None) => panic!("{told:?} was told, and nothing done at {now}"),
            (Standing::Held { until, .. }, None) => assert!(until.is_some_and(|until| until > now), "held at {now}"),
            (
                Standing::Completed
                | Standing::Skipped(_)
                | Standing::Failed(_)
                | Standing::InFlight { .. }
                | Standing::Never(_),
                None,
            ) => {}
        }
    }
    let decided = planned.decisions.iter().map(|decision| decision.action);
    let sent = planned.run.in_flight.iter().map(|sent| sent.id);
    for id in decided.chain(sent) {
        assert!(
            told.actions.iter().any(|action| action.id == id),
            "{id} was not told at {now}"
        );
    }
}
