//! What is counted, as a handle that is passed in like the clock: each server has one of its own.
//!
//! Labels are words of enums and names from the code or the configuration. Ids, addresses, URLs and texts are none.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use std::sync::Arc;
use std::time::Duration;

use super::instruments::Instruments;
use crate::domain::{Channel, TickKind, Timestamp};

/// Statuses that are the server's fault, so that its spans are errors: by the conventions for RPC.
const FAULTS: [&str; 6] = [
    "UNKNOWN",
    "DEADLINE_EXCEEDED",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
];

/// Methods of HTTP that are told apart.
const METHODS: [&str; 9] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
];

/// What becomes of actions.
const OUTCOMES: [&str; 8] = [
    "completed",
    "deferred",
    "expired",
    "failed",
    "handed_over",
    "retrying",
    "skipped",
    "unknown",
];

/// The name of a pool of connections, in labels.
const POOL: &str = "db.client.connection.pool.name";

/// Whatever is none of the known.
const OTHER: &str = "_OTHER";

/// How a tick ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TickResult {
    /// All was done.
    Finished,
    /// It stopped at a limit, and there is more.
    CutShort,
    /// It broke off.
    Failed,
}

impl TickResult {
    fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::CutShort => "cut_short",
            Self::Failed => "failed",
        }
    }
}

/// Why a call was refused before anything of it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Too many are under way.
    ServerBusy,
    /// Its caller calls too often.
    CallerTooOften,
}

impl Refusal {
    const ALL: [Self; 2] = [Self::ServerBusy, Self::CallerTooOften];

    /// The reason that the caller is told.
    fn as_str(self) -> &'static str {
        match self {
            Self::ServerBusy => "SERVER_BUSY",
            Self::CallerTooOften => "CALLER_TOO_OFTEN",
        }
    }
}

/// Connections to the database, at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Nobody uses them.
    pub idle: u32,
    /// Somebody does.
    pub used: u32,
    /// So many wait for one.
    pub waiting: u32,
}

/// Why a connection was not let in, or did not come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoConnection {
    /// There are as many as there may be.
    ServerFull,
    /// Its address has as many as one may have.
    AddressFull,
    /// Too many, in all or of its address, have said nothing yet.
    TooManyNew,
    /// Its TLS handshake failed, or took too long.
    HandshakeFailed,
}

impl NoConnection {
    const ALL: [Self; 4] = [
        Self::ServerFull,
        Self::AddressFull,
        Self::TooManyNew,
        Self::HandshakeFailed,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::ServerFull => "SERVER_FULL",
            Self::AddressFull => "ADDRESS_FULL",
            Self::TooManyNew => "TOO_MANY_NEW",
            Self::HandshakeFailed => "HANDSHAKE_FAILED",
        }
    }
}

/// What the database knows about the work, at an instant.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Survey {
    /// Runs that are due, as far as they were counted.
    pub backlog: u64,
    /// For how long the oldest of them is due.
    pub oldest_due: Duration,
    /// When ticks of each kind last went over all customers.
    pub last_ticks: Vec<(TickKind, Timestamp)>,
    /// The channels that are left alone.
    pub open_circuits: Vec<Channel>,
    /// Sending holds in force.
    pub holds: u64,
}

/// The word for a tick in labels, as people and `CronJob`s have it.
pub(crate) fn tick_word(kind: TickKind) -> &'static str {
    match kind {
        TickKind::Process => "hourly",
        TickKind::Advance => "daily",
    }
}

/// Whether a call's status is the server's fault.
pub(super) fn is_fault(status: &str) -> bool {
    FAULTS.contains(&status)
}

/// A method of HTTP as a label.
pub(super) fn http_method(given: &str) -> &'static str {
    METHODS.into_iter().find(|known| *known == given).unwrap_or(OTHER)
}

/// A handle to what is counted.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    instruments: Instruments,
    meter: Meter,
}

impl Metrics {
    pub(super) fn new(meter: Meter) -> Self {
        let instruments = Instruments::new(&meter);
        let metrics = Self(Arc::new(Inner { instruments, meter }));
        metrics.begin_at_zero();
        metrics
    }

    /// Shows counts that alarms are about before there is anything to count: an increase from nothing to one is none.
    fn begin_at_zero(&self) {
        let all = &self.0.instruments;
        for counter in [&all.rescued, &all.stale, &all.broken] {
            counter.add(0, &[]);
        }
        for refusal in Refusal::ALL {
            all.refused.add(0, &[KeyValue::new("reason", refusal.as_str())]);
        }
        for why in NoConnection::ALL {
            all.not_connected.add(0, &[KeyValue::new("reason", why.as_str())]);
        }
        for channel in Channel::ALL {
            for outcome in OUTCOMES {
                let labels = [
                    KeyValue::new("channel", channel.as_str()),
                    KeyValue::new("outcome", outcome),
                ];
                all.actions.add(0, &labels);
            }
        }
    }

