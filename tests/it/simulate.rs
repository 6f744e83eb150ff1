//! Simulations are exact: a real server is driven through the same script, hour by hour, and what it did, decided and put off, when,
//! and where the run was after each tick, is what was foretold.

mod foretold;
mod refused;
mod told;

use campaign_automation::domain::Timestamp;
use campaign_automation::proto::campaign::v1 as pb;
use chrono::{DurationRound as _, TimeDelta};
use pb::condition::Test;
use pb::script_entry::What;
use pb::simulate_timeline_request::{Which, Whom};
use pb::simulation_step::What as Happened;
use pb::{ActionType, Channel, ConditionThen as Then};
use std::collections::BTreeSet;

use crate::support::App;
use crate::support::calls::day;
use crate::support::given::{action, at, condition, customer, definition, email, shown, sms, stamp};
use crate::support::smtp::{Behaviour, SmtpServer, Step};

/// A customer, a timeline, and what happens to them alone.
struct Scenario {
    name: &'static str,
    timeline: pb::TimelineDefinition,
    customer: pb::Customer,
    first_day: pb::FirstDay,
    start_day: i32,
    script: Vec<pb::ScriptEntry>,
}

/// What a run did. Each list is in order of time.
#[derive(Debug, Default, PartialEq, Eq)]
struct Story {
    /// Entries of the ledger: when, which action, which attempt, what came of it and why, and what decided that it is skipped.
    decided: Vec<(String, String, i32, String, String)>,
    /// What was put off: when, which action, and why.
    deferred: Vec<(String, String, String)>,
    /// Where the run was whenever that changed: when, its day and date, its status.
    places: Vec<(String, (i32, String), String)>,
}

fn entry(time: &str, what: What) -> pb::ScriptEntry {
    pb::ScriptEntry {
        time: Some(stamp(time)),
        what: Some(what),
    }
}

fn engaged(kind: pb::EngagementKind, of_action: &str) -> What {
    What::Engagement(pb::ScriptEngagement {
        kind: kind.into(),
        of_action: of_action.to_owned(),
        ..Default::default()
    })
}

fn opened() -> What {
    engaged(pb::EngagementKind::EmailOpened, "")
}

fn answers(answer: pb::SimulatedAnswer) -> What {
    What::Answer(pb::ScriptAnswer {
        channel: Channel::Email.into(),
        answer: answer.into(),
    })
}

fn keyed(key: &str, action: pb::ActionDefinition) -> pb::ActionDefinition {
    pb::ActionDefinition {
        key: key.to_owned(),
        ..action
    }
}

fn only(action: pb::ActionDefinition, test: Test, then: Then) -> pb::ActionDefinition {
    pb::ActionDefinition {
        conditions: vec![condition(test, then)],
        ..action
    }
}

fn opened_within(within_hours: i32, of_action: &str) -> Test {
    Test::EmailOpened(pb::EmailOpened {
        within_hours,
        of_action: of_action.to_owned(),
    })
}

fn gate(day: i32, hour: i32) -> pb::ActionDefinition {
    action(day, hour, Channel::Wait, ActionType::CheckCondition, "")
}

fn plain(name: &'static str, zone: &str, days: i32, actions: Vec<pb::ActionDefinition>) -> Scenario {
    Scenario {
        name,
        timeline: definition(name, days, actions),
        customer: customer(name, zone),
        first_day: pb::FirstDay::Unspecified,
        start_day: 0,
        script: Vec::new(),
    }
}

/// Mails at 9 and texts at 14, every day.
fn busy(days: i32) -> Vec<pb::ActionDefinition> {
    let day = |day| [email(day, 9, "A"), sms(day, 14, "B")];
    (1..=days).flat_map(day).collect()
}

fn status_word(status: pb::ProgressStatus) -> String {
    status.as_str_name().trim_start_matches("PROGRESS_STATUS_").to_owned()
}

fn reason_word(skip: pb::SkipReason, failure: pb::FailureReason) -> String {
    format!("{} {}", skip.as_str_name(), failure.as_str_name())
        .replace("SKIP_REASON_", "")
        .replace("FAILURE_REASON_", "")
        .replace("UNSPECIFIED", "")
        .trim()
        .to_owned()
}

/// The detail of what is skipped. That of a failure is the provider's word, which nobody foretells.
fn detail_of_skip(reason: pb::SkipReason, detail: &str) -> String {
    if reason == pb::SkipReason::Unspecified {
        String::new()
    } else {
        detail.to_owned()
    }
}

