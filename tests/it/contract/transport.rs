//! How calls and connections end: too large, too late, the server stops; and what the server says about itself.

use campaign_automation::proto::campaign::v1 as pb;
use futures::StreamExt as _;
use prost::Message;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::informed;
use crate::support::given::{customer, definition, email};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_message_of_5_mib_is_refused,
    a_millisecond_is_too_short_and_harms_nothing,
    the_server_says_what_it_is_and_when_it_goes,
    an_idle_client_does_not_hold_the_server,
);

const SERVICES: [&str; 6] = [
    "campaign.v1.CampaignContentService",
    "campaign.v1.CampaignOrchestratorService",
    "campaign.v1.CampaignTickService",
    "campaign.v1.CampaignTimelineService",
    "campaign.v1.CustomerService",
    "campaign.v1.SendingService",
];

/// Bounds what must end by itself.
async fn in_time<T>(what: &str, ends: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), ends)
        .await
        .unwrap_or_else(|_| panic!("{what} does not end"))
}

async fn a_message_of_5_mib_is_refused(backend: Backend) {
    let app = App::start(backend).await;
    let request = pb::UpsertCustomersRequest {
        customers: vec![pb::Customer {
            display_name: "x".repeat(5 * 1024 * 1024),
            ..customer("anna", "")
        }],
        ..Default::default()
    };
    let status = app.customers().upsert_customers(request).await.expect_err("refused");
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    app.customer("anna", "").await;
    app.server.shutdown().await.expect("stopped");
}

