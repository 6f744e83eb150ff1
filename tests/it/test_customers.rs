//! Customers who are marked as tests: their messages become files, no provider hears of them, and no tick counts them.

use campaign_automation::proto::campaign::v1 as pb;
use pb::condition::Test;
use pb::{ActionType, Channel, FailureReason, FailureState, SkipReason};
use std::path::Path;

use crate::support::app::{daily, hourly};
use crate::support::calls::{completed, skipped};
use crate::support::given::{action, condition, customer, definition, email, sms};
use crate::support::mailing::{arrived, mailing_app_with};
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    their_messages_become_files_and_reach_no_provider,
    a_provider_in_trouble_holds_nothing_up,
    without_a_test_outbox_their_actions_fail_for_good,
    a_customer_is_marked_and_unmarked,
);

fn tester(id: &str) -> pb::Customer {
    pb::Customer {
        is_test: true,
        ..customer(id, "Etc/UTC")
    }
}

/// What was written to an outbox: the customers and channels, sorted.
fn written(outbox: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(outbox) else {
        return Vec::new();
    };
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    // TIME-CUSTOMER-CHANNEL-…
    let mut written: Vec<String> = names
        .map(|name| name.split('-').skip(1).take(2).collect::<Vec<_>>().join(" "))
        .collect();
    written.sort();
    written
}

/// Completed, skipped and failed actions by channel, where there are any.
fn counted(summary: &pb::TickSummary) -> Vec<(Channel, [i64; 3])> {
    let channels = summary.counts.iter().flat_map(|counts| &counts.channels);
    channels
        .map(|counts| (counts.channel(), [counts.completed, counts.skipped, counts.failed]))
        .collect()
}

/// One action of each kind at midnight, and one that is always skipped.
fn everything() -> Vec<pb::ActionDefinition> {
    let keyed = |key: &str, action: pb::ActionDefinition| pb::ActionDefinition {
        key: key.to_owned(),
        ..action
    };
    let low = Test::EngagementScoreAbove(pb::EngagementScoreAbove { threshold: -1 });
    vec![
        keyed("mail", email(1, 0, "A")),
        keyed("sms", sms(1, 0, "A")),
        keyed("call", action(1, 0, Channel::Phone, ActionType::MakeCall, "A")),
        keyed("task", action(1, 0, Channel::Interaction, ActionType::CreateTask, "A")),
        keyed("wait", action(1, 0, Channel::Wait, ActionType::Wait, "")),
        pb::ActionDefinition {
            conditions: vec![condition(low, pb::ConditionThen::Skip)],
            ..keyed("never", email(1, 0, "A"))
        },
    ]
}

async fn their_messages_become_files_and_reach_no_provider(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let outbox = tempfile::tempdir().expect("a directory");
    let directory = outbox.path().join("made").join("when needed");
    let app = mailing_app_with(backend, &smtp.url(), |config| {
        config.test_outbox_dir = Some(directory.clone());
    })
    .await;
    let timeline = app.timeline(definition("hook", 2, everything())).await;
    app.put_customer(tester("tess")).await;
    app.start_run("tess", &timeline).await;

    // A tick for it alone sends all of it, and counts nothing.
    let rehearsal = pb::ProcessCampaignTimelinesRequest {
        dry_run: true,
        ..Default::default()
    };
    let rehearsed = hourly(&mut app.ticks(), rehearsal).await.expect("a summary");
    assert_eq!(rehearsed.counts.expect("counts").channels, []);
    let summary = app.hourly().await;
    assert_eq!(counted(&summary), []);
    let expected = ["tess email", "tess interaction", "tess phone", "tess sms"];
    assert_eq!(written(&directory), expected);
    assert_eq!((smtp.mails(), app.sent()), (0, vec![]));
    let run = app.progress("tess").await;
    let mut done = completed(&run);
    done.sort();
    assert_eq!(done, ["call", "mail", "sms", "task", "wait"]);
    assert_eq!(skipped(&run), [("never".to_owned(), SkipReason::Condition)]);
    let mail = run.completed_actions.iter().find(|done| {
        let action = done.action.as_ref().expect("an action");
        action.key == "mail"
    });
    let mail = mail.expect("the mail");
    assert!(
        mail.provider_id.starts_with('<') && mail.complete_time.is_some(),
        "{mail:?}"
    );
    assert_eq!((mail.attempts, mail.content_revision), (1, 1));

    // Whoever is no test is served and counted as ever.
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    app.put_customer(tester("tom")).await;
    app.start_run("tom", &timeline).await;
    let summary = app.hourly().await;
    let expected = [
        (Channel::Email, [1, 1, 0]),
        (Channel::Sms, [1, 0, 0]),
        (Channel::Phone, [1, 0, 0]),
        (Channel::Wait, [1, 0, 0]),
        (Channel::Interaction, [1, 0, 0]),
    ];
    assert_eq!(counted(&summary), expected);
    assert_eq!(arrived(&smtp).into_keys().collect::<Vec<_>>(), ["anna@example.com"]);
    assert_eq!(app.sent_to("anna").len(), 3);
    assert_eq!((app.sent_count(), written(&directory).len()), (3, 8));

    // A call serves them as a tick does, and their days pass as others' do.
    app.put_customer(tester("toni")).await;
    app.start_run("toni", &timeline).await;
    let runs = app.execute("toni").await;
    assert_eq!(runs[0].actions.len(), 6);
    assert_eq!((smtp.mails(), written(&directory).len()), (1, 12));
    app.set("2026-01-06T00:00:00Z");
    let summary = daily(&mut app.ticks(), pb::AdvanceCampaignDaysRequest::default()).await;
    assert_eq!(summary.expect("a summary").counts.expect("counts").advanced_runs, 4);
    app.server.shutdown().await.expect("stopped");
}

