//! `campaignctl complete`: what came of a task.

use clap::{Args, ValueEnum};

use super::ctl::{failed, say};
use super::token::Connection;
use super::words::word;
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::campaign_orchestrator_service_client::CampaignOrchestratorServiceClient;

/// Which task, and what came of it.
#[derive(Debug, Args)]
pub struct CompleteArgs {
    /// The customer's id.
    pub customer: String,
    /// The task's key in its timeline.
    #[arg(value_name = "ACTION_KEY")]
    pub action: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Which run; without it the only live one.
    #[arg(long, value_name = "ID", default_value_t = 0, hide_default_value = true)]
    pub progress_id: i64,
    /// What is to be remembered of it.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub note: String,
}

/// What came of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Outcome {
    /// It was done.
    Done,
    /// The customer declined.
    Declined,
    /// The customer was not reached.
    NoAnswer,
    /// It was called off.
    Cancelled,
}

impl Outcome {
    fn message(self) -> pb::TaskOutcome {
        match self {
            Self::Done => pb::TaskOutcome::Done,
            Self::Declined => pb::TaskOutcome::Declined,
            Self::NoAnswer => pb::TaskOutcome::NoAnswer,
            Self::Cancelled => pb::TaskOutcome::Cancelled,
        }
    }
}

/// Reports a task.
pub(super) async fn complete(channel: Connection, args: CompleteArgs) -> anyhow::Result<()> {
    let mut client = CampaignOrchestratorServiceClient::new(channel);
    let CompleteArgs {
        customer,
        action,
        outcome,
        progress_id,
        note,
    } = args;
    let progress_id = match progress_id {
        0 => {
            let request = pb::GetProgressRequest {
                customer_id: customer.clone(),
                progress_id,
            };
            let found = client.get_progress(request).await;
            let found = found.map_err(|status| failed(&customer, &status))?.into_inner();
            found.progress.unwrap_or_default().progress_id
        }
        given => given,
    };
    let request = pb::CompleteInteractionRequest {
        customer_id: customer.clone(),
        progress_id,
        action_key: action.clone(),
        outcome: outcome.message().into(),
        note,
        ..Default::default()
    };
    let reported = client.complete_interaction(request).await;
    let reported = reported.map_err(|status| failed(&action, &status))?.into_inner();
    let outcome = word(outcome.message().as_str_name(), "TASK_OUTCOME_");
    let before = if reported.was_reported {
        "; it was reported so before"
    } else {
        ""
    };
    say(&format!(
        "{action} of run {progress_id} of customer {customer}: {outcome}{before}"
    ));
    Ok(())
}
