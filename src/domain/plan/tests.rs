//! Runs are played: a timeline, a run and a clock go in, and a log of what happened when comes out.
//!
//! `Play` carries out what the planner says as the engine does. After every step it checks what must always hold, so each
//! test here checks that too, and every story is told twice: with the bulk advance, and with a tick that plans everything.

use chrono::{Duration, NaiveDate};
use chrono_tz::Tz;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::domain::schedule::{instant, local_date, plus_days};
use crate::domain::{
    Action, ActionDefinition, ActionId, ActionType, Attempted, CampaignId, Channel, Condition, CustomerId, DeferReason,
    DeliveryPolicy, Facts, FailureReason, FailureState, FirstDay, InFlight, Moves, Origin, RetryPolicy, Run,
    SkipReason, Slug, Stage, Status, Test, Then, Timeline, TimelineDefinition, TimelineId, Timestamp, Verdict,
    WhenMissed, Zone, plan,
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
        test: Test::EngagementScoreAbove { threshold: 50 },
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
        let planned = plan::plan(&self.timeline, &self.run, &self.facts, &self.retry, now);
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
            for sent in self.run.in_flight[..=last].to_vec() {
                self.next_outcome(sent.id);
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
        self.run.current_day = to.current_day;
        self.run.day_date = to.day_date;
        self.run.shifted_days += moves.shifted_days;
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
        assert_eq!(
            run.next_action_at.is_some(),
            !pending.is_empty() || !run.in_flight.is_empty(),
            "forgotten at {now}: {run:?}"
        );
        let tomorrow = instant(plus_days(run.day_date, 1), 0, run.zone.tz);
        let of_today = timeline
            .day(run.current_day)
            .iter()
            .filter(|action| action.removed_at.is_none() && !is_jumped(run.current_day));
        let unfinished = of_today.filter(|action| !entries.contains_key(&action.id)).count();
        if unfinished > 0 {
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

// Hours and days.

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
    for engine in [Engine::Eager, Engine::Bulk] {
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
    check_hours("Asia/Kathmandu", "2026-01-01", 15);
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
    check_hours("Australia/Lord_Howe", "2026-08-20", 15);
}

#[test]
fn the_leap_day_is_a_day() {
    check_hours("Etc/UTC", "2028-02-01", 60);
    check_hours("America/New_York", "2028-02-01", 60);
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

// The first day, and the last.

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

// Too late.

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
fn a_shifted_day_that_is_missed_again_is_shifted_again() {
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
        "03-05 09:00 mail sent
        day 1 on 03-05, completed, shifted 4",
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
        day 5 on 03-05, active",
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

// Attempts.

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

// Gates, waits and conditions.

#[test]
fn a_gate_decides_what_comes_after_it_on_its_day() {
    let timeline = shifting(
        2,
        [
            email("a", 1, 8),
            gate("gate", 1, 9),
            email("b", 1, 10),
            wait("c", 1, 11),
            gate("d", 1, 12),
            email("e", 2, 9),
        ],
    );
    let plot = |score| {
        move |play: &mut Play| {
            play.facts.engagement_score = score;
            play.ticks("03-01 08:00", "03-03 00:00", 60);
        }
    };
    check(
        &timeline,
        plot(50),
        "03-01 08:00 a sent
        03-01 09:00 gate done
        03-01 10:00 b sent
        03-01 11:00 c done
        03-01 12:00 d done
        03-02 09:00 e sent
        day 2 on 03-02, completed",
    );
    check(
        &timeline,
        plot(51),
        "03-01 08:00 a sent
        03-01 09:00 gate skipped, condition
        03-01 10:00 b skipped, gated
        03-01 11:00 c skipped, gated
        03-01 12:00 d skipped, gated
        03-02 09:00 e sent
        day 2 on 03-02, completed",
    );
}

#[test]
fn a_gate_waits_for_a_message_before_it_and_others_wait_for_the_gate() {
    let timeline = shifting(1, [email("a", 1, 9), gate("gate", 1, 9), email("b", 1, 9)]);
    let plot = |score| {
        move |play: &mut Play| {
            play.outcome("a", refused_for_now());
            play.ticks("03-01 09:00", "03-01 09:00", 5);
            play.facts.engagement_score = score;
            play.ticks("03-01 09:05", "03-01 09:15", 5);
        }
    };
    check(
        &timeline,
        plot(0),
        "03-01 09:00 a temporary, again at 03-01 09:05
        03-01 09:00 gate waits until 03-01 09:05, for an action
        03-01 09:00 b waits until 03-01 09:05, for an action
        03-01 09:05 a sent
        03-01 09:05 gate done
        03-01 09:05 b sent
        day 1 on 03-01, active",
    );
    check(
        &timeline,
        plot(51),
        "03-01 09:00 a temporary, again at 03-01 09:05
        03-01 09:00 gate waits until 03-01 09:05, for an action
        03-01 09:00 b waits until 03-01 09:05, for an action
        03-01 09:05 a sent
        03-01 09:05 gate skipped, condition
        03-01 09:05 b skipped, gated
        day 1 on 03-01, active",
    );
}

#[test]
fn a_gate_that_waits_over_midnight_holds_what_comes_after_it() {
    let timeline = shifting(
        2,
        [
            email("a", 1, 23),
            gate("gate", 1, 23),
            email("b", 1, 23),
            email("c", 2, 0),
        ],
    );
    let plot = |play: &mut Play| {
        play.outcomes
            .insert("a".to_owned(), vec![Outcome::Is(refused_for_now()); 2]);
        play.retry.base = Duration::hours(1);
        play.ticks("03-01 23:00", "03-02 01:00", 60);
        play.facts.engagement_score = 51;
        play.ticks("03-02 02:00", "03-02 02:00", 60);
    };
    check(
        &timeline,
        plot,
        "03-01 23:00 a temporary, again at 03-02 00:00
        03-01 23:00 gate waits until 03-02 00:00, for an action
        03-01 23:00 b waits until 03-02 00:00, for an action
        03-02 00:00 a temporary, again at 03-02 02:00
        03-02 00:00 gate waits until 03-02 02:00, for an action
        03-02 00:00 b waits until 03-02 02:00, for an action
        03-02 00:00 c sent
        03-02 02:00 a sent
        03-02 02:00 gate skipped, condition
        03-02 02:00 b skipped, gated
        day 2 on 03-02, active",
    );
}

#[test]
fn a_gate_waits_no_longer_than_it_may_be_late() {
    let timeline = shifting(1, [email("a", 1, 9), within(1, gate("gate", 1, 9)), sms("b", 1, 9)]);
    let plot = |play: &mut Play| {
        play.facts.stopped_channels.insert(Channel::Email, at("03-05 00:00"));
        play.ticks("03-01 09:00", "03-01 09:00", 60);
        play.facts.stopped_channels.insert(Channel::Email, at("03-05 12:00"));
        play.ticks("03-05 00:00", "03-05 00:00", 60);
    };
    check(
        &timeline,
        plot,
        "03-01 09:00 a waits until 03-05 00:00, channel
        03-01 09:00 gate waits until 03-05 00:00, for an action
        03-01 09:00 b waits until 03-05 00:00, for an action
        03-05 00:00 a waits until 03-05 12:00, channel
        03-05 00:00 gate done
        03-05 00:00 b sent
        day 1 on 03-01, active",
    );
}

#[test]
fn actions_that_come_later_obey_the_gate_and_never_fire_on_a_past_day() {
    let plot = |play: &mut Play| {
        play.facts.engagement_score = 51;
        play.ticks("03-01 08:00", "03-01 12:00", 60);
        add(play, email("later, today", 1, 13));
        add(play, first(email("later, before the gate", 1, 9)));
        play.tick(at("03-01 12:30"));
        play.ticks("03-01 13:00", "03-02 00:00", 60);
        add(play, email("later, yesterday", 1, 13));
        play.ticks("03-02 01:00", "03-03 00:00", 60);
    };
    check(
        &shifting(2, [gate("gate", 1, 9), email("a", 2, 9)]),
        plot,
        "03-01 09:00 gate skipped, condition
        03-01 12:30 later, before the gate sent
        03-01 13:00 later, today skipped, gated
        03-02 09:00 a sent
        day 2 on 03-02, completed",
    );
}

#[test]
fn conditions_are_asked_at_every_attempt() {
    let plot = |play: &mut Play| {
        play.outcome("a", refused_for_now());
        play.tick(at("03-01 09:00"));
        play.facts.engagement_score = 51;
        play.ticks("03-01 09:05", "03-01 09:05", 60);
    };
    check(
        &shifting(1, [unless_engaged(email("a", 1, 9))]),
        plot,
        "03-01 09:00 a temporary, again at 03-01 09:05
        03-01 09:05 a skipped, condition
        day 1 on 03-01, active",
    );
}

// Changes of the timeline, of the run and of the zone.

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

fn wake(play: &mut Play, id: ActionId) {
    let day = play.timeline.action(id).expect("an action").definition.day_number;
    if day == play.run.current_day && play.engine == Engine::Bulk {
        // Long ago, which is as good as now.
        play.run.next_action_at = Some(at("01-01 00:00"));
    }
}

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
            play.run = play
                .run
                .clone()
                .pause(String::new(), at("03-01 08:30"))
                .expect("active");
            play.ticks("03-01 09:00", "03-08 10:00", 60);
            let resumed = play.run.clone().resume(String::new(), next_day, at("03-08 10:00"));
            play.run = resumed.expect("paused");
            play.settle(at("03-08 10:00"));
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
        play.run = play.run.clone().move_to(zone("Asia/Tokyo"), at("03-01 08:30"));
        play.settle(at("03-01 08:30"));
        play.ticks("03-01 08:30", "03-01 15:00", 30);
    };
    check(
        &timeline,
        plot,
        "03-01 17:30 a sent
        03-01 17:30 b sent
        03-01 23:00 c sent
        day 1 on 03-01, completed",
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

// Anything at all.

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
    Add(Action),
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

fn any_timeline() -> impl Strategy<Value = Timeline> {
    (prop::collection::vec(any_action(), 0..12), any::<bool>(), 5i32..7).prop_map(|(mut actions, shifts, days)| {
        for (action, n) in actions.iter_mut().zip(1..) {
            action.definition.key = format!("a{n}");
        }
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
        1 => any_action().prop_map(Event::Add),
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
        Event::Nothing => {}
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
        Event::Add(action) => {
            let mut action = action.clone();
            action.definition.key = format!("later {}", play.timeline.definition.actions.len());
            add(play, action);
        }
        Event::Remove(n) => {
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
        Event::Move(_) | Event::Ask => {}
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
        // Who catches up by a bulk advance looks at one more day by itself, and enters what it missed there one by one. And
        // only who looks again before it is due finds that what was too late is not, as the clock went back.
        let clock_goes_back = events.iter().any(|(gap, _)| *gap < 0);
        if timeline.definition.when_missed == WhenMissed::Shift && !clock_goes_back {
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
    for _ in 0..40 * 24 {
        now += Duration::hours(1);
        play.tick(now);
    }
    assert_eq!(play.run.status, Status::Completed, "{:?}", play.run);
}
