//! What a caller may: every method of every service, with who may call it. What is not here is denied, and a server whose table and
//! contract differ does not start.
//!
//! What counts as personal data, for [`Role::Viewer`] alone: names, addresses and attributes of customers, texts made of them, what a
//! customer did, and lists that show all customers. Two kinds of methods are near it and stay with [`Role::Caller`], the CRM:
//!
//! - Those that answer with a run (`GetProgress`, and all that start and move one). A run has ids, days, states and the zone, no
//!   name, address, attribute or text. Its `detail` texts say which condition decided and what it saw, of facts that the CRM itself
//!   has told. Whoever may start or pause a run is answered with it, so to keep back `GetProgress` would keep back nothing.
//! - `UpsertCustomers` and `ChangePipelineStage`, which answer with the customer that they have written: the CRM is where it
//!   comes from.
//!
//! `PreviewCampaign` and `SimulateTimeline` show what is stored of a customer as well as `GetCustomer` and `ExplainActions` do, and are for
//! viewers therefore. `ListSuppressions` answers whether an address is suppressed, without showing any; it needs one's address or id
//! to ask for, and is for those who suppress and for viewers.

use std::collections::{HashMap, HashSet};

use super::{Caller, Refused, Role};
use Role::{Admin, Operator, Scheduler, Viewer};
use Rule::{Changes, Known, Open, Reads};

/// The role of the CRM; `Caller` is whoever calls.
const CRM: Role = Role::Caller;

/// Who may call a method. An admin may all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Anybody, known or not.
    Open,
    /// Anybody who is known.
    Known,
    /// One of these roles. It changes nothing.
    Reads(&'static [Role]),
    /// One of these roles. It changes something, and who called it is logged.
    Changes(&'static [Role]),
}

/// The table, by service.
pub const TABLE: &[(&str, &[(&str, Rule)])] = &[
    (
        "campaign.v1.CampaignContentService",
        &[
            ("ApplyCampaign", Changes(&[CRM])),
            ("GetCampaign", Reads(&[CRM, Viewer, Operator])),
            ("ListCampaigns", Reads(&[CRM, Viewer, Operator])),
            ("PreviewCampaign", Reads(&[Viewer])),
        ],
    ),
    (
        "campaign.v1.CampaignOrchestratorService",
        &[
            ("AssignTimelineForStage", Changes(&[CRM])),
            ("CompleteInteraction", Changes(&[CRM])),
            ("ExecuteActions", Changes(&[CRM, Operator])),
            ("ExplainActions", Reads(&[Viewer])),
            ("GetProgress", Reads(&[CRM, Viewer, Operator])),
            ("ListExecutions", Reads(&[Viewer])),
            ("ListProgress", Reads(&[Viewer])),
            ("PauseTimeline", Changes(&[CRM, Operator])),
            ("ResumeTimeline", Changes(&[CRM, Operator])),
            ("RetryActions", Changes(&[Operator])),
            ("StartTimeline", Changes(&[CRM])),
            ("StartTimelines", Changes(&[CRM])),
            ("StopTimeline", Changes(&[CRM, Operator])),
        ],
    ),
    (
        "campaign.v1.CampaignTickService",
        &[
            ("AdvanceCampaignDays", Changes(&[Scheduler, Operator])),
            // A scheduler sees his own, an operator those of all.
            ("ListTickRuns", Reads(&[Scheduler, Operator])),
            ("ProcessCampaignTimelines", Changes(&[Scheduler, Operator])),
        ],
    ),
    (
        "campaign.v1.CampaignTimelineService",
        &[
            ("ApplyTimeline", Changes(&[CRM])),
            ("ArchiveTimeline", Changes(&[Admin])),
            ("GetTimeline", Reads(&[CRM, Viewer, Operator])),
            ("ListTimelines", Reads(&[CRM, Viewer, Operator])),
            ("SetDefaultTimeline", Changes(&[CRM])),
            ("SetTimelineActive", Changes(&[CRM, Operator])),
            ("SimulateTimeline", Reads(&[Viewer])),
        ],
    ),
    (
        "campaign.v1.CustomerService",
        &[
            ("ChangePipelineStage", Changes(&[CRM])),
            ("EraseCustomer", Changes(&[Admin])),
            ("GetCustomer", Reads(&[Viewer])),
            ("ListCustomers", Reads(&[Viewer])),
            ("ListEngagements", Reads(&[Viewer])),
            ("RecordEngagements", Changes(&[CRM])),
            ("UpsertCustomers", Changes(&[CRM])),
        ],
    ),
    (
        "campaign.v1.SendingService",
        &[
            ("GetSendingStatus", Reads(&[CRM, Viewer, Scheduler, Operator])),
            // To suppress again is easy, to have written to somebody who was suppressed can't be mended.
            ("LiftSuppression", Changes(&[Admin])),
            ("ListSendingHolds", Reads(&[CRM, Viewer, Scheduler, Operator])),
            ("ListSuppressions", Reads(&[Viewer, Operator])),
            ("ReleaseSendingHold", Changes(&[Operator])),
            ("ResetCircuit", Changes(&[Operator])),
            ("SetSendingHold", Changes(&[Operator])),
            // Who has told the CRM that he wants no more must not wait for an operator.
            ("SuppressRecipient", Changes(&[CRM, Operator])),
        ],
    ),
    // Probes have no credentials, and it says no more than whether the server is well.
    ("grpc.health.v1.Health", &[("Check", Open), ("Watch", Open)]),
    // The contract is no secret of those who may call; who may not need not know it.
    (
        "grpc.reflection.v1.ServerReflection",
        &[("ServerReflectionInfo", Known)],
    ),
];

/// The table and the contract differ.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MethodsError {
    /// Methods of the contract are not in the table.
    #[error("nobody has said who may call {}", .0.join(", "))]
    Unnamed(Vec<String>),
    /// Methods of the table are not in the contract, or stand there twice.
    #[error("the table of who may call what names {}, which the contract does not have, or twice", .0.join(", "))]
    Unknown(Vec<String>),
}

