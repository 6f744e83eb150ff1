//! `CampaignContentService`.

use prost::Message as _;
use std::sync::Arc;
use tonic::{Request, Response, Status};

use super::convert::campaign::{campaign, parse_content};
use super::convert::preview::{parse_preview, preview};
use super::error::status;
use super::page::Scope;
use super::request::{key, respond};
use super::violations::Violations;
use crate::auth::Caller;
use crate::domain::CampaignId;
use crate::engine::{AppliedCampaign, Engine, Once};
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::campaign_content_service_server::CampaignContentService;

/// Keeps the content that actions send.
#[derive(Debug, Clone)]
pub struct ContentService {
    engine: Arc<Engine>,
}

impl ContentService {
    /// The service over an engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl CampaignContentService for ContentService {
    async fn apply_campaign(
        &self,
        request: Request<pb::ApplyCampaignRequest>,
    ) -> Result<Response<pb::ApplyCampaignResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        let content = parse_content(&mut violations, request.campaign);
        let content = violations.finish(content)?;
        let convert = |applied: &AppliedCampaign| pb::ApplyCampaignResponse {
            campaign: Some(campaign(&applied.campaign)),
            created: applied.created,
        };
        let encode = |applied: &AppliedCampaign| convert(applied).encode_to_vec();
        let once = Once { key, encode: &encode };
        respond(
            self.engine
                .apply_campaign(content, &request.etag, request.validate_only, once)
                .await,
            convert,
        )
    }

    async fn get_campaign(
        &self,
        request: Request<pb::GetCampaignRequest>,
    ) -> Result<Response<pb::GetCampaignResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::default();
        let id = violations.check("campaign_id", CampaignId::parse(&request.campaign_id));
        let found = self.engine.campaign(&violations.finish(id)?).await.map_err(status)?;
        Ok(Response::new(pb::GetCampaignResponse {
            campaign: Some(campaign(&found)),
        }))
    }

    async fn list_campaigns(
        &self,
        request: Request<pb::ListCampaignsRequest>,
    ) -> Result<Response<pb::ListCampaignsResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let scope = Scope::new(&caller, "ListCampaigns", &[]);
        let page = scope.parse(&mut violations, request.page_size, &request.page_token);
        let page = violations.finish(page)?;
        let campaigns = self.engine.campaigns(&page).await.map_err(status)?;
        let (campaigns, next_page_token) = scope.page(page.size, &campaigns, campaign, |campaign| {
            campaign.id.as_str().to_owned()
        });
        Ok(Response::new(pb::ListCampaignsResponse {
            campaigns,
            next_page_token,
        }))
    }

    async fn preview_campaign(
        &self,
        request: Request<pb::PreviewCampaignRequest>,
    ) -> Result<Response<pb::PreviewCampaignResponse>, Status> {
        let mut violations = Violations::default();
        let now = self.engine.clock().now();
        let command = parse_preview(&mut violations, request.into_inner(), now);
        let command = violations.finish(command)?;
        let found = self.engine.preview_campaign(command).await.map_err(status)?;
        Ok(Response::new(preview(found)))
    }
}
