//! `channel_circuits`: which channels are left alone, and until when. At most a row per channel; no row: it never opened.

use chrono::Duration;
use sea_orm::{ConnectionTrait, FromQueryResult};

use super::session::{Session, values};
use super::{StoreError, Txn};
use crate::domain::{Channel, ChannelStop, Circuit, CircuitCause, CircuitState, Timestamp};

const TABLE: &str = "channel_circuits";

const COLUMNS: &str =
    "channel, state, cause, reason, opened_at, probe_at, pauses, revision, updated_at, release_at, release_window_ms";

#[derive(FromQueryResult)]
struct Row {
    channel: String,
    state: String,
    cause: Option<String>,
    reason: String,
    opened_at: Option<Timestamp>,
    probe_at: Option<Timestamp>,
    pauses: i32,
    revision: i64,
    updated_at: Timestamp,
    release_at: Option<Timestamp>,
    release_window_ms: Option<i64>,
}

impl<C: ConnectionTrait> Session<C> {
    /// The circuits that ever opened.
    pub async fn circuits(&self) -> Result<Vec<Circuit>, StoreError> {
        let sql = format!("select {COLUMNS} from {TABLE} order by channel");
        let rows: Vec<Row> = self.rows(&sql, vec![]).await?;
        rows.into_iter().map(Row::into_circuit).collect()
    }
}

impl Txn {
    /// Stores a change of a circuit, unless somebody else changed it since it was read. Says whether it did.
    pub async fn put_circuit(&self, changed: &Circuit) -> Result<bool, StoreError> {
        let sql = format!(
            "insert into {TABLE} ({COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) on conflict (channel) do update set \
             state = excluded.state, cause = excluded.cause, reason = excluded.reason, opened_at = excluded.opened_at, probe_at = excluded.probe_at, \
             pauses = excluded.pauses, revision = excluded.revision, updated_at = excluded.updated_at, \
             release_at = excluded.release_at, release_window_ms = excluded.release_window_ms \
             where {TABLE}.revision = excluded.revision - 1"
        );
        let pauses = i32::try_from(changed.pauses).unwrap_or(i32::MAX);
        let values = values![
            changed.channel.as_str(),
            changed.state.as_str(),
            changed.cause.map(CircuitCause::as_str),
            changed.reason.as_str(),
            changed.opened_at,
            changed.probe_at,
            pauses,
            changed.revision,
            changed.updated_at,
            changed.release.map(|release| release.until),
            changed.release.map(|release| release.window.num_milliseconds()),
        ];
        Ok(self.execute(&sql, values).await? == 1)
    }
}

impl Row {
    fn into_circuit(self) -> Result<Circuit, StoreError> {
        let corrupt = |what: &str| StoreError::corrupt(TABLE, self.channel.clone(), what);
        let cause = |word: &String| CircuitCause::parse(word).ok_or_else(|| corrupt("has an unknown cause"));
        let mut all = Channel::ALL.into_iter();
        let channel = all.find(|channel| channel.as_str() == self.channel);
        Ok(Circuit {
            channel: channel.ok_or_else(|| corrupt("is no channel"))?,
            state: CircuitState::parse(&self.state).ok_or_else(|| corrupt("has an unknown state"))?,
            cause: self.cause.as_ref().map(cause).transpose()?,
            pauses: u32::try_from(self.pauses).unwrap_or_default(),
            reason: self.reason,
            opened_at: self.opened_at,
            probe_at: self.probe_at,
            revision: self.revision,
            updated_at: self.updated_at,
            release: self.release_at.map(|until| ChannelStop {
                until,
                window: Duration::milliseconds(self.release_window_ms.unwrap_or_default()),
            }),
        })
    }
}
