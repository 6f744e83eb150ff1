//! Runs as stories: what became of each action, and when, by the customer's clock.

use campaign_automation::domain::Timestamp;
use campaign_automation::proto::campaign::v1 as pb;
use chrono::{DurationRound as _, TimeDelta};
use chrono_tz::Tz;
use std::fmt::Write as _;

use super::App;
use super::given::{action, at, condition, definition, email, sms};

/// A mail with a key.
pub(crate) fn mail(key: &str, day: i32, hour: i32) -> pb::ActionDefinition {
    keyed(key, email(day, hour, "A"))
}

/// A text message with a key.
pub(crate) fn text(key: &str, day: i32, hour: i32) -> pb::ActionDefinition {
    keyed(key, sms(day, hour, "A"))
}

/// A wait with a key.
pub(crate) fn wait(key: &str, day: i32, hour: i32) -> pb::ActionDefinition {
    keyed(key, action(day, hour, pb::Channel::Wait, pb::ActionType::Wait, ""))
}

/// A gate with a key. It says skip to customers with a score above 50.
pub(crate) fn gate(key: &str, day: i32, hour: i32) -> pb::ActionDefinition {
    let gate = action(day, hour, pb::Channel::Wait, pb::ActionType::CheckCondition, "");
    unless_engaged(keyed(key, gate))
}

/// An action that is skipped for customers with a score above 50.
pub(crate) fn unless_engaged(action: pb::ActionDefinition) -> pb::ActionDefinition {
    let above = pb::condition::Test::EngagementScoreAbove(pb::EngagementScoreAbove { threshold: 50 });
    pb::ActionDefinition {
        conditions: vec![condition(above, pb::ConditionThen::Skip)],
        ..action
    }
}

/// An action with a `max_lateness` of its own.
pub(crate) fn within(hours: i64, action: pb::ActionDefinition) -> pb::ActionDefinition {
    pb::ActionDefinition {
        max_lateness: Some(self::hours(hours)),
        ..action
    }
}

/// An action with a key.
pub(crate) fn keyed(key: &str, action: pb::ActionDefinition) -> pb::ActionDefinition {
    pb::ActionDefinition {
        key: key.to_owned(),
        ..action
    }
}

/// A duration.
pub(crate) fn hours(hours: i64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: hours * 3600,
        nanos: 0,
    }
}

/// A timeline that catches up or shifts.
pub(crate) fn plan(
    slug: &str,
    days: i32,
    when_missed: pb::WhenMissed,
    actions: Vec<pb::ActionDefinition>,
) -> pb::TimelineDefinition {
    pb::TimelineDefinition {
        when_missed: when_missed.into(),
        ..definition(slug, days, actions)
    }
}

/// What became of each action, a line for each in order of time and key, and where the run stands:
///
/// ```text
/// 01-05 13:00 a sent
/// 01-10 15:00 b expired
/// c retrying, temporary
/// d waits until 01-10 16:00, spacing
/// day 6 on 01-10, active, shifted 2, jumped 2-5
/// ```
pub(crate) fn story(run: &pb::Progress) -> Vec<String> {
    let zone: Tz = run.time_zone.parse().expect("a zone");
    let mut told: Vec<(Timestamp, String)> = Vec::new();
    for done in &run.completed_actions {
        let word = if done.provider_id.is_empty() { "done" } else { "sent" };
        told.push((
            instant(done.complete_time),
            format!("{} {word}", key(done.action.as_ref())),
        ));
    }
    for skipped in &run.skipped_actions {
        let reason = skipped
            .reason()
            .as_str_name()
            .trim_start_matches("SKIP_REASON_")
            .to_lowercase();
        told.push((
            instant(skipped.skip_time),
            format!("{} {reason}", key(skipped.action.as_ref())),
        ));
    }
    let (retrying, ended): (Vec<_>, Vec<_>) = run
        .failed_actions
        .iter()
        .partition(|failed| failed.state() == pb::FailureState::Retrying);
    let failure = |failed: &pb::FailedAction| {
        let state = failed
            .state()
            .as_str_name()
            .trim_start_matches("FAILURE_STATE_")
            .to_lowercase();
        let reason = failed
            .reason()
            .as_str_name()
            .trim_start_matches("FAILURE_REASON_")
            .to_lowercase();
        format!("{} {state}, {reason}", key(failed.action.as_ref()))
    };
    told.extend(ended.iter().map(|failed| (instant(failed.fail_time), failure(failed))));
    told.sort();
    let local = |time: Timestamp| time.with_timezone(&zone).format("%m-%d %H:%M").to_string();
    let mut story: Vec<String> = told
        .into_iter()
        .map(|(time, what)| format!("{} {what}", local(time)))
        .collect();
    // When exactly is up to chance.
    story.extend(retrying.iter().map(|failed| failure(failed)));
    for deferred in &run.deferred_actions {
        let reason = deferred
            .reason()
            .as_str_name()
            .trim_start_matches("DEFER_REASON_")
            .to_lowercase();
        let until = local(instant(deferred.until_time));
        story.push(format!(
            "{} waits until {until}, {reason}",
            key(deferred.action.as_ref())
        ));
    }
    let date = run.day_date.expect("a date");
    let status = run
        .status()
        .as_str_name()
        .trim_start_matches("PROGRESS_STATUS_")
        .to_lowercase();
    let mut place = format!("day {} on {:02}-{:02}, {status}", run.current_day, date.month, date.day);
    if run.shifted_days != 0 {
        write!(place, ", shifted {}", run.shifted_days).expect("text");
    }
    for range in &run.jumped_days {
        write!(place, ", jumped {}-{}", range.first_day, range.last_day).expect("text");
    }
    story.push(place);
    story
}

/// Checks the story of a run, given line by line.
#[track_caller]
pub(crate) fn check(name: &str, run: &pb::Progress, expected: &str) {
    let expected: Vec<&str> = expected
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(story(run), expected, "{name}");
}

impl App {
    /// The only run of a customer has this story, and its outbox as many messages as the story.
    pub(crate) async fn tells(&self, customer: &str, expected: &str) {
        let run = self.progress(customer).await;
        check(customer, &run, expected);
        let sent = run.completed_actions.iter().filter(|done| !done.provider_id.is_empty());
        assert_eq!(sent.count(), self.sent_to(customer).len(), "{customer}");
    }

    /// Ticks at every full hour from one instant to another, both included, the daily one at midnight UTC and before the hourly one.
    /// Gives the days by which the summaries say that runs were shifted.
    pub(crate) async fn ticks_between(&self, from: &str, until: &str, hourly: bool, daily: bool) -> i64 {
        let (mut now, until) = (at(from), at(until));
        let mut shifted = 0;
        while now <= until {
            self.clock.set(now);
            let is_midnight = now == now.duration_trunc(TimeDelta::days(1)).expect("a day");
            if daily && is_midnight {
                shifted += self.daily().await.counts.expect("counts").shifted_days;
            }
            if hourly {
                shifted += self.hourly().await.counts.expect("counts").shifted_days;
            }
            now += TimeDelta::hours(1);
        }
        shifted
    }
}

fn key(action: Option<&pb::ActionRef>) -> &str {
    &action.expect("an action").key
}

fn instant(time: Option<prost_types::Timestamp>) -> Timestamp {
    let time = time.expect("an instant");
    Timestamp::from_timestamp(time.seconds, u32::try_from(time.nanos).expect("nanos")).expect("an instant")
}
