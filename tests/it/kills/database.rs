//! PostgreSQL itself is stopped under load as a power cut would stop it, and started again. The servers live on: the one whose
//! tick it broke off does the rest of the day, and one of them lives through all of it.

use campaign_automation::failpoint::Failpoint;
use std::time::Duration;
use tokio::task::block_in_place;

use super::cluster::Cluster;
use super::figures::Figures;
use super::rig::{CUSTOMERS, Rig, Way};
use super::ticking::ticking;
use super::{kills, worlds};
use crate::support::{Backend, TestDatabase};

/// Where the database goes away; none: at a random moment.
const PLACES: [Option<Failpoint>; 5] = [
    Some(Failpoint::BeforeClaimCommit),
    Some(Failpoint::AfterClaimCommit),
    Some(Failpoint::AfterSend),
    Some(Failpoint::BeforeRecordCommit),
    None,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_stopped_at_once_loses_nothing() {
    let Some(cluster) = block_in_place(Cluster::start) else {
        return;
    };
    for way in [Way::Mail, Way::Text] {
        let mut rng = fastrand::Rng::with_seed(13);
        let mut figures = Figures::default();
        for (world, days) in worlds(kills().max(PLACES.len())).enumerate() {
            let name = format!("{way:?}_{world}").to_lowercase();
            let database = TestDatabase::create_in(&cluster.url("postgres"), &name).await;
            let mut rig = Rig::start_in(database, Backend::Postgres, way, days).await;
            let witness = rig.serve(None);
            for day in 1..=days {
                rig.wind_to_hour_of(day).await;
                let place = PLACES[(day - 1) % PLACES.len()];
                let armed = place.map(|place| rig.serve(Some(&format!("{}=stop", place.as_str()))));
                let server = armed.as_ref().unwrap_or(&witness);
                let ticking = ticking(server);
                if armed.is_some() {
                    server.until_asleep();
                } else {
                    tokio::time::sleep(Duration::from_millis(rng.u64(0..150))).await;
                }
                block_in_place(|| cluster.stop_immediately());
                // It finds the database gone, or gone and back again.
                let is_back = rng.bool();
                if armed.is_some() && !is_back {
                    server.signal("CONT");
                }
                block_in_place(|| cluster.start_again());
                if armed.is_some() && is_back {
                    server.signal("CONT");
                }
                // The caller is told that it failed, or it was over or could wait. What was under way is over in any case.
                let _ = ticking.await.expect("a task");
                rig.note_kill("database").await;
                rig.recover(server).await;
                assert_eq!(rig.leases().await, 0, "day {day}, {place:?}");
                assert!(
                    way == Way::Text || rig.arrivals() >= day * CUSTOMERS,
                    "day {day}, {place:?}"
                );
            }
            drop(witness);
            figures += rig.finish().await;
        }
        figures.print("database stopped", way, Backend::Postgres);
    }
}
