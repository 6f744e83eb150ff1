//! What is each caller's own: page tokens, ticks, and answers that are kept.

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::campaign_orchestrator_service_client::CampaignOrchestratorServiceClient;
use campaign_automation::proto::campaign::v1::campaign_tick_service_client::CampaignTickServiceClient;
use campaign_automation::proto::campaign::v1::campaign_timeline_service_client::CampaignTimelineServiceClient;
use campaign_automation::proto::campaign::v1::customer_service_client::CustomerServiceClient;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::Guarded;
use crate::support::given::{definition, email};
use crate::support::{Backend, on_each_database};

on_each_database!(
    a_page_token_is_its_caller_s,
    a_tick_is_its_caller_s,
    a_kept_answer_is_its_caller_s,
);

/// A connection over which each call has a token.
type As = InterceptedService<Channel, Token>;

#[derive(Clone)]
pub(super) struct Token(String);

impl tonic::service::Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value = format!("Bearer {}", self.0).parse().expect("a value");
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

fn with(channel: &Channel, token: &str) -> As {
    InterceptedService::new(channel.clone(), Token(token.to_owned()))
}

pub(super) fn ticks(channel: &Channel, token: &str) -> CampaignTickServiceClient<As> {
    CampaignTickServiceClient::new(with(channel, token))
}

/// The hourly tick of this name.
pub(super) async fn named_tick(
    client: &mut CampaignTickServiceClient<As>,
    name: &str,
) -> Result<pb::TickSummary, Status> {
    use pb::process_campaign_timelines_response::Update;
    let request = pb::ProcessCampaignTimelinesRequest {
        tick_id: name.to_owned(),
        ..Default::default()
    };
    let mut stream = client.process_campaign_timelines(request).await?.into_inner();
    let mut last = None;
    while let Some(news) = stream.message().await? {
        if let Some(Update::Summary(summary)) = news.update {
            last = Some(summary);
        }
    }
    last.ok_or_else(|| Status::data_loss("no summary"))
}

async fn a_page_token_is_its_caller_s(backend: Backend) {
    let it = Guarded::with_callers(backend, &[("anna", "viewer"), ("bert", "viewer")]).await;
    for customer in ["a", "b", "c"] {
        it.app.customer(customer, "").await;
    }
    let page = |caller: &str, page_token: &str| {
        let mut client = CustomerServiceClient::new(with(&it.channel, &format!("token-of-{caller}")));
        let request = pb::ListCustomersRequest {
            page_size: 1,
            page_token: page_token.to_owned(),
            ..Default::default()
        };
        async move { client.list_customers(request).await.map(tonic::Response::into_inner) }
    };
    let first = page("anna", "").await.expect("a page");
    let second = page("anna", &first.next_page_token).await.expect("the next");
    assert_eq!(second.customers[0].customer_id, "b");
    for token in [first.next_page_token, second.next_page_token] {
        let refused = page("bert", &token).await.expect_err("another's");
        assert_eq!(refused.code(), Code::InvalidArgument);
        let details = refused.get_error_details();
        let violations = details.bad_request().expect("violations").field_violations.clone();
        assert_eq!(violations[0].field, "page_token");
    }
    it.stop().await;
}

async fn a_tick_is_its_caller_s(backend: Backend) {
    let callers = [
        ("one", "scheduler"),
        ("two", "scheduler"),
        ("ops", "operator"),
        ("root", "admin"),
    ];
    let it = Guarded::with_callers(backend, &callers).await;
    let client = |caller: &str| ticks(&it.channel, &format!("token-of-{caller}"));
    let tick = |caller: &'static str| {
        let mut client = client(caller);
        async move { named_tick(&mut client, "night").await.expect("a tick") }
    };
    let first = tick("one").await;
    it.app.pass_hours(1);
    assert_eq!(tick("one").await, first, "a tick that has finished is not run again");
    let other = tick("two").await;
    assert_ne!(
        other.start_time, first.start_time,
        "another's tick of that name is another"
    );
    assert_eq!(tick("two").await, other);
    for (caller, expected) in [
        ("one", vec![&first]),
        ("two", vec![&other]),
        ("ops", vec![&other, &first]),
        ("root", vec![&other, &first]),
    ] {
        let listed = client(caller).list_tick_runs(pb::ListTickRunsRequest::default()).await;
        let listed = listed.expect("a page").into_inner().tick_runs;
        let summaries: Vec<&pb::TickSummary> = listed.iter().filter_map(|run| run.summary.as_ref()).collect();
        assert_eq!(summaries, expected, "{caller}");
    }
    it.stop().await;
}

async fn a_kept_answer_is_its_caller_s(backend: Backend) {
    let it = Guarded::with_callers(backend, &[("anna", "caller"), ("bert", "caller")]).await;
    it.app.customer("c", "").await;
    let timeline = it.app.timeline(definition("plan", 3, vec![email(1, 0, "HI")])).await;
    let start = |caller: &str| {
        let mut client = CampaignOrchestratorServiceClient::new(with(&it.channel, &format!("token-of-{caller}")));
        let request = pb::StartTimelineRequest {
            customer_id: "c".to_owned(),
            timeline_id: timeline.timeline_id,
            request_id: "1".to_owned(),
            ..Default::default()
        };
        async move { client.start_timeline(request).await.map(tonic::Response::into_inner) }
    };
    let started = start("anna").await.expect("a run");
    assert_eq!(start("anna").await.expect("the same"), started);
    let refused = start("bert").await.expect_err("another's request");
    assert_eq!(refused.code(), Code::AlreadyExists, "it counts as his own: {refused:?}");
    let active = |caller: &str, is_active| {
        let mut client = CampaignTimelineServiceClient::new(with(&it.channel, &format!("token-of-{caller}")));
        let request = pb::SetTimelineActiveRequest {
            timeline_id: timeline.timeline_id,
            is_active,
            request_id: "1".to_owned(),
            ..Default::default()
        };
        async move { client.set_timeline_active(request).await }
    };
    active("anna", false).await.expect("off");
    active("bert", true)
        .await
        .expect("an id of his own, so it is no other request of that id");
    it.stop().await;
}
