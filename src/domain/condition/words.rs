//! Conditions and what they found, for people.

use chrono::Duration;
use std::fmt;

use super::{Comparison, EngagementQuery, Fact, Finding, Leaf, LeafFinding, Then};
use crate::domain::{EngagementKind, Timestamp};

impl Finding {
    /// What the condition came to at `now`, in one line.
    pub fn in_words(&self, now: Timestamp) -> String {
        let leaves: Vec<String> = self.leaves.iter().map(|leaf| leaf.in_words(now)).collect();
        let says = match self.verdict {
            Then::Skip => "skip",
            Then::Execute => "execute",
        };
        let holds = if self.holds { "holds" } else { "does not hold" };
        format!("{}: {holds}, so {says}", leaves.join("; "))
    }
}

impl LeafFinding {
    fn in_words(&self, now: Timestamp) -> String {
        let seen = match &self.fact {
            Some(Fact::Event(at)) => format!("last at {}, {} ago", at.format("%FT%TZ"), span(now - *at)),
            Some(Fact::Score(score)) => format!("it is {score}"),
            Some(Fact::Stage(stage)) => format!("it is {stage}"),
            Some(Fact::Attribute(value)) => format!("it is {value}"),
            Some(Fact::Task(outcome)) => format!("it is {}", outcome.as_str()),
            None => match self.leaf {
                Leaf::Engaged { .. } => "never so far".to_owned(),
                Leaf::TaskOutcome { .. } => "not reported so far".to_owned(),
                Leaf::EngagementScoreAbove { .. } | Leaf::PipelineStage { .. } | Leaf::Attribute { .. } => {
                    "there is none".to_owned()
                }
            },
        };
        format!("{} ({seen})", self.leaf)
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engaged { query, within_hours } => write!(f, "{query} within {within_hours} hours"),
            Self::EngagementScoreAbove { threshold } => write!(f, "engagement_score above {threshold}"),
            Self::PipelineStage { stage } => write!(f, "pipeline_stage is {stage}"),
            Self::TaskOutcome { of_action, is } => write!(f, "task_outcome of {of_action} is {}", is.as_str()),
            Self::Attribute { name, comparison } => match comparison {
                Comparison::Equals(value) => write!(f, "attribute {name} equals {value}"),
                Comparison::NotEquals(value) => write!(f, "attribute {name} does not equal {value}"),
                Comparison::Exists(true) => write!(f, "attribute {name} exists"),
                Comparison::Exists(false) => write!(f, "attribute {name} does not exist"),
                Comparison::Greater(bound) => write!(f, "attribute {name} is greater than {bound}"),
                Comparison::Less(bound) => write!(f, "attribute {name} is less than {bound}"),
            },
        }
    }
}

impl fmt::Display for EngagementQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            EngagementKind::EmailOpened => f.write_str("email_opened")?,
            EngagementKind::EmailClicked => f.write_str("email_clicked")?,
            EngagementKind::Replied => f.write_str("replied")?,
            EngagementKind::Custom(name) => write!(f, "event {name}")?,
        }
        match &self.of_action {
            Some(key) => write!(f, " of {key}"),
            None => Ok(()),
        }
    }
}

/// A length of time in its two largest units.
fn span(span: Duration) -> String {
    let minutes = span.num_minutes();
    let (days, hours) = (minutes / 1440, minutes / 60 % 24);
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, hours) => format!("{hours} h {} min", minutes % 60),
        (days, hours) => format!("{days} d {hours} h"),
    }
}
