//! Each case is a run as it was in a backup of the fifth of January, what is fenced, and what becomes of it.

use std::fmt::Write as _;

use super::*;
use crate::domain::condition::{Leaf, Test};
use crate::domain::schedule::local_date;
use crate::domain::{
    Action, ActionDefinition, ActionType, CampaignId, Channel, Condition, CustomerId, DeferReason, Deferred, FirstDay,
    Lease, Origin, Slug, Stage, Then, TimelineDefinition, TimelineId, WhenMissed, Zone,
};

/// An instant of January 2026, as in `05 12:00`.
fn at(text: &str) -> Timestamp {
    format!("2026-01-{}:00Z", text.replacen(' ', "T", 1))
        .parse()
        .expect("an instant")
}

/// What an action is, by the first letter of its key.
fn action(id: i64, (key, day_number, delay_hours): (&str, i32, u32)) -> Action {
    let (channel, action_type) = match &key[..1] {
        "m" => (Channel::Email, ActionType::SendEmail),
        "s" => (Channel::Sms, ActionType::SendSms),
        "w" => (Channel::Wait, ActionType::Wait),
        _ => (Channel::Wait, ActionType::CheckCondition),
    };
    // Whoever has scored gets nothing more. Waits ask nobody.
    let condition = Condition {
        test: Test::Leaf(Leaf::EngagementScoreAbove { threshold: 50 }),
        then: Then::Skip,
    };
    let definition = ActionDefinition {
        key: key.to_owned(),
        day_number,
        delay_hours,
        priority: 0,
        channel,
        action_type,
        campaign_id: action_type.sends().then(|| CampaignId::parse("A").expect("a campaign")),
        conditions: if key.starts_with('w') {
            Vec::new()
        } else {
            vec![condition]
        },
        max_lateness: None,
        completion: crate::domain::Completion::HandedOver,
        awaits: None,
    };
    Action {
        id: ActionId(id),
        definition,
        removed_at: None,
    }
}

/// A timeline of three days.
fn timeline(actions: &[(&str, i32, u32)], when_missed: WhenMissed) -> Timeline {
    let mut actions: Vec<Action> = (1..).zip(actions).map(|(id, one)| action(id, *one)).collect();
    actions.sort_by_key(Action::position);
    Timeline {
        id: TimelineId(1),
        definition: TimelineDefinition {
            slug: Slug::parse("plan").expect("a slug"),
            name: "Plan".to_owned(),
            pipeline_stage: Stage::parse("hook").expect("a stage"),
            duration_days: 3,
            is_active: true,
            is_default: false,
            when_missed,
            max_lateness: Duration::hours(12),
            actions,
        },
        revision: 1,
        activated_at: None,
        archived_at: None,
        created_at: at("01 00:00"),
        updated_at: at("01 00:00"),
    }
}

/// A run in UTC that was started on the fifth at 08:00, and as it was planned then.
fn run(timeline: &Timeline) -> Run {
    let zone = Zone {
        tz: chrono_tz::UTC,
        is_default: false,
    };
    let (customer, now) = (CustomerId::parse("anna").expect("an id"), at("05 08:00"));
    let mut run = Run::start(timeline, customer, Origin::Started, zone, FirstDay::SendPassed, 1, now);
    plan::settle(timeline, &mut run, now);
    run
}

/// A message was under way when the backup was taken.
fn sending(run: &mut Run, id: i64, hour: &str) {
    run.in_flight.push(InFlight {
        id: ActionId(id),
        attempt: 1,
        due: at(hour),
        since: at(hour),
    });
    run.lease = Some(Lease {
        token: 7,
        expires_at: at("05 08:02"),
    });
    run.next_action_at = Some(at("05 08:00"));
}

/// Something that was done to a run before the backup.
type Change = fn(&mut Run);

struct Case {
    name: &'static str,
    when_missed: WhenMissed,
    actions: &'static [(&'static str, i32, u32)],
    change: Change,
    last_tick: &'static str,
    before: &'static str,
    resend: bool,
    score: i32,
    expected: &'static str,
}

const CASE: Case = Case {
    name: "",
    when_missed: WhenMissed::Shift,
    actions: &[("m1", 1, 9), ("s1", 1, 10), ("w1", 1, 11), ("s2", 1, 18), ("s3", 2, 9)],
    change: |_| {},
    last_tick: "05 08:00",
    before: "05 12:00",
    resend: false,
    score: 0,
    expected: "",
};

/// A customer with all addresses, and a score.
fn facts(engagement_score: i32) -> Facts {
    Facts {
        engagement_score,
        has_email: true,
        has_phone: true,
        ..Facts::default()
    }
}

