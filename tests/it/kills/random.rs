//! Servers that are killed at random moments under load, two at a time.

use chrono::TimeDelta;
use std::time::Duration;

use super::kills;
use super::rig::{Rig, Way, killed, ticking};
use crate::support::{Backend, on_each_database};

on_each_database!(two_servers_survive_each_others_death);

/// Both tick all the time, and one of them is killed somewhere. When is up to the machine: what is judged holds for any moment.
async fn two_servers_survive_each_others_death(backend: Backend) {
    for way in [Way::Mail, Way::Text] {
        let mut rig = Rig::start(backend, way, kills()).await;
        let mut rng = fastrand::Rng::with_seed(11);
        let mut survivor = rig.serve(None);
        for day in 1..=kills() {
            rig.wind_to_hour_of(day);
            let victim = rig.serve(None);
            let (first, second) = (ticking(&survivor), ticking(&victim));
            tokio::time::sleep(Duration::from_millis(rng.u64(0..60))).await;
            victim.signal("KILL");
            killed(victim);
            // The victim's caller hears of it or was answered before; the survivor's is answered.
            let _ = second.await.expect("a task");
            first.await.expect("a task").expect("a tick");
            rig.note_kill("random").await;
            rig.wind(TimeDelta::seconds(76));
            if day % 2 == 0 {
                survivor.signal("KILL");
                killed(survivor);
                rig.note_kill("random").await;
                survivor = rig.serve(None);
            }
        }
        drop(survivor);
        rig.finish_and_judge("random").await;
    }
}
