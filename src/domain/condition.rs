//! Conditions of actions: what is tested, what follows, and what was seen.
//!
//! There is one evaluation, [`findings`]. [`verdict`] is what it comes to, and whoever explains a decision shows all of it.

mod json;
mod words;

use chrono::Duration;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::{EngagementKind, Facts, Stage, TaskOutcome, Timestamp};
pub use json::{from_json, to_json};

/// How deep `all`, `any` and `not` may stand in one another.
pub const MAX_DEPTH: usize = 5;

/// The most leaves of one condition.
pub const MAX_LEAVES: usize = 50;

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
    /// One question.
    Leaf(Leaf),
    /// All hold.
    All(Vec<Test>),
    /// At least one holds.
    Any(Vec<Test>),
    /// It does not hold.
    Not(Box<Test>),
}

/// One question about the customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaf {
    /// The customer did this at an instant t with now − `within_hours` ≤ t ≤ now.
    Engaged {
        /// What.
        query: EngagementQuery,
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
    /// An attribute of the customer is as described.
    Attribute {
        /// Its name.
        name: String,
        /// What it is compared with.
        comparison: Comparison,
    },
    /// A task of the run was reported with this outcome.
    TaskOutcome {
        /// The key of the task.
        of_action: String,
        /// What came of it.
        is: TaskOutcome,
    },
}

/// What a customer may have done, and about what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EngagementQuery {
    /// What.
    pub kind: EngagementKind,
    /// The key of the action of this run that it must be about; none: it may be about anything. Never with a custom event.
    pub of_action: Option<String>,
}

/// What an attribute is compared with. Values are texts, numbers or truth values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// It is this. Not of one that is missing.
    Equals(Value),
    /// It is something else, or missing.
    NotEquals(Value),
    /// Whether it is there.
    Exists(bool),
    /// It is a number above this.
    Greater(Number),
    /// It is a number below this.
    Less(Number),
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

/// What a condition came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The condition.
    pub condition: Condition,
    /// Whether its test holds.
    pub holds: bool,
    /// What it says.
    pub verdict: Then,
    /// Its leaves, in order.
    pub leaves: Vec<LeafFinding>,
}

/// What a leaf found.
#[derive(Debug, Clone, PartialEq)]
pub struct LeafFinding {
    /// The leaf.
    pub leaf: Leaf,
    /// Whether it holds by itself.
    pub holds: bool,
    /// What was seen; none: nothing was there.
    pub fact: Option<Fact>,
}

/// What was seen of a customer.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// When it was last done, in the window or before it.
    Event(Timestamp),
    /// The score.
    Score(i32),
    /// The stage.
    Stage(Stage),
    /// The attribute's value.
    Attribute(Value),
    /// What came of the task.
    Task(TaskOutcome),
}

/// What conditions ask about a customer, so that no more is loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// What was done, and how long ago it may have been and still matter.
    pub engagements: BTreeMap<EngagementQuery, Reach>,
    /// Names of attributes.
    pub attributes: BTreeSet<String>,
}

/// How far back something matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// So many hours.
    Hours(u32),
    /// However long ago it was.
    Ever,
}

/// What a list of conditions says: each in turn, the first that says skip decides.
pub fn verdict(conditions: &[Condition], facts: &Facts, now: Timestamp) -> Then {
    match skips(conditions, facts, now) {
        Some(_) => Then::Skip,
        None => Then::Execute,
    }
}

/// The condition of a list that says skip, if one does: the first.
pub fn skips(conditions: &[Condition], facts: &Facts, now: Timestamp) -> Option<Finding> {
    let mut findings = findings(conditions, facts, now).into_iter();
    findings.find(|finding| finding.verdict == Then::Skip)
}

/// What each condition of a list comes to at an instant, by itself, and what was seen.
pub fn findings(conditions: &[Condition], facts: &Facts, now: Timestamp) -> Vec<Finding> {
    let finding = |condition: &Condition| {
        let mut leaves = Vec::new();
        let holds = condition.test.evaluate(facts, now, &mut leaves);
        let verdict = match (holds, condition.then) {
            (true, then) => then,
            (false, Then::Skip) => Then::Execute,
            (false, Then::Execute) => Then::Skip,
        };
        Finding {
            condition: condition.clone(),
            holds,
            verdict,
            leaves,
        }
    };
    conditions.iter().map(finding).collect()
}

impl Asked {
    /// What these conditions ask.
    pub fn by<'a>(conditions: impl IntoIterator<Item = &'a Condition>) -> Self {
        let mut asked = Self::default();
        let leaves = conditions.into_iter().flat_map(|condition| {
            let leaves = condition.test.leaves().into_iter();
            leaves.map(|leaf| (leaf, condition.reach()))
        });
        for (leaf, reach) in leaves {
            match leaf {
                Leaf::Engaged { query, .. } => asked.ask(query, reach),
                Leaf::Attribute { name, .. } => drop(asked.attributes.insert(name.clone())),
                Leaf::EngagementScoreAbove { .. } | Leaf::PipelineStage { .. } | Leaf::TaskOutcome { .. } => {}
            }
        }
        asked
    }

    /// Also asks when a customer last did something.
    pub fn ask(&mut self, query: &EngagementQuery, reach: Reach) {
        let known = self.engagements.entry(query.clone()).or_insert(reach);
        *known = reach.max(*known);
    }

    /// Since when what was done matters at an instant; none: since ever.
    pub fn since(&self, now: Timestamp) -> Option<Timestamp> {
        match self.engagements.values().max() {
            Some(Reach::Hours(hours)) => Some(now - Duration::hours(i64::from(*hours))),
            Some(Reach::Ever) | None => None,
        }
    }
}

