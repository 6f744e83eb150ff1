//! Carrying out what was claimed for one run: its messages one after the other, in order.

use futures::FutureExt as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::Instrument as _;
use uuid::Uuid;

use super::Engine;
use super::cache::Campaigns;
use super::claim::Term;
use super::content::{Written, campaign_of};
use super::lanes::{START_WITHIN, Seat};
use super::leases::Hold;
use crate::channels::{Content, MailOptions, Message, Outcome, Rendered};
use crate::domain::{
    Action, ActionId, Attempted, Channel, ChannelHealth, Customer, CustomerHours, CustomerId, FailureReason,
    FailureState, InFlight, NewSuppression, ProgressId, Run, SmsLength, Timeline, Timestamp, Whereabouts, plan,
};
use crate::failpoint::{Failpoint, reach};
use crate::store::{Before, Completion, Execution, ExecutionOutcome, ExecutionReason};
use crate::telemetry::{RunStep, run_step};

/// How much longer than the send time-out an attempt is waited for. A sender ends in time by itself, and then says how far
/// it got; this is for one that does not.
pub(super) const OVERTIME: Duration = Duration::from_secs(1);

/// A run that is claimed, with all that is needed to serve it.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) before: Before,
    pub(super) token: i64,
    /// It is held, and its lease prolonged, until it is recorded.
    pub(super) hold: Hold,
    pub(super) run: Run,
    pub(super) timeline: Arc<Timeline>,
    pub(super) customer: Option<Arc<Customer>>,
    pub(super) campaigns: Campaigns,
    /// Room for each message, in order.
    pub(super) rooms: Vec<Seat>,
    /// By when messages begin.
    pub(super) term: Term,
}

/// A run that was served, to be recorded.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) completion: Completion,
    /// It is held until it is recorded.
    pub(super) hold: Hold,
    pub(super) executions: Vec<Execution>,
    /// How it moved.
    pub(super) moves: crate::domain::Moves,
    /// How many messages were not begun in time.
    pub(super) handed_back: u64,
    /// The channels of messages that were put off, as their channel was found to be stopped.
    pub(super) put_off: Vec<Channel>,
    /// Addresses to which their providers deliver nothing any more.
    pub(super) suppress: Vec<NewSuppression>,
    /// Whether it is of a test customer, which is not counted.
    pub(super) is_test: bool,
    /// Permits that are held until it is recorded.
    pub(super) permits: Vec<OwnedSemaphorePermit>,
}

impl Served {
    /// Whose run it is, and which.
    pub(super) fn run(&self) -> (&CustomerId, ProgressId) {
        (&self.completion.run.customer_id, self.completion.run.id)
    }

    /// Whether its provider may have reported on it while the run was held. Of mail, which is most, none does.
    pub(super) fn may_be_reported(&self) -> bool {
        let of_channel = self.executions.iter().any(|execution| match execution.channel {
            Channel::Sms | Channel::Phone => true,
            Channel::Email | Channel::Wait | Channel::Interaction => false,
        });
        let run = &self.completion.run;
        of_channel
            || run.failed.iter().any(|failed| failed.may_have_arrived)
            || run.deferred.iter().any(|deferred| deferred.may_have_arrived)
    }
}

/// What one attempt came to.
struct Attempt {
    result: Attempted,
    started_at: Timestamp,
    provider_id: Option<String>,
    content_revision: Option<i64>,
    /// Whether it got as far as the provider, so that it says something about the channel.
    is_told: bool,
}

