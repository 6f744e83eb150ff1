//! Plays a world on a real server, and judges every step of every customer.

use campaign_automation::domain::Timestamp;
use campaign_automation::proto::campaign::v1 as pb;
use chrono::TimeDelta;
use std::collections::{BTreeMap, HashSet};

use super::exact;
use super::holds::{Order, carry_out};
use super::player::{Expected, Player};
use super::rules::{Who, ensure};
use super::script::{Answer, Event, KEYS, Tick, World};
use super::seen::{Delivery, Seen, key_name};
use super::tally::Tally;
use crate::support::app::{daily, hourly};
use crate::support::mailing::mailing_app_with;
use crate::support::smtp::{Behaviour, SmtpServer, Step as SmtpStep};
use crate::support::{App, Backend};

/// How many hourly ticks a run may take to come to its end, when nothing disturbs it any more.
const ENDURANCE: usize = 24 * 9;

/// What was wrong in a world.
#[derive(Debug, Clone)]
pub(super) struct Wrong {
    /// Whose schedule; none: of all together.
    pub number: Option<usize>,
    pub what: String,
    /// What had happened, for people.
    pub tale: Vec<String>,
}

struct Play {
    app: App,
    smtp: SmtpServer,
    players: Vec<Player>,
    files: HashSet<String>,
    mails: usize,
    /// When ticks were that send, and when others were.
    ticks: Vec<(Timestamp, bool)>,
    wrong: Option<Wrong>,
}

/// What a phase of a step was, for the judges.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Events,
    Tick { who: Who },
    Slow { begun: Timestamp },
}

/// Plays a world to its end. Gives what was wrong, and how often each thing became of an action.
pub(super) async fn play(backend: Backend, world: &World) -> (Vec<Wrong>, BTreeMap<String, usize>) {
    let smtp = SmtpServer::start().await;
    // The rules are about one run. What a run of failures of many does to each is told in `circuits`.
    let app = mailing_app_with(backend, &smtp.url(), |config| config.limits.channel_failures = 0).await;
    app.clock.set(world.start);
    for key in 0..KEYS {
        let campaign = pb::CampaignDefinition {
            campaign_id: key_name(key),
            kind: pb::CampaignKind::Transactional.into(),
            subject: key_name(key),
            text_body: "{{ customer.name }}, it is day {{ day }}.".to_owned(),
            sms_text: key_name(key),
            call_script: key_name(key),
            ..Default::default()
        };
        let request = pb::ApplyCampaignRequest {
            campaign: Some(campaign),
            ..Default::default()
        };
        app.content().apply_campaign(request).await.expect("a campaign");
    }
    let stops = |event: &(usize, Event)| event.1 == Event::Mail(Answer::Misconfigured);
    let mail_may_stop = world.schedules.iter().any(|schedule| schedule.events.iter().any(stops));
    let mut players = Vec::new();
    for schedule in &world.schedules {
        players.push(Player::enter(&app, schedule, mail_may_stop).await);
    }
    let mut play = Play {
        app,
        smtp,
        players,
        files: HashSet::new(),
        mails: 0,
        ticks: Vec::new(),
        wrong: None,
    };
    for (n, step) in world.steps.iter().enumerate() {
        play.app.clock.advance(step.gap);
        let orders = world.orders.iter().filter(|(at, _)| *at == n).map(|(_, order)| *order);
        let orders: Vec<Order> = orders.collect();
        if let Tick::Slow(length) = step.tick {
            play.slow_tick(n, length, &orders).await;
        } else {
            play.carry_out(&orders).await;
            if play.players.iter().any(|player| player.event_at(n).is_some()) {
                play.events(|player| player.event_at(n), Phase::Events).await;
            }
            play.tick(step.tick).await;
        }
        if step.tick != Tick::Nobody {
            play.cross_check(n).await;
        }
    }
    play.finish().await;
    let Play {
        app,
        players,
        ticks,
        mut wrong,
        ..
    } = play;
    app.server.shutdown().await.expect("stopped");
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (_, _, what) in players
        .iter()
        .flat_map(|player| &player.run)
        .flat_map(|(_, history)| &history.log)
    {
        *counts.entry(what.name()).or_default() += 1;
    }
    let found = players.into_iter().map(|mut player| {
        if player.wrong.is_none() && player.schedule.is_calm && !world.holds_concern(player.schedule.number) {
            player.wrong = exact::check(&player, &ticks).err();
        }
        let Player {
            schedule, wrong, tale, ..
        } = player;
        wrong.map(|what| Wrong {
            number: Some(schedule.number),
            what,
            tale,
        })
    });
    let mut found: Vec<Wrong> = found.flatten().collect();
    found.extend(wrong.take());
    (found, counts)
}

