//! Runs are played: a timeline, a run and a clock go in, and a log of what happened when comes out.
//!
//! `Play` carries out what the planner says as the engine does. After every step it checks what must always hold, so each
//! test here checks that too, and every story is told twice: with the bulk advance, and with a tick that plans everything.

mod about;
mod always;
mod anything;
mod attempts;
mod changes;
mod gates;
mod given;
mod held;
mod hours;
mod late;
mod play;
mod retried;
mod unknown;
mod waits;

use chrono::{Duration, NaiveDate};
use chrono_tz::Tz;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::domain::condition::Leaf;
use crate::domain::explain::{Expected, Explanation, Hold, Standing, explain};
use crate::domain::schedule::{instant, local_date, plus_days};
use crate::domain::{
    Action, ActionDefinition, ActionId, ActionType, Attempted, CampaignId, Channel, Condition, CustomerId, DeferReason,
    DeliveryPolicy, EngagementKind, EngagementQuery, Facts, FailureReason, FailureState, FirstDay, InFlight, Moves,
    Origin, Plan, RetryPolicy, Run, SkipReason, Slug, Stage, Status, Test, Then, Timeline, TimelineDefinition,
    TimelineId, Timestamp, Verdict, WhenMissed, Zone, plan,
};

use always::check_told;
use given::*;
use play::*;

/// Tells a story both ways.
#[track_caller]
fn check(timeline: &Timeline, plot: impl Fn(&mut Play), expected: &str) {
    for engine in [Engine::Eager, Engine::Bulk] {
        let mut play = Play::new(engine, timeline);
        plot(&mut play);
        let expected: Vec<&str> = expected
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        assert_eq!(play.story(), expected.join("\n"), "{engine:?}");
    }
}

/// Adds an action to the timeline of a play, as the engine does: runs on its day are woken.
fn add(play: &mut Play, action: Action) {
    let id = ActionId(1 + i64::try_from(play.timeline.definition.actions.len()).expect("few"));
    play.timeline.definition.actions.push(Action { id, ..action });
    play.timeline = in_order(play.timeline.clone());
    wake(play, id);
}

fn remove(play: &mut Play, key: &str, now: Timestamp) {
    let id = play.id(key);
    let actions = &mut play.timeline.definition.actions;
    actions
        .iter_mut()
        .find(|action| action.id == id)
        .expect("an action")
        .removed_at = Some(now);
    wake(play, id);
}

/// Days that are over are woken too, so that it does not matter when a removal is noticed; the engine leaves them alone.
fn wake(play: &mut Play, id: ActionId) {
    let day = play.timeline.action(id).expect("an action").definition.day_number;
    if day <= play.run.current_day && play.engine == Engine::Bulk {
        // Long ago, which is as good as now.
        play.run.next_action_at = Some(at("01-01 00:00"));
    }
}
