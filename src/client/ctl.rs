//! `campaignctl`: what people do at a terminal. Here are its commands, and those that apply files, start a run and show one; the others
//! have files of their own.

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::check::check;
use super::complete::{CompleteArgs, complete};
use super::erase::{EraseArgs, erase};
use super::explain::explain;
use super::files::parse;
use super::hold::{HoldCommand, hold};
use super::preview::{PreviewArgs, preview};
use super::retry::{RetryArgs, retry};
use super::sending::{CircuitCommand, circuit, sending};
use super::server::{ServerArgs, causes, is_distrust};
use super::simulate::{SimulateArgs, simulate};
use super::suppress::{LiftArgs, SuppressArgs, SuppressionsArgs, lift, suppress, suppressions};
use super::token::{Connection, TokenArgs, make};
use super::trace::TraceArgs;
use crate::proto::FILE_DESCRIPTOR_SET;
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::campaign_content_service_client::CampaignContentServiceClient;
use crate::proto::campaign::v1::campaign_orchestrator_service_client::CampaignOrchestratorServiceClient;
use crate::proto::campaign::v1::campaign_timeline_service_client::CampaignTimelineServiceClient;
use crate::proto::campaign::v1::customer_service_client::CustomerServiceClient;

/// Applies files to campaignd, starts runs and shows them, and does what has to be done by hand.
#[derive(Debug, Parser)]
#[command(name = "campaignctl", version, about)]
pub struct CtlCli {
    /// Which server, and how.
    #[command(flatten)]
    pub server: ServerArgs,
    /// The token to call with.
    #[command(flatten)]
    pub token: TokenArgs,
    /// Whether what it does is traced.
    #[command(flatten)]
    pub trace: TraceArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: CtlCommand,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum CtlCommand {
    /// Makes what is stored equal to files: campaigns, then timelines, then customers.
    Apply(ApplyArgs),
    /// Asks whether the server answers as it should: its health, and for somebody who is not there. It changes nothing.
    Check,
    /// Starts a timeline for a customer.
    Start {
        /// The customer's id.
        customer: String,
        /// The timeline's slug.
        timeline: String,
    },
    /// Shows a customer's run, as JSON.
    Progress {
        /// The customer's id.
        customer: String,
        /// Which run; without it the only live one, or the last that ended.
        #[arg(default_value_t = 0, hide_default_value = true)]
        progress_id: i64,
    },
    /// Says of each action of a customer's runs what became of it and why, or what holds it now.
    Explain {
        /// The customer's id.
        customer: String,
        /// Which run; without it all live ones, or the last that ended.
        #[arg(default_value_t = 0, hide_default_value = true)]
        progress_id: i64,
    },
    /// Says what would become of a run, step by step, without starting it.
    Simulate(SimulateArgs),
    /// Shows what a campaign says to one customer, and warns of what may be wrong with it. Nothing is sent.
    Preview(PreviewArgs),
    /// Says what came of a task.
    Complete(CompleteArgs),
    /// Makes actions pending again that failed for good, or of which nobody knows whether they arrived.
    Retry(RetryArgs),
    /// Holds what is sent, and releases it: everything, a channel, a timeline or a campaign.
    #[command(subcommand)]
    Hold(HoldCommand),
    /// Shows what the server goes by when it sends: holds, and the circuit of each channel.
    Sending,
    /// Closes the circuit of a channel by hand.
    #[command(subcommand)]
    Circuit(CircuitCommand),
    /// Writes no more to an address, whoever has it.
    Suppress(SuppressArgs),
    /// Shows who must not be written to.
    Suppressions(SuppressionsArgs),
    /// Lifts a suppression.
    Lift(LiftArgs),
    /// Makes a token, and prints it with its digest for the callers file. The token is shown this once, and stored nowhere.
    Token,
    /// Erases a customer with its runs, attempts and events. Erase it in the CRM first.
    Erase(EraseArgs),
}

/// What to apply.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// YAML files, or folders of them.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Check everything and say what would change, but store nothing. Customers are left out.
    #[arg(long)]
    pub dry_run: bool,
}

/// What files hold, in the order in which it is applied.
#[derive(Debug, Default)]
struct Documents {
    campaigns: Vec<(String, pb::ApplyCampaignRequest)>,
    timelines: Vec<(String, pb::ApplyTimelineRequest)>,
    customers: Vec<(String, pb::UpsertCustomersRequest)>,
}