impl Play {
    fn now(&self) -> Timestamp {
        use campaign_automation::clock::Clock as _;
        self.app.clock.now()
    }

    /// Does what operators do.
    async fn carry_out(&mut self, orders: &[Order]) {
        let now = self.now();
        for order in orders {
            if let Err(what) = carry_out(&self.app, &mut self.players, *order, now).await {
                self.wrong.get_or_insert(Wrong {
                    number: None,
                    what,
                    tale: Vec::new(),
                });
            }
        }
    }

    /// Carries out an event of each player, and judges what is seen then.
    async fn events(&mut self, event_of: impl Fn(&Player) -> Option<Event>, phase: Phase) {
        let now = self.now();
        let mut expected = BTreeMap::new();
        for (n, player) in self
            .players
            .iter_mut()
            .enumerate()
            .filter(|(_, player)| player.wrong.is_none())
        {
            let Some(event) = event_of(player) else { continue };
            player.tale.push(format!("{now:?} {event:?}"));
            match player.happen(&self.app, &self.smtp, &event, now).await {
                Ok(seen) => {
                    player.frozen_at = None;
                    let freezes = matches!(event, Event::Pause | Event::Stop | Event::Active(false));
                    if let Some((id, _)) = player.run.as_ref().filter(|_| freezes) {
                        let run = self.app.get(&player.customer, *id).await.expect("a run");
                        player.frozen_at = Seen::read(&run).ok().map(|seen| (seen.status, seen.day, seen.date));
                    }
                    drop(seen.map(|seen| expected.insert(n, seen)));
                }
                // The tick may have ended the run a moment ago.
                Err(_) if matches!(phase, Phase::Slow { .. }) => {}
                Err(why) => player.wrong = Some(format!("{now:?} {event:?}: {why}")),
            }
        }
        if let Phase::Events = phase {
            self.observe(phase, expected).await;
        }
    }

    async fn tick(&mut self, tick: Tick) {
        let (app, now) = (&self.app, self.now());
        let (mut first, mut second) = (app.ticks(), app.ticks());
        let (by_hour, by_day) = (
            pb::ProcessCampaignTimelinesRequest::default(),
            pb::AdvanceCampaignDaysRequest::default(),
        );
        let summaries = match tick {
            Tick::Nobody => return,
            Tick::Hourly | Tick::Slow(_) => vec![hourly(&mut first, by_hour).await],
            Tick::Daily => vec![daily(&mut first, by_day).await],
            Tick::Both => {
                let both = tokio::join!(daily(&mut first, by_day), hourly(&mut second, by_hour));
                vec![both.0, both.1]
            }
            Tick::Twice => {
                let both = tokio::join!(hourly(&mut first, by_hour.clone()), hourly(&mut second, by_hour));
                vec![both.0, both.1]
            }
        };
        let who = if tick == Tick::Daily { Who::Daily } else { Who::Hourly };
        let tally = self.observe(Phase::Tick { who }, BTreeMap::new()).await;
        self.ticks.push((now, who.sends()));
        let judged = self.players.iter().all(|player| player.wrong.is_none());
        let counted = summaries
            .into_iter()
            .map(|summary| summary.expect("a summary").counts.expect("counts"));
        if let Err(what) = check_counts(&tally, &counted.collect::<Vec<_>>())
            && judged
            && self.wrong.is_none()
        {
            let begins = format!("{now:?} ");
            let lines = self.players.iter().flat_map(|player| {
                let lines = player.tale.iter().filter(|line| line.starts_with(&begins));
                lines.map(|line| format!("{}: {line}", player.schedule.number))
            });
            self.wrong = Some(Wrong {
                number: None,
                what: format!("{now:?}: {what}"),
                tale: lines.collect(),
            });
        }
    }

