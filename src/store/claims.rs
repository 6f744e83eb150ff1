//! `customer_timeline_progress`, many runs at a time: claiming what is due, and recording what came of it.
//!
//! The statements that a tick lives on. A claim is read, planned and committed in one transaction; what is not
//! committed is not sent.

use chrono::NaiveDate;
use chrono_tz::Tz;
use sea_orm::{FromQueryResult, Value};
use serde_json::json;
use std::collections::{HashMap, HashSet};

use super::batch::{Batch, Cell, Col};
use super::broken::{read, value};
use super::finished::{completed_text, skipped_text};
use super::layout::Part;
use super::progress::TABLE;
use super::{StoreError, Txn};
use crate::domain::{CustomerId, ProgressId, Run, Status, Timestamp};

/// What a run was like when it was read. A write that finds it otherwise does nothing, or wakes it to be planned anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// The revision of its timeline by which it was planned.
    pub revision: i64,
    /// Its day.
    pub current_day: i32,
    /// The date of that day.
    pub day_date: NaiveDate,
    /// Its zone.
    pub tz: Tz,
}

impl Before {
    /// What a run is like that is planned by this revision of its timeline.
    pub fn of(run: &Run, revision: i64) -> Self {
        Self {
            revision,
            current_day: run.current_day,
            day_date: run.day_date,
            tz: run.zone.tz,
        }
    }
}

/// A run as it was planned: with a lease when something is to be sent, without one when all is decided.
#[derive(Debug, Clone)]
pub struct Claim {
    /// What it was like when it was read.
    pub before: Before,
    /// What it is to be.
    pub run: Run,
}

/// A run as it is after its sends.
#[derive(Debug, Clone)]
pub struct Completion {
    /// What it was like when it was claimed.
    pub before: Before,
    /// The lease under which it was sent.
    pub token: i64,
    /// What it is to be.
    pub run: Run,
}

/// A run whose outcomes were recorded, as it is now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Landed {
    /// Whether it went where it was planned to go. Otherwise it was moved or frozen meanwhile, or its timeline was changed.
    pub as_planned: bool,
    /// Whether it is to be looked at again at once.
    pub is_due: bool,
}

/// A lease that somebody holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLease {
    /// Whose run.
    pub customer: CustomerId,
    /// Which run.
    pub run: ProgressId,
    /// Under which token.
    pub token: i64,
}

/// Why an outcome could not be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unrecorded {
    /// The lease had expired, and somebody else took over.
    TakenOver,
    /// The run is not there any more.
    Gone,
}

#[derive(FromQueryResult)]
struct IdRow {
    id: i64,
}

#[derive(FromQueryResult)]
struct LandedRow {
    current_day: i32,
    day_date: NaiveDate,
    status: String,
    next_action_at: Option<Timestamp>,
}

impl Txn {
    /// Commits what was planned for runs, and says which were as they had been read; nothing was done about the others.
    pub async fn claim(&self, claims: &[&Claim], now: Timestamp) -> Result<HashSet<ProgressId>, StoreError> {
        let mut batch = Batch::new(PLANNED);
        for claim in claims {
            push_planned(
                &mut batch,
                &claim.before,
                &claim.run,
                claim.run.lease.map(|lease| lease.token),
            );
        }
        let mut claimed = HashSet::new();
        for part in self.parts(batch, &[now.into()]) {
            let sql = format!(
                "update {TABLE} as p set lease_token = u.token, lease_expires_at = u.lease_until, in_flight_actions = u.in_flight, \
                 completed_actions = u.completed, skipped_actions = u.skipped, failed_actions = u.failed, \
                 deferred_actions = u.deferred, jumped_days = u.jumped, last_late = u.late, current_day = u.new_day, \
                 day_date = u.new_date, day_started_at = u.day_begin, day_shifted_at = u.day_shifted, not_before = u.begin_at, \
                 shifted_days = u.shifted, status = u.new_status, ended_at = u.ended, \
                 next_action_at = u.wake, updated_at = $1, is_woken = false \
                 from {} where p.customer_id = u.customer and p.id = u.run_id and p.status = 'active' \
                 and (p.lease_expires_at is null or p.lease_expires_at <= $1) \
                 and p.current_day = u.was_day and p.day_date = u.was_date and p.time_zone = u.was_zone {} returning id",
                part.table,
                part.only("p.customer_id")
            );
            claimed.extend(self.run_ids(&sql, part.values).await?);
        }
        Ok(claimed)
    }

