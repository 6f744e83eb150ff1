//! Campaigns.

use std::collections::BTreeMap;

use super::time::time;
use crate::channels::{Mailbox, VARIABLES, VariableUses, check_template, least_segments};
use crate::domain::text::shown;
use crate::domain::{Campaign, CampaignId, CampaignKind, Invalid, MOST_SEGMENTS, MailHeaders, Tracking, text};
use crate::engine::{CampaignContent, etag};
use crate::proto::campaign::v1 as pb;
use crate::rpc::violations::{Violations, but_is};

/// Into how many parts a text message may be split, unless its campaign says so.
const DEFAULT_SEGMENTS: u8 = 3;

/// The most characters of a text message.
const MOST_CHARACTERS: usize = 1600;

/// Parses content. Every template must be one.
pub(in crate::rpc) fn parse_content(
    violations: &mut Violations,
    given: Option<pb::CampaignDefinition>,
) -> Option<CampaignContent> {
    let given = violations.required("campaign", given)?;
    let id = violations.check("campaign.campaign_id", CampaignId::parse(&given.campaign_id));
    let name = violations.check("campaign.name", text::line(&given.name, 200));
    check_lengths(violations, &given);
    let mail = parse_mail_fields(violations, &given);
    let most = parse_segments(violations, given.sms_max_segments);
    let parts = [
        ("campaign.subject", &given.subject),
        ("campaign.preheader", &given.preheader),
        ("campaign.text_body", &given.text_body),
        ("campaign.html_body", &given.html_body),
        ("campaign.sms_text", &given.sms_text),
        ("campaign.call_script", &given.call_script),
    ];
    let mut parts_given = false;
    let is_marketing = matches!(&mail, Some((CampaignKind::Marketing, _)));
    for (path, source) in parts.into_iter().filter(|(_, source)| !source.is_empty()) {
        parts_given |= path != "campaign.preheader";
        if source.len() > 262_144 {
            continue;
        }
        // PostgreSQL can't hold it. Lines are refused already.
        if source.contains('\0') {
            if !matches!(path, "campaign.subject" | "campaign.preheader") {
                violations.add(path, "must be text without the character U+0000");
            }
            continue;
        }
        match check_template(source) {
            Ok(()) => {
                check_variables(violations, path, source, is_marketing);
                if path == "campaign.sms_text" && source.chars().count() <= MOST_CHARACTERS {
                    check_segments(violations, path, source, most);
                }
            }
            Err(error) => violations.add(path, format!("must be a template: {error}")),
        }
    }
    if !parts_given {
        violations.add(
            "campaign",
            "must have content: subject with text_body or html_body, sms_text, or call_script",
        );
    }
    let (id, name, (kind, headers), sms_max_segments) = (id?, name?, mail?, most?);
    let name = if name.is_empty() { id.to_string() } else { name };
    let pb::CampaignDefinition {
        subject,
        text_body,
        html_body,
        sms_text,
        call_script,
        preheader,
        sender,
        reply_to,
        track_opens,
        track_clicks,
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
        kind,
        preheader,
        sender,
        reply_to,
        headers,
        tracking: Tracking {
            opens: track_opens,
            clicks: track_clicks,
        },
        sms_max_segments,
    })
}

/// Checks how long the texts are.
fn check_lengths(violations: &mut Violations, given: &pb::CampaignDefinition) {
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
    violations.check("campaign.sms_text", characters(&given.sms_text, MOST_CHARACTERS));
    violations.check("campaign.call_script", characters(&given.call_script, 4000));
    violations.check("campaign.preheader", text::line(&given.preheader, 200));
}

/// Parses into how many parts a text message may be split.
fn parse_segments(violations: &mut Violations, given: i32) -> Option<u8> {
    if given == 0 {
        return Some(DEFAULT_SEGMENTS);
    }
    let most = violations.within("campaign.sms_max_segments", given, 1, i32::from(MOST_SEGMENTS));
    most.and_then(|most| u8::try_from(most).ok())
}

/// Checks that a text message is not longer than it may be whatever its variables are, where that can be told.
fn check_segments(violations: &mut Violations, path: &str, source: &str, most: Option<u8>) {
    if let (Some(most), Some(least)) = (most, least_segments(source))
        && least > usize::from(most)
    {
        violations.add(
            path,
            format!("must be at most {most} segments (sms_max_segments), but is {least} segments at least"),
        );
    }
}

/// Checks the variables of a text: all are known, and a body of marketing mail has those that law asks for.
fn check_variables(violations: &mut Violations, path: &str, source: &str, is_marketing: bool) {
    let uses = VariableUses::of(source);
    for (name, line) in &uses.unknown {
        let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        let known = VARIABLES.join(", ");
        violations.add(
            path,
            format!(
                "{place}must not use {}, which is no variable; there are {known}",
                shown(name)
            ),
        );
    }
    if !is_marketing || !matches!(path, "campaign.text_body" | "campaign.html_body") {
        return;
    }
    for (name, what) in [
        ("links.unsubscribe", "the link to unsubscribe"),
        ("sender.postal_address", "the sender's postal address"),
    ] {
        if !uses.has(name) {
            violations.add(
                path,
                format!("must show {what}, {{{{ {name} }}}}, in marketing mail; what is none has kind CAMPAIGN_KIND_TRANSACTIONAL"),
            );
        }
    }
}

/// Parses what only mails have, and checks the mailboxes.
fn parse_mail_fields(
    violations: &mut Violations,
    given: &pb::CampaignDefinition,
) -> Option<(CampaignKind, MailHeaders)> {
    let kind = match pb::CampaignKind::try_from(given.kind) {
        Ok(pb::CampaignKind::Unspecified | pb::CampaignKind::Marketing) => Some(CampaignKind::Marketing),
        Ok(pb::CampaignKind::Transactional) => Some(CampaignKind::Transactional),
        Err(_) => {
            let allowed = "CAMPAIGN_KIND_MARKETING or CAMPAIGN_KIND_TRANSACTIONAL";
            violations.add("campaign.kind", format!("must be {allowed}, but is {}", given.kind));
            None
        }
    };
    for (path, mailbox) in [
        ("campaign.sender", &given.sender),
        ("campaign.reply_to", &given.reply_to),
    ] {
        if mailbox.is_empty() {
            continue;
        }
        if violations.check(path, text::line(mailbox, 254)).is_none() {
            continue;
        }
        if let Err(error) = Mailbox::parse(mailbox) {
            violations.add(path, format!("{error}, {}", but_is(mailbox)));
        }
    }
    let mut headers = MailHeaders::default();
    // In order of the names, so that the same request always gets the same answer.
    for (name, value) in given.headers.iter().collect::<BTreeMap<_, _>>() {
        violations.check("campaign.headers", headers.add(name, value));
    }
    kind.map(|kind| (kind, headers))
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
            kind: match campaign.kind {
                CampaignKind::Marketing => pb::CampaignKind::Marketing,
                CampaignKind::Transactional => pb::CampaignKind::Transactional,
            }
            .into(),
            preheader: campaign.preheader.clone(),
            sender: campaign.sender.clone(),
            reply_to: campaign.reply_to.clone(),
            headers: campaign
                .headers
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            track_opens: campaign.tracking.opens,
            track_clicks: campaign.tracking.clicks,
            sms_max_segments: campaign.sms_max_segments.into(),
        }),
        revision: campaign.revision,
        etag: etag(campaign.revision),
        create_time: Some(time(campaign.created_at)),
        update_time: Some(time(campaign.updated_at)),
    }
}
