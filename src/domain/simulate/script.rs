//! What happens to a simulated run, and the world that it sees.

use chrono::Duration;
use chrono_tz::Tz;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::Rules;
use crate::domain::{
    Asked, Attempted, Channel, Customer, CustomerHours, Destination, EngagementKind, EngagementQuery, Facts,
    FailureReason, SendingHolds, Stage, Suppressed, SuppressionReason, SuppressionScope, TaskOutcome, Timestamp,
    Whereabouts, check_attributes,
};

/// Something that happens.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where it stood in the script, from 0.
    pub position: usize,
    /// When it happens.
    pub at: Timestamp,
    /// What.
    pub event: Event,
}

/// What may happen.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The customer does something.
    Engaged {
        /// What.
        kind: EngagementKind,
        /// The key of the action of the run that it is about.
        of_action: Option<String>,
    },
    /// The score becomes this.
    EngagementScore(i32),
    /// The stage becomes this.
    PipelineStage(Stage),
    /// These attributes are set; null removes one.
    Attributes(Map<String, Value>),
    /// The run is paused.
    Pause,
    /// The run is resumed.
    Resume {
        /// Whether its day is tomorrow.
        next_day: bool,
    },
    /// The run is stopped.
    Stop,
    /// The timeline is switched.
    TimelineActive(bool),
    /// The customer's zone becomes this; none: the default holds.
    TimeZone(Option<Tz>),
    /// The ticks stop, or go on.
    Ticks(bool),
    /// How a channel answers from then on.
    Answers(Channel, Answer),
    /// Somebody reports the task with this key.
    TaskReported(String, TaskOutcome),
}

/// What a provider answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It takes the message.
    Accepted,
    /// Not now.
    Temporary,
    /// Never.
    Rejected,
    /// Never, and nothing else to this recipient.
    Suppressed,
    /// It does not say.
    Unknown,
    /// It can't be used as it is set up.
    Misconfigured,
}

/// What a run sees, and where its messages go.
pub(super) struct World {
    pub(super) customer: Customer,
    /// When each was last done.
    engagements: BTreeMap<EngagementQuery, Timestamp>,
    /// How channels answer that do not accept.
    answers: BTreeMap<Channel, Answer>,
    stopped: BTreeMap<Channel, Timestamp>,
    /// What answers have suppressed. At the start nothing is: the simulation is about a plan, not about an address.
    suppressed: Suppressed,
    /// Whether there are ticks.
    pub(super) ticks: bool,
}

impl World {
    pub(super) fn new(customer: Customer, engagements: BTreeMap<EngagementQuery, Timestamp>) -> Self {
        Self {
            customer,
            engagements,
            answers: BTreeMap::new(),
            stopped: BTreeMap::new(),
            suppressed: Suppressed::new(),
            ticks: true,
        }
    }

    /// Takes in what happens to the customer or the service. Says why it is refused, if it is.
    pub(super) fn apply(&mut self, entry: &Entry) -> Option<String> {
        match &entry.event {
            Event::Engaged { kind, of_action } => {
                // What was done about an action was done anyhow, too.
                let about = of_action.clone().map(Some).into_iter().chain([None]);
                for of_action in about {
                    let kind = kind.clone();
                    let last = self.engagements.entry(EngagementQuery { kind, of_action });
                    let last = last.or_insert(entry.at);
                    *last = entry.at.max(*last);
                }
            }
            Event::EngagementScore(score) => self.customer.engagement_score = *score,
            Event::PipelineStage(stage) => self.customer.pipeline_stage = Some(stage.clone()),
            Event::Attributes(given) => {
                let mut attributes = self.customer.attributes.clone();
                attributes.extend(given.clone());
                attributes.retain(|_, value| !value.is_null());
                if let Err(invalid) = check_attributes(&attributes) {
                    return Some(format!("the attributes with those that are there {invalid}"));
                }
                self.customer.attributes = attributes;
            }
            Event::Ticks(are_on) => self.ticks = *are_on,
            Event::Answers(channel, answer) => drop(self.answers.insert(*channel, *answer)),
            Event::Pause
            | Event::Resume { .. }
            | Event::Stop
            | Event::TimelineActive(_)
            | Event::TimeZone(_)
            | Event::TaskReported(_, _) => {}
        }
        None
    }

    /// What is known at an instant.
    pub(super) fn facts(&self, asked: &Asked, rules: &Rules, at: Timestamp) -> Facts {
        let customer = &self.customer;
        let destination = if customer.is_test {
            rules.of_tests
        } else {
            Destination::Provider
        };
        let attribute = |name: &String| Some((name.clone(), customer.attributes.get(name)?.clone()));
        let stopped = self.stopped.iter().filter(|(_, until)| **until > at);
        Facts {
            engagement_score: customer.engagement_score,
            pipeline_stage: customer.pipeline_stage.clone(),
            has_email: customer.email.is_some(),
            has_phone: customer.phone.is_some(),
            engagements: self.engagements.clone(),
            attributes: asked.attributes.iter().filter_map(attribute).collect(),
            // What the run knows is put in by whoever has it.
            task_outcomes: BTreeMap::new(),
            destination,
            stopped_channels: stopped.map(|(channel, until)| (*channel, *until)).collect(),
            // Nor is it known what others send then.
            rate_limited: BTreeMap::new(),
            // What operators hold today says nothing about another day.
            sending_holds: SendingHolds::default(),
            suppressed: self.suppressed.clone(),
            // What an answer suppresses, it suppresses whatever the kind.
            transactional: Arc::default(),
            hours: CustomerHours {
                hours: rules.hours,
                whereabouts: Whereabouts::of(customer, rules.default_zone),
            },
        }
    }

    /// Until when a channel is stopped, if it is.
    pub(super) fn stopped_until(&self, channel: Channel, at: Timestamp) -> Option<Timestamp> {
        self.stopped.get(&channel).copied().filter(|until| *until > at)
    }

    /// What comes of a message. The test outbox takes all.
    pub(super) fn answer(&mut self, channel: Channel, at: Timestamp, probe: Duration) -> Attempted {
        let answer = self.answers.get(&channel).filter(|_| !self.customer.is_test);
        let answer = answer.copied().unwrap_or(Answer::Accepted);
        let error = |what: &str| format!("{what} by the script");
        let failed = |reason, what| Attempted::Failed {
            reason,
            error: error(what),
        };
        match answer {
            Answer::Accepted => Attempted::Completed,
            Answer::Temporary => Attempted::Retry {
                reason: FailureReason::Temporary,
                error: error("refused for now"),
                after: None,
            },
            Answer::Rejected => failed(FailureReason::Rejected, "refused for good"),
            Answer::Suppressed => {
                let reason = SuppressionReason::of_refusal(channel);
                self.suppressed.insert(channel, (SuppressionScope::All, reason));
                failed(FailureReason::Suppressed, "suppressed")
            }
            Answer::Unknown => Attempted::Unknown {
                error: error("left without an answer"),
            },
            Answer::Misconfigured => {
                let until = at + probe;
                self.stopped.insert(channel, until);
                Attempted::ChannelUnavailable { until }
            }
        }
    }
}