    /// Records what came of sends and gives the runs free, and says which were held under the given tokens still. Where a
    /// run was paused, stopped or moved meanwhile, or its timeline was switched off or changed, only its outcomes count: its place
    /// in time stays as it is now, and if it is active it is planned anew.
    pub async fn complete(
        &self,
        completions: &[&Completion],
        now: Timestamp,
    ) -> Result<HashMap<ProgressId, Landed>, StoreError> {
        let landed = self.complete_as_planned(completions, now).await?;
        let others: Vec<&Completion> = completions
            .iter()
            .copied()
            .filter(|done| !landed.contains_key(&done.run.id))
            .collect();
        if others.is_empty() {
            return Ok(landed);
        }
        let moved = self.complete_moved(&others, now).await?;
        Ok(landed.into_iter().chain(moved).collect())
    }

    /// Records those that nobody has moved or woken meanwhile, which is nearly all.
    async fn complete_as_planned(
        &self,
        completions: &[&Completion],
        now: Timestamp,
    ) -> Result<HashMap<ProgressId, Landed>, StoreError> {
        let mut landed: HashSet<ProgressId> = HashSet::new();
        for part in self.completed(completions, now) {
            let sql = format!(
                "update {TABLE} as p set lease_token = null, lease_expires_at = null, in_flight_actions = u.in_flight, \
                 completed_actions = u.completed, skipped_actions = u.skipped, failed_actions = u.failed, \
                 deferred_actions = u.deferred, last_late = u.late, jumped_days = u.jumped, \
                 day_shifted_at = u.day_shifted, current_day = u.new_day, day_date = u.new_date, day_started_at = u.day_begin, \
                 shifted_days = u.shifted, ended_at = u.ended, next_action_at = u.wake, is_woken = false, status = u.new_status, \
                 updated_at = $1 from {} join (select id as timeline_id, is_active, revision from campaign_timelines) t \
                 on t.timeline_id = u.timeline \
                 where p.customer_id = u.customer and p.id = u.run_id and p.lease_token = u.token and {UNMOVED} \
                 and (u.wake is null or not p.is_woken) {} returning id",
                part.table,
                part.only("p.customer_id")
            );
            landed.extend(self.run_ids(&sql, part.values).await?);
        }
        let done = completions.iter().filter(|done| landed.contains(&done.run.id));
        let landed = done.map(|done| {
            let is_due = done.run.status == Status::Active && done.run.next_action_at.is_some_and(|at| at <= now);
            let landed = Landed {
                as_planned: true,
                is_due,
            };
            (done.run.id, landed)
        });
        Ok(landed.collect())
    }

    /// Records those that may have been moved meanwhile.
    async fn complete_moved(
        &self,
        completions: &[&Completion],
        now: Timestamp,
    ) -> Result<HashMap<ProgressId, Landed>, StoreError> {
        let mut rows = Vec::new();
        for part in self.completed(completions, now) {
            let sql = format!(
                "update {TABLE} as p set lease_token = null, lease_expires_at = null, in_flight_actions = u.in_flight, \
                 completed_actions = u.completed, skipped_actions = u.skipped, failed_actions = u.failed, \
                 deferred_actions = u.deferred, last_late = u.late, \
                 jumped_days = case when {UNMOVED} then u.jumped else p.jumped_days end, \
                 day_shifted_at = case when {UNMOVED} then u.day_shifted else p.day_shifted_at end, \
                 current_day = case when {UNMOVED} then u.new_day else p.current_day end, \
                 day_date = case when {UNMOVED} then u.new_date else p.day_date end, \
                 day_started_at = case when {UNMOVED} then u.day_begin else p.day_started_at end, \
                 shifted_days = case when {UNMOVED} then u.shifted else p.shifted_days end, \
                 ended_at = case when {UNMOVED} then u.ended else p.ended_at end, \
                 next_action_at = case when {UNMOVED} and (u.wake is null or not p.is_woken) then u.wake \
                 when p.status = 'active' then $1 else p.next_action_at end, is_woken = false, \
                 status = case when {UNMOVED} then u.new_status else p.status end, updated_at = $1 \
                 from {} join (select id as timeline_id, is_active, revision from campaign_timelines) t on t.timeline_id = u.timeline \
                 where p.customer_id = u.customer and p.id = u.run_id and p.lease_token = u.token {} \
                 returning id, current_day, day_date, status, next_action_at",
                part.table,
                part.only("p.customer_id")
            );
            rows.extend(self.raw_rows(&sql, part.values).await?);
        }
        let planned: HashMap<ProgressId, &Run> = completions.iter().map(|done| (done.run.id, &done.run)).collect();
        let landed = rows.iter().filter_map(|row| {
            let id = ProgressId(value(row, "id")?);
            // What was broken meanwhile must not take down the outcomes of others.
            let Ok(row) = read::<LandedRow>(row) else {
                return Some((id, Landed::default()));
            };
            let as_planned = planned.get(&id).is_some_and(|run| {
                (run.current_day, run.day_date, run.status.as_str())
                    == (row.current_day, row.day_date, row.status.as_str())
            });
            let is_due = row.status == Status::Active.as_str() && row.next_action_at.is_some_and(|at| at <= now);
            Some((id, Landed { as_planned, is_due }))
        });
        Ok(landed.collect())
    }