    /// A tick whose mails are answered only after a while. What is scheduled happens meanwhile.
    async fn slow_tick(&mut self, step: usize, length: TimeDelta, orders: &[Order]) {
        let begun = self.now();
        self.smtp.behave(Behaviour::Stall(SmtpStep::Dot));
        let mut client = self.app.ticks();
        let tick =
            tokio::spawn(async move { hourly(&mut client, pb::ProcessCampaignTimelinesRequest::default()).await });
        tokio::pin!(tick);
        let ended = tokio::select! {
            ended = &mut tick => Some(ended),
            () = self.smtp.until_stalled(1) => None,
        };
        if ended.is_none() {
            self.app.clock.advance(length);
        }
        self.carry_out(orders).await;
        self.events(
            |player| player.event_at(step).filter(Event::goes_with_a_tick),
            Phase::Slow { begun },
        )
        .await;
        self.smtp.behave(Behaviour::Accept);
        self.smtp.release();
        let ended = match ended {
            Some(ended) => ended,
            None => tick.await,
        };
        ended.expect("a tick").expect("a summary");
        self.observe(Phase::Slow { begun }, BTreeMap::new()).await;
    }

    /// Looks at all runs and at what arrived, and judges it.
    async fn observe(&mut self, phase: Phase, mut expected: BTreeMap<usize, Expected>) -> Tally {
        let now = self.now();
        let mut sent = self.arrived();
        let request = pb::ListProgressRequest {
            page_size: 1000,
            ..Default::default()
        };
        let listed = self.app.list_progress(request).await.expect("runs").progress;
        let mut newest: BTreeMap<String, pb::Progress> = BTreeMap::new();
        for run in listed {
            newest.insert(run.customer_id.clone(), run);
        }
        let mut tally = Tally::default();
        for (n, player) in self
            .players
            .iter_mut()
            .enumerate()
            .filter(|(_, player)| player.wrong.is_none())
        {
            let sent = sent.remove(&player.customer).unwrap_or_default();
            let Some(run) = newest.get(&player.customer) else {
                continue;
            };
            let judged = Seen::read(run).and_then(|seen| {
                player.tell(now, phase, &seen, &sent);
                player.judge(run.progress_id, seen, phase, expected.remove(&n), &sent, now)
            });
            match judged {
                Ok(of_run) => tally.add(&of_run),
                Err(why) => player.wrong = Some(format!("{now:?}, {phase:?}: {why}")),
            }
        }
        tally
    }

    /// What arrived since this was asked last, by customer.
    fn arrived(&mut self) -> BTreeMap<String, Vec<Delivery>> {
        let mails = self.smtp.deliveries_after(self.mails);
        self.mails += mails.len();
        let mut arrived: Vec<Delivery> = mails.iter().map(Delivery::mail).collect();
        let files = self.app.sent_besides(&mut self.files);
        arrived.extend(files.iter().map(|file| Delivery::file(&file.text)));
        let mut by_customer: BTreeMap<String, Vec<Delivery>> = BTreeMap::new();
        for delivery in arrived {
            by_customer.entry(delivery.customer.clone()).or_default().push(delivery);
        }
        by_customer
    }

    /// A run by itself is shown as in the list.
    async fn cross_check(&mut self, step: usize) {
        let count = self.players.len();
        let player = &mut self.players[step % count];
        if let Some((id, history)) = player.run.as_ref().filter(|_| player.wrong.is_none()) {
            let alone = self.app.get(&player.customer, *id).await.expect("a run");
            if Seen::read(&alone).as_ref() != Ok(&history.seen) {
                player.wrong = Some(format!(
                    "GetProgress says {alone:?}, ListProgress says {:?}",
                    history.seen
                ));
            }
        }
    }

