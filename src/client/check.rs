//! `campaignctl check`: whether a server answers as it should, for whoever has just installed or changed one. It reads, and changes
//! nothing.

use anyhow::Context as _;
use prost_reflect::DescriptorPool;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::ctl::{failed, say};
use super::token::Connection;
use crate::proto::FILE_DESCRIPTOR_SET;
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::campaign_orchestrator_service_client::CampaignOrchestratorServiceClient;

/// The package of the contract.
const PACKAGE: &str = "campaign.v1";

/// Whom nobody has stored: the answer comes from the database, and says so.
const NOBODY: &str = "campaignctl-check:nobody";

/// Asks for the health of every service of the contract, and for the progress of somebody who is not there.
pub(super) async fn check(channel: Connection) -> anyhow::Result<()> {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET)?;
    let mut health = HealthClient::new(channel.clone());
    for service in pool.services().filter(|service| service.package_name() == PACKAGE) {
        let name = service.full_name();
        let request = HealthCheckRequest {
            service: name.to_owned(),
        };
        let answer = health.check(request).await.map_err(|status| failed(name, &status))?;
        let status = answer.into_inner().status();
        anyhow::ensure!(
            status == ServingStatus::Serving,
            "{name} is {}: the server's log says why",
            status.as_str_name()
        );
        say(&format!("{name}: {}", status.as_str_name()));
    }
    let request = pb::GetProgressRequest {
        customer_id: NOBODY.to_owned(),
        progress_id: 0,
    };
    let answer = CampaignOrchestratorServiceClient::new(channel)
        .get_progress(request)
        .await;
    let status = answer
        .err()
        .with_context(|| format!("there is a customer {NOBODY:?}, which no CRM would call so: erase it"))?;
    if status.code() != Code::NotFound {
        return Err(failed("GetProgress of nobody", &status));
    }
    say("GetProgress of nobody: NOT_FOUND, as it should be");
    Ok(())
}
