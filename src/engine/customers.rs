//! Keeping customers and what they did.

use chrono_tz::Tz;
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::definitions::concurrent;
use super::once::Begin;
use super::{ActionName, Answer, Assignment, Engine, EngineError, Once};
use crate::domain::{
    ActionId, Customer, CustomerId, EmailAddress, Engagement, PhoneNumber, ProgressId, Run, Stage, Timeline, Timestamp,
    check_attributes,
};
use crate::store::{CustomerFilter, Page, Txn};

/// A customer as the CRM gives it.
#[derive(Debug, Clone)]
pub struct Upsert {
    /// Which.
    pub id: CustomerId,
    /// Where it stood in the request.
    pub position: usize,
    /// What it is.
    pub fields: CustomerFields,
    /// Which fields are written when the customer is stored already.
    pub mask: BTreeSet<CustomerField>,
}

/// What the CRM knows of a customer.
#[derive(Clone)]
pub struct CustomerFields {
    /// The name.
    pub display_name: String,
    /// The mail address.
    pub email: Option<EmailAddress>,
    /// The phone number.
    pub phone: Option<PhoneNumber>,
    /// The zone.
    pub time_zone: Option<Tz>,
    /// The stage.
    pub pipeline_stage: Option<Stage>,
    /// The score.
    pub engagement_score: i32,
    /// Further facts. A null removes the key.
    pub attributes: Map<String, Value>,
    /// Whether it is a test customer.
    pub is_test: bool,
    /// When the CRM recorded this.
    pub source_time: Option<Timestamp>,
}

impl fmt::Debug for CustomerFields {
    /// Shows nothing of it, because logs are no place for who somebody is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomerFields(..)")
    }
}

/// A field of a customer that can be written alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CustomerField {
    /// `display_name`.
    DisplayName,
    /// `email`.
    Email,
    /// `phone`.
    Phone,
    /// `time_zone`.
    TimeZone,
    /// `pipeline_stage`.
    PipelineStage,
    /// `engagement_score`.
    EngagementScore,
    /// `attributes`.
    Attributes,
    /// `is_test`.
    IsTest,
}

impl CustomerField {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::DisplayName,
        Self::Email,
        Self::Phone,
        Self::TimeZone,
        Self::PipelineStage,
        Self::EngagementScore,
        Self::Attributes,
        Self::IsTest,
    ];

    /// The name in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DisplayName => "display_name",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::TimeZone => "time_zone",
            Self::PipelineStage => "pipeline_stage",
            Self::EngagementScore => "engagement_score",
            Self::Attributes => "attributes",
            Self::IsTest => "is_test",
        }
    }
}

/// What came of one customer of an upsert.
#[derive(Debug)]
pub struct UpsertOutcome {
    /// The customer as stored now.
    pub customer: Customer,
    /// Whether it was new.
    pub created: bool,
    /// Whether it was older than what is stored, and nothing was changed.
    pub ignored: bool,
    /// What became of its assignment.
    pub assignment: Option<Assignment>,
}

/// What came of one event.
#[derive(Debug)]
pub enum RecordOutcome {
    /// It is stored.
    Recorded,
    /// It was stored before.
    Duplicate,
    /// It is about something that is not there.
    Refused(EngineError),
}

impl Engine {
    /// Inserts or updates customers, each on its own. `assign`: start the stage's default timeline for those that are new.
    pub async fn upsert_customers(
        &self,
        upserts: Vec<Upsert>,
        assign: bool,
        once: Once<'_, Vec<Result<UpsertOutcome, EngineError>>>,
    ) -> Result<Answer<Vec<Result<UpsertOutcome, EngineError>>>, EngineError> {
        let operation = match self.begin_once(once).await? {
            Begin::Do(operation) => operation,
            Begin::Repeat(response) => return Ok(Answer::Repeated(response)),
        };
        let (txn, now) = (&operation.txn, operation.now);
        let stored = txn
            .customers_for_update(upserts.iter().map(|upsert| &upsert.id))
            .await?;
        let mut stored: HashMap<CustomerId, Customer> = stored
            .into_iter()
            .map(|customer| (customer.id.clone(), customer))
            .collect();
        let mut moved: Vec<CustomerId> = Vec::new();
        let mut outcomes = Vec::with_capacity(upserts.len());
        for upsert in upserts {
            let before = stored.remove(&upsert.id);
            let zone_before = before
                .as_ref()
                .map(|customer| customer.zone(self.settings.default_zone));
            let outcome = merge(before, upsert, now);
            if let Ok(outcome) = &outcome {
                let zone = outcome.customer.zone(self.settings.default_zone);
                if zone_before.is_some_and(|before| before != zone) {
                    moved.push(outcome.customer.id.clone());
                }
            }
            outcomes.push(outcome);
        }
        let mut changed: Vec<&UpsertOutcome> = outcomes.iter().flatten().filter(|outcome| !outcome.ignored).collect();
        changed.sort_by(|a, b| a.customer.id.cmp(&b.customer.id));
        let of_kind = |created: bool| -> Vec<&Customer> {
            changed
                .iter()
                .filter(|outcome| outcome.created == created)
                .map(|outcome| &outcome.customer)
                .collect()
        };
        let rows = |created| -> Vec<_> {
            let customers = of_kind(created).into_iter();
            customers.map(|customer| self.customer_row(customer)).collect()
        };
        txn.insert_customers(&rows(true)).await.map_err(concurrent)?;
        txn.update_customers(&rows(false)).await?;
        self.move_runs(txn, &moved, &of_kind(false), now).await?;
        if assign {
            for outcome in outcomes.iter_mut().flatten().filter(|outcome| outcome.created) {
                if let Some(stage) = outcome.customer.pipeline_stage.clone() {
                    outcome.assignment = Some(self.start_assigned(txn, &outcome.customer, &stage, now).await?);
                }
            }
        }
        operation.finish(outcomes).await
    }

