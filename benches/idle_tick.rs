//! What a tick costs with a million runs: when nothing is due, when a million are overdue on an inactive timeline, how
//! many statements 20,000 due customers take, and how much memory 200,000 take.
//!
//! `cargo bench --bench idle_tick` runs it on `SQLite`. With `DATABASE_URL=postgres://postgres@127.0.0.1/postgres` it makes
//! databases of its own in that server, as a superuser, and shows the plans of the statements as they ran (`auto_explain`).
//! `ROWS` is the number of runs.

#![expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
#![expect(clippy::disallowed_types, reason = "plans are asked for by statements of its own")]

use anyhow::Context as _;
use campaign_automation::clock::ManualClock;
use campaign_automation::config::Config;
use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::campaign_content_service_client::CampaignContentServiceClient;
use campaign_automation::proto::campaign::v1::campaign_tick_service_client::CampaignTickServiceClient;
use campaign_automation::proto::campaign::v1::campaign_timeline_service_client::CampaignTimelineServiceClient;
use campaign_automation::random::Random;
use campaign_automation::server::{self, Server};
use campaign_automation::store::StoreUrl;
use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tonic::transport::Channel;

/// The secret of the servers of tests.
const SECRET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/secret.key");

const CALLS: usize = 200;

/// The statements of a tick that are worth a look, by words that only they have.
const PLANS: [(&str, &str); 5] = [
    ("the probe for what is due", "as earliest"),
    ("the claim's select", "for update of p skip locked"),
    ("the claim's update", "lease_token = u.token"),
    ("the record's update", "lease_token = null"),
    ("a range of cohorts", "group by p.campaign_timeline_id"),
];

/// The same for `SQLite`, which shows no plans by itself: statements of `store/claims.rs` and `store/advance.rs`.
const SQLITE_PLANS: [(&str, &str); 3] = [
    (
        "the probe for what is due",
        "select t.id, t.revision, (select p.next_action_at from customer_timeline_progress p where p.campaign_timeline_id = t.id \
         and p.status = 'active' and p.next_action_at is not null order by p.next_action_at limit 1) as earliest \
         from campaign_timelines t where t.is_active order by t.id",
    ),
    (
        "the claim's select",
        "select p.* from customer_timeline_progress p where p.campaign_timeline_id = 1 and p.status = 'active' \
         and p.next_action_at <= '2026-01-05T12:00:00+00:00' and (p.next_action_at, p.id) > ('1970-01-01T00:00:00+00:00', 0) \
         and (p.lease_expires_at is null or p.lease_expires_at <= '2026-01-05T12:00:00+00:00') order by p.next_action_at, p.id limit 501",
    ),
    (
        "a range of customers",
        "select max(r.customer_id) as until from (select p.customer_id from customer_timeline_progress p \
         where p.customer_id > 'c0' order by p.customer_id limit 10000) r",
    ),
];

/// A database that is dropped with its server or its folder.
struct Place {
    url: String,
    directory: TempDir,
}

impl Place {
    async fn new(name: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let Ok(server) = std::env::var("DATABASE_URL") else {
            let url = format!("sqlite://{}", directory.path().join("bench.db").display());
            return Ok(Self { url, directory });
        };
        let admin = Database::connect(&server).await?;
        let database = format!("campaign_bench_{name}");
        admin
            .execute_unprepared(&format!("drop database if exists {database} with (force)"))
            .await?;
        admin.execute_unprepared(&format!("create database {database}")).await?;
        let (server, _) = server.rsplit_once('/').context("DATABASE_URL has no database")?;
        let url = format!("{server}/{database}");
        Ok(Self { url, directory })
    }

    fn is_sqlite(&self) -> bool {
        self.url.starts_with("sqlite")
    }

    async fn migrate(&self) -> anyhow::Result<()> {
        let url = StoreUrl::parse(&self.url).map_err(anyhow::Error::msg)?;
        let config = Config::embedded(url, &self.directory.path().join("outbox"));
        server::migrate(&config.database).await
    }

