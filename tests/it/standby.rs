//! PostgreSQL that can only be read, as a standby is after a failover went the wrong way, or that ended its connections.

use campaign_automation::proto::campaign::v1 as pb;
use sea_orm::{ConnectionTrait as _, Database};
use tonic::Code;

use crate::support::app::hourly;
use crate::support::given::{definition, email, refused};
use crate::support::{App, Backend, Rows, postgres_url};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_can_only_be_read_says_so() {
    if postgres_url().is_none() {
        return;
    }
    let app = App::start(Backend::Postgres).await;
    let timeline = app.timeline(definition("hook", 2, vec![email(1, 0, "A")])).await;
    app.customer("anna", "Etc/UTC").await;
    app.customer("bela", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    let before = Rows::of(&app, Backend::Postgres).await.all().await;
    read_only(&app, "on").await;

    let start = pb::StartTimelineRequest {
        customer_id: "bela".to_owned(),
        timeline_id: timeline.timeline_id,
        ..Default::default()
    };
    let ticked = hourly(&mut app.ticks(), pb::ProcessCampaignTimelinesRequest::default()).await;
    for status in [
        refused(
            app.try_start(start.clone()).await,
            Code::Unavailable,
            "DATABASE_READ_ONLY",
            &[],
        ),
        refused(ticked, Code::Unavailable, "DATABASE_READ_ONLY", &[]),
    ] {
        assert!(status.message().contains("can only be read"), "{status:?}");
    }
    assert_eq!(
        app.progress("anna").await.in_flight_actions,
        [],
        "what is there can be read"
    );
    assert_eq!(
        (Rows::of(&app, Backend::Postgres).await.all().await, app.sent_count()),
        (before, 0)
    );

    read_only(&app, "off").await;
    app.try_start(start).await.expect("a run");
    app.hourly().await;
    assert_eq!(app.sent_count(), 2);
    app.server.shutdown().await.expect("stopped");
}

/// A database that was restarted, or put in the place of another, ends all connections. The next look finds it there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_ended_are_no_reason_not_to_be_ready() {
    if postgres_url().is_none() {
        return;
    }
    let app = App::start(Backend::Postgres).await;
    for _ in 0..5 {
        read_only(&app, "off").await;
        app.server.engine().check_ready().await.expect("it is there");
    }
    app.server.shutdown().await.expect("stopped");
}

/// Makes the database one for reading or for writing, for all connections that come, and ends those that are there.
async fn read_only(app: &App, value: &str) {
    let (_, name) = app.database.url.rsplit_once('/').expect("a name");
    let admin = Database::connect(postgres_url().expect("a server"))
        .await
        .expect("the server");
    for statement in [
        format!("alter database {name} set default_transaction_read_only = {value}"),
        format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"),
    ] {
        admin.execute_unprepared(&statement).await.expect("an administrator");
    }
    admin.close().await.expect("closed");
}
