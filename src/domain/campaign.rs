//! What actions send.

use super::{ActionType, CampaignId, Timestamp};

/// The stored content of a campaign. Empty text: there is none. All parts but id and name are templates.
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
