//! `customer_timeline_progress`, one run at a time: what calls about runs read and write.
//!
//! The arrays of actions and the lease belong to whoever holds the lease, and are written in `claims` alone.

use chrono::{Datelike as _, NaiveDate};
use chrono_tz::Tz;
use sea_orm::{ConnectionTrait, FromQueryResult, QueryResult, Value};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::fmt::Write as _;

use super::batch::{Batch, Col};
use super::broken::{BrokenRun, ReadRun, read, value};
use super::finished::{completed_of, skipped_of};
use super::row::row;
use super::session::{Session, values};
use super::{Page, StoreError, Txn};
use crate::domain::{CustomerId, Lease, Origin, ProgressId, Run, Status, TimelineId, Timestamp, TraceParent, Zone};

pub(super) const TABLE: &str = "customer_timeline_progress";

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct ProgressFilter {
    /// Only of this customer.
    pub customer_id: Option<CustomerId>,
    /// Only of this timeline.
    pub timeline_id: Option<TimelineId>,
    /// Only with this status.
    pub status: Option<Status>,
}

row! {
    pub(super) const COLUMNS;
    /// A run. JSON comes as text, which is read into what it is in one step.
    struct Row of "p" {
        id: i64,
        customer_id: String,
        campaign_timeline_id: i64,
        stage_visit: Option<i64>,
        lease_token: Option<i64>,
        lease_expires_at: Option<Timestamp>,
        next_action_at: Option<Timestamp>,
        not_before: Timestamp,
        day_started_at: Timestamp,
        started_at: Timestamp,
        ended_at: Option<Timestamp>,
        updated_at: Timestamp,
        current_day: i32,
        day_date: NaiveDate,
        day_shifted_at: Option<Timestamp>,
        shifted_days: i32,
        zone_is_default: bool,
        origin: String,
        status: String,
        status_reason: String,
        time_zone: String,
        completed_actions: String,
        skipped_actions: String,
        failed_actions: String = "cast(p.failed_actions as text)",
        deferred_actions: String = "cast(p.deferred_actions as text)",
        in_flight_actions: String = "cast(p.in_flight_actions as text)",
        jumped_days: String = "cast(p.jumped_days as text)",
        last_late: String = "cast(p.last_late as text)",
        task_reports: String = "cast(p.task_reports as text)",
        trace_parent: Option<String>,
    }
}

#[derive(FromQueryResult)]
struct OfTimeline {
    customer_id: String,
    id: i64,
    campaign_timeline_id: i64,
    revision: i64,
}

impl<C: ConnectionTrait> Session<C> {
    /// A run of a customer.
    pub async fn run(&self, customer: &CustomerId, id: ProgressId) -> Result<Option<Run>, StoreError> {
        let found = self
            .runs_where("p.customer_id = $1 and p.id = $2", "", values![customer.as_str(), id.0])
            .await?;
        Ok(found.into_iter().next())
    }

    /// All live runs of a customer, by id.
    pub async fn live_runs(&self, customer: &CustomerId) -> Result<Vec<Run>, StoreError> {
        strictly(self.read_live_runs(customer).await?)
    }

    /// All live runs of a customer, by id, as far as they can be read.
    pub async fn read_live_runs(&self, customer: &CustomerId) -> Result<Vec<ReadRun>, StoreError> {
        let condition = "p.customer_id = $1 and p.status in ('active', 'paused') order by p.id";
        self.read_where(condition, "", values![customer.as_str()]).await
    }

    /// Runs that are asked for, as far as they can be read: of each customer the one with this id, or all live ones; with the revisions
    /// of their timelines.
    pub async fn runs_asked<'a>(
        &self,
        asked: impl IntoIterator<Item = (&'a CustomerId, Option<ProgressId>)>,
    ) -> Result<Vec<Result<(Run, i64), BrokenRun>>, StoreError> {
        let mut batch = Batch::new(&[("customer", Col::Text), ("run_id", Col::BigInt)]);
        for (customer, run) in asked {
            batch.push([customer.as_str().into(), run.map_or(0, |run| run.0).into()]);
        }
        let mut rows = Vec::new();
        for part in self.parts(batch, &[]) {
            let sql = format!(
                "select {COLUMNS}, t.revision from {} join {TABLE} p on p.customer_id = u.customer \
                 and (p.id = u.run_id or (u.run_id = 0 and p.status in ('active', 'paused'))) {} \
                 join campaign_timelines t on t.id = p.campaign_timeline_id",
                part.table,
                part.only("p.customer_id")
            );
            rows.extend(self.raw_rows(&sql, part.values).await?);
        }
        let read = |row: &QueryResult| Ok((read_run(row)?, value(row, "revision").unwrap_or_default()));
        Ok(rows.iter().map(read).collect())
    }

