//! Previews of campaigns.

use super::campaign::parse_content;
use super::simulation::parse_whom;
use crate::channels::Part;
use crate::domain::{CampaignId, MAX_DURATION_DAYS, TimelineId, Timestamp};
use crate::engine::{Preview, PreviewCampaign, PreviewedCampaign};
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::preview_campaign_request::{Which, Whom};
use crate::proto::campaign::v1::simulate_timeline_request::Whom as Simulated;
use crate::rpc::violations::Violations;

/// Parses what is to be previewed.
pub(in crate::rpc) fn parse_preview(
    violations: &mut Violations,
    given: pb::PreviewCampaignRequest,
    now: Timestamp,
) -> Option<PreviewCampaign> {
    let campaign = match given.which {
        Some(Which::CampaignId(id)) => violations
            .check("campaign_id", CampaignId::parse(&id))
            .map(PreviewedCampaign::Stored),
        Some(Which::Campaign(definition)) => {
            parse_content(violations, Some(definition)).map(|content| PreviewedCampaign::Defined(Box::new(content)))
        }
        None => {
            violations.add("campaign_id", "must be set, or campaign in its place");
            None
        }
    };
    let whom = given.whom.map(|whom| match whom {
        Whom::CustomerId(id) => Simulated::CustomerId(id),
        Whom::Customer(customer) => Simulated::Customer(customer),
    });
    let customer = parse_whom(violations, whom.as_ref(), now);
    let timeline = match given.timeline_id {
        0 => Some(None),
        id => violations.id("timeline_id", id).map(|id| Some(TimelineId(id))),
    };
    let day = match given.day {
        0 => Some(1),
        day => violations.within("day", day, 1, MAX_DURATION_DAYS),
    };
    Some(PreviewCampaign {
        campaign: campaign?,
        customer: customer?,
        timeline: timeline?,
        day: day?,
    })
}

/// A preview as a message.
pub(in crate::rpc) fn preview(preview: Preview) -> pb::PreviewCampaignResponse {
    let mut response = pb::PreviewCampaignResponse {
        sender: preview.sender,
        reply_to: preview.reply_to,
        sms_segments: i32::try_from(preview.sms_segments).unwrap_or(i32::MAX),
        ..Default::default()
    };
    for (part, text) in preview.texts {
        *match part {
            Part::Subject => &mut response.subject,
            Part::Preheader => &mut response.preheader,
            Part::TextBody => &mut response.text_body,
            Part::HtmlBody => &mut response.html_body,
            Part::SmsText => &mut response.sms_text,
            Part::CallScript => &mut response.call_script,
        } = text;
    }
    let warnings = preview.warnings.into_iter().map(|warning| pb::PreviewWarning {
        field: warning.part.map(|part| part.as_str().to_owned()).unwrap_or_default(),
        description: warning.description,
        is_fatal: warning.is_fatal,
    });
    response.warnings = warnings.collect();
    response
}
