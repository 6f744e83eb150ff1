//! The server: built from its configuration, bound, run, and stopped in good order.

mod auth;
mod fence;
mod health;
mod listener;
mod monitor;
mod network;
mod providers;
mod purge;
mod rate;
mod secret;
mod shed;
mod tls;
mod watch;
mod watches;

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
use tonic_health::server::HealthReporter;
use tower::ServiceBuilder;

use crate::auth::{IdentifyLayer, PermitLayer};
use crate::channels::{
    ChannelUrl, DkimSigner, GatewaySender, HttpClient, HttpSettings, OutboxSender, Sender, Senders, SmtpLimits,
    SmtpSender, SystemResolver, TrustedRoots, TwilioSender, WebhookSender,
};
use crate::clock::Clock;
use crate::config::{self, Config, DatabaseArgs, ProviderError, SpokenRoute, TaskRoute};
use crate::domain::{CircuitPolicy, RetryPolicy};
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
    CallsLayer, ContentService, CustomersService, DeadlineLayer, DeadlineSettings, MAX_MESSAGE_BYTES,
    OrchestratorService, SendingHoldsService, TickService, TimelinesService, UndecodableLayer,
};
use crate::store::Store;
use crate::telemetry::{Metering, Metrics};
use crate::web;
use health::Health;
use listener::{Answers, ListenerSettings};
use monitor::Monitor;
use providers::Callbacks;
use rate::RateLayer;
use shed::ShedLayer;
use watch::{TraceLayer, WatchLayer};

pub use fence::fence;
pub use purge::purge;

/// How long the last metrics may take to be pushed.
const PUSHED_WITHIN: Duration = Duration::from_secs(5);

/// The longest that a request to a provider takes, and no longer than an attempt to send.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

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
    health: Health,
    monitor: Option<Monitor>,
    metering: Metering,
    /// Ends when it is dropped.
    leases: AbortOnDropHandle<()>,
    grace: Duration,
}

impl Server {
    /// Opens the database, binds, and serves until [`Server::shutdown`].
    pub async fn start(config: Config, clock: Arc<dyn Clock>, random: Random) -> anyhow::Result<Self> {
        Self::start_with(config, clock, random, None).await
    }

    /// The same with ways out of the caller's own in place of the configured ones, for who measures the service and not its
    /// providers.
    pub async fn start_with(
        config: Config,
        clock: Arc<dyn Clock>,
        random: Random,
        senders: Option<Senders>,
    ) -> anyhow::Result<Self> {
        // Many steps with much to keep between them: on the heap, so that who waits for it stays small.
        Box::pin(Self::start_all(config, clock, random, senders)).await
    }

