//! Calls in one line, and what tests look at in their answers.

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::google;
use prost::Message as _;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use super::App;

impl App {
    /// Starts a run, or is refused.
    pub(crate) async fn try_start(&self, request: pb::StartTimelineRequest) -> Result<pb::Progress, Status> {
        let response = self.orchestrator().start_timeline(request).await?;
        Ok(response.into_inner().progress.expect("a run"))
    }

    /// A run by its id, or a refusal.
    pub(crate) async fn get(&self, customer: &str, run: i64) -> Result<pb::Progress, Status> {
        let request = pb::GetProgressRequest {
            customer_id: customer.to_owned(),
            progress_id: run,
        };
        let response = self.orchestrator().get_progress(request).await?;
        Ok(response.into_inner().progress.expect("a run"))
    }

    /// Pauses a run.
    pub(crate) async fn pause(&self, customer: &str, run: i64, reason: &str) -> Result<pb::Progress, Status> {
        let request = pb::PauseTimelineRequest {
            customer_id: customer.to_owned(),
            progress_id: run,
            reason: reason.to_owned(),
            ..Default::default()
        };
        let response = self.orchestrator().pause_timeline(request).await?;
        Ok(response.into_inner().progress.expect("a run"))
    }

    /// Resumes a run.
    pub(crate) async fn resume(&self, customer: &str, run: i64, reason: &str) -> Result<pb::Progress, Status> {
        let request = pb::ResumeTimelineRequest {
            customer_id: customer.to_owned(),
            progress_id: run,
            reason: reason.to_owned(),
            ..Default::default()
        };
        let response = self.orchestrator().resume_timeline(request).await?;
        Ok(response.into_inner().progress.expect("a run"))
    }

    /// Stops a run.
    pub(crate) async fn stop(&self, customer: &str, run: i64, reason: &str) -> Result<pb::Progress, Status> {
        let request = pb::StopTimelineRequest {
            customer_id: customer.to_owned(),
            progress_id: run,
            reason: reason.to_owned(),
            ..Default::default()
        };
        let response = self.orchestrator().stop_timeline(request).await?;
        Ok(response.into_inner().progress.expect("a run"))
    }

    /// Lists runs.
    pub(crate) async fn list_progress(
        &self,
        request: pb::ListProgressRequest,
    ) -> Result<pb::ListProgressResponse, Status> {
        self.orchestrator()
            .list_progress(request)
            .await
            .map(Response::into_inner)
    }

    /// Assigns the default timeline of the customer's stage.
    pub(crate) async fn assign(
        &self,
        customer: &str,
        allow_restart: bool,
    ) -> Result<pb::AssignTimelineForStageResponse, Status> {
        let request = pb::AssignTimelineForStageRequest {
            customer_id: customer.to_owned(),
            allow_restart,
            ..Default::default()
        };
        let response = self.orchestrator().assign_timeline_for_stage(request).await;
        response.map(Response::into_inner)
    }

    /// Moves a customer to a stage.
    pub(crate) async fn change_stage(
        &self,
        customer: &str,
        stage: &str,
    ) -> Result<pb::ChangePipelineStageResponse, Status> {
        let request = pb::ChangePipelineStageRequest {
            customer_id: customer.to_owned(),
            pipeline_stage: stage.to_owned(),
            ..Default::default()
        };
        let response = self.customers().change_pipeline_stage(request).await;
        response.map(Response::into_inner)
    }

    /// Inserts or updates customers.
    pub(crate) async fn upsert(
        &self,
        request: pb::UpsertCustomersRequest,
    ) -> Result<pb::UpsertCustomersResponse, Status> {
        self.customers()
            .upsert_customers(request)
            .await
            .map(Response::into_inner)
    }

    /// A stored customer.
    pub(crate) async fn get_customer(&self, id: &str) -> Result<pb::Customer, Status> {
        let request = pb::GetCustomerRequest {
            customer_id: id.to_owned(),
        };
        let response = self.customers().get_customer(request).await?;
        Ok(response.into_inner().customer.expect("a customer"))
    }

    /// Stores events.
    pub(crate) async fn record(&self, engagements: Vec<pb::Engagement>) -> Vec<pb::RecordEngagementsResult> {
        let request = pb::RecordEngagementsRequest { engagements };
        let response = self.customers().record_engagements(request).await.expect("results");
        response.into_inner().results
    }

    /// Switches a timeline on or off.
    pub(crate) async fn set_active(&self, timeline: &pb::Timeline, is_active: bool) -> pb::Timeline {
        let request = pb::SetTimelineActiveRequest {
            timeline_id: timeline.timeline_id,
            is_active,
            ..Default::default()
        };
        let response = self.timelines().set_timeline_active(request).await;
        response.expect("a switch").into_inner().timeline.expect("the timeline")
    }

    /// Makes a timeline the default of its stage; 0: the stage has none.
    pub(crate) async fn set_default(
        &self,
        stage: &str,
        timeline_id: i64,
    ) -> Result<pb::SetDefaultTimelineResponse, Status> {
        let request = pb::SetDefaultTimelineRequest {
            pipeline_stage: stage.to_owned(),
            timeline_id,
            ..Default::default()
        };
        let response = self.timelines().set_default_timeline(request).await;
        response.map(Response::into_inner)
    }

    /// A stored timeline.
    pub(crate) async fn get_timeline(&self, slug: &str) -> Result<pb::Timeline, Status> {
        let request = pb::GetTimelineRequest {
            slug: slug.to_owned(),
            ..Default::default()
        };
        let response = self.timelines().get_timeline(request).await?;
        Ok(response.into_inner().timeline.expect("a timeline"))
    }

    /// Sets the clock to each of these instants, with the hourly tick at each.
    pub(crate) async fn tick_at(&self, times: &[&str]) {
        for time in times {
            self.set(time);
            self.hourly().await;
        }
    }
}

/// The day that a run is on, and its date.
pub(crate) fn day(run: &pb::Progress) -> (i32, String) {
    let date = run.day_date.expect("a date");
    let date = format!("{:04}-{:02}-{:02}", date.year, date.month, date.day);
    (run.current_day, date)
}

/// The keys of the actions that were carried out, in order.
pub(crate) fn completed(run: &pb::Progress) -> Vec<String> {
    let key = |completed: &pb::CompletedAction| completed.action.clone().expect("an action").key;
    run.completed_actions.iter().map(key).collect()
}

/// The keys of the actions that were skipped, and why, in order.
pub(crate) fn skipped(run: &pb::Progress) -> Vec<(String, pb::SkipReason)> {
    let pair = |skipped: &pb::SkippedAction| (skipped.action.clone().expect("an action").key, skipped.reason());
    run.skipped_actions.iter().map(pair).collect()
}

/// What comes next in a run, and when.
pub(crate) fn next(run: &pb::Progress) -> Option<(String, String)> {
    let next = run.next_action.clone()?;
    Some((next.action.expect("an action").key, super::given::shown(next.due_time)))
}

/// What an error is about, by the name in its metadata.
#[track_caller]
pub(crate) fn about(status: &Status, name: &str) -> String {
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    info.metadata.get(name).cloned().unwrap_or_default()
}

/// The error of an item of a batch, as that of a call.
pub(crate) fn of_item<T>(error: &google::rpc::Status) -> Result<T, Status> {
    let details = error.encode_to_vec().into();
    let code = Code::from_i32(error.code);
    Err(Status::with_details(code, error.message.clone(), details))
}
