//! What providers report of messages and calls that they took over: under which URLs, and what follows.
//!
//! A report may come before the attempt that it is about is recorded: while the provider is still answering, while its outcome
//! waits for others to be recorded with, or after the server that sent it died. Answering 503 would lose it, as Twilio repeats no
//! status callback of its own accord. So it is kept ([`crate::store::Txn::keep_report`]), and taken up by whoever records the
//! attempt, or else by the next tick. The same goes for one that changes what a run says while somebody holds the run.

use std::collections::HashMap;
use std::sync::Arc;

use super::flight::Flight;
use super::suppressions::address_of;
use super::tick::Limits;
use super::{Engine, EngineError, PublicUrl};
use crate::channels::{CallbackUrls, Content, Message};
use crate::domain::{
    ActionId, Address, AttemptKey, Channel, CustomerId, DeliveryReport, FailureReason, NewSuppression, PhoneNumber,
    ProgressId, Reported, Run, SuppressionReason, SuppressionScope, Timestamp, Told,
};
use crate::keys::{Keys, Purpose};
use crate::store::{Execution, ExecutionOutcome, ExecutionReason, StoreError, Txn};
use crate::telemetry::{RunStep, run_step};

/// The form of what is sealed in a token.
const FORM: u8 = 1;

/// How many kept reports a tick takes up in one go.
const BATCH: usize = 100;

/// A report, and whom it is about as far as it says so.
#[derive(Debug, Clone)]
pub struct ProviderReport {
    /// What is reported.
    pub report: DeliveryReport,
    /// Whether the recipient wants nothing more by this channel.
    pub is_stop: bool,
    /// The number that was written to or called; none: the customer's.
    pub to: Option<PhoneNumber>,
}

/// What a report did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It is stored.
    Stored,
    /// Nothing: it told nothing new.
    Known,
    /// It is kept until the run is given free.
    Kept,
    /// Nothing: the attempt is not there any more.
    Gone,
}

/// Under which URLs providers report, below `path` of the public URL. The URL is the key: it says which attempt the report is
/// about, and nobody else can make one.
pub fn callback_urls(public_url: &PublicUrl, keys: &Arc<Keys>, path: &'static str) -> CallbackUrls {
    let (public_url, keys) = (public_url.clone(), Arc::clone(keys));
    CallbackUrls::new(move |message: &Message| {
        let channel = match message.content {
            Content::Sms { .. } => Channel::Sms,
            Content::Call { .. } => Channel::Phone,
            Content::Email { .. } | Content::Task { .. } => return None,
        };
        let key = AttemptKey {
            customer_id: message.customer_id.clone(),
            progress_id: message.progress_id,
            action_id: message.action_id,
            attempt: message.attempt,
        };
        Some(public_url.join(path, &keys.seal(Purpose::Callback, &to_bytes(&key, channel))))
    })
}

fn to_bytes(key: &AttemptKey, channel: Channel) -> Vec<u8> {
    let mut bytes = vec![FORM, u8::from(channel == Channel::Phone)];
    bytes.extend(key.progress_id.0.to_be_bytes());
    bytes.extend(key.action_id.0.to_be_bytes());
    bytes.extend(key.attempt.to_be_bytes());
    bytes.extend(key.customer_id.as_str().as_bytes());
    bytes
}

fn from_bytes(bytes: &[u8]) -> Option<(AttemptKey, Channel)> {
    let (form, rest) = bytes.split_first()?;
    let (channel, rest) = rest.split_first()?;
    let channel = match channel {
        0 => Channel::Sms,
        1 => Channel::Phone,
        _ => return None,
    };
    let (run, rest) = rest.split_first_chunk()?;
    let (action, rest) = rest.split_first_chunk()?;
    let (attempt, customer) = rest.split_first_chunk()?;
    let customer = std::str::from_utf8(customer).ok()?;
    let key = AttemptKey {
        customer_id: CustomerId::parse(customer).ok()?,
        progress_id: ProgressId(i64::from_be_bytes(*run)),
        action_id: ActionId(i64::from_be_bytes(*action)),
        attempt: u32::from_be_bytes(*attempt),
    };
    (*form == FORM).then_some((key, channel))
}

