//! Many customers at once: two servers on one database send every action once, and a tick takes few statements.

use campaign_automation::config::Config;
use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::campaign_tick_service_client::CampaignTickServiceClient;
use std::collections::HashSet;
use std::time::Instant;
use tonic::transport::Channel;

use crate::support::app::hourly;
use crate::support::given::{action, condition, customer, definition, email, sms, stamp};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    two_servers_send_everything_once,
    a_tick_takes_few_statements,
    a_tick_with_conditions_takes_few_statements,
);

/// How many customers one statement is about.
const BATCH: usize = 1000;

/// How many statements record a group of outcomes.
const GROUP_STATEMENTS: u64 = 3;

/// The most statements of a batch.
const MOST_STATEMENTS: u64 = 9;

/// Stores customers and starts each on the timeline.
async fn started(app: &App, prefix: &str, count: usize) {
    let timeline_id = app.get_timeline("plan").await.expect("the timeline").timeline_id;
    let ids: Vec<usize> = (0..count).collect();
    for chunk in ids.chunks(1000) {
        let ids = || chunk.iter().map(|n| format!("{prefix}{n:05}"));
        let request = pb::UpsertCustomersRequest {
            customers: ids().map(|id| customer(&id, "Europe/Berlin")).collect(),
            ..Default::default()
        };
        app.upsert(request).await.expect("results");
        let start = |customer_id| pb::TimelineStart {
            customer_id,
            timeline_id,
            ..Default::default()
        };
        let request = pb::StartTimelinesRequest {
            starts: ids().map(start).collect(),
            ..Default::default()
        };
        let response = app.orchestrator().start_timelines(request).await.expect("results");
        let is_started = |result: &pb::StartTimelinesResult| {
            matches!(result.result, Some(pb::start_timelines_result::Result::Run(_)))
        };
        assert!(response.into_inner().results.iter().all(is_started));
    }
}

/// Ticks until there is no more to do.
async fn tick(channel: Channel) -> pb::TickCounts {
    let mut client = CampaignTickServiceClient::new(channel);
    loop {
        let request = pb::ProcessCampaignTimelinesRequest::default();
        let summary = hourly(&mut client, request).await.expect("a summary");
        if !summary.has_more {
            return summary.counts.expect("counts");
        }
    }
}

fn completed(counts: &pb::TickCounts) -> i64 {
    counts.channels.iter().map(|channel| channel.completed).sum()
}

