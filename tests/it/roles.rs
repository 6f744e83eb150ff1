//! Servers and purge as a role of PostgreSQL that may read and write rows and nothing else, made by the statements of the operations guide:
//! all that a server does goes by it, and the schema is out of its reach.

use campaign_automation::clock::Clock as _;
use campaign_automation::config::{Config, PurgeArgs};
use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::campaign_tick_service_client::CampaignTickServiceClient;
use campaign_automation::server;
use campaign_automation::store::StoreUrl;
use prost::Message as _;
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection};
use std::path::Path;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::contract::{good_requests, world};
use crate::support::calls::completed;
use crate::support::given::{action, definition, email};
use crate::support::{App, TestDatabase, Watched, app, postgres_url};

/// A database with the guide's two roles, and the URLs by which these and whoever made them reach it.
struct Roles {
    name: String,
    server: String,
    owner: String,
    admin: String,
}

impl Roles {
    /// Runs the guide's statements, with other names: roles are the whole installation's.
    async fn make() -> Option<Self> {
        let admin = postgres_url()?;
        let (before, rest) = admin.split_once("://").expect("a URL");
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        let (host, _) = place.split_once('/').expect("a URL with a database");
        let name = format!("roles_{}", std::process::id());
        let url = |role: &str, password: &str| format!("{before}://{name}_{role}:{password}@{host}/{name}");
        let roles = Self {
            server: url("server", "another%20one"),
            owner: url("owner", "one%20password"),
            admin: format!("{}/{name}", admin.rsplit_once('/').expect("a URL").0),
            name: name.clone(),
        };
        let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("helm/OPERATIONS.md");
        let guide = std::fs::read_to_string(guide).expect("the guide");
        let (_, section) = guide.split_once("\n## Roles of the database\n").expect("the section");
        let (_, block) = section.split_once("```sql\n").expect("statements");
        let (block, _) = block.split_once("```").expect("statements");
        let statements = block
            .replace("campaigns", &name)
            .replace("campaign_", &format!("{name}_"));
        let (first, then) = statements
            .split_once(&format!("\\connect {name}\n"))
            .expect("a change of databases");
        roles.remove(&admin).await;
        run(&admin, first).await;
        run(&roles.admin, then).await;
        Some(roles)
    }

    async fn remove(&self, admin: &str) {
        let name = &self.name;
        let statements = format!(
            "drop database if exists {name} with (force); drop role if exists {name}_owner; drop role if exists {name}_server;"
        );
        run(admin, &statements).await;
    }
}

/// Runs statements, one after the other.
async fn run(url: &str, statements: &str) {
    let database = Database::connect(url).await.expect("the database");
    let lines: Vec<&str> = statements.lines().filter(|line| !line.starts_with("--")).collect();
    for statement in lines
        .join("\n")
        .split(';')
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        database.execute_unprepared(statement).await.expect(statement);
    }
    database.close().await.expect("closed");
}

