//! `CampaignTimelineService`.

use prost::Message as _;
use std::sync::Arc;
use tonic::{Request, Response, Status};

use super::convert::simulation::{parse_defined, parse_simulation, simulated};
use super::convert::timeline::{applied, parse_apply, timeline};
use super::error::status;
use super::page::Scope;
use super::request::{key, respond};
use super::violations::Violations;
use crate::auth::Caller;
use crate::domain::{Slug, Stage, Timeline, TimelineId, text};
use crate::engine::{AppliedTimeline, ArchivedTimeline, DefaultChange, Engine, Once, SimulatedTimeline};
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::campaign_timeline_service_server::CampaignTimelineService;
use crate::proto::campaign::v1::simulate_timeline_request::Which;
use crate::store::TimelineFilter;

/// Defines timelines, and switches them.
#[derive(Debug, Clone)]
pub struct TimelinesService {
    engine: Arc<Engine>,
}

impl TimelinesService {
    /// The service over an engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl CampaignTimelineService for TimelinesService {
    async fn apply_timeline(
        &self,
        request: Request<pb::ApplyTimelineRequest>,
    ) -> Result<Response<pb::ApplyTimelineResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        let command = parse_apply(&mut violations, request);
        let command = violations.finish(command)?;
        let encode = |result: &AppliedTimeline| applied(result).encode_to_vec();
        respond(
            self.engine.apply_timeline(command, Once { key, encode: &encode }).await,
            applied,
        )
    }

    async fn get_timeline(
        &self,
        request: Request<pb::GetTimelineRequest>,
    ) -> Result<Response<pb::GetTimelineResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::default();
        let found = match (request.timeline_id, request.slug.as_str()) {
            (0, "") => {
                violations.add("timeline_id", "must be set, or slug in its place");
                return Err(violations.into_status());
            }
            (0, slug) => {
                let slug = violations.check("slug", Slug::parse(slug));
                self.engine.timeline_by_slug(&violations.finish(slug)?).await
            }
            (id, "") => {
                let id = violations.id("timeline_id", id);
                self.engine.timeline(TimelineId(violations.finish(id)?)).await
            }
            (_, _) => {
                violations.add("slug", "must be empty when timeline_id is set");
                return Err(violations.into_status());
            }
        };
        let found = found.map_err(status)?;
        Ok(Response::new(pb::GetTimelineResponse {
            timeline: Some(timeline(&found)),
        }))
    }

    async fn list_timelines(
        &self,
        request: Request<pb::ListTimelinesRequest>,
    ) -> Result<Response<pb::ListTimelinesResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let pipeline_stage = violations.optional("pipeline_stage", &request.pipeline_stage, Stage::parse);
        let scope = Scope::new(
            &caller,
            "ListTimelines",
            &[&request.pipeline_stage, &request.active_only, &request.show_archived],
        );
        let page = scope.parse(&mut violations, request.page_size, &request.page_token);
        let page = violations.finish(page)?;
        let filter = TimelineFilter {
            pipeline_stage,
            active_only: request.active_only,
            show_archived: request.show_archived,
        };
        let timelines = self.engine.timelines(&filter, &page).await.map_err(status)?;
        let (timelines, next_page_token) = scope.page(page.size, &timelines, timeline, |timeline| {
            timeline.definition.slug.as_str().to_owned()
        });
        Ok(Response::new(pb::ListTimelinesResponse {
            timelines,
            next_page_token,
        }))
    }

    async fn set_timeline_active(
        &self,
        request: Request<pb::SetTimelineActiveRequest>,
    ) -> Result<Response<pb::SetTimelineActiveResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        let id = violations.id("timeline_id", request.timeline_id);
        let reason = violations.check("reason", text::line(&request.reason, 500));
        let (id, reason) = violations.finish(id.zip(reason))?;
        let convert = |switched: &Timeline| pb::SetTimelineActiveResponse {
            timeline: Some(timeline(switched)),
        };
        let encode = |switched: &Timeline| convert(switched).encode_to_vec();
        let once = Once { key, encode: &encode };
        respond(
            self.engine
                .set_timeline_active(TimelineId(id), request.is_active, &reason, once)
                .await,
            convert,
        )
    }

    async fn set_default_timeline(
        &self,
        request: Request<pb::SetDefaultTimelineRequest>,
    ) -> Result<Response<pb::SetDefaultTimelineResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        let stage = violations.check("pipeline_stage", Stage::parse(&request.pipeline_stage));
        let id = match request.timeline_id {
            0 => Some(None),
            given => violations.id("timeline_id", given).map(|id| Some(TimelineId(id))),
        };
        let (stage, id) = violations.finish(stage.zip(id))?;
        let convert = |change: &DefaultChange| pb::SetDefaultTimelineResponse {
            timeline: change.timeline.as_ref().map(timeline),
            previous_timeline_id: change.previous.map_or(0, |id| id.0),
        };
        let encode = |change: &DefaultChange| convert(change).encode_to_vec();
        respond(
            self.engine
                .set_default_timeline(&stage, id, Once { key, encode: &encode })
                .await,
            convert,
        )
    }

    async fn archive_timeline(
        &self,
        request: Request<pb::ArchiveTimelineRequest>,
    ) -> Result<Response<pb::ArchiveTimelineResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        let id = violations.id("timeline_id", request.timeline_id);
        let reason = violations.check("reason", text::line(&request.reason, 500));
        let (id, reason) = violations.finish(id.zip(reason))?;
        let convert = |archived: &ArchivedTimeline| pb::ArchiveTimelineResponse {
            timeline: Some(timeline(&archived.timeline)),
            runs_to_stop: archived.runs_to_stop,
        };
        let encode = |archived: &ArchivedTimeline| convert(archived).encode_to_vec();
        let once = Once { key, encode: &encode };
        respond(
            self.engine
                .archive_timeline(TimelineId(id), request.stop_runs, &reason, once)
                .await,
            convert,
        )
    }

    async fn simulate_timeline(
        &self,
        request: Request<pb::SimulateTimelineRequest>,
    ) -> Result<Response<pb::SimulateTimelineResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::default();
        let timeline = match request.which {
            Some(Which::TimelineId(id)) if id > 0 => {
                let stored = self.engine.timeline(TimelineId(id)).await.map_err(status)?;
                Some(SimulatedTimeline::Stored(stored))
            }
            Some(Which::TimelineId(id)) => violations.id("timeline_id", id).and(None),
            Some(Which::Timeline(_)) | None => parse_defined(&mut violations, request.which.as_ref()),
        };
        let now = self.engine.clock().now();
        let command = parse_simulation(&mut violations, &request, timeline, now);
        let command = violations.finish(command)?;
        let found = self.engine.simulate(command).await.map_err(status)?;
        Ok(Response::new(simulated(&found)))
    }
}