    /// Adds runs of a timeline, on day 1, which is the date of `next`'s day or the one before.
    async fn load(&self, timeline: i64, count: usize, day: &str, next: &str) -> anyhow::Result<()> {
        let db = Database::connect(&self.url).await?;
        let (series, json) = if self.is_sqlite() {
            (
                format!("with recursive s(n) as (select 1 union all select n + 1 from s where n < {count}) "),
                "",
            )
        } else {
            (String::new(), "::jsonb")
        };
        let from = if self.is_sqlite() {
            "s".to_owned()
        } else {
            format!("generate_series(1, {count}) as s(n)")
        };
        let id = if self.is_sqlite() {
            "printf('c%07d', n)"
        } else {
            "'c' || lpad(n::text, 7, '0')"
        };
        let (stamp, date) = if self.is_sqlite() {
            (String::new(), String::new())
        } else {
            ("::timestamptz".to_owned(), "::date".to_owned())
        };
        // A fixed name, as many customers exist already when the second timeline is loaded.
        run(
            &db,
            &format!(
                "insert into customers (customer_id, bucket, display_name, email, time_zone, stage_visit, engagement_score, is_test, \
                 attributes, created_at, updated_at) {series} select {id}, n % 1024, 'Customer', 'c' || n || '@example.com', \
                 'Etc/UTC', 0, 0, false, '{{}}'{json}, '{day}T00:00:00+00:00'{stamp}, '{day}T00:00:00+00:00'{stamp} from {from} where true \
                 on conflict do nothing"
            ),
        )
        .await?;
        run(
            &db,
            &format!(
                "insert into customer_timeline_progress (customer_id, campaign_timeline_id, next_action_at, not_before, day_started_at, \
                 started_at, updated_at, bucket, current_day, day_date, zone_is_default, origin, status, time_zone) {series} \
                 select {id}, {timeline}, '{next}'{stamp}, '{day}T00:00:00+00:00'{stamp}, '{day}T00:00:00+00:00'{stamp}, \
                 '{day}T00:00:00+00:00'{stamp}, '{day}T00:00:00+00:00'{stamp}, n % 1024, 1, '{day}'{date}, false, 'started', 'active', 'Etc/UTC' from {from}"
            ),
        )
        .await?;
        run(
            &db,
            "insert into time_zones (time_zone) values ('Etc/UTC') on conflict do nothing",
        )
        .await?;
        // The service never analyzes SQLite: a server that is open would go on with the statistics of an empty table.
        if !self.is_sqlite() {
            run(&db, "vacuum analyze").await?;
        }
        Ok(db.close().await?)
    }
}

async fn run(db: &DatabaseConnection, sql: &str) -> anyhow::Result<()> {
    db.execute_unprepared(sql).await.with_context(|| sql.to_owned())?;
    Ok(())
}

/// A server in this process, whose clock stands still.
async fn serve(place: &Place, now: &str) -> anyhow::Result<(Server, Channel)> {
    let url = StoreUrl::parse(&place.url).map_err(anyhow::Error::msg)?;
    let mut config = Config::embedded(url, &place.directory.path().join("outbox"));
    config.secret_key_file = Some(SECRET.into());
    let now: DateTime<Utc> = now.parse()?;
    // Names of ticks come from chance: a second server with the same would be answered what the first has done.
    let server = Server::start(config, Arc::new(ManualClock::new(now)), Random::from_os()).await?;
    let channel = Channel::from_shared(format!("http://{}", server.addr()))?
        .connect()
        .await?;
    Ok((server, channel))
}

/// Two timelines with a mail at noon of day 2, the second inactive; their ids.
async fn define(channel: &Channel) -> anyhow::Result<[i64; 2]> {
    let campaign = pb::CampaignDefinition {
        campaign_id: "A".to_owned(),
        kind: pb::CampaignKind::Transactional.into(),
        subject: "For {{ customer.name }}".to_owned(),
        text_body: "Hello {{ customer.name }}".to_owned(),
        ..Default::default()
    };
    let request = pb::ApplyCampaignRequest {
        campaign: Some(campaign),
        ..Default::default()
    };
    CampaignContentServiceClient::new(channel.clone())
        .apply_campaign(request)
        .await?;
    let mut ids = [0; 2];
    for (id, (slug, is_active)) in ids.iter_mut().zip([("active", true), ("inactive", false)]) {
        let mail = |day_number, delay_hours| pb::ActionDefinition {
            key: format!("d{day_number}"),
            day_number,
            delay_hours,
            channel: pb::Channel::Email.into(),
            action_type: pb::ActionType::SendEmail.into(),
            campaign_id: "A".to_owned(),
            ..Default::default()
        };
        let definition = pb::TimelineDefinition {
            slug: slug.to_owned(),
            name: slug.to_owned(),
            pipeline_stage: "hook".to_owned(),
            duration_days: 90,
            is_active,
            actions: vec![mail(1, 0), mail(2, 12)],
            ..Default::default()
        };
        let request = pb::ApplyTimelineRequest {
            timeline: Some(definition),
            ..Default::default()
        };
        let applied = CampaignTimelineServiceClient::new(channel.clone())
            .apply_timeline(request)
            .await?;
        *id = applied.into_inner().timeline.context("a timeline")?.timeline_id;
    }
    Ok(ids)
}

