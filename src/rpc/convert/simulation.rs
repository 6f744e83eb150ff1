//! Simulations: what is asked, and what would happen.

use chrono::{Duration, NaiveDate, NaiveTime};
use prost::Message as _;
use std::collections::BTreeSet;

use super::condition::finding;
use super::customer::{parse_attributes, parse_fields, parse_kind, parse_score, since_2000};
use super::progress::{action_ref, defer_reason, failure_reason, number, skip_reason, status, zone_source};
use super::start::parse_first_day;
use super::task::parse_outcome;
use super::time::{date, parse_seconds, parse_time, time};
use super::timeline::{CHANNELS, parse_channel, parse_definition};
use crate::domain::simulate::{ActionStep, Answer, Entry, Event, MAX_DAYS_AFTER, MAX_ENTRIES, Simulated, Step, What};
use crate::domain::{
    ActionId, Channel, Customer, CustomerId, FailureState, Invalid, MAX_DURATION_DAYS, Stage, Timeline, Timestamp,
    Verdict, parse_zone, text,
};
use crate::engine::{CustomerFields, FIRST_NOT_STORED, SimulateTimeline, SimulatedCustomer, SimulatedTimeline};
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::script_entry::What as Happens;
use crate::proto::campaign::v1::simulate_timeline_request::{Which, Whom};
use crate::proto::campaign::v1::simulation_step::What as Happened;
use crate::rpc::page::MOST_BYTES;
use crate::rpc::violations::Violations;

const ANSWERS: &str = "SIMULATED_ANSWER_ACCEPTED, SIMULATED_ANSWER_TEMPORARY, SIMULATED_ANSWER_REJECTED, \
     SIMULATED_ANSWER_SUPPRESSED, SIMULATED_ANSWER_UNKNOWN, SIMULATED_ANSWER_MISCONFIGURED";
const EVENTS: &str = "must have one of engagement, engagement_score, pipeline_stage, attributes, pause, resume, stop, \
     timeline_is_active, time_zone, ticks, answer, task_report";

/// The id of a customer who is made up and has none.
const MADE_UP: &str = "made-up";

/// The definition of a request that has one. None: there are violations, or it names a stored timeline.
pub(in crate::rpc) fn parse_defined(violations: &mut Violations, given: Option<&Which>) -> Option<SimulatedTimeline> {
    match given {
        Some(Which::Timeline(definition)) => parse_definition(violations, definition)
            .map(|(definition, positions)| SimulatedTimeline::Defined { definition, positions }),
        Some(Which::TimelineId(_)) => None,
        None => {
            violations.add("timeline_id", "must be set, or timeline in its place");
            None
        }
    }
}

/// Parses what is to be simulated on a timeline. Without one, which is a violation already, the rest is checked all the same.
pub(in crate::rpc) fn parse_simulation(
    violations: &mut Violations,
    request: &pb::SimulateTimelineRequest,
    timeline: Option<SimulatedTimeline>,
    now: Timestamp,
) -> Option<SimulateTimeline> {
    let (days, keys) = timeline.as_ref().map_or((None, None), |timeline| {
        let (days, keys) = facts_of(timeline);
        (Some(days), Some(keys))
    });
    let days = days.unwrap_or(MAX_DURATION_DAYS);
    let customer = parse_whom(violations, request.whom.as_ref(), now);
    let start = match request.start_time.as_ref() {
        None => Some(now),
        Some(given) => violations.check(
            "start_time",
            parse_time(given).and_then(since_2000).and_then(until_2199),
        ),
    };
    let first_day = parse_first_day(violations, "first_day".to_owned(), request.first_day);
    let start_day = match request.start_day {
        0 => Some(1),
        day => violations.within("start_day", day, 1, days),
    };
    let tick_interval = match request.tick_interval.as_ref() {
        None => Some(Duration::hours(1)),
        Some(given) => {
            let words = "whole seconds, 1 minute to 1 day";
            violations.check("tick_interval", parse_seconds(given, 60, 86_400, words))
        }
    };
    let begin = start.unwrap_or(now);
    let last = begin + Duration::days(i64::from(days) + MAX_DAYS_AFTER);
    let end = match request.end_time.as_ref() {
        None => Some(last),
        Some(given) => violations.check("end_time", parse_time(given).and_then(|end| ends(end, begin, last))),
    };
    let span = Span {
        start: begin,
        end: end.unwrap_or(last),
        keys: keys.as_ref(),
    };
    let script = parse_script(violations, &request.script, &span);
    Some(SimulateTimeline {
        timeline: timeline?,
        customer: customer?,
        start: start?,
        first_day: first_day?,
        start_day: start_day?,
        tick_interval: tick_interval?,
        script: script?,
        end: end?,
    })
}