async fn two_servers_send_everything_once(backend: Backend) {
    const CUSTOMERS: usize = 5000;
    let app = App::start(backend).await;
    app.timeline(definition("plan", 5, vec![email(1, 0, "A"), sms(1, 0, "B")]))
        .await;
    started(&app, "c", CUSTOMERS).await;
    let (second, channel) = app.second_server().await;
    let (one, other) = tokio::join!(tick(app.channel()), tick(channel));

    let sent = app.sent();
    assert_eq!(sent.len(), CUSTOMERS * 2);
    let mut keys = HashSet::new();
    for message in &sent {
        // TIME-CUSTOMER-CHANNEL-KEY-ATTEMPT.EXTENSION, and the key has 36 characters.
        let (_, rest) = message.name.split_once('-').expect("a time");
        let (customer, rest) = rest.split_once('-').expect("a customer");
        let (_, rest) = rest.split_once('-').expect("a channel");
        keys.insert(rest[..36].to_owned());
        assert!(rest[36..].starts_with("-1."), "the first attempt: {}", message.name);
        assert!(
            message.text.contains(customer),
            "{} is about somebody else",
            message.name
        );
    }
    assert_eq!(keys.len(), CUSTOMERS * 2, "a key for each message");
    assert_eq!(
        completed(&one) + completed(&other),
        2 * i64::try_from(CUSTOMERS).expect("a count")
    );
    assert_eq!(one.stale_completions + other.stale_completions, 0);

    let mut token = String::new();
    loop {
        let request = pb::ListProgressRequest {
            page_size: 500,
            page_token: token,
            ..Default::default()
        };
        let page = app
            .orchestrator()
            .list_progress(request)
            .await
            .expect("a page")
            .into_inner();
        for run in page.progress {
            assert_eq!(
                (run.completed_actions.len(), run.failed_actions.len()),
                (2, 0),
                "{}",
                run.customer_id
            );
            assert_eq!(run.in_flight_actions, [], "{}", run.customer_id);
        }
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    second.shutdown().await.expect("stopped");
    app.server.shutdown().await.expect("stopped");
}

async fn a_tick_takes_few_statements(backend: Backend) {
    let app = App::start_with(backend, at_once).await;
    app.timeline(definition("plan", 5, vec![task(0, "A")])).await;
    few_statements(&app, |_| None).await;
}

async fn a_tick_with_conditions_takes_few_statements(backend: Backend) {
    use pb::condition::Test;
    let app = App::start_with(backend, at_once).await;
    let opened = Test::EmailOpened(pb::EmailOpened {
        within_hours: 48,
        ..Default::default()
    });
    let scored = Test::EngagementScoreAbove(pb::EngagementScoreAbove { threshold: 50 });
    let mut first = task(0, "A");
    // However much is asked, it is loaded in one statement.
    let clicked = Test::EmailClicked(pb::EmailClicked {
        within_hours: 48,
        ..Default::default()
    });
    let happened = |name: &str| {
        Test::Event(pb::EventOccurred {
            name: name.to_owned(),
            within_hours: 48,
        })
    };
    let has = Test::Attribute(pb::AttributeIs {
        name: "plan".to_owned(),
        comparison: Some(pb::attribute_is::Comparison::Exists(true)),
    });
    let any = [opened, clicked, happened("demo"), happened("visit"), has];
    let of = any.map(|test| pb::ConditionTest {
        test: Some(test.into()),
    });
    let any = Test::Any(pb::ConditionTests { of: of.into() });
    first.conditions = vec![condition(any, pb::ConditionThen::Skip)];
    let wait = action(1, 0, pb::Channel::Wait, pb::ActionType::Wait, "");
    let mut never = task(1, "B");
    never.conditions = vec![condition(scored, pb::ConditionThen::Execute)];
    app.timeline(definition("plan", 5, vec![first, wait, never])).await;
    few_statements(&app, |n| {
        (n % 2 == 0).then(|| pb::Engagement {
            event_id: "opened".to_owned(),
            kind: pb::EngagementKind::EmailOpened.into(),
            occur_time: Some(stamp("2026-01-05T11:00:00Z")),
            ..Default::default()
        })
    })
    .await;
}

/// There is room for more than is ever under way, however slow this machine is, so that its pace cuts no batch.
fn at_once(config: &mut Config) {
    config.interaction_concurrency = 20 * BATCH;
}

/// A task on day 1, which is less work than a mail, so that a batch of them begins in time on a slow machine, too.
fn task(hour: i32, campaign: &str) -> pb::ActionDefinition {
    action(1, hour, pb::Channel::Interaction, pb::ActionType::CreateTask, campaign)
}

/// One such test at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Ticks with more and more due customers. `event`: what a customer did before.
async fn few_statements(app: &App, event: impl Fn(usize) -> Option<pb::Engagement>) {
    let _alone = ALONE.lock().await;
    started(app, "warm", 1).await;
    tick(app.channel()).await;
    let statements = || app.server.engine().store().statements();
    let before = statements();
    tick(app.channel()).await;
    let overhead = statements() - before;
    assert!(overhead <= 20, "a tick with nothing due takes {overhead} statements");

    for due in [1, 100, 1000, 20_000] {
        let prefix = format!("d{due}n");
        started(app, &prefix, due).await;
        let events: Vec<pb::Engagement> = (0..due)
            .filter_map(|n| {
                let customer_id = format!("{prefix}{n:05}");
                Some(pb::Engagement {
                    customer_id,
                    ..event(n)?
                })
            })
            .collect();
        let expected = due - events.len();
        for chunk in events.chunks(1000) {
            app.record(chunk.to_vec()).await;
        }
        let (sent, before, begun) = (app.sent_count(), statements(), Instant::now());
        let counts = tick(app.channel()).await;
        // However many customers there are: tables that have grown are counted anew, sending holds and circuits are read anew
        // after a second and campaigns after two, and what takes longer than that is recorded in more groups.
        let seconds = begun.elapsed().as_secs();
        let slow = seconds / 2;
        let beside = 3 + 1 + 2 * seconds + slow + slow * GROUP_STATEMENTS;
        let used = (statements() - before - overhead).saturating_sub(beside);
        assert_eq!(app.sent_count() - sent, expected, "with {due} due");
        // Who was given back, because this machine was too slow to begin in time, is in another batch, perhaps alone.
        let batches = u64::try_from(due.div_ceil(BATCH)).expect("a count");
        let batches = batches + u64::try_from(counts.handed_back).expect("a count");
        // A large timeline is served in two places at a time, each of which ends with a batch that is not full.
        let batches = batches + u64::from(due > 4 * BATCH);
        assert!(
            used <= MOST_STATEMENTS * batches,
            "{due} due customers took {used} statements in {batches} batch(es), beside {overhead} of the tick"
        );
    }
}