    /// A customer.
    pub async fn customer(&self, id: &CustomerId) -> Result<Customer, EngineError> {
        self.store
            .reader()
            .customer(id)
            .await?
            .ok_or_else(|| EngineError::CustomerNotFound(id.clone()))
    }

    /// A page of customers, by id.
    pub async fn customers(&self, filter: &CustomerFilter, page: &Page<String>) -> Result<Vec<Customer>, EngineError> {
        Ok(self.store.reader().customers(filter, page).await?)
    }

    /// Stores events, each on its own.
    pub async fn record_engagements(&self, events: Vec<Engagement>) -> Result<Vec<RecordOutcome>, EngineError> {
        let txn = self.store.begin().await?;
        let ids: BTreeSet<&CustomerId> = events.iter().map(|event| &event.customer_id).collect();
        let known = txn.customers_for_share(ids).await?;
        let timelines = self.timelines_about(&txn, &events).await?;
        let refuse = |event: &Engagement| {
            if !known.contains(event.customer_id.as_str()) {
                return Some(EngineError::CustomerNotFound(event.customer_id.clone()));
            }
            let (run, action) = event.about?;
            unknown_action(timelines.get(&(event.customer_id.to_string(), run)), event, run, action)
        };
        let refused: Vec<Option<EngineError>> = events.iter().map(refuse).collect();
        let mut seen = HashSet::new();
        let key = |event: &Engagement| (event.customer_id.as_str().to_owned(), event.event_id.clone());
        let mut fresh: Vec<Engagement> = events
            .iter()
            .zip(&refused)
            .filter(|(event, refused)| refused.is_none() && seen.insert(key(event)))
            .map(|(event, _)| event.clone())
            .collect();
        // In one order for all, so that batches with the same events wait for each other and don't lock each other out.
        fresh.sort_by(|a, b| (&a.customer_id, &a.event_id).cmp(&(&b.customer_id, &b.event_id)));
        let mut inserted = txn.insert_engagements(&fresh).await?;
        txn.commit().await?;
        let outcomes = events.iter().zip(refused).map(|(event, refused)| match refused {
            Some(error) => RecordOutcome::Refused(error),
            None if inserted.remove(&key(event)) => RecordOutcome::Recorded,
            None => RecordOutcome::Duplicate,
        });
        Ok(outcomes.collect())
    }

    /// The timelines of the runs that events are about, by customer and run.
    async fn timelines_about(
        &self,
        txn: &Txn,
        events: &[Engagement],
    ) -> Result<HashMap<(String, ProgressId), Option<Arc<Timeline>>>, EngineError> {
        let about = |event: &Engagement| Some((event.customer_id.clone(), event.about?.0));
        let asked: BTreeSet<(CustomerId, ProgressId)> = events.iter().filter_map(about).collect();
        let asked = asked.iter().map(|(customer, run)| (customer, *run));
        let of_runs = txn.timelines_of_runs(asked).await?;
        let mut timelines = HashMap::new();
        for (id, revision) in of_runs.values().copied().collect::<BTreeSet<_>>() {
            timelines.insert(id, self.held_timeline(txn, id, revision).await?);
        }
        let of_run = |(run, (id, _))| (run, timelines.get(&id).cloned().flatten());
        Ok(of_runs.into_iter().map(of_run).collect())
    }

