//! Text messages, calls and tasks through providers, as the callers of the service see it.

use campaign_automation::channels::{ChannelUrl, SmsFrom, SmsLimit, WebhookSecrets};
use campaign_automation::config::Config;
use campaign_automation::domain::PhoneNumber;
use campaign_automation::proto::campaign::v1 as pb;
use std::time::Duration;

use crate::support::given::{action, customer, definition, shown, sms};
use crate::support::http::{Behaviour, HttpServer, sid, twilio_error};
use crate::support::{App, Backend, TestDatabase, on_each_database};

on_each_database!(
    messages_calls_and_tasks_reach_their_providers,
    what_may_have_been_sent_is_unknown_and_not_sent_again,
    what_a_provider_never_saw_says_nothing_about_it,
    who_has_unsubscribed_is_not_written_to_again,
    a_refused_login_stops_text_messages_and_nothing_else,
    a_task_is_repeated_under_one_id_until_it_is_taken,
    a_text_message_that_is_too_long_is_refused_unsent,
    numbers_that_cost_or_alarm_are_refused,
);

pub(crate) const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";

/// A server whose text messages and calls go to one provider, and its tasks to another.
pub(crate) async fn app(
    backend: Backend,
    twilio: &HttpServer,
    crm: &HttpServer,
    change: impl FnOnce(&mut Config),
) -> App {
    let database = TestDatabase::create(backend).await.expect("a database");
    app_on(database, twilio, crm, change).await
}

/// The same, on a database that is there.
pub(crate) async fn app_on(
    database: TestDatabase,
    twilio: &HttpServer,
    crm: &HttpServer,
    change: impl FnOnce(&mut Config),
) -> App {
    App::start_on(database, |config| {
        let url = |url: String| Some(ChannelUrl::parse(&url).expect("a URL"));
        let from = "+14155550100";
        config.channels.sms_url = url(format!("twilio+http://{ACCOUNT}:t0ken@{}", twilio.address()));
        config.channels.phone_url = config.channels.sms_url.clone();
        config.channels.interaction_url = url(format!("http://{}/hooks", crm.address()));
        config.channels.providers.sms_from = SmsFrom::parse(from).ok();
        config.channels.providers.phone_from = PhoneNumber::parse(from).ok();
        config.channels.providers.webhook_secret = WebhookSecrets::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").ok();
        config.channels.providers.allow_private_destinations = true;
        change(config);
    })
    .await
}

/// Starts a customer on a timeline of these actions on day 1.
async fn start(app: &App, actions: Vec<pb::ActionDefinition>) -> pb::Progress {
    let timeline = app.timeline(definition("hook", 1, actions)).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await
}

fn call(hour: i32) -> pb::ActionDefinition {
    action(1, hour, pb::Channel::Phone, pb::ActionType::MakeCall, "B")
}

fn task(hour: i32) -> pb::ActionDefinition {
    action(1, hour, pb::Channel::Interaction, pb::ActionType::CreateTask, "C")
}

/// What became of the attempts at the only action, in order.
async fn outcomes(app: &App) -> Vec<pb::ExecutionOutcome> {
    let request = pb::ListExecutionsRequest::default();
    let listed = app.orchestrator().list_executions(request).await.expect("a ledger");
    let mut executions = listed.into_inner().executions;
    executions.sort_by_key(|execution| execution.attempt);
    executions.iter().map(pb::Execution::outcome).collect()
}

async fn messages_calls_and_tasks_reach_their_providers(backend: Backend) {
    let (twilio, crm) = (HttpServer::twilio().await, HttpServer::start().await);
    crm.answer(201, "{\"id\":\"task-9\"}");
    let app = app(backend, &twilio, &crm, |_| {}).await;
    let run = start(&app, vec![sms(1, 0, "A"), call(1), task(2)]).await;
    app.hourly().await;

    let [text, call] = twilio.requests().try_into().expect("two requests");
    assert_eq!(text.path(), format!("/2010-04-01/Accounts/{ACCOUNT}/Messages.json"));
    assert_eq!(text.parameter("To"), "+14155552671");
    assert_eq!(text.parameter("Body"), "Hi Customer anna");
    assert_eq!(
        call.parameter("Twiml"),
        "<Response><Say>Good day Customer anna</Say></Response>"
    );
    let [created] = crm.requests().try_into().expect("one request");
    let data = &created.json()["data"];
    assert_eq!(data["customer_id"], "anna");
    assert_eq!(data["progress_id"], run.progress_id);
    assert_eq!(data["timeline"], "hook");
    assert_eq!(data["action_key"], "d1h2C");
    assert_eq!(created.header("webhook-id"), data["id"]);

    let run = app.progress("anna").await;
    let ids: Vec<&str> = run
        .completed_actions
        .iter()
        .map(|done| done.provider_id.as_str())
        .collect();
    assert_eq!(ids, [sid("SM", 1).as_str(), &sid("CA", 2), "task-9"]);
}

