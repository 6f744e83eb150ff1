//! What comes next in a run, for those who show it.

use super::Planner;
use crate::domain::schedule::{instant, plus_days};
use crate::domain::{Action, ActionId, Run, Status, Timeline, Timestamp};

/// What comes next in an active run, and when: of the current day and what waits, or else of a day to come, provided that
/// the run advances now if its day is over, and every day until then. What is too late to catch up does not come.
pub fn next_action(timeline: &Timeline, run: &Run, now: Timestamp) -> Option<(ActionId, Timestamp)> {
    let mut planner = Planner::new(timeline, run.clone(), now);
    loop {
        planner.drop_removed();
        planner.miss();
        if planner.pending().iter().any(|pending| pending.at <= now) || !planner.advance() {
            break;
        }
    }
    if planner.run.status != Status::Active {
        return None;
    }
    // What somebody has still to report comes from outside.
    let pending = planner.pending().into_iter();
    let pending = pending
        .filter(|pending| !planner.awaits_report(pending.id))
        .map(|pending| {
            let at = planner.tomorrow_if_missed(pending.id).unwrap_or(pending.at);
            (at, pending.position, pending.id)
        });
    // A day that waits for repetitions only is over at midnight, and the next may begin before they are made. What was
    // finished elsewhere does not come again where it was moved to.
    let mut after = match planner.undone().next() {
        Some(_) => [].iter(),
        None => timeline.after_day(planner.run.current_day).iter(),
    };
    let to_come = after.find(|action| action.removed_at.is_none() && !planner.is_known(action.id));
    let to_come = to_come.map(|action| (expected(&planner.run, action), action.position(), action.id));
    let (at, _, id) = pending.chain(to_come).min()?;
    Some((id, at))
}

/// When an action of a day to come is due, provided that the run advances every day until then.
pub fn expected(run: &Run, action: &Action) -> Timestamp {
    let definition = &action.definition;
    let days = i64::from(definition.day_number - run.current_day);
    instant(plus_days(run.day_date, days), definition.delay_hours, run.zone.tz)
}

impl Planner<'_> {
    /// When an undone action that was missed today has its hour tomorrow.
    fn tomorrow_if_missed(&self, id: ActionId) -> Option<Timestamp> {
        let action = self.undone().find(|action| action.id == id && self.is_missed(action))?;
        let tomorrow = plus_days(self.run.day_date, 1);
        Some(instant(tomorrow, action.definition.delay_hours, self.run.zone.tz))
    }
}
