//! The stored form of conditions: JSON in the original system's shape.
//!
//! A leaf is `{"if":"email_opened","within_hours":48}`, and so are the others with their operands; `all` and `any` have a list
//! in `of`, and `not` one test. The outermost one has `then` as well, and no other.

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value, json};

use super::{Comparison, Condition, EngagementQuery, Leaf, MAX_DEPTH, Test, Then};
use crate::domain::{EngagementKind, Stage, TaskOutcome};

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "if", rename_all = "snake_case", deny_unknown_fields)]
enum Stored {
    EmailOpened {
        within_hours: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        of_action: Option<String>,
    },
    EmailClicked {
        within_hours: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        of_action: Option<String>,
    },
    Replied {
        within_hours: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        of_action: Option<String>,
    },
    Event {
        name: String,
        within_hours: u32,
    },
    EngagementScoreAbove {
        threshold: i32,
    },
    PipelineStage {
        stage: String,
    },
    Attribute {
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        equals: Option<Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        not_equals: Option<Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        exists: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        greater: Option<Number>,
        #[serde(skip_serializing_if = "Option::is_none")]
        less: Option<Number>,
    },
    TaskOutcome {
        of_action: String,
        is: TaskOutcome,
    },
    All {
        of: Vec<Stored>,
    },
    Any {
        of: Vec<Stored>,
    },
    Not {
        of: Box<Stored>,
    },
}

/// The stored JSON of a list of conditions.
pub fn to_json(conditions: &[Condition]) -> Value {
    let one = |condition: &Condition| {
        let mut stored = json!(Stored::from(&condition.test));
        stored["then"] = json!(condition.then);
        stored
    };
    Value::Array(conditions.iter().map(one).collect())
}

/// Reads a list of conditions from its stored JSON: a list, or one condition alone as the original system has it. The
/// error says what is wrong.
pub fn from_json(json: Value) -> Result<Vec<Condition>, String> {
    let list = match json {
        Value::Null => Vec::new(),
        Value::Array(list) => list,
        one @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => vec![one],
    };
    list.into_iter().map(read).collect()
}

fn read(mut json: Value) -> Result<Condition, String> {
    let text = |error: serde_json::Error| error.to_string();
    let then = json.as_object_mut().and_then(|object| object.remove("then"));
    let then: Then = serde_json::from_value(then.ok_or("no then")?).map_err(text)?;
    let stored: Stored = serde_json::from_value(json).map_err(text)?;
    let test = stored.into_test(MAX_DEPTH)?;
    Ok(Condition { test, then })
}

impl From<&Test> for Stored {
    fn from(test: &Test) -> Self {
        match test {
            Test::Leaf(leaf) => Self::from(leaf),
            Test::All(tests) => Self::All {
                of: tests.iter().map(Self::from).collect(),
            },
            Test::Any(tests) => Self::Any {
                of: tests.iter().map(Self::from).collect(),
            },
            Test::Not(test) => Self::Not {
                of: Box::new(Self::from(&**test)),
            },
        }
    }
}

