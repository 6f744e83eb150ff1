//! How fast mails leave, beside what `smtp-source` of Postfix reaches: the same mail, the same number of connections, the same
//! server, `smtp-sink`, which discards what it gets.
//!
//! `cargo bench --bench smtp_throughput` runs it on `SQLite`, every commit forced to the disk; with
//! `DATABASE_URL=postgres://postgres@127.0.0.1/postgres` on a database of its own in that server. It takes `apt-get install postfix`,
//! whose service need not run. `MAILS` are sent in each of `ROUNDS`, by `CONNECTIONS`. Rounds of both alternate, so that noise
//! of the machine meets both. `smtp-source` waits for the answer to each command; with `PIPELINING=0` the server has to as well.
//!
//! `channel` is the channel alone, which makes mails of messages and hands them over. `tick` is a whole hourly tick, as a
//! `CronJob` sees it: claims, templates, mails, outcomes.

#![expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]

use anyhow::{Context as _, bail, ensure};
use campaign_automation::channels::{
    ChannelUrl, Content, MailOptions, Mailbox, Message, Outcome, Sender as _, SmtpLimits, SmtpSender, TrustedRoots,
};
use campaign_automation::clock::ManualClock;
use campaign_automation::config::Config;
use campaign_automation::domain::{ActionId, CustomerId, EmailAddress, ProgressId, Slug};
use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::campaign_content_service_client::CampaignContentServiceClient;
use campaign_automation::proto::campaign::v1::campaign_orchestrator_service_client::CampaignOrchestratorServiceClient;
use campaign_automation::proto::campaign::v1::campaign_tick_service_client::CampaignTickServiceClient;
use campaign_automation::proto::campaign::v1::campaign_timeline_service_client::CampaignTimelineServiceClient;
use campaign_automation::proto::campaign::v1::customer_service_client::CustomerServiceClient;
use campaign_automation::random::Random;
use campaign_automation::server::{self, Server};
use campaign_automation::store::StoreUrl;
use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait as _, Database};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// The secret of the servers of tests.
const SECRET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/secret.key");

/// How large a mail is, about, in bytes.
const SIZE: usize = 2048;

/// Who the mails are from.
const FROM: &str = "Shop <shop@example.com>";

/// When it begins.
const NOON: &str = "2026-01-05T12:00:00Z";

/// How many customers are stored or started by one call.
const BATCH: usize = 1000;

/// What is measured, and how often.
#[derive(Debug, Clone, Copy)]
struct Plan {
    mails: usize,
    rounds: usize,
    connections: usize,
}

impl Plan {
    fn from_environment() -> anyhow::Result<Self> {
        let number = |name: &str, default: usize| match std::env::var(name) {
            Ok(given) => given.parse().with_context(|| format!("{name} is no number: {given}")),
            Err(_) => Ok(default),
        };
        Ok(Self {
            mails: number("MAILS", 20_000)?,
            rounds: number("ROUNDS", 5)?,
            connections: number("CONNECTIONS", 8)?,
        })
    }
}

/// A program of Postfix, wherever `$PATH` ends.
fn postfix(program: &str) -> anyhow::Result<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&folders).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join(program)).find(|file| file.exists());
    found.with_context(|| format!("there is no {program}: apt-get install postfix"))
}

/// A mail server that discards what it gets. It ends when it is dropped.
struct Sink {
    process: Child,
    port: u16,
}

impl Sink {
    fn start() -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(postfix("smtp-sink")?);
        // As root it asks for a user to become.
        if Command::new("id").arg("-u").output()?.stdout == b"0\n" {
            command.args(["-u", "nobody"]);
        }
        if std::env::var("PIPELINING").is_ok_and(|given| given == "0") {
            command.arg("-p");
        }
        command
            .args([&format!("127.0.0.1:{port}"), "1000"])
            .stdout(Stdio::null());
        let mut sink = Self {
            process: command.spawn()?,
            port,
        };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(sink.process.try_wait()?.is_none(), "smtp-sink ended");
            ensure!(begun.elapsed() < Duration::from_secs(10), "smtp-sink does not listen");
            std::thread::yield_now();
        }
        Ok(sink)
    }

    fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends a mail from a file many times with `smtp-source`; mails per second.
