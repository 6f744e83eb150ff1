//! `suppressions`: who must not be written to.
//!
//! A claim reads the suppressions of its customers after it has locked its due runs, and in the same transaction. Whoever stores
//! one locks the customers with that address and their live runs first. So no claim that does not know of it commits after it.

use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult};

use super::batch::{Batch, Col};
use super::progress::TABLE as RUNS;
use super::session::{Session, values};
use super::{Page, StoreError, Txn};
use crate::domain::{Channel, NewSuppression, Suppressed, Suppression, SuppressionReason, SuppressionScope, Timestamp};

const TABLE: &str = "suppressions";

const COLUMNS: &str = "id, channel, address_hash, scope, reason, detail, created_at, lifted_at, lifted_reason";

/// Which suppressions to list.
#[derive(Debug, Clone, Default)]
pub struct SuppressionFilter {
    /// Only of these addresses, by their hashes; none: of all.
    pub address_hashes: Option<Vec<String>>,
    /// Only on this channel.
    pub channel: Option<Channel>,
    /// Also those that were lifted.
    pub with_lifted: bool,
}

#[derive(FromQueryResult)]
struct Row {
    id: i64,
    channel: String,
    address_hash: String,
    scope: String,
    reason: String,
    detail: String,
    created_at: Timestamp,
    lifted_at: Option<Timestamp>,
    lifted_reason: Option<String>,
}

#[derive(FromQueryResult)]
struct CustomerRow {
    customer_id: String,
}

/// A customer's suppressions in force, as [`suppressed_of_customer`] selects them.
#[derive(FromQueryResult)]
pub(super) struct SuppressedRow {
    suppressed: Option<String>,
}

/// Selects the suppressions in force of a customer `c`, as one text: with each its channel, scope and reason.
pub(super) fn suppressed_of_customer(backend: DbBackend) -> String {
    let joined = if backend == DbBackend::Postgres {
        "string_agg"
    } else {
        "group_concat"
    };
    format!(
        "(select {joined}(s.channel || ' ' || s.scope || ' ' || s.reason, ',') from {TABLE} s \
         where s.address_hash in (c.email_hash, c.phone_hash) and s.lifted_at is null) as suppressed"
    )
}

impl SuppressedRow {
    /// By which channels the customer must not be written to: the widest of each. None: there is a word that this service does not
    /// know.
    pub(super) fn parse(&self) -> Option<Suppressed> {
        let mut found = Suppressed::new();
        for one in self.suppressed.iter().flat_map(|all| all.split(',')) {
            let mut given = one.split(' ');
            let (channel, scope, reason) = words(given.next()?, given.next()?, given.next()?)?;
            let widest = found.entry(channel).or_insert((scope, reason));
            if scope > widest.0 {
                *widest = (scope, reason);
            }
        }
        Some(found)
    }
}

impl<C: ConnectionTrait> Session<C> {
    /// A page of suppressions, by id.
    pub async fn suppressions(
        &self,
        filter: &SuppressionFilter,
        page: &Page<i64>,
    ) -> Result<Vec<Suppression>, StoreError> {
        let lifted = if filter.with_lifted {
            ""
        } else {
            "and lifted_at is null"
        };
        let mut of_hashes = String::new();
        let mut values = values![
            page.after.unwrap_or_default(),
            filter.channel.map_or("", Channel::as_str)
        ];
        if let Some(hashes) = &filter.address_hashes {
            let places: Vec<String> = (0..hashes.len()).map(|n| format!("${}", n + 3)).collect();
            if places.is_empty() {
                return Ok(Vec::new());
            }
            of_hashes = format!("and address_hash in ({})", places.join(", "));
            values.extend(hashes.iter().map(|hash| sea_orm::Value::from(hash.as_str())));
        }
        let sql = format!(
            "select {COLUMNS} from {TABLE} where id > $1 and ($2 = '' or channel = $2) {of_hashes} {lifted} order by id limit {}",
            page.size
        );
        self.rows::<Row>(&sql, values)
            .await?
            .into_iter()
            .map(Row::into_suppression)
            .collect()
    }
}

impl Txn {
    /// Waits for claims of whoever has this address that are about to commit, and makes new ones wait for the end of this
    /// transaction, or pass its runs by.
    pub async fn lock_runs_of_address(&self, address_hash: &str) -> Result<(), StoreError> {
        self.lock_runs_of_addresses(&[address_hash]).await
    }