impl From<&Leaf> for Stored {
    fn from(leaf: &Leaf) -> Self {
        match leaf {
            Leaf::Engaged { query, within_hours } => {
                let (within_hours, of_action) = (*within_hours, query.of_action.clone());
                match &query.kind {
                    EngagementKind::EmailOpened => Self::EmailOpened {
                        within_hours,
                        of_action,
                    },
                    EngagementKind::EmailClicked => Self::EmailClicked {
                        within_hours,
                        of_action,
                    },
                    EngagementKind::Replied => Self::Replied {
                        within_hours,
                        of_action,
                    },
                    EngagementKind::Custom(name) => Self::Event {
                        name: name.clone(),
                        within_hours,
                    },
                }
            }
            Leaf::EngagementScoreAbove { threshold } => Self::EngagementScoreAbove { threshold: *threshold },
            Leaf::PipelineStage { stage } => Self::PipelineStage {
                stage: stage.as_str().to_owned(),
            },
            Leaf::TaskOutcome { of_action, is } => Self::TaskOutcome {
                of_action: of_action.clone(),
                is: *is,
            },
            Leaf::Attribute { name, comparison } => {
                let (mut equals, mut not_equals, mut exists, mut greater, mut less) = (None, None, None, None, None);
                match comparison {
                    Comparison::Equals(value) => equals = Some(value.clone()),
                    Comparison::NotEquals(value) => not_equals = Some(value.clone()),
                    Comparison::Exists(is_there) => exists = Some(*is_there),
                    Comparison::Greater(bound) => greater = Some(bound.clone()),
                    Comparison::Less(bound) => less = Some(bound.clone()),
                }
                Self::Attribute {
                    name: name.clone(),
                    equals,
                    not_equals,
                    exists,
                    greater,
                    less,
                }
            }
        }
    }
}

impl Stored {
    /// The test, if combinators are at most so deep in it.
    fn into_test(self, depth: usize) -> Result<Test, String> {
        let deeper = || {
            let too_deep = || format!("nested more than {MAX_DEPTH} deep");
            depth.checked_sub(1).ok_or_else(too_deep)
        };
        let each = |of: Vec<Self>| {
            let depth = deeper()?;
            of.into_iter()
                .map(|test| test.into_test(depth))
                .collect::<Result<Vec<Test>, String>>()
        };
        let engaged = |kind, within_hours, of_action| Leaf::Engaged {
            query: EngagementQuery { kind, of_action },
            within_hours,
        };
        let leaf = match self {
            Self::All { of } => return each(of).map(Test::All),
            Self::Any { of } => return each(of).map(Test::Any),
            Self::Not { of } => return Ok(Test::Not(Box::new(of.into_test(deeper()?)?))),
            Self::EmailOpened {
                within_hours,
                of_action,
            } => engaged(EngagementKind::EmailOpened, within_hours, of_action),
            Self::EmailClicked {
                within_hours,
                of_action,
            } => engaged(EngagementKind::EmailClicked, within_hours, of_action),
            Self::Replied {
                within_hours,
                of_action,
            } => engaged(EngagementKind::Replied, within_hours, of_action),
            Self::Event { name, within_hours } => engaged(EngagementKind::Custom(name), within_hours, None),
            Self::EngagementScoreAbove { threshold } => Leaf::EngagementScoreAbove { threshold },
            Self::TaskOutcome { of_action, is } => Leaf::TaskOutcome { of_action, is },
            Self::PipelineStage { stage } => Leaf::PipelineStage {
                stage: Stage::parse(&stage).map_err(|error| error.to_string())?,
            },
            Self::Attribute {
                name,
                equals,
                not_equals,
                exists,
                greater,
                less,
            } => {
                let comparison = match (equals, not_equals, exists, greater, less) {
                    (Some(value), None, None, None, None) => Comparison::Equals(canonical(value)),
                    (None, Some(value), None, None, None) => Comparison::NotEquals(canonical(value)),
                    (None, None, Some(is_there), None, None) => Comparison::Exists(is_there),
                    (None, None, None, Some(bound), None) => Comparison::Greater(canonical_number(bound)),
                    (None, None, None, None, Some(bound)) => Comparison::Less(canonical_number(bound)),
                    (_, _, _, _, _) => {
                        return Err("not exactly one of equals, not_equals, exists, greater, less".to_owned());
                    }
                };
                Leaf::Attribute { name, comparison }
            }
        };
        Ok(Test::Leaf(leaf))
    }
}

/// `PostgreSQL` writes numbers its own way, and what comes back must be equal to what went.
fn canonical(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(canonical_number(number)),
        other @ (Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => other,
    }
}

fn canonical_number(number: Number) -> Number {
    number.as_f64().and_then(super::number).unwrap_or(number)
}
