//! What texts are filled in with.

use chrono_tz::Tz;
use minijinja::value::{Enumerator, Object, Serde, Value};
use std::fmt;
use std::sync::Arc;

use super::VARIABLES;
use crate::channels::Mailbox;
use crate::domain::{Customer, EmailAddress, PhoneNumber, Stage, Timeline};

/// What texts are filled in with. A template takes out of it what it names, so a text pays for its own variables and not for all.
#[derive(Clone)]
pub struct Values {
    /// Where the customer is.
    pub zone: Tz,
    /// What texts see of the timeline.
    pub timeline: TimelineValues,
    /// The day of the timeline, from 1.
    pub day: i32,
    /// Who is written to.
    pub customer: Arc<Customer>,
    /// Who it is from.
    pub sender: Mailbox,
    /// The sender's postal address.
    pub postal_address: Option<Arc<str>>,
    /// Where the customer unsubscribes.
    pub unsubscribe: Option<String>,
}

impl fmt::Debug for Values {
    /// Shows nothing of it, because logs are no place for who is written to.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Values(..)")
    }
}

/// What texts see of a timeline.
#[derive(Debug, Clone)]
pub struct TimelineValues {
    /// Its name.
    pub name: String,
    /// Its slug.
    pub slug: String,
    /// How many days it has.
    pub duration_days: i32,
}

impl TimelineValues {
    /// Those of a timeline.
    pub fn of(timeline: &Timeline) -> Self {
        Self {
            name: timeline.definition.name.clone(),
            slug: timeline.definition.slug.as_str().to_owned(),
            duration_days: timeline.definition.duration_days,
        }
    }
}

/// [`Values`] as templates see them. One serves all texts of a campaign.
#[derive(Debug, Clone)]
pub struct Context(pub(super) Value);

impl From<Values> for Context {
    fn from(values: Values) -> Self {
        Self(Value::from_object(values))
    }
}

impl Context {
    /// Whether a variable has a value.
    pub(super) fn has(&self, path: &str) -> bool {
        let found = path
            .split('.')
            .try_fold(self.0.clone(), |object, key| object.get_attr(key));
        found.is_ok_and(|found| !found.is_undefined() && !found.is_none())
    }
}

/// An object within [`Values`], such as `customer`.
#[derive(Debug)]
struct Section {
    values: Arc<Values>,
    name: &'static str,
}

impl Values {
    /// The value of a variable; none: there is no such variable. `customer.attributes` has more within.
    fn get(&self, variable: &str) -> Option<Value> {
        let customer = &self.customer;
        let text = |text: Option<&str>| Value::from(text.unwrap_or_default());
        Some(match variable {
            "customer.attributes" => Value::from(Serde(&customer.attributes)),
            "customer.email" => text(customer.email.as_ref().map(EmailAddress::as_str)),
            "customer.engagement_score" => customer.engagement_score.into(),
            "customer.id" => customer.id.as_str().into(),
            "customer.name" => customer.display_name.as_str().into(),
            "customer.phone" => text(customer.phone.as_ref().map(PhoneNumber::as_str)),
            "customer.pipeline_stage" => text(customer.pipeline_stage.as_ref().map(Stage::as_str)),
            "customer.time_zone" => self.zone.name().into(),
            "day" => self.day.into(),
            "links.unsubscribe" => self.unsubscribe.as_deref().into(),
            "sender.address" => self.sender.address().into(),
            "sender.name" => text(self.sender.name()),
            "sender.postal_address" => self.postal_address.as_deref().into(),
            "timeline.duration_days" => self.timeline.duration_days.into(),
            "timeline.name" => self.timeline.name.as_str().into(),
            "timeline.slug" => self.timeline.slug.as_str().into(),
            _ => return None,
        })
    }
}

/// The names that stand first in variables, each once.
fn sections() -> Vec<&'static str> {
    let mut names: Vec<&str> = VARIABLES.iter().filter_map(|path| path.split('.').next()).collect();
    names.dedup();
    names
}

/// What follows a name in variables.
fn within(section: &str) -> impl Iterator<Item = &'static str> {
    let rest = move |path: &&'static str| path.strip_prefix(section)?.strip_prefix('.');
    VARIABLES.iter().filter_map(rest)
}

impl Object for Values {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        if let Some(value) = self.get(key) {
            return Some(value);
        }
        let name = VARIABLES
            .iter()
            .find_map(|path| path.split_once('.').filter(|(name, _)| *name == key))?
            .0;
        Some(Value::from_object(Section {
            values: Arc::clone(self),
            name,
        }))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(sections().into_iter().map(Value::from).collect())
    }
}

impl Object for Section {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let path = VARIABLES.iter().find(|path| {
            let rest = path.strip_prefix(self.name).and_then(|rest| rest.strip_prefix('.'));
            rest == Some(key)
        })?;
        self.values.get(path)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(within(self.name).map(Value::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::CustomerId;
    use chrono::DateTime;

    fn context() -> Context {
        let customer = Customer {
            id: CustomerId::parse("C1").expect("valid"),
            display_name: "Zoë".to_owned(),
            email: None,
            phone: None,
            time_zone: None,
            pipeline_stage: None,
            stage_visit: 0,
            engagement_score: 7,
            attributes: serde_json::json!({"plan": {"name": "gold"}})
                .as_object()
                .cloned()
                .expect("an object"),
            is_test: false,
            source_time: None,
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
        };
        let timeline = TimelineValues {
            name: "Spring".to_owned(),
            slug: "spring".to_owned(),
            duration_days: 30,
        };
        Context::from(Values {
            zone: Tz::UTC,
            timeline,
            day: 3,
            customer: Arc::new(customer),
            sender: Mailbox::parse("Shop <shop@example.com>").expect("valid"),
            postal_address: None,
            unsubscribe: None,
        })
    }

    #[test]
    fn every_variable_is_there_and_nothing_else() {
        let context = context();
        for path in VARIABLES {
            let expected = !["links.unsubscribe", "sender.postal_address"].contains(&path);
            assert_eq!(context.has(path), expected, "{path}");
        }
        assert!(context.has("customer.attributes.plan.name"));
        for path in [
            "customers",
            "customer.nmae",
            "customer.attributes.x",
            "day.x",
            "attributes",
        ] {
            assert!(!context.has(path), "{path}");
        }
    }

    #[test]
    fn objects_show_what_they_have() {
        let mut found: Vec<String> = Vec::new();
        for section in context().0.try_iter().expect("names") {
            let value = context().0.get_item(&section).expect("a value");
            match value.try_iter() {
                Ok(names) => found.extend(names.map(|name| format!("{section}.{name}"))),
                Err(_) => found.push(section.to_string()),
            }
        }
        assert_eq!(found, VARIABLES);
    }
}
