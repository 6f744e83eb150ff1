//! `customer_timeline_progress`, many runs at a time: finding what is due, claiming it, and recording what came of it.
//!
//! The three statements that a tick lives on. A claim is read, planned and committed in one transaction; what is not
//! committed is not sent. The due index is walked by a cursor, which begins anew with every tick, so that dead entries
//! and held rows are passed once. LIMIT is a literal, because as a parameter it turns the plan into a scan of the table.

use chrono::NaiveDate;
use chrono_tz::Tz;
use sea_orm::{ConnectionTrait, FromQueryResult, QueryResult, Value};
use serde_json::json;
use std::collections::{HashMap, HashSet};

use super::batch::{Batch, Cell, Col};
use super::broken::{BrokenRun, read, value};
use super::engagements::END_OF_TIME;
use super::holds::HOLDS_LOCK;
use super::progress::{COLUMNS, TABLE, read_run};
use super::session::{Session, values};
use super::timelines::list;
use super::{Buckets, StoreError, Txn};
use crate::domain::{CustomerId, ProgressId, Run, Status, TimelineId, Timestamp};

/// Where a tick is in the due index of a timeline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    wake: Wake,
    id: ProgressId,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Wake {
    At(Timestamp),
    /// What `SQLite` has in the place of an instant. It has its place among the others.
    Text(String),
}

/// Runs that are due, in the order of their wake-ups.
#[derive(Debug, Default)]
pub struct DueRuns {
    /// Those that can be read.
    pub runs: Vec<Run>,
    /// Those among them that can't.
    pub broken: Vec<BrokenRun>,
    /// Where to go on after all of these; none: none was found.
    pub last: Option<Cursor>,
    /// Whether there are more.
    pub more: bool,
}

impl Cursor {
    /// Before all that is due.
    pub const BEGIN: Self = Self {
        wake: Wake::At(Timestamp::UNIX_EPOCH),
        id: ProgressId(0),
    };

    /// After a run that was read.
    pub fn after(run: &Run) -> Self {
        Self {
            wake: Wake::At(run.next_action_at.unwrap_or(Timestamp::UNIX_EPOCH)),
            id: run.id,
        }
    }

    /// After a row, whether it can be read or not.
    fn after_row(row: &QueryResult) -> Option<Self> {
        let at = || value::<Timestamp>(row, "next_action_at").map(Wake::At);
        let text = || value::<String>(row, "next_action_at").map(Wake::Text);
        Some(Self {
            wake: at().or_else(text)?,
            id: ProgressId(value(row, "id")?),
        })
    }

    fn wake(&self) -> Value {
        match &self.wake {
            Wake::At(at) => (*at).into(),
            Wake::Text(text) => text.as_str().into(),
        }
    }
}

/// An active timeline with something planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimelineWake {
    /// Which.
    pub id: TimelineId,
    /// Its revision.
    pub revision: i64,
    /// Its earliest wake-up, past or to come; long ago where that can't be read.
    pub earliest: Timestamp,
}

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
    /// How many actions its row lists as completed and as skipped; none: that is not known, as the run knows of more than its
    /// row. Both lists only grow while a run is planned and sent for, so what is new is appended to them, and a year of them is
    /// not written anew for each message.
    pub finished: Option<(usize, usize)>,
}

