//! `tick_schedule`: whose turn it is to run the ticks of the built-in schedule. One row, held for a time that its holder prolongs.

use sea_orm::FromQueryResult;
use uuid::Uuid;

use super::session::{Number, values};
use super::{StoreError, Txn};
use crate::domain::Timestamp;

const TABLE: &str = "tick_schedule";

/// What came of asking for the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleTurn {
    /// It is the asker's.
    Taken,
    /// Another server has it.
    Held,
    /// The ticks of that time are done.
    Done,
}

#[derive(FromQueryResult)]
struct Row {
    done_slot: Option<Timestamp>,
}

impl Txn {
    /// Takes the turn for the ticks of `slot`, unless these are done or another server has it. It is the holder's until `until`.
    pub async fn take_schedule(
        &self,
        holder: Uuid,
        slot: Timestamp,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<ScheduleTurn, StoreError> {
        let sql = format!(
            "insert into {TABLE} (name, holder, held_until) values ('ticks', $1, $2) \
             on conflict (name) do update set holder = excluded.holder, held_until = excluded.held_until \
             where ({TABLE}.held_until <= $3 or {TABLE}.holder = excluded.holder) \
             and ({TABLE}.done_slot is null or {TABLE}.done_slot < $4) returning cast(1 as bigint) as n"
        );
        let taken: Option<Number> = self.row(&sql, values![holder.to_string(), until, now, slot]).await?;
        if taken.is_some() {
            return Ok(ScheduleTurn::Taken);
        }
        let row: Option<Row> = self.row(&format!("select done_slot from {TABLE}"), vec![]).await?;
        let done = row.and_then(|row| row.done_slot);
        Ok(if done.is_some_and(|done| done >= slot) {
            ScheduleTurn::Done
        } else {
            ScheduleTurn::Held
        })
    }

    /// Prolongs the turn. False: it is another server's.
    pub async fn keep_schedule(&self, holder: Uuid, until: Timestamp) -> Result<bool, StoreError> {
        let sql = format!("update {TABLE} set held_until = $2 where holder = $1");
        Ok(self.execute(&sql, values![holder.to_string(), until]).await? == 1)
    }

    /// Gives the turn up, and notes that the ticks of `done` ran to their ends. Nothing happens when it is another server's.
    pub async fn leave_schedule(&self, holder: Uuid, done: Option<Timestamp>) -> Result<(), StoreError> {
        let sql = format!("update {TABLE} set held_until = $2, done_slot = coalesce($3, done_slot) where holder = $1");
        // Long ago by any clock.
        let over = Timestamp::UNIX_EPOCH;
        self.execute(&sql, values![holder.to_string(), over, done]).await?;
        Ok(())
    }
}
