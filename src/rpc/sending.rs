//! `SendingService`.

use prost::Message as _;
use std::sync::Arc;
use tonic::{Request, Response, Status};

use super::convert::circuit::{circuit, parse_reset};
use super::convert::sending::{hold, parse_hold, parse_scope, sending_status};
use super::convert::suppression::{parse_filter, parse_suppression, suppression};
use super::error::status;
use super::page::Scope;
use super::request::{key, respond};
use super::violations::Violations;
use crate::auth::Caller;
use crate::domain::{Circuit, SendingHold, Suppression, text};
use crate::engine::{Engine, Once};
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::sending_service_server::SendingService;

/// Holds what is sent, and releases it.
#[derive(Debug, Clone)]
pub struct SendingHoldsService {
    engine: Arc<Engine>,
}

impl SendingHoldsService {
    /// The service over an engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl SendingService for SendingHoldsService {
    async fn set_sending_hold(
        &self,
        request: Request<pb::SetSendingHoldRequest>,
    ) -> Result<Response<pb::SetSendingHoldResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        let command = parse_hold(&mut violations, &request);
        let command = violations.finish(command)?;
        let convert = |set: &SendingHold| pb::SetSendingHoldResponse { hold: Some(hold(set)) };
        let encode = |set: &SendingHold| convert(set).encode_to_vec();
        let once = Once { key, encode: &encode };
        respond(self.engine.set_sending_hold(command, once).await, convert)
    }

    async fn release_sending_hold(
        &self,
        request: Request<pb::ReleaseSendingHoldRequest>,
    ) -> Result<Response<pb::ReleaseSendingHoldResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        let scope = parse_scope(&mut violations, request.scope.as_ref());
        let scope = violations.finish(scope)?;
        let convert = |ended: &SendingHold| pb::ReleaseSendingHoldResponse {
            hold: Some(hold(ended)),
        };
        let encode = |ended: &SendingHold| convert(ended).encode_to_vec();
        let once = Once { key, encode: &encode };
        respond(self.engine.release_sending_hold(&scope, once).await, convert)
    }

    async fn list_sending_holds(
        &self,
        request: Request<pb::ListSendingHoldsRequest>,
    ) -> Result<Response<pb::ListSendingHoldsResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let scope = Scope::new(&caller, "ListSendingHolds", &[]);
        let page = scope.parse(&mut violations, request.page_size, &request.page_token);
        let page = violations.finish(page)?;
        let found = self.engine.holds_in_force(&page).await.map_err(status)?;
        let (holds, next_page_token) = scope.page(page.size, &found, hold, |hold| hold.scope.to_string());
        Ok(Response::new(pb::ListSendingHoldsResponse { holds, next_page_token }))
    }

    async fn reset_circuit(
        &self,
        request: Request<pb::ResetCircuitRequest>,
    ) -> Result<Response<pb::ResetCircuitResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        let asked = parse_reset(&mut violations, &request);
        let (channel, reason) = violations.finish(asked)?;
        let convert = |closed: &Circuit| pb::ResetCircuitResponse {
            circuit: Some(circuit(closed)),
        };
        let encode = |closed: &Circuit| convert(closed).encode_to_vec();
        let once = Once { key, encode: &encode };
        respond(self.engine.reset_circuit(channel, &reason, once).await, convert)
    }

    async fn suppress_recipient(
        &self,
        request: Request<pb::SuppressRecipientRequest>,
    ) -> Result<Response<pb::SuppressRecipientResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        let command = parse_suppression(&mut violations, &request);
        let command = violations.finish(command)?;
        let convert = |stored: &Suppression| pb::SuppressRecipientResponse {
            suppression: Some(suppression(stored)),
        };
        let encode = |stored: &Suppression| convert(stored).encode_to_vec();
        let once = Once { key, encode: &encode };
        respond(self.engine.suppress_recipient(command, once).await, convert)
    }

    async fn list_suppressions(
        &self,
        request: Request<pb::ListSuppressionsRequest>,
    ) -> Result<Response<pb::ListSuppressionsResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let asked = parse_filter(&mut violations, &request);
        let scope = Scope::new(
            &caller,
            "ListSuppressions",
            &[&request.channel, &request.recipient, &request.include_lifted],
        );
        let page = scope.parse(&mut violations, request.page_size, &request.page_token);
        let (asked, page) = violations.finish(asked.zip(page))?;
        let found = self.engine.suppressions(asked, &page).await.map_err(status)?;
        let (suppressions, next_page_token) = scope.page(page.size, &found, suppression, |found| found.id);
        Ok(Response::new(pb::ListSuppressionsResponse {
            suppressions,
            next_page_token,
        }))
    }

    async fn lift_suppression(
        &self,
        request: Request<pb::LiftSuppressionRequest>,
    ) -> Result<Response<pb::LiftSuppressionResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        let id = violations.id("suppression_id", request.suppression_id);
        let reason = violations.check("reason", text::required_line(&request.reason, 500));
        let (id, reason) = violations.finish(id.zip(reason))?;
        let convert = |lifted: &Suppression| pb::LiftSuppressionResponse {
            suppression: Some(suppression(lifted)),
        };
        let encode = |lifted: &Suppression| convert(lifted).encode_to_vec();
        let once = Once { key, encode: &encode };
        respond(self.engine.lift_suppression(id, &reason, once).await, convert)
    }

    async fn get_sending_status(
        &self,
        _: Request<pb::GetSendingStatusRequest>,
    ) -> Result<Response<pb::GetSendingStatusResponse>, Status> {
        let found = self.engine.sending_status().await.map_err(status)?;
        Ok(Response::new(sending_status(&found)))
    }
}
