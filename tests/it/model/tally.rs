//! What ticks should have counted.

use campaign_automation::proto::campaign::v1 as pb;
use pb::SkipReason;
use std::collections::{BTreeMap, BTreeSet};

use super::script::Kind;
use super::seen::What;
use super::side::Side;

/// What a tick should have counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// By channel: completed, skipped, failed, retrying, unknown, expired, deferred.
    pub channels: BTreeMap<i32, [i64; 7]>,
    pub advanced_runs: i64,
    pub advanced_days: i64,
    pub completed_runs: i64,
    pub shifted_days: i64,
    /// What sending holds put off.
    pub held: i64,
    /// What was perhaps put off once more, by channel: it waits, and was looked at with something that a hold had put off.
    pub perhaps_deferred: BTreeMap<i32, i64>,
}

impl Tally {
    pub(super) fn count(&mut self, side: &Side, key: usize, what: What) {
        self.held += i64::from(matches!(what, What::Deferred(_, pb::DeferReason::SendingHeld)));
        let counts = self.channels.entry(channel(side, key)).or_default();
        let place = match what {
            What::Completed => 0,
            What::Skipped(SkipReason::Expired) => 5,
            What::Skipped(_) => 1,
            What::Failed(_) => 2,
            What::Retrying(..) => 3,
            What::Unknown => 4,
            What::Deferred(..) => 6,
            What::InFlight => return,
        };
        counts[place] += 1;
    }

    /// Counts what was given its turn, and perhaps put off once more.
    pub(super) fn count_turn(&mut self, side: &Side, key: usize, what: What) {
        if matches!(what, What::Deferred(_, pb::DeferReason::WaitingForAction)) {
            *self.perhaps_deferred.entry(channel(side, key)).or_default() += 1;
        }
    }

    /// Whether these are the same counts by channel, but for what was perhaps deferred.
    pub(super) fn is_counted_as(&self, channels: &BTreeMap<i32, [i64; 7]>) -> bool {
        let names: BTreeSet<i32> = self.channels.keys().chain(channels.keys()).copied().collect();
        names.into_iter().all(|name| {
            let [ours, theirs] =
                [&self.channels, channels].map(|counts| counts.get(&name).copied().unwrap_or_default());
            let perhaps = self.perhaps_deferred.get(&name).copied().unwrap_or_default();
            ours[..6] == theirs[..6] && (ours[6]..=ours[6] + perhaps).contains(&theirs[6])
        })
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (channel, counts) in &other.channels {
            let sum = self.channels.entry(*channel).or_default();
            for (sum, count) in sum.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        for (channel, count) in &other.perhaps_deferred {
            *self.perhaps_deferred.entry(*channel).or_default() += count;
        }
        self.held += other.held;
        self.advanced_runs += other.advanced_runs;
        self.advanced_days += other.advanced_days;
        self.completed_runs += other.completed_runs;
        self.shifted_days += other.shifted_days;
    }
}

fn channel(side: &Side, key: usize) -> i32 {
    let act = side.acts.get(&key).map(|(_, act)| act).or(side.removed.get(&key));
    act.map_or(pb::Channel::Unspecified, |act| channel_of(act.kind)).into()
}

pub(super) fn channel_of(kind: Kind) -> pb::Channel {
    match kind {
        Kind::Email => pb::Channel::Email,
        Kind::Sms => pb::Channel::Sms,
        Kind::Call => pb::Channel::Phone,
        Kind::Task => pb::Channel::Interaction,
        Kind::Wait | Kind::Gate => pb::Channel::Wait,
    }
}
