//! `customers`.

use chrono_tz::Tz;
use sea_orm::{ConnectionTrait, FromQueryResult};

use super::batch::{Batch, Cell, Col};
use super::session::{Session, values};
use super::{Page, StoreError, Txn};
use crate::domain::{Customer, CustomerId, EmailAddress, Invalid, PhoneNumber, Stage, Timestamp};

const TABLE: &str = "customers";

const COLUMNS: &str = "c.customer_id, c.display_name, c.email, c.phone, c.time_zone, c.pipeline_stage, c.stage_visit, \
     c.engagement_score, c.attributes, c.is_test, c.source_time, c.created_at, c.updated_at";

/// Which customers to list.
#[derive(Debug, Clone, Default)]
pub struct CustomerFilter {
    /// Only in this stage.
    pub pipeline_stage: Option<Stage>,
}

#[derive(FromQueryResult)]
struct Row {
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
        let mut batch = Batch::new(&[("customer_id", Col::Text)]);
        for id in ids {
            batch.push([id.as_str().into()]);
        }
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let (table, values) = batch.bind(self.backend, 1);
        let sql = format!(
            "select {COLUMNS} from {table} join {TABLE} c on c.customer_id = u.customer_id order by c.customer_id {lock}"
        );
        self.rows::<Row>(&sql, values)
            .await?
            .into_iter()
            .map(Row::into_customer)
            .collect()
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

    /// Stores new customers. [`StoreError::Duplicate`] when somebody else stored one of them meanwhile.
    pub async fn insert_customers(&self, customers: &[&Customer]) -> Result<(), StoreError> {
        if customers.is_empty() {
            return Ok(());
        }
        let (table, values) = batch(customers).bind(self.backend, 1);
        let columns = "customer_id, bucket, display_name, email, phone, time_zone, pipeline_stage, stage_visit, \
             engagement_score, attributes, is_test, source_time, created_at, updated_at";
        let sql = format!(
            "insert into {TABLE} ({columns}) select {columns} from {table} where true on conflict (customer_id) do nothing"
        );
        let inserted = self.execute(&sql, values).await?;
        if inserted == customers.len() as u64 {
            Ok(())
        } else {
            Err(StoreError::Duplicate)
        }
    }

    /// Stores what changed of customers that this transaction has locked.
    pub async fn update_customers(&self, customers: &[&Customer]) -> Result<(), StoreError> {
        if customers.is_empty() {
            return Ok(());
        }
        let (table, values) = batch(customers).bind(self.backend, 1);
        let sql = format!(
            "update {TABLE} as c set display_name = u.display_name, email = u.email, phone = u.phone, time_zone = u.time_zone, \
             pipeline_stage = u.pipeline_stage, stage_visit = u.stage_visit, engagement_score = u.engagement_score, \
             attributes = u.attributes, is_test = u.is_test, source_time = u.source_time, updated_at = u.updated_at \
             from {table} where c.customer_id = u.customer_id"
        );
        self.execute(&sql, values).await?;
        Ok(())
    }
}

/// Customers as they travel.
fn batch(customers: &[&Customer]) -> Batch {
    let mut batch = Batch::new(&[
        ("customer_id", Col::Text),
        ("bucket", Col::Int),
        ("display_name", Col::Text),
        ("email", Col::OptText),
        ("phone", Col::OptText),
        ("time_zone", Col::OptText),
        ("pipeline_stage", Col::OptText),
        ("stage_visit", Col::BigInt),
        ("engagement_score", Col::Int),
        ("attributes", Col::Json),
        ("is_test", Col::Bool),
        ("source_time", Col::OptTime),
        ("created_at", Col::Time),
        ("updated_at", Col::Time),
    ]);
    for customer in customers {
        batch.push([
            customer.id.as_str().into(),
            customer.id.bucket().into(),
            customer.display_name.as_str().into(),
            customer.email.as_ref().map(EmailAddress::as_str).into(),
            customer.phone.as_ref().map(PhoneNumber::as_str).into(),
            customer.time_zone.map(Tz::name).into(),
            customer.pipeline_stage.as_ref().map(Stage::as_str).into(),
            customer.stage_visit.into(),
            customer.engagement_score.into(),
            Cell::Json(serde_json::Value::Object(customer.attributes.clone())),
            customer.is_test.into(),
            customer.source_time.into(),
            customer.created_at.into(),
            customer.updated_at.into(),
        ]);
    }
    batch
}

impl Row {
    fn into_customer(self) -> Result<Customer, StoreError> {
        let corrupt = |error: Invalid| StoreError::corrupt(TABLE, &self.customer_id, error);
        let zone = |name: &str| name.parse::<Tz>().map_err(|_| Invalid::new(name, "a time zone"));
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
