//! An erasure while an event of the customer is being stored. On `PostgreSQL` the recorder is stopped here in the middle of its
//! transaction; `SQLite` has one writer at a time, so that there is nothing to stop.

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::customer_service_client::CustomerServiceClient;

use super::{anna, canary, found};
use crate::holds::races::Gate;
use crate::support::given::stamp;
use crate::support::{App, Backend, Rows, postgres_url};

/// An event that is stored by then is erased as well, and one that comes later finds nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_outlives_its_customer() {
    if postgres_url().is_none() {
        return;
    }
    let app = App::start(Backend::Postgres).await;
    app.put_customer(canary()).await;
    let (second, channel) = app.second_server().await;
    let gate = Gate::shut(&app, "engagement_events").await;
    let event = pb::Engagement {
        event_id: "canary-event".to_owned(),
        customer_id: "anna-4711".to_owned(),
        kind: pb::EngagementKind::EmailOpened.into(),
        occur_time: Some(stamp("2026-01-05T11:00:00Z")),
        ..Default::default()
    };
    let request = pb::RecordEngagementsRequest {
        engagements: vec![event],
    };
    let mut client = app.customers();
    let recording = tokio::spawn(async move { client.record_engagements(request).await });
    gate.until_blocked(1).await;
    let mut erasing = tokio::spawn(async move { CustomerServiceClient::new(channel).erase_customer(anna()).await });
    tokio::select! {
        () = gate.until_blocked(2) => {}
        answer = &mut erasing => panic!("{answer:?}, and an event is about to be stored"),
    }
    gate.open().await;
    recording.await.expect("a task").expect("recorded");
    let erased = erasing.await.expect("a task").expect("erased").into_inner();
    assert_eq!(erased.engagements, 1);
    let rows = Rows::of(&app, Backend::Postgres).await;
    assert_eq!(found(&rows, "anna-4711").await, []);
    second.shutdown().await.expect("stopped");
    app.server.shutdown().await.expect("stopped");
}
