//! `campaign-tick`: calls a tick and stays until there is no more to do.
//!
//! Exit codes, for whoever schedules it: 0, all is done, or the deadline came first and the next run goes on; 2, it is
//! called or set up wrong, and trying again doesn't help; 75, something is away for now, and trying again helps.

use clap::{Args, Parser, Subcommand};
use futures::{Stream, StreamExt as _};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};

use super::hold::told;
use super::server::{ServerArgs, causes, is_distrust};
use super::token::{Bearer, Connection, TokenArgs};
use super::trace::{Trace, TraceArgs};
use crate::config::duration;
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::campaign_tick_service_client::CampaignTickServiceClient;
use crate::signals::{TRY_AGAIN, until_told_anywhere};

const WRONG_USE: u8 = 2;

/// How often the server is called when it can't be reached, with waits of 0.2, 0.4 and 0.8 seconds between.
const ATTEMPTS: u32 = 4;

/// Calls a tick of campaignd, for a CronJob or a person.
///
/// Exit codes: 0 done, or the deadline came first and the next run goes on; 2 wrong use or set-up, don't try again; 75
/// temporary, try again.
#[derive(Debug, Parser)]
#[command(name = "campaign-tick", version, about)]
pub struct TickCli {
    /// Which tick.
    #[command(subcommand)]
    pub tick: Tick,
}

/// Which tick.
#[derive(Debug, Subcommand)]
pub enum Tick {
    /// Advances those whose day is over, and executes what is due (`ProcessCampaignTimelines`).
    Hourly(TickArgs),
    /// Advances those whose day is over (`AdvanceCampaignDays`).
    Daily(TickArgs),
}

/// How to call it.
#[derive(Debug, Clone, Args)]
pub struct TickArgs {
    /// Which server, and how.
    #[command(flatten)]
    pub server: ServerArgs,
    /// The token to call with.
    #[command(flatten)]
    pub token: TokenArgs,
    /// Whether it is traced.
    #[command(flatten)]
    pub trace: TraceArgs,
    /// When to stop although there is more to do; the next run goes on.
    #[arg(long, env = "CAMPAIGN_TICK_DEADLINE", value_name = "DURATION", default_value = "50m", value_parser = duration)]
    pub deadline: Duration,
    /// A name for this tick: one that has finished is not run again. When there is more to do, the rounds after the first have a
    /// number added.
    #[arg(long, value_name = "ID")]
    pub tick_id: Option<String>,
    /// The most actions (hourly) or runs (daily) of one round; the tick goes on with the next.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i64).range(1..))]
    pub max_actions: Option<i64>,
    /// The part of the customers to serve, from 0, of how many, as in `0/4`.
    #[arg(long, value_name = "INDEX/COUNT", value_parser = partition)]
    pub partition: Option<pb::TickPartition>,
    /// Only runs of this timeline; may be repeated.
    #[arg(long = "timeline-id", value_name = "ID")]
    pub timeline_ids: Vec<i64>,
    /// Change nothing, but say what would be done.
    #[arg(long)]
    pub dry_run: bool,
}

/// News from either tick.
enum News {
    Counts(pb::TickCounts),
    Summary(pb::TickSummary),
    Nothing,
}

/// Runs the client.
pub async fn run(cli: TickCli) -> ExitCode {
    let (daily, args) = match cli.tick {
        Tick::Hourly(args) => (false, args),
        Tick::Daily(args) => (true, args),
    };
    let ticked = until_told_anywhere(Box::pin(async { Ok(rounds(daily, &args).await) })).await;
    let ticked = ticked.unwrap_or_else(|told| Err((TRY_AGAIN, told.to_string())));
    match ticked {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, text)) => {
            eprintln!("campaign-tick: {text}");
            ExitCode::from(code)
        }
    }
}

