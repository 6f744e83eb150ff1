//! A database of the version before, with customers at every point of their runs, is brought up to date, and all come to their ends:
//! nothing is sent twice, and nothing is lost.
//!
//! It is kept as the rows of all tables. Their columns come from the steps of that version, which a release never changes.

use campaign_automation::config::Config;
use campaign_automation::domain::Rate;
use campaign_automation::engine::PublicUrl;
use campaign_automation::proto::campaign::v1 as pb;
use migrations::{Migrator, MigratorTrait as _};
use sea_orm::{ConnectionTrait as _, Database};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::delivery::{place, report};
use crate::providers;
use crate::support::given::{action, customer, definition, stamp};
use crate::support::holds::scope;
use crate::support::http::{Behaviour, HttpServer, Request, twilio_error};
use crate::support::story::{hours, keyed, mail, plan, story, text, unless_engaged};
use crate::support::{App, Backend, Rows, TestDatabase, on_each_database};
use crate::suppressions::answers::PUBLIC;

on_each_database!(whoever_is_under_way_comes_to_an_end);

/// When the database was taken.
const TAKEN: &str = "2026-01-07T10:00:00Z";

/// Who is on which timeline from the first day on, and who from the day on which the database was taken.
const FIRST: [(&str, &str); 7] = [
    ("completed", "short"),
    ("waiting", "long"),
    ("paused", "long"),
    ("stopped", "long"),
    ("jumping", "catching-up"),
    ("skipping", "condition"),
    ("erased", "short"),
];
const LATER: [(&str, &str); 7] = [
    ("refused", "texts"),
    ("retrying", "texts"),
    ("unknown", "texts"),
    ("suppressed", "texts"),
    ("called", "call"),
    ("tasked", "tasks"),
    ("held", "held"),
];

/// Whose messages were under way.
const UNDER_WAY: [&str; 2] = ["leased", "halted"];

/// What becomes of each customer, from the start to the end.
const ENDS: &str = "
completed: 01-05 12:00 first sent; day 1 on 01-05, completed
waiting: 01-05 12:00 first sent; 01-05 13:05 second sent; 01-07 09:00 third sent; 01-09 09:00 last sent; day 4 on 01-09, completed, shifted 1
paused: 01-05 12:00 first sent; 01-05 13:05 second sent; 01-08 09:00 third sent; 01-10 09:00 last sent; day 4 on 01-10, completed
stopped: 01-05 12:00 first sent; 01-05 13:05 second sent; day 1 on 01-05, stopped
jumping: 01-05 12:00 first sent; 01-08 09:00 last sent; day 4 on 01-08, completed, jumped 2-2
skipping: 01-05 12:00 skipped condition; 01-09 09:00 last sent; day 4 on 01-09, completed, shifted 1
refused: 01-07 09:00 first failed, rejected; 01-08 09:00 last sent; day 2 on 01-08, completed
retrying: 01-07 10:15 first sent; 01-08 09:00 last sent; day 2 on 01-08, completed
unknown: 01-07 09:00 first unknown, outcome_unknown; 01-08 09:00 last sent; day 2 on 01-08, completed
suppressed: 01-07 09:00 first sent; 01-08 09:00 last suppressed; day 2 on 01-08, completed
called: 01-07 10:15 call sent; 01-08 09:00 last sent; day 2 on 01-08, completed
tasked: 01-07 10:15 task sent; 01-08 09:00 last sent; day 2 on 01-08, completed
held: 01-07 11:00 held sent; 01-08 09:00 last sent; day 2 on 01-08, completed
leased: 01-07 10:15 first sent; 01-08 09:00 last sent; day 2 on 01-08, completed
halted: 01-07 10:15 first unknown, outcome_unknown; day 1 on 01-07, stopped
";

fn file(backend: Backend) -> PathBuf {
    let name = match backend {
        Backend::Sqlite => "sqlite.sql",
        Backend::Postgres => "postgres.sql",
    };
    super::file(backend).with_file_name(name)
}

