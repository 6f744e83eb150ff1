//! The real server on a free port, with a hand-wound clock, a fresh database, and an outbox in place of providers.

use campaign_automation::clock::{Clock, ManualClock};
use campaign_automation::config::Config;
use campaign_automation::domain::Hours;
use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::campaign_content_service_client::CampaignContentServiceClient;
use campaign_automation::proto::campaign::v1::campaign_orchestrator_service_client::CampaignOrchestratorServiceClient;
use campaign_automation::proto::campaign::v1::campaign_tick_service_client::CampaignTickServiceClient;
use campaign_automation::proto::campaign::v1::campaign_timeline_service_client::CampaignTimelineServiceClient;
use campaign_automation::proto::campaign::v1::customer_service_client::CustomerServiceClient;
use campaign_automation::random::Random;
use campaign_automation::server::{self, Server};
use campaign_automation::store::StoreUrl;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tonic::Status;
use tonic::transport::Channel;

use super::database::{Backend, TestDatabase, is_citus};
use super::given::{at, campaign, customer};
use super::{Watched, canaries};

/// The secret of the servers of tests.
pub(crate) const SECRET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/secret.key");

/// A server, its database, its outbox and its clock.
#[derive(Debug)]
pub(crate) struct App {
    pub clock: Arc<ManualClock>,
    pub server: Watched,
    pub database: TestDatabase,
    outbox: TempDir,
    channel: Channel,
}

/// A message that left: its channel, the customer, and the file's name and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    /// The name, which begins with the time.
    pub name: String,
    /// What is in the file.
    pub text: String,
}

/// What is left of an app whose server was stopped.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub clock: Arc<ManualClock>,
    pub database: TestDatabase,
    outbox: TempDir,
}

impl Stopped {
    /// Another server in the place of the one that was stopped. `seed` is one that no server had before.
    pub(crate) async fn start(self, seed: u64, change: impl FnOnce(&mut Config)) -> App {
        let Self {
            clock,
            database,
            outbox,
        } = self;
        let (server, channel) = serve(&database.url, outbox.path(), Arc::clone(&clock) as _, seed, change).await;
        App {
            clock,
            server,
            database,
            outbox,
            channel,
        }
    }
}

impl App {
    /// Stops the server, so that its database may be copied.
    pub(crate) async fn stop_server(self) -> Stopped {
        self.server.shutdown().await.expect("stopped");
        Stopped {
            clock: self.clock,
            database: self.database,
            outbox: self.outbox,
        }
    }

    /// A server with the defaults, at noon UTC of Monday, 5 January 2026.
    pub(crate) async fn start(backend: Backend) -> Self {
        Self::start_with(backend, |_| {}).await
    }

    /// A server with a changed configuration.
    pub(crate) async fn start_with(backend: Backend, change: impl FnOnce(&mut Config)) -> Self {
        let database = TestDatabase::create(backend).await.expect("a database");
        Self::start_on(database, change).await
    }

    /// The same, on a database that is there.
    pub(crate) async fn start_on(database: TestDatabase, change: impl FnOnce(&mut Config)) -> Self {
        let clock = Arc::new(ManualClock::new(at("2026-01-05T12:00:00Z")));
        let outbox = tempfile::tempdir().expect("a directory");
        let (server, channel) = serve(&database.url, outbox.path(), Arc::clone(&clock) as _, 7, change).await;
        Self {
            clock,
            server,
            database,
            outbox,
            channel,
        }
    }

    /// Another server on the same database, with the same clock and outbox.
    pub(crate) async fn second_server(&self) -> (Watched, Channel) {
        self.server_on(&self.database.url, |_| {}).await
    }

    /// Another server with the same clock and outbox, on the database at a URL, with a changed configuration.
    pub(crate) async fn server_on(&self, url: &str, change: impl FnOnce(&mut Config)) -> (Watched, Channel) {
        serve(url, self.outbox.path(), Arc::clone(&self.clock) as _, 8, change).await
    }

    /// Another server on the same database and outbox, with chance, a clock and a configuration of its own.
    pub(crate) async fn second_server_with(
        &self,
        seed: u64,
        clock: Arc<dyn Clock>,
        change: impl FnOnce(&mut Config),
    ) -> (Watched, Channel) {
        serve(&self.database.url, self.outbox.path(), clock, seed, change).await
    }

