//! `campaignctl erase`: forgetting a customer.

use anyhow::ensure;
use clap::Args;

use super::ctl::{failed, say};
use super::token::Connection;
use super::words::instant;
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::customer_service_client::CustomerServiceClient;

/// Whom to erase, and why.
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// The customer's id.
    pub customer: String,
    /// The same id again: nothing brings back what is erased.
    #[arg(long, value_name = "CUSTOMER")]
    pub confirm: String,
    /// Why, for whoever has to account for it, such as the number of the request; nothing personal, as it is kept.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Don't suppress the customer's addresses.
    #[arg(long)]
    pub without_suppression: bool,
}

impl EraseArgs {
    /// Checks that the customer is the one that is meant.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.confirm == self.customer,
            "--confirm must be {:?} again, but is {:?}",
            self.customer,
            self.confirm
        );
        Ok(())
    }
}

/// Erases a customer, and says what went and what stays.
pub(super) async fn erase(channel: Connection, args: EraseArgs) -> anyhow::Result<()> {
    let request = pb::EraseCustomerRequest {
        customer_id: args.customer.clone(),
        reason: args.reason,
        without_suppression: args.without_suppression,
        ..Default::default()
    };
    let erased = CustomerServiceClient::new(channel).erase_customer(request).await;
    let erased = erased.map_err(|status| failed(&args.customer, &status))?.into_inner();
    let stay: Vec<String> = erased.suppression_ids.iter().map(ToString::to_string).collect();
    let stay = match stay.as_slice() {
        [] => "no suppressions".to_owned(),
        ids => format!("suppressions {}", ids.join(", ")),
    };
    say(&format!(
        "customer {} erased at {}: {} runs, {} attempts, {} events; there stay {stay}",
        args.customer,
        instant(erased.erase_time.as_ref()),
        erased.runs,
        erased.executions,
        erased.engagements
    ));
    Ok(())
}
