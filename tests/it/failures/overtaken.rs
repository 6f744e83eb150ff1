//! A sender that takes longer than its lease: somebody else takes over, and what the first one says afterwards changes nothing.

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::{FailureReason, FailureState};

use super::{counts, failure, kind};
use crate::support::given::{definition, email};
use crate::support::mailing::{arrived, crowd, mailing_app};
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{Backend, on_each_database};

on_each_database!(what_comes_after_its_lease_is_counted_and_changes_nothing);

async fn what_comes_after_its_lease_is_counted_and_changes_nothing(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let timeline = app.timeline(definition("hook", 2, vec![email(1, 0, "A")])).await;
    let ids = crowd(&app, &timeline, "c", 1).await;
    let id = ids[0].as_str();
    // The server takes the mail over and is slow to say so.
    smtp.behave(Behaviour::Stall(Step::Dot));
    let (first, (before, second)) = tokio::join!(app.hourly(), async {
        smtp.until_stalled(1).await;
        app.clock.advance(chrono::Duration::seconds(119));
        let before = app.hourly().await;
        app.clock.advance(chrono::Duration::seconds(1));
        let second = app.hourly().await;
        smtp.accept_all();
        smtp.release();
        (before, second)
    });

    // As long as the lease holds, nobody else touches the run.
    assert_eq!(counts(&before, pb::Channel::Email), pb::ChannelCounts::default());
    assert_eq!(counts(&second, pb::Channel::Email).retrying, 1, "{second:?}");
    let stale = first.counts.as_ref().expect("counts").stale_completions;
    assert_eq!(stale, 1, "{first:?}");
    assert_eq!(counts(&first, pb::Channel::Email), pb::ChannelCounts::default());

    let unknown = (FailureState::Retrying, FailureReason::OutcomeUnknown, 1);
    assert_eq!(kind(&failure(&app, id).await), unknown);
    let filter = pb::ExecutionFilter {
        customer_id: id.to_owned(),
        ..Default::default()
    };
    let request = pb::ListExecutionsRequest {
        filter: Some(filter),
        ..Default::default()
    };
    let listed = app.orchestrator().list_executions(request).await.expect("a list");
    assert_eq!(listed.into_inner().executions.len(), 1);

    // It goes once more, and whoever receives it can tell that it is the same.
    app.pass_hours(1);
    assert_eq!(counts(&app.hourly().await, pb::Channel::Email).completed, 1);
    let ids = &arrived(&smtp)[&format!("{id}@example.com")];
    assert_eq!((ids.len(), &ids[0]), (2, &ids[1]));
    assert_eq!(app.progress(id).await.completed_actions[0].attempts, 2);
}
