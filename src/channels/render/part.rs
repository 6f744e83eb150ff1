//! The texts that a campaign can have.

use std::fmt;

use crate::domain::Campaign;

/// A text of a campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The subject of a mail, or the title of a task.
    Subject,
    /// What mail programs show beside the subject.
    Preheader,
    /// The plain text of a mail, or the description of a task.
    TextBody,
    /// The HTML of a mail.
    HtmlBody,
    /// A text message.
    SmsText,
    /// What is said in a call.
    CallScript,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 6] = [
        Self::Subject,
        Self::Preheader,
        Self::TextBody,
        Self::HtmlBody,
        Self::SmsText,
        Self::CallScript,
    ];

    /// The name of the campaign's field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Preheader => "preheader",
            Self::TextBody => "text_body",
            Self::HtmlBody => "html_body",
            Self::SmsText => "sms_text",
            Self::CallScript => "call_script",
        }
    }

    /// This text of a campaign; empty when it has none.
    pub(super) fn of(self, campaign: &Campaign) -> &str {
        match self {
            Self::Subject => &campaign.subject,
            Self::Preheader => &campaign.preheader,
            Self::TextBody => &campaign.text_body,
            Self::HtmlBody => &campaign.html_body,
            Self::SmsText => &campaign.sms_text,
            Self::CallScript => &campaign.call_script,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
