//! Starts of runs.

use tonic::Status;

use super::progress::zone_source;
use super::time::{date, time};
use crate::domain::{CustomerId, FirstDay, MAX_DURATION_DAYS, TimelineId, TraceParent, plan};
use crate::engine::{RunView, StartRun, Started};
use crate::proto::campaign::v1 as pb;
use crate::rpc::customers::item_status;
use crate::rpc::error::status_of;
use crate::rpc::violations::Violations;

/// The start that a request of its own is about.
pub(in crate::rpc) fn alone(request: &pb::StartTimelineRequest) -> pb::TimelineStart {
    pb::TimelineStart {
        customer_id: request.customer_id.clone(),
        timeline_id: request.timeline_id,
        first_day: request.first_day,
        start_day: request.start_day,
        allow_restart: request.allow_restart,
    }
}

/// Parses a start, which stands at this place of a batch, or alone, and is part of a trace.
pub(in crate::rpc) fn parse_start(
    violations: &mut Violations,
    position: Option<usize>,
    given: &pb::TimelineStart,
    trace_parent: Option<&TraceParent>,
) -> Option<StartRun> {
    let path = |field: &str| position.map_or_else(|| field.to_owned(), |at| format!("starts[{at}].{field}"));
    let customer = violations.check(path("customer_id"), CustomerId::parse(&given.customer_id));
    let timeline = violations.id(path("timeline_id"), given.timeline_id);
    let first_day = parse_first_day(violations, path("first_day"), given.first_day);
    let start_day = match given.start_day {
        0 => Some(1),
        day => violations.within(path("start_day"), day, 1, MAX_DURATION_DAYS),
    };
    Some(StartRun {
        position,
        customer: customer?,
        timeline: TimelineId(timeline?),
        first_day: first_day?,
        start_day: start_day?,
        allow_restart: given.allow_restart,
        trace_parent: trace_parent.cloned(),
    })
}

/// Parses what becomes of hours that have passed.
pub(super) fn parse_first_day(violations: &mut Violations, path: String, given: i32) -> Option<FirstDay> {
    let first_days = "FIRST_DAY_SEND_PASSED, FIRST_DAY_SKIP_PASSED, FIRST_DAY_NEXT_DAY, or not set";
    match given {
        0 => Some(FirstDay::SendPassed),
        number => violations
            .known(path, number, first_days)
            .map(|first_day| match first_day {
                pb::FirstDay::Unspecified | pb::FirstDay::SendPassed => FirstDay::SendPassed,
                pb::FirstDay::SkipPassed => FirstDay::SkipPassed,
                pb::FirstDay::NextDay => FirstDay::NextDay,
            }),
    }
}

/// The good starts of a batch, and for each of all the error that refuses it, if any.
pub(in crate::rpc) fn parse_starts(
    given: &[pb::TimelineStart],
    trace_parent: Option<&TraceParent>,
) -> (Vec<StartRun>, Vec<Option<Status>>) {
    let mut commands = Vec::with_capacity(given.len());
    let refused = given.iter().enumerate().map(|(at, start)| {
        let mut violations = Violations::default();
        let parsed = parse_start(&mut violations, Some(at), start, trace_parent);
        violations.finish(parsed).map(|command| commands.push(command)).err()
    });
    let refused = refused.collect();
    (commands, refused)
}

/// The results of all starts: those that were refused, and what came of the others in between.
pub(in crate::rpc) fn results(refused: &[Option<Status>], started: &Started) -> Vec<pb::StartTimelinesResult> {
    use pb::start_timelines_result::Result as Item;
    let mut started = started.iter();
    let error = |status: &Status| Some(Item::Error(item_status(status)));
    let result = |refused: &Option<Status>| {
        let result = match refused {
            Some(status) => error(status),
            None => started.next().and_then(|started| match started {
                Ok(view) => Some(Item::Run(started_run(view))),
                Err(refused) => error(&status_of(refused)),
            }),
        };
        pb::StartTimelinesResult { result }
    };
    refused.iter().map(result).collect()
}

fn started_run(view: &RunView) -> pb::StartedRun {
    let RunView { run, timeline, now, .. } = view;
    pb::StartedRun {
        progress_id: run.id.0,
        current_day: run.current_day,
        day_date: Some(date(run.day_date)),
        time_zone: run.zone.tz.name().to_owned(),
        time_zone_source: zone_source(run.zone).into(),
        next_due_time: plan::next_action(timeline, run, *now).map(|(_, due)| time(due)),
        skipped_actions: i32::try_from(run.skipped.len()).unwrap_or(i32::MAX),
    }
}
