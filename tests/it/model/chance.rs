//! What chance makes of a schedule: its actions, and what happens to its customer.

use fastrand::Rng;

use super::script::{Act, Answer, Cond, Edit, Event, First, KEYS, Kind, Schedule, Style, ZONES};

pub(super) fn choose<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(0..from.len())]
}

pub(super) fn act(rng: &mut Rng, keys: &mut usize, days: i32, hours: &[u32]) -> Act {
    use Kind::{Call, Email, Gate, Sms, Task, Wait};
    let condition = match rng.u32(0..12) {
        0 | 1 => Some(Cond::SkipIfScored),
        2 => Some(Cond::OnlyIfScored),
        3 => Some(Cond::OnlyIfInStage),
        4 => Some(Cond::SkipIfOpened {
            within_hours: choose(rng, &[1, 24, 48]),
        }),
        _ => None,
    };
    let kind = choose(
        rng,
        &[Email, Email, Email, Email, Sms, Sms, Call, Task, Wait, Gate, Gate],
    );
    *keys += 1;
    Act {
        key: *keys - 1,
        day: rng.i32(1..=days),
        hour: choose(rng, hours),
        priority: choose(rng, &[0, 0, 0, 1, -1]),
        kind,
        condition: condition.or((kind == Kind::Gate).then_some(Cond::SkipIfScored)),
        lateness_hours: match rng.u32(0..6) {
            0 => Some(choose(rng, &[1, 3, 24])),
            _ => None,
        },
    }
}

pub(super) fn first_event(rng: &mut Rng, days: i32, is_calm: bool) -> Event {
    match rng.u32(0..10) {
        0 | 1 if !is_calm => Event::Stage(true),
        2 | 3 => Event::Start {
            first: First::SkipPassed,
            start_day: 1,
        },
        4 => Event::Start {
            first: First::NextDay,
            start_day: 1,
        },
        5 => Event::Start {
            first: First::SendPassed,
            start_day: rng.i32(1..=days),
        },
        _ => Event::Start {
            first: First::SendPassed,
            start_day: 1,
        },
    }
}

pub(super) fn event(rng: &mut Rng, keys: &mut usize, schedule: &Schedule, hours: &[u32], style: Style) -> Event {
    let any = rng.usize(0..16);
    match rng.u32(0..30) {
        0..=2 => Event::Pause,
        3 => Event::Resume { next_day: false },
        4 => Event::Stop,
        5..=7 => Event::Execute,
        8 | 9 => Event::Active(false),
        10..=12 => Event::Zone(choose(rng, &ZONES)),
        13 => Event::Edit(Edit::Hour(any, choose(rng, hours))),
        14 => Event::Edit(Edit::Day(any, rng.i32(1..=schedule.days))),
        15 | 26 | 27 => Event::Edit(Edit::Remove(any)),
        16 if *keys < KEYS => Event::Edit(Edit::Add(act(rng, keys, schedule.days, hours))),
        17 => Event::Edit(Edit::Restore),
        18 => Event::Edit(Edit::Duration(rng.i32(1..=5))),
        19 => Event::Score(choose(rng, &[0, 100])),
        20 => Event::Opened(rng.i64(0..60)),
        21 if rng.bool() => Event::Addresses(false),
        22 | 28 => Event::Crash,
        23 => match rng.u32(0..4) {
            0 => Event::Start {
                first: First::SendPassed,
                start_day: 1,
            },
            1 => Event::Stage(false),
            _ => Event::Stage(true),
        },
        _ => {
            let answers = [
                Answer::NotNow,
                Answer::NotNow,
                Answer::Never,
                Answer::NoSuchMailbox,
                Answer::HangUp,
            ];
            if style == Style::Broken && rng.u32(0..4) == 0 {
                Event::Mail(Answer::Misconfigured)
            } else {
                Event::Mail(choose(rng, &answers))
            }
        }
    }
}
