//! `customer_timeline_progress` and `time_zones`: moving many runs to their next day at once.
//!
//! Runs that are alike in timeline, day, zone and date, and have no overdue wake-up, move to the same place. So a range
//! of customers is grouped into such cohorts, Rust says where each goes, and one statement moves them: locks are short, the
//! work can be broken off after any range, and the database does no time arithmetic.

use chrono::NaiveDate;
use chrono_tz::Tz;
use sea_orm::{ConnectionTrait, FromQueryResult, QueryResult};
use std::collections::BTreeSet;

use super::batch::{Batch, Cell, Col};
use super::broken::{read, value};
use super::progress::{TABLE, is_usual};
use super::session::{Session, values};
use super::timelines::{list, planned_by};
use super::{Buckets, StoreError, Txn};
use crate::domain::{ProgressId, Run, TimelineId, Timestamp};

/// A zone, and a date that is over there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZoneDate {
    /// The zone.
    pub tz: Tz,
    /// The date there.
    pub date: NaiveDate,
}

/// Customers after one id (not included) up to another (included).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerRange {
    /// After this one.
    pub after: String,
    /// Up to this one.
    pub until: String,
}

/// Runs that are alike, and move alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cohort {
    /// Their timeline.
    pub timeline_id: TimelineId,
    /// Their day.
    pub current_day: i32,
    /// The date of that day.
    pub day_date: NaiveDate,
    /// Their zone.
    pub tz: Tz,
    /// Whether they have no wake-up at all, so that nothing is pending in them.
    pub is_idle: bool,
    /// One of them.
    pub first: ProgressId,
    /// How many there are.
    pub runs: u64,
}

/// The cohorts of a range.
#[derive(Debug, Default)]
pub struct Cohorts {
    /// Those that can move.
    pub cohorts: Vec<Cohort>,
    /// Those that can't be read, and stay.
    pub broken: Vec<BrokenCohort>,
}

/// Runs that are alike, and can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokenCohort {
    /// One of them.
    pub first: ProgressId,
    /// Their zone, if it can be read.
    pub tz: Option<Tz>,
    /// How many there are.
    pub runs: u64,
}

/// Where a cohort goes.
#[derive(Debug, Clone)]
pub struct CohortMove {
    /// Which.
    pub cohort: Cohort,
    /// The timeline's revision by which it was planned; at another one the cohort stays.
    pub revision: i64,
    /// A run of it as it is to be. Its wake-up is taken where it is earlier than what the run has, and its jumped days are added.
    pub run: Run,
    /// Days by which they are shifted.
    pub shifted_days: i32,
}

#[derive(FromQueryResult)]
struct ZoneRow {
    swept_date: Option<NaiveDate>,
}

#[derive(FromQueryResult)]
struct NewZone {
    zone: String,
}

#[derive(FromQueryResult)]
struct CohortRow {
    campaign_timeline_id: i64,
    current_day: i32,
    day_date: NaiveDate,
    time_zone: String,
    idle: i32,
    first_id: i64,
    runs: i64,
}

#[derive(FromQueryResult)]
struct UntilRow {
    until: Option<String>,
    runs: i64,
}

impl<C: ConnectionTrait> Session<C> {
    /// All zones in which there were ever runs, and the date for which each was last found to have nothing left to advance.
    pub async fn zones(&self) -> Result<Vec<(Tz, Option<NaiveDate>)>, StoreError> {
        let sql = "select time_zone, swept_date from time_zones order by time_zone";
        let rows = self.raw_rows(sql, vec![]).await?;
        // A zone that only a newer version knows is none of ours, and one whose date can't be read was never swept.
        let zone = |row: &QueryResult| {
            let name: String = value(row, "time_zone")?;
            let swept_date = read::<ZoneRow>(row).ok().and_then(|row| row.swept_date);
            Some((name.parse().ok()?, swept_date))
        };
        Ok(rows.iter().filter_map(zone).collect())
    }

    /// The next `size` runs' customers after `after`, on Citus about so many; none: there are no more.
    pub async fn next_range(&self, after: &str, size: usize) -> Result<Option<CustomerRange>, StoreError> {
        let sampled = if self.layout.is_distributed() {
            // For all, each shard would send `size` customers to be sorted with those of the others. A hash deals customers out, so
            // where a sample has its share, all have about as many.
            let share = size / Buckets::SAMPLES;
            let found = self.next_runs(after, Buckets::SAMPLE, share).await?;
            found.filter(|(_, runs)| *runs == share)
        } else {
            None
        };
        let found = match sampled {
            Some(found) => Some(found),
            None => self.next_runs(after, Buckets::ALL, size).await?,
        };
        Ok(found.map(|(until, _)| CustomerRange {
            after: after.to_owned(),
            until,
        }))
    }

