//! How ticks fare while the tables grow: the same number of due customers among more and more.

use anyhow::{Context as _, ensure};
use plotters::prelude::*;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Plan;
use crate::app::{App, Definition};
use crate::floor::Floor;
use crate::hourly::AT_A_TIME;
use crate::measure::{Line, NO_FLOOR, per_second};
use crate::place::{NOON, Place};
use crate::senders::Taker;

/// How many runs there are in all, at each step.
const STEPS: [usize; 5] = [100_000, 316_000, 1_000_000, 3_160_000, 10_000_000];

/// How many are due at a time, about.
const DUE: usize = 50_000;

/// How many ticks that find nothing are timed.
const IDLE_TICKS: usize = 100;

/// The picture: what each curve shows is 1 with the fewest runs.
const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/growth.svg");

/// What ticks came to among so many runs.
struct Step {
    runs: usize,
    /// Mails in a second, by round.
    hourly: Vec<f64>,
    /// The same rows in a second when plain SQL writes them into tables that are as large, by round.
    floor: Vec<f64>,
    /// Runs moved in a second, by round.
    daily: Vec<f64>,
    /// How long ticks took that found nothing, sorted.
    idle: Vec<Duration>,
    statements: f64,
    lateness: Vec<Duration>,
}

/// Lines for each step, beside the first, up to `GROWTH` runs; and the picture.
pub(crate) async fn measure(plan: &Plan) -> anyhow::Result<Vec<Line>> {
    let mut steps = Vec::new();
    for runs in STEPS.into_iter().filter(|runs| *runs <= plan.growth) {
        steps.push(step(plan, runs).await?);
    }
    let first = steps.first().context("GROWTH is less than 100,000")?;
    let (hourly, floor, daily) = (median(&first.hourly), median(&first.floor), median(&first.daily));
    draw(&steps, Path::new(PICTURE))?;
    let lines = steps.into_iter().flat_map(|step| {
        let beside = |rates: &[f64], first| rates.iter().map(|rate| (first, *rate)).collect();
        let mails = Line {
            rounds: beside(&step.hourly, hourly),
            times: step.lateness,
            statements: step.statements,
            ..Line::new(format!("hourly of {}", words(step.runs as f64)))
        };
        let sql = Line {
            rounds: beside(&step.floor, floor),
            times: vec![Duration::from_secs_f64(DUE as f64 / median(&step.floor))],
            ..Line::new(format!("SQL of {}", words(step.runs as f64)))
        };
        let moves = Line {
            rounds: beside(&step.daily, daily),
            times: vec![Duration::from_secs_f64(step.runs as f64 / median(&step.daily))],
            ..Line::new(format!("daily of {}", words(step.runs as f64)))
        };
        let idle = Line {
            rounds: vec![(NO_FLOOR, 1.0 / step.idle[step.idle.len() / 2].as_secs_f64())],
            times: step.idle,
            ..Line::new(format!("idle of {}", words(step.runs as f64)))
        };
        [mails.sorted(), sql, moves, idle]
    });
    Ok(lines.collect())
}

async fn step(plan: &Plan, runs: usize) -> anyhow::Result<Step> {
    let place = Place::new("growth").await?;
    let taker = Taker::new(Duration::ZERO);
    let app = App::start(&place, taker.senders(), AT_A_TIME).await?;
    let days = plan.days()?;
    let timeline = app.define(days, 1..=days).await?;
    let others = Definition {
        slug: "others",
        is_active: true,
        duration_days: days + 1,
        days: vec![days + 1],
        hour: 12,
        text: "Hello {{ customer.name }}".to_owned(),
    };
    let others = app.apply(others).await?;
    place.load_customers(runs).await?;
    // Who is due is spread over the whole table.
    let each = runs / DUE;
    let due = runs / each;
    place
        .load_shares(timeline, others, runs, each, &format!("'{NOON}'"))
        .await?;
    let mut floor = Floor::of_hourly(&place, due).await?;
    floor.execute().await?;
    let sent = app.execute().await?;
    ensure!(sent == due as u64, "{sent} mails were sent");
    let mut step = Step {
        runs,
        hourly: Vec::new(),
        floor: Vec::new(),
        daily: Vec::new(),
        idle: Vec::new(),
        statements: 0.0,
        lateness: Vec::new(),
    };
    for _ in 0..plan.rounds {
        app.next_day();
        place.vacuum().await?;
        step.floor.push(per_second(due, floor.execute().await?));
        place.vacuum().await?;
        let begun = Instant::now();
        let moved = app.advance().await?;
        step.daily.push(per_second(runs, begun.elapsed()));
        ensure!(moved == runs as u64, "{moved} runs were moved");
        place.vacuum().await?;
        taker.lateness(begun);
        let (before, begun) = (app.statements(), Instant::now());
        let sent = app.execute().await?;
        step.hourly.push(per_second(due, begun.elapsed()));
        ensure!(sent == due as u64, "{sent} mails were sent");
        step.lateness.extend(taker.lateness(begun));
        step.statements = (app.statements() - before) as f64 / due as f64;
        place.vacuum().await?;
        for _ in 0..IDLE_TICKS {
            let begun = Instant::now();
            ensure!(app.execute().await? == 0, "something was due");
            step.idle.push(begun.elapsed());
        }
    }
    step.idle.sort_unstable();
    app.stop().await?;
    Ok(step)
}

/// What a curve shows, its color, and its rate among so many runs.
type Curve = (&'static str, RGBColor, fn(&Step) -> f64);

fn draw(steps: &[Step], path: &Path) -> anyhow::Result<()> {
    let curves: [Curve; 4] = [
        ("mails of an hourly tick in a second", BLUE, |step| median(&step.hourly)),
        ("their rows in a second, written by plain SQL", CYAN, |step| {
            median(&step.floor)
        }),
        ("runs that a daily tick moves in a second", RED, |step| {
            median(&step.daily)
        }),
        ("hourly ticks that find nothing in a second", GREEN, |step| {
            1.0 / step.idle[step.idle.len() / 2].as_secs_f64()
        }),
    ];
    let last = steps.last().map_or(0, |step| step.runs) as f64;
    let points = |rate: fn(&Step) -> f64| {
        let point = |step: &Step| (step.runs as f64, rate(step) / rate(&steps[0]));
        steps.iter().map(point).collect::<Vec<(f64, f64)>>()
    };
    let all = curves.iter().flat_map(|(_, _, rate)| points(*rate));
    let top = all.map(|(_, rate)| rate).fold(1.0, f64::max) + 0.1;
    let area = SVGBackend::new(path, (760, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Rates while the tables grow; 1: with 100,000 runs", ("sans-serif", 18))
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d((STEPS[0] as f64..last).log_scale(), 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc("runs")
        .x_label_formatter(&|runs| words(*runs))
        .y_label_formatter(&|rate| format!("{rate:.1}"))
        .draw()?;
    for (name, color, rate) in &curves {
        chart
            .draw_series(LineSeries::new(points(*rate), color).point_size(3))?
            .label(*name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], *color));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE)
        .border_style(BLACK)
        .position(SeriesLabelPosition::LowerLeft)
        .draw()?;
    area.present()?;
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A large number, short.
fn words(number: f64) -> String {
    if number < 1e6 {
        format!("{} k", number / 1e3)
    } else {
        format!("{} M", number / 1e6)
    }
}
