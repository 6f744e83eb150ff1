//! gRPC's health service. Its watches are bounded: anybody may open them, and they would go on for ever.
//!
//! One ends with OK as soon as its connection is asked to end, be it for its age or because the server stops, after what there was to
//! tell; clients watch again by themselves. Checks are not bounded here, as they are answered at once.

use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, HealthService};

use super::listener::Ending;
use crate::rpc::too_many_watches;

/// The service.
#[derive(Debug)]
pub(super) struct BoundedHealth {
    told: HealthService,
    most: usize,
    /// For watches, on all listeners.
    places: Arc<Semaphore>,
}

/// The service that tells what a reporter says, to so many watches at a time.
pub(super) fn service(reporter: HealthReporter, most: usize) -> HealthServer<BoundedHealth> {
    HealthServer::new(BoundedHealth {
        told: HealthService::from_health_reporter(reporter),
        most,
        places: Arc::new(Semaphore::new(most)),
    })
}

#[tonic::async_trait]
impl Health for BoundedHealth {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        self.told.check(request).await
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| too_many_watches(self.most))?;
        let ending = request.extensions().get::<Ending>().cloned().unwrap_or_default();
        let told = self.told.watch(request).await?.into_inner();
        let watched = stream::unfold((told, ending, place), |(mut told, ending, place)| async {
            let next = tokio::select! {
                biased;
                next = told.next() => next?,
                () = ending.0.cancelled() => return None,
            };
            Some((next, (told, ending, place)))
        });
        Ok(Response::new(watched.boxed()))
    }
}
