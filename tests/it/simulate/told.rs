//! What a simulation tells, of whom, and that it leaves nothing behind.

use campaign_automation::proto::campaign::v1 as pb;
use pb::simulate_timeline_request::{Which, Whom};
use pb::simulation_step::What as Happened;
use pb::{ActionOutcome, FailureReason, ProgressStatus};
use sea_orm::{ConnectionTrait as _, Database, Statement};
use tonic::Status;

use super::{answers, busy, entry, gate, keyed, only, opened, opened_within, plain};
use crate::support::given::{customer, definition, email, shown, sms, stamp};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    a_definition_is_tried_for_somebody_who_is_made_up,
    what_is_stored_counts_as_it_is,
    decisions_come_with_what_was_seen,
    templates_are_filled_in,
    nothing_is_stored_and_nothing_is_sent,
    long_simulations_end,
);

async fn simulate(app: &App, request: pb::SimulateTimelineRequest) -> Result<pb::SimulateTimelineResponse, Status> {
    let response = app.timelines().simulate_timeline(request).await;
    response.map(tonic::Response::into_inner)
}

fn defined(definition: pb::TimelineDefinition, customer: pb::Customer) -> pb::SimulateTimelineRequest {
    pb::SimulateTimelineRequest {
        which: Some(Which::Timeline(definition)),
        whom: Some(Whom::Customer(customer)),
        ..Default::default()
    }
}

fn nobody(zone: &str) -> pb::Customer {
    pb::Customer {
        customer_id: String::new(),
        ..customer("x", zone)
    }
}

/// What the first condition of an action saw: whether it holds, what it says, and when what it asks for was done.
type Seen = (bool, pb::ConditionThen, String);

/// The actions of steps: when, which, and what became of it.
fn actions(response: &pb::SimulateTimelineResponse) -> Vec<(String, String, ActionOutcome)> {
    let action = |step: &pb::SimulationStep| match &step.what {
        Some(Happened::Action(done)) => {
            let key = done.action.clone().expect("an action").key;
            Some((shown(step.time), key, done.outcome()))
        }
        _ => None,
    };
    response.steps.iter().filter_map(action).collect()
}

fn findings(response: &pb::SimulateTimelineResponse) -> Vec<(String, Vec<pb::ConditionFinding>)> {
    let found = |step: &pb::SimulationStep| match &step.what {
        Some(Happened::Action(done)) => Some((done.action.clone()?.key, done.conditions.clone())),
        _ => None,
    };
    response.steps.iter().filter_map(found).collect()
}

async fn a_definition_is_tried_for_somebody_who_is_made_up(backend: Backend) {
    let app = App::start(backend).await;
    app.campaign("A").await;
    let mut plan = definition("plan", 2, vec![email(1, 9, "A"), sms(2, 23, "A")]);
    plan.is_active = false;
    let request = pb::SimulateTimelineRequest {
        start_time: Some(stamp("2026-03-28T12:10:00Z")),
        ..defined(plan, nobody("Europe/Berlin"))
    };
    let told = simulate(&app, request).await.expect("steps");
    let what: Vec<_> = told
        .steps
        .iter()
        .map(|step| (shown(step.time), step.day_number, step.what.clone().expect("something")))
        .collect();
    assert_eq!(
        what[0],
        (
            "2026-03-28T12:10:00Z".to_owned(),
            1,
            Happened::Started(pb::RunStarted {})
        )
    );
    // The clocks go forward in the night.
    let expected = [
        ("2026-03-28T13:00:00Z", "d1h9A", ActionOutcome::Executed),
        ("2026-03-29T21:00:00Z", "d2h23A", ActionOutcome::Executed),
    ]
    .map(|(time, key, outcome)| (time.to_owned(), key.to_owned(), outcome));
    assert_eq!(actions(&told), expected);
    assert_eq!(
        what[2],
        ("2026-03-28T23:00:00Z".to_owned(), 2, Happened::Day(pb::DayReached {}))
    );
    assert_eq!(
        what[4],
        (
            "2026-03-29T22:00:00Z".to_owned(),
            2,
            Happened::Completed(pb::RunCompleted {})
        )
    );
    assert_eq!(what.len(), 5);
    let Happened::Action(first) = &what[1].2 else {
        panic!("{what:?}")
    };
    let action = first.action.clone().expect("an action");
    assert_eq!(
        (action.action_id, action.campaign_id.as_str(), first.attempt),
        (0, "A", 1)
    );
    assert_eq!(
        shown(first.due_time),
        "2026-03-28T12:10:00Z",
        "hours that have passed are due at the start"
    );
    let run = told.run.expect("a run");
    assert_eq!((run.status(), run.completed_actions), (ProgressStatus::Completed, 2));
    assert_eq!(run.percent_complete.to_bits(), 100.0_f64.to_bits());
    assert_eq!(shown(run.end_time), "2026-03-29T22:00:00Z");
    assert_eq!(run.end_time, run.simulated_until);
    assert!(!told.truncated);
    app.server.shutdown().await.expect("stopped");
}

