//! `engagement_events`.

use sea_orm::{ConnectionTrait, FromQueryResult};
use std::collections::{HashMap, HashSet};

use super::batch::{Batch, Cell, Col};
use super::session::{Session, values};
use super::{Page, StoreError, Txn};
use crate::domain::{ActionId, CustomerId, Engagement, EngagementKind, ProgressId, Timestamp};

const TABLE: &str = "engagement_events";

/// Later than any event: the end of the year 9999, the last that is written with four digits and so compares as text.
const END_OF_TIME: Option<Timestamp> = Timestamp::from_timestamp(253_402_300_799, 0);

#[derive(FromQueryResult)]
struct Row {
    customer_id: String,
    event_id: String,
    kind: String,
    name: Option<String>,
    occurred_at: Timestamp,
    received_at: Timestamp,
    progress_id: Option<i64>,
    action_id: Option<i64>,
}

#[derive(FromQueryResult)]
struct LastRow {
    customer_id: String,
    occurred_at: Timestamp,
}

#[derive(FromQueryResult)]
struct KeyRow {
    customer_id: String,
    event_id: String,
}

impl<C: ConnectionTrait> Session<C> {
    /// A page of a customer's events, the newest first. The key is (time, event id).
    pub async fn engagements(
        &self,
        id: &CustomerId,
        page: &Page<(Timestamp, String)>,
    ) -> Result<Vec<Engagement>, StoreError> {
        let sql = format!(
            "select customer_id, event_id, kind, name, occurred_at, received_at, progress_id, action_id from {TABLE} \
             where customer_id = $1 and (occurred_at, event_id) < ($2, $3) order by occurred_at desc, event_id desc limit {}",
            page.size
        );
        let (before, event_id) = page
            .after
            .clone()
            .unwrap_or_else(|| (END_OF_TIME.unwrap_or_default(), String::new()));
        self.rows::<Row>(&sql, values![id.as_str(), before, event_id])
            .await?
            .into_iter()
            .map(Row::into_engagement)
            .collect()
    }

    /// When each of these customers last opened a mail, up to `now`.
    pub async fn last_opened<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a CustomerId>,
        now: Timestamp,
    ) -> Result<HashMap<String, Timestamp>, StoreError> {
        let mut batch = Batch::new(&[("customer_id", Col::Text)]);
        for id in ids {
            batch.push([id.as_str().into()]);
        }
        let (table, mut values) = batch.bind(self.backend, 2);
        values.insert(0, now.into());
        let sql = format!(
            "select e.customer_id, max(e.occurred_at) as occurred_at from {table} join {TABLE} e on e.customer_id = u.customer_id \
             and e.kind = 'email_opened' and e.occurred_at <= $1 group by e.customer_id"
        );
        let rows: Vec<LastRow> = self.rows(&sql, values).await?;
        Ok(rows.into_iter().map(|row| (row.customer_id, row.occurred_at)).collect())
    }
}

impl Txn {
    /// Stores events, and says which were new, by (customer, event id). The others are there already.
    pub async fn insert_engagements(&self, events: &[Engagement]) -> Result<HashSet<(String, String)>, StoreError> {
        let mut batch = Batch::new(&[
            ("customer_id", Col::Text),
            ("event_id", Col::Text),
            ("kind", Col::Text),
            ("name", Col::OptText),
            ("occurred_at", Col::Time),
            ("received_at", Col::Time),
            ("progress_id", Col::OptBigInt),
            ("action_id", Col::OptBigInt),
        ]);
        for event in events {
            let name = match &event.kind {
                EngagementKind::Custom(name) => Some(name.as_str()),
                EngagementKind::EmailOpened | EngagementKind::EmailClicked | EngagementKind::Replied => None,
            };
            batch.push([
                event.customer_id.as_str().into(),
                event.event_id.as_str().into(),
                event.kind.as_str().into(),
                name.into(),
                event.occurred_at.into(),
                event.received_at.into(),
                Cell::from(event.about.map(|(progress, _)| progress.0)),
                Cell::from(event.about.map(|(_, action)| action.0)),
            ]);
        }
        if batch.is_empty() {
            return Ok(HashSet::new());
        }
        let (table, values) = batch.bind(self.backend, 1);
        let sql = format!(
            "insert into {TABLE} (customer_id, event_id, kind, name, occurred_at, received_at, progress_id, action_id) \
             select u.customer_id, u.event_id, u.kind, u.name, u.occurred_at, u.received_at, u.progress_id, u.action_id \
             from {table} where true on conflict (customer_id, event_id) do nothing returning customer_id, event_id"
        );
        let rows: Vec<KeyRow> = self.rows(&sql, values).await?;
        Ok(rows.into_iter().map(|row| (row.customer_id, row.event_id)).collect())
    }
}

impl Row {
    fn into_engagement(self) -> Result<Engagement, StoreError> {
        let corrupt = |what: String| StoreError::corrupt(TABLE, &self.event_id, what);
        let kind = match self.kind.as_str() {
            "email_opened" => EngagementKind::EmailOpened,
            "email_clicked" => EngagementKind::EmailClicked,
            "replied" => EngagementKind::Replied,
            "custom" => EngagementKind::Custom(self.name.unwrap_or_default()),
            other => return Err(corrupt(format!("kind {other}"))),
        };
        Ok(Engagement {
            customer_id: CustomerId::parse(&self.customer_id).map_err(|error| corrupt(error.to_string()))?,
            kind,
            occurred_at: self.occurred_at,
            received_at: self.received_at,
            about: self
                .progress_id
                .zip(self.action_id)
                .map(|(progress, action)| (ProgressId(progress), ActionId(action))),
            event_id: self.event_id,
        })
    }
}
