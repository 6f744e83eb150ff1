//! One customer with a timeline of its own: what is done to it, and what must be seen right after.

use campaign_automation::domain::Timestamp;
use campaign_automation::proto::campaign::v1 as pb;
use chrono::{NaiveDate, TimeDelta};
use pb::ProgressStatus;
use sea_orm::{ConnectionTrait as _, Database, Statement};
use std::collections::{BTreeMap, BTreeSet};

use super::holds::Holds;
use super::rules::{History, Who, ensure};
use super::script::{Act, Answer, Edit, Event, First, Schedule};
use super::seen::{Delivery, Known, Seen, What};
use super::side::{Side, instant, local_date, plus};
use super::wire::{behaviour, defined, duration, first_day, update};
use crate::support::App;
use crate::support::given::customer;
use crate::support::smtp::SmtpServer;

/// The stage of nobody's timeline.
const ELSEWHERE: &str = "elsewhere";

#[derive(Debug)]
pub(super) struct Player {
    pub schedule: Schedule,
    pub customer: String,
    pub timeline_id: i64,
    pub side: Side,
    /// The newest run and its id.
    pub run: Option<(i64, History)>,
    pub is_assigned: bool,
    /// A run that is to be seen next.
    expected_run: Option<(First, i32)>,
    /// Where the run was when it was frozen during a slow tick.
    pub frozen_at: Option<(ProgressStatus, i32, NaiveDate)>,
    /// A server is to die as soon as it has something to send.
    pub wants_crash: bool,
    /// What happened, for people.
    pub tale: Vec<String>,
    /// What was wrong. Nothing more is judged then.
    pub wrong: Option<String>,
}

/// What must be seen after an event.
pub(super) enum Expected {
    /// The run as it was, or as it was changed.
    Run(Seen),
    /// What a tick might have done.
    Served,
}

impl Player {
    /// Stores the customer and the timeline.
    pub(super) async fn enter(app: &App, schedule: &Schedule, mail_may_stop: bool) -> Self {
        let name = format!("c{:05}", schedule.number);
        let side = Side {
            days: schedule.days,
            catches_up: schedule.catches_up,
            lateness: TimeDelta::hours(schedule.lateness_hours),
            acts: schedule.acts.iter().map(|act| (act.key, (0, act.clone()))).collect(),
            removed: BTreeMap::new(),
            is_active: true,
            in_stage: false,
            score: schedule.score,
            opened: Vec::new(),
            has_addresses: true,
            answer: Answer::Accept,
            mail_may_stop,
            holds: Holds::default(),
        };
        app.put_customer(pb::Customer {
            engagement_score: schedule.score,
            pipeline_stage: ELSEWHERE.to_owned(),
            ..customer(&name, schedule.zone)
        })
        .await;
        let mut player = Self {
            schedule: schedule.clone(),
            customer: name,
            timeline_id: 0,
            side,
            run: None,
            is_assigned: false,
            expected_run: None,
            frozen_at: None,
            wants_crash: false,
            tale: Vec::new(),
            wrong: None,
        };
        player.apply(app, "").await;
        player
    }

    fn live(&self) -> Option<&History> {
        self.run
            .as_ref()
            .map(|(_, history)| history)
            .filter(|history| history.seen.is_live())
    }

    async fn apply(&mut self, app: &App, etag: &str) {
        let definition = pb::TimelineDefinition {
            slug: self.customer.clone(),
            name: self.customer.clone(),
            pipeline_stage: self.customer.clone(),
            duration_days: self.side.days,
            is_active: true,
            is_default: true,
            when_missed: if self.side.catches_up {
                pb::WhenMissed::CatchUp
            } else {
                pb::WhenMissed::Shift
            }
            .into(),
            max_lateness: Some(duration(self.side.lateness.num_hours())),
            actions: self
                .side
                .acts
                .values()
                .map(|(_, act)| defined(act, &self.customer))
                .collect(),
        };
        let applied = app
            .apply(definition, etag)
            .await
            .expect("applied")
            .timeline
            .expect("a timeline");
        self.timeline_id = applied.timeline_id;
        for action in applied.definition.expect("a definition").actions {
            let key: usize = action.key[1..].parse().expect("a key");
            self.side.acts.get_mut(&key).expect("an action that was applied").0 = action.action_id;
        }
    }

