//! Edits of a live timeline while messages are on their way, or to be repeated.

use campaign_automation::channels::{ChannelUrl, Mailbox};
use campaign_automation::proto::campaign::v1 as pb;
use pb::WhenMissed::Shift;
use tonic::Code;

use super::edits::{edit, start};
use crate::support::calls::completed;
use crate::support::given::refused;
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::story::{check, mail, text};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    what_is_removed_while_it_is_repeated_is_tried_no_more,
    a_timeline_cut_below_a_run_lets_it_finish_what_is_pending,
    an_edit_while_a_mail_is_sent_is_not_lost,
);

async fn app(backend: Backend, smtp: &SmtpServer) -> App {
    App::start_with(backend, |config| {
        config.channels.email_url = Some(ChannelUrl::parse(&smtp.url()).expect("a URL"));
        config.channels.email_from = Some(Mailbox::parse("Shop <shop@example.com>").expect("a sender"));
        config.retry_attempts = 100;
    })
    .await
}

const AGAIN: Behaviour = Behaviour::Reply(Step::Rcpt, "451 4.3.0 come again");

/// On its day, and when the run is a day further on. Brought back afterwards it stays removed; brought back before anybody noticed, or
/// moved meanwhile, it goes on being tried.
async fn what_is_removed_while_it_is_repeated_is_tried_no_more(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app(backend, &smtp).await;
    let names = ["today", "yesterday", "back-again", "moved"];
    let mut timelines = Vec::new();
    for name in names {
        timelines.push(start(&app, name, Shift, vec![mail("k", 1, 23), text("t", 2, 12)]).await);
    }
    smtp.behave(AGAIN);
    app.tick_at(&["2026-01-05T23:00:00Z"]).await;
    let without = || vec![text("t", 2, 12)];
    let [today, yesterday, back, moved] = timelines.as_slice() else {
        panic!("four timelines")
    };
    let today = edit(&app, today, without()).await.timeline.expect("a timeline");
    let back = edit(&app, back, without()).await.timeline.expect("a timeline");
    edit(&app, &back, vec![mail("k", 1, 23), text("t", 2, 12)]).await;
    edit(&app, moved, vec![mail("k", 3, 9), text("t", 2, 12)]).await;
    app.tick_at(&["2026-01-06T00:00:00Z"]).await;
    edit(&app, yesterday, without()).await;
    edit(&app, &today, vec![mail("k", 2, 18), text("t", 2, 12)]).await;
    app.tick_at(&["2026-01-06T01:00:00Z"]).await;
    smtp.accept_all();
    app.ticks_between("2026-01-06T02:00:00Z", "2026-01-09T00:00:00Z", true, true)
        .await;
    for (name, k) in [
        ("today", "01-06 00:00 k removed"),
        ("yesterday", "01-06 01:00 k removed"),
        ("back-again", "01-06 02:00 k sent"),
        ("moved", "01-06 02:00 k sent"),
    ] {
        let expected = format!(
            "{k}
            01-06 12:00 t sent
            day 4 on 01-08, completed"
        );
        check(name, &app.progress(name).await, &expected);
    }
    assert_eq!(smtp.deliveries().len(), 2);
    app.server.shutdown().await.expect("stopped");
}

/// Runs on day 3 of four: one has nothing left, one a mail that is to be repeated. The timeline is cut to two days.
async fn a_timeline_cut_below_a_run_lets_it_finish_what_is_pending(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app(backend, &smtp).await;
    let timeline = start(&app, "done", Shift, vec![text("a", 1, 13), mail("b", 2, 22)]).await;
    app.customer("pending", "Etc/UTC").await;
    app.start_run("pending", &timeline).await;
    smtp.reply_to_rcpt("pending@example.com", "451 4.3.0 come again");
    app.ticks_between("2026-01-05T13:00:00Z", "2026-01-07T01:00:00Z", true, true)
        .await;
    let definition = |days| pb::TimelineDefinition {
        duration_days: days,
        ..timeline.definition.clone().expect("a definition")
    };
    let error = app.apply(definition(1), &timeline.etag).await;
    refused(
        error,
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &["timeline.actions[1].day_number"],
    );
    let shorter = app.apply(definition(2), &timeline.etag).await.expect("applied");
    let changes = shorter.changes.expect("changes");
    assert_eq!(
        (changes.changed_fields, changes.runs_to_replan),
        (vec!["duration_days".to_owned()], 0)
    );
    for id in ["done", "pending"] {
        let run = app.progress(id).await;
        assert_eq!((run.current_day, run.duration_days), (3, 2), "{id}");
        assert!(
            (run.percent_complete - 100.0).abs() < f64::EPSILON,
            "{id}: {}",
            run.percent_complete
        );
        assert_eq!(run.status(), pb::ProgressStatus::Active, "not before its day is over");
    }
    app.ticks_between("2026-01-07T02:00:00Z", "2026-01-08T00:00:00Z", true, true)
        .await;
    check(
        "done",
        &app.progress("done").await,
        "01-05 13:00 a sent
        01-06 22:00 b sent
        day 3 on 01-07, completed",
    );
    let pending = app.progress("pending").await;
    assert_eq!(
        (pending.status(), pending.failed_actions[0].state()),
        (pb::ProgressStatus::Active, pb::FailureState::Retrying)
    );
    smtp.accept_all();
    app.ticks_between("2026-01-08T01:00:00Z", "2026-01-08T09:00:00Z", true, true)
        .await;
    let pending = app.progress("pending").await;
    assert_eq!(completed(&pending), ["a", "b"]);
    assert_eq!(
        (pending.current_day, pending.status()),
        (3, pb::ProgressStatus::Completed)
    );
    assert_eq!(smtp.deliveries().len(), 2);
    app.server.shutdown().await.expect("stopped");
}

/// While the noon mail is at the mail server, the evening's is moved to one o'clock, and another tick plans anew who is waiting. What the
/// send planned before it does not undo that.
async fn an_edit_while_a_mail_is_sent_is_not_lost(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = app(backend, &smtp).await;
    let timeline = start(
        &app,
        "hook",
        Shift,
        vec![mail("a", 1, 12), text("b", 1, 20), text("c", 1, 22)],
    )
    .await;
    smtp.behave(Behaviour::Stall(Step::Dot));
    tokio::join!(app.hourly(), async {
        smtp.until_stalled(1).await;
        let to = vec![mail("a", 1, 12), text("b", 1, 13), text("d", 1, 14)];
        let applied = edit(&app, &timeline, to).await;
        assert_eq!(applied.changes.expect("changes").runs_to_replan, 1);
        app.daily().await;
        smtp.accept_all();
        smtp.release();
    });
    app.ticks_between("2026-01-05T13:00:00Z", "2026-01-05T14:00:00Z", true, false)
        .await;
    check(
        "hook",
        &app.progress("hook").await,
        "01-05 12:00 a sent
        01-05 12:00 c removed
        01-05 13:00 b sent
        01-05 14:00 d sent
        day 1 on 01-05, active",
    );
    app.server.shutdown().await.expect("stopped");
}