/// Calls a method on a connection of its own. tonic's client watches the deadline itself, and gives up before the server can
/// say anything.
async fn call(addr: SocketAddr, method: &str, request: &impl Message, timeout: &str) -> Status {
    let stream = TcpStream::connect(addr).await.expect("a connection");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let head = http::Request::post(format!("http://{addr}/campaign.v1.{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", timeout)
        .body(())
        .expect("a request");
    let (response, mut body) = client.send_request(head, false).expect("sent");
    let message = request.encode_to_vec();
    let length = u32::try_from(message.len()).expect("a length");
    let frame = [&[0], &length.to_be_bytes()[..], &message].concat();
    // The server may have answered before it reads the request, and reset the stream.
    let _ = body.send_data(frame.into(), true);
    let (head, mut body) = in_time(method, response).await.expect("a response").into_parts();
    while let Some(data) = in_time(method, body.data()).await {
        let data = data.expect("data");
        body.flow_control().release_capacity(data.len()).expect("released");
    }
    let trailers = body.trailers().await.expect("trailers").unwrap_or(head.headers);
    connection.abort();
    Status::from_header_map(&trailers).expect("a status")
}

async fn a_millisecond_is_too_short_and_harms_nothing(backend: Backend) {
    let app = App::start(backend).await;
    let mut plan = definition("plan", 5, vec![email(1, 0, "A"), email(1, 1, "B")]);
    plan.is_default = true;
    let timeline = app.timeline(plan.clone()).await;
    for id in ["anna", "bert"] {
        app.put_customer(pb::Customer {
            pipeline_stage: "hook".to_owned(),
            ..customer(id, "")
        })
        .await;
    }
    let annas = app.start_run("anna", &timeline).await.progress_id;
    let (timeline_id, addr) = (timeline.timeline_id, app.server.addr());
    let customer_id = |id: &str| id.to_owned();
    let mut outcomes: Vec<(&str, Status)> = Vec::new();
    macro_rules! hurry {
        ($method:literal, $request:expr) => {
            for timeout in ["0n", "1m", "5m", "9m", "20m"] {
                outcomes.push(($method, call(addr, $method, &$request, timeout).await));
            }
        };
    }
    hurry!(
        "CampaignTimelineService/ApplyTimeline",
        pb::ApplyTimelineRequest {
            timeline: Some(definition("late", 5, vec![])),
            ..Default::default()
        }
    );
    hurry!(
        "CampaignTimelineService/GetTimeline",
        pb::GetTimelineRequest {
            timeline_id,
            ..Default::default()
        }
    );
    hurry!(
        "CampaignTimelineService/ListTimelines",
        pb::ListTimelinesRequest::default()
    );
    hurry!(
        "CampaignTimelineService/SetTimelineActive",
        pb::SetTimelineActiveRequest {
            timeline_id,
            is_active: true,
            ..Default::default()
        }
    );
    hurry!(
        "CampaignTimelineService/SetDefaultTimeline",
        pb::SetDefaultTimelineRequest {
            pipeline_stage: "hook".to_owned(),
            timeline_id,
            ..Default::default()
        }
    );
    hurry!(
        "CampaignContentService/ApplyCampaign",
        pb::ApplyCampaignRequest {
            campaign: Some(pb::CampaignDefinition {
                campaign_id: "LATE".to_owned(),
                sms_text: "Hi".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        }
    );
    hurry!(
        "CampaignContentService/PreviewCampaign",
        pb::PreviewCampaignRequest {
            which: Some(pb::preview_campaign_request::Which::CampaignId("A".to_owned())),
            whom: Some(pb::preview_campaign_request::Whom::CustomerId("anna".to_owned())),
            ..Default::default()
        }
    );
    hurry!(
        "CampaignContentService/GetCampaign",
        pb::GetCampaignRequest {
            campaign_id: "A".to_owned()
        }
    );
    hurry!(
        "CampaignContentService/ListCampaigns",
        pb::ListCampaignsRequest::default()
    );
    hurry!(
        "CustomerService/UpsertCustomers",
        pb::UpsertCustomersRequest {
            customers: vec![pb::Customer {
                pipeline_stage: "hook".to_owned(),
                ..customer("carl", "")
            }],
            assign_timeline: true,
            ..Default::default()
        }
    );
    hurry!(
        "CustomerService/GetCustomer",
        pb::GetCustomerRequest {
            customer_id: customer_id("anna")
        }
    );
    hurry!("CustomerService/ListCustomers", pb::ListCustomersRequest::default());
    hurry!(
        "CustomerService/ChangePipelineStage",
        pb::ChangePipelineStageRequest {
            customer_id: customer_id("bert"),
            pipeline_stage: "base".to_owned(),
            ..Default::default()
        }
    );
    hurry!(
        "CustomerService/RecordEngagements",
        pb::RecordEngagementsRequest {
            engagements: vec![pb::Engagement {
                customer_id: customer_id("anna"),
                event_id: "e".to_owned(),
                kind: 1,
                ..Default::default()
            }]
        }
    );
    hurry!(
        "CustomerService/ListEngagements",
        pb::ListEngagementsRequest {
            customer_id: customer_id("anna"),
            ..Default::default()
        }
    );
    hurry!(
        "CampaignOrchestratorService/StartTimeline",
        pb::StartTimelineRequest {
            customer_id: customer_id("bert"),
            timeline_id,
            ..Default::default()
        }
    );
    hurry!(
        "CampaignOrchestratorService/AssignTimelineForStage",
        pb::AssignTimelineForStageRequest {
            customer_id: customer_id("bert"),
            ..Default::default()
        }
    );
    hurry!(
        "CampaignOrchestratorService/ExecuteActions",
        pb::ExecuteActionsRequest {
            customer_id: customer_id("anna"),
            ..Default::default()
        }
    );
    hurry!(
        "CampaignOrchestratorService/GetProgress",
        pb::GetProgressRequest {
            customer_id: customer_id("anna"),
            progress_id: annas
        }
    );
    hurry!(
        "CampaignOrchestratorService/ListProgress",
        pb::ListProgressRequest::default()
    );
    hurry!(
        "CampaignOrchestratorService/PauseTimeline",
        pb::PauseTimelineRequest {
            customer_id: customer_id("anna"),
            progress_id: annas,
            ..Default::default()
        }
    );
    hurry!(
        "CampaignOrchestratorService/ResumeTimeline",
        pb::ResumeTimelineRequest {
            customer_id: customer_id("anna"),
            progress_id: annas,
            ..Default::default()
        }
    );
    hurry!("CampaignTickService/ListTickRuns", pb::ListTickRunsRequest::default());
    let is_late = |status: &Status| status.code() == Code::DeadlineExceeded;
    assert!(
        outcomes.iter().any(|(_, status)| is_late(status)),
        "a millisecond was long enough"
    );
    for (method, status) in outcomes {
        let unclean = [Code::Cancelled, Code::Unknown, Code::Internal];
        assert!(!unclean.contains(&status.code()), "{method}: {status:?}");
        if is_late(&status) {
            informed(method, &status, "CALL_TOO_LONG");
        }
    }
    // What has begun to execute goes on without its caller. The one task that stays watches the database.
    in_time("executing", async {
        while app.server.engine().tracker().len() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    // Whatever was committed, all is whole: everybody can be served, and each mail goes once.
    for id in ["anna", "bert", "carl"] {
        let mut known = customer(id, "");
        known.pipeline_stage.clear();
        app.put_customer(known).await;
        let request = pb::StartTimelineRequest {
            customer_id: id.to_owned(),
            timeline_id,
            allow_restart: true,
            ..Default::default()
        };
        if let Err(status) = app.orchestrator().start_timeline(request).await {
            assert_eq!(status.code(), Code::AlreadyExists, "{status:?}");
        }
    }
    if app.progress("anna").await.status() == pb::ProgressStatus::Paused {
        let request = pb::ResumeTimelineRequest {
            customer_id: customer_id("anna"),
            progress_id: annas,
            ..Default::default()
        };
        app.orchestrator().resume_timeline(request).await.expect("resumed");
    }
    app.hourly().await;
    app.pass_hours(1);
    app.hourly().await;
    for id in ["anna", "bert", "carl"] {
        let run = app.progress(id).await;
        assert_eq!(run.completed_actions.len(), 2, "{run:?}");
        assert_eq!(run.in_flight_actions, [], "{run:?}");
        assert_eq!(app.sent_to(id).len(), 2, "{id}");
    }
    app.server.shutdown().await.expect("stopped");
}

async fn the_server_says_what_it_is_and_when_it_goes(backend: Backend) {
    let app = App::start(backend).await;
    let mut reflection = ServerReflectionClient::new(app.channel());
    let question = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = reflection
        .server_reflection_info(tokio_stream::once(question))
        .await
        .expect("reflection")
        .into_inner();
    let answer = answers.message().await.expect("an answer").expect("an answer");
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("no services: {answer:?}");
    };
    let listed: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for service in SERVICES {
        assert!(listed.contains(&service), "{service} is not in {listed:?}");
    }

    let mut health = HealthClient::new(app.channel());
    let about = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    for service in SERVICES.into_iter().chain([""]) {
        let found = health.check(about(service)).await.expect("a status").into_inner();
        assert_eq!(found.status(), ServingStatus::Serving, "{service:?}");
    }
    let unknown = health
        .check(about("campaign.v1.Nothing"))
        .await
        .expect_err("no such service");
    assert_eq!(unknown.code(), Code::NotFound);

    let mut watches = Vec::new();
    for service in SERVICES.into_iter().chain([""]) {
        let mut watch = health.watch(about(service)).await.expect("a stream").into_inner();
        let first = watch.message().await.expect("a status").expect("a status");
        assert_eq!(first.status(), ServingStatus::Serving, "{service:?}");
        watches.push((service, watch));
    }
    let (stopped, seen) = in_time("stopping", async {
        tokio::join!(
            app.server.shutdown(),
            futures::future::join_all(watches.into_iter().map(|(service, watch)| async move {
                let news: Vec<Result<HealthCheckResponse, Status>> = watch.take(1).collect().await;
                (service, news)
            }))
        )
    })
    .await;
    stopped.expect("stopped");
    for (service, news) in seen {
        let first = news.into_iter().next().expect("news before the end").expect("a status");
        assert_eq!(first.status(), ServingStatus::NotServing, "{service:?}");
    }
}

async fn an_idle_client_does_not_hold_the_server(backend: Backend) {
    let app = App::start(backend).await;
    app.customer("anna", "").await;
    let mute = TcpStream::connect(app.server.addr()).await.expect("a connection");
    let idle = app.channel();
    in_time("stopping with idle clients", app.server.shutdown())
        .await
        .expect("stopped");
    drop((mute, idle));
}
