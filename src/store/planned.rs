//! Runs as they were planned, as rows of a table `u`, and what a statement sets by them.
//!
//! Most claims and sends change little of a run. Those travel briefly: every column that a statement sets costs the database about as
//! much as finding the row, whether its value is another or not.

use chrono::NaiveDate;
use chrono_tz::Tz;
use sea_orm::ConnectionTrait;
use serde_json::json;

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

/// How much of a run is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Its lease, its actions that are in flight or completed, and its wake-up. All else is as it was.
    Brief,
    /// All that planning and sending can change.
    Whole,
}

impl Extent {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Brief, Self::Whole];

    /// Of what a run became, beside what it was.
    pub(super) fn of(was: &Run, run: &Run) -> Self {
        if run.stands_as(was) { Self::Brief } else { Self::Whole }
    }
}

/// What is set of a run that is written briefly, but for its lease.
pub(super) const BRIEF_SET: &str =
    "in_flight_actions = u.in_flight, completed_actions = u.completed, next_action_at = u.wake";

/// What is set of one that is written as a whole, but for its lease, and for `not_before`, which a claim alone may write.
pub(super) const WHOLE_SET: &str = "in_flight_actions = u.in_flight, completed_actions = u.completed, next_action_at = u.wake, \
     skipped_actions = u.skipped, failed_actions = u.failed, deferred_actions = u.deferred, jumped_days = u.jumped, \
     last_late = u.late, current_day = u.new_day, day_date = u.new_date, day_started_at = u.day_begin, \
     day_shifted_at = u.day_shifted, shifted_days = u.shifted, status = u.new_status, ended_at = u.ended";

const BRIEF: &[(&str, Col)] = &[
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
    ("wake", Col::OptTime),
];

const WHOLE: &[(&str, Col)] = &[
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
    ("wake", Col::OptTime),
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
];

/// Planned runs as they travel.
pub(super) struct Planned {
    extent: Extent,
    batch: Batch,
}

impl Planned {
    pub(super) fn new(extent: Extent) -> Self {
        let columns = match extent {
            Extent::Brief => BRIEF,
            Extent::Whole => WHOLE,
        };
        Self {
            extent,
            batch: Batch::new(columns),
        }
    }

    /// Adds a run, which is held under this token.
    pub(super) fn push(&mut self, before: &Before, run: &Run, token: Option<i64>) {
        let brief = [
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
            run.next_action_at.into(),
        ];
        match self.extent {
            Extent::Brief => self.batch.push(brief),
            Extent::Whole => self.batch.push(brief.into_iter().chain(rest(run))),
        }
    }

    /// As parts of the table `u`, with `now` as the first parameter.
    pub(super) fn parts<C: ConnectionTrait>(self, session: &Session<C>, now: Timestamp) -> Vec<Part> {
        session.parts(self.batch, &[now.into()])
    }
}

/// What is not brief of a run.
fn rest(run: &Run) -> [Cell<'_>; WHOLE.len() - BRIEF.len()] {
    [
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
    ]
}
