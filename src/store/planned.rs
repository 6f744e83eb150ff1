//! Runs as they were planned, as rows of a table `u`, and what a statement sets by them.
//!
//! Most claims and sends change little of a run, and then no more of it travels: all columns would cost the database a fifth more,
//! whether their values are others or not.

use chrono::NaiveDate;
use chrono_tz::Tz;
use sea_orm::ConnectionTrait;

use super::batch::{Batch, Cell, Col};
use super::finished::{completed_text, skipped_text};
use super::layout::Part;
use super::session::Session;
use crate::domain::{Run, Timestamp};

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

/// How much of a run is written. Each has the columns of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Extent {
    /// Its lease, its actions in flight, and its wake-up: what most claims change.
    Held,
    /// Its completed actions as well: what most sends change.
    Sent,
    /// All that planning and sending can change.
    Whole,
}

impl Extent {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Held, Self::Sent, Self::Whole];

    /// Of what a run became, beside what it was.
    pub(super) fn of(was: &Run, run: &Run) -> Self {
        if !run.stands_as(was) {
            Self::Whole
        } else if run.completed == was.completed {
            Self::Held
        } else {
            Self::Sent
        }
    }

    /// What a statement sets, but for the lease, and for `not_before`, which a claim alone may write.
    pub(super) fn set(self) -> String {
        match self {
            Self::Held => HELD_SET.to_owned(),
            Self::Sent => format!("{HELD_SET}, {SENT_SET}"),
            Self::Whole => format!("{HELD_SET}, {SENT_SET}, {REST_SET}"),
        }
    }

    fn columns(self) -> &'static [(&'static str, Col)] {
        match self {
            Self::Held => COLUMNS.split_at(HELD).0,
            Self::Sent => COLUMNS.split_at(SENT).0,
            Self::Whole => COLUMNS,
        }
    }
}

/// The columns of `u`, in the order of extents.
const COLUMNS: &[(&str, Col)] = &[
    ("customer", Col::Text),
    ("run_id", Col::BigInt),
    ("timeline", Col::BigInt),
    ("was_revision", Col::BigInt),
    ("was_day", Col::Int),
    ("was_date", Col::Date),
    ("was_zone", Col::Text),
    ("token", Col::BigInt),
    ("lease_until", Col::Time),
    ("in_flight", Col::Json),
    ("wake", Col::Time),
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
    ("day_shifted", Col::Time),
    ("shifted", Col::Int),
    ("new_status", Col::Text),
    ("ended", Col::Time),
];

/// How many of them there are of [`Extent::Held`].
const HELD: usize = 11;

/// How many of them there are of [`Extent::Sent`].
const SENT: usize = HELD + 1;

/// What is set by those of [`Extent::Held`], but for the lease.
const HELD_SET: &str = "in_flight_actions = u.in_flight, next_action_at = u.wake";

/// What is set by those that [`Extent::Sent`] has beside them.
const SENT_SET: &str = "completed_actions = u.completed";

/// What is set by the others, but for `not_before`.
const REST_SET: &str = "skipped_actions = u.skipped, failed_actions = u.failed, deferred_actions = u.deferred, \
     jumped_days = u.jumped, last_late = u.late, current_day = u.new_day, day_date = u.new_date, day_started_at = u.day_begin, \
     day_shifted_at = u.day_shifted, shifted_days = u.shifted, status = u.new_status, ended_at = u.ended";

/// Planned runs as they travel.
pub(super) struct Planned<'a> {
    extent: Extent,
    batch: Batch<'a>,
}

impl<'a> Planned<'a> {
    pub(super) fn new(extent: Extent) -> Self {
        Self {
            extent,
            batch: Batch::new(extent.columns()),
        }
    }

    /// Adds a run, which is held under this token.
    pub(super) fn push(&mut self, before: &Before, run: &'a Run, token: Option<i64>) {
        let held: [Cell<'_>; HELD] = [
            run.customer_id.as_str().into(),
            run.id.0.into(),
            run.timeline_id.0.into(),
            before.revision.into(),
            before.current_day.into(),
            before.day_date.into(),
            before.tz.name().into(),
            token.into(),
            Cell::from(run.lease.map(|lease| lease.expires_at)),
            Cell::json(&run.in_flight),
            run.next_action_at.into(),
        ];
        let completed = || Cell::from(completed_text(&run.completed));
        match self.extent {
            Extent::Held => self.batch.push(held),
            Extent::Sent => self.batch.push(held.into_iter().chain([completed()])),
            Extent::Whole => self.batch.push(held.into_iter().chain([completed()]).chain(rest(run))),
        }
    }

    /// As parts of the table `u`, with `now` as the first parameter.
    pub(super) fn parts<C: ConnectionTrait>(self, session: &Session<C>, now: Timestamp) -> Vec<Part> {
        session.parts(self.batch, &[now.into()])
    }
}

/// What [`Extent::Whole`] alone has of a run.
fn rest(run: &Run) -> [Cell<'_>; COLUMNS.len() - SENT] {
    [
        skipped_text(&run.skipped).into(),
        Cell::json(&run.failed),
        Cell::json(&run.deferred),
        Cell::json(&run.jumped_days),
        Cell::json(&run.last_late),
        run.current_day.into(),
        run.day_date.into(),
        run.day_started_at.into(),
        run.not_before.into(),
        run.day_shifted_at.into(),
        run.shifted_days.into(),
        run.status.as_str().into(),
        run.ended_at.into(),
    ]
}
