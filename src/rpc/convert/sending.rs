//! Sending holds.

use super::circuit::circuit;
use super::time::{parse_seconds, parse_time, time};
use super::timeline::channel;
use crate::domain::{CampaignId, Channel, HoldScope, LONGEST_HOLD, SendingHold, TimelineId, text};
use crate::engine::{HoldUntil, SendingStatus, SetHold};
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::sending_scope::Scope;
use crate::proto::campaign::v1::set_sending_hold_request::End;
use crate::rpc::violations::Violations;

const CHANNELS: &str = "CHANNEL_EMAIL, CHANNEL_SMS, CHANNEL_PHONE or CHANNEL_INTERACTION";

/// Parses a request to hold.
pub(in crate::rpc) fn parse_hold(violations: &mut Violations, request: &pb::SetSendingHoldRequest) -> Option<SetHold> {
    let scope = parse_scope(violations, request.scope.as_ref());
    let reason = violations.check("reason", text::required_line(&request.reason, 500));
    let until = match &request.end {
        None => Some(HoldUntil::Released),
        Some(End::EndTime(end)) => violations.check("end_time", parse_time(end)).map(HoldUntil::Time),
        Some(End::HoldFor(given)) => {
            let words = "whole seconds, from 1 second to 366 days";
            let time = parse_seconds(given, 1, LONGEST_HOLD.num_seconds(), words);
            violations.check("hold_for", time).map(HoldUntil::For)
        }
    };
    Some(SetHold {
        scope: scope?,
        reason: reason?,
        until: until?,
    })
}

/// Parses a scope, which is required.
pub(in crate::rpc) fn parse_scope(violations: &mut Violations, given: Option<&pb::SendingScope>) -> Option<HoldScope> {
    let scope = violations.required("scope", given.and_then(|given| given.scope.as_ref()))?;
    match scope {
        Scope::All(pb::AllSending {}) => Some(HoldScope::All),
        Scope::Channel(given) => {
            let channel = parse_channel(violations, "scope.channel", *given)?;
            Some(HoldScope::Channel(channel))
        }
        Scope::TimelineId(id) => {
            let id = violations.id("scope.timeline_id", *id)?;
            Some(HoldScope::Timeline(TimelineId(id)))
        }
        Scope::CampaignId(id) => {
            let id = violations.check("scope.campaign_id", CampaignId::parse(id))?;
            Some(HoldScope::Campaign(id))
        }
    }
}

/// Parses a channel that sends, which is required.
pub(in crate::rpc) fn parse_channel(violations: &mut Violations, field: &'static str, given: i32) -> Option<Channel> {
    match violations.known(field, given, CHANNELS)? {
        pb::Channel::Email => Some(Channel::Email),
        pb::Channel::Sms => Some(Channel::Sms),
        pb::Channel::Phone => Some(Channel::Phone),
        pb::Channel::Interaction => Some(Channel::Interaction),
        pb::Channel::Unspecified | pb::Channel::Wait => {
            violations.add(field, format!("must be {CHANNELS}, but sends nothing"));
            None
        }
    }
}

fn scope(scope: &HoldScope) -> pb::SendingScope {
    let scope = match scope {
        HoldScope::All => Scope::All(pb::AllSending {}),
        HoldScope::Channel(held) => Scope::Channel(channel(*held).into()),
        HoldScope::Timeline(id) => Scope::TimelineId(id.0),
        HoldScope::Campaign(id) => Scope::CampaignId(id.as_str().to_owned()),
    };
    pb::SendingScope { scope: Some(scope) }
}

/// A hold as a message.
pub(in crate::rpc) fn hold(hold: &SendingHold) -> pb::SendingHold {
    pb::SendingHold {
        scope: Some(scope(&hold.scope)),
        reason: hold.reason.clone(),
        start_time: Some(time(hold.started_at)),
        end_time: hold.end_at.map(time),
        update_time: Some(time(hold.updated_at)),
    }
}

/// What a server goes by, as a message.
pub(in crate::rpc) fn sending_status(status: &SendingStatus) -> pb::GetSendingStatusResponse {
    let is_held = |channel| {
        let mut scopes = status.holds.iter().map(|hold| &hold.scope);
        scopes.any(|scope| *scope == HoldScope::All || *scope == HoldScope::Channel(channel))
    };
    let channels = status.channels.iter();
    let channels = channels.map(|(name, not_closed)| pb::ChannelSendingStatus {
        channel: channel(*name).into(),
        is_held: is_held(*name),
        stopped_until_time: not_closed.as_ref().and_then(|it| it.probe_at).map(time),
        circuit: not_closed.as_ref().map(circuit),
    });
    pb::GetSendingStatusResponse {
        look_time: Some(time(status.now)),
        holds: status.holds.iter().map(hold).collect(),
        channels: channels.collect(),
    }
}