/// How many days a timeline has, and the keys of its actions.
fn facts_of(timeline: &SimulatedTimeline) -> (i32, BTreeSet<String>) {
    match timeline {
        SimulatedTimeline::Stored(Timeline { definition, .. }) => {
            let actions = definition.actions.iter().filter(|action| action.removed_at.is_none());
            let keys = actions.map(|action| action.definition.key.clone());
            (definition.duration_days, keys.collect())
        }
        SimulatedTimeline::Defined { definition, .. } => {
            let keys = definition.actions.iter().map(|action| action.key.clone());
            (definition.duration_days, keys.collect())
        }
    }
}

/// Parses for whom something is tried.
pub(super) fn parse_whom(
    violations: &mut Violations,
    given: Option<&Whom>,
    now: Timestamp,
) -> Option<SimulatedCustomer> {
    match given {
        Some(Whom::CustomerId(id)) => violations
            .check("customer_id", CustomerId::parse(id))
            .map(SimulatedCustomer::Stored),
        Some(Whom::Customer(given)) => {
            let id = if given.customer_id.is_empty() {
                MADE_UP
            } else {
                &given.customer_id
            };
            let id = violations.check("customer.customer_id", CustomerId::parse(id));
            let fields = parse_fields(violations, "customer", given, now)?;
            Some(SimulatedCustomer::MadeUp(Box::new(made_up(id?, fields, now))))
        }
        None => {
            violations.add("customer_id", "must be set, or customer in its place");
            None
        }
    }
}

fn made_up(id: CustomerId, fields: CustomerFields, now: Timestamp) -> Customer {
    let CustomerFields {
        display_name,
        email,
        phone,
        time_zone,
        pipeline_stage,
        engagement_score,
        mut attributes,
        is_test,
        source_time,
    } = fields;
    attributes.retain(|_, value| !value.is_null());
    Customer {
        id,
        display_name,
        email,
        phone,
        time_zone,
        stage_visit: i64::from(pipeline_stage.is_some()),
        pipeline_stage,
        engagement_score,
        attributes,
        is_test,
        source_time,
        created_at: now,
        updated_at: now,
    }
}

fn until_2199(time: Timestamp) -> Result<Timestamp, Invalid> {
    let end = NaiveDate::from_ymd_opt(2200, 1, 1).unwrap_or_default();
    if time < end.and_time(NaiveTime::MIN).and_utc() {
        Ok(time)
    } else {
        Err(Invalid::new(time, "in the year 2199 or earlier"))
    }
}

fn ends(end: Timestamp, start: Timestamp, last: Timestamp) -> Result<Timestamp, Invalid> {
    if start < end && end <= last {
        return Ok(end);
    }
    let allowed = format!("after start_time and at most {MAX_DAYS_AFTER} days after the timeline's last day ({last})");
    Err(Invalid::new(end, allowed))
}

/// What entries of a script must keep to.
struct Span<'a> {
    start: Timestamp,
    end: Timestamp,
    /// The keys of the actions, where they are known.
    keys: Option<&'a BTreeSet<String>>,
}

fn parse_script(violations: &mut Violations, given: &[pb::ScriptEntry], span: &Span<'_>) -> Option<Vec<Entry>> {
    if given.len() > MAX_ENTRIES {
        let text = format!("must be at most {MAX_ENTRIES}, but are {}", given.len());
        violations.add("script", text);
        return None;
    }
    let entries: Vec<Option<Entry>> = given
        .iter()
        .enumerate()
        .map(|(position, entry)| parse_entry(violations, position, entry, span))
        .collect();
    entries.into_iter().collect()
}

fn parse_entry(
    violations: &mut Violations,
    position: usize,
    given: &pb::ScriptEntry,
    span: &Span<'_>,
) -> Option<Entry> {
    let path = format!("script[{position}]");
    let at = violations
        .required(format!("{path}.time"), given.time.as_ref())
        .and_then(|given| violations.check(format!("{path}.time"), parse_time(given)));
    let is_engagement = matches!(given.what, Some(Happens::Engagement(_)));
    let at = at.and_then(|at| {
        let in_span = if at > span.end {
            Err(Invalid::new(at, format!("not after the end_time {}", span.end)))
        } else if is_engagement {
            since_2000(at)
        } else if at < span.start {
            Err(Invalid::new(at, format!("not before the start_time {}", span.start)))
        } else {
            Ok(at)
        };
        violations.check(format!("{path}.time"), in_span)
    });
    let before_start = at.is_some_and(|at| at < span.start);
    let event = match &given.what {
        None => {
            violations.add(&path, EVENTS);
            None
        }
        Some(what) => parse_event(violations, &path, what, before_start, span),
    };
    Some(Entry {
        position,
        at: at?,
        event: event?,
    })
}

