//! `campaignctl retry`: making failed actions pending again.

use chrono::{DateTime, Utc};
use clap::{ArgGroup, Args, ValueEnum};

use super::ctl::{failed, say, timeline_id};
use super::token::Connection;
use super::words::message;
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::campaign_orchestrator_service_client::CampaignOrchestratorServiceClient;

/// Which actions to try again.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whose").required(true).multiple(true).args(["all", "customer", "timeline"]))]
pub struct RetryArgs {
    /// By what came of them last; may be given twice. What is unknown may have been delivered, and is sent once more.
    #[arg(long, value_name = "OUTCOME", required = true)]
    pub outcome: Vec<LastOutcome>,
    /// Of all customers.
    #[arg(long, conflicts_with_all = ["customer", "timeline"])]
    pub all: bool,
    /// Of this customer.
    #[arg(long, value_name = "ID")]
    pub customer: Option<String>,
    /// Of this run of the customer.
    #[arg(
        long,
        value_name = "ID",
        requires = "customer",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub progress_id: i64,
    /// Of runs of this timeline, by its slug.
    #[arg(long, value_name = "SLUG")]
    pub timeline: Option<String>,
    /// Only actions with this key; may be given several times.
    #[arg(long = "key", value_name = "ACTION_KEY")]
    pub keys: Vec<String>,
    /// Only what ended at this time or later, such as 2026-03-02T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub from: Option<DateTime<Utc>>,
    /// Only what ended before this time.
    #[arg(long, value_name = "TIME")]
    pub until: Option<DateTime<Utc>>,
    /// Why, for whoever looks later.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// Change nothing, and say how many there are.
    #[arg(long)]
    pub dry_run: bool,
}

/// What came of an action that may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LastOutcome {
    /// It failed for good.
    Failed,
    /// It may have been delivered.
    Unknown,
}

impl LastOutcome {
    fn message(self) -> pb::ExecutionOutcome {
        match self {
            Self::Failed => pb::ExecutionOutcome::Failed,
            Self::Unknown => pb::ExecutionOutcome::Unknown,
        }
    }
}

/// Tries all that is asked for again, as many calls as it takes.
pub(super) async fn retry(channel: Connection, args: RetryArgs) -> anyhow::Result<()> {
    let timeline_id = match &args.timeline {
        None => 0,
        Some(slug) => timeline_id(channel.clone(), slug).await?,
    };
    let request = pb::RetryActionsRequest {
        filter: Some(pb::ExecutionFilter {
            customer_id: args.customer.unwrap_or_default(),
            progress_id: args.progress_id,
            timeline_id,
            outcomes: args.outcome.iter().map(|outcome| outcome.message().into()).collect(),
            finish_time_from: args.from.map(message),
            finish_time_until: args.until.map(message),
        }),
        action_keys: args.keys,
        reason: args.reason,
        validate_only: args.dry_run,
        ..Default::default()
    };
    let mut client = CampaignOrchestratorServiceClient::new(channel);
    let mut retried = 0;
    let last = loop {
        let answer = client.retry_actions(request.clone()).await;
        let answer = answer.map_err(|status| failed("the retry", &status))?.into_inner();
        retried += answer.retried_actions;
        // What was retried is not found again, so there is an end.
        if !answer.has_more || answer.retried_actions == 0 || args.dry_run {
            break answer;
        }
    };
    let would = if args.dry_run { "would be" } else { "are" };
    say(&format!("{retried} actions {would} pending again"));
    // The last call came to all of them.
    for (count, why) in [
        (last.ended_run_actions, "their runs are over"),
        (last.removed_actions, "they were removed from their timelines"),
        (
            last.in_flight_actions,
            "their runs are sending at this moment: try again",
        ),
    ] {
        if count > 0 {
            say(&format!("{count} are left, as {why}"));
        }
    }
    Ok(())
}
