//! What claims and sends mostly leave as it is.

use super::Run;

impl Run {
    /// Whether it is as it was, but for its lease, its actions that are in flight or completed, and its wake-up: what most claims
    /// and sends change. One with reports is not: they may have been taken in when it was read.
    pub fn stands_as(&self, was: &Self) -> bool {
        let Self {
            id,
            customer_id: _,
            timeline_id: _,
            origin: _,
            status,
            status_reason: _,
            current_day,
            day_date,
            day_started_at,
            zone: _,
            not_before,
            day_shifted_at,
            shifted_days,
            jumped_days,
            completed: _,
            skipped,
            failed,
            deferred,
            task_reports,
            in_flight: _,
            last_late,
            next_action_at: _,
            lease: _,
            started_at: _,
            ended_at,
            updated_at: _,
            trace_parent: _,
        } = was;
        self.id == *id
            && self.status == *status
            && self.current_day == *current_day
            && self.day_date == *day_date
            && self.day_started_at == *day_started_at
            && self.not_before == *not_before
            && self.day_shifted_at == *day_shifted_at
            && self.shifted_days == *shifted_days
            && self.jumped_days == *jumped_days
            && self.skipped == *skipped
            && self.failed == *failed
            && self.deferred == *deferred
            && self.last_late == *last_late
            && self.ended_at == *ended_at
            && task_reports.is_empty()
    }
}
