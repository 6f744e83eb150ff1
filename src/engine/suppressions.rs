//! Suppressions: whom nothing is sent to, by whose word, and how it is lifted.

use super::once::Begin;
use super::{Answer, Engine, EngineError, Once};
use crate::domain::text::hexadecimal;
use crate::domain::{
    Address, Channel, Customer, CustomerId, Keyword, NewSuppression, PhoneNumber, Suppression, SuppressionReason,
    SuppressionScope,
};
use crate::keys::ADDRESS_HASH_LEN;
use crate::store::{CustomerRow, Page, SuppressionFilter};

/// Whom a suppression is on.
#[derive(Debug, Clone)]
pub enum Recipient {
    /// The address that a customer has now.
    Customer(CustomerId),
    /// This address, whoever has it.
    Address(Address),
}

/// A suppression that is to be set.
#[derive(Debug, Clone)]
pub struct SuppressRecipient {
    /// On whom.
    pub recipient: Recipient,
    /// By which channel nothing goes.
    pub channel: Channel,
    /// What is stopped.
    pub scope: SuppressionScope,
    /// Why.
    pub reason: SuppressionReason,
    /// More about it, for people; may be empty.
    pub detail: String,
}

/// Which suppressions to list.
#[derive(Debug, Clone, Default)]
pub struct ListSuppressions {
    /// Only of this recipient.
    pub recipient: Option<Recipient>,
    /// Only on this channel.
    pub channel: Option<Channel>,
    /// Also those that were lifted.
    pub with_lifted: bool,
}

impl Engine {
    /// Suppresses an address. No claim that does not know of it commits after it.
    pub async fn suppress_recipient(
        &self,
        command: SuppressRecipient,
        once: Once<'_, Suppression>,
    ) -> Result<Answer<Suppression>, EngineError> {
        let operation = match self.begin_once(once).await? {
            Begin::Do(operation) => operation,
            Begin::Repeat(response) => return Ok(Answer::Repeated(response)),
        };
        let (txn, now) = (&operation.txn, operation.now);
        let address = match command.recipient {
            Recipient::Address(address) => address,
            Recipient::Customer(id) => {
                let customer = txn.customer(&id).await?;
                let customer = customer.ok_or_else(|| EngineError::CustomerNotFound(id.clone()))?;
                address_of(&customer, command.channel).ok_or(EngineError::AddressMissing {
                    customer: id,
                    channel: command.channel,
                })?
            }
        };
        let new = NewSuppression {
            channel: command.channel,
            address_hash: self.address_hash(&address),
            scope: command.scope,
            reason: command.reason,
            detail: command.detail,
        };
        txn.lock_runs_of_address(&new.address_hash).await?;
        let stored = txn.insert_suppression(&new, now).await?;
        operation.finish(stored).await
    }

    /// Lifts a suppression. What was skipped meanwhile stays skipped.
    pub async fn lift_suppression(
        &self,
        id: i64,
        reason: &str,
        once: Once<'_, Suppression>,
    ) -> Result<Answer<Suppression>, EngineError> {
        let operation = match self.begin_once(once).await? {
            Begin::Do(operation) => operation,
            Begin::Repeat(response) => return Ok(Answer::Repeated(response)),
        };
        let lifted = operation.txn.lift_suppression(id, reason, operation.now).await?;
        let lifted = lifted.ok_or(EngineError::SuppressionNotFound(id))?;
        operation.finish(lifted).await
    }

    /// Does as somebody says who answered a text message: no more to this number, or again. What an operator suppressed stays.
    pub async fn obey(&self, number: &PhoneNumber, keyword: Keyword) -> Result<(), EngineError> {
        let address_hash = self.address_hash(&Address::Phone(number.clone()));
        match keyword {
            Keyword::Stop => {
                let new = NewSuppression {
                    channel: Channel::Sms,
                    address_hash,
                    scope: SuppressionScope::All,
                    reason: SuppressionReason::StopKeyword,
                    detail: "by an answer to a text message".to_owned(),
                };
                let stored = self.suppress(&new).await?;
                tracing::info!(suppression_id = stored.id, "somebody answered STOP to a text message");
            }
            Keyword::Start => {
                let (txn, now) = (self.store.begin().await?, self.clock.now());
                // A provider refuses a number for good because of a STOP that it alone heard.
                let reasons = [SuppressionReason::StopKeyword, SuppressionReason::Provider];
                let why = "by an answer to a text message";
                let lifted = txn
                    .lift_of_address(&address_hash, Channel::Sms, &reasons, why, now)
                    .await?;
                txn.commit().await?;
                tracing::info!(lifted, "somebody answered START to a text message");
            }
        }
        Ok(())
    }

    /// Stores a suppression, unless there is one. No claim that does not know of it commits after it.
    pub(super) async fn suppress(&self, new: &NewSuppression) -> Result<Suppression, EngineError> {
        let (txn, now) = (self.store.begin().await?, self.clock.now());
        txn.lock_runs_of_address(&new.address_hash).await?;
        let stored = txn.insert_suppression(new, now).await?;
        txn.commit().await?;
        Ok(stored)
    }

    /// A page of suppressions, by id.
    pub async fn suppressions(
        &self,
        asked: ListSuppressions,
        page: &Page<i64>,
    ) -> Result<Vec<Suppression>, EngineError> {
        let address_hashes = match asked.recipient {
            None => None,
            Some(Recipient::Address(address)) => Some(vec![self.address_hash(&address)]),
            Some(Recipient::Customer(id)) => {
                let customer = self.customer(&id).await?;
                let row = self.customer_row(&customer);
                Some(row.email_hash.into_iter().chain(row.phone_hash).collect())
            }
        };
        let filter = SuppressionFilter {
            address_hashes,
            channel: asked.channel,
            with_lifted: asked.with_lifted,
        };
        Ok(self.store.reader().suppressions(&filter, page).await?)
    }

    /// A customer as it is stored, with the hashes of its addresses.
    pub(super) fn customer_row<'a>(&self, customer: &'a Customer) -> CustomerRow<'a> {
        let hash = |channel| address_of(customer, channel).map(|address| self.address_hash(&address));
        CustomerRow {
            customer,
            email_hash: hash(Channel::Email),
            phone_hash: hash(Channel::Phone),
        }
    }

    /// What follows for the address of a message that the provider refuses to deliver ever again.
    pub(super) fn suppression_of(&self, customer: Option<&Customer>, channel: Channel) -> Option<NewSuppression> {
        let address = address_of(customer?, channel)?;
        Some(NewSuppression {
            channel,
            address_hash: self.address_hash(&address),
            scope: SuppressionScope::All,
            reason: SuppressionReason::of_refusal(channel),
            detail: "the provider refused a message for good".to_owned(),
        })
    }

    /// The hash of an address as it is stored, in lower-case digits.
    pub(super) fn address_hash(&self, address: &Address) -> String {
        hexadecimal(&self.address_digest(address))
    }

    /// The hash of an address.
    pub(super) fn address_digest(&self, address: &Address) -> [u8; ADDRESS_HASH_LEN] {
        self.keys.address_hash(address.kind(), &address.normalised())
    }
}

/// Where a customer is written to by a channel.
pub(super) fn address_of(customer: &Customer, channel: Channel) -> Option<Address> {
    match channel {
        Channel::Email => customer.email.clone().map(Address::Email),
        Channel::Sms | Channel::Phone => customer.phone.clone().map(Address::Phone),
        Channel::Wait | Channel::Interaction => None,
    }
}
