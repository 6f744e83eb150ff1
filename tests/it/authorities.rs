//! Servers whose certificates are from an authority of one's own: taken with `--ca-file`, and refused without.

use campaign_automation::channels::{ChannelUrl, Mailbox, WebhookSecrets};
use campaign_automation::config::Config;
use campaign_automation::proto::campaign::v1 as pb;
use std::path::PathBuf;

use crate::support::given::{action, definition, email};
use crate::support::http::HttpServer;
use crate::support::process::{CAMPAIGND, check, program, run};
use crate::support::smtp::SmtpServer;
use crate::support::tls::{TlsFront, authority};
use crate::support::{App, Backend};

/// Sends a mail and a task to these URLs, and gives what became of them.
async fn sent(mails: &str, tasks: &str, ca_file: Option<PathBuf>) -> pb::Progress {
    let app = App::start_with(Backend::Sqlite, |config: &mut Config| {
        config.channels.email_url = ChannelUrl::parse(mails).ok();
        config.channels.email_from = Mailbox::parse("Shop <shop@example.com>").ok();
        config.channels.interaction_url = ChannelUrl::parse(tasks).ok();
        config.channels.providers.webhook_secret = WebhookSecrets::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").ok();
        config.channels.providers.allow_private_destinations = true;
        config.channels.ca_file = ca_file;
    })
    .await;
    let task = action(1, 0, pb::Channel::Interaction, pb::ActionType::CreateTask, "B");
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A"), task])).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    app.hourly().await;
    let run = app.progress("anna").await;
    app.server.shutdown().await.expect("stopped");
    run
}

/// Both channels are stopped as misconfigured, which a server that isn't there does not do.
#[track_caller]
fn assert_unavailable(run: &pb::Progress) {
    let reasons: Vec<pb::DeferReason> = run.deferred_actions.iter().map(pb::DeferredAction::reason).collect();
    assert_eq!(reasons, [pb::DeferReason::ChannelUnavailable; 2], "{run:?}");
}

#[tokio::test]
async fn ones_own_authority_is_trusted_when_it_is_named() {
    let (smtp, crm) = (SmtpServer::start().await, HttpServer::start().await);
    let implicit = TlsFront::implicit(&smtp.address()).await;
    let starttls = TlsFront::starttls(&smtp.address()).await;
    let tasks = TlsFront::implicit(&crm.address()).await;
    let tasks = format!("https://localhost:{}/hooks", tasks.port);
    for mails in [
        format!("smtps://127.0.0.1:{}", implicit.port),
        format!("smtp://localhost:{}?tls=starttls", starttls.port),
    ] {
        let (mail_count, task_count) = (smtp.deliveries().len(), crm.requests().len());
        let run = sent(&mails, &tasks, None).await;
        assert_unavailable(&run);
        assert_eq!(
            (smtp.deliveries().len(), crm.requests().len()),
            (mail_count, task_count)
        );

        let run = sent(&mails, &tasks, Some(authority())).await;
        assert_eq!(run.completed_actions.len(), 2, "{run:?}");
        assert_eq!(
            (smtp.deliveries().len(), crm.requests().len()),
            (mail_count + 1, task_count + 1)
        );
    }
}

/// The authority vouches for names: a server of another name is refused, though its certificate is genuine.
#[tokio::test]
async fn a_certificate_of_another_name_is_refused() {
    let (smtp, crm) = (SmtpServer::start().await, HttpServer::start().await);
    let mails = TlsFront::at_another_address(&smtp.address()).await;
    let tasks = TlsFront::at_another_address(&crm.address()).await;
    let run = sent(
        &format!("smtps://127.0.0.2:{}", mails.port),
        &format!("https://127.0.0.2:{}/hooks", tasks.port),
        Some(authority()),
    )
    .await;
    assert_unavailable(&run);
    assert_eq!((smtp.deliveries().len(), crm.requests().len()), (0, 0));
}

#[test]
fn a_file_that_is_none_is_refused_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = std::fs::read_to_string(authority()).expect("text");
    for (name, content, says) in [
        ("missing", None, "No such file"),
        ("empty", Some(String::new()), "there is no certificate in it"),
        ("other", Some("hello".to_owned()), "there is no certificate in it"),
        ("cut", Some(authority[..200].to_owned()), "certificate 1 is not PEM"),
    ] {
        if let Some(content) = content {
            std::fs::write(folder.path().join(name), content).expect("written");
        }
        let mut command = program(CAMPAIGND, folder.path(), &["--listen=127.0.0.1:0"]);
        command.env("CAMPAIGN_CA_FILE", name);
        check(&run(command), 1, &["CAMPAIGN_CA_FILE", name, says]);
    }
    assert!(!folder.path().join("campaign.db").exists(), "nothing is opened before");
}
