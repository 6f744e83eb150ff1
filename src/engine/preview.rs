//! What a campaign would say to a customer, without sending it.

use std::fmt;
use std::sync::Arc;

use super::content::suffice_for_marketing;
use super::definitions::CampaignContent;
use super::simulate::SimulatedCustomer;
use super::{Engine, EngineError};
use crate::channels::{Context, Mailbox, Part, Renderer, TimelineValues, Values};
use crate::domain::{Campaign, CampaignId, CampaignKind, Customer, SmsLength, TimelineId, Tracking};

/// Stands for the link to unsubscribe, so that nobody who reads a preview unsubscribes the customer.
const LINK: &str = "https://unsubscribe.invalid/preview";

/// The longest text that is shown, in bytes: six of them fit into a message.
const MOST_SHOWN: usize = 600_000;

/// What to preview.
#[derive(Debug)]
pub struct PreviewCampaign {
    /// Which campaign.
    pub campaign: PreviewedCampaign,
    /// For whom.
    pub customer: SimulatedCustomer,
    /// The timeline that the texts see; none: one that is made up.
    pub timeline: Option<TimelineId>,
    /// The day that they see.
    pub day: i32,
}

/// Which campaign is previewed.
#[derive(Debug)]
pub enum PreviewedCampaign {
    /// This one, as it is stored.
    Stored(CampaignId),
    /// What may be stored one day.
    Defined(Box<CampaignContent>),
}

/// What a campaign would say.
pub struct Preview {
    /// The texts that it has and that can be filled in.
    pub texts: Vec<(Part, String)>,
    /// Who its mail is from.
    pub sender: String,
    /// Where answers go; empty: to the sender.
    pub reply_to: String,
    /// Into how many parts the text message is split; 0: there is none.
    pub sms_segments: usize,
    /// What somebody should look at.
    pub warnings: Vec<PreviewWarning>,
}

impl fmt::Debug for Preview {
    /// Shows nothing of it, because logs are no place for what customers are told.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Preview(..)")
    }
}

/// Something that somebody should look at.
#[derive(Debug)]
pub struct PreviewWarning {
    /// The text that it is about; none: about the whole.
    pub part: Option<Part>,
    /// What, for people.
    pub description: String,
    /// Whether nothing would be sent to this customer.
    pub is_fatal: bool,
}

impl Engine {
    /// What a campaign would say to a customer.
    pub async fn preview_campaign(&self, command: PreviewCampaign) -> Result<Preview, EngineError> {
        let campaign = match command.campaign {
            PreviewedCampaign::Stored(id) => self.campaign(&id).await?,
            PreviewedCampaign::Defined(content) => content.into_campaign(None, self.clock.now()),
        };
        let customer = Arc::new(match command.customer {
            SimulatedCustomer::Stored(id) => self.customer(&id).await?,
            SimulatedCustomer::MadeUp(customer) => *customer,
        });
        let timeline = match command.timeline {
            Some(id) => Some(self.timeline(id).await?),
            None => None,
        };
        let made_up = TimelineValues {
            name: "Preview".to_owned(),
            slug: "preview".to_owned(),
            duration_days: 30,
        };
        let identity = &self.settings.identity;
        // It was parsed when it was applied.
        let sender = Mailbox::parse(&campaign.sender).unwrap_or_else(|_| identity.from.clone());
        let mut values = Values {
            zone: customer.zone(self.settings.default_zone).tz,
            timeline: timeline.as_ref().map_or(made_up, TimelineValues::of),
            day: command.day,
            customer: Arc::clone(&customer),
            sender: sender.clone(),
            postal_address: identity.postal_address.clone(),
            unsubscribe: self.settings.public_url.as_ref().map(|_| LINK.to_owned()),
        };
        let mut warnings = Vec::new();
        let is_mail = !campaign.text_body.is_empty() || !campaign.html_body.is_empty();
        if is_mail && campaign.kind == CampaignKind::Marketing {
            warnings.extend(
                suffice_for_marketing(&values)
                    .err()
                    .map(|(_, error)| fatal(None, error)),
            );
        }
        // What the server lacks is said once, and the texts are shown all the same.
        values.unsubscribe = Some(LINK.to_owned());
        values.postal_address = values.postal_address.or_else(|| Some("(no postal address)".into()));
        let context = Context::from(values);
        // Its own renderer: texts that are not stored must not be taken for those of a revision.
        let renderer = Renderer::new();
        let (mut texts, mut sms_segments) = (Vec::new(), 0);
        for part in Part::ALL {
            match renderer.render_part(part, &campaign, &context) {
                Ok(None) => {}
                Ok(Some(text)) if text.len() > MOST_SHOWN => {
                    warnings.push(warning(part, format!("is too long to be shown: {} bytes", text.len())));
                }
                Ok(Some(text)) => {
                    if part == Part::SmsText {
                        sms_segments = SmsLength::of(&text).segments;
                    }
                    if sms_segments > usize::from(campaign.sms_max_segments) && part == Part::SmsText {
                        let most = campaign.sms_max_segments;
                        let description =
                            format!("has {sms_segments} segments, and {most} is the most (sms_max_segments)");
                        warnings.push(fatal(Some(part), description));
                    } else {
                        warnings.extend(too_long(part, &text).map(|description| warning(part, description)));
                    }
                    texts.push((part, text));
                }
                Err(error) => warnings.push(fatal(Some(part), error.to_string())),
            }
        }
        warnings.extend(about_the_whole(&campaign, &customer));
        warnings.extend(about_tracking(&campaign, self.settings.public_url.is_some()));
        Ok(Preview {
            texts,
            sender: sender.to_string(),
            reply_to: campaign.reply_to,
            sms_segments,
            warnings,
        })
    }
}

