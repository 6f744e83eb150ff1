//! A mail server that can't keep up: what can't begin in time is given back, and nothing is lost or doubled.

use std::time::Duration;

use crate::support::given::{definition, email};
use crate::support::mailing::{assert_each_got, crowd, mailing_app_with, until_run};
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{Backend, on_each_database};

on_each_database!(what_cannot_begin_in_time_is_given_back_and_goes_later);

async fn what_cannot_begin_in_time_is_given_back_and_goes_later(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app_with(backend, &smtp.url(), |config| config.email_concurrency = 1).await;
    let timeline = app
        .timeline(definition("hook", 1, vec![email(1, 0, "A"), email(1, 1, "B")]))
        .await;
    let ids = crowd(&app, &timeline, "c", 20).await;
    smtp.behave(Behaviour::Stall(Step::Dot));
    let (summary, ()) = tokio::join!(app.hourly(), async {
        smtp.until_stalled(1).await;
        let held = &smtp.deliveries()[0].to[0];
        // All but the one at the server are free again, though the server has not answered yet.
        for id in ids.iter().filter(|id| !held.starts_with(id.as_str())) {
            let run = until_run(&app, id, |run| run.in_flight_actions.is_empty()).await;
            assert!(
                run.completed_actions.is_empty() && run.failed_actions.is_empty(),
                "{run:?}"
            );
        }
        smtp.accept_all();
        smtp.release();
    });
    let counts = summary.counts.expect("counts");
    assert!(counts.handed_back >= 19, "{counts:?}");
    assert_eq!(
        (counts.channels[0].completed, counts.stale_completions),
        (40, 0),
        "{counts:?}"
    );
    assert_each_got(&smtp, &ids, 2);
    for id in &ids {
        let run = app.progress(id).await;
        assert!(run.completed_actions.iter().all(|done| done.attempts == 1), "{run:?}");
    }
    let shutdown = tokio::time::timeout(Duration::from_secs(30), app.server.shutdown()).await;
    shutdown.expect("in time").expect("stopped");
}
