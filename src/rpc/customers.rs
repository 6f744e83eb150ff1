//! `CustomerService`.

use chrono_tz::Tz;
use prost::Message as _;
use std::collections::HashMap;
use std::sync::Arc;
use tonic::{Request, Response, Status};

use super::convert::customer::{
    Mask, assignment, customer, engagement, erased, parse_engagement, parse_mask, parse_upsert,
};
use super::convert::progress::ids;
use super::error::status;
use super::page::Scope;
use super::request::{Identified as _, key, respond};
use super::violations::Violations;
use crate::auth::Caller;
use crate::domain::{CustomerId, Engagement, Stage, Timestamp, text};
use crate::engine::{
    Engine, EngineError, EraseCustomer, Erasure, Once, RecordOutcome, StageChange, Upsert, UpsertOutcome,
};
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::customer_service_server::CustomerService;
use crate::proto::google;
use crate::store::CustomerFilter;

const MAX_ITEMS: usize = 1000;

/// Learns of customers and of what they do.
#[derive(Debug, Clone)]
pub struct CustomersService {
    engine: Arc<Engine>,
}

/// The outcomes of an upsert, in the order of its good items.
type Outcomes = Vec<Result<UpsertOutcome, EngineError>>;

impl CustomersService {
    /// The service over an engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl CustomerService for CustomersService {
    async fn upsert_customers(
        &self,
        request: Request<pb::UpsertCustomersRequest>,
    ) -> Result<Response<pb::UpsertCustomersResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        check_count(&mut violations, "customers", request.customers.len());
        check_distinct(&mut violations, &request.customers);
        let mask = parse_mask(&mut violations, request.update_mask.as_ref());
        let mask = violations.finish(mask)?;
        // Times that come with customers are compared with this server's.
        self.engine.clock_agrees().map_err(status)?;
        let (upserts, refused) = parse_items(&request.customers, &mask, self.engine.clock().now());
        let zone = self.engine.default_zone();
        let convert = |outcomes: &Outcomes| pb::UpsertCustomersResponse {
            results: results(&refused, outcomes, zone),
        };
        let encode = |outcomes: &Outcomes| convert(outcomes).encode_to_vec();
        let once = Once { key, encode: &encode };
        respond(
            self.engine
                .upsert_customers(upserts, request.assign_timeline, once)
                .await,
            convert,
        )
    }

    async fn get_customer(
        &self,
        request: Request<pb::GetCustomerRequest>,
    ) -> Result<Response<pb::GetCustomerResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::default();
        let id = violations.check("customer_id", CustomerId::parse(&request.customer_id));
        let found = self.engine.customer(&violations.finish(id)?).await.map_err(status)?;
        Ok(Response::new(pb::GetCustomerResponse {
            customer: Some(customer(&found, self.engine.default_zone())),
        }))
    }

    async fn list_customers(
        &self,
        request: Request<pb::ListCustomersRequest>,
    ) -> Result<Response<pb::ListCustomersResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let pipeline_stage = violations.optional("pipeline_stage", &request.pipeline_stage, Stage::parse);
        let scope = Scope::new(&caller, "ListCustomers", &[&request.pipeline_stage]);
        let page = scope.parse(&mut violations, request.page_size, &request.page_token);
        let page = violations.finish(page)?;
        let customers = self
            .engine
            .customers(&CustomerFilter { pipeline_stage }, &page)
            .await
            .map_err(status)?;
        let zone = self.engine.default_zone();
        let (customers, next_page_token) = scope.page(
            page.size,
            &customers,
            |found| customer(found, zone),
            |customer| customer.id.as_str().to_owned(),
        );
        Ok(Response::new(pb::ListCustomersResponse {
            customers,
            next_page_token,
        }))
    }

    async fn change_pipeline_stage(
        &self,
        request: Request<pb::ChangePipelineStageRequest>,
    ) -> Result<Response<pb::ChangePipelineStageResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let key = key(&mut violations, &caller, &request);
        let id = violations.check("customer_id", CustomerId::parse(&request.customer_id));
        let stage = violations.check("pipeline_stage", Stage::parse(&request.pipeline_stage));
        let (id, stage) = violations.finish(id.zip(stage))?;
        let zone = self.engine.default_zone();
        let convert = |change: &StageChange| pb::ChangePipelineStageResponse {
            customer: Some(customer(&change.customer, zone)),
            previous_pipeline_stage: change.previous.as_ref().map(ToString::to_string).unwrap_or_default(),
            assignment: Some(assignment(&change.assignment)),
            stopped_progress_ids: ids(&change.stopped),
        };
        let encode = |change: &StageChange| convert(change).encode_to_vec();
        respond(
            self.engine
                .change_stage(&id, stage, Once { key, encode: &encode })
                .await,
            convert,
        )
    }

    async fn erase_customer(
        &self,
        request: Request<pb::EraseCustomerRequest>,
    ) -> Result<Response<pb::EraseCustomerResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        // Kept under no customer, as all that is kept under this one goes.
        let key = key(&mut violations, &caller, &request);
        let customer = violations.check("customer_id", CustomerId::parse(&request.customer_id));
        let reason = violations.check("reason", text::required_line(&request.reason, 500));
        let (customer, reason) = violations.finish(customer.zip(reason))?;
        let redact = |method: &str, response: &[u8]| redacted(method, response, &customer);
        let command = EraseCustomer {
            customer: customer.clone(),
            reason,
            suppress: !request.without_suppression,
        };
        let encode = |erasure: &Erasure| erased(erasure).encode_to_vec();
        let once = Once { key, encode: &encode };
        respond(self.engine.erase_customer(command, &redact, once).await, erased)
    }

    async fn record_engagements(
        &self,
        request: Request<pb::RecordEngagementsRequest>,
    ) -> Result<Response<pb::RecordEngagementsResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::default();
        check_count(&mut violations, "engagements", request.engagements.len());
        violations.finish(Some(()))?;
        self.engine.clock_agrees().map_err(status)?;
        let now = self.engine.clock().now();
        let (mut events, mut results): (Vec<(usize, Engagement)>, Vec<pb::RecordEngagementsResult>) =
            (Vec::new(), Vec::new());
        for (at, given) in request.engagements.iter().enumerate() {
            let mut violations = Violations::default();
            let parsed = parse_engagement(&mut violations, &format!("engagements[{at}]"), given, now);
            let error = match violations.finish(parsed) {
                Ok(event) => {
                    events.push((at, event));
                    None
                }
                Err(status) => Some(item_status(&status)),
            };
            results.push(pb::RecordEngagementsResult {
                error,
                duplicate: false,
            });
        }
        let (positions, events): (Vec<usize>, Vec<Engagement>) = events.into_iter().unzip();
        let outcomes = self.engine.record_engagements(events).await.map_err(status)?;
        for (at, outcome) in positions.into_iter().zip(outcomes) {
            results[at] = match outcome {
                RecordOutcome::Recorded => pb::RecordEngagementsResult::default(),
                RecordOutcome::Duplicate => pb::RecordEngagementsResult {
                    error: None,
                    duplicate: true,
                },
                RecordOutcome::Refused(error) => pb::RecordEngagementsResult {
                    error: Some(item_status(&status(error))),
                    duplicate: false,
                },
            };
        }
        Ok(Response::new(pb::RecordEngagementsResponse { results }))
    }

    async fn list_engagements(
        &self,
        request: Request<pb::ListEngagementsRequest>,
    ) -> Result<Response<pb::ListEngagementsResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let id = violations.check("customer_id", CustomerId::parse(&request.customer_id));
        let scope = Scope::new(&caller, "ListEngagements", &[&request.customer_id]);
        let page = scope.parse::<(Timestamp, String)>(&mut violations, request.page_size, &request.page_token);
        let (id, page) = violations.finish(id.zip(page))?;
        let events = self.engine.engagements(&id, &page).await.map_err(status)?;
        let (engagements, next_page_token) = scope.page(page.size, &events, engagement, |event| {
            (event.occurred_at, event.event_id.clone())
        });
        Ok(Response::new(pb::ListEngagementsResponse {
            engagements,
            next_page_token,
        }))
    }
}