    /// The same for several addresses, in one order for all, so that nobody locks another out.
    pub async fn lock_runs_of_addresses(&self, address_hashes: &[&str]) -> Result<(), StoreError> {
        // `SQLite` has one writer at a time anyway.
        if self.for_update().is_empty() || address_hashes.is_empty() {
            return Ok(());
        }
        let places: Vec<String> = (1..=address_hashes.len()).map(|n| format!("${n}")).collect();
        let places = places.join(", ");
        let values: Vec<sea_orm::Value> = address_hashes.iter().map(|hash| (*hash).into()).collect();
        // Who starts runs locks the customer, who resumes one locks it.
        let of_address = format!(
            "select c.customer_id from customers c where c.email_hash in ({places}) or c.phone_hash in ({places}) \
             order by c.customer_id"
        );
        if self.layout.is_distributed() {
            let customers: Vec<CustomerRow> = self.rows(&of_address, values).await?;
            return self.lock_customers_and_runs(&customers).await;
        }
        self.execute(&format!("{of_address} for update"), values.clone())
            .await?;
        let runs = format!(
            "select p.id from customers c join {RUNS} p on p.customer_id = c.customer_id and p.status in ('active', 'paused') \
             where c.email_hash in ({places}) or c.phone_hash in ({places}) order by p.customer_id, p.id for update of p"
        );
        self.execute(&runs, values).await?;
        Ok(())
    }

    /// Locks customers and their live runs shard by shard, as Citus does.
    async fn lock_customers_and_runs(&self, customers: &[CustomerRow]) -> Result<(), StoreError> {
        let batch = || {
            let mut batch = Batch::new(&[("customer_id", Col::Text)]);
            for row in customers {
                batch.push([row.customer_id.as_str().into()]);
            }
            batch
        };
        for part in self.parts(batch(), &[]) {
            let sql = format!(
                "select c.customer_id from {} join customers c on c.customer_id = u.customer_id {} order by c.customer_id for update of c",
                part.table,
                part.only("c.customer_id")
            );
            self.execute(&sql, part.values).await?;
        }
        for part in self.parts(batch(), &[]) {
            let sql = format!(
                "select p.id from {} join {RUNS} p on p.customer_id = u.customer_id and p.status in ('active', 'paused') {} \
                 order by p.customer_id, p.id for update of p",
                part.table,
                part.only("p.customer_id")
            );
            self.execute(&sql, part.values).await?;
        }
        Ok(())
    }

    /// Stores suppressions. One that is in force already stays as it is.
    pub async fn insert_suppression(&self, new: &NewSuppression, now: Timestamp) -> Result<Suppression, StoreError> {
        let sql = format!(
            "insert into {TABLE} (channel, address_hash, scope, reason, detail, created_at) values ($1, $2, $3, $4, $5, $6) \
             on conflict (address_hash, channel, scope) where lifted_at is null do nothing"
        );
        let (channel, hash, scope) = (new.channel.as_str(), new.address_hash.as_str(), new.scope.as_str());
        let values = values![channel, hash, scope, new.reason.as_str(), new.detail.as_str(), now];
        self.execute(&sql, values).await?;
        let sql = format!(
            "select {COLUMNS} from {TABLE} where address_hash = $1 and channel = $2 and scope = $3 and lifted_at is null"
        );
        let row: Option<Row> = self.row(&sql, values![hash, channel, scope]).await?;
        row.ok_or_else(|| StoreError::corrupt(TABLE, channel, "is not stored"))?
            .into_suppression()
    }

    /// Lifts what is in force on an address for one of these reasons, and says how many that were.
    pub async fn lift_of_address(
        &self,
        address_hash: &str,
        channel: Channel,
        reasons: &[SuppressionReason],
        why: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let reasons: Vec<String> = reasons.iter().map(|reason| format!("'{}'", reason.as_str())).collect();
        let sql = format!(
            "update {TABLE} set lifted_at = $3, lifted_reason = $4 where address_hash = $1 and channel = $2 \
             and reason in ({}) and lifted_at is null",
            reasons.join(", ")
        );
        self.execute(&sql, values![address_hash, channel.as_str(), now, why])
            .await
    }

    /// Lifts a suppression that is in force. None: there is no such.
    pub async fn lift_suppression(
        &self,
        id: i64,
        reason: &str,
        now: Timestamp,
    ) -> Result<Option<Suppression>, StoreError> {
        let sql = format!(
            "update {TABLE} set lifted_at = $2, lifted_reason = $3 where id = $1 and lifted_at is null returning {COLUMNS}"
        );
        let row: Option<Row> = self.row(&sql, values![id, now, reason]).await?;
        row.map(Row::into_suppression).transpose()
    }
}

fn words(channel: &str, scope: &str, reason: &str) -> Option<(Channel, SuppressionScope, SuppressionReason)> {
    let channel = Channel::ALL.into_iter().find(|known| known.as_str() == channel)?;
    Some((
        channel,
        SuppressionScope::parse(scope)?,
        SuppressionReason::parse(reason)?,
    ))
}

impl Row {
    fn into_suppression(self) -> Result<Suppression, StoreError> {
        let known = words(&self.channel, &self.scope, &self.reason);
        let unknown = || StoreError::corrupt(TABLE, self.id, "has a word that this service does not know");
        let (channel, scope, reason) = known.ok_or_else(unknown)?;
        Ok(Suppression {
            id: self.id,
            of: NewSuppression {
                channel,
                address_hash: self.address_hash,
                scope,
                reason,
                detail: self.detail,
            },
            created_at: self.created_at,
            lifted: self.lifted_at.zip(self.lifted_reason),
        })
    }
}
