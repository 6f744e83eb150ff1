//! How runs may move in time, and what may be left undone. Rules of a run as a whole; those of an action are in `rules`.

use campaign_automation::domain::Timestamp;
use campaign_automation::proto::campaign::v1::ProgressStatus;
use chrono::NaiveDate;

use super::late::Again;
use super::rules::ensure;
use super::script::Act;
use super::seen::{Seen, What};
use super::side::{Side, instant, local_date, plus};
use super::tally::Tally;

/// Judges how a run moved in time.
pub(super) fn moved(side: &Side, old: &Seen, new: &Seen, now: Timestamp, tally: &mut Tally) -> Result<(), String> {
    let today = local_date(now, old.zone);
    let (days, shifted) = (new.day - old.day, new.shifted - old.shifted);
    let dates = (new.date - old.date).num_days();
    ensure!(
        days >= 0 && shifted >= 0,
        "back: day {} to {}, shifted {} to {}",
        old.day,
        new.day,
        old.shifted,
        new.shifted
    );
    ensure!(
        dates == i64::from(days + shifted),
        "day {} on {} to day {} on {}, shifted by {shifted}",
        old.day,
        old.date,
        new.day,
        new.date
    );
    ensure!(dates == 0 || new.date <= today, "ahead of its time: {}", new.date);
    if side.catches_up {
        ensure!(shifted == 0, "shifted although it catches up");
    } else {
        ensure!(
            days <= 1 && (dates == 0 || new.date == today),
            "from day {} to {} on {}, which is {today}",
            old.day,
            new.day,
            new.date
        );
    }
    let is_missed = |key: usize, act: &Act, date: NaiveDate| {
        !old.known.contains_key(&key) && now - instant(date, act.hour, old.zone) > side.lateness(act)
    };
    if shifted > 0 && days == 0 {
        ensure!(
            side.of_day(old.day).any(|(key, act)| is_missed(key, act, old.date)),
            "shifted, and nothing was missed"
        );
    }
    let reached = old.day + 1..=new.day;
    let mut jumped = new.jumped.difference(&old.jumped);
    ensure!(
        old.jumped.is_subset(&new.jumped) && jumped.all(|day| reached.contains(day)),
        "jumped over {:?} and then over {:?}, on days {reached:?}",
        old.jumped,
        new.jumped
    );
    for day in reached {
        // Nobody says whether a day is jumped over on which there is only what became of something elsewhere.
        if side.of_day(day).any(|(key, _)| old.known.contains_key(&key)) {
            continue;
        }
        let date = plus(old.date, day - old.day);
        let jumps = side.catches_up && date < today && side.of_day(day).all(|(key, act)| is_missed(key, act, date));
        ensure!(
            jumps == new.jumped.contains(&day),
            "day {day} was to be jumped over: {jumps}, and there are {:?}",
            new.jumped
        );
    }
    let is_over = new.status == ProgressStatus::Completed;
    for day in old.day..new.day + i32::from(is_over) {
        let lost: Vec<_> = side
            .of_day(day)
            .filter(|(key, _)| !new.known.contains_key(key))
            .collect();
        ensure!(
            lost.is_empty() || new.jumped.contains(&day),
            "day {day} passed without {lost:?}"
        );
    }
    match new.status {
        ProgressStatus::Active => {}
        ProgressStatus::Completed => {
            ensure!(
                new.day >= side.days && new.date < today,
                "completed on day {} of {}, {}",
                new.day,
                side.days,
                new.date
            );
            ensure!(
                new.known.values().all(|known| known.what.is_final()),
                "completed with something pending"
            );
            tally.completed_runs = 1;
        }
        ProgressStatus::Paused | ProgressStatus::Stopped | ProgressStatus::Unspecified => {
            return Err(format!("it became {:?}", new.status));
        }
    }
    tally.advanced_runs = i64::from(days > 0);
    tally.advanced_days = i64::from(days);
    tally.shifted_days = i64::from(shifted);
    Ok(())
}

/// Judges whether somebody who serves left something that was due.
pub(super) fn nothing_left(
    side: &Side,
    new: &Seen,
    not_before: Timestamp,
    again: Again,
    now: Timestamp,
) -> Result<(), String> {
    if !new.is_active() {
        return Ok(());
    }
    let today = local_date(now, new.zone);
    let is_left = |key: usize| new.stands_on(new.day) && !new.known.contains_key(&key);
    for (key, act) in side.of_day(new.day).filter(|(key, _)| is_left(*key)) {
        let due = instant(new.date, act.hour, new.zone).max(not_before);
        let is_missed = now - due > side.lateness(act) && !again.surely(due);
        let waits_for_tomorrow = !side.catches_up && is_missed && new.date == today;
        ensure!(
            due > now || waits_for_tomorrow,
            "K{key:02} was due at {due}, and was left"
        );
    }
    for (key, known) in &new.known {
        let until = match known.what {
            What::InFlight => Some(now),
            What::Retrying(at, _) | What::Deferred(at, _) => Some(at),
            What::Completed | What::Skipped(_) | What::Failed(_) | What::Unknown => None,
        };
        ensure!(until.is_none_or(|until| until > now), "K{key:02} was left: {known:?}");
        ensure!(
            until.is_none() || side.acts.contains_key(key),
            "K{key:02} was removed, and is left: {known:?}"
        );
    }
    let is_pending = new.known.values().any(|known| !known.what.is_final());
    let may_stay = new.day >= side.days && is_pending;
    ensure!(new.date >= today || may_stay, "left on day {} on {}", new.day, new.date);
    Ok(())
}