/// What is there, but longer than it is read.
fn too_long(part: Part, text: &str) -> Option<String> {
    let characters = text.chars().count();
    match part {
        Part::Subject if characters > 78 => Some(format!("has {characters} characters; mail programs show 40 to 78")),
        Part::Preheader if characters > 100 => {
            Some(format!("has {characters} characters; mail programs show 40 to 100"))
        }
        Part::HtmlBody if text.len() > 102_000 => Some(format!(
            "has {} bytes; Gmail cuts mails off after 102,000, with the link to unsubscribe",
            text.len()
        )),
        Part::SmsText if SmsLength::of(text).segments > 1 => Some(format!(
            "has {characters} characters, which are {} segments, each of which is paid for",
            SmsLength::of(text).segments
        )),
        Part::Subject | Part::Preheader | Part::TextBody | Part::HtmlBody | Part::SmsText | Part::CallScript => None,
    }
}

fn about_the_whole(campaign: &Campaign, customer: &Customer) -> Vec<PreviewWarning> {
    let mut warnings = Vec::new();
    let is_mail = !campaign.html_body.is_empty() || (!campaign.text_body.is_empty() && !campaign.subject.is_empty());
    if !campaign.html_body.is_empty() && campaign.text_body.is_empty() {
        let description =
            "is empty: who reads mails without HTML sees nothing, and filters like mails less that have HTML alone";
        warnings.push(warning(Part::TextBody, description.to_owned()));
    }
    if !campaign.preheader.is_empty() && campaign.html_body.is_empty() {
        warnings.push(warning(
            Part::Preheader,
            "is left out of a mail without HTML".to_owned(),
        ));
    }
    if is_mail && customer.email.is_none() {
        warnings.push(warning(
            Part::Subject,
            "can't be mailed: the customer has no email".to_owned(),
        ));
    }
    for (part, text) in [
        (Part::SmsText, &campaign.sms_text),
        (Part::CallScript, &campaign.call_script),
    ] {
        if !text.is_empty() && customer.phone.is_none() {
            warnings.push(fatal(Some(part), "can't be sent: the customer has no phone".to_owned()));
        }
    }
    warnings
}

/// What is not watched although the campaign asks for it.
fn about_tracking(campaign: &Campaign, has_public_url: bool) -> Option<PreviewWarning> {
    let asked = match campaign.tracking {
        Tracking {
            opens: false,
            clicks: false,
        } => return None,
        Tracking {
            opens: true,
            clicks: true,
        } => "track_opens and track_clicks",
        Tracking {
            opens: true,
            clicks: false,
        } => "track_opens",
        Tracking {
            opens: false,
            clicks: true,
        } => "track_clicks",
    };
    let why = if campaign.html_body.is_empty() {
        "a mail without HTML is sent as it is"
    } else if !has_public_url {
        "a server without a public URL sends mails as they are: set --public-url (CAMPAIGN_PUBLIC_URL)"
    } else {
        return None;
    };
    Some(PreviewWarning {
        part: None,
        description: format!("without effect: {asked}; {why}"),
        is_fatal: false,
    })
}

fn warning(part: Part, description: String) -> PreviewWarning {
    PreviewWarning {
        part: Some(part),
        description,
        is_fatal: false,
    }
}

fn fatal(part: Option<Part>, description: String) -> PreviewWarning {
    PreviewWarning {
        part,
        description,
        is_fatal: true,
    }
}