/// Runs the client.
pub async fn run(cli: CtlCli) -> anyhow::Result<()> {
    let mut documents = Documents::default();
    if let CtlCommand::Apply(args) = &cli.command {
        documents = read(&args.paths)?;
    } else if let CtlCommand::Erase(args) = &cli.command {
        args.check()?;
    } else if let CtlCommand::Token = &cli.command {
        say(&make()?);
        return Ok(());
    }
    let bearer = cli.token.bearer(&cli.server.server).map_err(anyhow::Error::msg)?;
    let endpoint = cli.server.endpoint()?;
    let connected = endpoint.connect().await;
    let channel = connected.map_err(|error| {
        let hint = if is_distrust(&error) {
            ""
        } else {
            ": is campaignd running there?"
        };
        anyhow::anyhow!("{} can't be reached{}{hint}", cli.server.server, causes(&error))
    })?;
    let trace = cli.trace.trace();
    let id = trace.id();
    let done = carry_out(cli.command, documents, bearer.over(channel, trace)).await;
    if let Some(id) = id.filter(|_| done.is_err()) {
        eprintln!("campaignctl: trace {id}");
    }
    done
}

async fn carry_out(command: CtlCommand, documents: Documents, channel: Connection) -> anyhow::Result<()> {
    match command {
        CtlCommand::Apply(args) => apply(channel, documents, args.dry_run).await,
        CtlCommand::Check => check(channel).await,
        CtlCommand::Start { customer, timeline } => start(channel, customer, timeline).await,
        CtlCommand::Progress { customer, progress_id } => progress(channel, customer, progress_id).await,
        CtlCommand::Explain { customer, progress_id } => explain(channel, customer, progress_id).await,
        CtlCommand::Simulate(args) => simulate(channel, args).await,
        CtlCommand::Preview(args) => preview(channel, args).await,
        CtlCommand::Complete(args) => complete(channel, args).await,
        CtlCommand::Retry(args) => retry(channel, args).await,
        CtlCommand::Hold(command) => hold(channel, command).await,
        CtlCommand::Sending => sending(channel).await,
        CtlCommand::Circuit(command) => circuit(channel, command).await,
        CtlCommand::Suppress(args) => suppress(channel, args).await,
        CtlCommand::Suppressions(args) => suppressions(channel, args).await,
        CtlCommand::Lift(args) => lift(channel, args).await,
        CtlCommand::Erase(args) => erase(channel, args).await,
        CtlCommand::Token => Ok(()),
    }
}

/// Reads all files before anything is applied, so that a bad one stops all.
fn read(paths: &[PathBuf]) -> anyhow::Result<Documents> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    let mut documents = Documents::default();
    for file in files {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(&file).with_context(|| format!("{name} can't be read"))?;
        let has = |key: &str| {
            text.lines()
                .any(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')))
        };
        if has("campaign") {
            documents.campaigns.push((name.clone(), parse(&name, &text)?));
        } else if has("timeline") {
            documents.timelines.push((name.clone(), parse(&name, &text)?));
        } else if has("customers") {
            documents.customers.push((name.clone(), parse(&name, &text)?));
        } else if has("script") {
            // It is for `simulate`.
        } else {
            anyhow::bail!("{name} has none of the keys campaign, timeline and customers");
        }
    }
    Ok(documents)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("{} can't be read", path.display()))?;
    let mut entries: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    entries.sort();
    for entry in entries {
        let is_yaml = entry
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        if entry.is_dir() || is_yaml {
            collect(&entry, files)?;
        }
    }
    Ok(())
}

async fn apply(channel: Connection, documents: Documents, dry_run: bool) -> anyhow::Result<()> {
    let would = if dry_run { "would be " } else { "" };
    let mut content = CampaignContentServiceClient::new(channel.clone());
    for (file, mut request) in documents.campaigns {
        let campaign_id = request
            .campaign
            .as_ref()
            .map(|campaign| campaign.campaign_id.clone())
            .unwrap_or_default();
        if request.etag.is_empty() {
            let stored = content
                .get_campaign(pb::GetCampaignRequest {
                    campaign_id: campaign_id.clone(),
                })
                .await;
            request.etag = found(stored)
                .map_err(|status| failed(&file, &status))?
                .and_then(|found| found.campaign)
                .map(|campaign| campaign.etag)
                .unwrap_or_default();
        }
        let etag = request.etag.clone();
        request.validate_only |= dry_run;
        let applied = content
            .apply_campaign(request)
            .await
            .map_err(|status| failed(&file, &status))?
            .into_inner();
        let now = applied.campaign.map(|campaign| campaign.etag).unwrap_or_default();
        let what = if applied.created {
            "created"
        } else if now == etag {
            "unchanged"
        } else {
            "changed"
        };
        say(&format!("campaign {campaign_id}: {would}{what}"));
    }
    let mut timelines = CampaignTimelineServiceClient::new(channel.clone());
    for (file, mut request) in documents.timelines {
        let slug = request
            .timeline
            .as_ref()
            .map(|timeline| timeline.slug.clone())
            .unwrap_or_default();
        if request.etag.is_empty() && !slug.is_empty() {
            let stored = timelines
                .get_timeline(pb::GetTimelineRequest {
                    slug: slug.clone(),
                    timeline_id: 0,
                })
                .await;
            request.etag = found(stored)
                .map_err(|status| failed(&file, &status))?
                .and_then(|found| found.timeline)
                .map(|timeline| timeline.etag)
                .unwrap_or_default();
        }
        request.validate_only |= dry_run;
        let applied = timelines
            .apply_timeline(request)
            .await
            .map_err(|status| failed(&file, &status))?
            .into_inner();
        let id = applied.timeline.as_ref().map_or(0, |timeline| timeline.timeline_id);
        say(&format!("timeline {slug} (id {id}): {would}{}", described(&applied)));
    }
    let mut customers = CustomerServiceClient::new(channel);
    for (file, request) in documents.customers {
        if dry_run {
            say(&format!("{file}: customers are left out of a dry run"));
            continue;
        }
        let results = customers
            .upsert_customers(request)
            .await
            .map_err(|status| failed(&file, &status))?
            .into_inner()
            .results;
        for result in results {
            match result.result {
                Some(pb::upsert_customers_result::Result::Customer(customer)) => {
                    say(&format!(
                        "customer {}: {}",
                        customer.customer_id,
                        if result.created { "created" } else { "changed" }
                    ));
                }
                Some(pb::upsert_customers_result::Result::Error(error)) => anyhow::bail!("{file}: {}", error.message),
                None => {}
            }
        }
    }
    Ok(())
}

