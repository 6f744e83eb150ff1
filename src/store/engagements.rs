//! `engagement_events`.

use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use std::collections::{BTreeSet, HashSet};

use super::batch::{Batch, Cell, Col};
use super::customers::ReadRecipient;
use super::layout::Part;
use super::session::{Session, values};
use super::{Page, StoreError, Txn};
use crate::domain::{ActionId, Asked, CustomerId, Engagement, EngagementKind, ProgressId, Run, Timestamp};

const TABLE: &str = "engagement_events";

/// Later than any event: the end of the year 9999, the last that is written with four digits and so compares as text.
pub(super) const END_OF_TIME: Option<Timestamp> = Timestamp::from_timestamp(253_402_300_799, 0);

/// Earlier than any event: the first that compares as text.
const BEGINNING_OF_TIME: Timestamp = Timestamp::from_timestamp(-62_135_596_800, 0).expect("an instant");

/// What a customer last did, seen from one of its runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastEngagement {
    /// Which run.
    pub run: ProgressId,
    /// What was done.
    pub kind: EngagementKind,
    /// The action of that run that it was about; none: it was about something else, or nobody knows what.
    pub action: Option<ActionId>,
    /// When it was last done.
    pub occurred_at: Timestamp,
}

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
    run_id: i64,
    kind: String,
    name: Option<String>,
    action_id: Option<i64>,
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

    /// What is known of the customers of runs: themselves and what is suppressed of them, in no order, each read on its own, and what
    /// they last did up to `now`, as far as conditions ask for it. `since`: what they did before does not matter.
    pub async fn known_of(
        &self,
        runs: &[Run],
        asked: &Asked,
        since: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(Vec<ReadRecipient>, Vec<LastEngagement>), StoreError> {
        let ids: BTreeSet<&CustomerId> = runs.iter().map(|run| &run.customer_id).collect();
        let customers = self.read_recipients(ids).await?;
        let kinds = asked.engagements.keys().map(|query| &query.kind).collect();
        let engagements = self.last_engagements(runs, &kinds, since, now).await?;
        Ok((customers, engagements))
    }

    /// What the customers of these runs last did, up to `now`: for each kind, and for each action of the run that it was
    /// about. One statement, however many kinds there are and whatever conditions ask.
    async fn last_engagements(
        &self,
        runs: &[Run],
        kinds: &BTreeSet<&EngagementKind>,
        since: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Vec<LastEngagement>, StoreError> {
        let mut of_runs = Batch::new(&[("customer_id", Col::Text), ("run_id", Col::BigInt)]);
        let mut names = Batch::new(&[("name", Col::Text)]);
        for run in runs {
            of_runs.push([run.customer_id.as_str().into(), run.id.0.into()]);
        }
        for kind in kinds {
            if let EngagementKind::Custom(name) = kind {
                names.push([name.as_str().into()]);
            }
        }
        if of_runs.is_empty() || kinds.is_empty() {
            return Ok(Vec::new());
        }
        let words: BTreeSet<String> = kinds.iter().map(|kind| format!("'{}'", kind.as_str())).collect();
        let words = words.into_iter().collect::<Vec<_>>().join(", ");
        let (names, of_names) = names.bind(self.backend, 3);
        let since = since.unwrap_or(BEGINNING_OF_TIME);
        let before: Vec<Value> = values![since, now].into_iter().chain(of_names).collect();
        let mut rows: Vec<LastRow> = Vec::new();
        for part in self.parts(of_runs, &before) {
            let sql = format!(
                "select u.run_id, e.kind, e.name, case when e.progress_id = u.run_id then e.action_id end as action_id, \
                 max(e.occurred_at) as occurred_at from {} join {TABLE} e on e.customer_id = u.customer_id \
                 and e.kind in ({words}) and e.occurred_at >= $1 and e.occurred_at <= $2 \
                 where (e.name is null or e.name in (select u.name from {names})) {} \
                 group by u.run_id, e.kind, e.name, case when e.progress_id = u.run_id then e.action_id end",
                part.table,
                part.only("e.customer_id")
            );
            rows.extend(self.rows(&sql, part.values).await?);
        }
        rows.into_iter()
            .map(|row| {
                let kind = kind_of(&row.kind, row.name);
                Ok(LastEngagement {
                    run: ProgressId(row.run_id),
                    kind: kind.map_err(|what| StoreError::corrupt(TABLE, row.run_id, what))?,
                    action: row.action_id.map(ActionId),
                    occurred_at: row.occurred_at,
                })
            })
            .collect()
    }
}

impl Txn {
    /// Stores events, and says which were new, by (customer, event id). The others are there already. Runs that wait for the new ones
    /// are looked at by the next tick.
    pub async fn insert_engagements(&self, events: &[Engagement]) -> Result<HashSet<(String, String)>, StoreError> {
        let mut batch = Batch::new(&[
            ("customer_id", Col::Text),
            ("event_id", Col::Text),
            ("kind", Col::Text),
            ("name", Col::Text),
            ("occurred_at", Col::Time),
            ("received_at", Col::Time),
            ("progress_id", Col::BigInt),
            ("action_id", Col::BigInt),
        ]);
        for event in events {
            batch.push([
                event.customer_id.as_str().into(),
                event.event_id.as_str().into(),
                event.kind.as_str().into(),
                event.kind.name().into(),
                event.occurred_at.into(),
                event.received_at.into(),
                Cell::from(event.about.map(|(progress, _)| progress.0)),
                Cell::from(event.about.map(|(_, action)| action.0)),
            ]);
        }
        let mut rows: Vec<KeyRow> = Vec::new();
        for Part { table, values, .. } in self.parts(batch, &[]) {
            let sql = format!(
                "insert into {TABLE} (customer_id, event_id, kind, name, occurred_at, received_at, progress_id, action_id) \
                 select u.customer_id, u.event_id, u.kind, u.name, u.occurred_at, u.received_at, u.progress_id, u.action_id \
                 from {table} where true on conflict (customer_id, event_id) do nothing returning customer_id, event_id"
            );
            rows.extend(self.rows(&sql, values).await?);
        }
        let new: HashSet<_> = rows.into_iter().map(|row| (row.customer_id, row.event_id)).collect();
        let is_new =
            |event: &&Engagement| new.contains(&(event.customer_id.as_str().to_owned(), event.event_id.clone()));
        self.wake_waiting(events.iter().filter(is_new)).await?;
        Ok(new)
    }
}

pub(super) fn kind_of(word: &str, name: Option<String>) -> Result<EngagementKind, String> {
    match word {
        "email_opened" => Ok(EngagementKind::EmailOpened),
        "email_clicked" => Ok(EngagementKind::EmailClicked),
        "replied" => Ok(EngagementKind::Replied),
        "custom" => Ok(EngagementKind::Custom(name.unwrap_or_default())),
        other => Err(format!("kind {other}")),
    }
}

impl Row {
    fn into_engagement(self) -> Result<Engagement, StoreError> {
        let corrupt = |what: String| StoreError::corrupt(TABLE, &self.event_id, what);
        Ok(Engagement {
            customer_id: CustomerId::parse(&self.customer_id).map_err(|error| corrupt(error.to_string()))?,
            kind: kind_of(&self.kind, self.name).map_err(corrupt)?,
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
