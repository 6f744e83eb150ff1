//! Conditions and what they found.

use prost_types::value::Kind;
use serde_json::Value;

use super::about::{About, Earlier};
use super::customer::{is_attribute_name, number_value, storable, value_message};
use super::task::{parse_outcome, task_outcome};
use super::time::time;
use crate::domain::condition::{Comparison, Fact, Finding, Leaf, LeafFinding, MAX_DEPTH, MAX_LEAVES};
use crate::domain::{Condition, EngagementKind, EngagementQuery, Invalid, Stage, Test, Then, token};
use crate::proto::campaign::v1 as pb;
use crate::proto::campaign::v1::attribute_is::Comparison as Compared;
use crate::proto::campaign::v1::condition_test::Test as Tested;
use crate::rpc::violations::Violations;

const TESTS: &str = "must have one of email_opened, engagement_score_above, pipeline_stage, email_clicked, replied, event, \
     attribute, all, any, not, task_outcome";

/// The most characters of a text that an attribute is compared with.
const MAX_TEXT: usize = 1000;

/// Parses the conditions of the action at a position in the request. None: there are violations.
pub(super) fn parse_conditions(
    violations: &mut Violations,
    path: &str,
    position: usize,
    given: &[pb::Condition],
    abouts: &mut Vec<About>,
) -> Option<Vec<Condition>> {
    let conditions: Vec<Option<Condition>> = given
        .iter()
        .enumerate()
        .map(|(at, condition)| {
            let mut parser = Parser {
                violations,
                position,
                abouts,
            };
            parser.condition(&format!("{path}[{at}]"), condition)
        })
        .collect();
    conditions.into_iter().collect()
}

struct Parser<'a> {
    violations: &'a mut Violations,
    position: usize,
    abouts: &'a mut Vec<About>,
}

