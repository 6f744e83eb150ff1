//! Rates that all servers share: a claim takes a token for each message that it is about to send, in its own transaction, and
//! puts off what gets none. So no tokens are taken for claims that don't commit, and nobody waits with a lease in hand.
//!
//! A message that is claimed and then given back has used its token all the same.

use chrono::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::facts::BatchFacts;
use super::tick::TickRequest;
use super::{Engine, EngineError};
use crate::domain::{
    Bucket, Channel, Decision, DeferReason, EmailAddress, ProgressId, Rate, RateLimits, Run, Timeline, Timestamp,
    Verdict,
};
use crate::store::Txn;

/// What has its token within this time is worth staying for, or within two of the longest interval between two tokens: a tick that
/// comes once an hour would find one token else, however many have waited for theirs.
const WORTH_STAYING: Duration = Duration::minutes(5);

/// The shortest and the longest that a tick rests before it looks for tokens again, in milliseconds.
const REST: std::ops::RangeInclusive<i64> = 1000..=30_000;

/// The tokens that a claim may take.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    limits: &'a RateLimits,
    buckets: BTreeMap<String, Bucket>,
    changed: BTreeSet<String>,
    now: Timestamp,
}

impl<'a> Tokens<'a> {
    /// The limited channels that have no token for a recipient, and until when an action of a run is put off for it.
    pub(super) fn missing(&self, run: ProgressId, email: Option<&EmailAddress>) -> BTreeMap<Channel, Timestamp> {
        if self.buckets.is_empty() {
            return BTreeMap::new();
        }
        let missing = Channel::ALL.into_iter().filter_map(|channel| {
            let empty = self.empty(channel, email);
            let untils = empty.map(|(_, rate, bucket)| bucket.until_for(run, rate, self.now));
            Some((channel, untils.max()?))
        });
        missing.collect()
    }

    /// Takes what a message needs. False: there is not enough.
    pub(super) fn take(&mut self, channel: Channel, email: Option<&EmailAddress>) -> bool {
        if self.empty(channel, email).next().is_some() {
            return false;
        }
        for (key, rate) in self.limits.of(channel, email) {
            if let Some(bucket) = self.buckets.get_mut(&key) {
                bucket.take(rate, self.now);
                self.changed.insert(key);
            }
        }
        true
    }

    /// A message is put off.
    pub(super) fn queue(&mut self, channel: Channel, email: Option<&EmailAddress>) {
        let empty: Vec<(String, Rate)> = self.empty(channel, email).map(|(key, rate, _)| (key, rate)).collect();
        for (key, rate) in empty {
            if let Some(bucket) = self.buckets.get_mut(&key) {
                bucket.queue(rate, self.now);
                self.changed.insert(key);
            }
        }
    }

    /// The buckets that a message needs and that are empty.
    fn empty(
        &self,
        channel: Channel,
        email: Option<&EmailAddress>,
    ) -> impl Iterator<Item = (String, Rate, Bucket)> + use<'_, 'a> {
        self.limits.of(channel, email).into_iter().filter_map(|(key, rate)| {
            let bucket = *self.buckets.get(&key)?;
            (!bucket.has_token(rate, self.now)).then_some((key, rate, bucket))
        })
    }

    /// Stores what was taken.
    pub(super) async fn store(&self, txn: &Txn) -> Result<(), EngineError> {
        let changed = self.buckets.iter().filter(|(key, _)| self.changed.contains(*key));
        Ok(txn.put_buckets(changed.map(|(key, bucket)| (key, *bucket))).await?)
    }
}

impl Engine {
    /// The tokens that there are for what these runs may send, locked. Nothing is asked where nothing is limited.
    pub(super) async fn tokens(
        &self,
        txn: &Txn,
        timeline: &Timeline,
        runs: &[Run],
        known: &BatchFacts,
        now: Timestamp,
    ) -> Result<Tokens<'_>, EngineError> {
        let limits = &self.settings.rates;
        let mut keys = BTreeSet::new();
        if !limits.is_empty() {
            let actions = timeline.definition.actions.iter();
            let channels: BTreeSet<Channel> = actions
                .filter(|action| action.definition.action_type.sends())
                .map(|action| action.definition.channel)
                .collect();
            for channel in channels {
                for run in runs {
                    let customer = known.customer(run).filter(|customer| !customer.is_test);
                    let email = customer.and_then(|customer| customer.email.as_ref());
                    keys.extend(limits.of(channel, email).into_iter().map(|(key, _)| key));
                }
            }
        }
        let buckets = if keys.is_empty() {
            BTreeMap::new()
        } else {
            txn.lock_buckets(keys.iter(), now).await?
        };
        Ok(Tokens {
            limits,
            buckets,
            changed: BTreeSet::new(),
            now,
        })
    }

    /// How long a tick rests before it goes on, as messages were put off for want of tokens that are there soon. None: there is
    /// nothing to stay for, or a clock that is wound by hand would stand still meanwhile.
    pub(super) async fn rest_for_tokens(
        &self,
        request: &TickRequest,
    ) -> Result<Option<std::time::Duration>, EngineError> {
        if self.settings.rates.is_empty() || !self.clock.is_real() {
            return Ok(None);
        }
        let reader = self.store.reader();
        let queued_until = reader.queued_until().await?;
        let now = self.clock.now();
        if queued_until.is_none_or(|until| until < now) {
            return Ok(None);
        }
        let wakes = reader.timeline_wakes(&request.timelines, request.buckets).await?;
        let soonest = wakes.iter().map(|wake| wake.earliest).min();
        let worth_staying = WORTH_STAYING.max(self.settings.rates.longest_interval() * 2);
        Ok(soonest.filter(|at| *at <= now + worth_staying).map(|at| {
            let rest = (at - now).num_milliseconds().clamp(*REST.start(), *REST.end());
            std::time::Duration::from_millis(rest.unsigned_abs())
        }))
    }
}

/// The channel of an action that was put off because its rate has no token.
pub(super) fn rate_limited(timeline: &Timeline, decision: &Decision) -> Option<Channel> {
    let is_limited = matches!(decision.verdict, Verdict::Deferred { reason, .. } if reason == DeferReason::RateLimited);
    let action = timeline.action(decision.action).filter(|_| is_limited);
    action.map(|action| action.definition.channel)
}
