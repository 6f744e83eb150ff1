//! Ticks of servers that may be killed meanwhile.

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::campaign_tick_service_client::CampaignTickServiceClient;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;
use tokio::task::{JoinHandle, block_in_place};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::support::app::hourly;
use crate::support::process::Served;

/// The hourly tick.
pub(super) async fn tick(server: &Served) -> Result<pb::TickSummary, Status> {
    ticking(server).await.expect("a task")
}

/// The hourly tick, in a task of its own.
pub(super) fn ticking(server: &Served) -> JoinHandle<Result<pb::TickSummary, Status>> {
    ticking_after(server, Duration::ZERO)
}

/// The same, begun a little later.
pub(super) fn ticking_after(server: &Served, delay: Duration) -> JoinHandle<Result<pb::TickSummary, Status>> {
    let addr = server.addr;
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        let mut client = CampaignTickServiceClient::new(connect_to(addr).await?);
        hourly(&mut client, pb::ProcessCampaignTimelinesRequest::default()).await
    })
}

/// Waits for a server's end, which must be that of a killed one.
pub(super) fn killed(server: Served) {
    let status = block_in_place(|| server.ended());
    assert_eq!(status.signal(), Some(9), "{status:?}");
}

pub(super) async fn connect(server: &Served) -> Channel {
    connect_to(server.addr).await.expect("a connection")
}

async fn connect_to(addr: SocketAddr) -> Result<Channel, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).expect("an address");
    endpoint
        .connect()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))
}
