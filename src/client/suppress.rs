//! `campaignctl suppress`, `suppressions` and `lift`: who must not be written to.

use clap::Args;

use super::channel::{AddressChannel, name};
use super::ctl::{failed, say};
use super::token::Connection;
use super::words::{instant, word};
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::list_suppressions_request::Recipient as Listed;
use crate::proto::campaign::v1::sending_service_client::SendingServiceClient;
use crate::proto::campaign::v1::suppress_recipient_request::Recipient;

/// Who must not be written to any more.
#[derive(Debug, Args)]
pub struct SuppressArgs {
    /// By which channel.
    pub channel: AddressChannel,
    /// Whom.
    #[command(flatten)]
    pub recipient: RecipientArgs,
    /// Stop marketing only. Without it: everything.
    #[arg(long)]
    pub marketing: bool,
    /// Why, for whoever looks later; nothing personal, as it stays when the customer is erased.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// Whom a suppression is on.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct RecipientArgs {
    /// The address that this customer has now.
    #[arg(long, value_name = "ID")]
    pub customer: Option<String>,
    /// This mail address or phone number, whoever has it.
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<String>,
}

/// Which suppressions to show.
#[derive(Debug, Args)]
pub struct SuppressionsArgs {
    /// Only of this channel.
    #[arg(long)]
    pub channel: Option<AddressChannel>,
    /// Only of the addresses that this customer has now.
    #[arg(long, value_name = "ID", conflicts_with = "address")]
    pub customer: Option<String>,
    /// Only of this mail address or phone number.
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<String>,
    /// Also those that were lifted.
    #[arg(long)]
    pub lifted: bool,
}

/// Which suppression to lift, and why.
#[derive(Debug, Args)]
pub struct LiftArgs {
    /// Its id, as `suppressions` shows it.
    #[arg(value_name = "ID")]
    pub suppression: i64,
    /// Why, for whoever looks later.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Suppresses a recipient, and shows what is in force now.
pub(super) async fn suppress(channel: Connection, args: SuppressArgs) -> anyhow::Result<()> {
    let RecipientArgs { customer, address } = args.recipient;
    let scope = if args.marketing {
        pb::SuppressionScope::Marketing
    } else {
        pb::SuppressionScope::All
    };
    let request = pb::SuppressRecipientRequest {
        channel: args.channel.message().into(),
        recipient: customer.map(Recipient::CustomerId).or(address.map(Recipient::Address)),
        scope: scope.into(),
        detail: args.reason,
        ..Default::default()
    };
    let set = SendingServiceClient::new(channel).suppress_recipient(request).await;
    let set = set.map_err(|status| failed("the suppression", &status))?.into_inner();
    say(&format!("suppressed: {}", told(&set.suppression.unwrap_or_default())));
    Ok(())
}

/// Shows suppressions, a line each.
pub(super) async fn suppressions(channel: Connection, args: SuppressionsArgs) -> anyhow::Result<()> {
    let mut client = SendingServiceClient::new(channel);
    let mut request = pb::ListSuppressionsRequest {
        channel: args.channel.map_or(0, |channel| channel.message().into()),
        recipient: args
            .customer
            .map(Listed::CustomerId)
            .or(args.address.map(Listed::Address)),
        include_lifted: args.lifted,
        ..Default::default()
    };
    let mut is_any = false;
    loop {
        let page = client.list_suppressions(request.clone()).await;
        let page = page.map_err(|status| failed("the list", &status))?.into_inner();
        is_any |= !page.suppressions.is_empty();
        for suppression in &page.suppressions {
            say(&told(suppression));
        }
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if !is_any {
        say("nothing is suppressed");
    }
    Ok(())
}

/// Lifts a suppression.
pub(super) async fn lift(channel: Connection, args: LiftArgs) -> anyhow::Result<()> {
    let request = pb::LiftSuppressionRequest {
        suppression_id: args.suppression,
        reason: args.reason,
        ..Default::default()
    };
    let lifted = SendingServiceClient::new(channel).lift_suppression(request).await;
    let lifted = lifted
        .map_err(|status| failed("the suppression", &status))?
        .into_inner();
    say(&told(&lifted.suppression.unwrap_or_default()));
    Ok(())
}

/// A suppression in one line.
fn told(suppression: &pb::Suppression) -> String {
    let scope = word(suppression.scope().as_str_name(), "SUPPRESSION_SCOPE_");
    let reason = word(suppression.reason().as_str_name(), "SUPPRESSION_REASON_");
    let detail = match suppression.detail.as_str() {
        "" => String::new(),
        detail => format!(", {detail}"),
    };
    let lifted = match &suppression.lift_time {
        None => String::new(),
        Some(time) => format!("; lifted at {}: {}", instant(Some(time)), suppression.lift_reason),
    };
    format!(
        "{}, {}, {scope}, since {}: {reason}{detail}{lifted}",
        suppression.suppression_id,
        name(suppression.channel()),
        instant(suppression.create_time.as_ref())
    )
}
