//! `customers`.

use chrono_tz::Tz;
use sea_orm::{ConnectionTrait, FromQueryResult, QueryResult};
use std::collections::{HashMap, HashSet};

use super::batch::{Batch, Cell, Col};
use super::broken::{read, value};
use super::layout::{Among, Part};
use super::row::row;
use super::session::{Session, values};
use super::suppressions::{SuppressedRow, suppressed_of_customer};
use super::{Page, StoreError, Txn};
use crate::domain::{Customer, CustomerId, EmailAddress, Invalid, PhoneNumber, Stage, Suppressed, Timestamp};

const TABLE: &str = "customers";

/// A customer as it is written.
#[derive(Debug)]
pub struct CustomerRow<'a> {
    /// The customer.
    pub customer: &'a Customer,
    /// The hash of its mail address.
    pub email_hash: Option<String>,
    /// The hash of its phone number.
    pub phone_hash: Option<String>,
}

/// Which customers to list.
#[derive(Debug, Clone, Default)]
pub struct CustomerFilter {
    /// Only in this stage.
    pub pipeline_stage: Option<Stage>,
}

row! {
    const COLUMNS;
    struct Row of "c" {
        customer_id: String,
        display_name: String,
        email: Option<String>,
        phone: Option<String>,
        time_zone: Option<String>,
        pipeline_stage: Option<String>,
        stage_visit: i64,
        engagement_score: i32,
        attributes: serde_json::Value,
        is_test: bool,
        source_time: Option<Timestamp>,
        created_at: Timestamp,
        updated_at: Timestamp,
    }
}

#[derive(FromQueryResult)]
struct IdRow {
    customer_id: String,
}

#[derive(FromQueryResult)]
struct ZoneRow {
    customer_id: String,
    time_zone: Option<String>,
}

/// A customer with the channels by which it must not be written to, or the id of one of whom that can't be read.
pub type ReadRecipient = Result<(Customer, Suppressed), String>;

impl<C: ConnectionTrait> Session<C> {
    /// A customer.
    pub async fn customer(&self, id: &CustomerId) -> Result<Option<Customer>, StoreError> {
        let sql = format!("select {COLUMNS} from {TABLE} c where c.customer_id = $1");
        self.row::<Row>(&sql, values![id.as_str()])
            .await?
            .map(Row::into_customer)
            .transpose()
    }

    /// Several customers, in no order. Ids without one are left out.
    pub async fn customers_by_id<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a CustomerId>,
    ) -> Result<Vec<Customer>, StoreError> {
        self.customers_in(ids, "").await
    }

    /// Several customers as [`Self::customers_by_id`] finds them, with what is suppressed of them, in one statement. Each is read on
    /// its own, so that one that can't be read takes no other with it.
    pub async fn read_recipients<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a CustomerId>,
    ) -> Result<Vec<ReadRecipient>, StoreError> {
        let columns = format!("{COLUMNS}, {}", suppressed_of_customer(self.backend));
        let mut rows = Vec::new();
        for (sql, values) in self.select_in(&columns, ids, "") {
            rows.extend(self.raw_rows(&sql, values).await?);
        }
        let read_one = |row: &QueryResult| {
            let customer = read::<Row>(row).ok()?.into_customer().ok()?;
            let suppressed: SuppressedRow = read(row).ok()?;
            Some((customer, suppressed.parse()?))
        };
        let read = |row: &QueryResult| read_one(row).ok_or_else(|| value(row, "customer_id").unwrap_or_default());
        Ok(rows.iter().map(read).collect())
    }

    /// A page of customers, by id.
    pub async fn customers(&self, filter: &CustomerFilter, page: &Page<String>) -> Result<Vec<Customer>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from {TABLE} c where c.customer_id > $1 and ($2 = '' or c.pipeline_stage = $2) \
             order by c.customer_id limit {}",
            page.size
        );
        let stage = filter.pipeline_stage.as_ref().map_or("", Stage::as_str);
        let after = page.after.clone().unwrap_or_default();
        self.rows::<Row>(&sql, values![after, stage])
            .await?
            .into_iter()
            .map(Row::into_customer)
            .collect()
    }

    async fn customers_in<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a CustomerId>,
        lock: &str,
    ) -> Result<Vec<Customer>, StoreError> {
        let rows: Vec<Row> = self.columns_in(COLUMNS, ids, lock).await?;
        rows.into_iter().map(Row::into_customer).collect()
    }

    async fn columns_in<'a, T: FromQueryResult>(
        &self,
        columns: &str,
        ids: impl IntoIterator<Item = &'a CustomerId>,
        lock: &str,
    ) -> Result<Vec<T>, StoreError> {
        let mut rows = Vec::new();
        for (sql, values) in self.select_in(columns, ids, lock) {
            rows.extend(self.rows(&sql, values).await?);
        }
        Ok(rows)
    }

    /// How columns of several customers are read.
    fn select_in<'a>(
        &self,
        columns: &str,
        ids: impl IntoIterator<Item = &'a CustomerId>,
        lock: &str,
    ) -> Vec<(String, Vec<sea_orm::Value>)> {
        let select = |among: Among| {
            let wanted = among.has("c.customer_id");
            let sql = format!("select {columns} from {TABLE} c where {wanted} order by c.customer_id {lock}");
            (sql, among.values)
        };
        self.among(ids, &[]).into_iter().map(select).collect()
    }
}