    /// A connection to the server.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn orchestrator(&self) -> CampaignOrchestratorServiceClient<Channel> {
        CampaignOrchestratorServiceClient::new(self.channel())
    }

    pub(crate) fn timelines(&self) -> CampaignTimelineServiceClient<Channel> {
        CampaignTimelineServiceClient::new(self.channel())
    }

    pub(crate) fn content(&self) -> CampaignContentServiceClient<Channel> {
        CampaignContentServiceClient::new(self.channel())
    }

    pub(crate) fn customers(&self) -> CustomerServiceClient<Channel> {
        CustomerServiceClient::new(self.channel())
    }

    pub(crate) fn ticks(&self) -> CampaignTickServiceClient<Channel> {
        CampaignTickServiceClient::new(self.channel())
    }

    /// Sets the clock.
    pub(crate) fn set(&self, time: &str) {
        self.clock.set(at(time));
    }

    /// Moves the clock on.
    pub(crate) fn pass_hours(&self, hours: i64) {
        self.clock.advance(chrono::Duration::hours(hours));
    }

    /// The hourly tick, now.
    pub(crate) async fn hourly(&self) -> pb::TickSummary {
        hourly(&mut self.ticks(), pb::ProcessCampaignTimelinesRequest::default())
            .await
            .expect("a summary")
    }

    /// The daily tick, now.
    pub(crate) async fn daily(&self) -> pb::TickSummary {
        daily(&mut self.ticks(), pb::AdvanceCampaignDaysRequest::default())
            .await
            .expect("a summary")
    }

    /// Lets hours pass, with the hourly tick at the end of each.
    pub(crate) async fn tick_hours(&self, hours: i64) {
        for _ in 0..hours {
            self.pass_hours(1);
            self.hourly().await;
        }
    }

    /// Stores a campaign with content for all channels.
    pub(crate) async fn campaign(&self, id: &str) {
        let request = pb::ApplyCampaignRequest {
            campaign: Some(campaign(id)),
            ..Default::default()
        };
        self.content().apply_campaign(request).await.expect("a campaign");
    }

    /// Applies a new timeline and the campaigns that it names.
    pub(crate) async fn timeline(&self, definition: pb::TimelineDefinition) -> pb::Timeline {
        let mut ids: Vec<String> = definition
            .actions
            .iter()
            .map(|action| action.campaign_id.clone())
            .filter(|id| !id.is_empty())
            .collect();
        ids.sort();
        ids.dedup();
        for id in ids {
            let request = pb::GetCampaignRequest {
                campaign_id: id.clone(),
            };
            if self.content().get_campaign(request).await.is_err() {
                self.campaign(&id).await;
            }
        }
        self.apply(definition, "")
            .await
            .expect("a timeline")
            .timeline
            .expect("a timeline")
    }

    /// Applies a timeline.
    pub(crate) async fn apply(
        &self,
        definition: pb::TimelineDefinition,
        etag: &str,
    ) -> Result<pb::ApplyTimelineResponse, Status> {
        let request = pb::ApplyTimelineRequest {
            timeline: Some(definition),
            etag: etag.to_owned(),
            ..Default::default()
        };
        self.timelines()
            .apply_timeline(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Stores a customer with an address for every channel.
    pub(crate) async fn customer(&self, id: &str, zone: &str) {
        self.put_customer(customer(id, zone)).await;
    }

    /// Stores a customer.
    pub(crate) async fn put_customer(&self, customer: pb::Customer) {
        let request = pb::UpsertCustomersRequest {
            customers: vec![customer],
            ..Default::default()
        };
        let response = self
            .customers()
            .upsert_customers(request)
            .await
            .expect("a response")
            .into_inner();
        let result = response.results[0].result.clone().expect("a result");
        assert!(
            matches!(result, pb::upsert_customers_result::Result::Customer(_)),
            "{result:?}"
        );
    }

    /// Starts a run.
    pub(crate) async fn start_run(&self, customer: &str, timeline: &pb::Timeline) -> pb::Progress {
        let request = pb::StartTimelineRequest {
            customer_id: customer.to_owned(),
            timeline_id: timeline.timeline_id,
            ..Default::default()
        };
        let response = self.orchestrator().start_timeline(request).await.expect("a run");
        response.into_inner().progress.expect("a run")
    }

    /// The only run of a customer.
    pub(crate) async fn progress(&self, customer: &str) -> pb::Progress {
        let request = pb::GetProgressRequest {
            customer_id: customer.to_owned(),
            progress_id: 0,
        };
        let response = self.orchestrator().get_progress(request).await.expect("a run");
        response.into_inner().progress.expect("a run")
    }

    /// Carries out what is due for a customer.
    pub(crate) async fn execute(&self, customer: &str) -> Vec<pb::RunResult> {
        let request = pb::ExecuteActionsRequest {
            customer_id: customer.to_owned(),
            ..Default::default()
        };
        self.orchestrator()
            .execute_actions(request)
            .await
            .expect("results")
            .into_inner()
            .runs
    }

    /// All messages that left, in order of their times.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        let mut sent: Vec<Sent> = std::fs::read_dir(self.outbox.path())
            .expect("the outbox")
            .map(|entry| entry.expect("an entry"))
            .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
            .map(|entry| Sent {
                name: entry.file_name().to_string_lossy().into_owned(),
                text: std::fs::read_to_string(entry.path()).expect("a message"),
            })
            .collect();
        sent.sort_by(|a, b| a.name.cmp(&b.name));
        sent
    }

    /// The messages that left besides those with these names, which are added to them.
    pub(crate) fn sent_besides(&self, names: &mut HashSet<String>) -> Vec<Sent> {
        let entries = std::fs::read_dir(self.outbox.path()).expect("the outbox");
        let mut sent = Vec::new();
        for entry in entries {
            let entry = entry.expect("an entry");
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') && names.insert(name.clone()) {
                let text = std::fs::read_to_string(entry.path()).expect("a message");
                sent.push(Sent { name, text });
            }
        }
        sent
    }

    /// How many messages left.
    pub(crate) fn sent_count(&self) -> usize {
        let entries = std::fs::read_dir(self.outbox.path()).expect("the outbox");
        entries
            .filter(|entry| {
                !entry
                    .as_ref()
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .starts_with('.')
            })
            .count()
    }

    /// The messages to a customer, as "time channel".
    pub(crate) fn sent_to(&self, customer: &str) -> Vec<String> {
        let of_customer = |sent: &Sent| {
            let (time, rest) = sent.name.split_once('-')?;
            let rest = rest.strip_prefix(customer)?.strip_prefix('-')?;
            let channel = rest.split('-').next()?;
            Some(format!("{time} {channel}"))
        };
        self.sent().iter().filter_map(of_customer).collect()
    }
}