impl Parser<'_> {
    fn condition(&mut self, path: &str, given: &pb::Condition) -> Option<Condition> {
        let then = self
            .violations
            .known(
                format!("{path}.then"),
                given.then,
                "CONDITION_THEN_SKIP, CONDITION_THEN_EXECUTE",
            )
            .map(|then| match then {
                pb::ConditionThen::Execute => Then::Execute,
                pb::ConditionThen::Skip | pb::ConditionThen::Unspecified => Then::Skip,
            });
        let test = given.test.clone().map(Tested::from);
        let leaves = test.as_ref().map_or(1, |test| count_leaves(test, MAX_DEPTH));
        if leaves > MAX_LEAVES {
            self.violations
                .add(path, format!("must have at most {MAX_LEAVES} leaves, but has {leaves}"));
            return None;
        }
        let test = self.test(path, test.as_ref(), MAX_DEPTH);
        Some(Condition {
            test: test?,
            then: then?,
        })
    }

    /// A test in which combinators may stand so deep.
    fn test(&mut self, path: &str, given: Option<&Tested>, depth: usize) -> Option<Test> {
        let Some(given) = given else {
            self.violations.add(path, TESTS);
            return None;
        };
        match given {
            Tested::All(given) => self.tests(&format!("{path}.all"), given, depth).map(Test::All),
            Tested::Any(given) => self.tests(&format!("{path}.any"), given, depth).map(Test::Any),
            Tested::Not(given) => {
                let path = format!("{path}.not");
                let depth = self.deeper(&path, depth)?;
                self.test(&path, given.test.as_ref(), depth)
                    .map(|test| Test::Not(Box::new(test)))
            }
            Tested::EmailOpened(pb::EmailOpened {
                within_hours,
                of_action,
            }) => {
                let path = format!("{path}.email_opened");
                self.engaged(&path, Some(EngagementKind::EmailOpened), *within_hours, of_action)
            }
            Tested::EmailClicked(pb::EmailClicked {
                within_hours,
                of_action,
            }) => {
                let path = format!("{path}.email_clicked");
                self.engaged(&path, Some(EngagementKind::EmailClicked), *within_hours, of_action)
            }
            Tested::Replied(pb::Replied {
                within_hours,
                of_action,
            }) => {
                let path = format!("{path}.replied");
                self.engaged(&path, Some(EngagementKind::Replied), *within_hours, of_action)
            }
            Tested::Event(pb::EventOccurred { name, within_hours }) => {
                let path = format!("{path}.event");
                let name = self.violations.check(format!("{path}.name"), token(name, "._:-"));
                self.engaged(&path, name.map(EngagementKind::Custom), *within_hours, "")
            }
            Tested::EngagementScoreAbove(pb::EngagementScoreAbove { threshold }) => self
                .violations
                .within(
                    format!("{path}.engagement_score_above.threshold"),
                    *threshold,
                    -1_000_000,
                    1_000_000,
                )
                .map(|threshold| Test::Leaf(Leaf::EngagementScoreAbove { threshold })),
            Tested::PipelineStage(pb::PipelineStageIs { stage }) => self
                .violations
                .check(format!("{path}.pipeline_stage.stage"), Stage::parse(stage))
                .map(|stage| Test::Leaf(Leaf::PipelineStage { stage })),
            Tested::Attribute(given) => self.attribute(&format!("{path}.attribute"), given).map(Test::Leaf),
            Tested::TaskOutcome(given) => self.task(&format!("{path}.task_outcome"), given).map(Test::Leaf),
        }
    }

    fn tests(&mut self, path: &str, given: &pb::ConditionTests, depth: usize) -> Option<Vec<Test>> {
        let depth = self.deeper(path, depth)?;
        if given.of.is_empty() {
            self.violations.add(format!("{path}.of"), "must have one test at least");
            return None;
        }
        let tests: Vec<Option<Test>> = given
            .of
            .iter()
            .enumerate()
            .map(|(at, test)| self.test(&format!("{path}.of[{at}]"), test.test.as_ref(), depth))
            .collect();
        tests.into_iter().collect()
    }

    /// How deep combinators may stand in the one that is here, if it may be here itself.
    fn deeper(&mut self, path: &str, depth: usize) -> Option<usize> {
        let deeper = depth.checked_sub(1);
        if deeper.is_none() {
            self.violations.add(
                path,
                format!("must not be here: all, any and not stand at most {MAX_DEPTH} deep in one another"),
            );
        }
        deeper
    }

    fn engaged(
        &mut self,
        path: &str,
        kind: Option<EngagementKind>,
        within_hours: i32,
        of_action: &str,
    ) -> Option<Test> {
        let hours = self
            .violations
            .within(format!("{path}.within_hours"), within_hours, 1, 8760);
        let of_action = (!of_action.is_empty()).then(|| of_action.to_owned());
        if let Some(key) = &of_action {
            let what = Earlier::of_kind(kind.as_ref());
            self.abouts.push(About::new(
                format!("{path}.of_action"),
                self.position,
                key.clone(),
                what,
            ));
        }
        Some(Test::Leaf(Leaf::Engaged {
            query: EngagementQuery { kind: kind?, of_action },
            within_hours: hours?.unsigned_abs(),
        }))
    }

    fn task(&mut self, path: &str, given: &pb::TaskOutcomeIs) -> Option<Leaf> {
        let of_action = given.of_action.clone();
        let about = About::new(
            format!("{path}.of_action"),
            self.position,
            of_action.clone(),
            Earlier::Task,
        );
        self.abouts.push(about);
        let is = parse_outcome(self.violations, &format!("{path}.outcome"), given.outcome)?;
        Some(Leaf::TaskOutcome { of_action, is })
    }

    fn attribute(&mut self, path: &str, given: &pb::AttributeIs) -> Option<Leaf> {
        let name = if is_attribute_name(&given.name) {
            Ok(given.name.clone())
        } else {
            Err(Invalid::new(
                &given.name,
                "1 to 64 characters without control characters",
            ))
        };
        let name = self.violations.check(format!("{path}.name"), name);
        let bound = |number: f64| match number_value(number)? {
            Value::Number(number) => Ok(number),
            Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                Err(Invalid::new(number, "a finite number"))
            }
        };
        let (field, comparison) = match &given.comparison {
            None => {
                self.violations
                    .add(path, "must have one of equals, not_equals, exists, greater, less");
                return None;
            }
            Some(Compared::Equals(value)) => ("equals", operand(value).map(Comparison::Equals)),
            Some(Compared::NotEquals(value)) => ("not_equals", operand(value).map(Comparison::NotEquals)),
            Some(Compared::Exists(is_there)) => ("exists", Ok(Comparison::Exists(*is_there))),
            Some(Compared::Greater(number)) => ("greater", bound(*number).map(Comparison::Greater)),
            Some(Compared::Less(number)) => ("less", bound(*number).map(Comparison::Less)),
        };
        let comparison = self.violations.check(format!("{path}.{field}"), comparison);
        Some(Leaf::Attribute {
            name: name?,
            comparison: comparison?,
        })
    }
}

