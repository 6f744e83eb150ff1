//! Attributes, and tests in tests: what they come to.

use campaign_automation::proto::campaign::v1 as pb;
use pb::attribute_is::Comparison;
use pb::condition::Test;
use prost_types::value::Kind;

use super::{above, all, any, attribute, check_both, in_stage, not, number, start_both, text, truth, value};
use crate::support::given::customer;
use crate::support::{App, Backend, on_each_database};

on_each_database!(attributes_are_compared_by_kind_and_worth, all_any_and_not_join_tests);

async fn attributes_are_compared_by_kind_and_worth(backend: Backend) {
    let app = App::start(backend).await;
    let list = value(Kind::ListValue(prost_types::ListValue {
        values: vec![number(3.0)],
    }));
    let customers = [
        ("none", None),
        ("gold", Some(text("gold"))),
        ("three", Some(number(3.0))),
        ("more", Some(number(3.000_001))),
        ("less", Some(number(-3e20))),
        ("text-three", Some(text("3"))),
        ("true", Some(truth(true))),
        ("list", Some(list)),
    ];
    for (id, plan) in &customers {
        let other = [("other".to_owned(), text("gold"))];
        let plan = plan.clone().map(|plan| ("plan".to_owned(), plan));
        app.put_customer(pb::Customer {
            attributes: Some(prost_types::Struct {
                fields: other.into_iter().chain(plan).collect(),
            }),
            ..customer(id, "Europe/London")
        })
        .await;
    }
    let cases: [(&str, Comparison, &[&str]); 10] = [
        ("equals-text", Comparison::Equals(text("gold")), &["gold"]),
        ("equals-number", Comparison::Equals(number(3.0)), &["three"]),
        ("equals-text-three", Comparison::Equals(text("3")), &["text-three"]),
        ("equals-truth", Comparison::Equals(truth(true)), &["true"]),
        (
            "not-equals",
            Comparison::NotEquals(text("gold")),
            &["none", "three", "more", "less", "text-three", "true", "list"],
        ),
        (
            "exists",
            Comparison::Exists(true),
            &["gold", "three", "more", "less", "text-three", "true", "list"],
        ),
        ("exists-not", Comparison::Exists(false), &["none"]),
        ("greater", Comparison::Greater(3.0), &["more"]),
        ("less", Comparison::Less(3.0), &["less"]),
        ("less-or-so", Comparison::Less(3.000_001), &["less", "three"]),
    ];
    let ids = customers.map(|(id, _)| id);
    for (name, comparison, _) in &cases {
        start_both(&app, name, &attribute("plan", comparison.clone()), &ids).await;
    }
    app.tick_at(&["2026-01-05T13:00:00Z"]).await;
    for (name, _, hold) in &cases {
        for id in ids {
            check_both(&app, name, id, hold.contains(&id)).await;
        }
    }
    app.server.shutdown().await.expect("stopped");
}

async fn all_any_and_not_join_tests(backend: Backend) {
    let app = App::start(backend).await;
    for (id, engagement_score, stage) in [("low", 0, "hook"), ("high", 100, "hook"), ("away", 100, "trial")] {
        app.put_customer(pb::Customer {
            engagement_score,
            pipeline_stage: stage.to_owned(),
            ..customer(id, "Europe/London")
        })
        .await;
    }
    let (high, hook) = (|| above(50), || in_stage("hook"));
    let five_deep = not(all([any([not(all([high()])), in_stage("nowhere")])]));
    let cases: [(&str, Test, &[&str]); 7] = [
        ("all", all([high(), hook()]), &["high"]),
        ("all-of-one", all([hook()]), &["low", "high"]),
        ("any", any([high(), hook()]), &["low", "high", "away"]),
        ("none", any([above(100), in_stage("nowhere")]), &[]),
        ("not", not(hook()), &["away"]),
        ("neither", not(any([high(), not(hook())])), &["low"]),
        ("five-deep", five_deep, &["high", "away"]),
    ];
    let ids = ["low", "high", "away"];
    for (name, test, _) in &cases {
        start_both(&app, name, test, &ids).await;
    }
    app.tick_at(&["2026-01-05T13:00:00Z"]).await;
    for (name, _, hold) in &cases {
        for id in ids {
            check_both(&app, name, id, hold.contains(&id)).await;
        }
    }
    app.server.shutdown().await.expect("stopped");
}
