//! The real program in a world of providers, with a collector, its log in a file and its clock in another.

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::campaign_content_service_client::CampaignContentServiceClient;
use campaign_automation::proto::campaign::v1::campaign_orchestrator_service_client::CampaignOrchestratorServiceClient;
use campaign_automation::proto::campaign::v1::campaign_tick_service_client::CampaignTickServiceClient;
use campaign_automation::proto::campaign::v1::campaign_timeline_service_client::CampaignTimelineServiceClient;
use campaign_automation::proto::campaign::v1::customer_service_client::CustomerServiceClient;
use pb::process_campaign_timelines_response::Update;
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;
use tempfile::TempDir;
use tokio::task::block_in_place;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::PATIENCE;
use super::collector::Collector;
use crate::providers::ACCOUNT;
use crate::support::app::hourly;
use crate::support::given::{campaign, definition};
use crate::support::http::HttpServer;
use crate::support::process::{CAMPAIGND, program, run};
use crate::support::smtp::SmtpServer;
use crate::support::{Backend, TestDatabase};
use crate::suppressions::answers::PUBLIC;

/// The token with which Twilio knows this server, and this server Twilio.
pub(super) const TOKEN: &str = "t0ken-canary";

/// What outlives programs.
pub(super) struct World {
    database: TestDatabase,
    pub(super) smtp: SmtpServer,
    pub(super) twilio: HttpServer,
    pub(super) crm: HttpServer,
    pub(super) collector: Collector,
    directory: TempDir,
}

/// A program that serves, until it is dropped.
pub(super) struct Program {
    child: Child,
    log: PathBuf,
    pub(super) addr: SocketAddr,
    pub(super) monitor: SocketAddr,
    channel: Channel,
}

impl World {
    /// A world at noon UTC of Monday, 5 January 2026.
    pub(super) async fn start(backend: Backend) -> Self {
        let database = TestDatabase::create(backend).await.expect("a database");
        let world = Self {
            database,
            smtp: SmtpServer::start().await,
            twilio: HttpServer::twilio().await,
            crm: HttpServer::start().await,
            collector: Collector::start().await,
            directory: tempfile::tempdir().expect("a directory"),
        };
        world.set_clock("2026-01-05T12:00:00Z");
        let mut migrate = program(CAMPAIGND, world.directory.path(), &["migrate"]);
        migrate.env("CAMPAIGN_DATABASE_URL", &world.database.url);
        let migrated = block_in_place(|| run(migrate));
        assert!(migrated.status.success(), "{migrated:?}");
        world
    }

    pub(super) fn set_clock(&self, time: &str) {
        let new = self.directory.path().join("new");
        std::fs::write(&new, time).expect("written");
        std::fs::rename(new, self.clock()).expect("renamed");
    }

    fn clock(&self) -> PathBuf {
        self.directory.path().join("clock")
    }

    /// Starts a program with more of an environment, and waits until it serves.
    pub(super) async fn serve(&self, more: &[(&str, &str)]) -> Program {
        let arguments = ["--listen", "127.0.0.1:0", "--monitor-listen", "127.0.0.1:0"];
        let mut command = program(CAMPAIGND, self.directory.path(), &arguments);
        let twilio = format!("twilio+http://{ACCOUNT}:{TOKEN}@{}", self.twilio.address());
        command
            .env("CAMPAIGN_DATABASE_URL", &self.database.url)
            .env("CAMPAIGN_EMAIL_URL", format!("smtp://{}", self.smtp.address()))
            .env("CAMPAIGN_EMAIL_FROM", "Shop <shop@example.com>")
            .env("CAMPAIGN_SMS_URL", &twilio)
            .env("CAMPAIGN_PHONE_URL", &twilio)
            .env("CAMPAIGN_SMS_FROM", "+14155550100")
            .env("CAMPAIGN_PHONE_FROM", "+14155550100")
            .env(
                "CAMPAIGN_INTERACTION_URL",
                format!("http://{}/hooks", self.crm.address()),
            )
            .env("CAMPAIGN_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            .env("CAMPAIGN_ALLOW_PRIVATE_DESTINATIONS", "true")
            .env("CAMPAIGN_SMS_HOURS", "always")
            .env("CAMPAIGN_PHONE_HOURS", "always")
            .env("CAMPAIGN_PUBLIC_URL", PUBLIC)
            .env("CAMPAIGN_TEST_CLOCK", self.clock())
            .env("CAMPAIGN_SURVEY_INTERVAL", "50ms")
            // Nothing is traced but what a caller asks for.
            .env("CAMPAIGN_TRACE_RATIO", "0")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &self.collector.endpoint)
            .env("OTEL_BSP_SCHEDULE_DELAY", "50")
            .env("OTEL_METRIC_EXPORT_INTERVAL", "200")
            .envs(more.iter().copied());
        block_in_place(|| Program::start(command, self.directory.path().join("log"))).await
    }
}

