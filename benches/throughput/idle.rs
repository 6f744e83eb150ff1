//! The hourly tick that finds nothing to do among many runs.

use anyhow::ensure;
use std::time::{Duration, Instant};

use crate::Plan;
use crate::app::{App, Definition};
use crate::measure::{Line, NO_FLOOR, per_second};
use crate::place::Place;
use crate::plans::Plans;
use crate::senders::Taker;

/// How many ticks make a round.
const TICKS: usize = 200;

/// With nothing due, and with as many runs again that are overdue on an inactive timeline. With plans also what the statements do.
pub(crate) async fn measure(plan: &Plan, plans: Option<&Plans>) -> anyhow::Result<[Line; 2]> {
    let place = Place::new("idle").await?;
    let app = App::start(&place, Taker::new(Duration::ZERO).senders(), 1).await?;
    let active = app.define(2, 2..=2).await?;
    let inactive = Definition {
        slug: "inactive",
        is_active: false,
        duration_days: 1,
        days: vec![1],
        hour: 12,
        text: String::from("Hello"),
    };
    let inactive = app.apply(inactive).await?;
    place.load(active, plan.active, "'2026-01-06T00:00:00+00:00'").await?;
    let nothing_due = ticks(plan, &app, Line::new("idle")).await?;
    place
        .load_runs(inactive, plan.active, "'2026-01-05T11:00:00+00:00'")
        .await?;
    let overdue = ticks(plan, &app, Line::new("idle-inactive")).await?;
    app.stop().await?;
    if let Some(plans) = plans {
        plans.show(&place).await?;
    }
    Ok([nothing_due, overdue])
}

async fn ticks(plan: &Plan, app: &App, mut line: Line) -> anyhow::Result<Line> {
    // The first sweeps all runs for a new day.
    app.execute().await?;
    let before = app.statements();
    for _ in 0..plan.rounds {
        let round = Instant::now();
        for _ in 0..TICKS {
            let begun = Instant::now();
            ensure!(app.execute().await? == 0, "something was due");
            line.times.push(begun.elapsed());
        }
        line.rounds.push((NO_FLOOR, per_second(TICKS, round.elapsed())));
    }
    line.statements = (app.statements() - before) as f64 / (TICKS * plan.rounds) as f64;
    Ok(line.sorted())
}