impl Engine {
    /// Which attempt the token of a URL is about, and by which channel. None: this deployment did not make it.
    pub fn read_callback_token(&self, token: &str) -> Option<(AttemptKey, Channel)> {
        from_bytes(&self.keys.open(Purpose::Callback, token)?)
    }

    /// Takes up what a provider reports of an attempt. As often as it is told, and in whatever order, it comes to the same.
    pub async fn hear(&self, key: &AttemptKey, given: ProviderReport, channel: Channel) -> Result<Heard, EngineError> {
        let ProviderReport { report, is_stop, to } = given;
        if is_stop || report.state.is_stop() {
            self.suppress_reported(key, &report, to, channel).await?;
        }
        let (txn, now) = (self.store.begin().await?, self.clock.now());
        let heard = self.hear_in(&txn, key, report, now).await?;
        txn.commit().await?;
        if heard == Heard::Gone {
            tracing::info!(
                progress_id = key.progress_id.0,
                "run {}: a provider reported on an attempt that is not there any more",
                key.progress_id
            );
        }
        Ok(heard)
    }

    /// The same within a transaction.
    async fn hear_in(
        &self,
        txn: &Txn,
        key: &AttemptKey,
        report: DeliveryReport,
        now: Timestamp,
    ) -> Result<Heard, EngineError> {
        let Some(mut run) = txn.run_for_update(&key.customer_id, key.progress_id).await? else {
            return Ok(Heard::Gone);
        };
        let step = RunStep {
            name: "report",
            run: key.progress_id,
            action: Some((key.action_id, key.attempt)),
            channel: None,
        };
        let span = run_step(run.trace_parent.as_ref(), step);
        // Not its own word, which anybody may have chosen.
        let told = match report.state.status.told() {
            Told::TakenOver => "taken_over",
            Told::Failed => "failed",
        };
        span.record("outcome", told);
        let mut entries = txn
            .executions_of_action(&key.customer_id, key.progress_id, key.action_id)
            .await?;
        let Some(at) = entries.iter().position(|entry| entry.attempt == key.attempt) else {
            let in_flight = |one: &crate::domain::InFlight| (one.id, one.attempt) == (key.action_id, key.attempt);
            if run.in_flight.iter().any(in_flight) {
                return keep(txn, key, report).await;
            }
            return Ok(Heard::Gone);
        };
        let before = entries.clone();
        add(&mut entries[at], &report, now);
        settle_others(&mut entries);
        if entries == before {
            return Ok(Heard::Known);
        }
        let is_resolved = entries.iter().zip(&before).any(|(new, old)| new.outcome != old.outcome);
        if is_resolved && run.lease.is_some() {
            return keep(txn, key, report).await;
        }
        for (entry, _) in entries.iter().zip(&before).filter(|(new, old)| new != old) {
            txn.put_reported(entry).await?;
        }
        if is_resolved {
            if run.report(key.action_id, summary(&entries), now) {
                txn.put_reported_run(&run).await?;
            }
            log_resolved(&run, &entries[at]);
        }
        Ok(Heard::Stored)
    }

    /// Adds what was reported before an attempt was recorded to what is recorded of it now. What can't be told without looking at
    /// the run is left for [`Engine::hear_recorded`].
    pub(super) async fn reports_on(
        &self,
        txn: &Txn,
        runs: &[(&CustomerId, ProgressId)],
        executions: &mut [Execution],
        now: Timestamp,
    ) -> Result<HashMap<AttemptKey, DeliveryReport>, EngineError> {
        let mut kept: HashMap<_, _> = txn.kept_reports(runs).await?.into_iter().collect();
        if kept.is_empty() {
            return Ok(kept);
        }
        txn.forget_reports(runs).await?;
        for entry in executions.iter_mut().filter(|entry| !is_open(entry)) {
            if let Some(report) = kept.remove(&entry.key()) {
                add(entry, &report, now);
            }
        }
        Ok(kept)
    }

