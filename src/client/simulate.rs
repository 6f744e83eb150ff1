//! `campaignctl simulate`: what would become of a run, one line for each step.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use clap::Args;
use std::path::PathBuf;

use super::ctl::{failed, say};
use super::files::load;
use super::token::Connection;
use super::words::{defer_reason, failure_reason, one_test};
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::campaign_timeline_service_client::CampaignTimelineServiceClient;
use crate::proto::campaign::v1::script_entry::What as Happens;
use crate::proto::campaign::v1::simulate_timeline_request::{Which, Whom};
use crate::proto::campaign::v1::simulation_step::What as Happened;

/// What is simulated.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// A file with a timeline, which need not be stored, or the slug of a stored one.
    #[arg(value_name = "FILE|SLUG")]
    pub timeline: String,
    /// A stored customer, as it is now. Without it somebody is made up who is in the timeline's stage and has a mail address and a phone.
    #[arg(long, value_name = "ID", conflicts_with = "zone")]
    pub customer: Option<String>,
    /// Where the customer lives who is made up.
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,
    /// When the run is started, such as 2026-03-02T08:00:00Z. Default: now.
    #[arg(long, value_name = "TIME")]
    pub start: Option<DateTime<Utc>>,
    /// A file with `script`, what happens meanwhile: a `SimulateTimelineRequest`, so it may say all the rest as well. What is given here counts
    /// more than what it says.
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
}

/// Simulates, and prints what would happen.
pub(super) async fn simulate(channel: Connection, args: SimulateArgs) -> anyhow::Result<()> {
    let mut client = CampaignTimelineServiceClient::new(channel);
    let mut request: pb::SimulateTimelineRequest = match &args.script {
        Some(file) => load(file)?,
        None => pb::SimulateTimelineRequest::default(),
    };
    let path = PathBuf::from(&args.timeline);
    let (which, stage) = if path.is_file() {
        let file: pb::ApplyTimelineRequest = load(&path)?;
        let definition = file.timeline;
        let definition = definition.with_context(|| format!("{} has no timeline", args.timeline))?;
        let stage = definition.pipeline_stage.clone();
        (Which::Timeline(definition), stage)
    } else {
        let slug = pb::GetTimelineRequest {
            slug: args.timeline.clone(),
            timeline_id: 0,
        };
        let found = client.get_timeline(slug).await;
        let found = found.map_err(|status| failed(&args.timeline, &status))?.into_inner();
        let found = found.timeline.unwrap_or_default();
        let stage = found.definition.unwrap_or_default().pipeline_stage;
        (Which::TimelineId(found.timeline_id), stage)
    };
    request.which = Some(which);
    if let Some(customer) = args.customer {
        request.whom = Some(Whom::CustomerId(customer));
    } else if args.zone.is_some() || request.whom.is_none() {
        request.whom = Some(Whom::Customer(made_up(stage, args.zone)));
    }
    if let Some(start) = args.start {
        request.start_time = Some(prost_types::Timestamp {
            seconds: start.timestamp(),
            nanos: i32::try_from(start.timestamp_subsec_nanos()).unwrap_or(0),
        });
    }
    let script = request.script.clone();
    let response = client.simulate_timeline(request).await;
    let response = response.map_err(|status| failed(&args.timeline, &status))?.into_inner();
    for step in &response.steps {
        if let Some(what) = step.what.as_ref().and_then(|what| described(what, step, &script)) {
            say(&format!(
                "day {:>3}  {}  {what}",
                step.day_number,
                local(step.time, &step.time_zone)
            ));
        }
    }
    if response.truncated {
        say("… and more, which is cut off here");
    }
    say(&summary(&response.run.unwrap_or_default()));
    Ok(())
}

fn made_up(pipeline_stage: String, zone: Option<String>) -> pb::Customer {
    pb::Customer {
        display_name: "Somebody".to_owned(),
        email: "somebody@example.com".to_owned(),
        phone: "+14155552671".to_owned(),
        time_zone: zone.unwrap_or_default(),
        pipeline_stage,
        ..pb::Customer::default()
    }
}

