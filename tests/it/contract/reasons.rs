//! The reasons of errors: a list that callers may rely on, the same in the code and in the comments of the contract.

use std::collections::BTreeSet;
use std::path::Path;

use super::is_reason;

/// All reasons. One that is here is never renamed, because callers branch on it.
const REASONS: [&str; 49] = [
    "ACTION_NOT_FOUND",
    "ADDRESS_MISSING",
    "AMBIGUOUS_RUN",
    "CALLER_TOO_OFTEN",
    "CALL_TOO_LONG",
    "CAMPAIGN_NOT_FOUND",
    "CERTIFICATE_UNKNOWN",
    "CLOCK_SKEWED",
    "CONCURRENT_CHANGE",
    "CONTENT_IN_USE",
    "CONTENT_MISSING",
    "CUSTOMER_NOT_FOUND",
    "DATABASE_DISK_FULL",
    "DATABASE_READ_ONLY",
    "DATABASE_UNAVAILABLE",
    "ETAG_MISMATCH",
    "INTERNAL",
    "INVALID_FIELDS",
    "KEYS_UNAVAILABLE",
    "NO_CREDENTIALS",
    "NO_DEFAULT_TIMELINE",
    "REQUEST_ID_REUSED",
    "ROLE_MISSING",
    "RUN_BROKEN",
    "RUN_ENDED",
    "RUN_IS_LIVE",
    "RUN_NOT_ACTIVE",
    "RUN_NOT_FOUND",
    "RUN_NOT_PAUSED",
    "SCHEMA_OUTDATED",
    "SECOND_DEFAULT",
    "SENDING_HOLD_NOT_FOUND",
    "SERVER_BUSY",
    "SERVER_STOPPING",
    "STAGE_FIXED",
    "STAGE_HAS_ITS_OWN_CALL",
    "STAGE_MISMATCH",
    "STAGE_MISSING",
    "SUPPRESSION_NOT_FOUND",
    "TASK_ALREADY_REPORTED",
    "TASK_NOT_WAITING",
    "TICK_RUNNING",
    "TIMELINE_ARCHIVED",
    "TIMELINE_HAS_RUNS",
    "TIMELINE_INACTIVE",
    "TIMELINE_NOT_FOUND",
    "TOKEN_EXPIRED",
    "TOKEN_INVALID",
    "TOO_MANY_HOLDS",
];

/// Codes of gRPC, after which a comment of the contract names reasons in parentheses.
const CODES: [&str; 11] = [
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "FAILED_PRECONDITION",
    "ABORTED",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "INTERNAL",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.len() > 2 && is_reason(word))
}

/// The reasons that stand in a comment as `CODE (REASON, OTHER_REASON when …; …)`.
fn documented(proto: &str) -> BTreeSet<String> {
    let comments: Vec<&str> = proto
        .lines()
        .filter_map(|line| line.trim().strip_prefix("//"))
        .collect();
    let text = comments.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    let mut found = BTreeSet::new();
    for code in CODES {
        for (at, _) in text.match_indices(&format!("{code} (")) {
            let inside = &text[at + code.len() + 2..];
            let inside = inside.split_once(')').map_or(inside, |(inside, _)| inside);
            found.extend(words(inside).map(str::to_owned));
        }
    }
    found
}

/// The words in quotes that look like reasons.
fn used(code: &str) -> BTreeSet<String> {
    let quoted = code.lines().flat_map(|line| line.split('"').skip(1).step_by(2));
    let mut found: BTreeSet<String> = quoted.filter(|word| is_reason(word)).map(str::to_owned).collect();
    // The type of a violation of a precondition.
    found.remove("CONTENT");
    // Said by the health service of gRPC, which has a contract of its own.
    found.remove("TOO_MANY_WATCHES");
    found
}

#[test]
fn code_and_contract_name_the_same_reasons() {
    let of_rpc = ["crowd", "error", "violations", "deadline", "page"].map(|file| format!("src/rpc/{file}.rs"));
    let code: Vec<String> = of_rpc
        .iter()
        .map(String::as_str)
        .chain(["src/auth/refused.rs"])
        .map(read)
        .collect();
    let services = ["content", "customer", "orchestrator", "sending", "tick", "timeline"];
    let comments = services.map(|name| read(&format!("proto/campaign/v1/{name}_service.proto")));
    let golden: BTreeSet<String> = REASONS.map(str::to_owned).into();
    assert_eq!(used(&code.join("\n")), golden, "the reasons in src/rpc and src/auth");
    assert_eq!(
        documented(&comments.join("\n")),
        golden,
        "the reasons in the comments of proto/campaign/v1"
    );
}

#[test]
fn reasons_are_found_where_they_stand() {
    let proto = "  // Errors: ABORTED (ONE_REASON) when it is so; FAILED_PRECONDITION (TWO_REASON;\n  // THREE_REASON for `x`).\n";
    let expected: BTreeSet<String> = ["ONE_REASON", "TWO_REASON", "THREE_REASON"].map(str::to_owned).into();
    assert_eq!(documented(proto), expected);
    assert_eq!(
        used("info(\"ONE_REASON\", \"a text\")"),
        ["ONE_REASON".to_owned()].into()
    );
}
