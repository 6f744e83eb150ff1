//! What actions send.

use super::{ActionType, CampaignId, MailHeaders, Timestamp};

/// What kind of campaign it is, and so what law asks of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CampaignKind {
    /// It advertises.
    Marketing,
    /// It serves what the customer asked for.
    Transactional,
}

impl CampaignKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Marketing, Self::Transactional];

    /// The stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Marketing => "marketing",
            Self::Transactional => "transactional",
        }
    }
}

/// What is watched of the mails of a campaign, in their HTML.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tracking {
    /// Whether they are opened, by a picture that nobody sees.
    pub opens: bool,
    /// Whether their links are followed, by way of this server.
    pub clicks: bool,
}

/// The stored content of a campaign. Empty text: there is none. Subject, preheader, bodies, SMS and script are templates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Campaign {
    /// Its id.
    pub id: CampaignId,
    /// The name for people.
    pub name: String,
    /// The subject of a mail, or the title of a task.
    pub subject: String,
    /// The plain text of a mail, or the description of a task.
    pub text_body: String,
    /// The HTML of a mail.
    pub html_body: String,
    /// The text of an SMS.
    pub sms_text: String,
    /// What a call says.
    pub call_script: String,
    /// What kind it is.
    pub kind: CampaignKind,
    /// What mail programs show beside the subject.
    pub preheader: String,
    /// Who its mails are from, a mailbox; empty: the deployment's sender.
    pub sender: String,
    /// Where answers go, a mailbox; empty: to the sender.
    pub reply_to: String,
    /// More headers of its mails.
    pub headers: MailHeaders,
    /// What is watched of its mails.
    pub tracking: Tracking,
    /// Into how many parts its text message may be split, 1 to 10.
    pub sms_max_segments: u8,
    /// Counts the versions from 1. Also its etag.
    pub revision: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Campaign {
    /// What an action of this type needs and this campaign has not.
    pub fn lacks_for(&self, action_type: ActionType) -> Option<&'static str> {
        let missing = match action_type {
            ActionType::SendEmail | ActionType::CreateTask if self.subject.is_empty() => "subject",
            ActionType::SendEmail if self.text_body.is_empty() && self.html_body.is_empty() => "text_body or html_body",
            ActionType::SendSms if self.sms_text.is_empty() => "sms_text",
            ActionType::MakeCall if self.call_script.is_empty() => "call_script",
            ActionType::SendEmail
            | ActionType::SendSms
            | ActionType::MakeCall
            | ActionType::CreateTask
            | ActionType::Wait
            | ActionType::CheckCondition => return None,
        };
        Some(missing)
    }
}
