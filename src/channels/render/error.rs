//! Why a campaign's text cannot be filled in.

use std::fmt;

use super::Part;
use crate::domain::{CampaignId, Channel};

/// Why a text cannot be filled in. It holds names and places, never a customer's values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The template is no template.
    #[error("{at}: {problem}")]
    Template {
        /// Where.
        at: Place,
        /// What is wrong.
        problem: String,
    },
    /// A variable is not there, or has no value.
    #[error("{at}: no value for {}", variables(.names))]
    Variable {
        /// Where.
        at: Place,
        /// Which it can be; empty when that is not known.
        names: Vec<String>,
    },
    /// Filling in failed otherwise.
    #[error("{at}: {problem}")]
    Failed {
        /// Where.
        at: Place,
        /// What is wrong.
        problem: String,
    },
    /// A text of one line came out with a line break or another control character.
    #[error("{0}: a control character, such as a line break, in what must be one line")]
    ControlCharacter(Part),
    /// A text came out empty.
    #[error("{0}: nothing but white space came out")]
    Blank(Part),
    /// The campaign has no text for this channel.
    #[error("{channel} needs {needs}, which campaign {campaign} does not have", channel = .channel.as_str())]
    Missing {
        /// The channel.
        channel: Channel,
        /// The campaign.
        campaign: CampaignId,
        /// The field, or the fields of which one is needed.
        needs: &'static str,
    },
    /// Nothing is ever sent on this channel.
    #[error("nothing is sent on channel {}", .0.as_str())]
    NothingToSend(Channel),
}

/// Where in a campaign an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// In which text; none when a template is checked by itself.
    pub part: Option<Part>,
    /// In which line of it, from 1, when that is known.
    pub line: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.part, self.line) {
            (Some(part), Some(line)) => write!(f, "{part}, line {line}"),
            (Some(part), None) => part.fmt(f),
            (None, Some(line)) => write!(f, "line {line}"),
            (None, None) => f.write_str("template"),
        }
    }
}

impl RenderError {
    /// The template is none.
    pub(super) fn template(part: Option<Part>, error: &minijinja::Error) -> Self {
        Self::Template {
            at: Place {
                part,
                line: error.line(),
            },
            problem: problem(error),
        }
    }

    /// Filling in failed.
    pub(super) fn failed(part: Part, error: &minijinja::Error) -> Self {
        Self::Failed {
            at: Place {
                part: Some(part),
                line: error.line(),
            },
            problem: problem(error),
        }
    }
}

fn problem(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

fn variables(names: &[String]) -> String {
    match names {
        [] => "a variable".to_owned(),
        names => names.join(", "),
    }
}