impl Engine {
    /// Sends what was claimed for a run, and says what is to be recorded. Never fails: what goes wrong is an outcome.
    pub(super) async fn serve(&self, claimed: Claimed) -> Served {
        let Claimed {
            before,
            token,
            hold,
            mut run,
            timeline,
            customer,
            campaigns,
            rooms,
            term,
        } = claimed;
        let (mut executions, mut permits, mut handed_back, mut put_off) = (Vec::new(), Vec::new(), 0, Vec::new());
        let mut suppress = Vec::new();
        let was = Box::new(run.clone());
        for (in_flight, seat) in was.in_flight.iter().zip(rooms) {
            let action = timeline.action(in_flight.id);
            let is_probe = seat.is_probe;
            let attempt = match action {
                Some(action) => {
                    self.attempt(
                        &run,
                        &timeline,
                        action,
                        in_flight,
                        customer.as_ref(),
                        &campaigns,
                        seat,
                        (token, term),
                        &mut permits,
                    )
                    .await
                }
                None => Attempt::without(Attempted::HandedBack, self.clock.now()),
            };
            if let Some(action) = action.filter(|_| is_probe && !attempt.is_told) {
                self.return_probe(action.definition.channel).await;
            }
            if attempt.result == Attempted::HandedBack {
                handed_back += 1;
            }
            let now = self.clock.now();
            let channel = action.map_or(Channel::Wait, |action| action.definition.channel);
            if matches!(attempt.result, Attempted::ChannelUnavailable { .. }) {
                put_off.push(channel);
            }
            if is_suppressed(&attempt.result) {
                suppress.extend(self.suppression_of(customer.as_deref(), channel));
            }
            run.record(
                &timeline,
                in_flight,
                attempt.result.clone(),
                &self.settings.retry,
                self.random.fraction(),
                now,
            );
            let waits = action.is_some_and(|action| action.definition.completion.within().is_some());
            executions.extend(entry(&run, channel, in_flight, attempt, waits, now));
        }
        let moves = plan::settle(&timeline, &mut run, self.clock.now());
        Served {
            completion: Completion::new(before, token, &was, run),
            hold,
            executions,
            moves,
            handed_back,
            put_off,
            suppress,
            is_test: customer.is_some_and(|customer| customer.is_test),
            permits,
        }
    }

