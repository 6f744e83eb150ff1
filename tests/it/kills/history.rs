//! What was seen of a world while its clock stood: messages that arrived, and days to which runs moved. In the end it is
//! matched ([`chronos`]) to what the timeline and the calendar ask for, and so is the ledger.

use campaign_automation::domain::Timestamp;
use chrono::TimeDelta;
use std::collections::BTreeMap;

use super::chronos::{self, Event, Findings, Target};
use super::judge::Executed;
use crate::support::smtp::Delivery;

/// When messages are due, after midnight.
const HOUR: TimeDelta = TimeDelta::hours(9);

/// How long after it was due everything has begun. The ticks that matter begin when the messages are due. A server that is killed
/// then, and the next one in its place, each cost a lease (75 seconds) and the minute after which a message is repeated; a tick
/// comes when each of them is over.
const BOUND: TimeDelta = TimeDelta::minutes(10);

/// A message that arrived.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    /// What is the same in all attempts.
    pub id: String,
    /// Whom it is to.
    pub customer: String,
    /// The day that it names.
    day: Option<i32>,
}

impl Arrival {
    /// A mail, with the day in its subject.
    pub(super) fn of_mail(mail: &Delivery) -> Self {
        let mut lines = mail.data.lines();
        let day = lines.find_map(|line| line.strip_prefix("Subject: Day "));
        let (customer, _) = mail.to[0].split_once('@').expect("an address");
        Self {
            id: mail.message_id.clone(),
            customer: customer.to_owned(),
            day: Some(day.and_then(|day| day.trim().parse().ok()).expect("a day")),
        }
    }

    /// A text message, which has nothing that names its day; none: that is no message.
    pub(super) fn of_text(message: &serde_json::Value) -> Option<Self> {
        let text = |name: &str| Some(message[name].as_str()?.to_owned());
        Some(Self {
            id: text("id")?,
            customer: text("customer_id")?,
            day: None,
        })
    }
}

/// What was seen.
#[derive(Debug)]
pub(super) struct History {
    /// The midnight at which day 1 begins.
    midnight: Timestamp,
    /// How many messages were seen.
    seen: usize,
    /// When each message arrived first.
    first: BTreeMap<String, Timestamp>,
    begun: Vec<Event>,
    moved: Vec<Event>,
    /// The day of each run when it was last looked at.
    days: BTreeMap<String, i32>,
}

impl History {
    /// Nothing seen yet.
    pub(super) fn new(midnight: Timestamp) -> Self {
        Self {
            midnight,
            seen: 0,
            first: BTreeMap::new(),
            begun: Vec::new(),
            moved: Vec::new(),
            days: BTreeMap::new(),
        }
    }

    /// How many messages were seen, each as often as it arrived.
    pub(super) fn arrivals(&self) -> usize {
        self.seen
    }

    /// Notes what arrived since the last time, and on which days runs are, by their customers.
    pub(super) fn note(&mut self, now: Timestamp, arrived: Vec<Arrival>, runs: Vec<(String, i32)>) {
        for Arrival { id, customer, day } in arrived {
            self.seen += 1;
            if let Some(first) = self.first.get(&id) {
                assert!(now - *first <= BOUND, "{id} came at {first}, and again at {now}");
                continue;
            }
            self.first.insert(id, now);
            self.begun.push(Event {
                job: customer,
                day,
                at: now,
            });
        }
        for (customer, day) in runs {
            let before = self.days.insert(customer.clone(), day).unwrap_or(1);
            assert!(before <= day, "{customer} went from day {before} back to {day}");
            self.moved.extend((before + 1..=day).map(|day| Event {
                job: customer.clone(),
                day: Some(day),
                at: now,
            }));
        }
    }

    /// Judges the end: one run of each customer with a message on each of so many days.
    pub(super) fn judge(&self, customers: impl Iterator<Item = String>, days: usize, executions: &[Executed]) {
        let days = i32::try_from(days).expect("few");
        let (mut messages, mut midnights) = (Vec::new(), Vec::new());
        for job in customers {
            for day in 1..=days {
                let midnight = self.midnight + TimeDelta::days(i64::from(day) - 1);
                let target = Target {
                    job: job.clone(),
                    day,
                    from: midnight + HOUR,
                    until: midnight + HOUR + BOUND,
                };
                // A run may move to its day from midnight on; when messages are due it does at last. It begins with the first.
                let from = midnight;
                midnights.extend((day > 1).then(|| Target { from, ..target.clone() }));
                messages.push(target);
            }
        }
        sound("days", &chronos::check(&midnights, &self.moved));
        let begun: Vec<Event> = executions.iter().map(Event::from).collect();
        sound("executions", &chronos::check(&messages, &begun));
        // What is unknown for good may have arrived or not, and nothing else is missing.
        let mut arrived = chronos::check(&messages, &self.begun);
        let is_unknown = |target: &Target| {
            let of_target = |executed: &Executed| executed.customer == target.job && executed.day == target.day;
            executions
                .iter()
                .any(|executed| executed.is_unknown && of_target(executed))
        };
        arrived.missing.retain(|target| !is_unknown(target));
        sound("arrivals", &arrived);
    }
}

impl From<&Executed> for Event {
    fn from(executed: &Executed) -> Self {
        Self {
            job: executed.customer.clone(),
            day: Some(executed.day),
            at: executed.begun,
        }
    }
}

fn sound(what: &str, findings: &Findings) {
    assert!(findings.is_sound(), "{what}: {findings:#?}");
}