/// Who may call which method, checked against the contract.
#[derive(Debug)]
pub struct Methods {
    rules: HashMap<String, Rule>,
    services: HashSet<&'static str>,
}

impl Methods {
    /// The table, which must be of the methods with these paths, no more and no fewer.
    pub fn checked(contract: &[String]) -> Result<Self, MethodsError> {
        Self::of(TABLE, contract)
    }

    fn of(table: &'static [(&str, &[(&str, Rule)])], contract: &[String]) -> Result<Self, MethodsError> {
        let mut rules = HashMap::new();
        let mut unknown = Vec::new();
        for (service, methods) in table {
            for (method, rule) in *methods {
                let path = format!("/{service}/{method}");
                let is_new = rules.insert(path.clone(), *rule).is_none();
                if !is_new || !contract.contains(&path) {
                    unknown.push(path);
                }
            }
        }
        if !unknown.is_empty() {
            return Err(MethodsError::Unknown(unknown));
        }
        let unnamed = contract.iter().filter(|path| !rules.contains_key(*path));
        let unnamed: Vec<String> = unnamed.cloned().collect();
        if !unnamed.is_empty() {
            return Err(MethodsError::Unnamed(unnamed));
        }
        let services = table.iter().map(|(service, _)| *service).collect();
        Ok(Self { rules, services })
    }

    /// Whether a path is below that of a service.
    pub(super) fn is_of_service(&self, path: &str) -> bool {
        let mut parts = path.strip_prefix('/').unwrap_or(path).splitn(2, '/');
        parts.next().is_some_and(|service| self.services.contains(service))
    }

    /// Whether a method changes something.
    pub(super) fn changes(&self, path: &str) -> bool {
        matches!(self.rules.get(path), Some(Changes(_)))
    }

    /// Who calls, if he may call the method at this path. Who is not known is told so before he is told what there is.
    pub(super) fn permit(&self, path: &str, who: &Result<Caller, Refused>) -> Result<Caller, Refused> {
        let rule = self.rules.get(path).copied();
        if rule == Some(Open) {
            return Ok(who.clone().unwrap_or_else(|_| Caller::nobody()));
        }
        let caller = who.clone()?;
        let roles = match rule.ok_or(Refused::NoSuchMethod)? {
            Open | Known => return Ok(caller),
            Reads(roles) | Changes(roles) => roles,
        };
        if roles.iter().any(|role| caller.has(*role)) {
            return Ok(caller);
        }
        let method = path.rsplit('.').next().unwrap_or(path).to_owned();
        Err(Refused::RoleMissing { method, roles })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Roles;
    use super::*;

    fn paths(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    const SMALL: &[(&str, &[(&str, Rule)])] = &[("a.v1.A", &[("Get", Reads(&[Viewer])), ("Set", Changes(&[CRM]))])];

    const TWICE: &[(&str, &[(&str, Rule)])] = &[("a.v1.A", &[("Get", Reads(&[Viewer])), ("Get", Open)])];

    #[test]
    fn table_and_contract_must_agree() {
        assert!(Methods::of(SMALL, &paths(&["/a.v1.A/Get", "/a.v1.A/Set"])).is_ok());
        let more = Methods::of(SMALL, &paths(&["/a.v1.A/Get", "/a.v1.A/Set", "/a.v1.B/Get"])).expect_err("unnamed");
        assert_eq!(more, MethodsError::Unnamed(paths(&["/a.v1.B/Get"])));
        let fewer = Methods::of(SMALL, &paths(&["/a.v1.A/Get"])).expect_err("unknown");
        assert_eq!(fewer, MethodsError::Unknown(paths(&["/a.v1.A/Set"])));
        let twice = Methods::of(TWICE, &paths(&["/a.v1.A/Get"])).expect_err("twice");
        assert_eq!(twice, MethodsError::Unknown(paths(&["/a.v1.A/Get"])));
    }

    #[test]
    fn what_is_not_named_is_denied() {
        let methods = Methods::of(SMALL, &paths(&["/a.v1.A/Get", "/a.v1.A/Set"])).expect("methods");
        let admin = Caller::of_file("root", Roles::from_iter([Admin]));
        let viewer = Caller::of_file("eve", Roles::from_iter([Viewer]));
        let permit = |path: &str, who: &Caller| methods.permit(path, &Ok(who.clone())).map(|_| ());
        assert_eq!(permit("/a.v1.A/Get", &viewer), Ok(()));
        assert_eq!(permit("/a.v1.A/Set", &admin), Ok(()));
        let missing = Refused::RoleMissing {
            method: "A/Set".to_owned(),
            roles: &[CRM],
        };
        assert_eq!(permit("/a.v1.A/Set", &viewer), Err(missing));
        for path in [
            "/a.v1.A/Drop",
            "/a.v1.A/",
            "/a.v1.A/get",
            "/a.v1.A/Get/",
            "//a.v1.A/Get",
            "",
        ] {
            assert_eq!(permit(path, &admin), Err(Refused::NoSuchMethod), "{path}");
            let unknown = methods.permit(path, &Err(Refused::NoCredentials));
            assert_eq!(unknown, Err(Refused::NoCredentials), "{path}");
        }
    }
}
