//! The server: built from its configuration, bound, run, and stopped in good order.

mod fence;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::channels::{ChannelUrl, OutboxSender, Sender, Senders, SmtpLimits, SmtpSender};
use crate::clock::Clock;
use crate::config::{Config, Routes};
use crate::domain::RetryPolicy;
use crate::engine::{Engine, EngineSettings, Parts};
use crate::proto::FILE_DESCRIPTOR_SET;
use crate::proto::campaign::v1::campaign_content_service_server::CampaignContentServiceServer;
use crate::proto::campaign::v1::campaign_orchestrator_service_server::CampaignOrchestratorServiceServer;
use crate::proto::campaign::v1::campaign_tick_service_server::CampaignTickServiceServer;
use crate::proto::campaign::v1::campaign_timeline_service_server::CampaignTimelineServiceServer;
use crate::proto::campaign::v1::customer_service_server::CustomerServiceServer;
use crate::proto::campaign::v1::sending_service_server::SendingServiceServer;
use crate::random::Random;
use crate::rpc::{
    ContentService, CustomersService, DeadlineLayer, DeadlineSettings, MAX_MESSAGE_BYTES, OrchestratorService,
    SendingHoldsService, TickService, TimelinesService, UndecodableLayer,
};
use crate::store::{ConnectSettings, Store};

pub use fence::fence;

/// The most requests that one connection may have open.
const MAX_STREAMS: u32 = 1000;

/// The largest head of a request, in bytes.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// How often an idle connection is asked whether anybody is there, and how long the answer may take.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// How often the health service looks at the database.
const HEALTH_EVERY: Duration = Duration::from_secs(5);

/// What is served, for the health service.
const SERVICES: [&str; 6] = [
    "campaign.v1.CampaignContentService",
    "campaign.v1.CampaignOrchestratorService",
    "campaign.v1.CampaignTickService",
    "campaign.v1.CampaignTimelineService",
    "campaign.v1.CustomerService",
    "campaign.v1.SendingService",
];

/// Sets the limits of messages, which every generated server has a method of its own for.
macro_rules! limited {
    ($service:expr) => {
        $service
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    };
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    engine: Arc<Engine>,
    tracker: TaskTracker,
    /// Cancelled to stop claiming, and to stop accepting.
    stopping: CancellationToken,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    health: HealthReporter,
    /// Ends when it is dropped.
    leases: AbortOnDropHandle<()>,
    grace: Duration,
}

