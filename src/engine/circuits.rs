//! The circuits of the channels, as this server sees them: what it may send, which message is the probe, and what came of it.
//!
//! They are stored, so that a channel that one server finds broken is left alone by all, and that one of them probes it. What
//! a server finds out itself it goes by at once; of the others it hears within a second of its next claim. Failures in a row
//! are counted by each server for itself, as nobody writes to the database for a message that went.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::lanes::Seat;
use super::once::Begin;
use super::sending::OVERTIME;
use super::{Answer, Engine, EngineError, Once};
use crate::domain::{
    Channel, ChannelHealth, ChannelStop, Circuit, CircuitCause, CircuitPolicy, CircuitState, Timestamp,
};
use crate::store::{Reader, Txn};

/// How long what was read is good for.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// How long claims wait for a probe that is under way. Then they put off what is due.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often a change is tried when others change the same circuit.
const TRIES: usize = 5;

/// The circuits as this server knows them.
#[derive(Debug)]
pub(super) struct Circuits {
    policy: CircuitPolicy,
    known: Mutex<Known>,
    /// One reads for all.
    reading: tokio::sync::Mutex<()>,
    /// Told when one opens or closes.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    /// From when on changes may be missing; none: they are to be read anew.
    read_at: Option<Instant>,
    channels: BTreeMap<Channel, Seen>,
}

#[derive(Debug)]
struct Seen {
    circuit: Circuit,
    /// Failures in a row that this server saw.
    failures: u32,
    /// Since when a probe is prepared or under way, here or elsewhere.
    probing: Option<Instant>,
    /// Since when it may not be what is stored. It is gone by until that is read, so that nothing goes meanwhile that should not.
    doubted: Option<Instant>,
}

/// Whether a message of a channel may be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// It may.
    Free,
    /// It may, as the probe.
    Probe,
    /// Not before it is known what came of the probe.
    Wait,
}

