//! Runs that wait for events, in `customer_timeline_progress`.
//!
//! Whoever stores an event locks the active runs of its customer whose timelines wait for such events, and only then looks
//! whether they wait: a claim that did not see the event has committed by then, and one that comes later sees it. Where no
//! timeline waits for what happened, which is asked before, no runs are looked for.

use sea_orm::FromQueryResult;
use std::collections::{BTreeSet, HashSet};

use super::batch::{Batch, Col};
use super::progress::TABLE;
use super::{StoreError, Txn};
use crate::domain::Engagement;

#[derive(FromQueryResult)]
struct KindRow {
    kind: String,
    name: String,
}

#[derive(FromQueryResult)]
struct Row {
    customer_id: String,
    id: i64,
    waits: i32,
}

/// A kind of event, and its name where it is one of the caller's own.
type Kind<'a> = (&'a str, &'a str);

impl Txn {
    /// Has the runs looked at again that wait for an event such as these, which this transaction has stored. One that lies in the
    /// future, as far as it may, is seen when its run is looked at the next time.
    pub(super) async fn wake_waiting<'a>(
        &self,
        events: impl Iterator<Item = &'a Engagement> + Clone,
    ) -> Result<(), StoreError> {
        let Some(now) = events.clone().map(|event| event.received_at).max() else {
            return Ok(());
        };
        let happened: BTreeSet<(&str, Kind<'_>)> = events
            .map(|event| {
                let name = event.kind.name().unwrap_or_default();
                (event.customer_id.as_str(), (event.kind.as_str(), name))
            })
            .collect();
        let awaited = self.awaited(happened.iter().map(|(_, kind)| *kind).collect()).await?;
        let mut batch = Batch::new(&[("customer", Col::Text), ("kind", Col::Text), ("name", Col::Text)]);
        for (customer, (kind, name)) in happened.into_iter().filter(|(_, kind)| awaited.contains(kind)) {
            batch.push([customer.into(), kind.into(), name.into()]);
        }
        let mut rows: Vec<Row> = Vec::new();
        for part in self.parts(batch, &[]) {
            let sql = format!(
                "select p.customer_id, p.id, case when cast(p.deferred_actions as text) like '%\"waiting_for_event\"%' then 1 else 0 end \
                 as waits from {} join {TABLE} p on p.customer_id = u.customer where p.status = 'active' \
                 and exists (select 1 from campaign_timeline_actions a where a.campaign_timeline_id = p.campaign_timeline_id \
                 and a.until_event = u.kind and coalesce(a.until_event_name, '') = u.name) {} order by p.customer_id, p.id {}",
                part.table,
                part.only("p.customer_id"),
                self.pick("for update of p", "")
            );
            rows.extend(self.rows(&sql, part.values).await?);
        }
        let waiting: BTreeSet<(String, i64)> = rows
            .into_iter()
            .filter(|row| row.waits == 1)
            .map(|row| (row.customer_id, row.id))
            .collect();
        let mut batch = Batch::new(&[("customer", Col::Text), ("run_id", Col::BigInt)]);
        for (customer, run) in &waiting {
            batch.push([customer.as_str().into(), (*run).into()]);
        }
        for part in self.parts(batch, &[now.into()]) {
            let sql = format!(
                "update {TABLE} as p set is_woken = (p.lease_token is not null), \
                 next_action_at = case when p.next_action_at is null or p.next_action_at > $1 then $1 else p.next_action_at end \
                 from {} where p.customer_id = u.customer and p.id = u.run_id {}",
                part.table,
                part.only("p.customer_id")
            );
            self.execute(&sql, part.values).await?;
        }
        Ok(())
    }

    /// For which of these some timeline waits.
    async fn awaited<'a>(&self, kinds: BTreeSet<Kind<'a>>) -> Result<HashSet<Kind<'a>>, StoreError> {
        let mut batch = Batch::new(&[("kind", Col::Text), ("name", Col::Text)]);
        for (kind, name) in &kinds {
            batch.push([(*kind).into(), (*name).into()]);
        }
        let (table, values) = batch.bind(self.backend, 1);
        let sql = format!(
            "select u.kind, u.name from {table} where exists (select 1 from campaign_timeline_actions a \
             where a.until_event = u.kind and coalesce(a.until_event_name, '') = u.name)"
        );
        let rows: Vec<KindRow> = self.rows(&sql, values).await?;
        let found: HashSet<Kind<'_>> = rows.iter().map(|row| (row.kind.as_str(), row.name.as_str())).collect();
        Ok(kinds.into_iter().filter(|kind| found.contains(kind)).collect())
    }
}
