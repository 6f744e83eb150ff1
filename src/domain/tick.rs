//! What a tick did, in numbers.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{Channel, Circuit, Moves, SendingHold, TickRunId, Timestamp};

/// Which of the two scheduled jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TickKind {
    /// The hourly one: executes what is due.
    Process,
    /// The daily one: advances days.
    Advance,
}

impl TickKind {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Advance => "advance",
        }
    }
}

/// What became of the actions of one channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChannelCounts {
    /// Carried out.
    pub completed: u64,
    /// Skipped, for whatever reason but being late.
    pub skipped: u64,
    /// Failed for good.
    pub failed: u64,
    /// Failed, to be tried again.
    pub retrying: u64,
    /// Perhaps delivered, and not tried again.
    pub unknown: u64,
    /// Too late.
    pub expired: u64,
    /// Put off.
    pub deferred: u64,
    /// In a dry run: would be sent.
    pub would_execute: u64,
}

/// What a tick has done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TickCounts {
    /// By channel.
    pub channels: BTreeMap<Channel, ChannelCounts>,
    /// Runs that moved to another day.
    pub advanced_runs: u64,
    /// Runs that were completed.
    pub completed_runs: u64,
    /// Days by which runs were shifted.
    pub shifted_days: u64,
    /// Messages that were claimed but not begun in time.
    pub handed_back: u64,
    /// Outcomes that could not be recorded, because somebody else had taken over; they are counted nowhere else.
    pub stale_completions: u64,
    /// Runs that could not be read or planned, and stay as they are.
    pub broken_runs: u64,
    /// Timelines that could not be read, whose runs stay as they are.
    pub broken_timelines: u64,
    /// Actions that sending holds put off; they are among the deferred ones.
    pub held: u64,
}

impl TickCounts {
    /// The counts of a channel.
    pub fn channel(&mut self, channel: Channel) -> &mut ChannelCounts {
        self.channels.entry(channel).or_default()
    }

    /// Adds how a run moved.
    pub fn add_moves(&mut self, moves: &Moves) {
        self.advanced_runs += u64::from(moves.advanced);
        self.completed_runs += u64::from(moves.completed);
        self.shifted_days += u64::from(moves.shifted_days.unsigned_abs());
    }
}

/// What a tick did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TickSummary {
    /// Which job.
    pub kind: TickKind,
    /// The caller's name for it, or ours.
    pub tick_id: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; none while it runs.
    pub finished_at: Option<Timestamp>,
    /// What it did.
    pub counts: TickCounts,
    /// Whether it stopped at a limit with more to do.
    pub has_more: bool,
    /// When the next action is due, as far as is planned.
    pub next_due_at: Option<Timestamp>,
    /// The oldest that was due at the end.
    pub oldest_due_at: Option<Timestamp>,
    /// Whether it changed nothing.
    pub dry_run: bool,
    /// The sending holds that were in force when it began or ended.
    pub sending_holds: Vec<SendingHold>,
    /// The circuits that were not closed when it began or ended.
    #[serde(default)]
    pub circuits: Vec<Circuit>,
}

/// Where a tick stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TickState {
    /// It has begun.
    Running,
    /// It ended.
    Finished,
    /// It broke off.
    Failed,
}

impl TickState {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }
}

/// A tick that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TickRun {
    /// Its id.
    pub id: TickRunId,
    /// Where it stands.
    pub state: TickState,
    /// What it did.
    pub summary: TickSummary,
    /// Why it broke off.
    pub error: Option<String>,
}
