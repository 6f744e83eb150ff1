//! Whether mails are opened and their links followed: what is put into them, and what is recorded when somebody comes.

use sha2::{Digest as _, Sha256};

use super::{Engine, EngineError, RecordOutcome};
use crate::channels::{Rendered, is_link_target, tracked_html};
use crate::domain::text::hexadecimal;
use crate::domain::{ActionId, CustomerId, Engagement, EngagementKind, ProgressId, Run, Tracking};
use crate::keys::Purpose;

/// The form of what is sealed in a token. Mails are kept for years, so a new form gets a new number, and old ones are read on.
const FORM: u8 = 1;

/// What the picture in a mail says: which mail it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenLink {
    customer: CustomerId,
    run: ProgressId,
    action: ActionId,
}

/// What a link in a mail says: which mail it is in, and where it leads. Nobody but this deployment can make one, so it leads nowhere
/// but where a campaign says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClickLink {
    mail: OpenLink,
    target: String,
}

impl OpenLink {
    fn to_bytes(&self) -> Vec<u8> {
        let customer = self.customer.as_str().as_bytes();
        let mut bytes = vec![FORM];
        bytes.extend(self.run.0.to_be_bytes());
        bytes.extend(self.action.0.to_be_bytes());
        // At most 64 letters.
        bytes.push(u8::try_from(customer.len()).unwrap_or(u8::MAX));
        bytes.extend(customer);
        bytes
    }

    /// Also what follows it.
    fn from_bytes(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (form, rest) = bytes.split_first()?;
        let (run, rest) = rest.split_first_chunk()?;
        let (action, rest) = rest.split_first_chunk()?;
        let (len, rest) = rest.split_first()?;
        let (customer, rest) = rest.split_at_checked(usize::from(*len))?;
        let link = Self {
            customer: CustomerId::parse(std::str::from_utf8(customer).ok()?).ok()?,
            run: ProgressId(i64::from_be_bytes(*run)),
            action: ActionId(i64::from_be_bytes(*action)),
        };
        (*form == FORM).then_some((link, rest))
    }
}

impl ClickLink {
    /// Where it leads: a URL as [`is_link_target`] has it.
    pub fn target(&self) -> &str {
        &self.target
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.mail.to_bytes();
        bytes.extend(self.target.as_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (mail, target) = OpenLink::from_bytes(bytes)?;
        let target = std::str::from_utf8(target).ok()?.to_owned();
        is_link_target(&target).then_some(Self { mail, target })
    }
}

impl Engine {
    /// A mail with what tells that it is read, as far as its campaign asks for it; without a public URL as it is. The same over all
    /// attempts.
    pub(super) fn tracked(&self, texts: Rendered, tracking: Tracking, run: &Run, action: ActionId) -> Rendered {
        let (Rendered::Email { html: Some(html), .. }, Some(public_url)) = (&texts, &self.settings.public_url) else {
            return texts;
        };
        let mail = OpenLink {
            customer: run.customer_id.clone(),
            run: run.id,
            action,
        };
        let own = public_url.to_string();
        let link = |target: &str| {
            let is_own = target
                .get(..own.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(&own));
            if !tracking.clicks || is_own {
                return None;
            }
            let link = ClickLink {
                mail: mail.clone(),
                target: target.to_owned(),
            };
            Some(public_url.join("c", &self.keys.seal(Purpose::Click, &link.to_bytes())))
        };
        let picture = || public_url.join("o", &self.keys.seal(Purpose::Open, &mail.to_bytes()));
        let picture = tracking.opens.then(picture);
        let tracked = tracked_html(html, link, picture.as_deref());
        match texts {
            Rendered::Email {
                subject,
                preheader,
                text,
                html: _,
            } => Rendered::Email {
                subject,
                preheader,
                text,
                html: Some(tracked),
            },
            other @ (Rendered::Sms { .. } | Rendered::Call { .. } | Rendered::Task { .. }) => other,
        }
    }

    /// What the token of a picture says. None: this deployment did not make it.
    pub fn read_open_link(&self, token: &str) -> Option<OpenLink> {
        let opened = self.keys.open(Purpose::Open, token)?;
        let (link, rest) = OpenLink::from_bytes(&opened)?;
        rest.is_empty().then_some(link)
    }

    /// What the token of a link says. None: this deployment did not make it.
    pub fn read_click_link(&self, token: &str) -> Option<ClickLink> {
        ClickLink::from_bytes(&self.keys.open(Purpose::Click, token)?)
    }

    /// Records that a mail was opened: once, however often it is.
    pub async fn mail_opened(&self, link: &OpenLink) -> Result<(), EngineError> {
        let id = format!("open-{}-{}", link.run, link.action);
        self.mail_read(link, EngagementKind::EmailOpened, id).await
    }

    /// Records that a link of a mail was followed: once, however often it is.
    pub async fn link_followed(&self, link: &ClickLink) -> Result<(), EngineError> {
        let target = hexadecimal(&Sha256::digest(link.target.as_bytes())[..8]);
        let id = format!("click-{}-{}-{target}", link.mail.run, link.mail.action);
        self.mail_read(&link.mail, EngagementKind::EmailClicked, id).await
    }

    async fn mail_read(&self, mail: &OpenLink, kind: EngagementKind, event_id: String) -> Result<(), EngineError> {
        let now = self.clock.now();
        let event = Engagement {
            customer_id: mail.customer.clone(),
            event_id,
            kind,
            occurred_at: now,
            received_at: now,
            about: Some((mail.run, mail.action)),
        };
        for outcome in self.record_engagements(vec![event]).await? {
            // Whoever was erased since may still read his mails.
            if let RecordOutcome::Refused(why) = outcome {
                tracing::debug!("a mail was read, which is not recorded: {why}");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_links_say_is_read_as_it_was_written() {
        let mail = OpenLink {
            customer: CustomerId::parse(&"x".repeat(64)).expect("valid"),
            run: ProgressId(i64::MAX),
            action: ActionId(7),
        };
        let written = mail.to_bytes();
        assert_eq!(OpenLink::from_bytes(&written), Some((mail.clone(), &[][..])));
        for len in 0..written.len() {
            assert_eq!(OpenLink::from_bytes(&written[..len]), None, "{len}");
        }
        assert_eq!(OpenLink::from_bytes(&[&[2], &written[1..]].concat()), None);
        let target = "https://x.example/?a=b".to_owned();
        let click = ClickLink { mail, target };
        let written = click.to_bytes();
        assert_eq!(ClickLink::from_bytes(&written), Some(click));
        for bad in [
            "",
            "javascript:alert(1)",
            "/x",
            "https://u@x.example",
            "https://x.example/\r\nX: y",
        ] {
            let link = [
                &written[..written.len() - "https://x.example/?a=b".len()],
                bad.as_bytes(),
            ]
            .concat();
            assert_eq!(ClickLink::from_bytes(&link), None, "{bad}");
        }
    }
}
