//! From the engine's errors to statuses: one place, every error, no catch-all.
//!
//! The text is for the caller and says what to do. What went wrong inside goes to the log, never to the caller.

pub(super) mod details;

use std::error::Error as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::violations::{fitting, refuse};
use crate::domain::text::shown;
use crate::domain::{MOST_HOLDS, ProgressId, Stage};
use crate::engine::{ActionName, ContentProblem, EngineError, etag};
use crate::store::{BrokenRun, StoreError};
use details::{first_few, info, not_found, precondition, rfc3339, unavailable, with_info};

/// The domain of the reasons in `ErrorInfo`.
pub(super) const DOMAIN: &str = "campaign.v1";

/// The status of an error.
#[expect(clippy::needless_pass_by_value, reason = "it is used as `map_err(status)`")]
pub(super) fn status(error: EngineError) -> Status {
    status_of(&error)
}

/// The status of an error that stays where it is.
#[expect(clippy::too_many_lines, reason = "one arm for each error, and no catch-all")]
pub(super) fn status_of(error: &EngineError) -> Status {
    match error {
        EngineError::Store(error) => store_status(error),
        EngineError::CustomerNotFound(id) => {
            let text = format!("customer {} not found: UpsertCustomers stores it", shown(id.as_str()));
            not_found("CUSTOMER_NOT_FOUND", &text, &[("customer_id", id.to_string())])
        }
        EngineError::TimelineNotFound(id) => {
            let text = format!("timeline {id} not found: ListTimelines shows those that are there");
            not_found("TIMELINE_NOT_FOUND", &text, &[("timeline_id", id.to_string())])
        }
        EngineError::SlugNotFound(slug) => {
            let text = format!(
                "timeline {} not found: ListTimelines shows those that are there",
                shown(slug.as_str())
            );
            not_found("TIMELINE_NOT_FOUND", &text, &[("slug", slug.to_string())])
        }
        EngineError::CampaignNotFound(id) => {
            let text = format!("campaign {} not found: ApplyCampaign stores it", shown(id.as_str()));
            not_found("CAMPAIGN_NOT_FOUND", &text, &[("campaign_id", id.to_string())])
        }
        EngineError::RunNotFound { customer, run } => {
            let text = format!(
                "customer {} has no run {run}: ListProgress shows its runs",
                shown(customer.as_str())
            );
            not_found(
                "RUN_NOT_FOUND",
                &text,
                &[("customer_id", customer.to_string()), ("progress_id", run.to_string())],
            )
        }
        EngineError::NoRun(customer) => {
            let text = format!(
                "customer {} has no run: StartTimeline starts one",
                shown(customer.as_str())
            );
            not_found("RUN_NOT_FOUND", &text, &[("customer_id", customer.to_string())])
        }
        EngineError::ActionNotFound { customer, run, action } => {
            let (field, action) = match action {
                ActionName::Id(id) => ("action_id", id.to_string()),
                ActionName::Key(key) => ("action_key", key.clone()),
            };
            let text = format!(
                "run {run} of customer {} has no action {}",
                shown(customer.as_str()),
                shown(&action)
            );
            let metadata = [
                ("customer_id", customer.to_string()),
                ("progress_id", run.to_string()),
                (field, action),
            ];
            not_found("ACTION_NOT_FOUND", &text, &metadata)
        }
        EngineError::TaskReportedOtherwise { action, outcome, at } => {
            let (outcome, at) = (outcome.as_str(), rfc3339(*at));
            let text = format!(
                "task {} was reported as {outcome} at {at}, and the first report counts",
                shown(action)
            );
            let metadata = [
                ("action_key", action.clone()),
                ("outcome", outcome.to_owned()),
                ("report_time", at),
            ];
            with_info(Code::AlreadyExists, "TASK_ALREADY_REPORTED", &text, &metadata)
        }
        EngineError::TaskNotWaiting {
            run,
            action,
            status,
            why,
        } => {
            let text = format!(
                "run {run} does not wait for a report of {}: {why}; ExplainActions says more",
                shown(action)
            );
            let metadata = [
                ("progress_id", run.to_string()),
                ("action_key", action.clone()),
                ("status", status.as_str().to_owned()),
            ];
            precondition("TASK_NOT_WAITING", &text, &metadata)
        }
        EngineError::AmbiguousRun(runs) => {
            let ids = runs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            let text = format!("the customer has several live runs ({ids}): say which by progress_id");
            precondition("AMBIGUOUS_RUN", &text, &[("progress_id", ids)])
        }
        EngineError::RunIsLive(run) => {
            let text = format!("run {run} of this timeline is live: GetProgress shows it, StopTimeline ends it");
            with_info(
                Code::AlreadyExists,
                "RUN_IS_LIVE",
                &text,
                &[("progress_id", run.to_string())],
            )
        }
        EngineError::RunHasEnded(run) => {
            let text = format!("run {run} of this timeline has ended: set allow_restart to start it again");
            precondition("RUN_ENDED", &text, &[("progress_id", run.to_string())])
        }
        EngineError::RunNotActive { run, status } => {
            let help = if status.is_live() {
                "ResumeTimeline makes it active"
            } else {
                "StartTimeline with allow_restart starts a new one"
            };
            let text = format!("run {run} is {}, not active: {help}", status.as_str());
            precondition(
                "RUN_NOT_ACTIVE",
                &text,
                &[("progress_id", run.to_string()), ("status", status.as_str().to_owned())],
            )
        }
        EngineError::RunNotPaused { run, status } => {
            let help = if status.is_live() {
                "only a paused run is resumed"
            } else {
                "StartTimeline with allow_restart starts a new one"
            };
            let text = format!("run {run} is {}, not paused: {help}", status.as_str());
            precondition(
                "RUN_NOT_PAUSED",
                &text,
                &[("progress_id", run.to_string()), ("status", status.as_str().to_owned())],
            )
        }
        EngineError::RunIsOver { run, status } => {
            let text = format!("run {run} is {} already", status.as_str());
            precondition(
                "RUN_ENDED",
                &text,
                &[("progress_id", run.to_string()), ("status", status.as_str().to_owned())],
            )
        }
        EngineError::TimelineInactive(id) => {
            let text = format!("timeline {id} is inactive: SetTimelineActive switches it on");
            precondition("TIMELINE_INACTIVE", &text, &[("timeline_id", id.to_string())])
        }
        EngineError::TimelineArchived { timeline, slug } => {
            let text = format!(
                "timeline {timeline} ({}) is archived for good: apply its definition under another slug",
                shown(slug.as_str())
            );
            precondition(
                "TIMELINE_ARCHIVED",
                &text,
                &[("timeline_id", timeline.to_string()), ("slug", slug.to_string())],
            )
        }
        EngineError::TimelineHasRuns { timeline, runs } => {
            let text = format!("timeline {timeline} has {runs} live runs: set stop_runs to stop them");
            precondition(
                "TIMELINE_HAS_RUNS",
                &text,
                &[("timeline_id", timeline.to_string()), ("runs", runs.to_string())],
            )
        }
        EngineError::StartDayPastEnd {
            position,
            given,
            duration,
        } => refuse(
            &position.map_or_else(|| "start_day".to_owned(), |at| format!("starts[{at}].start_day")),
            &format!("must be 1 to {duration}, the days of the timeline, but is {given}"),
        ),
        EngineError::StageMissing(id) => {
            let text = format!(
                "customer {} has no pipeline stage: ChangePipelineStage sets it",
                shown(id.as_str())
            );
            precondition("STAGE_MISSING", &text, &[("customer_id", id.to_string())])
        }
        EngineError::NoDefaultTimeline(stage) => {
            let text = format!(
                "stage {} has no default timeline: SetDefaultTimeline gives it one",
                shown(stage.as_str())
            );
            precondition("NO_DEFAULT_TIMELINE", &text, &[("pipeline_stage", stage.to_string())])
        }
        EngineError::StageHasItsOwnCall {
            customer,
            stored,
            given,
        } => {
            let name = |stage: &Option<Stage>| {
                stage
                    .as_ref()
                    .map_or_else(|| "no stage".to_owned(), |stage| shown(stage.as_str()))
            };
            let text = format!(
                "customer {} is in {}, not in {}: ChangePipelineStage moves it, UpsertCustomers does not",
                shown(customer.as_str()),
                name(stored),
                name(given)
            );
            precondition(
                "STAGE_HAS_ITS_OWN_CALL",
                &text,
                &[("customer_id", customer.to_string())],
            )
        }
        EngineError::AttributesInvalid { position, invalid } => refuse(
            &format!("customers[{position}].attributes"),
            &format!("with those that are stored: {invalid}"),
        ),
        EngineError::EtagMismatch { given, current } => etag_status(given, *current),
        EngineError::StageFixed { slug, stored } => {
            let text = format!(
                "timeline {} is of stage {}, which can't be changed: apply it under another slug",
                shown(slug.as_str()),
                shown(stored.as_str())
            );
            precondition(
                "STAGE_FIXED",
                &text,
                &[("slug", slug.to_string()), ("pipeline_stage", stored.to_string())],
            )
        }
        EngineError::SecondDefault { stage, current } => {
            let text = format!(
                "stage {} has the default timeline {}: apply without is_default, then SetDefaultTimeline",
                shown(stage.as_str()),
                shown(current.as_str())
            );
            precondition(
                "SECOND_DEFAULT",
                &text,
                &[("pipeline_stage", stage.to_string()), ("slug", current.to_string())],
            )
        }
        EngineError::StageMismatch { timeline, stored } => {
            let text = format!(
                "timeline {timeline} is of stage {}: it can be the default of that one only",
                shown(stored.as_str())
            );
            precondition(
                "STAGE_MISMATCH",
                &text,
                &[
                    ("timeline_id", timeline.to_string()),
                    ("pipeline_stage", stored.to_string()),
                ],
            )
        }
        EngineError::ContentMissing(problems) => content_missing(problems),
        EngineError::ContentInUse(problems) => {
            let mut details = info("CONTENT_IN_USE", &[]);
            for problem in fitting(problems, |problem| problem.len() + 32) {
                details.add_precondition_failure_violation("CONTENT", "campaign", problem.clone());
            }
            let text = format!("content that is in use would be taken away: {}", first_few(problems));
            Status::with_error_details(Code::FailedPrecondition, text, details)
        }
        EngineError::Broken(id) => {
            let what = "it can't be read or planned; the server's log says more";
            broken_run(*id, what)
        }
        EngineError::AddressMissing { customer, channel } => {
            let text = format!(
                "customer {} has no address for channel {}: UpsertCustomers stores it",
                shown(customer.as_str()),
                channel.as_str()
            );
            let metadata = [
                ("customer_id", customer.to_string()),
                ("channel", channel.as_str().to_owned()),
            ];
            precondition("ADDRESS_MISSING", &text, &metadata)
        }
        EngineError::SuppressionNotFound(id) => {
            let text = format!("suppression {id} is not in force: ListSuppressions shows those that are");
            not_found("SUPPRESSION_NOT_FOUND", &text, &[("suppression_id", id.to_string())])
        }
        EngineError::HoldNotFound(scope) => {
            let text = format!(
                "there is no hold on {}: ListSendingHolds shows those that are in force",
                shown(&scope.to_string())
            );
            not_found("SENDING_HOLD_NOT_FOUND", &text, &[("scope", scope.to_string())])
        }
        EngineError::HoldEnd(given) => {
            let given = given.format("%FT%TZ");
            refuse(
                "end_time",
                &format!("must be after now, by 366 days at most, but is {given}"),
            )
        }
        EngineError::TooManyHolds => {
            let text = format!("there are {MOST_HOLDS} holds in force, the most there may be: hold a wider scope");
            precondition("TOO_MANY_HOLDS", &text, &[("holds", MOST_HOLDS.to_string())])
        }
        EngineError::Concurrent => with_info(
            Code::Aborted,
            "CONCURRENT_CHANGE",
            "somebody else changed the same at this moment: read it again and decide anew",
            &[],
        ),
        EngineError::BrokeOff => internal(),
        EngineError::RequestIdReused(id) => {
            let mut details = info("REQUEST_ID_REUSED", &[]);
            let text = format!(
                "was used for another request within 24 hours: take a new one, but is {}",
                shown(id)
            );
            details.add_bad_request_violation("request_id", text.clone());
            Status::with_error_details(Code::InvalidArgument, format!("request_id {text}"), details)
        }
        EngineError::TickRunning(id) => {
            let text = format!(
                "tick {} is running on this server: wait for it, or take another tick_id",
                shown(id)
            );
            with_info(Code::Aborted, "TICK_RUNNING", &text, &[("tick_id", id.clone())])
        }
        EngineError::ClockSkewed(skew) => {
            let metadata = [
                ("skew_ms", skew.ahead().num_milliseconds().to_string()),
                ("max_clock_skew_ms", skew.allowed.num_milliseconds().to_string()),
                ("server_time", rfc3339(skew.server_time)),
                ("database_time", rfc3339(skew.database_time)),
            ];
            let text = format!("{skew}; until then this server does nothing by the time, and another one may");
            unavailable("CLOCK_SKEWED", &text, &metadata)
        }
        EngineError::Stopping => unavailable(
            "SERVER_STOPPING",
            "this server is stopping: call again, another one will answer",
            &[],
        ),
    }
}

