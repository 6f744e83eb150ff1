//! Watches of health: how many there may be, and when they end.

use campaign_automation::config::Config;
use std::net::SocketAddr;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_types::StatusExt as _;

use super::{PATIENCE, watched};
use crate::support::{App, Backend};

const SERVICE: &str = "campaign.v1.CampaignTickService";

fn request(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

async fn client(addr: SocketAddr) -> HealthClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).expect("an address");
    HealthClient::new(endpoint.connect().await.expect("a connection"))
}

async fn watch(client: &mut HealthClient<Channel>) -> Result<Streaming<HealthCheckResponse>, Status> {
    client.watch(request(SERVICE)).await.map(tonic::Response::into_inner)
}

/// What a watch tells next; none: it has ended well.
async fn next(watch: &mut Streaming<HealthCheckResponse>) -> Option<ServingStatus> {
    let next = tokio::time::timeout(PATIENCE, watch.message()).await;
    let next = next.expect("a watch that tells something, or ends");
    Some(next.expect("a good end").as_ref()?.status())
}

#[tokio::test]
async fn there_are_so_many_watches_at_a_time_and_checks_go_on() {
    let few = |config: &mut Config| {
        watched(config);
        config.listener.max_watches = 2;
    };
    let app = App::start_with(Backend::Sqlite, few).await;
    let mut main = client(app.server.addr()).await;
    let mut monitor = client(app.server.monitor_addr().expect("a listener")).await;
    let unknown = main.watch(request("nothing")).await.expect_err("no such service");
    assert_eq!(unknown.code(), Code::NotFound);
    let mut first = watch(&mut main).await.expect("a watch");
    let mut second = watch(&mut monitor).await.expect("a watch");
    for there in [&mut first, &mut second] {
        assert_eq!(next(there).await, Some(ServingStatus::Serving));
    }
    for client in [&mut main, &mut monitor] {
        let status = watch(client).await.expect_err("one too many");
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.as_str());
        assert_eq!(
            (status.code(), reason),
            (Code::ResourceExhausted, Some("TOO_MANY_WATCHES"))
        );
        let checked = client.check(request(SERVICE)).await.expect("a status").into_inner();
        assert_eq!(checked.status(), ServingStatus::Serving);
    }
    drop(first);
    let again = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(again) = watch(&mut main).await {
                return again;
            }
            tokio::task::yield_now().await;
        }
    });
    let mut again = again.await.expect("a place that becomes free");
    assert_eq!(next(&mut again).await, Some(ServingStatus::Serving));
    // Who watches is told that the server stops, and then that this is all.
    let stopping = tokio::spawn(app.server.shutdown());
    for expected in [Some(ServingStatus::NotServing), None] {
        assert_eq!(next(&mut again).await, expected);
    }
    assert_eq!(next(&mut second).await, Some(ServingStatus::NotServing));
    stopping.await.expect("a task").expect("stopped");
}

#[tokio::test]
async fn a_watch_gets_no_older_than_its_connection() {
    let aging = |config: &mut Config| {
        watched(config);
        config.listener.connection_age = Duration::from_millis(500);
    };
    let app = App::start_with(Backend::Sqlite, aging).await;
    for addr in [app.server.addr(), app.server.monitor_addr().expect("a listener")] {
        let mut watch = watch(&mut client(addr).await).await.expect("a watch");
        for expected in [Some(ServingStatus::Serving), None] {
            assert_eq!(next(&mut watch).await, expected, "{addr}");
        }
    }
    app.server.shutdown().await.expect("stopped");
}
