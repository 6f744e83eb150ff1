//! Servers that are killed at random moments under load, two at a time.

use std::time::Instant;

use super::figures::Figures;
use super::rig::{Rig, Way};
use super::ticking::{killed, tick, ticking, ticking_after};
use super::{kills_or, worlds};
use crate::support::{Backend, on_each_database};

on_each_database!(two_servers_survive_each_others_death);

/// How many times as often as in a window servers are killed at random, in the long run.
const TIMES: usize = 5;

/// Both tick at the same time, and one of them is killed somewhere, or one after the other. When is up to the machine: what is
/// judged holds for any moment.
async fn two_servers_survive_each_others_death(backend: Backend) {
    for way in [Way::Mail, Way::Text] {
        let mut rng = fastrand::Rng::with_seed(11);
        let mut figures = Figures::default();
        for days in worlds(random_kills()) {
            let mut rig = Rig::start(backend, way, days + 1).await;
            let mut survivor = rig.serve(None);
            // On the first day nobody is killed: so long does a tick take here.
            rig.wind_to_hour_of(1).await;
            let begun = Instant::now();
            tick(&survivor).await.expect("a tick");
            let span = begun.elapsed();
            for day in 2..=days + 1 {
                rig.wind_to_hour_of(day).await;
                let victim = rig.serve(None);
                let mut moment = || span.mul_f64(rng.f64());
                let (first, second) = (ticking_after(&survivor, moment()), ticking(&victim));
                tokio::time::sleep(moment()).await;
                victim.signal("KILL");
                killed(victim);
                // The victim's caller hears of it or was answered before; the survivor's is answered.
                let _ = second.await.expect("a task");
                if day % 3 == 0 {
                    tokio::time::sleep(moment()).await;
                    survivor.signal("KILL");
                    killed(survivor);
                    let _ = first.await.expect("a task");
                    rig.note_death("random").await;
                    survivor = rig.serve(None);
                } else {
                    first.await.expect("a task").expect("a tick");
                }
                rig.note_kill("random").await;
                rig.recover(&survivor).await;
            }
            drop(survivor);
            figures += rig.finish().await;
        }
        figures.print("random", way, backend);
    }
}

fn random_kills() -> usize {
    // In CI no more than of the others.
    kills_or(0).saturating_mul(TIMES).max(3)
}