    /// Counts that nobody reads, for tools.
    pub fn unread() -> Self {
        Self::new(SdkMeterProvider::builder().build().meter("unread"))
    }

    /// A gRPC call that ended: `method` is one that is known, as in `pkg.Service/Method`, or none.
    pub fn called(&self, method: Option<&str>, status: &'static str, took: Duration) {
        let mut labels = vec![
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", method.unwrap_or(OTHER).to_owned()),
            KeyValue::new("rpc.response.status_code", status),
        ];
        if is_fault(status) {
            labels.push(KeyValue::new("error.type", status));
        }
        self.0.instruments.calls.record(took.as_secs_f64(), &labels);
    }

    /// A call that was refused before anything of it was read.
    pub fn refused(&self, why: Refusal) {
        let labels = [KeyValue::new("reason", why.as_str())];
        self.0.instruments.refused.add(1, &labels);
    }

    /// A connection that was not let in, or did not come about.
    pub fn not_connected(&self, why: NoConnection) {
        let labels = [KeyValue::new("reason", why.as_str())];
        self.0.instruments.not_connected.add(1, &labels);
    }

    /// An HTTP request that was answered; `route`: the template that its path matched.
    pub fn served(&self, method: &str, route: Option<&str>, status: u16, took: Duration) {
        let mut labels = vec![
            KeyValue::new("http.request.method", http_method(method)),
            KeyValue::new("http.response.status_code", i64::from(status)),
        ];
        labels.extend(route.map(|route| KeyValue::new("http.route", route.to_owned())));
        if status >= 500 {
            labels.push(KeyValue::new("error.type", status.to_string()));
        }
        self.0.instruments.http_served.record(took.as_secs_f64(), &labels);
    }

    /// A request to a provider, with the status of its answer, or a word for why there is none.
    pub fn asked(&self, provider: &'static str, channel: Channel, answer: Result<u16, &'static str>, took: Duration) {
        let mut labels = vec![
            KeyValue::new("http.request.method", "POST"),
            KeyValue::new("campaign.provider", provider),
            KeyValue::new("campaign.channel", channel.as_str()),
        ];
        match answer {
            Ok(status) => {
                labels.push(KeyValue::new("http.response.status_code", i64::from(status)));
                if status >= 400 {
                    labels.push(KeyValue::new("error.type", status.to_string()));
                }
            }
            Err(why) => labels.push(KeyValue::new("error.type", why)),
        }
        self.0.instruments.http_asked.record(took.as_secs_f64(), &labels);
    }

    /// A statement that ended. `table`: the first that it names.
    pub fn ran(
        &self,
        system: &'static str,
        (operation, table): (&'static str, Option<&'static str>),
        error: Option<&'static str>,
        took: Duration,
    ) {
        let mut labels = vec![
            KeyValue::new("db.system.name", system),
            KeyValue::new("db.operation.name", operation),
        ];
        labels.extend(table.map(|table| KeyValue::new("db.collection.name", table)));
        labels.extend(error.map(|error| KeyValue::new("error.type", error)));
        self.0
            .instruments
            .database
            .statements
            .record(took.as_secs_f64(), &labels);
    }

