//! The rules, as a judge of what was seen: after each step a run is compared with how it was before. Nothing here plans.
//!
//! Written from the design and the contract's comments alone; it has its own arithmetic of dates, and knows nothing of how
//! the service decides.

use campaign_automation::domain::Timestamp;
use campaign_automation::proto::campaign::v1 as pb;
use chrono::{NaiveDate, TimeDelta};
use pb::{DeferReason, FailureReason, ProgressStatus, SkipReason};
use std::collections::{BTreeMap, BTreeSet};

use super::moves::{moved, nothing_left};
use super::script::{Act, Answer, Kind};
use super::seen::{Delivery, Known, Seen, What};
use super::side::{Side, instant, local_date, plus};
use super::tally::Tally;

macro_rules! ensure {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            return Err(format!($($message)+));
        }
    };
}
pub(super) use ensure;

/// From when the hours of a day that was shifted come round again. What is due from then on goes on its date, however late.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Again {
    surely: Option<Timestamp>,
    /// It may have been shifted while a tick was under way.
    perhaps: Option<Timestamp>,
}

impl Again {
    /// Shifted for the first time at some instant between these.
    fn shifted(&mut self, from: Timestamp, until: Timestamp) {
        self.surely.get_or_insert(until);
        self.perhaps.get_or_insert(from);
    }

    pub(super) fn surely(&self, due: Timestamp) -> bool {
        self.surely.is_some_and(|from| from <= due)
    }

    fn perhaps(&self, due: Timestamp) -> bool {
        self.perhaps.is_some_and(|from| from <= due)
    }
}

/// What is known of a run from watching it.
#[derive(Debug, Clone)]
pub(super) struct History {
    pub seen: Seen,
    pub started_at: Timestamp,
    /// Its start, or the last resume, reactivation or change of zone.
    pub not_before: Timestamp,
    again: Again,
    /// When each action was due, as far as it was taken up.
    pub first_due: BTreeMap<usize, Timestamp>,
    /// How long it was deferred, which does not count as late.
    waited: BTreeMap<usize, TimeDelta>,
    deferred_at: BTreeMap<usize, Timestamp>,
    attempts: BTreeMap<usize, i32>,
    /// What was deferred while a tick was under way, perhaps after further attempts. A deferred action does not tell its number.
    unsure: BTreeSet<usize>,
    delivered: BTreeMap<usize, (String, Answer)>,
    /// What may have arrived, as its outcome was unknown once.
    uncertain: BTreeSet<usize>,
    last_late: BTreeMap<Kind, Timestamp>,
    last_served: Timestamp,
    /// Something was done to it since it was last served.
    pub is_touched: bool,
    /// Its timeline was edited since it began.
    pub is_edited: bool,
    /// An action of its day that was removed at that instant before it was taken up.
    pub removed: Option<(Timestamp, usize)>,
    /// What became of actions, when and in which order.
    pub log: Vec<(Timestamp, usize, What)>,
}

impl History {
    /// A run that has just been started.
    pub(super) fn new(seen: Seen, now: Timestamp) -> Self {
        Self {
            seen,
            started_at: now,
            not_before: now,
            again: Again::default(),
            first_due: BTreeMap::new(),
            waited: BTreeMap::new(),
            deferred_at: BTreeMap::new(),
            attempts: BTreeMap::new(),
            unsure: BTreeSet::new(),
            delivered: BTreeMap::new(),
            uncertain: BTreeSet::new(),
            last_late: BTreeMap::new(),
            last_served: now,
            is_touched: true,
            is_edited: false,
            removed: None,
            log: Vec::new(),
        }
    }

    /// Its day is planned anew from now on.
    pub(super) fn thaw(&mut self, now: Timestamp) {
        (self.not_before, self.again) = (now, Again::default());
    }

