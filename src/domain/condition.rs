//! Conditions of actions: what is tested, and what follows.
//!
//! They are stored as JSON in the original system's shape, `{"if":"email_opened","within_hours":48,"then":"skip"}`.

use chrono::Duration;
use serde::{Deserialize, Serialize};

use super::{Facts, Stage, Timestamp};

/// A test of what is known about the customer, and what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// What is tested.
    pub test: Test,
    /// What follows when it holds; when it does not, the opposite does.
    pub then: Then,
}

/// What is tested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// A mail was opened at an instant t with now − `within_hours` ≤ t ≤ now.
    EmailOpened {
        /// The window in hours, 1..=8760.
        within_hours: u32,
    },
    /// The engagement score is strictly above the threshold.
    EngagementScoreAbove {
        /// The threshold, −1,000,000..=1,000,000.
        threshold: i32,
    },
    /// The customer is in this stage.
    PipelineStage {
        /// The stage.
        stage: Stage,
    },
}

/// What a condition says, or a list of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// The action is not carried out.
    Skip,
    /// It is.
    Execute,
}

/// What a list of conditions says: each in turn, the first that says skip decides.
pub fn verdict(conditions: &[Condition], facts: &Facts, now: Timestamp) -> Then {
    let skips = conditions
        .iter()
        .any(|condition| condition.verdict(facts, now) == Then::Skip);
    if skips { Then::Skip } else { Then::Execute }
}

impl Condition {
    /// What this condition says.
    fn verdict(&self, facts: &Facts, now: Timestamp) -> Then {
        match (self.test.holds(facts, now), self.then) {
            (true, then) => then,
            (false, Then::Skip) => Then::Execute,
            (false, Then::Execute) => Then::Skip,
        }
    }

    /// Whether the instant of the last opened mail is needed to decide.
    pub fn needs_last_opened(&self) -> bool {
        match self.test {
            Test::EmailOpened { .. } => true,
            Test::EngagementScoreAbove { .. } | Test::PipelineStage { .. } => false,
        }
    }
}

impl Test {
    fn holds(&self, facts: &Facts, now: Timestamp) -> bool {
        match self {
            Self::EmailOpened { within_hours } => {
                let since = now - Duration::hours(i64::from(*within_hours));
                facts.last_opened.is_some_and(|opened| since <= opened && opened <= now)
            }
            Self::EngagementScoreAbove { threshold } => facts.engagement_score > *threshold,
            Self::PipelineStage { stage } => facts.pipeline_stage.as_ref() == Some(stage),
        }
    }
}

/// The stored form of a condition.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "if", rename_all = "snake_case", deny_unknown_fields)]
enum Stored {
    EmailOpened { within_hours: u32, then: Then },
    EngagementScoreAbove { threshold: i32, then: Then },
    PipelineStage { stage: String, then: Then },
}

/// The stored JSON of a list of conditions.
pub fn to_json(conditions: &[Condition]) -> serde_json::Value {
    let stored = conditions.iter().map(|Condition { test, then }| {
        let then = *then;
        match test {
            Test::EmailOpened { within_hours } => Stored::EmailOpened {
                within_hours: *within_hours,
                then,
            },
            Test::EngagementScoreAbove { threshold } => Stored::EngagementScoreAbove {
                threshold: *threshold,
                then,
            },
            Test::PipelineStage { stage } => Stored::PipelineStage {
                stage: stage.as_str().to_owned(),
                then,
            },
        }
    });
    serde_json::json!(stored.collect::<Vec<_>>())
}