    /// Shows from now on how many connections to the database there are, whenever somebody reads it. The pool has the name of its
    /// database, as there is one.
    pub fn show_connections(
        &self,
        system: &'static str,
        most: u32,
        now: impl Fn() -> Connections + Clone + Send + Sync + 'static,
    ) {
        let pool = KeyValue::new(POOL, system);
        self.0.instruments.database.timeouts.add(0, std::slice::from_ref(&pool));
        let shown = |name: &'static str, unit: &'static str, what: &'static str| {
            let builder = self.0.meter.i64_observable_up_down_counter(name);
            builder.with_unit(unit).with_description(what)
        };
        let (of_pool, counted) = (pool.clone(), now.clone());
        shown(
            "db.client.connection.count",
            "{connection}",
            "Connections to the database, by whether they are in use",
        )
        .with_callback(move |observer| {
            let connections = counted();
            for (state, count) in [("idle", connections.idle), ("used", connections.used)] {
                let state = KeyValue::new("db.client.connection.state", state);
                observer.observe(i64::from(count), &[of_pool.clone(), state]);
            }
        })
        .build();
        let of_pool = [pool.clone()];
        shown(
            "db.client.connection.max",
            "{connection}",
            "The most connections to the database that this server may have",
        )
        .with_callback(move |observer| observer.observe(i64::from(most), &of_pool))
        .build();
        shown(
            "db.client.connection.pending_requests",
            "{request}",
            "How many wait for a connection to the database",
        )
        .with_callback(move |observer| observer.observe(i64::from(now().waiting), std::slice::from_ref(&pool)))
        .build();
    }

    /// Somebody wanted a connection to the database, and waited so long until he had one, or had waited too long.
    pub fn waited_for_connection(&self, system: &'static str, waited: Duration, has_one: bool) {
        let (all, pool) = (&self.0.instruments.database, [KeyValue::new(POOL, system)]);
        if has_one {
            all.acquired.record(waited.as_secs_f64(), &pool);
        } else {
            all.timeouts.add(1, &pool);
        }
    }

    /// Shows from now on for how long the server's certificate is valid, whenever somebody reads it.
    pub fn show_certificate(&self, left: impl Fn() -> Option<chrono::Duration> + Send + Sync + 'static) {
        self.0
            .meter
            .i64_observable_gauge("campaign.tls.certificate.time_left")
            .with_unit("s")
            .with_description("For how long the certificate is valid that this server shows; below 0: it expired")
            .with_callback(move |observer| {
                if let Some(left) = left() {
                    observer.observe(left.num_seconds(), &[]);
                }
            })
            .build();
    }

    /// An action that was decided or carried out; `outcome`: the ledger's word.
    pub fn acted(&self, channel: Channel, outcome: &'static str) {
        let labels = [
            KeyValue::new("channel", channel.as_str()),
            KeyValue::new("outcome", outcome),
        ];
        self.0.instruments.actions.add(1, &labels);
    }

    /// How long after its due time a message or task began to be sent.
    pub fn lagged(&self, channel: Channel, lag: chrono::Duration) {
        let seconds = lag.to_std().unwrap_or_default().as_secs_f64();
        let labels = [KeyValue::new("channel", channel.as_str())];
        self.0.instruments.lag.record(seconds, &labels);
    }

    /// A message that was handed to a provider, or to one's own `system`. `error`: a word for why it did not take it over.
    pub fn sent(&self, system: &'static str, channel: Channel, error: Option<&'static str>, took: Duration) {
        let mut labels = vec![
            KeyValue::new("messaging.system", system),
            KeyValue::new("messaging.operation.name", "send"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("campaign.channel", channel.as_str()),
        ];
        labels.extend(error.map(|error| KeyValue::new("error.type", error)));
        let all = &self.0.instruments;
        all.sends.record(took.as_secs_f64(), &labels);
        all.sent.add(1, &labels);
    }

    /// Runs whose leases were over.
    pub fn rescued(&self, runs: u64) {
        self.0.instruments.rescued.add(runs, &[]);
    }

    /// Runs whose outcomes came too late.
    pub fn came_late(&self, runs: u64) {
        self.0.instruments.stale.add(runs, &[]);
    }

    /// Runs that can't be read.
    pub fn found_broken(&self, runs: u64) {
        self.0.instruments.broken.add(runs, &[]);
    }

    /// A tick that ended.
    pub fn ticked(&self, kind: TickKind, result: TickResult, took: Duration) {
        let labels = [
            KeyValue::new("tick", tick_word(kind)),
            KeyValue::new("result", result.as_str()),
        ];
        self.0.instruments.ticks.record(took.as_secs_f64(), &labels);
    }

    /// What the database knows now.
    pub fn surveyed(&self, survey: &Survey) {
        let all = &self.0.instruments;
        all.backlog.record(survey.backlog, &[]);
        all.oldest_due.record(survey.oldest_due.as_secs_f64(), &[]);
        all.holds.record(survey.holds, &[]);
        for (kind, at) in &survey.last_ticks {
            let seconds = Duration::from_micros(u64::try_from(at.timestamp_micros()).unwrap_or_default());
            all.last_tick
                .record(seconds.as_secs_f64(), &[KeyValue::new("tick", tick_word(*kind))]);
        }
        for channel in Channel::ALL.into_iter().filter(|channel| *channel != Channel::Wait) {
            let is_open = survey.open_circuits.contains(&channel);
            let labels = [KeyValue::new("channel", channel.as_str())];
            all.circuits.record(u64::from(is_open), &labels);
        }
    }

    /// Whether the server is ready.
    pub fn is_ready(&self, ready: bool) {
        self.0.instruments.ready.record(u64::from(ready), &[]);
    }
}