fn by_smtp_source(plan: Plan, sink: &Sink, mail: &Path) -> anyhow::Result<f64> {
    let mut command = Command::new(postfix("smtp-source")?);
    command
        .args(["-d", "-s", &plan.connections.to_string(), "-m", &plan.mails.to_string()])
        .args(["-f", "shop@example.com", "-t", "c0000000@example.com", "-F"])
        .arg(mail)
        .arg(format!("127.0.0.1:{}", sink.port));
    let begun = Instant::now();
    let status = command.status()?;
    ensure!(status.success(), "smtp-source: {status}");
    Ok(plan.mails as f64 / begun.elapsed().as_secs_f64())
}

/// The channel of a server, and what it is given to send.
struct MailChannel {
    sender: Arc<SmtpSender>,
    messages: Arc<Vec<Message>>,
    connections: usize,
}

impl MailChannel {
    fn new(plan: Plan, sink: &Sink) -> anyhow::Result<Self> {
        let ChannelUrl::Smtp(server) = ChannelUrl::parse(&sink.url())? else {
            bail!("no mail server");
        };
        let limits = SmtpLimits {
            connections: plan.connections,
            ..SmtpLimits::default()
        };
        let clock = Arc::new(ManualClock::new(NOON.parse()?));
        let from = Mailbox::parse(FROM)?;
        let sender = SmtpSender::new(server, &TrustedRoots::public(), from, clock, limits)?;
        let messages: anyhow::Result<Vec<Message>> = (1..=plan.mails).map(message).collect();
        Ok(Self {
            sender: Arc::new(sender),
            messages: Arc::new(messages?),
            connections: plan.connections,
        })
    }

    /// Sends all by as many tasks as there are connections; mails per second.
    async fn send(&self) -> anyhow::Result<f64> {
        let next = Arc::new(AtomicUsize::new(0));
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..self.connections {
            let (sender, messages, next) = (Arc::clone(&self.sender), Arc::clone(&self.messages), Arc::clone(&next));
            tasks.spawn(async move {
                while let Some(message) = messages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = sender.send(message).await;
                    ensure!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
                }
                Ok(())
            });
        }
        while let Some(sent) = tasks.join_next().await {
            sent??;
        }
        Ok(self.messages.len() as f64 / begun.elapsed().as_secs_f64())
    }
}

/// What a tick gives to the channel for this customer.
fn message(number: usize) -> anyhow::Result<Message> {
    Ok(Message {
        idempotency_key: format!("6f1c0de0-0000-4000-8000-{number:012}"),
        attempt: 1,
        customer_id: CustomerId::parse(&format!("c{number:07}"))?,
        progress_id: ProgressId(i64::try_from(number)?),
        timeline: Slug::parse("bench")?,
        action_id: ActionId(1),
        action_key: "d1".to_owned(),
        valid_for: None,
        content: Content::Email {
            to: EmailAddress::parse(&format!("c{number:07}@example.com"))?,
            to_name: format!("Customer {number}"),
            subject: format!("Day 1 for Customer {number}"),
            text: Some(text(&format!("Customer {number}"))),
            html: None,
            options: Box::new(MailOptions::default()),
        },
    })
}

/// The text of a mail to a customer of this name.
fn text(name: &str) -> String {
    let line = "Some words of a mail that is about as long as mails are.\n";
    format!("Hello {name},\n\n{}", line.repeat(SIZE * 4 / 5 / line.len()))
}

/// The URL of the database: a file in the folder, or a new one in the server of `DATABASE_URL`.
async fn database(folder: &Path) -> anyhow::Result<StoreUrl> {
    let url = match std::env::var("DATABASE_URL") {
        Err(_) => format!("sqlite://{}", folder.join("bench.db").display()),
        Ok(server) => {
            let admin = Database::connect(&server).await?;
            for statement in ["drop database if exists {} with (force)", "create database {}"] {
                let statement = statement.replace("{}", "campaign_bench_smtp");
                admin.execute_unprepared(&statement).await?;
            }
            let (server, _) = server.rsplit_once('/').context("DATABASE_URL has no database")?;
            format!("{server}/campaign_bench_smtp")
        }
    };
    StoreUrl::parse(&url).map_err(anyhow::Error::msg)
}

