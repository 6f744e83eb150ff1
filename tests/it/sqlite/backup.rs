//! Backups as the README has them, taken while a tick sends.

use campaign_automation::channels::{ChannelUrl, Mailbox};
use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::campaign_tick_service_client::CampaignTickServiceClient;
use sea_orm::Database;
use std::path::Path;

use super::{run, somebody_else, text};
use crate::support::app::hourly;
use crate::support::given::{definition, email};
use crate::support::mailing::{arrived, crowd, mailing_app};
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{Backend, Rows};

/// The statement that the README says.
fn documented(file: &Path) -> String {
    let readme = include_str!("../../../README.md");
    let line = readme
        .lines()
        .find(|line| line.contains("VACUUM INTO"))
        .expect("a command");
    let statement = line.split('"').nth(1).expect("a statement");
    let begin = statement.split('\'').next().expect("VACUUM INTO");
    format!("{begin}'{}'", file.display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_database_in_use_can_be_served() {
    const CUSTOMERS: usize = 100;
    let smtp = SmtpServer::start().await;
    let app = mailing_app(Backend::Sqlite, &smtp).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    let ids = crowd(&app, &timeline, "c", CUSTOMERS).await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let other = somebody_else(&app).await;

    // One with mails under way, and others while they are recorded.
    smtp.behave(Behaviour::Stall(Step::Dot));
    let mut client = app.ticks();
    let tick = tokio::spawn(async move { hourly(&mut client, pb::ProcessCampaignTimelinesRequest::default()).await });
    smtp.until_stalled(1).await;
    run(&other, &documented(&path("0.db"))).await;
    smtp.accept_all();
    smtp.release();
    let mut backups = 1;
    while !tick.is_finished() && backups < 5 {
        run(&other, &documented(&path(&format!("{backups}.db")))).await;
        backups += 1;
    }
    let summary = tick.await.expect("a tick").expect("a summary");
    assert_eq!(summary.counts.expect("counts").channels[0].completed, 100);
    let (stored, sent) = (Rows::of(&app, Backend::Sqlite).await.all().await, arrived(&smtp));
    for number in 0..backups {
        let url = format!("sqlite://{}", path(&format!("{number}.db")).display());
        let backup = Database::connect(&url).await.expect("a database");
        assert_eq!(
            text(&backup, "select integrity_check as text from pragma_integrity_check").await,
            "ok"
        );
        let rows = Rows::at(&url, Backend::Sqlite).await.all().await;
        let runs = "customer_timeline_progress";
        assert_eq!((rows.len(), rows[runs].len()), (stored.len(), CUSTOMERS), "{number}");
        backup.close().await.expect("closed");
    }

    // The first as it is served: what had been claimed goes again once its lease is over, as the same mails.
    let url = format!("sqlite://{}", path("0.db").display());
    let (restored, channel) = app
        .server_on(&url, |config| {
            config.channels.email_url = Some(ChannelUrl::parse(&smtp.url()).expect("a URL"));
            config.channels.email_from = Some(Mailbox::parse("Shop <shop@example.com>").expect("a sender"));
        })
        .await;
    let mut client = CampaignTickServiceClient::new(channel);
    app.clock.advance(chrono::Duration::minutes(2));
    for _ in 0..2 {
        let ticked = hourly(&mut client, pb::ProcessCampaignTimelinesRequest::default()).await;
        ticked.expect("a summary");
        app.pass_hours(1);
    }
    let again = arrived(&smtp);
    for id in &ids {
        let to = format!("{id}@example.com");
        assert_eq!((sent[&to].len(), again[&to].len()), (1, 2), "{to}");
        assert_eq!(again[&to][0], again[&to][1], "{to}: the same mail");
    }
    restored.shutdown().await.expect("stopped");
    app.server.shutdown().await.expect("stopped");
}
