//! `campaignctl preview`: what a campaign says to one customer.

use anyhow::Context as _;
use clap::Args;
use std::path::PathBuf;

use super::ctl::{failed, say, timeline_id};
use super::files::load;
use super::token::Connection;
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::campaign_content_service_client::CampaignContentServiceClient;
use crate::proto::campaign::v1::preview_campaign_request::{Which, Whom};

/// What is previewed, and for whom.
#[derive(Debug, Args)]
pub struct PreviewArgs {
    /// A file with a campaign, which need not be stored, or the id of a stored one.
    #[arg(value_name = "FILE|ID")]
    pub campaign: String,
    /// A stored customer, as it is now. Without it somebody is made up who has a mail address and a phone.
    #[arg(long, value_name = "ID", conflicts_with_all = ["name", "zone", "stage", "attributes"])]
    pub customer: Option<String>,
    /// The name of the customer who is made up.
    #[arg(long, value_name = "TEXT", default_value = "Somebody")]
    pub name: String,
    /// Where that customer lives.
    #[arg(long, value_name = "ZONE", default_value = "", hide_default_value = true)]
    pub zone: String,
    /// In which stage that customer is.
    #[arg(long, value_name = "STAGE", default_value = "", hide_default_value = true)]
    pub stage: String,
    /// An attribute of that customer: a number, true, false or a text. May be given several times.
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    pub attributes: Vec<(String, prost_types::Value)>,
    /// The timeline that the texts see, by its slug. Without it one that is made up.
    #[arg(long, value_name = "SLUG")]
    pub timeline: Option<String>,
    /// The day that the texts see.
    #[arg(long, value_name = "DAY", default_value_t = 1)]
    pub day: i32,
    /// The file that the mail's HTML is written to, for a browser.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Shows what the campaign says, and what may be wrong with it.
pub(super) async fn preview(channel: Connection, args: PreviewArgs) -> anyhow::Result<()> {
    let mut client = CampaignContentServiceClient::new(channel.clone());
    let path = PathBuf::from(&args.campaign);
    let (which, campaign) = if path.is_file() {
        let file: pb::ApplyCampaignRequest = load(&path)?;
        let campaign = file.campaign;
        let campaign = campaign.with_context(|| format!("{} has no campaign", args.campaign))?;
        (Which::Campaign(campaign.clone()), campaign)
    } else {
        // A preview does not have the headers, which are no templates.
        let request = pb::GetCampaignRequest {
            campaign_id: args.campaign.clone(),
        };
        let found = client.get_campaign(request).await;
        let found = found.map_err(|status| failed(&args.campaign, &status))?.into_inner();
        let campaign = found.campaign.unwrap_or_default().definition.unwrap_or_default();
        (Which::CampaignId(args.campaign.clone()), campaign)
    };
    let timeline_id = match &args.timeline {
        None => 0,
        Some(slug) => timeline_id(channel.clone(), slug).await?,
    };
    let whom = match args.customer {
        Some(id) => Whom::CustomerId(id),
        None => Whom::Customer(pb::Customer {
            display_name: args.name,
            email: "somebody@example.com".to_owned(),
            phone: "+14155552671".to_owned(),
            time_zone: args.zone,
            pipeline_stage: args.stage,
            attributes: Some(prost_types::Struct {
                fields: args.attributes.into_iter().collect(),
            }),
            ..Default::default()
        }),
    };
    let request = pb::PreviewCampaignRequest {
        which: Some(which),
        whom: Some(whom),
        timeline_id,
        day: args.day,
    };
    let shown = client.preview_campaign(request).await;
    let shown = shown.map_err(|status| failed(&args.campaign, &status))?.into_inner();
    if let Some(file) = &args.html {
        std::fs::write(file, &shown.html_body).with_context(|| format!("{} can't be written", file.display()))?;
    }
    say(&told(&shown, &campaign));
    Ok(())
}

/// A preview as text, with what there is of it.
fn told(shown: &pb::PreviewCampaignResponse, campaign: &pb::CampaignDefinition) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            lines.push(format!("{name}: {value}"));
        }
    };
    line("subject", &shown.subject);
    line("preheader", &shown.preheader);
    line("from", &shown.sender);
    line("answers to", &shown.reply_to);
    let mut headers: Vec<(&String, &String)> = campaign.headers.iter().collect();
    headers.sort();
    for (name, value) in headers {
        line(&format!("header {name}"), value);
    }
    for (name, text) in [
        ("text".to_owned(), &shown.text_body),
        (segments(shown.sms_segments), &shown.sms_text),
        ("call".to_owned(), &shown.call_script),
    ] {
        if !text.is_empty() {
            lines.push(format!("\n{name}:\n{}", text.trim_end()));
        }
    }
    if !shown.html_body.is_empty() {
        lines.push(format!("\nHTML: {} bytes", shown.html_body.len()));
    }
    for warning in &shown.warnings {
        let kind = if warning.is_fatal { "would fail" } else { "warning" };
        // Those of templates name the field themselves, with the line.
        let about = match warning.field.as_str() {
            field if field.is_empty() || warning.description.starts_with(field) => String::new(),
            field => format!("{field}: "),
        };
        lines.push(format!("{kind}: {about}{}", warning.description));
    }
    lines.join("\n")
}

fn segments(count: i32) -> String {
    match count {
        1 => "SMS, 1 segment".to_owned(),
        count => format!("SMS, {count} segments"),
    }
}

/// An attribute as it is given: what reads as a number or a truth value is one.
fn attribute(given: &str) -> Result<(String, prost_types::Value), String> {
    use prost_types::value::Kind;
    let (name, value) = given
        .split_once('=')
        .ok_or_else(|| "must be a name and a value, such as plan=gold".to_owned())?;
    let kind = match (value.parse::<bool>(), value.parse::<f64>()) {
        (Ok(truth), _) => Kind::BoolValue(truth),
        (Err(_), Ok(number)) if number.is_finite() => Kind::NumberValue(number),
        (Err(_), _) => Kind::StringValue(value.to_owned()),
    };
    Ok((name.to_owned(), prost_types::Value { kind: Some(kind) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::value::Kind;

    #[track_caller]
    fn check(given: &str, name: &str, kind: Kind) {
        let value = prost_types::Value { kind: Some(kind) };
        assert_eq!(attribute(given), Ok((name.to_owned(), value)), "{given}");
    }

    #[test]
    fn attributes_are_what_they_read_as() {
        let text = |text: &str| Kind::StringValue(text.to_owned());
        check("plan=gold", "plan", text("gold"));
        check("plan=", "plan", text(""));
        check("url=https://a.example/?b=c", "url", text("https://a.example/?b=c"));
        check("seats=5", "seats", Kind::NumberValue(5.0));
        check("seats=inf", "seats", text("inf"));
        check("is_new=true", "is_new", Kind::BoolValue(true));
        assert!(attribute("plan").is_err());
    }
}
