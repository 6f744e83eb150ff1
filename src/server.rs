//! The server: built from its configuration, bound, run, and stopped in good order.

mod auth;
mod fence;
mod listener;
mod providers;
mod rate;
mod secret;
mod shed;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::http::HeaderMap;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::ServiceBuilder;

use crate::auth::{IdentifyLayer, PermitLayer};
use crate::channels::{
    ChannelUrl, DkimSigner, GatewaySender, HttpClient, HttpSettings, OutboxSender, Sender, Senders, SmtpLimits,
    SmtpSender, SystemResolver, TrustedRoots, TwilioSender, WebhookSender,
};
use crate::clock::Clock;
use crate::config::{self, Config, DatabaseArgs, ProviderError, SpokenRoute, TaskRoute};
use crate::domain::{Channel, CircuitPolicy, RetryPolicy};
use crate::engine::{Engine, EngineSettings, MailIdentity, Parts};
use crate::proto::campaign::v1::campaign_content_service_server::CampaignContentServiceServer;
use crate::proto::campaign::v1::campaign_orchestrator_service_server::CampaignOrchestratorServiceServer;
use crate::proto::campaign::v1::campaign_tick_service_server::CampaignTickServiceServer;
use crate::proto::campaign::v1::campaign_timeline_service_server::CampaignTimelineServiceServer;
use crate::proto::campaign::v1::customer_service_server::CustomerServiceServer;
use crate::proto::campaign::v1::sending_service_server::SendingServiceServer;
use crate::proto::{FILE_DESCRIPTOR_SET, is_grpc};
use crate::random::Random;
use crate::rest::{BrowserLayer, RestLayer, RestSettings};
use crate::rpc::{
    ContentService, CustomersService, DeadlineLayer, DeadlineSettings, MAX_MESSAGE_BYTES, OrchestratorService,
    SendingHoldsService, TickService, TimelinesService, UndecodableLayer,
};
use crate::store::Store;
use crate::web;
use listener::{Answers, ListenerSettings};
use providers::Callbacks;
use rate::RateLayer;
use shed::ShedLayer;

pub use fence::fence;

/// How often the health service looks at the database.
const HEALTH_EVERY: Duration = Duration::from_secs(5);

/// The longest that a request to a provider takes, and no longer than an attempt to send.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

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
    serving: JoinHandle<()>,
    health: HealthReporter,
    /// Ends when it is dropped.
    leases: AbortOnDropHandle<()>,
    grace: Duration,
}

impl Server {
    /// Opens the database, binds, and serves until [`Server::shutdown`].
    pub async fn start(config: Config, clock: Arc<dyn Clock>, random: Random) -> anyhow::Result<Self> {
        // Many steps with much to keep between them: on the heap, so that who waits for it stays small.
        Box::pin(Self::start_with(config, clock, random)).await
    }

    async fn start_with(config: Config, clock: Arc<dyn Clock>, random: Random) -> anyhow::Result<Self> {
        let routes = config.routes()?;
        let trusted = config.channels.trusted()?;
        let events = config.feedback.secrets()?;
        let keys = secret::keys(&config.secret_file()?)?;
        let tls = tls::read(config.listener.tls(), &clock).await?;
        let store = open_store(&config.database).await?;
        let (tracker, stopping) = (TaskTracker::new(), CancellationToken::new());
        let background = auth::Background {
            tracker: &tracker,
            stopping: &stopping,
        };
        let guard = Arc::new(auth::guard(&config.auth, &trusted, &clock, background).await?);
        let settings = engine_settings(&config, &routes);
        let keys = Arc::new(keys);
        let providers = providers::known(&routes);
        let callbacks = Callbacks::new(&config, &providers, &keys);
        let senders = senders(&config, routes, &trusted, &callbacks, &clock)?;
        let parts = Parts {
            store,
            clock: Arc::clone(&clock),
            random,
            senders,
            keys,
            tracker: tracker.clone(),
            stopping: stopping.clone(),
        };
        let engine = Engine::new(parts, settings)
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
        let endpoints = web::Shared {
            engine: Arc::clone(&engine),
            public_url: config.public_url.clone(),
            providers,
            events,
            call_limit: config.call_limit,
        };
        let rest = RestSettings {
            most_bytes: MAX_MESSAGE_BYTES,
            limit: config.call_limit,
            document: config.auth.reflection,
        };
        let rest = RestLayer::new(rest, Arc::clone(&guard) as _).map_err(anyhow::Error::msg)?;
        let browsers = BrowserLayer::new(&config.cors_origin, config.hosts()).map_err(anyhow::Error::msg)?;
        let shed = ShedLayer::new(config.listener.max_requests, rest.clone());
        let rates = RateLayer::new(config.listener.caller_rate, clock, rest.clone());
        let nowhere = rest.clone();
        let pages = web::router(endpoints).fallback(async move |headers| nothing_there(&nowhere, &headers));
        let routes = services(&engine, pages, config.auth.reflection)?.add_service(health_service);
        let answers = ServiceBuilder::new()
            .layer(browsers)
            .layer(shed)
            .layer(IdentifyLayer::new(Arc::clone(&guard)))
            .layer(rates)
            .layer(rest)
            .layer(PermitLayer::new(guard))
            .layer(DeadlineLayer::new(DeadlineSettings {
                limit: config.call_limit,
            }))
            .layer(UndecodableLayer)
            .service(routes.prepare());
        let settings = ListenerSettings::of(&config, tls);
        let serving = tokio::spawn(listener::serve(
            listener,
            settings,
            Answers::new(answers),
            stopping.clone(),
        ));
        let leases = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&engine).keep_leases()));
        tracker.spawn(watch_health(
            Arc::clone(&engine),
            health.clone(),
            stopping.clone(),
            is_well,
        ));
        if let Some(every) = config.schedule {
            tracing::info!("the ticks run from within, every {every:?}");
            tracker.spawn(Arc::clone(&engine).keep_schedule(every));
        }
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
            Ok(served) => served.context("serving broke off")?,
            Err(_) => abort.abort(),
        }
        // A database that does not answer ends what was under way when the connections end with this process.
        let closed = tokio::time::timeout(idle, self.engine.store().clone().close()).await;
        Ok(closed.unwrap_or(Ok(()))?)
    }

    /// Ends when serving does, which it does by itself only when it breaks off.
    pub async fn broken(&mut self) -> anyhow::Result<()> {
        (&mut self.serving).await.context("serving broke off")
    }
}

