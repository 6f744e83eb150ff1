//! Plays the demo through the gRPC API: defines, starts, winds the clock, ticks, and asks what became of it all.

use anyhow::{Context as _, bail};
use chrono::{DateTime, Duration, Timelike as _, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration as Deadline;
use tonic::Request;
use tonic::transport::Channel;

use super::report::{Event, Outcome, Person};
use super::script::{self, Act, Cue};
use super::{examples, timestamp};
use crate::clock::ManualClock;
use crate::proto::campaign::v1::campaign_content_service_client::CampaignContentServiceClient;
use crate::proto::campaign::v1::campaign_orchestrator_service_client::CampaignOrchestratorServiceClient;
use crate::proto::campaign::v1::campaign_tick_service_client::CampaignTickServiceClient;
use crate::proto::campaign::v1::campaign_timeline_service_client::CampaignTimelineServiceClient;
use crate::proto::campaign::v1::customer_service_client::CustomerServiceClient;
use crate::proto::campaign::v1::{
    self as pb, ActionType, AssignmentOutcome, Engagement, EngagementKind, advance_campaign_days_response as advance,
    process_campaign_timelines_response as process, upsert_customers_result,
};

/// How long a tick may take.
const TICK_DEADLINE: Deadline = Deadline::from_mins(1);

/// The clients, and what is to be remembered between calls.
#[derive(Debug)]
pub(super) struct Player {
    content: CampaignContentServiceClient<Channel>,
    customers: CustomerServiceClient<Channel>,
    orchestrator: CampaignOrchestratorServiceClient<Channel>,
    ticks: CampaignTickServiceClient<Channel>,
    timelines: CampaignTimelineServiceClient<Channel>,
    /// The run of each customer.
    runs: BTreeMap<String, i64>,
    /// Actions whose mail the reader has opened.
    opened: BTreeSet<i64>,
    events: Vec<Event>,
}

/// What was set up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Setup {
    pub(super) campaigns: usize,
    pub(super) actions: usize,
    pub(super) assigned: usize,
    pub(super) started: usize,
}

/// What the ticks of an hour did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) completed: i64,
    pub(super) skipped: i64,
    pub(super) failed: i64,
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.completed += other.completed;
        self.skipped += other.skipped;
        self.failed += other.failed;
    }

    fn of(summary: &pb::TickSummary) -> Self {
        let mut counts = Self {
            calls: 1,
            ..Self::default()
        };
        for channel in summary.counts.iter().flat_map(|counts| &counts.channels) {
            counts.completed += channel.completed;
            counts.skipped += channel.skipped + channel.expired;
            counts.failed += channel.failed + channel.unknown;
        }
        counts
    }
}

impl Player {
    pub(super) fn new(channel: &Channel) -> Self {
        Self {
            content: CampaignContentServiceClient::new(channel.clone()),
            customers: CustomerServiceClient::new(channel.clone()),
            orchestrator: CampaignOrchestratorServiceClient::new(channel.clone()),
            ticks: CampaignTickServiceClient::new(channel.clone()),
            timelines: CampaignTimelineServiceClient::new(channel.clone()),
            runs: BTreeMap::new(),
            opened: BTreeSet::new(),
            events: Vec::new(),
        }
    }

    /// Applies the example files and starts the customers.
    pub(super) async fn set_up(&mut self) -> anyhow::Result<Setup> {
        let mut setup = Setup::default();
        for request in examples::campaigns()? {
            self.content
                .apply_campaign(request)
                .await
                .context("a campaign was refused")?;
            setup.campaigns += 1;
        }
        let timeline = self
            .timelines
            .apply_timeline(examples::timeline()?)
            .await
            .context("the timeline was refused")?;
        let timeline = timeline.into_inner().timeline.context("no timeline in the answer")?;
        setup.actions = timeline.definition.map_or(0, |definition| definition.actions.len());

        let upserted = self
            .customers
            .upsert_customers(examples::customers()?)
            .await?
            .into_inner();
        for result in upserted.results {
            let customer_id = match result.result {
                Some(upsert_customers_result::Result::Customer(customer)) => customer.customer_id,
                Some(upsert_customers_result::Result::Error(error)) => {
                    bail!("a customer was refused: {}", error.message)
                }
                None => bail!("no customer in the answer"),
            };
            if customer_id == script::STARTED_BY_HAND {
                self.start(&customer_id, timeline.timeline_id).await?;
                setup.started += 1;
            } else {
                self.assign(&customer_id).await?;
                setup.assigned += 1;
            }
        }
        Ok(setup)
    }