/// Checks how many items a batch has.
pub(super) fn check_count(violations: &mut Violations, path: &str, count: usize) {
    if !(1..=MAX_ITEMS).contains(&count) {
        violations.add(path, format!("must be 1 to {MAX_ITEMS}, but are {count}"));
    }
}

fn check_distinct(violations: &mut Violations, customers: &[pb::Customer]) {
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (at, customer) in customers.iter().enumerate() {
        if let Some(before) = first.insert(&customer.customer_id, at) {
            violations.add(
                format!("customers[{at}].customer_id"),
                format!("must be there once, but is that of customers[{before}] as well"),
            );
        }
    }
}

/// The good items, and for each item the error that refuses it, if any.
fn parse_items(customers: &[pb::Customer], mask: &Mask, now: Timestamp) -> (Vec<Upsert>, Vec<Option<Status>>) {
    let mut upserts = Vec::with_capacity(customers.len());
    let refused = customers.iter().enumerate().map(|(at, given)| {
        let mut violations = Violations::default();
        let parsed = parse_upsert(&mut violations, at, given, mask, now);
        violations.finish(parsed).map(|upsert| upserts.push(upsert)).err()
    });
    let refused = refused.collect();
    (upserts, refused)
}

/// The results of all items: those that were refused, and the outcomes of the others in between.
fn results(refused: &[Option<Status>], outcomes: &Outcomes, zone: Tz) -> Vec<pb::UpsertCustomersResult> {
    use pb::upsert_customers_result::Result as Item;
    let mut outcomes = outcomes.iter();
    let error = |status: &Status| pb::UpsertCustomersResult {
        result: Some(Item::Error(item_status(status))),
        ..Default::default()
    };
    let results = refused.iter().map(
        |refused| match (refused, refused.is_none().then(|| outcomes.next()).flatten()) {
            (Some(status), _) => error(status),
            (None, Some(Ok(outcome))) => pb::UpsertCustomersResult {
                result: Some(Item::Customer(customer(&outcome.customer, zone))),
                created: outcome.created,
                ignored_as_older: outcome.ignored,
                assignment: outcome.assignment.as_ref().map(assignment),
            },
            (None, Some(Err(refused))) => error(&super::error::status_of(refused)),
            (None, None) => pb::UpsertCustomersResult::default(),
        },
    );
    results.collect()
}

/// The answer to a request about several customers, without one that was erased since. Its item says that there is no such customer.
fn redacted(method: &str, response: &[u8], erased: &CustomerId) -> Vec<u8> {
    use pb::upsert_customers_result::Result as Item;
    let gone = item_status(&status(EngineError::CustomerNotFound(erased.clone())));
    // No other has more of a customer than its id in a message.
    if method != pb::UpsertCustomersRequest::METHOD {
        return response.to_vec();
    }
    let mut response = pb::UpsertCustomersResponse::decode(response).unwrap_or_default();
    for result in &mut response.results {
        if matches!(&result.result, Some(Item::Customer(found)) if found.customer_id == erased.as_str()) {
            *result = pb::UpsertCustomersResult {
                result: Some(Item::Error(gone.clone())),
                ..Default::default()
            };
        }
    }
    response.encode_to_vec()
}

/// The status of an item of a batch, with its details.
pub(super) fn item_status(status: &Status) -> google::rpc::Status {
    // The details of a tonic status are an encoded google.rpc.Status themselves.
    google::rpc::Status::decode(status.details()).unwrap_or_else(|_| google::rpc::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}
