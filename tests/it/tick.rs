//! The two ticks as their callers see them: names, limits, parts, rehearsals, deadlines, and what is written down of each.

mod limits;
mod names;
mod passed_over;

use campaign_automation::proto::campaign::v1 as pb;
use tonic::Status;

use crate::support::App;
use crate::support::app::{daily, hourly};

/// The hourly tick with a request of one's own.
async fn process(app: &App, request: pb::ProcessCampaignTimelinesRequest) -> Result<pb::TickSummary, Status> {
    hourly(&mut app.ticks(), request).await
}

/// The daily tick with a request of one's own.
async fn advance(app: &App, request: pb::AdvanceCampaignDaysRequest) -> Result<pb::TickSummary, Status> {
    daily(&mut app.ticks(), request).await
}

/// A request with a name.
fn named(tick_id: &str) -> pb::ProcessCampaignTimelinesRequest {
    pb::ProcessCampaignTimelinesRequest {
        tick_id: tick_id.to_owned(),
        ..Default::default()
    }
}

/// How many mails a tick delivered.
fn mails(summary: &pb::TickSummary) -> i64 {
    mail_counts(summary).completed
}

/// The counts of mails.
fn mail_counts(summary: &pb::TickSummary) -> pb::ChannelCounts {
    let counts = summary.counts.as_ref().expect("counts");
    let found = counts
        .channels
        .iter()
        .find(|counts| counts.channel() == pb::Channel::Email);
    found.copied().unwrap_or_default()
}

/// A page of ticks.
async fn list(app: &App, kind: pb::TickKind, page_size: i32, page_token: &str) -> pb::ListTickRunsResponse {
    let request = pb::ListTickRunsRequest {
        kind: kind.into(),
        page_size,
        page_token: page_token.to_owned(),
    };
    app.ticks().list_tick_runs(request).await.expect("ticks").into_inner()
}
