//! Who must not be written to, and why.
//!
//! A suppression is on an address, not on a customer: whoever has that address is not written to by that channel. The address itself
//! is not kept, but a hash of it that nobody can undo who does not have the deployment's secret.

use std::collections::BTreeMap;

use super::{CampaignKind, Channel, EmailAddress, Invalid, PhoneNumber, Timestamp};

/// An address that is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A mail address.
    Email(EmailAddress),
    /// A phone number.
    Phone(PhoneNumber),
}

impl Address {
    /// An address of a channel.
    pub fn parse(channel: Channel, given: &str) -> Result<Self, Invalid> {
        match channel {
            Channel::Email => EmailAddress::parse(given).map(Self::Email),
            Channel::Sms | Channel::Phone | Channel::Wait | Channel::Interaction => {
                PhoneNumber::parse(given).map(Self::Phone)
            }
        }
    }

    /// What addresses of this kind are called where they are hashed.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Email(_) => "email",
            Self::Phone(_) => "phone",
        }
    }

    /// The form in which it is hashed. Mail addresses that differ in case only are one: to write to neither is the safe side.
    pub fn normalised(&self) -> String {
        match self {
            Self::Email(address) => address.as_str().to_lowercase(),
            Self::Phone(number) => number.as_str().to_owned(),
        }
    }
}

/// What a suppression stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SuppressionScope {
    /// What is marketing.
    Marketing,
    /// Everything.
    All,
}

impl SuppressionScope {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Marketing => "marketing",
            Self::All => "all",
        }
    }

    /// The scope of a word in the database.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Marketing, Self::All]
            .into_iter()
            .find(|scope| scope.as_str() == word)
    }

    /// Whether it stops messages of this kind.
    pub fn stops(self, kind: CampaignKind) -> bool {
        match (self, kind) {
            (Self::Marketing, CampaignKind::Transactional) => false,
            (Self::Marketing, CampaignKind::Marketing) | (Self::All, _) => true,
        }
    }
}

/// Why an address is suppressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SuppressionReason {
    /// The recipient followed the link to unsubscribe.
    Unsubscribed,
    /// The recipient answered with a word such as STOP.
    StopKeyword,
    /// There is no such address.
    HardBounce,
    /// It could not be delivered too often.
    SoftBounces,
    /// The recipient complained.
    Complaint,
    /// The provider refuses to send there.
    Provider,
    /// Somebody said so.
    Manual,
    /// The customer was erased.
    Erased,
}

impl SuppressionReason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Unsubscribed,
        Self::StopKeyword,
        Self::HardBounce,
        Self::SoftBounces,
        Self::Complaint,
        Self::Provider,
        Self::Manual,
        Self::Erased,
    ];

    /// Why nothing goes by a channel any more after its provider has refused to deliver there ever again.
    pub fn of_refusal(channel: Channel) -> Self {
        match channel {
            Channel::Email => Self::HardBounce,
            Channel::Sms | Channel::Phone | Channel::Wait | Channel::Interaction => Self::Provider,
        }
    }

    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unsubscribed => "unsubscribed",
            Self::StopKeyword => "stop_keyword",
            Self::HardBounce => "hard_bounce",
            Self::SoftBounces => "soft_bounces",
            Self::Complaint => "complaint",
            Self::Provider => "provider",
            Self::Manual => "manual",
            Self::Erased => "erased",
        }
    }

    /// The reason of a word in the database.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// A suppression that is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSuppression {
    /// By which channel nothing goes: mail, SMS or calls.
    pub channel: Channel,
    /// The hash of the address.
    pub address_hash: String,
    /// What is stopped.
    pub scope: SuppressionScope,
    /// Why.
    pub reason: SuppressionReason,
    /// More about it, for people, without anything personal; may be empty.
    pub detail: String,
}

/// A suppression that is in force, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    /// Which.
    pub id: i64,
    /// What it is.
    pub of: NewSuppression,
    /// Since when it is in force.
    pub created_at: Timestamp,
    /// When it was lifted, and why. None: it is in force.
    pub lifted: Option<(Timestamp, String)>,
}

/// By which channels a customer must not be written to, and why.
pub type Suppressed = BTreeMap<Channel, (SuppressionScope, SuppressionReason)>;
