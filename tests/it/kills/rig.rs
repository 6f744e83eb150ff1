//! A world for servers that are killed: what outlives them.

use campaign_automation::domain::Timestamp;
use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::campaign_content_service_client::CampaignContentServiceClient;
use campaign_automation::proto::campaign::v1::campaign_orchestrator_service_client::CampaignOrchestratorServiceClient;
use campaign_automation::proto::campaign::v1::campaign_tick_service_client::CampaignTickServiceClient;
use campaign_automation::proto::campaign::v1::campaign_timeline_service_client::CampaignTimelineServiceClient;
use campaign_automation::proto::campaign::v1::customer_service_client::CustomerServiceClient;
use chrono::TimeDelta;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::task::{JoinHandle, block_in_place};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::judge::Judge;
use super::texts::TextServer;
use crate::support::app::{at, customer, definition, email, hourly, sms};
use crate::support::process::{CAMPAIGND, Served, program, run};
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{Backend, TestDatabase};

/// How many customers a world has.
pub(super) const CUSTOMERS: usize = 12;

/// How many messages are under way at a time.
pub(super) const BREADTH: usize = 4;

/// The stage of the timeline, which is its default.
pub(super) const STAGE: &str = "hook";

/// How many ticks may pass before something that must happen has.
const PATIENCE: usize = 60;

/// What the messages of a world are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Mails, which promise at least once.
    Mail,
    /// Text messages, which promise at most once.
    Text,
}

/// What outlives the servers.
pub(super) struct Rig {
    backend: Backend,
    way: Way,
    days: usize,
    database: TestDatabase,
    /// Where servers find the database.
    url: String,
    smtp: SmtpServer,
    texts: TextServer,
    directory: TempDir,
    now: Timestamp,
    judge: Judge,
    pub(super) timeline_id: i64,
    /// Customers with a run besides those of the beginning.
    pub(super) extra: Vec<String>,
}

impl Rig {
    /// A world with a message to each customer at nine on each day, from Monday, 5 January 2026, 08:00 UTC.
    pub(super) async fn start(backend: Backend, way: Way, days: usize) -> Self {
        let database = TestDatabase::create(backend).await.expect("a database");
        let mut rig = Self {
            backend,
            way,
            days,
            judge: Judge::new(&database.url, way).await,
            url: database.url.clone(),
            database,
            smtp: SmtpServer::start().await,
            texts: TextServer::start().await,
            directory: tempfile::tempdir().expect("a directory"),
            now: at("2026-01-05T08:00:00Z"),
            timeline_id: 0,
            extra: Vec::new(),
        };
        rig.wind(TimeDelta::zero());
        let mut migrate = program(CAMPAIGND, rig.directory.path(), &["migrate"]);
        migrate.env("CAMPAIGN_DATABASE_URL", &rig.database.url);
        let migrated = block_in_place(|| run(migrate));
        assert!(migrated.status.success(), "{migrated:?}");
        let server = rig.serve(None);
        let channel = connect(&server).await;
        let campaign = pb::CampaignDefinition {
            campaign_id: "C".to_owned(),
            subject: "Day {{ day }}".to_owned(),
            text_body: "Hello {{ customer.name }}".to_owned(),
            sms_text: "Hello {{ customer.name }}".to_owned(),
            ..Default::default()
        };
        let request = pb::ApplyCampaignRequest {
            campaign: Some(campaign),
            ..Default::default()
        };
        let applied = CampaignContentServiceClient::new(channel.clone())
            .apply_campaign(request)
            .await;
        applied.expect("a campaign");
        let action = |day| match way {
            Way::Mail => email(day, 9, "C"),
            Way::Text => sms(day, 9, "C"),
        };
        let last = i32::try_from(days).expect("few");
        let definition = pb::TimelineDefinition {
            is_default: true,
            ..definition("hook", last, (1..=last).map(action).collect())
        };
        let request = pb::ApplyTimelineRequest {
            timeline: Some(definition),
            ..Default::default()
        };
        let applied = CampaignTimelineServiceClient::new(channel)
            .apply_timeline(request)
            .await;
        let timeline = applied.expect("a timeline").into_inner().timeline.expect("a timeline");
        rig.timeline_id = timeline.timeline_id;
        for n in 0..CUSTOMERS {
            let id = format!("c{n:02}");
            rig.upsert(&server, &id, "").await;
            let request = pb::StartTimelineRequest {
                customer_id: id,
                timeline_id: rig.timeline_id,
                ..Default::default()
            };
            rig.orchestrator(&server)
                .await
                .start_timeline(request)
                .await
                .expect("a run");
        }
        rig
    }

