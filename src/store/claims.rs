//! `customer_timeline_progress`, many runs at a time: claiming what is due, and recording what came of it.
//!
//! The statements that a tick lives on. A claim is read, planned and committed in one transaction; what is not
//! committed is not sent.

use chrono::NaiveDate;
use sea_orm::{FromQueryResult, Value};
use std::collections::{HashMap, HashSet};

use super::batch::{Batch, Col};
use super::broken::{read, value};
use super::layout::Part;
use super::planned::{Before, Extent, Planned};
use super::progress::TABLE;
use super::{StoreError, Txn};
use crate::domain::{CustomerId, ProgressId, Run, Status, Timestamp};

/// A run as it was planned: with a lease when something is to be sent, without one when all is decided.
#[derive(Debug, Clone)]
pub struct Claim {
    /// What it was like when it was read.
    pub before: Before,
    /// What it is to be.
    pub run: Run,
    /// How much of it is otherwise than it was read.
    extent: Extent,
}

impl Claim {
    /// Of what planning by a revision of its timeline made of a run.
    pub fn new(was: &Run, run: Run, revision: i64) -> Self {
        Self {
            before: Before::of(was, revision),
            extent: Extent::of(was, &run),
            run,
        }
    }
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
    /// How much of it is otherwise than it was claimed.
    extent: Extent,
}

impl Completion {
    /// Of what became of a run that was claimed under a token.
    pub fn new(before: Before, token: i64, was: &Run, run: Run) -> Self {
        Self {
            before,
            token,
            extent: Extent::of(was, &run),
            run,
        }
    }
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
    /// Commits what was planned for runs, which are locked, and says which were as they had been read; nothing was done about the
    /// others.
    pub async fn claim(&self, claims: &[&Claim], now: Timestamp) -> Result<HashSet<ProgressId>, StoreError> {
        let mut claimed = HashSet::new();
        for extent in Extent::ALL {
            let mut planned = Planned::new(extent);
            for claim in claims.iter().filter(|claim| claim.extent == extent) {
                let token = claim.run.lease.map(|lease| lease.token);
                planned.push(&claim.before, &claim.run, token);
            }
            let set = extent.set();
            let not_before = match extent {
                Extent::Held | Extent::Sent => "",
                Extent::Whole => ", not_before = u.begin_at",
            };
            for part in planned.parts(self, now) {
                let sql = format!(
                    "update {TABLE} as p set lease_token = u.token, lease_expires_at = u.lease_until, updated_at = $1, \
                     is_woken = false, {set} {not_before} \
                     from {} where p.customer_id = u.customer and p.id = u.run_id and p.status = 'active' \
                     and (p.lease_expires_at is null or p.lease_expires_at <= $1) \
                     and p.current_day = u.was_day and p.day_date = u.was_date and p.time_zone = u.was_zone {} returning id",
                    part.table,
                    part.only("p.customer_id")
                );
                claimed.extend(self.run_ids(&sql, part.values).await?);
            }
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

    /// Records those that nobody has moved or woken meanwhile, which is nearly all. They are locked here, and in their order, so they
    /// go with one statement, whose extent is the largest among them.
    async fn complete_as_planned(
        &self,
        completions: &[&Completion],
        now: Timestamp,
    ) -> Result<HashMap<ProgressId, Landed>, StoreError> {
        let mut landed: HashSet<ProgressId> = HashSet::new();
        let extent = completions.iter().map(|done| done.extent).max();
        let extent = extent.unwrap_or(Extent::Whole);
        for part in self.completed(extent, completions, now) {
            let sql = format!(
                "update {TABLE} as p set lease_token = null, lease_expires_at = null, {}, is_woken = false, \
                 updated_at = $1 from {} join (select id as timeline_id, is_active, revision from campaign_timelines) t \
                 on t.timeline_id = u.timeline \
                 where p.customer_id = u.customer and p.id = u.run_id and p.lease_token = u.token and {UNMOVED} \
                 and (u.wake is null or not p.is_woken) {} returning id",
                extent.set(),
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
        for part in self.completed(Extent::Whole, completions, now) {
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
    fn completed(&self, extent: Extent, completions: &[&Completion], now: Timestamp) -> Vec<Part> {
        let mut planned = Planned::new(extent);
        for done in completions {
            planned.push(&done.before, &done.run, Some(done.token));
        }
        planned.parts(self, now)
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
