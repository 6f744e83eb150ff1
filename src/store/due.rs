//! `customer_timeline_progress`, many runs at a time: finding what is due.
//!
//! The due index is walked by a cursor, which begins anew with every tick, so that dead entries and held rows are passed once.
//! LIMIT is a literal, because as a parameter it turns the plan into a scan of the table.

use sea_orm::{ConnectionTrait, FromQueryResult, QueryResult, Value};

use super::broken::{BrokenRun, read, value};
use super::engagements::END_OF_TIME;
use super::holds::HOLDS_LOCK;
use super::progress::{COLUMNS, TABLE, read_run};
use super::session::{Session, values};
use super::timelines::list;
use super::{Buckets, StoreError, Txn};
use crate::domain::{ProgressId, Run, TimelineId, Timestamp};

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

impl<C: ConnectionTrait> Session<C> {
    /// The active timelines that have something planned, by id. `only`: none means all.
    pub async fn timeline_wakes(&self, only: &[TimelineId], buckets: Buckets) -> Result<Vec<TimelineWake>, StoreError> {
        if self.layout.is_distributed() {
            return self.wakes_one_by_one(only, buckets).await;
        }
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

    /// The same, with a statement for each: Citus looks into shards for one timeline at a time.
    async fn wakes_one_by_one(&self, only: &[TimelineId], buckets: Buckets) -> Result<Vec<TimelineWake>, StoreError> {
        let sql = format!(
            "select min(p.next_action_at) as earliest from {TABLE} p where p.campaign_timeline_id = $1 and p.status = 'active' \
             and p.next_action_at > $2 and p.next_action_at < $3 {}",
            buckets.and_in()
        );
        let mut wakes = Vec::new();
        for (id, revision) in self.active_timelines(only).await? {
            let row: Option<WakeRow> = self
                .row(&sql, values![id.0, Timestamp::UNIX_EPOCH, END_OF_TIME])
                .await?;
            let wake = |earliest| TimelineWake { id, revision, earliest };
            wakes.extend(row.and_then(|row| row.earliest).map(wake));
        }
        Ok(wakes)
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

    /// Due runs, as a dry run reads them.
    pub async fn due_runs(&self, due: &Due<'_>) -> Result<DueRuns, StoreError> {
        let (condition, order, values) = due.query();
        let sql = format!("select {COLUMNS} from {TABLE} p where {condition} {order}");
        let rows = self.raw_rows(&sql, values).await?;
        Ok(due.read(&rows, &rows))
    }
}

/// Which runs are asked for: those of a timeline that are due and that nobody holds.
#[derive(Debug, Clone, Copy)]
pub struct Due<'a> {
    /// The timeline.
    pub timeline: TimelineId,
    /// Only those after this one.
    pub after: &'a Cursor,
    /// When they are due at the latest.
    pub now: Timestamp,
    /// Of which customers.
    pub buckets: Buckets,
    /// The most of them.
    pub limit: usize,
}

impl Due<'_> {
    /// Their condition, their order, and the parameters.
    fn query(&self) -> (String, String, Vec<Value>) {
        let condition = format!(
            "p.campaign_timeline_id = $1 and p.status = 'active' and p.next_action_at <= $2 and (p.next_action_at, p.id) > ($3, $4) \
             and (p.lease_expires_at is null or p.lease_expires_at <= $2) {}",
            self.buckets.and_in()
        );
        // One more than is asked for says whether there are more.
        let order = format!("order by p.next_action_at, p.id limit {}", self.limit + 1);
        let values = values![self.timeline.0, self.now, self.after.wake(), self.after.id.0];
        (condition, order, values)
    }

    /// Those among rows, and where to go on after all that were seen.
    fn read(&self, rows: &[QueryResult], seen: &[QueryResult]) -> DueRuns {
        let mut due = DueRuns {
            more: seen.len() > self.limit,
            last: seen.iter().take(self.limit).rev().find_map(Cursor::after_row),
            ..DueRuns::default()
        };
        for row in rows.iter().take(self.limit) {
            match read_run(row) {
                Ok(run) => due.runs.push(run),
                Err(broken) => due.broken.push(broken),
            }
        }
        due
    }
}

impl Txn {
    /// Whether a timeline is active still, and its revision, held so until the end of the transaction: whoever switches it
    /// off waits for claims that are about to commit, and no claim commits after it. So does whoever sets or releases a sending
    /// hold.
    pub async fn hold_timeline(&self, id: TimelineId) -> Result<Option<i64>, StoreError> {
        let of_timeline = "select id, is_active, revision from campaign_timelines where id = $1";
        let locked = format!(
            "select id, is_active, revision, pg_advisory_xact_lock_shared({HOLDS_LOCK})::text from campaign_timelines \
             where id = $1 for share"
        );
        let sql = if self.layout.is_distributed() {
            // A table that is on all nodes may be read on any, and the lock is one of this node.
            self.raw_rows(
                &format!("select pg_advisory_xact_lock_shared({HOLDS_LOCK})::text"),
                vec![],
            )
            .await?;
            self.share_number(id).await?;
            of_timeline
        } else {
            self.pick(&locked, of_timeline)
        };
        let row: Option<ActiveRow> = self.row(sql, values![id.0]).await?;
        Ok(row.filter(|row| row.is_active).map(|row| row.revision))
    }

    /// Due runs as [`Session::due_runs`] finds them, locked. Rows that another replica is about to claim are passed over.
    pub async fn due_runs_for_update(&self, due: &Due<'_>) -> Result<DueRuns, StoreError> {
        let (condition, order, values) = due.query();
        let locked = self.lock_runs(&condition, &order, "skip locked", &values).await?;
        Ok(due.read(&locked.rows, locked.seen()))
    }
}