impl Server {
    /// Opens the database, binds, and serves until [`Server::shutdown`].
    pub async fn start(config: Config, clock: Arc<dyn Clock>, random: Random) -> anyhow::Result<Self> {
        let routes = config.routes()?;
        let store = open_store(&config).await?;
        let (tracker, stopping) = (TaskTracker::new(), CancellationToken::new());
        let senders = senders(&config, routes, &clock)?;
        let parts = Parts {
            store,
            clock,
            random,
            senders,
            tracker: tracker.clone(),
            stopping: stopping.clone(),
        };
        let engine = Engine::new(parts, engine_settings(&config))
            .await
            .context("the database can't be used")?;
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("can't listen on {}", config.listen))?;
        let addr = listener.local_addr()?;
        let (health, health_service) = tonic_health::server::health_reporter();
        // A server whose clock is wrong comes up, so that it says so and is ready as soon as the clock is set.
        let checked = check_ready(&engine).await;
        let is_well = checked.is_ok();
        report_health(&health, checked).await;
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let router = tonic::transport::Server::builder()
            .max_concurrent_streams(MAX_STREAMS)
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .layer(DeadlineLayer::new(DeadlineSettings {
                limit: config.call_limit,
            }))
            .layer(UndecodableLayer)
            .add_service(health_service)
            .add_service(reflection()?)
            .add_service(limited!(CampaignContentServiceServer::new(ContentService::new(
                Arc::clone(&engine)
            ))))
            .add_service(limited!(CampaignOrchestratorServiceServer::new(
                OrchestratorService::new(Arc::clone(&engine))
            )))
            .add_service(limited!(CampaignTickServiceServer::new(TickService::new(Arc::clone(
                &engine
            )))))
            .add_service(limited!(CampaignTimelineServiceServer::new(TimelinesService::new(
                Arc::clone(&engine)
            ))))
            .add_service(limited!(CustomerServiceServer::new(CustomersService::new(Arc::clone(
                &engine
            )))))
            .add_service(limited!(SendingServiceServer::new(SendingHoldsService::new(
                Arc::clone(&engine)
            ))));
        let serving = tokio::spawn(router.serve_with_incoming_shutdown(incoming, stopping.clone().cancelled_owned()));
        let leases = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&engine).keep_leases()));
        tracker.spawn(watch_health(
            Arc::clone(&engine),
            health.clone(),
            stopping.clone(),
            is_well,
        ));
        Ok(Self {
            addr,
            engine,
            tracker,
            stopping,
            serving,
            health,
            leases,
            grace: config.shutdown_grace,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The engine, for those who watch it from inside the process.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Stops: health says so, nothing new is claimed or accepted, what is under way is finished and recorded, within the grace time.
    /// A connection that stays idle can hold a graceful shutdown for ever (hyperium/hyper#4170), so this doesn't wait for it.
    pub async fn shutdown(self) -> anyhow::Result<()> {
        for service in SERVICES.into_iter().chain([""]) {
            self.health.set_service_status(service, ServingStatus::NotServing).await;
        }
        self.stopping.cancel();
        self.tracker.close();
        let finished = tokio::time::timeout(self.grace, self.tracker.wait()).await;
        if finished.is_err() {
            tracing::warn!(
                tasks = self.tracker.len(),
                "the grace time is over, with {} tasks under way",
                self.tracker.len()
            );
        }
        drop(self.leases);
        let serving = self.serving;
        let abort = serving.abort_handle();
        let idle = Duration::from_secs(1).min(self.grace);
        match tokio::time::timeout(idle, serving).await {
            Ok(served) => served?.context("serving broke off")?,
            Err(_) => abort.abort(),
        }
        Ok(self.engine.store().clone().close().await?)
    }

    /// Ends when serving does, which it does by itself only when it breaks off.
    pub async fn broken(&mut self) -> anyhow::Result<()> {
        (&mut self.serving).await?.context("serving broke off")
    }
}

/// Opens the database. The embedded one is migrated on the way; a shared one must have been, so that no replica that
/// happens to start changes it under the others.
async fn open_store(config: &Config) -> anyhow::Result<Store> {
    let database = &config.database;
    let settings = ConnectSettings {
        url: database.database_url.clone(),
        max_connections: database.database_connections,
        forced_to_disk: database.forced_to_disk,
        busy_timeout: database.busy_timeout,
    };
    let opened = Store::connect(&settings).await;
    let store = opened.with_context(|| {
        format!(
            "can't open the database {:?} (CAMPAIGN_DATABASE_URL)",
            database.database_url
        )
    })?;
    if database.database_url.is_sqlite() {
        store.migrate().await.context("can't migrate the database")?;
    } else {
        store.check_schema().await?;
    }
    Ok(store)
}

fn senders(config: &Config, routes: Routes, clock: &Arc<dyn Clock>) -> anyhow::Result<Senders> {
    let Routes {
        email,
        sms,
        phone,
        interaction,
        test,
        from,
    } = routes;
    let outbox = |directory: std::path::PathBuf| -> anyhow::Result<Arc<dyn Sender>> {
        let sender = OutboxSender::new(&directory, from.clone(), Arc::clone(clock));
        Ok(Arc::new(sender.with_context(|| {
            format!("can't use the outbox {}", directory.display())
        })?))
    };
    let email: Arc<dyn Sender> = match email {
        ChannelUrl::Outbox(directory) => outbox(directory)?,
        ChannelUrl::Smtp(server) => {
            let limits = SmtpLimits {
                connections: config.email_concurrency,
                send_timeout: config.send_timeout,
                ..SmtpLimits::default()
            };
            Arc::new(SmtpSender::new(server, from.clone(), Arc::clone(clock), limits)?)
        }
    };
    let sms = match test_provider()? {
        Some(provider) => provider,
        None => outbox(sms)?,
    };
    Ok(Senders {
        email,
        sms,
        phone: outbox(phone)?,
        interaction: outbox(interaction)?,
        test: test.map(|directory| -> Arc<dyn Sender> {
            Arc::new(OutboxSender::when_needed(directory, from.clone(), Arc::clone(clock)))
        }),
    })
}

/// Where text messages go in tests that kill this process.
#[cfg(feature = "test-support")]
fn test_provider() -> anyhow::Result<Option<Arc<dyn Sender>>> {
    let Ok(addr) = std::env::var("CAMPAIGN_TEST_SMS") else {
        return Ok(None);
    };
    Ok(Some(Arc::new(crate::channels::LineSender::new(addr.parse()?))))
}

#[cfg(not(feature = "test-support"))]
#[expect(clippy::unnecessary_wraps, reason = "it fails where it is there")]
fn test_provider() -> anyhow::Result<Option<Arc<dyn Sender>>> {
    Ok(None)
}

fn engine_settings(config: &Config) -> EngineSettings {
    let chrono = |duration: Duration| chrono::Duration::from_std(duration).unwrap_or(chrono::Duration::MAX);
    EngineSettings {
        default_zone: config.default_time_zone,
        retry: RetryPolicy {
            max_attempts: config.retry_attempts,
            base: chrono(config.retry_base),
            cap: chrono(config.retry_cap),
        },
        lease: chrono(config.lease),
        heartbeat: config.heartbeat(),
        max_clock_skew: chrono(config.max_clock_skew),
        send_timeout: chrono(config.send_timeout),
        channel_probe: chrono(config.channel_probe),
        tick_limit: config.tick_limit,
        lanes: config.lanes(),
    }
}

fn reflection() -> anyhow::Result<
    tonic_reflection::server::v1::ServerReflectionServer<impl tonic_reflection::server::v1::ServerReflection>,
> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    Ok(builder.build_v1()?)
}

/// Keeps the health of the services at what the database allows: it must be there, and its clock agree with this server's. The
/// server itself ("") is healthy as long as it answers, so that nobody restarts it because its database is away.
async fn watch_health(engine: Arc<Engine>, health: HealthReporter, stopping: CancellationToken, mut was_well: bool) {
    let mut every = tokio::time::interval(HEALTH_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = every.tick() => {}
            () = engine.clock_changed() => {}
        }
        let checked = check_ready(&engine).await;
        if checked.is_ok() != was_well {
            was_well = checked.is_ok();
            report_health(&health, checked).await;
        }
    }
}

/// Whether work may be done, or why not.
async fn check_ready(engine: &Engine) -> Result<(), String> {
    match tokio::time::timeout(HEALTH_EVERY, engine.check_ready()).await {
        Ok(checked) => checked.map_err(|error| error.to_string()),
        Err(_) => Err("the database does not answer".to_owned()),
    }
}

/// Logs whether the server is ready, and tells whoever asks for its health.
async fn report_health(health: &HealthReporter, checked: Result<(), String>) {
    let status = match checked {
        Ok(()) => {
            tracing::info!("the server is ready");
            ServingStatus::Serving
        }
        Err(why) => {
            tracing::error!("the server is not ready: {why}");
            ServingStatus::NotServing
        }
    };
    for service in SERVICES {
        health.set_service_status(service, status).await;
    }
}