/// A server in this process with a clock that is moved by hand, whose mails go to the sink.
struct App {
    plan: Plan,
    server: Server,
    clock: Arc<ManualClock>,
    channel: Channel,
    outbox: PathBuf,
}

impl App {
    async fn start(plan: Plan, folder: &Path, sink: &Sink) -> anyhow::Result<Self> {
        let outbox = folder.join("outbox");
        let mut config = Config::embedded(database(folder).await?, &outbox);
        config.secret_key_file = Some(SECRET.into());
        config.database.forced_to_disk = true;
        config.channels.email_url = Some(ChannelUrl::parse(&sink.url())?);
        config.channels.email_from = Some(Mailbox::parse(FROM)?);
        config.email_concurrency = plan.connections;
        server::migrate(&config.database).await?;
        let noon: DateTime<Utc> = NOON.parse()?;
        let clock = Arc::new(ManualClock::new(noon));
        let server = Server::start(config, Arc::clone(&clock) as _, Random::from_seed(1)).await?;
        let channel = Channel::from_shared(format!("http://{}", server.addr()))?;
        let channel = channel.connect().await?;
        let app = Self {
            plan,
            server,
            clock,
            channel,
            outbox,
        };
        let timeline = app.define().await?;
        app.start_runs(timeline).await?;
        Ok(app)
    }

    /// A timeline with a mail on each day, the first of which is for the sample; its id.
    async fn define(&self) -> anyhow::Result<i64> {
        let campaign = pb::CampaignDefinition {
            campaign_id: "A".to_owned(),
            kind: pb::CampaignKind::Transactional.into(),
            subject: "Day {{ day }} for {{ customer.name }}".to_owned(),
            text_body: text("{{ customer.name }}"),
            ..Default::default()
        };
        let request = pb::ApplyCampaignRequest {
            campaign: Some(campaign),
            ..Default::default()
        };
        let mut content = CampaignContentServiceClient::new(self.channel.clone());
        content.apply_campaign(request).await?;
        let days = i32::try_from(self.plan.rounds)? + 1;
        let mail = |day_number| pb::ActionDefinition {
            key: format!("d{day_number}"),
            day_number,
            channel: pb::Channel::Email.into(),
            action_type: pb::ActionType::SendEmail.into(),
            campaign_id: "A".to_owned(),
            ..Default::default()
        };
        let definition = pb::TimelineDefinition {
            slug: "bench".to_owned(),
            name: "Bench".to_owned(),
            pipeline_stage: "hook".to_owned(),
            duration_days: days,
            is_active: true,
            actions: (1..=days).map(mail).collect(),
            ..Default::default()
        };
        let request = pb::ApplyTimelineRequest {
            timeline: Some(definition),
            ..Default::default()
        };
        let mut timelines = CampaignTimelineServiceClient::new(self.channel.clone());
        let applied = timelines.apply_timeline(request).await?.into_inner();
        Ok(applied.timeline.context("a timeline")?.timeline_id)
    }

    /// Stores the customers and starts them. The first is a test customer, whose mails are files.
    async fn start_runs(&self, timeline_id: i64) -> anyhow::Result<()> {
        let mut customers = CustomerServiceClient::new(self.channel.clone());
        let mut orchestrator = CampaignOrchestratorServiceClient::new(self.channel.clone());
        let numbers: Vec<usize> = (0..=self.plan.mails).collect();
        for numbers in numbers.chunks(BATCH) {
            let customer = |number: &usize| pb::Customer {
                customer_id: format!("c{number:07}"),
                display_name: format!("Customer {number}"),
                email: format!("c{number:07}@example.com"),
                is_test: *number == 0,
                ..Default::default()
            };
            let request = pb::UpsertCustomersRequest {
                customers: numbers.iter().map(customer).collect(),
                ..Default::default()
            };
            customers.upsert_customers(request).await?;
            let start = |number: &usize| pb::TimelineStart {
                customer_id: format!("c{number:07}"),
                timeline_id,
                ..Default::default()
            };
            let request = pb::StartTimelinesRequest {
                starts: numbers.iter().map(start).collect(),
                ..Default::default()
            };
            let started = orchestrator.start_timelines(request).await?.into_inner();
            let is_run = |result: &pb::StartTimelinesResult| {
                matches!(result.result, Some(pb::start_timelines_result::Result::Run(_)))
            };
            ensure!(started.results.iter().all(is_run), "not all were started");
        }
        Ok(())
    }