/// How many leaves a test has, counting one for what is not set, empty or too deep.
fn count_leaves(test: &Tested, depth: usize) -> usize {
    let Some(deeper) = depth.checked_sub(1) else { return 1 };
    let count = |test: &pb::ConditionTest| test.test.as_ref().map_or(1, |test| count_leaves(test, deeper));
    match test {
        Tested::All(tests) | Tested::Any(tests) => tests.of.iter().map(count).sum::<usize>().max(1),
        Tested::Not(test) => count(test),
        Tested::EmailOpened(_)
        | Tested::EngagementScoreAbove(_)
        | Tested::PipelineStage(_)
        | Tested::EmailClicked(_)
        | Tested::Replied(_)
        | Tested::Event(_)
        | Tested::Attribute(_)
        | Tested::TaskOutcome(_) => 1,
    }
}

/// What an attribute is compared with for equality.
fn operand(given: &prost_types::Value) -> Result<Value, Invalid> {
    let allowed = format!("a text of at most {MAX_TEXT} characters, a number, or true or false");
    match &given.kind {
        Some(Kind::StringValue(text)) if text.chars().count() <= MAX_TEXT => storable(text).map(Value::String),
        Some(Kind::StringValue(text)) => Err(Invalid::new(text, allowed)),
        Some(Kind::NumberValue(number)) => number_value(*number),
        Some(Kind::BoolValue(truth)) => Ok(Value::Bool(*truth)),
        Some(Kind::NullValue(_)) | None => Err(Invalid::new("null", allowed)),
        Some(Kind::StructValue(_)) => Err(Invalid::new("an object", allowed)),
        Some(Kind::ListValue(_)) => Err(Invalid::new("a list", allowed)),
    }
}

/// A condition as a message.
pub(in crate::rpc) fn condition(condition: &Condition) -> pb::Condition {
    pb::Condition {
        test: Some(tested(&condition.test).into()),
        then: then(condition.then).into(),
    }
}

fn then(then: Then) -> pb::ConditionThen {
    match then {
        Then::Skip => pb::ConditionThen::Skip,
        Then::Execute => pb::ConditionThen::Execute,
    }
}

fn tested(test: &Test) -> Tested {
    let one = |test: &Test| pb::ConditionTest {
        test: Some(tested(test)),
    };
    let several = |tests: &[Test]| pb::ConditionTests {
        of: tests.iter().map(one).collect(),
    };
    match test {
        Test::Leaf(leaf) => tested_leaf(leaf),
        Test::All(tests) => Tested::All(several(tests)),
        Test::Any(tests) => Tested::Any(several(tests)),
        Test::Not(test) => Tested::Not(Box::new(one(test))),
    }
}

fn tested_leaf(leaf: &Leaf) -> Tested {
    match leaf {
        Leaf::Engaged { query, within_hours } => {
            let within_hours = i32::try_from(*within_hours).unwrap_or(i32::MAX);
            let of_action = query.of_action.clone().unwrap_or_default();
            match &query.kind {
                EngagementKind::EmailOpened => Tested::EmailOpened(pb::EmailOpened {
                    within_hours,
                    of_action,
                }),
                EngagementKind::EmailClicked => Tested::EmailClicked(pb::EmailClicked {
                    within_hours,
                    of_action,
                }),
                EngagementKind::Replied => Tested::Replied(pb::Replied {
                    within_hours,
                    of_action,
                }),
                EngagementKind::Custom(name) => Tested::Event(pb::EventOccurred {
                    name: name.clone(),
                    within_hours,
                }),
            }
        }
        Leaf::EngagementScoreAbove { threshold } => {
            Tested::EngagementScoreAbove(pb::EngagementScoreAbove { threshold: *threshold })
        }
        Leaf::PipelineStage { stage } => Tested::PipelineStage(pb::PipelineStageIs {
            stage: stage.to_string(),
        }),
        Leaf::TaskOutcome { of_action, is } => Tested::TaskOutcome(pb::TaskOutcomeIs {
            of_action: of_action.clone(),
            outcome: task_outcome(*is).into(),
        }),
        Leaf::Attribute { name, comparison } => {
            let comparison = match comparison {
                Comparison::Equals(value) => Compared::Equals(value_message(value)),
                Comparison::NotEquals(value) => Compared::NotEquals(value_message(value)),
                Comparison::Exists(is_there) => Compared::Exists(*is_there),
                Comparison::Greater(bound) => Compared::Greater(bound.as_f64().unwrap_or_default()),
                Comparison::Less(bound) => Compared::Less(bound.as_f64().unwrap_or_default()),
            };
            Tested::Attribute(pb::AttributeIs {
                name: name.clone(),
                comparison: Some(comparison),
            })
        }
    }
}