    /// Carries out an event, and says what must be seen then. None: there is no run.
    pub(super) async fn happen(
        &mut self,
        app: &App,
        smtp: &SmtpServer,
        event: &Event,
        now: Timestamp,
    ) -> Result<Option<Expected>, String> {
        let name = self.customer.clone();
        let id = self.run.as_ref().map_or(0, |(id, _)| *id);
        let status = self.run.as_ref().map(|(_, history)| history.seen.status);
        let mut seen = self.run.as_ref().map(|(_, history)| history.seen.clone());
        let today = seen.as_ref().map(|seen| local_date(now, seen.zone));
        let mut thaws = false;
        match event {
            Event::Start { first, start_day } => {
                let request = pb::StartTimelineRequest {
                    customer_id: name,
                    timeline_id: self.timeline_id,
                    first_day: first_day(*first).into(),
                    start_day: (*start_day).min(self.side.days),
                    allow_restart: true,
                    ..Default::default()
                };
                let start_day = request.start_day;
                let started = app.try_start(request).await;
                let may = self.live().is_none() && self.side.is_active;
                ensure!(started.is_ok() == may, "started: {started:?}");
                if may {
                    (self.is_assigned, self.expected_run) = (false, Some((*first, start_day)));
                }
            }
            Event::Stage(own) => {
                let stage = if *own { name.clone() } else { ELSEWHERE.to_owned() };
                app.change_stage(&name, &stage)
                    .await
                    .map_err(|error| format!("{error}"))?;
                if let Some(seen) = seen
                    .as_mut()
                    .filter(|seen| !own && self.side.in_stage && self.is_assigned && seen.is_live())
                {
                    seen.status = ProgressStatus::Stopped;
                }
                if *own && !self.side.in_stage && self.live().is_none() && self.side.is_active {
                    (self.is_assigned, self.expected_run) = (true, Some((First::SendPassed, 1)));
                }
                self.side.in_stage = *own;
            }
            Event::Pause if status.is_some() => {
                let may = status == Some(ProgressStatus::Active);
                ensure!(app.pause(&name, id, "").await.is_ok() == may, "paused: {may}");
                if let Some(seen) = seen.as_mut().filter(|_| may) {
                    seen.status = ProgressStatus::Paused;
                }
            }
            Event::Resume { next_day } if status.is_some() => {
                let may = status == Some(ProgressStatus::Paused);
                let request = pb::ResumeTimelineRequest {
                    customer_id: name,
                    progress_id: id,
                    start_next_day: *next_day,
                    ..Default::default()
                };
                ensure!(
                    app.orchestrator().resume_timeline(request).await.is_ok() == may,
                    "resumed: {may}"
                );
                if let Some((seen, today)) = seen.as_mut().zip(today).filter(|_| may) {
                    (seen.status, seen.date) = (ProgressStatus::Active, plus(today, (*next_day).into()));
                    thaws = true;
                }
            }
            Event::Stop if status.is_some() => {
                let may = self.live().is_some();
                ensure!(app.stop(&name, id, "").await.is_ok() == may, "stopped: {may}");
                if let Some(seen) = seen.as_mut().filter(|_| may) {
                    seen.status = ProgressStatus::Stopped;
                }
            }
            Event::Execute => {
                app.execute(&name).await;
                return Ok(self.run.as_ref().map(|_| Expected::Served));
            }
            Event::Active(on) => {
                let timeline = pb::Timeline {
                    timeline_id: self.timeline_id,
                    ..Default::default()
                };
                app.set_active(&timeline, *on).await;
                if let Some((seen, today)) = seen
                    .as_mut()
                    .zip(today)
                    .filter(|(seen, _)| *on && !self.side.is_active && seen.is_live())
                {
                    thaws = true;
                    if seen.is_active() {
                        seen.date = seen.date.max(today);
                    }
                }
                self.side.is_active = *on;
            }
            Event::Zone(zone) => {
                update(
                    app,
                    pb::Customer {
                        time_zone: (*zone).to_owned(),
                        ..customer(&name, zone)
                    },
                    &["time_zone"],
                )
                .await;
                let tz = zone.parse().expect("a zone");
                if let Some(seen) = seen.as_mut().filter(|seen| seen.is_live() && seen.zone != tz) {
                    (seen.zone, seen.date) = (tz, local_date(now, tz));
                    thaws = true;
                }
            }
            Event::Edit(edit) => {
                let before: BTreeSet<usize> = self.side.acts.keys().copied().collect();
                if self.edit(edit) {
                    let etag = app.get_timeline(&name).await.expect("a timeline").etag;
                    self.apply(app, &etag).await;
                }
                let begins = |history: &History| history.seen.date <= local_date(now, history.seen.zone);
                if let (Edit::Remove(_), Some((_, history))) = (edit, &mut self.run)
                    && history.seen.is_active()
                    && self.side.is_active
                    && begins(history)
                {
                    let of_today =
                        |act: &&Act| history.seen.stands_on(act.day) && !history.seen.known.contains_key(&act.key);
                    let removed = before
                        .difference(&self.side.acts.keys().copied().collect())
                        .next()
                        .copied();
                    let removed = removed.and_then(|key| self.side.removed.get(&key)).filter(of_today);
                    history.removed = removed.map(|act| (now, act.key));
                }
            }
            Event::Score(score) => {
                update(
                    app,
                    pb::Customer {
                        engagement_score: *score,
                        ..customer(&name, "")
                    },
                    &["engagement_score"],
                )
                .await;
                self.side.score = *score;
            }
            Event::Opened(hours) => {
                let at = now - TimeDelta::hours(*hours);
                let opened = pb::Engagement {
                    customer_id: name,
                    event_id: format!("{}", self.side.opened.len()),
                    kind: pb::EngagementKind::EmailOpened.into(),
                    occur_time: Some(prost_types::Timestamp {
                        seconds: at.timestamp(),
                        nanos: 0,
                    }),
                    ..Default::default()
                };
                app.record(vec![opened]).await;
                self.side.opened.push(at);
            }
            Event::Addresses(there) => {
                let with = customer(&name, "");
                let with = if *there {
                    with
                } else {
                    pb::Customer {
                        email: String::new(),
                        phone: String::new(),
                        ..with
                    }
                };
                update(app, with, &["email", "phone"]).await;
                self.side.has_addresses = *there;
            }
            Event::Mail(answer) => {
                smtp.behave_to(&format!("{name}@example.com"), &behaviour(*answer));
                self.side.answer = *answer;
            }
            Event::Crash => self.crash(app, seen.as_mut(), now).await,
            Event::Pause | Event::Resume { .. } | Event::Stop => {}
        }
        if let Some((_, history)) = &mut self.run {
            history.is_touched = true;
            history.is_edited |= matches!(event, Event::Edit(_));
            if thaws {
                history.thaw(now);
            }
        }
        Ok(seen.map(Expected::Run))
    }

