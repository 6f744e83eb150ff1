//! The demo: the real server in this process with a clock wound by hand, and everything else through its gRPC API.
//!
//! It applies the files under `examples/`, starts seven customers, runs the real ticks, hourly, over the days, and prints
//! what a campaign owner wants to see. It begins at a fixed date with a fixed seed, so it prints the same each time.
//! Messages go as files into an outbox, and nothing leaves the machine, but for channels that are named: those go where the
//! server's own flags say.

mod examples;
mod meter;
mod play;
mod report;
mod script;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tonic::transport::Endpoint;

use crate::clock::ManualClock;
use crate::config::{ChannelArgs, Config};
use crate::random::Random;
use crate::server::Server;
use crate::store::StoreUrl;
use meter::Meter;
use play::{Counts, Player, Setup};
use report::Paint;

/// Any number does; it makes the demo the same each time.
const SEED: u64 = 90;

/// What the demo may be told.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// The directory for messages. Those of an earlier demo are removed; other files are not touched.
    pub outbox: PathBuf,
    /// A `SQLite` file that does not exist yet. Default: `demo.db` beside the outbox, made anew each time.
    pub database: Option<PathBuf>,
    /// How many days to play. Default: 90.
    pub days: u32,
    /// How messages leave; what isn't named goes into the outbox. Default: all of it.
    pub channels: Option<ChannelArgs>,
    /// Whether the environment names channels that aren't used, which is said then.
    pub left_out: bool,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self {
            outbox: PathBuf::from("demo-outbox"),
            database: None,
            days: 90,
            channels: None,
            left_out: false,
        }
    }
}

/// Plays the demo and prints what happened.
pub async fn run(options: DemoOptions) -> anyhow::Result<()> {
    let started = Instant::now();
    let database = fresh_database(&options)?;
    fresh_outbox(&options.outbox)?;

    let clock = Arc::new(ManualClock::new(script::begin()));
    let url = StoreUrl::parse(&format!("sqlite://{}", database.display())).map_err(anyhow::Error::msg)?;
    let mut config = Config::embedded(url, &options.outbox);
    if let Some(channels) = &options.channels {
        config.channels = channels.clone().or_outbox(&options.outbox);
    }
    let server = Server::start(config, clock.clone(), Random::from_seed(SEED))
        .await
        .context("the server can't start")?;
    let played = play(&options, &database, &server, &clock).await;
    let stopped = server.shutdown().await;
    let (outcome, counts) = played?;
    stopped.context("the server can't stop")?;

    let files = Files::count(&options.outbox)?;
    let paint = Paint::for_terminal(io::stdout().is_terminal());
    print(&report::report(&outcome, paint))?;
    print(&closing(
        &options,
        &database,
        &files,
        counts,
        started.elapsed().as_secs_f64(),
        paint,
    ))?;
    Ok(())
}

async fn play(
    options: &DemoOptions,
    database: &Path,
    server: &Server,
    clock: &ManualClock,
) -> anyhow::Result<(report::Outcome, Counts)> {
    let address = server.addr();
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let mut player = Player::new(&channel);
    let setup = player.set_up().await?;
    print(&opening(options, database, &address.to_string(), setup))?;

    let meter = Meter::new(options.days);
    let mut counts = Counts::default();
    for hour in 0..=options.days * 24 {
        counts.add(player.play_hour(hour, clock).await?);
        if hour % 24 == 0 {
            meter.show(hour / 24, clock_now(clock), counts);
        }
    }
    meter.finish();
    Ok((player.outcome().await?, counts))
}

fn clock_now(clock: &ManualClock) -> DateTime<Utc> {
    crate::clock::Clock::now(clock)
}

/// What stands above the report.
fn opening(options: &DemoOptions, database: &Path, address: &str, setup: Setup) -> String {
    let Setup {
        campaigns,
        actions,
        assigned,
        started,
    } = setup;
    let begin = script::begin().format("%a %-d %B %Y, %H:%M");
    format!(
        "Seven customers on a 90-day timeline: the real server, the real ticks, {days} days in a few seconds.

  server     gRPC on {address}; its clock is wound by hand from {begin} UTC
  database   {database}
{places}
  applied    {campaigns} campaigns and a timeline of {actions} actions, from examples/hook-90-day/
  customers  {assigned} got the timeline from their stage, {started} by hand, from examples/customers.yaml

",
        days = options.days,
        database = database.display(),
        places = places(options),
    )
}