/// One hourly tick, to its summary.
async fn tick(client: &mut CampaignTickServiceClient<Channel>) -> anyhow::Result<pb::TickSummary> {
    use pb::process_campaign_timelines_response::Update;
    let request = pb::ProcessCampaignTimelinesRequest::default();
    let mut stream = client.process_campaign_timelines(request).await?.into_inner();
    while let Some(news) = stream.message().await? {
        if let Some(Update::Summary(summary)) = news.update {
            return Ok(summary);
        }
    }
    anyhow::bail!("no summary")
}

fn completed(summary: &pb::TickSummary) -> i64 {
    let counts = summary.counts.as_ref();
    counts.map_or(0, |counts| {
        counts.channels.iter().map(|channel| channel.completed).sum()
    })
}

/// The first tick, which sweeps all runs for a new day, and then many that find nothing.
async fn measure(out: &mut impl Write, what: &str, server: &Server, channel: &Channel) -> anyhow::Result<()> {
    let mut client = CampaignTickServiceClient::new(channel.clone());
    let begun = Instant::now();
    tick(&mut client).await?;
    let first = begun.elapsed();
    let statements = server.engine().store().statements();
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let begun = Instant::now();
        let summary = tick(&mut client).await?;
        times.push(begun.elapsed());
        anyhow::ensure!(completed(&summary) == 0, "something was due");
    }
    times.sort();
    let statements = (server.engine().store().statements() - statements) as f64 / CALLS as f64;
    writeln!(
        out,
        "{what}: first tick {first:.2?}; {CALLS} idle ticks: min {:.2?}, median {:.2?}, p99 {:.2?}, max {:.2?}; {statements} statements each",
        times[0],
        times[CALLS / 2],
        times[CALLS * 99 / 100],
        times[CALLS - 1]
    )?;
    Ok(())
}

/// Keeps the plans that `PostgreSQL` sends.
#[derive(Clone, Default)]
struct Notices(Arc<Mutex<Vec<u8>>>);