    /// Stores a customer.
    pub(super) async fn upsert(&self, server: &Served, id: &str, stage: &str) {
        let customer = pb::Customer {
            pipeline_stage: stage.to_owned(),
            ..customer(id, "Etc/UTC")
        };
        let request = pb::UpsertCustomersRequest {
            customers: vec![customer],
            ..Default::default()
        };
        let mut client = self.customers(server).await;
        client.upsert_customers(request).await.expect("a customer");
    }

    pub(super) async fn orchestrator(&self, server: &Served) -> CampaignOrchestratorServiceClient<Channel> {
        CampaignOrchestratorServiceClient::new(connect(server).await)
    }

    pub(super) async fn customers(&self, server: &Served) -> CustomerServiceClient<Channel> {
        CustomerServiceClient::new(connect(server).await)
    }

    /// A run as it is shown now.
    pub(super) async fn run(&self, server: &Served, run: &pb::Progress) -> pb::Progress {
        let request = pb::GetProgressRequest {
            customer_id: run.customer_id.clone(),
            progress_id: run.progress_id,
        };
        let shown = self.orchestrator(server).await.get_progress(request).await;
        shown.expect("a run").into_inner().progress.expect("a run")
    }

    // Time, and what the providers do.

    /// Moves the clock on.
    pub(super) fn wind(&mut self, by: TimeDelta) {
        self.now += by;
        let path = self.clock();
        let new = path.with_extension("new");
        std::fs::write(&new, self.now.to_rfc3339()).expect("written");
        std::fs::rename(new, path).expect("renamed");
    }

    fn clock(&self) -> PathBuf {
        self.directory.path().join("clock")
    }

    fn wind_to(&mut self, day: usize, time: TimeDelta) {
        let midnight = at("2026-01-05T00:00:00Z") + TimeDelta::days(i64::try_from(day).expect("few") - 1);
        self.wind((midnight + time - self.now).max(TimeDelta::zero()));
    }

    /// To the hour of a day's messages.
    pub(super) fn wind_to_hour_of(&mut self, day: usize) {
        self.wind_to(day, TimeDelta::hours(9));
    }

    /// To the beginning of the day after.
    pub(super) fn wind_to_midnight_after(&mut self, day: usize) {
        self.wind_to(day + 1, TimeDelta::minutes(20));
    }

    /// The provider takes what it gets, and doesn't answer.
    pub(super) fn stall(&self) {
        self.smtp.behave(Behaviour::Stall(Step::Dot));
        self.texts.stall(true);
    }

    /// The provider answers again.
    pub(super) fn release(&self) {
        self.smtp.behave(Behaviour::Accept);
        self.smtp.release();
        self.texts.stall(false);
    }

    /// Waits until somebody waits for the provider's answer.
    pub(super) async fn until_stalled(&self) {
        match self.way {
            Way::Mail => self.smtp.until_stalled(1).await,
            Way::Text => self.texts.until_stalled().await,
        }
    }

    /// Waits until no lease is near its end.
    pub(super) async fn until_prolonged(&self) {
        let soon = self.now + TimeDelta::seconds(60);
        while self.judge.earliest_lease().await.is_none_or(|end| end < soon) {
            tokio::task::yield_now().await;
        }
    }

    // Servers.

    /// Where the database listens, as host and port.
    pub(super) fn database_address(&self) -> String {
        let (_, rest) = self.database.url.rsplit_once('@').expect("a URL with a user");
        rest.split_once('/').expect("a URL with a database").0.to_owned()
    }

    /// Servers find the database at this address from now on.
    pub(super) fn reach_the_database_by(&mut self, addr: SocketAddr) {
        self.url = self.database.url.replace(&self.database_address(), &addr.to_string());
    }

    /// A server, with a failpoint or without.
    pub(super) fn serve(&self, failpoint: Option<&str>) -> Served {
        self.serve_with(failpoint, &[])
    }