impl Before {
    /// What a run is like that is planned by this revision of its timeline.
    pub fn of(run: &Run, revision: i64) -> Self {
        Self {
            revision,
            current_day: run.current_day,
            day_date: run.day_date,
            tz: run.zone.tz,
            // What people report of tasks is taken in when a run is read.
            finished: run
                .task_reports
                .is_empty()
                .then_some((run.completed.len(), run.skipped.len())),
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
struct WakeRow {
    earliest: Option<Timestamp>,
}

#[derive(FromQueryResult)]
struct ActiveRow {
    id: i64,
    is_active: bool,
    revision: i64,
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

impl<C: ConnectionTrait> Session<C> {
    /// The active timelines that have something planned, by id. `only`: none means all.
    pub async fn timeline_wakes(&self, only: &[TimelineId], buckets: Buckets) -> Result<Vec<TimelineWake>, StoreError> {
        let only = if only.is_empty() {
            String::new()
        } else {
            format!("and t.id in ({})", list(only.iter().map(|id| id.0)))
        };
        let sql = format!(
            "select t.id, t.revision, (select p.next_action_at from {TABLE} p where p.campaign_timeline_id = t.id \
             and p.status = 'active' and p.next_action_at > $1 and p.next_action_at < $2 {} order by p.next_action_at limit 1) \
             as earliest from campaign_timelines t where t.is_active {only} order by t.id",
            buckets.and_in()
        );
        // What is beyond these, such as PostgreSQL's infinity, is never due.
        let within = values![Timestamp::UNIX_EPOCH, END_OF_TIME];
        let wake = |row: &QueryResult| {
            let known = read::<WakeRow>(row).ok();
            Some(TimelineWake {
                id: TimelineId(value(row, "id")?),
                revision: value(row, "revision")?,
                earliest: known.map_or(Some(Timestamp::UNIX_EPOCH), |row| row.earliest)?,
            })
        };
        Ok(self.raw_rows(&sql, within).await?.iter().filter_map(wake).collect())
    }

    /// All active timelines and their revisions. `only`: none means all.
    pub async fn active_timelines(&self, only: &[TimelineId]) -> Result<Vec<(TimelineId, i64)>, StoreError> {
        let only = if only.is_empty() {
            String::new()
        } else {
            format!("and id in ({})", list(only.iter().map(|id| id.0)))
        };
        let sql = format!("select id, revision, is_active from campaign_timelines where is_active {only} order by id");
        let rows: Vec<ActiveRow> = self.rows(&sql, vec![]).await?;
        Ok(rows.into_iter().map(|row| (TimelineId(row.id), row.revision)).collect())
    }

    /// At most `limit` due runs of a timeline after the cursor that nobody holds; as a dry run reads them.
    pub async fn due_runs(
        &self,
        timeline: TimelineId,
        after: &Cursor,
        now: Timestamp,
        buckets: Buckets,
        limit: usize,
    ) -> Result<DueRuns, StoreError> {
        self.due(timeline, after, now, buckets, limit, "").await
    }

    async fn due(
        &self,
        timeline: TimelineId,
        after: &Cursor,
        now: Timestamp,
        buckets: Buckets,
        limit: usize,
        lock: &str,
    ) -> Result<DueRuns, StoreError> {
        // One more than is asked for says whether there are more.
        let sql = format!(
            "select {COLUMNS} from {TABLE} p where \
             p.campaign_timeline_id = $1 and p.status = 'active' and p.next_action_at <= $2 and (p.next_action_at, p.id) > ($3, $4) \
             and (p.lease_expires_at is null or p.lease_expires_at <= $2) {} order by p.next_action_at, p.id limit {} {lock}",
            buckets.and_in(),
            limit + 1
        );
        let rows = self
            .raw_rows(&sql, values![timeline.0, now, after.wake(), after.id.0])
            .await?;
        let mut due = DueRuns {
            more: rows.len() > limit,
            ..DueRuns::default()
        };
        for row in rows.iter().take(limit) {
            match read_run(row) {
                Ok(run) => due.runs.push(run),
                Err(broken) => due.broken.push(broken),
            }
            due.last = Cursor::after_row(row).or(due.last);
        }
        Ok(due)
    }
}

impl Txn {
    /// Whether a timeline is active still, and its revision, held so until the end of the transaction: whoever switches it
    /// off waits for claims that are about to commit, and no claim commits after it. So does whoever sets or releases a sending
    /// hold.
    pub async fn hold_timeline(&self, id: TimelineId) -> Result<Option<i64>, StoreError> {
        let locked = format!(
            "select id, is_active, revision, pg_advisory_xact_lock_shared({HOLDS_LOCK})::text from campaign_timelines \
             where id = $1 for share"
        );
        let sql = self.pick(
            &locked,
            "select id, is_active, revision from campaign_timelines where id = $1",
        );
        let row: Option<ActiveRow> = self.row(sql, values![id.0]).await?;
        Ok(row.filter(|row| row.is_active).map(|row| row.revision))
    }

    /// Due runs as [`Session::due_runs`] finds them, locked. Rows that another replica is about to claim are passed over.
    pub async fn due_runs_for_update(
        &self,
        timeline: TimelineId,
        after: &Cursor,
        now: Timestamp,
        buckets: Buckets,
        limit: usize,
    ) -> Result<DueRuns, StoreError> {
        self.due(
            timeline,
            after,
            now,
            buckets,
            limit,
            self.pick("for update of p skip locked", ""),
        )
        .await
    }

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
        if batch.is_empty() {
            return Ok(HashSet::new());
        }
        let (table, mut values) = batch.bind(self.backend, 2);
        values.insert(0, now.into());
        let finished = self.finished();
        let sql = format!(
            "update {TABLE} as p set lease_token = u.token, lease_expires_at = u.lease_until, in_flight_actions = u.in_flight, \
             {finished}, failed_actions = u.failed, deferred_actions = u.deferred, jumped_days = u.jumped, last_late = u.late, current_day = u.new_day, \
             day_date = u.new_date, day_started_at = u.day_begin, day_shifted_at = u.day_shifted, not_before = u.begin_at, \
             shifted_days = u.shifted, status = u.new_status, ended_at = u.ended, \
             next_action_at = u.wake, updated_at = $1, is_woken = false \
             from {table} where p.customer_id = u.customer and p.id = u.run_id and p.status = 'active' \
             and (p.lease_expires_at is null or p.lease_expires_at <= $1) \
             and p.current_day = u.was_day and p.day_date = u.was_date and p.time_zone = u.was_zone returning id"
        );
        let rows: Vec<IdRow> = self.rows(&sql, values).await?;
        Ok(rows.into_iter().map(|row| ProgressId(row.id)).collect())
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
        let mut batch = Batch::new(PLANNED);
        for done in completions {
            push_planned(&mut batch, &done.before, &done.run, Some(done.token));
        }
        if batch.is_empty() {
            return Ok(HashMap::new());
        }
        let (table, mut values) = batch.bind(self.backend, 2);
        values.insert(0, now.into());
        let finished = self.finished();
        let sql = format!(
            "update {TABLE} as p set lease_token = null, lease_expires_at = null, in_flight_actions = u.in_flight, \
             {finished}, failed_actions = u.failed, deferred_actions = u.deferred, last_late = u.late, jumped_days = u.jumped, \
             day_shifted_at = u.day_shifted, current_day = u.new_day, day_date = u.new_date, day_started_at = u.day_begin, \
             shifted_days = u.shifted, ended_at = u.ended, next_action_at = u.wake, is_woken = false, status = u.new_status, \
             updated_at = $1 from {table} join (select id as timeline_id, is_active, revision from campaign_timelines) t \
             on t.timeline_id = u.timeline \
             where p.customer_id = u.customer and p.id = u.run_id and p.lease_token = u.token and {UNMOVED} \
             and (u.wake is null or not p.is_woken) returning id"
        );
        let rows: Vec<IdRow> = self.rows(&sql, values).await?;
        let landed: HashSet<ProgressId> = rows.into_iter().map(|row| ProgressId(row.id)).collect();
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
        let mut batch = Batch::new(PLANNED);
        for done in completions {
            push_planned(&mut batch, &done.before, &done.run, Some(done.token));
        }
        let (table, mut values) = batch.bind(self.backend, 2);
        values.insert(0, now.into());
        let finished = self.finished();
        let sql = format!(
            "update {TABLE} as p set lease_token = null, lease_expires_at = null, in_flight_actions = u.in_flight, \
             {finished}, failed_actions = u.failed, deferred_actions = u.deferred, last_late = u.late, \
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
             from {table} join (select id as timeline_id, is_active, revision from campaign_timelines) t on t.timeline_id = u.timeline \
             where p.customer_id = u.customer and p.id = u.run_id and p.lease_token = u.token \
             returning id, current_day, day_date, status, next_action_at"
        );
        let rows = self.raw_rows(&sql, values).await?;
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

    /// How the lists of finished actions are stored.
    fn finished(&self) -> String {
        let list = |column: &str, given: &str| {
            let appended = self.pick("p.{column} || u.{given}", 
                "case when p.{column} = '[]' then u.{given} else substr(p.{column}, 1, length(p.{column}) - 1) || ',' || substr(u.{given}, 2) end");
            let appended = appended.replace("{column}", column).replace("{given}", given);
            format!(
                "{column} = case when u.is_whole = 1 then u.{given} when u.{given} = '[]' then p.{column} else {appended} end"
            )
        };
        format!(
            "{}, {}",
            list("completed_actions", "completed"),
            list("skipped_actions", "skipped")
        )
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
        let (table, mut values) = batch.bind(self.backend, 2);
        values.insert(0, expires_at.into());
        let sql = format!(
            "update {TABLE} as p set lease_expires_at = $1 from {table} \
             where p.customer_id = u.customer and p.id = u.run_id and p.lease_token = u.token returning id"
        );
        let rows: Vec<IdRow> = self.rows(&sql, values).await?;
        Ok(rows.into_iter().map(|row| ProgressId(row.id)).collect())
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
    ("is_whole", Col::Int),
    ("completed", Col::Json),
    ("skipped", Col::Json),
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
    let (completed, skipped) = before.finished.unwrap_or_default();
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
        i32::from(before.finished.is_none()).into(),
        json!(run.completed.get(completed..).unwrap_or_default()).into(),
        json!(run.skipped.get(skipped..).unwrap_or_default()).into(),
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
