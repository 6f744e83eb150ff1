//! A world for servers that are killed: what outlives them.

use campaign_automation::domain::Timestamp;
use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::campaign_content_service_client::CampaignContentServiceClient;
use campaign_automation::proto::campaign::v1::campaign_orchestrator_service_client::CampaignOrchestratorServiceClient;
use campaign_automation::proto::campaign::v1::campaign_timeline_service_client::CampaignTimelineServiceClient;
use campaign_automation::proto::campaign::v1::customer_service_client::CustomerServiceClient;
use chrono::{DurationRound as _, TimeDelta};
use sea_orm::DatabaseTransaction;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::task::block_in_place;
use tonic::transport::Channel;

use super::figures::Figures;
use super::history::{Arrival, History};
use super::judge::Judge;
use super::texts::TextServer;
use super::ticking::{connect, killed, tick};
use crate::support::given::{at, customer, definition, email, sms};
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

/// After so long a lease is over that nobody prolonged.
pub(super) const LEASE_IS_OVER: TimeDelta = TimeDelta::seconds(76);

/// After so long a repetition is due, with the most that chance adds.
const RETRY_IS_DUE: TimeDelta = TimeDelta::seconds(73);

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
    /// Where servers find the provider, if not where it is.
    provider: Option<SocketAddr>,
    directory: TempDir,
    now: Timestamp,
    judge: Judge,
    history: History,
    pub(super) timeline_id: i64,
    /// Customers with a run besides those of the beginning.
    pub(super) extra: Vec<String>,
}

impl Rig {
    /// A world with a message to each customer at nine on each day, from Monday, 5 January 2026, 08:00 UTC.
    pub(super) async fn start(backend: Backend, way: Way, days: usize) -> Self {
        let database = TestDatabase::create(backend).await.expect("a database");
        Self::start_in(database, backend, way, days).await
    }