    /// Makes one attempt, if there is time for it still.
    #[expect(
        clippy::too_many_arguments,
        reason = "what one attempt needs comes from as many places"
    )]
    async fn attempt(
        &self,
        run: &Run,
        timeline: &Timeline,
        action: &Action,
        in_flight: &InFlight,
        customer: Option<&Arc<Customer>>,
        campaigns: &Campaigns,
        Seat { room, is_probe }: Seat,
        (token, term): (i64, Term),
        permits: &mut Vec<OwnedSemaphorePermit>,
    ) -> Attempt {
        let channel = action.definition.channel;
        let is_test = customer.is_some_and(|customer| customer.is_test);
        let Some(lane) = self.lanes.to(is_test, channel) else {
            return Attempt::without(Attempted::HandedBack, self.clock.now());
        };
        let Some(permit) = lane.enter(room, term.start_by).await else {
            // Too little time because the tick ends says nothing about the pace of the channel.
            if term.is_whole() {
                lane.note_pace(START_WITHIN);
            }
            return Attempt::without(Attempted::HandedBack, self.clock.now());
        };
        // What promises at most once keeps its permit until it is recorded, also if it is only handed back: if the process dies, no
        // more is unknown than there are permits. Others make room as soon as they are sent.
        let _permit = if lane.holds_until_recorded() {
            permits.push(permit);
            None
        } else {
            Some(permit)
        };
        let started_at = self.clock.now();
        let is_stopped = self.is_held_now(timeline, action, term.start_by).await || self.stopping.is_cancelled();
        let is_too_late = Instant::now() > term.start_by || !self.leases.is_held(run.id, token, self.clock.now());
        if is_stopped || is_too_late || self.is_quiet(customer.map(AsRef::as_ref), channel, started_at) {
            return Attempt::without(Attempted::HandedBack, started_at);
        }
        let stopped = if is_test || is_probe {
            None
        } else {
            self.circuits.stopped_until(channel, started_at)
        };
        if let Some(until) = stopped {
            return Attempt::without(Attempted::ChannelUnavailable { until }, started_at);
        }
        let message = || self.message(run, timeline, action, in_flight, customer, campaigns);
        let rendered = std::panic::catch_unwind(AssertUnwindSafe(message));
        let broken = |_| {
            Err((
                FailureReason::Template,
                "rendering it panicked; see the server's log".to_owned(),
            ))
        };
        let rendered = match rendered.unwrap_or_else(broken) {
            Ok(rendered) => rendered,
            Err((reason, error)) => return Attempt::without(Attempted::Failed { reason, error }, started_at),
        };
        let (message, content_revision) = rendered;
        let begun = Instant::now();
        reach(Failpoint::BeforeSend);
        let step = RunStep {
            name: "send",
            run: run.id,
            action: Some((action.id, in_flight.attempt)),
            channel: Some(channel),
        };
        let span = run_step(run.trace_parent.as_ref(), step);
        let sent = AssertUnwindSafe(lane.sender.send(&message).instrument(span.clone())).catch_unwind();
        let timeout = self.settings.send_timeout.to_std().unwrap_or_default() + OVERTIME;
        let outcome = match tokio::time::timeout(timeout, sent).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Outcome::Unknown {
                error: "the sender panicked; see the log".to_owned(),
            },
            Err(_) => Outcome::Unknown {
                error: format!("no answer within {timeout:?}"),
            },
        };
        reach(Failpoint::AfterSend);
        if outcome.is_trouble() {
            span.record("otel.status_code", "ERROR");
        }
        span.record("outcome", outcome.as_str());
        drop(span);
        let health = health_of(&outcome);
        let is_told = health.is_some();
        if is_told {
            lane.note_pace(begun.elapsed());
            let error = (!matches!(outcome, Outcome::Delivered { .. })).then(|| outcome.as_str());
            self.metrics.sent(lane.sender.system(), channel, error, begun.elapsed());
        }
        let until = match health.filter(|_| !is_test) {
            Some((health, what)) => self.note_health(channel, is_probe, health, what).await,
            None => None,
        };
        let (result, provider_id) = self.judge(outcome, until);
        Attempt {
            result,
            started_at,
            provider_id,
            content_revision: Some(content_revision),
            is_told,
        }
    }

    /// Whether it is quiet where the customer is. It was not when the message was claimed.
    fn is_quiet(&self, customer: Option<&Customer>, channel: Channel, now: Timestamp) -> bool {
        let hours = |customer| CustomerHours {
            hours: self.settings.hours,
            whereabouts: Whereabouts::of(customer, self.settings.default_zone),
        };
        customer.is_some_and(|customer| !hours(customer).allow(channel, now))
    }

    /// What an outcome means for the run, and the provider's id if it was delivered. `until`: when the channel is tried again if it
    /// is misconfigured.
    fn judge(&self, outcome: Outcome, until: Option<Timestamp>) -> (Attempted, Option<String>) {
        let result = match outcome {
            Outcome::Delivered { provider_id } => {
                return (Attempted::Completed, Some(provider_id).filter(|id| !id.is_empty()));
            }
            Outcome::Retry { error, after } => {
                let after = after.and_then(|after| chrono::Duration::from_std(after).ok());
                Attempted::Retry {
                    reason: FailureReason::Temporary,
                    error,
                    after,
                }
            }
            Outcome::Rejected { error } | Outcome::Unsendable { error } => Attempted::Failed {
                reason: FailureReason::Rejected,
                error,
            },
            Outcome::Suppress { error } => Attempted::Failed {
                reason: FailureReason::Suppressed,
                error,
            },
            Outcome::Unknown { error } => Attempted::Unknown { error },
            Outcome::Misconfigured { .. } => Attempted::ChannelUnavailable {
                until: until.unwrap_or_else(|| self.clock.now() + self.settings.circuits.pause),
            },
        };
        (result, None)
    }

    /// The message of an action, with the revision of its content.
    fn message(
        &self,
        run: &Run,
        timeline: &Timeline,
        action: &Action,
        in_flight: &InFlight,
        customer: Option<&Arc<Customer>>,
        campaigns: &Campaigns,
    ) -> Result<(Message, i64), (FailureReason, String)> {
        let customer = customer.ok_or((
            FailureReason::MissingAddress,
            "the customer is not there any more".to_owned(),
        ))?;
        let campaign = campaign_of(action, campaigns)?;
        let Written { texts, options } = self.write(run, timeline, action, customer, campaign)?;
        let missing = |what: &str| (FailureReason::MissingAddress, format!("the customer has no {what}"));
        let phone = || customer.phone.clone().ok_or_else(|| missing("phone"));
        let content = match texts {
            Rendered::Email {
                subject,
                preheader,
                text,
                html,
            } => {
                let to = customer.email.clone().ok_or_else(|| missing("email"))?;
                let options = MailOptions { preheader, ..options };
                Content::Email {
                    to,
                    to_name: customer.display_name.clone(),
                    subject,
                    text,
                    html,
                    options: Box::new(options),
                }
            }
            Rendered::Sms { text } => {
                let (segments, most) = (SmsLength::of(&text).segments, campaign.sms_max_segments);
                if segments > usize::from(most) {
                    let error =
                        format!("the text message has {segments} segments, and {most} is the most (sms_max_segments)");
                    return Err((FailureReason::Rejected, error));
                }
                Content::Sms { to: phone()?, text }
            }
            Rendered::Call { script } => Content::Call { to: phone()?, script },
            Rendered::Task { title, text } => Content::Task { title, text },
        };
        let idempotency_key = self.idempotency_key(run, action.id);
        let message = Message {
            idempotency_key,
            attempt: in_flight.attempt,
            customer_id: run.customer_id.clone(),
            progress_id: run.id,
            timeline: timeline.definition.slug.clone(),
            action_id: action.id,
            action_key: action.definition.key.clone(),
            valid_for: None,
            content,
        };
        Ok((message, campaign.revision))
    }

    /// The key of an action of a run, the same over all attempts.
    fn idempotency_key(&self, run: &Run, action: ActionId) -> String {
        let name = format!("{}/{}/{}", run.customer_id, run.id, action);
        Uuid::new_v5(&self.deployment, name.as_bytes()).hyphenated().to_string()
    }
}