/// The status of a database's error.
fn store_status(error: &StoreError) -> Status {
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    match error {
        StoreError::Unavailable(_) => {
            tracing::warn!(%error, source, "the database is not available: {source}");
            unavailable(
                "DATABASE_UNAVAILABLE",
                "the database can't be reached or is busy: call again in a moment",
                &[],
            )
        }
        StoreError::Disk { place, .. } => {
            tracing::error!(%error, source, "{error}: {source}");
            let text = format!(
                "the disk of the database ({place}) is full, or can't be written: make room there, then call again; nothing is half done"
            );
            let mut details = info("DATABASE_DISK_FULL", &[]);
            details.set_retry_info(Some(std::time::Duration::from_secs(30)));
            Status::with_error_details(Code::ResourceExhausted, text, details)
        }
        StoreError::ReadOnly { place, .. } => {
            tracing::error!(%error, source, "{error}: {source}");
            let text = format!(
                "the database ({place}) can only be read: its file and its folder must be writable for the server"
            );
            unavailable("DATABASE_READ_ONLY", &text, &[])
        }
        StoreError::BrokenRun(broken) => {
            let BrokenRun { customer_id, id, what } = broken;
            tracing::error!(progress_id = id.0, customer_id, "{broken}");
            broken_run(*id, what)
        }
        StoreError::Schema(text) => {
            tracing::error!(%error, "the schema is not that of this program: {text}");
            unavailable(
                "SCHEMA_OUTDATED",
                "the server's database is not migrated: its operator must do so",
                &[],
            )
        }
        StoreError::Duplicate | StoreError::Corrupt { .. } | StoreError::Refused(_) => {
            tracing::error!(%error, source, "a statement failed: {error}: {source}");
            internal()
        }
    }
}