fn config(url: &str) -> Config {
    Config::embedded(StoreUrl::parse(url).expect("a URL"), Path::new("."))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_needs_no_right_but_to_read_and_write_rows() {
    let Some(roles) = Roles::make().await else { return };
    server::migrate(&config(&roles.owner).database, false)
        .await
        .expect("a schema");
    let app = App::start_on(TestDatabase::at(roles.server.clone()), |config| {
        config.limits.email_rate = Some(campaign_automation::domain::Rate::parse("1000/s").expect("a rate"));
    })
    .await;
    every_method(&app).await;
    main_job(&app).await;
    purges(&app, &roles).await;
    changes_no_schema(&roles).await;
    uses_what_a_later_migration_adds(&roles).await;
    leaves_statistics_to_whoever_may(&app, &roles).await;
    app.server.shutdown().await.expect("stopped");
    roles.remove(&postgres_url().expect("a server")).await;
}

async fn main_job(app: &App) {
    let task = action(2, 9, pb::Channel::Interaction, pb::ActionType::CreateTask, "M");
    let actions = vec![email(1, 0, "M"), task];
    let timeline = app.timeline(definition("main", 2, actions)).await;
    for id in ["yana", "zoe"] {
        app.customer(id, "Etc/UTC").await;
        app.start_run(id, &timeline).await;
    }
    let ids = ["opened".to_owned()].into_iter();
    crate::purge::record(app, "yana", ids, "2026-01-05T11:00:00Z").await;
    for _ in 0..5 {
        app.tick_hours(8).await;
        app.daily().await;
    }
    for id in ["yana", "zoe"] {
        assert_eq!(completed(&app.progress(id).await), ["d1h0M", "d2h9M"], "{id}");
    }
    let request = pb::EraseCustomerRequest {
        customer_id: "zoe".to_owned(),
        reason: "request 17".to_owned(),
        ..Default::default()
    };
    app.customers().erase_customer(request).await.expect("erased");
}

/// None fails because something is not allowed, which would be a bug of ours to it.
async fn every_method(app: &App) {
    world(app).await;
    for (method, request) in good_requests() {
        let called = app.call(&method, request.encode_to_vec()).await;
        let code = called.map_or_else(|status| status.code(), |_| Code::Ok);
        let broken = [Code::Internal, Code::Unknown, Code::Unavailable];
        assert!(!broken.contains(&code), "{}: {code}", method.name());
    }
}

async fn purges(app: &App, roles: &Roles) {
    let config = config(&roles.server);
    let args = PurgeArgs {
        older_than: 30,
        database: config.database,
        log: config.log,
    };
    let mut out = Vec::new();
    let later = app.clock.now() + chrono::Duration::days(100);
    let purged = server::purge(args, later, &CancellationToken::new(), &mut out).await;
    purged.expect("purged");
    let out = String::from_utf8(out).expect("text");
    assert!(
        !out.contains(" 0 engagement events") && !out.contains(" 0 ticks"),
        "{out}"
    );
}

async fn changes_no_schema(roles: &Roles) {
    let database = Database::connect(&roles.server).await.expect("the database");
    for statement in [
        "create table mine (id integer)",
        "create temporary table mine (id integer)",
        "create schema mine",
        "create index mine on customers (email)",
        "alter table customers add column mine text",
        "drop table send_rates",
        "truncate send_rates",
        "drop database postgres",
        "create role mine",
    ] {
        refused(&database, statement).await;
    }
    database.close().await.expect("closed");
}

async fn refused(database: &DatabaseConnection, statement: &str) {
    let refused = database.execute_unprepared(statement).await;
    let refused = refused
        .err()
        .unwrap_or_else(|| panic!("{statement} is done"))
        .to_string();
    let words = ["permission denied", "must be owner"];
    assert!(
        words.iter().any(|words| refused.contains(words)),
        "{statement}: {refused}"
    );
}

async fn uses_what_a_later_migration_adds(roles: &Roles) {
    run(
        &roles.owner,
        "create table later (id bigint generated by default as identity primary key, value text)",
    )
    .await;
    run(
        &roles.server,
        "insert into later (value) values ('a'); update later set value = 'b'; select * from later; delete from later",
    )
    .await;
}

/// PostgreSQL does nothing where it is not allowed, and that does not end a tick.
async fn leaves_statistics_to_whoever_may(app: &App, roles: &Roles) {
    let grown = "alter table engagement_events set (autovacuum_enabled = off); \
                 insert into engagement_events (customer_id, event_id, kind, occurred_at, received_at) \
                 select 'nobody', n::text, 'replied', now(), now() from generate_series(1, 20000) n";
    run(&roles.owner, grown).await;
    let analyzes = |server: &Watched| {
        let texts = server.engine().store().statement_texts();
        texts.iter().any(|text| text.starts_with("analyze"))
    };
    app.hourly().await;
    assert!(!analyzes(&app.server), "a server analyzes what it may not");
    let (owners, channel) = app.server_on(&roles.owner, |_| {}).await;
    let mut ticks = CampaignTickServiceClient::new(channel);
    let ticked = app::hourly(&mut ticks, pb::ProcessCampaignTimelinesRequest::default()).await;
    ticked.expect("a summary");
    assert!(analyzes(&owners), "whoever may does not");
    owners.shutdown().await.expect("stopped");
}