/// The same is told of what is stored, with the ids that are stored.
async fn what_is_stored_counts_as_it_is(backend: Backend) {
    let app = App::start(backend).await;
    // Stored the wrong way round: between two of the same priority the id decides.
    let mut plan = definition("plan", 3, busy(3));
    plan.actions.push(keyed("late-comer", email(1, 9, "A")));
    plan.actions.insert(0, keyed("first", email(1, 9, "A")));
    let stored = app.timeline(plan.clone()).await;
    app.customer("anna", "Asia/Tokyo").await;
    let by_id = pb::SimulateTimelineRequest {
        which: Some(Which::TimelineId(stored.timeline_id)),
        whom: Some(Whom::CustomerId("anna".to_owned())),
        ..Default::default()
    };
    let told = simulate(&app, by_id).await.expect("steps");
    let keys: Vec<String> = actions(&told).into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(keys[..3], ["first", "d1h9A", "late-comer"]);
    let request = defined(plan.clone(), customer("anna", "Asia/Tokyo"));
    assert_eq!(simulate(&app, request).await.expect("steps"), told);

    // What is new comes after what is stored, as it would when it is applied.
    plan.actions.insert(0, keyed("new", email(1, 9, "A")));
    let told = simulate(&app, defined(plan.clone(), nobody("Asia/Tokyo")))
        .await
        .expect("steps");
    let keys: Vec<String> = actions(&told).into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(keys[..4], ["first", "d1h9A", "late-comer", "new"]);
    let applied = app.apply(plan.clone(), &stored.etag).await.expect("a change");
    assert!(!applied.created);
    let definition = applied.timeline.expect("a timeline").definition.expect("a definition");
    let keys: Vec<&str> = definition.actions.iter().map(|action| action.key.as_str()).collect();
    assert_eq!(keys[..4], ["first", "d1h9A", "late-comer", "new"]);

    // A timeline that is off is told as if it were on; what was removed is not there.
    app.set_active(&stored, false).await;
    plan.actions.remove(0);
    let etag = app.get_timeline("plan").await.expect("a timeline").etag;
    app.apply(plan, &etag).await.expect("a change");
    let request = pb::SimulateTimelineRequest {
        which: Some(Which::TimelineId(stored.timeline_id)),
        whom: Some(Whom::Customer(nobody(""))),
        ..Default::default()
    };
    let told = simulate(&app, request).await.expect("steps");
    let keys: Vec<String> = actions(&told).into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(
        (keys.len(), &keys[..3]),
        (8, &["first", "d1h9A", "late-comer"].map(str::to_owned)[..])
    );
    let run = told.run.expect("a run");
    assert_eq!(
        (run.time_zone.as_str(), run.time_zone_source()),
        ("Etc/UTC", pb::TimeZoneSource::Default)
    );
    app.server.shutdown().await.expect("stopped");
}

