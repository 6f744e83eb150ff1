//! `service_metadata`: what is known about the deployment itself.

use sea_orm::FromQueryResult;
use uuid::Uuid;

use super::session::values;
use super::{StoreError, Txn};

#[derive(FromQueryResult)]
struct Row {
    value: String,
}

impl Txn {
    /// The id of this deployment, which is `proposed` when it has none yet. Ids of messages are derived from it, so that two
    /// deployments never send different messages under one id.
    pub async fn deployment_id(&self, proposed: Uuid) -> Result<Uuid, StoreError> {
        let sql = "insert into service_metadata (key, value) values ('deployment_id', $1) on conflict (key) do nothing";
        self.execute(sql, values![proposed.to_string()]).await?;
        let row: Option<Row> = self
            .row("select value from service_metadata where key = 'deployment_id'", vec![])
            .await?;
        let value = row.map(|row| row.value).unwrap_or_default();
        value
            .parse()
            .map_err(|error| StoreError::corrupt("service_metadata", "deployment_id", error))
    }
}