    /// The last customer of the next `size` runs in some buckets, and how many there are.
    async fn next_runs(
        &self,
        after: &str,
        buckets: Buckets,
        size: usize,
    ) -> Result<Option<(String, usize)>, StoreError> {
        let sql = format!(
            "select max(r.customer_id) as until, count(*) as runs from (select p.customer_id from {TABLE} p \
             where p.customer_id > $1 {} order by p.customer_id limit {size}) r",
            buckets.and_in()
        );
        let row: Option<UntilRow> = self.row(&sql, values![after]).await?;
        Ok(row.and_then(|row| Some((row.until?, usize::try_from(row.runs).unwrap_or_default()))))
    }

    /// The cohorts of a range whose day is over: active runs of these timelines, in these zones before these dates, with nothing overdue.
    pub async fn cohorts(
        &self,
        range: &CustomerRange,
        zones: &[ZoneDate],
        timelines: &[TimelineId],
        buckets: Buckets,
        now: Timestamp,
    ) -> Result<Cohorts, StoreError> {
        let mut batch = Batch::new(&[("zone", Col::Text), ("today", Col::Date)]);
        for zone in zones {
            batch.push([zone.tz.name().into(), zone.date.into()]);
        }
        if batch.is_empty() || timelines.is_empty() {
            return Ok(Cohorts::default());
        }
        let (table, mut values) = batch.bind(self.backend, 4);
        values.splice(0..0, values![range.after.as_str(), range.until.as_str(), now]);
        let sql = format!(
            "select p.campaign_timeline_id, p.current_day, p.day_date, p.time_zone, \
             case when p.next_action_at is null then 1 else 0 end as idle, min(p.id) as first_id, count(*) as runs from {table} \
             join {TABLE} p on p.time_zone = u.zone and p.day_date < u.today \
             where p.customer_id > $1 and p.customer_id <= $2 and p.status = 'active' \
             and (p.next_action_at is null or p.next_action_at > $3) and p.campaign_timeline_id in ({}) {} \
             group by p.campaign_timeline_id, p.current_day, p.day_date, p.time_zone, idle",
            list(timelines.iter().map(|id| id.0)),
            buckets.and_in()
        );
        let mut cohorts = Cohorts::default();
        for row in self.raw_rows(&sql, values).await? {
            match read(&row).ok().and_then(CohortRow::into_cohort) {
                Some(cohort) => cohorts.cohorts.push(cohort),
                None => cohorts.broken.push(BrokenCohort {
                    first: ProgressId(value(&row, "first_id").unwrap_or_default()),
                    tz: value::<String>(&row, "time_zone").and_then(|name| name.parse().ok()),
                    runs: value::<i64>(&row, "runs").unwrap_or_default().unsigned_abs(),
                }),
            }
        }
        Ok(cohorts)
    }
}

impl CohortRow {
    fn into_cohort(self) -> Option<Cohort> {
        Some(Cohort {
            timeline_id: TimelineId(self.campaign_timeline_id),
            current_day: self.current_day,
            day_date: Some(self.day_date).filter(|date| is_usual(*date))?,
            tz: self.time_zone.parse().ok()?,
            is_idle: self.idle == 1,
            first: ProgressId(self.first_id),
            runs: self.runs.unsigned_abs(),
        })
    }
}

