//! Suppressions.

use super::time::time;
use super::timeline::channel;
use crate::domain::{Address, Channel, CustomerId, Suppression, SuppressionReason, SuppressionScope, text};
use crate::engine::{ListSuppressions, Recipient, SuppressRecipient};
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::list_suppressions_request::Recipient as Listed;
use crate::proto::campaign::v1::suppress_recipient_request::Recipient as Given;
use crate::rpc::violations::Violations;

const CHANNELS: &str = "CHANNEL_EMAIL, CHANNEL_SMS or CHANNEL_PHONE";
const SCOPES: &str = "SUPPRESSION_SCOPE_MARKETING or SUPPRESSION_SCOPE_ALL";
const REASONS: &str = "the reasons of SuppressionReason";

/// Parses a request to suppress.
pub(in crate::rpc) fn parse_suppression(
    violations: &mut Violations,
    request: &pb::SuppressRecipientRequest,
) -> Option<SuppressRecipient> {
    let channel = parse_channel(violations, request.channel);
    let recipient = match violations.required("recipient", request.recipient.as_ref()) {
        Some(Given::CustomerId(id)) => parse_customer(violations, id),
        Some(Given::Address(address)) => parse_address(violations, channel, address),
        None => None,
    };
    let scope = match request.scope {
        0 => Some(pb::SuppressionScope::All),
        given => violations.known("scope", given, SCOPES),
    };
    let reason = match request.reason {
        0 => Some(pb::SuppressionReason::Manual),
        given => violations.known("reason", given, REASONS),
    };
    let detail = violations.check("detail", text::line(&request.detail, 500));
    Some(SuppressRecipient {
        recipient: recipient?,
        channel: channel?,
        scope: match scope? {
            pb::SuppressionScope::Marketing => SuppressionScope::Marketing,
            pb::SuppressionScope::All | pb::SuppressionScope::Unspecified => SuppressionScope::All,
        },
        reason: match reason? {
            pb::SuppressionReason::Unsubscribed => SuppressionReason::Unsubscribed,
            pb::SuppressionReason::StopKeyword => SuppressionReason::StopKeyword,
            pb::SuppressionReason::HardBounce => SuppressionReason::HardBounce,
            pb::SuppressionReason::SoftBounces => SuppressionReason::SoftBounces,
            pb::SuppressionReason::Complaint => SuppressionReason::Complaint,
            pb::SuppressionReason::Provider => SuppressionReason::Provider,
            pb::SuppressionReason::Erased => SuppressionReason::Erased,
            pb::SuppressionReason::Manual | pb::SuppressionReason::Unspecified => SuppressionReason::Manual,
        },
        detail: detail?,
    })
}

/// Parses what is to be listed, but for the page.
pub(in crate::rpc) fn parse_filter(
    violations: &mut Violations,
    request: &pb::ListSuppressionsRequest,
) -> Option<ListSuppressions> {
    let channel = match request.channel {
        0 => Some(None),
        given => parse_channel(violations, given).map(Some),
    };
    let recipient = match &request.recipient {
        None => Some(None),
        Some(Listed::CustomerId(id)) => parse_customer(violations, id).map(Some),
        Some(Listed::Address(address)) => {
            // What kind of address it is can be seen without a channel.
            let of = if address.contains('@') {
                Channel::Email
            } else {
                Channel::Sms
            };
            parse_address(violations, Some(of), address).map(Some)
        }
    };
    Some(ListSuppressions {
        recipient: recipient?,
        channel: channel?,
        with_lifted: request.include_lifted,
    })
}

fn parse_channel(violations: &mut Violations, given: i32) -> Option<Channel> {
    match violations.known("channel", given, CHANNELS)? {
        pb::Channel::Email => Some(Channel::Email),
        pb::Channel::Sms => Some(Channel::Sms),
        pb::Channel::Phone => Some(Channel::Phone),
        other @ (pb::Channel::Unspecified | pb::Channel::Wait | pb::Channel::Interaction) => {
            let text = format!(
                "must be one of {CHANNELS}, but is {}, which has no addresses",
                other.as_str_name()
            );
            violations.add("channel", text);
            None
        }
    }
}

fn parse_customer(violations: &mut Violations, id: &str) -> Option<Recipient> {
    let id = violations.check("customer_id", CustomerId::parse(id))?;
    Some(Recipient::Customer(id))
}

fn parse_address(violations: &mut Violations, channel: Option<Channel>, address: &str) -> Option<Recipient> {
    let address = violations.check("address", Address::parse(channel?, address))?;
    Some(Recipient::Address(address))
}

/// A suppression as a message.
pub(in crate::rpc) fn suppression(suppression: &Suppression) -> pb::Suppression {
    let scope = match suppression.of.scope {
        SuppressionScope::Marketing => pb::SuppressionScope::Marketing,
        SuppressionScope::All => pb::SuppressionScope::All,
    };
    let reason = match suppression.of.reason {
        SuppressionReason::Unsubscribed => pb::SuppressionReason::Unsubscribed,
        SuppressionReason::StopKeyword => pb::SuppressionReason::StopKeyword,
        SuppressionReason::HardBounce => pb::SuppressionReason::HardBounce,
        SuppressionReason::SoftBounces => pb::SuppressionReason::SoftBounces,
        SuppressionReason::Complaint => pb::SuppressionReason::Complaint,
        SuppressionReason::Provider => pb::SuppressionReason::Provider,
        SuppressionReason::Manual => pb::SuppressionReason::Manual,
        SuppressionReason::Erased => pb::SuppressionReason::Erased,
    };
    let lifted = suppression.lifted.as_ref();
    pb::Suppression {
        suppression_id: suppression.id,
        channel: channel(suppression.of.channel).into(),
        scope: scope.into(),
        reason: reason.into(),
        detail: suppression.of.detail.clone(),
        create_time: Some(time(suppression.created_at)),
        lift_time: lifted.map(|(at, _)| time(*at)),
        lift_reason: lifted.map(|(_, why)| why.clone()).unwrap_or_default(),
    }
}
