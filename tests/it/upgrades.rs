//! Servers of two versions on one database, as they are while one replaces the other.
//!
//! There is one version of this program here, so the other is played: a later one by what its migration would leave behind, the one
//! before by what is kept of it in `upgrades/`: the statements that it runs, and a small database in the middle of its work. With each
//! release both are written anew, and until the first one with each change of the step that there is:
//!
//! ```text
//! RECORD_STATEMENTS=1 cargo test --features test-support --test it upgrades
//! ```

mod snapshot;

use campaign_automation::config::Config;
use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::store::StoreUrl;
use prost_reflect::ReflectMessage as _;
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection};
use std::path::PathBuf;

use crate::contract::{good_requests, world};
use crate::support::given::{action, definition, email};
use crate::support::{App, Backend, on_each_database};

on_each_database!(
    an_older_program_works_on_a_later_schema,
    a_program_that_is_too_old_does_not_start,
    a_schema_of_another_line_is_left_alone,
    the_statements_of_the_version_before_are_legal,
);

async fn connect(app: &App) -> DatabaseConnection {
    Database::connect(&app.database.url).await.expect("the database")
}

/// Runs statements, as a migration of another version would.
async fn alter(app: &App, statements: &[&str]) {
    let database = connect(app).await;
    for statement in statements {
        database.execute_unprepared(statement).await.expect(statement);
    }
    database.close().await.expect("closed");
}

/// Takes the next step, which adds.
const LATER: [&str; 4] = [
    "insert into seaql_migrations (version, applied_at) values ('m29990101_000001_later', 0)",
    "create table later (id integer primary key)",
    "alter table customer_timeline_progress add column later text",
    "alter table campaign_timelines add column later integer not null default 7",
];

async fn an_older_program_works_on_a_later_schema(backend: Backend) {
    let app = App::start(backend).await;
    let timeline = app.timeline(definition("hook", 2, vec![email(1, 0, "A")])).await;
    alter(&app, &LATER).await;
    // The one that runs goes on, and so does one that starts.
    app.customer("anna", "Etc/UTC").await;
    app.start_run("anna", &timeline).await;
    let app = app.stop_server().await.start(9, |_| {}).await;
    app.hourly().await;
    app.timeline(definition("more", 2, vec![email(1, 0, "B")])).await;
    app.customer("bela", "Etc/UTC").await;
    app.start_run("bela", &timeline).await;
    app.hourly().await;
    assert_eq!(app.sent_count(), 2);
    app.server.shutdown().await.expect("stopped");
}

/// Why a server does not start on the database of another.
async fn refusal(app: &App) -> String {
    let mut config = Config::embedded(
        StoreUrl::parse(&app.database.url).expect("a URL"),
        std::path::Path::new("."),
    );
    config.secret_key_file = Some(crate::support::app::SECRET.into());
    let clock = std::sync::Arc::clone(&app.clock) as _;
    let random = campaign_automation::random::Random::from_seed(11);
    let started = campaign_automation::server::Server::start(config, clock, random).await;
    format!("{:#}", started.expect_err("a refusal"))
}

async fn a_program_that_is_too_old_does_not_start(backend: Backend) {
    let app = App::start(backend).await;
    let floor = |step: &str| {
        format!(
            "insert into service_metadata (key, value) values ('schema_floor', '{step}') \
             on conflict (key) do update set value = excluded.value"
        )
    };
    alter(&app, &[&floor("m20261123_000001_initial")]).await;
    let app = app.stop_server().await.start(9, |_| {}).await;
    alter(&app, &[LATER[0], &floor("m29990101_000001_later")]).await;
    let refusal = refusal(&app).await;
    for part in ["of a later version", "m29990101_000001_later", "campaignd"] {
        assert!(refusal.contains(part), "{refusal}");
    }
    app.server.shutdown().await.expect("stopped");
}

async fn a_schema_of_another_line_is_left_alone(backend: Backend) {
    let app = App::start(backend).await;
    alter(
        &app,
        &["update seaql_migrations set version = 'm20200101_000001_other'"],
    )
    .await;
    let refusal = refusal(&app).await;
    let part = match backend {
        Backend::Sqlite => "belongs to another line of versions",
        Backend::Postgres => "lacks 1 migration(s)",
    };
    assert!(refusal.contains(part), "{refusal}");
    app.server.shutdown().await.expect("stopped");
}