impl Circuits {
    pub(super) fn new(policy: CircuitPolicy) -> Self {
        Self {
            policy,
            known: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The channels of which nothing is claimed at `now`, and until when.
    pub(super) fn stopped(&self, now: Timestamp) -> BTreeMap<Channel, ChannelStop> {
        let known = self.known();
        let stopped = known.channels.iter().filter_map(|(channel, seen)| {
            let is_awaited = seen.circuit.state == CircuitState::HalfOpen && seen.is_probing();
            let stop = seen.circuit.stop(now).filter(|_| !is_awaited)?;
            Some((*channel, stop))
        });
        stopped.collect()
    }

    /// The circuits that are not closed.
    pub(super) fn not_closed(&self) -> Vec<Circuit> {
        let known = self.known();
        let circuits = known.channels.values().map(|seen| &seen.circuit);
        circuits.filter(|circuit| !circuit.is_closed()).cloned().collect()
    }

    /// The circuits that somebody closed by hand, and whose runs are to be woken.
    pub(super) fn reset_by_hand(&self) -> Vec<Circuit> {
        let known = self.known();
        let circuits = known.channels.values().map(|seen| &seen.circuit);
        circuits.filter(|circuit| circuit.release.is_some()).cloned().collect()
    }

    /// Whether a message may be claimed. One that is to be the probe is waited for from now on.
    pub(super) fn enter(&self, channel: Channel, now: Timestamp) -> Entry {
        let mut known = self.known();
        let Some(seen) = known.channels.get_mut(&channel) else {
            return Entry::Free;
        };
        if seen.circuit.is_closed() {
            Entry::Free
        } else if seen.circuit.is_probe_due(now) && !seen.is_probing() {
            seen.probing = Some(Instant::now());
            Entry::Probe
        } else {
            Entry::Wait
        }
    }

    /// Nothing came of a claim that was to send the probe. One that is under way since is still waited for.
    fn forget_probe(&self, channel: Channel) {
        let mut known = self.known();
        known.doubt(channel);
        if let Some(seen) = known.channels.get_mut(&channel) {
            seen.probing = seen.probing.filter(|_| seen.circuit.state == CircuitState::HalfOpen);
        }
    }

    /// Until when a message that was claimed is put off, as its channel was found to be broken since.
    pub(super) fn stopped_until(&self, channel: Channel, now: Timestamp) -> Option<Timestamp> {
        let known = self.known();
        let circuit = &known.channels.get(&channel)?.circuit;
        (!circuit.is_closed()).then(|| circuit.probe_at.map_or(now, |at| at.max(now)))
    }

    fn circuit(&self, channel: Channel) -> Circuit {
        let known = self.known();
        let seen = known.channels.get(&channel);
        seen.map_or_else(|| Circuit::new(channel), |seen| seen.circuit.clone())
    }

    /// Keeps a circuit as it is now, and logs what is new.
    fn note(&self, circuit: Circuit) {
        self.known().note(circuit);
        self.changed.notify_one();
    }

    /// Notes what came of a message that was no probe, and says whether the circuit opens by it.
    fn judge(&self, channel: Channel, health: ChannelHealth) -> bool {
        let mut known = self.known();
        let seen = known.channels.entry(channel).or_insert_with(|| Seen::new(channel));
        if !seen.circuit.is_closed() {
            return false;
        }
        match health {
            ChannelHealth::Answered => {
                seen.failures = 0;
                false
            }
            ChannelHealth::Failed => {
                seen.failures = seen.failures.saturating_add(1);
                self.policy.failures > 0 && seen.failures >= self.policy.failures
            }
            ChannelHealth::Misconfigured => true,
        }
    }
}

impl Known {
    fn note(&mut self, circuit: Circuit) {
        let seen = self
            .channels
            .entry(circuit.channel)
            .or_insert_with(|| Seen::new(circuit.channel));
        if circuit.revision >= seen.circuit.revision {
            seen.take(circuit);
        }
    }

    /// What is known of a channel may not be what is stored, which is to be read anew.
    fn doubt(&mut self, channel: Channel) {
        self.read_at = None;
        if let Some(seen) = self.channels.get_mut(&channel) {
            seen.doubted = Some(Instant::now());
        }
    }

    /// Keeps what a read that began at an instant has found, and instead of what was doubted by then.
    fn read(&mut self, circuits: Vec<Circuit>, begun: Instant) {
        let mut stored: BTreeMap<Channel, Circuit> = BTreeMap::new();
        stored.extend(circuits.into_iter().map(|circuit| (circuit.channel, circuit)));
        for (channel, seen) in &mut self.channels {
            if seen.doubted.is_some_and(|since| since <= begun) {
                seen.doubted = None;
                seen.take(stored.remove(channel).unwrap_or_else(|| Circuit::new(*channel)));
            }
        }
        for circuit in stored.into_values() {
            self.note(circuit);
        }
        let has_doubts = self.channels.values().any(|seen| seen.doubted.is_some());
        self.read_at = (!has_doubts).then_some(begun);
    }
}

impl Seen {
    fn new(channel: Channel) -> Self {
        Self {
            circuit: Circuit::new(channel),
            failures: 0,
            probing: None,
            doubted: None,
        }
    }

    fn take(&mut self, circuit: Circuit) {
        if (circuit.revision, circuit.state) != (self.circuit.revision, self.circuit.state) {
            told(&self.circuit, &circuit);
            self.probing = (circuit.state == CircuitState::HalfOpen).then(Instant::now);
        } else if !self.is_probing() {
            // A claim that was to send the probe came to nothing.
            self.probing = self.probing.filter(|_| circuit.state == CircuitState::HalfOpen);
        }
        if self.circuit.is_closed() != circuit.is_closed() {
            self.failures = 0;
        }
        self.circuit = circuit;
    }

    fn is_probing(&self) -> bool {
        self.probing.is_some_and(|since| since.elapsed() < PATIENCE)
    }
}

/// Logs how a circuit changed.
fn told(before: &Circuit, after: &Circuit) {
    let (channel, reason) = (after.channel.as_str(), &after.reason);
    match after.state {
        CircuitState::Open => {
            let until = after.probe_at.map(|at| at.to_rfc3339()).unwrap_or_default();
            tracing::error!(channel, %reason, until, "channel {channel} is stopped until {until}: {reason}");
        }
        CircuitState::HalfOpen => tracing::info!(channel, "channel {channel} is probed with one message"),
        CircuitState::Closed if before.is_closed() => {}
        CircuitState::Closed => tracing::warn!(channel, "channel {channel} is no longer stopped: {reason}"),
    }
}

impl Engine {
    /// Room for a message, if there is any. No provider's trouble holds up the test outbox.
    pub(super) fn seat(&self, is_test: bool, channel: Channel, now: Timestamp) -> Option<Seat> {
        let room = self.lanes.to(is_test, channel)?.reserve()?;
        if is_test {
            return Some(Seat { room, is_probe: false });
        }
        match self.circuits.enter(channel, now) {
            Entry::Free => Some(Seat { room, is_probe: false }),
            Entry::Probe => Some(Seat { room, is_probe: true }),
            Entry::Wait => None,
        }
    }

    /// Sees to it that the circuits are known as they were a second ago at most.
    pub(super) async fn see_circuits(&self) -> Result<(), EngineError> {
        let is_good = || {
            let read_at = self.circuits.known().read_at;
            read_at.is_some_and(|at| at.elapsed() < GOOD_FOR)
        };
        if is_good() {
            return Ok(());
        }
        let _reading = self.circuits.reading.lock().await;
        if is_good() {
            return Ok(());
        }
        self.read_circuits().await
    }

    /// Waits until a circuit opens or closes here.
    pub async fn circuits_changed(&self) {
        self.circuits.changed.notified().await;
    }

    /// Reads the circuits.
    pub(super) async fn read_circuits(&self) -> Result<(), EngineError> {
        self.read_circuits_by(&self.store.reader()).await
    }

    async fn read_circuits_by(&self, reader: &Reader) -> Result<(), EngineError> {
        let read_at = Instant::now();
        let circuits = reader.circuits().await?;
        self.circuits.known().read(circuits, read_at);
        Ok(())
    }

    /// The circuits that are not closed, as they were a second ago at most.
    pub async fn open_circuits(&self) -> Result<Vec<Circuit>, EngineError> {
        self.see_circuits().await?;
        Ok(self.circuits.not_closed())
    }

    /// The same as they are now, for whoever watches the server: not among the statements that are counted.
    pub async fn watch_circuits(&self) -> Result<Vec<Circuit>, EngineError> {
        self.read_circuits_by(&self.store.surveyor()).await?;
        Ok(self.circuits.not_closed())
    }

    /// Stores, in the transaction of a claim, that it sends the probes of channels. False: somebody else does.
    pub(super) async fn begin_probes(
        &self,
        txn: &Txn,
        channels: &[Channel],
        now: Timestamp,
    ) -> Result<Option<Vec<Circuit>>, EngineError> {
        let most = std::time::Duration::from_secs(2) + OVERTIME;
        let most = chrono::Duration::from_std(most).unwrap_or_default() + self.settings.send_timeout;
        let mut begun = Vec::with_capacity(channels.len());
        for channel in channels {
            let probing = self.circuits.circuit(*channel).probing(now + most, now);
            if !txn.put_circuit(&probing).await? {
                return Ok(None);
            }
            begun.push(probing);
        }
        Ok(Some(begun))
    }

    /// The claim that sends probes is committed.
    pub(super) fn probes_begun(&self, begun: Vec<Circuit>) {
        for circuit in begun {
            self.circuits.note(circuit);
        }
    }

    /// The claim that was to send probes came to nothing.
    pub(super) fn probes_dropped(&self, channels: &[Channel]) {
        for channel in channels {
            self.circuits.forget_probe(*channel);
        }
    }

    /// Notes what came of a message, and says until when its channel is stopped if it is misconfigured. A circuit that can't be
    /// stored is one of this server alone until it can be read again.
    pub(super) async fn note_health(
        &self,
        channel: Channel,
        is_probe: bool,
        health: ChannelHealth,
        what: &str,
    ) -> Option<Timestamp> {
        let now = self.clock.now();
        let policy = self.circuits.policy;
        if is_probe {
            self.change_rarely(channel, |circuit| {
                let is_half_open = circuit.state == CircuitState::HalfOpen;
                is_half_open.then(|| circuit.probed(health, what, &policy, now))
            })
            .await;
        } else if self.circuits.judge(channel, health) {
            let (cause, reason) = match health {
                ChannelHealth::Answered | ChannelHealth::Misconfigured => {
                    (CircuitCause::Misconfigured, what.to_owned())
                }
                ChannelHealth::Failed => {
                    let reason = format!("{} failures in a row, the last: {what}", policy.failures);
                    (CircuitCause::Failures, reason)
                }
            };
            self.change_rarely(channel, |circuit| {
                circuit
                    .is_closed()
                    .then(|| circuit.opened(cause, &reason, &policy, now))
            })
            .await;
        }
        match health {
            ChannelHealth::Answered | ChannelHealth::Failed => None,
            ChannelHealth::Misconfigured => {
                let until = self.circuits.stopped_until(channel, now);
                Some(until.unwrap_or(now + policy.pause))
            }
        }
    }

    /// A probe was not sent, or says nothing about the channel: another may go.
    pub(super) async fn return_probe(&self, channel: Channel) {
        let now = self.clock.now();
        let is_half_open = |circuit: &Circuit| circuit.state == CircuitState::HalfOpen;
        self.change_rarely(channel, |circuit| is_half_open(circuit).then(|| circuit.unprobed(now)))
            .await;
    }

    /// As [`Self::change_circuit`], in a box of its own: each message has room for it, and hardly one needs it.
    fn change_rarely<'a>(
        &'a self,
        channel: Channel,
        change: impl Fn(&Circuit) -> Option<Circuit> + Send + 'a,
    ) -> BoxFuture<'a, ()> {
        self.change_circuit(channel, change).boxed()
    }

