//! The rules of attempts: what must arrive, how often it is repeated, and how it ends.

use campaign_automation::domain::Timestamp;
use campaign_automation::proto::campaign::v1::FailureReason;
use chrono::TimeDelta;

use super::rules::{History, ensure};
use super::script::{Act, Answer, Kind};
use super::seen::{Delivery, Known, What};
use super::side::Side;

impl History {
    /// Judges an attempt: what arrived, and what was recorded of it. `last`: until when it may be repeated at least and at most.
    pub(super) fn attempted(
        &mut self,
        side: &Side,
        act: &Act,
        to: Known,
        sent: &[&Delivery],
        last: (Timestamp, Timestamp),
        now: Timestamp,
    ) -> Result<(), String> {
        let key = act.key;
        let answer = if act.kind == Kind::Email {
            side.answer
        } else {
            Answer::Accept
        };
        let lacks_address = !side.has_addresses && act.kind != Kind::Task;
        let arrives = !lacks_address && matches!(answer, Answer::Accept | Answer::HangUp);
        ensure!(
            sent.len() == usize::from(arrives),
            "{} arrived, and it is {to:?}",
            sent.len()
        );
        if let [message] = sent {
            let before = self.delivered.insert(key, (message.id.clone(), answer));
            if let Some((id, answer)) = before {
                ensure!(answer == Answer::HangUp && act.kind == Kind::Email, "sent twice");
                ensure!(id == message.id, "sent again with another id");
            }
            let due = last.0 - side.lateness(act);
            if act.kind.is_message() && now - due > TimeDelta::hours(1) {
                let before = self.last_late.insert(act.kind, now);
                ensure!(
                    before.is_none_or(|before| now - before >= TimeDelta::hours(1)),
                    "late, and another one went at {before:?}"
                );
            }
        }
        let expected = match answer {
            _ if lacks_address => What::Failed(FailureReason::MissingAddress),
            Answer::Accept => What::Completed,
            Answer::Never => What::Failed(FailureReason::Rejected),
            Answer::NoSuchMailbox => What::Failed(FailureReason::Suppressed),
            Answer::NotNow => return self.failed(side, key, to, FailureReason::Temporary, last, now),
            Answer::HangUp => return self.failed(side, key, to, FailureReason::OutcomeUnknown, last, now),
            Answer::Misconfigured => return Err(format!("the channel should have been stopped, and it is {to:?}")),
        };
        ensure!(to.what == self.end_of(key, expected), "{answer:?}, and it is {to:?}");
        Ok(())
    }

    /// How an action ends that would end so: what may have arrived is neither skipped nor failed, but unknown.
    pub(super) fn end_of(&self, key: usize, end: What) -> What {
        match end {
            What::Skipped(_) | What::Failed(_) if self.uncertain.contains(&key) => What::Unknown,
            What::Skipped(_)
            | What::Failed(_)
            | What::Completed
            | What::Unknown
            | What::Retrying(..)
            | What::Deferred(..)
            | What::InFlight => end,
        }
    }

    /// Judges an attempt that may be repeated.
    pub(super) fn failed(
        &mut self,
        side: &Side,
        key: usize,
        to: Known,
        why: FailureReason,
        (early, last): (Timestamp, Timestamp),
        now: Timestamp,
    ) -> Result<(), String> {
        if why == FailureReason::OutcomeUnknown {
            self.uncertain.insert(key);
        }
        let end = self.end_of(key, What::Failed(why));
        let attempts = self.attempts.entry(key).or_default();
        *attempts += 1;
        if self.unsure.remove(&key) {
            *attempts = to.attempts.max(*attempts);
        }
        ensure!(to.attempts == *attempts, "attempt {attempts}, and it is {to:?}");
        let minutes = 5 * (1 << (*attempts - 1).min(6));
        let wait = TimeDelta::minutes(minutes.min(240));
        match to.what {
            What::Retrying(at, reason) => {
                ensure!(
                    reason == why && *attempts < 8,
                    "again, after {attempts} attempts: {reason:?}"
                );
                let tenths = (at - now).num_seconds() * 10;
                ensure!(
                    (wait.num_seconds() * 8 - 10..=wait.num_seconds() * 12 + 10).contains(&tenths),
                    "again at {at}, after {attempts} attempts"
                );
                ensure!(!side.catches_up || at <= last, "again at {at}, which is too late");
            }
            what @ (What::Failed(_) | What::Unknown) if what == end => ensure!(
                *attempts == 8 || side.catches_up && now + wait * 12 / 10 > early,
                "given up after {attempts} attempts, though there is time until {early}"
            ),
            What::Completed
            | What::Skipped(_)
            | What::Failed(_)
            | What::Unknown
            | What::Deferred(..)
            | What::InFlight => return Err(format!("{why:?}, and it is {to:?}")),
        }
        Ok(())
    }
}