/// What a fence decided, and where the run is then.
fn told(timeline: &Timeline, fenced: Option<Fenced>) -> String {
    let Some(Fenced { run, decisions }) = fenced else {
        return "untouched".to_owned();
    };
    let mut told = String::new();
    for (at, decision) in &decisions {
        let verdict = match &decision.verdict {
            Verdict::Completed => "completed".to_owned(),
            Verdict::Skipped(reason) => reason.as_str().to_owned(),
            Verdict::Deferred { reason, .. } => format!("{reason:?}"),
            Verdict::Failed { state, .. } => match state {
                FailureState::Retrying(at) => format!("again {}", at.format("%d %H:%M")),
                FailureState::Failed => "failed".to_owned(),
                FailureState::Unknown => "unknown".to_owned(),
            },
        };
        let key = timeline.action(decision.action).map(|action| &action.definition.key);
        write!(
            told,
            "{} {verdict} at {}; ",
            key.expect("an action"),
            at.format("%d %H:%M")
        )
        .expect("written");
    }
    let next = run.next_action_at.map(|at| at.format("%d %H:%M").to_string());
    assert_eq!(
        (run.lease, run.in_flight.as_slice()),
        (None, &[][..]),
        "nobody holds it"
    );
    let (day, date, status) = (run.current_day, run.day_date.format("%d"), run.status.as_str());
    write!(
        told,
        "{status} on day {day}, {date}, next {}",
        next.as_deref().unwrap_or("-")
    )
    .expect("written");
    told
}

#[track_caller]
fn check(cases: &[Case]) {
    for case in cases {
        let timeline = timeline(case.actions, case.when_missed);
        let mut run = run(&timeline);
        (case.change)(&mut run);
        let fence = Fence {
            before: at(case.before),
            last_tick: at(case.last_tick),
            resend: case.resend,
        };
        let fenced = FencedTimeline::new(timeline.clone(), fence).fence(&run, &facts(case.score));
        assert_eq!(told(&timeline, fenced), case.expected, "{}", case.name);
    }
}

#[test]
fn what_may_have_been_sent_is_unknown() {
    check(&[
        Case {
            name: "what was due is unknown, a wait is over, and what is due at the instant or later goes",
            expected: "m1 unknown at 05 09:00; s1 unknown at 05 10:00; w1 completed at 05 11:00; active on day 1, 05, next 05 18:00",
            ..CASE
        },
        Case {
            name: "the instant is not included",
            before: "05 10:00",
            expected: "m1 unknown at 05 09:00; active on day 1, 05, next 05 10:00",
            ..CASE
        },
        Case {
            name: "nothing was due",
            before: "05 09:00",
            expected: "untouched",
            ..CASE
        },
        Case {
            name: "what may go twice goes again, after the instant, where that is asked for",
            resend: true,
            expected: "m1 again 05 12:00 at 05 09:00; s1 unknown at 05 10:00; w1 completed at 05 11:00; active on day 1, 05, next 05 12:00",
            ..CASE
        },
        Case {
            name: "nobody ticked before the last tick of the backup, so it did not go before",
            last_tick: "05 11:30",
            expected: "m1 unknown at 05 11:30; w1 completed at 05 11:30; s1 unknown at 05 11:30; active on day 1, 05, next 05 18:00",
            ..CASE
        },
        Case {
            name: "a run that has moved since is not touched again",
            change: |run| run.updated_at = at("05 12:00"),
            expected: "untouched",
            ..CASE
        },
        Case {
            name: "conditions of messages are not asked",
            score: 100,
            expected: "m1 unknown at 05 09:00; s1 unknown at 05 10:00; w1 completed at 05 11:00; active on day 1, 05, next 05 18:00",
            ..CASE
        },
        Case {
            name: "a gate is asked, but what it shuts out before the instant may have been sent",
            actions: &[("g1", 1, 9), ("s1", 1, 10), ("s2", 1, 18)],
            score: 100,
            expected: "g1 condition at 05 09:00; s1 unknown at 05 10:00; active on day 1, 05, next 05 18:00",
            ..CASE
        },
    ]);
}

/// The first action is a task that somebody has, and has to report by then.
fn handed_over(run: &mut Run, until: &str) {
    run.deferred.push(Deferred {
        id: ActionId(1),
        until: at(until),
        reason: DeferReason::WaitingForCompletion,
        due: at("05 08:00"),
        late_by_ms: 0,
        attempts: 1,
        may_have_arrived: false,
    });
    run.next_action_at = Some(at(until));
}

#[test]
fn a_task_may_have_been_reported() {
    check(&[
        Case {
            name: "one whose time ended is unknown, and is not handed over again",
            actions: &[("m1", 1, 8), ("s1", 1, 18)],
            change: |run| handed_over(run, "05 11:00"),
            resend: true,
            expected: "m1 unknown at 05 11:00; active on day 1, 05, next 05 18:00",
            ..CASE
        },
        Case {
            name: "one whose time goes on still waits",
            actions: &[("m1", 1, 8), ("s1", 1, 18)],
            change: |run| handed_over(run, "05 12:00"),
            expected: "untouched",
            ..CASE
        },
    ]);
}