    /// Judges what a tick or a call made of the run. `sends`: it was not the daily tick alone.
    pub(super) fn serve(
        &mut self,
        side: &Side,
        new: Seen,
        deliveries: &[Delivery],
        now: Timestamp,
        sends: bool,
    ) -> Result<Tally, String> {
        let old = self.seen.clone();
        let mut tally = Tally::default();
        if !old.is_active() || !side.is_active {
            let mut expected = old.clone();
            // When the lease of a dead sender is over, nobody will ever know more about what was under way in a stopped run.
            for (key, known) in &mut expected.known {
                let is_told = new.what(*key) == Some(What::Unknown) && old.status == ProgressStatus::Stopped;
                if known.what == What::InFlight && is_told {
                    known.what = What::Unknown;
                    tally.count(side, *key, What::Unknown);
                }
            }
            ensure!(new.is_as(&expected), "it moved although it is frozen or over: {new:?}");
            ensure!(
                deliveries.is_empty(),
                "sent although it is frozen or over: {deliveries:?}"
            );
            self.seen = new;
            return Ok(tally);
        }
        moved(side, &old, &new, now, &mut tally)?;
        if new.day > old.day {
            self.again = Again::default();
        } else if new.shifted > old.shifted {
            self.again.shifted(now, now);
        }
        let changed: Vec<usize> = new
            .known
            .iter()
            .filter(|(key, known)| old.known.get(key) != Some(*known))
            .map(|(key, _)| *key)
            .collect();
        if let Some(lost) = old.known.keys().find(|key| !new.known.contains_key(key)) {
            return Err(format!("K{lost:02} is not known any more"));
        }
        ensure!(sends || changed.is_empty(), "the daily tick decided {changed:?}");
        for sent in deliveries {
            ensure!(
                changed.contains(&sent.key),
                "sent, but nothing is known of it: {sent:?}"
            );
        }
        // One after the other, in order.
        let mails = deliveries.iter().filter(|sent| sent.kind == Kind::Email);
        let order: Vec<_> = mails.map(|mail| side.position(mail.key)).collect();
        ensure!(order.is_sorted(), "not in order: {order:?}");
        self.foretold(&old, &new, side, &changed, now, sends)?;
        // What keeps its distance does so from what went at the same time.
        let mut in_turn = changed.clone();
        in_turn.sort_by_key(|key| matches!(new.what(*key), Some(What::Deferred(..))));
        for key in in_turn {
            let sent: Vec<&Delivery> = deliveries.iter().filter(|sent| sent.key == key).collect();
            self.happened(side, &old, &new, key, &sent, now)
                .map_err(|why| format!("K{key:02}: {why}"))?;
            let what = new.known[&key].what;
            tally.count(side, key, what);
            self.log.push((now, key, what));
        }
        if sends {
            if let Some((_, key)) = self.removed.take().filter(|(at, _)| *at == now) {
                let what = new.what(key);
                ensure!(
                    what == Some(What::Skipped(SkipReason::Removed)),
                    "K{key:02} was removed while it was pending, and is {what:?}"
                );
            }
            nothing_left(side, &new, self.not_before, self.again, now)?;
            self.last_served = now;
            self.is_touched = false;
        } else if new.is_active() && new.date < local_date(now, new.zone) && !self.is_touched {
            let due =
                |key: usize, act: &Act| !new.known.contains_key(&key) && instant(new.date, act.hour, new.zone) <= now;
            let overdue = new.stands_on(new.day) && side.of_day(new.day).any(|(key, act)| due(key, act));
            let pending = new.known.values().any(|known| !known.what.is_final());
            // The daily tick knows not of each action that is finished already whether it was moved to this day.
            ensure!(
                overdue || pending || self.is_edited,
                "the daily tick left it on {}",
                new.date
            );
        }
        self.seen = new;
        Ok(tally)
    }

