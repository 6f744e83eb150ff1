//! `delivery_reports`, and what a report changes of a run and of the ledger.
//!
//! Whoever holds a run writes its actions as a whole when it gives the run free, so a report on such a run is kept until then.
//! The row of the run is locked before anything is looked at, by who records and by who reports: so a report finds either the
//! attempt in the ledger, or is found by who records it.

use sea_orm::{ConnectionTrait, FromQueryResult};
use serde_json::json;

use super::batch::{Batch, Col};
use super::executions::{COLUMNS, Execution, ExecutionReason, Row};
use super::finished::completed_text;
use super::progress::TABLE;
use super::session::{Session, values};
use super::{Reader, StoreError, Txn};
use crate::domain::{
    ActionId, AttemptKey, CustomerId, DeliveryReport, ProgressId, ProviderState, ProviderStatus, Run, Timestamp,
};

#[derive(FromQueryResult)]
struct ReportRow {
    customer_id: String,
    progress_id: i64,
    action_id: i64,
    attempt: i32,
    provider_status: String,
    provider_error_code: Option<String>,
    provider_status_at: Timestamp,
    provider_id: Option<String>,
}

const REPORT: &str = "r.customer_id, r.progress_id, r.action_id, r.attempt, r.provider_status, r.provider_error_code, \
     r.provider_status_at, r.provider_id";

/// A report that is kept, and the attempt that it is about.
pub type KeptReport = (AttemptKey, DeliveryReport);

impl<C: ConnectionTrait> Session<C> {
    /// All entries of the ledger for an action of a run, by attempt.
    pub async fn executions_of_action(
        &self,
        customer: &CustomerId,
        run: ProgressId,
        action: ActionId,
    ) -> Result<Vec<Execution>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from action_executions e where e.customer_id = $1 and e.progress_id = $2 and e.action_id = $3 \
             order by e.attempt"
        );
        let values = values![customer.as_str(), run.0, action.0];
        let rows: Vec<Row> = self.rows(&sql, values).await?;
        rows.into_iter().map(Row::into_execution).collect()
    }

    /// The reports that are kept for some runs, as far as they can be read.
    pub async fn kept_reports(&self, runs: &[(&CustomerId, ProgressId)]) -> Result<Vec<KeptReport>, StoreError> {
        let mut batch = Batch::new(&[("customer", Col::Text), ("run_id", Col::BigInt)]);
        for (customer, run) in runs {
            batch.push([customer.as_str().into(), run.0.into()]);
        }
        let mut rows: Vec<ReportRow> = Vec::new();
        for part in self.parts(batch, &[]) {
            let sql = format!(
                "select {REPORT} from {} join delivery_reports r on r.customer_id = u.customer and r.progress_id = u.run_id {}",
                part.table,
                part.only("r.customer_id")
            );
            rows.extend(self.rows(&sql, part.values).await?);
        }
        Ok(rows.into_iter().filter_map(ReportRow::into_report).collect())
    }
}

impl Reader {
    /// Reports that are kept although nobody holds their runs, or their runs are gone.
    pub async fn forgotten_reports(&self, limit: usize) -> Result<Vec<KeptReport>, StoreError> {
        let sql = format!(
            "select {REPORT} from delivery_reports r left join {TABLE} p on p.customer_id = r.customer_id and p.id = r.progress_id \
             where p.lease_token is null limit {limit}"
        );
        let rows: Vec<ReportRow> = self.rows(&sql, vec![]).await?;
        Ok(rows.into_iter().filter_map(ReportRow::into_report).collect())
    }
}

impl Txn {
    /// Keeps a report on a run that this transaction has locked, in place of what is kept for the attempt.
    pub async fn keep_report(&self, key: &AttemptKey, report: &DeliveryReport) -> Result<(), StoreError> {
        let sql = "insert into delivery_reports (customer_id, progress_id, action_id, attempt, provider_status, \
                   provider_error_code, provider_status_at, provider_id) values ($1, $2, $3, $4, $5, $6, $7, $8) \
                   on conflict (customer_id, progress_id, action_id, attempt) do update set \
                   provider_status = excluded.provider_status, provider_error_code = excluded.provider_error_code, \
                   provider_status_at = excluded.provider_status_at, provider_id = excluded.provider_id";
        let values = values![
            key.customer_id.as_str(),
            key.progress_id.0,
            key.action_id.0,
            i32::try_from(key.attempt).unwrap_or(i32::MAX),
            report.state.status.as_str(),
            report.state.error_code.as_deref(),
            report.state.at,
            report.provider_id.as_deref(),
        ];
        self.execute(sql, values).await?;
        Ok(())
    }