#[test]
fn days_go_on_until_the_instant() {
    check(&[
        Case {
            name: "days go on",
            before: "06 09:01",
            expected: "m1 unknown at 05 09:00; s1 unknown at 05 10:00; w1 completed at 05 11:00; s2 unknown at 05 18:00; \
                       s3 unknown at 06 09:00; active on day 2, 06, next -",
            ..CASE
        },
        Case {
            name: "days go on where it catches up as well",
            when_missed: WhenMissed::CatchUp,
            before: "06 09:01",
            expected: "m1 unknown at 05 09:00; s1 unknown at 05 10:00; w1 completed at 05 11:00; s2 unknown at 05 18:00; \
                       s3 unknown at 06 09:00; active on day 2, 06, next -",
            ..CASE
        },
        Case {
            name: "to the end",
            actions: &[("s1", 1, 9)],
            before: "09 00:00",
            expected: "s1 unknown at 05 09:00; completed on day 3, 07, next -",
            ..CASE
        },
        Case {
            name: "what was missed by the last tick of the backup was shifted by that, and expired otherwise",
            actions: &[("s1", 1, 9)],
            last_tick: "06 10:00",
            before: "06 11:00",
            expected: "s1 unknown at 06 10:00; active on day 1, 06, next -",
            ..CASE
        },
        Case {
            name: "what was missed by the last tick of the backup expired",
            when_missed: WhenMissed::CatchUp,
            actions: &[("s1", 1, 9)],
            last_tick: "06 10:00",
            before: "06 11:00",
            expected: "s1 expired at 06 10:00; active on day 2, 06, next -",
            ..CASE
        },
    ]);
}

#[test]
fn what_was_in_flight_is_unknown_whoever_was_served() {
    check(&[
        Case {
            name: "what was in flight",
            change: |run| sending(run, 1, "05 08:00"),
            before: "05 08:30",
            expected: "m1 unknown at 05 08:00; active on day 1, 05, next 05 10:00",
            ..CASE
        },
        Case {
            name: "what was in flight and goes again",
            change: |run| sending(run, 1, "05 08:00"),
            before: "05 08:30",
            resend: true,
            expected: "m1 again 05 08:30 at 05 08:00; active on day 1, 05, next 05 08:30",
            ..CASE
        },
        Case {
            name: "of a paused run what was in flight alone",
            change: |run| {
                sending(run, 1, "05 08:00");
                run.status = Status::Paused;
            },
            expected: "m1 unknown at 05 08:00; paused on day 1, 05, next 05 08:00",
            ..CASE
        },
        Case {
            name: "of a stopped run what was in flight alone",
            change: |run| {
                sending(run, 2, "05 08:00");
                (run.status, run.next_action_at) = (Status::Stopped, None);
            },
            expected: "s1 unknown at 05 08:00; stopped on day 1, 05, next -",
            ..CASE
        },
        Case {
            name: "a paused run was not served",
            change: |run| run.status = Status::Paused,
            expected: "untouched",
            ..CASE
        },
    ]);
}

/// A timeline that is switched off serves nobody, whatever its runs say.
#[test]
fn runs_of_an_inactive_timeline_stay() {
    let mut timeline = timeline(CASE.actions, WhenMissed::Shift);
    let run = run(&timeline);
    timeline.definition.is_active = false;
    let fence = Fence {
        before: at("06 12:00"),
        last_tick: at("05 08:00"),
        resend: false,
    };
    assert_eq!(FencedTimeline::new(timeline, fence).fence(&run, &facts(0)), None);
}

/// Where customers live counts: their hours and their midnights.
#[test]
fn a_day_is_over_where_the_customer_lives() {
    let timeline = timeline(&[("s1", 1, 20), ("s2", 2, 1)], WhenMissed::Shift);
    for (tz, before, expected) in [
        // 20:00 there is 14:15 UTC, and 01:00 is 19:15.
        (
            chrono_tz::Asia::Kathmandu,
            "05 19:15",
            "s1 unknown at 05 14:15; active on day 2, 06, next 05 19:15",
        ),
        (
            chrono_tz::Asia::Kathmandu,
            "05 18:15",
            "s1 unknown at 05 14:15; active on day 1, 05, next -",
        ),
        // 20:00 there is 01:00 UTC of the next day, and 01:00 is 06:00.
        (
            chrono_tz::America::New_York,
            "06 06:00",
            "s1 unknown at 06 01:00; active on day 2, 06, next 06 06:00",
        ),
    ] {
        let mut run = run(&timeline);
        run.zone.tz = tz;
        run.day_date = local_date(at("05 08:00"), tz);
        plan::settle(&timeline, &mut run, at("05 08:00"));
        let fence = Fence {
            before: at(before),
            last_tick: at("05 08:00"),
            resend: false,
        };
        let fenced = FencedTimeline::new(timeline.clone(), fence).fence(&run, &facts(0));
        assert_eq!(told(&timeline, fenced), expected, "{tz} {before}");
    }
}