    /// Judges one change: what became of an action.
    fn happened(
        &mut self,
        side: &Side,
        old: &Seen,
        new: &Seen,
        key: usize,
        sent: &[&Delivery],
        now: Timestamp,
    ) -> Result<(), String> {
        let to = new.known[&key];
        let from = old.what(key);
        if from == Some(What::InFlight) {
            self.uncertain.insert(key);
        }
        ensure!(!from.is_some_and(What::is_final), "it was {from:?} and is {to:?}");
        let Some((_, act)) = side.acts.get(&key) else {
            ensure!(
                to.what == self.end_of(key, What::Skipped(SkipReason::Removed)),
                "it was removed, and is {to:?}"
            );
            ensure!(sent.is_empty(), "it was removed, and sent");
            return Ok(());
        };
        ensure!(
            to.what != What::Skipped(SkipReason::Removed),
            "it was not removed, and is {to:?}"
        );
        let lateness = side.lateness(act);
        let due = match from {
            None => {
                ensure!(
                    (old.day..=new.day).contains(&act.day),
                    "it is of day {}, and the run was on {} to {}",
                    act.day,
                    old.day,
                    new.day
                );
                let date = if side.catches_up {
                    plus(old.date, act.day - old.day)
                } else if act.day == new.day {
                    new.date
                } else {
                    old.date
                };
                let due = instant(date, act.hour, new.zone).max(self.not_before);
                ensure!(due <= now, "before its hour, which is {due}");
                self.first_due.insert(key, due);
                due
            }
            Some(
                What::Retrying(at, _)
                | What::Deferred(at, DeferReason::Spacing | DeferReason::ChannelUnavailable | DeferReason::SendingHeld),
            ) => {
                ensure!(at <= now, "it was to wait until {at}");
                self.first_due.get(&key).copied().unwrap_or(now)
            }
            Some(_) => self.first_due.get(&key).copied().unwrap_or(now),
        };
        if let Some(since) = self.deferred_at.remove(&key) {
            *self.waited.entry(key).or_default() += now - since;
        }
        // Not late are the time of a pause, and that for which it was deferred; whether the latter gives more time for
        // repetitions is left open.
        let due = due.max(self.not_before);
        let aged = due + self.waited.get(&key).copied().unwrap_or_default();
        if from == Some(What::InFlight) {
            ensure!(sent.is_empty(), "sent again, blindly");
            return if matches!(act.kind, Kind::Sms | Kind::Call) {
                ensure!(to.what == What::Unknown, "its sender died, and it is {to:?}");
                Ok(())
            } else {
                let last = (due + lateness, aged + lateness);
                self.failed(side, key, to, FailureReason::OutcomeUnknown, last, now)
            };
        }
        let may_expire = matches!(from, None | Some(What::Retrying(..)));
        let is_of_today = act.day == new.day && new.date == local_date(now, new.zone);
        let comes_again = from.is_none() && is_of_today && self.again.perhaps(due);
        if may_expire && now - aged > lateness && (side.catches_up || from.is_none()) && !comes_again {
            ensure!(
                side.catches_up && to.what == self.end_of(key, What::Skipped(SkipReason::Expired)),
                "{} too late, and {to:?}",
                now - aged
            );
            return Ok(());
        }
        let is_over = side.catches_up && matches!(from, Some(What::Retrying(..))) && now - due > lateness;
        if is_over && to.what == self.end_of(key, What::Skipped(SkipReason::Expired)) {
            return Ok(());
        }
        ensure!(
            to.what != What::Skipped(SkipReason::Expired),
            "only {} late, and expired",
            now - aged
        );
        let gate_says = |(gate, other): (usize, &Act)| {
            other.kind == Kind::Gate
                && matches!(
                    new.what(gate),
                    Some(What::Skipped(SkipReason::Condition | SkipReason::Gated))
                )
        };
        let is_closed = side.before(key).any(gate_says);
        let (says, gated) = (to.what, What::Skipped(SkipReason::Gated));
        ensure!(
            if is_closed {
                says == self.end_of(key, gated)
            } else {
                says != gated
            },
            "a gate before it says {is_closed}, and it is {to:?}"
        );
        if is_closed {
            return Ok(());
        }
        let open = |other: usize| !new.what(other).is_some_and(What::is_final);
        if let What::Deferred(until, DeferReason::WaitingForAction) = to.what {
            let holds = |(other, before): (usize, &Act)| {
                open(other) && (before.kind == Kind::Gate || act.kind == Kind::Gate && before.kind.sends())
            };
            ensure!(
                until > now && side.before(key).any(holds),
                "it waits until {until}, for nothing"
            );
            self.deferred_at.insert(key, now);
            return Ok(());
        }
        if act.kind == Kind::Gate && now - self.first_due[&key] <= lateness {
            let in_time = |other: usize, before: &Act| {
                self.first_due
                    .get(&other)
                    .is_some_and(|due| now - *due <= side.lateness(before))
            };
            let waiting = side.before(key).find(|(other, before)| {
                before.kind.sends() && new.known.contains_key(other) && open(*other) && in_time(*other, before)
            });
            ensure!(waiting.is_none(), "a gate that did not wait for {waiting:?}");
        }
        let skips = side.says_skip(act, now);
        let skipped = What::Skipped(SkipReason::Condition);
        ensure!(
            if skips {
                says == self.end_of(key, skipped)
            } else {
                says != skipped
            },
            "its conditions say skip: {skips}, and it is {to:?}"
        );
        if skips {
            return Ok(());
        }
        if !act.kind.sends() {
            ensure!(to.what == What::Completed, "nothing to send, and {to:?}");
            return Ok(());
        }
        if let What::Deferred(until, reason) = to.what {
            ensure!(until > now && sent.is_empty(), "deferred until {until}");
            let is_late = act.kind.is_message() && now - self.first_due[&key] > TimeDelta::hours(1);
            let holds = match reason {
                DeferReason::Spacing => is_late && until <= now + TimeDelta::hours(1),
                DeferReason::ChannelUnavailable => act.kind == Kind::Email && side.mail_may_stop,
                DeferReason::WaitingForAction | DeferReason::SendingHeld | DeferReason::Unspecified => false,
            };
            ensure!(holds, "deferred: {reason:?} until {until}, {is_late}");
            self.deferred_at.insert(key, now);
            return Ok(());
        }
        self.attempted(side, act, to, sent, (due + lateness, aged + lateness), now)
    }