    /// Of which timelines runs of customers are, and at which revisions those stand, whatever else the runs are like. Runs that are
    /// not there are left out.
    pub async fn timelines_of_runs<'a>(
        &self,
        asked: impl IntoIterator<Item = (&'a CustomerId, ProgressId)>,
    ) -> Result<HashMap<(String, ProgressId), (TimelineId, i64)>, StoreError> {
        let mut batch = Batch::new(&[("customer", Col::Text), ("run_id", Col::BigInt)]);
        for (customer, run) in asked {
            batch.push([customer.as_str().into(), run.0.into()]);
        }
        let mut rows: Vec<OfTimeline> = Vec::new();
        for part in self.parts(batch, &[]) {
            let sql = format!(
                "select p.customer_id, p.id, p.campaign_timeline_id, t.revision from {} \
                 join {TABLE} p on p.customer_id = u.customer and p.id = u.run_id {} \
                 join campaign_timelines t on t.id = p.campaign_timeline_id",
                part.table,
                part.only("p.customer_id")
            );
            rows.extend(self.rows(&sql, part.values).await?);
        }
        let of_run = |row: OfTimeline| {
            let run = (row.customer_id, ProgressId(row.id));
            (run, (TimelineId(row.campaign_timeline_id), row.revision))
        };
        Ok(rows.into_iter().map(of_run).collect())
    }

    /// The run of a customer that ended last.
    pub async fn last_ended_run(&self, customer: &CustomerId) -> Result<Option<Run>, StoreError> {
        let condition =
            "p.customer_id = $1 and p.status in ('completed', 'stopped') order by p.ended_at desc, p.id desc limit 1";
        Ok(self
            .runs_where(condition, "", values![customer.as_str()])
            .await?
            .into_iter()
            .next())
    }

    /// A page of runs, by (customer, id), as far as they can be read.
    pub async fn runs(&self, filter: &ProgressFilter, page: &Page<(String, i64)>) -> Result<Vec<ReadRun>, StoreError> {
        let mut condition = String::from("(p.customer_id, p.id) > ($1, $2)");
        let (after, id) = page.after.clone().unwrap_or_default();
        let mut values = values![after, id];
        let mut also = |column: &str, value: Value| {
            values.push(value);
            let _ = write!(condition, " and {column} = ${}", values.len());
        };
        if let Some(customer) = &filter.customer_id {
            also("p.customer_id", customer.as_str().into());
        }
        if let Some(timeline) = filter.timeline_id {
            also("p.campaign_timeline_id", timeline.0.into());
        }
        if let Some(status) = filter.status {
            also("p.status", status.as_str().into());
        }
        let _ = write!(condition, " order by p.customer_id, p.id limit {}", page.size);
        self.read_where(&condition, "", values).await
    }

    pub(super) async fn runs_where(
        &self,
        condition: &str,
        lock: &str,
        values: Vec<Value>,
    ) -> Result<Vec<Run>, StoreError> {
        strictly(self.read_where(condition, lock, values).await?)
    }

    pub(super) async fn read_where(
        &self,
        condition: &str,
        lock: &str,
        values: Vec<Value>,
    ) -> Result<Vec<ReadRun>, StoreError> {
        let sql = format!("select {COLUMNS} from {TABLE} p where {condition} {lock}");
        self.read_runs(&sql, values).await
    }
}

impl Txn {
    /// A run of a customer, locked against changes by others.
    pub async fn run_for_update(&self, customer: &CustomerId, id: ProgressId) -> Result<Option<Run>, StoreError> {
        let values = values![customer.as_str(), id.0];
        let found = self
            .runs_where("p.customer_id = $1 and p.id = $2", self.for_update(), values)
            .await?;
        Ok(found.into_iter().next())
    }

    /// All live runs of some customers, as far as they can be read, locked in the order of customer and id.
    pub async fn live_runs_for_update<'a>(
        &self,
        customers: impl IntoIterator<Item = &'a CustomerId>,
    ) -> Result<Vec<ReadRun>, StoreError> {
        let lock = self.pick("for update of p", "");
        let mut found = Vec::new();
        for among in self.among(customers, &[]) {
            let condition = format!(
                "{} and p.status in ('active', 'paused') order by p.customer_id, p.id",
                among.has("p.customer_id")
            );
            found.extend(self.read_where(&condition, lock, among.values).await?);
        }
        Ok(found)
    }

    /// The last run of a timeline for a customer, live or ended.
    pub async fn last_run_of(&self, customer: &CustomerId, timeline: TimelineId) -> Result<Option<Run>, StoreError> {
        let condition = "p.customer_id = $1 and p.campaign_timeline_id = $2 order by p.id desc limit 1";
        Ok(self
            .runs_where(condition, "", values![customer.as_str(), timeline.0])
            .await?
            .into_iter()
            .next())
    }

    /// The last run that was assigned on a visit to a stage.
    pub async fn run_of_visit(&self, customer: &CustomerId, visit: i64) -> Result<Option<Run>, StoreError> {
        let condition = "p.customer_id = $1 and p.stage_visit = $2 order by p.id desc limit 1";
        Ok(self
            .runs_where(condition, "", values![customer.as_str(), visit])
            .await?
            .into_iter()
            .next())
    }

    /// Stores what people do to a run: its status, its place in time and its zone. The run must be locked by this transaction.
    pub async fn update_run(&self, run: &Run) -> Result<(), StoreError> {
        let sql = format!(
            "update {TABLE} set status = $3, status_reason = $4, day_date = $5, time_zone = $6, zone_is_default = $7, \
             not_before = $8, next_action_at = $9, ended_at = $10, updated_at = $11, day_shifted_at = $12 \
             where customer_id = $1 and id = $2"
        );
        let values = values![
            run.customer_id.as_str(),
            run.id.0,
            run.status.as_str(),
            run.status_reason.as_str(),
            run.day_date,
            run.zone.tz.name(),
            run.zone.is_default,
            run.not_before,
            run.next_action_at,
            run.ended_at,
            run.updated_at,
            run.day_shifted_at,
        ];
        let changed = self.execute(&sql, values).await?;
        if changed != 1 {
            return Err(StoreError::corrupt(
                TABLE,
                run.id,
                format!("{changed} rows changed in place of one"),
            ));
        }
        self.note_stopped_run(run).await?;
        self.note_zone(run.zone.tz).await
    }
}

