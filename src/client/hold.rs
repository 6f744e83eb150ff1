//! `campaignctl hold`: holding what is sent, releasing it, and what is held.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use std::time::Duration;

use super::channel::{SendingChannel, name};
use super::ctl::{failed, say, timeline_id};
use super::token::Connection;
use super::words::{instant, message};
use crate::config::duration;
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::sending_scope::Scope;
use crate::proto::campaign::v1::sending_service_client::SendingServiceClient;
use crate::proto::campaign::v1::set_sending_hold_request::End;

/// What to do about holds.
#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// Holds what is sent, from now on.
    Set {
        /// What.
        #[command(flatten)]
        scope: ScopeArgs,
        /// Why, for whoever looks later.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// How long, such as 2h or 90m. Without it or `--until`: until it is released.
        #[arg(long = "for", value_name = "DURATION", value_parser = duration, conflicts_with = "until")]
        hold_for: Option<Duration>,
        /// Until when, such as 2026-03-02T08:00:00Z.
        #[arg(long, value_name = "TIME")]
        until: Option<DateTime<Utc>>,
    },
    /// Releases a hold: what it held goes with the next ticks.
    Release {
        /// Which.
        #[command(flatten)]
        scope: ScopeArgs,
    },
    /// Shows the holds in force.
    List,
}

/// What a hold is on.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ScopeArgs {
    /// Everything.
    #[arg(long)]
    pub all: bool,
    /// What goes by a channel.
    #[arg(long)]
    pub channel: Option<SendingChannel>,
    /// What a timeline sends, by its slug.
    #[arg(long, value_name = "SLUG")]
    pub timeline: Option<String>,
    /// What is sent of a campaign, by its id.
    #[arg(long, value_name = "ID")]
    pub campaign: Option<String>,
}

/// Does what is asked, and prints the holds that it is about.
pub(super) async fn hold(channel: Connection, command: HoldCommand) -> anyhow::Result<()> {
    let mut client = SendingServiceClient::new(channel.clone());
    match command {
        HoldCommand::Set {
            scope,
            reason,
            hold_for,
            until,
        } => {
            let for_time = hold_for.map(|time| {
                let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
                let nanos = i32::try_from(time.subsec_nanos()).unwrap_or_default();
                End::HoldFor(prost_types::Duration { seconds, nanos })
            });
            let at_time = until.map(|until| End::EndTime(message(until)));
            let request = pb::SetSendingHoldRequest {
                scope: Some(parse(channel, scope).await?),
                reason,
                end: for_time.or(at_time),
                ..Default::default()
            };
            let set = client.set_sending_hold(request).await;
            let set = set.map_err(|status| failed("the hold", &status))?.into_inner();
            say(&format!("held: {}", told(&set.hold.unwrap_or_default())));
        }
        HoldCommand::Release { scope } => {
            let request = pb::ReleaseSendingHoldRequest {
                scope: Some(parse(channel, scope).await?),
                ..Default::default()
            };
            let released = client.release_sending_hold(request).await;
            let released = released.map_err(|status| failed("the hold", &status))?.into_inner();
            say(&format!("released: {}", told(&released.hold.unwrap_or_default())));
        }
        HoldCommand::List => list(client).await?,
    }
    Ok(())
}

async fn list(mut client: SendingServiceClient<Connection>) -> anyhow::Result<()> {
    let (mut page_token, mut is_any) = (String::new(), false);
    loop {
        let request = pb::ListSendingHoldsRequest {
            page_token,
            ..Default::default()
        };
        let page = client.list_sending_holds(request).await;
        let page = page.map_err(|status| failed("the list", &status))?.into_inner();
        is_any |= !page.holds.is_empty();
        for hold in &page.holds {
            say(&told(hold));
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if !is_any {
        say("nothing is held");
    }
    Ok(())
}

async fn parse(channel: Connection, args: ScopeArgs) -> anyhow::Result<pb::SendingScope> {
    let scope = match args {
        ScopeArgs {
            channel: Some(held), ..
        } => Scope::Channel(held.message().into()),
        ScopeArgs {
            timeline: Some(slug), ..
        } => Scope::TimelineId(timeline_id(channel, &slug).await?),
        ScopeArgs { campaign: Some(id), .. } => Scope::CampaignId(id),
        ScopeArgs { .. } => Scope::All(pb::AllSending {}),
    };
    Ok(pb::SendingScope { scope: Some(scope) })
}

/// A hold in one line.
pub(super) fn told(hold: &pb::SendingHold) -> String {
    let scope = match hold.scope.as_ref().and_then(|scope| scope.scope.as_ref()) {
        Some(Scope::Channel(channel)) => {
            let channel = pb::Channel::try_from(*channel).unwrap_or_default();
            format!("channel {}", name(channel))
        }
        Some(Scope::TimelineId(id)) => format!("timeline {id}"),
        Some(Scope::CampaignId(id)) => format!("campaign {id}"),
        Some(Scope::All(_)) | None => "all".to_owned(),
    };
    let since = instant(hold.start_time.as_ref());
    let until = match hold.end_time.as_ref() {
        Some(time) => instant(Some(time)),
        None => "it is released".to_owned(),
    };
    format!("{scope}, from {since} until {until}: {}", hold.reason)
}
