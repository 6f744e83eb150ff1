//! What is told of the server's health. It is decided and told under one lock, so that the word that the server stops is the last:
//! whoever found out something before that, and comes to tell it later, tells nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::domain::Channel;
use crate::telemetry::Metrics;

/// A service that is healthy as long as the process answers.
const LIVENESS: &str = "liveness";

/// What is served, for the health service.
const SERVICES: [&str; 6] = [
    "campaign.v1.CampaignContentService",
    "campaign.v1.CampaignOrchestratorService",
    "campaign.v1.CampaignTickService",
    "campaign.v1.CampaignTimelineService",
    "campaign.v1.CustomerService",
    "campaign.v1.SendingService",
];

/// Why a server is not ready that stops.
const STOPPING: &str = "stopping";

/// What is told.
#[derive(Debug, Clone)]
pub(super) struct Told {
    reporter: HealthReporter,
    metrics: Metrics,
    /// Why the server is not ready, in one word; none: it is.
    why_not: Arc<Mutex<Option<&'static str>>>,
    /// Of who tells something.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Told {
    /// It lives, and is not ready yet.
    pub(super) async fn begin(reporter: HealthReporter, metrics: Metrics) -> Self {
        reporter.set_service_status(LIVENESS, ServingStatus::Serving).await;
        Self {
            reporter,
            metrics,
            why_not: Arc::new(Mutex::new(Some("starting"))),
            turn: Arc::default(),
        }
    }

    /// Why the server is not ready, in one word; none: it is.
    pub(super) fn why_not(&self) -> Option<&'static str> {
        *self.known()
    }

    /// Tells whether the server is ready, if that is news. Whether it was.
    pub(super) async fn tell(&self, why_not: Option<&'static str>) -> bool {
        let _turn = self.turn.lock().await;
        {
            let mut known = self.known();
            if *known == Some(STOPPING) || *known == why_not {
                return false;
            }
            *known = why_not;
        }
        self.metrics.is_ready(why_not.is_none());
        let status = status(why_not.is_none());
        for service in SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
        true
    }

    /// Tells whoever asks for the health of a channel whether its circuit is closed.
    pub(super) async fn tell_of(&self, channel: Channel, is_closed: bool) {
        let _turn = self.turn.lock().await;
        if self.why_not() != Some(STOPPING) {
            let name = format!("channel.{}", channel.as_str());
            self.reporter.set_service_status(name, status(is_closed)).await;
        }
    }

    /// Tells that the server stops. It lives until it is gone.
    pub(super) async fn stop(&self) {
        // For probes at once, also while somebody else tells something.
        *self.known() = Some(STOPPING);
        let _turn = self.turn.lock().await;
        self.metrics.is_ready(false);
        for service in SERVICES.into_iter().chain([""]) {
            self.reporter
                .set_service_status(service, ServingStatus::NotServing)
                .await;
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<&'static str>> {
        self.why_not.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn status(is_well: bool) -> ServingStatus {
    if is_well {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tonic::Request;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus as Served;
    use tonic_health::pb::health_server::Health as _;
    use tonic_health::server::HealthService;

    /// What is found out in the very moment in which the server stops.
    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn that_it_stops_is_the_last_word() {
        for round in 0..500 {
            let reporter = HealthReporter::new();
            let told = Told::begin(reporter.clone(), Metrics::unread()).await;
            let news = Arc::new(AtomicU32::new(0));
            let telling = [None, Some("database")].map(|why_not| {
                let (told, news) = (told.clone(), Arc::clone(&news));
                tokio::spawn(async move {
                    while told.why_not() != Some(STOPPING) {
                        news.fetch_add(u32::from(told.tell(why_not).await), Ordering::Relaxed);
                        told.tell_of(Channel::Email, why_not.is_none()).await;
                    }
                    told.tell(None).await;
                })
            });
            // In the midst of it.
            while news.load(Ordering::Relaxed) < 10 {
                tokio::task::yield_now().await;
            }
            told.stop().await;
            for telling in telling {
                telling.await.expect("a task");
            }
            let service = HealthService::from_health_reporter(reporter);
            for name in SERVICES.into_iter().chain([""]) {
                let service_name = name.to_owned();
                let request = Request::new(HealthCheckRequest { service: service_name });
                let found = service.check(request).await.expect("a status").into_inner().status();
                assert_eq!(found, Served::NotServing, "{name:?}, round {round}");
            }
            assert_eq!(told.why_not(), Some(STOPPING));
        }
    }
}