/// All runs, or the first that can't be read.
pub(super) fn strictly(runs: Vec<ReadRun>) -> Result<Vec<Run>, StoreError> {
    let runs: Result<Vec<Run>, BrokenRun> = runs.into_iter().collect();
    runs.map_err(StoreError::BrokenRun)
}

/// Reads a row with [`COLUMNS`].
pub(super) fn read_run(row: &QueryResult) -> ReadRun {
    read(row).and_then(Row::into_run).map_err(|what| BrokenRun {
        customer_id: value(row, "customer_id").unwrap_or_default(),
        id: ProgressId(value(row, "id").unwrap_or_default()),
        what,
    })
}

impl Row {
    fn into_run(self) -> Result<Run, String> {
        let tz: Tz = self
            .time_zone
            .parse()
            .map_err(|_| "time_zone is none that is known".to_owned())?;
        let status = Status::ALL.into_iter().find(|known| known.as_str() == self.status);
        let origin = match (self.origin.as_str(), self.stage_visit) {
            ("started", _) => Origin::Started,
            ("assigned", Some(visit)) => Origin::Assigned { visit },
            _ => return Err("origin is none that is known, or stage_visit is missing".to_owned()),
        };
        let instants = [
            Some(self.not_before),
            Some(self.day_started_at),
            Some(self.started_at),
            Some(self.updated_at),
        ]
        .into_iter()
        .chain([
            self.ended_at,
            self.next_action_at,
            self.day_shifted_at,
            self.lease_expires_at,
        ]);
        let mut dates = instants.flatten().map(|at| at.date_naive()).chain([self.day_date]);
        if !dates.all(is_usual) {
            return Err("an instant or a date is not of the years 1 to 9999".to_owned());
        }
        let mut run = Run {
            id: ProgressId(self.id),
            customer_id: CustomerId::parse(&self.customer_id).map_err(|_| "customer_id is none".to_owned())?,
            timeline_id: TimelineId(self.campaign_timeline_id),
            origin,
            status: status.ok_or_else(|| "status is none that is known".to_owned())?,
            status_reason: self.status_reason,
            current_day: self.current_day,
            day_date: self.day_date,
            zone: Zone {
                tz,
                is_default: self.zone_is_default,
            },
            not_before: self.not_before,
            day_started_at: self.day_started_at,
            day_shifted_at: self.day_shifted_at,
            shifted_days: self.shifted_days,
            jumped_days: parsed("jumped_days", &self.jumped_days)?,
            completed: completed_of(&self.completed_actions).ok_or_else(|| unlike("completed_actions"))?,
            skipped: skipped_of(&self.skipped_actions).ok_or_else(|| unlike("skipped_actions"))?,
            failed: parsed("failed_actions", &self.failed_actions)?,
            deferred: parsed("deferred_actions", &self.deferred_actions)?,
            task_reports: parsed("task_reports", &self.task_reports)?,
            in_flight: parsed("in_flight_actions", &self.in_flight_actions)?,
            last_late: parsed("last_late", &self.last_late)?,
            next_action_at: self.next_action_at,
            lease: self
                .lease_token
                .zip(self.lease_expires_at)
                .map(|(token, expires_at)| Lease { token, expires_at }),
            started_at: self.started_at,
            ended_at: self.ended_at,
            updated_at: self.updated_at,
            // Nothing depends on it.
            trace_parent: self.trace_parent.as_deref().and_then(TraceParent::parse),
        };
        run.take_in_reports();
        Ok(run)
    }
}

/// Whether a date is one that the contract can show, and that `SQLite` compares as text.
pub(super) fn is_usual(date: NaiveDate) -> bool {
    (1..=9999).contains(&date.year())
}

fn unlike(column: &str) -> String {
    format!("{column} is not of the form that this version writes")
}

/// What stands in a column of JSON. What it says instead is not repeated: errors of providers name addresses.
pub(super) fn parsed<T: DeserializeOwned>(column: &str, json: &str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|_| unlike(column))
}