/// Brings the schema of a database up to date.
pub async fn migrate(database: &DatabaseArgs) -> anyhow::Result<()> {
    let store = connect(database).await?;
    store.migrate().await.context("can't migrate the database")?;
    tracing::info!("the database's schema is up to date");
    Ok(store.close().await?)
}

/// Opens the database. The embedded one is migrated on the way; a shared one must have been, so that no replica that
/// happens to start changes it under the others.
async fn open_store(database: &DatabaseArgs) -> anyhow::Result<Store> {
    let store = connect(database).await?;
    if database.database_url.is_sqlite() {
        store.migrate().await.context("can't migrate the database")?;
    } else {
        store.check_schema().await?;
    }
    Ok(store)
}

async fn connect(database: &DatabaseArgs) -> anyhow::Result<Store> {
    let url = &database.database_url;
    let connected = Store::connect(&database.settings()).await;
    connected.with_context(|| format!("can't open the database {url:?} (CAMPAIGN_DATABASE_URL)"))
}

fn senders(
    config: &Config,
    routes: config::Routes,
    trusted: &TrustedRoots,
    callbacks: &Callbacks,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Senders> {
    let config::Routes {
        email,
        sms,
        phone,
        interaction,
        test,
        from,
    } = routes;
    let signer = dkim_signer(config)?;
    let outbox = |directory: std::path::PathBuf| -> anyhow::Result<Arc<dyn Sender>> {
        let sender = OutboxSender::new(&directory, from.clone(), Arc::clone(clock));
        let sender = sender.with_context(|| format!("can't use the outbox {}", directory.display()))?;
        Ok(Arc::new(sender.signed_by(signer.clone())))
    };
    let email: Arc<dyn Sender> = match email {
        ChannelUrl::Outbox(directory) => outbox(directory)?,
        ChannelUrl::Smtp(server) => {
            let limits = SmtpLimits {
                connections: config.email_concurrency,
                send_timeout: config.send_timeout,
                ..SmtpLimits::default()
            };
            let sender = SmtpSender::new(server, trusted, from.clone(), Arc::clone(clock), limits)?;
            Arc::new(sender.signed_by(signer.clone()))
        }
        ChannelUrl::Twilio(_) | ChannelUrl::Gateway(_) | ChannelUrl::Webhook(_) => {
            return Err(ProviderError::NotForMail.into());
        }
    };
    let settings = HttpSettings {
        policy: config.channels.providers.policy(),
        timeout: REQUEST_LIMIT.min(config.send_timeout),
    };
    let client = HttpClient::new(settings, trusted, Arc::new(SystemResolver), Arc::clone(clock))?;
    let client = Arc::new(client);
    let limit = config.channels.providers.sms_max_segments;
    let http = || Arc::clone(&client);
    let sms: Arc<dyn Sender> = match sms {
        SpokenRoute::Outbox(directory) => outbox(directory)?,
        SpokenRoute::Twilio(account, from) => {
            let callbacks = callbacks.texts.clone();
            Arc::new(TwilioSender::messages(http(), account, from, limit, callbacks))
        }
        SpokenRoute::Gateway(url, secrets, from) => {
            let from = from.map(|from| from.as_str().to_owned());
            let callbacks = callbacks.gateway.clone();
            Arc::new(GatewaySender::new(http(), url, secrets, from, limit, callbacks))
        }
    };
    let phone: Arc<dyn Sender> = match phone {
        SpokenRoute::Outbox(directory) => outbox(directory)?,
        SpokenRoute::Twilio(account, from) => {
            Arc::new(TwilioSender::calls(http(), account, from, callbacks.calls.clone()))
        }
        SpokenRoute::Gateway(url, secrets, from) => {
            let from = from.map(|from| from.as_str().to_owned());
            let callbacks = callbacks.gateway.clone();
            Arc::new(GatewaySender::new(http(), url, secrets, from, limit, callbacks))
        }
    };
    let interaction: Arc<dyn Sender> = match interaction {
        TaskRoute::Outbox(directory) => outbox(directory)?,
        TaskRoute::Webhook(url, secrets) => Arc::new(WebhookSender::new(http(), url, secrets)),
    };
    Ok(Senders {
        email,
        sms,
        phone,
        interaction,
        test: test.map(|directory| -> Arc<dyn Sender> {
            let sender = OutboxSender::when_needed(directory, from.clone(), Arc::clone(clock));
            Arc::new(sender.signed_by(signer.clone()))
        }),
    })
}

/// Who signs mails, if anybody.
fn dkim_signer(config: &Config) -> anyhow::Result<Option<Arc<DkimSigner>>> {
    let (Some(file), Some(selector)) = (&config.dkim_key_file, &config.dkim_selector) else {
        return Ok(None);
    };
    let what = || format!("mails can't be signed with {} (CAMPAIGN_DKIM_KEY_FILE)", file.display());
    let pem = std::fs::read_to_string(file).with_context(what)?;
    Ok(Some(Arc::new(DkimSigner::new(selector, &pem).with_context(what)?)))
}

fn engine_settings(config: &Config, routes: &config::Routes) -> EngineSettings {
    let chrono = |duration: Duration| chrono::Duration::from_std(duration).unwrap_or(chrono::Duration::MAX);
    EngineSettings {
        default_zone: config.default_time_zone,
        hours: config.hours(),
        retry: RetryPolicy {
            max_attempts: config.retry_attempts,
            base: chrono(config.retry_base),
            cap: chrono(config.retry_cap),
        },
        lease: chrono(config.lease),
        heartbeat: config.heartbeat(),
        max_clock_skew: chrono(config.max_clock_skew),
        send_timeout: chrono(config.send_timeout),
        circuits: CircuitPolicy {
            failures: config.limits.channel_failures,
            pause: chrono(config.channel_probe),
            cap: chrono(config.limits.channel_probe_cap),
        },
        rates: config.limits.rates(),
        tick_limit: config.tick_limit,
        lanes: config.lanes(),
        identity: MailIdentity {
            from: routes.from.clone(),
            postal_address: config.postal_address.clone(),
        },
        public_url: config.public_url.clone(),
        bounce_address: config.feedback.bounce_address.clone(),
    }
}

/// What is served: pages, and the services of the contract.
fn services(engine: &Arc<Engine>, pages: axum::Router, reflects: bool) -> anyhow::Result<Routes> {
    let content = ContentService::new(Arc::clone(engine));
    let orchestrator = OrchestratorService::new(Arc::clone(engine));
    let ticks = TickService::new(Arc::clone(engine));
    let timelines = TimelinesService::new(Arc::clone(engine));
    let customers = CustomersService::new(Arc::clone(engine));
    let sending = SendingHoldsService::new(Arc::clone(engine));
    let mut routes = Routes::from(pages);
    if reflects {
        routes = routes.add_service(reflection()?);
    }
    Ok(routes
        .add_service(limited!(CampaignContentServiceServer::new(content)))
        .add_service(limited!(CampaignOrchestratorServiceServer::new(orchestrator)))
        .add_service(limited!(CampaignTickServiceServer::new(ticks)))
        .add_service(limited!(CampaignTimelineServiceServer::new(timelines)))
        .add_service(limited!(CustomerServiceServer::new(customers)))
        .add_service(limited!(SendingServiceServer::new(sending))))
}

fn reflection() -> anyhow::Result<
    tonic_reflection::server::v1::ServerReflectionServer<impl tonic_reflection::server::v1::ServerReflection>,
> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    Ok(builder.build_v1()?)
}

/// The answer to a path that is none, as gRPC says it or as REST does.
fn nothing_there(rest: &RestLayer, headers: &HeaderMap) -> axum::response::Response {
    if is_grpc(headers) {
        return tonic::Status::unimplemented("there is no such method").into_http();
    }
    rest.nothing_there().map(axum::body::Body::new)
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
            () = engine.circuits_changed() => {}
        }
        report_channels(&engine, &health).await;
        let checked = check_ready(&engine).await;
        if checked.is_ok() != was_well {
            was_well = checked.is_ok();
            report_health(&health, checked).await;
        }
    }
}

/// Tells whoever asks for the health of a channel whether its circuit is closed.
async fn report_channels(engine: &Engine, health: &HealthReporter) {
    let Ok(Ok(open)) = tokio::time::timeout(HEALTH_EVERY, engine.open_circuits()).await else {
        return;
    };
    for channel in Channel::ALL.into_iter().filter(|channel| *channel != Channel::Wait) {
        let is_open = open.iter().any(|circuit| circuit.channel == channel);
        let status = if is_open {
            ServingStatus::NotServing
        } else {
            ServingStatus::Serving
        };
        let name = format!("channel.{}", channel.as_str());
        health.set_service_status(name, status).await;
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