    async fn start_all(
        config: Config,
        clock: Arc<dyn Clock>,
        random: Random,
        given: Option<Senders>,
    ) -> anyhow::Result<Self> {
        let routes = config.routes()?;
        let trusted = config.channels.trusted()?;
        let events = config.feedback.secrets()?;
        let keys = secret::keys(&config.secret_file()?)?;
        let metering = Metering::start(config.monitor.otlp().as_ref())?;
        let metrics = metering.metrics().clone();
        let tls = tls::read(config.listener.tls(), &clock, &metrics).await?;
        let store = open_store(&config.database).await?.counted_by(metrics.clone());
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
        let configured = || senders(&config, routes, &trusted, &callbacks, &clock, &metrics);
        let senders = given.map_or_else(configured, Ok)?;
        let parts = Parts {
            store,
            clock: Arc::clone(&clock),
            random,
            senders,
            keys,
            metrics: metrics.clone(),
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
        let reporter = HealthReporter::new();
        let health_service = watches::service(reporter.clone(), config.listener.max_watches);
        let watched = &config.monitor;
        let health = Health::begin(&engine, reporter, metrics.clone(), watched.ready_max_tick_age).await;
        let monitor = Monitor::start(&config, &health, &metering, health_service.clone()).await?;
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
        let shed = ShedLayer::new(config.listener.max_requests, metrics.clone(), rest.clone());
        let rates = RateLayer::new(config.listener.caller_rate, clock, metrics.clone(), rest.clone());
        // Where nobody is asked who he is, they are no secret either.
        let shown = (monitor.is_none() && !config.auth.asks()).then_some(&metering);
        let pages = pages(endpoints, &health, shown, rest.clone());
        let routes = services(&engine, pages, config.auth.reflection)?.add_service(health_service);
        let answers = ServiceBuilder::new()
            .layer(WatchLayer(metrics.clone()))
            .layer(browsers)
            .layer(shed)
            .layer(IdentifyLayer::new(Arc::clone(&guard)))
            .layer(TraceLayer)
            .layer(rates)
            .layer(rest)
            .layer(CallsLayer::new(metrics.clone()).map_err(anyhow::Error::msg)?)
            .layer(PermitLayer::new(guard))
            .layer(DeadlineLayer::new(DeadlineSettings {
                limit: config.call_limit,
            }))
            .layer(UndecodableLayer)
            .service(routes.prepare());
        let settings = ListenerSettings::of(&config, tls, metrics);
        let serving = tokio::spawn(listener::serve(
            listener,
            settings,
            Answers::new(answers),
            stopping.clone(),
        ));
        let leases = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&engine).keep_leases()));
        begin_by_itself(&config, &engine, &health, background);
        Ok(Self {
            addr,
            engine,
            tracker,
            stopping,
            serving,
            health,
            monitor,
            metering,
            leases,
            grace: config.shutdown_grace,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where metrics and health are served, if they have a listener of their own.
    pub fn monitor_addr(&self) -> Option<SocketAddr> {
        self.monitor.as_ref().map(|monitor| monitor.addr)
    }

    /// The engine, for those who watch it from inside the process.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Stops: health says so, nothing new is claimed or accepted, what is under way is finished and recorded, within the grace time.
    /// A connection that stays idle can hold a graceful shutdown for ever (hyperium/hyper#4170), so this doesn't wait for it.
    pub async fn shutdown(self) -> anyhow::Result<()> {
        self.health.stop().await;
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
        let pushed = tokio::task::spawn_blocking(move || self.metering.shutdown());
        drop((self.monitor, tokio::time::timeout(PUSHED_WITHIN, pushed).await));
        Ok(closed.unwrap_or(Ok(()))?)
    }

    /// Ends when serving does, which it does by itself only when it breaks off.
    pub async fn broken(&mut self) -> anyhow::Result<()> {
        (&mut self.serving).await.context("serving broke off")
    }
}

/// Brings the schema of a database up to date, and distributes its tables on request.
pub async fn migrate(database: &DatabaseArgs, distribute: bool) -> anyhow::Result<()> {
    let store = connect(database).await?;
    if distribute {
        store.check_cluster().await?;
    }
    store.migrate().await.context("can't migrate the database")?;
    tracing::info!("the database's schema is up to date");
    if distribute {
        let moved = store.distribute().await?;
        tracing::info!("the tables are distributed: {moved} were moved to their places in the cluster");
    }
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
    metrics: &Metrics,
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
    let client = HttpClient::new(
        settings,
        trusted,
        Arc::new(SystemResolver),
        Arc::clone(clock),
        metrics.clone(),
    )?;
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
            postal_address: config.postal_address.as_deref().map(Into::into),
        },
        public_url: config.public_url.clone(),
        bounce_address: config.feedback.bounce_address.clone(),
    }
}

/// Begins what nobody has to ask for.
fn begin_by_itself(config: &Config, engine: &Arc<Engine>, health: &Health, background: auth::Background<'_>) {
    let auth::Background { tracker, stopping } = background;
    tracker.spawn(health.clone().watch(stopping.clone()));
    if let Some(interval) = config.monitor.survey_interval {
        tracker.spawn(health.clone().survey(interval, stopping.clone()));
    }
    if let Some(every) = config.schedule {
        tracing::info!("the ticks run from within, every {every:?}");
        tracker.spawn(Arc::clone(engine).keep_schedule(every));
    }
}

/// What is there by HTTP beside the contract. `metering`: whose metrics are shown.
fn pages(endpoints: web::Shared, health: &Health, metering: Option<&Metering>, nowhere: RestLayer) -> axum::Router {
    let mut pages = web::router(endpoints).merge(health.pages());
    if let Some(metering) = metering {
        pages = pages.merge(monitor::pages(metering));
    }
    pages
        .layer(axum::middleware::from_fn(watch::name_route))
        .fallback(async move |headers| nothing_there(&nowhere, &headers))
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