async fn what_may_have_been_sent_is_unknown_and_not_sent_again(backend: Backend) {
    for behaviour in [
        Behaviour::Stall,
        Behaviour::CloseUnanswered,
        twilio_error(500, 20500, "Internal server error for +14155552671"),
    ] {
        let (twilio, crm) = (HttpServer::twilio().await, HttpServer::start().await);
        let app = app(backend, &twilio, &crm, |config| {
            config.send_timeout = Duration::from_secs(1);
        })
        .await;
        start(&app, vec![sms(1, 0, "A"), call(1)]).await;
        twilio.behave(behaviour.clone());
        app.hourly().await;
        let run = app.progress("anna").await;
        assert_eq!(run.failed_actions.len(), 2, "{behaviour:?}: {run:?}");
        for failed in &run.failed_actions {
            assert_eq!(failed.state(), pb::FailureState::Unknown, "{behaviour:?}: {failed:?}");
            assert!(!failed.error.contains("5552671"), "{failed:?}");
        }
        twilio.accept_all();
        app.tick_hours(3).await;
        assert_eq!(twilio.requests().len(), 2, "{behaviour:?}");
        app.server.shutdown().await.expect("stopped");
    }
}

/// A text of too many parts is not sent, so it is no sign of life of a provider that fails: neither between failures nor as the probe.
async fn what_a_provider_never_saw_says_nothing_about_it(backend: Backend) {
    let (twilio, crm) = (HttpServer::twilio().await, HttpServer::start().await);
    let app = app(backend, &twilio, &crm, |config| {
        config.sms_concurrency = 1;
        config.limits.channel_failures = 3;
        config.channels.providers.sms_max_segments = SmsLimit::new(1).expect("a limit");
    })
    .await;
    let campaign = pb::CampaignDefinition {
        campaign_id: "SAY".to_owned(),
        kind: pb::CampaignKind::Transactional.into(),
        sms_text: "{{ customer.attributes.say }}".to_owned(),
        ..Default::default()
    };
    let request = pb::ApplyCampaignRequest {
        campaign: Some(campaign),
        ..Default::default()
    };
    app.content().apply_campaign(request).await.expect("a campaign");
    let timeline = app.timeline(definition("hook", 1, vec![sms(1, 0, "SAY")])).await;
    let long = "too long ".repeat(20);
    for (id, say) in [("a", "Hi"), ("b", "Hi"), ("c", &*long), ("d", "Hi"), ("e", &*long)] {
        let say = prost_types::Value {
            kind: Some(prost_types::value::Kind::StringValue(say.to_owned())),
        };
        let attributes = prost_types::Struct {
            fields: [("say".to_owned(), say)].into(),
        };
        let customer = pb::Customer {
            attributes: Some(attributes),
            ..customer(id, "Etc/UTC")
        };
        app.put_customer(customer).await;
        app.start_run(id, &timeline).await;
    }
    twilio.behave(twilio_error(500, 20500, "Internal server error"));
    let [opened] = app.hourly().await.circuits.try_into().expect("one circuit");
    assert_eq!(opened.cause(), pb::CircuitCause::Failures);
    assert_eq!(twilio.requests().len(), 3);
    app.set("2026-01-05T12:15:00Z");
    let [circuit] = app.hourly().await.circuits.try_into().expect("one circuit");
    assert_ne!(circuit.state(), pb::CircuitState::Closed, "{circuit:?}");
    let [failed] = app.progress("e").await.failed_actions.try_into().expect("one action");
    assert_eq!(failed.reason(), pb::FailureReason::Rejected);
    assert_eq!(twilio.requests().len(), 3);
    app.server.shutdown().await.expect("stopped");
}

async fn who_has_unsubscribed_is_not_written_to_again(backend: Backend) {
    let (twilio, crm) = (HttpServer::twilio().await, HttpServer::start().await);
    let app = app(backend, &twilio, &crm, |_| {}).await;
    twilio.behave(twilio_error(
        400,
        21610,
        "Attempt to send to unsubscribed recipient +14155552671",
    ));
    start(&app, vec![sms(1, 0, "A")]).await;
    app.hourly().await;
    let run = app.progress("anna").await;
    let [failed] = run.failed_actions.as_slice() else {
        panic!("{run:?}")
    };
    assert_eq!(failed.state(), pb::FailureState::Failed);
    assert_eq!(failed.reason(), pb::FailureReason::Suppressed);
    assert_eq!(
        failed.error,
        "HTTP 400, error 21610: Attempt to send to unsubscribed recipient ***"
    );
    app.tick_hours(2).await;
    assert_eq!(twilio.requests().len(), 1);
}

