//! Runs that somebody else has locked when a tick comes to them.

use campaign_automation::proto::campaign::v1 as pb;
use sea_orm::{ConnectionTrait as _, Database, TransactionTrait as _};

use super::mails;
use crate::support::app::hourly;
use crate::support::given::{definition, email};
use crate::support::mailing::{assert_each_got, crowd, mailing_app};
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{Backend, on_each_database};

on_each_database!(a_run_that_was_locked_goes_with_the_same_tick);

/// As one is that a daily tick moves at this moment. What a claim has locked it serves by itself; on `SQLite` there is one writer.
async fn a_run_that_was_locked_goes_with_the_same_tick(backend: Backend) {
    if backend == Backend::Sqlite {
        return;
    }
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 23, "A")])).await;
    let ids = crowd(&app, &timeline, "c", 2).await;
    let database = Database::connect(&app.database.url).await.expect("the database");
    let locked = database.begin().await.expect("a transaction");
    let sql = format!(
        "select id from customer_timeline_progress where customer_id = '{}' for update",
        ids[1]
    );
    locked.execute_unprepared(&sql).await.expect("locked");
    app.set("2026-01-05T23:00:00Z");
    smtp.behave(Behaviour::Stall(Step::Dot));
    let mut ticks = app.ticks();
    let ticking = tokio::spawn(async move { hourly(&mut ticks, pb::ProcessCampaignTimelinesRequest::default()).await });
    smtp.until_stalled(1).await;
    locked.rollback().await.expect("free");
    smtp.behave(Behaviour::Accept);
    smtp.release();
    let summary = ticking.await.expect("a task").expect("a summary");
    assert_eq!((mails(&summary), summary.has_more), (2, false));
    assert_each_got(&smtp, &ids, 1);
    app.server.shutdown().await.expect("stopped");
}
