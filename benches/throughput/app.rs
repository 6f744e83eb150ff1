//! A server in this process, whose clock is moved by hand.

use anyhow::Context as _;
use campaign_automation::channels::Senders;
use campaign_automation::clock::ManualClock;
use campaign_automation::config::Config;
use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::campaign_content_service_client::CampaignContentServiceClient;
use campaign_automation::proto::campaign::v1::campaign_tick_service_client::CampaignTickServiceClient;
use campaign_automation::proto::campaign::v1::campaign_timeline_service_client::CampaignTimelineServiceClient;
use campaign_automation::random::Random;
use campaign_automation::server::Server;
use chrono::{DateTime, Utc};
use std::sync::Arc;
use tonic::transport::Channel;

use crate::place::{NOON, Place};

/// A server, and a connection to it.
pub(crate) struct App {
    server: Server,
    clock: Arc<ManualClock>,
    pub(crate) channel: Channel,
}

/// A timeline to define, with a mail on some days, and a campaign of the same name.
pub(crate) struct Definition<'a> {
    pub(crate) slug: &'a str,
    pub(crate) is_active: bool,
    pub(crate) duration_days: i32,
    pub(crate) days: Vec<i32>,
    /// The hour of their mails. Late mails cost more, as they are kept apart.
    pub(crate) hour: i32,
    /// The text of the mails, a template.
    pub(crate) text: String,
}

impl App {
    /// At noon of the first day.
    pub(crate) async fn start(place: &Place, senders: Senders, concurrency: usize) -> anyhow::Result<Self> {
        let mut config = place.config()?;
        config.email_concurrency = concurrency;
        Self::start_with(config, Some(senders)).await
    }

    /// At noon of the first day, as it is configured; with no senders, the configured ones.
    pub(crate) async fn start_with(config: Config, senders: Option<Senders>) -> anyhow::Result<Self> {
        let noon: DateTime<Utc> = NOON.parse()?;
        let clock = Arc::new(ManualClock::new(noon));
        let server = Server::start_with(config, Arc::clone(&clock) as _, Random::from_os(), senders).await?;
        let channel = connect(&server.addr().to_string()).await?;
        Ok(Self { server, clock, channel })
    }

    /// Some more connections to it.
    pub(crate) async fn connections(&self, count: usize) -> anyhow::Result<Vec<Channel>> {
        let mut channels = Vec::new();
        for _ in 0..count {
            channels.push(connect(&self.server.addr().to_string()).await?);
        }
        Ok(channels)
    }

    /// A timeline with a mail at noon of each of these days; its id.
    pub(crate) async fn define(&self, duration_days: i32, days: impl Iterator<Item = i32>) -> anyhow::Result<i64> {
        self.apply(Definition {
            slug: "bench",
            is_active: true,
            duration_days,
            days: days.collect(),
            hour: 12,
            text: "Hello {{ customer.name }}".to_owned(),
        })
        .await
    }

    /// A timeline and what it sends; its id.
    pub(crate) async fn apply(&self, definition: Definition<'_>) -> anyhow::Result<i64> {
        apply(&self.channel, definition).await
    }

    /// The hourly tick; how many messages it sent.
    pub(crate) async fn execute(&self) -> anyhow::Result<u64> {
        execute(&self.channel).await
    }

    /// The daily tick; how many runs it moved to their next day.
    pub(crate) async fn advance(&self) -> anyhow::Result<u64> {
        use pb::advance_campaign_days_response::Update;
        let mut ticks = CampaignTickServiceClient::new(self.channel.clone());
        let request = pb::AdvanceCampaignDaysRequest::default();
        let mut stream = ticks.advance_campaign_days(request).await?.into_inner();
        let mut moved = None;
        while let Some(news) = stream.message().await? {
            if let Some(Update::Summary(summary)) = news.update {
                moved = Some(summary.counts.context("counts")?.advanced_runs);
            }
        }
        Ok(u64::try_from(moved.context("a summary")?)?)
    }

    /// Makes it the next day.
    pub(crate) fn next_day(&self) {
        self.pass(chrono::Duration::days(1));
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, time: chrono::Duration) {
        self.clock.advance(time);
    }

    /// How many statements the service has run.
    pub(crate) fn statements(&self) -> u64 {
        self.server.engine().store().statements()
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.server.shutdown().await
    }
}

/// A connection to a server.
pub(crate) async fn connect(addr: &str) -> anyhow::Result<Channel> {
    Ok(Channel::from_shared(format!("http://{addr}"))?.connect().await?)
}

/// A timeline and what it sends, of any server; its id.
pub(crate) async fn apply(channel: &Channel, definition: Definition<'_>) -> anyhow::Result<i64> {
    let campaign = pb::CampaignDefinition {
        campaign_id: definition.slug.to_owned(),
        kind: pb::CampaignKind::Transactional.into(),
        subject: "For {{ customer.name }}".to_owned(),
        text_body: definition.text,
        ..Default::default()
    };
    apply_campaign(channel, campaign).await?;
    let mail = |day_number: &i32| pb::ActionDefinition {
        key: format!("d{day_number}"),
        day_number: *day_number,
        delay_hours: definition.hour,
        channel: pb::Channel::Email.into(),
        action_type: pb::ActionType::SendEmail.into(),
        campaign_id: definition.slug.to_owned(),
        ..Default::default()
    };
    let definition = pb::TimelineDefinition {
        slug: definition.slug.to_owned(),
        name: definition.slug.to_owned(),
        pipeline_stage: "hook".to_owned(),
        duration_days: definition.duration_days,
        is_active: definition.is_active,
        actions: definition.days.iter().map(mail).collect(),
        ..Default::default()
    };
    apply_timeline(channel, definition).await
}

/// Stores what a campaign says.
pub(crate) async fn apply_campaign(channel: &Channel, campaign: pb::CampaignDefinition) -> anyhow::Result<()> {
    let request = pb::ApplyCampaignRequest {
        campaign: Some(campaign),
        ..Default::default()
    };
    let mut content = CampaignContentServiceClient::new(channel.clone());
    content.apply_campaign(request).await?;
    Ok(())
}

/// Stores a timeline; its id.
pub(crate) async fn apply_timeline(channel: &Channel, timeline: pb::TimelineDefinition) -> anyhow::Result<i64> {
    let request = pb::ApplyTimelineRequest {
        timeline: Some(timeline),
        ..Default::default()
    };
    let mut timelines = CampaignTimelineServiceClient::new(channel.clone());
    let applied = timelines.apply_timeline(request).await?.into_inner();
    Ok(applied.timeline.context("a timeline")?.timeline_id)
}

/// The hourly tick of any server; how many messages it sent.
pub(crate) async fn execute(channel: &Channel) -> anyhow::Result<u64> {
    use pb::process_campaign_timelines_response::Update;
    let mut ticks = CampaignTickServiceClient::new(channel.clone());
    let request = pb::ProcessCampaignTimelinesRequest::default();
    let mut stream = ticks.process_campaign_timelines(request).await?.into_inner();
    let mut sent = None;
    while let Some(news) = stream.message().await? {
        if let Some(Update::Summary(summary)) = news.update {
            let counts = summary.counts.context("counts")?;
            sent = Some(counts.channels.iter().map(|channel| channel.completed).sum::<i64>());
        }
    }
    Ok(u64::try_from(sent.context("a summary")?)?)
}