/// Calls the tick until it has no more to do, or the deadline is there.
async fn rounds(daily: bool, args: &TickArgs) -> Result<(), (u8, String)> {
    let deadline = Instant::now() + args.deadline;
    let wrong = |error: String| (WRONG_USE, error);
    let endpoint = args.server.endpoint().map_err(|error| wrong(format!("{error:#}")))?;
    let bearer = args.token.bearer(&args.server.server).map_err(wrong)?;
    let display = Display::new(if daily { "daily" } else { "hourly" });
    let trace = args.trace.trace();
    if let Some(id) = trace.id() {
        display.line(&format!("trace {id}"));
    }
    let mut client = connect(endpoint, bearer, trace, deadline).await?;
    for round in 1_u32.. {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let summary = one_round(&mut client, daily, args, round, left, &display)
            .await
            .map_err(|status| explained(&status))?;
        display.summary(&summary);
        if !summary.has_more {
            return Ok(());
        }
        if args.dry_run {
            break;
        }
    }
    display.line("the deadline is there, and there is more to do: the next run goes on");
    Ok(())
}

async fn connect(
    endpoint: Endpoint,
    bearer: Bearer,
    trace: Trace,
    deadline: Instant,
) -> Result<CampaignTickServiceClient<Connection>, (u8, String)> {
    let mut wait = Duration::from_millis(200);
    for attempt in 1..=ATTEMPTS {
        match tokio::time::timeout_at(deadline, endpoint.connect()).await {
            Ok(Ok(channel)) => return Ok(CampaignTickServiceClient::new(bearer.over(channel, trace))),
            Ok(Err(error)) if attempt == ATTEMPTS || is_distrust(&error) => {
                let code = if is_distrust(&error) { WRONG_USE } else { TRY_AGAIN };
                return Err((code, format!("{} can't be reached{}", endpoint.uri(), causes(&error))));
            }
            Ok(Err(_)) => tokio::time::sleep(wait).await,
            Err(_) => break,
        }
        wait *= 2;
    }
    Err((
        TRY_AGAIN,
        format!("{} can't be reached within the deadline", endpoint.uri()),
    ))
}

async fn one_round(
    client: &mut CampaignTickServiceClient<Connection>,
    daily: bool,
    args: &TickArgs,
    round: u32,
    left: Duration,
    display: &Display,
) -> Result<pb::TickSummary, Status> {
    let tick_id = args
        .tick_id
        .as_ref()
        .map(|id| {
            if round == 1 {
                id.clone()
            } else {
                format!("{id}-{round}")
            }
        })
        .unwrap_or_default();
    let (max_actions, partition) = (args.max_actions.unwrap_or(0), args.partition);
    let (timeline_ids, dry_run) = (args.timeline_ids.clone(), args.dry_run);
    if daily {
        use pb::advance_campaign_days_response::Update;
        let mut request = Request::new(pb::AdvanceCampaignDaysRequest {
            tick_id,
            max_actions,
            partition,
            timeline_ids,
            dry_run,
        });
        request.set_timeout(left);
        let stream = client.advance_campaign_days(request).await?.into_inner();
        let news = stream.map(|response| {
            response.map(|response| match response.update {
                Some(Update::Counts(counts)) => News::Counts(counts),
                Some(Update::Summary(summary)) => News::Summary(summary),
                None => News::Nothing,
            })
        });
        watch(news, display).await
    } else {
        use pb::process_campaign_timelines_response::Update;
        let mut request = Request::new(pb::ProcessCampaignTimelinesRequest {
            tick_id,
            max_actions,
            partition,
            timeline_ids,
            dry_run,
        });
        request.set_timeout(left);
        let stream = client.process_campaign_timelines(request).await?.into_inner();
        let news = stream.map(|response| {
            response.map(|response| match response.update {
                Some(Update::Counts(counts)) => News::Counts(counts),
                Some(Update::Summary(summary)) => News::Summary(summary),
                None => News::Nothing,
            })
        });
        watch(news, display).await
    }
}

/// Shows the news of a tick until its summary.
async fn watch(news: impl Stream<Item = Result<News, Status>>, display: &Display) -> Result<pb::TickSummary, Status> {
    let mut news = std::pin::pin!(news);
    while let Some(one) = news.next().await {
        match one? {
            News::Counts(counts) => display.counts(&counts),
            News::Summary(summary) => return Ok(summary),
            News::Nothing => {}
        }
    }
    Err(Status::unavailable("the server broke off before the tick was over"))
}

