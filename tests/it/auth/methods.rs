//! Every method of the contract with every role, by real calls. The table here is what was decided, not a copy of the server's.

use campaign_automation::proto::method_paths;
use std::collections::BTreeSet;
use tonic::Code;

use super::{Guarded, told};
use crate::support::Backend;

const ROLES: [&str; 5] = ["caller", "viewer", "scheduler", "operator", "admin"];

/// Who may call what, by the first letters of the roles; `*`: whoever is known, `-`: anybody.
const DECIDED: [(&str, &str); 46] = [
    ("campaign.v1.CampaignContentService/ApplyCampaign", "c a"),
    ("campaign.v1.CampaignContentService/GetCampaign", "cvoa"),
    ("campaign.v1.CampaignContentService/ListCampaigns", "cvoa"),
    ("campaign.v1.CampaignContentService/PreviewCampaign", "va"),
    ("campaign.v1.CampaignOrchestratorService/AssignTimelineForStage", "ca"),
    ("campaign.v1.CampaignOrchestratorService/CompleteInteraction", "ca"),
    ("campaign.v1.CampaignOrchestratorService/ExecuteActions", "coa"),
    ("campaign.v1.CampaignOrchestratorService/ExplainActions", "va"),
    ("campaign.v1.CampaignOrchestratorService/GetProgress", "cvoa"),
    ("campaign.v1.CampaignOrchestratorService/ListExecutions", "va"),
    ("campaign.v1.CampaignOrchestratorService/ListProgress", "va"),
    ("campaign.v1.CampaignOrchestratorService/PauseTimeline", "coa"),
    ("campaign.v1.CampaignOrchestratorService/ResumeTimeline", "coa"),
    ("campaign.v1.CampaignOrchestratorService/RetryActions", "oa"),
    ("campaign.v1.CampaignOrchestratorService/StartTimeline", "ca"),
    ("campaign.v1.CampaignOrchestratorService/StartTimelines", "ca"),
    ("campaign.v1.CampaignOrchestratorService/StopTimeline", "coa"),
    ("campaign.v1.CampaignTickService/AdvanceCampaignDays", "soa"),
    ("campaign.v1.CampaignTickService/ListTickRuns", "soa"),
    ("campaign.v1.CampaignTickService/ProcessCampaignTimelines", "soa"),
    ("campaign.v1.CampaignTimelineService/ApplyTimeline", "ca"),
    ("campaign.v1.CampaignTimelineService/ArchiveTimeline", "a"),
    ("campaign.v1.CampaignTimelineService/GetTimeline", "cvoa"),
    ("campaign.v1.CampaignTimelineService/ListTimelines", "cvoa"),
    ("campaign.v1.CampaignTimelineService/SetDefaultTimeline", "ca"),
    ("campaign.v1.CampaignTimelineService/SetTimelineActive", "coa"),
    ("campaign.v1.CampaignTimelineService/SimulateTimeline", "va"),
    ("campaign.v1.CustomerService/ChangePipelineStage", "ca"),
    ("campaign.v1.CustomerService/EraseCustomer", "a"),
    ("campaign.v1.CustomerService/GetCustomer", "va"),
    ("campaign.v1.CustomerService/ListCustomers", "va"),
    ("campaign.v1.CustomerService/ListEngagements", "va"),
    ("campaign.v1.CustomerService/RecordEngagements", "ca"),
    ("campaign.v1.CustomerService/UpsertCustomers", "ca"),
    ("campaign.v1.SendingService/GetSendingStatus", "cvsoa"),
    ("campaign.v1.SendingService/LiftSuppression", "a"),
    ("campaign.v1.SendingService/ListSendingHolds", "cvsoa"),
    ("campaign.v1.SendingService/ListSuppressions", "voa"),
    ("campaign.v1.SendingService/ReleaseSendingHold", "oa"),
    ("campaign.v1.SendingService/ResetCircuit", "oa"),
    ("campaign.v1.SendingService/SetSendingHold", "oa"),
    ("campaign.v1.SendingService/SuppressRecipient", "coa"),
    ("grpc.health.v1.Health/Check", "-"),
    ("grpc.health.v1.Health/Watch", "-"),
    ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "*"),
    ("grpc.reflection.v1.ServerReflection/Nothing", "?"),
];

#[test]
fn all_methods_of_the_contract_are_decided_about() {
    let contract = method_paths(&[]).expect("methods").into_iter();
    let contract: BTreeSet<String> = contract.map(|path| path[1..].to_owned()).collect();
    let decided = DECIDED.iter().map(|(method, _)| *method);
    let decided: BTreeSet<String> = decided
        .filter(|method| method.starts_with("campaign."))
        .map(str::to_owned)
        .collect();
    assert_eq!(contract, decided);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_may_call_what_was_decided() {
    let callers = ROLES.map(|role| (role, role));
    let it = Guarded::with_callers(Backend::Sqlite, &callers).await;
    for (method, decided) in DECIDED {
        let path = format!("/{method}");
        let is_open = decided == "-";
        for credentials in [&[][..], &["Bearer wrong"]] {
            let code = told(&it.call_with(&path, credentials).await)
                .err()
                .map(|(code, _)| code);
            let is_asked = code == Some(Code::Unauthenticated);
            assert_eq!(is_asked, !is_open, "{method} {credentials:?}: {code:?}");
        }
        for role in ROLES {
            let told = told(&it.call(&path, &format!("token-of-{role}")).await);
            if decided == "?" {
                assert_eq!(told, Err((Code::Unimplemented, String::new())), "{method} as {role}");
                continue;
            }
            let may = ["-", "*"].contains(&decided) || decided.contains(&role[..1]);
            let missing = Err((Code::PermissionDenied, "ROLE_MISSING".to_owned()));
            assert_eq!(told == missing, !may, "{method} as {role}: {told:?}");
            let code = told.err().map(|(code, _)| code);
            assert!(!may || code != Some(Code::Unauthenticated), "{method} as {role}");
        }
    }
    it.stop().await;
}
