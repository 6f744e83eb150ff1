//! Campaigns.

use super::time::time;
use crate::channels::check_template;
use crate::domain::{Campaign, CampaignId, Invalid, text};
use crate::engine::{CampaignContent, etag};
use crate::proto::campaign::v1 as pb;
use crate::rpc::violations::Violations;

/// Parses content. Every template must be one.
pub(in crate::rpc) fn parse_content(
    violations: &mut Violations,
    given: Option<pb::CampaignDefinition>,
) -> Option<CampaignContent> {
    let given = violations.required("campaign", given)?;
    let id = violations.check("campaign.campaign_id", CampaignId::parse(&given.campaign_id));
    let name = violations.check("campaign.name", text::line(&given.name, 200));
    violations.check("campaign.subject", text::line(&given.subject, 998));
    let bytes = |given: &str, most: usize| {
        if given.len() <= most {
            Ok(())
        } else {
            Err(Invalid::new(
                format!("{} bytes", given.len()),
                format!("at most {most} bytes"),
            ))
        }
    };
    let characters = |given: &str, most: usize| {
        let count = given.chars().count();
        if count <= most {
            Ok(())
        } else {
            Err(Invalid::new(
                format!("{count} characters"),
                format!("at most {most} characters"),
            ))
        }
    };
    violations.check("campaign.text_body", bytes(&given.text_body, 65_536));
    violations.check("campaign.html_body", bytes(&given.html_body, 262_144));
    violations.check("campaign.sms_text", characters(&given.sms_text, 1600));
    violations.check("campaign.call_script", characters(&given.call_script, 4000));
    let parts = [
        ("campaign.subject", &given.subject),
        ("campaign.text_body", &given.text_body),
        ("campaign.html_body", &given.html_body),
        ("campaign.sms_text", &given.sms_text),
        ("campaign.call_script", &given.call_script),
    ];
    let mut parts_given = false;
    for (path, source) in parts.into_iter().filter(|(_, source)| !source.is_empty()) {
        parts_given = true;
        if source.len() > 262_144 {
            continue;
        }
        // PostgreSQL can't hold it. The subject is refused as a line already.
        if source.contains('\0') {
            if path != "campaign.subject" {
                violations.add(path, "must be text without the character U+0000");
            }
            continue;
        }
        if let Err(error) = check_template(source) {
            violations.add(path, format!("must be a template: {error}"));
        }
    }
    if !parts_given {
        violations.add(
            "campaign",
            "must have content: subject with text_body or html_body, sms_text, or call_script",
        );
    }
    let (id, name) = (id?, name?);
    let name = if name.is_empty() { id.to_string() } else { name };
    let pb::CampaignDefinition {
        subject,
        text_body,
        html_body,
        sms_text,
        call_script,
        ..
    } = given;
    Some(CampaignContent {
        id,
        name,
        subject,
        text_body,
        html_body,
        sms_text,
        call_script,
    })
}

/// A campaign as a message.
pub(in crate::rpc) fn campaign(campaign: &Campaign) -> pb::Campaign {
    pb::Campaign {
        definition: Some(pb::CampaignDefinition {
            campaign_id: campaign.id.to_string(),
            name: campaign.name.clone(),
            subject: campaign.subject.clone(),
            text_body: campaign.text_body.clone(),
            html_body: campaign.html_body.clone(),
            sms_text: campaign.sms_text.clone(),
            call_script: campaign.call_script.clone(),
        }),
        revision: campaign.revision,
        etag: etag(campaign.revision),
        create_time: Some(time(campaign.created_at)),
        update_time: Some(time(campaign.updated_at)),
    }
}
