//! Customers and what they did.

use chrono_tz::Tz;
use serde_json::{Map, Value};
use std::fmt;

use super::{ActionId, CustomerId, EmailAddress, Invalid, PhoneNumber, ProgressId, Stage, Timestamp};

/// The most attributes that a customer may have.
const MAX_ATTRIBUTES: usize = 100;

/// The most bytes of a customer's attributes, as JSON.
const MAX_ATTRIBUTES_BYTES: usize = 16 * 1024;

/// A stored customer.
#[derive(Clone, PartialEq)]
pub struct Customer {
    /// The CRM's id.
    pub id: CustomerId,
    /// The name, as templates see it; may be empty.
    pub display_name: String,
    /// The mail address.
    pub email: Option<EmailAddress>,
    /// The phone number.
    pub phone: Option<PhoneNumber>,
    /// The customer's own zone; none: the default holds.
    pub time_zone: Option<Tz>,
    /// The stage of the sales pipeline.
    pub pipeline_stage: Option<Stage>,
    /// Counts the visits to stages; a change of stage begins another.
    pub stage_visit: i64,
    /// What conditions see as the score.
    pub engagement_score: i32,
    /// Further facts for templates and conditions.
    pub attributes: Map<String, Value>,
    /// Whether its messages go to the test outbox, and never to a provider.
    pub is_test: bool,
    /// When the CRM recorded this state.
    pub source_time: Option<Timestamp>,
    /// When it was first stored.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl fmt::Debug for Customer {
    /// Shows the id and no more of who it is, because logs are no place for names and what else is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Customer").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Checks that attributes are no more than a customer may have.
pub fn check_attributes(attributes: &Map<String, Value>) -> Result<(), Invalid> {
    if attributes.len() > MAX_ATTRIBUTES {
        return Err(Invalid::new(
            format!("{} keys", attributes.len()),
            format!("at most {MAX_ATTRIBUTES} keys"),
        ));
    }
    let size = serde_json::to_string(attributes).map_or(usize::MAX, |json| json.len());
    if size > MAX_ATTRIBUTES_BYTES {
        return Err(Invalid::new(
            format!("{size} bytes"),
            format!("at most {MAX_ATTRIBUTES_BYTES} bytes as JSON"),
        ));
    }
    Ok(())
}

/// A zone, and where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone {
    /// The zone.
    pub tz: Tz,
    /// True: the customer has none, so it is the configured default.
    pub is_default: bool,
}

impl Zone {
    /// The zone of a customer that has this one, or none.
    pub fn of_customer(given: Option<Tz>, default: Tz) -> Self {
        Self {
            tz: given.unwrap_or(default),
            is_default: given.is_none(),
        }
    }
}

impl Customer {
    /// The zone in which the customer is served.
    pub fn zone(&self, default: Tz) -> Zone {
        Zone::of_customer(self.time_zone, default)
    }
}

/// Something that a customer did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engagement {
    /// Who did it.
    pub customer_id: CustomerId,
    /// The event's own id, unique for the customer.
    pub event_id: String,
    /// What happened.
    pub kind: EngagementKind,
    /// When.
    pub occurred_at: Timestamp,
    /// When we learnt of it.
    pub received_at: Timestamp,
    /// About which action of which run.
    pub about: Option<(ProgressId, ActionId)>,
}

/// What a customer did.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum EngagementKind {
    /// A mail was opened.
    EmailOpened,
    /// A link in a mail was followed.
    EmailClicked,
    /// A message was answered.
    Replied,
    /// Something else, by its name.
    Custom(String),
}

impl EngagementKind {
    /// The name of a custom event.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Custom(name) => Some(name),
            Self::EmailOpened | Self::EmailClicked | Self::Replied => None,
        }
    }

    /// The word in the database; a custom event's name is apart.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::EmailOpened => "email_opened",
            Self::EmailClicked => "email_clicked",
            Self::Replied => "replied",
            Self::Custom(_) => "custom",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    #[test]
    fn debugging_shows_the_id_alone() {
        let customer = Customer {
            id: CustomerId::parse("c-1").expect("valid"),
            display_name: "Anna".to_owned(),
            email: EmailAddress::parse("anna@example.com").ok(),
            phone: PhoneNumber::parse("+14155552671").ok(),
            time_zone: None,
            pipeline_stage: None,
            stage_visit: 1,
            engagement_score: 0,
            attributes: Map::from_iter([("plan".to_owned(), Value::from("gold"))]),
            is_test: false,
            source_time: None,
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
        };
        assert_eq!(format!("{customer:?}"), "Customer { id: CustomerId(\"c-1\"), .. }");
        assert_eq!(format!("{:?}", customer.email), "Some(EmailAddress(***@example.com))");
        assert_eq!(format!("{:?}", customer.phone), "Some(PhoneNumber(***71))");
    }
}
