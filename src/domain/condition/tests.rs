//! What conditions come to, and how they are stored.

use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-03-01T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().expect("an instant")
}

fn conditions(json: &Value) -> Vec<Condition> {
    from_json(json.clone()).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn query(kind: EngagementKind, of_action: Option<&str>) -> EngagementQuery {
    let of_action = of_action.map(str::to_owned);
    EngagementQuery { kind, of_action }
}

fn done(kind: EngagementKind, of_action: Option<&str>, seconds_ago: i64) -> Facts {
    let at = now() - Duration::seconds(seconds_ago);
    Facts {
        engagements: [(query(kind, of_action), at)].into(),
        ..Facts::default()
    }
}

fn attribute(value: &Value) -> Facts {
    Facts {
        attributes: [("plan".to_owned(), value.clone())].into_iter().collect(),
        ..Facts::default()
    }
}

/// Checks whether a test holds, in both forms.
#[track_caller]
fn check(test: &Value, facts: &Facts, holds: bool) {
    let with = |then: &str| {
        let mut condition = test.clone();
        condition["then"] = json!(then);
        verdict(&conditions(&condition), facts, now())
    };
    let expected = if holds {
        (Then::Skip, Then::Execute)
    } else {
        (Then::Execute, Then::Skip)
    };
    assert_eq!((with("skip"), with("execute")), expected, "{test} with {facts:?}");
}

#[test]
fn what_the_customer_did_counts_within_hours_with_both_ends() {
    use EngagementKind::{Custom, EmailClicked, EmailOpened, Replied};
    let demo = || Custom("demo".to_owned());
    let cases = [
        (json!({"if": "email_opened", "within_hours": 48}), EmailOpened, None),
        (json!({"if": "email_clicked", "within_hours": 48}), EmailClicked, None),
        (json!({"if": "replied", "within_hours": 48}), Replied, None),
        (json!({"if": "event", "name": "demo", "within_hours": 48}), demo(), None),
        (
            json!({"if": "email_opened", "within_hours": 48, "of_action": "a"}),
            EmailOpened,
            Some("a"),
        ),
        (
            json!({"if": "email_clicked", "within_hours": 48, "of_action": "a"}),
            EmailClicked,
            Some("a"),
        ),
        (
            json!({"if": "replied", "within_hours": 48, "of_action": "a"}),
            Replied,
            Some("a"),
        ),
    ];
    for (test, kind, of_action) in cases {
        for (ago, holds) in [(48 * 3600, true), (48 * 3600 + 1, false), (0, true), (-1, false)] {
            check(&test, &done(kind.clone(), of_action, ago), holds);
        }
        check(&test, &Facts::default(), false);
        let others = [EmailOpened, EmailClicked, Replied, Custom("other".to_owned()), demo()];
        for other in others.into_iter().filter(|other| *other != kind) {
            check(&test, &done(other, of_action, 0), false);
        }
        let other_action = if of_action.is_none() { Some("a") } else { Some("b") };
        check(&test, &done(kind, other_action, 0), false);
    }
}

#[test]
fn scores_and_stages_are_compared() {
    let above = json!({"if": "engagement_score_above", "threshold": 50});
    for (score, holds) in [(0, false), (50, false), (51, true)] {
        let facts = Facts {
            engagement_score: score,
            ..Facts::default()
        };
        check(&above, &facts, holds);
    }
    let hook = json!({"if": "pipeline_stage", "stage": "hook"});
    for (stage, holds) in [(Some("hook"), true), (Some("hooked"), false), (None, false)] {
        let facts = Facts {
            pipeline_stage: stage.map(|stage| Stage::parse(stage).expect("a stage")),
            ..Facts::default()
        };
        check(&hook, &facts, holds);
    }
}

#[test]
fn attributes_are_compared_by_kind_and_worth() {
    let values = [
        json!("gold"),
        json!(3),
        json!(3.0),
        json!(3.5),
        json!("3"),
        json!(true),
        json!([3]),
        json!({}),
    ];
    // Which of the values it holds for, and whether for none.
    let cases = [
        (json!({"equals": "gold"}), [1, 0, 0, 0, 0, 0, 0, 0], 0),
        (json!({"equals": "GOLD"}), [0, 0, 0, 0, 0, 0, 0, 0], 0),
        (json!({"equals": 3}), [0, 1, 1, 0, 0, 0, 0, 0], 0),
        (json!({"equals": "3"}), [0, 0, 0, 0, 1, 0, 0, 0], 0),
        (json!({"equals": true}), [0, 0, 0, 0, 0, 1, 0, 0], 0),
        (json!({"not_equals": "gold"}), [0, 1, 1, 1, 1, 1, 1, 1], 1),
        (json!({"not_equals": 3}), [1, 0, 0, 1, 1, 1, 1, 1], 1),
        (json!({"exists": true}), [1, 1, 1, 1, 1, 1, 1, 1], 0),
        (json!({"exists": false}), [0, 0, 0, 0, 0, 0, 0, 0], 1),
        (json!({"greater": 3}), [0, 0, 0, 1, 0, 0, 0, 0], 0),
        (json!({"greater": 2.9}), [0, 1, 1, 1, 0, 0, 0, 0], 0),
        (json!({"less": 3.5}), [0, 1, 1, 0, 0, 0, 0, 0], 0),
        (json!({"less": 3}), [0, 0, 0, 0, 0, 0, 0, 0], 0),
    ];
    for (mut test, holds, holds_for_none) in cases {
        test["if"] = json!("attribute");
        test["name"] = json!("plan");
        for (value, holds) in values.iter().zip(holds) {
            check(&test, &attribute(value), holds == 1);
        }
        check(&test, &Facts::default(), holds_for_none == 1);
        let other = Facts {
            attributes: [("other".to_owned(), json!("gold"))].into_iter().collect(),
            ..Facts::default()
        };
        check(&test, &other, holds_for_none == 1);
    }
}

#[test]
fn all_any_and_not_join_tests() {
    let (yes, no) = (
        json!({"if": "engagement_score_above", "threshold": -1}),
        json!({"if": "engagement_score_above", "threshold": 0}),
    );
    let not = |test: &Value| json!({"if": "not", "of": test});
    let cases = [
        (json!({"if": "all", "of": [yes, yes]}), true),
        (json!({"if": "all", "of": [yes, no]}), false),
        (json!({"if": "all", "of": [no, yes]}), false),
        (json!({"if": "all", "of": [yes]}), true),
        (json!({"if": "any", "of": [no, no]}), false),
        (json!({"if": "any", "of": [no, yes]}), true),
        (json!({"if": "any", "of": [yes, no]}), true),
        (not(&yes), false),
        (not(&not(&not(&no))), true),
        (
            json!({"if": "all", "of": [not(&no), {"if": "any", "of": [no, {"if": "all", "of": [yes, not(&no)]}]}]}),
            true,
        ),
        (
            json!({"if": "any", "of": [not(&yes), {"if": "all", "of": [yes, {"if": "any", "of": [no, not(&yes)]}]}]}),
            false,
        ),
    ];
    for (test, holds) in cases {
        check(&test, &Facts::default(), holds);
    }
}

#[test]
fn the_first_that_says_skip_decides() {
    let list = json!([
        {"if": "pipeline_stage", "stage": "hook", "then": "execute"},
        {"if": "engagement_score_above", "threshold": 50, "then": "skip"},
    ]);
    for (stage, score, expected) in [
        (Some("hook"), 0, Then::Execute),
        (Some("hook"), 51, Then::Skip),
        (None, 0, Then::Skip),
    ] {
        let facts = Facts {
            engagement_score: score,
            pipeline_stage: stage.map(|stage| Stage::parse(stage).expect("a stage")),
            ..Facts::default()
        };
        assert_eq!(
            verdict(&conditions(&list), &facts, now()),
            expected,
            "{stage:?} {score}"
        );
    }
    for none in [json!([]), json!(null)] {
        assert_eq!(verdict(&conditions(&none), &Facts::default(), now()), Then::Execute);
    }
}

#[test]
fn findings_show_every_leaf_and_what_was_seen() {
    let list = json!([
        {"if": "any", "of": [
            {"if": "engagement_score_above", "threshold": 50},
            {"if": "not", "of": {"if": "replied", "within_hours": 1}},
            {"if": "all", "of": [{"if": "pipeline_stage", "stage": "hook"}, {"if": "email_opened", "within_hours": 1}]},
        ], "then": "skip"},
        {"if": "attribute", "name": "plan", "not_equals": "gold", "then": "execute"},
    ]);
    let conditions = conditions(&list);
    let facts = Facts {
        engagement_score: 51,
        ..done(EngagementKind::Replied, None, 2 * 3600)
    };
    let found = findings(&conditions, &facts, now());
    let told: Vec<_> = found.iter().map(|finding| (finding.holds, finding.verdict)).collect();
    assert_eq!(told, [(true, Then::Skip), (true, Then::Execute)]);
    assert_eq!(found[0].condition, conditions[0]);
    let leaves: Vec<_> = found
        .iter()
        .flat_map(|finding| &finding.leaves)
        .map(|leaf| (leaf.holds, leaf.fact.clone()))
        .collect();
    let two_hours_ago = now() - Duration::hours(2);
    let expected = [
        (true, Some(Fact::Score(51))),
        (false, Some(Fact::Event(two_hours_ago))),
        (false, None),
        (false, None),
        (true, None),
    ];
    assert_eq!(leaves, expected);
    let facts = Facts {
        pipeline_stage: Some(Stage::parse("hook").expect("a stage")),
        ..attribute(&json!("gold"))
    };
    let found = findings(&conditions, &facts, now());
    assert_eq!(found[0].leaves[2].fact, facts.pipeline_stage.map(Fact::Stage));
    assert_eq!((found[1].holds, found[1].verdict), (false, Then::Skip));
    assert_eq!(found[1].leaves[0].fact, Some(Fact::Attribute(json!("gold"))));
}

#[test]
fn what_is_asked_is_known_before() {
    let list = json!([
        {"if": "not", "of": {"if": "any", "of": [
            {"if": "email_opened", "within_hours": 1, "of_action": "a"},
            {"if": "email_opened", "within_hours": 2},
            {"if": "event", "name": "demo", "within_hours": 2},
            {"if": "attribute", "name": "plan", "exists": true},
        ]}, "then": "skip"},
        {"if": "replied", "within_hours": 1, "of_action": "b", "then": "skip"},
        {"if": "engagement_score_above", "threshold": 1, "then": "skip"},
    ]);
    let conditions = conditions(&list);
    let asked = Asked::by(&conditions);
    let expected = [
        (query(EngagementKind::EmailOpened, Some("a")), Reach::Ever),
        (query(EngagementKind::EmailOpened, None), Reach::Ever),
        (query(EngagementKind::Custom("demo".to_owned()), None), Reach::Ever),
        (query(EngagementKind::Replied, Some("b")), Reach::Hours(1)),
    ];
    assert_eq!(asked.engagements, expected.into());
    assert_eq!(asked.attributes, ["plan".to_owned()].into());
    let of_actions: Vec<&str> = conditions.iter().flat_map(Condition::of_actions).collect();
    assert_eq!(of_actions, ["a", "b"]);
}

#[test]
fn no_more_is_read_than_windows_reach() {
    let skip = |hours: u32| json!({"if": "email_opened", "within_hours": hours, "then": "skip"});
    let execute = json!({"if": "email_opened", "within_hours": 5, "then": "execute"});
    let no_event = json!({"if": "engagement_score_above", "threshold": 1, "then": "skip"});
    let since = |hours| Some(now() - Duration::hours(hours));
    for (list, expected) in [
        (json!([]), None),
        (json!([no_event]), None),
        (json!([skip(48)]), since(48)),
        (json!([skip(48), no_event, skip(72), skip(2)]), since(72)),
        // It is told when the customer last opened a mail.
        (json!([skip(48), execute]), None),
    ] {
        let list = conditions(&list);
        assert_eq!(Asked::by(&list).since(now()), expected, "{list:?}");
    }
}

#[test]
fn json_comes_back_as_it_went() {
    let leaves = [
        json!({"if": "email_opened", "within_hours": 48}),
        json!({"if": "email_opened", "within_hours": 48, "of_action": "HOOK-001"}),
        json!({"if": "email_clicked", "within_hours": 1}),
        json!({"if": "email_clicked", "within_hours": 1, "of_action": "HOOK-001"}),
        json!({"if": "replied", "within_hours": 8760}),
        json!({"if": "replied", "within_hours": 8760, "of_action": "HOOK-001"}),
        json!({"if": "event", "name": "demo.booked", "within_hours": 72}),
        json!({"if": "engagement_score_above", "threshold": -5}),
        json!({"if": "pipeline_stage", "stage": "hook"}),
        json!({"if": "attribute", "name": "plan", "equals": "gold"}),
        json!({"if": "attribute", "name": "plan", "equals": false}),
        json!({"if": "attribute", "name": "plan", "not_equals": 3}),
        json!({"if": "attribute", "name": "plan", "exists": false}),
        json!({"if": "attribute", "name": "plan", "greater": 2.5}),
        json!({"if": "attribute", "name": "plan", "less": -3}),
    ];
    let mut tests: Vec<Value> = leaves.to_vec();
    tests.push(json!({"if": "all", "of": leaves}));
    tests.push(json!({"if": "any", "of": leaves}));
    tests.push(json!({"if": "not", "of": leaves[0]}));
    tests.push(nested(MAX_DEPTH));
    for then in ["skip", "execute"] {
        let mut list = tests.clone();
        for condition in &mut list {
            condition["then"] = json!(then);
        }
        let list = Value::Array(list);
        assert_eq!(to_json(&conditions(&list)), list);
    }
    // As PostgreSQL may write the same numbers.
    let one = |number: Value| conditions(&json!({"if": "attribute", "name": "a", "greater": number, "then": "skip"}));
    assert_eq!(one(json!(3.0)), one(json!(3)));
    assert_eq!(one(json!(1e16)), one(json!(10_000_000_000_000_000_u64)));
}

/// A leaf in so many combinators.
fn nested(depth: usize) -> Value {
    let leaf = json!({"if": "engagement_score_above", "threshold": 1});
    (0..depth).fold(leaf, |test, n| match n % 3 {
        0 => json!({"if": "not", "of": test}),
        1 => json!({"if": "all", "of": [test]}),
        _ => json!({"if": "any", "of": [test]}),
    })
}

#[test]
fn json_that_is_no_condition_is_refused() {
    let mut deep = nested(MAX_DEPTH + 1);
    deep["then"] = json!("skip");
    let attribute = |operands: Value| {
        let mut condition = json!({"if": "attribute", "name": "plan", "then": "skip"});
        for (name, value) in operands.as_object().expect("an object") {
            condition[name] = value.clone();
        }
        condition
    };
    for bad in [
        json!({"if": "email_opened", "then": "skip"}),
        json!({"if": "moon_full", "then": "skip"}),
        json!({"if": "pipeline_stage", "stage": "NOT OK", "then": "skip"}),
        json!({"if": "email_opened", "within_hours": 48}),
        json!({"if": "event", "name": "a", "within_hours": 1, "of_action": "a", "then": "skip"}),
        json!({"if": "not", "of": {"if": "email_opened", "within_hours": 48, "then": "skip"}, "then": "skip"}),
        json!({"if": "all", "of": {"if": "email_opened", "within_hours": 48}, "then": "skip"}),
        attribute(json!({})),
        attribute(json!({"equals": 1, "less": 2})),
        attribute(json!({"greater": "1"})),
        deep,
        json!("skip"),
    ] {
        assert!(from_json(bad.clone()).is_err(), "{bad}");
    }
}
