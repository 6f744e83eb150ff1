//! What becomes of a run that nothing disturbs, action by action and tick by tick: it goes at the first tick after its hour.

use campaign_automation::domain::Timestamp;
use campaign_automation::proto::campaign::v1 as pb;
use pb::SkipReason;

use super::player::Player;
use super::rules::ensure;
use super::script::{Act, Event, First, Kind};
use super::seen::What;
use super::side::{instant, local_date, plus};

/// Compares the log of a run that has ended with what had to be.
pub(super) fn check(player: &Player, ticks: &[(Timestamp, bool)]) -> Result<(), String> {
    let Some((_, history)) = &player.run else {
        return Err("it was never started".to_owned());
    };
    let [(_, Event::Start { first, start_day })] = player.schedule.events.as_slice() else {
        return Ok(());
    };
    let (start, zone, side) = (history.started_at, history.seen.zone, &player.side);
    let first_date = plus(local_date(start, zone), (*first == First::NextDay).into());
    let mut expected = Vec::new();
    for day in *start_day..=side.days {
        let date = plus(first_date, day - start_day);
        let mut acts: Vec<&(i64, Act)> = side.acts.values().filter(|(_, act)| act.day == day).collect();
        acts.sort_by_key(|(id, act)| (act.hour, act.priority, *id));
        let mut is_closed = false;
        for (_, act) in acts {
            let hour = instant(date, act.hour, zone);
            if *first == First::SkipPassed && day == *start_day && hour < start {
                continue;
            }
            let skips = side.says_skip(act, start);
            let what = match (is_closed, skips) {
                (true, _) => What::Skipped(SkipReason::Gated),
                (false, true) => What::Skipped(SkipReason::Condition),
                (false, false) => What::Completed,
            };
            is_closed |= act.kind == Kind::Gate && skips;
            let tick = ticks.iter().find(|(at, sends)| *sends && *at >= hour.max(start));
            expected.push((tick.ok_or("the ticks end too early")?.0, act.key, what));
        }
    }
    let mut log = history.log.clone();
    log.sort_by_key(|(at, key, _)| (*at, *key));
    expected.sort_by_key(|(at, key, _)| (*at, *key));
    ensure!(log == expected, "should have gone as {expected:?}, and went as {log:?}");
    ensure!(
        history.seen.shifted == 0 && history.seen.jumped.is_empty(),
        "shifted or jumped, though somebody ticked all the time"
    );
    Ok(())
}