impl Txn {
    /// A customer, locked against changes by others. Whatever starts or stops runs locks the customer first.
    pub async fn customer_for_update(&self, id: &CustomerId) -> Result<Option<Customer>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from {TABLE} c where c.customer_id = $1 {}",
            self.for_update()
        );
        self.row::<Row>(&sql, values![id.as_str()])
            .await?
            .map(Row::into_customer)
            .transpose()
    }

    /// Several customers, locked in the order of their ids.
    pub async fn customers_for_update<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a CustomerId>,
    ) -> Result<Vec<Customer>, StoreError> {
        self.customers_in(ids, self.pick("for update of c", "")).await
    }

    /// Which of these customers are there, and their zones. They are locked in the order of their ids.
    pub async fn zones_for_update<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a CustomerId>,
    ) -> Result<HashMap<String, Option<Tz>>, StoreError> {
        let lock = self.pick("for update of c", "");
        let rows: Vec<ZoneRow> = self.columns_in("c.customer_id, c.time_zone", ids, lock).await?;
        let read = |row: ZoneRow| {
            let zone = row.time_zone.as_deref().map(zone).transpose();
            let zone = zone.map_err(|error| StoreError::corrupt(TABLE, &row.customer_id, error))?;
            Ok((row.customer_id, zone))
        };
        rows.into_iter().map(read).collect()
    }

    /// Which of these customers are there. None of them is erased before this transaction ends.
    pub async fn customers_for_share<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a CustomerId>,
    ) -> Result<HashSet<String>, StoreError> {
        let lock = self.pick("for key share of c", "");
        let rows: Vec<IdRow> = self.columns_in("c.customer_id", ids, lock).await?;
        Ok(rows.into_iter().map(|row| row.customer_id).collect())
    }

    /// Stores new customers. [`StoreError::Duplicate`] when somebody else stored one of them meanwhile.
    pub async fn insert_customers(&self, customers: &[CustomerRow<'_>]) -> Result<(), StoreError> {
        let columns = "customer_id, bucket, display_name, email, phone, email_hash, phone_hash, time_zone, pipeline_stage, \
             stage_visit, engagement_score, attributes, is_test, source_time, created_at, updated_at";
        let mut inserted = 0;
        for Part { table, values, .. } in self.parts(batch(customers), &[]) {
            let sql = format!(
                "insert into {TABLE} ({columns}) select {columns} from {table} where true on conflict (customer_id) do nothing"
            );
            inserted += self.execute(&sql, values).await?;
        }
        if inserted == customers.len() as u64 {
            Ok(())
        } else {
            Err(StoreError::Duplicate)
        }
    }

    /// Stores what changed of customers that this transaction has locked.
    pub async fn update_customers(&self, customers: &[CustomerRow<'_>]) -> Result<(), StoreError> {
        for part in self.parts(batch(customers), &[]) {
            let sql = format!(
                "update {TABLE} as c set display_name = u.display_name, email = u.email, phone = u.phone, \
             email_hash = u.email_hash, phone_hash = u.phone_hash, time_zone = u.time_zone, \
             pipeline_stage = u.pipeline_stage, stage_visit = u.stage_visit, engagement_score = u.engagement_score, \
             attributes = u.attributes, is_test = u.is_test, source_time = u.source_time, updated_at = u.updated_at \
             from {} where c.customer_id = u.customer_id {}",
                part.table,
                part.only("c.customer_id")
            );
            self.execute(&sql, part.values).await?;
        }
        Ok(())
    }
}

/// Customers as they travel.
fn batch<'a>(customers: &'a [CustomerRow<'_>]) -> Batch<'a> {
    let mut batch = Batch::new(&[
        ("customer_id", Col::Text),
        ("bucket", Col::Int),
        ("display_name", Col::Text),
        ("email", Col::Text),
        ("phone", Col::Text),
        ("email_hash", Col::Text),
        ("phone_hash", Col::Text),
        ("time_zone", Col::Text),
        ("pipeline_stage", Col::Text),
        ("stage_visit", Col::BigInt),
        ("engagement_score", Col::Int),
        ("attributes", Col::Json),
        ("is_test", Col::Bool),
        ("source_time", Col::Time),
        ("created_at", Col::Time),
        ("updated_at", Col::Time),
    ]);
    for row in customers {
        let customer = row.customer;
        batch.push([
            customer.id.as_str().into(),
            customer.id.bucket().into(),
            customer.display_name.as_str().into(),
            customer.email.as_ref().map(EmailAddress::as_str).into(),
            customer.phone.as_ref().map(PhoneNumber::as_str).into(),
            row.email_hash.as_deref().into(),
            row.phone_hash.as_deref().into(),
            customer.time_zone.map(Tz::name).into(),
            customer.pipeline_stage.as_ref().map(Stage::as_str).into(),
            customer.stage_visit.into(),
            customer.engagement_score.into(),
            Cell::json(&customer.attributes),
            customer.is_test.into(),
            customer.source_time.into(),
            customer.created_at.into(),
            customer.updated_at.into(),
        ]);
    }
    batch
}

fn zone(name: &str) -> Result<Tz, Invalid> {
    name.parse().map_err(|_| Invalid::new(name, "a time zone"))
}

impl Row {
    fn into_customer(self) -> Result<Customer, StoreError> {
        let corrupt = |error: Invalid| StoreError::corrupt(TABLE, &self.customer_id, error);
        let serde_json::Value::Object(attributes) = self.attributes else {
            return Err(StoreError::corrupt(
                TABLE,
                &self.customer_id,
                "attributes are no object",
            ));
        };
        Ok(Customer {
            id: CustomerId::parse(&self.customer_id).map_err(corrupt)?,
            display_name: self.display_name,
            email: self
                .email
                .as_deref()
                .map(EmailAddress::parse)
                .transpose()
                .map_err(corrupt)?,
            phone: self
                .phone
                .as_deref()
                .map(PhoneNumber::parse)
                .transpose()
                .map_err(corrupt)?,
            time_zone: self.time_zone.as_deref().map(zone).transpose().map_err(corrupt)?,
            pipeline_stage: self
                .pipeline_stage
                .as_deref()
                .map(Stage::parse)
                .transpose()
                .map_err(corrupt)?,
            stage_visit: self.stage_visit,
            engagement_score: self.engagement_score,
            attributes,
            is_test: self.is_test,
            source_time: self.source_time,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}
