//! Carrying out what was claimed for one run: its messages one after the other, in order.

use futures::FutureExt as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use uuid::Uuid;

use super::Engine;
use super::cache::Campaigns;
use super::claim::Term;
use super::lanes::{Lane, Room, START_WITHIN};
use super::leases::Hold;
use crate::channels::{Content, Message, Outcome, Rendered};
use crate::domain::{
    Action, ActionId, Attempted, Channel, Customer, FailureReason, FailureState, InFlight, Run, Timeline, Timestamp,
    plan,
};
use crate::failpoint::{Failpoint, reach};
use crate::store::{Before, Completion, Execution, ExecutionOutcome, ExecutionReason};

/// How much longer than the send time-out an attempt is waited for. A sender ends in time by itself, and then says how far
/// it got; this is for one that does not.
const OVERTIME: Duration = Duration::from_secs(1);

/// A run that is claimed, with all that is needed to serve it.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) before: Before,
    pub(super) token: i64,
    /// It is held, and its lease prolonged, until it is recorded.
    pub(super) hold: Hold,
    pub(super) run: Run,
    pub(super) timeline: Arc<Timeline>,
    pub(super) customer: Option<Customer>,
    pub(super) campaigns: Campaigns,
    /// Room for each message, in order.
    pub(super) rooms: Vec<Room>,
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
    /// Whether it is of a test customer, which is not counted.
    pub(super) is_test: bool,
    /// Permits that are held until it is recorded.
    pub(super) permits: Vec<OwnedSemaphorePermit>,
}