    /// Keeps a report no longer.
    pub async fn forget_report(&self, key: &AttemptKey) -> Result<(), StoreError> {
        let sql = "delete from delivery_reports where customer_id = $1 and progress_id = $2 and action_id = $3 and attempt = $4";
        let attempt = i32::try_from(key.attempt).unwrap_or(i32::MAX);
        let values = values![key.customer_id.as_str(), key.progress_id.0, key.action_id.0, attempt];
        self.execute(sql, values).await?;
        Ok(())
    }

    /// Keeps no report for some runs any longer.
    pub async fn forget_reports(&self, runs: &[(&CustomerId, ProgressId)]) -> Result<(), StoreError> {
        let mut batch = Batch::new(&[("customer", Col::Text), ("run_id", Col::BigInt)]);
        for (customer, run) in runs {
            batch.push([customer.as_str().into(), run.0.into()]);
        }
        for part in self.parts(batch, &[]) {
            let sql = format!(
                "delete from delivery_reports where (customer_id, progress_id) in (select u.customer, u.run_id from {}) {}",
                part.table,
                part.only("customer_id")
            );
            self.execute(&sql, part.values).await?;
        }
        Ok(())
    }

    /// Stores what reports changed of an entry.
    pub async fn put_reported(&self, execution: &Execution) -> Result<(), StoreError> {
        let sql = "update action_executions set outcome = $5, reason = $6, detail = $7, provider_id = $8, provider_status = $9, \
                   provider_error_code = $10, provider_status_at = $11, resolved_at = $12 \
                   where customer_id = $1 and progress_id = $2 and action_id = $3 and attempt = $4";
        let state = execution.provider_state.as_ref();
        let values = values![
            execution.customer_id.as_str(),
            execution.progress_id.0,
            execution.action_id.0,
            i32::try_from(execution.attempt).unwrap_or(i32::MAX),
            execution.outcome.as_str(),
            execution.reason.map(ExecutionReason::as_str),
            execution.detail.as_deref(),
            execution.provider_id.as_deref(),
            state.map(|state| state.status.as_str()),
            state.and_then(|state| state.error_code.as_deref()),
            state.map(|state| state.at),
            execution.resolved_at,
        ];
        let changed = self.execute(sql, values).await?;
        expect_one("action_executions", execution.progress_id, changed)
    }

    /// Stores what reports changed of the actions of a run that this transaction has locked, and that nobody holds.
    pub async fn put_reported_run(&self, run: &Run) -> Result<(), StoreError> {
        let sql = format!(
            "update {TABLE} set completed_actions = $3, failed_actions = $4, deferred_actions = $5, updated_at = $6 \
             where customer_id = $1 and id = $2 and lease_token is null"
        );
        let values = values![
            run.customer_id.as_str(),
            run.id.0,
            completed_text(&run.completed),
            json!(run.failed),
            json!(run.deferred),
            run.updated_at,
        ];
        let changed = self.execute(&sql, values).await?;
        expect_one(TABLE, run.id, changed)
    }
}

impl ReportRow {
    fn into_report(self) -> Option<KeptReport> {
        let key = AttemptKey {
            customer_id: CustomerId::parse(&self.customer_id).ok()?,
            progress_id: ProgressId(self.progress_id),
            action_id: ActionId(self.action_id),
            attempt: self.attempt.unsigned_abs(),
        };
        let state = ProviderState {
            status: ProviderStatus::parse(&self.provider_status)?,
            error_code: self.provider_error_code,
            at: self.provider_status_at,
        };
        let report = DeliveryReport {
            state,
            provider_id: self.provider_id,
        };
        Some((key, report))
    }
}

fn expect_one(table: &'static str, run: ProgressId, changed: u64) -> Result<(), StoreError> {
    if changed == 1 {
        return Ok(());
    }
    let what = format!("{changed} rows changed in place of one");
    Err(StoreError::corrupt(table, run, what))
}