    async fn start(&mut self, customer_id: &str, timeline_id: i64) -> anyhow::Result<()> {
        let request = pb::StartTimelineRequest {
            customer_id: customer_id.to_owned(),
            timeline_id,
            ..Default::default()
        };
        let response = self.orchestrator.start_timeline(request).await?.into_inner();
        self.remember(customer_id, response.progress.as_ref())
    }

    async fn assign(&mut self, customer_id: &str) -> anyhow::Result<()> {
        let request = pb::AssignTimelineForStageRequest {
            customer_id: customer_id.to_owned(),
            ..Default::default()
        };
        let response = self.orchestrator.assign_timeline_for_stage(request).await?.into_inner();
        self.remember(customer_id, response.progress.as_ref())
    }

    fn remember(&mut self, customer_id: &str, progress: Option<&pb::Progress>) -> anyhow::Result<()> {
        let progress_id = progress.context("no progress in the answer")?.progress_id;
        self.runs.insert(customer_id.to_owned(), progress_id);
        Ok(())
    }

    /// Plays one hour: sets the clock, lets happen what the script says, ticks, and lets the reader read.
    pub(super) async fn play_hour(&mut self, hour: u32, clock: &ManualClock) -> anyhow::Result<Counts> {
        let now = script::begin() + Duration::hours(i64::from(hour));
        clock.set(now);
        for cue in script::CUES.iter().filter(|cue| cue.hour == hour) {
            self.act(cue, now).await.with_context(|| format!("{cue:?}"))?;
        }
        let mut counts = Counts::default();
        if now.hour() == 0 {
            counts.add(self.advance_days().await.context("the daily tick")?);
        }
        counts.add(self.process_timelines().await.context("the hourly tick")?);
        if script::is_reading_time(now) {
            self.read_mail(now).await.context("recording opened mails")?;
        }
        Ok(counts)
    }

    /// The hourly tick, until there is no more to do.
    async fn process_timelines(&mut self) -> anyhow::Result<Counts> {
        let mut counts = Counts::default();
        loop {
            let mut request = Request::new(pb::ProcessCampaignTimelinesRequest::default());
            request.set_timeout(TICK_DEADLINE);
            let mut updates = self.ticks.process_campaign_timelines(request).await?.into_inner();
            let mut summary = None;
            while let Some(message) = updates.message().await? {
                if let Some(process::Update::Summary(last)) = message.update {
                    summary = Some(last);
                }
            }
            let summary = summary.context("the stream ended without a summary")?;
            counts.add(Counts::of(&summary));
            if !summary.has_more {
                return Ok(counts);
            }
        }
    }

    /// The daily tick, until there is no more to do.
    async fn advance_days(&mut self) -> anyhow::Result<Counts> {
        let mut counts = Counts::default();
        loop {
            let mut request = Request::new(pb::AdvanceCampaignDaysRequest::default());
            request.set_timeout(TICK_DEADLINE);
            let mut updates = self.ticks.advance_campaign_days(request).await?.into_inner();
            let mut summary = None;
            while let Some(message) = updates.message().await? {
                if let Some(advance::Update::Summary(last)) = message.update {
                    summary = Some(last);
                }
            }
            let summary = summary.context("the stream ended without a summary")?;
            counts.add(Counts::of(&summary));
            if !summary.has_more {
                return Ok(counts);
            }
        }
    }

    async fn act(&mut self, cue: &Cue, now: DateTime<Utc>) -> anyhow::Result<()> {
        let customer_id = cue.customer_id.to_owned();
        let progress_id = self.run_of(cue.customer_id)?;
        let text = match cue.act {
            Act::Pause(reason) => {
                let request = pb::PauseTimelineRequest {
                    customer_id,
                    progress_id,
                    reason: reason.to_owned(),
                    ..Default::default()
                };
                self.orchestrator.pause_timeline(request).await?;
                format!("paused: {reason}")
            }
            Act::Resume(reason) => {
                let request = pb::ResumeTimelineRequest {
                    customer_id,
                    progress_id,
                    reason: reason.to_owned(),
                    ..Default::default()
                };
                self.orchestrator.resume_timeline(request).await?;
                format!("resumed: {reason}")
            }
            Act::ChangeStage(stage) => {
                let request = pb::ChangePipelineStageRequest {
                    customer_id,
                    pipeline_stage: stage.to_owned(),
                    ..Default::default()
                };
                let response = self.customers.change_pipeline_stage(request).await?.into_inner();
                changed_stage(stage, &response)
            }
        };
        self.events.push(Event {
            customer_id: cue.customer_id.to_owned(),
            at: now,
            text,
        });
        Ok(())
    }

    fn run_of(&self, customer_id: &str) -> anyhow::Result<i64> {
        self.runs
            .get(customer_id)
            .copied()
            .with_context(|| format!("{customer_id} is not in examples/customers.yaml"))
    }

