//! Erasing a customer: every row that is about it, in one transaction (GDPR, article 17).

use sea_orm::FromQueryResult;

use super::session::values;
use super::{StoreError, Txn};
use crate::domain::{CustomerId, Timestamp};

/// The hashes of a customer's addresses.
#[derive(Debug, PartialEq, Eq, FromQueryResult)]
pub struct AddressHashes {
    /// Of its mail address.
    pub email_hash: Option<String>,
    /// Of its phone number.
    pub phone_hash: Option<String>,
}

/// How many rows were deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ErasedRows {
    /// Runs.
    pub runs: u64,
    /// Attempts, in the ledger.
    pub executions: u64,
    /// Engagement events.
    pub engagements: u64,
}

/// An answer that is kept to a request about several customers.
#[derive(Debug, FromQueryResult)]
pub struct KeptAnswer {
    /// The method, without its service.
    pub method: String,
    /// Whose id of a request it is.
    pub caller: String,
    /// The caller's id of the request.
    pub request_id: String,
    /// What was answered.
    pub response: Vec<u8>,
}

impl Txn {
    /// The hashes of a customer's addresses. It need not be readable otherwise. None: there is no such.
    pub async fn address_hashes(&self, id: &CustomerId) -> Result<Option<AddressHashes>, StoreError> {
        let sql = "select email_hash, phone_hash from customers where customer_id = $1";
        self.row(sql, values![id.as_str()]).await
    }

    /// The same, and locks the customer.
    pub async fn customer_to_erase(&self, id: &CustomerId) -> Result<Option<AddressHashes>, StoreError> {
        let sql = format!(
            "select email_hash, phone_hash from customers where customer_id = $1 {}",
            self.for_update()
        );
        self.row(&sql, values![id.as_str()]).await
    }

    /// Deletes all rows that carry a customer's id, its own last. What is under way for it finds no row to be recorded in.
    pub async fn erase_customer(&self, id: &CustomerId) -> Result<ErasedRows, StoreError> {
        let delete = async |table: &str| {
            let sql = format!("delete from {table} where customer_id = $1");
            self.execute(&sql, values![id.as_str()]).await
        };
        let erased = ErasedRows {
            runs: delete("customer_timeline_progress").await?,
            executions: delete("action_executions").await?,
            engagements: delete("engagement_events").await?,
        };
        for table in ["stopped_in_flight", "delivery_reports", "request_log", "customers"] {
            delete(table).await?;
        }
        Ok(erased)
    }

    /// The answers to requests about several customers in which these bytes are. It reads all that are kept, which is a day's.
    pub async fn answers_with(&self, bytes: &[u8]) -> Result<Vec<KeptAnswer>, StoreError> {
        let sql = format!(
            "select method, caller, request_id, response from request_log where customer_id = '' and response is not null and {} > 0",
            self.pick("position($1 in response)", "instr(response, $1)")
        );
        self.rows(&sql, values![bytes.to_vec()]).await
    }

    /// Replaces what a request about several customers is answered with when it comes again.
    pub async fn replace_answer(&self, answer: &KeptAnswer) -> Result<(), StoreError> {
        let sql = "update request_log set response = $4 where customer_id = '' and method = $1 and caller = $2 and request_id = $3";
        let values = values![
            answer.method.as_str(),
            answer.caller.as_str(),
            answer.request_id.as_str(),
            answer.response.clone()
        ];
        self.execute(sql, values).await?;
        Ok(())
    }

    /// Notes that a customer was erased: when and why, and a hash of its id.
    pub async fn insert_erasure(&self, customer_hash: &str, reason: &str, now: Timestamp) -> Result<(), StoreError> {
        let sql = "insert into erasures (customer_hash, reason, erased_at) values ($1, $2, $3)";
        self.execute(sql, values![customer_hash, reason, now]).await?;
        Ok(())
    }
}