    /// A page of a customer's events, the newest first.
    pub async fn engagements(
        &self,
        id: &CustomerId,
        page: &Page<(Timestamp, String)>,
    ) -> Result<Vec<Engagement>, EngineError> {
        self.customer(id).await?;
        Ok(self.store.reader().engagements(id, page).await?)
    }

    /// Moves the live runs of customers whose zone changed.
    async fn move_runs(
        &self,
        txn: &Txn,
        moved: &[CustomerId],
        customers: &[&Customer],
        now: Timestamp,
    ) -> Result<(), EngineError> {
        for run in txn.live_runs_for_update(moved).await? {
            let run = match run {
                Ok(run) => run,
                // It must not keep a thousand other customers from being stored.
                Err(broken) => {
                    tracing::error!(
                        progress_id = broken.id.0,
                        customer_id = broken.customer_id,
                        "{broken}; it stays in its zone"
                    );
                    continue;
                }
            };
            let customer = customers.iter().find(|customer| customer.id == run.customer_id);
            if let Some(zone) = customer.map(|customer| customer.zone(self.settings.default_zone)) {
                let run: Run = run.move_to(zone, now);
                txn.update_run(&run).await?;
            }
        }
        Ok(())
    }
}

/// Why an event can't be about an action of a run, whose timeline this is, if both are there.
fn unknown_action(
    found: Option<&Option<Arc<Timeline>>>,
    event: &Engagement,
    run: ProgressId,
    action: ActionId,
) -> Option<EngineError> {
    let customer = event.customer_id.clone();
    let Some(timeline) = found else {
        return Some(EngineError::RunNotFound { customer, run });
    };
    let is_known = timeline
        .as_ref()
        .is_some_and(|timeline| timeline.action(action).is_some());
    (!is_known).then(|| EngineError::ActionNotFound {
        customer,
        run,
        action: ActionName::Id(action),
    })
}

/// What is to be stored for a customer.
fn merge(before: Option<Customer>, upsert: Upsert, now: Timestamp) -> Result<UpsertOutcome, EngineError> {
    let Upsert {
        id,
        position,
        fields,
        mask,
    } = upsert;
    let Some(mut customer) = before else {
        let CustomerFields {
            display_name,
            email,
            phone,
            time_zone,
            pipeline_stage,
            engagement_score,
            attributes,
            is_test,
            source_time,
        } = fields;
        let stage_visit = i64::from(pipeline_stage.is_some());
        let attributes = attributes.into_iter().filter(|(_, value)| !value.is_null()).collect();
        let customer = Customer {
            id,
            display_name,
            email,
            phone,
            time_zone,
            pipeline_stage,
            stage_visit,
            engagement_score,
            attributes,
            is_test,
            source_time,
            created_at: now,
            updated_at: now,
        };
        return Ok(UpsertOutcome {
            customer,
            created: true,
            ignored: false,
            assignment: None,
        });
    };
    if fields
        .source_time
        .zip(customer.source_time)
        .is_some_and(|(given, stored)| given < stored)
    {
        return Ok(UpsertOutcome {
            customer,
            created: false,
            ignored: true,
            assignment: None,
        });
    }
    if mask.contains(&CustomerField::PipelineStage) && fields.pipeline_stage != customer.pipeline_stage {
        let (customer, stored) = (customer.id, customer.pipeline_stage);
        return Err(EngineError::StageHasItsOwnCall {
            customer,
            stored,
            given: fields.pipeline_stage,
        });
    }
    let writes_attributes = mask.contains(&CustomerField::Attributes);
    for field in mask {
        match field {
            CustomerField::DisplayName => customer.display_name.clone_from(&fields.display_name),
            CustomerField::Email => customer.email.clone_from(&fields.email),
            CustomerField::Phone => customer.phone.clone_from(&fields.phone),
            CustomerField::TimeZone => customer.time_zone = fields.time_zone,
            CustomerField::PipelineStage => {}
            CustomerField::EngagementScore => customer.engagement_score = fields.engagement_score,
            CustomerField::IsTest => customer.is_test = fields.is_test,
            CustomerField::Attributes => {
                for (key, value) in &fields.attributes {
                    if value.is_null() {
                        customer.attributes.remove(key);
                    } else {
                        customer.attributes.insert(key.clone(), value.clone());
                    }
                }
            }
        }
    }
    if writes_attributes {
        check_attributes(&customer.attributes)
            .map_err(|invalid| EngineError::AttributesInvalid { position, invalid })?;
    }
    customer.source_time = fields.source_time.or(customer.source_time);
    customer.updated_at = now;
    Ok(UpsertOutcome {
        customer,
        created: false,
        ignored: false,
        assignment: None,
    })
}
