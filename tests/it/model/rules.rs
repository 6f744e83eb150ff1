//! The rules, as a judge of what was seen: after each step a run is compared with how it was before. Nothing here plans.
//!
//! Written from the design and the contract's comments alone; it has its own arithmetic of dates, and knows nothing of how
//! the service decides.

use campaign_automation::domain::Timestamp;
use campaign_automation::proto::campaign::v1 as pb;
use chrono::TimeDelta;
use pb::{DeferReason, FailureReason, ProgressStatus, SkipReason};
use std::collections::{BTreeMap, BTreeSet};

use super::late::Again;
use super::moves::{moved, nothing_left};
use super::script::{Act, Answer, Kind};
use super::seen::{Delivery, Seen, What};
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

/// Who served runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Hourly,
    Daily,
    /// A call about one customer.
    Call,
}

impl Who {
    pub(super) fn sends(self) -> bool {
        match self {
            Self::Hourly | Self::Call => true,
            Self::Daily => false,
        }
    }
}

/// What is known of a run from watching it.
#[derive(Debug, Clone)]
pub(super) struct History {
    pub seen: Seen,
    pub started_at: Timestamp,
    /// Its start, or the last resume, reactivation or change of zone.
    pub not_before: Timestamp,
    pub again: Again,
    /// When each action was due, as far as it was taken up.
    pub first_due: BTreeMap<usize, Timestamp>,
    /// How long it was deferred, which does not count as late.
    pub waited: BTreeMap<usize, TimeDelta>,
    pub deferred_at: BTreeMap<usize, Timestamp>,
    pub attempts: BTreeMap<usize, i32>,
    /// What was deferred while a tick was under way, perhaps after further attempts. A deferred action does not tell its number.
    pub unsure: BTreeSet<usize>,
    pub delivered: BTreeMap<usize, (String, Answer)>,
    /// What may have arrived, as its outcome was unknown once.
    pub uncertain: BTreeSet<usize>,
    pub last_late: BTreeMap<Kind, Timestamp>,
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

    /// Judges what a tick or a call made of the run.
    pub(super) fn serve(
        &mut self,
        side: &Side,
        new: Seen,
        deliveries: &[Delivery],
        now: Timestamp,
        who: Who,
    ) -> Result<Tally, String> {
        let (old, sends) = (self.seen.clone(), who.sends());
        let mut tally = Tally::default();
        if !old.is_active() || !side.is_active {
            let mut expected = self.with_turns(side, old.clone(), &new, who, now);
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
        self.foretold(&old, &new, side, &changed, now, who)?;
        for key in self.looked_at_unseen(side, &old, &new, who, now) {
            tally.count_turn(side, key, new.known[&key].what);
        }
        // What keeps its distance does so from what went at the same time.
        let mut in_turn = changed.clone();
        in_turn.sort_by_key(|key| matches!(new.what(*key), Some(What::Deferred(..))));
        for key in in_turn {
            let sent: Vec<&Delivery> = deliveries.iter().filter(|sent| sent.key == key).collect();
            let (why_of, what) = (|why| format!("K{key:02}: {why}"), new.known[&key].what);
            if self.has_turn(side, (&old, &new), key, who, now).map_err(why_of)? {
                tally.count_turn(side, key, what);
                continue;
            }
            self.happened(side, (&old, &new), key, &sent, who, now)
                .map_err(why_of)?;
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
            if who == Who::Hourly && new.is_active() {
                self.turns_come(side, &new, now)?;
            }
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
        (old, new): (&Seen, &Seen),
        key: usize,
        sent: &[&Delivery],
        who: Who,
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
                let is_woken = self.is_woken(side, old, key, who, now);
                ensure!(at <= now || is_woken, "it was to wait until {at}");
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
        if act.kind == Kind::Gate && now - self.first_due[&key] < lateness {
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
        if self.put_off(side, act, from, to.what, now)? {
            ensure!(sent.is_empty(), "held, and sent");
            return Ok(());
        }
        if let What::Deferred(until, reason) = to.what {
            ensure!(until > now && sent.is_empty(), "deferred until {until}");
            let is_late = act.kind.is_message() && now - self.first_due[&key] > TimeDelta::hours(1);
            let holds = match reason {
                DeferReason::Spacing => is_late && until <= now + TimeDelta::hours(1),
                DeferReason::ChannelUnavailable => act.kind == Kind::Email && side.mail_may_stop,
                DeferReason::WaitingForAction
                | DeferReason::SendingHeld
                | DeferReason::QuietHours
                | DeferReason::WaitingForCompletion
                | DeferReason::WaitingForEvent
                | DeferReason::RateLimited
                | DeferReason::Unspecified => false,
            };
            ensure!(holds, "deferred: {reason:?} until {until}, {is_late}");
            self.deferred_at.insert(key, now);
            return Ok(());
        }
        self.attempted(side, act, to, sent, (due + lateness, aged + lateness), now)
    }

    /// Judges what was said about the future before by what came.
    fn foretold(
        &self,
        old: &Seen,
        new: &Seen,
        side: &Side,
        changed: &[usize],
        now: Timestamp,
        who: Who,
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
        let is_woken = old.known.keys().any(|key| self.is_woken(side, old, *key, who, now));
        ensure!(
            now >= due || first.is_none() || is_woken,
            "K{next:02} was to come next, at {due}, and K{:02} did",
            first.unwrap_or(&0)
        );
        // For a day to come, provided that somebody ticks every day until then.
        let prompt = who.sends() && now - self.last_served <= TimeDelta::hours(2);
        let in_time = |(_, act): &(i64, Act)| now - due <= side.lateness(act);
        let is_shifted = new.shifted > old.shifted;
        let is_to_come = now >= due && prompt && !is_shifted && side.acts.get(&next).is_some_and(in_time);
        ensure!(
            !is_to_come || changed.contains(&next),
            "K{next:02} was to come at {due}, and did not"
        );
        Ok(())
    }
}
