//! What comes back about messages: bounces, complaints and the like. It becomes events of customers and, where nobody must be written
//! to any more, suppressions.

use futures::{StreamExt as _, TryStreamExt as _};
use std::collections::VecDeque;

use super::suppressions::address_of;
use super::{Engine, EngineError, RecordOutcome};
use crate::domain::text::hexadecimal;
use crate::domain::{
    ActionId, Address, Channel, Customer, CustomerId, EmailAddress, Engagement, EngagementKind, FeedbackKind, Invalid,
    NewSuppression, ProgressId, SuppressionReason, SuppressionScope, Timestamp, bounced_too_often, soft_bounce_window,
};
use crate::keys::{Purpose, short_token_len};
use crate::store::Txn;

/// How many bytes of a run's number, of an action's, and of the hash of an address are in a reference.
const RUN_BYTES: usize = 6;
const ACTION_BYTES: usize = 5;
const HASH_BYTES: usize = 8;
const REFERENCE_BYTES: usize = RUN_BYTES + ACTION_BYTES + HASH_BYTES;

/// How many words of a text are tried for a reference. A mail server's report has a few that are as long.
const MOST_TRIED: usize = 1_000;

/// How many events that change suppressions are stored at a time.
const AT_A_TIME: usize = 8;

/// Where bounces go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BounceAddress {
    local: String,
    domain: String,
}

impl BounceAddress {
    /// Reads an address. Its local part has 16 characters at most, so that one with a reference in it is no longer than the 64
    /// that RFC 5321 allows.
    pub fn parse(given: &str) -> Result<Self, Invalid> {
        let address = EmailAddress::parse(given)?;
        let (local, domain) = address.as_str().rsplit_once('@').unwrap_or_default();
        let longest = 64 - "+".len() - short_token_len(REFERENCE_BYTES);
        if local.len() > longest || local.contains('+') {
            let expected = format!("an address with at most {longest} characters and no + before the @");
            return Err(Invalid::new(given, expected));
        }
        Ok(Self {
            local: local.to_owned(),
            domain: domain.to_owned(),
        })
    }

    /// The address for the bounces of one mail.
    pub(super) fn of_mail(&self, reference: &str) -> Option<EmailAddress> {
        EmailAddress::parse(&format!("{}+{reference}@{}", self.local, self.domain)).ok()
    }
}

/// Which mail it is about: the action of the run that sent it, and the address that it went to. Nobody but this deployment can make
/// one. It is in the Message-ID of each mail, and in its Return-Path where there is an address for bounces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailReference {
    run: ProgressId,
    action: ActionId,
    hash_begins: [u8; HASH_BYTES],
}

/// Something that came back.
#[derive(Debug, Clone)]
pub struct Feedback {
    /// The event's own id, unique for the customer: 1 to 128 printable ASCII characters.
    pub id: String,
    /// What it is.
    pub kind: FeedbackKind,
    /// When it was.
    pub occurred_at: Timestamp,
    /// Which mail it is about.
    pub mail: Option<MailReference>,
    /// The address that it is about, where the mail is not known.
    pub address: Option<(Channel, Address)>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedbackOutcome {
    /// It is stored, with what follows from it.
    Recorded,
    /// It was stored before.
    Duplicate,
    /// Nobody knows whom it is about; nothing is stored.
    NobodyKnown,
}

/// Whom it is about.
struct Target {
    channel: Channel,
    address_hash: String,
    customers: Vec<CustomerId>,
    about: Option<(ProgressId, ActionId)>,
}

impl MailReference {
    fn to_bytes(self) -> Option<[u8; REFERENCE_BYTES]> {
        let (run, action) = (self.run.0.to_be_bytes(), self.action.0.to_be_bytes());
        let (run_zeros, run) = run.split_at(run.len() - RUN_BYTES);
        let (action_zeros, action) = action.split_at(action.len() - ACTION_BYTES);
        let fits = run_zeros.iter().chain(action_zeros).all(|byte| *byte == 0);
        let bytes = [run, action, &self.hash_begins].concat();
        fits.then(|| bytes.try_into().ok()).flatten()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; REFERENCE_BYTES] = bytes.try_into().ok()?;
        let number = |digits: &[u8]| digits.iter().fold(0, |number, byte| (number << 8) | i64::from(*byte));
        let (run, rest) = bytes.split_at(RUN_BYTES);
        let (action, hash) = rest.split_at(ACTION_BYTES);
        Some(Self {
            run: ProgressId(number(run)),
            action: ActionId(number(action)),
            hash_begins: hash.try_into().ok()?,
        })
    }
}

