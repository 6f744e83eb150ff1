//! The instruments, with their names, units, descriptions and buckets. By the semantic conventions where these have a name.

use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};

/// Bounds for calls, in seconds, as the conventions for RPC have them.
const CALLS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Bounds for statements, in seconds, as the conventions for databases have them.
const STATEMENTS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// Bounds for ticks, in seconds, up to the hour that one may take.
const TICKS: [f64; 12] = [
    0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0,
];

/// Bounds for lag, in seconds, up to a day.
const LAG: [f64; 14] = [
    1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 21_600.0, 86_400.0,
];

/// All of them.
#[derive(Debug)]
pub(super) struct Instruments {
    pub(super) calls: Histogram<f64>,
    pub(super) refused: Counter<u64>,
    pub(super) not_connected: Counter<u64>,
    pub(super) http_served: Histogram<f64>,
    pub(super) http_asked: Histogram<f64>,
    pub(super) database: Database,
    pub(super) actions: Counter<u64>,
    pub(super) lag: Histogram<f64>,
    pub(super) sends: Histogram<f64>,
    pub(super) sent: Counter<u64>,
    pub(super) rescued: Counter<u64>,
    pub(super) stale: Counter<u64>,
    pub(super) broken: Counter<u64>,
    pub(super) ticks: Histogram<f64>,
    pub(super) last_tick: Gauge<f64>,
    pub(super) backlog: Gauge<u64>,
    pub(super) oldest_due: Gauge<f64>,
    pub(super) circuits: Gauge<u64>,
    pub(super) holds: Gauge<u64>,
    pub(super) ready: Gauge<u64>,
}

/// Those of the database.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) statements: Histogram<f64>,
    pub(super) acquired: Histogram<f64>,
    pub(super) timeouts: Counter<u64>,
}

fn histogram(meter: &Meter, name: &'static str, bounds: &[f64], what: &'static str) -> Histogram<f64> {
    let builder = meter.f64_histogram(name).with_unit("s").with_description(what);
    builder.with_boundaries(bounds.to_vec()).build()
}

fn counter(meter: &Meter, name: &'static str, unit: &'static str, what: &'static str) -> Counter<u64> {
    meter.u64_counter(name).with_unit(unit).with_description(what).build()
}

impl Database {
    fn new(meter: &Meter) -> Self {
        Self {
            statements: histogram(
                meter,
                "db.client.operation.duration",
                &STATEMENTS,
                "How long statements took, with the wait for a connection, by operation and by the first table that each names",
            ),
            acquired: histogram(
                meter,
                "db.client.connection.wait_time",
                &STATEMENTS,
                "How long statements and transactions waited for a connection to the database",
            ),
            timeouts: counter(
                meter,
                "db.client.connection.timeouts",
                "{timeout}",
                "How often a statement or a transaction had waited too long for a connection to the database",
            ),
        }
    }
}

impl Instruments {
    pub(super) fn new(meter: &Meter) -> Self {
        let histogram = |name, bounds: &[f64], what| histogram(meter, name, bounds, what);
        let counter = |name, unit, what| counter(meter, name, unit, what);
        let gauge = |name: &'static str, unit: &'static str, what: &'static str| {
            meter.u64_gauge(name).with_unit(unit).with_description(what).build()
        };
        let seconds = |name: &'static str, what: &'static str| {
            meter.f64_gauge(name).with_unit("s").with_description(what).build()
        };
        Self {
            calls: histogram(
                "rpc.server.call.duration",
                &CALLS,
                "How long gRPC calls took, to the end of their answers; REST calls are the calls that they stand for",
            ),
            refused: counter(
                "campaign.calls.refused",
                "{call}",
                "Calls that were refused before anything of them was read, as there were too many: of all, or of their caller",
            ),
            not_connected: counter(
                "campaign.connections.refused",
                "{connection}",
                "Connections that were closed at once as there were too many, or did not come about, on all listeners",
            ),
            http_served: histogram(
                "http.server.request.duration",
                &CALLS,
                "How long HTTP requests took that are no gRPC, until the head of their answers, by the template of the route",
            ),
            http_asked: histogram(
                "http.client.request.duration",
                &CALLS,
                "How long requests to providers took",
            ),
            database: Database::new(meter),
            actions: counter(
                "campaign.actions",
                "{action}",
                "Actions that were decided or carried out, by channel and outcome; those of test customers are not counted",
            ),
            lag: histogram(
                "campaign.action.lag",
                &LAG,
                "How long after their due time messages and tasks began to be sent",
            ),
            sends: histogram(
                "messaging.client.operation.duration",
                &CALLS,
                "How long providers took to take over a message, or to refuse it",
            ),
            sent: counter(
                "messaging.client.sent.messages",
                "{message}",
                "Messages that were handed to providers, whether they took them over or not",
            ),
            rescued: counter(
                "campaign.leases.rescued",
                "{run}",
                "Runs that were taken over when the lease of a server was over that did not come back to them",
            ),
            stale: counter(
                "campaign.stale_completions",
                "{run}",
                "Runs whose outcomes came after somebody else had taken them over, or they were erased",
            ),
            broken: counter(
                "campaign.broken_runs",
                "{run}",
                "Runs that were found unreadable, by each tick or call anew; they stay as they are",
            ),
            ticks: histogram(
                "campaign.tick.duration",
                &TICKS,
                "How long ticks ran: finished, cut_short by a limit, or failed",
            ),
            last_tick: seconds(
                "campaign.tick.last_success.timestamp",
                "When a tick last went over all that was due to all customers, in seconds since 1970, as the database has it",
            ),
            backlog: gauge(
                "campaign.backlog.due",
                "{run}",
                "Runs that are due and not taken up yet; of one timeline no more than 10,001 are counted",
            ),
            oldest_due: seconds(
                "campaign.oldest_due.age",
                "For how long the run waits that has been due the longest; 0: none is due",
            ),
            circuits: gauge(
                "campaign.circuit.open",
                "{circuit}",
                "Whether a channel is left alone because its provider fails: 1, or 0",
            ),
            holds: gauge("campaign.holds.active", "{hold}", "Sending holds in force"),
            ready: gauge("campaign.ready", "{server}", "Whether this server is ready: 1, or 0"),
        }
    }
}