    /// Changes a circuit here and in the database, unless there is nothing to change in it.
    async fn change_circuit(&self, channel: Channel, change: impl Fn(&Circuit) -> Option<Circuit>) {
        for _ in 0..TRIES {
            let Some(changed) = change(&self.circuits.circuit(channel)) else {
                return;
            };
            // At once, so that nothing else of the channel begins meanwhile.
            self.circuits.note(changed.clone());
            match self.store_circuit(&changed).await {
                Ok(true) => return,
                Ok(false) => {
                    self.circuits.known().doubt(channel);
                    if let Err(error) = self.read_circuits().await {
                        tracing::warn!(%error, channel = channel.as_str(), "the circuits can't be read");
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, channel = channel.as_str(), "the circuit of channel {} can't be stored", channel.as_str());
                    return;
                }
            }
        }
    }

    async fn store_circuit(&self, changed: &Circuit) -> Result<bool, EngineError> {
        let txn = self.store.begin().await?;
        let is_stored = txn.put_circuit(changed).await?;
        txn.commit().await?;
        Ok(is_stored)
    }

    /// Closes a circuit, because its cause is mended. One that is closed stays as it is.
    pub async fn reset_circuit(
        &self,
        channel: Channel,
        reason: &str,
        once: Once<'_, Circuit>,
    ) -> Result<Answer<Circuit>, EngineError> {
        let operation = match self.begin_once(once).await? {
            Begin::Do(operation) => operation,
            Begin::Repeat(response) => return Ok(Answer::Repeated(response)),
        };
        let (txn, now) = (&operation.txn, operation.now);
        let stored = txn.circuits().await?;
        let stored = stored.into_iter().find(|circuit| circuit.channel == channel);
        let circuit = stored.unwrap_or_else(|| Circuit::new(channel));
        let closed = if circuit.is_closed() {
            circuit
        } else {
            let closed = circuit.reset(reason, now);
            if !txn.put_circuit(&closed).await? {
                return Err(EngineError::Concurrent);
            }
            closed
        };
        let answer = operation.finish(closed.clone()).await?;
        self.circuits.note(closed);
        Ok(answer)
    }
}

/// The circuits that were not closed at one of two times, each once, as they were last.
pub(super) fn circuits_at_either(began: Vec<Circuit>, ended: Vec<Circuit>) -> Vec<Circuit> {
    let mut circuits: BTreeMap<Channel, Circuit> = BTreeMap::new();
    circuits.extend(began.into_iter().chain(ended).map(|circuit| (circuit.channel, circuit)));
    circuits.into_values().collect()
}

#[cfg(test)]
mod tests;
