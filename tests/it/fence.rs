//! A backup is restored, and what was sent after it was taken is not sent again: `campaignd fence`.

use campaign_automation::channels::{ChannelUrl, Mailbox};
use campaign_automation::clock::Clock as _;
use campaign_automation::config::Config;
use campaign_automation::proto::campaign::v1 as pb;
use chrono::Timelike as _;
use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tonic::Response;

use crate::support::calls::{completed, day, next, skipped};
use crate::support::given::{action, condition, definition, email, sms};
use crate::support::smtp::{Behaviour, SmtpServer, Step};
use crate::support::{App, Backend, Rows, Stopped, TestDatabase, on_each_database};

on_each_database!(
    six_hours_of_messages_are_not_sent_again,
    a_run_ends_up_on_the_day_on_which_it_was,
    what_was_in_flight_in_the_backup_is_unknown,
    mails_go_again_where_that_is_asked_for,
    what_gates_shut_out_may_have_been_sent,
    who_was_not_served_stays_as_he_was,
    an_instant_that_makes_no_sense_is_refused,
);

/// Runs `campaignd fence` on a database.
fn fence(database: &TestDatabase, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_campaignd"));
    command
        .arg("fence")
        .args(arguments)
        .env_clear()
        .env("CAMPAIGN_DATABASE_URL", &database.url)
        .stdin(Stdio::null());
    command.output().expect("a program that runs")
}

/// Runs it, and gives what it says, line by line.
#[track_caller]
fn fenced(database: &TestDatabase, arguments: &[&str]) -> Vec<String> {
    let output = fence(database, arguments);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).expect("a text");
    said.lines().map(str::to_owned).collect()
}

/// Takes a backup, goes on with what happens after it, and restores it.
async fn crashed(app: App, meanwhile: impl AsyncFnOnce(&App)) -> Stopped {
    let stopped = app.stop_server().await;
    let backup = stopped.database.copy().await;
    let app = stopped.start(100, |_| {}).await;
    meanwhile(&app).await;
    let mut stopped = app.stop_server().await;
    stopped.database = backup;
    stopped
}

/// What was ended as unknown, by its key, in order, with what is said about it.
#[track_caller]
fn unknown(run: &pb::Progress) -> Vec<String> {
    let failed = run.failed_actions.iter().map(|failed| {
        assert_eq!(failed.state(), pb::FailureState::Unknown, "{failed:?}");
        assert_eq!(failed.reason(), pb::FailureReason::OutcomeUnknown, "{failed:?}");
        assert!(
            failed.error.starts_with("fenced: the database comes from a backup"),
            "{failed:?}"
        );
        failed.action.clone().expect("an action").key
    });
    failed.collect()
}