impl Attempt {
    /// An attempt that did not get as far as the provider.
    fn without(result: Attempted, started_at: Timestamp) -> Self {
        Self {
            result,
            started_at,
            provider_id: None,
            content_revision: None,
            is_told: false,
        }
    }
}

/// What an outcome says about the channel; none: nobody was asked.
fn health_of(outcome: &Outcome) -> Option<(ChannelHealth, &str)> {
    Some(match outcome {
        Outcome::Unsendable { .. } => return None,
        Outcome::Delivered { .. } => (ChannelHealth::Answered, ""),
        Outcome::Rejected { error } | Outcome::Suppress { error } => (ChannelHealth::Answered, error),
        Outcome::Retry { error, .. } | Outcome::Unknown { error } => (ChannelHealth::Failed, error),
        Outcome::Misconfigured { error } => (ChannelHealth::Misconfigured, error),
    })
}

/// Whether the provider delivers nothing to this recipient any more.
fn is_suppressed(result: &Attempted) -> bool {
    matches!(result, Attempted::Failed { reason, .. } if *reason == FailureReason::Suppressed)
}

/// The ledger's entry for an attempt; none when it did not count as one. `waits`: it is a task that waits for its report once it is
/// handed over.
fn entry(
    run: &Run,
    channel: Channel,
    in_flight: &InFlight,
    attempt: Attempt,
    waits: bool,
    now: Timestamp,
) -> Option<Execution> {
    let failed = run.failed.iter().find(|failed| failed.id == in_flight.id);
    let (outcome, reason, detail) = match (&attempt.result, failed) {
        (Attempted::Completed, _) if waits => (ExecutionOutcome::HandedOver, None, None),
        (Attempted::Completed, _) => (ExecutionOutcome::Completed, None, None),
        (Attempted::Retry { .. } | Attempted::Failed { .. } | Attempted::Unknown { .. }, Some(failed)) => {
            let outcome = match failed.state {
                FailureState::Retrying(_) => ExecutionOutcome::Retrying,
                FailureState::Failed => ExecutionOutcome::Failed,
                FailureState::Unknown => ExecutionOutcome::Unknown,
            };
            (
                outcome,
                Some(ExecutionReason::Failure(failed.reason)),
                Some(failed.error.clone()),
            )
        }
        (Attempted::HandedBack | Attempted::ChannelUnavailable { .. }, _)
        | (Attempted::Retry { .. } | Attempted::Failed { .. } | Attempted::Unknown { .. }, None) => return None,
    };
    Some(Execution {
        customer_id: run.customer_id.clone(),
        progress_id: run.id,
        action_id: in_flight.id,
        timeline_id: run.timeline_id,
        attempt: in_flight.attempt,
        due_at: in_flight.due,
        started_at: attempt.started_at,
        finished_at: now,
        channel,
        outcome,
        reason,
        provider_id: attempt.provider_id,
        detail,
        content_revision: attempt.content_revision,
        provider_state: None,
        resolved_at: None,
    })
}