impl Condition {
    /// How far back what it asks matters. Of one that says skip when something was done, what was before its window is never told;
    /// of any other it is told why it said skip.
    fn reach(&self) -> Reach {
        match (&self.test, self.then) {
            (Test::Leaf(Leaf::Engaged { within_hours, .. }), Then::Skip) => Reach::Hours(*within_hours),
            _ => Reach::Ever,
        }
    }

    /// The keys of the actions that it is about.
    pub fn of_actions(&self) -> impl Iterator<Item = &str> {
        self.test.leaves().into_iter().filter_map(|leaf| match leaf {
            Leaf::Engaged { query, .. } => query.of_action.as_deref(),
            Leaf::TaskOutcome { of_action, .. } => Some(of_action.as_str()),
            Leaf::EngagementScoreAbove { .. } | Leaf::PipelineStage { .. } | Leaf::Attribute { .. } => None,
        })
    }
}

impl Test {
    /// Its leaves, in order.
    fn leaves(&self) -> Vec<&Leaf> {
        match self {
            Self::Leaf(leaf) => vec![leaf],
            Self::All(tests) | Self::Any(tests) => tests.iter().flat_map(Self::leaves).collect(),
            Self::Not(test) => test.leaves(),
        }
    }

    /// Whether it holds. Every leaf is looked at, because people are shown them all.
    fn evaluate(&self, facts: &Facts, now: Timestamp, found: &mut Vec<LeafFinding>) -> bool {
        let mut each = |tests: &[Self]| -> Vec<bool> {
            let holds = |test: &Self| test.evaluate(facts, now, found);
            tests.iter().map(holds).collect()
        };
        match self {
            Self::Leaf(leaf) => {
                let finding = leaf.evaluate(facts, now);
                let holds = finding.holds;
                found.push(finding);
                holds
            }
            Self::All(tests) => each(tests).into_iter().all(|holds| holds),
            Self::Any(tests) => each(tests).into_iter().any(|holds| holds),
            Self::Not(test) => !test.evaluate(facts, now, found),
        }
    }
}

impl Leaf {
    fn evaluate(&self, facts: &Facts, now: Timestamp) -> LeafFinding {
        let (holds, fact) = match self {
            Self::Engaged { query, within_hours } => {
                let last = facts.engagements.get(query).copied();
                let since = now - Duration::hours(i64::from(*within_hours));
                let holds = last.is_some_and(|last| since <= last && last <= now);
                (holds, last.map(Fact::Event))
            }
            Self::EngagementScoreAbove { threshold } => {
                let score = facts.engagement_score;
                (score > *threshold, Some(Fact::Score(score)))
            }
            Self::PipelineStage { stage } => {
                let of_customer = facts.pipeline_stage.as_ref();
                (of_customer == Some(stage), of_customer.cloned().map(Fact::Stage))
            }
            Self::Attribute { name, comparison } => {
                let value = facts.attributes.get(name);
                (comparison.holds(value), value.cloned().map(Fact::Attribute))
            }
            Self::TaskOutcome { of_action, is } => {
                let outcome = facts.task_outcomes.get(of_action).copied();
                (outcome == Some(*is), outcome.map(Fact::Task))
            }
        };
        LeafFinding {
            leaf: self.clone(),
            holds,
            fact,
        }
    }
}

impl Comparison {
    fn holds(&self, value: Option<&Value>) -> bool {
        let order = |bound: &Number| {
            let number = value.and_then(Value::as_f64)?;
            number.partial_cmp(&bound.as_f64()?)
        };
        match self {
            Self::Equals(other) => value.is_some_and(|value| are_equal(value, other)),
            Self::NotEquals(other) => !value.is_some_and(|value| are_equal(value, other)),
            Self::Exists(is_there) => value.is_some() == *is_there,
            Self::Greater(bound) => order(bound) == Some(Ordering::Greater),
            Self::Less(bound) => order(bound) == Some(Ordering::Less),
        }
    }
}

/// A number as it is kept: without a fraction where it has none, so that 3 is 3 and not 3.0. None: it is not finite.
pub fn number(number: f64) -> Option<Number> {
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and below 2^53")]
    let whole = (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64);
    whole.map(Number::from).or_else(|| Number::from_f64(number))
}

/// Whether two values are equal: numbers by what they are worth, however they are written.
fn are_equal(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one.partial_cmp(&other) == Some(Ordering::Equal),
        (_, _) => one == other,
    }
}

#[cfg(test)]
mod tests;