/// What a status means for whoever schedules this.
fn explained(status: &Status) -> (u8, String) {
    let code = match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented
        | Code::OutOfRange => WRONG_USE,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => TRY_AGAIN,
    };
    let code = if is_distrust(status) { WRONG_USE } else { code };
    (
        code,
        format!("{:?}: {}{}", status.code(), status.message(), causes(status)),
    )
}

/// Shows how far the tick is: a line that moves on a terminal, and plain lines elsewhere.
struct Display {
    name: &'static str,
    bar: Option<ProgressBar>,
}

impl Display {
    fn new(name: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} tick, {elapsed}: {msg}") {
                bar.set_style(style);
            }
            bar.set_prefix(name);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { name, bar }
    }

    fn counts(&self, counts: &pb::TickCounts) {
        match &self.bar {
            Some(bar) => bar.set_message(described(counts)),
            None => self.line(&described(counts)),
        }
    }

    fn summary(&self, summary: &pb::TickSummary) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let counts = summary.counts.as_ref().map(described).unwrap_or_default();
        let rehearsed = if summary.dry_run { " (dry run)" } else { "" };
        let more = if summary.has_more { "; there is more to do" } else { "" };
        let next = summary
            .next_due_time
            .as_ref()
            .and_then(|time| chrono::DateTime::from_timestamp(time.seconds, 0));
        let next = next
            .map(|time| format!("; next due {}", time.format("%Y-%m-%dT%H:%M:%SZ")))
            .unwrap_or_default();
        self.line(&format!("{counts}{rehearsed}{more}{next}"));
        for hold in &summary.sending_holds {
            self.line(&format!("sending is held: {}", told(hold)));
        }
    }

    fn line(&self, text: &str) {
        // Whoever closes our output does not want to read it.
        let _ = writeln!(std::io::stdout(), "{} tick: {text}", self.name);
    }
}

fn described(counts: &pb::TickCounts) -> String {
    let mut parts = Vec::new();
    for of_channel in &counts.channels {
        let name = pb::Channel::try_from(of_channel.channel)
            .map(|channel| channel.as_str_name().trim_start_matches("CHANNEL_").to_lowercase());
        let numbers = [
            ("sent", of_channel.completed),
            ("skipped", of_channel.skipped),
            ("failed", of_channel.failed),
            ("to retry", of_channel.retrying),
            ("unknown", of_channel.unknown),
            ("expired", of_channel.expired),
            ("deferred", of_channel.deferred),
            ("would be sent", of_channel.would_execute),
        ];
        let numbers: Vec<String> = numbers
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(word, count)| format!("{count} {word}"))
            .collect();
        if !numbers.is_empty() {
            parts.push(format!("{} {}", name.unwrap_or_default(), numbers.join(", ")));
        }
    }
    let runs = [
        ("advanced", counts.advanced_runs),
        ("completed", counts.completed_runs),
        ("days shifted", counts.shifted_days),
        ("given back", counts.handed_back),
        ("stale", counts.stale_completions),
        ("broken, see the server's log", counts.broken_runs),
        ("timelines broken, see the server's log", counts.broken_timelines),
        ("held", counts.held),
    ];
    parts.extend(
        runs.into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(word, count)| format!("{count} {word}")),
    );
    if parts.is_empty() {
        "nothing to do".to_owned()
    } else {
        parts.join("; ")
    }
}

fn partition(given: &str) -> Result<pb::TickPartition, String> {
    let parsed = given
        .split_once('/')
        .and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
    match parsed {
        Some((index, count)) if (1..=1024).contains(&count) && (0..count).contains(&index) => {
            Ok(pb::TickPartition { index, count })
        }
        Some(_) | None => Err("must be INDEX/COUNT with 0 <= INDEX < COUNT <= 1024, such as 0/4".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_parsed() {
        assert_eq!(partition("0/4"), Ok(pb::TickPartition { index: 0, count: 4 }));
        for bad in ["", "4", "4/4", "-1/4", "0/0", "0/2000", "a/b"] {
            assert!(partition(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn exit_codes_say_whether_to_try_again() {
        assert_eq!(explained(&Status::unavailable("")).0, TRY_AGAIN);
        assert_eq!(explained(&Status::aborted("")).0, TRY_AGAIN);
        assert_eq!(explained(&Status::invalid_argument("")).0, WRONG_USE);
    }
}