impl Engine {
    /// The reference of the mail that an action of a run sends: the same over all attempts, in lower-case letters and digits. None: the
    /// customer has no mail address, or the numbers are beyond all that there will be.
    pub(super) fn mail_reference(&self, customer: &Customer, run: ProgressId, action: ActionId) -> Option<String> {
        let hash = self.address_digest(&address_of(customer, Channel::Email)?);
        let hash_begins = *hash.first_chunk()?;
        let reference = MailReference {
            run,
            action,
            hash_begins,
        };
        Some(self.keys.seal_short(Purpose::Mail, &reference.to_bytes()?))
    }

    /// The first reference in a text: in a Message-ID, an address, or the headers of a mail that came back, in capitals or not.
    pub fn find_mail_reference(&self, text: &str) -> Option<MailReference> {
        text.split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| word.len() == short_token_len(REFERENCE_BYTES))
            .take(MOST_TRIED)
            .find_map(|word| MailReference::from_bytes(&self.keys.open_short(Purpose::Mail, word)?))
    }

    /// Stores what came back, each on its own, with what follows from it in the same transaction. A repetition changes nothing, so
    /// after an error all may be given again.
    pub async fn record_feedback(&self, feedback: Vec<Feedback>) -> Result<Vec<FeedbackOutcome>, EngineError> {
        let found: Vec<_> = feedback.iter().map(|one| self.target_of(one)).collect();
        let targets: Vec<Option<Target>> = futures::stream::iter(found).buffered(AT_A_TIME).try_collect().await?;
        let mut events = Vec::new();
        let mut stopping = Vec::new();
        for (one, target) in feedback.iter().zip(&targets) {
            match target {
                Some(target) if may_stop(one, target) => stopping.push(self.stop_if_due(one, target)),
                Some(target) => events.extend(self.events(one, target)),
                None => {}
            }
        }
        let mut recorded: VecDeque<RecordOutcome> = self.record_engagements(events).await?.into();
        let stopped: Vec<FeedbackOutcome> = futures::stream::iter(stopping)
            .buffered(AT_A_TIME)
            .try_collect()
            .await?;
        let mut stopped = stopped.into_iter();
        let outcome = |(one, target): (&Feedback, &Option<Target>)| match target {
            Some(target) if may_stop(one, target) => stopped.next().unwrap_or(FeedbackOutcome::NobodyKnown),
            Some(target) => {
                let of_customers: Vec<RecordOutcome> = recorded.drain(..target.customers.len()).collect();
                of_events(&of_customers)
            }
            None => FeedbackOutcome::NobodyKnown,
        };
        Ok(feedback.iter().zip(&targets).map(outcome).collect())
    }

    async fn target_of(&self, feedback: &Feedback) -> Result<Option<Target>, EngineError> {
        let reader = self.store.reader();
        if let Some(mail) = feedback.mail {
            let begins = hexadecimal(&mail.hash_begins);
            if let Some((customer, address_hash)) = reader.recipient_of_mail(mail.run, &begins).await? {
                return Ok(Some(Target {
                    channel: Channel::Email,
                    address_hash,
                    customers: vec![customer],
                    about: Some((mail.run, mail.action)),
                }));
            }
        }
        let Some((channel, address)) = &feedback.address else {
            return Ok(None);
        };
        let address_hash = self.address_hash(address);
        let customers = reader.customers_at(*channel, &address_hash).await?;
        // An address that nobody has any more can be suppressed all the same.
        if customers.is_empty() && feedback.kind.suppression(*channel).is_none() {
            return Ok(None);
        }
        Ok(Some(Target {
            channel: *channel,
            address_hash,
            customers,
            about: None,
        }))
    }

    fn events(&self, feedback: &Feedback, target: &Target) -> Vec<Engagement> {
        let event = |customer: &CustomerId| Engagement {
            customer_id: customer.clone(),
            event_id: feedback.id.clone(),
            kind: feedback.kind.engagement(target.channel),
            occurred_at: feedback.occurred_at,
            received_at: self.clock.now(),
            about: target.about,
        };
        target.customers.iter().map(event).collect()
    }

    /// Stores an event, and a suppression where one follows. No claim that does not know of it commits after it.
    async fn stop_if_due(&self, feedback: &Feedback, target: &Target) -> Result<FeedbackOutcome, EngineError> {
        let (txn, now) = (self.store.begin().await?, self.clock.now());
        txn.lock_runs_of_address(&target.address_hash).await?;
        // Who was erased meanwhile gets no events.
        let still_there = txn.customers_at(target.channel, &target.address_hash).await?;
        let mut events = self.events(feedback, target);
        events.retain(|event| still_there.contains(&event.customer_id));
        let inserted = txn.insert_engagements(&events).await?;
        if inserted.is_empty() && !events.is_empty() {
            return Ok(FeedbackOutcome::Duplicate);
        }
        let mut stop = feedback.kind.suppression(target.channel);
        if stop.is_none() && too_many_soft_bounces(&txn, feedback, target, &events).await? {
            stop = Some((SuppressionScope::All, SuppressionReason::SoftBounces));
        }
        if let Some((scope, reason)) = stop {
            let detail = match target.about {
                Some((run, action)) => format!("by a report about the mail of action {action} of run {run}"),
                None => "by a report about the address".to_owned(),
            };
            let new = NewSuppression {
                channel: target.channel,
                address_hash: target.address_hash.clone(),
                scope,
                reason,
                detail,
            };
            let stored = txn.insert_suppression(&new, now).await?;
            tracing::info!(
                suppression_id = stored.id,
                "{}: suppressed, {}",
                stored.of.detail,
                reason.as_str()
            );
        }
        txn.commit().await?;
        Ok(FeedbackOutcome::Recorded)
    }
}