    /// Takes over a definition as it is edited. False: nothing changes.
    fn edit(&mut self, edit: &Edit) -> bool {
        let side = &mut self.side;
        let nth = |n: usize| side.acts.keys().nth(n % side.acts.len().max(1)).copied();
        match edit {
            Edit::Hour(n, hour) => match nth(*n).and_then(|key| side.acts.get_mut(&key)) {
                Some((_, act)) => act.hour = *hour,
                None => return false,
            },
            Edit::Day(n, day) => match nth(*n).and_then(|key| side.acts.get_mut(&key)) {
                Some((_, act)) => act.day = (*day).min(side.days),
                None => return false,
            },
            Edit::Remove(n) => match nth(*n).and_then(|key| side.acts.remove(&key)) {
                Some((_, act)) => _ = side.removed.insert(act.key, act),
                None => return false,
            },
            Edit::Add(act) => {
                let act = Act {
                    day: act.day.min(side.days),
                    ..act.clone()
                };
                _ = side.acts.insert(act.key, (0, act));
            }
            Edit::Restore => match side.removed.pop_last() {
                Some((key, act)) => {
                    let day = act.day.min(side.days);
                    side.acts.insert(key, (0, Act { day, ..act }));
                }
                None => return false,
            },
            Edit::Duration(days) => {
                let last = side.acts.values().map(|(_, act)| act.day).max();
                side.days = (*days).max(last.unwrap_or(1));
            }
        }
        true
    }