    /// Takes up what was left, when the runs are recorded. What is broken holds up nothing else.
    pub(super) async fn hear_recorded(
        &self,
        txn: &Txn,
        kept: HashMap<AttemptKey, DeliveryReport>,
        now: Timestamp,
    ) -> Result<(), EngineError> {
        for (key, report) in kept {
            match self.hear_in(txn, &key, report, now).await {
                Ok(_) => {}
                Err(EngineError::Store(error @ (StoreError::Corrupt { .. } | StoreError::BrokenRun(_)))) => {
                    tracing::error!(progress_id = key.progress_id.0, %error, "run {}: a provider's report can't be taken up: {error}", key.progress_id);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes up reports that were kept for runs which nobody holds any more. True: it stopped at a limit.
    pub(super) async fn settle_reports(&self, limits: &Limits, flight: &Flight) -> Result<bool, EngineError> {
        loop {
            let found = self.store.reader().forgotten_reports(BATCH).await?;
            let mut is_done = found.len() < BATCH;
            for (key, report) in &found {
                if limits.reached() {
                    return Ok(true);
                }
                let (txn, now) = (self.store.begin().await?, self.clock.now());
                match self.hear_in(&txn, key, report.clone(), now).await {
                    // Somebody holds the run again, and will find it.
                    Ok(Heard::Kept) => is_done = true,
                    Ok(Heard::Stored | Heard::Known | Heard::Gone) => txn.forget_report(key).await?,
                    Err(EngineError::Store(StoreError::BrokenRun(broken))) => {
                        flight.note_broken(&broken);
                        txn.forget_report(key).await?;
                    }
                    // It holds up nobody else.
                    Err(EngineError::Store(error @ StoreError::Corrupt { .. })) => {
                        tracing::error!(progress_id = key.progress_id.0, %error, "run {}: a provider's report can't be taken up: {error}", key.progress_id);
                        txn.forget_report(key).await?;
                    }
                    Err(error) => return Err(error),
                }
                txn.commit().await?;
            }
            if is_done {
                return Ok(false);
            }
        }
    }

    /// Suppresses whom a message was to, unless the report came before: it may have been lifted since.
    async fn suppress_reported(
        &self,
        key: &AttemptKey,
        report: &DeliveryReport,
        to: Option<PhoneNumber>,
        channel: Channel,
    ) -> Result<(), EngineError> {
        let reader = self.store.reader();
        let entries = reader
            .executions_of_action(&key.customer_id, key.progress_id, key.action_id)
            .await?;
        let known = entries.iter().find(|entry| entry.attempt == key.attempt);
        let known = known.and_then(|entry| entry.provider_state.as_ref());
        if known.is_some_and(|known| known.status == report.state.status && known.error_code == report.state.error_code)
        {
            return Ok(());
        }
        let address = if let Some(number) = to {
            Some(Address::Phone(number))
        } else {
            let customer = reader.customer(&key.customer_id).await?;
            customer.and_then(|customer| address_of(&customer, channel))
        };
        let Some(address) = address else {
            return Ok(());
        };
        let new = NewSuppression {
            channel,
            address_hash: self.address_hash(&address),
            scope: SuppressionScope::All,
            reason: SuppressionReason::of_refusal(channel),
            detail: "the provider reported that the recipient wants no more".to_owned(),
        };
        self.suppress(&new).await?;
        Ok(())
    }
}

async fn keep(txn: &Txn, key: &AttemptKey, report: DeliveryReport) -> Result<Heard, EngineError> {
    let kept = txn.kept_reports(&[(&key.customer_id, key.progress_id)]).await?;
    let known = kept.into_iter().find(|(of, _)| of == key).map(|(_, report)| report);
    let all = known.map_or(report.clone(), |known| known.and(report));
    txn.keep_report(key, &all).await?;
    Ok(Heard::Kept)
}

/// Whether a report tells what came of an attempt: nobody knew, or only reports told.
fn is_open(entry: &Execution) -> bool {
    entry.resolved_at.is_some() || is_unknown(entry)
}

fn is_unknown(entry: &Execution) -> bool {
    entry.outcome == ExecutionOutcome::Unknown
        && entry.reason == Some(ExecutionReason::Failure(FailureReason::OutcomeUnknown))
}

/// Adds a report to what is known of an attempt. One that was handed over stays so, whatever becomes of it.
fn add(entry: &mut Execution, report: &DeliveryReport, now: Timestamp) {
    let state = match entry.provider_state.take() {
        Some(known) => known.and(report.state.clone()),
        None => report.state.clone(),
    };
    if entry.provider_id.is_none() {
        entry.provider_id.clone_from(&report.provider_id);
    }
    if is_open(entry) {
        entry.resolved_at.get_or_insert(now);
        (entry.outcome, entry.reason, entry.detail) = match state.status.told() {
            Told::TakenOver => (ExecutionOutcome::Completed, None, None),
            Told::Failed => {
                let code = state.error_code.as_ref().map(|code| format!(", error {code}"));
                let error = format!("{}{}", state.status.as_str(), code.unwrap_or_default());
                let reason = if state.is_stop() {
                    FailureReason::Suppressed
                } else {
                    FailureReason::Rejected
                };
                let reason = Some(ExecutionReason::Failure(reason));
                (
                    ExecutionOutcome::Failed,
                    reason,
                    Some(format!("the provider reports: {error}")),
                )
            }
        };
    }
    entry.provider_state = Some(state);
}

/// What failed was recorded as unknown where an earlier attempt may have arrived. When all is known of those, it failed.
fn settle_others(entries: &mut [Execution]) {
    if entries.iter().any(is_unknown) {
        return;
    }
    for entry in entries
        .iter_mut()
        .filter(|entry| entry.outcome == ExecutionOutcome::Unknown)
    {
        entry.outcome = ExecutionOutcome::Failed;
    }
}

/// What all attempts at an action come to.
fn summary(entries: &[Execution]) -> Reported {
    if entries.iter().any(|entry| entry.outcome == ExecutionOutcome::Completed) {
        return Reported::Completed;
    }
    let last = entries.last().filter(|_| !entries.iter().any(is_unknown));
    match last {
        Some(last) => Reported::Failed {
            attempts: last.attempt,
            reason: match last.reason {
                Some(ExecutionReason::Failure(reason)) => reason,
                Some(ExecutionReason::Skip(_) | ExecutionReason::Task(_)) | None => FailureReason::Rejected,
            },
            error: last.detail.clone().unwrap_or_default(),
            due: last.due_at,
            at: last.finished_at,
        },
        None => Reported::Unknown,
    }
}

fn log_resolved(run: &Run, entry: &Execution) {
    tracing::info!(
        progress_id = run.id.0,
        "run {}: attempt {} at action {} is {}, as its provider reports",
        run.id,
        entry.attempt,
        entry.action_id,
        entry.outcome.as_str()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_says_is_read_as_it_was_written() {
        let key = AttemptKey {
            customer_id: CustomerId::parse("crm:anna@1").expect("an id"),
            progress_id: ProgressId(i64::MAX),
            action_id: ActionId(7),
            attempt: u32::MAX,
        };
        for channel in [Channel::Sms, Channel::Phone] {
            assert_eq!(from_bytes(&to_bytes(&key, channel)), Some((key.clone(), channel)));
        }
        let written = to_bytes(&key, Channel::Sms);
        assert_eq!(from_bytes(&[&[FORM, 2], &written[2..]].concat()), None);
        assert_eq!(from_bytes(&written[1..]), None);
        assert_eq!(from_bytes(&[&[2], &written[1..]].concat()), None);
        assert_eq!(from_bytes(&[&written[..], &[0xFF]].concat()), None);
        for short in 0..=22 {
            assert_eq!(from_bytes(&written[..short]), None, "{short}");
        }
    }
}