/// Whether an address bounced softly too often, since the last time that it was allowed again.
async fn too_many_soft_bounces(
    txn: &Txn,
    feedback: &Feedback,
    target: &Target,
    events: &[Engagement],
) -> Result<bool, EngineError> {
    let reason = SuppressionReason::SoftBounces;
    let lifted = txn.last_lifted(&target.address_hash, target.channel, reason).await?;
    let begin = feedback.occurred_at - soft_bounce_window();
    let from = lifted.map_or(begin, |lifted| begin.max(lifted));
    let until = feedback.occurred_at + soft_bounce_window();
    for event in events {
        let EngagementKind::Custom(name) = &event.kind else {
            continue;
        };
        let times = txn.times_of_events(&event.customer_id, name, from, until).await?;
        if bounced_too_often(times) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether something may follow for the address.
fn may_stop(feedback: &Feedback, target: &Target) -> bool {
    feedback.kind.suppression(target.channel).is_some() || feedback.kind == FeedbackKind::SoftBounce
}

/// What came of an event that is one for each customer with an address.
fn of_events(outcomes: &[RecordOutcome]) -> FeedbackOutcome {
    let is = |wanted: fn(&RecordOutcome) -> bool| outcomes.iter().any(wanted);
    if is(|outcome| matches!(outcome, RecordOutcome::Recorded)) {
        FeedbackOutcome::Recorded
    } else if is(|outcome| matches!(outcome, RecordOutcome::Duplicate)) {
        FeedbackOutcome::Duplicate
    } else {
        FeedbackOutcome::NobodyKnown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SHORT_TOKEN_OVERHEAD;

    #[test]
    fn a_reference_fits_into_an_address() {
        assert_eq!(short_token_len(REFERENCE_BYTES), 47);
        assert_eq!(REFERENCE_BYTES + SHORT_TOKEN_OVERHEAD, 29);
        let address = BounceAddress::parse("bounces-of-shops@example.com").expect("valid");
        let full = address.of_mail(&"a".repeat(47)).expect("an address");
        assert_eq!(full.as_str().find('@'), Some(64));
        for bad in [
            "bounces-of-shops1@example.com",
            "a+b@example.com",
            "bounces",
            "@example.com",
            "a b@example.com",
        ] {
            assert!(BounceAddress::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reference_is_read_as_it_was_written() {
        let reference = |run, action| MailReference {
            run: ProgressId(run),
            action: ActionId(action),
            hash_begins: *b"12345678",
        };
        for (run, action) in [(0, 0), (1, 2), ((1 << 48) - 1, (1 << 40) - 1)] {
            let reference = reference(run, action);
            let bytes = reference.to_bytes().expect("it fits");
            assert_eq!(MailReference::from_bytes(&bytes), Some(reference));
            assert_eq!(MailReference::from_bytes(&bytes[1..]), None);
        }
        for (run, action) in [(1 << 48, 0), (0, 1 << 40), (-1, 0), (0, i64::MIN)] {
            assert_eq!(reference(run, action).to_bytes(), None, "{run} {action}");
        }
    }
}