    /// Sends the mails of a day by an hourly tick; mails per second.
    async fn tick(&self) -> anyhow::Result<f64> {
        use pb::process_campaign_timelines_response::Update;
        let mut ticks = CampaignTickServiceClient::new(self.channel.clone());
        let begun = Instant::now();
        let request = pb::ProcessCampaignTimelinesRequest::default();
        let mut stream = ticks.process_campaign_timelines(request).await?.into_inner();
        let mut sent = 0;
        while let Some(news) = stream.message().await? {
            if let Some(Update::Summary(summary)) = news.update {
                let counts = summary.counts.context("counts")?;
                sent = counts.channels.iter().map(|channel| channel.completed).sum();
            }
        }
        let took = begun.elapsed();
        ensure!(usize::try_from(sent)? == self.plan.mails, "{sent} mails were sent");
        Ok(self.plan.mails as f64 / took.as_secs_f64())
    }

    /// Makes it the next day, and moves the runs there.
    async fn next_day(&self) -> anyhow::Result<()> {
        self.clock.advance(chrono::Duration::days(1));
        let mut ticks = CampaignTickServiceClient::new(self.channel.clone());
        let request = pb::AdvanceCampaignDaysRequest::default();
        let mut stream = ticks.advance_campaign_days(request).await?.into_inner();
        while stream.message().await?.is_some() {}
        Ok(())
    }

    /// The mail of the test customer, as it goes over the wire but for the line breaks, which `smtp-source` makes.
    fn sample(&self, folder: &Path) -> anyhow::Result<(PathBuf, usize)> {
        let mut mails = std::fs::read_dir(self.outbox.join("test"))?;
        let mail = std::fs::read_to_string(mails.next().context("a mail of the test customer")??.path())?;
        let file = folder.join("sample");
        std::fs::write(&file, mail.replace("\r\n", "\n"))?;
        Ok((file, mail.len()))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let plan = Plan::from_environment()?;
    let mut out = std::io::stdout();
    let folder = tempfile::tempdir()?;
    let sink = Sink::start()?;
    let app = App::start(plan, folder.path(), &sink).await?;
    // Connections are made, templates read and statements prepared.
    app.tick().await?;
    let (sample, size) = app.sample(folder.path())?;
    let Plan {
        mails,
        rounds,
        connections,
    } = plan;
    writeln!(
        out,
        "{rounds} times {mails} mails of {size} bytes by {connections} connections, mails per second:"
    )?;
    let channel = MailChannel::new(plan, &sink)?;
    channel.send().await?;
    writeln!(
        out,
        "{:>12} {:>12} {:>6} {:>12} {:>6}",
        "smtp-source", "channel", "ratio", "tick", "ratio"
    )?;
    let mut columns: [Vec<f64>; 5] = Default::default();
    for _ in 0..rounds {
        app.next_day().await?;
        let source = by_smtp_source(plan, &sink, &sample)?;
        let (alone, tick) = (channel.send().await?, app.tick().await?);
        let row = [source, alone, alone / source, tick, tick / source];
        print(&mut out, row, "")?;
        for (column, value) in columns.iter_mut().zip(row) {
            column.push(value);
        }
    }
    print(&mut out, columns.map(median), "  medians")?;
    app.server.shutdown().await
}

fn print(out: &mut impl std::io::Write, row: [f64; 5], what: &str) -> anyhow::Result<()> {
    let [source, channel, of_channel, tick, of_tick] = row;
    writeln!(
        out,
        "{source:>12.0} {channel:>12.0} {of_channel:>6.2} {tick:>12.0} {of_tick:>6.2}{what}"
    )?;
    Ok(())
}