    /// Takes away what disturbs, and ticks every hour until all runs have ended.
    async fn finish(&mut self) {
        let mend = [
            Event::Mail(Answer::Accept),
            Event::Addresses(true),
            Event::Active(true),
            Event::Resume { next_day: false },
        ];
        let now = self.now();
        let in_force = self.players.iter().flat_map(|player| player.side.holds.in_force(now));
        let mut releases: Vec<Order> = Vec::new();
        for scope in in_force {
            if !releases.contains(&Order::Release(scope)) {
                releases.push(Order::Release(scope));
            }
        }
        self.carry_out(&releases).await;
        for event in mend {
            self.events(|player| player.run.is_some().then(|| event.clone()), Phase::Events)
                .await;
        }
        for _ in 0..ENDURANCE {
            if !self.players.iter().any(Player::is_live) {
                return;
            }
            self.app.clock.advance(TimeDelta::hours(1));
            self.tick(Tick::Hourly).await;
        }
        for player in self.players.iter_mut().filter(|player| player.is_live()) {
            player.wrong = Some("it does not come to its end".to_owned());
        }
    }
}

impl Player {
    fn event_at(&self, step: usize) -> Option<Event> {
        let found = self.schedule.events.iter().find(|(at, _)| *at == step);
        let late = self.wants_crash.then_some(Event::Crash);
        found.map(|(_, event)| event.clone()).or(late)
    }

    fn is_live(&self) -> bool {
        self.wrong.is_none() && self.run.as_ref().is_some_and(|(_, history)| history.seen.is_live())
    }

    fn tell(&mut self, now: Timestamp, phase: Phase, seen: &Seen, sent: &[Delivery]) {
        let known = self.run.as_ref().is_some_and(|(_, history)| history.seen == *seen);
        if !known || !sent.is_empty() {
            let keys: Vec<_> = sent.iter().map(|sent| sent.key).collect();
            self.tale.push(format!("{now:?} {phase:?} sent {keys:?}, {seen:?}"));
        }
    }

    fn judge(
        &mut self,
        id: i64,
        seen: Seen,
        phase: Phase,
        expected: Option<Expected>,
        sent: &[Delivery],
        now: Timestamp,
    ) -> Result<Tally, String> {
        match (phase, &mut self.run) {
            (Phase::Tick { who }, Some((known, history))) if *known == id => {
                history.serve(&self.side, seen, sent, now, who)
            }
            (Phase::Slow { begun }, Some((known, history))) if *known == id => {
                history.slow(&self.side, seen, sent, (begun, now), self.frozen_at.take())?;
                Ok(Tally::default())
            }
            (Phase::Slow { .. }, _) => {
                self.see_late(id, seen, sent, now)?;
                Ok(Tally::default())
            }
            (Phase::Events | Phase::Tick { .. }, _) => {
                self.see(id, seen, expected, sent, now)?;
                Ok(Tally::default())
            }
        }
    }
}

/// Compares what ticks counted with what happened.
fn check_counts(tally: &Tally, counts: &[pb::TickCounts]) -> Result<(), String> {
    let mut channels: BTreeMap<i32, [i64; 7]> = BTreeMap::new();
    for one in counts.iter().flat_map(|counts| &counts.channels) {
        let sum = channels.entry(one.channel).or_default();
        let more = [
            one.completed,
            one.skipped,
            one.failed,
            one.retrying,
            one.unknown,
            one.expired,
            one.deferred,
        ];
        for (sum, more) in sum.iter_mut().zip(more) {
            *sum += more;
        }
    }
    let sum = |field: fn(&pb::TickCounts) -> i64| counts.iter().map(field).sum::<i64>();
    ensure!(
        tally.is_counted_as(&channels),
        "counted {channels:?}, and there were {:?}, and perhaps {:?} more deferred",
        tally.channels,
        tally.perhaps_deferred
    );
    let held = sum(|counts| counts.held);
    ensure!(held == tally.held, "counted {held} held, and there were {}", tally.held);
    let moved = (sum(|counts| counts.completed_runs), sum(|counts| counts.shifted_days));
    ensure!(
        moved == (tally.completed_runs, tally.shifted_days),
        "counted {moved:?} completed and shifted, and there were {tally:?}"
    );
    let advanced = sum(|counts| counts.advanced_runs);
    ensure!(
        (tally.advanced_runs..=tally.advanced_days).contains(&advanced),
        "counted {advanced} advanced, and there were {tally:?}"
    );
    ensure!(sum(|counts| counts.stale_completions) == 0, "stale completions");
    Ok(())
}