impl Write for Notices {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Shows the first plan of each statement of [`PLANS`].
async fn show_plans(
    out: &mut impl Write,
    place: &Place,
    notices: &Notices,
    now: &str,
    title: &str,
) -> anyhow::Result<()> {
    writeln!(out, "\nPlans, {title}:")?;
    let db = Database::connect(&place.url).await?;
    if place.is_sqlite() {
        use sea_orm::{DbBackend, Statement};
        for (name, sql) in SQLITE_PLANS {
            writeln!(out, "-- {name}")?;
            let rows = db
                .query_all_raw(Statement::from_string(
                    DbBackend::Sqlite,
                    format!("explain query plan {sql}"),
                ))
                .await?;
            for row in rows {
                writeln!(out, "   {}", row.try_get::<String>("", "detail")?)?;
            }
        }
        return Ok(());
    }
    let (_, name) = place.url.rsplit_once('/').context("a database")?;
    for setting in [
        "session_preload_libraries = 'auto_explain'",
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_analyze = on",
        "auto_explain.log_buffers = on",
        "auto_explain.log_level = 'notice'",
    ] {
        run(&db, &format!("alter database {name} set {setting}")).await?;
    }
    let (server, channel) = serve(place, now).await?;
    notices.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    tick(&mut CampaignTickServiceClient::new(channel)).await?;
    server.shutdown().await?;
    run(&db, &format!("alter database {name} reset all")).await?;
    let text = String::from_utf8_lossy(&notices.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
    let mut found: BTreeMap<&str, &str> = BTreeMap::new();
    for plan in text.split("Query Text: ").skip(1) {
        if let Some((name, _)) = PLANS.iter().find(|(_, words)| plan.contains(words)) {
            found.entry(name).or_insert(plan);
        }
    }
    anyhow::ensure!(!found.is_empty(), "no plans among {} bytes: {text:.1000}", text.len());
    for (name, plan) in found {
        writeln!(out, "-- {name}")?;
        let lines = plan.lines().skip_while(|line| !line.contains("(cost="));
        for line in lines.take_while(|line| line.contains("  ") || line.contains("(cost=")) {
            writeln!(out, "   {line}")?;
        }
    }
    Ok(())
}

/// Statements of a tick with many due customers.
async fn measure_due(out: &mut impl Write, due: usize) -> anyhow::Result<()> {
    let place = Place::new("due").await?;
    place.migrate().await?;
    let (server, channel) = serve(&place, "2026-01-05T12:00:00Z").await?;
    let [timeline, _] = define(&channel).await?;
    let mut client = CampaignTickServiceClient::new(channel.clone());
    place
        .load(timeline, 1, "2026-01-05", "2026-01-05T12:00:00+00:00")
        .await?;
    tick(&mut client).await?;
    let before = server.engine().store().statements();
    tick(&mut client).await?;
    let overhead = server.engine().store().statements() - before;
    run(
        &Database::connect(&place.url).await?,
        "delete from customer_timeline_progress",
    )
    .await?;
    place
        .load(timeline, due, "2026-01-05", "2026-01-05T12:00:00+00:00")
        .await?;
    let (before, begun) = (server.engine().store().statements(), Instant::now());
    let summary = tick(&mut client).await?;
    let used = server.engine().store().statements() - before - overhead;
    writeln!(
        out,
        "{due} due: {} mails in {:.2?}, {used} statements beside {overhead} of the tick, {:.2} for each 500 customers",
        completed(&summary),
        begun.elapsed(),
        used as f64 / due.div_ceil(500) as f64
    )?;
    server.shutdown().await
}

/// The highest resident memory of a `campaignd` that serves `due` customers in one tick, in KiB.
async fn peak(due: usize) -> anyhow::Result<u64> {
    let place = Place::new("memory").await?;
    place.migrate().await?;
    let mut child = Command::new(env!("CARGO_BIN_EXE_campaignd"))
        .args([
            "--listen",
            "127.0.0.1:0",
            "--log-format",
            "json",
            "--secret-key-file",
            SECRET,
        ])
        .args(["--email-url", "outbox:outbox", "--sms-url", "outbox:outbox"])
        .args(["--phone-url", "outbox:outbox", "--interaction-url", "outbox:outbox"])
        .env("CAMPAIGN_DATABASE_URL", &place.url)
        .current_dir(place.directory.path())
        .stderr(Stdio::piped())
        .spawn()?;
    let log = BufReader::new(child.stderr.take().context("a log")?);
    let mut lines = log.lines().map_while(Result::ok);
    let served = lines
        .find(|line| line.contains("serving gRPC"))
        .context("it does not serve")?;
    std::thread::spawn(move || lines.for_each(drop));
    let served: serde_json::Value = serde_json::from_str(&served)?;
    let channel = Channel::from_shared(format!("http://{}", served["addr"].as_str().context("an address")?))?;
    let channel = channel.connect().await?;
    let [timeline, _] = define(&channel).await?;
    let now = DateTime::<Utc>::from(std::time::UNIX_EPOCH + now_since_epoch()?);
    let (day, next) = (now.format("%Y-%m-%d").to_string(), now.to_rfc3339());
    place.load(timeline, due, &day, &next).await?;
    let begun = Instant::now();
    let summary = tick(&mut CampaignTickServiceClient::new(channel)).await?;
    eprintln!("{} mails of {due} due in {:.1?}", completed(&summary), begun.elapsed());
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    child.kill()?;
    child.wait()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// The machine's time, from the machine: nothing in this crate may ask for it.
fn now_since_epoch() -> anyhow::Result<Duration> {
    let text = Command::new("date").arg("+%s").output()?.stdout;
    Ok(Duration::from_secs(String::from_utf8(text)?.trim().parse()?))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let rows: usize = std::env::var("ROWS")
        .ok()
        .and_then(|rows| rows.parse().ok())
        .unwrap_or(1_000_000);
    let notices = Notices::default();
    let writer = notices.clone();
    tracing_subscriber::fmt()
        .with_env_filter("off,sqlx::postgres::notice=debug")
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let mut out = std::io::stdout();

    let place = Place::new("idle").await?;
    writeln!(
        out,
        "{}, {rows} runs",
        if place.is_sqlite() { "SQLite" } else { "PostgreSQL" }
    )?;
    place.migrate().await?;
    let (server, channel) = serve(&place, "2026-01-05T12:00:00Z").await?;
    let [active, inactive] = define(&channel).await?;
    let begun = Instant::now();
    place
        .load(active, rows, "2026-01-05", "2026-01-06T12:00:00+00:00")
        .await?;
    writeln!(out, "loaded in {:.1?}", begun.elapsed())?;
    measure(&mut out, "nothing due", &server, &channel).await?;
    place
        .load(inactive, rows, "2026-01-05", "2026-01-05T11:00:00+00:00")
        .await?;
    measure(&mut out, "as many overdue on an inactive timeline", &server, &channel).await?;
    server.shutdown().await?;
    show_plans(&mut out, &place, &notices, "2026-01-05T12:00:00Z", "idle").await?;
    show_plans(
        &mut out,
        &place,
        &notices,
        "2026-01-06T00:20:00Z",
        "the first tick of a day",
    )
    .await?;

    writeln!(out)?;
    for due in [1000, 20_000] {
        measure_due(&mut out, due).await?;
    }
    let (few, many) = (peak(1000).await?, peak(200_000).await?);
    writeln!(
        out,
        "peak memory: {} KiB with 1,000 due, {} KiB with 200,000: {} KiB more",
        few,
        many,
        many.saturating_sub(few)
    )?;
    Ok(())
}
