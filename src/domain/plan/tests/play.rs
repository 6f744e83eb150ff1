//! Playing: a run, a clock, and what the engine does at each tick.

use super::*;

/// Who serves the runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    /// Plans only what is due, and moves what is served in bulk.
    Bulk,
    /// Plans every run at every tick.
    Eager,
}

pub(super) struct Play {
    pub(super) engine: Engine,
    pub(super) timeline: Timeline,
    pub(super) run: Run,
    pub(super) facts: Facts,
    pub(super) retry: RetryPolicy,
    /// What becomes of the next attempts at an action; what is not here is delivered.
    pub(super) outcomes: BTreeMap<String, Vec<Outcome>>,
    pub(super) log: Vec<(ActionId, Timestamp, String)>,
    pub(super) moves: Moves,
    /// The day on which it began, and the furthest that was seen.
    pub(super) first_day: i32,
    pub(super) last_day: i32,
    /// How often the run advanced on a date since it was last moved to a zone.
    pub(super) advances: BTreeMap<NaiveDate, u32>,
    /// What was delivered, and when the last late message of a channel was.
    pub(super) delivered: BTreeSet<ActionId>,
    /// What may have been delivered.
    pub(super) unknown: BTreeSet<ActionId>,
    pub(super) last_late: BTreeMap<Channel, Timestamp>,
}

impl Play {
    /// A play in UTC that begins on the first of March at 08:00.
    pub(super) fn new(engine: Engine, timeline: &Timeline) -> Self {
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
    pub(super) fn start(&mut self, tz: &str, first_day: FirstDay, start_day: i32, now: Timestamp) {
        self.run = start(&self.timeline, zone(tz), first_day, start_day, now);
        (self.first_day, self.last_day) = (start_day, start_day);
        self.settle(now);
    }

    pub(super) fn outcome(&mut self, key: &str, outcome: Attempted) {
        self.outcomes
            .entry(key.to_owned())
            .or_default()
            .push(Outcome::Is(outcome));
    }

    pub(super) fn death(&mut self, key: &str) {
        self.outcomes.entry(key.to_owned()).or_default().push(Outcome::Death);
    }

    pub(super) fn pause(&mut self, now: &str) {
        self.run = self.run.clone().pause(String::new(), at(now)).expect("active");
    }

    /// Resumes the run as the engine does, with its day today or tomorrow.
    pub(super) fn resume(&mut self, next_day: bool, now: &str) {
        let resumed = self.run.clone().resume(String::new(), next_day, at(now));
        self.run = resumed.expect("paused");
        self.settle(at(now));
    }

    /// Ticks from one instant to another, both included.
    pub(super) fn ticks(&mut self, from: &str, until: &str, minutes: i64) {
        self.tick_between(at(from), at(until), Duration::minutes(minutes));
    }

    pub(super) fn tick_between(&mut self, from: Timestamp, until: Timestamp, step: Duration) {
        let mut now = from;
        while now <= until {
            self.tick(now);
            now += step;
        }
    }

    /// One tick, as the engine does it: what is served moves on, then what is due is planned until nothing is.
    pub(super) fn tick(&mut self, now: Timestamp) {
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

    pub(super) fn look(&mut self, now: Timestamp) {
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
    pub(super) fn plan(&mut self, now: Timestamp) -> bool {
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

    pub(super) fn next_outcome(&mut self, id: ActionId) -> Outcome {
        let key = self.key(id).to_owned();
        match self.outcomes.get_mut(&key) {
            Some(list) if !list.is_empty() => list.remove(0),
            Some(_) | None => Outcome::Is(Attempted::Completed),
        }
    }

    pub(super) fn record(&mut self, sent: &InFlight, result: Attempted, now: Timestamp) {
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

    pub(super) fn note_delivery(&mut self, sent: &InFlight, now: Timestamp) {
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

    pub(super) fn failure(&self, state: FailureState, reason: FailureReason) -> String {
        let reason = reason.as_str();
        match state {
            FailureState::Retrying(at) => format!("{reason}, again at {}", self.local(at)),
            FailureState::Failed => format!("failed, {reason}"),
            FailureState::Unknown => format!("unknown, {reason}"),
        }
    }

    pub(super) fn settle(&mut self, now: Timestamp) {
        let moves = plan::settle(&self.timeline, &mut self.run, now);
        self.note_moves(moves, now);
        self.check(now);
    }

    /// What the bulk advance does: all runs that are alike and have no overdue wake-up go where an example of them goes.
    pub(super) fn advance_in_bulk(&mut self, now: Timestamp) {
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

    pub(super) fn note_moves(&mut self, moves: Moves, now: Timestamp) {
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

    // What is read of it.

    pub(super) fn key(&self, id: ActionId) -> &str {
        &self.timeline.action(id).expect("an action").definition.key
    }

    pub(super) fn id(&self, key: &str) -> ActionId {
        self.timeline
            .definition
            .actions
            .iter()
            .find(|action| action.definition.key == key)
            .expect("an action")
            .id
    }

    pub(super) fn local(&self, at: Timestamp) -> String {
        at.with_timezone(&self.run.zone.tz).format("%m-%d %H:%M").to_string()
    }

    pub(super) fn note(&mut self, id: ActionId, now: Timestamp, what: String) {
        self.log.push((id, now, what));
    }

    /// The log with local times of the present zone, and where the run stands.
    pub(super) fn story(&self) -> String {
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

pub(super) fn start(timeline: &Timeline, zone: Zone, first_day: FirstDay, start_day: i32, now: Timestamp) -> Run {
    let customer = CustomerId::parse("anna").expect("a customer");
    Run::start(timeline, customer, Origin::Started, zone, first_day, start_day, now)
}

pub(super) fn word(reason: DeferReason) -> &'static str {
    match reason {
        DeferReason::WaitingForAction => "for an action",
        DeferReason::Spacing => "spacing",
        DeferReason::ChannelUnavailable => "channel",
        DeferReason::RateLimited => "rate",
        DeferReason::SendingHeld => "held",
        DeferReason::QuietHours => "quiet",
        DeferReason::WaitingForCompletion => "for a report",
        DeferReason::WaitingForEvent => "for an event",
    }
}
