//! `request_log`: what was answered to a request with an id, so that repeating it is safe.

use chrono::Duration;
use sea_orm::FromQueryResult;

use super::session::values;
use super::{StoreError, Txn};
use crate::domain::Timestamp;

/// How long an answer is kept.
const KEPT: Duration = Duration::hours(24);

/// Which request it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// Whose; empty for requests that are about no customer.
    pub customer_id: String,
    /// The method, without its service.
    pub method: &'static str,
    /// Whose id it is: each caller has ids of his own. Empty where nobody is asked who he is.
    pub caller: String,
    /// The caller's id of the request.
    pub request_id: String,
    /// SHA-256 of the request without its id.
    pub hash: Vec<u8>,
}

/// Whether a request is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// It is: carry it out, and end with `Txn::finish_request`.
    New,
    /// It was carried out before, with this answer.
    Answered(Vec<u8>),
    /// The id was used for another request.
    Reused,
}

#[derive(FromQueryResult)]
struct Row {
    request_hash: Vec<u8>,
    response: Option<Vec<u8>>,
}

impl Txn {
    /// Enters a request. A twin that runs at the same time waits here until this transaction is over.
    pub async fn begin_request(&self, key: &RequestKey, now: Timestamp) -> Result<Begun, StoreError> {
        let entered = self
            .execute(
                "insert into request_log (customer_id, method, caller, request_id, request_hash, created_at) values ($1, $2, $3, $4, $5, $6) \
                 on conflict (customer_id, method, caller, request_id) do update set request_hash = excluded.request_hash, \
                 response = null, created_at = excluded.created_at where request_log.created_at <= $7",
                values![key.customer_id.as_str(), key.method, key.caller.as_str(), key.request_id.as_str(), key.hash.clone(), now, now - KEPT],
            )
            .await?;
        if entered > 0 {
            return Ok(Begun::New);
        }
        let row: Option<Row> = self
            .row(
                "select request_hash, response from request_log where customer_id = $1 and method = $2 and caller = $3 and request_id = $4",
                values![key.customer_id.as_str(), key.method, key.caller.as_str(), key.request_id.as_str()],
            )
            .await?;
        Ok(match row {
            Some(Row {
                request_hash,
                response: Some(response),
            }) if request_hash == key.hash => Begun::Answered(response),
            Some(Row { request_hash, .. }) if request_hash != key.hash => Begun::Reused,
            Some(_) | None => Begun::New,
        })
    }

    /// Notes the answer to a request that was begun in this transaction.
    pub async fn finish_request(&self, key: &RequestKey, response: Vec<u8>) -> Result<(), StoreError> {
        self.execute(
            "update request_log set response = $5 where customer_id = $1 and method = $2 and caller = $3 and request_id = $4",
            values![key.customer_id.as_str(), key.method, key.caller.as_str(), key.request_id.as_str(), response],
        )
        .await?;
        Ok(())
    }

    /// Forgets answers that are no longer kept, some at a time.
    pub async fn purge_requests(&self, now: Timestamp) -> Result<u64, StoreError> {
        let sql = "delete from request_log where (customer_id, method, caller, request_id) in \
                   (select customer_id, method, caller, request_id from request_log where created_at <= $1 order by created_at limit 1000)";
        self.execute(sql, values![now - KEPT]).await
    }
}