fn described(applied: &pb::ApplyTimelineResponse) -> String {
    let changes = applied.changes.clone().unwrap_or_default();
    let parts = [
        ("added", changes.added_keys),
        ("removed", changes.removed_keys),
        ("changed", changes.changed_keys),
        ("fields changed", changes.changed_fields),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(_, keys)| !keys.is_empty())
        .map(|(word, keys)| format!("{word} {}", keys.join(", ")))
        .collect();
    match (applied.created, parts.is_empty()) {
        (true, _) => "created".to_owned(),
        (false, true) => "unchanged".to_owned(),
        (false, false) => format!(
            "changed: {}; {} live runs are planned anew",
            parts.join("; "),
            changes.runs_to_replan
        ),
    }
}

async fn start(channel: Connection, customer_id: String, slug: String) -> anyhow::Result<()> {
    let timeline_id = timeline_id(channel.clone(), &slug).await?;
    let request = pb::StartTimelineRequest {
        customer_id: customer_id.clone(),
        timeline_id,
        ..Default::default()
    };
    let started = CampaignOrchestratorServiceClient::new(channel)
        .start_timeline(request)
        .await;
    let run = started
        .map_err(|status| failed(&customer_id, &status))?
        .into_inner()
        .progress
        .unwrap_or_default();
    say(&format!(
        "run {} of {slug} started for customer {customer_id}",
        run.progress_id
    ));
    Ok(())
}

async fn progress(channel: Connection, customer_id: String, progress_id: i64) -> anyhow::Result<()> {
    let request = pb::GetProgressRequest {
        customer_id: customer_id.clone(),
        progress_id,
    };
    let found = CampaignOrchestratorServiceClient::new(channel)
        .get_progress(request)
        .await;
    let progress = found
        .map_err(|status| failed(&customer_id, &status))?
        .into_inner()
        .progress
        .unwrap_or_default();
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET)?;
    let descriptor = pool
        .get_message_by_name("campaign.v1.Progress")
        .context("the contract has no Progress")?;
    let mut message = DynamicMessage::new(descriptor);
    message.transcode_from(&progress)?;
    let mut json = serde_json::Serializer::pretty(Vec::new());
    message.serialize_with_options(&mut json, &SerializeOptions::new())?;
    say(&String::from_utf8(json.into_inner())?);
    Ok(())
}

/// The id of the timeline with a slug.
pub(super) async fn timeline_id(channel: Connection, slug: &str) -> anyhow::Result<i64> {
    let request = pb::GetTimelineRequest {
        slug: slug.to_owned(),
        timeline_id: 0,
    };
    let found = CampaignTimelineServiceClient::new(channel).get_timeline(request).await;
    let found = found.map_err(|status| failed(slug, &status))?.into_inner();
    Ok(found.timeline.unwrap_or_default().timeline_id)
}

/// The message, or none when there is no such thing.
fn found<T>(result: Result<tonic::Response<T>, Status>) -> Result<Option<T>, Status> {
    match result {
        Ok(response) => Ok(Some(response.into_inner())),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

/// A refusal with all its violations, a line each.
pub(super) fn failed(what: &str, status: &Status) -> anyhow::Error {
    let violations = status
        .get_error_details()
        .bad_request()
        .map(|bad| bad.field_violations.clone())
        .unwrap_or_default();
    if violations.is_empty() {
        return anyhow::anyhow!("{what}: {}{}", status.message(), causes(status));
    }
    let lines: Vec<String> = violations
        .into_iter()
        .map(|violation| format!("\n  {} {}", violation.field, violation.description))
        .collect();
    anyhow::anyhow!("{what} is refused:{}", lines.concat())
}

/// Prints a line.
pub(super) fn say(text: &str) {
    // Whoever closes our output does not want to read it.
    let _ = writeln!(std::io::stdout(), "{text}");
}
