//! `campaignctl explain`: why a customer got something or did not.

use std::fmt::Write as _;

use super::ctl::{failed, say};
use super::token::Connection;
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::campaign_orchestrator_service_client::CampaignOrchestratorServiceClient;

/// Shows what became of each action of a customer's runs, and what holds it now, a line each.
pub(super) async fn explain(channel: Connection, customer_id: String, progress_id: i64) -> anyhow::Result<()> {
    let request = pb::ExplainActionsRequest {
        customer_id: customer_id.clone(),
        progress_id,
    };
    let explained = CampaignOrchestratorServiceClient::new(channel)
        .explain_actions(request)
        .await;
    let runs = explained.map_err(|status| failed(&customer_id, &status))?;
    for run in &runs.into_inner().runs {
        say(&told(run));
    }
    Ok(())
}

fn told(run: &pb::RunExplanation) -> String {
    let status = run.status().as_str_name().trim_start_matches("PROGRESS_STATUS_");
    let reason = match run.status_reason.as_str() {
        "" => String::new(),
        reason => format!(" ({reason})"),
    };
    let mut text = format!(
        "run {} of {}: {}{reason}, day {}, {}",
        run.progress_id,
        run.timeline_slug,
        status.to_lowercase(),
        run.current_day,
        run.time_zone
    );
    for explained in &run.actions {
        let action = explained.action.clone().unwrap_or_default();
        let _ = write!(
            text,
            "\nday {:>3} {:>2} h  {:<20} {}",
            action.day_number, action.delay_hours, action.key, explained.summary
        );
    }
    text
}
