//! What goes wrong on the way out: a mail server that refuses, breaks off or is silent, and customers or content that can't be
//! served. Each failure is counted and shown, and harms nobody else.

mod attempts;
mod channel;
mod content;
mod overtaken;
mod slow;

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::{FailureReason, FailureState};

use crate::support::App;

/// The only failure of a customer's run.
async fn failure(app: &App, customer: &str) -> pb::FailedAction {
    let run = app.progress(customer).await;
    let [failed] = run.failed_actions.as_slice() else {
        panic!("not one failure: {run:?}")
    };
    assert!(run.completed_actions.is_empty(), "{run:?}");
    failed.clone()
}

/// State, reason and attempts of a failure.
fn kind(failed: &pb::FailedAction) -> (FailureState, FailureReason, i32) {
    (failed.state(), failed.reason(), failed.attempts)
}

/// The counts of one channel in a tick's summary.
fn counts(summary: &pb::TickSummary, channel: pb::Channel) -> pb::ChannelCounts {
    let counts = summary.counts.as_ref().expect("counts");
    let found = counts.channels.iter().find(|counts| counts.channel() == channel);
    found.copied().unwrap_or_default()
}