/// What a simulation foretells.
fn foretold(steps: &[pb::SimulationStep]) -> Story {
    let mut story = Story::default();
    for step in steps {
        let time = shown(step.time);
        let date = step.day_date.expect("a date");
        let date = format!("{:04}-{:02}-{:02}", date.year, date.month, date.day);
        story.came(&time, (step.day_number, date), step.status());
        let Some(Happened::Action(done)) = &step.what else {
            continue;
        };
        let key = done.action.clone().expect("an action").key;
        if done.outcome() == pb::ActionOutcome::Deferred {
            story
                .deferred
                .push((time, key, done.defer_reason().as_str_name().to_owned()));
        } else {
            let word = done.outcome().as_str_name().trim_start_matches("ACTION_OUTCOME_");
            let outcome = word.replace("EXECUTED", "COMPLETED");
            let reason = reason_word(done.skip_reason(), done.failure_reason());
            let what = format!("{outcome} {reason}").trim().to_owned();
            let detail = detail_of_skip(done.skip_reason(), &done.detail);
            story.decided.push((time, key, done.attempt, what, detail));
        }
    }
    story.sorted()
}

impl Story {
    /// Notes where the run is, if that is news. Of one instant only the last counts.
    fn came(&mut self, time: &str, day: (i32, String), status: pb::ProgressStatus) {
        let status = status_word(status);
        self.places.pop_if(|last| last.0 == time);
        if self
            .places
            .last()
            .is_none_or(|last| (&last.1, &last.2) != (&day, &status))
        {
            self.places.push((time.to_owned(), day, status));
        }
    }

    fn sorted(mut self) -> Self {
        self.decided.sort();
        self.deferred.sort();
        self
    }
}

/// A scenario that is played for real.
struct Played {
    scenario: Scenario,
    timeline: pb::Timeline,
    run: i64,
    story: Story,
    /// What waited when it was last looked at.
    waiting: Vec<(String, Option<prost_types::Timestamp>)>,
}

impl Played {
    /// Notes where the run is now, and what is put off that was not before.
    async fn look(&mut self, app: &App, time: &str) -> pb::Progress {
        let run = app
            .get(&self.scenario.customer.customer_id, self.run)
            .await
            .expect("a run");
        self.story.came(time, day(&run), run.status());
        let mut waiting = Vec::new();
        for deferred in &run.deferred_actions {
            let key = deferred.action.clone().expect("an action").key;
            let one = (key.clone(), deferred.until_time);
            if !self.waiting.contains(&one) {
                let reason = deferred.reason().as_str_name().to_owned();
                self.story.deferred.push((time.to_owned(), key, reason));
            }
            waiting.push(one);
        }
        self.waiting = waiting;
        run
    }

    /// Does what an entry of the script says.
    async fn act(&self, app: &App, entry: &pb::ScriptEntry) {
        let id = self.scenario.customer.customer_id.as_str();
        let known = || pb::Customer {
            customer_id: id.to_owned(),
            ..Default::default()
        };
        match entry.what.clone().expect("something") {
            What::Engagement(given) => {
                let actions = &self.timeline.definition.as_ref().expect("a definition").actions;
                let about = actions.iter().find(|action| action.key == given.of_action);
                let event = pb::Engagement {
                    customer_id: id.to_owned(),
                    event_id: format!("{:?}", entry.time),
                    kind: given.kind,
                    name: given.name,
                    occur_time: entry.time,
                    progress_id: about.map_or(0, |_| self.run),
                    action_id: about.map_or(0, |action| action.action_id),
                    ..Default::default()
                };
                assert_eq!(app.record(vec![event]).await[0].error, None);
            }
            What::EngagementScore(engagement_score) => {
                let given = pb::Customer {
                    engagement_score,
                    ..known()
                };
                update(app, given, "engagement_score").await;
            }
            What::Attributes(given) => {
                let given = pb::Customer {
                    attributes: Some(given),
                    ..known()
                };
                update(app, given, "attributes").await;
            }
            What::TimeZone(time_zone) => {
                let given = pb::Customer { time_zone, ..known() };
                update(app, given, "time_zone").await;
            }
            What::PipelineStage(stage) => drop(app.change_stage(id, &stage).await.expect("a change")),
            // Refused where the simulation says so.
            What::Pause(_) => drop(app.pause(id, self.run, "").await),
            What::Resume(resume) => {
                let request = pb::ResumeTimelineRequest {
                    customer_id: id.to_owned(),
                    progress_id: self.run,
                    start_next_day: resume.start_next_day,
                    ..Default::default()
                };
                drop(app.orchestrator().resume_timeline(request).await);
            }
            What::Stop(_) => drop(app.stop(id, self.run, "").await),
            What::TimelineIsActive(is_active) => drop(app.set_active(&self.timeline, is_active).await),
            What::TaskReport(given) => {
                let request = pb::CompleteInteractionRequest {
                    customer_id: id.to_owned(),
                    progress_id: self.run,
                    action_key: given.action_key,
                    outcome: given.outcome,
                    ..Default::default()
                };
                drop(app.orchestrator().complete_interaction(request).await);
            }
            What::Ticks(_) | What::Answer(_) => {}
        }
    }
}