/// Reads a list of conditions from its stored JSON: a list, or one condition alone as the original system has it.
pub fn from_json(json: serde_json::Value) -> Result<Vec<Condition>, String> {
    let list = match json {
        serde_json::Value::Null => Vec::new(),
        serde_json::Value::Array(list) => list,
        one @ (serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_)
        | serde_json::Value::Object(_)) => vec![one],
    };
    list.into_iter()
        .map(|value| {
            let stored: Stored = serde_json::from_value(value).map_err(|error| error.to_string())?;
            let (test, then) = match stored {
                Stored::EmailOpened { within_hours, then } => (Test::EmailOpened { within_hours }, then),
                Stored::EngagementScoreAbove { threshold, then } => (Test::EngagementScoreAbove { threshold }, then),
                Stored::PipelineStage { stage, then } => {
                    let stage = Stage::parse(&stage).map_err(|error| error.to_string())?;
                    (Test::PipelineStage { stage }, then)
                }
            };
            Ok(Condition { test, then })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts(score: i32, stage: Option<&str>, opened_hours_ago: Option<f64>) -> (Facts, Timestamp) {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().expect("an instant");
        #[expect(clippy::cast_possible_truncation, reason = "a handful of hours")]
        let opened = opened_hours_ago.map(|hours| now - Duration::microseconds((hours * 3.6e9) as i64));
        let facts = Facts {
            engagement_score: score,
            pipeline_stage: stage.map(|stage| Stage::parse(stage).expect("a stage")),
            last_opened: opened,
            ..Facts::default()
        };
        (facts, now)
    }

    #[track_caller]
    fn check(json: &serde_json::Value, (facts, now): (Facts, Timestamp), expected: Then) {
        let conditions = from_json(json.clone()).expect("a condition");
        assert_eq!(verdict(&conditions, &facts, now), expected, "{json}");
    }

    #[test]
    fn opened_within_has_both_ends() {
        let skip = json!({"if": "email_opened", "within_hours": 48, "then": "skip"});
        let execute = json!({"if": "email_opened", "within_hours": 48, "then": "execute"});
        for (ago, skipped) in [
            (None, false),
            (Some(48.0), true),
            (Some(48.0001), false),
            (Some(0.0), true),
            (Some(-0.01), false),
        ] {
            let (as_skip, as_execute) = if skipped {
                (Then::Skip, Then::Execute)
            } else {
                (Then::Execute, Then::Skip)
            };
            check(&skip, facts(0, None, ago), as_skip);
            check(&execute, facts(0, None, ago), as_execute);
        }
    }

    #[test]
    fn above_is_strictly_above() {
        let skip = json!({"if": "engagement_score_above", "threshold": 50, "then": "skip"});
        check(&skip, facts(50, None, None), Then::Execute);
        check(&skip, facts(51, None, None), Then::Skip);
        let execute = json!({"if": "engagement_score_above", "threshold": 50, "then": "execute"});
        check(&execute, facts(50, None, None), Then::Skip);
        check(&execute, facts(51, None, None), Then::Execute);
    }

    #[test]
    fn the_stage_is_compared_whole() {
        let execute = json!({"if": "pipeline_stage", "stage": "hook", "then": "execute"});
        check(&execute, facts(0, Some("hook"), None), Then::Execute);
        check(&execute, facts(0, Some("hooked"), None), Then::Skip);
        check(&execute, facts(0, None, None), Then::Skip);
    }

    #[test]
    fn the_first_that_says_skip_decides() {
        let list = json!([
            {"if": "pipeline_stage", "stage": "hook", "then": "execute"},
            {"if": "engagement_score_above", "threshold": 50, "then": "skip"},
        ]);
        check(&list, facts(0, Some("hook"), None), Then::Execute);
        check(&list, facts(51, Some("hook"), None), Then::Skip);
        check(&list, facts(0, None, None), Then::Skip);
        check(&json!([]), facts(0, None, None), Then::Execute);
        check(&json!(null), facts(0, None, None), Then::Execute);
    }

    #[test]
    fn json_comes_back_as_it_went() {
        let list = json!([
            {"if": "email_opened", "within_hours": 48, "then": "skip"},
            {"if": "engagement_score_above", "threshold": -5, "then": "execute"},
            {"if": "pipeline_stage", "stage": "hook", "then": "execute"},
        ]);
        assert_eq!(to_json(&from_json(list.clone()).expect("conditions")), list);
        for bad in [
            json!({"if": "email_opened", "then": "skip"}),
            json!({"if": "moon_full", "then": "skip"}),
            json!({"if": "pipeline_stage", "stage": "NOT OK", "then": "skip"}),
            json!({"if": "email_opened", "within_hours": 48}),
            json!("skip"),
        ] {
            assert!(from_json(bad.clone()).is_err(), "{bad}");
        }
    }
}