fn settings(config: &mut Config) {
    config.public_url = Some(PublicUrl::parse(PUBLIC).expect("a URL"));
    config.limits.email_rate = Some(Rate::parse("1000/s").expect("a rate"));
}

// ---- What is recorded

/// Brings customers to every point of their runs, one after the other, and writes down the database while messages are under way.
async fn record(backend: Backend) {
    let (twilio, crm) = (HttpServer::twilio().await, HttpServer::start().await);
    let app = providers::app(backend, &twilio, &crm, settings).await;
    for (part, behaviour) in [
        ("refused", twilio_error(400, 21211, "Invalid 'To' Phone Number")),
        ("retrying", twilio_error(429, 20429, "Too Many Requests")),
        ("unknown", Behaviour::CloseUnanswered),
        ("called", twilio_error(401, 20003, "Authenticate")),
        ("leased", Behaviour::Stall),
        ("halted", Behaviour::Stall),
    ] {
        twilio.behave_to(part, behaviour);
    }
    let timelines = timelines(&app).await;
    for (id, timeline) in FIRST {
        start(&app, id, &timelines[timeline]).await;
        app.execute(id).await;
    }
    about_people(&app).await;
    app.set("2026-01-05T13:05:00Z");
    for (id, _) in FIRST {
        app.execute(id).await;
    }
    app.hourly().await;
    let run = app.progress("paused").await.progress_id;
    app.pause("paused", run, "on holiday").await.expect("paused");
    let run = app.progress("stopped").await.progress_id;
    app.stop("stopped", run, "bought").await.expect("stopped");
    let request = pb::EraseCustomerRequest {
        customer_id: "erased".to_owned(),
        reason: "request 17".to_owned(),
        ..Default::default()
    };
    app.customers().erase_customer(request).await.expect("erased");

    // A day without ticks.
    app.set("2026-01-07T09:00:00Z");
    app.hold(scope::campaign("HELD"), "a wrong price").await;
    for (id, timeline) in LATER {
        start(&app, id, &timelines[timeline]).await;
        app.execute(id).await;
    }
    app.hourly().await;
    app.daily().await;
    app.set(TAKEN);
    let mut under_way = Vec::new();
    for id in UNDER_WAY {
        start(&app, id, &timelines["texts"]).await;
        let mut orchestrator = app.orchestrator();
        let request = pb::ExecuteActionsRequest {
            customer_id: id.to_owned(),
            ..Default::default()
        };
        under_way.push(tokio::spawn(async move { orchestrator.execute_actions(request).await }));
        while asked(&twilio, id).is_none() {
            tokio::task::yield_now().await;
        }
    }
    let run = app.progress("halted").await.progress_id;
    app.stop("halted", run, "bought").await.expect("stopped");
    let leased = asked(&twilio, "leased").expect("a request");
    report(&app, &place(&leased), "sent").await;
    write(&app, backend).await;
    twilio.hang_up().await;
    for call in under_way {
        call.await.expect("a task").expect("an answer");
    }
    app.server.shutdown().await.expect("stopped");
}

async fn timelines(app: &App) -> BTreeMap<String, pb::Timeline> {
    let task = pb::ActionDefinition {
        completion: pb::TaskCompletion::Reported.into(),
        completion_within: Some(hours(48)),
        ..keyed(
            "task",
            action(1, 0, pb::Channel::Interaction, pb::ActionType::CreateTask, "A"),
        )
    };
    let call = action(1, 0, pb::Channel::Phone, pb::ActionType::MakeCall, "A");
    let held = action(1, 0, pb::Channel::Email, pb::ActionType::SendEmail, "HELD");
    let long = vec![
        mail("first", 1, 0),
        text("second", 1, 13),
        mail("third", 2, 9),
        text("last", 4, 9),
    ];
    let missed = vec![mail("first", 1, 0), mail("missed", 2, 9), mail("last", 4, 9)];
    let skipped = vec![unless_engaged(mail("skipped", 1, 0)), mail("last", 4, 9)];
    let mut timelines = BTreeMap::new();
    for definition in [
        definition("short", 1, vec![mail("first", 1, 0)]),
        definition("long", 4, long),
        plan("catching-up", 4, pb::WhenMissed::CatchUp, missed),
        definition("condition", 4, skipped),
        definition("texts", 2, vec![text("first", 1, 0), mail("last", 2, 9)]),
        definition("call", 2, vec![keyed("call", call), mail("last", 2, 9)]),
        definition("tasks", 2, vec![task, mail("last", 2, 9)]),
        definition("held", 2, vec![keyed("held", held), text("last", 2, 9)]),
    ] {
        timelines.insert(definition.slug.clone(), app.timeline(definition).await);
    }
    timelines
}