    /// A server with more of a configuration.
    pub(super) fn serve_with(&self, failpoint: Option<&str>, more: &[(&str, &str)]) -> Served {
        let mut command = program(CAMPAIGND, self.directory.path(), &["--listen", "127.0.0.1:0"]);
        command
            .env("CAMPAIGN_DATABASE_URL", &self.url)
            .env("CAMPAIGN_EMAIL_URL", self.smtp.url())
            .env("CAMPAIGN_EMAIL_FROM", "Shop <shop@example.com>")
            .env("CAMPAIGN_SMS_URL", "outbox:outbox")
            .env("CAMPAIGN_PHONE_URL", "outbox:outbox")
            .env("CAMPAIGN_INTERACTION_URL", "outbox:outbox")
            .env("CAMPAIGN_EMAIL_CONCURRENCY", BREADTH.to_string())
            .env("CAMPAIGN_SMS_CONCURRENCY", BREADTH.to_string())
            .env("CAMPAIGN_LEASE", "75s")
            .env("CAMPAIGN_HEARTBEAT", "50ms")
            .env("CAMPAIGN_RETRY_BASE", "1m")
            .env("CAMPAIGN_RETRY_CAP", "1m")
            .env("CAMPAIGN_RETRY_ATTEMPTS", "100")
            .env("CAMPAIGN_TEST_SMS", self.texts.addr().to_string())
            .env("CAMPAIGN_TEST_CLOCK", self.clock())
            .envs(more.iter().copied());
        if let Some(failpoint) = failpoint {
            command.env("CAMPAIGN_FAILPOINT", failpoint);
        }
        block_in_place(|| Served::start(command))
    }

    /// Ticks until that kills the server.
    pub(super) async fn tick_until_killed(&mut self, server: Served) {
        for _ in 0..PATIENCE {
            if tick(&server).await.is_err() {
                return killed(server);
            }
            self.wind(TimeDelta::minutes(2));
        }
        panic!("the failpoint was not reached");
    }

    // The judge.

    /// Looks at what the last server left when it was killed.
    pub(super) async fn note_death(&mut self, window: &str) {
        self.smtp.until_closed().await;
        self.texts.until_read().await;
        self.note_kill(window).await;
    }

    /// Looks at what a server left, while another one goes on.
    pub(super) async fn note_kill(&mut self, window: &str) {
        let delivered = self.delivered();
        self.judge.note_kill(window, &delivered).await;
    }

    /// What arrived, by the ids of the messages, in order.
    fn delivered(&self) -> Vec<String> {
        match self.way {
            Way::Mail => self.smtp.deliveries().into_iter().map(|mail| mail.message_id).collect(),
            Way::Text => self.texts.delivered(),
        }
    }

    /// A server sleeps that was about to send: nobody can take that back, and what it sends arrives once more.
    pub(super) fn note_asleep(&mut self) {
        self.judge.asleep += BREADTH;
    }

    /// A claim was committed, and its server did not learn of it.
    pub(super) fn note_lost_claim(&mut self) {
        self.judge.kills += 1;
    }

    /// How many leases are held.
    pub(super) async fn leases(&self) -> usize {
        self.judge.leases().await
    }

    /// How many attempts ended with nobody knowing, for good.
    pub(super) async fn unknown(&self) -> usize {
        self.judge.unknown().await
    }

    /// How many messages arrived, each as often as it did.
    pub(super) fn arrivals(&self) -> usize {
        self.delivered().len()
    }

    /// Ticks with a server that nobody kills until all runs have ended, and judges.
    pub(super) async fn finish_and_judge(mut self, what: &str) {
        self.url.clone_from(&self.database.url);
        let server = self.serve(None);
        for _ in 0..PATIENCE + 30 * self.days {
            tick(&server).await.expect("a tick");
            if self.judge.is_over().await {
                break;
            }
            self.wind(TimeDelta::hours(1));
        }
        let runs = CUSTOMERS + self.extra.len();
        let verdict = self.judge.judge(&self.delivered(), runs, runs * self.days).await;
        eprintln!("{:?}, {:?}, {what}: {verdict}", self.backend, self.way);
        server.signal("TERM");
        let status = block_in_place(|| server.ended());
        assert_eq!(status.code(), Some(0));
    }
}

/// The hourly tick.
pub(super) async fn tick(server: &Served) -> Result<pb::TickSummary, Status> {
    ticking(server).await.expect("a task")
}

/// The hourly tick, in a task of its own.
pub(super) fn ticking(server: &Served) -> JoinHandle<Result<pb::TickSummary, Status>> {
    let addr = server.addr;
    tokio::spawn(async move {
        let mut client = CampaignTickServiceClient::new(connect_to(addr).await?);
        hourly(&mut client, pb::ProcessCampaignTimelinesRequest::default()).await
    })
}

/// Waits for a server's end, which must be that of a killed one.
pub(super) fn killed(server: Served) {
    let status = block_in_place(|| server.ended());
    assert_eq!(status.signal(), Some(9), "{status:?}");
}

async fn connect(server: &Served) -> Channel {
    connect_to(server.addr).await.expect("a connection")
}

async fn connect_to(addr: SocketAddr) -> Result<Channel, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).expect("an address");
    endpoint
        .connect()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))
}