async fn serve(
    url: &str,
    outbox: &Path,
    clock: Arc<dyn Clock>,
    seed: u64,
    change: impl FnOnce(&mut Config),
) -> (Watched, Channel) {
    canaries::watch();
    let url = StoreUrl::parse(url).expect("a URL");
    let mut config = Config::embedded(url.clone(), outbox);
    // Plans of tests have hours that matter to them; the quiet hours have tests of their own.
    config.secret_key_file = Some(SECRET.into());
    (config.sms_hours, config.phone_hours) = (Hours::Always, Hours::Always);
    change(&mut config);
    let is_encrypted = config.listener.tls().is_some();
    let shows_metrics = !is_encrypted && !config.auth.asks();
    if !url.is_sqlite() {
        server::migrate(&config.database, is_citus()).await.expect("a schema");
    }
    let server = Server::start(config, clock, Random::from_seed(seed))
        .await
        .expect("a server");
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", server.addr())).expect("an address");
    // Who speaks TLS to it makes a connection of his own.
    let channel = if is_encrypted {
        endpoint.connect_lazy()
    } else {
        endpoint.connect().await.expect("a connection")
    };
    (Watched::new(server, shows_metrics), channel)
}

/// Calls the hourly tick, and reads its stream to the summary.
pub(crate) async fn hourly(
    client: &mut CampaignTickServiceClient<Channel>,
    request: pb::ProcessCampaignTimelinesRequest,
) -> Result<pb::TickSummary, Status> {
    use pb::process_campaign_timelines_response::Update;
    let mut stream = client.process_campaign_timelines(request).await?.into_inner();
    let mut last = None;
    // To the end: h2 counts what still comes on streams that were let go, and ends the connection after a thousand.
    while let Some(news) = stream.message().await? {
        if let Some(Update::Summary(summary)) = news.update {
            last = Some(summary);
        }
    }
    last.ok_or_else(|| Status::data_loss("no summary"))
}

/// Calls the daily tick, and reads its stream to the summary.
pub(crate) async fn daily(
    client: &mut CampaignTickServiceClient<Channel>,
    request: pb::AdvanceCampaignDaysRequest,
) -> Result<pb::TickSummary, Status> {
    use pb::advance_campaign_days_response::Update;
    let mut stream = client.advance_campaign_days(request).await?.into_inner();
    let mut last = None;
    // To the end: h2 counts what still comes on streams that were let go, and ends the connection after a thousand.
    while let Some(news) = stream.message().await? {
        if let Some(Update::Summary(summary)) = news.update {
            last = Some(summary);
        }
    }
    last.ok_or_else(|| Status::data_loss("no summary"))
}