impl Program {
    async fn start_connected(child: Child, log: PathBuf, addr: SocketAddr, monitor: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{addr}")).expect("an address");
        Self {
            child,
            log,
            addr,
            monitor,
            channel: endpoint.connect().await.expect("a connection"),
        }
    }

    fn start(mut command: Command, log: PathBuf) -> impl Future<Output = Self> {
        let file = File::create(&log).expect("a file");
        command.stdout(Stdio::null()).stderr(file);
        let mut child = command.spawn().expect("a program that runs");
        let begun = Instant::now();
        let (addr, monitor) = loop {
            let text = std::fs::read_to_string(&log).expect("a log");
            let after = |words: &str| {
                let (_, rest) = text.split_once(words)?;
                let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')?;
                rest[..end].parse::<SocketAddr>().ok()
            };
            if let Some(found) = after("serving gRPC and REST on ").zip(after("metrics and health are on ")) {
                break found;
            }
            let ended = child.try_wait().expect("a process");
            if ended.is_some() || begun.elapsed() >= PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                panic!("it does not serve: {text}");
            }
            std::thread::yield_now();
        };
        Self::start_connected(child, log, addr, monitor)
    }

    /// All that it has logged.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }

    /// Stops it in good order. Gives its log.
    pub(super) fn stop(mut self) -> String {
        let kill = Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", self.child.id())])
            .status();
        assert!(kill.expect("a shell").success());
        let ended = block_in_place(|| self.child.wait()).expect("its end");
        let log = self.log();
        assert!(ended.success(), "{ended:?}: {log}");
        log
    }

    /// Waits for the end of one that kills itself.
    pub(super) fn ended(mut self) -> ExitStatus {
        block_in_place(|| self.child.wait()).expect("its end")
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(super) fn content(&self) -> CampaignContentServiceClient<Channel> {
        CampaignContentServiceClient::new(self.channel.clone())
    }

    pub(super) fn timelines(&self) -> CampaignTimelineServiceClient<Channel> {
        CampaignTimelineServiceClient::new(self.channel.clone())
    }

    pub(super) fn customers(&self) -> CustomerServiceClient<Channel> {
        CustomerServiceClient::new(self.channel.clone())
    }

    pub(super) fn orchestrator(&self) -> CampaignOrchestratorServiceClient<Channel> {
        CampaignOrchestratorServiceClient::new(self.channel.clone())
    }

    /// Stores a customer and a timeline of these actions, with their campaign `A`. Gives the timeline's id.
    pub(super) async fn prepare(&self, customer: pb::Customer, actions: Vec<pb::ActionDefinition>) -> i64 {
        // Its subject has the name in it, too.
        let campaign = pb::CampaignDefinition {
            subject: "For {{ customer.name }}".to_owned(),
            ..campaign("A")
        };
        let request = pb::ApplyCampaignRequest {
            campaign: Some(campaign),
            ..Default::default()
        };
        self.content().apply_campaign(request).await.expect("a campaign");
        let request = pb::ApplyTimelineRequest {
            timeline: Some(definition("hook", 2, actions)),
            ..Default::default()
        };
        let applied = self.timelines().apply_timeline(request).await.expect("a timeline");
        let request = pb::UpsertCustomersRequest {
            customers: vec![customer],
            ..Default::default()
        };
        self.customers().upsert_customers(request).await.expect("a customer");
        applied.into_inner().timeline.expect("a timeline").timeline_id
    }

    /// Starts a run, as part of a trace.
    pub(super) async fn start_run(&self, customer: &str, timeline_id: i64, traceparent: &str) -> Result<(), Status> {
        let mut request = Request::new(pb::StartTimelineRequest {
            customer_id: customer.to_owned(),
            timeline_id,
            ..Default::default()
        });
        let traceparent = traceparent.parse().expect("ASCII");
        request.metadata_mut().insert("traceparent", traceparent);
        self.orchestrator().start_timeline(request).await.map(|_| ())
    }

    /// The hourly tick, as part of a trace.
    pub(super) async fn tick(&self, traceparent: &'static str) -> Result<pb::TickSummary, Status> {
        let traced = move |mut request: Request<()>| {
            request
                .metadata_mut()
                .insert("traceparent", traceparent.parse().expect("ASCII"));
            Ok(request)
        };
        let mut client = CampaignTickServiceClient::with_interceptor(self.channel.clone(), traced);
        let request = pb::ProcessCampaignTimelinesRequest::default();
        let mut stream = client.process_campaign_timelines(request).await?.into_inner();
        let mut last = None;
        while let Some(news) = stream.message().await? {
            if let Some(Update::Summary(summary)) = news.update {
                last = Some(summary);
            }
        }
        last.ok_or_else(|| Status::data_loss("no summary"))
    }

    /// The hourly tick, as part of none.
    pub(super) async fn tick_untraced(&self) -> Result<pb::TickSummary, Status> {
        let mut client = CampaignTickServiceClient::new(self.channel.clone());
        hourly(&mut client, pb::ProcessCampaignTimelinesRequest::default()).await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
