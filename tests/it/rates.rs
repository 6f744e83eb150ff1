//! Rates: all servers together send no more than may go, all of it in the end, and nobody keeps the others from their turn.

use campaign_automation::clock::SystemClock;
use campaign_automation::config::Config;
use campaign_automation::domain::Rate;
use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::campaign_orchestrator_service_client::CampaignOrchestratorServiceClient;
use campaign_automation::proto::campaign::v1::campaign_tick_service_client::CampaignTickServiceClient;
use std::sync::Arc;
use std::time::Instant;
use tonic::transport::Channel;

use crate::support::app::hourly;
use crate::support::given::{customer, definition, email, shown, sms};
use crate::support::mailing::crowd;
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    two_servers_share_a_rate,
    a_small_timeline_has_its_turn_beside_a_large_one,
    each_domain_has_a_rate_of_its_own,
    a_tick_stays_until_all_had_their_turn,
    a_tick_stays_for_a_slow_rate_as_long_as_it_may,
);

fn rate(text: &str) -> Option<Rate> {
    Rate::parse(text).ok()
}

fn ten_mails_a_second(config: &mut Config) {
    config.limits.email_rate = rate("10/s");
}

async fn tick(channel: Channel) -> pb::TickSummary {
    let mut client = CampaignTickServiceClient::new(channel);
    let request = pb::ProcessCampaignTimelinesRequest::default();
    hourly(&mut client, request).await.expect("a summary")
}

async fn two_servers_share_a_rate(backend: Backend) {
    let app = App::start_with(backend, ten_mails_a_second).await;
    let (second, other) = app
        .second_server_with(8, Arc::clone(&app.clock) as _, ten_mails_a_second)
        .await;
    let timeline = app
        .timeline(definition("hook", 1, vec![email(1, 0, "A"), sms(1, 0, "B")]))
        .await;
    let ids = crowd(&app, &timeline, "c", 65).await;
    // What was sent by which time, in milliseconds. Text messages are not limited.
    let mut sent: Vec<(i64, usize)> = Vec::new();
    for step in 0..=12 {
        let (here, there) = tokio::join!(tick(app.channel()), tick(other.clone()));
        assert!(!here.has_more && !there.has_more);
        sent.push((step * 500, app.sent_count() - 65));
        if step == 0 {
            assert_eq!(app.sent_count(), 65 + 10);
            let mut untils = Vec::new();
            for id in &ids {
                for deferred in app.progress(id).await.deferred_actions {
                    assert_eq!(deferred.reason(), pb::DeferReason::RateLimited);
                    untils.push(shown(deferred.until_time));
                }
            }
            assert_eq!(untils.len(), 55);
            untils.sort();
            assert_eq!(untils[54], "2026-01-05T12:00:05Z");
        }
        app.clock.advance(chrono::Duration::milliseconds(500));
    }
    for (at, (begin, _)) in sent.iter().enumerate() {
        let before = at.checked_sub(1).map_or(0, |before| sent[before].1);
        for (end, count) in &sent[at..] {
            let most = 10 + usize::try_from((end - begin) / 100).expect("a count");
            assert!(count - before <= most, "{begin} to {end}: {sent:?}");
        }
    }
    // Nothing is lost of what may go: ten at once, and ten a second from then on.
    let expected: Vec<(i64, usize)> = (0..=12)
        .map(|step| (step * 500, usize::try_from(10 + 5 * step).expect("a count").min(65)))
        .collect();
    assert_eq!(sent, expected);
    for id in &ids {
        let run = app.progress(id).await;
        assert!(run.completed_actions.iter().all(|done| done.attempts == 1), "{run:?}");
        assert_eq!((run.completed_actions.len(), run.deferred_actions.len()), (2, 0));
    }
    second.shutdown().await.expect("stopped");
    app.server.shutdown().await.expect("stopped");
}

