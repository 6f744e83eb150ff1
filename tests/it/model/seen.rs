//! What can be seen from outside: runs as the service shows them, and messages as they arrive.

use campaign_automation::domain::Timestamp;
use campaign_automation::proto::campaign::v1 as pb;
use chrono::NaiveDate;
use chrono_tz::Tz;
use std::collections::{BTreeMap, BTreeSet};

use super::script::Kind;

/// A run as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub status: pb::ProgressStatus,
    pub day: i32,
    pub date: NaiveDate,
    pub shifted: i32,
    pub jumped: BTreeSet<i32>,
    pub zone: Tz,
    pub known: BTreeMap<usize, Known>,
    pub next: Option<(usize, Timestamp)>,
}

/// What is known about an action of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub what: What,
    pub attempts: i32,
}

/// What became of an action so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Completed,
    Skipped(pb::SkipReason),
    Failed(pb::FailureReason),
    Unknown,
    Retrying(Timestamp, pb::FailureReason),
    Deferred(Timestamp, pb::DeferReason),
    InFlight,
}

impl What {
    /// Without its instants.
    pub(super) fn name(self) -> String {
        match self {
            Self::Retrying(_, reason) => format!("Retrying({reason:?})"),
            Self::Deferred(_, reason) => format!("Deferred({reason:?})"),
            Self::Completed | Self::Skipped(_) | Self::Failed(_) | Self::Unknown | Self::InFlight => {
                format!("{self:?}")
            }
        }
    }

    pub(super) fn is_final(self) -> bool {
        match self {
            Self::Completed | Self::Skipped(_) | Self::Failed(_) | Self::Unknown => true,
            Self::Retrying(..) | Self::Deferred(..) | Self::InFlight => false,
        }
    }
}

impl Seen {
    /// Reads a run. An action that is in two places at once is a mistake.
    pub(super) fn read(run: &pb::Progress) -> Result<Self, String> {
        let mut known = BTreeMap::new();
        let mut enter = |action: &Option<pb::ActionRef>, what, attempts| {
            let key = key_of(&action.as_ref().expect("an action").key);
            match known.insert(key, Known { what, attempts }) {
                None => Ok(()),
                Some(before) => Err(format!("K{key:02} is in two places: {before:?} and {what:?}")),
            }
        };
        for one in &run.completed_actions {
            enter(&one.action, What::Completed, one.attempts)?;
        }
        for one in &run.skipped_actions {
            enter(&one.action, What::Skipped(one.reason()), 0)?;
        }
        for one in &run.failed_actions {
            let what = match one.state() {
                pb::FailureState::Retrying => What::Retrying(instant(one.next_retry_time), one.reason()),
                pb::FailureState::Failed => What::Failed(one.reason()),
                pb::FailureState::Unknown => What::Unknown,
                pb::FailureState::Unspecified => return Err(format!("a failure without a state: {one:?}")),
            };
            enter(&one.action, what, one.attempts)?;
        }
        for one in &run.deferred_actions {
            enter(&one.action, What::Deferred(instant(one.until_time), one.reason()), 0)?;
        }
        for one in &run.in_flight_actions {
            enter(&one.action, What::InFlight, one.attempt)?;
        }
        let mut jumped = BTreeSet::new();
        for range in &run.jumped_days {
            let begins = jumped.last().is_none_or(|last| *last < range.first_day);
            if !begins || range.first_day > range.last_day {
                return Err(format!("jumped over {:?}", run.jumped_days));
            }
            jumped.extend(range.first_day..=range.last_day);
        }
        let date = run.day_date.ok_or("no date")?;
        let unsigned = |n: i32| u32::try_from(n).expect("a number");
        let next = run.next_action.as_ref().map(|next| {
            let key = key_of(&next.action.as_ref().expect("an action").key);
            (key, instant(next.due_time))
        });
        Ok(Self {
            status: run.status(),
            day: run.current_day,
            date: NaiveDate::from_ymd_opt(date.year, unsigned(date.month), unsigned(date.day)).ok_or("no such date")?,
            shifted: run.shifted_days,
            jumped,
            zone: run.time_zone.parse().map_err(|_| "no such zone")?,
            known,
            next,
        })
    }

    pub(super) fn is_active(&self) -> bool {
        self.status == pb::ProgressStatus::Active
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self.status, pb::ProgressStatus::Active | pb::ProgressStatus::Paused)
    }

    /// Whether it is on that day, to serve it: not where it came to by jumping over it.
    pub(super) fn stands_on(&self, day: i32) -> bool {
        self.day == day && !self.jumped.contains(&day)
    }

    pub(super) fn what(&self, key: usize) -> Option<What> {
        self.known.get(&key).map(|known| known.what)
    }

    /// The same run, but for what it says about the future.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        let still = |seen: &Self| Self {
            next: None,
            ..seen.clone()
        };
        still(self) == still(other)
    }
}

/// A message that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivery {
    pub customer: String,
    pub key: usize,
    pub kind: Kind,
    /// The Message-ID, or the idempotency key.
    pub id: String,
}

impl Delivery {
    /// A mail that the mail server took over.
    pub(super) fn mail(mail: &crate::support::smtp::Delivery) -> Self {
        let subject = mail.data.lines().find_map(|line| line.strip_prefix("Subject: "));
        let customer = mail.to[0].split('@').next().expect("a customer");
        Self {
            customer: customer.to_owned(),
            key: key_of(&subject.expect("a subject")[..3]),
            kind: Kind::Email,
            id: mail.message_id.clone(),
        }
    }

    /// A message of another channel, from its file in the outbox.
    pub(super) fn file(text: &str) -> Self {
        let entry: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let field = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let (kind, content) = match field("channel").as_str() {
            "sms" => (Kind::Sms, field("text")),
            "phone" => (Kind::Call, field("script")),
            _ => (Kind::Task, field("title")),
        };
        Self {
            customer: field("customer_id"),
            key: key_of(&content[..3]),
            kind,
            id: field("idempotency_key"),
        }
    }
}

/// The key of an action or campaign, `K07` for 7.
pub(super) fn key_name(key: usize) -> String {
    format!("K{key:02}")
}

fn key_of(name: &str) -> usize {
    let number = name.strip_prefix('K').and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("no key: {name}"))
}

pub(super) fn instant(time: Option<prost_types::Timestamp>) -> Timestamp {
    let time = time.expect("an instant");
    Timestamp::from_timestamp(time.seconds, u32::try_from(time.nanos).expect("nanos")).expect("an instant")
}
