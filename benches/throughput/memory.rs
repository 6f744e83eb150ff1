//! How much memory the program takes, and how soon it serves.

use anyhow::{Context as _, ensure};
use campaign_automation::clock::{Clock as _, SystemClock};
use chrono::Timelike as _;
use std::fmt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::Plan;
use crate::app::{self, Definition};
use crate::place::{Place, SECRET};
use crate::programs::Sink;

/// The longest that a start may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was found.
pub(crate) struct Memory {
    /// From the start of the process until it says that it serves, sorted.
    starts: Vec<Duration>,
    idle_kib: u64,
    peak_kib: u64,
    due: usize,
    sent: u64,
    tick: Duration,
}

/// `campaignd` as a process of its own, with so many due at once and a mail server that takes all.
pub(crate) async fn measure(plan: &Plan) -> anyhow::Result<Memory> {
    let now = SystemClock.now();
    let place = Place::on("memory", now.date_naive().to_string()).await?;
    let sink = Sink::start()?;
    let mut starts = Vec::new();
    for _ in 0..plan.rounds {
        let server = Process::start(&place, &sink).await?;
        starts.push(server.started_in);
    }
    let server = Process::start(&place, &sink).await?;
    starts.push(server.started_in);
    starts.sort_unstable();
    let idle_kib = server.memory("VmRSS")?;
    let definition = Definition {
        slug: "bench",
        is_active: true,
        duration_days: 90,
        days: vec![1],
        hour: i32::try_from(now.hour())?,
        text: "Hello {{ customer.name }}".to_owned(),
    };
    let timeline = app::apply(&server.channel, definition).await?;
    let due = plan.active;
    place.load(timeline, due, &format!("'{}'", now.to_rfc3339())).await?;
    let begun = Instant::now();
    let sent = app::execute(&server.channel).await?;
    Ok(Memory {
        starts,
        idle_kib,
        peak_kib: server.memory("VmHWM")?,
        due,
        sent,
        tick: begun.elapsed(),
    })
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let half = self.starts[self.starts.len() / 2];
        let (longest, count) = (self.starts[self.starts.len() - 1], self.starts.len());
        writeln!(
            f,
            "memory             serves {half:.2?} after it was started, {longest:.2?} at most of {count} times (target: 500 ms on SQLite)"
        )?;
        writeln!(
            f,
            "memory             {} MiB resident when it serves (target: 40)",
            self.idle_kib / 1024
        )?;
        write!(
            f,
            "memory             {} MiB resident at most (target: 150) when {} were due, of which {} were sent in {:.1?}",
            self.peak_kib / 1024,
            self.due,
            self.sent,
            self.tick
        )
    }
}

/// A `campaignd`. It is killed when it is dropped.
struct Process {
    child: Child,
    channel: Channel,
    started_in: Duration,
}

impl Process {
    /// One that serves.
    async fn start(place: &Place, sink: &Sink) -> anyhow::Result<Self> {
        let addr = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_campaignd"));
        command
            .args([
                "--listen",
                &addr,
                "--secret-key-file",
                SECRET,
                "--email-url",
                &sink.url(),
            ])
            .args(["--email-from", "Shop <shop@example.com>", "--sms-url", "outbox:outbox"])
            .args(["--phone-url", "outbox:outbox", "--interaction-url", "outbox:outbox"])
            .env("CAMPAIGN_DATABASE_URL", &place.url)
            .current_dir(place.folder())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(place.folder().join("log"))?);
        let begun = Instant::now();
        let mut child = command.spawn()?;
        let channel = loop {
            if let Some(channel) = serving(&addr).await {
                break channel;
            }
            if let Some(ended) = child.try_wait()? {
                let log = std::fs::read_to_string(place.folder().join("log"))?;
                anyhow::bail!("campaignd ended, {ended}: {log}");
            }
            ensure!(begun.elapsed() < PATIENCE, "campaignd does not serve");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        Ok(Self {
            child,
            channel,
            started_in: begun.elapsed(),
        })
    }

    fn memory(&self, what: &str) -> anyhow::Result<u64> {
        let found = crate::measure::memory(self.child.id(), what);
        (found > 0)
            .then_some(found)
            .with_context(|| format!("no {what} of campaignd"))
    }
}

/// A connection to a server, if it says that it serves.
async fn serving(addr: &str) -> Option<Channel> {
    let channel = app::connect(addr).await.ok()?;
    let request = HealthCheckRequest { service: String::new() };
    let said = HealthClient::new(channel.clone()).check(request).await.ok()?;
    (said.into_inner().status() == ServingStatus::Serving).then_some(channel)
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
