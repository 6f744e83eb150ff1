//! Whom something is about that came back, and how often it did.

use sea_orm::{ConnectionTrait, FromQueryResult};

use super::StoreError;
use super::progress::TABLE as RUNS;
use super::session::{Session, values};
use crate::domain::{Channel, CustomerId, ProgressId, SuppressionReason, Timestamp};

#[derive(FromQueryResult)]
struct RecipientRow {
    customer_id: String,
    address_hash: String,
}

#[derive(FromQueryResult)]
struct TimeRow {
    happened_at: Option<Timestamp>,
}

impl<C: ConnectionTrait> Session<C> {
    /// Whose a run is, and the hash of the address, where the customer still has a mail address whose hash begins so.
    pub async fn recipient_of_mail(
        &self,
        run: ProgressId,
        hash_begins: &str,
    ) -> Result<Option<(CustomerId, String)>, StoreError> {
        // By the index on hashes: runs have none on their id alone.
        let sql = format!(
            "select c.customer_id, c.email_hash as address_hash from customers c \
             join {RUNS} p on p.customer_id = c.customer_id and p.id = $1 where c.email_hash >= $2 and c.email_hash < $3"
        );
        // Behind all digits.
        let end = format!("{hash_begins}g");
        let row: Option<RecipientRow> = self.row(&sql, values![run.0, hash_begins, end.as_str()]).await?;
        row.map(|row| Ok((customer_id(&row.customer_id)?, row.address_hash)))
            .transpose()
    }

    /// The customers that have the address with this hash.
    pub async fn customers_at(&self, channel: Channel, address_hash: &str) -> Result<Vec<CustomerId>, StoreError> {
        let column = match channel {
            Channel::Email => "email_hash",
            Channel::Sms | Channel::Phone | Channel::Wait | Channel::Interaction => "phone_hash",
        };
        let sql = format!(
            "select c.customer_id, c.{column} as address_hash from customers c where c.{column} = $1 \
             order by c.customer_id limit 1000"
        );
        let rows: Vec<RecipientRow> = self.rows(&sql, values![address_hash]).await?;
        rows.iter().map(|row| customer_id(&row.customer_id)).collect()
    }

    /// When events of a name happened to a customer, from one instant to another, both included; the last hundred.
    pub async fn times_of_events(
        &self,
        customer: &CustomerId,
        name: &str,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Timestamp>, StoreError> {
        let sql = "select e.occurred_at as happened_at from engagement_events e where e.customer_id = $1 and e.kind = 'custom' \
             and e.name = $2 and e.occurred_at >= $3 and e.occurred_at <= $4 order by e.occurred_at desc limit 100";
        let rows: Vec<TimeRow> = self.rows(sql, values![customer.as_str(), name, from, until]).await?;
        Ok(rows.into_iter().filter_map(|row| row.happened_at).collect())
    }

    /// When a suppression of an address for this reason was last lifted.
    pub async fn last_lifted(
        &self,
        address_hash: &str,
        channel: Channel,
        reason: SuppressionReason,
    ) -> Result<Option<Timestamp>, StoreError> {
        let sql = "select max(s.lifted_at) as happened_at from suppressions s where s.address_hash = $1 and s.channel = $2 \
             and s.reason = $3";
        let values = values![address_hash, channel.as_str(), reason.as_str()];
        let row: Option<TimeRow> = self.row(sql, values).await?;
        Ok(row.and_then(|row| row.happened_at))
    }
}

fn customer_id(given: &str) -> Result<CustomerId, StoreError> {
    CustomerId::parse(given).map_err(|error| StoreError::corrupt("customers", given, error))
}
