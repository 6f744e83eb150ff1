//! Servers whose clocks are wrong: they claim nothing, say so, and go on when the clock is set.

use campaign_automation::clock::{Clock as _, SystemClock};
use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::campaign_orchestrator_service_client::CampaignOrchestratorServiceClient;
use campaign_automation::proto::campaign::v1::campaign_tick_service_client::CampaignTickServiceClient;
use campaign_automation::proto::campaign::v1::campaign_timeline_service_client::CampaignTimelineServiceClient;
use campaign_automation::proto::campaign::v1::customer_service_client::CustomerServiceClient;
use chrono::Duration;
use std::sync::Arc;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::app::{daily, hourly};
use crate::support::calls::about;
use crate::support::given::{customer, definition, email, refused, sms};
use crate::support::mailing::{mailing_app, until_run};
use crate::support::skewed::SkewedClock;
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{App, Backend, Rows, on_each_database};

on_each_database!(
    who_is_an_hour_or_a_day_off_claims_nothing_until_the_clock_is_set,
    a_tick_under_way_claims_nothing_more,
    a_clock_is_right_within_the_bound,
);

const SERVICES: [&str; 5] = [
    "campaign.v1.CampaignContentService",
    "campaign.v1.CampaignOrchestratorService",
    "campaign.v1.CampaignTickService",
    "campaign.v1.CampaignTimelineService",
    "campaign.v1.CustomerService",
];

/// Waits until a server says of a service that it serves, or that it does not.
async fn until_health(channel: &Channel, service: &str, status: ServingStatus) {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let mut health = HealthClient::new(channel.clone());
    let mut news = health.watch(request).await.expect("a stream").into_inner();
    let told = async { while news.message().await.expect("a status").expect("a status").status() != status {} };
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(60), told);
    in_time
        .await
        .unwrap_or_else(|_| panic!("{service:?} does not say {status:?}"));
}

async fn until_all(channel: &Channel, status: ServingStatus) {
    for service in SERVICES {
        until_health(channel, service, status).await;
    }
    // Nobody restarts it because its clock is wrong.
    until_health(channel, "", ServingStatus::Serving).await;
}

async fn tick(channel: &Channel) -> Result<pb::TickSummary, Status> {
    let request = pb::ProcessCampaignTimelinesRequest::default();
    hourly(&mut CampaignTickServiceClient::new(channel.clone()), request).await
}

#[track_caller]
fn skewed<T: std::fmt::Debug>(what: &str, result: Result<T, Status>, by: Duration) {
    assert!(result.is_err(), "{what}: {result:?}");
    let status = refused(result, Code::Unavailable, "CLOCK_SKEWED", &[]);
    let skew: i64 = about(&status, "skew_ms").parse().expect("a number");
    let off = (skew - by.num_milliseconds()).abs();
    assert!(off < 5_000, "{what}: {skew} ms, and it is {by}");
    assert_eq!(about(&status, "max_clock_skew_ms"), "5000");
    for name in ["server_time", "database_time"] {
        assert!(
            status.message().contains(&about(&status, name)),
            "{name}: {}",
            status.message()
        );
    }
    let side = if by < Duration::zero() { "behind" } else { "ahead of" };
    for words in [side, "NTP"] {
        assert!(status.message().contains(words), "{}", status.message());
    }
}

