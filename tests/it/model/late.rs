//! What a tick that takes its time makes of runs, and of hours that come round again.

use campaign_automation::domain::Timestamp;
use campaign_automation::proto::campaign::v1::{FailureReason, ProgressStatus};
use chrono::NaiveDate;

use super::rules::{History, ensure};
use super::script::{Answer, Kind};
use super::seen::{Delivery, Seen, What};
use super::side::{Side, instant};

/// From when the hours of a day that was shifted come round again. What is due from then on goes on its date, however late.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Again {
    surely: Option<Timestamp>,
    /// It may have been shifted while a tick was under way.
    perhaps: Option<Timestamp>,
}

impl Again {
    /// Shifted for the first time at some instant between these.
    pub(super) fn shifted(&mut self, from: Timestamp, until: Timestamp) {
        self.surely.get_or_insert(until);
        self.perhaps.get_or_insert(from);
    }

    pub(super) fn surely(&self, due: Timestamp) -> bool {
        self.surely.is_some_and(|from| from <= due)
    }

    pub(super) fn perhaps(&self, due: Timestamp) -> bool {
        self.perhaps.is_some_and(|from| from <= due)
    }
}

impl History {
    /// Judges a tick during which time passed since `begun` and something was done to the run. What was claimed
    /// before that ends as it would have; a run that was frozen meanwhile stays where it was.
    pub(super) fn slow(
        &mut self,
        side: &Side,
        new: Seen,
        deliveries: &[Delivery],
        (begun, now): (Timestamp, Timestamp),
        frozen: Option<(ProgressStatus, i32, NaiveDate)>,
    ) -> Result<(), String> {
        let old = self.seen.clone();
        for (key, known) in &old.known {
            ensure!(
                !known.what.is_final() || new.known.get(key) == Some(known),
                "K{key:02} was {known:?} and is {:?}",
                new.known.get(key)
            );
        }
        ensure!(
            new.day >= old.day && (side.catches_up || new.day <= old.day + 2),
            "from day {} to {}",
            old.day,
            new.day
        );
        ensure!(
            old.jumped.is_subset(&new.jumped),
            "jumped over {:?} and then over {:?}",
            old.jumped,
            new.jumped
        );
        ensure!(
            frozen.is_none_or(|frozen| frozen == (new.status, new.day, new.date)),
            "left at {frozen:?}, and moved to day {} on {}",
            new.day,
            new.date
        );
        // Where it was moved meanwhile, what was before does not count any more.
        if new.day > old.day {
            self.again = Again::default();
        }
        if new.shifted > old.shifted && self.not_before < begun {
            self.again.shifted(begun, now);
            self.again.surely = self.again.surely.filter(|_| new.day == old.day);
        }
        for sent in deliveries {
            let key = sent.key;
            ensure!(
                !old.what(key).is_some_and(What::is_final),
                "sent although it was final: {sent:?}"
            );
            let act = side.acts.get(&key).map(|(_, act)| act);
            ensure!(
                !act.is_some_and(|act| side.holds.held_throughout(act, begun, now)),
                "held, and sent: {sent:?}"
            );
            // What is not recorded as completed may go again.
            let is_recorded = new.what(key) == Some(What::Completed);
            let answer = if is_recorded { Answer::Accept } else { Answer::HangUp };
            if let Some((id, answer)) = self.delivered.insert(key, (sent.id.clone(), answer)) {
                // Also when it took longer than its lease, and somebody took over.
                let may_go_again = answer == Answer::HangUp || sent.kind == Kind::Email;
                ensure!(may_go_again && id == sent.id, "sent twice: {sent:?}");
            }
        }
        for (key, known) in &new.known {
            let due = side.acts.get(key).map(|(_, act)| {
                let date = if act.day == new.day { new.date } else { old.date };
                instant(date, act.hour, new.zone).max(self.not_before)
            });
            self.first_due.entry(*key).or_insert(due.unwrap_or(begun));
            if matches!(known.what, What::Retrying(_, FailureReason::OutcomeUnknown)) {
                self.uncertain.insert(*key);
            }
            if known.attempts > 0 && !known.what.is_final() && known.what != What::InFlight {
                self.attempts.insert(*key, known.attempts);
            }
            match known.what {
                What::Deferred(..) => {
                    self.deferred_at.entry(*key).or_insert(begun);
                    self.unsure.insert(*key);
                }
                What::Completed
                | What::Skipped(_)
                | What::Failed(_)
                | What::Unknown
                | What::Retrying(..)
                | What::InFlight => {
                    // It may have been deferred and taken up meanwhile, which nobody saw.
                    let since = self.deferred_at.remove(key).unwrap_or(begun);
                    *self.waited.entry(*key).or_default() += now - since;
                }
            }
        }
        (self.seen, self.is_touched) = (new, true);
        Ok(())
    }
}
