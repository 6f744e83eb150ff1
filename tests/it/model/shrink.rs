//! Makes what is wrong small: leaves out as much of a world as goes while something stays wrong in it.

use chrono::TimeDelta;
use std::ops::Range;

use super::play::{Wrong, play};
use super::script::World;
use crate::support::Backend;

/// How many smaller worlds are tried at most.
const TRIES: usize = 150;

/// What to leave out.
enum Cut {
    Schedules(Range<usize>),
    Events(usize, Range<usize>),
    Acts(usize, Range<usize>),
    Steps(Range<usize>),
    Orders(Range<usize>),
}

/// A smaller world in which something is wrong too, and what.
pub(super) async fn shrink(backend: Backend, mut world: World, mut wrong: Wrong) -> (World, Wrong) {
    let mut tries = 0;
    let mut size = world.steps.len().max(world.schedules.len());
    while size > 0 {
        let mut next = 0;
        while let Some(cut) = cuts(&world, size).get(next).filter(|_| tries < TRIES) {
            tries += 1;
            let smaller = without(&world, cut);
            if let Some(found) = play(backend, &smaller).await.0.into_iter().next() {
                (world, wrong) = (smaller, found);
            } else {
                next += 1;
            }
        }
        size /= 2;
    }
    (world, wrong)
}

/// All that can be left out in parts of that size.
fn cuts(world: &World, size: usize) -> Vec<Cut> {
    let parts = |from: usize, until: usize| (from..until).step_by(size).map(move |at| at..(at + size).min(until));
    let count = world.schedules.len();
    let mut cuts: Vec<Cut> = parts(0, count)
        .filter(|part| part.len() < count)
        .map(Cut::Schedules)
        .collect();
    cuts.extend(
        parts(0, world.steps.len())
            .filter(|part| part.len() < world.steps.len())
            .map(Cut::Steps),
    );
    cuts.extend(parts(0, world.orders.len()).map(Cut::Orders));
    for (n, schedule) in world.schedules.iter().enumerate() {
        // The first event is the start.
        cuts.extend(parts(1, schedule.events.len()).map(|part| Cut::Events(n, part)));
        cuts.extend(parts(0, schedule.acts.len()).map(|part| Cut::Acts(n, part)));
    }
    cuts
}

fn without(world: &World, cut: &Cut) -> World {
    let mut world = world.clone();
    match cut {
        Cut::Schedules(part) => drop(world.schedules.drain(part.clone())),
        Cut::Events(n, part) => drop(world.schedules[*n].events.drain(part.clone())),
        Cut::Acts(n, part) => drop(world.schedules[*n].acts.drain(part.clone())),
        Cut::Orders(part) => drop(world.orders.drain(part.clone())),
        Cut::Steps(part) => {
            // The time passes all the same, and of what was scheduled meanwhile one thing happens later.
            let gap: TimeDelta = world.steps.drain(part.clone()).map(|step| step.gap).sum();
            if let Some(step) = world.steps.get_mut(part.start) {
                step.gap += gap;
            }
            let moved = |at: usize| {
                if at >= part.end {
                    at - part.len()
                } else {
                    at.min(part.start)
                }
            };
            for (at, _) in &mut world.orders {
                *at = moved(*at);
            }
            world.orders.retain(|(at, _)| *at < world.steps.len());
            for schedule in &mut world.schedules {
                for (at, _) in &mut schedule.events {
                    *at = moved(*at);
                }
                schedule.events.dedup_by_key(|(at, _)| *at);
                schedule.events.retain(|(at, _)| *at < world.steps.len());
            }
        }
    }
    world
}
