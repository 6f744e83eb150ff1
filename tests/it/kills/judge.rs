//! Judges by what arrived and by the rows of the database. What a server says of itself counts for nothing.

use campaign_automation::domain::Timestamp;
use sea_orm::{
    ConnectionTrait as _, Database, DatabaseConnection, DatabaseTransaction, QueryResult, Statement,
    TransactionTrait as _,
};
use std::collections::{BTreeMap, BTreeSet};

use super::figures::Figures;
use super::rig::{BREADTH, Way};

/// What is known of a world from outside.
pub(super) struct Judge {
    way: Way,
    database: DatabaseConnection,
    /// How often a server died with a claim.
    pub(super) kills: usize,
    /// For each message how often it had arrived once more and was not recorded when a server was killed.
    windows: BTreeMap<String, Window>,
    /// How many messages more may arrive twice, as a server slept that was about to send them.
    pub(super) asleep: usize,
    /// The days of the runs when they were last looked at.
    days: BTreeMap<String, i32>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    times: usize,
    /// How often it had arrived by then.
    arrived: usize,
}

/// What became of an action of a run, by its entries in the ledger.
#[derive(Debug)]
pub(super) struct Executed {
    pub customer: String,
    pub day: i32,
    /// When it was first taken up.
    pub begun: Timestamp,
    /// Whether nobody knows whether it arrived, for good.
    pub is_unknown: bool,
}

impl Judge {
    pub(super) async fn new(url: &str, way: Way) -> Self {
        let url = if url.starts_with("sqlite") {
            format!("{url}?mode=rwc")
        } else {
            url.to_owned()
        };
        Self {
            way,
            database: Database::connect(url).await.expect("the database"),
            kills: 0,
            windows: BTreeMap::new(),
            asleep: 0,
            days: BTreeMap::new(),
        }
    }

    async fn rows(&self, sql: &str) -> Vec<QueryResult> {
        let statement = Statement::from_string(self.database.get_database_backend(), sql);
        self.database.query_all_raw(statement).await.expect("rows")
    }

    async fn number(&self, sql: &str) -> usize {
        let rows = self.rows(&format!("select count(*) as number from {sql}")).await;
        let number: i64 = rows[0].try_get("", "number").expect("a number");
        usize::try_from(number).expect("a count")
    }

    /// The provider's ids of what is recorded as sent.
    async fn recorded(&self) -> BTreeSet<String> {
        let rows = self
            .rows("select provider_id from action_executions where outcome = 'completed'")
            .await;
        let ids: Vec<String> = rows
            .iter()
            .map(|row| row.try_get("", "provider_id").expect("an id"))
            .collect();
        let count = ids.len();
        let ids: BTreeSet<String> = ids.into_iter().collect();
        assert_eq!(ids.len(), count, "a message is recorded as sent twice");
        ids
    }

    /// Looks at what a killed server has left: what had arrived and was not recorded, and the days, which never go back.
    pub(super) async fn note_kill(&mut self, window: &str, delivered: &[String]) {
        self.kills += 1;
        let recorded = self.recorded().await;
        let arrived = count(delivered);
        for id in &recorded {
            assert!(
                arrived.contains_key(id),
                "{window}: {id} is recorded as sent, and did not arrive"
            );
        }
        for (id, arrived) in arrived.into_iter().filter(|(id, _)| !recorded.contains(*id)) {
            let window = self.windows.entry(id.clone()).or_default();
            // Two kills, and nothing sent between them, excuse one repetition.
            if arrived > window.arrived {
                window.times += 1;
                window.arrived = arrived;
            }
        }
        for (customer, day) in self.days().await {
            let before = self.days.insert(customer.clone(), day).unwrap_or(day);
            assert!(
                before <= day,
                "{window}: {customer} went from day {before} back to {day}"
            );
        }
    }

    /// The days on which runs are, by their customers.
    pub(super) async fn days(&self) -> Vec<(String, i32)> {
        let rows = self
            .rows("select customer_id, current_day from customer_timeline_progress")
            .await;
        let day = |row: &QueryResult| {
            let (customer, day) = (row.try_get("", "customer_id"), row.try_get("", "current_day"));
            (customer.expect("a customer"), day.expect("a day"))
        };
        rows.iter().map(day).collect()
    }

    /// What became of each action of each run that was taken up.
    pub(super) async fn executions(&self) -> Vec<Executed> {
        let sql = "select e.customer_id, a.day_number, e.attempt, e.started_at, e.outcome from action_executions e \
                   join campaign_timeline_actions a on a.id = e.action_id \
                   order by e.customer_id, e.progress_id, e.action_id, e.attempt";
        let mut executions: Vec<Executed> = Vec::new();
        for row in self.rows(sql).await {
            let attempt: i32 = row.try_get("", "attempt").expect("an attempt");
            let outcome: String = row.try_get("", "outcome").expect("an outcome");
            if attempt == 1 {
                executions.push(Executed {
                    customer: row.try_get("", "customer_id").expect("a customer"),
                    day: row.try_get("", "day_number").expect("a day"),
                    begun: row.try_get("", "started_at").expect("an instant"),
                    is_unknown: false,
                });
            }
            let last = executions.last_mut().expect("a first attempt");
            last.is_unknown = outcome == "unknown";
        }
        executions
    }

