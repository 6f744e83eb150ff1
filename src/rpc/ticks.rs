//! `CampaignTickService`.

use futures::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use super::convert::tick::{Given, counts, parse_tick, summary, tick_run};
use super::deadline::Deadline;
use super::error::status;
use super::page::Scope;
use super::violations::Violations;
use crate::auth::{Caller, Role};
use crate::domain::{TickCounts, TickKind, TickRunId, TickSummary};
use crate::engine::{Engine, EngineError, Stop, TickEvents, TickRequest};
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::campaign_tick_service_server::CampaignTickService;

/// How often counts are streamed.
const COUNTS_EVERY: Duration = Duration::from_secs(5);

/// How long before the caller's deadline a tick stops at the earliest, so that its summary arrives.
const MARGIN: Duration = Duration::from_secs(2);

/// How much of the time that is left is kept for ending well.
fn margin(left: Duration) -> Duration {
    MARGIN.min(left / 4)
}

/// Runs the scheduled work.
#[derive(Debug, Clone)]
pub struct TickService {
    engine: Arc<Engine>,
}

impl TickService {
    /// The service over an engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

/// News from a tick.
enum News {
    Counts(TickCounts),
    Summary(Box<TickSummary>),
}

type Streaming<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl CampaignTickService for TickService {
    type ProcessCampaignTimelinesStream = Streaming<pb::ProcessCampaignTimelinesResponse>;
    type AdvanceCampaignDaysStream = Streaming<pb::AdvanceCampaignDaysResponse>;

    async fn process_campaign_timelines(
        &self,
        request: Request<pb::ProcessCampaignTimelinesRequest>,
    ) -> Result<Response<Self::ProcessCampaignTimelinesStream>, Status> {
        use pb::process_campaign_timelines_response::Update;
        let deadline = Deadline::of(&request);
        let caller = Caller::of(request.extensions());
        let given = request.into_inner();
        let request = Given {
            caller: caller.name(),
            tick_id: &given.tick_id,
            max_actions: given.max_actions,
            partition: given.partition,
            timeline_ids: &given.timeline_ids,
            dry_run: given.dry_run,
        };
        let news = self.run(TickKind::Process, &request, deadline)?;
        let stream = futures::StreamExt::map(news, |news| {
            let update = match news? {
                News::Counts(found) => Update::Counts(counts(&found)),
                News::Summary(found) => Update::Summary(summary(&found)),
            };
            Ok(pb::ProcessCampaignTimelinesResponse { update: Some(update) })
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn advance_campaign_days(
        &self,
        request: Request<pb::AdvanceCampaignDaysRequest>,
    ) -> Result<Response<Self::AdvanceCampaignDaysStream>, Status> {
        use pb::advance_campaign_days_response::Update;
        let deadline = Deadline::of(&request);
        let caller = Caller::of(request.extensions());
        let given = request.into_inner();
        let request = Given {
            caller: caller.name(),
            tick_id: &given.tick_id,
            max_actions: given.max_actions,
            partition: given.partition,
            timeline_ids: &given.timeline_ids,
            dry_run: given.dry_run,
        };
        let news = self.run(TickKind::Advance, &request, deadline)?;
        let stream = futures::StreamExt::map(news, |news| {
            let update = match news? {
                News::Counts(found) => Update::Counts(counts(&found)),
                News::Summary(found) => Update::Summary(summary(&found)),
            };
            Ok(pb::AdvanceCampaignDaysResponse { update: Some(update) })
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_tick_runs(
        &self,
        request: Request<pb::ListTickRunsRequest>,
    ) -> Result<Response<pb::ListTickRunsResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let kind = match request.kind {
            0 => None,
            given => violations
                .known("kind", given, "TICK_KIND_PROCESS, TICK_KIND_ADVANCE, or not set")
                .and_then(|kind| match kind {
                    pb::TickKind::Unspecified => None,
                    pb::TickKind::Process => Some(TickKind::Process),
                    pb::TickKind::Advance => Some(TickKind::Advance),
                }),
        };
        let scope = Scope::new(&caller, "ListTickRuns", &[&request.kind]);
        let page = scope.parse::<TickRunId>(&mut violations, request.page_size, &request.page_token);
        let page = violations.finish(page)?;
        let of = (!caller.has(Role::Operator)).then(|| caller.name());
        let runs = self.engine.tick_runs(kind, of, &page).await.map_err(status)?;
        let (tick_runs, next_page_token) = scope.page(page.size, &runs, tick_run, |run| run.id);
        Ok(Response::new(pb::ListTickRunsResponse {
            tick_runs,
            next_page_token,
        }))
    }
}

impl TickService {
    /// Runs a tick in a task of its own, and gives its news. When nobody listens to them any more the tick claims nothing
    /// new, and records what is under way.
    fn run(
        &self,
        kind: TickKind,
        given: &Given<'_>,
        deadline: Option<Deadline>,
    ) -> Result<ReceiverStream<Result<News, Status>>, Status> {
        let mut violations = Violations::default();
        let request = parse_tick(&mut violations, kind, given);
        let request = violations.finish(request)?;
        let (sender, receiver) = mpsc::channel(4);
        let engine = Arc::clone(&self.engine);
        let deadline =
            deadline.map(|deadline| deadline.0 - margin(deadline.0.saturating_duration_since(Instant::now())));
        let span = tracing::info_span!(
            "tick",
            kind = kind.as_str(),
            tick_id = request.tick_id.as_deref().unwrap_or_default()
        );
        self.engine
            .tracker()
            .spawn(run_tick(engine, request, deadline, sender).instrument(span));
        Ok(ReceiverStream::new(receiver))
    }
}

async fn run_tick(
    engine: Arc<Engine>,
    request: TickRequest,
    deadline: Option<Instant>,
    sender: mpsc::Sender<Result<News, Status>>,
) {
    let abandoned = CancellationToken::new();
    let (events, stop) = (
        TickEvents::default(),
        Stop {
            deadline,
            abandoned: abandoned.clone(),
        },
    );
    let tick = engine.tick(request, stop, &events);
    tokio::pin!(tick);
    let mut every = tokio::time::interval(COUNTS_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every.reset();
    let result: Result<TickSummary, EngineError> = loop {
        tokio::select! {
            result = &mut tick => break result,
            _ = every.tick() => {
                // A full queue means that the caller is slow: it gets the next counts.
                let _ = sender.try_send(Ok(News::Counts(events.counts())));
            }
            () = sender.closed(), if !abandoned.is_cancelled() => {
                tracing::info!("the caller of the tick has gone: nothing new is claimed");
                abandoned.cancel();
            }
        }
    };
    let news = match result {
        Ok(summary) => {
            let counts = &summary.counts;
            tracing::info!(
                advanced = counts.advanced_runs,
                completed_runs = counts.completed_runs,
                channels = ?counts.channels,
                has_more = summary.has_more,
                "tick {} finished",
                summary.tick_id
            );
            Ok(News::Summary(Box::new(summary)))
        }
        Err(error) => Err(status(error)),
    };
    // Nobody is there to be told when the caller has gone.
    let _ = sender.send(news).await;
}
