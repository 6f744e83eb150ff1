//! The hourly tick: one mail for each of many customers.

use anyhow::ensure;
use std::time::{Duration, Instant};

use crate::Plan;
use crate::app::App;
use crate::floor::Floor;
use crate::measure::Line;
use crate::place::{NOON, Place};
use crate::senders::Taker;

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
    at_a_time: 64,
};

/// One that takes a while, of which two hundred mails are under way. No floor in SQL: nothing can be faster than 20,000 a second.
pub(crate) const IN_10_MS: Provider = Provider {
    work: "hourly-10ms",
    takes: Duration::from_millis(10),
    at_a_time: 200,
};

pub(crate) async fn measure(plan: &Plan, provider: Provider) -> anyhow::Result<Line> {
    let Provider { work, takes, at_a_time } = provider;
    let place = Place::new(work).await?;
    let taker = Taker::new(takes);
    let app = App::start(&place, taker.senders(), at_a_time).await?;
    let days = plan.days()?;
    let timeline = app.define(days, 1..=days).await?;
    place.load(timeline, plan.due, &format!("'{NOON}'")).await?;
    let mut floor = Floor::of_hourly(&place, plan.due).await?;
    // Statements are prepared, templates read, and rows grown to their usual size.
    floor.execute().await?;
    app.execute().await?;
    let mut line = Line {
        work,
        rounds: Vec::new(),
        times: Vec::new(),
        statements: 0.0,
    };
    for _ in 0..plan.rounds {
        app.next_day();
        app.advance().await?;
        taker.lateness(Instant::now());
        place.vacuum().await?;
        let of_floor = match takes {
            Duration::ZERO => per_second(plan.due, floor.execute().await?),
            takes => at_a_time as f64 / takes.as_secs_f64(),
        };
        place.vacuum().await?;
        let (before, begun) = (app.statements(), Instant::now());
        let sent = app.execute().await?;
        let took = begun.elapsed();
        ensure!(sent == plan.due as u64, "{sent} mails were sent");
        line.statements = (app.statements() - before) as f64 / plan.due as f64;
        line.times.extend(taker.lateness(begun));
        line.rounds.push((of_floor, per_second(plan.due, took)));
    }
    line.times.sort_unstable();
    app.stop().await?;
    Ok(line)
}

pub(crate) fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
