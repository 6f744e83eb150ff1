//! Ticks.

use super::circuit::circuit;
use super::sending::hold;
use super::time::time;
use super::timeline::channel;
use crate::domain::{TickCounts, TickKind, TickRun, TickState, TickSummary, TimelineId};
use crate::engine::TickRequest;
use crate::proto::campaign::v1 as pb;
use crate::rpc::request::name;
use crate::rpc::violations::Violations;
use crate::store::Buckets;

const MAX_TIMELINES: usize = 1000;

/// What both tick requests have.
#[derive(Debug)]
pub(in crate::rpc) struct Given<'a> {
    pub(in crate::rpc) caller: &'a str,
    pub(in crate::rpc) tick_id: &'a str,
    pub(in crate::rpc) max_actions: i64,
    pub(in crate::rpc) partition: Option<pb::TickPartition>,
    pub(in crate::rpc) timeline_ids: &'a [i64],
    pub(in crate::rpc) dry_run: bool,
}

/// Parses a request for a tick.
pub(in crate::rpc) fn parse_tick(
    violations: &mut Violations,
    kind: TickKind,
    given: &Given<'_>,
) -> Option<TickRequest> {
    let tick_id = violations.optional("tick_id", given.tick_id, name);
    let max_actions = violations.within("max_actions", given.max_actions, 0, i64::MAX);
    let buckets = match given.partition {
        None => Some(Buckets::ALL),
        Some(partition) => parse_partition(violations, partition),
    };
    if given.timeline_ids.len() > MAX_TIMELINES {
        violations.add(
            "timeline_ids",
            format!("must be at most {MAX_TIMELINES}, but are {}", given.timeline_ids.len()),
        );
    }
    let ids = given.timeline_ids.iter().enumerate();
    let timelines: Vec<Option<i64>> = ids
        .map(|(at, id)| violations.id(format!("timeline_ids[{at}]"), *id))
        .collect();
    Some(TickRequest {
        kind,
        caller: given.caller.to_owned(),
        tick_id,
        max_actions: max_actions.map(i64::unsigned_abs).filter(|most| *most > 0),
        buckets: buckets?,
        timelines: timelines
            .into_iter()
            .map(|id| id.map(TimelineId))
            .collect::<Option<_>>()?,
        dry_run: given.dry_run,
    })
}

fn parse_partition(violations: &mut Violations, partition: pb::TickPartition) -> Option<Buckets> {
    let count = violations.within("partition.count", partition.count, 1, crate::domain::BUCKETS)?;
    let index = violations.within("partition.index", partition.index, 0, count - 1)?;
    Some(Buckets::part(index, count))
}

/// Counts as a message.
pub(in crate::rpc) fn counts(counts: &TickCounts) -> pb::TickCounts {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let channels = counts.channels.iter().map(|(name, counts)| pb::ChannelCounts {
        channel: channel(*name).into(),
        completed: number(counts.completed),
        skipped: number(counts.skipped),
        failed: number(counts.failed),
        retrying: number(counts.retrying),
        unknown: number(counts.unknown),
        expired: number(counts.expired),
        deferred: number(counts.deferred),
        would_execute: number(counts.would_execute),
    });
    pb::TickCounts {
        channels: channels.collect(),
        advanced_runs: number(counts.advanced_runs),
        completed_runs: number(counts.completed_runs),
        shifted_days: number(counts.shifted_days),
        handed_back: number(counts.handed_back),
        stale_completions: number(counts.stale_completions),
        broken_runs: number(counts.broken_runs),
        broken_timelines: number(counts.broken_timelines),
        held: number(counts.held),
    }
}

/// A kind as a message.
pub(in crate::rpc) fn kind(kind: TickKind) -> pb::TickKind {
    match kind {
        TickKind::Process => pb::TickKind::Process,
        TickKind::Advance => pb::TickKind::Advance,
    }
}

/// A summary as a message.
pub(in crate::rpc) fn summary(summary: &TickSummary) -> pb::TickSummary {
    pb::TickSummary {
        kind: kind(summary.kind).into(),
        tick_id: summary.tick_id.clone(),
        start_time: Some(time(summary.started_at)),
        end_time: summary.finished_at.map(time),
        counts: Some(counts(&summary.counts)),
        has_more: summary.has_more,
        next_due_time: summary.next_due_at.map(time),
        oldest_due_time: summary.oldest_due_at.map(time),
        dry_run: summary.dry_run,
        sending_holds: summary.sending_holds.iter().map(hold).collect(),
        circuits: summary.circuits.iter().map(circuit).collect(),
    }
}

/// A tick that ran, as a message.
pub(in crate::rpc) fn tick_run(run: &TickRun) -> pb::TickRun {
    let state = match run.state {
        TickState::Running => pb::TickState::Running,
        TickState::Finished => pb::TickState::Finished,
        TickState::Failed => pb::TickState::Failed,
    };
    pb::TickRun {
        tick_run_id: run.id.0,
        state: state.into(),
        summary: Some(summary(&run.summary)),
        error: run.error.clone().unwrap_or_default(),
    }
}
