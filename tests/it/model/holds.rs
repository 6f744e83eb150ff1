//! Sending holds: when they are set and released in a world, and which are on an action.

use campaign_automation::domain::Timestamp;
use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::set_sending_hold_request::End;
use chrono::TimeDelta;
use fastrand::Rng;

use super::player::Player;
use super::rules::ensure;
use super::script::{Act, Kind, Schedule, World};
use super::seen::key_name;
use super::tally::channel_of;
use crate::support::App;
use crate::support::holds::scope;

/// What is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    /// What goes by the channel of such actions.
    Channel(Kind),
    /// The timeline of a customer.
    Timeline(usize),
    Campaign(usize),
}

/// What an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Holds until it is released, or for a time.
    Hold(Scope, Option<TimeDelta>),
    Release(Scope),
}

impl Order {
    pub(super) fn scope(self) -> Scope {
        match self {
            Self::Hold(scope, _) | Self::Release(scope) => scope,
        }
    }
}

impl Scope {
    /// Whether it may be on what a customer gets.
    pub(super) fn concerns(self, number: usize) -> bool {
        match self {
            Self::All | Self::Channel(_) | Self::Campaign(_) => true,
            Self::Timeline(of) => of == number,
        }
    }

    fn covers(self, act: &Act) -> bool {
        match self {
            Self::All | Self::Timeline(_) => true,
            Self::Channel(kind) => kind == act.kind,
            Self::Campaign(key) => key == act.key,
        }
    }
}

/// A hold that was set.
#[derive(Debug, Clone, Copy)]
struct Held {
    scope: Scope,
    from: Timestamp,
    until: Option<Timestamp>,
}

impl Held {
    fn is_on(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// The holds that were ever set and concern a customer.
#[derive(Debug, Clone, Default)]
pub(super) struct Holds(Vec<Held>);

impl Holds {
    /// Notes what an operator did. False: there was nothing to release.
    pub(super) fn order(&mut self, order: Order, now: Timestamp) -> bool {
        let in_force = self
            .0
            .iter_mut()
            .find(|held| held.scope == order.scope() && held.is_on(now));
        match (order, in_force) {
            (Order::Hold(_, lasts), Some(held)) => held.until = lasts.map(|lasts| now + lasts),
            (Order::Hold(scope, lasts), None) => self.0.push(Held {
                scope,
                from: now,
                until: lasts.map(|lasts| now + lasts),
            }),
            (Order::Release(_), Some(held)) => held.until = Some(now),
            (Order::Release(_), None) => return false,
        }
        true
    }

    /// What is in force.
    pub(super) fn in_force(&self, now: Timestamp) -> Vec<Scope> {
        self.0
            .iter()
            .filter(|held| held.is_on(now))
            .map(|held| held.scope)
            .collect()
    }

    fn on(&self, act: &Act) -> impl Iterator<Item = &Held> {
        self.0.iter().filter(|held| act.kind.sends() && held.scope.covers(act))
    }

    /// Until when an action is held: until a release (the inner none), or until the last of the ends.
    pub(super) fn held_until(&self, act: &Act, now: Timestamp) -> Option<Option<Timestamp>> {
        let ends = self.on(act).filter(|held| held.is_on(now)).map(|held| held.until);
        ends.reduce(|one, other| Some(one?.max(other?)))
    }

    /// When the last of the holds that were on an action ended, if none is on it now.
    pub(super) fn released_at(&self, act: &Act, now: Timestamp) -> Option<Timestamp> {
        let ends: Option<Vec<Timestamp>> = self.on(act).map(|held| held.until.filter(|end| *end <= now)).collect();
        ends?.into_iter().max()
    }

    /// Whether an action was held all the time from before one instant to after another.
    pub(super) fn held_throughout(&self, act: &Act, begun: Timestamp, now: Timestamp) -> bool {
        self.on(act).any(|held| held.from < begun && held.is_on(now))
    }
}

/// What operators do to a customer's timeline, as one of a world with that seed.
pub(super) fn of_timeline(seed: u64, schedule: &Schedule, steps: usize) -> Vec<(usize, Order)> {
    let seed = seed.wrapping_mul(1_000_003).wrapping_add(schedule.number as u64);
    let rng = &mut Rng::with_seed(seed ^ 0x4045);
    let mut orders = Vec::new();
    if !schedule.is_calm && rng.u32(0..4) == 0 {
        for _ in 0..rng.usize(1..3) {
            hold(rng, Scope::Timeline(schedule.number), steps, &mut orders);
        }
    }
    orders
}

/// What operators do to all customers.
pub(super) fn of_all(seed: u64, steps: usize) -> Vec<(usize, Order)> {
    let rng = &mut Rng::with_seed(seed ^ 0x4046);
    let mut orders = Vec::new();
    for _ in 0..rng.usize(1..7) {
        let kinds = [Kind::Email, Kind::Email, Kind::Sms, Kind::Call, Kind::Task];
        let scope = match rng.u32(0..6) {
            0 => Scope::All,
            1..=3 => Scope::Channel(kinds[rng.usize(0..kinds.len())]),
            _ => Scope::Campaign(rng.usize(0..10)),
        };
        hold(rng, scope, steps, &mut orders);
    }
    orders
}

/// A hold at some step, and as a rule its release at a later one.
fn hold(rng: &mut Rng, scope: Scope, steps: usize, orders: &mut Vec<(usize, Order)>) {
    let minutes = [1, 10, 60, 60 * 5, 60 * 26, 60 * 60];
    let lasts = rng
        .bool()
        .then(|| TimeDelta::minutes(minutes[rng.usize(0..minutes.len())]));
    let begin = rng.usize(0..steps - 1);
    orders.push((begin, Order::Hold(scope, lasts)));
    if lasts.is_none() || rng.u32(0..4) == 0 {
        let end = rng.usize(begin + 1..(begin + 25).min(steps));
        orders.push((end, Order::Release(scope)));
    }
}

impl World {
    /// Whether a hold may be on what a customer gets.
    pub(super) fn holds_concern(&self, number: usize) -> bool {
        self.orders.iter().any(|(_, order)| order.scope().concerns(number))
    }
}

/// Carries out what an operator does, for all whom it concerns.
pub(super) async fn carry_out(app: &App, players: &mut [Player], order: Order, now: Timestamp) -> Result<(), String> {
    let scope = match order.scope() {
        Scope::All => scope::all(),
        Scope::Channel(kind) => scope::channel(channel_of(kind)),
        Scope::Timeline(number) => {
            let player = players.iter().find(|player| player.schedule.number == number);
            // In a world that was made smaller he may be left out.
            let Some(player) = player else { return Ok(()) };
            scope::timeline(&pb::Timeline {
                timeline_id: player.timeline_id,
                ..Default::default()
            })
        }
        Scope::Campaign(key) => scope::campaign(&key_name(key)),
    };
    let mut is_there = false;
    for player in players
        .iter_mut()
        .filter(|player| order.scope().concerns(player.schedule.number))
    {
        is_there = player.side.holds.order(order, now);
        player.tale.push(format!("{now:?} {order:?}"));
    }
    match order {
        Order::Hold(_, lasts) => {
            let seconds = lasts.map(|lasts| lasts.num_seconds());
            let end = seconds.map(|seconds| End::HoldFor(prost_types::Duration { seconds, nanos: 0 }));
            app.hold_until(scope, "a model's", end).await;
        }
        Order::Release(_) => {
            let released = app.release(scope).await;
            ensure!(
                released.is_ok() == is_there,
                "{now:?} {order:?}: {released:?}, and there was one: {is_there}"
            );
        }
    }
    Ok(())
}