fn parse_event(
    violations: &mut Violations,
    path: &str,
    given: &Happens,
    before_start: bool,
    span: &Span<'_>,
) -> Option<Event> {
    let at = |field: &str| format!("{path}.{field}");
    match given {
        Happens::Engagement(given) => {
            let path = at("engagement");
            let kind = parse_kind(violations, &path, given.kind, &given.name);
            let of_action = parse_of_action(violations, &path, &given.of_action, before_start, span);
            Some(Event::Engaged {
                kind: kind?,
                of_action: of_action?,
            })
        }
        Happens::EngagementScore(score) => {
            parse_score(violations, at("engagement_score"), *score).map(Event::EngagementScore)
        }
        Happens::PipelineStage(stage) => violations
            .check(at("pipeline_stage"), Stage::parse(stage))
            .map(Event::PipelineStage),
        Happens::Attributes(attributes) => violations
            .check(at("attributes"), parse_attributes(Some(attributes)))
            .map(Event::Attributes),
        Happens::TaskReport(given) => {
            let path = at("task_report");
            let outcome = parse_outcome(violations, &format!("{path}.outcome"), given.outcome);
            let is_known = |keys: &BTreeSet<String>| keys.contains(&given.action_key);
            if !span.keys.is_none_or(is_known) {
                let text = format!(
                    "must be the key of an action of the timeline, but is {}",
                    text::shown(&given.action_key)
                );
                violations.add(format!("{path}.action_key"), text);
                return None;
            }
            Some(Event::TaskReported(given.action_key.clone(), outcome?))
        }
        Happens::Pause(pb::ScriptPause {}) => Some(Event::Pause),
        Happens::Resume(resume) => Some(Event::Resume {
            next_day: resume.start_next_day,
        }),
        Happens::Stop(pb::ScriptStop {}) => Some(Event::Stop),
        Happens::TimelineIsActive(is_active) => Some(Event::TimelineActive(*is_active)),
        Happens::TimeZone(zone) if zone.is_empty() => Some(Event::TimeZone(None)),
        Happens::TimeZone(zone) => violations
            .check(at("time_zone"), parse_zone(zone))
            .map(|zone| Event::TimeZone(Some(zone))),
        Happens::Ticks(are_on) => Some(Event::Ticks(*are_on)),
        Happens::Answer(given) => {
            let channel = violations
                .known::<pb::Channel>(at("answer.channel"), given.channel, CHANNELS)
                .and_then(parse_channel);
            if channel == Some(Channel::Wait) {
                violations.add(
                    at("answer.channel"),
                    "must be a channel that sends, but is CHANNEL_WAIT",
                );
            }
            let answer = violations
                .known::<pb::SimulatedAnswer>(at("answer.answer"), given.answer, ANSWERS)
                .and_then(parse_answer);
            Some(Event::Answers(channel?, answer?))
        }
    }
}

/// The action that something was about, if it is said. None: a violation.
fn parse_of_action(
    violations: &mut Violations,
    path: &str,
    given: &str,
    before_start: bool,
    span: &Span<'_>,
) -> Option<Option<String>> {
    if given.is_empty() {
        return Some(None);
    }
    let path = format!("{path}.of_action");
    if before_start {
        let text = format!("must be empty before the start_time, but is {}", text::shown(given));
        violations.add(path, text);
        return None;
    }
    if span.keys.is_some_and(|keys| !keys.contains(given)) {
        let text = format!(
            "must be the key of an action of the timeline, but is {}",
            text::shown(given)
        );
        violations.add(path, text);
        return None;
    }
    Some(Some(given.to_owned()))
}

fn parse_answer(given: pb::SimulatedAnswer) -> Option<Answer> {
    match given {
        pb::SimulatedAnswer::Unspecified => None,
        pb::SimulatedAnswer::Accepted => Some(Answer::Accepted),
        pb::SimulatedAnswer::Temporary => Some(Answer::Temporary),
        pb::SimulatedAnswer::Rejected => Some(Answer::Rejected),
        pb::SimulatedAnswer::Suppressed => Some(Answer::Suppressed),
        pb::SimulatedAnswer::Unknown => Some(Answer::Unknown),
        pb::SimulatedAnswer::Misconfigured => Some(Answer::Misconfigured),
    }
}

/// What would happen as a message, as far as it fits into one.
pub(in crate::rpc) fn simulated(simulated: &Simulated) -> pb::SimulateTimelineResponse {
    let (mut steps, mut bytes) = (Vec::with_capacity(simulated.steps.len()), 0);
    for one in &simulated.steps {
        let message = step(&simulated.timeline, one);
        bytes += message.encoded_len() + 8;
        if bytes > MOST_BYTES {
            break;
        }
        steps.push(message);
    }
    pb::SimulateTimelineResponse {
        truncated: simulated.truncated || steps.len() < simulated.steps.len(),
        steps,
        run: Some(run(simulated)),
    }
}