async fn start(app: &App, id: &str, timeline: &pb::Timeline) {
    app.put_customer(pb::Customer {
        engagement_score: if id == "skipping" { 90 } else { 10 },
        pipeline_stage: "hook".to_owned(),
        // Who is erased is not written to under his number ever again.
        phone: if id == "erased" { "+14155552672" } else { "+14155552671" }.to_owned(),
        ..customer(id, "Etc/UTC")
    })
    .await;
    let request = pb::StartTimelineRequest {
        customer_id: id.to_owned(),
        timeline_id: timeline.timeline_id,
        request_id: format!("start-{id}"),
        ..Default::default()
    };
    app.try_start(request).await.expect("a run");
}

/// An event, and an address that must not be written to.
async fn about_people(app: &App) {
    app.record(vec![pb::Engagement {
        customer_id: "waiting".to_owned(),
        event_id: "opened".to_owned(),
        kind: pb::EngagementKind::EmailOpened.into(),
        occur_time: Some(stamp("2026-01-05T11:00:00Z")),
        ..Default::default()
    }])
    .await;
    let request = pb::SuppressRecipientRequest {
        channel: pb::Channel::Email.into(),
        recipient: Some(pb::suppress_recipient_request::Recipient::Address(
            "suppressed@example.com".to_owned(),
        )),
        ..Default::default()
    };
    app.suppress(request).await.expect("a suppression");
}

/// The last request to the provider about a customer.
fn asked(twilio: &HttpServer, customer: &str) -> Option<Request> {
    let mut requests = twilio.requests().into_iter();
    requests.rfind(|request| request.body.contains(customer))
}

/// Writes down all rows, as statements that put them into empty tables.
async fn write(app: &App, backend: Backend) {
    let rows = Rows::of(app, backend).await;
    // As a server with `--schedule` leaves it.
    rows.insert("tick_schedule (name, holder, held_until) values ('ticks', 'somebody', '2026-01-07 10:01:00+00:00')")
        .await;
    let mut tables: Vec<(String, Vec<String>)> = rows.all().await.into_iter().collect();
    // Others refer to them.
    tables.sort_by_key(|(table, _)| table != "campaign_timelines");
    let mut statements = String::new();
    for (table, rows) in tables {
        assert!(
            !rows.is_empty(),
            "{table} is empty: do something above that leaves a row in it"
        );
        for row in rows {
            if table == "seaql_migrations" {
                // Without when they were taken, which is as good as chance.
                let step = migrations().into_iter().find(|step| row.contains(step.as_str()));
                let step = step.expect("a step of ours");
                writeln!(statements, "{TOOK}('{step}', 0);").expect("text");
                continue;
            }
            let statement = match backend {
                Backend::Sqlite => format!("insert into {table} values ({row});"),
                Backend::Postgres => {
                    let row = row.replace('\'', "''");
                    format!("insert into {table} select * from jsonb_populate_record(null::{table}, '{row}');")
                }
            };
            writeln!(statements, "{statement}").expect("text");
        }
    }
    std::fs::write(file(backend), statements).expect("written");
}

/// What a step is noted by.
const TOOK: &str = "insert into seaql_migrations (version, applied_at) values ";

fn migrations() -> Vec<String> {
    Migrator::migrations()
        .iter()
        .map(|step| step.name().to_owned())
        .collect()
}

// ---- What is done with it