async fn executions(app: &App, outcome: pb::ExecutionOutcome) -> Vec<pb::Execution> {
    let request = pb::ListExecutionsRequest {
        filter: Some(pb::ExecutionFilter {
            outcomes: vec![outcome.into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let response = app.orchestrator().list_executions(request).await;
    response.map(Response::into_inner).expect("executions").executions
}

async fn retry(app: &App, keys: &[&str]) -> i64 {
    let request = pb::RetryActionsRequest {
        filter: Some(pb::ExecutionFilter {
            outcomes: vec![pb::ExecutionOutcome::Unknown.into()],
            ..Default::default()
        }),
        action_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        ..Default::default()
    };
    let response = app.orchestrator().retry_actions(request).await;
    response.map(Response::into_inner).expect("a retry").retried_actions
}

/// The names of messages without time, attempt and extension: the customer, the channel, and the key by which it is one message.
fn messages(app: &App) -> Vec<String> {
    let names = app.sent().into_iter().map(|sent| {
        let (_, name) = sent.name.split_once('-').expect("a time");
        name.rsplit_once('-').expect("an attempt").0.to_owned()
    });
    names.collect()
}

#[track_caller]
fn assert_nothing_twice(app: &App) {
    let messages = messages(app);
    let distinct: BTreeSet<&String> = messages.iter().collect();
    assert_eq!(distinct.len(), messages.len(), "{messages:?}");
}

async fn six_hours_of_messages_are_not_sent_again(backend: Backend) {
    let app = App::start(backend).await;
    let actions = vec![
        email(1, 12, "A"),
        email(1, 13, "B"),
        sms(1, 14, "C"),
        action(1, 15, pb::Channel::Phone, pb::ActionType::MakeCall, "D"),
        action(1, 16, pb::Channel::Interaction, pb::ActionType::CreateTask, "E"),
        action(1, 17, pb::Channel::Wait, pb::ActionType::Wait, ""),
        sms(1, 18, "F"),
        sms(1, 19, "G"),
        sms(2, 9, "H"),
    ];
    let timeline = app.timeline(definition("hook", 3, actions)).await;
    let customers = ["anna", "bela", "cleo"];
    for customer in customers {
        app.customer(customer, "Etc/UTC").await;
        app.start_run(customer, &timeline).await;
    }
    app.tick_at(&["2026-01-05T12:00:00Z"]).await;
    assert_eq!(app.sent_count(), 3);
    let stopped = crashed(app, async |app| {
        app.tick_hours(6).await;
        assert_eq!(app.sent_count(), 3 * 6);
    })
    .await;

    let arguments = ["--before", "2026-01-05T18:00:01Z"];
    let counts = [
        "3 live runs, 3 with something to fence; 0 came to a later day, 0 to their end",
        "email: 3 unknown",
        "sms: 6 unknown",
        "phone: 3 unknown",
        "wait: 3 completed",
        "interaction: 3 unknown",
    ];
    let said = fenced(&stopped.database, &[&arguments[..], &["--dry-run"]].concat());
    assert_eq!(
        said[0],
        "nothing is changed; before 2026-01-05T18:00:01Z, last tick in the backup: 2026-01-05T12:00:00Z"
    );
    assert_eq!(said[1..], counts);
    let said = fenced(&stopped.database, &arguments);
    assert_eq!(said[1..], counts);

    let app = stopped.start(101, |_| {}).await;
    let rows = Rows::of(&app, backend).await;
    let before = rows.all().await;
    let again = fenced(&app.database, &arguments);
    assert_eq!(
        again[1],
        "0 live runs, 0 with something to fence; 0 came to a later day, 0 to their end"
    );
    assert_eq!(rows.all().await, before);

    app.tick_at(&["2026-01-05T18:00:01Z", "2026-01-05T18:59:00Z"]).await;
    assert_eq!(app.sent_count(), 3 * 6);
    for customer in customers {
        let run = app.progress(customer).await;
        assert_eq!(unknown(&run), ["d1h13B", "d1h14C", "d1h15D", "d1h16E", "d1h18F"]);
        assert_eq!(completed(&run), ["d1h12A", "d1h17"]);
        assert_eq!(day(&run), (1, "2026-01-05".to_owned()));
        assert_eq!(
            next(&run),
            Some(("d1h19G".to_owned(), "2026-01-05T19:00:00Z".to_owned()))
        );
    }
    let listed = executions(&app, pb::ExecutionOutcome::Unknown).await;
    assert_eq!(listed.len(), 3 * 5);
    assert!(listed.iter().all(|one| one.attempt == 1), "{listed:?}");

    app.tick_at(&["2026-01-05T19:00:00Z", "2026-01-06T00:00:00Z", "2026-01-06T09:00:00Z"])
        .await;
    assert_eq!(app.sent_count(), 3 * 8);
    assert_nothing_twice(&app);

    // Whoever knows that something was not sent after all has it sent.
    assert_eq!(retry(&app, &["d1h14C"]).await, 3);
    app.hourly().await;
    assert_eq!(app.sent_count(), 3 * 9);
    assert_eq!(retry(&app, &["d1h14C"]).await, 0);
    app.server.shutdown().await.expect("stopped");
}

/// A timeline with two text messages on each day, and what becomes of days on which nobody ticks.
async fn two_a_day(app: &App, when_missed: pb::WhenMissed) -> pb::Timeline {
    let days = (1..=6).flat_map(|day| [sms(day, 9, "A"), sms(day, 15, "B")]);
    app.timeline(pb::TimelineDefinition {
        when_missed: when_missed.into(),
        ..definition("hook", 6, days.collect())
    })
    .await
}

/// The hours of UTC at which a day begins or a message comes to be due in New York or Kathmandu.
const BUSY: [u32; 6] = [4, 5, 10, 14, 19, 20];

/// Lets hours pass, with a tick at the end of each in which there is something to do.
async fn tick_busy_hours(app: &App, hours: i64) {
    for _ in 0..hours {
        app.pass_hours(1);
        if BUSY.contains(&app.clock.now().hour()) {
            app.hourly().await;
        }
    }
}

/// The backup is of the third day, and the crash on the fifth.
async fn a_run_ends_up_on_the_day_on_which_it_was(backend: Backend) {
    for (seed, when_missed) in (200..).zip([pb::WhenMissed::Shift, pb::WhenMissed::CatchUp]) {
        let app = App::start(backend).await;
        app.set("2026-01-05T06:00:00Z");
        let timeline = two_a_day(&app, when_missed).await;
        for (customer, zone) in [("anna", "America/New_York"), ("bela", "Asia/Kathmandu")] {
            app.customer(customer, zone).await;
            app.start_run(customer, &timeline).await;
        }
        tick_busy_hours(&app, 48 + 6).await;
        let mut there = None;
        let stopped = crashed(app, async |app| {
            tick_busy_hours(app, 50).await;
            there = Some((app.progress("anna").await, app.progress("bela").await, app.sent_count()));
        })
        .await;
        let (anna, bela, sent) = there.expect("runs");
        // The crash was right after the tick of this hour.
        fenced(&stopped.database, &["--before", "2026-01-09T14:00:01Z"]);
        let app = stopped.start(seed, |_| {}).await;
        for (customer, was) in [("anna", &anna), ("bela", &bela)] {
            let run = app.progress(customer).await;
            assert_eq!(day(&run), day(was), "{customer} {when_missed:?}");
            assert_eq!(next(&run), next(was), "{customer} {when_missed:?}");
            assert_eq!(
                (run.shifted_days, run.jumped_days.clone()),
                (was.shifted_days, was.jumped_days.clone())
            );
            let done: Vec<String> = completed(&run).into_iter().chain(unknown(&run)).collect();
            assert_eq!(done, completed(was), "{customer} {when_missed:?}");
        }
        tick_busy_hours(&app, 24 * 3).await;
        assert_nothing_twice(&app);
        assert_eq!((sent, app.sent_count()), (sent, 2 * 12));
        assert_eq!(app.progress("anna").await.status(), pb::ProgressStatus::Completed);
        app.server.shutdown().await.expect("stopped");
    }
}

/// A configuration whose mail goes to `smtp`, with no patience at the end.
fn mailing(config: &mut Config, smtp: &SmtpServer) {
    config.channels.email_url = Some(ChannelUrl::parse(&smtp.url()).expect("a URL"));
    config.channels.email_from = Some(Mailbox::parse("Shop <shop@example.com>").expect("a sender"));
    config.shutdown_grace = Duration::from_millis(10);
}

/// A database with a mail that was under way when its server died.
async fn died_while_sending(backend: Backend, smtp: &SmtpServer) -> Stopped {
    let app = App::start_with(backend, |config| mailing(config, smtp)).await;
    let timeline = app
        .timeline(definition("hook", 2, vec![email(1, 12, "A"), sms(1, 13, "B")]))
        .await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    smtp.behave(Behaviour::Stall(Step::Dot));
    let mut client = app.ticks();
    let tick = tokio::spawn(async move {
        crate::support::app::hourly(&mut client, pb::ProcessCampaignTimelinesRequest::default()).await
    });
    smtp.until_stalled(1).await;
    let stopped = app.stop_server().await;
    // The connection is there still, with a tick that never ends.
    tick.abort();
    smtp.behave(Behaviour::Accept);
    stopped
}

async fn what_was_in_flight_in_the_backup_is_unknown(backend: Backend) {
    let smtp = SmtpServer::start().await;
    let mut stopped = died_while_sending(backend, &smtp).await;
    stopped.database = stopped.database.copy().await;
    let said = fenced(&stopped.database, &["--before", "2026-01-05T12:30:00Z"]);
    assert!(said.contains(&"email: 1 unknown".to_owned()), "{said:?}");
    let app = stopped.start(101, |config| mailing(config, &smtp)).await;
    let run = app.progress("anna").await;
    assert_eq!(
        (unknown(&run), run.in_flight_actions.len()),
        (vec!["d1h12A".to_owned()], 0)
    );
    app.tick_at(&["2026-01-05T12:31:00Z", "2026-01-05T14:00:00Z"]).await;
    assert_eq!((smtp.mails(), app.sent_count()), (1, 1));
    app.server.shutdown().await.expect("stopped");
}

async fn mails_go_again_where_that_is_asked_for(backend: Backend) {
    let app = App::start(backend).await;
    let actions = vec![email(1, 13, "A"), sms(1, 14, "B"), email(1, 16, "C")];
    let timeline = app.timeline(definition("hook", 2, actions)).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    app.hourly().await;
    let stopped = crashed(app, async |app| app.tick_hours(3).await).await;
    let said = fenced(
        &stopped.database,
        &["--before", "2026-01-05T15:30:00Z", "--resend-email"],
    );
    assert_eq!(said[2..], ["email: 1 to be sent again", "sms: 1 unknown"]);
    let app = stopped.start(101, |_| {}).await;
    app.tick_at(&["2026-01-05T15:30:00Z", "2026-01-05T16:00:00Z"]).await;
    let run = app.progress("anna").await;
    assert_eq!((unknown(&run), completed(&run).len()), (vec!["d1h14B".to_owned()], 2));
    let sent = messages(&app);
    // The first mail went twice as one message with one Message-ID, and the text message once.
    assert_eq!(sent.len(), 4, "{sent:?}");
    assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), 3, "{sent:?}");
    app.server.shutdown().await.expect("stopped");
}

/// A gate says skip by what is known in the backup; but the customer answered after it, so that the message was sent.
async fn what_gates_shut_out_may_have_been_sent(backend: Backend) {
    let app = App::start(backend).await;
    let replied = || {
        let replied = pb::condition::Test::Replied(pb::Replied {
            within_hours: 48,
            ..Default::default()
        });
        vec![condition(replied, pb::ConditionThen::Execute)]
    };
    let gate = pb::ActionDefinition {
        conditions: replied(),
        ..action(1, 13, pb::Channel::Wait, pb::ActionType::CheckCondition, "")
    };
    let asked = pb::ActionDefinition {
        conditions: replied(),
        ..sms(2, 9, "C")
    };
    let actions = vec![gate, sms(1, 14, "A"), sms(1, 23, "B"), asked];
    let timeline = app.timeline(definition("hook", 2, actions)).await;
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    app.hourly().await;
    let stopped = crashed(app, async |_| {}).await;
    fenced(&stopped.database, &["--before", "2026-01-06T10:00:00Z"]);
    let app = stopped.start(101, |_| {}).await;
    let run = app.progress("anna").await;
    assert_eq!(unknown(&run), ["d1h14A", "d1h23B", "d2h9C"]);
    assert_eq!(skipped(&run), [("d1h13".to_owned(), pb::SkipReason::Condition)]);
    app.server.shutdown().await.expect("stopped");
}

async fn who_was_not_served_stays_as_he_was(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 2, vec![sms(1, 13, "A")])).await;
    let off = app.timeline(definition("off", 2, vec![sms(1, 13, "A")])).await;
    for (customer, timeline) in [("paused", &timeline), ("stopped", &timeline), ("off", &off)] {
        app.customer(customer, "Etc/UTC").await;
        app.start_run(customer, timeline).await;
    }
    let paused = app.progress("paused").await.progress_id;
    app.pause("paused", paused, "").await.expect("paused");
    let id = app.progress("stopped").await.progress_id;
    app.stop("stopped", id, "").await.expect("stopped");
    app.set_active(&off, false).await;
    let rows = Rows::of(&app, backend).await;
    let before = rows.all().await;
    let said = fenced(&app.database, &["--before", "2026-01-05T18:00:00Z"]);
    assert_eq!(
        said[1],
        "2 live runs, 0 with something to fence; 0 came to a later day, 0 to their end"
    );
    assert_eq!(rows.all().await, before);

    // Somebody ticked after the instant, so it is not the one that was meant, or a server has run already.
    app.tick_at(&["2026-01-05T18:00:00Z"]).await;
    let said = fenced(&app.database, &["--before", "2026-01-05T17:00:00Z"]);
    assert!(
        said[1].starts_with("warning: there is a tick at 2026-01-05T18:00:00Z"),
        "{said:?}"
    );
    app.server.shutdown().await.expect("stopped");
}

async fn an_instant_that_makes_no_sense_is_refused(backend: Backend) {
    let database = TestDatabase::create(backend).await.expect("a database");
    for (arguments, words) in [
        (&["--before", "2999-01-01T00:00:00Z"][..], "is to come"),
        (&["--before", "yesterday"], "must be an instant with its offset"),
        (&[], "--before"),
        (&["--before", "2026-01-05T18:00:00Z"], "campaignd migrate"),
    ] {
        let output = fence(&database, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains(words),
            "{arguments:?}: {said}"
        );
    }
}