/// All calls by which a server would do something by its time.
async fn assert_all_refused(app: &App, channel: &Channel, timeline: &pb::Timeline, run: i64, by: Duration) {
    let mut ticks = CampaignTickServiceClient::new(channel.clone());
    skewed("hourly", tick(channel).await, by);
    let request = pb::AdvanceCampaignDaysRequest::default();
    skewed("daily", daily(&mut ticks, request).await, by);
    let request = pb::ProcessCampaignTimelinesRequest {
        dry_run: true,
        ..Default::default()
    };
    skewed("dry run", hourly(&mut ticks, request).await, by);

    let mut orchestrator = CampaignOrchestratorServiceClient::new(channel.clone());
    let request = pb::ExecuteActionsRequest {
        customer_id: "anna".to_owned(),
        ..Default::default()
    };
    skewed("execute", orchestrator.execute_actions(request).await, by);
    let start = pb::StartTimelineRequest {
        customer_id: "bela".to_owned(),
        timeline_id: timeline.timeline_id,
        ..Default::default()
    };
    skewed("start", orchestrator.start_timeline(start).await, by);
    let request = pb::StartTimelinesRequest {
        starts: vec![pb::TimelineStart {
            customer_id: "bela".to_owned(),
            timeline_id: timeline.timeline_id,
            ..Default::default()
        }],
        ..Default::default()
    };
    skewed("starts", orchestrator.start_timelines(request).await, by);
    let request = pb::AssignTimelineForStageRequest {
        customer_id: "bela".to_owned(),
        ..Default::default()
    };
    skewed("assign", orchestrator.assign_timeline_for_stage(request).await, by);
    let request = pb::ResumeTimelineRequest {
        customer_id: "anna".to_owned(),
        progress_id: run,
        ..Default::default()
    };
    skewed("resume", orchestrator.resume_timeline(request).await, by);
    let request = pb::RetryActionsRequest {
        filter: Some(pb::ExecutionFilter {
            customer_id: "anna".to_owned(),
            outcomes: vec![pb::ExecutionOutcome::Failed.into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    skewed("retry", orchestrator.retry_actions(request).await, by);

    let mut customers = CustomerServiceClient::new(channel.clone());
    let request = pb::UpsertCustomersRequest {
        customers: vec![customer("bela", "Europe/London")],
        ..Default::default()
    };
    skewed("upsert", customers.upsert_customers(request).await, by);
    let request = pb::ChangePipelineStageRequest {
        customer_id: "bela".to_owned(),
        pipeline_stage: "hook".to_owned(),
        ..Default::default()
    };
    skewed("stage", customers.change_pipeline_stage(request).await, by);
    let request = pb::RecordEngagementsRequest {
        engagements: vec![pb::Engagement::default()],
    };
    skewed("engagements", customers.record_engagements(request).await, by);

    let mut timelines = CampaignTimelineServiceClient::new(channel.clone());
    let request = pb::ApplyTimelineRequest {
        timeline: Some(definition("other", 1, vec![])),
        ..Default::default()
    };
    skewed("apply", timelines.apply_timeline(request).await, by);
    let request = pb::SetTimelineActiveRequest {
        timeline_id: timeline.timeline_id,
        is_active: true,
        ..Default::default()
    };
    skewed("switch on", timelines.set_timeline_active(request).await, by);
    assert_eq!(app.sent_count(), 0);
}

async fn who_is_an_hour_or_a_day_off_claims_nothing_until_the_clock_is_set(backend: Backend) {
    for by in [
        Duration::hours(1),
        Duration::hours(-1),
        Duration::days(1),
        Duration::days(-1),
    ] {
        // What it does not do is wound by hand, and so it sets the scene.
        let app = App::start(backend).await;
        app.clock.set(SystemClock.now());
        let timeline = app
            .timeline(definition(
                "hook",
                2,
                vec![sms(1, 0, "A"), email(1, 0, "B"), sms(2, 0, "C")],
            ))
            .await;
        app.customer("anna", "Etc/UTC").await;
        app.customer("bela", "Etc/UTC").await;
        let run = app.start_run("anna", &timeline).await.progress_id;

        let clock = Arc::new(SkewedClock::ahead(by));
        let (skewed, channel) = app.second_server_with(8, Arc::clone(&clock) as _, |_| {}).await;
        until_all(&channel, ServingStatus::NotServing).await;
        let rows = Rows::of(&app, backend).await;
        let before = rows.all().await;
        assert_all_refused(&app, &channel, &timeline, run, by).await;
        assert_eq!(rows.all().await, before, "{by}");

        // Who reads gets answers, and who stops something is heard.
        let mut orchestrator = CampaignOrchestratorServiceClient::new(channel.clone());
        let request = pb::GetProgressRequest {
            customer_id: "anna".to_owned(),
            progress_id: run,
        };
        orchestrator.get_progress(request).await.expect("a run");
        let mut timelines = CampaignTimelineServiceClient::new(channel.clone());
        let request = pb::SetTimelineActiveRequest {
            timeline_id: timeline.timeline_id,
            is_active: false,
            ..Default::default()
        };
        timelines.set_timeline_active(request).await.expect("a switch");
        app.set_active(&timeline, true).await;

        let right = Arc::new(SkewedClock::ahead(Duration::zero()));
        let (second, right) = app.second_server_with(9, right, |_| {}).await;
        until_all(&right, ServingStatus::Serving).await;
        tick(&right).await.expect("a summary");
        assert_eq!(app.sent_count(), 2, "{by}");

        clock.set(Duration::zero());
        app.customer("cleo", "Etc/UTC").await;
        app.clock.set(SystemClock.now());
        app.start_run("cleo", &timeline).await;
        tick(&channel).await.expect("a summary");
        assert_eq!(app.sent_count(), 4, "{by}");
        until_all(&channel, ServingStatus::Serving).await;
        for server in [skewed, second, app.server] {
            server.shutdown().await.expect("stopped");
        }
    }
}

/// The clock jumps while a mail is under way, and somebody notices. The mail is finished and recorded; the text message after
/// it, which is due, is left to others.
async fn a_tick_under_way_claims_nothing_more(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let app = mailing_app(backend, &smtp).await;
    app.clock.set(SystemClock.now());
    let timeline = app
        .timeline(definition("hook", 2, vec![email(1, 0, "A"), sms(1, 0, "B")]))
        .await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;

    let clock = Arc::new(SkewedClock::ahead(Duration::zero()));
    let url = campaign_automation::channels::ChannelUrl::parse(&smtp.url()).expect("a URL");
    let (server, channel) = app
        .second_server_with(8, Arc::clone(&clock) as _, |config| {
            config.channels.email_url = Some(url);
            config.channels.email_from =
                Some(campaign_automation::channels::Mailbox::parse("shop@example.com").expect("a sender"));
        })
        .await;
    smtp.behave(Behaviour::Stall(Step::Dot));
    let ticking = tokio::spawn({
        let channel = channel.clone();
        async move { tick(&channel).await }
    });
    smtp.until_stalled(1).await;
    let hour = Duration::hours(1);
    clock.set(hour);
    skewed("another tick", tick(&channel).await, hour);
    smtp.behave(Behaviour::Accept);
    smtp.release();
    skewed("the tick under way", ticking.await.expect("a tick"), hour);
    let run = until_run(&app, "anna", |run| run.in_flight_actions.is_empty()).await;
    assert_eq!((run.completed_actions.len(), smtp.deliveries().len()), (1, 1));
    assert_eq!(app.sent_count(), 0);

    clock.set(Duration::zero());
    tick(&channel).await.expect("a summary");
    assert_eq!((app.sent_count(), smtp.deliveries().len()), (1, 1));
    for server in [server, app.server] {
        server.shutdown().await.expect("stopped");
    }
}

async fn a_clock_is_right_within_the_bound(backend: Backend) {
    let app = App::start(backend).await;
    app.clock.set(SystemClock.now());
    for (seed, (seconds, bound, is_right)) in (8..).zip([
        (3, 5, true),
        (-3, 5, true),
        (3, 1, false),
        (-3, 1, false),
        (30, 50, true),
    ]) {
        let clock = Arc::new(SkewedClock::ahead(Duration::seconds(seconds)));
        let (server, channel) = app
            .second_server_with(seed, clock, |config| {
                config.max_clock_skew = std::time::Duration::from_secs(bound);
                config.lease = std::time::Duration::from_secs(300);
            })
            .await;
        assert_eq!(tick(&channel).await.is_ok(), is_right, "{seconds} s of {bound} s");
        server.shutdown().await.expect("stopped");
    }
    app.server.shutdown().await.expect("stopped");
}
