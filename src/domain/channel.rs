//! Channels, action types, and which go together.

use serde::{Deserialize, Serialize};

/// How an action reaches the customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// A mail.
    Email,
    /// A text message.
    Sms,
    /// A call.
    Phone,
    /// Nothing; time passes or a gate is checked.
    Wait,
    /// A task for a person, or a gate.
    Interaction,
}

impl Channel {
    /// All channels.
    pub const ALL: [Self; 5] = [Self::Email, Self::Sms, Self::Phone, Self::Wait, Self::Interaction];

    /// The word in the database, in logs and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sms => "sms",
            Self::Phone => "phone",
            Self::Wait => "wait",
            Self::Interaction => "interaction",
        }
    }

    /// What is promised about repeating a message of this channel.
    pub fn delivery_policy(self) -> DeliveryPolicy {
        match self {
            Self::Email | Self::Interaction | Self::Wait => DeliveryPolicy::AtLeastOnce,
            Self::Sms | Self::Phone => DeliveryPolicy::AtMostOnce,
        }
    }

    /// Whether it is a message to the customer, of which late ones are kept apart.
    pub fn is_message(self) -> bool {
        match self {
            Self::Email | Self::Sms | Self::Phone => true,
            Self::Wait | Self::Interaction => false,
        }
    }
}

/// What is promised when the outcome of an attempt is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryPolicy {
    /// It goes again, with the same id.
    AtLeastOnce,
    /// It never goes again.
    AtMostOnce,
}

/// What an action does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionType {
    /// Sends a mail.
    SendEmail,
    /// Sends a text message.
    SendSms,
    /// Makes a call.
    MakeCall,
    /// Completes at its hour.
    Wait,
    /// A gate for the rest of its day.
    CheckCondition,
    /// Creates a task for a person.
    CreateTask,
}

impl ActionType {
    /// All action types.
    pub const ALL: [Self; 6] = [
        Self::SendEmail,
        Self::SendSms,
        Self::MakeCall,
        Self::Wait,
        Self::CheckCondition,
        Self::CreateTask,
    ];

    /// The word in the database and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendEmail => "send_email",
            Self::SendSms => "send_sms",
            Self::MakeCall => "make_call",
            Self::Wait => "wait",
            Self::CheckCondition => "check_condition",
            Self::CreateTask => "create_task",
        }
    }

    /// Whether an action of this type may be on `channel`.
    pub fn goes_with(self, channel: Channel) -> bool {
        match self {
            Self::SendEmail => channel == Channel::Email,
            Self::SendSms => channel == Channel::Sms,
            Self::MakeCall => channel == Channel::Phone,
            Self::Wait => channel == Channel::Wait,
            Self::CheckCondition => matches!(channel, Channel::Wait | Channel::Interaction),
            Self::CreateTask => channel == Channel::Interaction,
        }
    }

    /// Whether something leaves the service; such an action has a campaign.
    pub fn sends(self) -> bool {
        match self {
            Self::SendEmail | Self::SendSms | Self::MakeCall | Self::CreateTask => true,
            Self::Wait | Self::CheckCondition => false,
        }
    }
}