async fn a_refused_login_stops_text_messages_and_nothing_else(backend: Backend) {
    let (twilio, crm) = (HttpServer::twilio().await, HttpServer::start().await);
    let app = app(backend, &twilio, &crm, |config| {
        config.channel_probe = Duration::from_secs(420);
    })
    .await;
    twilio.behave_to("Body=", twilio_error(401, 20003, "Authenticate"));
    start(&app, vec![sms(1, 0, "A"), call(1), task(2)]).await;
    app.hourly().await;
    let run = app.progress("anna").await;
    let [deferred] = run.deferred_actions.as_slice() else {
        panic!("{run:?}")
    };
    assert_eq!(deferred.reason(), pb::DeferReason::ChannelUnavailable);
    assert_eq!(shown(deferred.until_time), "2026-01-05T12:07:00Z");
    assert_eq!((run.completed_actions.len(), run.failed_actions.len()), (2, 0));
    assert_eq!(crm.requests().len(), 1);

    // Nothing is tried before the probe, and it costs no attempt.
    app.set("2026-01-05T12:06:00Z");
    app.hourly().await;
    assert_eq!(twilio.requests().len(), 2);
    twilio.accept_all();
    app.set("2026-01-05T12:07:00Z");
    app.hourly().await;
    let run = app.progress("anna").await;
    let text = run
        .completed_actions
        .iter()
        .find(|done| done.provider_id.starts_with("SM"));
    assert_eq!(text.expect("a text message").attempts, 1, "{run:?}");
}

async fn a_task_is_repeated_under_one_id_until_it_is_taken(backend: Backend) {
    let (twilio, crm) = (HttpServer::twilio().await, HttpServer::start().await);
    let app = app(backend, &twilio, &crm, |_| {}).await;
    start(&app, vec![task(0)]).await;
    crm.behave(Behaviour::Answer(503, "retry-after: 480\r\n", String::new()));
    app.hourly().await;
    let run = app.progress("anna").await;
    assert_eq!(
        shown(run.failed_actions[0].next_retry_time),
        "2026-01-05T12:08:00Z",
        "{run:?}"
    );
    crm.behave(Behaviour::CloseUnanswered);
    for (time, requests) in [("2026-01-05T12:07:59Z", 1), ("2026-01-05T12:08:00Z", 2)] {
        app.set(time);
        app.hourly().await;
        assert_eq!(crm.requests().len(), requests, "{time}");
    }
    crm.answer(204, "");
    app.tick_hours(1).await;
    let requests = crm.requests();
    assert_eq!(requests.len(), 3);
    let ids: Vec<&str> = requests.iter().map(|request| request.header("webhook-id")).collect();
    assert!(ids[0].len() == 36 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let attempts: Vec<_> = requests
        .iter()
        .map(|request| request.json()["data"]["attempt"].as_u64())
        .collect();
    assert_eq!(attempts, [Some(1), Some(2), Some(3)]);
    let (completed, retrying) = (pb::ExecutionOutcome::Completed, pb::ExecutionOutcome::Retrying);
    assert_eq!(outcomes(&app).await, [retrying, retrying, completed]);
    app.tick_hours(2).await;
    assert_eq!(crm.requests().len(), 3);
}

async fn a_text_message_that_is_too_long_is_refused_unsent(backend: Backend) {
    let (twilio, crm) = (HttpServer::twilio().await, HttpServer::start().await);
    let app = app(backend, &twilio, &crm, |config| {
        config.channels.providers.sms_max_segments = SmsLimit::new(5).expect("a limit");
    })
    .await;
    let campaign = pb::CampaignDefinition {
        campaign_id: "A".to_owned(),
        sms_text: "я".repeat(336),
        sms_max_segments: 10,
        ..Default::default()
    };
    let request = pb::ApplyCampaignRequest {
        campaign: Some(campaign),
        ..Default::default()
    };
    app.content().apply_campaign(request).await.expect("a campaign");
    start(&app, vec![sms(1, 0, "A")]).await;
    app.hourly().await;
    let run = app.progress("anna").await;
    assert_eq!(run.failed_actions[0].reason(), pb::FailureReason::Rejected, "{run:?}");
    let error = "the text message has 6 segments, and 5 is the most (--sms-max-segments)";
    assert_eq!(run.failed_actions[0].error, error);
    assert_eq!(twilio.requests(), []);
}

async fn numbers_that_cost_or_alarm_are_refused(backend: Backend) {
    let app = App::start(backend).await;
    for (phone, is_good) in [
        ("+14155552671", true),
        ("+493012345678", true),
        ("+19005550123", false),
        ("+49110", false),
        ("+1911", false),
        ("14155552671", false),
    ] {
        let request = pb::UpsertCustomersRequest {
            customers: vec![pb::Customer {
                customer_id: "anna".to_owned(),
                phone: phone.to_owned(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = app
            .customers()
            .upsert_customers(request)
            .await
            .expect("a response")
            .into_inner();
        let taken = matches!(
            response.results[0].result,
            Some(pb::upsert_customers_result::Result::Customer(_))
        );
        assert_eq!(taken, is_good, "{phone}: {response:?}");
    }
}