    /// The same in a database that is given.
    pub(super) async fn start_in(database: TestDatabase, backend: Backend, way: Way, days: usize) -> Self {
        let mut rig = Self {
            backend,
            way,
            days,
            judge: Judge::new(&database.url, way).await,
            url: database.url.clone(),
            database,
            smtp: SmtpServer::start().await,
            texts: TextServer::start().await,
            provider: None,
            directory: tempfile::tempdir().expect("a directory"),
            now: at("2026-01-05T08:00:00Z"),
            history: History::new(at("2026-01-05T00:00:00Z")),
            timeline_id: 0,
            extra: Vec::new(),
        };
        rig.set_clock();
        let mut migrate = program(CAMPAIGND, rig.directory.path(), &["migrate"]);
        migrate.env("CAMPAIGN_DATABASE_URL", &rig.database.url);
        let migrated = block_in_place(|| run(migrate));
        assert!(migrated.status.success(), "{migrated:?}");
        let server = rig.serve(None);
        let channel = connect(&server).await;
        let campaign = pb::CampaignDefinition {
            campaign_id: "C".to_owned(),
            kind: pb::CampaignKind::Transactional.into(),
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
            let id = nth(n);
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

    /// Moves the clock on. What was seen by then happened at the instant at which it stood.
    pub(super) async fn wind(&mut self, by: TimeDelta) {
        self.look().await;
        self.now += by;
        self.set_clock();
    }

    fn set_clock(&self) {
        let path = self.clock();
        let new = path.with_extension("new");
        std::fs::write(&new, self.now.to_rfc3339()).expect("written");
        std::fs::rename(new, path).expect("renamed");
    }

    /// Notes what has happened since the clock was last moved.
    async fn look(&mut self) {
        let runs = self.judge.days().await;
        let arrived = self.arrived_after(self.history.arrivals());
        self.history.note(self.now, arrived, runs);
    }

    fn clock(&self) -> PathBuf {
        self.directory.path().join("clock")
    }

    async fn wind_to(&mut self, day: usize, time: TimeDelta) {
        let midnight = at("2026-01-05T00:00:00Z") + TimeDelta::days(i64::try_from(day).expect("few") - 1);
        self.wind((midnight + time - self.now).max(TimeDelta::zero())).await;
    }

    /// To the hour of a day's messages.
    pub(super) async fn wind_to_hour_of(&mut self, day: usize) {
        self.wind_to(day, TimeDelta::hours(9)).await;
    }

    /// To the beginning of the day after.
    pub(super) async fn wind_to_midnight_after(&mut self, day: usize) {
        self.wind_to(day + 1, TimeDelta::minutes(20)).await;
    }

    /// Ticks until what a dead server had under way has been found, and was repeated.
    pub(super) async fn recover(&mut self, server: &Served) {
        for pause in [LEASE_IS_OVER, RETRY_IS_DUE] {
            self.wind(pause).await;
            tick(server).await.expect("a tick");
        }
    }

    /// The same with a new server, which goes away then.
    pub(super) async fn restart_and_recover(&mut self) {
        let server = self.serve(None);
        self.recover(&server).await;
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
            Way::Text => self.texts.until_stalled(1).await,
        }
    }

    /// Waits until all messages that can be under way at a time wait for the provider's answer.
    pub(super) async fn until_all_stalled(&self) {
        match self.way {
            Way::Mail => self.smtp.until_stalled(BREADTH).await,
            Way::Text => self.texts.until_stalled(BREADTH).await,
        }
    }

    /// Waits until no lease is near its end.
    pub(super) async fn until_prolonged(&self) {
        let soon = self.now + TimeDelta::seconds(60);
        let prolonged = async {
            while self.judge.earliest_lease().await.is_none_or(|end| end < soon) {
                tokio::task::yield_now().await;
            }
        };
        // A heartbeat comes every few seconds.
        let in_time = tokio::time::timeout(std::time::Duration::from_secs(60), prolonged);
        in_time.await.expect("leases are prolonged");
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

    /// Where the provider listens, as host and port.
    pub(super) fn provider_address(&self) -> String {
        match self.way {
            Way::Mail => self.smtp.address(),
            Way::Text => self.texts.addr().to_string(),
        }
    }

    /// Servers find the provider at this address from now on.
    pub(super) fn reach_the_provider_by(&mut self, addr: SocketAddr) {
        self.provider = Some(addr);
    }

    /// A server, with a failpoint or without.
    pub(super) fn serve(&self, failpoint: Option<&str>) -> Served {
        self.serve_with(failpoint, &[])
    }

    /// A server with more of a configuration.
    pub(super) fn serve_with(&self, failpoint: Option<&str>, more: &[(&str, &str)]) -> Served {
        let mut command = program(CAMPAIGND, self.directory.path(), &["--listen", "127.0.0.1:0"]);
        let address = |own: String| self.provider.map_or(own, |proxy| proxy.to_string());
        command
            .env("CAMPAIGN_DATABASE_URL", &self.url)
            .env("CAMPAIGN_EMAIL_URL", format!("smtp://{}", address(self.smtp.address())))
            .env("CAMPAIGN_EMAIL_FROM", "Shop <shop@example.com>")
            .env(
                "CAMPAIGN_SMS_URL",
                format!("gateway+http://{}", address(self.texts.addr().to_string())),
            )
            .env("CAMPAIGN_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            .env("CAMPAIGN_ALLOW_PRIVATE_DESTINATIONS", "true")
            .env("CAMPAIGN_PHONE_URL", "outbox:outbox")
            .env("CAMPAIGN_INTERACTION_URL", "outbox:outbox")
            .env("CAMPAIGN_EMAIL_CONCURRENCY", BREADTH.to_string())
            .env("CAMPAIGN_SMS_CONCURRENCY", BREADTH.to_string())
            // Runs of failures are what these tests are made of.
            .env("CAMPAIGN_CHANNEL_FAILURES", "0")
            .env("CAMPAIGN_LEASE", "75s")
            .env("CAMPAIGN_HEARTBEAT", "50ms")
            .env("CAMPAIGN_RETRY_BASE", "1m")
            .env("CAMPAIGN_RETRY_CAP", "1m")
            .env("CAMPAIGN_RETRY_ATTEMPTS", "100")
            .env("CAMPAIGN_TEST_CLOCK", self.clock())
            // There are hundreds of servers, so their dependencies are quiet.
            .env("CAMPAIGN_LOG", "info,campaign_automation=trace")
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
            self.wind(TimeDelta::minutes(2)).await;
        }
        panic!("the failpoint was not reached");
    }

    /// A server finds what a dead one left, and is killed as well where it comes to the failpoint.
    pub(super) async fn kill_another(&mut self, failpoint: &str) {
        let server = self.serve(Some(&format!("{failpoint}=kill")));
        for pause in [LEASE_IS_OVER, RETRY_IS_DUE] {
            self.wind(pause).await;
            if tick(&server).await.is_err() {
                killed(server);
                return self.note_death(failpoint).await;
            }
        }
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
        self.arrived_after(0).into_iter().map(|arrival| arrival.id).collect()
    }

    /// Who was written to.
    pub(super) fn written_to(&self) -> BTreeSet<String> {
        self.arrived_after(0)
            .into_iter()
            .map(|arrival| arrival.customer)
            .collect()
    }

    /// What arrived after the first `count`, in order.
    fn arrived_after(&self, count: usize) -> Vec<Arrival> {
        match self.way {
            Way::Mail => self.smtp.deliveries_after(count).iter().map(Arrival::of_mail).collect(),
            Way::Text => self.texts.delivered_after(count),
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

    /// Locks the rows that are leased, until the transaction ends.
    pub(super) async fn lock_leased(&self) -> DatabaseTransaction {
        self.judge.lock_leased().await
    }

    /// Waits until a server waits for such a lock.
    pub(super) async fn until_blocked(&self) {
        self.judge.until_blocked().await;
    }

    /// How many attempts ended with nobody knowing, for good.
    pub(super) async fn unknown(&self) -> usize {
        self.judge.unknown().await
    }

    /// How many messages arrived, each as often as it did.
    pub(super) fn arrivals(&self) -> usize {
        self.delivered().len()
    }

    /// How many messages arrived at least once.
    pub(super) fn arrived(&self) -> usize {
        self.delivered().into_iter().collect::<BTreeSet<_>>().len()
    }

    /// Ticks with a server that nobody kills until all runs have ended, judges, and prints what was found.
    pub(super) async fn finish_and_judge(self, window: &str) {
        let (backend, way) = (self.backend, self.way);
        self.finish().await.print(window, way, backend);
    }

    /// Ticks with a server that nobody kills until all runs have ended, and judges.
    pub(super) async fn finish(mut self) -> Figures {
        self.url.clone_from(&self.database.url);
        self.provider = None;
        let server = self.serve(None);
        self.recover(&server).await;
        for _ in 0..PATIENCE + 30 * self.days {
            if self.judge.is_over().await {
                break;
            }
            // At full hours, as a CronJob does.
            let hour = self.now.duration_trunc(TimeDelta::hours(1)).expect("an instant") + TimeDelta::hours(1);
            self.wind(hour - self.now).await;
            tick(&server).await.expect("a tick");
        }
        self.look().await;
        let runs = CUSTOMERS + self.extra.len();
        let figures = self.judge.judge(&self.delivered(), runs, runs * self.days).await;
        let customers = (0..CUSTOMERS).map(nth).chain(self.extra.iter().cloned());
        self.history.judge(customers, self.days, &self.judge.executions().await);
        server.signal("TERM");
        let status = block_in_place(|| server.ended());
        assert_eq!(status.code(), Some(0));
        figures
    }
}

/// A customer of the beginning.
fn nth(n: usize) -> String {
    format!("c{n:02}")
}