async fn decisions_come_with_what_was_seen(backend: Backend) {
    let app = App::start(backend).await;
    app.campaign("A").await;
    let unless_opened = |action| only(action, opened_within(24, ""), pb::ConditionThen::Skip);
    let actions = vec![
        keyed("welcome", email(1, 13, "A")),
        keyed("nudge", unless_opened(email(1, 15, "A"))),
        keyed("gate", unless_opened(gate(2, 9))),
        keyed("gated", unless_opened(sms(2, 10, "A"))),
        keyed("sent", unless_opened(sms(3, 16, "A"))),
    ];
    let request = pb::SimulateTimelineRequest {
        script: vec![entry("2026-01-05T14:30:00Z", opened())],
        ..defined(definition("plan", 3, actions), nobody(""))
    };
    let told = simulate(&app, request).await.expect("steps");
    let seen: Vec<(String, Option<Seen>)> = findings(&told)
        .into_iter()
        .map(|(key, findings)| {
            let one = |finding: &pb::ConditionFinding| {
                let Some(pb::leaf_finding::Fact::EventTime(time)) = finding.leaves[0].fact else {
                    panic!("{finding:?}")
                };
                (finding.holds, finding.verdict(), shown(Some(time)))
            };
            (key, findings.first().map(one))
        })
        .collect();
    let (skip, execute) = (pb::ConditionThen::Skip, pb::ConditionThen::Execute);
    let at = || "2026-01-05T14:30:00Z".to_owned();
    let expected = [
        ("welcome", None),
        ("nudge", Some((true, skip, at()))),
        ("gate", Some((true, skip, at()))),
        ("gated", None),
        ("sent", Some((false, execute, at()))),
    ]
    .map(|(key, seen)| (key.to_owned(), seen));
    assert_eq!(seen, expected);
    app.server.shutdown().await.expect("stopped");
}

async fn templates_are_filled_in(backend: Backend) {
    let app = App::start(backend).await;
    let campaign = pb::CampaignDefinition {
        campaign_id: "A".to_owned(),
        kind: pb::CampaignKind::Transactional.into(),
        subject: "For {{ customer.attributes.studio }}".to_owned(),
        text_body: "Hello".to_owned(),
        sms_text: "Hello".to_owned(),
        ..Default::default()
    };
    let request = pb::ApplyCampaignRequest {
        campaign: Some(campaign),
        ..Default::default()
    };
    app.content().apply_campaign(request).await.expect("a campaign");
    let request = defined(
        definition("plan", 1, vec![email(1, 9, "A"), sms(1, 10, "A")]),
        nobody(""),
    );
    let told = simulate(&app, request).await.expect("steps");
    let Some(Happened::Action(mail)) = &told.steps[1].what else {
        panic!("{told:?}")
    };
    assert_eq!(
        (mail.outcome(), mail.failure_reason()),
        (ActionOutcome::Failed, FailureReason::Template)
    );
    assert!(mail.detail.contains("customer.attributes.studio"), "{}", mail.detail);
    let run = told.run.expect("a run");
    assert_eq!((run.failed_actions, run.completed_actions), (1, 1));
    app.server.shutdown().await.expect("stopped");
}

/// The numbers of rows of all tables.
async fn rows(app: &App) -> Vec<(String, i64)> {
    let connection = Database::connect(&app.database.url).await.expect("a connection");
    let backend = connection.get_database_backend();
    let mut counts = Vec::new();
    for table in [
        "action_executions",
        "campaign_timeline_actions",
        "campaign_timelines",
        "campaigns",
        "customer_timeline_progress",
        "customers",
        "engagement_events",
        "tick_runs",
        "time_zones",
    ] {
        let statement = Statement::from_string(backend, format!("select count(*) as n from {table}"));
        let row = connection
            .query_one_raw(statement)
            .await
            .expect("an answer")
            .expect("a row");
        counts.push((table.to_owned(), row.try_get("", "n").expect("a number")));
    }
    connection.close().await.expect("closed");
    counts
}

