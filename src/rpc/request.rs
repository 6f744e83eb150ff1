//! Requests that may come again: their ids, and the answers that were given.

use prost::Message;
use sha2::{Digest as _, Sha256};
use tonic::{Response, Status};

use super::error::{internal, status};
use super::violations::Violations;
use crate::auth::Caller;
use crate::domain::Invalid;
use crate::engine::{Answer, EngineError};
use crate::store::RequestKey;

/// A request with an id.
pub(super) trait Identified: Message + Clone {
    /// The method, without its service.
    const METHOD: &'static str;

    /// Takes the id out.
    fn take_id(&mut self) -> String;

    /// Whose request it is; none when it is about no customer, or about several.
    fn customer(&self) -> Option<&str> {
        None
    }
}

/// Declares which requests have an id.
macro_rules! identified {
    ($($request:ident $method:literal $($customer:ident)?;)+) => {$(
        impl $crate::rpc::request::Identified for $crate::proto::campaign::v1::$request {
            const METHOD: &'static str = $method;

            fn take_id(&mut self) -> String {
                std::mem::take(&mut self.request_id)
            }

            $(fn customer(&self) -> Option<&str> {
                Some(&self.$customer)
            })?
        }
    )+};
}

identified! {
    ApplyCampaignRequest "ApplyCampaign";
    ApplyTimelineRequest "ApplyTimeline";
    ArchiveTimelineRequest "ArchiveTimeline";
    AssignTimelineForStageRequest "AssignTimelineForStage" customer_id;
    ChangePipelineStageRequest "ChangePipelineStage" customer_id;
    CompleteInteractionRequest "CompleteInteraction" customer_id;
    EraseCustomerRequest "EraseCustomer";
    ExecuteActionsRequest "ExecuteActions" customer_id;
    LiftSuppressionRequest "LiftSuppression";
    PauseTimelineRequest "PauseTimeline" customer_id;
    ReleaseSendingHoldRequest "ReleaseSendingHold";
    ResetCircuitRequest "ResetCircuit";
    ResumeTimelineRequest "ResumeTimeline" customer_id;
    RetryActionsRequest "RetryActions";
    SetDefaultTimelineRequest "SetDefaultTimeline";
    SetSendingHoldRequest "SetSendingHold";
    SetTimelineActiveRequest "SetTimelineActive";
    StartTimelineRequest "StartTimeline" customer_id;
    StartTimelinesRequest "StartTimelines";
    StopTimelineRequest "StopTimeline" customer_id;
    SuppressRecipientRequest "SuppressRecipient";
    UpsertCustomersRequest "UpsertCustomers";
}

/// The key under which a request's answer is kept; none when it has no id. Each caller has ids of his own, so that nobody is answered
/// what another one was.
pub(super) fn key<R: Identified>(violations: &mut Violations, caller: &Caller, request: &R) -> Option<RequestKey> {
    let mut request = request.clone();
    let id = request.take_id();
    if id.is_empty() {
        return None;
    }
    let request_id = violations.check("request_id", name(&id))?;
    let hash = Sha256::digest(request.encode_to_vec()).to_vec();
    Some(RequestKey {
        caller: caller.name().to_owned(),
        customer_id: request.customer().unwrap_or_default().to_owned(),
        method: R::METHOD,
        request_id,
        hash,
    })
}

/// A caller's name for a request or a tick: 1 to 64 printable ASCII characters without spaces.
pub(super) fn name(given: &str) -> Result<String, Invalid> {
    if (1..=64).contains(&given.len()) && given.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(given.to_owned());
    }
    Err(Invalid::new(given, "1 to 64 printable ASCII characters without spaces"))
}

/// The response to a request: converted now, or as it was given before.
pub(super) fn respond<T, M: Message + Default>(
    answer: Result<Answer<T>, EngineError>,
    convert: impl FnOnce(&T) -> M,
) -> Result<Response<M>, Status> {
    match answer.map_err(status)? {
        Answer::Fresh(result) => Ok(Response::new(convert(&result))),
        Answer::Repeated(bytes) => M::decode(bytes.as_slice()).map(Response::new).map_err(|error| {
            tracing::error!(%error, "a kept response can't be read: {error}");
            internal()
        }),
    }
}