/// An instant as the customer's clock shows it.
fn local(time: Option<prost_types::Timestamp>, zone: &str) -> String {
    let time = time.unwrap_or_default();
    let time = DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).unwrap_or(0)).unwrap_or_default();
    let zone: Tz = zone.parse().unwrap_or(Tz::UTC);
    time.with_timezone(&zone).format("%a %Y-%m-%d %H:%M").to_string()
}

/// A step in words. None: each line says its day, so a new one needs no line.
fn described(what: &Happened, step: &pb::SimulationStep, script: &[pb::ScriptEntry]) -> Option<String> {
    Some(match what {
        Happened::Started(pb::RunStarted {}) => format!("started, in {}", step.time_zone),
        Happened::Script(applied) => {
            let entry = usize::try_from(applied.index).ok().and_then(|at| script.get(at));
            let what = entry
                .and_then(|entry| entry.what.as_ref())
                .map(event)
                .unwrap_or_default();
            let refused = if applied.refused.is_empty() {
                String::new()
            } else {
                format!(": refused, as {}", applied.refused)
            };
            format!("* {what}{refused}")
        }
        Happened::Day(pb::DayReached {}) => return None,
        Happened::Shifted(shifted) => format!("nobody ticked: put off by {} days", shifted.days),
        Happened::Jumped(jumped) => format!(
            "nobody ticked: days {} to {} are jumped",
            jumped.first_day, jumped.last_day
        ),
        Happened::Action(done) => action(done, &step.time_zone),
        Happened::Completed(pb::RunCompleted {}) => "completed".to_owned(),
    })
}

fn event(what: &Happens) -> String {
    let or_default = |zone: &str| {
        if zone.is_empty() {
            "the default".to_owned()
        } else {
            zone.to_owned()
        }
    };
    match what {
        Happens::Engagement(done) => {
            let kind = done
                .kind()
                .as_str_name()
                .trim_start_matches("ENGAGEMENT_KIND_")
                .to_lowercase();
            let name = if done.name.is_empty() { &kind } else { &done.name };
            let about = if done.of_action.is_empty() {
                String::new()
            } else {
                format!(" of {}", done.of_action)
            };
            format!("{name}{about}")
        }
        Happens::EngagementScore(score) => format!("score {score}"),
        Happens::PipelineStage(stage) => format!("stage {stage}"),
        Happens::Attributes(given) => {
            let names: Vec<&str> = given.fields.keys().map(String::as_str).collect();
            format!("attributes {}", names.join(", "))
        }
        Happens::TaskReport(given) => {
            let outcome = given.outcome().as_str_name().trim_start_matches("TASK_OUTCOME_");
            format!("{} reported as {}", given.action_key, outcome.to_lowercase())
        }
        Happens::Pause(pb::ScriptPause {}) => "paused".to_owned(),
        Happens::Resume(_) => "resumed".to_owned(),
        Happens::Stop(pb::ScriptStop {}) => "stopped".to_owned(),
        Happens::TimelineIsActive(true) => "timeline switched on".to_owned(),
        Happens::TimelineIsActive(false) => "timeline switched off".to_owned(),
        Happens::TimeZone(zone) => format!("moved to {}", or_default(zone)),
        Happens::Ticks(true) => "the ticks go on".to_owned(),
        Happens::Ticks(false) => "the ticks stop".to_owned(),
        Happens::Answer(given) => {
            let word = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_lowercase();
            let channel = word(given.channel().as_str_name(), "CHANNEL_");
            let answer = word(given.answer().as_str_name(), "SIMULATED_ANSWER_");
            format!("{channel} from now on {answer}")
        }
    }
}