/// A run that the service can't use as it is stored. It is not logged: a list may have many.
pub(super) fn broken_run(id: ProgressId, what: &str) -> Status {
    let text = format!("run {id} can't be used until its row is mended, and is not served: {what}");
    with_info(Code::Internal, "RUN_BROKEN", &text, &[("progress_id", id.to_string())])
}

/// What the caller learns of a mistake of ours.
pub(super) fn internal() -> Status {
    with_info(
        Code::Internal,
        "INTERNAL",
        "something is wrong inside the server; its log says what",
        &[],
    )
}

/// A call that was given up because its time was over.
pub(super) fn too_long(limit: std::time::Duration) -> Status {
    let text = format!(
        "the call took longer than {} ms; what it began to send is finished and recorded",
        limit.as_millis()
    );
    with_info(Code::DeadlineExceeded, "CALL_TOO_LONG", &text, &[])
}

fn etag_status(given: &str, current: Option<i64>) -> Status {
    let text = match current {
        None => format!(
            "there is nothing of this name yet, but an etag is given: {}; leave it empty to create it",
            shown(given)
        ),
        Some(_) if given.is_empty() => "it exists already: read it, and apply with its etag".to_owned(),
        Some(_) => format!(
            "it was changed since it was read: its etag is not {} any more; read it again",
            shown(given)
        ),
    };
    let current = current.map(etag).unwrap_or_default();
    with_info(Code::Aborted, "ETAG_MISMATCH", &text, &[("current_etag", current)])
}

fn content_missing(problems: &[ContentProblem]) -> Status {
    let mut details = info("CONTENT_MISSING", &[]);
    let described = |problem: &ContentProblem| {
        let ContentProblem {
            position,
            campaign,
            lacks,
        } = problem;
        let text = match lacks {
            None => format!(
                "campaign {} is not there: ApplyCampaign stores it",
                shown(campaign.as_str())
            ),
            Some(lacks) => format!(
                "campaign {} has no {lacks}, which this action needs",
                shown(campaign.as_str())
            ),
        };
        (format!("timeline.actions[{position}].campaign_id"), text)
    };
    let problems: Vec<(String, String)> = problems.iter().map(described).collect();
    for (path, text) in fitting(&problems, |(path, text)| path.len() + text.len() + 16) {
        details.add_precondition_failure_violation("CONTENT", path, text);
    }
    let texts: Vec<String> = problems.iter().map(|(path, text)| format!("{path}: {text}")).collect();
    Status::with_error_details(Code::FailedPrecondition, first_few(&texts), details)
}