/// The provider wants a login that it does not get, so that its channel stops.
async fn a_provider_in_trouble_holds_nothing_up(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let outbox = tempfile::tempdir().expect("a directory");
    let app = mailing_app_with(backend, &smtp.url(), |config| {
        config.test_outbox_dir = Some(outbox.path().to_path_buf());
    })
    .await;
    smtp.behave(Behaviour::Reply(Step::Mail, "530 5.7.0 authentication required"));
    let timeline = app.timeline(definition("hook", 2, vec![email(1, 0, "A")])).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    app.hourly().await;
    let run = app.progress("anna").await;
    assert_eq!(
        run.deferred_actions[0].reason(),
        pb::DeferReason::ChannelUnavailable,
        "{run:?}"
    );
    let mails = smtp.mails();
    app.put_customer(tester("tess")).await;
    app.start_run("tess", &timeline).await;
    app.hourly().await;
    assert_eq!(app.progress("tess").await.completed_actions.len(), 1);
    assert_eq!(written(outbox.path()), ["tess email"]);
    assert_eq!(smtp.mails(), mails);
    app.server.shutdown().await.expect("stopped");
}

/// On SQLite there always is one.
async fn without_a_test_outbox_their_actions_fail_for_good(backend: Backend) {
    if backend == Backend::Sqlite {
        return;
    }
    let smtp = SmtpServer::start().await;
    let app = mailing_app_with(backend, &smtp.url(), |config| config.test_outbox_dir = None).await;
    let timeline = app.timeline(definition("hook", 2, everything())).await;
    app.put_customer(tester("tess")).await;
    app.start_run("tess", &timeline).await;
    let summary = app.hourly().await;
    assert_eq!(counted(&summary), []);
    app.tick_hours(13).await;
    let run = app.progress("tess").await;
    assert_eq!(completed(&run), ["wait"]);
    assert_eq!(run.failed_actions.len(), 4);
    for failed in &run.failed_actions {
        let kind = (failed.state(), failed.reason(), failed.attempts);
        assert_eq!(kind, (FailureState::Failed, FailureReason::Misconfigured, 1));
        assert!(
            failed.error.contains("--test-outbox-dir (CAMPAIGN_TEST_OUTBOX_DIR)"),
            "{failed:?}"
        );
    }
    assert_eq!((smtp.mails(), app.sent()), (0, vec![]));
    app.server.shutdown().await.expect("stopped");
}

async fn a_customer_is_marked_and_unmarked(backend: Backend) {
    let app = App::start(backend).await;
    let mask = |paths: &[&str]| prost_types::FieldMask {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    };
    let cases = [
        ("a plain insert", None, false, false),
        ("what is not given stays", None, true, true),
        ("also with false, which is nothing given", None, false, true),
        ("another field", Some(mask(&["display_name"])), false, true),
        ("the field itself", Some(mask(&["is_test"])), false, false),
        ("and back", Some(mask(&["is_test"])), true, true),
        ("all fields", Some(mask(&["*"])), false, false),
    ];
    for (what, update_mask, given, expected) in cases {
        let request = pb::UpsertCustomersRequest {
            customers: vec![pb::Customer {
                is_test: given,
                ..customer("anna", "Etc/UTC")
            }],
            update_mask,
            ..Default::default()
        };
        let result = app.upsert(request).await.expect("results").results.remove(0).result;
        let Some(pb::upsert_customers_result::Result::Customer(upserted)) = result else {
            panic!("{what}: {result:?}")
        };
        let listed = app
            .customers()
            .list_customers(pb::ListCustomersRequest::default())
            .await;
        let listed = listed.expect("a page").into_inner().customers.remove(0);
        let read = app.get_customer("anna").await.expect("a customer");
        assert_eq!(
            [upserted.is_test, listed.is_test, read.is_test],
            [expected; 3],
            "{what}"
        );
    }
    app.put_customer(tester("tess")).await;
    assert!(
        app.get_customer("tess").await.expect("a customer").is_test,
        "inserted so"
    );
    app.server.shutdown().await.expect("stopped");
}
