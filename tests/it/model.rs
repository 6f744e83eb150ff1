//! Random schedules, played on the real server and its real store, and judged by a small model of the rules.
//!
//! A schedule is a customer with a timeline of its own, and what happens to both: starts, pauses, edits, changes of zone and
//! stage, answers of the mail server, crashes. Some dozens live side by side in a world, which has one clock and one
//! series of ticks: punctual, patchy, with outages of days, overlapping, slow; operators hold what is sent and release it ([`holds`],
//! judged by [`held`]). After every step all runs and all that
//! arrived are looked at through the contract ([`seen`]), and compared with how they were before ([`rules`]); what nothing
//! disturbs is foretold exactly ([`exact`]). In the end the disturbances cease, and every run must come to its end.
//!
//! All is made from seeds ([`script`]). What is found wrong is made small ([`shrink`]) and shown with its seed and number,
//! which go into `model/seeds.txt` to be played for ever after.
//!
//! The long run: `MODEL_SCHEDULES=10000 cargo test --features test-support --test it model -- --nocapture`, and `MODEL_SEED=<n>` to begin elsewhere;
//! `MODEL_SEED=<n> MODEL_ONLY=<number> MODEL_SCHEDULES=1` plays one schedule. `MODEL_SHRINK=0` makes nothing small, and
//! goes on.

mod attempts;
mod chance;
mod exact;
mod held;
mod holds;
mod late;
mod moves;
mod play;
mod player;
mod rules;
mod script;
mod seen;
mod shrink;
mod side;
mod tally;
mod wire;

use play::{Wrong, play};
use script::World;
use shrink::shrink;

use crate::support::{Backend, on_each_database};

on_each_database!(random_schedules_keep_the_rules, known_schedules_keep_the_rules);

async fn random_schedules_keep_the_rules(backend: Backend) {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|value| value.parse::<usize>().expect("a number"))
    };
    // How many live side by side, and how many there are. Both begin with a world that is broken and one that is punctual.
    let (size, few) = match backend {
        Backend::Sqlite => (40, 320),
        Backend::Postgres => (20, 40),
    };
    let schedules = number("MODEL_SCHEDULES").unwrap_or(few);
    let first = number("MODEL_SEED").unwrap_or(3) as u64;
    let shrinks = number("MODEL_SHRINK") != Some(0);
    let mut all_right = true;
    for seed in first..first + schedules.div_ceil(size) as u64 {
        let world = match number("MODEL_ONLY") {
            Some(number) => World::with_only(seed, number),
            None => World::new(seed, size),
        };
        let begun = std::time::Instant::now();
        let (wrong, counts) = play(backend, &world).await;
        eprintln!(
            "{backend:?}, world {seed}: {} schedules in {:?}, {counts:?}",
            world.schedules.len(),
            begun.elapsed()
        );
        for wrong in &wrong {
            eprintln!("schedule {:?}: {}", wrong.number, wrong.what);
            if wrong.number.is_none() {
                eprintln!("{}", wrong.tale.join("\n"));
            }
        }
        all_right &= wrong.is_empty();
        if let Some(first) = wrong.into_iter().next().filter(|_| shrinks) {
            let world = first.number.map_or(world, |number| World::with_only(seed, number));
            tell(backend, world, first).await;
        }
    }
    assert!(all_right, "see above");
}

/// What was wrong once.
async fn known_schedules_keep_the_rules(backend: Backend) {
    let seeds = include_str!("model/seeds.txt")
        .lines()
        .filter(|line| !line.starts_with('#'));
    for line in seeds {
        let mut words = line.split_whitespace();
        let mut next = || {
            words
                .next()
                .and_then(|word| word.parse::<u64>().ok())
                .expect("a seed and a number")
        };
        let mut world = World::with_only(next(), usize::try_from(next()).expect("a number"));
        if words.next() != Some("held") {
            world.orders.clear();
        }
        if let Some(first) = play(backend, &world).await.0.into_iter().next() {
            tell(backend, world, first).await;
        }
    }
}

/// Fails with the smallest world found in which something is wrong.
async fn tell(backend: Backend, world: World, first: Wrong) {
    let Wrong { number, what, tale } = first;
    let alone = Box::pin(play(backend, &world)).await.0.into_iter().next();
    let Some(wrong) = alone else {
        panic!(
            "{backend:?}, seed {}, schedule {number:?}, in company only: {what}\n{}",
            world.seed,
            tale.join("\n")
        );
    };
    let (small, wrong) = Box::pin(shrink(backend, world, wrong)).await;
    panic!(
        "{backend:?}, seed {} schedule {number:?}: {what}\nmade small: {}\n{small:#?}\n{}",
        small.seed,
        wrong.what,
        wrong.tale.join("\n")
    );
}
