//! The daily tick: many runs move to their next day.

use anyhow::ensure;
use std::time::{Duration, Instant};

use crate::Plan;
use crate::app::App;
use crate::floor::Floor;
use crate::measure::{Line, per_second};
use crate::place::Place;
use crate::senders::Taker;

/// What the days are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Days {
    /// Nothing to do on any of them.
    WithoutActions,
    /// An action for all on each, far in the future of each round.
    WithActions,
}

pub(crate) async fn measure(plan: &Plan, days: Days) -> anyhow::Result<Line> {
    let work = match days {
        Days::WithoutActions => "daily",
        Days::WithActions => "daily-due",
    };
    let place = Place::new(work).await?;
    let app = App::start(&place, Taker::new(Duration::ZERO).senders(), 1).await?;
    let last = plan.days()? + 1;
    let timeline = match days {
        Days::WithoutActions => app.define(last, last..=last).await?,
        Days::WithActions => app.define(last, 2..=last).await?,
    };
    place.load(timeline, plan.active, "null").await?;
    let mut floor = Floor::of_daily(&place, plan.active, days == Days::WithActions).await?;
    let mut line = Line::new(work);
    for round in 0..plan.rounds {
        if days == Days::WithActions {
            // As if they had been carried out.
            place
                .run(&["update customer_timeline_progress set next_action_at = null"])
                .await?;
        }
        place.vacuum().await?;
        let of_floor = per_second(plan.active, floor.advance(round + 1).await?);
        place.vacuum().await?;
        app.next_day();
        let (before, begun) = (app.statements(), Instant::now());
        let moved = app.advance().await?;
        let took = begun.elapsed();
        ensure!(moved == plan.active as u64, "{moved} runs were moved");
        line.add_whole(of_floor, plan.active, took, app.statements() - before);
    }
    app.stop().await?;
    Ok(line.sorted())
}