/// How a server is configured whose statements are looked at.
pub(crate) fn walk(config: &mut Config) {
    config.limits.email_rate = Some(campaign_automation::domain::Rate::parse("1000/s").expect("a rate"));
}

/// All statements that a server runs when each method is called and days go by.
pub(crate) async fn statements_of_all_methods(app: App) -> Vec<String> {
    world(&app).await;
    for (method, request) in good_requests() {
        // Some are refused in this order, and have run their statements all the same.
        let _ = app.call(&method, prost::Message::encode_to_vec(&request)).await;
        assert_eq!(request.descriptor(), method.input());
    }
    let reply = pb::AwaitedEvent {
        kind: pb::EngagementKind::Replied.into(),
        timeout_hours: 24,
        after_timeout: pb::AfterTimeout::Continue.into(),
        ..Default::default()
    };
    let wait = pb::ActionDefinition {
        until_event: Some(reply),
        ..action(1, 0, pb::Channel::Wait, pb::ActionType::Wait, "")
    };
    let actions = vec![
        email(1, 0, "A"),
        wait,
        action(1, 1, pb::Channel::Sms, pb::ActionType::SendSms, "A"),
        action(1, 2, pb::Channel::Phone, pb::ActionType::MakeCall, "A"),
        action(2, 9, pb::Channel::Interaction, pb::ActionType::CreateTask, "A"),
    ];
    let timeline = app.timeline(definition("all", 2, actions)).await;
    app.customer("zoe", "Etc/UTC").await;
    app.start_run("zoe", &timeline).await;
    app.hourly().await;
    let replies = ["anna", "zoe"].map(|customer| pb::Engagement {
        customer_id: customer.to_owned(),
        event_id: "replied".to_owned(),
        kind: pb::EngagementKind::Replied.into(),
        ..Default::default()
    });
    app.record(replies.into()).await;
    for _ in 0..3 {
        app.tick_hours(8).await;
        app.daily().await;
    }
    let texts = app.server.engine().store().statement_texts();
    app.server.shutdown().await.expect("stopped");
    texts
}

fn file(backend: Backend) -> PathBuf {
    let name = match backend {
        Backend::Sqlite => "sqlite.json",
        Backend::Postgres => "postgres.json",
    };
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/upgrades")
        .join(name)
}

async fn the_statements_of_the_version_before_are_legal(backend: Backend) {
    let file = file(backend);
    if std::env::var_os("RECORD_STATEMENTS").is_some() {
        let statements = statements_of_all_methods(App::start_with(backend, walk).await).await;
        let json = serde_json::to_string_pretty(&statements).expect("JSON");
        std::fs::write(&file, json + "\n").expect("written");
    }
    let json = std::fs::read_to_string(&file).expect("statements");
    let statements: Vec<String> = serde_json::from_str(&json).expect("statements");
    assert!(statements.len() > 100, "{}", statements.len());
    let app = App::start(backend).await;
    let database = connect(&app).await;
    let prepare = match backend {
        Backend::Sqlite => "explain ",
        Backend::Postgres => "deallocate all; prepare before as ",
    };
    let mut illegal = Vec::new();
    for statement in &statements {
        if let Err(error) = database.execute_unprepared(&format!("{prepare}{statement}")).await {
            illegal.push(format!("{statement}\n    {error}"));
        }
    }
    assert!(illegal.is_empty(), "{}", illegal.join("\n"));

    // What it says is true: without a column it says which statements need it.
    let without = "alter table customers drop column display_name";
    database.execute_unprepared(without).await.expect("altered");
    let needs = statements.iter().find(|statement| statement.contains("display_name"));
    let refused = format!("{prepare}{}", needs.expect("a statement with it"));
    assert!(database.execute_unprepared(&refused).await.is_err());
    database.close().await.expect("closed");
    app.server.shutdown().await.expect("stopped");
}