fn step(timeline: &Timeline, step: &Step) -> pb::SimulationStep {
    let what = match &step.what {
        What::Started => Happened::Started(pb::RunStarted {}),
        What::Script { position, refused } => Happened::Script(pb::ScriptApplied {
            index: i32::try_from(*position).unwrap_or(i32::MAX),
            refused: refused.clone().unwrap_or_default(),
        }),
        What::CameToDay => Happened::Day(pb::DayReached {}),
        What::Shifted(days) => Happened::Shifted(pb::DayShifted { days: *days }),
        What::Jumped(first, last) => Happened::Jumped(pb::DaysJumped {
            first_day: *first,
            last_day: *last,
        }),
        What::Action(action) => Happened::Action(action_step(timeline, action)),
        What::Completed => Happened::Completed(pb::RunCompleted {}),
    };
    pb::SimulationStep {
        time: Some(time(step.at)),
        day_number: step.day,
        day_date: Some(date(step.date)),
        time_zone: step.tz.name().to_owned(),
        status: status(step.status).into(),
        what: Some(what),
    }
}

fn action_step(timeline: &Timeline, step: &ActionStep) -> pb::SimulatedAction {
    let base = pb::SimulatedAction {
        action: Some(stored_ref(timeline, step.id)),
        attempt: number(step.attempt),
        due_time: Some(time(step.due)),
        detail: step.detail.clone().unwrap_or_default(),
        conditions: step.findings.iter().map(finding).collect(),
        ..pb::SimulatedAction::default()
    };
    match &step.verdict {
        Verdict::Completed => pb::SimulatedAction {
            outcome: pb::ActionOutcome::Executed.into(),
            ..base
        },
        Verdict::Skipped(reason) => {
            let outcome = if reason.is_expiry() {
                pb::ActionOutcome::Expired
            } else {
                pb::ActionOutcome::Skipped
            };
            pb::SimulatedAction {
                outcome: outcome.into(),
                skip_reason: skip_reason(*reason).into(),
                ..base
            }
        }
        Verdict::Deferred { until, reason } => pb::SimulatedAction {
            outcome: pb::ActionOutcome::Deferred.into(),
            defer_reason: defer_reason(*reason).into(),
            until_time: Some(time(*until)),
            ..base
        },
        Verdict::Failed { state, reason, error } => {
            let (outcome, until) = match state {
                FailureState::Retrying(at) => (pb::ActionOutcome::Retrying, Some(*at)),
                FailureState::Failed => (pb::ActionOutcome::Failed, None),
                FailureState::Unknown => (pb::ActionOutcome::Unknown, None),
            };
            pb::SimulatedAction {
                outcome: outcome.into(),
                failure_reason: failure_reason(*reason).into(),
                detail: error.clone(),
                until_time: until.map(time),
                ..base
            }
        }
    }
}

/// An action with its id, if it is stored.
fn stored_ref(timeline: &Timeline, id: ActionId) -> pb::ActionRef {
    let action = action_ref(timeline, id);
    pb::ActionRef {
        action_id: if id < FIRST_NOT_STORED { action.action_id } else { 0 },
        ..action
    }
}

fn run(simulated: &Simulated) -> pb::SimulatedRun {
    let Simulated {
        run, timeline, until, ..
    } = simulated;
    let days = timeline.definition.duration_days;
    let expired = run.skipped.iter().filter(|skipped| skipped.reason.is_expiry());
    let expired = expired.count();
    let failed = |state| run.failed.iter().filter(|failed| failed.state == state).count();
    let (dead, unknown) = (failed(FailureState::Failed), failed(FailureState::Unknown));
    let pending = run.failed.len() - dead - unknown + run.deferred.len();
    let touched = run.completed.len() + run.skipped.len() + run.failed.len() + run.deferred.len();
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    pb::SimulatedRun {
        status: status(run.status).into(),
        current_day: run.current_day,
        day_date: Some(date(run.day_date)),
        duration_days: days,
        percent_complete: run.percent_complete(days),
        shifted_days: run.shifted_days,
        time_zone: run.zone.tz.name().to_owned(),
        time_zone_source: zone_source(run.zone).into(),
        end_time: run.ended_at.map(time),
        simulated_until: Some(time(*until)),
        completed_actions: count(run.completed.len()),
        skipped_actions: count(run.skipped.len() - expired),
        expired_actions: count(expired),
        failed_actions: count(dead),
        unknown_actions: count(unknown),
        pending_actions: count(pending),
        untouched_actions: count(timeline.definition.actions.len().saturating_sub(touched)),
    }
}
