//! The rules of sending holds, as a judge of what was seen: what is held does not go, does not age, and has its turn soon after.

use campaign_automation::domain::Timestamp;
use campaign_automation::proto::campaign::v1::DeferReason;
use chrono::TimeDelta;

use super::rules::{History, Who, ensure};
use super::script::Act;
use super::seen::{Known, Seen, What};
use super::side::Side;

/// What is held is looked at once in this time.
const PROBE: TimeDelta = TimeDelta::hours(1);

/// What was held goes within this time after the end.
const WINDOW: TimeDelta = TimeDelta::minutes(15);

impl History {
    /// Whether a hold on an action ended since it was put off, and who ticks now gives it its turn.
    pub(super) fn is_woken(&self, side: &Side, old: &Seen, key: usize, who: Who, now: Timestamp) -> bool {
        let is_held = matches!(old.what(key), Some(What::Deferred(_, DeferReason::SendingHeld)));
        let released_at = || {
            let (_, act) = side.acts.get(&key)?;
            side.holds.released_at(act, now)
        };
        let since = self.deferred_at.get(&key).copied().unwrap_or(self.started_at);
        who == Who::Hourly && is_held && released_at().is_some_and(|end| end > since)
    }

    /// Whether an action was only given its turn, which is to come: nothing was decided about it. What waits for such an
    /// action is looked at with it.
    pub(super) fn has_turn(
        &mut self,
        side: &Side,
        (old, new): (&Seen, &Seen),
        key: usize,
        who: Who,
        now: Timestamp,
    ) -> Result<bool, String> {
        let (Some(What::Deferred(before, was)), Some(What::Deferred(until, is))) = (old.what(key), new.what(key))
        else {
            return Ok(false);
        };
        if is == DeferReason::WaitingForAction {
            let with = |key: &usize| new.what(*key) == Some(What::Deferred(until, DeferReason::SendingHeld));
            let is_pulled = was == is && before > now && until < before && new.known.keys().any(with);
            return Ok(is_pulled && who == Who::Hourly);
        }
        if is != DeferReason::SendingHeld || !self.is_woken(side, old, key, who, now) {
            return Ok(false);
        }
        let act = side
            .acts
            .get(&key)
            .map(|(_, act)| act)
            .ok_or("it was removed, and has a turn")?;
        check_turn(side, act, until, now)?;
        if let Some(since) = self.deferred_at.insert(key, now) {
            *self.waited.entry(key).or_default() += now - since;
        }
        Ok(true)
    }

    /// The actions that were perhaps put off once more, to the same instant, and so do not show it: a hold ended, what it had put
    /// off went in this very tick, and what waits is looked at with it, whatever it waits for.
    pub(super) fn looked_at_unseen(&self, side: &Side, old: &Seen, new: &Seen, who: Who, now: Timestamp) -> Vec<usize> {
        let has_gone = |key: &usize| {
            let is_held = matches!(new.what(*key), Some(What::Deferred(_, DeferReason::SendingHeld)));
            self.is_woken(side, old, *key, who, now) && !is_held
        };
        let waits = |(key, known): (&usize, &Known)| {
            let is_waiting = matches!(known.what, What::Deferred(_, DeferReason::WaitingForAction));
            (is_waiting && old.known.get(key) == Some(known)).then_some(*key)
        };
        let went = old.known.keys().any(has_gone);
        new.known.iter().filter_map(waits).filter(|_| went).collect()
    }

    /// Judges whether an action that may be sent was put off by a hold, and should have been. True: it was.
    pub(super) fn put_off(
        &mut self,
        side: &Side,
        act: &Act,
        from: Option<What>,
        to: What,
        now: Timestamp,
    ) -> Result<bool, String> {
        let until = match to {
            What::Deferred(until, DeferReason::SendingHeld) => Some(until),
            What::Deferred(..)
            | What::Completed
            | What::Skipped(_)
            | What::Failed(_)
            | What::Unknown
            | What::Retrying(..)
            | What::InFlight => None,
        };
        match (side.holds.held_until(act, now), until) {
            (None, None) => return Ok(false),
            (Some(end), None) => return Err(format!("held until {end:?}, and it is {to:?}")),
            (Some(end), Some(until)) => {
                let soonest = end.map_or(now + PROBE, |end| end.min(now + PROBE));
                let latest = end.map_or(now + PROBE, |end| (end + WINDOW).min(now + PROBE));
                ensure!(
                    (soonest..=latest).contains(&until),
                    "held until {end:?}, and put off until {until}"
                );
            }
            (None, Some(until)) => {
                let was_held = matches!(from, Some(What::Deferred(_, DeferReason::SendingHeld)));
                ensure!(was_held, "nothing holds it, and it is put off until {until}");
                check_turn(side, act, until, now)?;
            }
        }
        self.deferred_at.insert(act.key, now);
        Ok(true)
    }

    /// Judges whether all have their turn soon whose holds are over.
    pub(super) fn turns_come(&self, side: &Side, new: &Seen, now: Timestamp) -> Result<(), String> {
        for (key, known) in &new.known {
            let What::Deferred(until, DeferReason::SendingHeld) = known.what else {
                continue;
            };
            let act = side.acts.get(key).map(|(_, act)| act);
            let Some(end) = act.and_then(|act| side.holds.released_at(act, now)) else {
                continue;
            };
            // Who was frozen at the release goes within the hour.
            let latest = (end + WINDOW).max(self.not_before + PROBE);
            ensure!(
                until <= latest,
                "K{key:02} was held until {end}, and waits until {until}"
            );
        }
        Ok(())
    }

    /// What a run that is not served may come to, as it was given its turn.
    pub(super) fn with_turns(&self, side: &Side, mut old: Seen, new: &Seen, who: Who, now: Timestamp) -> Seen {
        let woken: Vec<usize> = old
            .known
            .keys()
            .copied()
            .filter(|key| self.is_woken(side, &old, *key, who, now))
            .collect();
        let is_active = old.is_active() && !woken.is_empty();
        for (key, known) in old.known.iter_mut().filter(|_| is_active) {
            let moves = match (known.what, new.what(*key)) {
                (What::Deferred(_, DeferReason::SendingHeld), Some(What::Deferred(_, DeferReason::SendingHeld))) => {
                    woken.contains(key)
                }
                (What::Deferred(_, DeferReason::WaitingForAction), Some(What::Deferred(_, reason))) => {
                    reason == DeferReason::WaitingForAction
                }
                _ => false,
            };
            if moves {
                known.what = new.known[key].what;
            }
        }
        old
    }
}

/// Judges until when an action is put off whose holds are over.
fn check_turn(side: &Side, act: &Act, until: Timestamp, now: Timestamp) -> Result<(), String> {
    let end = side.holds.released_at(act, now);
    ensure!(
        until > now && end.is_some_and(|end| (end..=end + WINDOW).contains(&until)),
        "held until {end:?}, and has its turn at {until}"
    );
    Ok(())
}