async fn update(app: &App, customer: pb::Customer, field: &str) {
    let mask = prost_types::FieldMask {
        paths: vec![field.to_owned()],
    };
    let request = pb::UpsertCustomersRequest {
        customers: vec![customer],
        update_mask: Some(mask),
        ..Default::default()
    };
    let response = app.upsert(request).await.expect("a response");
    let result = response.results[0].result.clone().expect("a result");
    assert!(
        matches!(result, pb::upsert_customers_result::Result::Customer(_)),
        "{result:?}"
    );
}

/// Simulates scenarios, then plays them with an hourly tick, and compares. `shared` happens to all of them. Gives what became of
/// actions, and why they were put off, so that a test can see that it was about something.
async fn check(
    app: &App,
    smtp: &SmtpServer,
    scenarios: Vec<Scenario>,
    shared: &[pb::ScriptEntry],
    start: &str,
    end: &str,
) -> BTreeSet<String> {
    let mut played = Vec::new();
    let mut expected = Vec::new();
    for scenario in scenarios {
        let timeline = app.timeline(scenario.timeline.clone()).await;
        app.put_customer(scenario.customer.clone()).await;
        let before: Vec<&pb::ScriptEntry> = scenario
            .script
            .iter()
            .filter(|entry| at(&shown(entry.time)) < at(start))
            .collect();
        let one = Played {
            timeline,
            run: 0,
            story: Story::default(),
            waiting: Vec::new(),
            scenario: Scenario {
                script: Vec::new(),
                ..scenario
            },
        };
        // What was done before the start is stored when it is simulated.
        for entry in before {
            one.act(app, entry).await;
        }
        let script = scenario
            .script
            .into_iter()
            .filter(|entry| at(&shown(entry.time)) >= at(start));
        let one = Played {
            scenario: Scenario {
                script: script.chain(shared.iter().cloned()).collect(),
                ..one.scenario
            },
            ..one
        };
        let request = pb::SimulateTimelineRequest {
            which: Some(Which::TimelineId(one.timeline.timeline_id)),
            whom: Some(Whom::CustomerId(one.scenario.customer.customer_id.clone())),
            start_time: Some(stamp(start)),
            first_day: one.scenario.first_day.into(),
            start_day: one.scenario.start_day,
            script: one.scenario.script.clone(),
            end_time: Some(stamp(end)),
            ..Default::default()
        };
        let response = app.timelines().simulate_timeline(request).await;
        expected.push(response.expect(one.scenario.name).into_inner());
        played.push(one);
    }

    app.set(start);
    for one in &mut played {
        let request = pb::StartTimelineRequest {
            customer_id: one.scenario.customer.customer_id.clone(),
            timeline_id: one.timeline.timeline_id,
            first_day: one.scenario.first_day.into(),
            start_day: one.scenario.start_day,
            ..Default::default()
        };
        one.run = app.try_start(request).await.expect(one.scenario.name).progress_id;
        one.look(app, start).await;
    }
    let (mut from, mut ticks) = (at(start), true);
    while from <= at(end) {
        let tick = from.duration_trunc(TimeDelta::hours(1)).expect("an hour");
        let tick = if tick < from { tick + TimeDelta::hours(1) } else { tick };
        for one in &mut played {
            let mut script = one.scenario.script.clone();
            script.retain(|entry| (from..=tick).contains(&at(&shown(entry.time))));
            script.sort_by_key(|entry| at(&shown(entry.time)));
            for entry in &script {
                let time = shown(entry.time);
                app.set(&time);
                one.act(app, entry).await;
                one.look(app, &time).await;
            }
        }
        for entry in shared {
            if (from..=tick).contains(&at(&shown(entry.time))) {
                match &entry.what {
                    Some(What::Ticks(are_on)) => ticks = *are_on,
                    Some(What::Answer(given)) => smtp.behave(behaviour(given.answer())),
                    other => panic!("{other:?}"),
                }
            }
        }
        if ticks && tick <= at(end) {
            app.clock.set(tick);
            app.hourly().await;
            for one in &mut played {
                one.look(app, &text(tick)).await;
            }
        }
        from = tick + TimeDelta::microseconds(1);
    }

    let mut seen = BTreeSet::new();
    for (one, foretold_run) in played.into_iter().zip(expected) {
        seen.extend(compare(app, one, foretold_run, end).await);
    }
    seen
}

