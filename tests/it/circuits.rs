//! Circuits: a channel whose provider fails is left alone by all servers, probed by one, and told to operators.

use campaign_automation::config::Config;
use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::campaign_tick_service_client::CampaignTickServiceClient;
use campaign_automation::proto::campaign::v1::sending_service_client::SendingServiceClient;
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::app::hourly;
use crate::support::given::{definition, email, refused, shown};
use crate::support::mailing::{assert_each_got, crowd, mailing_app_with};
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_run_of_failures_stops_the_channel_on_all_servers,
    what_is_refused_for_good_stops_nothing,
    a_circuit_is_closed_by_hand,
);

fn limits(config: &mut Config) {
    config.email_concurrency = 1;
    config.channel_probe = Duration::from_secs(420);
    config.limits.channel_failures = 5;
}

async fn status_of(channel: Channel) -> pb::ChannelSendingStatus {
    let mut client = SendingServiceClient::new(channel);
    let status = client.get_sending_status(pb::GetSendingStatusRequest {}).await;
    let mut channels = status.expect("a status").into_inner().channels.into_iter();
    channels
        .find(|it| it.channel() == pb::Channel::Email)
        .expect("the channel")
}

async fn tick(channel: Channel) -> pb::TickSummary {
    let mut client = CampaignTickServiceClient::new(channel);
    let request = pb::ProcessCampaignTimelinesRequest::default();
    hourly(&mut client, request).await.expect("a summary")
}

