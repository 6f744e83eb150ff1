//! Erasing a customer, as the law asks for (GDPR, article 17).

use super::once::Begin;
use super::{Answer, Engine, EngineError, Once};
use crate::domain::text::hexadecimal;
use crate::domain::{Channel, CustomerId, NewSuppression, SuppressionReason, SuppressionScope, Timestamp};
use crate::store::ErasedRows;

/// Whom to erase.
#[derive(Debug, Clone)]
pub struct EraseCustomer {
    /// Whom.
    pub customer: CustomerId,
    /// Why, for whoever has to account for it.
    pub reason: String,
    /// Whether nothing is sent to its addresses any more, also when somebody stores them again.
    pub suppress: bool,
}

/// What was erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// When.
    pub erased_at: Timestamp,
    /// How much.
    pub rows: ErasedRows,
    /// The suppressions of its addresses that are in force now.
    pub suppressions: Vec<i64>,
}

/// Takes a customer out of the answer to a request about several, by the method.
pub type Redact<'a> = &'a (dyn Fn(&str, &[u8]) -> Vec<u8> + Send + Sync);

impl Engine {
    /// Erases a customer: all that is stored about it, but hashes of its addresses and of its id, which nobody can undo who does
    /// not have the deployment's secret. What is being sent to it at this moment arrives, and is recorded nowhere.
    pub async fn erase_customer(
        &self,
        command: EraseCustomer,
        redact: Redact<'_>,
        once: Once<'_, Erasure>,
    ) -> Result<Answer<Erasure>, EngineError> {
        let operation = match self.begin_once(once).await? {
            Begin::Do(operation) => operation,
            Begin::Repeat(response) => return Ok(Answer::Repeated(response)),
        };
        let (txn, now) = (&operation.txn, operation.now);
        let id = &command.customer;
        let found = txn.address_hashes(id).await?;
        let found = found.ok_or_else(|| EngineError::CustomerNotFound(id.clone()))?;
        if command.suppress {
            // All at once, and this customer among them: who locked one after the other would lock out who suppresses the same address.
            let both: Vec<&str> = found
                .email_hash
                .iter()
                .chain(&found.phone_hash)
                .map(String::as_str)
                .collect();
            txn.lock_runs_of_addresses(&both).await?;
        }
        let hashes = txn.customer_to_erase(id).await?;
        let hashes = hashes.ok_or_else(|| EngineError::CustomerNotFound(id.clone()))?;
        if hashes != found {
            return Err(EngineError::Concurrent);
        }
        let mut suppressions = Vec::new();
        let addresses = [
            (hashes.email_hash, &[Channel::Email][..]),
            (hashes.phone_hash, &[Channel::Sms, Channel::Phone]),
        ];
        for (address_hash, channels) in addresses {
            let Some(address_hash) = address_hash.filter(|_| command.suppress) else {
                continue;
            };
            for channel in channels {
                let new = NewSuppression {
                    channel: *channel,
                    address_hash: address_hash.clone(),
                    scope: SuppressionScope::All,
                    reason: SuppressionReason::Erased,
                    detail: String::new(),
                };
                suppressions.push(txn.insert_suppression(&new, now).await?.id);
            }
        }
        let rows = txn.erase_customer(id).await?;
        for mut answer in txn.answers_with(id.as_str().as_bytes()).await? {
            answer.response = redact(&answer.method, &answer.response);
            txn.replace_answer(&answer).await?;
        }
        let customer_hash = hexadecimal(&self.keys.address_hash("customer", id.as_str()));
        txn.insert_erasure(&customer_hash, &command.reason, now).await?;
        let answer = operation
            .finish(Erasure {
                erased_at: now,
                rows,
                suppressions,
            })
            .await?;
        self.store.forget_deleted().await?;
        Ok(answer)
    }
}