async fn a_small_timeline_has_its_turn_beside_a_large_one(backend: Backend) {
    let app = App::start_with(backend, |config| config.limits.email_rate = rate("6000/m")).await;
    let large = app.timeline(definition("large", 1, vec![email(1, 0, "A")])).await;
    let small = app.timeline(definition("small", 1, vec![email(1, 0, "A")])).await;
    // More than one claim takes.
    crowd(&app, &large, "l", 1120).await;
    let few = crowd(&app, &small, "s", 10).await;
    for _ in 0..=10 {
        app.hourly().await;
        app.clock.advance(chrono::Duration::seconds(1));
    }
    assert_eq!(app.sent_count(), 1100);
    for id in &few {
        assert_eq!(app.progress(id).await.completed_actions.len(), 1, "{id}");
    }
    app.server.shutdown().await.expect("stopped");
}

async fn each_domain_has_a_rate_of_its_own(backend: Backend) {
    let app = App::start_with(backend, |config| {
        let one = Rate::parse("1/s").expect("a rate");
        let many = Rate::parse("20/s").expect("a rate");
        config.limits.email_domain_rate = vec![("slow.example.com".to_owned(), one), ("*".to_owned(), many)];
    })
    .await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    for n in 0..9 {
        let domain = ["Slow.example.com", "a.example.com", "b.example.com"][n % 3];
        let id = format!("c{n}");
        let mut given = customer(&id, "Etc/UTC");
        given.email = format!("{id}@{domain}");
        app.put_customer(given).await;
        app.start_run(&id, &timeline).await;
    }
    // A test customer's mail goes to no provider.
    let mut tester = customer("tester", "Etc/UTC");
    tester.email = "tester@slow.example.com".to_owned();
    tester.is_test = true;
    app.put_customer(tester).await;
    app.start_run("tester", &timeline).await;
    let mut sent = Vec::new();
    for _ in 0..4 {
        app.hourly().await;
        sent.push(app.sent_count());
        app.clock.advance(chrono::Duration::seconds(1));
    }
    assert_eq!(app.progress("tester").await.completed_actions.len(), 1);
    let outbox_itself = 1;
    assert_eq!(sent, [7, 8, 9, 9].map(|count| count + outbox_itself));
    // The daily tick forgets what is full again.
    app.daily().await;
    app.server.shutdown().await.expect("stopped");
}

async fn a_tick_stays_until_all_had_their_turn(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    let (server, channel) = app
        .second_server_with(9, Arc::new(SystemClock), ten_mails_a_second)
        .await;
    let mut orchestrator = CampaignOrchestratorServiceClient::new(channel.clone());
    for n in 0..25 {
        let id = format!("c{n}");
        app.customer(&id, "Etc/UTC").await;
        let request = pb::StartTimelineRequest {
            customer_id: id,
            timeline_id: timeline.timeline_id,
            ..Default::default()
        };
        orchestrator.start_timeline(request).await.expect("a run");
    }
    let begun = Instant::now();
    let summary = tick(channel).await;
    let counts = summary.counts.expect("counts");
    assert_eq!((counts.channels[0].completed, summary.has_more), (25, false));
    // Ten went at once, and fifteen at ten a second.
    assert!(begun.elapsed().as_millis() >= 1400, "{:?}", begun.elapsed());
    server.shutdown().await.expect("stopped");
    app.server.shutdown().await.expect("stopped");
}

/// Six minutes lie between two mails, and an hour between two ticks: one that ended at once would send one an hour.
async fn a_tick_stays_for_a_slow_rate_as_long_as_it_may(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 1, vec![email(1, 0, "A")])).await;
    let (server, channel) = app
        .second_server_with(9, Arc::new(SystemClock), |config| {
            config.limits.email_rate = rate("10/h");
            config.tick_limit = std::time::Duration::from_secs(2);
        })
        .await;
    let mut orchestrator = CampaignOrchestratorServiceClient::new(channel.clone());
    for id in ["anna", "bert"] {
        app.customer(id, "Etc/UTC").await;
        let request = pb::StartTimelineRequest {
            customer_id: id.to_owned(),
            timeline_id: timeline.timeline_id,
            ..Default::default()
        };
        orchestrator.start_timeline(request).await.expect("a run");
    }
    let summary = tick(channel).await;
    let counts = summary.counts.expect("counts");
    assert_eq!((counts.channels[0].completed, summary.has_more), (1, true));
    server.shutdown().await.expect("stopped");
    app.server.shutdown().await.expect("stopped");
}
