//! Channels, as they are named at a terminal.

use clap::ValueEnum;

use super::words::word;
use crate::proto::campaign::v1 as pb;

/// A channel that sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SendingChannel {
    /// Mails.
    Email,
    /// Text messages.
    Sms,
    /// Calls.
    Phone,
    /// Tasks for people.
    Interaction,
}

impl SendingChannel {
    /// The channel of the contract.
    pub(super) fn message(self) -> pb::Channel {
        match self {
            Self::Email => pb::Channel::Email,
            Self::Sms => pb::Channel::Sms,
            Self::Phone => pb::Channel::Phone,
            Self::Interaction => pb::Channel::Interaction,
        }
    }
}

/// A channel that has addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AddressChannel {
    /// Mails.
    Email,
    /// Text messages.
    Sms,
    /// Calls.
    Phone,
}

impl AddressChannel {
    /// The channel of the contract.
    pub(super) fn message(self) -> pb::Channel {
        match self {
            Self::Email => pb::Channel::Email,
            Self::Sms => pb::Channel::Sms,
            Self::Phone => pb::Channel::Phone,
        }
    }
}

/// What a channel is called.
pub(super) fn name(channel: pb::Channel) -> String {
    word(channel.as_str_name(), "CHANNEL_")
}
