//! No room on the disk: a real `campaignd` that may not write a byte more (`RLIMIT_FSIZE`), and then may again.

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::campaign_content_service_client::CampaignContentServiceClient;
use campaign_automation::proto::campaign::v1::campaign_orchestrator_service_client::CampaignOrchestratorServiceClient;
use campaign_automation::proto::campaign::v1::campaign_tick_service_client::CampaignTickServiceClient;
use std::process::Command;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt as _;

use crate::support::app::hourly;
use crate::support::given::{definition, email, refused};
use crate::support::mailing::arrived;
use crate::support::process::{CAMPAIGND, Served, program};
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{App, Backend, Rows};

/// A `campaignd` that sends its mail to a server, and for which a write beyond its limit fails rather than kills.
fn campaignd(app: &App, directory: &std::path::Path, smtp: &SmtpServer) -> Served {
    let mut command = program(
        "bash",
        directory,
        &["-c", "trap '' XFSZ; exec \"$@\"", "bash", CAMPAIGND],
    );
    command
        .args(["--listen", "127.0.0.1:0", "--email-from", "shop@example.com"])
        .env("PATH", "/usr/bin:/bin")
        .env("CAMPAIGN_DATABASE_URL", &app.database.url)
        .env("CAMPAIGN_EMAIL_URL", smtp.url());
    Served::start(command)
}

/// Sets how large the files may become that a process writes.
fn limit(served: &Served, bytes: &str) {
    let process = served.id().to_string();
    let arguments = ["--pid", &process, &format!("--fsize={bytes}:")];
    let set = Command::new("prlimit").args(arguments).status();
    assert!(set.expect("prlimit").success());
}

/// What the calls of this test are made with.
struct Caller {
    runs: CampaignOrchestratorServiceClient<Channel>,
    ticks: CampaignTickServiceClient<Channel>,
    content: CampaignContentServiceClient<Channel>,
}

impl Caller {
    async fn of(served: &Served) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{}", served.addr)).expect("an address");
        let channel = endpoint.connect().await.expect("a connection");
        Self {
            runs: CampaignOrchestratorServiceClient::new(channel.clone()),
            ticks: CampaignTickServiceClient::new(channel.clone()),
            content: CampaignContentServiceClient::new(channel),
        }
    }

    async fn start(&mut self, customer: &str, timeline: &pb::Timeline) -> Result<(), tonic::Status> {
        let request = pb::StartTimelineRequest {
            customer_id: customer.to_owned(),
            timeline_id: timeline.timeline_id,
            ..Default::default()
        };
        self.runs.start_timeline(request).await.map(drop)
    }

    async fn execute(&mut self, customer: &str) -> Result<(), tonic::Status> {
        let request = pb::ExecuteActionsRequest {
            customer_id: customer.to_owned(),
            ..Default::default()
        };
        self.runs.execute_actions(request).await.map(drop)
    }

    async fn apply(&mut self) -> Result<(), tonic::Status> {
        let campaign = pb::CampaignDefinition {
            campaign_id: "B".to_owned(),
            kind: pb::CampaignKind::Transactional.into(),
            subject: "B".to_owned(),
            text_body: "x".repeat(10_000),
            ..Default::default()
        };
        let request = pb::ApplyCampaignRequest {
            campaign: Some(campaign),
            ..Default::default()
        };
        self.content.apply_campaign(request).await.map(drop)
    }

    async fn tick(&mut self) -> Result<pb::TickSummary, tonic::Status> {
        hourly(&mut self.ticks, pb::ProcessCampaignTimelinesRequest::default()).await
    }

    async fn completed(&mut self, customer: &str) -> usize {
        let request = pb::GetProgressRequest {
            customer_id: customer.to_owned(),
            progress_id: 0,
        };
        let response = self.runs.get_progress(request).await.expect("a run");
        response.into_inner().progress.expect("a run").completed_actions.len()
    }
}

/// Checks that a call says what is the matter, where, and what to do.
#[track_caller]
fn is_full<T: std::fmt::Debug>(result: Result<T, tonic::Status>) {
    let status = refused(result, Code::ResourceExhausted, "DATABASE_DISK_FULL", &[]);
    for words in ["the disk of the database", "test.db", "make room", "call again"] {
        assert!(status.message().contains(words), "{words:?}: {status:?}");
    }
    let details = status.get_error_details();
    assert!(details.retry_info().is_some(), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_and_doubles_nothing() {
    let smtp = SmtpServer::start().await;
    let app = App::start(Backend::Sqlite).await;
    let timeline = app.timeline(definition("hook", 2, vec![email(1, 0, "A")])).await;
    for id in ["anna", "bela"] {
        app.customer(id, "Etc/UTC").await;
    }
    let rows = Rows::of(&app, Backend::Sqlite).await;
    let directory = tempfile::tempdir().expect("a directory");
    let served = campaignd(&app, directory.path(), &smtp);
    let mut caller = Caller::of(&served).await;
    caller.start("anna", &timeline).await.expect("a run");

    // Full before anything is claimed: each call says so, and has done nothing.
    let before = rows.all().await;
    limit(&served, "0");
    for _ in 0..20 {
        is_full(caller.start("bela", &timeline).await);
        is_full(caller.apply().await);
        is_full(caller.execute("anna").await);
        is_full(caller.tick().await);
    }
    assert_eq!(caller.completed("anna").await, 0, "what is there can be read");
    assert_eq!((rows.all().await, smtp.mails()), (before, 0));

    // Full after the mail server took the mail over: the outcome is kept and tried again.
    limit(&served, "unlimited");
    smtp.behave(Behaviour::Stall(Step::Dot));
    let mut ticker = Caller::of(&served).await;
    let tick = tokio::spawn(async move { ticker.tick().await });
    smtp.until_stalled(1).await;
    let claimed = rows.all().await;
    limit(&served, "0");
    smtp.accept_all();
    smtp.release();
    served.until("trying again");
    assert_eq!(rows.all().await, claimed, "nothing of a record that failed");
    is_full(caller.start("bela", &timeline).await);

    // There is room again, and everything goes on by itself.
    limit(&served, "unlimited");
    let summary = tick.await.expect("a tick").expect("a summary");
    let counts = summary.counts.expect("counts");
    assert_eq!((counts.channels[0].completed, counts.stale_completions), (1, 0));
    assert_eq!(caller.completed("anna").await, 1);
    caller.start("bela", &timeline).await.expect("a run");
    let summary = caller.tick().await.expect("a summary");
    assert_eq!(summary.counts.expect("counts").channels[0].completed, 1);
    let got: Vec<(String, usize)> = arrived(&smtp).into_iter().map(|(to, ids)| (to, ids.len())).collect();
    let expected = [("anna@example.com".to_owned(), 1), ("bela@example.com".to_owned(), 1)];
    assert_eq!(got, expected);
    served.signal("TERM");
    assert_eq!(served.ended().code(), Some(0));
    app.server.shutdown().await.expect("stopped");
}