    /// Leaves the run as a server does that claimed the first due action and died: the lease is over, and nobody knows.
    async fn crash(&mut self, app: &App, seen: Option<&mut Seen>, now: Timestamp) {
        self.wants_crash = true;
        let (Some((id, history)), Some(seen)) = (&mut self.run, seen) else {
            return;
        };
        let is_free = !seen.known.values().any(|known| known.what == What::InFlight);
        let due = |act: &Act| instant(seen.date, act.hour, seen.zone).max(history.not_before);
        let is_due = |act: &&(i64, Act)| {
            seen.stands_on(act.1.day)
                && act.1.kind.sends()
                && !seen.known.contains_key(&act.1.key)
                && due(&act.1) <= now
        };
        let first = self
            .side
            .acts
            .values()
            .filter(is_due)
            .min_by_key(|(id, act)| (act.hour, act.priority, *id));
        let Some((action, act)) = first.filter(|_| is_free && seen.is_active() && self.side.is_active) else {
            return;
        };
        let claimed = serde_json::json!([{"id": action, "attempt": 1, "due": due(act), "since": due(act)}]);
        let database = Database::connect(&app.database.url).await.expect("a connection");
        let sql = "update customer_timeline_progress set in_flight_actions = $1, lease_token = 1, lease_expires_at = $2, \
                   next_action_at = $2 where customer_id = $3 and id = $4";
        let values = [
            claimed.into(),
            (now - TimeDelta::seconds(1)).into(),
            self.customer.as_str().into(),
            (*id).into(),
        ];
        let statement = Statement::from_sql_and_values(database.get_database_backend(), sql, values);
        database.execute_raw(statement).await.expect("a crash");
        database.close().await.expect("closed");
        self.wants_crash = false;
        history.first_due.insert(act.key, due(act));
        seen.known.insert(
            act.key,
            Known {
                what: What::InFlight,
                attempts: 1,
            },
        );
    }

    /// Judges what is seen after an event, or what a new run looks like.
    pub(super) fn see(
        &mut self,
        id: i64,
        new: Seen,
        expected: Option<Expected>,
        sent: &[Delivery],
        now: Timestamp,
    ) -> Result<(), String> {
        if self.run.as_ref().is_none_or(|(known, _)| *known != id) {
            ensure!(self.live().is_none(), "another run while one is live");
            let Some((first, start_day)) = self.expected_run.take() else {
                return Err(format!("an unexpected run: {new:?}"));
            };
            ensure!(sent.is_empty(), "sent at the start: {sent:?}");
            self.check_first(&new, first, start_day, now)?;
            self.run = Some((id, History::new(new, now)));
            return Ok(());
        }
        ensure!(self.expected_run.is_none(), "no new run");
        let Some((_, history)) = &mut self.run else {
            return Ok(());
        };
        match expected {
            Some(Expected::Served) => drop(history.serve(&self.side, new, sent, now, Who::Call)?),
            Some(Expected::Run(mut expected)) => {
                // Whether a paused run has the date of the reactivation already, or only when it is resumed, makes no difference.
                if new.status == ProgressStatus::Paused && new.date == local_date(now, new.zone) {
                    expected.date = new.date;
                }
                ensure!(new.is_as(&expected), "should be {expected:?}, and is {new:?}");
                ensure!(sent.is_empty(), "sent by an event: {sent:?}");
                history.seen = new;
            }
            None => {
                ensure!(new.is_as(&history.seen), "changed by nothing, to {new:?}");
                ensure!(sent.is_empty(), "sent by nothing: {sent:?}");
                history.seen = new;
            }
        }
        Ok(())
    }

    /// Takes over what is seen of a run that was started during a slow tick, which may have served it already.
    pub(super) fn see_late(&mut self, id: i64, new: Seen, sent: &[Delivery], now: Timestamp) -> Result<(), String> {
        ensure!(self.expected_run.take().is_some(), "an unexpected run: {new:?}");
        let begun = Seen {
            known: BTreeMap::new(),
            ..new.clone()
        };
        let mut history = History::new(begun, now);
        history.slow(&self.side, new, sent, (now, now), None)?;
        self.run = Some((id, history));
        Ok(())
    }

    fn check_first(&self, new: &Seen, first: First, start_day: i32, now: Timestamp) -> Result<(), String> {
        let today = local_date(now, new.zone);
        let date = plus(today, (first == First::NextDay).into());
        ensure!(
            (new.day, new.date, new.shifted) == (start_day, date, 0) && new.jumped.is_empty(),
            "begins as {new:?}"
        );
        let passed =
            |act: &Act| first == First::SkipPassed && act.day == start_day && instant(today, act.hour, new.zone) < now;
        let skipped = self
            .side
            .acts
            .iter()
            .filter(|(_, (_, act))| passed(act))
            .map(|(key, _)| *key);
        let what = What::Skipped(pb::SkipReason::HourPassedAtStart);
        let skipped: BTreeMap<usize, Known> = skipped.map(|key| (key, Known { what, attempts: 0 })).collect();
        ensure!(new.known == skipped, "skipped at the start: {:?}", new.known);
        Ok(())
    }
}
