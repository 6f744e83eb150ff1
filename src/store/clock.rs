//! What time it is for the database, and nothing else is made of it: no statement computes with the database's time.

use sea_orm::{ConnectionTrait, FromQueryResult};

use super::StoreError;
use super::session::Session;
use crate::domain::Timestamp;

#[derive(FromQueryResult)]
struct ClockRow {
    at: Timestamp,
}

impl<C: ConnectionTrait> Session<C> {
    /// What the clock of the database's machine shows, to the millisecond at least.
    pub async fn clock(&self) -> Result<Timestamp, StoreError> {
        let sql = self.pick(
            "select clock_timestamp() as at",
            "select strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now') as at",
        );
        let row: Option<ClockRow> = self.row(sql, vec![]).await?;
        row.map(|row| row.at)
            .ok_or_else(|| StoreError::corrupt("the clock", "of the database", "no row"))
    }
}
