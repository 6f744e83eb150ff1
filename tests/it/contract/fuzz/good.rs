//! Good requests of every method, to be made bad. They are about what `hostile::world` has stored.

use prost_reflect::{DynamicMessage, MethodDescriptor};

use crate::support::raw::method;

/// In the JSON form of messages.
const REQUESTS: &[(&str, &str)] = &[
    (
        "ApplyTimeline",
        r#"{"timeline": {"slug": "new", "name": "New", "pipelineStage": "hook", "durationDays": 5, "isActive": true,
            "whenMissed": "WHEN_MISSED_CATCH_UP", "maxLateness": "7200s", "actions": [
            {"key": "one", "dayNumber": 1, "channel": "CHANNEL_EMAIL", "actionType": "ACTION_TYPE_SEND_EMAIL", "campaignId": "A"},
            {"key": "two", "dayNumber": 2, "delayHours": 9, "priority": 1, "maxLateness": "3600s", "channel": "CHANNEL_SMS",
             "actionType": "ACTION_TYPE_SEND_SMS", "campaignId": "SMS", "conditions": [
             {"then": "CONDITION_THEN_SKIP", "emailOpened": {"withinHours": 48, "ofAction": "one"}},
             {"then": "CONDITION_THEN_EXECUTE", "any": {"of": [{"not": {"engagementScoreAbove": {"threshold": 50}}},
              {"attribute": {"name": "plan", "equals": "pro"}}, {"event": {"name": "demo", "withinHours": 1}}]}}]}]}}"#,
    ),
    (
        "ApplyTimeline",
        r#"{"timeline": {"slug": "plan", "name": "Plan", "pipelineStage": "hook", "durationDays": 9, "actions": [
            {"key": "d1h0A", "dayNumber": 1, "channel": "CHANNEL_EMAIL", "actionType": "ACTION_TYPE_SEND_EMAIL", "campaignId": "A"}]},
            "etag": "\"1\"", "validateOnly": true}"#,
    ),
    ("GetTimeline", r#"{"timelineId": 1}"#),
    ("GetTimeline", r#"{"slug": "plan"}"#),
    (
        "ListTimelines",
        r#"{"pipelineStage": "hook", "activeOnly": true, "showArchived": true, "pageSize": 1}"#,
    ),
    (
        "SetTimelineActive",
        r#"{"timelineId": 1, "isActive": true, "reason": "why"}"#,
    ),
    ("SetDefaultTimeline", r#"{"pipelineStage": "hook", "timelineId": 1}"#),
    (
        "ArchiveTimeline",
        r#"{"timelineId": 2, "stopRuns": true, "reason": "why"}"#,
    ),
    (
        "SimulateTimeline",
        r#"{"timelineId": 1, "customerId": "anna", "startTime": "2026-01-05T12:00:00Z"}"#,
    ),
    (
        "SimulateTimeline",
        r#"{"timeline": {"slug": "plan", "name": "Plan", "pipelineStage": "hook", "durationDays": 9, "actions": [
            {"key": "d1h0A", "dayNumber": 1, "channel": "CHANNEL_EMAIL", "actionType": "ACTION_TYPE_SEND_EMAIL", "campaignId": "A"}]},
            "customer": {"timeZone": "Asia/Tokyo"}, "tickInterval": "1800s"}"#,
    ),
    (
        "ApplyCampaign",
        r#"{"campaign": {"campaignId": "A", "name": "A", "subject": "Hi {{ customer.name }}", "textBody": "{{ day }}",
            "htmlBody": "<p>{{ customer.attributes.plan }}</p>", "smsText": "Hi", "callScript": "Hi"}, "etag": "\"1\""}"#,
    ),
    (
        "ApplyCampaign",
        r#"{"campaign": {"campaignId": "B", "subject": "Hi"}, "validateOnly": true, "requestId": "b"}"#,
    ),
    ("GetCampaign", r#"{"campaignId": "A"}"#),
    (
        "PreviewCampaign",
        r#"{"campaignId": "A", "customerId": "anna", "timelineId": 1, "day": 2}"#,
    ),
    ("ListCampaigns", r#"{"pageSize": 1}"#),
    (
        "UpsertCustomers",
        r#"{"customers": [{"customerId": "anna", "displayName": "Anna", "email": "anna@example.com", "phone": "+14155552671",
            "timeZone": "Asia/Tokyo", "pipelineStage": "hook", "engagementScore": 7, "attributes": {"plan": "pro", "n": [1, {"a": null}]},
            "sourceTime": "2026-01-05T12:00:00Z"}, {"customerId": "erik", "pipelineStage": "hook", "isTest": true}],
            "assignTimeline": true}"#,
    ),
    (
        "UpsertCustomers",
        r#"{"customers": [{"customerId": "bert", "timeZone": "Pacific/Honolulu"}], "updateMask": "timeZone,attributes"}"#,
    ),
    ("GetCustomer", r#"{"customerId": "anna"}"#),
    ("ListCustomers", r#"{"pipelineStage": "hook", "pageSize": 1}"#),
    (
        "ChangePipelineStage",
        r#"{"customerId": "bert", "pipelineStage": "base"}"#,
    ),
    (
        "ChangePipelineStage",
        r#"{"customerId": "bert", "pipelineStage": "hook"}"#,
    ),
    (
        "RecordEngagements",
        r#"{"engagements": [{"customerId": "anna", "eventId": "1", "kind": "ENGAGEMENT_KIND_CUSTOM", "name": "demo",
            "occurTime": "2026-01-05T11:00:00Z"}, {"customerId": "bert", "eventId": "2", "kind": "ENGAGEMENT_KIND_REPLIED",
            "progressId": 2, "actionId": 1}]}"#,
    ),
    ("ListEngagements", r#"{"customerId": "anna", "pageSize": 1}"#),
    (
        "StartTimeline",
        r#"{"customerId": "anna", "timelineId": 1, "firstDay": "FIRST_DAY_SKIP_PASSED", "startDay": 2, "allowRestart": true}"#,
    ),
    (
        "StartTimelines",
        r#"{"starts": [{"customerId": "anna", "timelineId": 1, "firstDay": "FIRST_DAY_NEXT_DAY", "allowRestart": true},
            {"customerId": "bert", "timelineId": 3, "startDay": 1}]}"#,
    ),
    (
        "AssignTimelineForStage",
        r#"{"customerId": "anna", "allowRestart": true}"#,
    ),
    ("ExecuteActions", r#"{"customerId": "anna", "requestId": "x"}"#),
    ("GetProgress", r#"{"customerId": "anna", "progressId": 1}"#),
    ("ExplainActions", r#"{"customerId": "anna", "progressId": 1}"#),
    ("ExplainActions", r#"{"customerId": "bert"}"#),
    (
        "ListProgress",
        r#"{"customerId": "anna", "timelineId": 1, "status": "PROGRESS_STATUS_ACTIVE", "pageSize": 1}"#,
    ),
    (
        "ListExecutions",
        r#"{"filter": {"customerId": "anna", "progressId": 1, "timelineId": 1, "outcomes": ["EXECUTION_OUTCOME_COMPLETED"],
            "finishTimeFrom": "2026-01-01T00:00:00Z", "finishTimeUntil": "2027-01-01T00:00:00Z"}, "pageSize": 1}"#,
    ),
    (
        "RetryActions",
        r#"{"filter": {"outcomes": ["EXECUTION_OUTCOME_FAILED", "EXECUTION_OUTCOME_UNKNOWN"], "timelineId": 1},
            "actionKeys": ["d1h0A"], "reason": "why", "maxActions": 1}"#,
    ),
    (
        "RetryActions",
        r#"{"filter": {"outcomes": ["EXECUTION_OUTCOME_FAILED"]}, "validateOnly": true}"#,
    ),
    (
        "PauseTimeline",
        r#"{"customerId": "anna", "progressId": 1, "reason": "why"}"#,
    ),
    (
        "ResumeTimeline",
        r#"{"customerId": "anna", "progressId": 1, "reason": "why", "startNextDay": true}"#,
    ),
    (
        "StopTimeline",
        r#"{"customerId": "carl", "progressId": 3, "reason": "why"}"#,
    ),
    (
        "ProcessCampaignTimelines",
        r#"{"maxActions": 10, "partition": {"index": 1, "count": 2}, "timelineIds": ["1"], "dryRun": true}"#,
    ),
    ("ProcessCampaignTimelines", "{}"),
    (
        "AdvanceCampaignDays",
        r#"{"tickId": "t", "maxActions": 10, "timelineIds": ["1", "2"]}"#,
    ),
    (
        "SetSendingHold",
        r#"{"scope": {"campaignId": "A"}, "reason": "a wrong price", "holdFor": "7200s", "requestId": "hold"}"#,
    ),
    (
        "SetSendingHold",
        r#"{"scope": {"channel": "CHANNEL_SMS"}, "reason": "down", "endTime": "2026-01-06T12:00:00Z"}"#,
    ),
    ("SetSendingHold", r#"{"scope": {"timelineId": "1"}, "reason": "why"}"#),
    ("ReleaseSendingHold", r#"{"scope": {"campaignId": "SMS"}}"#),
    ("ReleaseSendingHold", r#"{"scope": {"all": {}}}"#),
    ("ListSendingHolds", r#"{"pageSize": 1}"#),
    ("GetSendingStatus", "{}"),
    (
        "ResetCircuit",
        r#"{"channel": "CHANNEL_EMAIL", "reason": "a new password", "requestId": "reset"}"#,
    ),
    (
        "SuppressRecipient",
        r#"{"channel": "CHANNEL_EMAIL", "customerId": "anna", "scope": "SUPPRESSION_SCOPE_MARKETING", "requestId": "no"}"#,
    ),
    (
        "SuppressRecipient",
        r#"{"channel": "CHANNEL_SMS", "address": "+14155550000", "reason": "SUPPRESSION_REASON_STOP_KEYWORD", "detail": "why"}"#,
    ),
    (
        "ListSuppressions",
        r#"{"address": "a@example.com", "includeLifted": true}"#,
    ),
    (
        "ListSuppressions",
        r#"{"channel": "CHANNEL_PHONE", "customerId": "anna", "pageSize": 1}"#,
    ),
    (
        "CompleteInteraction",
        r#"{"customerId": "anna", "progressId": "1", "actionKey": "task", "outcome": "TASK_OUTCOME_DONE", "note": "will come"}"#,
    ),
    ("EraseCustomer", r#"{"customerId": "anna", "reason": "request 17"}"#),
    ("LiftSuppression", r#"{"suppressionId": "1", "reason": "why"}"#),
    ("ListTickRuns", r#"{"kind": "TICK_KIND_PROCESS", "pageSize": 1}"#),
];

/// All good requests, in an order in which most of them can be done, one after the other.
pub(crate) fn all() -> impl Iterator<Item = (MethodDescriptor, DynamicMessage)> {
    REQUESTS.iter().map(|(name, json)| {
        let method = method(name);
        let request = parse(&method, json);
        (method, request)
    })
}

/// The good requests of a method.
pub(super) fn requests(method: &MethodDescriptor) -> Vec<DynamicMessage> {
    let of_method = REQUESTS.iter().filter(|(name, _)| *name == method.name());
    let requests: Vec<DynamicMessage> = of_method.map(|(_, json)| parse(method, json)).collect();
    assert!(!requests.is_empty(), "{} has no good request here", method.name());
    requests
}

fn parse(method: &MethodDescriptor, json: &str) -> DynamicMessage {
    let mut json = serde_json::Deserializer::from_str(json);
    DynamicMessage::deserialize(method.input(), &mut json).unwrap_or_else(|error| panic!("{}: {error}", method.name()))
}