fn action(done: &pb::SimulatedAction, zone: &str) -> String {
    let action = done.action.clone().unwrap_or_default();
    let (kind, carried_out) = kind(action.action_type());
    let until = || local(done.until_time, zone);
    let failure = || format!("{}: {}", failure_reason(done.failure_reason()), done.detail);
    let result = match done.outcome() {
        pb::ActionOutcome::Executed => carried_out.to_owned(),
        pb::ActionOutcome::Skipped => format!("skipped, {}", skipped(done)),
        pb::ActionOutcome::Expired if done.skip_reason() == pb::SkipReason::NotCompletedInTime => skipped(done),
        pb::ActionOutcome::Expired => "too late".to_owned(),
        pb::ActionOutcome::Failed => format!("failed, {}", failure()),
        pb::ActionOutcome::Retrying => format!("tried again at {}, {}", until(), failure()),
        pb::ActionOutcome::Unknown => format!("unknown, {}", failure()),
        pb::ActionOutcome::Deferred => format!("put off until {}, {}", until(), defer_reason(done.defer_reason())),
        pb::ActionOutcome::Unspecified | pb::ActionOutcome::NotDue | pb::ActionOutcome::InFlight => String::new(),
    };
    let attempt = if done.attempt > 1 {
        format!(" (attempt {})", done.attempt)
    } else {
        String::new()
    };
    format!("{kind:<4}  {:<18}  {result}{attempt}", action.key)
}

/// What an action is, and what is said when it is carried out.
fn kind(action_type: pb::ActionType) -> (&'static str, &'static str) {
    match action_type {
        pb::ActionType::SendEmail => ("mail", "sent"),
        pb::ActionType::SendSms => ("SMS", "sent"),
        pb::ActionType::MakeCall => ("call", "made"),
        pb::ActionType::CreateTask => ("task", "created"),
        pb::ActionType::CheckCondition => ("gate", "open"),
        pb::ActionType::Wait | pb::ActionType::Unspecified => ("wait", "over"),
    }
}

/// Why an action is skipped: the first condition that says so.
fn skipped(done: &pb::SimulatedAction) -> String {
    match done.skip_reason() {
        pb::SkipReason::Condition => {
            let skips = |finding: &&pb::ConditionFinding| finding.verdict() == pb::ConditionThen::Skip;
            let finding = done.conditions.iter().find(skips);
            let tested = finding.and_then(|finding| {
                let tested = finding.condition.clone()?.test?.into();
                Some(one_test(&tested, finding.holds))
            });
            tested.unwrap_or_else(|| "a condition".to_owned())
        }
        pb::SkipReason::Gated => "the gate is closed".to_owned(),
        pb::SkipReason::HourPassedAtStart => "its hour had passed".to_owned(),
        pb::SkipReason::Suppressed => "must not be written to".to_owned(),
        pb::SkipReason::QuietHoursUnknown => "no hour suits all zones".to_owned(),
        pb::SkipReason::EventMissing => "the event did not come".to_owned(),
        pb::SkipReason::NotCompletedInTime => "nobody reported the task".to_owned(),
        pb::SkipReason::Removed | pb::SkipReason::Expired | pb::SkipReason::Unspecified => String::new(),
    }
}

fn summary(run: &pb::SimulatedRun) -> String {
    let status = run
        .status()
        .as_str_name()
        .trim_start_matches("PROGRESS_STATUS_")
        .to_lowercase();
    let counts = [
        (run.completed_actions, "done"),
        (run.skipped_actions, "skipped"),
        (run.expired_actions, "too late"),
        (run.failed_actions, "failed"),
        (run.unknown_actions, "unknown"),
        (run.pending_actions, "waiting"),
        (run.untouched_actions, "untouched"),
    ];
    let counts: Vec<String> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let shifted = if run.shifted_days > 0 {
        format!(", {} days later than planned", run.shifted_days)
    } else {
        String::new()
    };
    format!(
        "{status} on day {} of {}{shifted}: {}",
        run.current_day,
        run.duration_days,
        counts.join(", ")
    )
}
