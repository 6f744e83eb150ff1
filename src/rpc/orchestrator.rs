//! `CampaignOrchestratorService`.

use prost::Message as _;
use std::sync::Arc;
use tonic::{Request, Response, Status};

use super::convert::execute::executed;
use super::convert::execution::{execution, execution_key, parse_filter, parse_retry, retried};
use super::convert::explain::explanation;
use super::convert::progress::{ids, parse_status, progress};
use super::convert::start::{alone, parse_start, parse_starts, results};
use super::convert::task::parse_report;
use super::customers::{check_count, item_status};
use super::error::{broken_run, internal, status};
use super::page::Scope;
use super::request::{key, respond};
use super::violations::Violations;
use crate::auth::Caller;
use crate::domain::{CustomerId, ProgressId, TimelineId, text};
use crate::engine::{Assigned, Engine, Once, ReportedTask, RetriedActions, RunReport, RunView, Started};
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::campaign_orchestrator_service_server::CampaignOrchestratorService;
use crate::store::{BrokenRun, ProgressFilter};
use crate::telemetry::current;

/// Starts runs, moves them, and shows them.
#[derive(Debug, Clone)]
pub struct OrchestratorService {
    engine: Arc<Engine>,
}

impl OrchestratorService {
    /// The service over an engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl CampaignOrchestratorService for OrchestratorService {
    async fn start_timeline(
        &self,
        request: Request<pb::StartTimelineRequest>,
    ) -> Result<Response<pb::StartTimelineResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        let command = parse_start(&mut violations, None, &alone(&request), current().as_ref());
        let command = violations.finish(command)?;
        let encode = &|view: &RunView| started(view).encode_to_vec();
        respond(self.engine.start_run(command, Once { key, encode }).await, started)
    }

    async fn start_timelines(
        &self,
        request: Request<pb::StartTimelinesRequest>,
    ) -> Result<Response<pb::StartTimelinesResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        check_count(&mut violations, "starts", request.starts.len());
        violations.finish(Some(()))?;
        let (commands, refused) = parse_starts(&request.starts, current().as_ref());
        let convert = |started: &Started| pb::StartTimelinesResponse {
            results: results(&refused, started),
        };
        let encode = |started: &Started| convert(started).encode_to_vec();
        respond(
            self.engine.start_runs(&commands, Once { key, encode: &encode }).await,
            convert,
        )
    }

    async fn assign_timeline_for_stage(
        &self,
        request: Request<pb::AssignTimelineForStageRequest>,
    ) -> Result<Response<pb::AssignTimelineForStageResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        let customer = violations.check("customer_id", CustomerId::parse(&request.customer_id));
        let customer = violations.finish(customer)?;
        let convert = |assigned: &Assigned| pb::AssignTimelineForStageResponse {
            progress: Some(progress(&assigned.view)),
            created: assigned.created,
            stopped_progress_ids: ids(&assigned.stopped),
        };
        let encode = |assigned: &Assigned| convert(assigned).encode_to_vec();
        let once = Once { key, encode: &encode };
        respond(
            self.engine
                .assign_for_stage(&customer, request.allow_restart, once)
                .await,
            convert,
        )
    }

    async fn execute_actions(
        &self,
        request: Request<pb::ExecuteActionsRequest>,
    ) -> Result<Response<pb::ExecuteActionsResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        let customer = violations.check("customer_id", CustomerId::parse(&request.customer_id));
        let customer = violations.finish(customer)?;
        // In a task of its own: what is claimed is sent and recorded also when the caller has gone.
        let engine = Arc::clone(&self.engine);
        let task = self.engine.tracker().spawn(async move {
            let encode = |reports: &Vec<RunReport>| executed(reports).encode_to_vec();
            respond(
                engine
                    .execute_customer_once(&customer, Once { key, encode: &encode })
                    .await,
                |reports| executed(reports),
            )
        });
        task.await.map_err(|error| {
            tracing::error!(%error, "executing actions broke off: {error}");
            internal()
        })?
    }

    async fn explain_actions(
        &self,
        request: Request<pb::ExplainActionsRequest>,
    ) -> Result<Response<pb::ExplainActionsResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::default();
        let customer = violations.check("customer_id", CustomerId::parse(&request.customer_id));
        let run = match request.progress_id {
            0 => Some(None),
            given => violations.id("progress_id", given).map(|id| Some(ProgressId(id))),
        };
        let (customer, run) = violations.finish(customer.zip(run))?;
        let explained = self.engine.explain(&customer, run).await.map_err(status)?;
        Ok(Response::new(pb::ExplainActionsResponse {
            runs: explained.iter().map(explanation).collect(),
        }))
    }

    async fn get_progress(
        &self,
        request: Request<pb::GetProgressRequest>,
    ) -> Result<Response<pb::GetProgressResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::default();
        let customer = violations.check("customer_id", CustomerId::parse(&request.customer_id));
        let run = match request.progress_id {
            0 => Some(None),
            given => violations.id("progress_id", given).map(|id| Some(ProgressId(id))),
        };
        let (customer, run) = violations.finish(customer.zip(run))?;
        let view = self.engine.progress(customer, run).await.map_err(status)?;
        Ok(Response::new(pb::GetProgressResponse {
            progress: Some(progress(&view)),
        }))
    }

    async fn list_progress(
        &self,
        request: Request<pb::ListProgressRequest>,
    ) -> Result<Response<pb::ListProgressResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let customer_id = violations.optional("customer_id", &request.customer_id, CustomerId::parse);
        let timeline_id = match request.timeline_id {
            0 => None,
            given => violations.id("timeline_id", given).map(TimelineId),
        };
        let statuses = "PROGRESS_STATUS_ACTIVE, PROGRESS_STATUS_PAUSED, PROGRESS_STATUS_COMPLETED, PROGRESS_STATUS_STOPPED, or not set";
        let status_filter = match request.status {
            0 => None,
            given => violations.known("status", given, statuses).and_then(parse_status),
        };
        let scope = Scope::new(
            &caller,
            "ListProgress",
            &[&request.customer_id, &request.timeline_id, &request.status],
        );
        let page = scope.parse(&mut violations, request.page_size, &request.page_token);
        let page = violations.finish(page)?;
        let filter = ProgressFilter {
            customer_id,
            timeline_id,
            status: status_filter,
        };
        let views = self.engine.list_progress(&filter, &page).await.map_err(status)?;
        let key = |view: &Result<RunView, BrokenRun>| match view {
            Ok(view) => (view.run.customer_id.to_string(), view.run.id.0),
            Err(broken) => (broken.customer_id.clone(), broken.id.0),
        };
        let (parts, next_page_token) = scope.page(page.size, &views, listed, key);
        let mut response = pb::ListProgressResponse {
            next_page_token,
            ..Default::default()
        };
        for part in parts {
            response.progress.extend(part.progress);
            response.broken.extend(part.broken);
        }
        Ok(Response::new(response))
    }

    async fn list_executions(
        &self,
        request: Request<pb::ListExecutionsRequest>,
    ) -> Result<Response<pb::ListExecutionsResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let given = request.filter.unwrap_or_default();
        let scope = Scope::new(&caller, "ListExecutions", &[&given]);
        let filter = parse_filter(&mut violations, &given);
        let page = scope.parse(&mut violations, request.page_size, &request.page_token);
        let (filter, page) = violations.finish(filter.zip(page))?;
        let views = self.engine.list_executions(&filter, &page).await.map_err(status)?;
        let (executions, next_page_token) = scope.page(page.size, &views, execution, execution_key);
        Ok(Response::new(pb::ListExecutionsResponse {
            executions,
            next_page_token,
        }))
    }

    async fn retry_actions(
        &self,
        request: Request<pb::RetryActionsRequest>,
    ) -> Result<Response<pb::RetryActionsResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        let command = parse_retry(&mut violations, &request);
        let command = violations.finish(command)?;
        let encode = |result: &RetriedActions| retried(result).encode_to_vec();
        respond(
            self.engine.retry_actions(command, Once { key, encode: &encode }).await,
            retried,
        )
    }

    async fn complete_interaction(
        &self,
        request: Request<pb::CompleteInteractionRequest>,
    ) -> Result<Response<pb::CompleteInteractionResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        let report = parse_report(&mut violations, &request);
        let report = violations.finish(report)?;
        let convert = |reported: &ReportedTask| pb::CompleteInteractionResponse {
            progress: Some(progress(&reported.view)),
            was_reported: reported.was_reported,
        };
        let encode = |reported: &ReportedTask| convert(reported).encode_to_vec();
        respond(
            self.engine.report_task(report, Once { key, encode: &encode }).await,
            convert,
        )
    }

    async fn pause_timeline(
        &self,
        request: Request<pb::PauseTimelineRequest>,
    ) -> Result<Response<pb::PauseTimelineResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        let run = parse_run(
            &mut violations,
            &request.customer_id,
            request.progress_id,
            &request.reason,
        );
        let (customer, run, reason) = violations.finish(run)?;
        let convert = |view: &RunView| pb::PauseTimelineResponse {
            progress: Some(progress(view)),
        };
        let encode = |view: &RunView| convert(view).encode_to_vec();
        respond(
            self.engine
                .pause(&customer, run, reason, Once { key, encode: &encode })
                .await,
            convert,
        )
    }

    async fn resume_timeline(
        &self,
        request: Request<pb::ResumeTimelineRequest>,
    ) -> Result<Response<pb::ResumeTimelineResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        let run = parse_run(
            &mut violations,
            &request.customer_id,
            request.progress_id,
            &request.reason,
        );
        let (customer, run, reason) = violations.finish(run)?;
        let convert = |view: &RunView| pb::ResumeTimelineResponse {
            progress: Some(progress(view)),
        };
        let encode = |view: &RunView| convert(view).encode_to_vec();
        let once = Once { key, encode: &encode };
        respond(
            self.engine
                .resume(&customer, run, reason, request.start_next_day, once)
                .await,
            convert,
        )
    }

    async fn stop_timeline(
        &self,
        request: Request<pb::StopTimelineRequest>,
    ) -> Result<Response<pb::StopTimelineResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        let run = parse_run(
            &mut violations,
            &request.customer_id,
            request.progress_id,
            &request.reason,
        );
        let (customer, run, reason) = violations.finish(run)?;
        let convert = |view: &RunView| pb::StopTimelineResponse {
            progress: Some(progress(view)),
        };
        let encode = |view: &RunView| convert(view).encode_to_vec();
        respond(
            self.engine
                .stop(&customer, run, reason, Once { key, encode: &encode })
                .await,
            convert,
        )
    }
}

/// The response to a start.
fn started(view: &RunView) -> pb::StartTimelineResponse {
    pb::StartTimelineResponse {
        progress: Some(progress(view)),
    }
}

/// The part of a page that one run is.
fn listed(view: &Result<RunView, BrokenRun>) -> pb::ListProgressResponse {
    let mut part = pb::ListProgressResponse::default();
    match view {
        Ok(view) => part.progress.push(progress(view)),
        Err(broken) => part.broken.push(pb::BrokenProgress {
            customer_id: broken.customer_id.clone(),
            progress_id: broken.id.0,
            error: Some(item_status(&broken_run(broken.id, &broken.what))),
        }),
    }
    part
}

fn parse_run(
    violations: &mut Violations,
    customer: &str,
    run: i64,
    reason: &str,
) -> Option<(CustomerId, ProgressId, String)> {
    let customer = violations.check("customer_id", CustomerId::parse(customer));
    let run = violations.id("progress_id", run);
    let reason = violations.check("reason", text::line(reason, 500));
    Some((customer?, ProgressId(run?), reason?))
}