    /// Runs as they are after their sends, as the table `u`, and `now` as the first parameter.
    fn completed(&self, completions: &[&Completion], now: Timestamp) -> Vec<Part> {
        let mut batch = Batch::new(PLANNED);
        for done in completions {
            push_planned(&mut batch, &done.before, &done.run, Some(done.token));
        }
        self.parts(batch, &[now.into()])
    }

    /// Prolongs leases that are held under their tokens still, and says which are.
    pub async fn prolong(
        &self,
        leases: &[HeldLease],
        expires_at: Timestamp,
    ) -> Result<HashSet<ProgressId>, StoreError> {
        let mut batch = Batch::new(&[("customer", Col::Text), ("run_id", Col::BigInt), ("token", Col::BigInt)]);
        for held in leases {
            batch.push([held.customer.as_str().into(), held.run.0.into(), held.token.into()]);
        }
        let mut held = HashSet::new();
        for part in self.parts(batch, &[expires_at.into()]) {
            let sql = format!(
                "update {TABLE} as p set lease_expires_at = $1 from {} \
                 where p.customer_id = u.customer and p.id = u.run_id and p.lease_token = u.token {} returning id",
                part.table,
                part.only("p.customer_id")
            );
            held.extend(self.run_ids(&sql, part.values).await?);
        }
        Ok(held)
    }

    /// The ids that a statement about runs returns.
    async fn run_ids(&self, sql: &str, values: Vec<Value>) -> Result<impl Iterator<Item = ProgressId>, StoreError> {
        let rows: Vec<IdRow> = self.rows(sql, values).await?;
        Ok(rows.into_iter().map(|row| ProgressId(row.id)))
    }

    /// Why an outcome could not be recorded.
    pub async fn why_unrecorded(&self, customer: &CustomerId, id: ProgressId) -> Result<Unrecorded, StoreError> {
        Ok(if self.is_there(customer, id).await? {
            Unrecorded::TakenOver
        } else {
            Unrecorded::Gone
        })
    }
}

/// Whether a run stands where it stood when it was claimed, and its timeline is as it was.
const UNMOVED: &str = "p.status = 'active' and p.current_day = u.was_day and p.day_date = u.was_date and p.time_zone = u.was_zone \
     and t.is_active and t.revision = u.was_revision";

/// A planned run as it travels.
pub(super) const PLANNED: &[(&str, Col)] = &[
    ("customer", Col::Text),
    ("run_id", Col::BigInt),
    ("timeline", Col::BigInt),
    ("was_revision", Col::BigInt),
    ("was_day", Col::Int),
    ("was_date", Col::Date),
    ("was_zone", Col::Text),
    ("token", Col::OptBigInt),
    ("lease_until", Col::OptTime),
    ("in_flight", Col::Json),
    ("completed", Col::Text),
    ("skipped", Col::Text),
    ("failed", Col::Json),
    ("deferred", Col::Json),
    ("jumped", Col::Json),
    ("late", Col::Json),
    ("new_day", Col::Int),
    ("new_date", Col::Date),
    ("day_begin", Col::Time),
    ("begin_at", Col::Time),
    ("day_shifted", Col::OptTime),
    ("shifted", Col::Int),
    ("new_status", Col::Text),
    ("ended", Col::OptTime),
    ("wake", Col::OptTime),
];

pub(super) fn push_planned(batch: &mut Batch, before: &Before, run: &Run, token: Option<i64>) {
    batch.push([
        run.customer_id.as_str().into(),
        run.id.0.into(),
        run.timeline_id.0.into(),
        before.revision.into(),
        before.current_day.into(),
        before.day_date.into(),
        before.tz.name().into(),
        token.into(),
        Cell::from(run.lease.map(|lease| lease.expires_at)),
        json!(run.in_flight).into(),
        completed_text(&run.completed).into(),
        skipped_text(&run.skipped).into(),
        json!(run.failed).into(),
        json!(run.deferred).into(),
        json!(run.jumped_days).into(),
        json!(run.last_late).into(),
        run.current_day.into(),
        run.day_date.into(),
        run.day_started_at.into(),
        run.not_before.into(),
        run.day_shifted_at.into(),
        run.shifted_days.into(),
        run.status.as_str().into(),
        run.ended_at.into(),
        run.next_action_at.into(),
    ]);
}