/// What a condition found, as a message.
pub(in crate::rpc) fn finding(finding: &Finding) -> pb::ConditionFinding {
    pb::ConditionFinding {
        condition: Some(condition(&finding.condition)),
        holds: finding.holds,
        verdict: then(finding.verdict).into(),
        leaves: finding.leaves.iter().map(leaf_finding).collect(),
    }
}

fn leaf_finding(finding: &LeafFinding) -> pb::LeafFinding {
    use pb::leaf_finding::Fact as Seen;
    let fact = finding.fact.as_ref().map(|fact| match fact {
        Fact::Event(at) => Seen::EventTime(time(*at)),
        Fact::Score(score) => Seen::EngagementScore(*score),
        Fact::Stage(stage) => Seen::PipelineStage(stage.to_string()),
        Fact::Attribute(value) => Seen::AttributeValue(value_message(value)),
        Fact::Task(outcome) => Seen::TaskOutcome(task_outcome(*outcome).into()),
    });
    pb::LeafFinding {
        leaf: Some(pb::ConditionTest {
            test: Some(tested_leaf(&finding.leaf)),
        }),
        holds: finding.holds,
        fact,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::condition::{findings, from_json};
    use crate::domain::{Facts, Timestamp};
    use pb::leaf_finding::Fact as Seen;
    use serde_json::json;

    #[test]
    fn findings_become_messages_with_every_kind_of_fact() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().expect("an instant");
        let list = json!([{"if": "any", "of": [
            {"if": "not", "of": {"if": "replied", "within_hours": 1, "of_action": "a"}},
            {"if": "engagement_score_above", "threshold": 50},
            {"if": "pipeline_stage", "stage": "hook"},
            {"if": "attribute", "name": "plan", "equals": "gold"},
            {"if": "attribute", "name": "seats", "exists": false},
        ], "then": "execute"}]);
        let replied = EngagementQuery {
            kind: EngagementKind::Replied,
            of_action: Some("a".to_owned()),
        };
        let facts = Facts {
            engagement_score: 51,
            pipeline_stage: Some(Stage::parse("hooked").expect("a stage")),
            engagements: [(replied, now)].into(),
            attributes: [("plan".to_owned(), json!("gold"))].into_iter().collect(),
            ..Facts::default()
        };
        let conditions = from_json(list).expect("conditions");
        let found = findings(&conditions, &facts, now);
        let message = finding(&found[0]);
        assert_eq!(message.condition, Some(condition(&conditions[0])));
        assert_eq!((message.holds, message.verdict()), (true, pb::ConditionThen::Execute));
        let seen: Vec<_> = message
            .leaves
            .iter()
            .map(|leaf| (leaf.holds, leaf.fact.clone()))
            .collect();
        let expected = [
            (true, Some(Seen::EventTime(time(now)))),
            (true, Some(Seen::EngagementScore(51))),
            (false, Some(Seen::PipelineStage("hooked".to_owned()))),
            (true, Some(Seen::AttributeValue(value_message(&json!("gold"))))),
            (true, None),
        ];
        assert_eq!(seen, expected);
        let replied = pb::Replied {
            within_hours: 1,
            of_action: "a".to_owned(),
        };
        let leaf = message.leaves[0].leaf.clone().and_then(|leaf| leaf.test);
        assert_eq!(leaf, Some(Tested::Replied(replied)));
    }
}
