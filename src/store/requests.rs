//! `request_log`: what was answered to a request with an id, so that repeating it is safe.

use chrono::Duration;
use sea_orm::FromQueryResult;
use std::collections::HashMap;

use super::batch::{Batch, Col};
use super::layout::Part;
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

#[derive(FromQueryResult)]
struct AnsweredRow {
    customer_id: String,
    request_hash: Vec<u8>,
    response: Option<Vec<u8>>,
}

impl Txn {
    /// What became of requests about one customer each, who are locked and all different: by customer, those that are not new. What holds
    /// twins up here is the lock of the customer, and [`Self::keep_answers`] ends them.
    pub async fn answered_requests<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a RequestKey> + Clone,
        now: Timestamp,
    ) -> Result<HashMap<String, Begun>, StoreError> {
        let mut batch = Batch::new(&[
            ("customer", Col::Text),
            ("method", Col::Text),
            ("caller", Col::Text),
            ("request_id", Col::Text),
        ]);
        for key in keys.clone() {
            batch.push([
                key.customer_id.as_str().into(),
                key.method.into(),
                key.caller.as_str().into(),
                key.request_id.as_str().into(),
            ]);
        }
        let mut rows: Vec<AnsweredRow> = Vec::new();
        for part in self.parts(batch, &[(now - KEPT).into()]) {
            let sql = format!(
                "select l.customer_id, l.request_hash, l.response from {} join request_log l on l.customer_id = u.customer \
                 and l.method = u.method and l.caller = u.caller and l.request_id = u.request_id where l.created_at > $1 {}",
                part.table,
                part.only("l.customer_id")
            );
            rows.extend(self.rows(&sql, part.values).await?);
        }
        let hashes: HashMap<&str, &[u8]> = keys
            .into_iter()
            .map(|key| (key.customer_id.as_str(), key.hash.as_slice()))
            .collect();
        let became = rows.into_iter().filter_map(|row| {
            if hashes.get(row.customer_id.as_str()) != Some(&row.request_hash.as_slice()) {
                return Some((row.customer_id, Begun::Reused));
            }
            Some((row.customer_id, Begun::Answered(row.response?)))
        });
        Ok(became.collect())
    }

    /// Notes the answers to requests that [`Self::answered_requests`] did not know.
    pub async fn keep_answers(&self, answers: Vec<(&RequestKey, Vec<u8>)>, now: Timestamp) -> Result<(), StoreError> {
        let mut batch = Batch::new(&[
            ("customer_id", Col::Text),
            ("method", Col::Text),
            ("caller", Col::Text),
            ("request_id", Col::Text),
            ("request_hash", Col::Bytes),
            ("response", Col::Bytes),
            ("created_at", Col::Time),
        ]);
        for (key, response) in answers {
            batch.push([
                key.customer_id.as_str().into(),
                key.method.into(),
                key.caller.as_str().into(),
                key.request_id.as_str().into(),
                key.hash.clone().into(),
                response.into(),
                now.into(),
            ]);
        }
        let columns = "customer_id, method, caller, request_id, request_hash, response, created_at";
        for Part { table, values, .. } in self.parts(batch, &[]) {
            // One that is there already is too old to be kept.
            let sql = format!(
                "insert into request_log ({columns}) select {columns} from {table} where true \
                 on conflict (customer_id, method, caller, request_id) do update set request_hash = excluded.request_hash, \
                 response = excluded.response, created_at = excluded.created_at"
            );
            self.execute(&sql, values).await?;
        }
        Ok(())
    }

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
