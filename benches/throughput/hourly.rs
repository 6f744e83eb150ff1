//! The hourly tick: one mail for each of many customers.

use anyhow::ensure;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Plan;
use crate::app::{App, Definition};
use crate::floor::Floor;
use crate::measure::{Line, NO_FLOOR, per_second};
use crate::place::{NOON, Place};
use crate::senders::Taker;

/// How many mails are under way with a provider that answers at once.
pub(crate) const AT_A_TIME: usize = 64;

/// How the provider is.
pub(crate) struct Provider {
    work: &'static str,
    takes: Duration,
    at_a_time: usize,
}

/// One that answers at once.
pub(crate) const AT_ONCE: Provider = Provider {
    work: "hourly",
    takes: Duration::ZERO,
    at_a_time: AT_A_TIME,
};

/// One that takes a while, of which two hundred mails are under way. No floor in SQL: nothing can be faster than 20,000 a second.
pub(crate) const IN_10_MS: Provider = Provider {
    work: "hourly-10ms",
    takes: Duration::from_millis(10),
    at_a_time: 200,
};

/// What one day's mails came to.
pub(crate) struct Day {
    /// Mails in a second.
    pub(crate) rate: f64,
    /// How long after the tick began each was taken over.
    pub(crate) lateness: Vec<Duration>,
    /// Statements for each mail.
    pub(crate) statements: f64,
}

/// A server whose customers have mails each day.
pub(crate) trait Days {
    /// Makes it the next day.
    async fn next_day(&self) -> anyhow::Result<()>;

    /// The mails of a day.
    async fn day(&self) -> anyhow::Result<Day>;

    async fn stop(self) -> anyhow::Result<()>;
}

/// A server beside another: days of both take turns, after one of each that is not counted.
pub(crate) async fn beside(plan: &Plan, work: &str, server: impl Days, other: impl Days) -> anyhow::Result<Line> {
    other.day().await?;
    server.day().await?;
    let mut line = Line::new(work);
    for _ in 0..plan.rounds {
        other.next_day().await?;
        let floor = other.day().await?.rate;
        server.next_day().await?;
        line.add(floor, server.day().await?);
    }
    other.stop().await?;
    server.stop().await?;
    Ok(line.sorted())
}

/// A server whose customers have one mail each day, at noon.
pub(crate) struct Daily {
    place: Place,
    app: App,
    taker: Arc<Taker>,
    due: usize,
}

impl Daily {
    /// With so many customers whose first mail is due.
    pub(crate) async fn start(plan: &Plan, name: &str, provider: &Provider, due: usize) -> anyhow::Result<Self> {
        let place = Place::new(name).await?;
        let taker = Taker::new(provider.takes);
        let app = App::start(&place, taker.senders(), provider.at_a_time).await?;
        let days = plan.days()?;
        let timeline = app.define(days, 1..=days).await?;
        place.load(timeline, due, &format!("'{NOON}'")).await?;
        Ok(Self { place, app, taker, due })
    }
}

impl Days for Daily {
    async fn next_day(&self) -> anyhow::Result<()> {
        self.app.next_day();
        self.app.advance().await?;
        self.place.vacuum().await
    }

    async fn day(&self) -> anyhow::Result<Day> {
        self.taker.lateness(Instant::now());
        let (before, begun) = (self.app.statements(), Instant::now());
        let sent = self.app.execute().await?;
        let took = begun.elapsed();
        ensure!(sent == self.due as u64, "{sent} mails were sent");
        Ok(Day {
            rate: per_second(self.due, took),
            lateness: self.taker.lateness(begun),
            statements: (self.app.statements() - before) as f64 / self.due as f64,
        })
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.app.stop().await
    }
}

impl Line {
    /// Adds a day beside its floor.
    pub(crate) fn add(&mut self, floor: f64, day: Day) {
        self.rounds.push((floor, day.rate));
        self.times.extend(day.lateness);
        self.statements = day.statements;
    }
}

pub(crate) async fn measure(plan: &Plan, provider: Provider) -> anyhow::Result<Line> {
    let daily = Daily::start(plan, provider.work, &provider, plan.due).await?;
    let mut floor = Floor::of_hourly(&daily.place, plan.due).await?;
    // Statements are prepared, templates read, and rows grown to their usual size.
    floor.execute().await?;
    daily.day().await?;
    let mut line = Line::new(provider.work);
    for _ in 0..plan.rounds {
        daily.next_day().await?;
        let of_floor = match provider.takes {
            Duration::ZERO => per_second(plan.due, floor.execute().await?),
            takes => provider.at_a_time as f64 / takes.as_secs_f64(),
        };
        daily.place.vacuum().await?;
        line.add(of_floor, daily.day().await?);
    }
    daily.stop().await?;
    Ok(line.sorted())
}

/// How long all wait when very many are due at the same instant, and the tick comes in that instant.
pub(crate) async fn lateness(plan: &Plan) -> anyhow::Result<Line> {
    let daily = Daily::start(plan, "lateness", &AT_ONCE, plan.active).await?;
    let mut line = Line::new("lateness");
    for round in 0..plan.rounds {
        if round > 0 {
            daily.next_day().await?;
        }
        line.add(NO_FLOOR, daily.day().await?);
    }
    daily.stop().await?;
    Ok(line.sorted())
}

/// How long a hundred customers of a small timeline wait that are due behind very many of a large one.
pub(crate) async fn fairness(plan: &Plan) -> anyhow::Result<Line> {
    const FEW: usize = 100;
    let place = Place::new("fairness").await?;
    let taker = Taker::of_timeline("small");
    let app = App::start(&place, taker.senders(), AT_A_TIME).await?;
    let days = plan.days()?;
    let large = app.define(days, 1..=days).await?;
    let small = Definition {
        slug: "small",
        is_active: true,
        duration_days: days,
        days: (1..=days).collect(),
        hour: 12,
        text: "Hello {{ customer.name }}".to_owned(),
    };
    let small = app.apply(small).await?;
    let noon = format!("'{NOON}'");
    place.load(large, plan.active, &noon).await?;
    place.load_runs(small, FEW, &noon).await?;
    let mut line = Line::new("fairness");
    for round in 0..plan.rounds {
        if round > 0 {
            app.next_day();
            app.advance().await?;
            place.vacuum().await?;
        }
        let (before, begun) = (app.statements(), Instant::now());
        let sent = app.execute().await?;
        ensure!(sent == (plan.active + FEW) as u64, "{sent} mails were sent");
        let lateness = taker.lateness(begun);
        ensure!(lateness.len() == FEW, "{} of them to the few", lateness.len());
        let last = lateness.iter().max().copied().unwrap_or_default();
        line.add(
            NO_FLOOR,
            Day {
                rate: per_second(FEW, last),
                lateness,
                statements: (app.statements() - before) as f64 / sent as f64,
            },
        );
    }
    app.stop().await?;
    Ok(line.sorted())
}