/// Waits until the health of mail is so, which is told as soon as it changes.
async fn until_health(app: &App, expected: ServingStatus) {
    let mut client = HealthClient::new(app.channel());
    let request = HealthCheckRequest {
        service: "channel.email".to_owned(),
    };
    let mut changes = client.watch(request).await.expect("a stream").into_inner();
    let waiting = async {
        while let Some(health) = changes.message().await.expect("a status") {
            if health.status() == expected {
                return;
            }
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    assert!(waited.is_ok(), "the health is not {expected:?}");
}

/// How many attempts were made in all.
async fn attempts(app: &App) -> usize {
    let request = pb::ListExecutionsRequest {
        page_size: 1000,
        ..Default::default()
    };
    let listed = app.orchestrator().list_executions(request).await.expect("a ledger");
    listed.into_inner().executions.len()
}

fn mails(summary: &pb::TickSummary) -> pb::ChannelCounts {
    let counts = summary.counts.as_ref().expect("counts");
    counts.channels.first().copied().unwrap_or_default()
}

async fn a_run_of_failures_stops_the_channel_on_all_servers(backend: Backend) {
    let smtp = SmtpServer::start().await;
    smtp.behave(Behaviour::Reply(Step::Rcpt, "451 4.3.0 come again"));
    let app = mailing_app_with(backend, &smtp.url(), limits).await;
    let (second, other) = app
        .second_server_with(8, Arc::clone(&app.clock) as _, |config| {
            config.channels.email_url =
                Some(campaign_automation::channels::ChannelUrl::parse(&smtp.url()).expect("a URL"));
            config.channels.email_from = campaign_automation::channels::Mailbox::parse("Shop <shop@example.com>").ok();
            limits(config);
        })
        .await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    let ids = crowd(&app, &timeline, "c", 12).await;
    until_health(&app, ServingStatus::Serving).await;

    // Five fail, and the others are not tried.
    let summary = app.hourly().await;
    assert_eq!((mails(&summary).retrying, mails(&summary).deferred), (5, 7));
    assert_eq!(attempts(&app).await, 5);
    let [circuit] = summary.circuits.as_slice() else {
        panic!("{summary:?}")
    };
    assert_eq!(
        (circuit.channel(), circuit.state(), circuit.cause(), circuit.pauses),
        (
            pb::Channel::Email,
            pb::CircuitState::Open,
            pb::CircuitCause::Failures,
            1
        )
    );
    assert!(
        circuit.reason.starts_with("5 failures in a row, the last: 451"),
        "{circuit:?}"
    );
    assert_eq!(shown(circuit.open_time), "2026-01-05T12:00:00Z");
    assert_eq!(shown(circuit.probe_time), "2026-01-05T12:07:00Z");
    until_health(&app, ServingStatus::NotServing).await;
    for channel in [app.channel(), other.clone()] {
        let status = status_of(channel).await;
        assert_eq!(status.circuit.as_ref(), Some(circuit));
        assert_eq!(shown(status.stopped_until_time), "2026-01-05T12:07:00Z");
    }
    // What failed is due again by now, and is put off with the others: nobody tries, here or there.
    app.set("2026-01-05T12:06:59Z");
    let there = tick(other.clone()).await;
    assert_eq!(there.circuits.as_slice(), std::slice::from_ref(circuit));
    app.hourly().await;
    assert_eq!(attempts(&app).await, 5);

    // One of both servers probes, with one message, and opens it for twice as long.
    app.set("2026-01-05T12:07:00Z");
    tokio::join!(tick(app.channel()), tick(other.clone()));
    assert_eq!(attempts(&app).await, 6);
    let circuit = status_of(app.channel()).await.circuit.expect("a circuit");
    assert_eq!((circuit.state(), circuit.pauses), (pb::CircuitState::Open, 2));
    assert_eq!(shown(circuit.open_time), "2026-01-05T12:00:00Z");
    assert_eq!(shown(circuit.probe_time), "2026-01-05T12:21:00Z");
    app.set("2026-01-05T12:20:59Z");
    tokio::join!(tick(app.channel()), tick(other.clone()));
    assert_eq!(attempts(&app).await, 6);

    // Mended: the probe goes, and the others right behind it.
    smtp.accept_all();
    app.set("2026-01-05T12:36:00Z");
    let (here, there) = tokio::join!(tick(app.channel()), tick(other.clone()));
    assert_eq!(mails(&here).completed + mails(&there).completed, 12);
    assert_each_got(&smtp, &ids, 1);
    assert_eq!(status_of(app.channel()).await.circuit, None);
    until_health(&app, ServingStatus::Serving).await;
    assert_eq!(app.hourly().await.circuits, []);
    second.shutdown().await.expect("stopped");
    app.server.shutdown().await.expect("stopped");
}

async fn what_is_refused_for_good_stops_nothing(backend: Backend) {
    let smtp = SmtpServer::start().await;
    smtp.behave(Behaviour::Reply(Step::Rcpt, "550 5.7.1 we don't like this"));
    let app = mailing_app_with(backend, &smtp.url(), limits).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    crowd(&app, &timeline, "c", 12).await;
    let summary = app.hourly().await;
    assert_eq!((mails(&summary).failed, summary.circuits), (12, vec![]));
    app.server.shutdown().await.expect("stopped");
}

async fn a_circuit_is_closed_by_hand(backend: Backend) {
    let smtp = SmtpServer::start().await;
    smtp.advertise("AUTH PLAIN");
    smtp.reply_to_auth("535 5.7.8 bad credentials");
    let url = smtp.url().replace("smtp://", "smtp://user:secret@");
    let app = mailing_app_with(backend, &url, limits).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    let ids = crowd(&app, &timeline, "c", 3).await;
    let [circuit] = app.hourly().await.circuits.try_into().expect("one circuit");
    assert_eq!(circuit.cause(), pb::CircuitCause::Misconfigured);

    let reset = |channel: pb::Channel, reason: &str| pb::ResetCircuitRequest {
        channel: channel.into(),
        reason: reason.to_owned(),
        request_id: "r1".to_owned(),
    };
    let answer = app.sending().reset_circuit(reset(pb::Channel::Wait, "")).await;
    refused(answer, Code::InvalidArgument, "INVALID_FIELDS", &["channel", "reason"]);
    smtp.reply_to_auth("235 2.7.0 welcome");
    app.set("2026-01-05T12:01:00Z");
    for _ in 0..2 {
        let answer = app
            .sending()
            .reset_circuit(reset(pb::Channel::Email, "a new password"))
            .await;
        let closed = answer.expect("a circuit").into_inner().circuit.expect("a circuit");
        assert_eq!(
            (closed.state(), closed.reason.as_str(), closed.open_time),
            (pb::CircuitState::Closed, "a new password", None)
        );
        assert_eq!(shown(closed.update_time), "2026-01-05T12:01:00Z");
    }
    assert_eq!(status_of(app.channel()).await.circuit, None);
    // Who comes to be due now does not wait. Those that were put off until the next probe, at 12:07, go over as long a time as the
    // circuit was open, which is a minute.
    app.customer("new", "Etc/UTC").await;
    app.start_run("new", &timeline).await;
    let at_once = mails(&app.hourly().await).completed;
    for id in &ids {
        for waiting in app.progress(id).await.deferred_actions {
            let until = shown(waiting.until_time);
            assert!(
                ("2026-01-05T12:01:00Z".."2026-01-05T12:02:00Z").contains(&until.as_str()),
                "{until}"
            );
        }
    }
    app.set("2026-01-05T12:02:00Z");
    assert_eq!(at_once + mails(&app.hourly().await).completed, 4);
    for id in &ids {
        assert_eq!(app.progress(id).await.completed_actions.len(), 1, "{id}");
    }
    // That was all: a channel that fails again puts off as before.
    smtp.behave(Behaviour::Reply(Step::Rcpt, "530 5.7.0 authentication required"));
    let again = crowd(&app, &timeline, "d", 2).await;
    app.hourly().await;
    app.set("2026-01-05T12:03:00Z");
    app.hourly().await;
    for id in &again {
        let [waiting] = app.progress(id).await.deferred_actions.try_into().expect("one action");
        assert_eq!(waiting.reason(), pb::DeferReason::ChannelUnavailable);
        assert!(shown(waiting.until_time).as_str() >= "2026-01-05T12:09:00Z", "{id}");
    }
    app.server.shutdown().await.expect("stopped");
}
