//! What a campaign says to one customer: the values that its texts see, and what a mail has beside its texts.

use std::sync::Arc;

use super::Engine;
use super::cache::Campaigns;
use crate::channels::{MailOptions, Mailbox, Rendered, TimelineValues, Values};
use crate::domain::{Action, Campaign, CampaignKind, Channel, Customer, FailureReason, Run, Timeline};

/// Who a deployment's mails are from.
#[derive(Debug, Clone)]
pub struct MailIdentity {
    /// The sender of campaigns that name none.
    pub from: Mailbox,
    /// The sender's postal address, which law asks for in marketing mail; none: there is none to show.
    pub postal_address: Option<Arc<str>>,
}

/// Why an action has no message.
pub(super) type Unsendable = (FailureReason, String);

/// What an action sends.
pub(super) fn campaign_of<'a>(action: &Action, campaigns: &'a Campaigns) -> Result<&'a Campaign, Unsendable> {
    let campaign = action.definition.campaign_id.as_ref().and_then(|id| campaigns.get(id));
    let campaign = campaign.ok_or((FailureReason::Template, "the campaign is not there any more".to_owned()))?;
    Ok(campaign)
}

/// What a campaign says, and what its mail has beside.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) texts: Rendered,
    /// For a mail, but for the preheader, which is among the texts.
    pub(super) options: MailOptions,
}

impl Engine {
    /// The texts of an action's campaign, filled in for a customer.
    pub(super) fn write(
        &self,
        run: &Run,
        timeline: &Timeline,
        action: &Action,
        customer: &Arc<Customer>,
        campaign: &Campaign,
    ) -> Result<Written, Unsendable> {
        let template = |error: String| (FailureReason::Template, format!("campaign {}: {error}", campaign.id));
        let mailbox = |field: &str, given: &str| {
            let parsed = (!given.is_empty()).then(|| Mailbox::parse(given)).transpose();
            parsed.map_err(|error| template(format!("{field} {error}")))
        };
        let sender = mailbox("sender", &campaign.sender)?;
        let reply_to = mailbox("reply_to", &campaign.reply_to)?;
        let identity = &self.settings.identity;
        let unsubscribe = self.unsubscribe_url(customer, run.id, action.id);
        let values = Values {
            zone: run.zone.tz,
            timeline: TimelineValues::of(timeline),
            day: action.definition.day_number,
            customer: Arc::clone(customer),
            sender: sender.as_ref().unwrap_or(&identity.from).clone(),
            postal_address: identity.postal_address.clone(),
            unsubscribe: unsubscribe.clone(),
        };
        let is_mail = action.definition.channel == Channel::Email;
        let is_marketing_mail = is_mail && campaign.kind == CampaignKind::Marketing;
        if is_marketing_mail {
            suffice_for_marketing(&values)?;
        }
        let texts = self
            .renderer
            .render(action.definition.channel, campaign, &values.into());
        let texts = texts.map_err(|error| template(error.to_string()))?;
        let unsubscribe_url = unsubscribe.filter(|_| is_marketing_mail);
        if let Some(url) = &unsubscribe_url {
            shows_link(&texts, url).map_err(template)?;
        }
        let texts = self.tracked(texts, campaign.tracking, run, action.id);
        let reference = is_mail
            .then(|| self.mail_reference(customer, run.id, action.id))
            .flatten();
        let bounces = self.settings.bounce_address.as_ref();
        let options = MailOptions {
            preheader: None,
            sender,
            reply_to,
            headers: campaign.headers.clone(),
            unsubscribe_url,
            return_path: bounces
                .zip(reference.as_ref())
                .and_then(|(to, reference)| to.of_mail(reference)),
            reference,
        };
        Ok(Written { texts, options })
    }
}

/// Marketing mail is not sent from a server that can't say who sends it, or how to make it stop.
pub(super) fn suffice_for_marketing(values: &Values) -> Result<(), Unsendable> {
    let lacks = |what: &str| {
        let error = format!("marketing mail is not sent from a server without {what}");
        Err((FailureReason::Misconfigured, error))
    };
    if values.unsubscribe.is_none() {
        return lacks("links to unsubscribe: set --public-url (CAMPAIGN_PUBLIC_URL)");
    }
    if values.postal_address.is_none() {
        return lacks("the sender's postal address: set --postal-address (CAMPAIGN_POSTAL_ADDRESS)");
    }
    Ok(())
}

/// Checks that each body shows the link to unsubscribe to this very customer: a condition in the text may hide it, which nobody
/// can see before.
fn shows_link(texts: &Rendered, url: &str) -> Result<(), String> {
    let Rendered::Email { text, html, .. } = texts else {
        return Ok(());
    };
    let html = html
        .as_ref()
        .map(|html| html.replace("&#x2f;", "/").replace("&amp;", "&"));
    for (field, body) in [("text_body", text), ("html_body", &html)] {
        if body.as_ref().is_some_and(|body| !body.contains(url)) {
            return Err(format!(
                "{field} does not show the link to unsubscribe to this customer"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: Option<&str>, html: Option<&str>, expected: Result<(), &str>) {
        let texts = Rendered::Email {
            subject: "s".to_owned(),
            preheader: None,
            text: text.map(ToOwned::to_owned),
            html: html.map(ToOwned::to_owned),
        };
        let shown = shows_link(&texts, "https://x.example/u/AB-_c");
        match (&shown, expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(field)) => assert!(error.starts_with(field), "{error}"),
            _ => panic!("{text:?} {html:?}: {shown:?}"),
        }
    }

    #[test]
    fn a_marketing_mail_shows_its_link_in_each_body() {
        let url = "https://x.example/u/AB-_c";
        check(Some(url), None, Ok(()));
        check(
            Some(&format!("Bye: {url}.")),
            Some("<a href=\"https:&#x2f;&#x2f;x.example&#x2f;u&#x2f;AB-_c\">"),
            Ok(()),
        );
        check(None, Some(url), Ok(()));
        check(Some("x"), Some(url), Err("text_body"));
        check(Some(url), Some("x"), Err("html_body"));
        check(Some(&url.to_uppercase()), None, Err("text_body"));
        let sms = Rendered::Sms { text: "x".to_owned() };
        assert_eq!(shows_link(&sms, url), Ok(()));
    }
}
