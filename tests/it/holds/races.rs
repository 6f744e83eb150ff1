//! A hold that is set while a claim is being made: whichever comes second waits for the first.
//!
//! Promised is that no claim commits after `SetSendingHold` has answered unless it knows of the hold; what was claimed before begins
//! within 2 seconds or not at all. On `PostgreSQL` each of the two is stopped here in the middle of its transaction; `SQLite` has
//! one writer at a time, so that there is nothing to stop.

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::sending_service_client::SendingServiceClient;
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DbBackend, Statement};
use std::time::Duration;
use tonic::transport::Channel;

use super::held;
use crate::support::app::hourly;
use crate::support::calls::completed;
use crate::support::given::{definition, email};
use crate::support::holds::scope;
use crate::support::mailing::crowd;
use crate::support::{App, Backend, postgres_url};

/// How long the others may take to come to where they wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gate in the database, which is shut as long as this connection holds it: who would change a row of a table waits there.
pub(crate) struct Gate {
    keeper: DatabaseConnection,
    watcher: DatabaseConnection,
}

impl Gate {
    /// Puts a gate before changes of a table, and shuts it.
    pub(crate) async fn shut(app: &App, table: &str) -> Self {
        let mut options = ConnectOptions::new(&app.database.url);
        options.max_connections(1);
        let gate = Self {
            keeper: Database::connect(options.clone()).await.expect("the database"),
            watcher: Database::connect(options).await.expect("the database"),
        };
        for statement in [
            "create function pass() returns trigger language plpgsql as \
             $$ begin perform pg_advisory_xact_lock_shared(1); return new; end $$",
            &format!("create trigger gate before insert or update on {table} for each row execute function pass()"),
            "select pg_advisory_lock(1)",
        ] {
            gate.keeper.execute_unprepared(statement).await.expect(statement);
        }
        gate
    }

    /// Opens it, for good.
    pub(crate) async fn open(&self) {
        let opened = self.keeper.execute_unprepared("select pg_advisory_unlock(1)").await;
        opened.expect("opened");
    }

    /// Waits until so many wait in the database, for whatever lock.
    pub(crate) async fn until_blocked(&self, count: i64) {
        let sql = "select count(*) as waiting from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        self.until_so_many(count, sql).await;
    }

    /// Waits until so many wait in the database, at the gate or for each other.
    async fn until_waiting(&self, count: i64) {
        let sql = "select count(*) as waiting from pg_locks l join pg_database d on d.oid = l.database \
                   where d.datname = current_database() and l.locktype = 'advisory' and not l.granted";
        self.until_so_many(count, sql).await;
    }

    async fn until_so_many(&self, count: i64, sql: &str) {
        let waiting = async || {
            let statement = Statement::from_string(DbBackend::Postgres, sql);
            let row = self.watcher.query_one_raw(statement).await.expect("locks");
            let waiting: i64 = row.expect("a row").try_get("", "waiting").expect("a count");
            waiting
        };
        let watching = async { while waiting().await < count {} };
        tokio::time::timeout(PATIENCE, watching).await.expect("they wait");
    }
}

/// Five customers to whom a mail is due, and another server on the same database.
async fn due() -> (App, Vec<String>, crate::support::Watched, Channel) {
    let app = App::start(Backend::Postgres).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    let ids = crowd(&app, &timeline, "c", 5).await;
    let (second, channel) = app.second_server().await;
    (app, ids, second, channel)
}

/// Sets a hold on everything by another server.
async fn set(channel: Channel) -> pb::SendingHold {
    let request = pb::SetSendingHoldRequest {
        scope: Some(scope::all()),
        reason: "stop".to_owned(),
        ..Default::default()
    };
    let response = SendingServiceClient::new(channel).set_sending_hold(request).await;
    response.expect("a hold").into_inner().hold.expect("a hold")
}

/// Nothing is lost, nothing was doubled, and what was not sent goes after the release.
async fn assert_sent_or_held(app: &App, ids: &[String]) {
    let mut sent = 0;
    for id in ids {
        let run = app.progress(id).await;
        assert_eq!(completed(&run).len() + held(&run).len(), 1, "{run:?}");
        assert_eq!(run.in_flight_actions, [], "{id}");
        sent += completed(&run).len();
    }
    assert_eq!(app.sent_count(), sent);
    app.hourly().await;
    assert_eq!(app.sent_count(), sent, "the hold is known");
    app.release(scope::all()).await.expect("released");
    app.hourly().await;
    assert_eq!(app.sent_count(), ids.len());
}

/// The claim has read that nothing is held, and has not committed: until it has, nobody is told that sending is held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_waits_for_a_claim_that_does_not_know_of_it() {
    if postgres_url().is_none() {
        return;
    }
    let (app, ids, second, channel) = due().await;
    let gate = Gate::shut(&app, "customer_timeline_progress").await;
    let mut client = app.ticks();
    let ticking =
        tokio::spawn(async move { hourly(&mut client, pb::ProcessCampaignTimelinesRequest::default()).await });
    gate.until_waiting(1).await;
    let mut setting = tokio::spawn(set(channel));
    tokio::select! {
        () = gate.until_waiting(2) => {}
        hold = &mut setting => panic!("{hold:?} is answered, and a claim may commit that does not know of it"),
    }
    gate.open().await;
    assert_eq!(setting.await.expect("a task").reason, "stop");
    ticking.await.expect("a task").expect("a summary");
    // What it had claimed was sent within two seconds, or it was seen before the first byte that it is held.
    app.hourly().await;
    assert_sent_or_held(&app, &ids).await;
    second.shutdown().await.expect("stopped");
    app.server.shutdown().await.expect("stopped");
}

/// The hold is written, and not committed: a claim waits until it is, and then knows of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_waits_for_a_hold_that_is_being_set() {
    if postgres_url().is_none() {
        return;
    }
    for by_call in [false, true] {
        let (app, ids, second, channel) = due().await;
        let gate = Gate::shut(&app, "sending_holds").await;
        let setting = tokio::spawn(set(channel));
        gate.until_waiting(1).await;
        {
            let claiming = async {
                if by_call {
                    drop(app.execute(&ids[0]).await);
                } else {
                    drop(app.hourly().await);
                }
            };
            tokio::pin!(claiming);
            tokio::select! {
                () = gate.until_waiting(2) => {}
                () = &mut claiming => panic!("claimed while a hold is being set: {:?}", app.sent()),
            }
            gate.open().await;
            setting.await.expect("a task");
            claiming.await;
        }
        assert_eq!(app.sent_count(), 0);
        assert_eq!(held(&app.progress(&ids[0]).await).len(), 1);
        app.hourly().await;
        assert_sent_or_held(&app, &ids).await;
        second.shutdown().await.expect("stopped");
        app.server.shutdown().await.expect("stopped");
    }
}
