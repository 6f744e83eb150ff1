//! What nobody took up in time.

use super::Planner;
use crate::domain::outcome::Failed;
use crate::domain::schedule::local_date;
use crate::domain::{Action, ActionId, DeferReason, Deferred, SkipReason, Timestamp, WhenMissed};

impl Planner<'_> {
    /// Deals with actions of the day that nobody took up in time, and with repetitions for which it is too late.
    pub(super) fn miss(&mut self) {
        if self.timeline.definition.when_missed == WhenMissed::CatchUp {
            self.expire_retries();
            self.expire_opened();
        }
        let missed: Vec<&Action> = self.undone().filter(|action| self.is_missed(action)).collect();
        if missed.is_empty() {
            return;
        }
        let today = local_date(self.now, self.run.zone.tz);
        match self.timeline.definition.when_missed {
            WhenMissed::Shift if today > self.run.day_date => {
                self.shift((today - self.run.day_date).num_days());
                self.run.day_date = today;
                self.run.day_shifted_at.get_or_insert(self.now);
            }
            WhenMissed::Shift => {}
            WhenMissed::CatchUp => {
                for action in missed {
                    self.expire(action.id, self.due(action));
                }
            }
        }
    }

    /// Gives up what was to be repeated while nobody ticked.
    fn expire_retries(&mut self) {
        let is_over = |failed: &&Failed| {
            failed.retry_at().is_some() && !self.timeline.may_retry_at(failed.id, self.since(failed), self.now)
        };
        let over = self.run.failed.iter().filter(is_over);
        let over: Vec<_> = over.map(|failed| (failed.id, failed.due)).collect();
        for (id, due) in over {
            self.expire(id, due);
        }
    }

    /// Gives up what nobody took up in time after its quiet hours.
    fn expire_opened(&mut self) {
        let is_over = |deferred: &&Deferred| {
            let late = self.now - self.waited_since(deferred);
            let action = self.timeline.action(deferred.id);
            deferred.reason == DeferReason::QuietHours
                && deferred.until <= self.now
                && action.is_some_and(|action| late > self.timeline.max_lateness(action))
        };
        let over = self.run.deferred.iter().filter(is_over);
        let over: Vec<_> = over.map(|deferred| (deferred.id, deferred.due)).collect();
        for (id, due) in over {
            self.expire(id, due);
        }
    }

    /// Skips what came too late.
    fn expire(&mut self, id: ActionId, due: Timestamp) {
        let most = self
            .timeline
            .action(id)
            .map(|action| self.timeline.max_lateness(action));
        let detail = most.map(|most| {
            format!(
                "due at {}, and may be late by {} h",
                due.format("%FT%TZ"),
                most.num_hours()
            )
        });
        self.skip(id, due, SkipReason::Expired, detail);
    }
}