/// A database of the steps that the other version knew, with what is in the file.
async fn load(backend: Backend) -> TestDatabase {
    let statements = std::fs::read_to_string(file(backend)).expect("a database of the version before");
    let steps = u32::try_from(statements.matches(TOOK).count()).expect("a count");
    let database = TestDatabase::create(backend).await.expect("a database");
    let url = match backend {
        Backend::Sqlite => format!("{}?mode=rwc", database.url),
        Backend::Postgres => database.url.clone(),
    };
    let connection = Database::connect(url).await.expect("the database");
    Migrator::up(&connection, Some(steps)).await.expect("its schema");
    let emptied = connection.execute_unprepared("delete from seaql_migrations").await;
    emptied.expect("emptied");
    connection.execute_unprepared(&statements).await.expect("loaded");
    if backend == Backend::Postgres {
        // Its ids go on behind those that are there.
        let ids = "select setval(pg_get_serial_sequence(table_name, column_name), 1000) from information_schema.columns \
                   where table_schema = 'public' and is_identity = 'YES'";
        connection.execute_unprepared(ids).await.expect("set");
    }
    connection.close().await.expect("closed");
    database
}

/// The attempts that were made, by customer and action.
async fn attempts(app: &App) -> BTreeSet<(String, String, i32)> {
    use pb::ExecutionOutcome::{Completed, Failed, Unknown};
    let request = pb::ListExecutionsRequest {
        page_size: 1000,
        ..Default::default()
    };
    let listed = app.orchestrator().list_executions(request).await.expect("a ledger");
    let executions = listed.into_inner().executions.into_iter();
    executions
        .filter(|execution| [Completed, Failed, Unknown].contains(&execution.outcome()))
        .map(|execution| {
            let key = execution.action.expect("an action").key;
            (execution.customer_id, key, execution.attempt)
        })
        .collect()
}

async fn whoever_is_under_way_comes_to_an_end(backend: Backend) {
    if std::env::var_os("RECORD_STATEMENTS").is_some() {
        record(backend).await;
    }
    let database = load(backend).await;
    let (twilio, crm) = (HttpServer::twilio().await, HttpServer::start().await);
    let app = providers::app_on(database, &twilio, &crm, settings).await;
    let before = attempts(&app).await;
    // The leases of whoever had messages under way are over.
    app.set("2026-01-07T10:15:00Z");
    app.hourly().await;
    let run = app.progress("paused").await.progress_id;
    app.resume("paused", run, "back").await.expect("resumed");
    app.release(scope::campaign("HELD")).await.expect("released");
    let run = app.progress("tasked").await;
    let done = crate::interactions::report(&app, &run, "task", pb::TaskOutcome::Done).await;
    done.expect("reported");
    app.ticks_between("2026-01-07T11:00:00Z", "2026-01-14T00:00:00Z", true, true)
        .await;

    // What was done before is as it was, and everything else left once: what was under way before, and what was reported was only told of.
    let after = attempts(&app).await;
    assert!(before.is_subset(&after), "{before:?}\n{after:?}");
    let sent = app.sent_count() + twilio.requests().len() + crm.requests().len();
    let reported = 1;
    assert_eq!(
        after.len() - before.len(),
        sent + UNDER_WAY.len() + reported,
        "{after:?}"
    );
    for name in ["leased", "halted", "unknown"] {
        let again = asked(&twilio, name);
        assert!(again.is_none(), "{name} is written to again: {again:?}");
    }
    let mut ends = String::new();
    let customers = FIRST.iter().chain(&LATER).map(|(id, _)| *id).chain(UNDER_WAY);
    for customer in customers.filter(|id| *id != "erased") {
        let story = story(&app.progress(customer).await).join("; ");
        writeln!(ends, "{customer}: {story}").expect("text");
    }
    assert_eq!(ends.trim(), ENDS.trim());
    // Ids go on behind those that were there.
    let timeline = app.timeline(definition("new", 1, vec![mail("first", 1, 0)])).await;
    app.customer("new", "Etc/UTC").await;
    app.start_run("new", &timeline).await;
    app.hourly().await;
    assert_eq!(app.sent_to("new").len(), 1);
    app.server.shutdown().await.expect("stopped");
}
