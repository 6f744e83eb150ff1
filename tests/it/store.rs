//! What the engine relies on of the store, on both databases: driven directly, many at once, with no engine around it.
//!
//! What the calls of the contract prove is not repeated here:
//!
//! | promise | test |
//! |---|---|
//! | two servers serve each run once | `scale::two_servers_send_everything_once` |
//! | ticks that overlap count and move each run once | `tick::names::overlapping_ticks_count_each_run_once` |
//! | a finished tick is answered as it was, one that broke off goes on | `tick::names::a_finished_tick_is_answered_as_it_was` and, for those that break off, here |
//! | a timeline with much to do starves no other | `tick::limits::a_large_timeline_does_not_starve_a_small_one` |
//! | what comes after its lease is counted, and changes nothing | `failures::overtaken`, and the same without an engine here |
//! | twins of a request get one answer | `requests::twins_start_one_run`, `requests::twins_execute_once` |
//! | an answer is kept for 24 hours, a refusal is not | `requests::an_answer_is_kept_for_a_day`, `requests::a_refused_request_is_not_kept` |
//! | lists page without a gap while rows are added | `contract::pages::pages_add_up` |
//! | a customer that is erased, suppressed or unsubscribed is not claimed | to come with those calls |

mod claims;
mod leases;
mod once;
mod planned;
mod schedule;

use campaign_automation::domain::{
    CustomerId, FirstDay, Lease, Origin, Run, Slug, Stage, Timeline, TimelineDefinition, TimelineId, Timestamp,
    WhenMissed, Zone,
};
use campaign_automation::store::{Claim, ConnectSettings, Store, StoreUrl};
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection};
use std::time::Duration;

use crate::support::given::at;
use crate::support::{Backend, TestDatabase, is_citus};

/// When these tests play.
const NOW: &str = "2026-01-05T12:00:00Z";

/// A store with one active timeline, and a connection for what takes too long otherwise.
struct Ground {
    store: Store,
    timeline: TimelineId,
    sql: DatabaseConnection,
    backend: Backend,
    _database: TestDatabase,
}

fn now() -> Timestamp {
    at(NOW)
}

impl Ground {
    async fn new(backend: Backend) -> Self {
        let database = TestDatabase::create(backend).await.expect("a database");
        let settings = ConnectSettings {
            url: StoreUrl::parse(&database.url).expect("a URL"),
            max_connections: 16,
            forced_to_disk: false,
            busy_timeout: Duration::from_secs(60),
            statement_timeout: Duration::from_mins(1),
        };
        let store = Store::connect(&settings).await.expect("a connection");
        store.migrate().await.expect("a schema");
        let store = if backend == Backend::Postgres && is_citus() {
            store.distribute().await.expect("a distributed schema");
            Store::connect(&settings).await.expect("a connection")
        } else {
            store
        };
        let definition = TimelineDefinition {
            slug: Slug::parse("hook").expect("a slug"),
            name: "Hook".to_owned(),
            pipeline_stage: Stage::parse("hook").expect("a stage"),
            duration_days: 90,
            is_active: true,
            is_default: false,
            when_missed: WhenMissed::Shift,
            max_lateness: chrono::Duration::hours(12),
            actions: Vec::new(),
        };
        let txn = store.begin().await.expect("a transaction");
        let timeline = txn.insert_timeline(&definition, now()).await.expect("a timeline");
        txn.commit().await.expect("committed");
        Self {
            timeline,
            sql: Database::connect(&database.url).await.expect("a connection"),
            store,
            backend,
            _database: database,
        }
    }

    async fn timeline(&self) -> Timeline {
        let timeline = self.store.reader().timeline(self.timeline).await;
        timeline.expect("a timeline").expect("a timeline")
    }

    /// Stores runs 1 to `count`, each of a customer of its own, `prefix` and five digits, due at 06:00 plus the seconds that the
    /// expression over `n` says.
    async fn runs(&self, prefix: &str, count: usize, seconds: &str) {
        let columns = "customer_id, campaign_timeline_id, next_action_at, not_before, day_started_at, started_at, updated_at, \
                       bucket, current_day, day_date, zone_is_default, origin, status, time_zone";
        let timeline = self.timeline;
        let sql = match self.backend {
            Backend::Postgres => format!(
                "insert into customer_timeline_progress ({columns}) select '{prefix}' || lpad(n::text, 5, '0'), {timeline}, \
                 due, due, due, due, due, n % 1024, 1, '2026-01-05', false, 'started', 'active', 'Etc/UTC' \
                 from (select n, timestamptz '2026-01-05T06:00:00Z' + ({seconds}) * interval '1 second' as due \
                 from generate_series(1, {count}) n) s"
            ),
            Backend::Sqlite => format!(
                "with recursive s (n) as (select 1 union all select n + 1 from s where n < {count}), \
                 d as (select n, strftime('%Y-%m-%dT%H:%M:%S+00:00', '2026-01-05T06:00:00', '+' || ({seconds}) || ' seconds') as due from s) \
                 insert into customer_timeline_progress ({columns}) select printf('{prefix}%05d', n), {timeline}, \
                 due, due, due, due, due, n % 1024, 1, '2026-01-05', 0, 'started', 'active', 'Etc/UTC' from d"
            ),
        };
        self.sql.execute_unprepared(&sql).await.expect("runs");
    }

    /// The only run of a customer.
    async fn run(&self, customer: &str) -> Run {
        let customer = CustomerId::parse(customer).expect("an id");
        let mut runs = self.store.reader().live_runs(&customer).await.expect("runs");
        assert_eq!(runs.len(), 1, "{customer}");
        runs.remove(0)
    }

    /// Claims runs as they are, under a token; gives those that were claimed.
    async fn claim(&self, claims: &[Claim], now: Timestamp) -> Vec<i64> {
        let txn = self.store.begin().await.expect("a transaction");
        let claimed = txn
            .claim(&claims.iter().collect::<Vec<_>>(), now)
            .await
            .expect("claimed");
        txn.commit().await.expect("committed");
        claimed.into_iter().map(|id| id.0).collect()
    }
}

/// A run as it was read, with a lease of two minutes.
fn leased(run: &Run, token: i64, now: Timestamp) -> Claim {
    let mut claimed = run.clone();
    claimed.lease = Some(Lease {
        token,
        expires_at: now + chrono::Duration::minutes(2),
    });
    Claim::new(run, claimed, 1)
}

/// A run that is not stored yet.
fn new_run(timeline: &Timeline, customer: &str) -> Run {
    let zone = Zone {
        tz: chrono_tz::Etc::UTC,
        is_default: false,
    };
    let customer = CustomerId::parse(customer).expect("an id");
    Run::start(
        timeline,
        customer,
        Origin::Started,
        zone,
        FirstDay::SendPassed,
        1,
        now(),
    )
}