    /// Judges an attempt: what arrived, and what was recorded of it. `last`: until when it may be repeated at least and at most.
    fn attempted(
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
    fn end_of(&self, key: usize, end: What) -> What {
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
    fn failed(
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

    /// Judges what was said about the future before by what came.
    fn foretold(
        &self,
        old: &Seen,
        new: &Seen,
        side: &Side,
        changed: &[usize],
        now: Timestamp,
        sends: bool,
    ) -> Result<(), String> {
        let is_foretold = |key: &&usize| {
            let ended = matches!(
                new.what(**key),
                Some(What::Skipped(SkipReason::Removed | SkipReason::Expired))
            );
            let given_up = self.uncertain.contains(key) && new.what(**key) == Some(What::Unknown);
            !ended && !given_up && old.what(**key) != Some(What::InFlight)
        };
        let first = changed.iter().find(is_foretold);
        if old.known.values().any(|known| known.what == What::InFlight) {
            return Ok(());
        }
        let Some((next, due)) = old.next else {
            ensure!(
                first.is_none(),
                "nothing was to come, and K{:02} did",
                first.unwrap_or(&0)
            );
            return Ok(());
        };
        ensure!(
            now >= due || first.is_none(),
            "K{next:02} was to come next, at {due}, and K{:02} did",
            first.unwrap_or(&0)
        );
        // For a day to come, provided that somebody ticks every day until then.
        let prompt = sends && now - self.last_served <= TimeDelta::hours(2);
        let in_time = |(_, act): &(i64, Act)| now - due <= side.lateness(act);
        let is_shifted = new.shifted > old.shifted;
        let is_to_come = now >= due && prompt && !is_shifted && side.acts.get(&next).is_some_and(in_time);
        ensure!(
            !is_to_come || changed.contains(&next),
            "K{next:02} was to come at {due}, and did not"
        );
        Ok(())
    }

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