async fn nothing_is_stored_and_nothing_is_sent(backend: Backend) {
    let app = App::start(backend).await;
    let scenario = plain("anna", "Africa/Cairo", 5, busy(5));
    let timeline = app.timeline(scenario.timeline.clone()).await;
    app.put_customer(scenario.customer.clone()).await;
    let run = app.start_run("anna", &timeline).await;
    app.hourly().await;
    let (before, sent) = (rows(&app).await, app.sent_count());
    for which in [
        Which::TimelineId(timeline.timeline_id),
        Which::Timeline(definition("other", 5, busy(5))),
    ] {
        for whom in [
            Whom::CustomerId("anna".to_owned()),
            Whom::Customer(customer("bert", "Asia/Kabul")),
        ] {
            let request = pb::SimulateTimelineRequest {
                which: Some(which.clone()),
                whom: Some(whom),
                script: vec![entry("2026-01-06T00:00:00Z", opened())],
                ..Default::default()
            };
            let told = simulate(&app, request).await.expect("steps");
            assert_eq!(told.run.expect("a run").completed_actions, 10);
        }
    }
    assert_eq!((rows(&app).await, app.sent_count()), (before, sent));
    let now = app.progress("anna").await;
    assert_eq!(
        (now.progress_id, now.update_time),
        (run.progress_id, app.progress("anna").await.update_time)
    );
    app.server.shutdown().await.expect("stopped");
}

async fn long_simulations_end(backend: Backend) {
    let app = App::start_with(backend, |config| {
        config.channel_probe = std::time::Duration::from_secs(60);
    })
    .await;
    app.campaign("A").await;
    // Ten years, a hundred actions, a tick a minute.
    let every = (0..100).map(|n| email(n * 36 + 1, 9, "A")).collect();
    let request = pb::SimulateTimelineRequest {
        tick_interval: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..defined(definition("long", 3650, every), nobody("America/Sao_Paulo"))
    };
    let told = simulate(&app, request).await.expect("steps");
    let run = told.run.clone().expect("a run");
    assert_eq!((run.status(), run.completed_actions), (ProgressStatus::Completed, 100));
    assert_eq!((told.steps.len(), told.truncated), (1 + 3649 + 100 + 1, false));

    // A channel that stays broken is tried every minute, and that is cut.
    let request = pb::SimulateTimelineRequest {
        tick_interval: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        script: vec![entry(
            "2026-01-05T12:00:00Z",
            answers(pb::SimulatedAnswer::Misconfigured),
        )],
        ..defined(definition("broken", 30, vec![email(1, 9, "A")]), nobody(""))
    };
    let told = simulate(&app, request).await.expect("steps");
    assert_eq!((told.steps.len(), told.truncated), (10_000, true));
    let run = told.run.expect("a run");
    let last = told.steps[9999].time.expect("an instant").seconds;
    assert_eq!(
        (run.pending_actions, run.simulated_until.expect("an instant").seconds),
        (1, last + 60)
    );

    // A run that is paused for good is looked at no longer than is asked for.
    let request = pb::SimulateTimelineRequest {
        script: vec![entry(
            "2026-01-05T12:00:00Z",
            pb::script_entry::What::Pause(pb::ScriptPause {}),
        )],
        ..defined(definition("paused", 30, vec![email(1, 9, "A")]), nobody(""))
    };
    let told = simulate(&app, request).await.expect("steps");
    let run = told.run.expect("a run");
    assert_eq!((run.status(), run.untouched_actions), (ProgressStatus::Paused, 1));
    assert_eq!(shown(run.simulated_until), "2027-03-11T12:00:00Z", "430 days");
    app.server.shutdown().await.expect("stopped");
}
