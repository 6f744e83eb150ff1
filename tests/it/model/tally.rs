//! What ticks should have counted.

use campaign_automation::proto::campaign::v1 as pb;
use pb::SkipReason;
use std::collections::BTreeMap;

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
}

impl Tally {
    pub(super) fn count(&mut self, side: &Side, key: usize, what: What) {
        let act = side.acts.get(&key).map(|(_, act)| act).or(side.removed.get(&key));
        let channel = act.map_or(pb::Channel::Unspecified, |act| channel_of(act.kind));
        let counts = self.channels.entry(channel.into()).or_default();
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

    pub(super) fn add(&mut self, other: &Self) {
        for (channel, counts) in &other.channels {
            let sum = self.channels.entry(*channel).or_default();
            for (sum, count) in sum.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        self.advanced_runs += other.advanced_runs;
        self.advanced_days += other.advanced_days;
        self.completed_runs += other.completed_runs;
        self.shifted_days += other.shifted_days;
    }
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