/// Where messages go: all into the outbox, or each kind to a place of its own.
fn places(options: &DemoOptions) -> String {
    let outbox = options.outbox.display();
    let places = options.channels.as_ref().map(ChannelArgs::places).unwrap_or_default();
    if places.iter().all(|(_, place)| place.is_none()) {
        let hint = if options.left_out {
            "; --from-environment would use the channels that the environment names"
        } else {
            ""
        };
        return format!("  outbox     {outbox}{hint}");
    }
    let line = |(what, place): &(&str, Option<String>)| match place {
        Some(place) => format!("  {what:<9}  {place}"),
        None => format!("  {what:<9}  outbox:{outbox}"),
    };
    places.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What stands below the report.
fn closing(
    options: &DemoOptions,
    database: &Path,
    files: &Files,
    counts: Counts,
    seconds: f64,
    paint: Paint,
) -> String {
    let outbox = options.outbox.display();
    let where_to_look = paint.bold("Where to look");
    let next = paint.bold("What next");
    let first = files
        .first_mail
        .as_deref()
        .map(|name| format!("\n  read one    cat '{outbox}/{name}'"))
        .unwrap_or_default();
    let places = options.channels.as_ref().map(ChannelArgs::places).unwrap_or_default();
    let elsewhere = if places.iter().any(|(_, place)| place.is_some()) {
        "where they were sent; "
    } else {
        ""
    };
    format!(
        "{where_to_look}
  messages    {elsewhere}{mails} mails (.eml) and {others} texts, calls and tasks (.json) in {outbox}{first}
  database    {database} (sqlite3)
  time        {calls} ticks over gRPC in {seconds:.1} s

{next}
  cargo run                                  start the real server, on the real clock, with its own database
  cargo run --bin campaign-tick -- hourly    call its hourly tick, as a CronJob does
  cargo run --bin campaign-tick -- daily     call its daily tick
  examples/                                  copy these files to begin a timeline of your own; the README says how
",
        mails = files.mails,
        others = files.others,
        database = database.display(),
        calls = counts.calls,
    )
}

/// Prints to standard output. A reader that goes away (`| head`) is no error.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// The database file. The default one is removed first; one that was named must not exist, because it may be dear.
fn fresh_database(options: &DemoOptions) -> anyhow::Result<PathBuf> {
    let database = match &options.database {
        Some(named) if named.exists() => bail!("{} exists already; the demo needs a new database", named.display()),
        Some(named) => named.clone(),
        None => options.outbox.parent().unwrap_or(Path::new("")).join("demo.db"),
    };
    for suffix in ["", "-wal", "-shm"] {
        let mut file = database.clone().into_os_string();
        file.push(suffix);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("{} can't be removed", file.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    if let Some(directory) = database.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("{} can't be made", directory.display()))?;
    }
    Ok(database)
}

/// Makes the outbox, and removes what an earlier demo wrote there.
fn fresh_outbox(outbox: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(outbox).with_context(|| format!("{} can't be made", outbox.display()))?;
    for name in messages(outbox)? {
        std::fs::remove_file(outbox.join(&name)).with_context(|| format!("{name} can't be removed"))?;
    }
    Ok(())
}

/// What is in the outbox.
struct Files {
    mails: usize,
    others: usize,
    first_mail: Option<String>,
}

impl Files {
    fn count(outbox: &Path) -> anyhow::Result<Self> {
        let names = messages(outbox)?;
        let mails = names.iter().filter(|name| has_extension(name, "eml")).count();
        let first_mail = names.iter().find(|name| has_extension(name, "eml")).cloned();
        Ok(Self {
            mails,
            others: names.len() - mails,
            first_mail,
        })
    }
}

/// The names of messages in the outbox, in order: `20260105T120000Z-….eml` or `.json`.
fn messages(outbox: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(outbox).with_context(|| format!("{} can't be read", outbox.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if is_message(&name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn is_message(name: &str) -> bool {
    let is_time = |stamp: &str| chrono::NaiveDateTime::parse_from_str(stamp, "%Y%m%dT%H%M%SZ").is_ok();
    let has_time = name.split_once('-').is_some_and(|(stamp, _)| is_time(stamp));
    has_time && (has_extension(name, "eml") || has_extension(name, "json"))
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

/// An instant of the contract.
fn timestamp(given: Option<prost_types::Timestamp>) -> Option<DateTime<Utc>> {
    let given = given?;
    DateTime::from_timestamp(given.seconds, given.nanos.try_into().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_of_a_demo_are_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let outbox = directory.path();
        let theirs = ["notes.txt", "thesis.eml", "2026-cv.json", "20260105T120000Z-x.txt"];
        let ours = [
            "20260105T120000Z-anna-email-1-2-1.eml",
            "20260107T090000Z-anna-sms-1-3-1.json",
        ];
        for name in theirs.iter().chain(&ours) {
            std::fs::write(outbox.join(name), "").expect("written");
        }
        let files = Files::count(outbox).expect("counted");
        assert_eq!(
            (files.mails, files.others, files.first_mail.as_deref()),
            (1, 1, Some(ours[0]))
        );
        fresh_outbox(outbox).expect("fresh");
        assert!(theirs.iter().all(|name| outbox.join(name).exists()));
        assert!(ours.iter().all(|name| !outbox.join(name).exists()));
    }

    #[test]
    fn a_named_database_is_never_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let outbox = directory.path().join("outbox");
        let default = directory.path().join("demo.db");
        std::fs::write(&default, "old").expect("written");
        let mut options = DemoOptions {
            outbox,
            ..DemoOptions::default()
        };
        assert_eq!(fresh_database(&options).expect("fresh"), default);
        assert!(!default.exists());
        std::fs::write(&default, "dear").expect("written");
        options.database = Some(default.clone());
        fresh_database(&options).expect_err("exists");
        assert!(default.exists());
    }
}
