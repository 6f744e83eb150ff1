//! What the service was told about a customer and its timeline, and dates and hours of its own.

use campaign_automation::domain::Timestamp;
use chrono::{Days, LocalResult, NaiveDate, TimeDelta, TimeZone as _};
use chrono_tz::Tz;
use std::collections::BTreeMap;

use super::holds::Holds;
use super::script::{Act, Answer, Cond};

/// What the service was told about a customer and the timeline of its own.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "they have nothing to do with each other")]
pub(super) struct Side {
    pub days: i32,
    pub catches_up: bool,
    pub lateness: TimeDelta,
    /// The actions, with the service's ids.
    pub acts: BTreeMap<usize, (i64, Act)>,
    pub removed: BTreeMap<usize, Act>,
    pub is_active: bool,
    pub in_stage: bool,
    pub score: i32,
    pub opened: Vec<Timestamp>,
    pub has_addresses: bool,
    pub answer: Answer,
    /// Somebody's mails may stop the channel.
    pub mail_may_stop: bool,
    pub holds: Holds,
}

impl Side {
    pub(super) fn lateness(&self, act: &Act) -> TimeDelta {
        act.lateness_hours.map_or(self.lateness, TimeDelta::hours)
    }

    pub(super) fn position(&self, key: usize) -> Option<(i32, u32, i32, i64)> {
        let (id, act) = self.acts.get(&key)?;
        Some((act.day, act.hour, act.priority, *id))
    }

    pub(super) fn of_day(&self, day: i32) -> impl Iterator<Item = (usize, &Act)> {
        let acts = self.acts.iter().map(|(key, (_, act))| (*key, act));
        acts.filter(move |(_, act)| act.day == day)
    }

    /// What comes before an action on its day.
    pub(super) fn before(&self, key: usize) -> impl Iterator<Item = (usize, &Act)> {
        let position = self.position(key);
        let day = position.map_or(0, |position| position.0);
        self.of_day(day)
            .filter(move |(other, _)| self.position(*other) < position)
    }

    pub(super) fn says_skip(&self, act: &Act, now: Timestamp) -> bool {
        match act.condition {
            None => false,
            Some(Cond::SkipIfScored) => self.score > 50,
            Some(Cond::OnlyIfScored) => self.score <= 50,
            Some(Cond::OnlyIfInStage) => !self.in_stage,
            Some(Cond::SkipIfOpened { within_hours }) => {
                let since = now - TimeDelta::hours(i64::from(within_hours));
                self.opened.iter().any(|at| (since..=now).contains(at))
            }
        }
    }
}

/// When the wall clock shows that hour for the first time; where it jumps over it, when it has jumped.
pub(super) fn instant(date: NaiveDate, hour: u32, zone: Tz) -> Timestamp {
    let wall = date.and_hms_opt(hour, 0, 0).expect("an hour");
    if let LocalResult::Single(time) | LocalResult::Ambiguous(time, _) = zone.from_local_datetime(&wall) {
        return time.to_utc();
    }
    let begin = wall.and_utc() - TimeDelta::hours(15);
    let quarters = (0..200).map(|quarter| begin + TimeDelta::minutes(15 * quarter));
    let mut passed = quarters.filter(|time| time.with_timezone(&zone).naive_local() >= wall);
    passed.next().expect("a jump within a day")
}

pub(super) fn local_date(now: Timestamp, zone: Tz) -> NaiveDate {
    now.with_timezone(&zone).date_naive()
}

pub(super) fn plus(date: NaiveDate, days: i32) -> NaiveDate {
    date + Days::new(days.unsigned_abs().into())
}
