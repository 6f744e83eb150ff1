//! Whether the server lives, and whether it is ready: for gRPC's health service, for probes over HTTP, and for the metrics.
//!
//! It lives as long as it answers: nobody shall restart it because its database is away. It is ready when the database is there, has
//! the right schema, and has a clock that agrees with this server's. That ticks are late makes no server unready by default: all
//! would be at once, and the calls fail that a late tick does no harm to; it is told, as an age, and is for an alarm.
//!
//! Probes are answered with what was found last, at most some seconds ago, so that many probes ask the database no more than one.

mod told;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic_health::server::HealthReporter;

use crate::domain::{Channel, TickKind, Timestamp};
use crate::engine::{Engine, EngineError};
use crate::store::StoreError;
use crate::telemetry::{Metrics, Survey};
use told::Told;

/// How often the database is looked at.
const EVERY: Duration = Duration::from_secs(5);

/// What the server knows of its health.
#[derive(Clone)]
pub(super) struct Health {
    engine: Arc<Engine>,
    metrics: Metrics,
    /// After how long without a successful hourly tick it is not ready.
    max_tick_age: Option<Duration>,
    told: Told,
    last_ticks: Arc<Mutex<Vec<(TickKind, Timestamp)>>>,
}

impl Health {
    /// Looks for the first time. A server whose clock is wrong comes up, so that it says so and is ready as soon as the clock is set.
    pub(super) async fn begin(
        engine: &Arc<Engine>,
        reporter: HealthReporter,
        metrics: Metrics,
        max_tick_age: Option<Duration>,
    ) -> Self {
        let health = Self {
            engine: Arc::clone(engine),
            told: Told::begin(reporter, metrics.clone()).await,
            metrics,
            max_tick_age,
            last_ticks: Arc::default(),
        };
        health.look().await;
        health
    }

    /// Keeps looking until the server stops.
    pub(super) async fn watch(self, stopping: CancellationToken) {
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = every.tick() => {}
                () = self.engine.clock_changed() => {}
                () = self.engine.circuits_changed() => {}
            }
            self.report_channels().await;
            self.look().await;
        }
    }

    /// Asks the database every so often for what metrics tell of it, until the server stops.
    pub(super) async fn survey(self, interval: Duration, stopping: CancellationToken) {
        let mut every = tokio::time::interval(interval);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = every.tick() => {}
            }
            match tokio::time::timeout(EVERY, self.engine.survey()).await {
                Ok(Ok(survey)) => self.note(&survey),
                // Whether the database is there is told by the other watch.
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the database could not be asked for what metrics tell of it");
                }
                Err(_) => tracing::warn!("asking the database for what metrics tell of it takes longer than {EVERY:?}"),
            }
        }
    }

    fn note(&self, survey: &Survey) {
        self.metrics.surveyed(survey);
        self.last_ticks().clone_from(&survey.last_ticks);
    }

    /// Says that the server stops. It lives until it is gone.
    pub(super) async fn stop(&self) {
        self.told.stop().await;
    }

    /// The answers to probes over HTTP.
    pub(super) fn pages(&self) -> Router {
        let lives = async || answer(StatusCode::OK, &json!({ "alive": true }));
        Router::new()
            .route("/healthz", get(lives))
            .route("/readyz", get(ready))
            .with_state(self.clone())
    }

    /// Finds out whether the server is ready, and tells when that has changed.
    async fn look(&self) {
        let (why_not, text) = match tokio::time::timeout(EVERY, self.engine.check_ready()).await {
            Ok(Ok(())) if self.ticks_are_late() => (
                Some("ticks"),
                "the hourly tick has not succeeded for too long".to_owned(),
            ),
            Ok(Ok(())) => (None, String::new()),
            Ok(Err(error)) => (Some(word(&error)), error.to_string()),
            Err(_) => (Some("database"), "the database does not answer".to_owned()),
        };
        if !self.told.tell(why_not).await {
            return;
        }
        if why_not.is_none() {
            tracing::info!("the server is ready");
        } else {
            tracing::error!("the server is not ready: {text}");
        }
    }

    /// Whether the last hourly tick is longer ago than the server may be ready. One that never had a tick waits for its first.
    fn ticks_are_late(&self) -> bool {
        let Some(most) = self.max_tick_age else {
            return false;
        };
        let age = self.age_of(TickKind::Process);
        age.is_some_and(|(_, age)| age > chrono::Duration::from_std(most).unwrap_or(chrono::Duration::MAX))
    }

    /// When the last tick of a kind succeeded, and how long that is ago.
    fn age_of(&self, kind: TickKind) -> Option<(Timestamp, chrono::Duration)> {
        let last = self
            .last_ticks()
            .iter()
            .find(|(of, _)| *of == kind)
            .map(|(_, at)| *at)?;
        Some((last, self.engine.clock().now() - last))
    }

    /// Tells whoever asks for the health of a channel whether its circuit is closed.
    async fn report_channels(&self) {
        let Ok(Ok(open)) = tokio::time::timeout(EVERY, self.engine.watch_circuits()).await else {
            return;
        };
        for channel in Channel::ALL.into_iter().filter(|channel| *channel != Channel::Wait) {
            let is_open = open.iter().any(|circuit| circuit.channel == channel);
            self.told.tell_of(channel, !is_open).await;
        }
    }

    fn last_ticks(&self) -> MutexGuard<'_, Vec<(TickKind, Timestamp)>> {
        self.last_ticks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health")
            .field("told", &self.told)
            .finish_non_exhaustive()
    }
}

/// What is wrong, in one word.
fn word(error: &EngineError) -> &'static str {
    if matches!(error, EngineError::ClockSkewed(_)) {
        "clock"
    } else if matches!(error, EngineError::Store(StoreError::Schema(_))) {
        "schema"
    } else {
        "database"
    }
}

/// Whether the server is ready, why not, and how old the last ticks are.
async fn ready(State(health): State<Health>) -> Response {
    let why_not = health.told.why_not();
    let tick = |kind| {
        health.age_of(kind).map(|(at, age)| {
            json!({
                "last_success": at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
                "age_seconds": age.num_seconds(),
            })
        })
    };
    let body = json!({
        "ready": why_not.is_none(),
        "why_not": why_not,
        "ticks": { "hourly": tick(TickKind::Process), "daily": tick(TickKind::Advance) },
    });
    let status = if why_not.is_none() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    answer(status, &body)
}

fn answer(status: StatusCode, body: &serde_json::Value) -> Response {
    let head = [(CACHE_CONTROL, "no-store"), (CONTENT_TYPE, "application/json")];
    (status, head, body.to_string()).into_response()
}
