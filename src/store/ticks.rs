//! `tick_runs`, and `tick_parts`: what they have gone over.

use sea_orm::{ConnectionTrait, FromQueryResult};

use super::session::{Number, Session, values};
use super::{Buckets, Page, StoreError, Txn};
use crate::domain::{TickCounts, TickKind, TickRun, TickRunId, TickState, TickSummary, Timestamp};

const TABLE: &str = "tick_runs";

pub(super) const PARTS: &str = "tick_parts";

/// What came of entering a tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnteredTick {
    /// It is new, or goes on with one that broke off.
    Entered(TickRunId),
    /// A tick of that name has finished, with this summary.
    Finished(Box<TickSummary>),
}

#[derive(FromQueryResult)]
struct Row {
    id: i64,
    kind: String,
    tick_id: String,
    state: String,
    started_at: Timestamp,
    summary: Option<serde_json::Value>,
    error: Option<String>,
}

impl<C: ConnectionTrait> Session<C> {
    /// A page of ticks, the newest first; none for `caller`: those of all.
    pub async fn tick_runs(
        &self,
        kind: Option<TickKind>,
        caller: Option<&str>,
        page: &Page<TickRunId>,
    ) -> Result<Vec<TickRun>, StoreError> {
        let sql = format!(
            "select id, kind, tick_id, state, started_at, summary, error from {TABLE} \
             where id < $1 and ($2 = '' or kind = $2) {} order by id desc limit {}",
            caller.map_or("", |_| "and caller = $3"),
            page.size
        );
        let before = page.after.map_or(i64::MAX, |id| id.0);
        let mut values = values![before, kind.map_or("", TickKind::as_str)];
        values.extend(caller.map(sea_orm::Value::from));
        let rows: Vec<Row> = self.rows(&sql, values).await?;
        rows.into_iter().map(Row::into_tick).collect()
    }
}

impl Txn {
    /// Enters a tick by its name, which is one of its caller's own.
    pub async fn enter_tick(
        &self,
        kind: TickKind,
        caller: &str,
        tick_id: &str,
        now: Timestamp,
    ) -> Result<EnteredTick, StoreError> {
        let sql = format!(
            "insert into {TABLE} (kind, caller, tick_id, state, started_at) values ($1, $2, $3, 'running', $4) \
             on conflict (kind, caller, tick_id) do update set state = 'running', error = null \
             where {TABLE}.state <> 'finished' returning id as n"
        );
        let entered: Option<Number> = self.row(&sql, values![kind.as_str(), caller, tick_id, now]).await?;
        if let Some(entered) = entered {
            return Ok(EnteredTick::Entered(TickRunId(entered.n)));
        }
        let sql = format!(
            "select id, kind, tick_id, state, started_at, summary, error from {TABLE} \
             where kind = $1 and caller = $2 and tick_id = $3"
        );
        let row: Option<Row> = self.row(&sql, values![kind.as_str(), caller, tick_id]).await?;
        let row = row.ok_or_else(|| StoreError::corrupt(TABLE, tick_id, "is there and is not"))?;
        Ok(EnteredTick::Finished(Box::new(row.into_tick()?.summary)))
    }

    /// Notes what a tick did, or why it broke off.
    pub async fn finish_tick(
        &self,
        id: TickRunId,
        summary: &TickSummary,
        error: Option<&str>,
    ) -> Result<(), StoreError> {
        let state = if error.is_some() {
            TickState::Failed
        } else {
            TickState::Finished
        };
        let sql = format!("update {TABLE} set state = $2, finished_at = $3, summary = $4, error = $5 where id = $1");
        let json = serde_json::to_value(summary).map_err(|error| StoreError::corrupt(TABLE, id, error))?;
        self.execute(
            &sql,
            values![
                id.0,
                state.as_str(),
                summary.finished_at,
                json,
                error.map(str::to_owned)
            ],
        )
        .await?;
        Ok(())
    }

    /// Notes that a tick has gone over all that was due in a part of the customers.
    pub async fn note_part_done(&self, kind: TickKind, part: Buckets, now: Timestamp) -> Result<(), StoreError> {
        let sql = format!(
            "insert into {PARTS} (kind, bucket_begin, bucket_end, finished_at) values ($1, $2, $3, $4) \
             on conflict (kind, bucket_begin, bucket_end) do update set finished_at = excluded.finished_at \
             where {PARTS}.finished_at < excluded.finished_at"
        );
        self.execute(&sql, values![kind.as_str(), part.begin, part.end, now])
            .await?;
        Ok(())
    }
}

impl Row {
    fn into_tick(self) -> Result<TickRun, StoreError> {
        let corrupt = |what: String| StoreError::corrupt(TABLE, self.id, what);
        let kind = [TickKind::Process, TickKind::Advance]
            .into_iter()
            .find(|known| known.as_str() == self.kind);
        let kind = kind.ok_or_else(|| corrupt(format!("kind {}", self.kind)))?;
        let states = [TickState::Running, TickState::Finished, TickState::Failed];
        let state = states.into_iter().find(|known| known.as_str() == self.state);
        let summary = match self.summary.clone() {
            Some(json) => serde_json::from_value(json).map_err(|error| corrupt(error.to_string()))?,
            None => TickSummary {
                kind,
                tick_id: self.tick_id.clone(),
                started_at: self.started_at,
                finished_at: None,
                counts: TickCounts::default(),
                has_more: false,
                next_due_at: None,
                oldest_due_at: None,
                dry_run: false,
                sending_holds: Vec::new(),
                circuits: Vec::new(),
            },
        };
        let state = state.ok_or_else(|| corrupt(format!("state {}", self.state)))?;
        Ok(TickRun {
            id: TickRunId(self.id),
            state,
            summary,
            error: self.error,
        })
    }
}