impl Txn {
    /// Moves the runs of cohorts within a range, and says how many. A run that got or lost a wake-up meanwhile stays.
    pub async fn move_cohorts(
        &self,
        range: &CustomerRange,
        moves: &[CohortMove],
        buckets: Buckets,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut batch = Batch::new(&[
            ("timeline_id", Col::BigInt),
            ("revision", Col::BigInt),
            ("was_day", Col::Int),
            ("was_date", Col::Date),
            ("was_zone", Col::Text),
            ("new_day", Col::Int),
            ("new_date", Col::Date),
            ("shifted", Col::Int),
            ("new_status", Col::Text),
            ("ended", Col::Time),
            ("wake", Col::Time),
            ("idle", Col::Int),
            ("jumped", Col::Json),
        ]);
        for CohortMove {
            cohort,
            revision,
            run,
            shifted_days,
        } in moves
        {
            batch.push([
                cohort.timeline_id.0.into(),
                Cell::from(*revision),
                cohort.current_day.into(),
                cohort.day_date.into(),
                cohort.tz.name().into(),
                run.current_day.into(),
                run.day_date.into(),
                Cell::from(*shifted_days),
                run.status.as_str().into(),
                run.ended_at.into(),
                run.next_action_at.into(),
                i32::from(cohort.is_idle).into(),
                Cell::json(&run.jumped_days),
            ]);
        }
        if batch.is_empty() {
            return Ok(0);
        }
        let (table, mut values) = batch.bind(self.backend, 4);
        values.splice(0..0, values![range.after.as_str(), range.until.as_str(), now]);
        // An example jumps over at most one range of days. Without one the column is left as it is, and so is one that is
        // broken: it must not hold up the others.
        let jumped = self.pick(
            "p.jumped_days || u.jumped",
            "case when u.jumped = '[]' or not json_valid(p.jumped_days) then p.jumped_days else json_insert(p.jumped_days, '$[#]', json_extract(u.jumped, '$[0]')) end",
        );
        let sql = format!(
            "update {TABLE} as p set current_day = u.new_day, day_date = u.new_date, day_shifted_at = null, \
             day_started_at = case when u.new_day = p.current_day then p.day_started_at else $3 end, \
             shifted_days = p.shifted_days + u.shifted, jumped_days = {jumped}, \
             status = u.new_status, ended_at = u.ended, \
             next_action_at = case when p.next_action_at is null or u.wake < p.next_action_at then u.wake else p.next_action_at end, \
             updated_at = $3 from {table} \
             where p.customer_id > $1 and p.customer_id <= $2 and p.status = 'active' and p.campaign_timeline_id = u.timeline_id \
             and p.current_day = u.was_day and p.day_date = u.was_date and p.time_zone = u.was_zone \
             and ((u.idle = 1 and p.next_action_at is null) or (u.idle = 0 and p.next_action_at > $3)) {} \
             and exists (select 1 from campaign_timelines t where t.id = u.timeline_id and t.is_active and t.revision = u.revision)",
            buckets.and_in()
        );
        self.execute(&sql, values).await
    }

    /// Wakes the active runs of a timeline within a range that are planned by what stands on one of these days, so that they are
    /// planned anew.
    pub async fn wake_runs(
        &self,
        timeline: TimelineId,
        days: &[i32],
        range: &CustomerRange,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let Some(condition) = planned_by(days.iter().copied()) else {
            return Ok(0);
        };
        let sql = format!(
            "update {TABLE} set next_action_at = $4, updated_at = $4 where customer_id > $1 and customer_id <= $2 \
             and campaign_timeline_id = $3 and status = 'active' and {condition} \
             and (next_action_at is null or next_action_at > $4)"
        );
        self.execute(
            &sql,
            values![range.after.as_str(), range.until.as_str(), timeline.0, now],
        )
        .await
    }

    /// Notes that there are runs in a zone.
    pub(super) async fn note_zone(&self, tz: Tz) -> Result<(), StoreError> {
        self.note_zones([tz].into_iter()).await
    }

    /// Notes that there are runs in zones.
    pub(super) async fn note_zones(&self, zones: impl Iterator<Item = Tz>) -> Result<(), StoreError> {
        let names: BTreeSet<&str> = zones.map(Tz::name).collect();
        let mut batch = Batch::new(&[("zone", Col::Text)]);
        for name in names {
            batch.push([name.into()]);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let (table, values) = batch.bind(self.backend, 1);
        if !self.layout.is_distributed() {
            let sql = format!(
                "insert into time_zones (time_zone) select u.zone from {table} where true on conflict (time_zone) do nothing"
            );
            self.execute(&sql, values).await?;
            return Ok(());
        }
        // A write to all nodes waits for other writes. Nearly always the zones are known, and nothing is written.
        let new = format!(
            "select u.zone from {table} where not exists (select 1 from time_zones z where z.time_zone = u.zone)"
        );
        for NewZone { zone } in self.rows(&new, values).await? {
            let sql = "insert into time_zones (time_zone) values ($1) on conflict (time_zone) do nothing";
            self.execute(sql, values![zone]).await?;
        }
        Ok(())
    }

    /// Notes that zones were found to have nothing left to advance for these dates.
    pub async fn note_swept(&self, zones: &[ZoneDate]) -> Result<(), StoreError> {
        let mut batch = Batch::new(&[("zone", Col::Text), ("swept", Col::Date)]);
        for zone in zones {
            batch.push([zone.tz.name().into(), zone.date.into()]);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let (table, values) = batch.bind(self.backend, 1);
        let sql = format!("update time_zones as z set swept_date = u.swept from {table} where z.time_zone = u.zone");
        self.execute(&sql, values).await?;
        Ok(())
    }
}