/// What one attempt came to.
struct Attempt {
    result: Attempted,
    started_at: Timestamp,
    provider_id: Option<String>,
    content_revision: Option<i64>,
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
        for (in_flight, room) in run.in_flight.clone().into_iter().zip(rooms) {
            let action = timeline.action(in_flight.id);
            let attempt = match action {
                Some(action) => {
                    self.attempt(
                        &run,
                        &timeline,
                        action,
                        &in_flight,
                        customer.as_ref(),
                        &campaigns,
                        room,
                        (token, term),
                        &mut permits,
                    )
                    .await
                }
                None => Attempt::without(Attempted::HandedBack, self.clock.now()),
            };
            if attempt.result == Attempted::HandedBack {
                handed_back += 1;
            }
            let now = self.clock.now();
            let channel = action.map_or(Channel::Wait, |action| action.definition.channel);
            if matches!(attempt.result, Attempted::ChannelUnavailable { .. }) {
                put_off.push(channel);
            }
            run.record(
                &timeline,
                &in_flight,
                attempt.result.clone(),
                &self.settings.retry,
                self.random.fraction(),
                now,
            );
            executions.extend(entry(&run, channel, &in_flight, attempt, now));
        }
        let moves = plan::settle(&timeline, &mut run, self.clock.now());
        let completion = Completion { before, token, run };
        Served {
            completion,
            hold,
            executions,
            moves,
            handed_back,
            put_off,
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
        customer: Option<&Customer>,
        campaigns: &Campaigns,
        room: Room,
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
        let started_at = self.clock.now();
        let is_stopped = self.is_held_now(timeline, action, term.start_by).await || self.stopping.is_cancelled();
        let is_too_late = Instant::now() > term.start_by || !self.leases.is_held(run.id, token, self.clock.now());
        if is_stopped || is_too_late {
            return Attempt::without(Attempted::HandedBack, started_at);
        }
        if let Some(until) = lane.stopped_until(started_at) {
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
        let sent = AssertUnwindSafe(lane.sender.send(&message)).catch_unwind();
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
        lane.note_pace(begun.elapsed());
        // What promises at most once keeps its permit until it is recorded: if the process dies, no more is unknown than there
        // are permits. Others make room at once.
        if lane.holds_until_recorded() {
            permits.push(permit);
        }
        let (result, provider_id) = self.judge(lane, channel, outcome);
        Attempt {
            result,
            started_at,
            provider_id,
            content_revision: Some(content_revision),
        }
    }

    /// What an outcome means for the run, and the provider's id if it was delivered.
    fn judge(&self, lane: &Lane, channel: Channel, outcome: Outcome) -> (Attempted, Option<String>) {
        let result = match outcome {
            Outcome::Delivered { provider_id } => return (Attempted::Completed, Some(provider_id)),
            Outcome::Retry { error, after } => {
                let after = after.and_then(|after| chrono::Duration::from_std(after).ok());
                Attempted::Retry {
                    reason: FailureReason::Temporary,
                    error,
                    after,
                }
            }
            Outcome::Rejected { error } => Attempted::Failed {
                reason: FailureReason::Rejected,
                error,
            },
            Outcome::Suppress { error } => Attempted::Failed {
                reason: FailureReason::Suppressed,
                error,
            },
            Outcome::Unknown { error } => Attempted::Unknown { error },
            Outcome::Misconfigured { error } => {
                let now = self.clock.now();
                let (until, was_running) = lane.stop(now, self.settings.channel_probe);
                if was_running {
                    tracing::error!(channel = channel.as_str(), %error, %until, "channel {} is misconfigured and stopped until {until}", channel.as_str());
                }
                Attempted::ChannelUnavailable { until }
            }
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
        customer: Option<&Customer>,
        campaigns: &Campaigns,
    ) -> Result<(Message, i64), (FailureReason, String)> {
        let customer = customer.ok_or((
            FailureReason::MissingAddress,
            "the customer is not there any more".to_owned(),
        ))?;
        let (rendered, revision) = self.rendered(run, timeline, action, customer, campaigns)?;
        let missing = |what: &str| (FailureReason::MissingAddress, format!("the customer has no {what}"));
        let phone = || customer.phone.clone().ok_or_else(|| missing("phone"));
        let content = match rendered {
            Rendered::Email { subject, text, html } => {
                let to = customer.email.clone().ok_or_else(|| missing("email"))?;
                Content::Email {
                    to,
                    to_name: customer.display_name.clone(),
                    subject,
                    text,
                    html,
                }
            }
            Rendered::Sms { text } => Content::Sms { to: phone()?, text },
            Rendered::Call { script } => Content::Call { to: phone()?, script },
            Rendered::Task { title, text } => Content::Task { title, text },
        };
        let idempotency_key = self.idempotency_key(run, action.id);
        let message = Message {
            idempotency_key,
            attempt: in_flight.attempt,
            customer_id: run.customer_id.clone(),
            content,
        };
        Ok((message, revision))
    }

    /// The texts of an action, filled in for a customer, with the revision of its content.
    pub(super) fn rendered(
        &self,
        run: &Run,
        timeline: &Timeline,
        action: &Action,
        customer: &Customer,
        campaigns: &Campaigns,
    ) -> Result<(Rendered, i64), (FailureReason, String)> {
        let campaign = action.definition.campaign_id.as_ref().and_then(|id| campaigns.get(id));
        let campaign = campaign.ok_or((FailureReason::Template, "the campaign is not there any more".to_owned()))?;
        let context = context(run, timeline, action, customer);
        let rendered = self.renderer.render(action.definition.channel, campaign, &context);
        let rendered =
            rendered.map_err(|error| (FailureReason::Template, format!("campaign {}: {error}", campaign.id)))?;
        Ok((rendered, campaign.revision))
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
        }
    }
}

/// What templates see.
fn context(run: &Run, timeline: &Timeline, action: &Action, customer: &Customer) -> serde_json::Value {
    serde_json::json!({
        "customer": {
            "id": customer.id.as_str(),
            "name": customer.display_name,
            "email": customer.email.as_ref().map(crate::domain::EmailAddress::as_str).unwrap_or_default(),
            "phone": customer.phone.as_ref().map(crate::domain::PhoneNumber::as_str).unwrap_or_default(),
            "time_zone": run.zone.tz.name(),
            "pipeline_stage": customer.pipeline_stage.as_ref().map(crate::domain::Stage::as_str).unwrap_or_default(),
            "engagement_score": customer.engagement_score,
            "attributes": customer.attributes,
        },
        "timeline": {
            "name": timeline.definition.name,
            "slug": timeline.definition.slug.as_str(),
            "duration_days": timeline.definition.duration_days,
        },
        "day": action.definition.day_number,
    })
}

/// The ledger's entry for an attempt; none when it did not count as one.
fn entry(run: &Run, channel: Channel, in_flight: &InFlight, attempt: Attempt, now: Timestamp) -> Option<Execution> {
    let failed = run.failed.iter().find(|failed| failed.id == in_flight.id);
    let (outcome, reason, detail) = match (&attempt.result, failed) {
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
    })
}