    /// Opens the mails that the reader has got and not opened yet.
    async fn read_mail(&mut self, now: DateTime<Utc>) -> anyhow::Result<()> {
        let (customer_id, progress_id) = (script::READER.to_owned(), self.run_of(script::READER)?);
        let request = pb::GetProgressRequest {
            customer_id: customer_id.clone(),
            progress_id,
        };
        let progress = self
            .orchestrator
            .get_progress(request)
            .await?
            .into_inner()
            .progress
            .unwrap_or_default();
        let mut engagements = Vec::new();
        for completed in progress.completed_actions {
            let action = completed.action.unwrap_or_default();
            let came = timestamp(completed.complete_time);
            let Some(open) = came
                .map(|came| came + script::time_to_open())
                .filter(|open| *open <= now)
            else {
                continue;
            };
            if action.action_type() == ActionType::SendEmail && self.opened.insert(action.action_id) {
                engagements.push(Engagement {
                    customer_id: customer_id.clone(),
                    event_id: format!("open-{progress_id}-{}", action.action_id),
                    kind: EngagementKind::EmailOpened.into(),
                    occur_time: Some(prost_types::Timestamp {
                        seconds: open.timestamp(),
                        nanos: 0,
                    }),
                    progress_id,
                    action_id: action.action_id,
                    ..Default::default()
                });
            }
        }
        if engagements.is_empty() {
            return Ok(());
        }
        let request = pb::RecordEngagementsRequest { engagements };
        let response = self.customers.record_engagements(request).await?.into_inner();
        match response.results.into_iter().find_map(|result| result.error) {
            Some(error) => bail!("an event was refused: {}", error.message),
            None => Ok(()),
        }
    }

    /// Asks what became of everybody.
    pub(super) async fn outcome(mut self) -> anyhow::Result<Outcome> {
        let request = pb::GetTimelineRequest {
            slug: "hook-90-day".to_owned(),
            ..Default::default()
        };
        let timeline = self
            .timelines
            .get_timeline(request)
            .await?
            .into_inner()
            .timeline
            .unwrap_or_default();

        let request = pb::ListCampaignsRequest {
            page_size: 1_000,
            ..Default::default()
        };
        let campaigns = self.content.list_campaigns(request).await?.into_inner().campaigns;
        let names = campaigns.into_iter().filter_map(|campaign| campaign.definition);
        let names = names.map(|campaign| (campaign.campaign_id, campaign.name)).collect();

        let mut people = Vec::new();
        for named in examples::customers()?.customers {
            let customer_id = named.customer_id;
            let request = pb::GetCustomerRequest {
                customer_id: customer_id.clone(),
            };
            let customer = self.customers.get_customer(request).await?.into_inner().customer;
            let request = pb::ListProgressRequest {
                customer_id: customer_id.clone(),
                page_size: 1_000,
                ..Default::default()
            };
            let runs = self.orchestrator.list_progress(request).await?.into_inner().progress;
            let request = pb::ListEngagementsRequest {
                customer_id: customer_id.clone(),
                page_size: 1_000,
                ..Default::default()
            };
            let engagements = self.customers.list_engagements(request).await?.into_inner().engagements;
            let events = self
                .events
                .iter()
                .filter(|event| event.customer_id == customer_id)
                .cloned()
                .collect();
            let behaviour = script::behaviour(&customer_id);
            people.push(Person {
                customer: customer.unwrap_or_default(),
                behaviour,
                runs,
                engagements,
                events,
            });
        }
        Ok(Outcome {
            timeline: timeline.definition.unwrap_or_default(),
            campaigns: names,
            people,
        })
    }
}

/// What a change of stage did, for people.
fn changed_stage(stage: &str, response: &pb::ChangePipelineStageResponse) -> String {
    let run = if response.stopped_progress_ids.is_empty() {
        "this run was started by hand and goes on"
    } else {
        "this run came from the stage and is stopped"
    };
    let assignment = response
        .assignment
        .as_ref()
        .map_or(AssignmentOutcome::Unspecified, pb::StageAssignment::outcome);
    let next = match assignment {
        AssignmentOutcome::Started => "the new stage's timeline is started",
        AssignmentOutcome::AlreadyRunning => "the new stage's timeline runs already",
        AssignmentOutcome::NoDefault => "the new stage has no timeline",
        AssignmentOutcome::DefaultInactive => "the new stage's timeline is inactive",
        AssignmentOutcome::StageUnchanged | AssignmentOutcome::Unspecified => "nothing else changes",
    };
    format!("stage {} -> {stage}: {run}; {next}", response.previous_pipeline_stage)
}