    /// When the first of the leases ends that are held.
    pub(super) async fn earliest_lease(&self) -> Option<Timestamp> {
        let sql = "select min(lease_expires_at) as at from customer_timeline_progress where lease_token is not null";
        let rows = self.rows(sql).await;
        rows[0].try_get("", "at").expect("an instant")
    }

    /// How many leases are held.
    pub(super) async fn leases(&self) -> usize {
        self.number("customer_timeline_progress where lease_token is not null")
            .await
    }

    /// Locks the rows that are leased, in PostgreSQL.
    pub(super) async fn lock_leased(&self) -> DatabaseTransaction {
        let txn = self.database.begin().await.expect("a transaction");
        let sql = "select id from customer_timeline_progress where lease_token is not null for update";
        let statement = Statement::from_string(txn.get_database_backend(), sql);
        let locked = txn.query_all_raw(statement).await.expect("locks");
        assert_eq!(locked.len(), BREADTH, "what can be under way at a time");
        txn
    }

    /// Waits until somebody waits for such a lock, in PostgreSQL.
    pub(super) async fn until_blocked(&self) {
        let waiting = "pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        while self.number(waiting).await == 0 {
            tokio::task::yield_now().await;
        }
    }

    /// How many attempts ended with nobody knowing, for good.
    pub(super) async fn unknown(&self) -> usize {
        self.number("action_executions where outcome = 'unknown'").await
    }

    /// Whether all runs have ended.
    pub(super) async fn is_over(&self) -> bool {
        self.number("customer_timeline_progress where status = 'active'").await == 0
    }

    /// Judges the end: so many runs with so many messages.
    pub(super) async fn judge(&self, delivered: &[String], runs: usize, messages: usize) -> Figures {
        let progress = "customer_timeline_progress";
        assert_eq!(self.number(progress).await, runs, "runs");
        let ended = "status = 'completed' and lease_token is null and cast(in_flight_actions as text) = '[]' \
                     and cast(deferred_actions as text) = '[]' and skipped_actions = ''";
        assert_eq!(self.number(&format!("{progress} where {ended}")).await, runs, "stuck");
        let recorded = self.recorded().await;
        // Each message has one last entry, which is sent or unknown.
        let last = "action_executions e where attempt = (select max(attempt) from action_executions x \
                    where x.customer_id = e.customer_id and x.progress_id = e.progress_id and x.action_id = e.action_id)";
        assert_eq!(self.number(last).await, messages, "messages with an entry");
        let sent = self.number(&format!("{last} and outcome = 'completed'")).await;
        let unknown = self.number(&format!("{last} and outcome = 'unknown'")).await;
        assert_eq!(
            (sent + unknown, recorded.len()),
            (messages, sent),
            "sent + unknown = due"
        );
        let arrived = count(delivered);
        for id in &recorded {
            assert!(
                arrived.contains_key(id),
                "lost: {id} is recorded as sent, and did not arrive"
            );
        }
        let mut unexplained = 0;
        for (id, times) in &arrived {
            let windows = self.windows.get(*id).copied().unwrap_or_default().times;
            match self.way {
                Way::Mail => unexplained += times.saturating_sub(1 + windows),
                Way::Text => assert_eq!(*times, 1, "{id} arrived twice"),
            }
        }
        assert!(
            unexplained <= self.asleep,
            "{unexplained} mails arrived again that were recorded at each kill: {arrived:?}"
        );
        match self.way {
            // Repeated until it is known, each with one id.
            Way::Mail => assert_eq!((arrived.len(), unknown), (messages, 0), "mails"),
            Way::Text => {
                let foreign = arrived.len().saturating_sub(sent + unknown);
                assert_eq!(foreign, 0, "arrived, and neither sent nor unknown");
                assert!(
                    unknown <= self.kills * BREADTH,
                    "{unknown} unknown after {} kills",
                    self.kills
                );
            }
        }
        Figures {
            kills: self.kills,
            due: messages,
            arrived: arrived.len(),
            repeated: delivered.len() - arrived.len() - unexplained,
            unexplained,
            unknown,
        }
    }
}

/// How often each message arrived.
fn count(delivered: &[String]) -> BTreeMap<&String, usize> {
    let mut arrived = BTreeMap::new();
    for id in delivered {
        *arrived.entry(id).or_default() += 1;
    }
    arrived
}
