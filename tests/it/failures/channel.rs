//! A mail server that can't be used as it is set up stops the channel, and costs no attempt.

use campaign_automation::proto::campaign::v1 as pb;
use std::time::Duration;

use super::counts;
use crate::support::given::{definition, email, shown, sms};
use crate::support::mailing::{assert_each_got, crowd, keys, mailing_app_with};
use crate::support::smtp::SmtpServer;
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_refused_login_stops_the_channel_until_it_is_probed_again,
    missing_encryption_stops_the_channel,
);

async fn a_refused_login_stops_the_channel_until_it_is_probed_again(backend: Backend) {
    let smtp = SmtpServer::start().await;
    smtp.advertise("AUTH PLAIN");
    smtp.reply_to_auth("535 5.7.8 bad credentials");
    let (app, ids) = stopped(backend, &smtp.url().replace("smtp://", "smtp://user:secret@")).await;

    // Before the probe nothing is tried, however often it ticks.
    let sessions = smtp.sessions();
    app.set("2026-01-05T12:06:59Z");
    app.hourly().await;
    app.execute(&ids[0]).await;
    assert_eq!((smtp.sessions(), smtp.mails()), (sessions, 0));

    // Still refused: one has tried, and it is stopped for twice as long.
    app.set("2026-01-05T12:07:00Z");
    let summary = app.hourly().await;
    assert_eq!(smtp.sessions(), sessions + 1);
    assert_eq!(counts(&summary, pb::Channel::Email).deferred, 25);
    for id in &ids {
        let run = app.progress(id).await;
        let until = shown(run.deferred_actions[0].until_time);
        assert!(
            ("2026-01-05T12:21:00Z"..="2026-01-05T12:36:00Z").contains(&until.as_str()),
            "{until}"
        );
    }

    // Mended: one goes first, and the others at once behind it.
    smtp.reply_to_auth("235 2.7.0 welcome");
    app.set("2026-01-05T12:36:00Z");
    let summary = app.hourly().await;
    assert_eq!(counts(&summary, pb::Channel::Email).completed, 25);
    assert_each_got(&smtp, &ids, 1);
    for id in &ids {
        let run = app.progress(id).await;
        let mail = run
            .completed_actions
            .iter()
            .find(|done| done.provider_id.starts_with('<'));
        assert_eq!(mail.expect("a mail").attempts, 1, "{id}");
        assert!(
            run.deferred_actions.is_empty() && run.failed_actions.is_empty(),
            "{run:?}"
        );
    }
}

async fn missing_encryption_stops_the_channel(backend: Backend) {
    for (query, extension, reply) in [
        ("?tls=starttls", "HELP", ""),
        ("?tls=starttls", "STARTTLS", "502 5.5.1 no"),
        ("?tls=starttls", "STARTTLS", "220 go"),
    ] {
        let smtp = SmtpServer::start().await;
        smtp.advertise(extension);
        smtp.reply_to_starttls(reply);
        let (app, ids) = stopped(backend, &(smtp.url() + query)).await;
        assert_eq!((smtp.mails(), ids.len()), (0, 25), "{extension} {reply}");
        app.server.shutdown().await.expect("stopped");
    }
}

/// A server whose mail can't leave, after its first tick: a mail and a text message of 25 customers were due. What is set up
/// wrong is tried again after seven minutes.
async fn stopped(backend: Backend, url: &str) -> (App, Vec<String>) {
    let app = mailing_app_with(backend, url, |config| config.channel_probe = Duration::from_secs(420)).await;
    let timeline = app
        .timeline(definition("hook", 1, vec![email(1, 0, "A"), sms(1, 1, "B")]))
        .await;
    let ids = crowd(&app, &timeline, "c", 25).await;
    let summary = app.hourly().await;
    let (mails, texts) = (counts(&summary, pb::Channel::Email), counts(&summary, pb::Channel::Sms));
    assert_eq!((mails.completed, mails.failed, mails.retrying), (0, 0, 0));
    assert_eq!(mails.deferred, 25);
    assert_eq!(texts.completed, 25, "other channels go on");
    for id in &ids {
        let run = app.progress(id).await;
        let [deferred] = run.deferred_actions.as_slice() else {
            panic!("{run:?}")
        };
        assert_eq!(deferred.reason(), pb::DeferReason::ChannelUnavailable);
        assert_eq!(shown(deferred.until_time), "2026-01-05T12:07:00Z");
        assert_eq!(keys(run.completed_actions.iter().map(|done| &done.action)), ["d1h1B"]);
        assert!(run.failed_actions.is_empty(), "{run:?}");
    }
    (app, ids)
}