async fn compare(app: &App, mut one: Played, expected: pb::SimulateTimelineResponse, end: &str) -> Vec<String> {
    let name = one.scenario.name;
    let request = pb::ListExecutionsRequest {
        filter: Some(pb::ExecutionFilter {
            customer_id: one.scenario.customer.customer_id.clone(),
            ..Default::default()
        }),
        page_size: 1000,
        ..Default::default()
    };
    let ledger = app
        .orchestrator()
        .list_executions(request)
        .await
        .expect("a page")
        .into_inner();
    for done in ledger.executions {
        let key = done.action.clone().expect("an action").key;
        let outcome = done.outcome().as_str_name().trim_start_matches("EXECUTION_OUTCOME_");
        let reason = reason_word(done.skip_reason(), done.failure_reason());
        let what = format!("{outcome} {reason}").trim().to_owned();
        let detail = detail_of_skip(done.skip_reason(), &done.detail);
        one.story
            .decided
            .push((shown(done.finish_time), key, done.attempt, what, detail));
    }
    let run = one.look(app, end).await;
    let story = one.story.sorted();
    assert!(!story.decided.is_empty(), "{name}");
    let foretold = foretold(&expected.steps);
    assert_eq!(foretold.decided, story.decided, "{name}: decided");
    assert_eq!(foretold.deferred, story.deferred, "{name}: put off");
    assert_eq!(foretold.places, story.places, "{name}: places");
    let (expected, expected_steps) = (expected.run.expect("a run"), expected.steps);
    assert_eq!(
        (
            expected.status(),
            expected.current_day,
            expected.day_date,
            expected.shifted_days
        ),
        (run.status(), run.current_day, run.day_date, run.shifted_days),
        "{name}"
    );
    assert_eq!(
        expected.percent_complete.to_bits(),
        run.percent_complete.to_bits(),
        "{name}"
    );
    assert_eq!(
        (expected.time_zone, expected.end_time),
        (run.time_zone.clone(), run.end_time),
        "{name}"
    );
    let mut seen: Vec<String> = story.decided.into_iter().map(|(.., what, _)| what).collect();
    seen.extend(story.deferred.into_iter().map(|(.., reason)| reason));
    seen.extend((run.shifted_days > 0).then(|| "shifted".to_owned()));
    let jumped = |step: &pb::SimulationStep| matches!(step.what, Some(Happened::Jumped(_)));
    seen.extend(expected_steps.iter().any(jumped).then(|| "jumped".to_owned()));
    let refused =
        |step: &pb::SimulationStep| matches!(&step.what, Some(Happened::Script(it)) if !it.refused.is_empty());
    seen.extend(expected_steps.iter().any(refused).then(|| "refused".to_owned()));
    seen.push(status_word(run.status()));
    seen
}

fn behaviour(answer: pb::SimulatedAnswer) -> Behaviour {
    match answer {
        pb::SimulatedAnswer::Accepted => Behaviour::Accept,
        pb::SimulatedAnswer::Temporary => Behaviour::Reply(Step::Rcpt, "451 4.3.0 come again"),
        pb::SimulatedAnswer::Rejected => Behaviour::Reply(Step::Rcpt, "550 5.7.1 blocked by policy"),
        pb::SimulatedAnswer::Suppressed => Behaviour::Reply(Step::Rcpt, "550 5.1.1 no such user"),
        pb::SimulatedAnswer::Unknown => Behaviour::Drop(Step::Dot),
        pb::SimulatedAnswer::Misconfigured => Behaviour::Reply(Step::Mail, "550 5.7.1 sender not allowed"),
        pb::SimulatedAnswer::Unspecified => panic!("no answer"),
    }
}

fn text(time: Timestamp) -> String {
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}
